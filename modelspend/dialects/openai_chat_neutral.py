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
    argument_text,
    cached_total,
    file_part,
    function_tool,
    input_total,
    knows_choice,
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
        extra=_extra(fields),
    )


def _extra(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Every field without a word of its own here, and those whose value has none."""
    extra = {key: value for key, value in fields.items() if key not in _KNOWN}
    form = fields.get("response_format")
    if form is not None and _output(as_object(form)) is None:
        extra["response_format"] = form
    if not knows_choice(fields.get("tool_choice"), "function"):
        extra["tool_choice"] = fields["tool_choice"]
    return extra


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


ROLES: dict[Any, chat.Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_THOUGHTS = ("reasoning_content", "reasoning")  # DeepSeek's name and OpenRouter's
_SAID = frozenset({"role", "content", "tool_calls", "tool_call_id", "function_call", "refusal"})


def _message(value: Mapping[str, Any]) -> chat.Message:
    role = value.get("role")
    known = {*_SAID, *(name for name in _THOUGHTS if isinstance(value.get(name), str))}
    extra = {key: kept for key, kept in value.items() if key not in known}
    if role in ("tool", "function"):
        result = chat.ToolResult(
            call_id=str(value.get("tool_call_id") or ""),
            parts=_parts(value.get("content")),
            name=as_text(extra.pop("name", None)),
        )
        if role == "function":
            extra["role"] = role
        return chat.Message(role="tool", parts=(result,), extra=extra)
    parts = thoughts(value) + _parts(value.get("content"))
    if refusal := as_text(value.get("refusal")):
        parts += (chat.Text(text=refusal, extra={"type": "refusal"}),)
    parts += tuple(_call(as_object(call)) for call in as_list(value.get("tool_calls")))
    if called := as_object(value.get("function_call")):
        parts += (_call({"function": called, "field": "function_call"}),)
    if role == "developer":
        extra["role"] = role
    return chat.Message(role=ROLES.get(role, "user"), parts=parts, extra=extra)


def thoughts(value: Mapping[str, Any]) -> tuple[chat.Part, ...]:
    """What a message tells of its reasoning beside its content, under either name."""
    for name in _THOUGHTS:
        if thought := as_text(value.get(name)):
            return (chat.Reasoning(text=thought, origin=NAME, extra={"field": name}),)
    return ()


def _parts(content: object) -> tuple[chat.Part, ...]:
    if isinstance(content, str):
        return (chat.Text(text=content),)
    return tuple(_part(as_object(part)) for part in as_list(content))


def _part(value: Mapping[str, Any]) -> chat.Part:
    kind = value.get("type", "text")
    beside = {key: kept for key, kept in value.items() if key not in ("type", kind)}
    match kind:
        case "text" if isinstance(value.get("text"), str):
            return chat.Text(text=value["text"], extra=beside)
        case "refusal" if isinstance(value.get("refusal"), str):
            return chat.Text(text=value["refusal"], extra={"type": "refusal"})
        case "thinking":  # Mistral's, which holds texts of its own
            return chat.Reasoning(text=thinking_text(value), origin=NAME, extra={"part": value})
        case "image_url" | "video_url" | "document_url":  # the last is Mistral's
            linked = value.get(kind)
            link = linked if isinstance(linked, str) else as_text(as_object(linked).get("url"))
            extra = _around(linked, "url", beside)
            if kind == "document_url":
                extra["field"] = kind
            if link:
                return media(_LINKED[kind], link, extra)
        case "input_audio" if as_text(as_object(value.get(kind)).get("data")):
            audio = as_object(value.get(kind))
            mime = f"audio/{as_text(audio.get('format')) or 'wav'}"
            extra = _around(audio, "data", beside)
            return chat.Media(kind="audio", mime=mime, data=audio["data"], extra=extra)
        case "file" if link := as_text(as_object(value.get(kind)).get("file_data")):
            return file_part(link, _around(value.get(kind), "file_data", beside))
    return chat.Opaque(origin=NAME, value=value)


def _around(inner: object, known: str, beside: Mapping[str, Any]) -> dict[str, Any]:
    """What a medium's object says more, and under `part` what stands beside that object."""
    extra = {key: kept for key, kept in as_object(inner).items() if key not in (known, "format")}
    return extra | ({"part": beside} if beside else {})


_LINKED = {"image_url": "image", "video_url": "video", "document_url": "file"}


def thinking_text(part: Mapping[str, Any]) -> str:
    """The words of a thinking part of Mistral: one text, or a list of them."""
    told = part.get("thinking")
    if isinstance(told, str):
        return told
    texts = (as_object(text).get("text") for text in as_list(told))
    return "".join(text for text in texts if isinstance(text, str))


def _call(value: Mapping[str, Any]) -> chat.Part:
    function = value.get("function")
    if not isinstance(function, dict) or value.get("type", "function") != "function":
        return chat.Opaque(origin=NAME, value=value)
    return chat.ToolCall(
        call_id=str(value.get("id") or ""),
        name=str(function.get("name") or ""),
        arguments=argument_text(function.get("arguments")),
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
    words = [part for part in parts if isinstance(part, chat.Text)]
    texts = [part.text for part in words if part.extra.get("type") != "refusal"]
    refusals = [part.text for part in words if part.extra.get("type") == "refusal"]
    thoughts = [part.text for part in parts if isinstance(part, chat.Reasoning)]
    calls = [
        {
            "id": part.call_id,
            "type": "function",
            "function": {"name": part.name, "arguments": part.arguments or "{}"},
        }
        for part in parts
        if isinstance(part, chat.ToolCall)
    ]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts else None,
        "refusal": "".join(refusals) if refusals else None,
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
                case chat.ArgumentsDelta() if item.index in self._calls:
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
                case chat.PartEnded() | chat.ArgumentsDelta():
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
