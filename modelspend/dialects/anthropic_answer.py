"""Anthropic's answers in neutral words: whole ones and streams.

Blocks that have no neutral words (tools that Anthropic runs, and their results) are kept in a whole
answer and left out of a stream, whose other parts are numbered without them. Usage comes as running
totals: a later one replaces an earlier one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from modelspend import chat
from modelspend.dialects.anthropic_neutral import part
from modelspend.dialects.decoder import SseDecoder
from modelspend.dialects.reader import as_object, as_text, error_of, parsed
from modelspend.errors import BadRequest

_STOPS: dict[str, chat.StopReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "refusal",
}
_BESIDE = ("stop_sequence", "stop_details", "container", "context_management")


def answer(body: bytes) -> chat.Answer:
    """A whole message. Raises ValueError for anything else."""
    message = as_object(parsed(body))
    content = message.get("content")
    if message.get("type") == "error" or not isinstance(content, list):
        raise ValueError("The body is no message.")
    try:
        parts = tuple(part(as_object(block), f"content[{at}]") for at, block in enumerate(content))
    except BadRequest as fault:
        raise ValueError(fault.message) from None
    return chat.Answer(
        answer_id=as_text(message.get("id")) or "",
        model=as_text(message.get("model")) or "",
        parts=tuple(said for said in parts if not _says_nothing(said)),
        stop=_stop(message.get("stop_reason")),
        usage=buckets(as_object(message.get("usage"))),
        extra={name: message[name] for name in _BESIDE if message.get(name)},
    )


def _says_nothing(said: chat.Part) -> bool:
    return isinstance(said, chat.Text) and not said.text and not said.extra


def _stop(told: object) -> chat.StopReason | None:
    if told is None:
        return None
    return _STOPS.get(told, "other") if isinstance(told, str) else "other"


def buckets(usage: Mapping[str, Any]) -> dict[str, int]:
    """The disjoint buckets of a usage object; input leaves out what is read from the cache or
    written to it. Writes whose split does not add up are of five minutes."""
    split = as_object(usage.get("cache_creation"))
    short = _count(split.get("ephemeral_5m_input_tokens"))
    long = _count(split.get("ephemeral_1h_input_tokens"))
    written = _count(usage.get("cache_creation_input_tokens"))
    if usage.get("cache_creation_input_tokens") is not None and short + long != written:
        short, long = written, 0
    told = {
        "input_tokens": _count(usage.get("input_tokens")),
        "cache_read_tokens": _count(usage.get("cache_read_input_tokens")),
        "cache_write_5m_tokens": short,
        "cache_write_1h_tokens": long,
        "output_tokens": _count(usage.get("output_tokens")),
        "reasoning_tokens": _count(
            as_object(usage.get("output_tokens_details")).get("thinking_tokens")
        ),
        "web_searches": _count(as_object(usage.get("server_tool_use")).get("web_search_requests")),
    }
    return {name: n for name, n in told.items() if n}


def _count(value: object) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return max(int(value), 0) if whole else 0  # type: ignore[call-overload]


class MessageDecoder(SseDecoder):
    """Reads a stream of named events from `message_start` to `message_stop`."""

    def __init__(self) -> None:
        super().__init__()
        self._usage: dict[str, Any] = {}
        self._places: dict[int, int | None] = {}  # block index → part index; None says nothing
        self._seals: dict[int, str] = {}
        self._stopped = False

    def _take(self, name: bytes, value: Mapping[str, Any]) -> None:
        self._say(*self._meaning(value.get("type") or name.decode("utf-8", "replace"), value))

    def _meaning(self, kind: object, value: Mapping[str, Any]) -> Iterator[chat.StreamEvent]:
        match kind:
            case "content_block_delta":
                yield from self._delta(_index(value), as_object(value.get("delta")))
            case "content_block_start":
                yield from self._start(_index(value), as_object(value.get("content_block")))
            case "content_block_stop":
                place = self._places.get(_index(value))
                if place is not None:
                    yield chat.PartEnded(place)
            case "message_start":
                yield self._started(as_object(value.get("message")))
            case "message_delta":
                self._merge(value.get("usage"))
                reason = _stop(as_object(value.get("delta")).get("stop_reason"))
                if reason is not None:
                    yield from self._stop(reason)
            case "message_stop":
                if not self._stopped:
                    yield from self._stop("other")
                yield chat.Ended()
            case "error":
                told = error_of(value.get("error") or value)
                yield chat.Failed(told.kind, told.message)

    def _started(self, message: Mapping[str, Any]) -> chat.StreamEvent:
        self._merge(message.get("usage"))
        return chat.Started(
            answer_id=as_text(message.get("id")) or "",
            model=as_text(message.get("model")) or "",
            usage=buckets(self._usage),
        )

    def _merge(self, usage: object) -> None:
        told = as_object(usage)
        self._usage |= {name: kept for name, kept in told.items() if kept is not None}

    def _stop(self, reason: chat.StopReason) -> Iterator[chat.StreamEvent]:
        self._stopped = True
        yield chat.Stopped(reason, buckets(self._usage))

    def _start(self, index: int, block: Mapping[str, Any]) -> Iterator[chat.StreamEvent]:
        match block.get("type"):
            case "text":
                yield from self._write(self._open(index), block.get("text"))
            case "thinking":
                place = self._open(index)
                yield from self._think(place, block.get("thinking"))
                yield from self._seal(place, block.get("signature"))
            case "redacted_thinking":
                yield from self._seal(self._open(index), block.get("data"))
            case "tool_use":
                place = self._open(index)
                call_id, called = str(block.get("id") or ""), str(block.get("name") or "")
                yield chat.ToolCallStarted(place, call_id, called)
                if asked := as_object(block.get("input")):  # some servers do not cut it up
                    yield chat.ArgumentsDelta(place, orjson.dumps(asked).decode())
            case kind:
                self._places[index] = None
                self.dropped[as_text(kind) or "part"] = None

    def _delta(self, index: int, delta: Mapping[str, Any]) -> Iterator[chat.StreamEvent]:
        kind = delta.get("type")
        place = self._places[index] if index in self._places else self._open(index)
        if place is None:
            return
        match kind:
            case "text_delta":
                yield from self._write(place, delta.get("text"))
            case "input_json_delta":
                if fragment := as_text(delta.get("partial_json")):
                    yield chat.ArgumentsDelta(place, fragment)
            case "thinking_delta":
                yield from self._think(place, delta.get("thinking"))
            case "signature_delta":
                yield from self._seal(place, delta.get("signature"))

    def _open(self, index: int) -> int:
        place = self._places[index] = self._new_part()
        return place

    def _write(self, place: int, text: object) -> Iterator[chat.StreamEvent]:
        if told := as_text(text):
            yield chat.TextDelta(place, told)

    def _think(self, place: int, text: object) -> Iterator[chat.StreamEvent]:
        if told := as_text(text):
            yield chat.ReasoningDelta(place, told)

    def _seal(self, place: int, seal: object) -> Iterator[chat.StreamEvent]:
        """A signature; one that comes in pieces is told as far as it is known."""
        if told := as_text(seal):
            whole = self._seals[place] = self._seals.get(place, "") + told
            yield chat.ReasoningDelta(place, "", whole)


def _index(value: Mapping[str, Any]) -> int:
    told = value.get("index")
    return told if isinstance(told, int) else 0
