"""Responses answers read into neutral words, whole and streamed.

Every item of a stream is told three times over: in fragments, at its own end, and in the last
event. What the fragments left out is taken from the later ones, so servers that tell items only
once are understood too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelspend import chat
from modelspend.dialects.decoder import SseDecoder
from modelspend.dialects.openai_responses_neutral import NAME, thought
from modelspend.dialects.openai_shape import argument_text, usage_buckets
from modelspend.dialects.reader import (
    as_list,
    as_name,
    as_object,
    as_text,
    error_of,
    parsed,
    provider_error,
)

_CUTS: dict[str, chat.StopReason] = {
    "max_output_tokens": "length",
    "content_filter": "content_filter",
}
_UNFINISHED = ("queued", "in_progress", "failed", "cancelled")


def answer(body: bytes) -> chat.Answer:
    """A whole answer. Raises ValueError for anything else, one still in the making included."""
    value = parsed(body)
    fields = as_object(value)
    if fields.get("error") or "output" not in fields:
        told = provider_error(value)
        raise ValueError(told.message if told else "not a response")
    if fields.get("status") in _UNFINISHED:
        raise ValueError(f"the response is {fields['status']}")
    parts = tuple(part for item in as_list(fields["output"]) for part in _parts(as_object(item)))
    return chat.Answer(
        answer_id=as_name(fields.get("id")) or "",
        model=as_name(fields.get("model")) or "",
        parts=parts,
        stop=_stop(
            fields,
            called=any(isinstance(part, chat.ToolCall) for part in parts),
            refused=any(
                isinstance(part, chat.Text) and part.extra.get("type") == "refusal"
                for part in parts
            ),
        ),
        usage=usage_buckets(fields.get("usage"), "input", "output"),
        extra=_extra(fields),
    )


def _stop(fields: Mapping[str, Any], *, called: bool, refused: bool) -> chat.StopReason:
    if fields.get("status") == "incomplete":
        reason = as_text(as_object(fields.get("incomplete_details")).get("reason"))
        return _CUTS.get(reason or "", "other")
    if called:
        return "tool_calls"
    return "refusal" if refused else "stop"


def _extra(fields: Mapping[str, Any]) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    created = fields.get("created_at")
    if isinstance(created, int | float) and 0 < created < 2**53:
        extra["created"] = int(created)
    if tier := as_name(fields.get("service_tier")):
        extra["service_tier"] = tier
    return extra


def _parts(item: Mapping[str, Any]) -> Iterator[chat.Part]:
    match item.get("type"):
        case "message":
            for part in map(as_object, as_list(item.get("content"))):
                if refusal := as_text(part.get("refusal")):
                    yield chat.Text(text=refusal, extra={"type": "refusal"})
                elif text := as_text(part.get("text")):
                    yield chat.Text(text=text)
        case "function_call":
            said = argument_text(item.get("arguments"))
            yield chat.ToolCall(
                call_id=as_text(item.get("call_id")) or "",
                name=as_text(item.get("name")) or "",
                arguments=said if said.strip() else "{}",
            )
        case "reasoning":
            told = thought(item)
            if told.text or told.sealed:
                yield chat.Reasoning(text=told.text, sealed=told.sealed, origin=NAME)
        case _ if item:
            yield chat.Opaque(origin=NAME, value=item)


@dataclass(slots=True)
class _Item:
    """One output item of a stream: its parts by their number in the item, and what was said."""

    kind: str = ""
    parts: dict[int, int] = field(default_factory=dict)
    said: dict[int, str] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    source: str = ""  # of reasoning: its summary, or what was thought
    done: bool = False


class EventDecoder(SseDecoder):
    """Reads the events of one response up to the last, which says how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._items: dict[int, _Item] = {}
        self._called = self._refused = False

    def _take(self, name: bytes, value: Mapping[str, Any]) -> None:
        kind = as_text(value.get("type")) or name.decode("utf-8", "replace")
        match kind:
            case "response.created" | "response.in_progress" | "response.queued":
                self._start(as_object(value.get("response")))
            case "response.output_item.added":
                self._added(_number(value, "output_index"), as_object(value.get("item")))
            case "response.output_item.done":
                self._done(_number(value, "output_index"), as_object(value.get("item")))
            case "response.output_text.delta" | "response.refusal.delta":
                self._refused |= kind == "response.refusal.delta"
                self._text(value, "content_index", "text")
            case "response.content_part.done":
                self._end(_number(value, "output_index"), _number(value, "content_index"))
            case "response.reasoning_summary_text.delta":
                self._text(value, "summary_index", "summary")
            case "response.reasoning_text.delta":
                self._text(value, "content_index", "content")
            case "response.function_call_arguments.delta":
                self._fragment(_number(value, "output_index"), as_text(value.get("delta")) or "")
            case "response.completed" | "response.incomplete":
                self._finish(as_object(value.get("response")), kind.rpartition(".")[2])
            case "response.failed" | "response.cancelled" | "error":
                self._failed(value)
            case _ if value.get("error"):
                self._failed(value)

    def _start(self, response: Mapping[str, Any]) -> None:
        if self._started:
            return
        self._started = True
        self._say(
            chat.Started(
                answer_id=as_name(response.get("id")) or "",
                model=as_name(response.get("model")) or "",
                extra=_extra(response),
            )
        )

    def _added(self, at: int, item: Mapping[str, Any]) -> _Item:
        self._start({})
        known = self._items.setdefault(at, _Item())
        if known.kind or not (kind := as_text(item.get("type"))):
            return known
        known.kind = kind
        if kind == "function_call":
            self._called = True
            known.parts[0] = index = self._new_part()
            call_id, name = as_text(item.get("call_id")), as_text(item.get("name"))
            self._say(chat.ToolCallStarted(index, call_id or "", name or ""))
        elif kind not in ("message", "reasoning"):
            self.dropped[kind] = None
        return known

    def _text(self, value: Mapping[str, Any], numbered: str, source: str) -> None:
        text = value.get("delta")
        if not isinstance(text, str) or not text:
            return
        at, number = _number(value, "output_index"), _number(value, numbered)
        kind = "message" if source == "text" else "reasoning"
        item = self._added(at, {"type": kind})
        if source == "text":
            self._say_text(item, number, text)
        elif item.source in ("", source):
            item.source = source
            self._say_thought(item, number, text)

    def _say_text(self, item: _Item, number: int, text: str) -> None:
        if number not in item.parts:
            item.parts[number] = self._new_part()
        item.said[number] = item.said.get(number, "") + text
        self._say(chat.TextDelta(item.parts[number], text))

    def _say_thought(self, item: _Item, number: int, text: str) -> None:
        """All summaries of an item are one part, a line each, as when it is read whole."""
        if 0 not in item.parts:
            item.parts[0] = self._new_part()
        elif number not in item.said:
            text = f"\n{text}"
        item.said[number] = item.said.get(number, "") + text
        self._say(chat.ReasoningDelta(item.parts[0], text))

    def _fragment(self, at: int, fragment: str) -> None:
        item = self._added(at, {"type": "function_call"})
        if fragment and 0 in item.parts and not item.done:
            item.said[0] = item.said.get(0, "") + fragment
            self._say(chat.ArgumentsDelta(item.parts[0], fragment))

    def _done(self, at: int, told: Mapping[str, Any]) -> None:
        """The end of an item: what its fragments did not tell is told now."""
        item = self._added(at, told)
        if item.done:
            return
        match item.kind:
            case "message":
                for number, part in enumerate(as_list(told.get("content"))):
                    self._late_text(item, number, as_object(part))
            case "function_call":
                said = argument_text(told.get("arguments"))
                if not item.said.get(0, "").strip():
                    self._fragment(at, said if said.strip() else "{}")
            case "reasoning":
                self._late_thought(item, told)
        item.done = True
        for number in list(item.parts):
            self._end(at, number)

    def _late_text(self, item: _Item, number: int, part: Mapping[str, Any]) -> None:
        refusal = as_text(part.get("refusal"))
        self._refused |= bool(refusal)
        text = refusal or as_text(part.get("text"))
        if text and number not in item.said:
            self._say_text(item, number, text)

    def _late_thought(self, item: _Item, told: Mapping[str, Any]) -> None:
        whole = thought(told)
        if whole.text and 0 not in item.parts:
            self._say_thought(item, 0, whole.text)
        if whole.sealed:
            if 0 not in item.parts:
                item.parts[0] = self._new_part()
            self._say(chat.ReasoningDelta(item.parts[0], "", whole.sealed))

    def _end(self, at: int, number: int) -> None:
        item = self._items.get(at)
        if item is None or number not in item.parts or number in item.ended:
            return
        item.ended.add(number)
        self._say(chat.PartEnded(item.parts[number]))

    def _finish(self, response: Mapping[str, Any], outcome: str) -> None:
        self._start(response)
        if response.get("error"):
            self._failed({"response": response})
            return
        for at, told in enumerate(as_list(response.get("output"))):
            self._done(at, as_object(told))
        for at in list(self._items):
            self._done(at, {})
        reason = _stop({**response, "status": outcome}, called=self._called, refused=self._refused)
        usage = usage_buckets(response.get("usage"), "input", "output")
        self._say(chat.Stopped(reason, usage), chat.Ended())

    def _failed(self, value: Mapping[str, Any]) -> None:
        told = as_object(value.get("response")).get("error") or value.get("error") or value
        failed = error_of(told)
        self._say(chat.Failed(failed.kind, failed.message))


def _number(value: Mapping[str, Any], name: str) -> int:
    number = value.get(name)
    return number if type(number) is int and number >= 0 else 0
