"""Tool calls and their results: every one with the other, under an id that the target takes.

Vendors differ in what they allow between a call and its result, and all refuse what stands alone,
most without a helpful word. So results are moved right behind the turn that called, and what has
no partner is told before anything is sent. Ids are mapped one way only: a client sees the ids
that its provider gave, and the same id is always mapped to the same one.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import NoReturn

from modelspend import chat
from modelspend.errors import UnpairedToolCall

TURNS = frozenset({"anthropic.messages", "gemini.generate"})
"""Dialects whose conversation is turns of a user and a model, opened by the user, and whose tool
arguments are an object."""

# OpenAI's errors name the limits (read in public reports, 2026-11-25: microsoft/autogen#6377 for
# chat, AnswerDotAI/fastllm#45 for responses); Anthropic's name the pattern (maximhq/bifrost#5097),
# and it wants every id once (BerriAI/litellm#23510).
_ID_LENGTH = {"openai.chat": 40}
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_LONGEST_ID = 64


@dataclass(slots=True)
class Piece:
    """One part on its way, with the role that says it and the index of its message.

    `results` are the tool results to be said right after it.
    """

    role: chat.Role
    part: chat.Part
    at: int
    results: list[chat.ToolResult] = field(default_factory=list)


def fitting_id(call_id: str, to: str) -> str:
    """A tool call's id within the length and alphabet of a dialect; the same one gives the same."""
    if len(call_id) <= _ID_LENGTH.get(to, _LONGEST_ID) and _ID.fullmatch(call_id):
        return call_id
    return made_id(call_id)


def made_id(*said: str) -> str:
    """An id for a call that has none that can be used: the same words give the same id."""
    text = "\x1e".join(said).encode("utf-8", "surrogatepass")
    return f"call_{sha256(text).hexdigest()[:32]}"


def place_of(asked: chat.Request, at: int) -> str:
    """Where the caller wrote that message: a system prompt may stand outside the list."""
    names = {"openai.responses": "input", "gemini.generate": "contents"}
    first = asked.messages[0]
    apart = first.role == "system" and (
        asked.origin in TURNS or first.extra.get("field") == "instructions"
    )
    if apart and at == 0:
        return "system"
    return f"{names.get(asked.origin, 'messages')}[{at - apart}]"


@dataclass(slots=True)
class _Run:
    """Pieces that the assistant says without a break, ended by `last`."""

    last: Piece
    results: list[chat.ToolResult] = field(default_factory=list)


@dataclass(slots=True)
class _Call:
    """A tool call that waits for its result; `new_id` is the one it has in the target."""

    at: int
    name: str
    new_id: str
    run: _Run
    order: int
    answered: bool = False


def paired(asked: chat.Request, pieces: Iterable[Piece], to: str) -> list[Piece]:
    """The pieces without tool results; each result hangs on the end of the turn of its call.

    Raises UnpairedToolCall, naming the message.
    """
    waiting: dict[str, list[_Call]] = {}
    every: list[_Call] = []
    seen: Counter[str] = Counter()
    kept: list[Piece] = []
    run: _Run | None = None
    for piece in pieces:
        part = piece.part
        if isinstance(part, chat.ToolResult):
            call = _claimed(waiting, part)
            if call is None:
                _unpaired(asked, piece.at, "A tool result", part.call_id or part.name, "its call")
            call.answered = True
            call.run.results.append(replace(part, call_id=call.new_id, name=call.name))
            run = None
            continue
        kept.append(piece)
        if piece.role != "assistant":
            run = None
            continue
        run = run or _Run(piece)
        run.last = piece
        if isinstance(part, chat.ToolCall):
            call = _Call(piece.at, part.name, _unique_id(part, to, seen), run, len(every))
            waiting.setdefault(part.call_id, []).append(call)
            every.append(call)
            piece.part = replace(part, call_id=call.new_id)
    for call in every:
        if not call.answered:
            _unpaired(asked, call.at, "A tool call", call.name, "its result")
        call.run.last.results = call.run.results
    return kept


def _claimed(waiting: dict[str, list[_Call]], result: chat.ToolResult) -> _Call | None:
    """The call that a result answers: by id, else by name, in the order they were made.

    Google's own client leaves the id out of a result even when the call has one.
    """
    if result.call_id or not result.name:
        calls = waiting.get(result.call_id, [])
    else:
        calls = [call for told in waiting.values() for call in told if call.name == result.name]
        calls.sort(key=lambda call: call.order)
    return next((call for call in calls if not call.answered), None)


def _unique_id(call: chat.ToolCall, to: str, seen: Counter[str]) -> str:
    """An id that is told once: some providers count from 0 in every turn, Google gives none."""
    key = call.call_id or f"\x1f{call.name}"
    seen[key] += 1
    if call.call_id and seen[key] == 1:
        return fitting_id(call.call_id, to)
    return made_id(key, str(seen[key]))


def _unpaired(asked: chat.Request, at: int, what: str, name: str | None, missing: str) -> NoReturn:
    shown = f" ({name[:64]})" if name and name.isprintable() else ""
    place = place_of(asked, at)
    raise UnpairedToolCall(
        f"{what}{shown} in {place} stands without {missing}.",
        "Send each tool call with its result, and each result with its call.",
        field=place,
    )
