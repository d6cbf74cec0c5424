"""OpenAI Chat Completions, the protocol that most providers speak in some accent.

A stream carries its usage only when asked (`stream_options.include_usage`), and then as one more
chunk with empty `choices` before `[DONE]`. Some providers tell it unasked on the last content
chunk; so when we asked and the client did not, only the extra chunk and the null members that the
question causes are taken out again.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from modelspend import chat
from modelspend.dialects import jsonbody
from modelspend.dialects.dialect import AnswerNote, RequestView
from modelspend.dialects.openai_shape import (
    cached_total,
    error_body,
    function_tool,
    input_total,
    output_format,
    output_total,
    written_total,
)
from modelspend.dialects.reader import (
    EventReader,
    as_list,
    as_object,
    as_text,
    count_chars,
    error_of,
    opening,
    provider_error,
    served_tier,
)
from modelspend.dialects.sse import event, parse_event
from modelspend.errors import ModelspendError

NAME = "openai.chat"
_OPTION = b'"stream_options":{"include_usage":true}'
_ASKED = b'"include_usage":true'
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


class OpenAIChat:
    """The `openai.chat` dialect."""

    name = NAME
    native_provider = "openai"
    billable = True
    streams_json = False
    usage_may_follow = False
    billable = True
    streams_json = False
    usage_may_follow = False

    def read(self, path: str, body: bytes) -> RequestView:
        fields = jsonbody.decode(body)
        model = jsonbody.asked_model(fields)
        options = jsonbody.optional_object(fields, "stream_options")
        asked = jsonbody.flag(options, "include_usage", "stream_options.")
        stream = jsonbody.flag(fields, "stream")
        session = jsonbody.optional_text(fields, "prompt_cache_key")
        return RequestView(
            model=model,
            stream=stream,
            body=fields,
            max_output=jsonbody.limit(fields, "max_completion_tokens", "max_tokens"),
            session=session or None,
            session_source="prompt_cache_key" if session else None,
            wants_usage=asked or not stream,
        )

    def target(self, view: RequestView, model: str) -> str:
        return "/chat/completions"

    def with_model(self, body: bytes, view: RequestView, model: str) -> bytes:
        return splice_model(body, model)

    def with_usage(self, body: bytes, view: RequestView) -> bytes | None:
        if view.wants_usage:
            return None
        if "stream_options" not in view.body:
            return jsonbody.prepend(body, _OPTION)
        options = jsonbody.there(body, "stream_options")
        if not isinstance(view.body["stream_options"], dict):
            return jsonbody.replace(body, options, b"{" + _ASKED + b"}")
        asked = jsonbody.member(body, "include_usage", options.value)
        if asked is None:
            return jsonbody.prepend(body, _ASKED, options.value)
        return jsonbody.replace(body, asked, b"true")

    def reader(self, view: RequestView, *, hide_usage: bool) -> "ChatReader":
        return ChatReader(hide_usage=hide_usage)

    def note(self, body: bytes) -> AnswerNote:
        reader = ChatReader(hide_usage=False)
        reader.take_answer(body)
        return reader.note

    def input_chars(self, view: RequestView) -> int:
        return count_chars([view.body.get("messages"), view.body.get("tools")])

    def prefix(self, view: RequestView) -> bytes:
        texts: list[object] = []
        for message in map(as_object, as_list(view.body.get("messages"))):
            texts.append(message.get("content"))
            if message.get("role") == "user":
                break
        return opening(*texts)

    def error_body(self, error: ModelspendError) -> bytes:
        return error_body(error)

    def error_event(self, error: ModelspendError) -> bytes:
        return event(error_body(error))

    def decode_request(self, path: str, body: bytes) -> chat.Request:
        view = self.read(path, body)
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

    def encode_answer(self, answer: chat.Answer) -> bytes:
        choice = {
            "index": 0,
            "message": _answer_message(answer.parts),
            "logprobs": None,
            "finish_reason": _STOPS[answer.stop] if answer.stop else None,
        }
        return orjson.dumps(
            {
                "id": answer.answer_id,
                "object": "chat.completion",
                "created": answer.extra.get("created", 0),
                "model": answer.model,
                "choices": [choice],
                "usage": usage_object(answer.usage),
                "service_tier": answer.extra.get("service_tier", "default"),
                "system_fingerprint": answer.extra.get("system_fingerprint"),
            }
        )

    def encode_stream(
        self, events: Iterable[chat.StreamEvent], *, include_usage: bool = True
    ) -> Iterator[bytes]:
        return _ChunkWriter(include_usage).write(events)


def splice_model(body: bytes, model: str) -> bytes:
    """The same bytes with another top-level `model`; `read` has seen that there is one."""
    return jsonbody.replace(body, jsonbody.there(body, "model"), orjson.dumps(model))


class ChatReader(EventReader):
    """Reads a stream of chunks; with `hide_usage` it takes out what asking for usage caused."""

    def __init__(self, *, hide_usage: bool) -> None:
        super().__init__()
        self._hide = hide_usage

    def take_answer(self, body: bytes) -> None:
        """Learn from a whole answer, or from the body of an error."""
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            return
        fields = as_object(value)
        self._identify(fields)
        for choice in map(as_object, as_list(fields.get("choices"))):
            self._choice(choice, as_object(choice.get("message")))
        if "choices" in fields and not fields.get("error"):
            self._end()
        else:
            self.note.error = provider_error(value)

    def _failure(self, error: ModelspendError) -> bytes:
        return event(error_body(error))

    def _take(self, name: bytes, value: Mapping[str, Any], raw: bytes) -> bytes:
        if told := value.get("error"):
            self.note.error = error_of(told)
        self._identify(value)
        choices = value.get("choices")
        for choice in as_list(choices):
            if isinstance(choice, dict):
                self._choice(choice, as_object(choice.get("delta")))
        if self._hide and "usage" in value:
            return _without_usage(raw, value["usage"], choices)
        return raw

    def _take_word(self, data: bytes) -> None:
        if data.startswith(b"[DONE]"):
            self._end()

    def _identify(self, value: Mapping[str, Any]) -> None:
        note = self.note
        if note.model is None or note.answer_id is None:  # Azure's first chunk leaves both empty
            note.answer_id = as_text(value.get("id")) or note.answer_id
            note.model = as_text(value.get("model")) or note.model
        if tier := value.get("service_tier"):
            note.service_tier = served_tier(tier)
        usage = value.get("usage")
        if usage is None and "x_groq" in value:
            usage = as_object(value["x_groq"]).get("usage")
        if isinstance(usage, dict):
            note.usage = usage

    def _choice(self, choice: Mapping[str, Any], said: Mapping[str, Any]) -> None:
        if reason := as_text(choice.get("finish_reason")):
            self.note.finish_reason = reason
        if usage := as_object(choice.get("usage")):  # Moonshot tells it here
            self.note.usage = self.note.usage or dict(usage)
        content = said.get("content")
        if content:
            if isinstance(content, str):
                self._wrote(content)
            else:
                self._parts(content)
        if len(said) > 1 or not content:
            self._wrote(said.get("reasoning_content") or said.get("reasoning"))
            self._wrote(said.get("refusal"))
            self._calls(said)

    def _calls(self, said: Mapping[str, Any]) -> None:
        self._function(said.get("function_call"))
        for call in as_list(said.get("tool_calls")):
            if isinstance(call, dict):
                self._function(call.get("function") or call.get("custom"))
        if audio := as_object(said.get("audio")):
            self.note.content = True
            self._wrote(audio.get("transcript"))

    def _function(self, function: object) -> None:
        if isinstance(function, dict):
            for key in ("name", "arguments", "input"):
                self._wrote(function.get(key))

    def _parts(self, parts: object) -> None:
        """Mistral's content parts: text, and thinking that holds texts of its own."""
        for part in map(as_object, as_list(parts)):
            self._wrote(part.get("text"))
            self._parts(part.get("thinking"))


def _without_usage(raw: bytes, usage: object, choices: object) -> bytes:
    """An event without what asking for usage caused; the extra chunk goes away whole."""
    if usage is not None:
        return b"" if choices == [] else raw
    data = parse_event(raw)[1] or b""
    place = jsonbody.member(data, "usage")
    start = raw.find(data)
    if place is None or start < 0:
        return raw  # data told in several lines: no provider does, and cutting there is no splice
    return raw[:start] + jsonbody.cut(data, place) + raw[start + len(data) :]


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


def media(kind: Any, link: str, extra: Mapping[str, Any]) -> chat.Media:
    """A `data:` link as inline data, any other as a link that is never fetched."""
    if link.startswith("data:") and ";base64," in link:
        mime, _, data = link[5:].partition(";base64,")
        return chat.Media(kind=kind, mime=mime or None, data=data, extra=extra)
    return chat.Media(kind=kind, url=link, extra=extra)


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


def tool_choice(fields: Mapping[str, Any], nested: str) -> chat.ToolChoice | None:
    """`tool_choice` and `parallel_tool_calls`; a named choice stands one level down in `nested`."""
    choice, parallel = fields.get("tool_choice"), fields.get("parallel_tool_calls")
    if isinstance(choice, dict):
        name = as_object(choice.get(nested) if nested else choice).get("name")
        return chat.ToolChoice("named", str(name or ""), parallel)
    if choice in ("none", "required", "auto"):
        return chat.ToolChoice(choice, None, parallel)
    return None if parallel is None else chat.ToolChoice("auto", None, parallel)


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


class _ChunkWriter:
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
