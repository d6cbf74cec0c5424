"""Answers as providers say them, byte for byte: what is taken, what is refused, and where it ends.

A connection is never used again after an answer whose end was in doubt.
"""

import asyncio
from dataclasses import dataclass

import pytest

from modelspend.gateway.upstream import AttemptFailed, Reply, Timeouts, Upstream
from modelspend.receipt import Delivery, FailureClass
from tests.fakes.peer import Peer, Wire, answering
from tests.loops import on_both_loops, on_one_loop

pytestmark = on_both_loops

LIMITS = Timeouts(connect_s=5, first_byte_s=5, idle_s=5, total_s=20)
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CODED = b"5\r\nhello\r\n0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Came:
    """What the caller got: an answer, or how it broke."""

    status: int = 0
    body: bytes = b""
    failure: FailureClass | None = None


HELLO = Came(200, b"hello")
PROTOCOL = Came(failure=FailureClass.PROTOCOL)
LOST = Came(failure=FailureClass.DISCONNECTED)


async def send(upstream: Upstream, peer: Peer, body: bytes = b"{}") -> Reply:
    return await upstream.send("sim", peer.url, headers=[], body=body, timeouts=LIMITS)


async def came(upstream: Upstream, peer: Peer, body: bytes = b"{}") -> Came:
    """A whole exchange. What came before a failure is not compared: it depends on the timing."""
    try:
        reply = await send(upstream, peer, body)
        try:
            return Came(reply.status, await rest(reply))
        finally:
            reply.close()
    except AttemptFailed as failed:
        return Came(failure=failed.failure)


async def rest(reply: Reply) -> bytes:
    parts = []
    while chunk := await reply.more():
        parts.append(chunk)
    return b"".join(parts)


KEPT = {
    "a length": (LENGTH, HELLO),
    "chunks": (CHUNKED + CODED, HELLO),
    "chunks with extensions": (CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0;x\r\n\r\n', HELLO),
    "a space after a chunk's size": (CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n", HELLO),
    "zeros before a chunk's size": (CHUNKED + b"0005\r\nhello\r\n0\r\n\r\n", HELLO),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nX-Late: 1\r\n\r\n", HELLO),
    "chunked in capitals": (OK + b"TRANSFER-ENCODING: Chunked\r\n\r\n" + CODED, HELLO),
    "line feeds alone": (LENGTH.replace(b"\r\n", b"\n"), HELLO),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", HELLO),
    "HTTP/1.0 kept alive": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
        HELLO,
    ),
    "100 first": (b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH, HELLO),
    "103 first": (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 2 + LENGTH, HELLO),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", Came(204)),
    "304 that tells a length": (b"HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n", Came(304)),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", Came(200)),
    "no chunks": (CHUNKED + b"0\r\n\r\n", Came(200)),
    "a header without a value": (OK + b"X-A:\r\nContent-Length: 5\r\n\r\nhello", HELLO),
    "a header that is no text": (OK + b"X-A: \xff\xfe\r\nContent-Length: 5\r\n\r\nhello", HELLO),
    "a control character": (OK + b"X-A: a\x01b\r\nContent-Length: 5\r\n\r\nhello", HELLO),
    "a folded header": (OK + b"X-A: a\r\n b\r\nContent-Length: 5\r\n\r\nhello", HELLO),
    "a folded length": (OK + b"Content-Length:\r\n 5\r\n\r\nhello", HELLO),
    "a space before the colon": (OK + b"Content-Length : 5\r\n\r\nhello", HELLO),
    "an unused upgrade": (OK + b"Upgrade: h2c\r\nContent-Length: 5\r\n\r\nhello", HELLO),
}
"""Answers after which the connection carries the next call."""

LAST = {
    "Connection: close": (OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", HELLO),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", HELLO),
    "HTTP/1.0 in chunks": (
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CODED,
        HELLO,
    ),
    "a second answer": (LENGTH + LENGTH.replace(b"hello", b"EVIL!"), HELLO),
    "a second answer to 204": (b"HTTP/1.1 204 No\r\n\r\n" + LENGTH, Came(204)),
    "a length that is too small": (OK + b"Content-Length: 3\r\n\r\nhello", Came(200, b"hel")),
    "204 with a body": (b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", Came(204)),
    "bytes after chunks": (CHUNKED + CODED + b"5\r\nhello\r\n0\r\n\r\n", HELLO),
}
"""Whole answers whose connection ends with them, whatever else came on it."""

REFUSED = {
    "no HTTP": b"hello, world\r\n\r\n",
    "a length and chunks": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + CODED,
    "chunks and a length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + CODED,
    "a length twice": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a list of lengths": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "a negative length": OK + b"Content-Length: -5\r\n\r\nhello",
    "a signed length": OK + b"Content-Length: +5\r\n\r\nhello",
    "a length in hex": OK + b"Content-Length: 0x5\r\n\r\nhello",
    "a length of 30 digits": OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nhello",
    "an empty length": OK + b"Content-Length:\r\n\r\nhello",
    "a chunk's size that is none": CHUNKED + b"xyz\r\nhello\r\n0\r\n\r\n",
    "a negative chunk": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "a chunk's size with 0x": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "a chunk's size of 40 digits": CHUNKED + b"f" * 40 + b"\r\nhello",
    "two sizes for a chunk": CHUNKED + b"5 5\r\nhello\r\n0\r\n\r\n",
    "a space before a chunk's size": CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n",
    "no size for a chunk": CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "a length among the trailers": CHUNKED + b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
    "no line end after a chunk": CHUNKED + b"5\r\nhelloXX0\r\n\r\n",
    "a bare CR in a chunk's extension": CHUNKED + b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "gzip as a transfer coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CODED,
    "identity as a transfer coding": OK + b"Transfer-Encoding: identity\r\n\r\nhello",
    "identity after chunked": OK + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CODED,
    "chunked twice": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CODED,
    "a transfer coding like chunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n" + CODED,
    "chunked behind a tabulator": OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CODED,
    "a bare CR in a header": OK + b"X-A: a\rb\r\nContent-Length: 5\r\n\r\nhello",
    "a bare LF in the reason": b"HTTP/1.1 200 O\nK\r\nContent-Length: 5\r\n\r\nhello",
    "a header without a colon": OK + b"abc\r\nContent-Length: 5\r\n\r\nhello",
    "a header without a name": OK + b": v\r\nContent-Length: 5\r\n\r\nhello",
    "a header's name of two words": OK + b"a b: c\r\nContent-Length: 5\r\n\r\nhello",
    "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello",
    "status 000": b"HTTP/1.1 000 OK\r\nContent-Length: 5\r\n\r\nhello",
    "status 099": b"HTTP/1.1 099 OK\r\n\r\n" + LENGTH,
    "status 050 and no more": b"HTTP/1.1 050 OK\r\n\r\n",
    "101": b"HTTP/1.1 101 Yes\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + LENGTH,
    "103 with a body": b"HTTP/1.1 103 Hint\r\nContent-Length: 3\r\n\r\nabc" + LENGTH,
    "150 with a body": b"HTTP/1.1 150 Odd\r\nContent-Length: 3\r\n\r\nabc" + LENGTH,
}

ENDED = {
    "no length, then the end": (OK + b"\r\nhello", HELLO),
    "HTTP/1.0 without a length": (b"HTTP/1.0 200 OK\r\n\r\nhello", HELLO),
    "nothing": (b"", LOST),
    "half a status line": (b"HTTP/1.1 20", LOST),
    "half a head": (OK + b"Content-Length: 5\r\n", LOST),
    "103 and no answer": (b"HTTP/1.1 103 Hint\r\n\r\n", LOST),
    "a length that is too large": (OK + b"Content-Length: 9\r\n\r\nhello", LOST),
    "a spaced length that is too large": (OK + b"Content-Length : 9\r\n\r\nhello", LOST),
    "chunks without the last": (CHUNKED + b"5\r\nhello\r\n", LOST),
    "chunks without the end of trailers": (CHUNKED + b"5\r\nhello\r\n0\r\n", LOST),
}
"""What the provider says before it closes the connection."""


@pytest.mark.parametrize("what", KEPT)
async def test_a_proper_answer_is_taken_and_its_connection_used_again(
    upstream: Upstream, what: str
) -> None:
    answer, wanted = KEPT[what]
    async with Peer(answering(answer)) as peer:
        for _ in range(5):
            assert await came(upstream, peer) == wanted
        assert peer.accepted == 1


@pytest.mark.parametrize("what", LAST)
async def test_what_follows_an_answer_is_never_the_next_calls(
    upstream: Upstream, what: str
) -> None:
    answer, wanted = LAST[what]
    async with Peer(answering(answer)) as peer:
        for calls in range(1, 4):
            assert await came(upstream, peer) == wanted
            assert peer.accepted == calls


@pytest.mark.parametrize("what", REFUSED)
async def test_an_answer_that_can_be_read_in_two_ways_is_refused(
    upstream: Upstream, what: str
) -> None:
    async with Peer(answering(REFUSED[what])) as peer:
        for calls in (1, 2):
            assert await came(upstream, peer) == PROTOCOL
            assert peer.accepted == calls


@pytest.mark.parametrize("what", ENDED)
async def test_only_an_answer_without_a_length_ends_with_its_connection(
    upstream: Upstream, what: str
) -> None:
    answer, wanted = ENDED[what]

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(answer)

    async with Peer(script) as peer:
        assert await came(upstream, peer) == wanted


@pytest.mark.parametrize("what", ENDED)
async def test_a_reset_ends_no_answer(upstream: Upstream, what: str) -> None:
    answer, _ = ENDED[what]

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send_apart(answer)
        wire.reset()

    async with Peer(script) as peer:
        assert await came(upstream, peer) == LOST


EVERY = {
    **{what: (answer, wanted, False) for what, (answer, wanted) in KEPT.items()},
    **{what: (answer, wanted, False) for what, (answer, wanted) in LAST.items()},
    **{what: (answer, PROTOCOL, False) for what, answer in REFUSED.items()},
    **{what: (answer, wanted, True) for what, (answer, wanted) in ENDED.items() if answer},
}


@on_one_loop
@pytest.mark.parametrize("what", EVERY)
async def test_an_answer_is_the_same_wherever_it_is_cut(upstream: Upstream, what: str) -> None:
    answer, wanted, ends = EVERY[what]
    cuts = iter([(answer[:at], answer[at:]) for at in range(1, len(answer))])

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.send_apart(*next(cuts))
            if ends:
                return

    async with Peer(script) as peer:
        for _ in range(1, len(answer)):
            assert await came(upstream, peer) == wanted
            while what in LAST and peer.open:  # it may still have been idle
                await asyncio.sleep(0)


@pytest.mark.parametrize("what", ["a length", "trailers", "103 first", "a second answer"])
async def test_an_answer_may_come_byte_by_byte(upstream: Upstream, what: str) -> None:
    answer, wanted, _ = EVERY[what]

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send_apart(*(answer[at : at + 1] for at in range(len(answer))))
        await wire.gone()

    async with Peer(script) as peer:
        assert await came(upstream, peer) == wanted


async def test_headers_come_as_they_were_said(upstream: Upstream) -> None:
    said = (
        b"X-Twice: 1\r\nX-Twice: 2\r\nX-Empty:\r\nX-Latin: caf\xe9\r\nX-Text: caf\xc3\xa9\r\n"
        b"X-Folded: a\r\n\tb\r\nX-Tab:\tz\r\nContent-Length : 0\r\n"
    )
    early = b"HTTP/1.1 103 Hint\r\nLink: </early>\r\n\r\n"
    async with Peer(answering(early + OK + said + b"\r\n")) as peer:
        reply = await send(upstream, peer)
        reply.close()
    assert list(reply.headers) == [
        ("X-Twice", "1"),
        ("X-Twice", "2"),
        ("X-Empty", ""),
        ("X-Latin", "café"),
        ("X-Text", "café"),
        ("X-Folded", "a\tb"),
        ("X-Tab", "z"),
        ("Content-Length", "0"),
    ]


async def test_a_header_after_the_body_is_no_header(upstream: Upstream) -> None:
    late = b"5\r\nhello\r\n0\r\nContent-Type: evil\r\n\r\n"
    async with Peer(answering(CHUNKED + late)) as peer:
        reply = await send(upstream, peer)
        await rest(reply)
        reply.close()
    assert reply.header("content-type") is None


ENDLESS = {
    "one header": (OK + b"X-A: ", b"a" * 1024),
    "headers": (OK, b"X-A: b\r\n" * 128),
    "header names": (OK, b"a" * 1024),
    "a reason": (b"HTTP/1.1 200 ", b"a" * 1024),
    "a folded header": (OK + b"X-A: b", b"\r\n c" * 256),
    "informational answers": (b"", b"HTTP/1.1 103 Hint\r\n\r\n" * 50),
    "one informational answer": (b"HTTP/1.1 103 Hint\r\n", b"X-A: b\r\n" * 128),
    "line ends": (b"", b"\r\n" * 512),
    "a chunk's extension": (CHUNKED + b"5\r\nhello\r\n5;", b"a" * 1024),
    "a chunk's size": (CHUNKED + b"5\r\nhello\r\n", b"0" * 1024),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\n", b"X-A: b\r\n" * 128),
    "one trailer": (CHUNKED + b"5\r\nhello\r\n0\r\nX-A: ", b"a" * 1024),
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_what_never_becomes_an_answer_is_cut_off_before_long(
    upstream: Upstream, what: str
) -> None:
    first, again = ENDLESS[what]
    taken = 0

    async def script(wire: Wire) -> None:
        nonlocal taken
        await wire.request()
        await wire.send(first)
        while True:
            await wire.send_apart(again)
            taken += len(again)

    async with Peer(script) as peer:
        assert await came(upstream, peer) == PROTOCOL
    assert taken < 128 * 1024


@pytest.mark.parametrize("size", [16 * 1024 - 3, 16 * 1024 - 2], ids=["within", "beyond"])
async def test_one_header_has_a_bound(upstream: Upstream, size: int) -> None:
    answer = OK + b"X-A: " + b"a" * size + b"\r\nContent-Length: 5\r\n\r\nhello"
    async with Peer(answering(answer)) as peer:
        assert await came(upstream, peer) == (HELLO if size < 16 * 1024 - 2 else PROTOCOL)


async def test_a_long_answer_in_the_smallest_chunks_is_no_silence(upstream: Upstream) -> None:
    answer = CHUNKED + b"1;extension=%b\r\nx\r\n" % (b"a" * 100) * 20_000 + b"0\r\n\r\n"
    async with Peer(answering(answer)) as peer:
        assert await came(upstream, peer) == Came(200, b"x" * 20_000)


async def test_a_failure_after_the_head_may_have_been_billed(upstream: Upstream) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send_apart(OK + b"Content-Length: 9\r\n\r\n", b"hello")

    async with Peer(script) as peer:
        reply = await send(upstream, peer)
        with pytest.raises(AttemptFailed) as failed:
            await rest(reply)
        reply.close()
    assert (failed.value.failure, failed.value.delivery) == (
        FailureClass.DISCONNECTED,
        Delivery.RESPONDING,
    )


async def test_bytes_come_before_the_failure_that_follows_them(upstream: Upstream) -> None:
    """In one packet, even: what a client was promised to see is not swallowed."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send_apart(CHUNKED, b"5\r\nhello\r\nxyz\r\n")
        await wire.gone()

    async with Peer(script) as peer:
        reply = await send(upstream, peer)
        await asyncio.sleep(0)
        assert await reply.more() == b"hello"
        with pytest.raises(AttemptFailed) as failed:
            await reply.more()
        reply.close()
    assert failed.value.failure is FailureClass.PROTOCOL
