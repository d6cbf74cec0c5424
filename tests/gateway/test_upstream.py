"""The door to providers: connections that are kept, lost, refused, slow, and never leaked."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from hashlib import sha256

import pytest

from modelspend.gateway.upstream import AttemptFailed, Timeouts, Upstream
from modelspend.receipt import Delivery, FailureClass
from tests.fakes.peer import Peer, Wire, answering
from tests.gateway.test_http1 import CHUNKED, HELLO, LENGTH, LIMITS, OK, Came, came, rest, send
from tests.loops import on_both_loops

pytestmark = on_both_loops

EVIL = LENGTH.replace(b"hello", b"EVIL!")
SHORT = replace(LIMITS, first_byte_s=0.1, idle_s=0.1)
BIG = 32 * 1024 * 1024
MIB = 1024 * 1024


async def broken(
    upstream: Upstream, url: str, limits: Timeouts = LIMITS
) -> tuple[FailureClass, Delivery]:
    """How a call fails."""
    with pytest.raises(AttemptFailed) as failed:
        await _whole(upstream, url, limits)
    return failed.value.failure, failed.value.delivery


async def _whole(upstream: Upstream, url: str, limits: Timeouts) -> bytes:
    reply = await upstream.send("sim", url, headers=[], body=b"{}", timeouts=limits)
    try:
        return await rest(reply)
    finally:
        reply.close()


async def until_left(peer: Peer) -> None:
    """Wait until the client has let go of every connection."""
    async with asyncio.timeout(5):
        while peer.open:
            await asyncio.sleep(0.002)


async def stay(wire: Wire) -> None:
    """Take a request and say nothing, until the client goes."""
    await wire.request()
    await wire.gone()


# Connections that are kept.


async def test_many_calls_share_one_connection(upstream: Upstream) -> None:
    async with Peer(answering(LENGTH)) as peer:
        for _ in range(200):
            assert await came(upstream, peer) == HELLO
        assert peer.accepted == 1


async def test_calls_at_once_have_a_connection_each_and_later_ones_take_the_newest(
    upstream: Upstream,
) -> None:
    served: list[Wire] = []

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            served.append(wire)
            if peer.accepted < 5:
                while peer.accepted < 5:
                    await asyncio.sleep(0)
            await wire.send(LENGTH)

    async with Peer(script) as peer:
        answers = await asyncio.gather(*(came(upstream, peer) for _ in range(5)))
        assert answers == [HELLO] * 5
        assert len(set(map(id, served))) == 5
        served.clear()
        for _ in range(10):
            await came(upstream, peer)
        assert peer.accepted == 5
        assert len(set(map(id, served))) == 1


async def test_an_idle_connection_is_closed_after_its_time(upstream: Upstream) -> None:
    async with Peer(answering(LENGTH)) as peer:
        await came(upstream, peer)
        assert peer.open == 1
        await until_left(peer)
        assert await came(upstream, peer) == HELLO
        assert peer.accepted == 2


async def test_a_connection_that_the_server_has_closed_is_not_used_again(
    upstream: Upstream,
) -> None:
    """Its end may lie unread in the kernel when the next call comes."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(LENGTH)

    async with Peer(script) as peer:
        for calls in range(1, 50):
            assert await came(upstream, peer) == HELLO
            assert peer.accepted == calls


@pytest.mark.parametrize("noticed", [True, False])
async def test_an_answer_that_nobody_asked_for_is_nobodys(noticed: bool) -> None:
    wires: list[Wire] = []

    async def script(wire: Wire) -> None:
        wires.append(wire)
        await answering(LENGTH)(wire)

    async with Peer(script) as peer, Upstream() as upstream:
        for calls in range(1, 5):
            assert await came(upstream, peer) == HELLO
            assert peer.accepted == calls
            wires[-1].sock.send(EVIL)
            if noticed:
                await until_left(peer)


@pytest.mark.parametrize("noticed", [True, False])
async def test_a_connection_that_was_reset_while_idle_is_not_used_again(
    upstream: Upstream, noticed: bool
) -> None:
    wires: list[Wire] = []

    async def script(wire: Wire) -> None:
        wires.append(wire)
        await wire.request()
        await wire.send(LENGTH)
        await asyncio.Event().wait()

    async with Peer(script) as peer:
        for calls in range(1, 5):
            assert await came(upstream, peer) == HELLO
            assert peer.accepted == calls
            wires[-1].reset()
            for _ in range(5 * noticed):
                await asyncio.sleep(0)


async def test_a_reply_that_was_not_read_to_its_end_takes_its_connection_with_it(
    upstream: Upstream,
) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK + b"Content-Length: 10\r\n\r\nhello")
        await wire.gone()

    async with Peer(script) as peer:
        reply = await send(upstream, peer)
        assert await reply.more() == b"hello"
        reply.close()
        await until_left(peer)


async def test_a_whole_answer_that_nobody_read_leaves_its_connection_free(
    upstream: Upstream,
) -> None:
    async with Peer(answering(LENGTH)) as peer:
        for _ in range(3):
            (await send(upstream, peer)).close()
        assert peer.accepted == 1


# Ends and resets at every stage.


async def test_a_reset_or_an_end_at_any_stage_is_told_as_one(upstream: Upstream) -> None:
    answer = CHUNKED + b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"
    for how in ("reset", "end", "half"):
        for at in range(len(answer)):

            async def script(wire: Wire, at: int = at, how: str = how) -> None:
                await wire.request()
                await wire.send_apart(answer[:at])
                if how == "reset":
                    wire.reset()
                elif how == "half":
                    wire.sock.shutdown(socket.SHUT_WR)
                    await wire.gone()

            async with Peer(script) as peer:
                failure, delivery = await broken(upstream, peer.url)
                assert failure is FailureClass.DISCONNECTED, (how, at)
                began = at >= len(CHUNKED)
                assert delivery is (Delivery.RESPONDING if began else Delivery.MAYBE_ACCEPTED)
                await until_left(peer)


@pytest.mark.parametrize("how", ["reset", "end"])
async def test_a_server_that_hangs_up_at_once_may_have_heard_what_was_sent(
    upstream: Upstream, how: str
) -> None:
    """Which of the two it is depends on who is faster; uvloop sees the end before it sends."""

    async def script(wire: Wire) -> None:
        if how == "reset":
            wire.reset()

    async with Peer(script) as peer:
        assert await broken(upstream, peer.url) in (
            (FailureClass.DISCONNECTED, Delivery.MAYBE_ACCEPTED),
            (FailureClass.CONNECT, Delivery.NOT_SENT),
        )


async def test_a_half_closed_connection_with_a_whole_answer_is_not_used_again(
    upstream: Upstream,
) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(LENGTH)
        wire.sock.shutdown(socket.SHUT_WR)
        await wire.gone()

    async with Peer(script) as peer:
        for calls in (1, 2, 3):
            assert await came(upstream, peer) == HELLO
            assert peer.accepted == calls


# Large requests and large answers.


async def test_a_large_request_reaches_a_server_that_reads_slowly(upstream: Upstream) -> None:
    body = bytes(range(256)) * (BIG // 256)
    seen = sha256()

    async def script(wire: Wire) -> None:
        loop, size = asyncio.get_running_loop(), 0
        head = b""
        while b"\r\n\r\n" not in head:
            head += await loop.sock_recv(wire.sock, 1)
        while size < BIG:
            part = await loop.sock_recv(wire.sock, 256 * 1024)
            seen.update(part)
            size += len(part)
        await wire.send(LENGTH)
        await wire.request()
        await wire.send(LENGTH)

    async with Peer(script, receive_buffer=16 * 1024) as peer:
        assert await came(upstream, peer, body) == HELLO
        assert seen.digest() == sha256(body).digest()
        assert await came(upstream, peer) == HELLO
        assert peer.accepted == 1


@pytest.mark.parametrize("status", [200, 413])
@pytest.mark.parametrize("then", ["stays", "closes", "resets"])
async def test_an_answer_before_the_whole_request_is_taken_and_ends_the_connection(
    upstream: Upstream, then: str, status: int
) -> None:
    early = b"HTTP/1.1 %d Early\r\nContent-Length: 5\r\n\r\nhello" % status

    async def script(wire: Wire) -> None:
        await asyncio.get_running_loop().sock_recv(wire.sock, 1000)
        await wire.send_apart(early)
        if then == "stays":
            await wire.gone()
        elif then == "resets":
            wire.reset()

    async with Peer(script, receive_buffer=16 * 1024) as peer:
        for calls in (1, 2, 3):
            assert await came(upstream, peer, bytes(BIG)) == Came(status, b"hello")
            assert peer.accepted == calls


async def test_an_end_is_the_end_though_the_request_was_not_read(upstream: Upstream) -> None:
    """Nothing more can come: whoever never reads the rest does not keep our socket."""

    async def script(wire: Wire) -> None:
        await asyncio.get_running_loop().sock_recv(wire.sock, 1000)
        await wire.send_apart(OK + b"\r\nhello")
        wire.sock.shutdown(socket.SHUT_WR)
        await asyncio.Event().wait()

    async with Peer(script, receive_buffer=16 * 1024) as peer:
        counts = []
        for _ in range(4):
            assert await came(upstream, peer, bytes(BIG)) == HELLO
            for _ in range(5):
                await asyncio.sleep(0)
            counts.append(len(os.listdir("/proc/self/fd")))
        assert counts[3] - counts[1] == 2, "one for each call: the server's"


async def test_a_client_that_reads_slowly_makes_the_server_wait(upstream: Upstream) -> None:
    total = 64 * MIB
    sent = 0

    async def script(wire: Wire) -> None:
        nonlocal sent
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        await wire.request()
        await wire.send(OK + b"Content-Length: %d\r\n\r\n" % total)
        while sent < total:
            await wire.send(bytes(MIB))
            sent += MIB
        await wire.request()
        await wire.send(LENGTH)

    async with Peer(script) as peer:
        reply = await send(upstream, peer)
        before = -1
        while sent != before:  # until it is stuck
            before = sent
            await asyncio.sleep(0.05)
        assert sent <= 16 * MIB
        size = 0
        while chunk := await reply.more():
            size += len(chunk)
        reply.close()
        assert size == total
        assert await came(upstream, peer) == HELLO, "it reads on for the next call"
        assert peer.accepted == 1


# Time-outs.


async def drip(wire: Wire, first: bytes, again: bytes) -> None:
    await wire.request()
    await wire.send(first)
    while True:
        await wire.send(again)
        await asyncio.sleep(0.02)


async def test_a_server_that_says_nothing_has_its_time_for_a_first_byte(
    upstream: Upstream,
) -> None:
    async with Peer(stay) as peer:
        failed = await broken(upstream, peer.url, replace(LIMITS, first_byte_s=0.1))
        assert failed == (FailureClass.FIRST_BYTE_TIMEOUT, Delivery.MAYBE_ACCEPTED)
        await until_left(peer)


async def test_informational_answers_are_no_first_byte(upstream: Upstream) -> None:
    async def script(wire: Wire) -> None:
        await drip(wire, b"", b"HTTP/1.1 103 Hint\r\n\r\n")

    async with Peer(script) as peer:
        failed = await broken(upstream, peer.url, replace(LIMITS, first_byte_s=0.1))
        assert failed == (FailureClass.FIRST_BYTE_TIMEOUT, Delivery.MAYBE_ACCEPTED)


async def test_a_server_that_stops_in_the_middle_has_its_time_to_go_on(upstream: Upstream) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK + b"Content-Length: 9\r\n\r\nhello")
        await wire.gone()

    async with Peer(script) as peer:
        failed = await broken(upstream, peer.url, replace(LIMITS, idle_s=0.1))
        assert failed == (FailureClass.IDLE_TIMEOUT, Delivery.RESPONDING)
        await until_left(peer)


async def test_bytes_that_are_no_body_are_no_sign_of_life(upstream: Upstream) -> None:
    async def script(wire: Wire) -> None:
        await drip(wire, CHUNKED + b"5\r\nhello\r\n0\r\n", b"X-A: b\r\n")

    async with Peer(script) as peer:
        failed = await broken(upstream, peer.url, replace(LIMITS, idle_s=0.1))
        assert failed == (FailureClass.IDLE_TIMEOUT, Delivery.RESPONDING)


async def test_an_answer_that_never_ends_has_its_time_in_all(upstream: Upstream) -> None:
    async def script(wire: Wire) -> None:
        await drip(wire, CHUNKED, b"5\r\nhello\r\n")

    async with Peer(script) as peer:
        failed = await broken(upstream, peer.url, replace(LIMITS, total_s=0.1))
        assert failed == (FailureClass.TOTAL_TIMEOUT, Delivery.RESPONDING)
        await until_left(peer)


async def test_the_time_in_all_counts_before_the_answer_too(upstream: Upstream) -> None:
    async with Peer(stay) as peer:
        failed = await broken(upstream, peer.url, replace(LIMITS, total_s=0.1))
        assert failed == (FailureClass.TOTAL_TIMEOUT, Delivery.MAYBE_ACCEPTED)


async def test_a_client_that_reads_late_does_not_make_the_server_idle(upstream: Upstream) -> None:
    go_on = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK + b"Content-Length: 10\r\n\r\nhello")
        await go_on.wait()
        await wire.send(b"world")

    async with Peer(script) as peer:
        reply = await upstream.send(
            "sim", peer.url, headers=[], body=b"", timeouts=replace(LIMITS, idle_s=0.01)
        )
        await asyncio.sleep(0.3)  # it would have been looked at by now
        go_on.set()
        await asyncio.sleep(0)
        assert await rest(reply) == b"helloworld"
        reply.close()


@asynccontextmanager
async def deaf() -> AsyncIterator[str]:
    """An address that accepts nothing: its queue is full, and Linux drops who comes next."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=0)
    crowd = [socket.socket() for _ in range(3)]
    for one in crowd:
        one.setblocking(False)
        with suppress(BlockingIOError):
            one.connect(listening.getsockname())
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1/messages"
    finally:
        for one in (*crowd, listening):
            one.close()


async def test_a_connection_that_is_not_accepted_has_its_time_and_nothing_was_sent(
    upstream: Upstream,
) -> None:
    async with deaf() as url:
        failed = await broken(upstream, url, replace(LIMITS, connect_s=0.1))
    assert failed == (FailureClass.CONNECT_TIMEOUT, Delivery.NOT_SENT)


# Addresses.


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/v1",
        "http://[::1]:1/v1",
        f"http://{'a' * 64}.test/v1",
        "http://sim.invalid/v1",
        "http://127.0.0.1:99999/v1",
        "http:///v1",
        "ftp://127.0.0.1/v1",
        "https://127.0.0.1:1/v1",
    ],
)
async def test_an_address_that_cannot_be_reached_is_told_as_not_sent(
    upstream: Upstream, url: str
) -> None:
    assert await broken(upstream, url) == (FailureClass.CONNECT, Delivery.NOT_SENT)


@pytest.mark.parametrize("listens", ["127.0.0.1", "::1"])
async def test_a_name_with_two_addresses_is_reached_at_whichever_answers(
    upstream: Upstream, listens: str
) -> None:
    families = {family for family, *_ in socket.getaddrinfo("localhost", 1)}
    if len(families) < 2 and (socket.AF_INET6 in families) == (listens == "127.0.0.1"):
        pytest.skip("localhost has one address here")
    asked: list[bytes] = []

    async def script(wire: Wire) -> None:
        asked.append(await wire.request())
        await wire.send(LENGTH)

    async with Peer(script, host=listens) as peer:
        url = f"http://localhost:{peer.port}/v1"
        reply = await upstream.send("sim", url, headers=[], body=b"", timeouts=LIMITS)
        assert await rest(reply) == b"hello"
        reply.close()
        assert b"\r\nHost: localhost:%d\r\n" % peer.port in asked[0]


async def test_an_address_of_version_6_is_named_in_brackets(upstream: Upstream) -> None:
    asked: list[bytes] = []

    async def script(wire: Wire) -> None:
        asked.append(await wire.request())
        await wire.send(LENGTH)

    async with Peer(script, host="::1") as peer:
        assert await came(upstream, peer) == HELLO
        assert b"\r\nHost: [::1]:%d\r\n" % peer.port in asked[0]


@pytest.mark.parametrize("evil", ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rb", "a\0b", "\udc80"])
async def test_a_header_that_would_end_its_line_is_never_sent(
    upstream: Upstream, evil: str
) -> None:
    async with Peer(answering(LENGTH)) as peer:
        for headers in ([("X-A", evil)], [(evil, "a")]):
            with pytest.raises(AttemptFailed) as failed:
                await upstream.send("sim", peer.url, headers=headers, body=b"", timeouts=LIMITS)
            assert failed.value.delivery is Delivery.NOT_SENT
        assert peer.accepted == 0


async def test_urls_are_remembered_within_a_bound(upstream: Upstream) -> None:
    """A client may ask for any model in a path: what it says must not pile up."""
    async with Peer(answering(LENGTH)) as peer:
        for number in range(10_000):
            upstream._place(f"{peer.url}/{number}")
        assert len(upstream._targets) <= 4096
        for number in range(10):
            upstream._place(f"{peer.url}/{number}/{'m' * 16_000}")
        assert max(map(len, upstream._targets)) <= 1024
        assert await came(upstream, peer) == HELLO


# Leaving.


async def test_a_call_that_is_cancelled_at_any_moment_leaves_nothing(upstream: Upstream) -> None:
    """`upstream` looks for what is left; the server sees each connection closed."""

    async def script(wire: Wire) -> None:
        for _ in range(3):
            await wire.request()
            await wire.send_apart(b"HTTP/1.1 103 Hint\r\n\r\n", CHUNKED, b"5\r\nhello\r\n")
            await wire.send_apart(b"0\r\n", b"\r\n")
        await wire.gone()

    async with Peer(script) as peer:
        finished = False
        steps = 0
        while not finished:
            call = asyncio.get_running_loop().create_task(came(upstream, peer))
            for _ in range(steps):
                await asyncio.sleep(0)
            finished = call.done()
            call.cancel()
            with suppress(asyncio.CancelledError):
                assert await call == HELLO
            steps += 1
        assert steps > 5
        await until_left(peer)


async def test_a_call_that_is_cancelled_while_it_connects_leaves_nothing(
    upstream: Upstream,
) -> None:
    async with deaf() as url:
        call = asyncio.get_running_loop().create_task(broken(upstream, url))
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


@pytest.mark.parametrize("said", [b"", OK, OK + b"\r\nhello", CHUNKED + b"5\r\nhello\r\n"])
async def test_closing_breaks_calls_off_and_never_makes_them_look_whole(said: bytes) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send_apart(said)
        await wire.gone()

    async with Peer(script) as peer:
        async with Upstream() as upstream:
            call = asyncio.get_running_loop().create_task(came(upstream, peer))
            while not peer.open:
                await asyncio.sleep(0)
            for _ in range(10):
                await asyncio.sleep(0)
        assert await call == Came(failure=FailureClass.DISCONNECTED)
        await until_left(peer)


async def test_closing_at_any_moment_of_a_connect_leaves_no_connection() -> None:
    async with Peer(stay) as peer:
        for steps in range(1, 12):
            async with Upstream() as upstream:
                call = asyncio.get_running_loop().create_task(broken(upstream, peer.url))
                for _ in range(steps):
                    await asyncio.sleep(0)
            failure, _ = await call
            assert failure in (FailureClass.CONNECT, FailureClass.DISCONNECTED)
            await until_left(peer)


async def test_closing_waits_for_connections_that_are_closing_already() -> None:
    async with Peer(answering(LENGTH)) as peer:
        async with Upstream() as upstream:
            for _ in range(3):
                await asyncio.gather(*(came(upstream, peer) for _ in range(20)))
        await until_left(peer)


async def test_a_look_that_comes_late_blames_nobody(upstream: Upstream) -> None:
    """We were busy ourselves: what came meanwhile was not read yet."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await asyncio.sleep(0.23)
        await wire.send(LENGTH)

    async with Peer(script) as peer:
        call = asyncio.get_running_loop().create_task(
            upstream.send("sim", peer.url, headers=[], body=b"", timeouts=SHORT)
        )
        await asyncio.sleep(0.22)
        time.sleep(0.3)
        reply = await call
        assert await rest(reply) == b"hello"
        reply.close()
