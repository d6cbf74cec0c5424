"""What a prompt is for: one of eight categories, from the words with which it asks.

Hides the word lists. The first words tell most ("Summarize …", "Write a poem …"), so they count
twice; what a long pasted text is about counts nothing.
"""

from collections.abc import Mapping
from typing import Literal

from modelspend.evidence import terms
from modelspend.reading import Reading

Category = Literal[
    "code", "reasoning", "analysis", "extraction", "summarization", "creative", "chat", "other"
]

LEAD = 24
"""How many words count twice."""

STRONG: Mapping[Category, frozenset[str]] = {
    "code": terms(
        "code python javascript typescript java sql html css bash regex script algorithm compile "
        "debug debugging function def const println numpy pandas react django docker kubernetes "
        "git api json yaml haskell rust php ruby golang c# c++ powershell linux shell dockerfile "
        "program programming software class methods compiler stacktrace traceback"
    ),
    "summarization": terms(
        "summarize summarise summary summarization summarizing tldr condense gist recap synopsis "
        "abridge abstract"
    ),
    "extraction": terms(
        "extract extracting identify classify categorize categorise label labels parse named "
        "sentiment entities keywords offensive detect spot recognize column csv count"
    ),
    "creative": terms(
        "poem story song lyrics haiku limerick sonnet essay blog email letter tweet slogan "
        "headline caption speech novel scene joke jokes fiction persona roleplay character "
        "screenplay advertisement ad tagline playlist names bio greeting invitation rewrite "
        "embody invent brainstorm compose sentence paragraph post pretend"
    ),
    "analysis": terms(
        "analyze analyse analysis compare contrast evaluate assess explain discuss pros cons "
        "advantages disadvantages implications critique review swot interpret difference "
        "differences describe strategy strategies why significance impact influence role"
    ),
    "reasoning": terms(
        "prove proof deduce logic puzzle riddle solve calculate compute probability valid "
        "invalid premises logically truth reasoning equation theorem integer polynomial triangle"
    ),
}
CHAT = terms(
    "hi hello hey thanks thank bye goodbye morning evening you're feeling sorry lol yes okay ok "
    "please welcome nice cool great good"
)
WORDS = frozenset().union(CHAT, *STRONG.values())

_ORDER: tuple[Category, ...] = tuple(STRONG)
_PLACES: Mapping[str, tuple[int, ...]] = {
    word: tuple(i for i, name in enumerate(_ORDER) if word in STRONG[name])
    for word in frozenset().union(*STRONG.values())
}
_CODE, _REASONING = _ORDER.index("code"), _ORDER.index("reasoning")
_CHAT_WORDS = 12
_ENOUGH = 2


def category(reading: Reading, rules: tuple[str, ...]) -> Category:
    """The category of a prompt in which these rules fired."""
    lead = frozenset(reading.words[:LEAD])
    marks = [0] * len(_ORDER)
    for word in reading.end_hits & _PLACES.keys():
        for place in _PLACES[word]:
            marks[place] += 2 if word in lead else 1
    marks[_CODE] += 3 * _looks_like_code(reading.text)
    for rule in rules:
        marks[_CODE if rule == "algorithm_design" else _REASONING] += 2
    best = max(marks)
    if best >= _ENOUGH:
        return _ORDER[marks.index(best)]
    if len(reading.words) <= _CHAT_WORDS and not CHAT.isdisjoint(lead):
        return "chat"
    return "other"


def _looks_like_code(text: str) -> bool:
    return any(mark in text for mark in ("```", "();", "def ", "</", "import "))
