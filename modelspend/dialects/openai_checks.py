"""What a request of OpenAI's two protocols must be before it can be said in other words.

Each fault is a BadRequest with its place; what only one provider would refuse is left to it.
"""

from collections.abc import Mapping
from typing import Any

from modelspend.dialects.checks import an_object, number, objects, role, text, whole
from modelspend.dialects.jsonbody import kind
from modelspend.dialects.reader import as_object
from modelspend.errors import BadRequest

_EFFORT = "reasoning_effort"


def check_chat(fields: Mapping[str, Any], roles: tuple[str, ...]) -> None:
    """A Chat Completions request. Raises BadRequest."""
    messages = fields.get("messages")
    if not isinstance(messages, list):
        raise _wrong("messages", messages, "an array of messages")
    for at, message in enumerate(objects(messages, "messages")):
        place = f"messages[{at}]"
        role(message.get("role"), roles, f"{place}.role")
        _check_content(message.get("content"), f"{place}.content")
        calls = objects(message.get("tool_calls"), f"{place}.tool_calls")
        for n, call in enumerate(calls):
            if call.get("type", "function") == "function":
                _check_name(call.get("function"), f"{place}.tool_calls[{n}].function")
    for at, tool in enumerate(objects(fields.get("tools"), "tools")):
        if tool.get("type", "function") == "function":
            _check_name(tool.get("function"), f"tools[{at}].function")
    if not isinstance(stop := fields.get("stop"), str | list | None):
        raise _wrong("stop", stop, "a string or an array of strings, or leave it out")
    an_object(fields.get("response_format"), "response_format")
    if (effort := fields.get(_EFFORT)) is not None:
        text(effort, _EFFORT)
    whole(fields, "seed")
    _check_settings(fields)


def check_responses(fields: Mapping[str, Any], roles: tuple[str, ...]) -> None:
    """A Responses request. Raises BadRequest."""
    asked = fields.get("input")
    if not isinstance(asked, str):
        for at, item in enumerate(objects(asked, "input")):
            _check_item(item, f"input[{at}]", roles)
    for at, tool in enumerate(objects(fields.get("tools"), "tools")):
        if tool.get("type") == "function":
            _check_name(tool, f"tools[{at}]")
    for name in ("text", "reasoning"):
        an_object(fields.get(name), name)
    if (told := fields.get("instructions")) is not None:
        text(told, "instructions")
    _check_settings(fields)


def _check_item(item: Mapping[str, Any], place: str, roles: tuple[str, ...]) -> None:
    match item.get("type", "message"):
        case "message":
            role(item.get("role"), roles, f"{place}.role")
            _check_content(item.get("content"), f"{place}.content")
        case "function_call":
            _check_name(item, place)
        case "function_call_output":
            _check_content(item.get("output"), f"{place}.output")


def _check_content(value: object, place: str) -> None:
    if not isinstance(value, str):
        objects(value, place)


def _check_name(function: object, place: str) -> None:
    name = as_object(function).get("name")
    if not isinstance(name, str) or not name:
        raise _wrong(f"{place}.name", name, "the name of a function")


def _check_settings(fields: Mapping[str, Any]) -> None:
    number(fields, "temperature")
    number(fields, "top_p")
    if not isinstance(parallel := fields.get("parallel_tool_calls"), bool | None):
        raise _wrong("parallel_tool_calls", parallel, "true or false, or leave it out")
    if not isinstance(choice := fields.get("tool_choice"), str | dict | None):
        raise _wrong("tool_choice", choice, "a word or an object, or leave it out")


def _wrong(place: str, value: object, wanted: str) -> BadRequest:
    return BadRequest(f"`{place}` is {kind(value)}.", f"Send {wanted}.", field=place)
