"""TLS towards providers, with certificates made for the run and trusted by SSL_CERT_FILE alone."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from modelspend.gateway.upstream import AttemptFailed, Timeouts, Upstream
from modelspend.receipt import Delivery, FailureClass
from tests.fakes.peer import Peer, Wire
from tests.gateway.test_http1 import CHUNKED, HELLO, LENGTH, LIMITS, LOST, OK, Came, rest
from tests.loops import on_both_loops

pytestmark = on_both_loops

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
REFUSED = (FailureClass.CONNECT, Delivery.NOT_SENT)


@dataclass(slots=True)
class Secure:
    """A TLS server; `accepted` counts handshakes that went well."""

    port: int = 0
    accepted: int = 0
    open: int = 0

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/v1/messages"


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> trustme.CA:
    """The only one that is trusted."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return made


def context_for(authority: trustme.CA, name: str = "localhost", **more: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, **more).configure_cert(context)
    return context


@asynccontextmanager
async def secure(script: Script, context: ssl.SSLContext) -> AsyncIterator[Secure]:
    running = Secure()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.accepted += 1
        running.open += 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await script(reader, writer)
        finally:
            running.open -= 1
            writer.transport.abort()

    server = await asyncio.start_server(play, "127.0.0.1", 0, ssl=context)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
        async with asyncio.timeout(5):
            while running.open:
                await asyncio.sleep(0.005)
    finally:
        server.close()


def saying(answer: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request(reader)
            writer.write(answer)

    return script


async def request(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r")[0]))


async def came(upstream: Upstream, url: str, body: bytes = b"{}") -> Came:
    try:
        reply = await upstream.send("sim", url, headers=[], body=body, timeouts=LIMITS)
        try:
            return Came(reply.status, await rest(reply))
        finally:
            reply.close()
    except AttemptFailed as failed:
        return Came(failure=failed.failure)


async def refused(
    upstream: Upstream, url: str, limits: Timeouts = LIMITS
) -> tuple[FailureClass, Delivery]:
    with pytest.raises(AttemptFailed) as failed:
        await upstream.send("sim", url, headers=[], body=b"{}", timeouts=limits)
    return failed.value.failure, failed.value.delivery


async def test_many_calls_share_one_handshake(upstream: Upstream, authority: trustme.CA) -> None:
    async with secure(saying(LENGTH), context_for(authority)) as server:
        for _ in range(20):
            assert await came(upstream, server.url) == HELLO
        assert server.accepted == 1
        await until_left(server)  # after its idle time


async def until_left(server: Secure) -> None:
    async with asyncio.timeout(5):
        while server.open:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_large_request_and_a_large_answer_pass(
    upstream: Upstream, authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    body = bytes(range(256)) * 16_384
    context = context_for(authority)
    context.maximum_version = version

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            echo = await reader.readexactly(len(body))
            writer.write(OK + b"Content-Length: %d\r\n\r\n%b" % (len(echo), echo))
            await writer.drain()
        await reader.read()

    async with secure(script, context) as server:
        for _ in range(2):
            assert await came(upstream, server.url, body) == Came(200, body)
        assert server.accepted == 1
        await until_left(server)


async def test_a_certificate_of_another_name_is_refused(
    upstream: Upstream, authority: trustme.CA
) -> None:
    async with secure(saying(LENGTH), context_for(authority, "other.test")) as server:
        assert await refused(upstream, server.url) == REFUSED


async def test_an_authority_that_nobody_trusts_is_refused(
    upstream: Upstream, authority: trustme.CA
) -> None:
    async with secure(saying(LENGTH), context_for(trustme.CA())) as server:
        assert await refused(upstream, server.url) == REFUSED


async def test_an_expired_certificate_is_refused(upstream: Upstream, authority: trustme.CA) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    context = context_for(authority, not_before=past - timedelta(days=1), not_after=past)
    async with secure(saying(LENGTH), context) as server:
        assert await refused(upstream, server.url) == REFUSED


async def test_a_version_of_old_is_refused(upstream: Upstream, authority: trustme.CA) -> None:
    context = context_for(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with secure(saying(LENGTH), context) as server:
        assert await refused(upstream, server.url) == REFUSED


@pytest.mark.parametrize("says", [b"HTTP/1.1 400 Bad\r\n\r\n", b"", None])
async def test_a_server_without_tls_gets_no_request(
    upstream: Upstream, authority: trustme.CA, says: bytes | None
) -> None:
    heard = b""

    async def script(wire: Wire) -> None:
        nonlocal heard
        loop = asyncio.get_running_loop()
        heard = await loop.sock_recv(wire.sock, 65536)
        if says is None:
            await wire.gone()
        else:
            await wire.send(says)

    async with Peer(script) as peer:
        url = peer.url.replace("http://", "https://")
        failed = await refused(upstream, url, replace(LIMITS, connect_s=0.2))
        assert failed == (
            REFUSED if says is not None else (FailureClass.CONNECT_TIMEOUT, Delivery.NOT_SENT)
        )
    assert b"HTTP" not in heard


ENDS = {
    "no length": (OK + b"\r\nhello", HELLO),
    "a length that is too large": (OK + b"Content-Length: 9\r\n\r\nhello", LOST),
    "chunks without the last": (CHUNKED + b"5\r\nhello\r\n", LOST),
    "nothing": (b"", LOST),
}


@pytest.mark.parametrize("what", ENDS)
async def test_an_end_that_is_said_ends_an_answer_without_a_length(
    upstream: Upstream, authority: trustme.CA, what: str
) -> None:
    answer, wanted = ENDS[what]

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async with secure(script, context_for(authority)) as server:
        assert await came(upstream, server.url) == wanted


@pytest.mark.parametrize("what", ENDS)
async def test_a_line_that_is_cut_ends_no_answer(
    upstream: Upstream, authority: trustme.CA, what: str
) -> None:
    """Whoever sits in between can close the connection, but cannot say TLS's close_notify."""
    answer, _ = ENDS[what]

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(answer)
        await writer.drain()
        for _ in range(3):
            await asyncio.sleep(0)

    async with secure(script, context_for(authority)) as server:
        assert await came(upstream, server.url) == LOST


@pytest.mark.parametrize("said", [True, False])
async def test_an_end_that_comes_while_the_client_reads_slowly_is_told_apart_too(
    upstream: Upstream, authority: trustme.CA, said: bool
) -> None:
    """Reading is paused when the end comes."""
    size = 300 * 1024

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(OK + b"\r\n" + bytes(size))
        await writer.drain()
        await asyncio.sleep(0.1)
        if said:
            writer.close()
            await writer.wait_closed()

    async with secure(script, context_for(authority)) as server:
        reply = await upstream.send("sim", server.url, headers=[], body=b"{}", timeouts=LIMITS)
        await asyncio.sleep(0.3)
        if said:
            assert len(await rest(reply)) == size
        else:
            with pytest.raises(AttemptFailed) as failed:
                await rest(reply)
            assert failed.value.failure is FailureClass.DISCONNECTED
        reply.close()


async def test_a_connection_that_the_server_has_closed_is_not_used_again(
    upstream: Upstream, authority: trustme.CA
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(LENGTH)
        writer.close()

    async with secure(script, context_for(authority)) as server:
        for calls in range(1, 6):
            assert await came(upstream, server.url) == HELLO
            assert server.accepted == calls


async def test_an_answer_before_the_whole_request_ends_the_connection(
    upstream: Upstream, authority: trustme.CA
) -> None:
    """Most of the body waits under the TLS layer, where nobody counts it."""
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nhello"
    enough = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal)
        await enough.wait()

    async with secure(script, context_for(authority)) as server:
        for calls in (1, 2):
            assert await came(upstream, server.url, bytes(32 * 1024 * 1024)) == Came(413, b"hello")
            assert server.accepted == calls
        enough.set()


async def test_a_call_that_is_cancelled_at_any_moment_leaves_nothing(
    upstream: Upstream, authority: trustme.CA
) -> None:
    async with secure(saying(LENGTH), context_for(authority)) as server:
        finished, steps = False, 0
        while not finished:
            async with Upstream() as fresh:
                call = asyncio.get_running_loop().create_task(came(fresh, server.url))
                for _ in range(steps):
                    await asyncio.sleep(0.0005)
                finished = call.done()
                call.cancel()
                with suppress(asyncio.CancelledError):
                    assert await call == HELLO
            await until_left(server)
            steps += 1
        assert steps > 2


async def test_closing_waits_for_no_goodbye(authority: trustme.CA) -> None:
    async with secure(saying(OK + b"\r\nhello"), context_for(authority)) as server:
        async with Upstream() as upstream:
            call = asyncio.get_running_loop().create_task(came(upstream, server.url))
            while not server.open:
                await asyncio.sleep(0.001)
        assert await call == LOST
