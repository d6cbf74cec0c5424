"""Every row of the table does what it says, in every dialect, streamed and not.

`CLAIMS` holds one check for each row; a row without one fails the first test.
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable
from hashlib import sha256

import pytest

from modelspend.simulator import BEHAVIOURS, Simulator
from tests.simulator.ask import CHATS, Got, ask, ask_raw, tools

Check = Callable[[Got, dict], None]


def well(got: Got, line: dict) -> None:
    assert (got.status, got.broke, got.whole) == (200, "", True)
    assert line["outcome"] == "complete"
    assert got.text
    assert line["charged"] == line["usage"]


def broken(how: str) -> Check:
    def check(got: Got, line: dict) -> None:
        assert got.broke == how
        assert line["outcome"] == "cut"
        assert not got.whole if got.body else True

    return check


def told(status: int) -> Check:
    def check(got: Got, line: dict) -> None:
        assert got.status == status
        assert json.loads(got.body)["error"]["message"]
        assert (line["outcome"], line["status"], line["charged"]) == ("error", status, {})

    return check


def said(text: str) -> Check:
    def check(got: Got, line: dict) -> None:
        well(got, line)
        assert got.text == text

    return check


def finished(*words: str) -> Check:
    def check(got: Got, line: dict) -> None:
        assert got.status == 200
        assert any(f'"{word}"'.encode() in got.body for word in words)

    return check


def header(name: str, value: str) -> Check:
    def check(got: Got, line: dict) -> None:
        assert value in got.headers.getall(name)

    return check


def numbers_are(test: Callable[[object], bool]) -> Check:
    def check(got: Got, line: dict) -> None:
        assert got.usages
        for usage in filter(None, got.usages):
            counts = [v for k, v in usage.items() if re.search("(?i)tokens?(count)?$", k)]
            assert counts
            assert all(map(test, counts))
        assert all(isinstance(v, int) and v > 0 for v in line["charged"].values())

    return check


def _foreign(got: Got, line: dict) -> None:
    well(got, line)
    assert "世界" in got.text
    assert "🙂" in got.text


def _line_ends(got: Got, line: dict) -> None:
    well(got, line)
    for mark in ("\u2028", "\u2029", "\x0b", "\x1c", "\x85", "\r\n", "\r"):
        assert mark in got.text


def _nothing(got: Got, line: dict) -> None:
    assert got.whole
    assert got.text == ""


def _tools(count: int) -> Check:
    def check(got: Got, line: dict) -> None:
        assert got.status == 200
        names = re.findall(rb'"name": ?"get_weather"', got.body)
        assert len(names) >= count

    return check


def _reasons(tokens: int) -> Check:
    def check(got: Got, line: dict) -> None:
        well(got, line)
        assert line["usage"]["reasoning_tokens"] == tokens
        if got.dialect != "anthropic.messages":  # which does not report them apart
            assert any(str(tokens) in json.dumps(usage) for usage in got.usages)

    return check


def _chunks(got: Got, line: dict) -> None:
    well(got, line)
    assert len(got.text.split()) == 5


def _size(got: Got, line: dict) -> None:
    well(got, line)
    assert len(got.text) == 64 * 1024


def _one_event(got: Got, line: dict) -> None:
    _size(got, line)
    assert max(map(len, got.datas or [got.body])) >= 64 * 1024


def _used(**buckets: int) -> Check:
    def check(got: Got, line: dict) -> None:
        well(got, line)
        for bucket, count in buckets.items():
            assert line["charged"][bucket] == count

    return check


def _no_usage(got: Got, line: dict) -> None:
    well(got, line)
    assert not [usage for usage in got.usages if usage is not None]


def _null_usage(got: Got, line: dict) -> None:
    well(got, line)
    assert got.usages
    assert not any(got.usages)


def _twice(got: Got, line: dict) -> None:
    well(got, line)
    if got.stream:
        told = [json.dumps(usage) for usage in got.usages if usage]
        assert len(set(told)) > 1


def _early(got: Got, line: dict) -> None:
    well(got, line)
    if got.stream:
        first = Got(got.dialect, True, body=got.line.partition(b"\n\n")[0] + b"\n\n")
        assert str(line["usage"]["output_tokens"]) in json.dumps(first.usages)
        assert len([usage for usage in got.usages if usage]) == 1


def _nan(got: Got, line: dict) -> None:
    assert b"NaN" in got.body
    assert got.text


def _no_option(got: Got, line: dict) -> None:
    if got.dialect == "openai.chat" and got.stream:
        told(400)(got, line)
        assert json.loads(got.body)["error"]["param"] == "stream_options"
    else:
        well(got, line)


def _html(got: Got, line: dict) -> None:
    assert got.status == 500
    assert got.headers["content-type"] == "text/html"
    assert line["outcome"] == "error"


def _error_inside(got: Got, line: dict) -> None:
    assert got.status == 200
    assert got.broke == ""
    assert got.error["message"]
    assert not got.stream or not got.whole
    assert line["outcome"] == "error"


def _first(got: Got, line: dict) -> None:
    _error_inside(got, line)
    assert len(got.documents) == 1
    assert line["charged"] == {}


def _after_five(got: Got, line: dict) -> None:
    _error_inside(got, line)
    if got.stream:
        assert len(got.documents) == 6


def _failed(got: Got, line: dict) -> None:
    _after_five(got, line)
    if got.stream and got.dialect == "openai.responses":
        assert got.documents[-1]["type"] == "response.failed"


def _cut_at_five(got: Got, line: dict) -> None:
    broken("incomplete")(got, line)
    if got.stream:
        assert len(got.datas) == 5
        assert 0 < line["charged"]["output_tokens"] < line["usage"]["output_tokens"]


def _no_done(got: Got, line: dict) -> None:
    assert (got.broke, got.status) == ("", 200)
    assert not got.whole
    assert line["outcome"] == "cut"


def _close_idle(got: Got, line: dict) -> None:
    well(got, line)
    assert "close" not in got.headers.get("connection", "")


def _framed(mark: bytes) -> Check:
    def check(got: Got, line: dict) -> None:
        well(got, line)
        assert not got.stream or mark in got.body

    return check


def _cr(got: Got, line: dict) -> None:
    well(got, line)
    assert not got.stream or b"\n" not in got.body


def _bom(got: Got, line: dict) -> None:
    assert got.body.startswith(b"\xef\xbb\xbf")
    assert line["outcome"] == "complete"


def _multiline(got: Got, line: dict) -> None:
    well(got, line)
    if got.stream:
        assert all(block.count(b"data:") <= 2 for block in got.line.split(b"\n\n"))
        assert b"data: {\ndata: " in got.line


def _unfinished(got: Got, line: dict) -> None:
    if got.stream:
        assert not got.body.endswith(b"\n")
        got.body += b"\n\n"
        assert got.whole


def _chunked(got: Got, line: dict) -> None:
    well(got, line)
    assert "content-length" not in got.headers


def _packed(unpack: Callable[[bytes], bytes]) -> Check:
    def check(got: Got, line: dict) -> None:
        got.body = unpack(got.body)
        well(got, line)

    return check


def _bomb(size: int) -> Check:
    def check(got: Got, line: dict) -> None:
        assert got.headers["content-encoding"] == "gzip"
        assert len(got.body) < size / 40
        assert len(gzip.decompress(got.body)) > size

    return check


def _redirect(got: Got, line: dict) -> None:
    assert (got.status, got.headers["location"]) == (307, "/redirected")


def _evil(got: Got, line: dict) -> None:
    well(got, line)
    for name in ("set-cookie", "alt-svc", "x-hop", "x-modelspend-receipt", "connection"):
        assert name in got.headers


CLAIMS: dict[str, Check] = {
    "ok": well,
    "echo": said("Hello"),
    "reason": _reasons(64),
    "reason-N": _reasons(5),
    "tools": _tools(1),
    "tools-N": _tools(5),
    "chunks-N": _chunks,
    "size-SIZE": _size,
    "huge-event-SIZE": _one_event,
    "unicode": _foreign,
    "line-ends": _line_ends,
    "empty": _nothing,
    "finish-length": finished("length", "incomplete", "max_tokens", "MAX_TOKENS"),
    "finish-filter": finished("content_filter", "refusal", "SAFETY"),
    "finish-refusal": finished("content_filter", "refusal", "PROHIBITED_CONTENT", "completed"),
    "tier-WORD": finished("priority"),
    "batch": finished("batch"),
    "tokens-IN-OUT": _used(input_tokens=5, output_tokens=5),
    "cached-N": _used(cache_read_tokens=5),
    "write-N": _used(cache_write_5m_tokens=5),
    "write1h-N": _used(cache_write_1h_tokens=5),
    "search-N": _used(web_searches=5),
    "usage-missing": _no_usage,
    "usage-null": _null_usage,
    "usage-negative": numbers_are(lambda n: isinstance(n, int) and n < 0),
    "usage-huge": numbers_are(lambda n: n == 10**18),
    "usage-nan": _nan,
    "usage-string": numbers_are(lambda n: isinstance(n, str)),
    "usage-float": numbers_are(lambda n: isinstance(n, float)),
    "usage-twice": _twice,
    "usage-early": _early,
    "no-usage-option": _no_option,
    "delay-MS": well,
    "drip-MS": well,
    "pause-N-MS": well,
    "STATUS": told(500),
    "STATUS-retry-S": told(500),
    "STATUS-final": told(500),
    "quota": told(429),
    "html-STATUS": _html,
    "flap-N": well,
    "fail-first-N": told(503),
    "200-error-first": _first,
    "error-after-N": _after_five,
    "failed-after-N": _failed,
    "hangup": broken("disconnected"),
    "lost": broken("disconnected"),
    "reset": broken("reset"),
    "cut-N": _cut_at_five,
    "cut-bytes-N": broken("incomplete"),
    "no-done": _no_done,
    "close-idle": _close_idle,
    "crlf": _framed(b"\r\n\r\n"),
    "cr": _cr,
    "comments": _framed(b": keep-alive 1\n\n"),
    "multiline": _multiline,
    "unspaced": _framed(b"data:{"),
    "numbered": _framed(b"id: 1\nretry: 100\n"),
    "bom": _bom,
    "unfinished": _unfinished,
    "split-utf8": _foreign,
    "split-N": well,
    "chunked": _chunked,
    "gzip": _packed(gzip.decompress),
    "deflate": _packed(zlib.decompress),
    "bomb-SIZE": _bomb(64 * 1024),
    "wrong-content-type": header("content-type", "text/plain"),
    "no-content-type": header("content-type", "application/octet-stream"),
    "set-cookie": header("set-cookie", "sim=1; Path=/"),
    "redirect": _redirect,
    "evil-headers": _evil,
}

ELSEWHERE = {"stall-headers", "stall-N", "reset-N", "bomb"}
"""Rows that a client has to leave, or that are told apart only below HTTP, or are big."""


def test_every_row_of_the_table_is_checked() -> None:
    table = {row.pattern for row in BEHAVIOURS}
    raw = {pattern for pattern in table if pattern.startswith("raw-")}
    assert table == set(CLAIMS) | ELSEWHERE | raw
    assert raw == set(RAW)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
@pytest.mark.parametrize("pattern", CLAIMS)
async def test_a_behaviour_does_what_it_says(
    sim: Simulator, pattern: str, dialect: str, stream: bool
) -> None:
    row = next(row for row in BEHAVIOURS if row.pattern == pattern)
    more = tools(dialect) if "tools" in pattern else {}
    got = await ask(sim, dialect, row.example, stream=stream, **more)
    (line,) = sim.ended()
    if not got.broke:
        assert line["bytes_sent"] == len(got.body)
        assert line["sha256"] == sha256(got.body).hexdigest()
    CLAIMS[pattern](got, line)


RAW = {
    "raw-garbage": b"this is no HTTP answer",
    "raw-no-status": b'{"',
    "raw-odd-status": b"HTTP/1.1 99999 Odd\r\n",
    "raw-101": b"HTTP/1.1 101 Switching Protocols\r\n",
    "raw-early-hints": b"HTTP/1.1 103 Early Hints\r\n",
    "raw-1xx-flood": b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n" * 2,
    "raw-huge-header": b"X-Huge: " + b"x" * 100_000,
    "raw-many-headers": b"X-Many-19999: 1\r\n",
    "raw-endless-headers": b"X-Drip: 1\r\nX-Drip: 1\r\n",
    "raw-split-header": b"a\rX-Smuggled: yes\x00\r\n",
    "raw-two-lengths": b"Content-Length: ",
    "raw-length-and-chunks": b"Transfer-Encoding: chunked\r\n",
    "raw-short-length": b"Content-Length: ",
    "raw-long-length": b"Content-Length: ",
    "raw-negative-length": b"Content-Length: -1\r\n",
    "raw-bad-chunk": b"\r\nzz\r\n",
    "raw-huge-chunk": b"f" * 40,
    "raw-trailers": b"0\r\nSet-Cookie: late=1\r\n",
    "raw-endless-body": b"x" * 1_000_000,
    "raw-unread-end": b"\r\n\r\n{",
}


@pytest.mark.parametrize("pattern", RAW)
async def test_broken_http_comes_as_it_was_named(sim: Simulator, pattern: str) -> None:
    seen, _ = await ask_raw(sim, "openai.chat", f"sim-{pattern}", until=RAW[pattern])
    assert RAW[pattern] in seen
    (line,) = sim.ended()
    assert line["charged"]["input_tokens"] > 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_reset_in_the_middle_is_a_reset_and_a_cut_is_an_end(
    sim: Simulator, stream: bool
) -> None:
    _, how = await ask_raw(sim, "openai.chat", "sim-reset-5", stream=stream)
    assert how == "reset"
    _, how = await ask_raw(sim, "openai.chat", "sim-cut-5", stream=stream)
    assert how == "eof"


async def test_a_bomb_is_small_on_the_wire_and_big_within(sim: Simulator) -> None:
    got = await ask(sim, "openai.chat", "sim-bomb")
    assert len(got.body) < 2**20
    unpack = zlib.decompressobj(wbits=31)
    size = 0
    data = got.body
    while data:
        size += len(unpack.decompress(data, 2**20))
        data = unpack.unconsumed_tail
    assert size > 256 * 2**20


@pytest.mark.parametrize("dialect", CHATS)
async def test_behaviours_join_in_any_order(sim: Simulator, dialect: str) -> None:
    one = await ask(sim, dialect, "sim-crlf+cut-3", stream=True)
    other = await ask(sim, dialect, "sim-cut-3+crlf", stream=True)
    for got in (one, other):
        assert got.broke == "incomplete"
        assert len(got.datas) == 3
        assert b"\r\n\r\n" in got.body


@pytest.mark.parametrize("dialect", CHATS)
async def test_an_unknown_behaviour_is_an_unknown_model(sim: Simulator, dialect: str) -> None:
    got = await ask(sim, dialect, "sim-ok+wobble-7")
    assert got.status == 404
    assert "wobble-7" in got.error["message"]


async def test_flapping_counts_the_calls_of_each_model(sim: Simulator) -> None:
    seen = [(await ask(sim, "openai.chat", "sim-flap-2")).status for _ in range(6)]
    assert seen == [200, 200, 503, 503, 200, 200]
    first = [(await ask(sim, "openai.chat", "sim-fail-first-2")).status for _ in range(3)]
    assert first == [503, 503, 200]


async def test_a_huge_answer_is_never_held(sim: Simulator) -> None:
    got = await ask(sim, "openai.chat", "sim-huge-event-8m", stream=True)
    assert len(got.text) == 8 * 2**20
    assert len(sim.ended()[0]["usage"]) == 2
