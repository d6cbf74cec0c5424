"""Gemini's answers written from neutral words: whole ones, and streams in either framing.

Thoughts are counted outside the candidates here, and inside the output everywhere else. A written
tool call is never in fragments: it goes out when its arguments are whole.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from modelspend import chat
from modelspend.dialects.media_types import media_type
from modelspend.dialects.writing import arguments_object

_STOPS: dict[chat.StopReason, str] = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
    "refusal": "PROHIBITED_CONTENT",
    "pause": "STOP",
    "other": "OTHER",
}


def answer(said: chat.Answer) -> bytes:
    """A whole answer object."""
    parts = [_part_object(part) for part in said.parts if not _says_nothing(part)]
    told = _chunk(said.answer_id, said.model, parts, said.usage, said.stop)
    return orjson.dumps(told)


def stream(events: Iterable[chat.StreamEvent], as_array: bool) -> Iterator[bytes]:
    """Each answer object as a server-sent event, or as one element of an array."""
    if not as_array:
        return EventWriter().write(events)
    return _whole_array(events)


def _whole_array(events: Iterable[chat.StreamEvent]) -> Iterator[bytes]:
    writer = ArrayWriter()
    yield from writer.write(events)
    yield from writer.close()


def usage_object(usage: Mapping[str, int]) -> dict[str, Any]:
    """The usage object: cached inside the prompt, thoughts outside the candidates."""
    images = usage.get("input_image_tokens", 0)
    audio = usage.get("input_audio_tokens", 0) + usage.get("cached_audio_tokens", 0)
    cached = usage.get("cache_read_tokens", 0) + usage.get("cached_audio_tokens", 0)
    text = usage.get("input_tokens", 0) + usage.get("cache_read_tokens", 0)
    text += usage.get("cache_write_5m_tokens", 0) + usage.get("cache_write_1h_tokens", 0)
    thoughts = usage.get("reasoning_tokens", 0)
    spoken, drawn = usage.get("output_audio_tokens", 0), usage.get("output_image_tokens", 0)
    written = usage.get("output_tokens", 0) - thoughts
    prompt, given = text + audio + images, written + spoken + drawn
    told: dict[str, Any] = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": given,
        "totalTokenCount": prompt + given + thoughts,
        "promptTokensDetails": _modalities(TEXT=text, AUDIO=audio, IMAGE=images),
    }
    if thoughts:
        told["thoughtsTokenCount"] = thoughts
    if spoken or drawn:
        details = _modalities(TEXT=written, AUDIO=spoken, IMAGE=drawn)
        told["candidatesTokensDetails"] = details
    if cached:
        cached_audio = usage.get("cached_audio_tokens", 0)
        told["cachedContentTokenCount"] = cached
        details = _modalities(TEXT=cached - cached_audio, AUDIO=cached_audio)
        told["cacheTokensDetails"] = details
    return told


def _modalities(**counts: int) -> list[dict[str, Any]]:
    return [{"modality": name, "tokenCount": n} for name, n in counts.items() if n]


def _chunk(
    answer_id: str,
    model: str,
    parts: list[dict[str, Any]],
    usage: Mapping[str, int] | None,
    stop: chat.StopReason | None,
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
    if stop:
        candidate["finishReason"] = _STOPS[stop]
    told: dict[str, Any] = {"candidates": [candidate | {"index": 0}]}
    if usage is not None:
        told["usageMetadata"] = usage_object(usage)
    return told | {"modelVersion": model, "responseId": answer_id}


def _says_nothing(part: chat.Part) -> bool:
    return isinstance(part, chat.Text) and not part.text


def _part_object(part: chat.Part) -> dict[str, Any]:
    match part:
        case chat.Text():
            return {"text": part.text}
        case chat.Reasoning():
            sealed = {"thoughtSignature": part.sealed} if part.sealed else {}
            return {"text": part.text, "thought": True, **sealed}
        case chat.ToolCall():
            call = {"name": part.name, "args": arguments_object(part.arguments)}
            return {"functionCall": {"id": part.call_id, **call} if part.call_id else call}
        case chat.Media() if part.data:
            return {"inlineData": {"mimeType": media_type(part), "data": part.data}}
        case chat.Opaque():
            return dict(part.value)
    raise ValueError(f"a candidate cannot hold a part of type {type(part).__name__}")


class _ChunkWriter:
    """Turns stream events into answer objects.

    A tool call is written when it and those begun before it are whole. The reason to finish is the
    end of a stream here, so it waits for the end.
    """

    def __init__(self) -> None:
        self._id = self._model = ""
        self._usage: Mapping[str, int] = {}
        self._calls: dict[int, list[str]] = {}  # part index → [call id, name, arguments so far]
        self._whole: set[int] = set()
        self._stopped = chat.Stopped("other")

    def write(self, events: Iterable[chat.StreamEvent]) -> Iterator[dict[str, Any]]:
        for item in events:
            match item:
                case chat.Started():
                    self._id, self._model, self._usage = item.answer_id, item.model, item.usage
                case chat.TextDelta() if item.text:
                    yield self._say({"text": item.text})
                case chat.ReasoningDelta():
                    thought = chat.Reasoning(text=item.text, sealed=item.sealed)
                    yield self._say(_part_object(thought))
                case chat.ToolCallStarted():
                    self._calls[item.index] = [item.call_id, item.name, ""]
                case chat.ArgumentsDelta() if item.index in self._calls:
                    self._calls[item.index][2] += item.fragment
                case chat.PartEnded():
                    self._whole.add(item.index)
                    yield from self._whole_calls()
                case chat.Stopped():
                    self._stopped = item
                    self._whole |= self._calls.keys()
                    yield from self._whole_calls()
                case chat.Failed():
                    told = {"code": 500, "message": item.message, "status": item.kind}
                    yield {"error": told}
                case chat.Ended():
                    usage = {**self._usage, **self._stopped.usage}
                    last = [{"text": ""}]
                    yield _chunk(self._id, self._model, last, usage, self._stopped.reason)
                case _:
                    pass

    def _say(self, part: dict[str, Any]) -> dict[str, Any]:
        return _chunk(self._id, self._model, [part], self._usage or None, None)

    def _whole_calls(self) -> Iterator[dict[str, Any]]:
        while self._calls and (first := next(iter(self._calls))) in self._whole:
            call_id, name, arguments = self._calls.pop(first)
            call = chat.ToolCall(call_id=call_id, name=name, arguments=arguments)
            yield self._say(_part_object(call))


class EventWriter:
    """Writes a stream as server-sent events, for a client that asked with `alt=sse`."""

    def __init__(self) -> None:
        self._chunks = _ChunkWriter()

    def write(self, events: Iterable[chat.StreamEvent]) -> Iterator[bytes]:
        for chunk in self._chunks.write(events):
            yield b"data: %b\r\n\r\n" % orjson.dumps(chunk)


class ArrayWriter:
    """Writes a stream as one array, closed with the end of the answer or with its failure."""

    def __init__(self) -> None:
        self._chunks = _ChunkWriter()
        self._lead = b"["
        self._closed = False

    def write(self, events: Iterable[chat.StreamEvent]) -> Iterator[bytes]:
        for item in events:
            for chunk in self._chunks.write([item]):
                yield self._lead + orjson.dumps(chunk)
                self._lead = b",\r\n"
            if isinstance(item, chat.Ended | chat.Failed):
                yield from self.close()

    def close(self) -> Iterator[bytes]:
        if not self._closed:
            self._closed = True
            yield b"[]" if self._lead == b"[" else b"]"
