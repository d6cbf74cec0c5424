"""What is dropped, moved, mapped and refused between two dialects, case by case."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from modelspend import chat, translation
from modelspend.dialects import CHAT_DIALECTS
from modelspend.errors import BadRequest, Uncarriable, UnpairedToolCall
from modelspend.tool_pairs import fitting_id

CHAT, RESPONSES = "openai.chat", "openai.responses"
ANTHROPIC, GEMINI = "anthropic.messages", "gemini.generate"


def asked(dialect: str, **fields: Any) -> chat.Request:
    body = orjson.dumps({"model": "m", **fields})
    path = "/v1/models/m:generateContent"
    return CHAT_DIALECTS[dialect].neutral(CHAT_DIALECTS[dialect].read(path, body))


def said(dialect: str, request: chat.Request) -> Any:
    """(body, everything dropped) in the words of a dialect."""
    prepared = translation.prepare(request, to=dialect)
    encoded = CHAT_DIALECTS[dialect].encode_request(prepared.request, "gpt-5")
    return orjson.loads(encoded.body), [*prepared.dropped, *encoded.dropped]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def call(call_id: str, name: str = "look", arguments: str = "{}") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def result(call_id: str, text: str = "ok") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def calls(*made: dict[str, Any], content: str | None = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(made)}


# Calls and results.


def test_an_orphaned_result_is_told_with_its_place_before_anything_is_sent() -> None:
    request = asked(CHAT, messages=[user("hi"), calls(call("a")), result("a"), result("b")])
    with pytest.raises(UnpairedToolCall, match=r"\(b\) in messages\[3\] stands without its call"):
        translation.prepare(request, to=ANTHROPIC)


def test_a_call_without_its_result_is_told_with_its_place() -> None:
    items = [
        user("hi"),
        {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"},
        user("never mind"),
    ]
    request = asked(RESPONSES, instructions="Be brief.", input=items)
    with pytest.raises(UnpairedToolCall) as refused:
        translation.prepare(request, to=CHAT)
    assert refused.value.field == "input[1]"


def test_a_result_told_twice_is_an_orphan_the_second_time() -> None:
    request = asked(CHAT, messages=[user("hi"), calls(call("a")), result("a"), result("a")])
    with pytest.raises(UnpairedToolCall, match=r"messages\[3\]"):
        translation.prepare(request, to=RESPONSES)


def test_results_move_right_behind_the_turn_that_called() -> None:
    """Responses lets items stand in any order; Chat Completions wants results at once."""
    items = [
        user("hi"),
        {"type": "function_call", "call_id": "a", "name": "one", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "two", "arguments": "{}"},
        user("hurry"),
        {"type": "function_call_output", "call_id": "b", "output": "B"},
        {"type": "function_call_output", "call_id": "a", "output": "A"},
    ]
    body, _ = said(CHAT, asked(RESPONSES, input=items))
    told = [(m["role"], m.get("tool_call_id") or m["content"]) for m in body["messages"]]
    assert told == [
        ("user", "hi"),
        ("assistant", None),
        ("tool", "b"),
        ("tool", "a"),
        ("user", "hurry"),
    ]
    assert [c["id"] for c in body["messages"][1]["tool_calls"]] == ["a", "b"]


def test_items_of_one_turn_become_one_message_and_turns_stay_apart() -> None:
    items = [
        user("hi"),
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "SEALED"},
        {"role": "assistant", "content": "Let me look."},
        {"type": "function_call", "call_id": "a", "name": "one", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "A"},
        {"type": "function_call", "call_id": "b", "name": "two", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "b", "output": "B"},
    ]
    body, dropped = said(CHAT, asked(RESPONSES, input=items))
    assert [m["role"] for m in body["messages"]] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "tool",
    ]
    assert body["messages"][1]["content"] == "Let me look."
    assert dropped == ["thinking"]
    assert "SEALED" not in orjson.dumps(body).decode()


@pytest.mark.parametrize(
    ("to", "longest"), [(CHAT, 40), (RESPONSES, 64), (ANTHROPIC, 64), (GEMINI, 64)]
)
def test_an_id_is_mapped_only_where_it_does_not_fit(to: str, longest: int) -> None:
    fits, too_long, odd = "call_" + "x" * 35, "y" * 94, "functions.Bash:0"
    assert fitting_id(fits, to) == fits
    for call_id in (too_long, odd, "x" * (longest + 1)):
        mapped = fitting_id(call_id, to)
        assert mapped != call_id
        assert len(mapped) <= longest
        assert fitting_id(call_id, to) == mapped
    assert fitting_id("y" * 93 + "z", to) != fitting_id(too_long, to)


def test_an_id_that_every_turn_uses_again_is_told_apart() -> None:
    """Kimi counts calls from 0 in each answer; Anthropic wants every id once."""
    turn = [calls(call("0", "one")), result("0", "first")]
    again = [calls(call("0", "two")), result("0", "second")]
    body, _ = said(ANTHROPIC, asked(CHAT, messages=[user("hi"), *turn, *again]))
    blocks = [block for message in body["messages"] for block in message["content"]]
    made = [block["id"] for block in blocks if block["type"] == "tool_use"]
    answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
    assert made == answered
    assert len(set(made)) == 2


def test_googles_calls_without_ids_are_paired_by_name_and_order() -> None:
    def content(role: str, *parts: Any) -> dict[str, Any]:
        return {"role": role, "parts": list(parts)}

    contents = [
        content("user", {"text": "hi"}),
        content(
            "model",
            {"functionCall": {"name": "one", "args": {"n": 1}}},
            {"functionCall": {"name": "two", "args": {}}},
            {"functionCall": {"name": "one", "args": {"n": 2}}},
        ),
        content(
            "user",
            {"functionResponse": {"name": "two", "response": {"result": "B"}}},
            {"functionResponse": {"name": "one", "response": {"result": "A"}}},
            {"functionResponse": {"name": "one", "response": {"result": "C"}}},
        ),
    ]
    body, _ = said(CHAT, asked(GEMINI, contents=contents))
    made = {c["id"]: c["function"]["arguments"] for c in body["messages"][1]["tool_calls"]}
    told = [(made[m["tool_call_id"]], m["content"]) for m in body["messages"][2:]]
    assert [orjson.loads(arguments) for arguments, _ in told] == [{}, {"n": 1}, {"n": 2}]
    assert ["B" in told[0][1], "A" in told[1][1], "C" in told[2][1]] == [True] * 3


def test_a_result_without_an_id_answers_the_next_call_of_its_name() -> None:
    """So does Google's own client, whatever ids the calls have."""

    def told(*results: tuple[str, str | None]) -> list[str]:
        made = [{"functionCall": {"id": i, "name": n}} for i, n in zip("123", "fgf", strict=True)]
        answers = [
            {"functionResponse": {"name": name, "response": {}, **({"id": i} if i else {})}}
            for name, i in results
        ]
        contents = [
            {"role": "user", "parts": [{"text": "hi"}]},
            {"role": "model", "parts": made},
            {"role": "user", "parts": answers},
        ]
        body, _ = said(CHAT, asked(GEMINI, contents=contents))
        return [message["tool_call_id"] for message in body["messages"][2:]]

    assert told(("f", None), ("g", "2"), ("f", None)) == ["1", "2", "3"]
    assert told(("g", None), ("f", None), ("f", "3")) == ["2", "1", "3"]
    with pytest.raises(UnpairedToolCall):
        told(("f", None), ("g", None), ("f", "1"))


def test_pictures_in_a_result_follow_it_where_results_are_words_only() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}
    items = [
        user("hi"),
        {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "a",
            "output": [{"type": "input_text", "text": "see"}, picture],
        },
    ]
    body, dropped = said(CHAT, asked(RESPONSES, input=items))
    assert body["messages"][2] == {"role": "tool", "tool_call_id": "a", "content": "see"}
    shown = {"url": "data:image/png;base64,AAAA", "detail": "low"}
    assert body["messages"][3]["content"] == [{"type": "image_url", "image_url": shown}]
    assert dropped == ["tool_result_media"]


def test_arguments_that_are_no_object_are_wrapped_where_only_objects_go() -> None:
    request = asked(CHAT, messages=[user("hi"), calls(call("a", "look", '{"cut')), result("a")])
    body, dropped = said(ANTHROPIC, request)
    assert body["messages"][1]["content"][0]["input"] == {"raw_arguments": '{"cut'}
    assert "raw_arguments" in dropped
    assert said(RESPONSES, request)[0]["input"][1]["arguments"] == '{"cut'


def test_empty_arguments_are_an_empty_object() -> None:
    request = asked(CHAT, messages=[user("hi"), calls(call("a", "look", "")), result("a")])
    assert said(RESPONSES, request)[0]["input"][1]["arguments"] == "{}"
    assert said(ANTHROPIC, request)[0]["messages"][1]["content"][0]["input"] == {}


# Reasoning.


def test_reasoning_stays_with_the_provider_that_wrote_it() -> None:
    items = [
        user("hi"),
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "SEALED"},
        {"role": "assistant", "content": "yes"},
        user("why?"),
    ]
    request = asked(RESPONSES, input=items)
    same = translation.prepare(request, to=RESPONSES, same_provider=True)
    assert same == translation.Prepared(request)
    body = CHAT_DIALECTS[RESPONSES].encode_request(same.request, "m").body
    assert orjson.loads(body)["input"][1] == items[1]
    other = translation.prepare(request, to=RESPONSES)
    assert other.dropped == ("thinking",)
    assert b"SEALED" not in CHAT_DIALECTS[RESPONSES].encode_request(other.request, "m").body


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_of_a_chat_answer_is_dropped_and_named_elsewhere(field: str) -> None:
    message = {"role": "assistant", "content": "4", field: "2 and 2"}
    request = asked(CHAT, messages=[user("2+2?"), message, user("sure?")])
    for to in (RESPONSES, ANTHROPIC, GEMINI):
        body, dropped = said(to, request)
        assert "thinking" in dropped
        assert b"2 and 2" not in orjson.dumps(body)
    same = CHAT_DIALECTS[CHAT].encode_request(request, "m")
    assert orjson.loads(same.body)["messages"][1] == message


def test_thinking_that_nobody_signed_does_not_go_to_anthropic() -> None:
    """It came from another vendor through us; Anthropic would refuse the whole request."""

    def thought(signature: str) -> dict[str, Any]:
        return {"type": "thinking", "thinking": "Hm.", "signature": signature}

    answer = {"role": "assistant", "content": [thought(""), thought("SIGNED")]}
    request = asked(ANTHROPIC, max_tokens=9, messages=[user("hi"), answer, user("so?")])
    prepared = translation.prepare(request, to=ANTHROPIC, same_provider=True)
    assert prepared.dropped == ("thinking",)
    body = CHAT_DIALECTS[ANTHROPIC].encode_request(prepared.request, "claude-sonnet-4-5").body
    assert orjson.loads(body)["messages"][1]["content"] == [thought("SIGNED")]


def test_signed_details_of_a_chat_answer_do_not_go_to_another_provider() -> None:
    details = [{"type": "reasoning.text", "text": "Hm.", "signature": "SIGNED"}]
    message = {"role": "assistant", "content": "4", "reasoning_details": details}
    request = asked(CHAT, messages=[user("2+2?"), message, user("sure?")])
    prepared = translation.prepare(request, to=CHAT)
    assert prepared.dropped == ("thinking",)
    assert b"SIGNED" not in CHAT_DIALECTS[CHAT].encode_request(prepared.request, "m").body
    assert translation.prepare(request, to=CHAT, same_provider=True).dropped == ()
    for to in (RESPONSES, ANTHROPIC, GEMINI):
        assert "thinking" in said(to, request)[1]


# System messages and turns.


def test_system_messages_at_the_start_are_the_system_prompt_and_later_ones_stay_in_place() -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        user("hi"),
        {"role": "assistant", "content": "hello"},
        {"role": "system", "content": "Now be long."},
        user("tell me"),
    ]
    body, dropped = said(ANTHROPIC, asked(CHAT, messages=messages))
    assert [block["text"] for block in body["system"]] == ["Be brief."]
    last = [block["text"] for block in body["messages"][2]["content"]]
    assert last == ["Now be long.", "tell me"]
    assert "system_role" in dropped
    body, dropped = said(RESPONSES, asked(CHAT, messages=messages))
    assert body["instructions"] == "Be brief."
    assert [item["role"] for item in body["input"]] == ["user", "assistant", "system", "user"]
    assert "system_role" not in dropped


def test_a_conversation_that_the_assistant_opens_gets_a_user_turn_before_it() -> None:
    messages = [{"role": "assistant", "content": "Welcome!"}, user("hi")]
    body, dropped = said(ANTHROPIC, asked(CHAT, messages=messages))
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "user"]
    assert "opening_turn" in dropped


def test_nothing_but_a_system_message_is_said_by_the_user() -> None:
    request = asked(CHAT, messages=[{"role": "system", "content": "Say hi."}])
    body, _ = said(ANTHROPIC, request)
    assert body["messages"][0]["role"] == "user"
    assert said(RESPONSES, request)[0]["instructions"] == "Say hi."


# What is refused, by the name of the capability.

PDF = "data:application/pdf;base64,JVBERi0="
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    (RESPONSES, {"input": "hi", "previous_response_id": "resp_1"}, CHAT, "stored_conversation"),
    (RESPONSES, {"input": "hi", "conversation": "conv_1"}, ANTHROPIC, "stored_conversation"),
    (
        RESPONSES,
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        CHAT,
        "stored_conversation",
    ),
    (RESPONSES, {"input": "hi", "tools": [{"type": "web_search"}]}, CHAT, "server_tools"),
    (RESPONSES, {"input": "hi", "prompt": {"id": "pmpt_1"}}, CHAT, "stored_prompt"),
    (
        RESPONSES,
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
        GEMINI,
        "file_ids",
    ),
    (CHAT, {"messages": [user("hi")], "n": 2}, RESPONSES, "choices"),
    (CHAT, {"messages": [user("hi")], "web_search_options": {"x": 1}}, RESPONSES, "server_tools"),
    (CHAT, {"messages": [user("hi")], "modalities": ["text", "audio"]}, GEMINI, "audio_output"),
    (CHAT, {"messages": [user("hi")], "functions": [{"name": "f"}]}, ANTHROPIC, "functions"),
    (
        CHAT,
        {"messages": [user("hi")], "response_format": {"type": "grammar"}},
        RESPONSES,
        "output_format",
    ),
    (
        CHAT,
        {
            "messages": [user("hi")],
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}},
        },
        RESPONSES,
        "tool_choice",
    ),
    (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
        ANTHROPIC,
        "file_ids",
    ),
    (GEMINI, {"contents": [], "cachedContent": "cachedContents/1"}, CHAT, "stored_conversation"),
]


@pytest.mark.parametrize(("origin", "fields", "to", "capability"), REFUSED)
def test_what_makes_no_sense_elsewhere_is_refused_by_the_name_of_the_capability(
    origin: str, fields: dict[str, Any], to: str, capability: str
) -> None:
    with pytest.raises(Uncarriable) as refused:
        said(to, asked(origin, **fields))
    assert refused.value.capability == capability
    assert refused.value.hint
    assert (refused.value.code, refused.value.status) == ("uncarriable", 400)


def test_fields_that_an_answer_can_do_without_are_dropped_and_named() -> None:
    request = asked(
        CHAT, messages=[user("hi")], logit_bias={"5": 1}, user="u-1", seed=3, n=1, store=False
    )
    body, dropped = said(RESPONSES, request)
    assert dropped == ["logit_bias", "user", "seed"]
    assert body == {"model": "gpt-5", "input": [INPUT_HI], "store": False}


INPUT_HI = {"type": "message", "role": "user", "content": "hi"}


def test_a_wish_for_a_tool_without_tools_is_dropped_and_named() -> None:
    body, dropped = said(RESPONSES, asked(CHAT, messages=[user("hi")], tool_choice="required"))
    assert "tool_choice" not in body
    assert dropped == ["tool_choice"]


def test_a_request_that_no_dialect_understands_is_the_callers_mistake_with_its_place() -> None:
    for fields, place in [
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [user("hi"), "x"]}, "messages[1]"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [user("hi")], "tools": [{"function": {}}]}, "tools[0].function.name"),
        ({"messages": [user("hi")], "temperature": "hot"}, "temperature"),
        ({}, "messages"),
    ]:
        with pytest.raises(BadRequest) as refused:
            asked(CHAT, **fields)
        assert refused.value.field == place


# What a request needs of a model.


def test_needs_are_the_capabilities_that_a_model_must_have() -> None:
    content = [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
        {"type": "file", "file": {"file_data": PDF}},
    ]
    schema = {"name": "a", "schema": {"type": "object"}}
    request = asked(
        CHAT,
        messages=[{"role": "user", "content": content}],
        tools=[{"type": "function", "function": {"name": "f"}}],
        response_format={"type": "json_schema", "json_schema": schema},
        reasoning_effort="high",
    )
    assert translation.needs(request) == {
        "vision",
        "audio",
        "file",
        "tools",
        "json_schema",
        "reasoning",
    }
    assert translation.needs(asked(CHAT, messages=[user("hi")], reasoning_effort="none")) == set()
    in_result = chat.ToolResult(call_id="a", parts=(chat.Media(kind="image", url="https://x/y"),))
    told = chat.Message(role="tool", parts=(in_result,))
    assert translation.needs(replace(request, messages=(told,), tools=())) >= {"vision"}
