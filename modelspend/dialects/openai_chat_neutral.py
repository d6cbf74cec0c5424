"""Chat Completions in neutral words: requests read, answers written.

Every chunk of a written stream repeats the id and the model; tool calls are numbered among
themselves, apart from the parts.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from modelspend import chat
from modelspend.dialects.dialect import RequestView
from modelspend.dialects.openai_shape import (
    cached_total,
    function_tool,
    input_total,
    media,
    output_format,
    output_total,
    tool_choice,
    written_total,
)
from modelspend.dialects.reader import as_list, as_object, as_text
from modelspend.dialects.sse import event

NAME = "openai.chat"
_STOPS: dict[chat.StopReason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "pause": "stop",
    "other": "stop",
}
_EFFORT = "reasoning_effort"
_KNOWN = frozenset(
    {
        "model",
        "messages",
        "stream",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "max_completion_tokens",
        "max_tokens",
        "temperature",
        "top_p",
        "stop",
        "seed",
        _EFFORT,
    }
)


def request(view: RequestView) -> chat.Request:
    """A chat request in neutral words."""
    fields = view.body
    return chat.Request(
        model=view.model,
        origin=NAME,
        stream=view.stream,
        messages=tuple(_message(as_object(value)) for value in as_list(fields.get("messages"))),
        tools=tuple(_tool(as_object(value)) for value in as_list(fields.get("tools"))),
        tool_choice=tool_choice(fields, "function"),
        output=_output(as_object(fields.get("response_format"))),
        max_output=view.max_output,
        temperature=fields.get("temperature"),
        top_p=fields.get("top_p"),
        stop=_stops(fields.get("stop")),
        seed=fields.get("seed"),
        reasoning_effort=fields.get(_EFFORT),
        extra={key: value for key, value in fields.items() if key not in _KNOWN},
    )


def answer(said: chat.Answer) -> bytes:
    """A whole `chat.completion`."""
    choice = {
        "index": 0,
        "message": _answer_message(said.parts),
        "logprobs": None,
        "finish_reason": _STOPS[said.stop] if said.stop else None,
    }
    return orjson.dumps(
        {
            "id": said.answer_id,
            "object": "chat.completion",
            "created": said.extra.get("created", 0),
            "model": said.model,
            "choices": [choice],
            "usage": usage_object(said.usage),
            "service_tier": said.extra.get("service_tier", "default"),
            "system_fingerprint": said.extra.get("system_fingerprint"),
        }
    )


def usage_object(usage: Mapping[str, int]) -> dict[str, Any]:
    """The usage object of a chat answer; a cache write is told as OpenRouter tells it."""
    prompt, completion = input_total(usage), output_total(usage)
    details = {
        "cached_tokens": cached_total(usage),
        "audio_tokens": usage.get("input_audio_tokens", 0) + usage.get("cached_audio_tokens", 0),
    }
    if written := written_total(usage):
        details["cache_write_tokens"] = written
    if images := usage.get("input_image_tokens"):
        details["image_tokens"] = images
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": details,
        "completion_tokens_details": {
            "reasoning_tokens": usage.get("reasoning_tokens", 0),
            "audio_tokens": usage.get("output_audio_tokens", 0),
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _message(value: Mapping[str, Any]) -> chat.Message:
    role = value.get("role")
    known = {"role", "content", "tool_calls", "tool_call_id", "reasoning_content"}
    extra = {key: kept for key, kept in value.items() if key not in known}
    if role == "tool":
        result = chat.ToolResult(
            call_id=str(value.get("tool_call_id") or ""),
            parts=_parts(value.get("content")),
            name=extra.pop("name", None),
        )
        return chat.Message(role="tool", parts=(result,), extra=extra)
    thought = as_text(value.get("reasoning_content"))
    parts: tuple[chat.Part, ...] = (chat.Reasoning(text=thought, origin=NAME),) if thought else ()
    parts += _parts(value.get("content"))
    parts += tuple(_call(as_object(call)) for call in as_list(value.get("tool_calls")))
    if role in ("developer", "function"):
        extra["role"] = role
    neutral: dict[object, chat.Role] = {
        "system": "system",
        "developer": "system",
        "assistant": "assistant",
        "function": "tool",
    }
    return chat.Message(role=neutral.get(role, "user"), parts=parts, extra=extra)


def _parts(content: object) -> tuple[chat.Part, ...]:
    if isinstance(content, str):
        return (chat.Text(text=content),)
    return tuple(_part(as_object(part)) for part in as_list(content))


def _part(value: Mapping[str, Any]) -> chat.Part:
    match value.get("type"):
        case "text" if isinstance(value.get("text"), str):
            extra = {key: kept for key, kept in value.items() if key not in ("type", "text")}
            return chat.Text(text=value["text"], extra=extra)
        case "image_url":
            image = value.get("image_url")
            link = image if isinstance(image, str) else as_object(image).get("url")
            extra = {k: v for k, v in as_object(image).items() if k != "url"}
            return media("image", str(link or ""), extra)
        case "input_audio":
            audio = as_object(value.get("input_audio"))
            mime = f"audio/{audio.get('format') or 'wav'}"
            return chat.Media(kind="audio", mime=mime, data=audio.get("data"))
        case "file" if as_text(as_object(value.get("file")).get("file_data")):
            file = as_object(value.get("file"))
            extra = {k: v for k, v in file.items() if k != "file_data"}
            return media("file", file["file_data"], extra)
    return chat.Opaque(origin=NAME, value=value)


def _call(value: Mapping[str, Any]) -> chat.Part:
    function = value.get("function")
    if not isinstance(function, dict):
        return chat.Opaque(origin=NAME, value=value)
    return chat.ToolCall(
        call_id=str(value.get("id") or ""),
        name=str(function.get("name") or ""),
        arguments=str(function.get("arguments") or ""),
        extra={k: v for k, v in value.items() if k not in ("id", "type", "function")},
    )


def _tool(value: Mapping[str, Any]) -> chat.Tool | chat.Opaque:
    function = value.get("function")
    if value.get("type", "function") != "function" or not isinstance(function, dict):
        return chat.Opaque(origin=NAME, value=value)
    return function_tool(value, function)


def _output(value: Mapping[str, Any]) -> chat.OutputFormat | None:
    return output_format(value, as_object(value.get("json_schema")))


def _stops(value: object) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(map(str, as_list(value)))


def _answer_message(parts: Iterable[chat.Part]) -> dict[str, Any]:
    texts = [part.text for part in parts if isinstance(part, chat.Text)]
    thoughts = [part.text for part in parts if isinstance(part, chat.Reasoning)]
    calls = [
        {
            "id": part.call_id,
            "type": "function",
            "function": {"name": part.name, "arguments": part.arguments},
        }
        for part in parts
        if isinstance(part, chat.ToolCall)
    ]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts else None,
        "refusal": None,
        "annotations": [],
    }
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


class ChunkWriter:
    """Writes the chunks of one stream; every chunk repeats the id and the model."""

    def __init__(self, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._head: dict[str, Any] = {}
        self._calls: dict[int, int] = {}  # part index → place among the tool calls

    def write(self, events: Iterable[chat.StreamEvent]) -> Iterator[bytes]:
        for item in events:
            match item:
                case chat.Started():
                    self._start(item)
                    yield self._chunk({"role": "assistant", "content": "", "refusal": None})
                case chat.TextDelta():
                    yield self._chunk({"content": item.text})
                case chat.ReasoningDelta():
                    yield self._chunk({"reasoning_content": item.text})
                case chat.ToolCallStarted():
                    yield self._call(item)
                case chat.ArgumentsDelta():
                    delta = {"arguments": item.fragment}
                    yield self._tool_chunk(self._calls[item.index], {"function": delta})
                case chat.Stopped():
                    yield self._chunk({}, _STOPS[item.reason])
                    if self._include_usage:
                        yield self._send([], usage_object(item.usage))
                case chat.Failed():
                    told = {"message": item.message, "type": item.kind, "param": None, "code": None}
                    yield event(orjson.dumps({"error": told}))
                case chat.Ended():
                    yield event(b"[DONE]")
                case chat.PartEnded():
                    pass

    def _start(self, started: chat.Started) -> None:
        self._head = {
            "id": started.answer_id,
            "object": "chat.completion.chunk",
            "created": started.extra.get("created", 0),
            "model": started.model,
            "service_tier": started.extra.get("service_tier", "default"),
            "system_fingerprint": started.extra.get("system_fingerprint"),
        }

    def _call(self, started: chat.ToolCallStarted) -> bytes:
        place = self._calls.setdefault(started.index, len(self._calls))
        function = {"name": started.name, "arguments": ""}
        call = {"id": started.call_id, "type": "function", "function": function}
        return self._tool_chunk(place, call)

    def _tool_chunk(self, place: int, call: Mapping[str, Any]) -> bytes:
        return self._chunk({"tool_calls": [{"index": place, **call}]})

    def _chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._send([choice], None)

    def _send(self, choices: list[Any], usage: Mapping[str, Any] | None) -> bytes:
        chunk = {**self._head, "choices": choices}
        if self._include_usage:
            chunk["usage"] = usage
        return event(orjson.dumps(chunk))
