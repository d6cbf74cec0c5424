"""What a prompt is for: one of eight categories, from the words with which it asks.

Hides the word lists. The first words tell most ("Summarize …", "Write a poem …"), so they count
twice; what a long pasted text is about counts nothing. A question that no list knows is `other`,
and not `chat`, which is for greetings, thanks and the like.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from modelspend.evidence import terms
from modelspend.reading import Reading

Category = Literal[
    "code", "reasoning", "analysis", "extraction", "summarization", "creative", "chat", "other"
]

LEAD = 24
"""How many words count twice."""

TELLING: Mapping[Category, frozenset[str]] = {
    "code": terms(
        "function code python javascript typescript java sql html css bash regex algorithm "
        "compile debug debugging def const println numpy pandas react django docker kubernetes "
        "git json yaml haskell rust php ruby golang powershell dockerfile stacktrace traceback "
        "compiler"
    ),
    "summarization": terms(
        "summarize summarise summary summarization summarizing tldr condense gist recap synopsis "
        "abridge shorten"
    ),
    "reasoning": terms(
        "prove proof deduce logic puzzle riddle solve calculate compute probability valid "
        "invalid premises logically equation theorem integer polynomial triangle"
    ),
    "extraction": terms(
        "extract extracting identify classify categorize categorise label labels parse named "
        "sentiment entities keywords offensive spot csv tag"
    ),
    "creative": terms(
        "poem story song lyrics haiku limerick sonnet essay blog tweet slogan headline caption "
        "speech novel scene joke jokes fiction persona roleplay character screenplay tagline "
        "playlist greeting embody invent brainstorm compose sentence pretend letter email post "
        "dialogue toast advert advertisement"
    ),
    "analysis": terms(
        "analyze analyse analysis compare contrast evaluate assess explain discuss pros cons "
        "advantages disadvantages implications critique review swot interpret difference "
        "differences strategy strategies significance impact influence"
    ),
}
"""Words that tell, by category; of categories that come out equal, the first one here is it."""

VAGUE: Mapping[Category, frozenset[str]] = {
    "code": terms(
        "program programming software class methods method script api linux shell server database"
    ),
    "creative": terms("write create generate draft imagine names rewrite describe paragraph"),
    "analysis": terms("why how describe role factors"),
    "extraction": terms("find list json detect count"),
}
"""Words that tell something only beside others: they never count twice."""

GREETINGS = terms("hi hello hey thanks thank bye goodbye sorry yes okay ok lol good welcome")

_ORDER: tuple[Category, ...] = tuple(TELLING)
_CODE, _REASONING, _CREATIVE = map(_ORDER.index, ("code", "reasoning", "creative"))
_GREETING = 12
_ENOUGH = 2
_RULE = 3


def _marks(word: str) -> tuple[tuple[int, int], ...]:
    """For each category a word tells of: its place, and whether the word counts twice."""
    return tuple(
        (place, telling)
        for telling, lists in ((1, TELLING), (0, VAGUE))
        for place, name in enumerate(_ORDER)
        if word in lists.get(name, ())
    )


_MARKS = {
    word: _marks(word) for word in frozenset().union(*TELLING.values(), *VAGUE.values(), GREETINGS)
}
WORDS = frozenset(_MARKS)


def category(reading: Reading, rules: Sequence[str]) -> Category:
    """The category of a prompt in which these rules fired."""
    lead = frozenset(reading.words[:LEAD])
    marks = [0] * len(_ORDER)
    for word in reading.end_hits & WORDS:
        for place, telling in _MARKS[word]:
            marks[place] += 1 + (telling and word in lead)
    marks[_CODE] += _RULE * _looks_like_code(reading.text)
    marks[_CREATIVE] += 2 * _gives_a_role(reading.flat)
    for rule in rules:
        marks[_CODE if rule == "algorithm_design" else _REASONING] += _RULE
    best = max(marks)
    if best >= _ENOUGH:
        return _ORDER[marks.index(best)]
    if len(reading.words) <= _GREETING and not GREETINGS.isdisjoint(reading.words[:2]):
        return "chat"
    return "other"


def _looks_like_code(text: str) -> bool:
    return "```" in text or "def " in text or "();" in text or "</" in text or "import " in text


def _gives_a_role(flat: str) -> bool:
    start = flat[:120]
    return any(role in start for role in _ROLES)


_ROLES = ("act as", "pretend", "role", "imagine you", "as if you", "picture yourself", "persona")
