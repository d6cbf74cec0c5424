"""Streams as real servers send them, with the oddities that their recordings do not show."""

from typing import Any

import orjson
import pytest

from modelspend import chat
from modelspend.delivery import Delivery, deliver
from modelspend.dialects import CHAT_DIALECTS

CHAT, RESPONSES, ANTHROPIC = "openai.chat", "openai.responses", "anthropic.messages"


def chunks(*deltas: dict[str, Any], reason: str | None = None, done: bool = True) -> bytes:
    told = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    told.append({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    body = b"".join(b"data: %b\n\n" % orjson.dumps({"id": "c", **chunk}) for chunk in told)
    return body + (b"data: [DONE]\n\n" if done else b"")


def fragment(number: int | None, text: str = "", **more: Any) -> dict[str, Any]:
    function = {"arguments": text} | ({"name": more.pop("name")} if "name" in more else {})
    numbered = {} if number is None else {"index": number}
    return {"tool_calls": [{**numbered, "function": function, **more}]}


def read(dialect: str, body: bytes) -> list[chat.StreamEvent]:
    decoder = CHAT_DIALECTS[dialect].decoder()
    return [*decoder.feed(body), *decoder.close()]


def called(body: bytes, dialect: str = CHAT) -> list[tuple[str, str, str]]:
    parts = chat.fold(read(dialect, body)).parts
    return [(p.call_id, p.name, p.arguments) for p in parts if isinstance(p, chat.ToolCall)]


def test_fragments_of_two_calls_told_in_turn_stay_apart() -> None:
    body = chunks(
        fragment(0, '{"a', id="x", name="one"),
        fragment(1, '{"b', id="y", name="two"),
        fragment(0, '":1}'),
        fragment(1, '":2}'),
    )
    assert called(body) == [("x", "one", '{"a":1}'), ("y", "two", '{"b":2}')]
    events = read(CHAT, body)
    assert isinstance(events[-2], chat.Stopped)
    assert events[-2].reason == "tool_calls"


def test_calls_that_a_server_numbers_all_0_are_told_apart_by_their_ids() -> None:
    body = chunks(
        fragment(0, '{"a":1}', id="x", name="one"), fragment(0, '{"b":2}', id="y", name="two")
    )
    assert called(body) == [("x", "one", '{"a":1}'), ("y", "two", '{"b":2}')]


def test_fragments_without_numbers_belong_to_the_last_call() -> None:
    body = chunks(
        fragment(None, "{", id="x", name="one"), fragment(None, "}"), fragment(None, name="two")
    )
    assert called(body) == [("x", "one", "{}"), ("", "two", "{}")]


def test_a_repeated_id_and_name_is_the_same_call() -> None:
    body = chunks(fragment(0, '{"a', id="x", name="one"), fragment(0, '":1}', id="x", name="one"))
    assert called(body) == [("x", "one", '{"a":1}')]


def test_a_name_that_comes_late_starts_the_call_with_all_that_waited() -> None:
    body = chunks(fragment(0, '{"a', id="x"), fragment(0, '":1}', name="one"))
    assert called(body) == [("x", "one", '{"a":1}')]


def test_arguments_that_never_come_are_an_empty_object_in_every_dialect() -> None:
    events = read(CHAT, chunks(fragment(0, id="x", name="one")))
    assert chat.ArgumentsDelta(0, "{}") in events
    for to in CHAT_DIALECTS:
        written = b"".join(CHAT_DIALECTS[to].encode_stream(Delivery(to=to).feed(events)))
        assert called(written, to)[0][1:] == ("one", "{}")
    whole = {"choices": [{"message": {"tool_calls": [{"id": "x", "function": {"name": "one"}}]}}]}
    [part] = CHAT_DIALECTS[CHAT].decode_answer(orjson.dumps(whole)).parts
    assert part == chat.ToolCall(call_id="x", name="one", arguments="{}")


def test_broken_arguments_are_handed_on_and_never_parsed() -> None:
    body = chunks(fragment(0, '{"a": "cu', id="x", name="one"), reason="length")
    assert called(body) == [("x", "one", '{"a": "cu')]
    assert chat.fold(read(CHAT, body)).stop == "length"
    for to in CHAT_DIALECTS:
        told = Delivery(to=to).feed(read(CHAT, body))
        assert b"".join(CHAT_DIALECTS[to].encode_stream(told))


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_and_words_are_parts_of_their_own(field: str) -> None:
    body = chunks({field: "Hm"}, {field: "."}, {"content": "Yes"}, {"content": "!"})
    answer = chat.fold(read(CHAT, body))
    assert answer.parts == (chat.Reasoning(text="Hm."), chat.Text(text="Yes!"))


def test_mistrals_thoughts_stand_in_the_content() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    body = chunks({"content": [thinking]}, {"content": [{"type": "text", "text": "Yes"}]})
    answer = chat.fold(read(CHAT, body))
    assert answer.parts == (chat.Reasoning(text="Hm."), chat.Text(text="Yes"))


def test_a_refusal_is_said_as_one_whole_and_streamed() -> None:
    streamed = chat.fold(read(CHAT, chunks({"refusal": "I can't."}, reason="stop")))
    assert (streamed.parts, streamed.stop) == ((chat.Text(text="I can't."),), "refusal")
    message = {"content": None, "refusal": "I can't."}
    body = {"choices": [{"message": message, "finish_reason": "stop"}]}
    whole = CHAT_DIALECTS[CHAT].decode_answer(orjson.dumps(body))
    assert whole.stop == "refusal"
    told, _ = deliver(whole, to=RESPONSES)
    response = orjson.loads(CHAT_DIALECTS[RESPONSES].encode_answer(told))
    assert response["output"][0]["content"] == [{"type": "refusal", "refusal": "I can't."}]
    assert response["status"] == "completed"
    again = orjson.loads(CHAT_DIALECTS[CHAT].encode_answer(told))["choices"][0]
    assert (again["message"]["refusal"], again["message"]["content"]) == ("I can't.", None)
    message = orjson.loads(CHAT_DIALECTS[ANTHROPIC].encode_answer(deliver(whole, to=ANTHROPIC)[0]))
    assert message["stop_reason"] == "refusal"


def test_an_error_in_the_stream_is_the_last_that_is_told() -> None:
    failed = b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n'
    for told in (b"", chunks({"content": "Yes"}, done=False)):
        events = read(CHAT, told + failed + b"data: [DONE]\n\n")
        assert events[-1] == chat.Failed("server_error", "overloaded")
    event = {"type": "error", "code": "server_error", "message": "overloaded"}
    for to in (RESPONSES,):
        events = read(to, b"event: error\ndata: %b\n\n" % orjson.dumps(event))
        assert events == [chat.Failed("server_error", "overloaded")]


def response(*events: dict[str, Any]) -> bytes:
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (e["type"].encode(), orjson.dumps(e)) for e in events
    )


CALL = {"type": "function_call", "call_id": "x", "name": "one", "arguments": '{"a":1}'}
MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "Yes"}]}
COMPLETED = {
    "type": "response.completed",
    "response": {"id": "r", "model": "m", "output": [MESSAGE, CALL]},
}


def test_items_that_are_told_only_at_the_end_are_told_then() -> None:
    answer = chat.fold(read(RESPONSES, response(COMPLETED)))
    text, call = answer.parts
    assert text == chat.Text(text="Yes")
    assert call == chat.ToolCall(call_id="x", name="one", arguments='{"a":1}')
    assert answer.stop == "tool_calls"


def test_items_that_are_told_three_times_are_told_once() -> None:
    added = {"type": "response.output_item.added", "output_index": 1}
    delta = {"type": "response.function_call_arguments.delta", "output_index": 1}
    body = response(
        {"type": "response.output_text.delta", "output_index": 0, "delta": "Y"},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "es"},
        {**added, "item": {**CALL, "arguments": ""}},
        {**delta, "delta": '{"a"'},
        {**delta, "delta": ":1}"},
        {"type": "response.output_item.done", "output_index": 1, "item": CALL},
        COMPLETED,
    )
    events = read(RESPONSES, body)
    assert sum(isinstance(event, chat.ArgumentsDelta) for event in events) == 2
    assert sum(isinstance(event, chat.PartEnded) for event in events) == 2
    assert chat.fold(events).parts[0] == chat.Text(text="Yes")


def test_what_a_provider_sealed_never_reaches_another_vendors_client() -> None:
    reasoning = {"type": "reasoning", "summary": [], "encrypted_content": "SEALED"}
    ended = {**COMPLETED, "response": {"id": "r", "model": "m", "output": [reasoning, MESSAGE]}}
    events = read(RESPONSES, response(ended))
    assert any(isinstance(event, chat.ReasoningDelta) and event.sealed for event in events)
    for to in CHAT_DIALECTS:
        delivery = Delivery(to=to)
        told = delivery.feed(events)
        assert list(delivery.dropped) == ["thinking"]
        assert [e.index for e in told if isinstance(e, chat.TextDelta)] == [0], "counted anew"
        assert b"SEALED" not in b"".join(CHAT_DIALECTS[to].encode_stream(told))
        whole, dropped = deliver(chat.fold(events), to=to)
        assert dropped == ("thinking",)
        assert b"SEALED" not in CHAT_DIALECTS[to].encode_answer(whole)


def test_a_reason_without_an_end_is_not_told() -> None:
    """Google's streams end with the reason: told early, a cut answer would look whole."""
    delivery = Delivery(to="gemini.generate")
    told = delivery.feed([chat.Started(answer_id="a", model="m"), chat.Stopped("stop")])
    assert not any(isinstance(event, chat.Stopped) for event in told)
    assert delivery.feed([chat.Ended()]) == [chat.Stopped("stop"), chat.Ended()]


def test_calls_without_ids_get_the_same_ones_every_time() -> None:
    answer = chat.Answer(
        answer_id="a",
        model="m",
        parts=(chat.ToolCall(call_id="", name="f", arguments=""),) * 2,
        stop=None,
    )
    first, second = deliver(answer, to=CHAT)[0].parts
    assert isinstance(first, chat.ToolCall)
    assert isinstance(second, chat.ToolCall)
    assert first.call_id
    assert first.call_id != second.call_id
    assert deliver(answer, to=CHAT)[0].parts == (first, second)
    started = [chat.Started(answer_id="a", model="m"), chat.ToolCallStarted(0, "", "f")]
    assert Delivery(to=CHAT).feed(started)[1] == chat.ToolCallStarted(0, first.call_id, "f")


def test_folding_a_failed_stream_raises_what_it_told() -> None:
    with pytest.raises(ValueError, match="overloaded"):
        chat.fold([chat.Failed("server_error", "overloaded")])
    assert chat.fold([chat.TextDelta(0, "cut")]).stop is None
