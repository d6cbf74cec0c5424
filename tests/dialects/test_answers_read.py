"""Anthropic's and Gemini's answers read: usage, stops, failures, and both framings of Gemini."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspend import chat
from modelspend.catalog import known_providers
from modelspend.catalog.usage import read
from modelspend.dialects import CHAT_DIALECTS
from modelspend.dialects.anthropic_answer import buckets as anthropic_buckets
from modelspend.dialects.gemini_answer import buckets as gemini_buckets
from modelspend.dialects.sse import MAX_EVENT
from tests.dialects.recorded import DATA, FILES, Row, read_stream

Traffic = Callable[[str], tuple[Row, ...]]
ANTHROPIC = CHAT_DIALECTS["anthropic.messages"]
GEMINI = CHAT_DIALECTS["gemini.generate"]
BUCKETS = {"anthropic": anthropic_buckets, "gemini": gemini_buckets}
RULES = {
    "anthropic": known_providers()["anthropic"].usage["anthropic.messages"],
    "gemini": known_providers()["google"].usage["gemini.generate"],
}


def decoded(name: str, *chunks: bytes) -> list[chat.StreamEvent]:
    decoder = CHAT_DIALECTS[name].decoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)] + [*decoder.close()]


@pytest.mark.parametrize("file", BUCKETS)
def test_usage_is_read_as_the_catalog_bills_it(file: str, traffic: Traffic) -> None:
    """Two readings of the same object, one for the client and one for the receipt."""
    seen = 0
    for row in traffic(file):
        if row.stream:
            raw = read_stream(row.dialect, row.answer).note.usage
        else:
            raw = row.dialect.note(row.answer).usage
        if raw is None or raw.get("iterations"):
            continue  # rounds of other models are billed, and in no total that a client is told
        billed = read(RULES[file], raw)
        expected = dict(billed.quantities)
        if billed.reasoning_tokens:
            expected["reasoning_tokens"] = billed.reasoning_tokens
        assert BUCKETS[file](raw) == expected, row
        seen += 1
    assert seen > 150


def test_usage_objects_of_another_library_are_read_as_the_catalog_bills_them(
    traffic: Traffic,
) -> None:
    seen = {"anthropic": 0, "gemini": 0}
    lines = (DATA.parent / "usage_price" / "usages_half.jsonl").read_text().splitlines()
    for raw in (raw for line in lines for raw in usages(orjson.loads(line))):
        file = "gemini" if "promptTokenCount" in raw else "anthropic"
        billed = read(RULES[file], raw)
        expected = dict(billed.quantities)
        if billed.reasoning_tokens:
            expected["reasoning_tokens"] = billed.reasoning_tokens
        assert BUCKETS[file](raw) == expected, raw
        seen[file] += 1
    assert min(seen.values()) > 100


def usages(value: Any) -> Iterator[dict[str, Any]]:
    """The usage objects of the two vendors, wherever they stand."""
    if isinstance(value, dict):
        messages = {"input_tokens", "cache_read_input_tokens"} <= value.keys()
        if "promptTokenCount" in value or (messages and "iterations" not in value):
            yield value
            return
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from usages(inner)


@pytest.mark.parametrize("file", BUCKETS)
def test_usage_that_is_written_is_read_again(file: str, traffic: Traffic) -> None:
    """What another vendor's answer tells keeps its totals through this dialect's own words."""
    dialect = CHAT_DIALECTS[FILES[file]]
    for row in traffic(file):
        if row.stream or row.status >= 400:
            continue
        answer = dialect.decode_answer(row.answer)
        again = dialect.decode_answer(dialect.encode_answer(answer))
        assert again.usage == answer.usage, row


def message(**fields: Any) -> bytes:
    told = {"type": "message", "id": "m1", "model": "c", "content": [], "usage": {}}
    return orjson.dumps(told | fields)


@pytest.mark.parametrize(
    ("told", "stop"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("something_new", "other"),
        (5, "other"),
        (None, None),
    ],
)
def test_anthropics_stops(told: Any, stop: Any) -> None:
    assert ANTHROPIC.decode_answer(message(stop_reason=told)).stop == stop


GEMINI_STOPS: list[tuple[Any, str]] = [
    ("STOP", "stop"),
    (1, "stop"),
    ("MAX_TOKENS", "length"),
    (2, "length"),
    ("SAFETY", "content_filter"),
    ("RECITATION", "content_filter"),
    ("SPII", "content_filter"),
    ("MODEL_ARMOR", "content_filter"),
    ("PROHIBITED_CONTENT", "refusal"),
    ("MALFORMED_FUNCTION_CALL", "other"),
    ("SOMETHING_NEW", "other"),
    (17, "other"),
]


@pytest.mark.parametrize(("told", "stop"), GEMINI_STOPS)
def test_geminis_stops_whole_and_streamed(told: Any, stop: str) -> None:
    said = {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": told}]}
    assert GEMINI.decode_answer(orjson.dumps(said)).stop == stop
    events = decoded("gemini.generate", b"data: %b\n\n" % orjson.dumps(said))
    assert chat.fold(events).stop == stop
    assert events[-1] == chat.Ended()


@pytest.mark.parametrize(
    ("reason", "stop"),
    [("SAFETY", "content_filter"), ("OTHER", "content_filter"), ("JAILBREAK", "refusal")],
)
def test_a_blocked_prompt_is_an_answer_that_was_filtered(reason: str, stop: str) -> None:
    said = orjson.dumps(
        {"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 5}}
    )
    answer = GEMINI.decode_answer(said)
    assert (answer.parts, answer.stop, answer.usage) == ((), stop, {"input_tokens": 5})
    events = decoded("gemini.generate", b"data: %b\n\n" % said)
    assert events[-2:] == [chat.Stopped(stop, {"input_tokens": 5}), chat.Ended()]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("anthropic.messages", b"not json"),
        ("anthropic.messages", b"[]"),
        ("anthropic.messages", b'{"type":"error","error":{"type":"x","message":"y"}}'),
        ("anthropic.messages", message(content="hi")),
        ("anthropic.messages", message(content=[{"type": "tool_result", "content": 5}])),
        ("gemini.generate", b"not json"),
        ("gemini.generate", b"[]"),
        ("gemini.generate", b"[5]"),
        ("gemini.generate", b'{"usageMetadata":{}}'),
        ("gemini.generate", b'{"error":{"code":400,"message":"x","status":"INVALID_ARGUMENT"}}'),
        ("gemini.generate", b'[{"error":{"code":400,"message":"x"}}]'),
    ],
)
def test_what_is_no_answer_is_never_read_as_one(name: str, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        CHAT_DIALECTS[name].decode_answer(body)


def test_thinking_keeps_its_seal_and_says_whose_it_is() -> None:
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s1"},
        {"type": "redacted_thinking", "data": "s2"},
        {"type": "thinking", "thinking": "", "signature": "s3"},
        {"type": "text", "text": ""},
        {"type": "web_search_tool_result", "content": []},
    ]
    answer = ANTHROPIC.decode_answer(message(content=content))
    assert [type(part).__name__ for part in answer.parts] == ["Reasoning"] * 3 + ["Opaque"]
    again = orjson.loads(ANTHROPIC.encode_answer(answer))
    assert again["content"] == [*content[:3], content[4]]


def sse(events: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in events)


START = {"type": "message_start", "message": {"id": "m", "model": "c", "usage": {}}}


def test_blocks_without_neutral_words_leave_no_hole_in_the_numbers_and_are_named() -> None:
    stream = sse(
        [
            START,
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "server_tool_use", "name": "web_search"},
            },
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": '{"q'},
            },
            {"type": "content_block_stop", "index": 0},
            {
                "type": "content_block_start",
                "index": 1,
                "content_block": {"type": "text", "text": ""},
            },
            {
                "type": "content_block_delta",
                "index": 1,
                "delta": {"type": "text_delta", "text": "hi"},
            },
            {"type": "content_block_stop", "index": 1},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}},
            {"type": "message_stop"},
        ]
    )
    decoder: Any = ANTHROPIC.decoder()
    events = decoder.feed(stream)
    assert events == [
        chat.Started(answer_id="m", model="c"),
        chat.TextDelta(0, "hi"),
        chat.PartEnded(0),
        chat.Stopped("stop"),
        chat.Ended(),
    ]
    assert list(decoder.dropped) == ["server_tool_use"]


def test_parallel_calls_keep_their_fragments_apart() -> None:
    def start(index: int, name: str) -> dict[str, Any]:
        block = {"type": "tool_use", "id": f"t{index}", "name": name, "input": {}}
        return {"type": "content_block_start", "index": index, "content_block": block}

    def fragment(index: int, text: str) -> dict[str, Any]:
        delta = {"type": "input_json_delta", "partial_json": text}
        return {"type": "content_block_delta", "index": index, "delta": delta}

    stream = sse(
        [
            START,
            start(0, "a"),
            start(1, "b"),
            fragment(1, '{"y'),
            fragment(0, ""),
            fragment(0, '{"x":'),
            fragment(1, '":2}'),
            fragment(0, "1}"),
            {"type": "content_block_stop", "index": 0},
            {"type": "content_block_stop", "index": 1},
            start(2, "c"),
            {"type": "content_block_stop", "index": 2},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {}},
            {"type": "message_stop"},
        ]
    )
    answer = chat.fold(decoded("anthropic.messages", stream))
    assert answer.parts == (
        chat.ToolCall(call_id="t0", name="a", arguments='{"x":1}'),
        chat.ToolCall(call_id="t1", name="b", arguments='{"y":2}'),
        chat.ToolCall(call_id="t2", name="c", arguments="{}"),
    )


@pytest.mark.parametrize(
    ("name", "events", "kind"),
    [
        (
            "anthropic.messages",
            [
                START,
                {"type": "error", "error": {"type": "overloaded_error", "message": "Full."}},
                {"type": "message_stop"},
            ],
            "overloaded_error",
        ),
        (
            "gemini.generate",
            [
                {"candidates": [{"content": {"parts": [{"text": "a"}]}}]},
                {"error": {"code": 503, "message": "Full.", "status": "UNAVAILABLE"}},
                {"candidates": [{"finishReason": "STOP"}]},
            ],
            "UNAVAILABLE",
        ),
    ],
)
def test_an_error_within_a_stream_ends_it_badly(name: str, events: Any, kind: str) -> None:
    told = decoded(name, sse(events))
    assert told[-1] == chat.Failed(kind, "Full.")
    assert chat.Ended() not in told


def test_an_event_too_big_to_be_read_is_a_failure_however_it_is_cut() -> None:
    big = b'data: {"type":"ping","x":"%b"}\n\n' % (b"x" * MAX_EVENT)
    for chunks in ([big], [big[: MAX_EVENT // 2], big[MAX_EVENT // 2 :]]):
        (told,) = decoded("anthropic.messages", *chunks)
        assert isinstance(told, chat.Failed)


ARRAY = [
    {"candidates": [{"content": {"parts": [{"text": "a]b"}]}}], "responseId": "r"},
    {
        "candidates": [
            {
                "content": {"parts": [{"functionCall": {"name": "f", "args": {"x": [1]}}}]},
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2},
    },
]


def test_both_framings_of_gemini_say_the_same_and_an_array_ends_with_its_bracket() -> None:
    array = b" \n" + orjson.dumps(ARRAY, option=orjson.OPT_INDENT_2)
    events = decoded("gemini.generate", sse(ARRAY))
    assert events == [
        chat.Started(answer_id="r", model=""),
        chat.TextDelta(0, "a]b"),
        chat.PartEnded(0),
        chat.ToolCallStarted(1, "", "f"),
        chat.ArgumentsDelta(1, '{"x":[1]}'),
        chat.PartEnded(1),
        chat.Stopped("tool_calls", {"input_tokens": 3, "output_tokens": 2}),
        chat.Ended(),
    ]
    for at in range(len(array)):
        assert decoded("gemini.generate", array[:at], array[at:]) == events
        assert chat.Ended() not in decoded("gemini.generate", array[:at])
    assert GEMINI.decode_answer(array) == chat.fold(events)


def test_what_follows_a_reason_to_finish_still_belongs_to_the_answer() -> None:
    """Older models tell a reason with every event, others their usage after it."""
    pieces = [
        {"candidates": [{"content": {"parts": [{"text": word}]}, "finishReason": "STOP"}]}
        for word in ("one ", "two")
    ]
    last = {"usageMetadata": {"promptTokenCount": 4}}
    answer = chat.fold(decoded("gemini.generate", sse([*pieces, last])))
    assert answer.parts == (chat.Text(text="one two"),)
    assert answer.usage == {"input_tokens": 4}


WORDS = st.text(min_size=1, max_size=9).filter(lambda text: text.isprintable())


@st.composite
def told(draw: st.DrawFn) -> list[chat.StreamEvent]:
    """Any answer that both dialects can say, in pieces."""
    events: list[chat.StreamEvent] = [chat.Started(answer_id="a", model="m")]
    kinds = draw(st.lists(st.sampled_from(["text", "thought", "call"]), max_size=5))
    for index, kind in enumerate(kinds):
        if index and kind == kinds[index - 1] != "call":
            kind = "call"  # two texts in a row are one in a stream
        kinds[index] = kind
        if kind == "text":
            events += [chat.TextDelta(index, word) for word in draw(st.lists(WORDS, min_size=1))]
        elif kind == "thought":
            events += [chat.ReasoningDelta(index, draw(WORDS)), chat.PartEnded(index)]
            continue
        else:
            arguments = orjson.dumps(draw(st.dictionaries(WORDS, st.integers(0, 9)))).decode()
            at = draw(st.integers(0, len(arguments)))
            events.append(chat.ToolCallStarted(index, f"c{index}", "f"))
            pieces = [arguments[:at], arguments[at:]]
            events += [chat.ArgumentsDelta(index, piece) for piece in pieces if piece]
        events.append(chat.PartEnded(index))
    stop: Any = "tool_calls" if "call" in kinds else draw(st.sampled_from(["stop", "length"]))
    return [*events, chat.Stopped(stop, {"input_tokens": 2, "output_tokens": 1}), chat.Ended()]


@settings(max_examples=150, deadline=None)
@given(events=told(), size=st.integers(1, 40), framing=st.sampled_from(["events", "array"]))
def test_a_written_answer_is_read_again_in_every_framing_and_cut(
    events: list[chat.StreamEvent], size: int, framing: Any
) -> None:
    for name in ("anthropic.messages", "gemini.generate"):
        dialect = CHAT_DIALECTS[name]
        query = "alt=sse" if framing == "events" else ""
        path = f"/v1beta/models/m:streamGenerateContent?{query}"
        view = dialect.read(path, b'{"model": "m"}')
        writer = dialect.writer(view)
        body = b"".join(piece for event in events for piece in writer.write([event]))
        if name.startswith("gemini") and framing == "array":
            assert isinstance(orjson.loads(body), list)
        chunks = [body[at : at + size] for at in range(0, len(body), size)]
        read_again = chat.fold(decoded(name, *chunks))
        expected = chat.fold(events)
        assert bare(read_again.parts) == bare(expected.parts)
        assert read_again.stop == expected.stop
        assert read_again.usage == expected.usage
        assert chat.Ended() not in decoded(name, body[: len(body) // 2])


def bare(parts: Iterable[chat.Part]) -> list[Any]:
    """What the parts say; an own name for whose thinking it is says nothing here."""
    found: list[Any] = []
    for part in parts:
        if isinstance(part, chat.ToolCall):
            found.append((part.call_id, part.name, orjson.loads(part.arguments)))
        elif isinstance(part, chat.Text | chat.Reasoning):
            found.append((type(part).__name__, part.text))
    return found


def test_every_candidate_must_have_its_reason_to_finish() -> None:
    def candidate(index: int, **fields: Any) -> dict[str, Any]:
        return {"index": index, "content": {"parts": [{"text": "a"}]}, **fields}

    first = {"candidates": [candidate(0, finishReason="STOP"), candidate(1)]}
    last = {"candidates": [candidate(1, finishReason="STOP")]}
    assert chat.Ended() not in decoded("gemini.generate", sse([first]))
    events = decoded("gemini.generate", sse([first, last]))
    assert events[-1] == chat.Ended()
    assert chat.fold(events).parts == (chat.Text(text="a"),)


def test_a_signature_in_pieces_is_whole_in_the_end() -> None:
    def delta(**fields: Any) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": 0, "delta": fields}

    block = {"type": "thinking", "thinking": "", "signature": ""}
    stream = sse(
        [
            START,
            {"type": "content_block_start", "index": 0, "content_block": block},
            delta(type="thinking_delta", thinking="hm"),
            delta(type="signature_delta", signature="ab"),
            delta(type="signature_delta", signature="cd"),
            {"type": "content_block_stop", "index": 0},
        ]
    )
    (thought,) = chat.fold(decoded("anthropic.messages", stream)).parts
    assert isinstance(thought, chat.Reasoning)
    assert (thought.text, thought.sealed) == ("hm", "abcd")


def state(decoder: Any) -> Any:
    """All that a decoder knows, as plain values."""
    known = dict(vars(decoder))
    splitter = known.pop("_splitter")
    return known | {"splitter": vars(splitter)}


def cut_every_event(row: Row) -> int:
    """Each event in two chunks, cut at each of its bytes, from the state before it.

    What comes out, and the state after it, must be those of a decoder that got it whole; so every
    cut of the stream in two says what the whole says, without decoding it anew for each.
    """
    decoder: Any = CHAT_DIALECTS[FILES[row.file]].decoder()
    end = b"\r\n\r\n" if b"\r\n\r\n" in row.answer else b"\n\n"
    for piece in (part + end for part in row.answer.split(end) if part):
        before = copy.deepcopy(decoder)
        expected = list(decoder.feed(piece))
        for at in range(1, len(piece)):
            cut = copy.deepcopy(before)
            assert [*cut.feed(piece[:at]), *cut.feed(piece[at:])] == expected, (row, at)
            assert state(cut) == state(decoder), (row, at)
    return len(row.answer)


@pytest.mark.full
@pytest.mark.timeout(0)
@pytest.mark.parametrize("file", BUCKETS)
def test_streams_cut_at_every_byte_say_the_same(file: str, traffic: Traffic) -> None:
    cuts = sum(cut_every_event(row) for row in traffic(file) if row.stream)
    assert cuts > 10_000
    print(f"{file}: {cuts} cuts")
