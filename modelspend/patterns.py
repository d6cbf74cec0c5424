"""Regular expressions whose cost is bounded: the time is the text's length times the pattern's.

Python's own engine tries one way after the other, and a pattern such as `(a|a)*b` keeps it busy for
ever. Here all ways are followed at once, character by character (Thompson 1968), so no pattern of a
suite and no answer of a model can hang a run. Python's parser reads the pattern: the syntax is that
of `re`, and what cannot be followed this way (look-around, back-references) is refused by name.
"""

import re
from collections.abc import Callable, Iterator
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from modelspend.record import frozen

MOST_STATES = 1_000
LONGEST_TEXT = 100_000

_Char = Callable[[str], bool]
_Place = Callable[[str, int], bool]


@frozen
class _State:
    """Goes on to `out`: past a character that passes `char`, or at once, if `place` allows it."""

    out: tuple[int, ...]
    char: _Char | None = None
    place: _Place | None = None


_END = 0


class Pattern:
    """A compiled pattern. Raises ValueError for one that is not valid or not bounded."""

    def __init__(self, pattern: str, *, ignore_case: bool = False) -> None:
        flags = re.IGNORECASE if ignore_case else 0
        try:
            re.compile(pattern, flags)
            tree = parser.parse(pattern, flags)
        except (re.error, OverflowError, RecursionError) as why:
            raise ValueError(f"not a regular expression: {why}") from None
        self.pattern = pattern
        self._states: list[_State] = [_State(())]
        self._start = self._sequence(tree, tree.state.flags, _END)

    def search(self, text: str) -> bool:
        """Whether it matches anywhere. Raises ValueError for a text that is too long."""
        return self._run(text, whole=False)

    def fullmatch(self, text: str) -> bool:
        """Whether it matches all of the text. Raises ValueError for one that is too long."""
        return self._run(text, whole=True)

    def _run(self, text: str, *, whole: bool) -> bool:
        if len(text) > LONGEST_TEXT:
            raise ValueError(f"the text is longer than {LONGEST_TEXT:,} characters")
        states, reached = self._states, [self._start]
        for at in range(len(text) + 1):
            here = self._closure(reached, text, at)
            if _END in here and (not whole or at == len(text)):
                return True
            if at == len(text):
                return False
            letter = text[at]
            reached = [] if whole else [self._start]
            for number in here:
                char = states[number].char
                if char is not None and char(letter):
                    reached.extend(states[number].out)
            if not reached:
                return False
        return False

    def _closure(self, reached: list[int], text: str, at: int) -> set[int]:
        """Every state that is reached without a further character."""
        seen: set[int] = set()
        while reached:
            number = reached.pop()
            if number in seen:
                continue
            seen.add(number)
            state = self._states[number]
            if state.char is None and (state.place is None or state.place(text, at)):
                reached.extend(state.out)
        return seen

    # Building: each function makes the states of one piece, which go on to `then`.

    def _state(self, *out: int, char: _Char | None = None, place: _Place | None = None) -> int:
        if len(self._states) >= MOST_STATES:
            raise ValueError(f"too large: it takes more than {MOST_STATES:,} states")
        self._states.append(_State(out, char, place))
        return len(self._states) - 1

    def _sequence(self, tree: Any, flags: int, then: int) -> int:
        for op, value in reversed(list(tree)):
            then = self._piece(op, value, flags, then)
        return then

    def _piece(self, op: Any, value: Any, flags: int, then: int) -> int:
        if op in (ops.LITERAL, ops.NOT_LITERAL, ops.IN, ops.ANY):
            return self._state(then, char=_char(op, value, flags))
        if op is ops.AT:
            return self._state(then, place=_place(value, flags))
        if op is ops.SUBPATTERN:
            _, more, fewer, inner = value
            return self._sequence(inner, (flags | more) & ~fewer, then)
        if op is ops.BRANCH:
            return self._state(*(self._sequence(arm, flags, then) for arm in value[1]))
        if op in (ops.MAX_REPEAT, ops.MIN_REPEAT):
            least, most, inner = value
            return self._repeat(least, most, inner, flags, then)
        name = str(op).lower().replace("_", " ")
        raise ValueError(f"{_REFUSED.get(op, name)} cannot be matched in bounded time")

    def _repeat(self, least: int, most: Any, inner: Any, flags: int, then: int) -> int:
        if most is ops.MAXREPEAT:
            loop = self._state()
            body = self._sequence(inner, flags, loop)
            self._states[loop] = _State((body, then))
            then = loop
        else:
            after = then
            for _ in range(most - least):
                then = self._state(self._sequence(inner, flags, then), after)
        for _ in range(least):
            then = self._sequence(inner, flags, then)
        return then


_REFUSED = {
    ops.ASSERT: "look-around",
    ops.ASSERT_NOT: "look-around",
    ops.GROUPREF: "a back-reference",
    ops.GROUPREF_EXISTS: "a condition",
}


def _char(op: Any, value: Any, flags: int) -> _Char:
    test = _plain(op, value, flags)
    if not flags & re.IGNORECASE or op is ops.ANY:
        return test
    if op is ops.NOT_LITERAL:
        same = _char(ops.LITERAL, value, flags)
        return lambda letter: not same(letter)
    if op is ops.IN and value[0][0] is ops.NEGATE:
        inside = _char(ops.IN, value[1:], flags)
        return lambda letter: not inside(letter)
    return lambda letter: test(letter) or any(map(test, {letter.lower(), letter.upper()}))


def _plain(op: Any, value: Any, flags: int) -> _Char:
    """The test of one character, capitals apart."""
    if op is ops.ANY:
        return (lambda _: True) if flags & re.DOTALL else (lambda letter: letter != "\n")
    if op is ops.LITERAL:
        wanted = chr(value)
        return lambda letter: letter == wanted
    if op is ops.NOT_LITERAL:
        other = chr(value)
        return lambda letter: letter != other
    if op is ops.RANGE:
        low, high = chr(value[0]), chr(value[1])
        return lambda letter: len(letter) == 1 and low <= letter <= high
    if op is ops.CATEGORY:
        return _kind(value, bool(flags & re.ASCII))
    negated = value[0][0] is ops.NEGATE
    tests = [_plain(each, what, flags) for each, what in value[negated:]]
    return lambda letter: any(test(letter) for test in tests) != negated


def _kind(category: Any, ascii_only: bool) -> _Char:
    name = str(category).lower()
    test = next(test for word, test in _KINDS if name.endswith(word))
    negated = "_not_" in name
    return lambda letter: (test(letter) and (not ascii_only or letter.isascii())) != negated


def _is_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"


_KINDS: tuple[tuple[str, _Char], ...] = (
    ("digit", str.isdecimal),
    ("space", str.isspace),
    ("word", _is_word),
)


def _place(where: Any, flags: int) -> _Place:
    lines = bool(flags & re.MULTILINE)
    if where is ops.AT_BEGINNING:
        return lambda text, at: at == 0 or (lines and text[at - 1] == "\n")
    if where is ops.AT_BEGINNING_STRING:
        return lambda text, at: at == 0
    if where is ops.AT_END:
        return lambda text, at: _ends(text, at, lines)
    if where is ops.AT_END_STRING:
        return lambda text, at: at == len(text)
    inside = where is ops.AT_NON_BOUNDARY
    ascii_only = bool(flags & re.ASCII)
    return lambda text, at: (sum(_words_around(text, at, ascii_only)) == 1) != inside


def _ends(text: str, at: int, lines: bool) -> bool:
    left = len(text) - at
    return not left or (text[at] == "\n" and (lines or left == 1))


def _words_around(text: str, at: int, ascii_only: bool) -> Iterator[bool]:
    for letter in (text[at - 1 : at], text[at : at + 1]):
        yield bool(letter) and _is_word(letter) and (not ascii_only or letter.isascii())
