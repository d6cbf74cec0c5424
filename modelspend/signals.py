"""What a prompt is, told in the time it takes to read it: signals, tier, complexity, category.

`detect` finds what looks simple and is not, `classify` turns that into the classification of a
receipt. Both are pure: the same text gives the same bytes in every process. One might think that
more context escalates more; here the system prompt and earlier turns can push a prompt that
is on the brink, and alone never over the threshold.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from math import exp
from typing import Literal

from modelspend import asks, complexity
from modelspend.evidence import Kind, Scope, terms
from modelspend.reading import WINDOW, Reading, ends, read
from modelspend.receipt import Classification
from modelspend.record import frozen
from modelspend.rules import RULES, THRESHOLD, Rule, Way

Tier = Literal["simple", "standard", "deep_reasoning"]

SIMPLE_BELOW = 0.3
"""Complexity under which a prompt that asks for no work of thought is `simple`."""

THOUGHTFUL = frozenset({"code", "reasoning", "analysis"})

CHANCE_OFFSET = -1.11
CHANCE_FIRED = 4.48
CHANCE_SCORE = 0.17
CHANCE_STRAIN = 1.98
"""The chance that a prompt should escalate, as fitted on labelled prompts (see `complexity.py`)."""

SCORE_MOST = 8
STRAIN_LEAST, STRAIN_MOST = -1.0, 0.0
"""Where the chance stops moving: beyond these it does not rise or fall further."""


@frozen
class Signals:
    """The rules that fired, in their own order, and their weights added up."""

    score: int
    fired: tuple[str, ...]

    @property
    def has_advanced(self) -> bool:
        return self.score >= THRESHOLD

    @property
    def near_threshold(self) -> bool:
        """One more word could have changed the decision: it deserves less trust."""
        return THRESHOLD - 1 <= self.score <= THRESHOLD


@frozen(kw_only=True)
class Weights:
    """What the words around the newest turn count, beside 1 for that turn itself.

    `turns` is how many earlier messages are looked at, the latest of them.
    """

    system: float = 0.25
    history: float = 0.5
    turns: int = 3


DEFAULT_WEIGHTS = Weights()


def detect(text: str) -> Signals:
    """The signals of one text by itself."""
    return _signals(read(text, VOCABULARY))


def classify(
    newest: str,
    *,
    system: str = "",
    history: Sequence[str] = (),
    weights: Weights = DEFAULT_WEIGHTS,
) -> Classification:
    """Classify a call by its newest user turn, with the system prompt and history weighed down."""
    reading = read(newest, VOCABULARY)
    own = _signals(reading)
    around = _around(system, history, weights)
    signals = _together(own, around)
    strain = complexity.strain(reading)
    pull = complexity.pull(strain, lift(own))
    pull += sum(weight * max(0.0, far.pull - pull) for far, weight in around)
    value = complexity.squashed(pull)
    category = asks.category(reading, own.fired)
    return Classification(
        category=category,
        confidence=_confidence(signals.score, strain),
        complexity=value,
        tier=_tier(signals, value, category),
        risk_signals={
            "hasAdvancedReasoningSignals": signals.has_advanced,
            "score": signals.score,
            "advancedReasoningDetails": list(signals.fired),
            "nearThreshold": signals.near_threshold,
        },
    )


@frozen
class _Far:
    """What is kept of a text around the newest turn."""

    signals: Signals
    pull: float


def _around(system: str, history: Sequence[str], weights: Weights) -> list[tuple[_Far, float]]:
    latest = history[-weights.turns :] if weights.turns else ()
    found = [(_far(ends(text, WINDOW)), weights.history) for text in latest if text]
    best = max(found, key=lambda item: item[0].pull, default=None)
    around = [best] if best else []
    if system:
        around.append((_far(ends(system, WINDOW)), weights.system))
    return around


@lru_cache(maxsize=256)
def _far(text: str) -> _Far:
    """Kept, for the system prompt and the last turns come again with each call."""
    reading = read(text, VOCABULARY)
    signals = _signals(reading)
    return _Far(signals, complexity.pull(complexity.strain(reading), lift(signals)))


def _together(own: Signals, around: Sequence[tuple[_Far, float]]) -> Signals:
    lent = int(sum(weight * far.signals.score for far, weight in around))
    lent = min(lent, THRESHOLD - 1)
    if not lent:
        return own
    names = {*own.fired}.union(*(far.signals.fired for far, _ in around))
    return Signals(own.score + lent, tuple(rule.name for rule in RULES if rule.name in names))


def lift(signals: Signals) -> float:
    """What the rules that fired add to the complexity, before its bounds."""
    return sum(_LIFTS[name] for name in signals.fired)


_LIFTS = {
    rule.name: rule.weight
    * (complexity.LIFT_MATHEMATICS if rule.category == "mathematics" else complexity.LIFT)
    for rule in RULES
}


def _tier(signals: Signals, value: float, category: str) -> Tier:
    if signals.has_advanced:
        return "deep_reasoning"
    return "simple" if value < SIMPLE_BELOW and category not in THOUGHTFUL else "standard"


def _confidence(score: int, strain: float) -> float:
    """The chance that escalating, or not escalating, is right."""
    fired = score >= THRESHOLD
    pull = CHANCE_OFFSET + CHANCE_FIRED * fired + CHANCE_SCORE * min(score, SCORE_MOST)
    chance = 1 / (1 + exp(-pull - CHANCE_STRAIN * held(strain)))
    return round(chance if fired else 1 - chance, 3)


def held(strain: float) -> float:
    """The strain within the bounds in which it tells anything about the decision."""
    return min(max(strain, STRAIN_LEAST), STRAIN_MOST)


@frozen
class _Test:
    """A way of a rule made ready, cheapest first: words seen, counts, patterns, dear counts.

    Of words: the number of the list, how many of it, and whether a long text must have more.
    """

    rule: str
    unless: int
    words: tuple[tuple[int, int, bool], ...]
    counts: tuple[tuple[str, int], ...]
    phrases: tuple[tuple[re.Pattern[str], Scope], ...]
    dear: tuple[tuple[str, int], ...]


_DEAR = frozenset({"names", "clocks", "operators"})

_groups: dict[tuple[frozenset[str], bool], int] = {}


def _group(words: frozenset[str], scope: Scope) -> int:
    """The number of a list of words; the same list in the same scope is counted once."""
    return _groups.setdefault((words, scope != "whole"), len(_groups))


def _test(rule: Rule, way: Way) -> _Test:
    rare_first = sorted((kind for kind in way if kind.words), key=_commonness)
    counts = [(kind.counted, kind.at_least) for kind in way if kind.counted]
    return _Test(
        rule.name,
        _group(rule.unless, "whole"),
        tuple(
            (_group(kind.words, kind.scope), kind.at_least, kind.scope == "whole")
            for kind in rare_first
        ),
        tuple(count for count in counts if count[0] not in _DEAR),
        tuple((kind.pattern, kind.scope) for kind in way if kind.pattern),
        tuple(count for count in counts if count[0] in _DEAR),
    )


def _commonness(kind: Kind) -> float:
    return len(kind.words) / kind.at_least


def _tests() -> tuple[tuple[_Test, ...], ...]:
    """By the number of a list, the ways of which it is the rarest: none holds without it."""
    tests = [_test(rule, way) for rule in RULES for way in rule.ways]
    return tuple(
        tuple(test for test in tests if test.words[0][0] == group) for group in range(len(_groups))
    )


_TESTS = _tests()


def _index(near: bool) -> dict[str, tuple[int, ...]]:
    """For each word the lists it stands in."""
    index: dict[str, tuple[int, ...]] = {}
    for (words, is_near), group in _groups.items():
        if is_near is near:
            for word in words:
                index[word] = (*index.get(word, ()), group)
    return index


_IN_WHOLE, _AT_ENDS = _index(near=False), _index(near=True)

VOCABULARY = frozenset(_IN_WHOLE) | frozenset(_AT_ENDS) | complexity.WORDS | asks.WORDS

_LONG = 120
_MOST_EXTRA = 4
"""For each so many words of a text, more evidence of each kind is wanted, up to a limit: a long
text holds a few words of any list. One sign does for twice as long as several do."""

_TAIL = 600
"""Characters at the end of a long text that are also judged by themselves: the task after a page
of context is as hard as without it."""

_RESTATE = terms(
    "summarize summarise summary summarization translate translation proofread paraphrase rewrite "
    "rephrase reword tldr shorten condense"
)
_RESTATE_WITHIN = 8
"""Asked in its first or last words to restate a text, a model need not solve what the text holds;
only how the answer is to be formed still counts."""


def _signals(reading: Reading) -> Signals:
    names = _fired(reading)
    if not names and reading.size >= WINDOW:
        names = _fired(read(reading.text[-_TAIL:], VOCABULARY))
    if not names:
        return _NONE
    fired = [rule for rule in RULES if rule.name in names]
    return Signals(sum(rule.weight for rule in fired), tuple(rule.name for rule in fired))


_NONE = Signals(0, ())


def _fired(reading: Reading) -> set[str]:
    """The rules of which one way holds, unless the text only asks to restate what it holds."""
    seen, present = _seen(reading)
    extra = min(len(reading.words) // _LONG, _MOST_EXTRA)
    names: set[str] = set()
    for rarest in present:
        for test in _TESTS[rarest]:
            if seen[test.unless] or test.rule in names:
                continue
            for group, least, grows in test.words:
                found = seen[group]
                if found < least or (extra and grows and found < _wanted(least, extra)):
                    break
            else:
                if _structure_holds(test, extra, reading):
                    names.add(test.rule)
    if names and _restates(reading.words):
        return names & _OF_FORM
    return names


_OF_FORM = frozenset(rule.name for rule in RULES if rule.category == "output_form")


def _restates(words: Sequence[str]) -> bool:
    return not _RESTATE.isdisjoint((*words[:_RESTATE_WITHIN], *words[-_RESTATE_WITHIN:]))


def _seen(reading: Reading) -> tuple[list[int], list[int]]:
    """How many different words of each list were seen, and the lists of which any was."""
    seen, present = [0] * len(_groups), []
    for index, hits in ((_IN_WHOLE, reading.hits), (_AT_ENDS, reading.end_hits)):
        for word in hits:
            for group in index.get(word, ()):
                if not seen[group]:
                    present.append(group)
                seen[group] += 1
    return seen, present


def _wanted(least: int, extra: int) -> int:
    return least + (extra if least > 1 else extra // 2)


def _structure_holds(test: _Test, extra: int, reading: Reading) -> bool:
    for what, least in test.counts:
        if reading.count(what) < _wanted(least, extra):
            return False
    for pattern, scope in test.phrases:
        if not _matches(pattern, scope, reading):
            return False
    return all(reading.count(what) >= _wanted(least, extra) for what, least in test.dear)


def _matches(pattern: re.Pattern[str], scope: Scope, reading: Reading) -> bool:
    """Whether a pattern is found in its part of the text; never in the whole of a long one."""
    found = reading.matched.get(pattern)
    if found is None:
        text = reading.asked if scope == "asked" else reading.ends
        found = reading.matched[pattern] = pattern.search(text) is not None
    return found
