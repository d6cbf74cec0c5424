"""Request bodies as bytes: strict reading, and splices that touch one value and nothing else.

The parsed tree answers every question; only a splice, or a suspicion of a key told twice, walks the
bytes (see `jsontext`, whose splices are handed on here).
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from modelspend.errors import BadRequest
from modelspend.jsontext import Member, cut, member, members, prepend, replace, there

__all__ = [
    "Member",
    "asked_model",
    "cut",
    "decode",
    "flag",
    "kind",
    "limit",
    "member",
    "members",
    "optional_object",
    "optional_text",
    "prepend",
    "proper_model",
    "replace",
    "there",
    "with_limit",
    "with_model",
]

_WORD_KEYS = re.compile(rb'"(\w++)"\s*+:')
_ESCAPED_WORD = re.compile(rb"\\u00(?:3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9a])", re.IGNORECASE)

_CHECKED_WITHIN = frozenset({"stream_options", "generationConfig", "generation_config"})
_EXAMPLE = 'Send a JSON object such as {"model": "gpt-5-mini", …}.'
_LONGEST_NAME = 256
_NOT_JSON_NUMBERS = ("NaN", "Infinity", "-Infinity")


def decode(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises BadRequest with the place of the first fault.

    Refused beyond what JSON refuses: a key told twice at the top level or within an object that is
    read here, however it is escaped, because two readers would disagree on what was asked.
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


def with_model(text: bytes, model: str) -> bytes:
    """The same bytes with another top-level `model`; `asked_model` has seen that there is one."""
    return replace(text, there(text, "model"), orjson.dumps(model))


def _suspicious(body: bytes, fields: Mapping[str, Any]) -> bool:
    """Whether a key may be told twice: cheap, and true too often rather than too seldom."""
    names = list(fields)
    for inner in _CHECKED_WITHIN & fields.keys():
        if isinstance(fields[inner], dict):
            names += fields[inner]
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
    for inner in sorted(_CHECKED_WITHIN & places.keys()):
        if isinstance(fields[inner], dict):
            _distinct(body, members(body, places[inner].value), f"{inner}.")


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


def with_limit(
    body: bytes,
    fields: Mapping[str, Any],
    names: Sequence[str],
    added: str,
    limit: int,
    at: int = 0,
) -> bytes:
    """The same bytes with that limit under whichever of the names are there, else under `added`."""
    there_already = [name for name in names if name in fields]
    for name in there_already:
        body = replace(body, there(body, name, at), b"%d" % limit)
    return body if there_already else prepend(body, b'"%b":%d' % (added.encode(), limit), at)


def _wrong(name: str, value: object, wanted: str) -> BadRequest:
    found = "a fraction" if isinstance(value, float) else kind(value)
    return BadRequest(f"`{name}` is {found}.", f"Send {wanted}, or leave it out.", field=name)
