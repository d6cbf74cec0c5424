"""A kind of evidence, the building block of rules: a list of words, a phrase or a count.

Hides how evidence is written down; `stories` and `problems` hold the kinds there are. No kind
proves anything: each is common in easy prompts, and only several in one text mean something. The
words of a phrase are the gate of its pattern, which sees only the part of the text in its scope.
"""

import re
from dataclasses import replace
from typing import Literal

from modelspend.record import frozen

Scope = Literal["whole", "ends", "asked"]


@frozen(kw_only=True)
class Kind:
    """One kind of evidence: enough different words, and the pattern if there is one.

    `counted` asks for a count of the text (see `reading.COUNTS`) in place of words. The scope is
    the whole text; its `ends`, where a long prompt says what it wants; or what is `asked`, that is
    its questions, its first and its last sentence (the words of the gate: at the ends).
    """

    what: str
    words: frozenset[str] = frozenset()
    at_least: int = 1
    pattern: re.Pattern[str] | None = None
    counted: str = ""
    scope: Scope = "whole"


def terms(text: str) -> frozenset[str]:
    return frozenset(text.split())


def counted(what: str, at_least: int) -> Kind:
    """Evidence of structure: at least so many names, numbers, sentences, …"""
    return Kind(what=what, counted=what, at_least=at_least)


def more(kind: Kind, at_least: int) -> Kind:
    """The same kind, of which more is wanted."""
    return replace(kind, at_least=at_least)


def words(what: str, listed: str, at_least: int = 1, scope: Scope = "whole") -> Kind:
    return Kind(what=what, words=terms(listed), at_least=at_least, scope=scope)


def phrase(what: str, gate: str, pattern: str, scope: Scope = "asked") -> Kind:
    return Kind(what=what, words=terms(gate), pattern=re.compile(pattern), scope=scope)


def openings(what: str, gate: str, pattern: str, scope: Scope = "asked") -> Kind:
    """A phrase with many openings: asking for what stands before a word, and the texts begin with
    a blank, lets the engine skip to the beginnings of words instead of trying each letter."""
    return phrase(what, gate, rf"[^a-z0-9_](?:{pattern})", scope)


CODE = terms(
    "function code python def java javascript typescript sql api html css regex compiler "
    "algorithm database const println async"
)
