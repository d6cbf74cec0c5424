"""Responses answers written from neutral words, whole and streamed.

The ids of items are derived from the answer's: the same answer gives the same ids either way.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from modelspend import chat
from modelspend.dialects.openai_shape import (
    cached_total,
    input_total,
    output_total,
    written_total,
)
from modelspend.dialects.reader import as_list
from modelspend.dialects.sse import event


def answer(said: chat.Answer) -> bytes:
    """A whole response object."""
    output = [_item(part, said.answer_id, n) for n, part in enumerate(said.parts)]
    return orjson.dumps(
        _response(said.answer_id, said.model, said.extra, output, said.usage, said.stop)
    )


def usage_object(usage: Mapping[str, int]) -> dict[str, Any]:
    """The usage object of a response: cached inside input, reasoning inside output."""
    taken, given = input_total(usage), output_total(usage)
    details = {"cached_tokens": cached_total(usage)}
    if written := written_total(usage):
        details["cache_write_tokens"] = written
    return {
        "input_tokens": taken,
        "input_tokens_details": details,
        "output_tokens": given,
        "output_tokens_details": {"reasoning_tokens": usage.get("reasoning_tokens", 0)},
        "total_tokens": taken + given,
    }


_CUTS = {
    "length": "max_output_tokens",
    "content_filter": "content_filter",
    "refusal": "content_filter",  # stopped by the vendor; the model's own words are a refusal part
}


def _refuses(output: list[dict[str, Any]]) -> bool:
    return any(
        part.get("type") == "refusal" for item in output for part in as_list(item.get("content"))
    )


def _response(
    answer_id: str,
    model: str,
    extra: Mapping[str, Any],
    output: list[dict[str, Any]],
    usage: Mapping[str, int] | None,
    stop: chat.StopReason | None,
) -> dict[str, Any]:
    """A response object; without usage it is one still in progress."""
    cut = _CUTS.get(stop or "") if not _refuses(output) else None
    done = "incomplete" if cut else "completed"
    return {
        "id": answer_id,
        "object": "response",
        "created_at": extra.get("created", 0),
        "status": "in_progress" if usage is None else done,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": cut} if cut else None,
        "instructions": None,
        "max_output_tokens": None,
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": extra.get("service_tier", "default"),
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None if usage is None else usage_object(usage),
        "user": None,
        "metadata": {},
    }


def _item(part: chat.Part, answer_id: str, n: int) -> dict[str, Any]:
    """One output item, whole. Its id is derived: the same answer, the same ids."""
    tail = f"{answer_id.removeprefix('resp_')}{n:02d}"
    match part:
        case chat.Text():
            refusal = {"type": "refusal", "refusal": part.text}
            refused = part.extra.get("type") == "refusal"
            content = [refusal if refused else _text_part(part.text)]
            return _message_item(f"msg_{tail}", "completed", content)
        case chat.ToolCall():
            said = part.arguments or "{}"
            return _call_item(f"fc_{tail}", part.call_id, part.name, said, "completed")
        case chat.Reasoning():
            return _reasoning_item(f"rs_{tail}", part.text, part.sealed)
        case chat.Opaque():
            return dict(part.value)
    raise ValueError(f"a response cannot hold a part of type {type(part).__name__}")


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message_item(item_id: str, status: str, content: list[Any]) -> dict[str, Any]:
    return {
        "id": item_id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _call_item(item_id: str, call_id: str, name: str, args: str, status: str) -> dict[str, Any]:
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": args,
    }


def _reasoning_item(item_id: str, text: str, sealed: str | None) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": text}] if text else []
    item: dict[str, Any] = {"id": item_id, "type": "reasoning", "summary": summary}
    return item | ({"encrypted_content": sealed} if sealed else {})


class EventWriter:
    """Writes the events of one response, numbering them and keeping the items for the last one."""

    def __init__(self) -> None:
        self._sequence = 0
        self._id = self._model = ""
        self._stopped = chat.Stopped("stop")
        self._extra: Mapping[str, Any] = {}
        self._open: dict[int, list[Any]] = {}  # part index → [kind, text so far, call id, name]
        self._items: dict[int, dict[str, Any]] = {}

    def write(self, events: Iterable[chat.StreamEvent]) -> Iterator[bytes]:
        for item in events:
            match item:
                case chat.Started():
                    self._id, self._model, self._extra = item.answer_id, item.model, item.extra
                    yield self._send("response.created", response=self._now())
                    yield self._send("response.in_progress", response=self._now())
                case chat.TextDelta():
                    yield from self._grow(item.index, "text", item.text)
                case chat.ReasoningDelta():
                    yield from self._grow(item.index, "reasoning", item.text, item.sealed)
                case chat.ToolCallStarted():
                    yield from self._begin(item.index, "call", item.call_id, item.name)
                case chat.ArgumentsDelta():
                    yield from self._grow(item.index, "call", item.fragment)
                case chat.PartEnded():
                    yield from self._finish(item.index)
                case chat.Stopped():
                    for index in list(self._open):
                        yield from self._finish(index)
                    self._stopped = item
                case chat.Failed():
                    yield self._failed(item)
                case chat.Ended():
                    yield self._last(self._stopped)

    def _now(self) -> dict[str, Any]:
        return _response(self._id, self._model, self._extra, [], None, None)

    def _send(self, kind: str, **fields: Any) -> bytes:
        data = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return event(orjson.dumps(data), kind)

    def _item_id(self, index: int, kind: str) -> str:
        prefix = {"text": "msg", "call": "fc", "reasoning": "rs"}[kind]
        return f"{prefix}_{self._id.removeprefix('resp_')}{index:02d}"

    def _begin(self, index: int, kind: str, call_id: str = "", name: str = "") -> Iterator[bytes]:
        self._open[index] = [kind, "", call_id, name]
        item_id = self._item_id(index, kind)
        where = {"item_id": item_id, "output_index": index}
        if kind == "call":
            item = _call_item(item_id, call_id, name, "", "in_progress")
        elif kind == "reasoning":
            item = _reasoning_item(item_id, "", None)
        else:
            item = _message_item(item_id, "in_progress", [])
        yield self._send("response.output_item.added", output_index=index, item=item)
        if kind == "text":
            part = _text_part("")
            yield self._send("response.content_part.added", **where, content_index=0, part=part)
        elif kind == "reasoning":
            empty = {"type": "summary_text", "text": ""}
            added = "response.reasoning_summary_part.added"
            yield self._send(added, **where, summary_index=0, part=empty)

    def _grow(self, index: int, kind: str, text: str, sealed: str | None = None) -> Iterator[bytes]:
        if index not in self._open:
            yield from self._begin(index, kind)
        state = self._open[index]
        state[1] += text
        state[2] = sealed or state[2]
        where = {"item_id": self._item_id(index, kind), "output_index": index}
        if kind == "text":
            extra: dict[str, Any] = {"content_index": 0, "delta": text, "logprobs": []}
            yield self._send("response.output_text.delta", **where, **extra)
        elif kind == "call":
            yield self._send("response.function_call_arguments.delta", **where, delta=text)
        elif text:
            extra = {"summary_index": 0, "delta": text}
            yield self._send("response.reasoning_summary_text.delta", **where, **extra)

    def _finish(self, index: int) -> Iterator[bytes]:
        if index not in self._open:
            return
        kind, text, call_id, name = self._open.pop(index)
        item_id = self._item_id(index, kind)
        where = {"item_id": item_id, "output_index": index}
        if kind == "text":
            part = _text_part(text)
            done = {"content_index": 0, "text": text, "logprobs": []}
            yield self._send("response.output_text.done", **where, **done)
            yield self._send("response.content_part.done", **where, content_index=0, part=part)
            item = _message_item(item_id, "completed", [part])
        elif kind == "call":
            ended = "response.function_call_arguments.done"
            yield self._send(ended, **where, arguments=text, name=name)
            item = _call_item(item_id, call_id, name, text, "completed")
        else:
            told = {"type": "summary_text", "text": text}
            done = {"summary_index": 0, "text": text}
            yield self._send("response.reasoning_summary_text.done", **where, **done)
            ended = "response.reasoning_summary_part.done"
            yield self._send(ended, **where, summary_index=0, part=told)
            item = _reasoning_item(item_id, text, call_id or None)
        self._items[index] = item
        yield self._send("response.output_item.done", output_index=index, item=item)

    def _failed(self, failed: chat.Failed) -> bytes:
        told = {"code": failed.kind, "message": failed.message, "param": None}
        nested = {"type": failed.kind, **told}
        return self._send("error", **told, error=nested)

    def _last(self, stopped: chat.Stopped) -> bytes:
        output = [self._items[index] for index in sorted(self._items)]
        response = _response(
            self._id, self._model, self._extra, output, stopped.usage, stopped.reason
        )
        return self._send(f"response.{response['status']}", response=response)
