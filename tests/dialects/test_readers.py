"""What each reader learns from streams and answers that no recording happens to hold."""

from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from modelspend.dialects import DIALECTS
from modelspend.dialects.dialect import ProviderError
from modelspend.dialects.sse import MAX_EVENT
from modelspend.errors import StreamTruncated
from tests.dialects.recorded import VIEW, read_stream

CHAT, RESPONSES = DIALECTS["openai.chat"], DIALECTS["openai.responses"]
MESSAGES, GEMINI = DIALECTS["anthropic.messages"], DIALECTS["gemini.generate"]
DONE = b"data: [DONE]\n\n"


def sse(*values: Any) -> bytes:
    return b"".join(b"data: " + orjson.dumps(value) + b"\n\n" for value in values)


def named(*values: dict[str, Any]) -> bytes:
    """Events with their type as their name, as Anthropic and Responses send them."""
    lines: Iterable[bytes] = (
        b"event: " + value["type"].encode() + b"\ndata: " + orjson.dumps(value) + b"\n\n"
        for value in values
    )
    return b"".join(lines)


def delta(**said: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m-1", "choices": [{"index": 0, "delta": said}]}


# Chat Completions.


@pytest.mark.parametrize(
    ("said", "chars"),
    [
        ({"content": "four"}, 4),
        ({"reasoning_content": "four"}, 4),
        ({"reasoning": "four", "content": ""}, 4),
        ({"refusal": "no"}, 2),
        ({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}, 4),
        ({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "f", "arguments": ""}}]}, 1),
        ({"function_call": {"name": "f", "arguments": "{}"}}, 3),
        ({"content": [{"type": "text", "text": "ab"}]}, 2),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "abc"}]}]}, 3),
        ({"audio": {"data": "AAAA", "transcript": "abc"}}, 3),
        ({"role": "assistant", "content": ""}, 0),
        ({"role": "assistant", "content": None, "tool_calls": None}, 0),
        ({}, 0),
    ],
)
def test_chat_content_is_text_tools_or_reasoning(said: dict[str, Any], chars: int) -> None:
    note = read_stream(CHAT, sse(delta(**said)) + DONE).note
    assert (note.content, note.output_chars) == (chars > 0, chars)


def test_chat_usage_may_stand_where_groq_or_moonshot_put_it() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    for last in (
        {"choices": [], "x_groq": {"id": "r", "usage": usage}},
        {"choices": [{"delta": {}, "finish_reason": "stop", "usage": usage}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": usage},
    ):
        assert read_stream(CHAT, sse(delta(content="x"), last) + DONE).note.usage == usage


def test_chat_error_in_a_stream_is_never_an_end_even_before_done() -> None:
    for told, kind in (
        ({"error": {"message": "Busy", "type": "server_error", "code": None}}, "server_error"),
        ({"error": {"message": "Busy", "code": 502}}, "502"),
        (
            {"error": {"message": "Busy", "type": None, "status": 400, "code": "filtered"}},
            "filtered",
        ),
    ):
        read = read_stream(CHAT, sse(delta(content="x")) + sse(told) + DONE)
        assert read.note.error == ProviderError(kind, "Busy")
        assert not read.note.ended
        assert read.now == sse(delta(content="x"))
        assert read.held == sse(told) + DONE
    assert read_stream(CHAT, sse({"error": "Busy"})).note.error == ProviderError("error", "Busy")


def test_hidden_usage_leaves_the_bytes_of_a_stream_that_was_never_asked() -> None:
    """Byte for byte: the same stream as a provider sends it with and without the flag."""
    content = b'"choices":[{"delta":{"content":"\\"usage\\":null,"}}]'
    usage = b'data: {"id":"c1","choices":[],"usage":{"total_tokens":5}}\n\n'
    pairs = [
        (b'data: {%b,"usage":null}\n\n' % content, b"data: {%b}\n\n" % content),
        (b'data: {"usage" : null , %b}\r\n\r\n' % content, b"data: { %b}\r\n\r\n" % content),
        (b'data:{%b ,\t"usage": null, "o":1}\n\n' % content, b'data:{%b , "o":1}\n\n' % content),
        (b': n\ndata: {%b,"usage":null}\n\n' % content, b": n\ndata: {%b}\n\n" % content),
        (b'data: {"usage":null}\n\n', b"data: {}\n\n"),
        (usage, b""),
    ]
    for with_flag, without in pairs:
        stream = with_flag + DONE
        for size in (1, 5, len(stream)):
            chunks = [stream[n : n + size] for n in range(0, len(stream), size)]
            assert read_stream(CHAT, *chunks, hide_usage=True).all == without + DONE


def test_hidden_usage_leaves_what_the_flag_did_not_cause() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    kept = [
        sse({"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}], "usage": usage}),
        sse({"choices": [{"delta": {"content": "x"}, "usage": None}]}),
        sse({"choices": [], "prompt_filter_results": [{"usage": None}]}),
        b': "usage":null\n\n',
        b"data: not json\n\n",
    ]
    stream = b"".join(kept) + DONE
    read = read_stream(CHAT, stream, hide_usage=True)
    assert read.all == stream
    assert read.note.usage == usage


def test_usage_that_was_hidden_is_still_learnt() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 1, "cost": 0.25}
    read = read_stream(CHAT, sse({"choices": [], "usage": usage}) + DONE, hide_usage=True)
    assert read.note.usage == usage
    assert read.all == DONE


@pytest.mark.parametrize(
    ("told", "tier"),
    [("default", ""), ("auto", ""), ("on_demand", ""), ("priority", "priority"), ("Flex", "flex")],
)
def test_the_served_tier_is_named_unless_it_is_the_standard_one(told: str, tier: str) -> None:
    chunk = delta(content="x") | {"service_tier": told}
    assert read_stream(CHAT, sse(chunk) + DONE).note.service_tier == tier


# Responses.


def response(kind: str, **fields: Any) -> dict[str, Any]:
    inner = {"id": "resp_1", "model": "m-1", "output": []} | fields
    return {"type": f"response.{kind}", "sequence_number": 4, "response": inner}


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (response("completed", status="completed"), "completed"),
        (
            response("incomplete", incomplete_details={"reason": "max_output_tokens"}),
            "max_output_tokens",
        ),
        (response("incomplete", incomplete_details=None), "incomplete"),
    ],
)
def test_complete_and_incomplete_responses_are_both_ended(
    last: dict[str, Any], reason: str
) -> None:
    note = read_stream(RESPONSES, named(response("created"), last)).note
    assert (note.ended, note.error, note.finish_reason) == (True, None, reason)


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (response("failed", error={"code": "server_error", "message": "Busy"}), "server_error"),
        (response("failed", error=None), "failed"),
        ({"type": "error", "code": "rate_limit", "message": "Busy", "param": None}, "rate_limit"),
        ({"type": "error", "error": {"type": "overloaded", "message": "Busy"}}, "overloaded"),
    ],
)
def test_failed_responses_are_errors_and_their_bytes_are_held(
    last: dict[str, Any], kind: str
) -> None:
    read = read_stream(RESPONSES, named(response("created"), last))
    assert not read.note.ended
    assert read.note.error
    assert read.note.error.kind == kind
    assert read.held == named(last)


def test_a_failed_response_still_tells_what_it_used() -> None:
    usage = {"input_tokens": 3, "output_tokens": 0}
    last = response("failed", error={"code": "x", "message": "y"}, usage=usage)
    assert read_stream(RESPONSES, named(last)).note.usage == usage


def test_only_searches_and_tools_that_the_provider_ran_are_counted() -> None:
    output = [
        {"type": "web_search_call", "action": {"type": "search", "query": "q"}},
        {"type": "web_search_call", "action": {"type": "open_page", "url": "u"}},
        {"type": "web_search_call", "status": "completed"},
        {"type": "file_search_call"},
        {"type": "code_interpreter_call"},
        {"type": "tool_search_call", "execution": "client"},
        {"type": "tool_search_call", "execution": "server"},
        {"type": "function_call", "name": "f", "arguments": "{}"},
        {"type": "message", "content": []},
    ]
    counts = {"web_searches": 2, "tool_calls": 3}
    last = response("completed", output=output)
    assert read_stream(RESPONSES, named(last)).note.counts == counts
    whole = orjson.dumps(last["response"] | {"status": "completed"})
    assert RESPONSES.note(whole).counts == counts


def test_an_error_continues_the_numbering_of_a_response() -> None:
    reader = RESPONSES.reader(VIEW, hide_usage=False)
    reader.feed(named(response("created")))
    event = reader.error_event(StreamTruncated("Cut.", failure_class="truncated"))
    assert b'"sequence_number":5' in event


def test_a_final_response_too_big_to_read_still_ends_the_stream() -> None:
    image = {"type": "image_generation_call", "result": "A" * (MAX_EVENT + 200_000)}
    big = named(response("completed", output=[image]))
    stream = named(response("created")) + big
    chunks = [stream[n : n + 65_536] for n in range(0, len(stream), 65_536)]
    read = read_stream(RESPONSES, *chunks)
    assert read.all == stream
    assert read.note.ended
    assert read.note.usage is None
    assert read.held.endswith(b"\n\n")
    assert 2 < len(read.held) <= 65_538
    assert not read_stream(RESPONSES, *chunks[:-1]).note.ended


# Messages.


def start(**usage: Any) -> dict[str, Any]:
    message = {"id": "msg_1", "model": "claude-x", "usage": usage}
    return {"type": "message_start", "message": message}


def stop(reason: str = "end_turn", **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


def test_later_totals_of_a_message_replace_earlier_ones_and_null_says_nothing() -> None:
    iterations = [{"type": "message", "input_tokens": 1}]
    stream = named(
        start(input_tokens=5, cache_read_input_tokens=7, output_tokens=1, service_tier="batch"),
        stop(output_tokens=3, cache_read_input_tokens=None),
        stop(
            output_tokens=9,
            input_tokens=6,
            iterations=iterations,
            server_tool_use={"web_search_requests": 2},
        ),
        {"type": "message_stop"},
    )
    note = read_stream(MESSAGES, stream).note
    assert note.usage == {
        "input_tokens": 6,
        "cache_read_input_tokens": 7,
        "output_tokens": 9,
        "service_tier": "batch",
        "iterations": iterations,
        "server_tool_use": {"web_search_requests": 2},
    }
    assert (note.service_tier, note.finish_reason, note.ended) == ("batch", "end_turn", True)


def test_fast_mode_of_a_message_is_its_tier() -> None:
    assert read_stream(MESSAGES, named(start(speed="fast"))).note.service_tier == "fast"
    assert read_stream(MESSAGES, named(start(speed="standard"))).note.service_tier == ""


def test_pings_and_starts_of_a_message_are_no_content() -> None:
    quiet = [
        start(input_tokens=1),
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": ""},
        },
    ]
    assert not read_stream(MESSAGES, named(*quiet)).note.content
    for said, chars in (
        ({"type": "text_delta", "text": "ab"}, 2),
        ({"type": "thinking_delta", "thinking": "abc"}, 3),
        ({"type": "input_json_delta", "partial_json": "{"}, 1),
        ({"type": "signature_delta", "signature": "AAAA"}, 0),
    ):
        event = {"type": "content_block_delta", "index": 0, "delta": said}
        note = read_stream(MESSAGES, named(*quiet, event)).note
        assert (note.content, note.output_chars) == (True, chars)


def test_an_error_event_of_a_message_stream_is_held_and_never_an_end() -> None:
    told = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    read = read_stream(MESSAGES, named(start(input_tokens=3), told))
    assert read.note.error == ProviderError("overloaded_error", "Overloaded")
    assert read.note.usage == {"input_tokens": 3}
    assert not read.note.ended
    assert read.held == named(told)


def test_counting_tokens_uses_nothing() -> None:
    count = DIALECTS["anthropic.count_tokens"]
    note = count.note(b'{"input_tokens": 2095}')
    assert (note.usage, note.ended, note.error) == ({}, True, None)
    assert not count.billable
    error = b'{"type":"error","error":{"type":"not_found_error","message":"No."}}'
    assert count.note(error).error == ProviderError("not_found_error", "No.")


# Gemini.


def part(text: str = "", reason: str | None = None, index: int | None = None, **rest: Any) -> Any:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}] if text else []}}
    if reason:
        candidate["finishReason"] = reason
    if index is not None:
        candidate["index"] = index
    return {"candidates": [candidate | rest], "modelVersion": "g-1", "responseId": "r1"}


def test_gemini_holds_from_the_finish_to_the_end_and_reads_what_follows() -> None:
    usage = {"promptTokenCount": 3, "totalTokenCount": 4}
    late = {"usageMetadata": usage, "modelVersion": "g-2"}
    read = read_stream(GEMINI, sse(part("a"), part("b", "STOP"), late))
    assert (read.now, read.held) == (sse(part("a")), sse(part("b", "STOP"), late))
    assert (read.note.ended, read.note.usage, read.note.model) == (True, usage, "g-2")


def test_gemini_is_whole_only_when_every_candidate_has_finished() -> None:
    parts = [part("a", index=0), part("b", index=1), part("", "STOP", 0), part("", "MAX_TOKENS", 1)]
    for n in range(4):
        read = read_stream(GEMINI, sse(*parts[:n]))
        assert (read.note.ended, read.held) == (False, b""), n
    read = read_stream(GEMINI, sse(*parts))
    assert (read.note.ended, read.held) == (True, sse(parts[3]))


def test_gemini_unspecified_finish_is_none() -> None:
    read = read_stream(GEMINI, sse(part("a", "FINISH_REASON_UNSPECIFIED")))
    assert (read.note.ended, read.note.finish_reason) == (False, None)


def test_a_blocked_prompt_ends_a_gemini_stream() -> None:
    blocked = {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 2},
    }
    for read in (
        read_stream(GEMINI, sse(blocked)),
        read_stream(GEMINI, b"[" + orjson.dumps(blocked) + b"]"),
    ):
        assert (read.note.ended, read.note.finish_reason) == (True, "SAFETY")
        assert read.note.usage == {"promptTokenCount": 2}
        assert not read.note.content
        assert read.held


ARRAY = b'[{"a":"]}\\"[{\\\\",%b}\r\n,\r\n%b\n, %b\n]\n' % (
    orjson.dumps(part("x"))[1:-1],
    orjson.dumps(part('y"\\')),
    orjson.dumps(part("z", "STOP") | {"usageMetadata": {"totalTokenCount": 5}}),
)


def test_a_gemini_array_cut_at_every_byte_reads_the_same() -> None:
    whole = read_stream(GEMINI, ARRAY)
    assert whole.all == ARRAY
    assert whole.held == b"\n]\n"
    assert whole.note.ended
    assert whole.note.output_chars == 5
    assert whole.note.usage == {"totalTokenCount": 5}
    for at in range(len(ARRAY) + 1):
        assert read_stream(GEMINI, ARRAY[:at], ARRAY[at:]) == whole, at
    assert read_stream(GEMINI, *(ARRAY[n : n + 1] for n in range(len(ARRAY)))) == whole


def test_a_gemini_array_cut_short_is_never_ended_and_passes_only_whole_elements() -> None:
    ends = [ARRAY.index(b"\r\n,"), ARRAY.index(b"\n, "), ARRAY.rindex(b"\n]")]
    for at in range(ARRAY.rindex(b"]")):
        read = read_stream(GEMINI, ARRAY[:at])
        assert not read.note.ended, at
        assert len(read.all.rstrip()) in (0, *ends), at


def test_a_gemini_array_that_closes_without_a_finish_is_not_ended() -> None:
    for body in (b"[]", b"[" + orjson.dumps(part("x")) + b"]"):
        read = read_stream(GEMINI, body)
        assert (read.all, read.held) == (body, b"")
        assert not read.note.ended


def test_an_error_element_of_a_gemini_array_is_told() -> None:
    error = {"error": {"code": 503, "message": "Busy", "status": "UNAVAILABLE"}}
    body = b"[" + orjson.dumps(part("x")) + b",\n" + orjson.dumps(error) + b"]"
    read = read_stream(GEMINI, body)
    assert read.note.error == ProviderError("UNAVAILABLE", "Busy")
    assert not read.note.ended
    assert read.all == body


def test_gemini_searches_are_counted_once_though_they_are_told_again() -> None:
    def grounded(*queries: str, reason: str | None = None) -> Any:
        return part("x", reason, groundingMetadata={"webSearchQueries": list(queries)})

    stream = sse(grounded("a"), grounded("a", "b"), grounded("a", "b", "", reason="STOP"))
    assert read_stream(GEMINI, stream).note.counts == {"web_searches": 2}
    assert GEMINI.note(orjson.dumps(grounded("a", reason="STOP"))).counts == {"web_searches": 1}


@pytest.mark.parametrize(
    ("usage", "tier"),
    [
        ({"serviceTier": "standard"}, ""),
        ({"serviceTier": "priority"}, "priority"),
        ({"trafficType": "ON_DEMAND"}, ""),
        ({"trafficType": "ON_DEMAND_FLEX"}, "flex"),
        ({"trafficType": "ON_DEMAND_PRIORITY"}, "priority"),
        ({"trafficType": "PROVISIONED_THROUGHPUT"}, "provisioned_throughput"),
        ({}, ""),
    ],
)
def test_gemini_tier_is_read_from_the_answer(usage: dict[str, Any], tier: str) -> None:
    body = part("x", "STOP") | {"usageMetadata": usage}
    assert GEMINI.note(orjson.dumps(body)).service_tier == tier


def test_a_gemini_image_too_big_to_read_still_ends_the_stream() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "A" * (MAX_EVENT + 200_000)}}
    value = {"candidates": [{"content": {"parts": [image]}, "finishReason": "STOP"}]}
    for stream in (sse(value), b"[" + orjson.dumps(value) + b"]"):
        chunks = [stream[n : n + 99_999] for n in range(0, len(stream), 99_999)]
        read = read_stream(GEMINI, *chunks)
        assert read.all == stream
        assert (read.note.ended, read.note.content, read.note.usage) == (True, True, None)
        assert read.held


# Errors as bodies, and shapes that nobody promised.


@pytest.mark.parametrize(
    "name",
    [
        "openai.chat",
        "openai.responses",
        "gemini.generate",
        "openai.embeddings",
        "anthropic.messages",
    ],
)
@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": {"type": "t", "message": "M"}}, ProviderError("t", "M")),
        ({"error": "M"}, ProviderError("error", "M")),
        (
            {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "M"}},
            ProviderError("RESOURCE_EXHAUSTED", "M"),
        ),
        ({"error": {"code": 429, "message": "M"}}, ProviderError("429", "M")),
        ([{"error": {"status": "INTERNAL", "message": "M"}}], ProviderError("INTERNAL", "M")),
        (
            {"type": "error", "error": {"type": "api_error", "message": "M"}},
            ProviderError("api_error", "M"),
        ),
        ({"message": "M"}, ProviderError("error", "M")),
        ({"detail": "M"}, ProviderError("error", "M")),
    ],
)
def test_error_bodies_of_every_shape_are_told(name: str, body: Any, error: ProviderError) -> None:
    note = DIALECTS[name].note(orjson.dumps(body))
    assert note.error == error
    assert not note.ended


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"7",
        b'"x"',
        b"{}",
        b'{"choices":null}',
        b'{"choices":[null,7]}',
        b'{"usage":7,"choices":{"a":1}}',
        b'{"candidates":[{"content":7,"finishReason":[]}]}',
        b'{"output":[7,{"type":7}]}',
        b'{"content":[7,{"type":{}}],"usage":[]}',
        b'{"candidates":[{"content":{"parts":[7]}}],"usageMetadata":[1]}',
    ],
)
def test_an_answer_of_an_unknown_shape_never_raises(name: str, body: bytes) -> None:
    note = DIALECTS[name].note(body)
    assert note.usage is None


ODD: list[Any] = [
    {"choices": 7},
    {"choices": [{"delta": 7}]},
    {"choices": [{"delta": {"tool_calls": [7, {"function": 7}]}}]},
    {"type": 7},
    {"type": "response.completed", "response": 7},
    {"type": "message_start", "message": []},
    {"type": "message_delta", "delta": 7, "usage": 7},
    {"type": "content_block_delta", "delta": {"type": []}},
    {"candidates": {"a": 1}},
    {"candidates": [{"index": {}, "content": []}]},
    {"error": []},
    7,
    [1],
    "x",
    None,
]


@pytest.mark.parametrize(
    "name", ["openai.chat", "openai.responses", "anthropic.messages", "gemini.generate"]
)
def test_events_of_an_unknown_shape_pass_unchanged(name: str) -> None:
    stream = sse(*ODD) + b"data: {broken\n\ndata\n\n: note\n\nid: 7\n\n"
    read = read_stream(DIALECTS[name], stream)
    assert read.all == stream
    assert read.note.ended == (name == "openai.responses"), "the list has its terminal event"
