"""A call and its replay side by side, and the changes that a replay makes to a body.

Values in, values out. Answers are compared by what they say: reasoning is left out, and a tool call
is a line of its own.
"""

import difflib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from modelspend import chat
from modelspend.money import usd
from modelspend.receipt import Receipt

_MOST_WORDS = 3_000
_MOST_LINES = 2_000


def text_of(answer: chat.Answer) -> str:
    """What an answer says, for a person."""
    lines = []
    for part in answer.parts:
        match part:
            case chat.Text():
                lines.append(part.text)
            case chat.ToolCall():
                lines.append(f"→ {part.name}({part.arguments})")
            case _:
                continue
    return "\n".join(lines)


def difference(
    original: Receipt,
    replay: Receipt,
    before: chat.Answer | None,
    after: chat.Answer | None,
    *,
    same_bytes: bool,
) -> dict[str, Any]:
    """What is different, each figure as it was, as it is now, and the ratio of the two.

    `answer` has null texts where an answer was not kept, or is none of words.
    """
    was, now = original.execution, replay.execution
    return {
        "answer": _answers(before, after, same_bytes=same_bytes),
        "model": _pair(_model(original), _model(replay)),
        "status": _pair(str(was.status), str(now.status)),
        "stop_reason": _pair(_stop(original, before), _stop(replay, after)),
        "tier": _pair(_tier(original), _tier(replay)),
        "tokens": {
            name: _figures(original.usage.quantities.get(name), replay.usage.quantities.get(name))
            for name in dict.fromkeys((*original.usage.quantities, *replay.usage.quantities))
        },
        "cost_usd": _figures(_usd(was.actual_cost_pico), _usd(now.actual_cost_pico)),
        "latency_ms": _figures(was.actual_latency_ms, now.actual_latency_ms),
        "ttft_ms": _figures(was.ttft_ms, now.ttft_ms),
    }


def similarity(one: str, other: str) -> float:
    """How much of two texts is the same, word by word: 1 for equal ones, 0 for nothing at all."""
    if one == other:
        return 1.0
    was, now = one.split()[:_MOST_WORDS], other.split()[:_MOST_WORDS]
    return round(difflib.SequenceMatcher(None, was, now, autojunk=False).ratio(), 4)


def unified(one: str, other: str) -> str:
    """A unified diff of two answers, without its head of file names."""
    was, now = one.splitlines()[:_MOST_LINES], other.splitlines()[:_MOST_LINES]
    return "\n".join([*difflib.unified_diff(was, now, lineterm="", n=2)][2:])


def spread(receipts: Sequence[Receipt], answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Least, middle and most of several replays, null where nothing is known; `answers` are those
    of their differences."""
    said = zip(receipts, answers, strict=True)
    costs = [_usd(each.execution.actual_cost_pico) for each in receipts]
    latencies = [each.execution.actual_latency_ms for each in receipts]
    return {
        "cost_usd": _range(costs),
        "latency_ms": _range(latencies),
        "output_tokens": _range([e.usage.quantities.get("output_tokens") for e in receipts]),
        "similarity": _range([each["similarity"] for each in answers]),
        "answers": len({told["replay"] or each.request.answer_sha256 for each, told in said}),
    }


def with_system(dialect: str, fields: Mapping[str, Any], text: str) -> dict[str, Any]:
    """A body with this system prompt in place of its own."""
    match dialect:
        case "anthropic.messages" | "anthropic.count_tokens":
            return {**fields, "system": text}
        case "openai.responses":
            return {**fields, "instructions": text}
        case "gemini.generate":
            bare = {key: value for key, value in fields.items() if key != "system_instruction"}
            return {**bare, "systemInstruction": {"parts": [{"text": text}]}}
        case _:
            said = fields.get("messages")
            turns = said if isinstance(said, list) else []
            rest = [turn for turn in turns if not _is_system(turn)]
            role = next((turn["role"] for turn in turns if _is_system(turn)), "system")
            return {**fields, "messages": [{"role": role, "content": text}, *rest]}


def changed(fields: Mapping[str, Any], place: str, value: Any) -> dict[str, Any]:
    """A body with one value set at a dotted place (`messages.0.content`); null takes it out.

    Raises LookupError with the reason when there is no such place.
    """
    steps = place.split(".")
    if not all(steps):
        raise LookupError("a place is names and numbers between dots")
    found = _set(dict(fields), steps, value)
    assert isinstance(found, dict)
    return found


def _set(node: Any, steps: Sequence[str], value: Any) -> Any:
    step, rest = steps[0], steps[1:]
    if isinstance(node, list):
        if not step.isdecimal() or int(step) >= len(node):
            raise LookupError(f"there is no item {step!r} in a list of {len(node)}")
        fresh = list(node)
        fresh[int(step)] = _set(node[int(step)], rest, value) if rest else value
        return fresh
    if not isinstance(node, dict):
        raise LookupError(f"{step!r} is within a value that has no parts")
    if rest:
        return {**node, step: _set(node.get(step, {}), rest, value)}
    if value is None:
        return {key: each for key, each in node.items() if key != step}
    return {**node, step: value}


def _is_system(turn: Any) -> bool:
    return isinstance(turn, dict) and turn.get("role") in ("system", "developer")


def _answers(
    before: chat.Answer | None, after: chat.Answer | None, *, same_bytes: bool
) -> dict[str, Any]:
    one = text_of(before) if before else None
    other = text_of(after) if after else None
    known = one is not None and other is not None
    return {
        "same_bytes": same_bytes,
        "equal": same_bytes or (one == other if known else None),
        "similarity": similarity(one, other) if one is not None and other is not None else None,
        "original": one,
        "replay": other,
        "unified": unified(one, other) if one is not None and other is not None else None,
    }


def _pair(was: str | None, now: str | None) -> dict[str, Any]:
    return {"original": was, "replay": now, "equal": was == now}


def _figures(was: Any, now: Any) -> dict[str, Any]:
    known = was is not None and now is not None
    ratio = round(float(now) / float(was), 4) if known and was else None
    return {
        "original": was,
        "replay": now,
        "change": _less(now, was) if known else None,
        "ratio": ratio,
    }


def _less(now: Any, was: Any) -> Any:
    return round(now - was, 3) if isinstance(now, float) else now - was


def _range(values: Sequence[Any]) -> dict[str, Any] | None:
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    return {"least": known[0], "median": known[len(known) // 2], "most": known[-1]}


def _model(receipt: Receipt) -> str | None:
    last = receipt.attempts[-1] if receipt.attempts else None
    return f"{last.provider}/{last.model_id}" if last else None


def _tier(receipt: Receipt) -> str | None:
    return receipt.classification.tier if receipt.classification else None


def _stop(receipt: Receipt, answer: chat.Answer | None) -> str | None:
    """In neutral words where the answer is there, since providers have a word each for it."""
    if answer is not None and answer.stop is not None:
        return answer.stop
    return receipt.attempts[-1].finish_reason if receipt.attempts else None


def _usd(pico: int | None) -> Decimal | None:
    return None if pico is None else usd(pico)
