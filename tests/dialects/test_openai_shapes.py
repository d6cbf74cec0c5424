"""Requests that we write for OpenAI, judged by the types of its own client."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import openai.types.chat as completions
import openai.types.responses as responses
import pydantic
import pytest
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params as response_params
from openai.types.shared_params import ResponseFormatJSONSchema, ResponseFormatText

from modelspend import translation
from modelspend.dialects import CHAT_DIALECTS
from modelspend.errors import BadRequest, Uncarriable, UnpairedToolCall, Unsupported
from tests.dialects.recorded import FILES, Row
from tests.dialects.test_vendor_shapes import fits

SOURCES = [file for file, name in FILES.items() if name in CHAT_DIALECTS]
MODELS = ("gpt-4.1", "gpt-5-mini", "llama-4")
NAME = re.compile("[a-zA-Z0-9_-]+")

MESSAGES = {
    "system": completions.ChatCompletionSystemMessageParam,
    "user": completions.ChatCompletionUserMessageParam,
    "assistant": completions.ChatCompletionAssistantMessageParam,
    "tool": completions.ChatCompletionToolMessageParam,
}
PARTS = {
    "text": completions.ChatCompletionContentPartTextParam,
    "image_url": completions.ChatCompletionContentPartImageParam,
    "input_audio": completions.ChatCompletionContentPartInputAudioParam,
    "file": completions.chat_completion_content_part_param.File,
    "refusal": completions.ChatCompletionContentPartRefusalParam,
}
ITEMS = {
    "message": responses.EasyInputMessageParam,
    "function_call": responses.ResponseFunctionToolCallParam,
    "function_call_output": responses.response_input_item_param.FunctionCallOutput,
}
CONTENT = {
    "input_text": responses.ResponseInputTextParam,
    "input_image": responses.ResponseInputImageParam,
    "input_file": responses.ResponseInputFileParam,
    "refusal": responses.ResponseOutputRefusalParam,
}


def shape_of(value: Mapping[str, Any], shape: Any, *apart: str) -> None:
    """The type of the client fits; lists that it would read lazily are looked at one by one."""
    given = {key: kept for key, kept in value.items() if key not in apart}
    fits(shape, given | {key: [] for key in apart if isinstance(value.get(key), list)})


def judged_as_chat(body: Mapping[str, Any]) -> None:
    shape = chat_params.CompletionCreateParamsNonStreaming
    assert body.keys() <= {*shape.__annotations__, *_inherited(shape), "stream"}
    waiting: list[str] = []
    for message in body["messages"]:
        if message["role"] != "tool":
            assert waiting == [], "every call is answered before anything else is said"
        content = message.get("content")
        shape_of(message, MESSAGES[message["role"]], *_lists(message))
        for part in content if isinstance(content, list) else ():
            if part["type"] != "video_url":  # of others
                fits(PARTS[part["type"]], part)
            assert message["role"] in ("user", "assistant") or part["type"] == "text"
        for call in message.get("tool_calls", ()):
            fits(completions.ChatCompletionMessageFunctionToolCallParam, call)
            assert len(call["id"]) <= 40
            waiting.append(call["id"])
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
        if message["role"] == "assistant" and not message.get("tool_calls"):
            assert content
    assert waiting == []
    for tool in body.get("tools", ()):
        fits(completions.ChatCompletionFunctionToolParam, tool)
        assert NAME.fullmatch(tool["function"]["name"])
    if "response_format" in body:
        kind = body["response_format"]["type"]
        shape = {"json_schema": ResponseFormatJSONSchema, "text": ResponseFormatText}.get(kind)
        assert kind == "json_object" or fits(shape, body["response_format"]) is None
    assert ("tool_choice" in body or "parallel_tool_calls" in body) <= ("tools" in body)


def _lists(message: Mapping[str, Any]) -> list[str]:
    return [key for key, value in message.items() if isinstance(value, list)]


def _inherited(shape: Any) -> set[str]:
    bases = getattr(shape, "__orig_bases__", ())
    return {name for base in bases for name in getattr(base, "__annotations__", ())}


def judged_as_response(body: Mapping[str, Any]) -> None:
    shape = response_params.ResponseCreateParamsNonStreaming
    assert body.keys() <= {*shape.__annotations__, *_inherited(shape), "stream"}
    called: list[str] = []
    for item in body["input"]:
        content = item.get("content", item.get("output"))
        shape_of(item, ITEMS[item["type"]], *_lists(item))
        for part in content if isinstance(content, list) else ():
            if part["type"] == "output_text":  # an id and a status are wanted by the type alone
                assert (item["role"], part.keys()) == ("assistant", {"type", "text"})
            else:
                fits(CONTENT[part["type"]], part)
        if item["type"] == "function_call":
            assert len(item["call_id"]) <= 64
            called.append(item["call_id"])
        if item["type"] == "function_call_output":
            called.remove(item["call_id"])
    assert called == []
    for tool in body.get("tools", ()):
        fits(responses.FunctionToolParam, tool)
        assert tool["parameters"]["type"] == "object"
    if "text" in body:
        fits(responses.ResponseTextConfigParam, body["text"])
    assert ("tool_choice" in body or "parallel_tool_calls" in body) <= ("tools" in body)


JUDGES = {"openai.chat": judged_as_chat, "openai.responses": judged_as_response}
PAIRS = [(file, to) for file in SOURCES for to in JUDGES if FILES[file] != to]


@pytest.mark.parametrize(("file", "to"), PAIRS)
def test_every_recorded_request_has_the_shape_that_openai_publishes(
    file: str, to: str, traffic: Callable[[str], tuple[Row, ...]]
) -> None:
    source = CHAT_DIALECTS[FILES[file]]
    seen: Counter[str] = Counter()
    for row in traffic(file):
        for model in MODELS:
            try:
                asked = source.neutral(source.read(row.path, row.body))
                prepared = translation.prepare(asked, to=to)
                encoded = CHAT_DIALECTS[to].encode_request(prepared.request, model)
            except (BadRequest, Unsupported, UnpairedToolCall, Uncarriable):
                seen["refused"] += 1
                continue
            try:
                JUDGES[to](encoded.view.body)
            except (AssertionError, pydantic.ValidationError) as found:
                raise AssertionError(f"{row}: {found}") from found
            seen["judged"] += 1
    assert seen["judged"] > 2 * seen["refused"]


HI = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": 5},
        {"messages": [HI | {"mood": "good"}]},
        {"messages": [HI | {"content": [{"type": "input_text", "text": "hi"}]}]},
        {"messages": [HI, {"role": "tool", "tool_call_id": "a", "content": "b"}]},
        {"tools": [{"type": "function", "function": {"name": "a b"}}]},
        {"tool_choice": "auto"},
    ],
)
def test_the_judge_finds_what_is_wrong(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"model": "m", "messages": [HI]}
    judged_as_chat(good)
    with pytest.raises((AssertionError, KeyError, ValueError, pydantic.ValidationError)):
        judged_as_chat(good | change)
