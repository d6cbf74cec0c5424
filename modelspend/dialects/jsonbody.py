"""Request bodies as bytes: strict reading, and splices that touch one value and nothing else.

The parsed tree answers every question; only a splice, or a suspicion of a key told twice, walks the
bytes. The walk never looks inside a nested value: one possessive pattern jumps from bracket to
bracket over whole strings, so its cost is a step for each bracket and not for each byte.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from modelspend.errors import BadRequest

_WS = rb"[ \t\r\n]*+"
_STRING_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_STRING = re.compile(_STRING_TEXT, re.DOTALL)
_KEY = re.compile(_WS + b"(" + _STRING_TEXT + b")" + _WS + b":" + _WS, re.DOTALL)
_SCALAR = re.compile(rb"[^\s,\]}]++")
_COMMA = re.compile(_WS + b",?")
_TO_BRACKET = re.compile(
    rb'[^"{}\[\]]*+(?:' + _STRING_TEXT + rb'[^"{}\[\]]*+)*+',
    re.DOTALL,
)
_WORD_KEYS = re.compile(rb'"(\w++)"\s*+:')
_ESCAPED_WORD = re.compile(rb"\\u00(?:3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9a])", re.IGNORECASE)
_OPEN, _CLOSE = frozenset(b"{["), frozenset(b"}]")
_QUOTE = ord('"')

_EXAMPLE = 'Send a JSON object such as {"model": "gpt-5-mini", …}.'
_LONGEST_NAME = 256
_NOT_JSON_NUMBERS = ("NaN", "Infinity", "-Infinity")


class Member(NamedTuple):
    """One `"key": value` of an object, by its place in the bytes; `end` is past the value."""

    key: str
    start: int
    value: int
    end: int


def decode(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises BadRequest with the place of the first fault.

    Refused beyond what JSON refuses: a key told twice at the top level or within `stream_options`,
    however it is escaped, because two readers would disagree on what was asked.
    """
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise _unreadable(body, fault) from None
    if not isinstance(fields, dict):
        raise BadRequest(f"The body is {kind(fields)}, not a JSON object.", _EXAMPLE)
    if _suspicious(body, fields):
        _refuse_duplicates(body, fields)
    return fields


def members(text: bytes, at: int = 0) -> Iterator[Member]:
    """The members of the object that starts at `at`; the text must be valid JSON."""
    at = text.index(b"{", at) + 1
    while found := _KEY.match(text, at):
        end = _value_end(text, found.end())
        yield Member(orjson.loads(found[1]), found.start(1), found.end(), end)
        comma = _COMMA.match(text, end)
        at = comma.end() if comma else end


def member(text: bytes, key: str, at: int = 0) -> Member | None:
    return next((found for found in members(text, at) if found.key == key), None)


def there(text: bytes, key: str, at: int = 0) -> Member:
    """The member of that name, which the parsed tree is known to have."""
    return next(found for found in members(text, at) if found.key == key)


def replace(text: bytes, place: Member, value: bytes) -> bytes:
    """The same bytes with another value there."""
    return text[: place.value] + value + text[place.end :]


def with_model(text: bytes, model: str) -> bytes:
    """The same bytes with another top-level `model`; `asked_model` has seen that there is one."""
    return replace(text, there(text, "model"), orjson.dumps(model))


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


def _value_end(text: bytes, at: int) -> int:
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


def _suspicious(body: bytes, fields: Mapping[str, Any]) -> bool:
    """Whether a key may be told twice: cheap, and true too often rather than too seldom."""
    options = fields.get("stream_options")
    names = [*fields, *options] if isinstance(options, dict) else list(fields)
    doubtful = [
        name for name in names if not name.isascii() or body.count(b'"%b"' % name.encode()) != 1
    ]
    if doubtful and _told_too_often(body, fields, doubtful):
        return True
    return b"\\u00" in body and _ESCAPED_WORD.search(body) is not None


def _told_too_often(body: bytes, fields: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Every key is once in the bytes for each time it is in the tree, save one that replaced
    another."""
    told = Counter(_WORD_KEYS.findall(body))
    known = _occurrences(fields, frozenset(names))
    return any(told[name.encode()] != known[name] for name in names)


def _occurrences(tree: Mapping[str, Any], names: frozenset[str]) -> Counter[str]:
    """How often each name is a key, anywhere in the tree."""
    found: Counter[str] = Counter()
    waiting: list[Any] = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            found.update(names & item.keys())
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return found


def _refuse_duplicates(body: bytes, fields: Mapping[str, Any]) -> None:
    places = _distinct(body, members(body), "")
    options = places.get("stream_options")
    if options and isinstance(fields["stream_options"], dict):
        _distinct(body, members(body, options.value), "stream_options.")


def _distinct(body: bytes, found: Iterator[Member], within: str) -> dict[str, Member]:
    seen: dict[str, Member] = {}
    for place in found:
        if place.key in seen:
            name = f"{within}{place.key}"
            raise BadRequest(
                f"`{name}` is told twice, again at {_place(body, place.start)}.",
                "Send it once: which of two values holds differs from one reader to the next.",
                field=name,
            )
        seen[place.key] = place
    return seen


def _unreadable(body: bytes, fault: orjson.JSONDecodeError) -> BadRequest:
    if not body.strip():
        return BadRequest("The body is empty.", _EXAMPLE)
    try:
        text = body.decode()
    except UnicodeDecodeError as bad:
        return BadRequest(
            f"The body is not UTF-8: byte 0x{body[bad.start]:02x} at offset {bad.start}.",
            "Encode the JSON as UTF-8.",
        )
    # A fault inside a construct is told at its end: the word itself may start a little earlier.
    where = len(text[: fault.pos].encode())
    around = text[max(0, fault.pos - 1) : fault.pos + 10]
    hint = "Check the JSON there."
    if text.startswith("\ufeff"):
        hint = "Leave out the byte order mark before the object."
    elif any(word in around for word in _NOT_JSON_NUMBERS):
        hint = "JSON has no NaN or Infinity: send null, or leave the field out."
    elif "depth" in fault.msg or "ecursion" in fault.msg:
        hint = "Nest objects and arrays less deeply than 1,024 levels."
    elif "after" in fault.msg or "trailing char" in fault.msg:
        hint = "Send one JSON object and nothing after it."
    return BadRequest(f"The body is not JSON: {fault.msg} at {_place(body, where)}.", hint)


def _place(body: bytes, offset: int) -> str:
    line = body.count(b"\n", 0, offset) + 1
    column = offset - (body.rfind(b"\n", 0, offset) + 1) + 1
    return f"line {line}, column {column} (byte {offset})"


def kind(value: object) -> str:
    """What a JSON value is, in words for a message; never the value itself."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def asked_model(fields: Mapping[str, Any]) -> str:
    """The `model` of a body. Raises BadRequest when it is missing, empty or not a string."""
    model = optional_text(fields, "model")
    if model is None or not model.strip():
        state = "empty" if "model" in fields else "missing"
        raise BadRequest(f"`model` is {state}.", 'Name one, such as "gpt-5-mini".', field="model")
    return proper_model(model)


def proper_model(name: str) -> str:
    """A model's name that can stand in a header, a message and a table. Raises BadRequest."""
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise BadRequest(
            f"`model` is not printable text of at most {_LONGEST_NAME} characters.",
            'Name one, such as "gpt-5-mini".',
            field="model",
        )
    return name


def optional_text(fields: Mapping[str, Any], name: str, within: str = "") -> str | None:
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value
    raise _wrong(within + name, value, "a string")


def optional_object(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object under a name; empty when it is absent or null."""
    value = fields.get(name)
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise _wrong(name, value, "an object")


def flag(fields: Mapping[str, Any], name: str, within: str = "") -> bool:
    """A boolean; absent and null are false."""
    value = fields.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise _wrong(within + name, value, "true or false")


def limit(fields: Mapping[str, Any], *names: str, within: str = "") -> int | None:
    """The first of several names for an output limit; a negative one means none at some servers."""
    for name in names:
        value = fields.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise _wrong(within + name, value, "a whole number of tokens")
        return int(value) if value >= 0 else None
    return None


def _wrong(name: str, value: object, wanted: str) -> BadRequest:
    found = "a fraction" if isinstance(value, float) else kind(value)
    return BadRequest(f"`{name}` is {found}.", f"Send {wanted}, or leave it out.", field=name)
