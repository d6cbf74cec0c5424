"""Chat Completions answers read into neutral words, whole and streamed.

Servers that speak this dialect differ where the protocol is loose: reasoning has three names, a
call may come without arguments or as an object, every call of an answer may be numbered 0, and
fragments of two calls may be told in turn. A call stays open until the end for that reason.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelspend import chat
from modelspend.dialects.decoder import SseDecoder
from modelspend.dialects.openai_chat_neutral import NAME, thinking_text, thoughts
from modelspend.dialects.openai_shape import argument_text, usage_buckets
from modelspend.dialects.reader import (
    as_list,
    as_name,
    as_object,
    as_text,
    as_usage,
    error_of,
    parsed,
    provider_error,
)

_STOPS: dict[str, chat.StopReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "refusal",
}


def answer(body: bytes) -> chat.Answer:
    """A whole answer, of which the first choice is read. Raises ValueError for anything else."""
    value = parsed(body)
    fields = as_object(value)
    choices = [choice for choice in as_list(fields.get("choices")) if isinstance(choice, dict)]
    if fields.get("error") or "choices" not in fields:
        told = provider_error(value)
        raise ValueError(told.message if told else "not a chat completion")
    first = choices[0] if choices else {}
    message = as_object(first.get("message"))
    parts = tuple(_parts(message))
    return chat.Answer(
        answer_id=as_name(fields.get("id")) or "",
        model=as_name(fields.get("model")) or "",
        parts=parts,
        stop=_stop(
            as_text(first.get("finish_reason")),
            called=any(isinstance(part, chat.ToolCall) for part in parts),
            refused=bool(as_text(message.get("refusal"))),
        ),
        usage=_usage(fields, first),
        extra=_extra(fields),
    )


def _stop(reason: str | None, *, called: bool, refused: bool) -> chat.StopReason:
    """Servers tell `stop`, or nothing, when a tool was called: what the answer holds decides."""
    told = _STOPS.get(reason, "other") if reason else "stop"
    if told == "stop" and refused:
        return "refusal"
    return "tool_calls" if called and told in ("stop", "other") else told


def _usage(fields: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, int]:
    told = fields.get("usage") or as_object(fields.get("x_groq")).get("usage")
    return usage_buckets(told or choice.get("usage"), "prompt", "completion")


def _extra(fields: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: as_name(fields.get(name)) for name in ("service_tier", "system_fingerprint")}
    extra: dict[str, Any] = {name: value for name, value in told.items() if value}
    if type(created := fields.get("created")) is int:
        extra["created"] = created
    return extra


def _parts(message: Mapping[str, Any]) -> Iterator[chat.Part]:
    details = as_list(message.get("reasoning_details"))
    sealed = _sealed(details)
    if told := thoughts(message) or _detailed(details):
        text = "".join(part.text for part in told if isinstance(part, chat.Reasoning))
        yield chat.Reasoning(text=text, sealed=sealed, origin=NAME)
    elif sealed:
        yield chat.Reasoning(text="", sealed=sealed, origin=NAME)
    yield from _content(message.get("content"))
    if refusal := as_text(message.get("refusal")):
        yield chat.Text(text=refusal, extra={"type": "refusal"})
    audio = as_object(message.get("audio"))
    if data := as_text(audio.get("data")):
        heard = {"transcript": audio.get("transcript")}
        yield chat.Media(kind="audio", data=data, extra=heard)
    for call in map(as_object, as_list(message.get("tool_calls"))):
        if part := _call(call):
            yield part
    called = as_object(message.get("function_call"))
    if as_text(called.get("name")):
        yield _function("", called)


def _content(content: object) -> Iterator[chat.Part]:
    if isinstance(content, str):
        if content:
            yield chat.Text(text=content)
        return
    for part in map(as_object, as_list(content)):
        if thought := thinking_text(part):
            yield chat.Reasoning(text=thought, origin=NAME)
        if text := as_text(part.get("text")):
            yield chat.Text(text=text)
        if refusal := as_text(part.get("refusal")):
            yield chat.Text(text=refusal, extra={"type": "refusal"})


def _call(call: Mapping[str, Any]) -> chat.Part | None:
    function = as_object(call.get("function"))
    if as_text(function.get("name")):
        return _function(as_text(call.get("id")) or "", function)
    return chat.Opaque(origin=NAME, value=call) if call else None


def _function(call_id: str, function: Mapping[str, Any]) -> chat.ToolCall:
    told = argument_text(function.get("arguments"))
    name = as_text(function.get("name")) or ""
    return chat.ToolCall(call_id=call_id, name=name, arguments=told if told.strip() else "{}")


def _detailed(details: object) -> tuple[chat.Part, ...]:
    """OpenRouter's structured reasoning, where it tells no plain one beside it."""
    words = (
        as_text(detail.get("text")) or as_text(detail.get("summary")) or ""
        for detail in map(as_object, as_list(details))
    )
    text = "".join(words)
    return (chat.Reasoning(text=text, origin=NAME),) if text else ()


def _sealed(details: object) -> str | None:
    for detail in map(as_object, as_list(details)):
        if sealed := as_text(detail.get("signature")) or as_text(detail.get("data")):
            return sealed
    return None


@dataclass(slots=True)
class _Slot:
    """One call of a stream; it starts when its name is known."""

    call_id: str = ""
    name: str = ""
    index: int | None = None
    waiting: list[str] = field(default_factory=list)
    empty: bool = True


class ChunkDecoder(SseDecoder):
    """Reads the chunks of one answer; the reason and the usage are told at `[DONE]`."""

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._kind = ""  # of the part that grows: text or reasoning
        self._index = 0
        self._slots: list[_Slot] = []
        self._by_key: dict[object, _Slot] = {}
        self._reason: str | None = None
        self._refused = False
        self._usage: dict[str, int] = {}

    def _take(self, name: bytes, value: Mapping[str, Any]) -> None:
        if told := value.get("error"):
            failed = error_of(told)
            self._say(chat.Failed(failed.kind, failed.message))
            return
        choices = [c for c in as_list(value.get("choices")) if isinstance(c, dict)]
        first = next((choice for choice in choices if not choice.get("index")), {})
        if (usage := _usage(value, first)) or as_usage(value.get("usage")):
            self._usage = usage
        if choices and not self._started:
            self._start(value)
        self._reason = as_text(first.get("finish_reason")) or self._reason
        self._delta(as_object(first.get("delta")))

    def _take_word(self, data: bytes) -> None:
        if not data.startswith(b"[DONE]"):
            return
        if not self._started:
            self._start({})
        self._end_words()
        for slot in self._slots:
            self._end_call(slot)
        called = bool(self._slots)
        reason = _stop(self._reason, called=called, refused=self._refused)
        self._say(chat.Stopped(reason, self._usage), chat.Ended())

    def _start(self, value: Mapping[str, Any]) -> None:
        self._started = True
        answer_id, model = as_name(value.get("id")), as_name(value.get("model"))
        self._say(chat.Started(answer_id=answer_id or "", model=model or "", extra=_extra(value)))

    def _delta(self, delta: Mapping[str, Any]) -> None:
        if told := thoughts(delta) or _detailed(delta.get("reasoning_details")):
            for part in told:
                self._grow(part)
        if sealed := _sealed(delta.get("reasoning_details")):
            self._grow(chat.Reasoning(text="", sealed=sealed))
        for part in _content(delta.get("content")):
            self._grow(part)
        if refusal := as_text(delta.get("refusal")):
            self._refused = True
            self._grow(chat.Text(text=refusal))
        if transcript := as_text(as_object(delta.get("audio")).get("transcript")):
            self.dropped["audio"] = None
            self._grow(chat.Text(text=transcript))
        for call in map(as_object, as_list(delta.get("tool_calls"))):
            self._call(call)
        called = as_object(delta.get("function_call"))
        if as_text(called.get("name")) or as_text(called.get("arguments")):
            self._call({"index": "function_call", "function": called})

    def _grow(self, part: chat.Part) -> None:
        match part:
            case chat.Text():
                self._turn_to("text")
                self._say(chat.TextDelta(self._index, part.text))
            case chat.Reasoning():
                self._turn_to("reasoning")
                self._say(chat.ReasoningDelta(self._index, part.text, part.sealed))

    def _turn_to(self, kind: str) -> None:
        if self._kind != kind:
            self._end_words()
            self._kind, self._index = kind, self._new_part()

    def _end_words(self) -> None:
        if self._kind:
            self._say(chat.PartEnded(self._index))
        self._kind = ""

    def _call(self, call: Mapping[str, Any]) -> None:
        function = as_object(call.get("function"))
        if not function and "custom" in call:
            self.dropped["custom"] = None
            return
        slot = self._slot(call, function)
        slot.call_id = slot.call_id or as_text(call.get("id")) or ""
        slot.name = slot.name or as_text(function.get("name")) or ""
        if slot.index is None and slot.name:
            self._begin(slot)
        if fragment := argument_text(function.get("arguments")):
            if slot.index is None:
                slot.waiting.append(fragment)
            else:
                self._fragment(slot, fragment)

    def _slot(self, call: Mapping[str, Any], function: Mapping[str, Any]) -> _Slot:
        """The call that a fragment belongs to: by number, else by id, else the last one.

        A new id with a name is a new call, whatever its number says.
        """
        call_id, number = as_text(call.get("id")), call.get("index")
        key: object = number if isinstance(number, int | str) else call_id
        known = self._by_key.get(key) if key is not None else None
        if key is None and self._slots and not as_text(function.get("name")):
            known = self._slots[-1]
        other = known and call_id and known.call_id and call_id != known.call_id
        if known is None or (other and as_text(function.get("name"))):
            self._end_words()
            known = _Slot()
            self._slots.append(known)
        if key is not None:
            self._by_key[key] = known
        return known

    def _begin(self, slot: _Slot) -> None:
        slot.index = self._new_part()
        self._say(chat.ToolCallStarted(slot.index, slot.call_id, slot.name))
        for fragment in slot.waiting:
            self._fragment(slot, fragment)

    def _fragment(self, slot: _Slot, fragment: str) -> None:
        if slot.index is not None:
            slot.empty = slot.empty and not fragment.strip()
            self._say(chat.ArgumentsDelta(slot.index, fragment))

    def _end_call(self, slot: _Slot) -> None:
        if slot.index is None:
            self._begin(slot)
        if slot.empty:
            self._fragment(slot, "{}")
        if slot.index is not None:
            self._say(chat.PartEnded(slot.index))
