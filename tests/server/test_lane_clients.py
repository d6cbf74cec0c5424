"""Clients that are slow, leave, stall, or say too much: at the lane's door as at aiohttp's."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from modelspend.receipt import FailureClass, Receipt, Status
from modelspend.server.app import CALL_PATHS
from modelspend.server.keys import LIVE
from modelspend.server.lane import Lanes
from tests.fakes.peer import Peer, Wire
from tests.fakes.provider import CHAT, whole
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.loops import on_both_loops
from tests.server.doors import Doors, answers, doors
from tests.server.test_lane import ASK, BODY, CLOSE, CODED, HEALTH, ask, coded

pytestmark = on_both_loops

MIB = 1024 * 1024
STREAM = json.dumps({**ASK, "stream": True}).encode()
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
EVENT = (
    b"data: %b\n\n"
    % json.dumps(
        {**CHAT, "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}]}
    ).encode()
)
THROUGH = {
    "the lane": lambda body: ask(body=body),
    "aiohttp": lambda body: coded_as(body),
}
"""The same request, plain and so that it is handed over."""


def coded_as(body: bytes) -> bytes:
    return coded(b"Transfer-Encoding: chunked").replace(
        CODED, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    )


@pytest.fixture(autouse=True)
async def faults() -> AsyncIterator[None]:
    """No exception may end in the event loop."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    yield
    assert found == []


class Client:
    """A bare socket; `HOST` in what it says stands for the sidecar's name."""

    def __init__(self, sidecar: Sidecar, sock: socket.socket) -> None:
        self.sock = sock
        self._host = sidecar.url.removeprefix("http://").encode()
        self._loop = asyncio.get_running_loop()

    async def say(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data.replace(b"HOST", self._host))

    async def all(self) -> bytes:
        """What comes until the end."""
        came = bytearray()
        with suppress(ConnectionError):
            while part := await self._loop.sock_recv(self.sock, MIB):
                came += part
        return bytes(came)

    async def some(self) -> bytes:
        return await self._loop.sock_recv(self.sock, 65536)

    def leave(self, how: str) -> None:
        if how == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@asynccontextmanager
async def client(
    sidecar: Sidecar, port: int | None = None, *, window: int | None = None
) -> AsyncIterator[Client]:
    with socket.socket() as sock:
        if window is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        sock.setblocking(False)
        own = int(sidecar.url.rpartition(":")[2])
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port or own))
        yield Client(sidecar, sock)


async def silent(wire: Wire) -> None:
    await wire.request()
    await wire.gone()


async def dripping(wire: Wire) -> None:
    await wire.request()
    await wire.send(SSE)
    while True:
        await wire.send(EVENT)
        await asyncio.sleep(0.005)


async def until(peer: Peer, count: int) -> None:
    """Wait until the provider has had so many connections."""
    async with asyncio.timeout(5):
        while peer.accepted < count:
            await asyncio.sleep(0.001)


async def until_let_go(peer: Peer) -> None:
    async with asyncio.timeout(5):
        while peer.open:
            await asyncio.sleep(0.001)


def base(peer: Peer) -> str:
    return f"http://127.0.0.1:{peer.port}"


# Who leaves.


@pytest.mark.parametrize("how", ["closes", "resets", "half-closes"])
@pytest.mark.parametrize("stage", ["silence", "answer"])
@pytest.mark.parametrize("through", THROUGH)
async def test_a_client_that_leaves_frees_its_provider_and_has_a_receipt(
    tmp_path: Path, through: str, stage: str, how: str
) -> None:
    script = silent if stage == "silence" else dripping
    async with Peer(script) as peer, sidecar_for(tmp_path, base(peer)) as sidecar:
        async with client(sidecar) as one:
            await one.say(THROUGH[through](STREAM))
            await until(peer, 1)
            if stage == "answer":
                assert b"200" in await one.some()
            if how == "half-closes":
                one.sock.shutdown(socket.SHUT_WR)
            else:
                one.leave(how.removesuffix("s"))
            await until_let_go(peer)
        receipt = await sidecar.receipt()
    assert receipt.execution.status is Status.CLIENT_DISCONNECT
    assert receipt.attempts[0].failure_class is FailureClass.CLIENT_GONE


@pytest.mark.parametrize("through", THROUGH)
async def test_a_client_may_leave_at_any_moment(tmp_path: Path, through: str) -> None:
    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.send_apart(SSE.replace(b"\r\n\r\n", b"\r\nContent-Length: 999\r\n\r\n"))
            await wire.send_apart(EVENT, EVENT)
            await wire.gone()

    moments = 40
    async with Peer(script) as peer, sidecar_for(tmp_path, base(peer)) as sidecar:
        for steps in range(moments):
            async with client(sidecar) as one:
                await one.say(THROUGH[through](STREAM))
                await asyncio.sleep(steps * 0.0005)
                one.leave("reset" if steps % 2 else "close")
        await until_let_go(peer)
        receipts = await sidecar.receipts()
        assert sidecar.gateway.in_flight == 0
    statuses = {one.execution.status for one in receipts}
    assert statuses == {Status.CLIENT_DISCONNECT}
    assert len(receipts) >= moments // 4, "many of them were there long enough to be heard"


@pytest.mark.parametrize("sent", [b"", b"POS", b"POST /v1/chat/completions HTTP/1.1\r\nHo"])
async def test_a_client_that_leaves_before_its_request_is_whole_leaves_nothing(
    tmp_path: Path, sent: bytes
) -> None:
    async with doors(tmp_path) as both:
        async with client(both.sidecar) as one:
            await one.say(sent)
        said, _ = await both.both(ask(CLOSE), wanted=1)
        assert [one.status for one in said] == [200]
        assert len(await both.sidecar.receipts()) == 2


# Who is slow.


@pytest.mark.parametrize("through", THROUGH)
async def test_a_body_that_trickles_is_told_408_and_has_a_receipt(
    tmp_path: Path, through: str
) -> None:
    async with doors(tmp_path, server={"body_timeout_s": 0.1}) as both:
        async with client(both.sidecar) as one:
            await one.say(THROUGH[through](BODY)[:-20])
            (said,) = answers(await one.some())
        assert (said.status, said.lane) == (408, False)
        assert b"body_timeout" in said.body
        assert said.receipt == (await both.sidecar.receipt()).receipt_id
        assert both.provider.requests == []


async def test_a_body_that_is_only_late_is_served(tmp_path: Path) -> None:
    async with doors(tmp_path) as both, client(both.sidecar) as one:
        request = ask(CLOSE)
        await one.say(request[:-20])
        await asyncio.sleep(0.3)
        await one.say(request[-20:])
        (said,) = answers(await one.all())
        assert (said.status, said.lane) == (200, True)


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat", b"GET /healthz HTTP/1.1\r\nX-A: "])
async def test_who_never_says_what_it_wants_is_shown_out(tmp_path: Path, sent: bytes) -> None:
    async with (
        sidecar_for(tmp_path, "http://127.0.0.1:1", server={"header_timeout_s": 0.1}) as sidecar,
        client(sidecar) as one,
        asyncio.timeout(8),
    ):
        await one.say(sent)
        assert await one.all() == b""


async def test_an_idle_connection_is_kept_for_its_time_and_no_longer(tmp_path: Path) -> None:
    async with doors(tmp_path) as both:
        lanes = Lanes(both.sidecar.app[LIVE], CALL_PATHS, keep_alive_s=0.4)
        listening = await asyncio.get_running_loop().create_server(lanes.lane, "127.0.0.1", 0)
        try:
            port = listening.sockets[0].getsockname()[1]
            async with client(both.sidecar, port) as one, asyncio.timeout(8):
                for _ in range(3):
                    await one.say(ask())
                    assert answers(await one.some())[0].status == 200
                assert await one.all() == b""
        finally:
            listening.close()
            await lanes.close()


# Who takes nothing.


LAST = HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
FILL = whole({**CHAT, "more": "m" * 60_000})


async def stuck(both: Doors) -> int:
    """How many calls were carried when no more are, though more are asked for."""
    before = -1
    while len(both.provider.requests) != before or both.sidecar.gateway.in_flight:
        before = len(both.provider.requests)
        await asyncio.sleep(0.1)
    return before


async def test_who_asks_on_without_taking_its_answers_gets_no_more_of_them(tmp_path: Path) -> None:
    """Each answer is small; together they would fill our memory. In the end all of them come,
    and the last, which aiohttp gives, too."""
    padded = ask(b"X-Pad: " + b"p" * 1000)
    async with doors(tmp_path) as both, client(both.sidecar, window=4096) as one:
        both.provider.answer = FILL
        await one.say(ask() * 200)
        carried = await stuck(both)
        assert 0 < carried < 150
        for _ in range(20):
            await one.say(ask())
            await asyncio.sleep(0)
        assert await stuck(both) == carried
        saying = asyncio.get_running_loop().create_task(one.say(padded * 200 + LAST))
        assert await stuck(both) == carried
        said = answers(await one.all())
        await saying
    assert [one.status for one in said] == [200] * 421
    assert [one.lane for one in said] == [True] * 420 + [False]
    assert {len(one.body) for one in said[:420]} == {len(FILL.partition(b"\r\n\r\n")[2])}


async def test_who_never_takes_its_answers_is_cut_off_in_the_end(tmp_path: Path) -> None:
    async with doors(tmp_path) as both:
        lanes = Lanes(both.sidecar.app[LIVE], CALL_PATHS, keep_alive_s=0.4)
        listening = await asyncio.get_running_loop().create_server(lanes.lane, "127.0.0.1", 0)
        try:
            port = listening.sockets[0].getsockname()[1]
            async with client(both.sidecar, port, window=4096) as one, asyncio.timeout(8):
                both.provider.answer = FILL
                with suppress(ConnectionError):  # or the time-out fails the test
                    while True:
                        await one.say(ask() * 10)
        finally:
            listening.close()
            await lanes.close()


async def test_what_is_sent_before_the_answer_waits_outside(tmp_path: Path) -> None:
    sent = 0

    async def more(one: Client) -> None:
        nonlocal sent
        with suppress(ConnectionError):
            while sent < 64 * MIB:
                await one.say(bytes(MIB))
                sent += MIB

    async with (
        Peer(silent) as peer,
        sidecar_for(tmp_path, base(peer), server={"drain_s": 0}) as sidecar,
        client(sidecar) as one,
    ):
        await one.say(ask())
        await until(peer, 1)
        saying = asyncio.get_running_loop().create_task(more(one))
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 16 * MIB
        saying.cancel()
        with suppress(asyncio.CancelledError):
            await saying


# The end of the sidecar.


async def test_a_client_that_stalls_does_not_keep_the_sidecar_from_ending(tmp_path: Path) -> None:
    """Its call is cancelled while it waits for room to write; nothing of that reaches the loop."""

    async def flood(wire: Wire) -> None:
        await wire.request()
        await wire.send(SSE)
        while True:
            await wire.send(EVENT * 200)

    async with Peer(flood) as peer:
        async with sidecar_for(tmp_path, base(peer), server={"drain_s": 0}) as sidecar:
            async with client(sidecar, window=4096) as one:
                await one.say(ask(body=STREAM))
                await until(peer, 1)
                await asyncio.sleep(0.3)
                async with asyncio.timeout(10):
                    await sidecar.app.shutdown()
            receipts: list[Receipt] = await sidecar.receipts()
        await until_let_go(peer)
    assert [one.attempts[0].failure_class for one in receipts] == [FailureClass.SHUTDOWN]
