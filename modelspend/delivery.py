"""An answer on its way from the dialect of a provider to the dialect of the client.

What a provider sealed (signatures, encrypted reasoning) stays behind: another vendor would refuse
it, and the client would send it back one day. Some clients must be given a tool call's arguments as
one JSON object, and their parts one after the other.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson

from modelspend import chat
from modelspend.tool_pairs import TURNS, made_id

_LONGEST = 64


def deliver(answer: chat.Answer, *, to: str) -> tuple[chat.Answer, tuple[str, ...]]:
    """The answer as the dialect `to` can say it, and the names of what it went without."""
    dropped: dict[str, None] = {}
    parts: list[chat.Part] = []
    for part in answer.parts:
        match part:
            case chat.Text():
                refusal = part.extra.get("type") == "refusal"
                parts.append(replace(part, extra={"type": "refusal"} if refusal else {}))
            case chat.Reasoning():
                if part.sealed:
                    dropped["thinking"] = None
                if part.text:
                    parts.append(chat.Reasoning(text=part.text))
            case chat.ToolCall():
                call_id = part.call_id or made_id(answer.answer_id, part.name, str(len(parts)))
                told = whole_arguments(part.arguments, to)
                parts.append(chat.ToolCall(call_id=call_id, name=part.name, arguments=told))
            case chat.Media():
                dropped[part.kind] = None
                if said := part.extra.get("transcript"):
                    parts.append(chat.Text(text=str(said)))
            case chat.Opaque():
                dropped[kind_of(part)] = None
            case chat.ToolResult():
                dropped["tool_result"] = None
    return replace(answer, parts=tuple(parts)), tuple(dropped)


def kind_of(part: chat.Opaque) -> str:
    """The vendor's own name for a part: its type, or where it has none the first of its keys."""
    kind = part.value.get("type")
    return shown(kind if isinstance(kind, str) and kind else next(iter(part.value), "part"))


def shown(name: str) -> str:
    """A stranger's name as it may stand in a message, a header and on a receipt."""
    return name if name.isprintable() and 0 < len(name) <= _LONGEST else "(a long or odd name)"


def whole_arguments(said: str, to: str) -> str:
    """Arguments that a dialect can say: nothing is `{}`, and some take an object only."""
    said = said if said.strip() else "{}"
    return said if to not in TURNS or is_object(said) else wrapped(said)


def is_object(said: str) -> bool:
    try:
        return isinstance(orjson.loads(said), dict)
    except ValueError:
        return False


def wrapped(said: str) -> str:
    """Arguments that are no JSON object, kept whole inside one."""
    return orjson.dumps({"raw_arguments": said}).decode()


class Delivery:
    """A streamed answer on its way; `dropped` names what it has gone without so far."""

    def __init__(self, *, to: str) -> None:
        self.dropped: dict[str, None] = {}
        self._to = to
        self._answer_id = ""
        self._calls: dict[int, str] = {}  # arguments so far of each call that is open
        self._numbers: dict[int, int] = {}  # parts are counted anew: one may have been dropped
        # In some dialects the reason is the end, so it is told only when the end has come.
        self._stopped: chat.Stopped | None = None
        self._open: list[int] = []
        self._held: dict[int, list[chat.StreamEvent]] = {}

    def feed(self, events: Iterable[chat.StreamEvent]) -> Sequence[chat.StreamEvent]:
        """The events as the client's dialect can say them; some wait for a part to end."""
        carried = [told for event in events for told in self._one(event)]
        passed = [told for event in carried for told in self._numbered(event)]
        if self._to not in TURNS:
            return passed
        return [told for event in passed for told in self._in_turn(event)]

    def _one(self, event: chat.StreamEvent) -> Iterator[chat.StreamEvent]:
        match event:
            case chat.Started():
                self._answer_id = event.answer_id
                yield event
            case chat.ReasoningDelta():
                if event.sealed:
                    self.dropped["thinking"] = None
                if event.text:
                    yield chat.ReasoningDelta(event.index, event.text)
            case chat.ToolCallStarted():
                self._calls[event.index] = ""
                made = made_id(self._answer_id, event.name, str(event.index))
                yield replace(event, call_id=event.call_id or made)
            case chat.ArgumentsDelta() if event.index in self._calls:
                self._calls[event.index] += event.fragment
                if self._to != "gemini.generate":
                    yield event
            case chat.PartEnded():
                yield from self._end_call(event.index)
                yield event
            case chat.Stopped():
                for index in list(self._calls):
                    yield from self._end_call(index)
                self._stopped = event
            case chat.Ended():
                yield self._stopped or chat.Stopped("stop")
                yield event
            case _:
                yield event

    def _numbered(self, event: chat.StreamEvent) -> Iterator[chat.StreamEvent]:
        match event:
            case chat.TextDelta() | chat.ReasoningDelta() | chat.ToolCallStarted():
                number = self._numbers.setdefault(event.index, len(self._numbers))
                yield replace(event, index=number)
            case chat.ArgumentsDelta() | chat.PartEnded():
                if event.index in self._numbers:
                    yield replace(event, index=self._numbers[event.index])
            case _:
                yield event

    def _end_call(self, index: int) -> Iterator[chat.StreamEvent]:
        """Google's clients get arguments whole, all others what is missing: nothing is `{}`."""
        said = self._calls.pop(index, None)
        if said is None:
            return
        if self._to == "gemini.generate":
            yield chat.ArgumentsDelta(index, whole_arguments(said, self._to))
        elif not said.strip():
            yield chat.ArgumentsDelta(index, "{}")

    # Anthropic's clients expect each block to stop before the next one starts, and Google's get a
    # part when it is whole; Chat Completions may tell two calls at once.

    def _in_turn(self, event: chat.StreamEvent) -> Iterator[chat.StreamEvent]:
        index: Any = getattr(event, "index", None)
        if index is None:
            if isinstance(event, chat.Stopped):
                yield from self._let_go(everything=True)
            yield event
            return
        if index not in self._open:
            self._open.append(index)
        if index != self._open[0]:
            self._held.setdefault(index, []).append(event)
            return
        yield event
        if isinstance(event, chat.PartEnded):
            self._open.pop(0)
            yield from self._let_go()

    def _let_go(self, *, everything: bool = False) -> Iterator[chat.StreamEvent]:
        """What was held of the part whose turn it is, and of all that have ended after it."""
        while self._open:
            held = self._held.pop(self._open[0], [])
            yield from held
            ended = bool(held) and isinstance(held[-1], chat.PartEnded)
            if not ended and not everything:
                return
            self._open.pop(0)
