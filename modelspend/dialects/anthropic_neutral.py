"""Anthropic Messages in neutral words: requests read, answers written.

A tool's input is an object here and JSON text there. `message_delta` repeats the totals of the
whole message; what only `message_start` tells in real streams is left to it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from modelspend import chat
from modelspend.dialects.dialect import RequestView
from modelspend.dialects.reader import as_list, as_object, as_text
from modelspend.dialects.sse import event

NAME = "anthropic.messages"
_STOPS: dict[chat.StopReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause": "pause_turn",
    "other": "end_turn",
}
_KNOWN = frozenset(
    {
        "model",
        "system",
        "messages",
        "stream",
        "tools",
        "tool_choice",
        "max_tokens",
        "temperature",
        "top_p",
        "stop_sequences",
    }
)


def request(view: RequestView) -> chat.Request:
    """A message request in neutral words."""
    fields = view.body
    system = fields.get("system")
    first = (chat.Message(role="system", parts=_parts(system)),) if system else ()
    return chat.Request(
        model=view.model,
        origin=NAME,
        stream=view.stream,
        messages=first
        + tuple(_message(as_object(value)) for value in as_list(fields.get("messages"))),
        tools=tuple(_tool(as_object(value)) for value in as_list(fields.get("tools"))),
        tool_choice=_tool_choice(as_object(fields.get("tool_choice"))),
        max_output=view.max_output,
        temperature=fields.get("temperature"),
        top_p=fields.get("top_p"),
        stop=tuple(map(str, as_list(fields.get("stop_sequences")))),
        extra={key: value for key, value in fields.items() if key not in _KNOWN},
    )


def answer(said: chat.Answer) -> bytes:
    """A whole message."""
    told = _message_object(said.answer_id, said.model, said.usage)
    told["content"] = [_block(part) for part in said.parts]
    told["stop_reason"] = _STOPS[said.stop] if said.stop else None
    return orjson.dumps(told)


def _message(value: Mapping[str, Any]) -> chat.Message:
    told = value.get("role")
    role: chat.Role = told if told in ("assistant", "system") else "user"
    extra = {key: kept for key, kept in value.items() if key not in ("role", "content")}
    return chat.Message(role=role, parts=_parts(value.get("content")), extra=extra)


def _parts(content: object) -> tuple[chat.Part, ...]:
    if isinstance(content, str):
        return (chat.Text(text=content),)
    return tuple(_part(as_object(block)) for block in as_list(content))


def _part(block: Mapping[str, Any]) -> chat.Part:
    extra = {key: kept for key, kept in block.items() if key not in _PART_FIELDS}
    match block.get("type"):
        case "text" if isinstance(block.get("text"), str):
            return chat.Text(text=block["text"], extra=extra)
        case "image" | "document" as kind if (source := as_object(block.get("source"))).get(
            "type"
        ) in ("base64", "url"):
            return chat.Media(
                kind="image" if kind == "image" else "file",
                mime=source.get("media_type"),
                data=source.get("data"),
                url=source.get("url"),
                extra=extra,
            )
        case "tool_use":
            return chat.ToolCall(
                call_id=str(block.get("id") or ""),
                name=str(block.get("name") or ""),
                arguments=_arguments(block.get("input")),
                extra=extra,
            )
        case "tool_result":
            return chat.ToolResult(
                call_id=str(block.get("tool_use_id") or ""),
                parts=_parts(block.get("content")),
                is_error=bool(block.get("is_error")),
                extra=extra,
            )
        case "thinking":
            return chat.Reasoning(
                text=str(block.get("thinking") or ""),
                sealed=as_text(block.get("signature")),
                origin=NAME,
                extra=extra,
            )
        case "redacted_thinking":
            return chat.Reasoning(text="", sealed=as_text(block.get("data")), origin=NAME)
    return chat.Opaque(origin=NAME, value=block)


_PART_FIELDS = frozenset(
    {"type", "text", "source", "id", "name", "input", "tool_use_id", "content", "is_error"}
    | {"thinking", "signature"}
)


def _arguments(value: object) -> str:
    """A tool's input as JSON text; one nested too deep to be written is left empty."""
    try:
        return orjson.dumps({} if value is None else value).decode()
    except orjson.JSONEncodeError:
        return "{}"


def _tool(value: Mapping[str, Any]) -> chat.Tool | chat.Opaque:
    if value.get("type", "custom") != "custom" or "name" not in value:
        return chat.Opaque(origin=NAME, value=value)
    known = ("type", "name", "description", "input_schema", "strict")
    return chat.Tool(
        name=str(value["name"]),
        description=str(value.get("description") or ""),
        schema=as_object(value.get("input_schema")),
        strict=value.get("strict"),
        extra={key: kept for key, kept in value.items() if key not in known},
    )


def _tool_choice(value: Mapping[str, Any]) -> chat.ToolChoice | None:
    single = value.get("disable_parallel_tool_use")
    parallel = None if single is None else not single
    match value.get("type"):
        case "auto" | "none" as mode:
            return chat.ToolChoice(mode, None, parallel)
        case "any":
            return chat.ToolChoice("required", None, parallel)
        case "tool":
            return chat.ToolChoice("named", str(value.get("name") or ""), parallel)
    return None


def usage_object(usage: Mapping[str, int]) -> dict[str, Any]:
    """The usage object of a message: cache reads and writes stand beside the input."""
    short, long = usage.get("cache_write_5m_tokens", 0), usage.get("cache_write_1h_tokens", 0)
    told: dict[str, Any] = {
        "input_tokens": usage.get("input_tokens", 0) + usage.get("input_image_tokens", 0),
        "cache_creation_input_tokens": short + long,
        "cache_read_input_tokens": usage.get("cache_read_tokens", 0),
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "output_tokens": usage.get("output_tokens", 0),
        "service_tier": "standard",
    }
    if searches := usage.get("web_searches"):
        told["server_tool_use"] = {"web_search_requests": searches, "web_fetch_requests": 0}
    if thinking := usage.get("reasoning_tokens"):
        told["output_tokens_details"] = {"thinking_tokens": thinking}
    return told


def _message_object(answer_id: str, model: str, usage: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": answer_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage_object(usage),
    }


def _block(part: chat.Part) -> dict[str, Any]:
    match part:
        case chat.Text():
            return {"type": "text", "text": part.text}
        case chat.ToolCall():
            asked = orjson.loads(part.arguments or "{}")
            return {"type": "tool_use", "id": part.call_id, "name": part.name, "input": asked}
        case chat.Reasoning():
            return {"type": "thinking", "thinking": part.text, "signature": part.sealed or ""}
        case chat.Opaque():
            return dict(part.value)
    raise ValueError(f"a message cannot hold a part of type {type(part).__name__}")


class EventWriter:
    """Writes the events of one message; a block opens with its first delta."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._input: Mapping[str, int] = {}

    def write(self, events: Iterable[chat.StreamEvent]) -> Iterator[bytes]:
        for item in events:
            match item:
                case chat.Started():
                    yield from self._start(item)
                case chat.TextDelta():
                    yield from self._begin(item.index, {"type": "text", "text": ""})
                    yield self._delta(item.index, type="text_delta", text=item.text)
                case chat.ReasoningDelta():
                    empty = {"type": "thinking", "thinking": "", "signature": ""}
                    yield from self._begin(item.index, empty)
                    if item.text:
                        yield self._delta(item.index, type="thinking_delta", thinking=item.text)
                    if item.sealed:
                        yield self._delta(item.index, type="signature_delta", signature=item.sealed)
                case chat.ToolCallStarted():
                    call = {"type": "tool_use", "id": item.call_id, "name": item.name, "input": {}}
                    yield from self._begin(item.index, call)
                case chat.ArgumentsDelta():
                    fragment = item.fragment
                    yield self._delta(item.index, type="input_json_delta", partial_json=fragment)
                case chat.PartEnded():
                    yield from self._finish(item.index)
                case chat.Stopped():
                    for index in sorted(self._open):
                        yield from self._finish(index)
                    yield self._stopped(item)
                case chat.Failed():
                    told = {"type": item.kind, "message": item.message}
                    yield _send("error", error=told)
                case chat.Ended():
                    yield _send("message_stop")

    def _start(self, started: chat.Started) -> Iterator[bytes]:
        self._input = started.usage
        message = _message_object(started.answer_id, started.model, started.usage)
        yield _send("message_start", message=message)
        yield _send("ping")

    def _begin(self, index: int, block: Mapping[str, Any]) -> Iterator[bytes]:
        if index not in self._open:
            self._open.add(index)
            yield _send("content_block_start", index=index, content_block=block)

    def _delta(self, index: int, **delta: Any) -> bytes:
        return _send("content_block_delta", index=index, delta=delta)

    def _finish(self, index: int) -> Iterator[bytes]:
        if index in self._open:
            self._open.remove(index)
            yield _send("content_block_stop", index=index)

    def _stopped(self, stopped: chat.Stopped) -> bytes:
        """The totals again, as real streams do: the output is known only now."""
        told = usage_object({**self._input, **stopped.usage})
        known = usage_object(self._input)
        usage = {key: n for key, n in told.items() if key not in _START_ONLY or n != known[key]}
        delta = {"stop_reason": _STOPS[stopped.reason], "stop_sequence": None}
        return _send("message_delta", delta=delta, usage=usage)


_START_ONLY = frozenset({"service_tier", "cache_creation"})


def _send(kind: str, **fields: Any) -> bytes:
    return event(orjson.dumps({"type": kind, **fields}), kind)
