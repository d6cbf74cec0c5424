"""What the models behind OpenAI's two protocols refuse, told by their names.

OpenAI's reasoning models answer 400 to a temperature, a stop sequence and an effort that they do
not know, its other models to any effort at all. A name that is not OpenAI's is a model of somebody
else, which is taken to read what most servers read.

The refusals, as quoted in public and read 2026-11-25: temperature (tmc/langchaingo#1355 for gpt-5,
johny-b/llmcomp#69 for gpt-5.4), stop (EleutherAI/lm-evaluation-harness#3247), efforts
(anomalyco/opencode#4451 for gpt-5.1, numman-ali/opencode-openai-codex-auth#62 for gpt-5.2,
davidmigloz/langchain_dart#712 for gpt-4o-mini).
"""

import re
from typing import Any

from modelspend import chat
from modelspend.dialects.effort import nearest
from modelspend.dialects.writing import Notes
from modelspend.record import frozen

_NAME = re.compile(r"(?:^|[/:])(o\d|gpt-(?!oss)\d|chatgpt-|codex-|computer-use)")
_VERSION = re.compile(r"gpt-(\d+)(?:\.(\d+))?(?!\d)")
_LEVELS = ("low", "medium", "high")


@frozen(kw_only=True)
class Abilities:
    """`efforts` are the levels of reasoning that can be asked for; None when nobody knows.

    `limit` is the name of the output limit in Chat Completions: `max_completion_tokens` is OpenAI's
    own, and the only one that its reasoning models take; all servers know the older one.
    """

    sampling: bool = True
    stop: bool = True
    efforts: tuple[str, ...] | None = None
    limit: str = "max_tokens"


_STRANGER = Abilities()
_PLAIN = Abilities(efforts=(), limit="max_completion_tokens")


def abilities(model: str) -> Abilities:
    """What a model of that name takes."""
    name = model.lower()
    if not _NAME.search(name):
        return _STRANGER
    levels = _levels(name)
    if not levels:
        return _PLAIN
    return Abilities(sampling=False, stop=False, efforts=levels, limit="max_completion_tokens")


def fitting_effort(effort: str | None, able: Abilities) -> tuple[str | None, str | None]:
    """(the effort to ask for, what to note as dropped).

    A model that never reasons needs not be told `none`.
    """
    if effort is None or able.efforts is None or effort in able.efforts:
        return effort, None
    if not able.efforts:
        return None, None if effort == "none" else "reasoning_effort"
    lowest = able.efforts[0]
    level = (
        lowest if effort == "none" else nearest(effort, [e for e in able.efforts if e != "none"])
    )
    return level, "reasoning_effort" if level is None else f"reasoning_effort:{effort}"


def sampling(asked: chat.Request, able: Abilities, notes: Notes) -> dict[str, Any]:
    """Temperature and top_p where the model takes them; the value 1 is what holds anyway."""
    told = {"temperature": asked.temperature, "top_p": asked.top_p}
    if able.sampling:
        return told
    for name, value in told.items():
        if value not in (None, 1):
            notes.drop(name)
    return {}


def _levels(name: str) -> tuple[str, ...]:
    """The levels of a reasoning model; empty for the others."""
    found = _VERSION.search(name)
    if found is None:
        return _LEVELS if re.search(r"(?:^|[/:])(?:o\d|codex-)", name) else ()
    version = (int(found[1]), int(found[2] or 0))
    if version < (5, 0) or "chat" in name:
        return ()
    more = ("xhigh",) if version >= (5, 2) else ()
    if "codex" in name or "-pro" in name:
        return (*_LEVELS, *more)
    return ("minimal", *_LEVELS) if version == (5, 0) else ("none", *_LEVELS, *more)
