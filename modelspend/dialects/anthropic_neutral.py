"""Anthropic Messages in neutral words: requests read, answers written.

A tool's input is an object here and JSON text there. `message_delta` repeats the totals of the
whole message; what only `message_start` tells in real streams is left to it.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from modelspend import chat
from modelspend.dialects.checks import an_object, number, objects, role, texts
from modelspend.dialects.dialect import RequestView
from modelspend.dialects.effort import effort_of
from modelspend.dialects.reader import as_object, as_text
from modelspend.dialects.sse import event
from modelspend.dialects.writing import arguments_object

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
        "thinking",
        "output_config",
        "output_format",
    }
)
_ROLES = ("user", "assistant", "system")


def request(view: RequestView) -> chat.Request:
    """A message request in neutral words. Raises BadRequest."""
    fields = view.body
    system = _parts(fields.get("system"), "system")
    first = (chat.Message(role="system", parts=system),) if system else ()
    output, effort, rest = _output_config(fields)
    return chat.Request(
        model=view.model,
        origin=NAME,
        stream=view.stream,
        messages=first
        + tuple(
            _message(value, f"messages[{at}]")
            for at, value in enumerate(objects(fields.get("messages"), "messages"))
        ),
        tools=tuple(_tool(value) for value in objects(fields.get("tools"), "tools")),
        tool_choice=_tool_choice(an_object(fields.get("tool_choice"), "tool_choice")),
        output=output,
        max_output=view.max_output,
        temperature=number(fields, "temperature"),
        top_p=number(fields, "top_p"),
        stop=texts(fields.get("stop_sequences"), "stop_sequences"),
        reasoning_effort=effort,
        extra={key: value for key, value in fields.items() if key not in _KNOWN} | rest,
    )


def _output_config(
    fields: Mapping[str, Any],
) -> tuple[chat.OutputFormat | None, str | None, dict[str, Any]]:
    """The format and effort asked for, and what of those fields has no neutral words.

    A budget says an effort too; it stays as well, since it says more.
    """
    config = dict(an_object(fields.get("output_config"), "output_config"))
    thinking = an_object(fields.get("thinking"), "thinking")
    told = config.get("format") or fields.get("output_format")  # its name while it was in beta
    output = _output(an_object(told, "output_config.format"))
    if output is not None:
        config.pop("format", None)
    implied = implied_effort(thinking)
    effort = as_text(config.get("effort"))
    if effort and implied is None:
        del config["effort"]
    rest: dict[str, Any] = {"output_config": config} if config else {}
    if thinking and not (dict(thinking) == {"type": "disabled"} and effort is None):
        rest["thinking"] = thinking
    return output, effort or implied, rest


def implied_effort(thinking: Mapping[str, Any]) -> str | None:
    """The effort that a thinking field says by itself."""
    match thinking.get("type"):
        case "disabled":
            return "none"
        case "enabled":
            return effort_of(thinking.get("budget_tokens"))
    return None


def _output(form: Mapping[str, Any]) -> chat.OutputFormat | None:
    if form.get("type") != "json_schema" or not isinstance(form.get("schema"), dict):
        return None
    return chat.OutputFormat(kind="json_schema", schema=form["schema"])


def answer(said: chat.Answer) -> bytes:
    """A whole message."""
    told = _message_object(said.answer_id, said.model, said.usage)
    told["content"] = [block for part in said.parts if (block := _block(part)) is not None]
    told["stop_reason"] = _STOPS[said.stop] if said.stop else None
    return orjson.dumps(told)


def _message(value: Mapping[str, Any], place: str) -> chat.Message:
    told: Any = role(value.get("role"), _ROLES, f"{place}.role")
    parts = _parts(value.get("content"), f"{place}.content")
    extra = {key: kept for key, kept in value.items() if key not in ("role", "content")}
    return chat.Message(role=told, parts=parts, extra=extra)


def _parts(content: object, place: str) -> tuple[chat.Part, ...]:
    if isinstance(content, str):
        return (chat.Text(text=content),) if content else ()
    blocks = objects(content, place)
    return tuple(part(block, f"{place}[{at}]") for at, block in enumerate(blocks))


def part(block: Mapping[str, Any], place: str) -> chat.Part:
    """One content block, of a request or an answer. Raises BadRequest."""
    extra = {k: v for k, v in block.items() if k not in _PART_FIELDS and v is not None}
    match block.get("type"):
        case "text" if isinstance(block.get("text"), str):
            return chat.Text(text=block["text"], extra=extra)
        case "image" | "document" as kind:
            if found := _media(kind, as_object(block.get("source")), extra):
                return found
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
                parts=_parts(block.get("content"), f"{place}.content"),
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
            sealed = as_text(block.get("data"))
            return chat.Reasoning(text="", sealed=sealed, origin=NAME, extra=REDACTED)
    return chat.Opaque(origin=NAME, value=block)


REDACTED: Mapping[str, Any] = {"type": "redacted_thinking"}
"""Beside reasoning of which nothing may be read: its seal stands under another name."""


def _media(kind: str, source: Mapping[str, Any], extra: Mapping[str, Any]) -> chat.Media | None:
    media: Any = "image" if kind == "image" else "file"
    match source.get("type"):
        case "base64" | "url":
            return chat.Media(
                kind=media,
                mime=as_text(source.get("media_type")),
                data=as_text(source.get("data")),
                url=as_text(source.get("url")),
                extra=extra,
            )
        case "text" if isinstance(source.get("data"), str):
            data = b64encode(source["data"].encode("utf-8", "replace")).decode()
            return chat.Media(kind="file", mime="text/plain", data=data, extra=extra)
    return None  # a file that Anthropic keeps, or blocks within a block


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


def _block(said: chat.Part) -> dict[str, Any] | None:
    """A part of an answer as a block; None for an empty text, which could not be sent back."""
    match said:
        case chat.Text():
            return {"type": "text", "text": said.text} if said.text else None
        case chat.ToolCall():
            asked = arguments_object(said.arguments)
            return {"type": "tool_use", "id": said.call_id, "name": said.name, "input": asked}
        case chat.Reasoning():
            if said.extra.get("type") == "redacted_thinking":
                return {"type": "redacted_thinking", "data": said.sealed or ""}
            return {"type": "thinking", "thinking": said.text, "signature": said.sealed or ""}
        case chat.Opaque():
            return dict(said.value)
    raise ValueError(f"a message cannot hold a part of type {type(said).__name__}")


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
                case chat.TextDelta() if item.text:
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
