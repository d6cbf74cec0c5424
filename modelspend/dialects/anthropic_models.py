"""What a Claude model takes, told by its name: sampling, thinking, schemas, an opened answer.

Anthropic removes fields from one model generation to the next and answers 400 to those that are
gone, so a request from another dialect has to know. The names hold the generation; one that holds
none (`claude-mythos-preview`) is newer than all that do without. A model of another maker behind
this protocol is left what it was asked, save thinking.

Sources, read 2026-11-25: platform.claude.com/docs/en/about-claude/models/migration-guide (sampling,
prefill), …/build-with-claude/adaptive-thinking, …/effort, …/structured-outputs; AWS's page
claude-messages-adaptive-thinking for the models that only think adaptively.
"""

import re
from typing import Literal

from modelspend.record import frozen

_NAME = re.compile(
    r"claude-(?:(\d{1,2})(?:[-.](\d{1,2}))?-)?([a-z]+)(?:-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d))?"
)
_OLD = re.compile(r"claude-(?:instant|v?[12]\b)")
_NEWEST = (99, 0)
_LEVELS = ("low", "medium", "high")

Thinking = Literal["none", "budget", "adaptive"]


@frozen(kw_only=True)
class Abilities:
    """`both_samplings`: temperature and top_p in one request. `prefill`: the last message may be
    the assistant's own, to be continued."""

    sampling: bool = True
    both_samplings: bool = True
    thinking: Thinking = "none"
    efforts: tuple[str, ...] = ()
    structured: bool = True
    prefill: bool = True


_STRANGER = Abilities()


def abilities(model: str) -> Abilities:
    """What a model of that name takes."""
    version, family = _version(model)
    if version is None:
        return _STRANGER
    return Abilities(
        sampling=version < (4, 7),
        both_samplings=version < (4, 1),
        thinking=_thinking(version),
        efforts=_efforts(version, family),
        structured=version >= (4, 5) or (family == "opus" and version >= (4, 1)),
        prefill=version < (4, 6),
    )


def _version(model: str) -> tuple[tuple[int, int] | None, str]:
    name = model.lower()
    if _OLD.search(name):
        return (2, 0), ""
    found = _NAME.search(name)
    if found is None:
        return None, ""
    major, minor = found[1] or found[4], found[2] or found[5]
    return (int(major), int(minor or 0)) if major else _NEWEST, found[3]


def _thinking(version: tuple[int, int]) -> Thinking:
    if version >= (4, 6):
        return "adaptive"
    return "budget" if version >= (3, 7) else "none"


def _efforts(version: tuple[int, int], family: str) -> tuple[str, ...]:
    """Effort beside thinking; 4.6 names its levels in its refusal of `xhigh`."""
    if version >= (4, 7):
        return (*_LEVELS, "xhigh", "max")
    if version >= (4, 6):
        return (*_LEVELS, "max") if family == "opus" else _LEVELS
    return ()
