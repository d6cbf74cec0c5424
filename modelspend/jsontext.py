"""JSON as text: where its values stand, and splices that touch one value and nothing else.

The walk never looks inside a nested value: one possessive pattern jumps from bracket to bracket
over whole strings, so its cost is a step for each bracket and not for each byte. All of it takes
bytes that are known to be valid JSON.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import orjson

_WS = rb"[ \t\r\n]*+"
_STRING_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_STRING = re.compile(_STRING_TEXT, re.DOTALL)
_KEY = re.compile(_WS + b"(" + _STRING_TEXT + b")" + _WS + b":" + _WS, re.DOTALL)
_SCALAR = re.compile(rb"[^\s,\]}]++")
_COMMA = re.compile(_WS + b",?")
_BEFORE_ITEM = re.compile(_WS)
_TO_BRACKET = re.compile(
    rb'[^"{}\[\]]*+(?:' + _STRING_TEXT + rb'[^"{}\[\]]*+)*+',
    re.DOTALL,
)
_SPACE_OR_STRING = re.compile(rb"[ \t\r\n]++|(" + _STRING_TEXT + b")", re.DOTALL)
_OPEN, _CLOSE = frozenset(b"{["), frozenset(b"}]")
_QUOTE = ord('"')


class Member(NamedTuple):
    """One `"key": value` of an object, by its place in the bytes; `end` is past the value."""

    key: str
    start: int
    value: int
    end: int


def members(text: bytes, at: int = 0) -> Iterator[Member]:
    """The members of the object that starts at `at`."""
    at = text.index(b"{", at) + 1
    while found := _KEY.match(text, at):
        end = value_end(text, found.end())
        yield Member(orjson.loads(found[1]), found.start(1), found.end(), end)
        comma = _COMMA.match(text, end)
        at = comma.end() if comma else end


def items(text: bytes, at: int = 0) -> Iterator[tuple[int, int]]:
    """Where each value of the array that starts at `at` begins and ends."""
    at = _BEFORE_ITEM.match(text, text.index(b"[", at) + 1).end()  # type: ignore[union-attr]
    while text[at] not in _CLOSE:
        end = value_end(text, at)
        yield at, end
        at = _COMMA.match(text, end).end()  # type: ignore[union-attr]
        at = _BEFORE_ITEM.match(text, at).end()  # type: ignore[union-attr]


def member(text: bytes, key: str, at: int = 0) -> Member | None:
    return next((found for found in members(text, at) if found.key == key), None)


def there(text: bytes, key: str, at: int = 0) -> Member:
    """The member of that name, which the parsed tree is known to have."""
    return next(found for found in members(text, at) if found.key == key)


def replace(text: bytes, place: Member, value: bytes) -> bytes:
    """The same bytes with another value there."""
    return text[: place.value] + value + text[place.end :]


def prepend(text: bytes, new: bytes, at: int = 0) -> bytes:
    """The same bytes with one more member (`"key":value`) at the front of the object at `at`."""
    start = text.index(b"{", at) + 1
    comma = b"," if _KEY.match(text, start) else b""
    return text[:start] + new + comma + text[start:]


def cut(text: bytes, place: Member) -> bytes:
    """The same bytes without that member and the one comma that it needed."""
    before, after = text[: place.start], text[place.end :]
    if (kept := before.rstrip(b" \t\r\n")).endswith(b","):
        return kept[:-1] + after
    if (rest := after.lstrip(b" \t\r\n")).startswith(b","):
        return before + rest[1:]
    return before + after


def minified(text: bytes) -> bytes:
    """The same JSON without the whitespace between its tokens; every token keeps its bytes."""
    return _SPACE_OR_STRING.sub(lambda found: found[1] or b"", text)


def value_end(text: bytes, at: int) -> int:
    """Past the value that begins at `at`."""
    first = text[at]
    if first == _QUOTE:
        return _STRING.match(text, at).end()  # type: ignore[union-attr]
    if first not in _OPEN:
        return _SCALAR.match(text, at).end()  # type: ignore[union-attr]
    depth = 1
    at += 1
    while depth:
        at = _TO_BRACKET.match(text, at).end()  # type: ignore[union-attr]
        depth += 1 if text[at] in _OPEN else -1
        at += 1
    return at
