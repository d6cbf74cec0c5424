"""Which requests the quick lane serves, and that nobody can tell the difference.

Each request goes through two doors, the lane's and one where aiohttp stands alone; status, headers
and body must be the same, and so must be what the provider got.
"""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from modelspend.gateway.assembly import Assembly
from modelspend.gateway.caller import Callers
from modelspend.gateway.runs import Runs
from modelspend.server.keys import LIVE
from modelspend.settings import Tenant
from tests.fakes.provider import CHAT, whole
from tests.loops import on_both_loops, on_one_loop
from tests.server.doors import Doors, Said, doors

pytestmark = on_both_loops

ASK = {"model": "sim/m", "messages": [{"role": "user", "content": "hi"}]}
BODY = json.dumps(ASK).encode()
GEMINI = b'{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}'
CODED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
MIB = 1024 * 1024


def ask(
    *lines: bytes,
    target: bytes = b"/v1/chat/completions",
    body: bytes = BODY,
    length: bytes | None = None,
    method: bytes = b"POST",
    version: bytes = b"HTTP/1.1",
    host: bytes | None = b"HOST",
) -> bytes:
    """A request; `length` is its Content-Length where that is not simply true (b"" for none)."""
    head = [b"%b %b %b" % (method, target, version)]
    if host is not None:
        head.append(b"Host: " + host)
    head += lines
    if length != b"":
        head.append(b"Content-Length: " + (b"%d" % len(body) if length is None else length))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def coded(*lines: bytes) -> bytes:
    """A request whose body comes in chunks."""
    return ask(*lines, body=CODED, length=b"")


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: HOST\r\n\r\n"
CLOSE = b"Connection: close"


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Doors]:
    loop, faults = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: faults.append(context))
    async with doors(tmp_path) as running:
        yield running
    assert faults == []


PLAIN = {
    "nothing special": (ask(), 200),
    "a connection to close": (ask(CLOSE), 200),
    "a connection to keep": (ask(b"connection: Keep-Alive"), 200),
    "a query with a key": (ask(target=b"/v1/chat/completions?key=abc&x=%20"), 200),
    "an empty query": (ask(target=b"/v1/chat/completions?"), 200),
    "a path of Gemini": (ask(target=b"/v1beta/models/sim/m:generateContent", body=GEMINI), 200),
    "an escaped model": (ask(target=b"/models/sim%2Fm:generateContent", body=GEMINI), 200),
    "dots in a model": (ask(target=b"/v1/models/sim/../m:generateContent", body=GEMINI), 400),
    "odd letters in a model": (
        ask(target=b'/v1/models/sim/m"<>^`{|}\\[%zz:generateContent', body=GEMINI),
        200,
    ),
    "no model": (ask(target=b"/v1/models//:generateContent", body=GEMINI), 404),
    "a header without a value": (ask(b"X-A:"), 200),
    "a header of blanks": (ask(b"X-A: \t "), 200),
    "a length between blanks": (ask(length=b"\t%d \t" % len(BODY)), 200),
    "a length with zeros": (ask(length=b"00%d" % len(BODY)), 200),
    "no body": (ask(body=b""), 400),
    "a body that is no JSON": (ask(body=b"{"), 400),
    "a model that is nowhere": (ask(body=b'{"model":"nope/x","messages":[]}'), 404),
    "a model with a line end": (ask(body=b'{"model":"sim/m\\r\\nx-evil: 1","messages":[]}'), 400),
    "half a letter": (ask(body=b'{"model":"sim/\\ud800","messages":[]}'), 400),
    "a model in other letters": (
        ask(body=json.dumps({**ASK, "model": "sim/é漢"}, ensure_ascii=False).encode()),
        200,
    ),
    "identity as an encoding": (ask(b"Content-Encoding: identity"), 200),
    "a foreign host": (ask(host=b"evil.test"), 421),
    "an empty host": (ask(host=b""), 421),
    "a foreign origin": (ask(b"Origin: http://evil.test"), 403),
    "a foreign page": (ask(b"Sec-Fetch-Site: cross-site"), 403),
    "its own origin": (ask(b"Origin: http://HOST"), 200),
    "a header of ours that is none": (ask(b"x-modelspend-tags: bad"), 400),
    "100 headers": (ask(*(b"X-%d: y" % n for n in range(98))), 200),
    "a long header": (ask(b"X-A: " + b"a" * 15_000), 200),
    "a long query": (ask(target=b"/v1/chat/completions?" + b"a" * 15_000), 200),
}

ODD = {
    "a header that is no text": (ask(b"X-A: \xff\xfe"), 200),
    "two connections to close": (ask(b"Connection: keep-alive", CLOSE), 200),
    "a list of connections": (ask(b"Connection: keep-alive, close"), 200),
    "a hop's header": (ask(b"Connection: te"), 200),
    "a length twice": (ask(b"Content-Length: %d" % len(BODY)), 400),
    "two lengths": (ask(b"Content-Length: 3"), 400),
    "a list of lengths": (ask(length=b"%d, %d" % (len(BODY), len(BODY))), 400),
    "a signed length": (ask(length=b"+%d" % len(BODY)), 400),
    "a negative length": (ask(length=b"-1"), 400),
    "a length in hex": (ask(length=b"0x3d"), 400),
    "a length with an underscore": (ask(length=b"6_1"), 400),
    "a length of two words": (ask(length=b"6 1"), 400),
    "a length of 30 digits": (ask(length=b"9" * 30), 400),
    "an empty length": (ask(length=b" "), 400),
    "no length": (ask(length=b"", body=b""), 400),
    "chunks": (coded(b"Transfer-Encoding: chunked"), 200),
    "chunks behind blanks": (coded(b"Transfer-Encoding: \t chunked"), 200),
    "chunks and a length": (ask(b"Transfer-Encoding: chunked", body=CODED), 400),
    "chunked, identity": (coded(b"Transfer-Encoding: chunked, identity"), 400),
    "xchunked": (coded(b"Transfer-Encoding: xchunked"), 400),
    "a vertical tab before chunked": (coded(b"Transfer-Encoding: \x0bchunked"), 400),
    "a space before the colon": (coded(b"Transfer-Encoding : chunked"), 400),
    "a tab before the colon": (ask(b"X-A\t: b"), 400),
    "a folded coding": (coded(b"Transfer-Encoding:\r\n chunked"), 400),
    "a folded header": (ask(b"X-A: b\r\n c"), 400),
    "identity as a coding": (ask(b"Transfer-Encoding: identity"), 400),
    "a bare LF in the head": (ask(b"X-A: b\nX-C: d"), 400),
    "a bare CR in the head": (ask(b"X-A: b\rX-C: d"), 400),
    "a NUL": (ask(b"X-A: b\0c"), 400),
    "a control character": (ask(b"X-A: b\x01c"), 400),
    "a header without a colon": (ask(b"XA"), 400),
    "a header without a name": (ask(b": b"), 400),
    "a header's name of two words": (ask(b"X A: b"), 400),
    "a blank before the first header": (ask(b" X-A: b"), 400),
    "HTTP/1.0": (ask(version=b"HTTP/1.0"), 200),
    "HTTP/1.2": (ask(version=b"HTTP/1.2"), 400),
    "a method in small letters": (ask(method=b"post"), 400),
    "another method": (ask(method=b"PUT"), 405),
    "two blanks before the target": (ask(target=b" /v1/chat/completions"), 200),
    "a blank after the version": (ask(version=b"HTTP/1.1 "), 400),
    "a line end first": (b"\r\n" + ask(), 200),
    "a blank first": (b" " + ask(), 400),
    "100-continue": (ask(b"Expect: 100-continue"), 200),
    "another expectation": (ask(b"Expect: x"), 417),
    "a WebSocket": (ask(b"Upgrade: websocket", b"Connection: upgrade"), 200),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "no host": (ask(host=None), 400),
    "two hosts": (ask(b"Host: HOST"), 400),
    "two types": (ask(b"Content-Type: a/b", b"Content-Type: c/d"), 400),
    "a header said twice": (ask(b"X-A: 1", b"x-a: 2"), 200),
    "an absolute target": (ask(target=b"http://HOST/v1/chat/completions"), 400),
    "an authority as a target": (ask(target=b"HOST"), 400),
    "a star as a target": (ask(target=b"*"), 400),
    "two slashes first": (ask(target=b"//v1/chat/completions"), 400),
    "two slashes": (ask(target=b"/v1//chat/completions"), 404),
    "an escaped letter": (ask(target=b"/v1/chat/%63ompletions"), 200),
    "an escaped slash": (ask(target=b"/v1/chat%2Fcompletions"), 404),
    "a fragment": (ask(target=b"/v1/chat/completions#x"), 200),
    "a fragment in a query": (ask(target=b"/v1/chat/completions?a=b#x"), 200),
    "a fragment in a model": (ask(target=b"/v1/models/sim/m#x:generateContent"), 405),
    "another path": (ask(target=b"/v1/nothing"), 404),
    "200 headers": (ask(*(b"X-%d: y" % n for n in range(200))), 400),
    "a header that is too long": (ask(b"X-A: " + b"a" * 17_000), 400),
    "two long headers": (ask(b"X-A: " + b"a" * 9_000, b"X-B: " + b"b" * 9_000), 200),
    "a query that is too long": (ask(target=b"/v1/chat/completions?" + b"a" * 17_000), 400),
    "gzip": (ask(b"Content-Encoding: gzip", body=gzip.compress(BODY)), 200),
    "gzip that is none": (ask(b"Content-Encoding: gzip"), 400),
    "an encoding that is not known": (ask(b"Content-Encoding: br"), 400),
    "two encodings": (ask(b"Content-Encoding: identity", b"Content-Encoding: gzip"), 200),
}


async def test_plain_requests_are_served_by_the_lane_as_by_aiohttp(both: Doors) -> None:
    for what, (request, status) in PLAIN.items():
        said, _ = await both.both(request, wanted=1)
        assert [(one.status, one.lane) for one in said] == [(status, True)], what


async def test_all_others_are_aiohttps(both: Doors) -> None:
    for what, (request, status) in ODD.items():
        said, _ = await both.both(request, wanted=1)
        assert [(one.status, one.lane) for one in said] == [(status, False)], what


async def test_line_feeds_alone_are_aiohttps_after_a_moment(both: Doors) -> None:
    """There is no empty line in it yet, as the lane sees it."""
    said, _ = await both.both(ask().replace(b"\r\n", b"\n"), wanted=1)
    assert [(one.status, one.lane) for one in said] == [(400, False)]


CUT = ("nothing special", "a path of Gemini", "chunks", "two lengths", "a foreign host")


@on_one_loop
@pytest.mark.parametrize("what", CUT)
async def test_a_request_is_the_same_wherever_it_is_cut(both: Doors, what: str) -> None:
    request, status = {**PLAIN, **ODD}[what]
    request = request.replace(b"HOST", both.host)
    uncut = await both.say(both.plain, request, wanted=1)
    for at in range(1, len(request)):
        said = await both.say(both.plain, request[:at], request[at:], wanted=1)
        assert said == uncut, at
        assert said[0].lane == (what in PLAIN), at
    assert [one.status for one in uncut] == [status]


@pytest.mark.parametrize("what", CUT)
async def test_a_request_may_come_byte_by_byte(both: Doors, what: str) -> None:
    request, status = {**PLAIN, **ODD}[what]
    request = request.replace(b"HOST", both.host)
    said = await both.say(
        both.plain, *(request[at : at + 1] for at in range(len(request))), wanted=1
    )
    assert [one.status for one in said] == [status]


SERVED = {
    "plain twice": ([ask(), ask(CLOSE)], "LL"),
    "plain, odd": ([ask(), HEALTH], "LA"),
    "odd, plain": ([HEALTH, ask()], "AA"),
    "plain, odd, plain": ([ask(), coded(b"Transfer-Encoding: chunked"), ask(CLOSE)], "LAA"),
    "a line end in between": ([ask(), b"\r\n" + ask()], "LA"),
    "refused, plain": ([ask(host=b"evil.test"), ask(), ask(body=b"{")], "LLL"),
    "many": ([ask()] * 30, "L" * 30),
}


@pytest.mark.parametrize("what", SERVED)
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "apart"])
async def test_requests_that_come_without_waiting_are_answered_in_their_order(
    both: Doors, what: str, apart: bool
) -> None:
    requests, by = SERVED[what]
    parts = requests if apart else [b"".join(requests)]
    said, got = await both.both(*parts, wanted=len(by))
    assert "".join("L" if one.lane else "A" for one in said) == by
    assert len(got) == sum(one.status == 200 and b"chat.completion" in one.body for one in said)


async def test_what_follows_a_last_request_is_not_served(both: Doors) -> None:
    for parts in ([ask(CLOSE) + ask()], [ask(CLOSE), ask()]):
        both.provider.requests.clear()
        said = await both.say(both.plain, *parts)
        assert [(one.status, one.lane) for one in said] == [(200, True)]
        assert len(both.provider.requests) == 1


@pytest.mark.parametrize(
    ("size", "lane"), [(MIB - 1, True), (MIB, True), (MIB + 1, False), (3 * MIB, False)]
)
async def test_a_large_body_passes_whole(both: Doors, size: int, lane: bool) -> None:
    rest = size - len(json.dumps({**ASK, "user": ""}))
    body = json.dumps({**ASK, "user": "u" * rest}).encode()
    assert len(body) == size
    said, got = await both.both(ask(body=body), wanted=1)
    assert [(one.status, one.lane) for one in said] == [(200, lane)]
    assert len(got) == 1
    assert b'"user": "' + b"u" * rest in got[0][1]


async def test_a_body_beyond_the_limit_is_refused_with_a_receipt(tmp_path: Path) -> None:
    async with doors(tmp_path, server={"max_body_mib": 1}) as both:
        body = BODY + b" " * (MIB + 1 - len(BODY))
        said, got = await both.both(ask(CLOSE, body=body), wanted=1)
        assert [(one.status, one.lane) for one in said] == [(413, False)]
        assert got == []
        assert len(await both.sidecar.receipts()) == 2
        said, _ = await both.both(ask(CLOSE, body=body[:MIB]), wanted=1)
        assert [(one.status, one.lane) for one in said] == [(200, True)]


def stream(*events: bytes, end: bytes = b"data: [DONE]\n\n") -> bytes:
    chunk = {**CHAT, "object": "chat.completion.chunk"}
    chunk["choices"] = [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}]
    lines = [b"data: " + json.dumps(chunk).encode() + b"\n\n"] * 3
    data = b"".join([*lines, *events, end])
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + data


LARGE = json.dumps({**CHAT, "more": "m" * (9 * MIB)}).encode()
ANSWERS: dict[str, tuple[bytes, bool, int, bool]] = {
    "a whole one": (whole(CHAT), False, 200, True),
    "a large one": (whole(LARGE), False, 200, True),
    "a large one that is cut": (whole(LARGE)[: 9 * MIB], True, 200, False),
    "a refusal": (
        whole({"error": {}}, status="429 No", headers=b"retry-after: 3\r\n"), False, 429, True,
    ),
    "an unknown status": (whole({"error": {}}, status="499 Odd"), False, 499, True),
    "204": (b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", False, 204, True),
    "205": (b"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n", False, 205, True),
    "a redirect": (
        b"HTTP/1.1 302 No\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", False, 502, True,
    ),
    "nothing": (b"", True, 502, True),
    "no HTTP": (b"hello\r\n\r\n", True, 502, True),
    "headers of all sorts": (
        b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nX-Twice: 1\r\nX-Twice: 2\r\nSet-Cookie: a=b\r\n"
        b"X-Empty:\r\nX-Odd: a\x01b\r\nX-Latin: \xe9\r\nConnection: x-hop\r\nX-Hop: 1\r\n"
        b"X-Folded: a\r\n b\r\nContent-Length : 2\r\n\r\n{}",
        False, 200, True,
    ),
}  # fmt: skip
"""What the provider says, whether it closes then, the status for the client, and whether whole."""

STREAMS: dict[str, tuple[bytes, bool]] = {
    "a whole one": (stream(), True),
    "one without its end": (stream(end=b""), False),
    "one with an error": (stream(b'data: {"error":{"message":"no"}}\n\n', end=b""), True),
    "one without events": (stream().partition(b"data:")[0], False),
}


@pytest.mark.parametrize("what", ANSWERS)
async def test_an_answer_is_the_same_through_both(both: Doors, what: str) -> None:
    both.provider.answer, both.provider.ends, status, is_whole = ANSWERS[what]
    said, _ = await both.both(ask(CLOSE), wanted=1)
    assert [(one.status, one.whole, one.lane) for one in said] == [(status, is_whole, True)]
    assert is_whole or LARGE.startswith(said[0].body)


@pytest.mark.parametrize("what", STREAMS)
async def test_a_stream_is_the_same_through_both(both: Doors, what: str) -> None:
    both.provider.answer, is_whole = STREAMS[what]
    both.provider.ends = True
    body = json.dumps({**ASK, "stream": True}).encode()
    said, _ = await both.both(ask(CLOSE, body=body), wanted=1)
    assert [(one.status, one.whole, one.lane) for one in said] == [(200, is_whole, True)]
    assert said[0].body


async def test_a_tenants_key_is_asked_for_at_both(tmp_path: Path) -> None:
    tenants = {"acme": {"keys": ["ACME_KEY"]}}
    async with doors(tmp_path, env={"ACME_KEY": "sk-acme"}, tenants=tenants) as both:
        for request, status in (
            (ask(), 401),
            (ask(b"Authorization: Bearer sk-acme"), 200),
            (ask(target=b"/v1/chat/completions?key=sk-acme"), 200),
            (ask(b"x-api-key: wrong", target=b"/v1/messages"), 401),
        ):
            said, got = await both.both(request, wanted=1)
            assert [(one.status, one.lane) for one in said] == [(status, True)]
            assert not any(b"sk-acme" in head for head, _ in got)


async def test_each_call_through_the_lane_has_its_receipt(both: Doors) -> None:
    said: list[Said] = []
    for request, _ in PLAIN.values():
        said += await both.say(both.plain, request, wanted=1)
    named = {one.receipt for one in said if one.status not in (401, 403, 421)}
    assert "" not in named
    assert named == {one.receipt_id for one in await both.sidecar.receipts()}


async def test_a_caller_that_was_let_in_is_looked_at_anew_when_the_settings_change(
    both: Doors,
) -> None:
    """The same head, byte for byte: what it may do is what holds now."""
    mine = ask(b"authorization: Bearer sk-tenant")
    live = both.sidecar.app[LIVE]
    assert [one.status for one in await both.say(both.plain, mine, mine, wanted=2)] == [200] * 2
    keys = {"KEY_OF_T": "sk-other"}
    callers = Callers({"t": Tenant(keys=("KEY_OF_T",))}, keys, b"k" * 32, Runs())
    live.assembly = Assembly(live.gateway, callers)
    assert [one.status for one in await both.say(both.plain, mine, wanted=1)] == [401]


async def test_the_key_of_a_run_lets_nobody_in_after_its_end(both: Doors) -> None:
    runs = both.sidecar.app[LIVE].callers.runs
    run, key = runs.open(1, None, None, {})
    by_run = ask(b"authorization: Bearer " + key.encode())
    assert [one.status for one in await both.say(both.plain, by_run, by_run, wanted=2)] == [200] * 2
    runs.close(run.run_id)
    assert [one.status for one in await both.say(both.plain, by_run, wanted=1)] == [401]
