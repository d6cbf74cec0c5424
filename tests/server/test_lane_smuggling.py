"""No bytes are one request to the lane and two to aiohttp, or the other way round.

Requests are put together from fragments that have split proxies from their servers. What is sent
ends with a plain request whose connection closes, so that nothing stays undecided.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.server.doors import Doors, Said, doors
from tests.server.test_lane import BODY, CODED, HEALTH, ask, coded

LAST = ask(b"Connection: close", target=b"/v1/chat/completions?last")
LINES = (
    b"Content-Length: %d" % len(BODY),
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Content-Length: %d" % (len(BODY) + len(HEALTH)),
    b"Content-Length : 0",
    b"Content-Length: 0, 0",
    b"Content-Length:\t%d" % len(BODY),
    b"Content-Length:\r\n 0",
    b"Content-Length\x00: 0",
    b"content-length: +0",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding:\r\n chunked",
    b"X-A: b\nTransfer-Encoding: chunked",
    b"X-A: b\rTransfer-Encoding: chunked",
    b"X-A: b\r\n\r\n",
    b"X-A: b\n\n",
    b"X-A",
    b" X-A: b",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: content-length",
    b"Expect: 100-continue",
    b"Upgrade: websocket",
    b"Host: HOST",
    b"Host: evil.test",
    b"\xff: \xff",
)
TARGETS = (
    b"/v1/chat/completions",
    b"/v1/chat/completions?a=b",
    b"/v1/chat/completions#x",
    b"//v1/chat/completions",
    b"http://HOST/v1/chat/completions",
    b"/v1/models/sim/m:generateContent",
    b"/v1/models/a#b:generateContent",
    b"/healthz",
)
AFTER = (
    b"",
    BODY,
    CODED,
    BODY + b"\r\n",
    BODY + HEALTH,
    HEALTH,
    b"0\r\n\r\n",
    b"0\r\n\r\n" + HEALTH,
    b"5\r\nhello\r\n0\r\n\r\n",
    b"hello",
    b"\r\n",
    b"\n",
)
UNREADABLE = ("content-type", "text/plain; charset=utf-8")
CLEAN = (ask(), HEALTH, coded(b"Transfer-Encoding: chunked"), ask(body=b"{"))


@st.composite
def dirty(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from([b"POST", b"POST", b"POST", b"GET", b"post"]))
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.1 "]))
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"]))
    lines = draw(st.lists(st.sampled_from(LINES), max_size=3))
    first = b"%b %b %b" % (method, draw(st.sampled_from(TARGETS)), version)
    head = end.join([first, b"Host: HOST", *lines])
    return head + end + end + draw(st.sampled_from(AFTER))


SENT = st.lists(st.one_of(dirty(), st.sampled_from(CLEAN)), min_size=1, max_size=3)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[asyncio.Runner, Doors]]:
    """A loop of its own: hypothesis runs many examples within one test."""
    with asyncio.Runner() as runner:
        opened = doors(tmp_path)
        both = runner.run(opened.__aenter__())
        try:
            yield runner, both
        finally:
            runner.run(opened.__aexit__(None, None, None))


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(sent=SENT, cut=st.integers(1, 400))
@example(sent=[ask(length=b"0")], cut=9)
@example(sent=[ask(b"X-A: b\nTransfer-Encoding: chunked", body=CODED)], cut=9)
@example(sent=[ask(), ask(target=b"/v1/models/a#b:generateContent")], cut=9)
@example(sent=[ask(b"Connection: close"), ask()], cut=9)
@example(sent=[b"\r\n", ask(), b"\r\n", ask()], cut=9)
def test_what_the_lane_sees_is_what_aiohttp_sees(
    running: tuple[asyncio.Runner, Doors], sent: list[bytes], cut: int
) -> None:
    """What aiohttp itself sees depends on the network: what cannot be read makes it forget the
    requests before it that came in the same piece. So it sees the most when each byte comes by
    itself, and the least when all comes at once; the lane may see no more and no less."""
    runner, both = running
    data = b"".join([*sent, LAST]).replace(b"HOST", both.host)
    most = runner.run(seen(both, both.other, [data[at : at + 1] for at in range(len(data))]))
    least = runner.run(seen(both, both.other, [data]))
    for parts in ([data], [data[:cut], data[cut:]]):
        lane = runner.run(seen(both, both.plain, parts))
        assert lane == most[: len(lane)]
        assert least == lane[: len(least)]


async def seen(both: Doors, port: int, parts: list[bytes]) -> list[tuple[Said, bytes]]:
    """Each request that was read, by its answer and by what the provider got of it."""
    both.provider.requests.clear()
    said = await both.say(port, *parts)
    read = [one for one in said if one.status != 400 or UNREADABLE not in one.headers]
    got = iter(both.provider.requests)
    pairs = [
        (one, b"".join(next(got)) if one.status == 200 and one.receipt else b"") for one in read
    ]
    assert next(got, None) is None, "the provider got what nobody was told of"
    return pairs


def test_the_comparison_sees_a_difference(running: tuple[asyncio.Runner, Doors]) -> None:
    """So that equal answers mean something: one request, and two, are not the same to it."""
    runner, both = running
    one = runner.run(both.say(both.plain, LAST))
    two = runner.run(both.say(both.plain, ask() + LAST))
    assert (len(one), len(two)) == (1, 2)
