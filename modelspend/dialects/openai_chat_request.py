"""Chat Completions requests written from neutral words.

A tool message holds nothing but text here, so pictures and files of a tool's result follow the
results of the turn in a user message. A `developer` message goes out as `system` unless it came in
this dialect: OpenAI takes both, most other servers only the latter.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from modelspend import chat
from modelspend.dialects.dialect import Encoded, RequestView
from modelspend.dialects.openai_chat_neutral import NAME
from modelspend.dialects.openai_models import Abilities, abilities, fitting_effort, sampling
from modelspend.dialects.openai_shape import choice_fields, data_link, schema_fields
from modelspend.dialects.writing import Notes, body_of
from modelspend.errors import Uncarriable

_MOST_STOPS = 4  # platform.openai.com/docs/api-reference/chat/create, `stop`, 2026-11-25
_OWN_FIELDS = frozenset({"frequency_penalty", "presence_penalty", "verbosity"})
_SOUNDS = {
    "wav": "wav",
    "x-wav": "wav",
    "wave": "wav",
    "vnd.wave": "wav",
    "mp3": "mp3",
    "mpeg": "mp3",
    "mpga": "mp3",
}
"""What OpenAI takes (platform.openai.com/docs/guides/audio, 2026-11-25), by MIME subtype."""


def encode(asked: chat.Request, model: str) -> Encoded:
    """The body of a request for a model's name upstream. Raises Uncarriable or BadRequest."""
    notes = Notes(NAME)
    own = asked.origin == NAME
    body: dict[str, Any] = {"model": model, "messages": list(_messages(asked, own, notes))}
    if asked.tools:
        body["tools"] = [_tool(tool, own) for tool in asked.tools]
    body |= choice_fields(asked.tool_choice, "function")
    if asked.output is not None:
        body["response_format"] = _output(asked.output)
    able = abilities(model)
    body |= _settings(asked, own, able, notes)
    known = _OWN_FIELDS if able.sampling else {"verbosity"}
    for name, value in asked.extra.items():
        if own or name in known:
            body[name] = value
        else:
            notes.drop(name)
    if asked.stream:
        body["stream"] = True
    told = body.get("stream_options")
    wants_usage = isinstance(told, dict) and told.get("include_usage") is True
    view = RequestView(
        model=model,
        stream=asked.stream,
        body=body,
        max_output=asked.max_output,
        wants_usage=wants_usage or not asked.stream,
    )
    return Encoded(view=view, body=body_of(body), dropped=tuple(notes.dropped))


def _settings(asked: chat.Request, own: bool, able: Abilities, notes: Notes) -> dict[str, Any]:
    """The settings that a model of that name takes; a request of this dialect is not judged."""
    stops, effort = asked.stop, asked.reasoning_effort
    told: dict[str, Any] = {"temperature": asked.temperature, "top_p": asked.top_p}
    if not own:
        stops = stops[:_MOST_STOPS] if able.stop else ()
        if stops != asked.stop:
            notes.drop("stop")
        effort, changed = fitting_effort(effort, able)
        if changed:
            notes.drop(changed)
        told = sampling(asked, able, notes)
    told |= {
        able.limit: asked.max_output,
        "stop": list(stops) or None,
        "seed": asked.seed,
        "reasoning_effort": effort,
    }
    return {name: value for name, value in told.items() if value is not None}


def _output(output: chat.OutputFormat) -> dict[str, Any]:
    match output.kind:
        case "json_schema":
            return {"type": "json_schema", "json_schema": schema_fields(output)}
        case "json":
            return {"type": "json_object"}
        case "text":
            return {"type": "text"}


def _tool(tool: chat.Tool | chat.Opaque, own: bool) -> dict[str, Any]:
    if isinstance(tool, chat.Opaque):
        return _verbatim(tool)
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.schema:
        function["parameters"] = dict(tool.schema)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function, **(tool.extra if own else {})}


def _verbatim(part: chat.Opaque) -> dict[str, Any]:
    if part.origin != NAME:
        raise Uncarriable(
            f"Chat Completions has no words for a part of {part.origin}.",
            "Leave it out, or ask a model of the provider that has it.",
            capability="foreign_part",
        )
    return dict(part.value)


# Messages.


def _messages(asked: chat.Request, own: bool, notes: Notes) -> Iterator[dict[str, Any]]:
    """Messages in order; what cannot stand in tool messages follows the last of a turn's."""
    for is_tool, run in groupby(asked.messages, lambda message: _holds_results(message)):
        if is_tool:
            yield from _tool_messages(list(run), own, notes)
            continue
        for message in run:
            yield _message(message, own, notes)


def _holds_results(message: chat.Message) -> bool:
    return any(isinstance(part, chat.ToolResult) for part in message.parts)


def _tool_messages(
    run: Sequence[chat.Message], own: bool, notes: Notes
) -> Iterator[dict[str, Any]]:
    beside: list[chat.Part] = []
    for message in run:
        for part in message.parts:
            if not isinstance(part, chat.ToolResult):
                beside.append(part)
                continue
            if part.is_error:
                notes.drop("is_error")
            media = [inner for inner in part.parts if isinstance(inner, chat.Media)]
            texts = [inner for inner in part.parts if not isinstance(inner, chat.Media)]
            if media:
                notes.drop("tool_result_media")
                beside += media
            yield _tool_message(part, texts, message, own)
    if beside:
        yield {"role": "user", "content": _content(beside, own)}


def _tool_message(
    result: chat.ToolResult, texts: Sequence[chat.Part], message: chat.Message, own: bool
) -> dict[str, Any]:
    content = _content(texts, own) if texts else ""
    extra = dict(message.extra) if own else {}
    if extra.pop("role", None) == "function":
        return {"role": "function", "name": result.name, "content": content, **extra}
    named = {"name": result.name} if own and result.name else {}
    return {
        "role": "tool",
        "tool_call_id": result.call_id,
        "content": content,
        **named,
        **extra,
    }


def _message(message: chat.Message, own: bool, notes: Notes) -> dict[str, Any]:
    extra = dict(message.extra) if own else {}
    role = extra.pop("role", None) or message.role
    told: dict[str, Any] = {"role": role}
    calls: list[dict[str, Any]] = []
    content: list[chat.Part] = []
    for part in message.parts:
        match part:
            case chat.ToolCall() if part.extra.get("field") == "function_call":
                told["function_call"] = {"name": part.name, "arguments": part.arguments}
            case chat.ToolCall():
                calls.append(_call(part, own))
            case chat.Reasoning() if own and part.origin == NAME and "field" in part.extra:
                told[part.extra["field"]] = part.text
            case chat.Reasoning() if not (own and part.origin == NAME):
                notes.drop("thinking")
            case chat.Opaque() if part.value.keys() & {"function", "custom"}:
                calls.append(_verbatim(part))
            case _:
                content.append(part)
    if content or not (calls or "function_call" in told):
        told["content"] = _content(content, own) if content else ""
    else:
        told["content"] = None
    if calls:
        told["tool_calls"] = calls
    return told | extra


def _call(call: chat.ToolCall, own: bool) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    told = {"id": call.call_id, "type": "function", "function": function}
    return told | (dict(call.extra) if own else {})


def _content(parts: Sequence[chat.Part], own: bool) -> Any:
    """Plain words where that says all, which every server reads; else a list of parts."""
    if len(parts) == 1 and isinstance(parts[0], chat.Text) and not parts[0].extra:
        return parts[0].text
    return [_part(part, own) for part in parts]


def _part(part: chat.Part, own: bool) -> dict[str, Any]:
    match part:
        case chat.Text() if part.extra.get("type") == "refusal":
            return {"type": "refusal", "refusal": part.text}
        case chat.Text():
            return {"type": "text", "text": part.text, **(part.extra if own else {})}
        case chat.Media():
            return _media(part, own)
        case chat.Reasoning():
            return dict(part.extra.get("part") or {"type": "text", "text": part.text})
        case chat.Opaque():
            return _verbatim(part)
    raise Uncarriable(
        "A tool's call or result stands where Chat Completions has only text and media.",
        "Send tool calls in assistant messages, and their results after them.",
        capability="tools",
    )


def _media(part: chat.Media, own: bool) -> dict[str, Any]:
    link = data_link(part)
    inner = {key: kept for key, kept in part.extra.items() if own and key != "part"}
    beside = dict(part.extra.get("part") or {}) if own else {}
    match part.kind:
        case "image":
            if detail := part.extra.get("detail"):
                inner["detail"] = detail
            return {"type": "image_url", "image_url": {"url": link, **inner}, **beside}
        case "video":  # the spelling of OpenRouter, Z.AI and Qwen; OpenAI has none
            return {"type": "video_url", "video_url": {"url": link, **inner}, **beside}
        case "audio" if part.data is not None:
            sound = (part.mime or "audio/wav").partition("/")[2].partition(";")[0]
            sound = sound if own else _SOUNDS.get(sound, "")
            if sound:
                audio = {"data": part.data, "format": sound, **inner}
                return {"type": "input_audio", "input_audio": audio, **beside}
        case "file" if own and part.extra.get("field") == "document_url":
            return {"type": "document_url", "document_url": link, **beside}
        case "file" if part.data is not None:
            file = {"filename": part.extra.get("filename") or "file.pdf", "file_data": link}
            return {"type": "file", "file": file | inner, **beside}
    raise Uncarriable(
        f"Chat Completions takes no {part.kind} of this form ({part.mime or 'a link'}).",
        "Send its bytes (audio as WAV or MP3), or ask a model that takes it as it is.",
        capability=f"{part.kind}_url" if part.data is None else part.kind,
    )
