"""Responses requests written from neutral words.

`store` is off unless the caller spoke this dialect: Chat Completions keeps nothing unasked, and
Responses keeps every conversation unless told not to. A tool's `strict` is always said, because
the absent one means true here and false elsewhere.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from modelspend import chat
from modelspend.dialects.dialect import Encoded, RequestView
from modelspend.dialects.openai_models import Abilities, abilities, fitting_effort, sampling
from modelspend.dialects.openai_responses_neutral import ADDED, ITEM, NAME
from modelspend.dialects.openai_shape import choice_fields, data_link, schema_fields
from modelspend.dialects.writing import Notes, body_of
from modelspend.errors import Uncarriable

# Below it the API refuses the request ("Expected a value >= 16", public reports, 2026-11-25).
_LEAST_OUTPUT = 16


def encode(asked: chat.Request, model: str) -> Encoded:
    """The body of a request for a model's name upstream. Raises Uncarriable or BadRequest."""
    notes = Notes(NAME)
    own = asked.origin == NAME
    body: dict[str, Any] = {"model": model}
    messages = asked.messages
    if messages and (told := _instructions(messages[0], own)):
        body["instructions"] = told
        messages = messages[1:]
    body["input"] = [item for message in messages for item in _items(message, own, notes)]
    offered = [tool for tool in asked.tools if not (own and _is_added(tool))]
    if offered:
        body["tools"] = [_tool(tool, own) for tool in offered]
    body |= choice_fields(asked.tool_choice, "")
    body |= _settings(asked, own, abilities(model), notes)
    known = ("text", "reasoning", "verbosity")
    for name, value in asked.extra.items():
        if (name in known and own) or name == "verbosity":
            continue
        if own:
            body[name] = value
        else:
            notes.drop(name)
    if not own:
        body["store"] = False
    if asked.stream:
        body["stream"] = True
    view = RequestView(model=model, stream=asked.stream, body=body, max_output=asked.max_output)
    return Encoded(view=view, body=body_of(body), dropped=tuple(notes.dropped))


def _instructions(first: chat.Message, own: bool) -> str | None:
    """The system prompt that goes into `instructions`: plain words at the very start."""
    if first.role != "system" or (own and first.extra.get("field") != "instructions"):
        return None
    match first.parts:
        case (chat.Text(text=text, extra=extra),) if text and not extra:
            return text
    return None


def _settings(asked: chat.Request, own: bool, able: Abilities, notes: Notes) -> dict[str, Any]:
    """The settings that a model of that name takes; a request of this dialect is not judged."""
    told: dict[str, Any] = {"temperature": asked.temperature, "top_p": asked.top_p}
    effort = asked.reasoning_effort
    if not own:
        told = sampling(asked, able, notes)
        effort, changed = fitting_effort(effort, able)
        if changed:
            notes.drop(changed)
    if asked.max_output is not None:
        told["max_output_tokens"] = asked.max_output
        if asked.max_output < _LEAST_OUTPUT and not own:
            told["max_output_tokens"] = _LEAST_OUTPUT
            notes.drop("max_output")
    kept = asked.extra if own else {}
    text = dict(kept.get("text") or {})
    if asked.output is not None:
        text["format"] = _format(asked.output)
    if verbosity := asked.extra.get("verbosity"):
        text["verbosity"] = verbosity
    reasoning = dict(kept.get("reasoning") or {})
    if effort is not None:
        reasoning["effort"] = effort
    told |= {"text": text or None, "reasoning": reasoning or None}
    if asked.stop:
        notes.drop("stop")
    if asked.seed is not None:
        notes.drop("seed")
    return {name: value for name, value in told.items() if value is not None}


def _format(output: chat.OutputFormat) -> dict[str, Any]:
    match output.kind:
        case "json_schema":
            return {"type": "json_schema", **schema_fields(output)}
        case "json":
            return {"type": "json_object"}
        case "text":
            return {"type": "text"}


def _is_added(tool: chat.Tool | chat.Opaque) -> bool:
    """Whether an item of the input tells it, and not the list of tools."""
    return isinstance(tool, chat.Tool) and tool.extra.get("field") == ADDED


def _tool(tool: chat.Tool | chat.Opaque, own: bool) -> dict[str, Any]:
    if isinstance(tool, chat.Opaque):
        return _verbatim(tool)
    told: dict[str, Any] = {"type": "function", "name": tool.name}
    if tool.description:
        told["description"] = tool.description
    told["parameters"] = dict(tool.schema) or {"type": "object", "properties": {}}
    if tool.strict is not None or not own:
        told["strict"] = bool(tool.strict)
    return told | (dict(tool.extra) if own else {})


def _verbatim(part: chat.Opaque) -> dict[str, Any]:
    if part.origin != NAME:
        raise Uncarriable(
            f"Responses has no words for a part of {part.origin}.",
            "Leave it out, or ask a model of the provider that has it.",
            capability="foreign_part",
        )
    return dict(part.value)


# Items.


def _items(message: chat.Message, own: bool, notes: Notes) -> Iterator[dict[str, Any]]:
    """The items of one message: what is said in one, every call, result and thought in its own."""
    if message.extra.get("field") == ITEM:
        yield from (_verbatim(part) for part in message.parts if isinstance(part, chat.Opaque))
        return
    said: list[chat.Part] = []
    items: list[dict[str, Any]] = []
    for part in message.parts:
        item = _item(part, own, notes)
        if item is None:
            if not (isinstance(part, chat.Reasoning)):
                said.append(part)
            continue
        if said:
            items.append(_message(message, said, own))
            said = []
        items.append(item)
    if said or not message.parts:
        items.append(_message(message, said, own))
    yield from items


def _item(part: chat.Part, own: bool, notes: Notes) -> dict[str, Any] | None:
    """A part that is an item by itself; None for one that is said in a message, or dropped."""
    extra = part.extra if own and not isinstance(part, chat.Opaque) else {}
    match part:
        case chat.ToolCall():
            return {
                "type": "function_call",
                "call_id": part.call_id,
                "name": part.name,
                "arguments": part.arguments or "{}",
                **extra,
            }
        case chat.ToolResult():
            if part.is_error:
                notes.drop("is_error")
            output = _content(part.parts, "input_text", own)
            told = {"type": "function_call_output", "call_id": part.call_id, "output": output}
            return told | dict(extra)
        case chat.Reasoning() if own and part.origin == NAME:
            item: dict[str, Any] = {"type": "reasoning", "summary": [], **extra}
            if part.sealed is not None:
                item["encrypted_content"] = part.sealed
            return item
        case chat.Reasoning():
            notes.drop("thinking")
    return None


def _message(message: chat.Message, said: Sequence[chat.Part], own: bool) -> dict[str, Any]:
    extra = dict(message.extra) if own else {}
    extra.pop("field", None)
    role = extra.pop("role", None) or message.role
    if role == "tool":
        role = "user"
    kind = "output_text" if role == "assistant" else "input_text"
    told = {"type": "message", "role": role, "content": _content(said, kind, own)}
    return told | extra


def _content(parts: Sequence[chat.Part], kind: str, own: bool) -> Any:
    if not parts:
        return ""
    if len(parts) == 1 and isinstance(parts[0], chat.Text) and not parts[0].extra:
        return parts[0].text
    return [_part(part, kind, own) for part in parts]


def _part(part: chat.Part, kind: str, own: bool) -> dict[str, Any]:
    match part:
        case chat.Text() if part.extra.get("type") == "refusal":
            return {"type": "refusal", "refusal": part.text}
        case chat.Text():
            return {"type": kind, "text": part.text, **(part.extra if own else {})}
        case chat.Media():
            return _media(part, own)
        case chat.Opaque():
            return _verbatim(part)
    raise Uncarriable(
        "A tool's call or result stands inside the result of another.",
        "Send each call and each result by itself.",
        capability="tools",
    )


def _media(part: chat.Media, own: bool) -> dict[str, Any]:
    extra = dict(part.extra) if own else {}
    match part.kind:
        case "image":
            told = {"type": "input_image", "image_url": data_link(part), **extra}
            return {"detail": part.extra.get("detail") or "auto", **told}
        case "file" if part.data is not None:
            name = part.extra.get("filename") or "file.pdf"
            return {"type": "input_file", "filename": name, "file_data": data_link(part), **extra}
        case "file":
            return {"type": "input_file", "file_url": part.url or "", **extra}
        case "audio" if own and part.data is not None:
            sound = (part.mime or "audio/wav").partition("/")[2]
            audio = {"data": part.data, "format": sound}
            return {"type": "input_audio", "input_audio": audio, **extra}
    raise Uncarriable(
        f"Responses takes no {part.kind}.",
        f"Ask a model of a provider that takes {part.kind} input in another dialect.",
        capability=part.kind,
    )
