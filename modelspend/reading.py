"""One reading of a prompt: its words, its lower-cased text and its counts, each found once.

Hides encodings and windows. Only the two ends of a long text are read, for there stands what is
asked; so a prompt of any size costs at most what a window costs. Every script but ASCII is
read as blanks: the words that are looked for are English.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from modelspend.evidence import terms

WINDOW = 2_800
"""Characters that are read: half from the start, half from the end."""

ENDS = 1_200
"""Characters in which instructions are looked for, likewise half from each end."""

ASKED_SENTENCE = 260
"""Characters of a question that are looked at: its end, since that is where it asks."""

ASKED_SENTENCES = 6

_ENDINGS = (". ", "? ", "! ")

_UPPER = bytes(range(ord("A"), ord("Z") + 1))
_OTHER = bytes((*range(32), *range(127, 256)))
_FLAT = bytes.maketrans(_UPPER + _OTHER, _UPPER.lower() + b" " * len(_OTHER))
_NO_WORD = bytes(set(range(127)) - set(b"abcdefghijklmnopqrstuvwxyz0123456789'"))
_WORDS = bytes.maketrans(_NO_WORD, b" " * len(_NO_WORD))
_CLOCK = re.compile(r"\d(?::\d\d| ?[ap]\.?m\b| o'clock)")
_ITEM = re.compile(r"\n *(?:\d{1,2}[.):]|[-*•]|\([a-z0-9]\)) ?")
_OPERATOR = re.compile(
    r"[0-9a-z)] ?[+*^=<>] ?(?=[-(0-9a-z\\])|[0-9a-z)] [-/] (?=[0-9(])|[0-9)][-/](?:\(|[xyzn]\b)"
    r"|\)\("
)
# the capital comes first, so that the engine looks for one before it looks back
_NAME_WITHIN = re.compile(r"[A-Z](?<=[a-z,;] .)[a-z]+")
_NAME = re.compile(r"[A-Z][a-z]+")

NUMBER_WORDS = terms(
    "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty "
    "fifty sixty hundred thousand million half twice double triple third quarter dozen"
)


@dataclass(slots=True)
class Reading:
    """What rules and features look at.

    `flat` is the window in lower case, control characters and other scripts as blanks; `words` its
    words, `tally` how often each stands there; `hits` and `end_hits` are the words of the
    vocabulary in the window and near its ends; `size` is the length of the whole text. Which
    patterns `matched` is kept, since several rules ask for the same.
    """

    text: str
    flat: str
    words: list[str]
    tally: Counter[str]
    hits: frozenset[str]
    end_hits: frozenset[str]
    size: int
    matched: dict[re.Pattern[str], bool] = field(default_factory=dict)
    _asked: str | None = None
    _counts: dict[str, int] = field(default_factory=dict)

    @property
    def asked(self) -> str:
        """The questions of the text, its first and its last sentence, after a blank."""
        if self._asked is None:
            self._asked = " " + asked(self.flat)
        return self._asked

    @property
    def ends(self) -> str:
        """The two ends of the text, after a blank."""
        return " " + ends(self.flat, ENDS)

    def count(self, what: str) -> int:
        """How many `names`, `numbers`, `sentences`, … the window holds; see COUNTS."""
        found = self._counts.get(what)
        if found is None:
            found = self._counts[what] = COUNTS[what](self)
        return found


def read(text: str, vocabulary: frozenset[str]) -> Reading:
    """Read a text once; of its words, those of the vocabulary are the hits."""
    size = len(text)
    text = ends(text, WINDOW)
    raw = text.replace("’", "'").encode("utf-8", "replace").translate(_FLAT)
    words = raw.translate(_WORDS).decode("ascii").split()
    tally = Counter(words)
    hits = vocabulary.intersection(tally)
    near = ENDS // 12  # words of six letters or so, half of the characters from each end
    end_hits = hits if len(words) <= 2 * near else hits.intersection(words[:near] + words[-near:])
    return Reading(text, raw.decode("ascii"), words, tally, hits, end_hits, size)


def ends(text: str, limit: int) -> str:
    """The text itself, or its two ends with a line break between them."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]}\n{text[-half:]}"


def asked(flat: str) -> str:
    """What a text asks: its questions and its first and last sentence, in no more than 2 KB."""
    parts = [flat[: _end(flat, 0)]]
    place = flat.find("?")
    while place >= 0 and len(parts) <= ASKED_SENTENCES:
        parts.append(flat[_start(flat, place) : place + 1])
        place = flat.find("?", place + 1)
    last = flat.rstrip(" .!?")
    parts.append(last[_start(last, len(last)) :])
    return " ".join(parts)


def _start(flat: str, place: int) -> int:
    least = max(0, place - ASKED_SENTENCE)
    return max(least, *[flat.rfind(mark, least, place) + 1 for mark in _ENDINGS])


def _end(flat: str, place: int) -> int:
    most = place + ASKED_SENTENCE
    found = [at for mark in _ENDINGS if (at := flat.find(mark, place, most)) >= 0]
    return min(found, default=most) + 1


def _names(reading: Reading) -> int:
    """Capitalised words within a sentence or there twice, never in lower case: who takes part."""
    text, tally = reading.text, reading.tally
    seen = Counter(_NAME.findall(text))
    within = set(_NAME_WITHIN.findall(text))
    return sum(
        1
        for name, n in seen.items()
        if (n > 1 or name in within)
        and (low := name.lower()) not in _NO_NAMES
        and tally[low] <= n  # as often as with a capital, so never without
    )


_NO_NAMES = terms(
    "the a an if then and but or so he she it they we you i in on at to of for from with by is "
    "are was were what which who where when how why this that these those there his her its "
    "their answer question options option yes no not all each every first second third finally "
    "next now after before write given let find each note please"
)


def _sentences(reading: Reading) -> int:
    flat = reading.flat
    ends = 1 + flat.count(". ") + flat.count("? ")
    if reading.tally["b"] and "\nB. " in reading.text:
        ends -= sum(map(flat.count, (" a. ", " b. ", " c. ", " d. ")))  # options end no sentence
    return max(ends, 1)


def _numbers(reading: Reading) -> int:
    """Numbers in figures and in words."""
    tally = reading.tally
    in_words = sum(tally[word] for word in NUMBER_WORDS.intersection(tally))
    return reading.count("figures") + in_words


def _figures(reading: Reading) -> int:
    flat = reading.flat.encode()
    if len(flat) == len(flat.translate(None, b"0123456789")):
        return 0  # most texts: a look at the bytes is cheaper than one at each word
    return sum(map(reading.tally.__getitem__, filter(str.isdigit, reading.tally)))


def _operators(reading: Reading) -> int:
    """Signs between numbers and letters, as in "3x + 2 = y"; a date and "well-known" hold none."""
    text = reading.ends
    if not any(sign in text for sign in _SIGNS):
        return 0
    return len(_OPERATOR.findall(text))


_SIGNS = ("^", "=", "*", "+", "<", ">", ")(", " - ", " / ", ")/", ")-")

_GENERAL = terms(
    "if then every all each no unless only any some none either neither nobody everyone always "
    "never"
)


def _generalities(reading: Reading) -> int:
    """How often a sentence speaks of all or none, or of what holds under a condition."""
    tally = reading.tally
    return sum(tally[word] for word in _GENERAL.intersection(tally))


_RESTRICTING = terms(
    "not no never only exactly each every most least neither either must cannot unless before "
    "after than both same different but without"
)


def _restrictions(reading: Reading) -> int:
    """How often a word restricts what is possible."""
    tally = reading.tally
    return sum(tally[word] for word in _RESTRICTING.intersection(tally))


COUNTS: dict[str, Callable[[Reading], int]] = {
    "names": _names,
    "numbers": _numbers,
    "figures": _figures,
    "sentences": _sentences,
    "commas": lambda reading: reading.flat.count(","),
    "operators": _operators,
    "generalities": _generalities,
    "restrictions": _restrictions,
    "clocks": lambda reading: len(_CLOCK.findall(reading.flat)),
    "items": lambda reading: len(_ITEM.findall(reading.text)),
    "notation": lambda reading: reading.text.count("\\") + reading.text.count("$") // 2,
}
