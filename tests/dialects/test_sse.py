"""Framing of server-sent events, against a plain reading of the WHATWG grammar."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspend.dialects.sse import MAX_EVENT, Piece, SseSplitter, event, parse_event

FIELDS = [b"data: ", b"data:", b"data", b"event: x", b"event:", b":", b": note", b"id: 1"]
ENDS = [b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n"]
TEXTS = [
    b"a",
    b'{"a":1}',
    b" ",
    b"[DONE]",
    "…".encode(),
    "\u2028".encode(),
    b"\x85",
    b"\xff",
    b"\0",
]
FRAGMENTS = st.sampled_from([*FIELDS, *ENDS, *TEXTS, b"\xef\xbb\xbf"])
STREAMS = st.lists(FRAGMENTS, max_size=40).map(b"".join)


def reference(stream: bytes) -> list[tuple[bytes, bytes]]:
    """(name, data) of each dispatched event, read byte by byte as the grammar says."""
    lines: list[bytes] = []
    line = bytearray()
    stream = stream.removeprefix(b"\xef\xbb\xbf")
    at = 0
    while at < len(stream):
        byte = stream[at]
        at += 1
        if byte in (10, 13):
            if byte == 13 and stream[at : at + 1] == b"\n":
                at += 1
            lines.append(bytes(line))
            line.clear()
        else:
            line.append(byte)
    events, name, data = [], b"", None
    for text in lines:
        if not text:
            if data is not None:
                events.append((name, data))
            name, data = b"", None
            continue
        field, colon, value = text.partition(b":")
        value = value[1:] if colon and value.startswith(b" ") else value
        if field == b"data":
            data = value if data is None else data + b"\n" + value
        elif field == b"event":
            name = value
    return events


def split(*chunks: bytes) -> tuple[list[bytes], bytes]:
    splitter = SseSplitter()
    found = [item for chunk in chunks for item in splitter.feed(chunk)]
    assert all(isinstance(item, bytes) for item in found)
    return found, splitter.close()  # type: ignore[return-value]


def dispatched(items: list[bytes]) -> list[tuple[bytes, bytes]]:
    return [(name, data) for name, data in map(parse_event, items) if data is not None]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


@given(STREAMS)
@settings(max_examples=600, deadline=None)
def test_any_bytes_are_read_as_the_grammar_reads_them(stream: bytes) -> None:
    items, rest = split(stream)
    complete = reference(stream)
    last_cr_unsure = rest.endswith(b"\r") and parse_event(rest)[1] is not None
    found = dispatched(items)
    if last_cr_unsure and len(found) < len(complete):
        found += dispatched([rest])  # its blank line is a CR that may yet become a CRLF
    assert found == complete
    assert b"".join(items) + rest == stream


@given(STREAMS, st.lists(st.integers(0, 400), max_size=6))
@settings(max_examples=600, deadline=None)
def test_cuts_between_chunks_change_nothing(stream: bytes, places: list[int]) -> None:
    assert split(*cut(stream, places)) == split(stream)


def test_single_bytes_give_the_same_events_as_one_chunk() -> None:
    stream = (
        "\ufeff: hi\r\n\r\ndata: a…\u2028b\r\rdata:1\ndata:2\r\n\nevent: e\rdata: x\n\r\n".encode()
    )
    one_by_one = [stream[n : n + 1] for n in range(len(stream))]
    assert split(*one_by_one) == split(stream)
    assert dispatched(split(stream)[0]) == [
        (b"", "a…\u2028b".encode()),
        (b"", b"1\n2"),
        (b"e", b"x"),
    ]


def test_cr_at_the_end_of_a_chunk_waits_for_its_line_feed() -> None:
    splitter = SseSplitter()
    assert splitter.feed(b"data: 1\r\n\r") == []
    assert splitter.feed(b"\ndata: 2\r\n\r\n") == [b"data: 1\r\n\r\n", b"data: 2\r\n\r\n"]


@pytest.mark.parametrize(
    "raw",
    [
        b"data: a\ndata: b\r\n\r\n",
        b"event: x\ndata: a\r\n\r\n",
        b"data: a\rdata: b\n\n",
        b"event: x\r\ndata: a\nid: 1\r\n\r\n",
        b"data:a\r\n\n",
        b"event:x\ndata\n\n",
    ],
)
def test_mixed_line_ends_inside_one_event_are_read_as_the_grammar_reads_them(raw: bytes) -> None:
    assert [parse_event(raw)] == reference(raw)


def test_byte_order_mark_is_skipped_only_at_the_start() -> None:
    items, _ = split(b"\xef", b"\xbb\xbfdata: 1\n\n\xef\xbb\xbfdata: 2\n\n")
    assert dispatched(items) == [(b"", b"1")]


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_event_above_the_bound_passes_in_pieces_and_the_next_is_read(end: bytes) -> None:
    big = b"data: " + b"x" * (MAX_EVENT + 300_000) + end
    after = b"data: after" + end
    splitter = SseSplitter()
    items: list[bytes | Piece] = []
    most = 0
    stream = big + after + b"."
    for at in range(0, len(stream), 65_521):
        items += splitter.feed(stream[at : at + 65_521])
        most = max(most, len(splitter._rest))
    pieces = [item for item in items if isinstance(item, Piece)]
    assert b"".join(piece.raw for piece in pieces) == big
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].head.startswith(b"data: x")
    assert pieces[-1].tail.endswith(b"x" + end)
    assert items[len(pieces) :] == [after]
    assert most <= MAX_EVENT


def test_event_at_the_bound_is_still_read_whole() -> None:
    raw = b"data: " + b"x" * (MAX_EVENT - 8) + b"\n\n"
    splitter = SseSplitter()
    assert splitter.feed(raw[:-1]) + splitter.feed(raw[-1:]) == [raw]


def test_written_event_is_read_back() -> None:
    assert parse_event(event(b'{"a":1}', "ping")) == (b"ping", b'{"a":1}')
    assert parse_event(event(b"[DONE]")) == (b"", b"[DONE]")
