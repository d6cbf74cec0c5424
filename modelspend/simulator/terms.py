"""How a model's name is read: terms joined by `+`, each matched against a row of a table.

In a row's pattern, words in capitals are places: STATUS is an error status, SIZE a number with k, m
or g, WORD a word, anything else a number. Two terms that set the same list add to it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import field, replace
from typing import Any

from modelspend.record import frozen
from modelspend.simulator.plan import Plan

_PLACES = {
    "STATUS": r"([45]\d\d)",
    "SIZE": r"(\d{1,12}[kmg]?)",
    "WORD": r"([a-z][a-z0-9_]*)",
}
_NUMBER = r"(\d{1,15})"
_UNITS = {"k": 1024, "m": 1024**2, "g": 1024**3}
_EXAMPLES = {"STATUS": "500", "SIZE": "64k", "WORD": "priority", "MS": "20", "S": "2"}

Change = Callable[..., dict[str, Any]]
"""Takes what stood in the places; returns fields of `Plan`."""


class UnknownBehaviour(ValueError):
    """A term that no row matches."""


@frozen
class Behaviour:
    """One row: a pattern, what it does in a few words, and the fields of the plan that it sets."""

    pattern: str
    says: str
    change: Change
    regex: "re.Pattern[str]" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        text = re.sub("[A-Z]+", lambda m: _PLACES.get(m[0], _NUMBER), re.escape(self.pattern))
        object.__setattr__(self, "regex", re.compile(text))

    @property
    def example(self) -> str:
        """A model name with this behaviour alone."""
        return "sim-" + re.sub("[A-Z]+", lambda m: _EXAMPLES.get(m[0], "5"), self.pattern)


def read_terms(terms: Iterable[str], table: Iterable[Behaviour]) -> Plan:
    """The plan of a name's terms, in order. Raises UnknownBehaviour."""
    plan = Plan()
    for term in terms:
        plan = _with(plan, _changes(term, table))
    return plan


def _changes(term: str, table: Iterable[Behaviour]) -> dict[str, Any]:
    for behaviour in table:
        match = behaviour.regex.fullmatch(term)
        if match:
            return behaviour.change(*map(_argument, match.groups()))
    raise UnknownBehaviour(term)


def _argument(text: str) -> int | str:
    if not text[0].isdigit():
        return text
    unit = _UNITS.get(text[-1])
    return int(text[:-1]) * unit if unit else int(text)


def _with(plan: Plan, changes: dict[str, Any]) -> Plan:
    merged: dict[str, Any] = {}
    for name, value in changes.items():
        old = getattr(plan, name)
        if isinstance(old, tuple) and name != "tokens":
            merged[name] = old + value
        elif isinstance(old, dict):
            merged[name] = {**old, **value}
        else:
            merged[name] = value
    return replace(plan, **merged)
