"""Gemini's answers in neutral words: whole ones, and streams in either framing.

A stream has no event of its own for the end: it is whole when every candidate has its reason to
finish, and what follows such an event still belongs to it; so the end is told when the bytes end
(or the array does). A blocked prompt is an answer without words that was filtered. Only the first
candidate is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelspend import chat
from modelspend.dialects.decoder import SseDecoder
from modelspend.dialects.gemini_neutral import part
from modelspend.dialects.jsonarray import JsonArraySplitter, element
from modelspend.dialects.reader import as_list, as_object, as_text, error_of, parsed

_STOPS: dict[str, chat.StopReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "ESCALATION": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "PROHIBITED_CONTENT": "refusal",
    "IMAGE_PROHIBITED_CONTENT": "refusal",
    "JAILBREAK": "refusal",
}
_NUMBERED = ("", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER")
"""The reasons that have one number on all of Google's transports."""
_UNSAID = (None, "", 0, "FINISH_REASON_UNSPECIFIED")


def answer(body: bytes) -> chat.Answer:
    """A whole answer, or one written as an array. Raises ValueError for anything else."""
    value = parsed(body)
    if isinstance(value, list):
        return _folded(body)
    told = as_object(value)
    blocked = as_object(told.get("promptFeedback")).get("blockReason")
    candidates = [kept for kept in as_list(told.get("candidates")) if isinstance(kept, dict)]
    if told.get("error") or not (candidates or blocked):
        raise ValueError("The body is no answer.")
    first = candidates[0] if candidates else {}
    found = as_list(as_object(first.get("content")).get("parts"))
    parts = tuple(part(said) for said in found if isinstance(said, dict) and said)
    return chat.Answer(
        answer_id=as_text(told.get("responseId")) or "",
        model=as_text(told.get("modelVersion")) or "",
        parts=tuple(said for said in parts if not _says_nothing(said)),
        stop=_stop(first.get("finishReason"), blocked, _calls(parts)),
        usage=buckets(as_object(told.get("usageMetadata"))),
    )


def _folded(body: bytes) -> chat.Answer:
    decoder = AnswerDecoder()
    events = [*decoder.feed(body), *decoder.close()]
    if not any(isinstance(event, chat.Started) for event in events):
        raise ValueError("The body is no answer.")
    return chat.fold(events)


def _says_nothing(said: chat.Part) -> bool:
    return isinstance(said, chat.Text) and not said.text and not said.extra


def _calls(parts: Sequence[chat.Part]) -> bool:
    return any(isinstance(said, chat.ToolCall) for said in parts)


def _stop(told: object, blocked: object, calls: bool) -> chat.StopReason | None:
    if told in _UNSAID and not blocked:
        return None
    if told in _UNSAID:
        return _STOPS.get(str(blocked), "content_filter")
    name = str(told)
    if isinstance(told, int):
        name = _NUMBERED[told] if 0 < told < len(_NUMBERED) else ""
    stop = _STOPS.get(name, "other")
    return "tool_calls" if calls and stop in ("stop", "other") else stop


def buckets(usage: Mapping[str, Any]) -> dict[str, int]:
    """The disjoint buckets of a usage object: cached is inside the prompt, thoughts and the prompt
    of Google's own tools are beside what they belong to."""
    given = _count(usage, "promptTokenCount") + _count(usage, "toolUsePromptTokenCount")
    cached = min(_count(usage, "cachedContentTokenCount"), given)
    thoughts = _count(usage, "thoughtsTokenCount")
    written = _count(usage, "candidatesTokenCount")
    details = ("promptTokensDetails", "toolUsePromptTokensDetails")
    audio = sum(_modality(usage, name, "AUDIO", 4) for name in details)
    images = sum(_modality(usage, name, "IMAGE", 2, "DOCUMENT", 5) for name in details)
    heard = min(_modality(usage, "cacheTokensDetails", "AUDIO", 4), cached, audio)
    seen = _modality(usage, "cacheTokensDetails", "IMAGE", 2, "DOCUMENT", 5)
    seen = min(seen, cached - heard, images)
    spoken = min(_modality(usage, "candidatesTokensDetails", "AUDIO", 4), written)
    drawn = min(_modality(usage, "candidatesTokensDetails", "IMAGE", 2), written - spoken)
    told = {
        "input_tokens": given - cached - (audio - heard) - (images - seen),
        "cache_read_tokens": cached - heard,
        "cached_audio_tokens": heard,
        "input_audio_tokens": audio - heard,
        "input_image_tokens": images - seen,
        "output_tokens": written + thoughts - spoken - drawn,
        "output_audio_tokens": spoken,
        "output_image_tokens": drawn,
        "reasoning_tokens": thoughts,
    }
    return {name: n for name, n in told.items() if n > 0}


def _count(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    return value if type(value) is int and 0 < value < 2**53 else 0


def _modality(usage: Mapping[str, Any], name: str, *kinds: object) -> int:
    told = map(as_object, as_list(usage.get(name)))
    return sum(_count(item, "tokenCount") for item in told if item.get("modality") in kinds)


class AnswerDecoder(SseDecoder):
    """Reads either framing; each event is a whole answer object with the next parts."""

    def __init__(self) -> None:
        super().__init__()
        self._lead: bytes | None = b""  # white space before the first byte that tells the framing
        self._array = False
        self._started = False
        self._open: tuple[str, int] | None = None  # the kind and index of the part that grows
        self._usage: dict[str, int] = {}
        self._reason: object = None
        self._blocked: object = None
        self._called = False
        self._unfinished: set[str] = set()
        self._finished: set[str] = set()

    def feed(self, chunk: bytes) -> Sequence[chat.StreamEvent]:
        if self._lead is not None:
            chunk = self._lead + chunk
            start = chunk.lstrip(b" \t\r\n")
            if not start:
                self._lead = chunk
                return ()
            self._lead = None
            if start.startswith(b"["):
                self._array = True
                self._splitter = JsonArraySplitter()
        return super().feed(chunk)

    def close(self) -> Sequence[chat.StreamEvent]:
        told = [*super().close()]
        if not self._array:
            self._end()
        return [*told, *self._told()]

    def _data(self, raw: bytes) -> tuple[bytes, bytes | None]:
        return (b"", element(raw)) if self._array else super()._data(raw)

    def _take_word(self, data: bytes) -> None:
        """Only the `]` of an array reaches us without being an object."""
        if self._array and data == b"]":
            self._end()

    def _take(self, name: bytes, value: Mapping[str, Any]) -> None:
        if told := value.get("error"):
            error = error_of(told)
            self._say(chat.Failed(error.kind, error.message))
            return
        if usage := as_object(value.get("usageMetadata")):
            self._usage = buckets(usage)
        self._start(value)
        for candidate in map(as_object, as_list(value.get("candidates"))):
            self._candidate(candidate)
        if blocked := as_object(value.get("promptFeedback")).get("blockReason"):
            self._blocked = blocked

    def _start(self, value: Mapping[str, Any]) -> None:
        if not self._started and value.keys() & {"candidates", "promptFeedback", "usageMetadata"}:
            self._started = True
            answer_id = as_text(value.get("responseId")) or ""
            model = as_text(value.get("modelVersion")) or ""
            self._say(chat.Started(answer_id=answer_id, model=model, usage=self._usage))

    def _candidate(self, candidate: Mapping[str, Any]) -> None:
        index = str(candidate.get("index") or 0)
        reason = candidate.get("finishReason")
        if reason not in _UNSAID:
            self._finished.add(index)
            self._unfinished.discard(index)
        elif index not in self._finished:
            self._unfinished.add(index)
        if index != "0":
            return
        self._reason = self._reason if reason in _UNSAID else reason
        for said in as_list(as_object(candidate.get("content")).get("parts")):
            if isinstance(said, dict) and said:
                self._say(*self._part(part(said)))

    def _part(self, said: chat.Part) -> Iterator[chat.StreamEvent]:
        match said:
            case chat.Text():
                self._note_seal(said.extra)
                if said.text:
                    yield from self._grow("text")
                    yield chat.TextDelta(self._parts - 1, said.text)
            case chat.Reasoning() if said.text or said.sealed:
                yield from self._grow("thought")
                yield chat.ReasoningDelta(self._parts - 1, said.text, said.sealed)
            case chat.ToolCall():
                self._note_seal(said.extra)
                self._called = True
                yield from self._stop_growing()
                index = self._new_part()
                yield chat.ToolCallStarted(index, said.call_id, said.name)
                yield chat.ArgumentsDelta(index, said.arguments)
                yield chat.PartEnded(index)
            case chat.Media():
                self.dropped[said.kind] = None
            case chat.Opaque():
                self.dropped[next(iter(said.value), "part")] = None

    def _note_seal(self, extra: Mapping[str, Any]) -> None:
        if "thoughtSignature" in extra:
            self.dropped["thinking"] = None

    def _grow(self, kind: str) -> Iterator[chat.StreamEvent]:
        if self._open is not None and self._open[0] == kind:
            return
        yield from self._stop_growing()
        self._open = (kind, self._new_part())

    def _stop_growing(self) -> Iterator[chat.StreamEvent]:
        if self._open is not None:
            yield chat.PartEnded(self._open[1])
            self._open = None

    def _end(self) -> None:
        """Tell the end, if the answer is whole."""
        if self._over or self._unfinished or not (self._finished or self._blocked):
            return
        reason = _stop(self._reason, self._blocked, self._called) or "other"
        self._say(*self._stop_growing())
        self._say(chat.Stopped(reason, self._usage), chat.Ended())
