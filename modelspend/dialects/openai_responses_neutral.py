"""Responses requests read into neutral words.

Each input item becomes a message of its own, so that order and ids survive.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from modelspend import chat
from modelspend.dialects.dialect import RequestView
from modelspend.dialects.openai_shape import (
    argument_text,
    file_part,
    function_tool,
    knows_choice,
    media,
    output_format,
    tool_choice,
)
from modelspend.dialects.reader import as_list, as_object, as_text

NAME = "openai.responses"
ADDED = "additional_tools"
ITEM = "item"  # marks a message whose opaque part is an item, not a part of one
_KNOWN = frozenset(
    {
        "model",
        "input",
        "instructions",
        "stream",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "max_output_tokens",
        "temperature",
        "top_p",
        "text",
        "reasoning",
    }
)


def request(view: RequestView) -> chat.Request:
    """A response request in neutral words."""
    fields = view.body
    form = as_object(as_object(fields.get("text")).get("format"))
    return chat.Request(
        model=view.model,
        origin=NAME,
        stream=view.stream,
        messages=tuple(_messages(fields)),
        tools=tuple(_tools(fields)),
        tool_choice=tool_choice(fields, ""),
        output=output_format(form, form),
        max_output=view.max_output,
        temperature=fields.get("temperature"),
        top_p=fields.get("top_p"),
        reasoning_effort=as_text(as_object(fields.get("reasoning")).get("effort")),
        extra=_extra(fields),
    )


def _extra(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Every field without a word of its own here, and what is left of those that have one.

    `text.verbosity` means the same in Chat Completions, where it stands at the top.
    """
    extra = {key: value for key, value in fields.items() if key not in _KNOWN}
    text = {key: kept for key, kept in as_object(fields.get("text")).items() if key != "format"}
    form = as_object(as_object(fields.get("text")).get("format"))
    if form and output_format(form, form) is None:
        text["format"] = form
    if verbosity := text.pop("verbosity", None):
        extra["verbosity"] = verbosity
    reasoning = {k: v for k, v in as_object(fields.get("reasoning")).items() if k != "effort"}
    extra |= {"text": text} if text else {}
    extra |= {"reasoning": reasoning} if reasoning else {}
    if not knows_choice(fields.get("tool_choice"), ""):
        extra["tool_choice"] = fields["tool_choice"]
    return extra


def _messages(fields: Mapping[str, Any]) -> Iterator[chat.Message]:
    if instructions := as_text(fields.get("instructions")):
        yield chat.Message(
            role="system", parts=(chat.Text(text=instructions),), extra={"field": "instructions"}
        )
    asked = fields.get("input")
    if isinstance(asked, str):
        yield chat.Message(role="user", parts=(chat.Text(text=asked),))
    for item in map(as_object, as_list(asked)):
        yield _message(item)


ROLES: dict[Any, chat.Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


def _message(item: Mapping[str, Any]) -> chat.Message:
    """One input item; each stays a message of its own, so that order and ids survive."""
    match item.get("type", "message"):
        case "message" if "role" in item:
            extra = {k: v for k, v in item.items() if k not in ("type", "role", "content")}
            role = item["role"]
            if role == "developer":
                extra["role"] = role
            parts = _parts(item.get("content"))
            return chat.Message(role=ROLES.get(role, "user"), parts=parts, extra=extra)
        case "function_call":
            call = chat.ToolCall(
                call_id=str(item.get("call_id") or ""),
                name=str(item.get("name") or ""),
                arguments=argument_text(item.get("arguments")),
                extra=_beside(item, "call_id", "name", "arguments"),
            )
            return chat.Message(role="assistant", parts=(call,))
        case "function_call_output":
            result = chat.ToolResult(
                call_id=str(item.get("call_id") or ""),
                parts=_parts(item.get("output")),
                extra=_beside(item, "call_id", "output"),
            )
            return chat.Message(role="tool", parts=(result,))
        case "reasoning":
            return chat.Message(role="assistant", parts=(thought(item),))
    whole = chat.Opaque(origin=NAME, value=item)
    return chat.Message(role="assistant", parts=(whole,), extra={"field": ITEM})


def _beside(item: Mapping[str, Any], *known: str) -> dict[str, Any]:
    return {key: kept for key, kept in item.items() if key != "type" and key not in known}


def thought(item: Mapping[str, Any]) -> chat.Reasoning:
    """A reasoning item: its summary, or where there is none what was thought (open models)."""
    said = _texts(item.get("summary")) or _texts(item.get("content"))
    return chat.Reasoning(
        text="\n".join(said),
        sealed=as_text(item.get("encrypted_content")),
        origin=NAME,
        extra=_beside(item, "encrypted_content"),
    )


def _texts(parts: object) -> list[str]:
    return [text for part in as_list(parts) if (text := as_text(as_object(part).get("text")))]


def _parts(content: object) -> tuple[chat.Part, ...]:
    if isinstance(content, str):
        return (chat.Text(text=content),)
    return tuple(_part(as_object(part)) for part in as_list(content))


def _part(value: Mapping[str, Any]) -> chat.Part:
    match value.get("type"):
        case "input_text" | "output_text" | "text" if isinstance(value.get("text"), str):
            extra = {k: v for k, v in value.items() if k not in ("type", "text")}
            return chat.Text(text=value["text"], extra=extra)
        case "refusal" if isinstance(value.get("refusal"), str):
            return chat.Text(text=value["refusal"], extra={"type": "refusal"})
        case "input_image" if as_text(value.get("image_url")):
            return media("image", value["image_url"], _beside(value, "image_url"))
        case "input_file" if link := as_text(value.get("file_data")) or as_text(
            value.get("file_url")
        ):
            extra = _beside(value, "file_data", "file_url")
            return file_part(link, extra)
        case "input_audio" if as_text(as_object(value.get("input_audio")).get("data")):
            audio = as_object(value.get("input_audio"))
            mime = f"audio/{as_text(audio.get('format')) or 'wav'}"
            extra = _beside(value, "input_audio")
            return chat.Media(kind="audio", mime=mime, data=audio["data"], extra=extra)
    return chat.Opaque(origin=NAME, value=value)


def _tools(fields: Mapping[str, Any]) -> Iterator[chat.Tool | chat.Opaque]:
    """The tools offered, and the functions that a later item adds, marked by that item's kind."""
    known: set[object] = set()
    for value in map(as_object, as_list(fields.get("tools"))):
        known.add(as_text(value.get("name")))
        yield _tool(value)
    for item in map(as_object, as_list(fields.get("input"))):
        if item.get("type") == ADDED:
            for value in map(as_object, as_list(item.get("tools"))):
                name = as_text(value.get("name"))
                if value.get("type") == "function" and name and name not in known:
                    known.add(name)
                    tool = function_tool(value, value)
                    yield replace(tool, extra={**tool.extra, "field": ADDED})


def _tool(value: Mapping[str, Any]) -> chat.Tool | chat.Opaque:
    if value.get("type") != "function":
        return chat.Opaque(origin=NAME, value=value)
    return function_tool(value, value)
