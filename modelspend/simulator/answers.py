"""What the simulated model says: a pure function of the seed, the request and its number.

The answer is made in the neutral shape; `dialects` puts it on the wire. Big answers carry a mark
in place of their text, which becomes filler only while it is being sent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

import orjson

from modelspend import chat
from modelspend.record import frozen
from modelspend.simulator import samples, vendors
from modelspend.simulator.meter import part_text, tokens
from modelspend.simulator.plan import Plan

FILL_MARK = "@@modelspend-fill@@"

_FILL_FROM = 256 * 1024  # smaller answers are plain text
_FILL_PIECE = 4 * 1024

_LEXICON = """
    amber basin cedar delta ember fjord grove harbour island juniper kelp lantern meadow north
    orchard pebble quartz river summit timber upland valley willow yarrow zephyr bright calm
    deep early fair gentle high inner just keen light mild near open plain quiet round slow
    true under vast warm young again beside close down even far given here into long more
"""
_WORDS = _LEXICON.split()


@frozen(kw_only=True)
class Reply:
    """An answer before it meets a wire; `fill` is the length of the text behind the mark."""

    answer: chat.Answer
    fill: int = 0
    one_event: bool = False

    def whole(self) -> int:
        """Characters that the model wrote, all in all."""
        said = map(part_text, self.answer.parts)
        return sum(self.fill if text == FILL_MARK else len(text) for text in said)


@dataclass(slots=True)
class Progress:
    """How much of an answer has been generated; a provider bills that, whoever hangs up."""

    total: int
    done: int = 0
    ended: bool = False

    def charged(self, usage: Mapping[str, int]) -> dict[str, int]:
        """All of the input, and output in proportion, rounded up."""
        if self.ended or not self.total:
            return {k: v for k, v in usage.items() if v}
        out = dict(usage)
        for bucket in ("output_tokens", "reasoning_tokens"):
            out[bucket] = -(-usage.get(bucket, 0) * self.done // self.total)
        return {k: v for k, v in out.items() if v}


def compose(request: chat.Request, plan: Plan, seed: int, n: int, spent: dict[str, int]) -> Reply:
    """The reply to a request whose input buckets are `spent`."""
    key = sha256(f"{seed}/{_last_said(request)}".encode("utf-8", "replace")).digest()
    calls = _tool_calls(request, plan, seed, n)
    size = plan.size or 0
    fill = size if size >= _FILL_FROM and not calls else 0
    text = "" if calls else FILL_MARK if fill else _text(request, plan, key)
    reasoning = _reasoning(request, plan, key)
    stop: chat.StopReason = "tool_calls" if calls else plan.stop or "stop"
    if plan.size is None and plan.words is None:
        text, stop = _limited(request, text, stop)
    said: tuple[chat.Part, ...] = calls or (chat.Text(text=text),)
    parts = (*reasoning, *said)
    chars = fill or sum(len(part_text(p)) for p in said)
    answer = chat.Answer(
        answer_id=vendors.answer_id(request.origin, seed, n),
        model=request.model,
        parts=parts,
        stop=stop,
        usage=_usage(plan, spent, tokens(chars)),
    )
    return Reply(answer=answer, fill=fill, one_event=plan.one_event)


def events(reply: Reply, progress: Progress) -> Iterator[chat.StreamEvent]:
    """The answer as a stream; `progress` grows as the events are taken."""
    answer = reply.answer
    first = {
        k: v for k, v in answer.usage.items() if k not in ("output_tokens", "reasoning_tokens")
    }
    yield chat.Started(answer_id=answer.answer_id, model=answer.model, usage=first)
    for index, part in enumerate(answer.parts):
        for event in _part_events(index, part, reply):
            progress.done += _written(event, reply)
            yield event
        yield chat.PartEnded(index)
    yield chat.Stopped(answer.stop or "stop", answer.usage)
    progress.ended = True
    yield chat.Ended()


def prose(key: bytes, words: int) -> str:
    """So many words, always the same for a key."""
    picked: list[str] = []
    block = 0
    while len(picked) < words:
        digest = sha256(key + block.to_bytes(4, "big")).digest()
        picked += [_WORDS[byte % len(_WORDS)] for byte in digest]
        block += 1
    text = " ".join(picked[:words])
    return text[:1].upper() + text[1:] + "."


def _last_said(request: chat.Request) -> str:
    """Text of the last message; what was asked, or what a tool answered."""
    if not request.messages:
        return ""
    return "".join(part_text(p) for p in request.messages[-1].parts)


def _text(request: chat.Request, plan: Plan, key: bytes) -> str:
    if plan.text is not None:
        return plan.text
    if plan.echo:
        return _last_said(request)
    if plan.size is not None:
        return (prose(key, plan.size // 4 + 1) * 2)[: plan.size]
    if request.output is not None and request.output.kind == "json_schema":
        return orjson.dumps(samples.instance(request.output.schema or {})).decode()
    if request.output is not None and request.output.kind == "json":
        return orjson.dumps({"answer": prose(key, 6)}).decode()
    return prose(key, plan.words or 24 + key[0] % 24)


def _limited(
    request: chat.Request, text: str, stop: chat.StopReason
) -> tuple[str, chat.StopReason]:
    """The text under the caller's output limit, and why it stopped."""
    limit = request.max_output
    if limit is None or text == FILL_MARK or tokens(len(text)) <= limit:
        return text, stop
    return text[: limit * 4], "length"


def _reasoning(request: chat.Request, plan: Plan, key: bytes) -> tuple[chat.Part, ...]:
    if not plan.reasoning_tokens:
        return ()
    sealed = sha256(key + b"sealed").hexdigest()
    thought = prose(key + b"thought", 12)
    return (chat.Reasoning(text=thought, sealed=sealed, origin=request.origin),)


def _usage(plan: Plan, spent: dict[str, int], written: int) -> dict[str, int]:
    usage = dict(spent)
    output = max(1, written) + plan.reasoning_tokens
    if plan.tokens is not None:
        usage, output = {"input_tokens": plan.tokens[0]}, plan.tokens[1]
    usage["output_tokens"] = output
    if plan.reasoning_tokens:
        usage["reasoning_tokens"] = min(plan.reasoning_tokens, output)
    return {**usage, **plan.extra_usage}


def _tool_calls(request: chat.Request, plan: Plan, seed: int, n: int) -> tuple[chat.ToolCall, ...]:
    offered = [tool for tool in request.tools if isinstance(tool, chat.Tool)]
    if not offered or not _wants_tools(request, plan, offered):
        return ()
    choice = request.tool_choice
    if choice is not None and choice.mode == "named":
        offered = [tool for tool in offered if tool.name == choice.name] or offered
    picked = [offered[i % len(offered)] for i in range(max(1, plan.tool_calls))]
    return tuple(
        chat.ToolCall(
            call_id="call_" + vendors.identity(seed, n, f"tool{i}"),
            name=tool.name,
            arguments=orjson.dumps(samples.instance({"type": "object", **tool.schema})).decode(),
        )
        for i, tool in enumerate(picked)
    )


def _wants_tools(request: chat.Request, plan: Plan, offered: list[chat.Tool]) -> bool:
    """Forced, told by the model's name, or asked for in words; never twice in a row."""
    last = request.messages[-1] if request.messages else None
    if last is None or any(isinstance(part, chat.ToolResult) for part in last.parts):
        return False
    mode = request.tool_choice.mode if request.tool_choice else "auto"
    if mode == "none":
        return False
    if mode in ("required", "named") or plan.tool_calls:
        return True
    said = _last_said(request).lower()
    return "use the tool" in said or any(
        len(tool.name) > 3 and tool.name.lower() in said for tool in offered
    )


def _part_events(index: int, part: chat.Part, reply: Reply) -> Iterator[chat.StreamEvent]:
    match part:
        case chat.Text():
            for piece in _text_pieces(part.text, reply):
                yield chat.TextDelta(index, piece)
        case chat.Reasoning():
            for piece in _pieces(part.text, None):
                yield chat.ReasoningDelta(index, piece)
            yield chat.ReasoningDelta(index, "", part.sealed)
        case chat.ToolCall():
            yield chat.ToolCallStarted(index, part.call_id, part.name)
            for piece in _pieces(part.arguments, max(1, len(part.arguments) // 8)):
                yield chat.ArgumentsDelta(index, piece)


def _text_pieces(text: str, reply: Reply) -> Iterator[str]:
    if reply.one_event:
        yield text
    elif text == FILL_MARK:
        for start in range(0, reply.fill, _FILL_PIECE):
            yield "x" * min(_FILL_PIECE, reply.fill - start)
    else:
        yield from _pieces(text, None if len(text) < 4 * _FILL_PIECE else _FILL_PIECE)


def _pieces(text: str, size: int | None) -> Iterator[str]:
    """Word by word, or in runs of `size` characters."""
    if size is None:
        words = text.split(" ")
        yield from (word if i == 0 else " " + word for i, word in enumerate(words))
    else:
        yield from (text[i : i + size] for i in range(0, len(text), size))


def _written(event: chat.StreamEvent, reply: Reply) -> int:
    match event:
        case chat.TextDelta():
            return reply.fill if event.text == FILL_MARK else len(event.text)
        case chat.ReasoningDelta():
            return len(event.text)
        case chat.ToolCallStarted():
            return len(event.name)
        case chat.ArgumentsDelta():
            return len(event.fragment)
        case _:
            return 0
