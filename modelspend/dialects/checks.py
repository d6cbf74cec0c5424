"""Values of a request that must have the right shape before they can be said in other words.

Within one dialect a provider judges its own fields. On the way to another one a number must be a
number, or nobody could say what was asked.
"""

from collections.abc import Mapping
from typing import Any

from modelspend.dialects.jsonbody import kind
from modelspend.errors import BadRequest


def number(fields: Mapping[str, Any], name: str, within: str = "") -> float | None:
    """A number, or None when it is absent or null. Raises BadRequest."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(within + name, value, "a number")
    return value


def whole(fields: Mapping[str, Any], name: str, within: str = "") -> int | None:
    """A whole number, or None when it is absent or null. Raises BadRequest."""
    value = number(fields, name, within)
    if value is None or value == int(value):
        return None if value is None else int(value)
    raise _wrong(within + name, value, "a whole number")


def text(value: object, place: str) -> str:
    """A string. Raises BadRequest."""
    if isinstance(value, str):
        return value
    raise _wrong(place, value, "a string")


def texts(value: object, place: str) -> tuple[str, ...]:
    """A list of strings; none when it is absent. Raises BadRequest."""
    items = _items(value, place)
    return tuple(text(item, f"{place}[{at}]") for at, item in enumerate(items))


def an_object(value: object, place: str) -> Mapping[str, Any]:
    """An object, or an empty one when it is absent or null. Raises BadRequest."""
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise _wrong(place, value, "an object")


def objects(value: object, place: str) -> list[Mapping[str, Any]]:
    """A list of objects; none when it is absent. Raises BadRequest with the item's place."""
    found = _items(value, place)
    for at, item in enumerate(found):
        if not isinstance(item, dict):
            raise _wrong(f"{place}[{at}]", item, "an object")
    return found


def role(value: object, allowed: tuple[str, ...], place: str) -> str:
    """One of the roles. Raises BadRequest."""
    if isinstance(value, str) and value in allowed:
        return value
    shown = repr(value[:32]) if isinstance(value, str) and value.isprintable() else kind(value)
    raise BadRequest(f"`{place}` is {shown}.", f"Send one of {', '.join(allowed)}.", field=place)


def _items(value: object, place: str) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise _wrong(place, value, "a list")


def _wrong(place: str, value: object, wanted: str) -> BadRequest:
    found = "a fraction" if isinstance(value, float) and wanted != "a number" else kind(value)
    return BadRequest(f"`{place}` is {found}.", f"Send {wanted}, or leave it out.", field=place)
