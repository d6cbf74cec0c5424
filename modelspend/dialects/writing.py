"""What the writers of requests share: the notes of what was left out or put in, and the bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import orjson

from modelspend.delivery import is_object, wrapped
from modelspend.dialects.json_schema import Narrowed
from modelspend.errors import BadRequest, Uncarriable


@dataclass(slots=True)
class Notes:
    """Names in the order they were met, each once."""

    to: str
    dropped: dict[str, None] = field(default_factory=dict)
    added: dict[str, None] = field(default_factory=dict)

    def drop(self, name: str) -> None:
        self.dropped[name] = None

    def add(self, name: str) -> None:
        self.added[name] = None

    def leave(self, extra: Mapping[str, Any], *known: str) -> None:
        """What stands beside a foreign field or part, and has no words here."""
        for name in extra:
            if name not in known:
                self.drop(name)

    def narrow(self, fit: Narrowed) -> None:
        """What became of a schema that had to be cut to size."""
        for name in fit.dropped:
            self.drop(f"schema:{name}")
        for name in fit.added:
            self.add(f"schema:{name}")

    def refuse_silence(self) -> NoReturn:
        raise BadRequest(
            "No message of the conversation says anything.",
            "Send a user message with words.",
            field="messages",
        )

    def refuse(self, capability: str, why: str, hint: str, place: str | None = None) -> NoReturn:
        raise Uncarriable(
            f"{why}, and the request would go out as {self.to}.",
            hint,
            capability=capability,
            field=place,
        )


def arguments_object(said: str) -> orjson.Fragment:
    """A tool call's arguments as an object: their own JSON, digit for digit.

    What is no JSON object is kept whole inside one.
    """
    said = said if said.strip() else "{}"
    return orjson.Fragment(said if is_object(said) else wrapped(said))


def body_of(fields: Mapping[str, Any]) -> bytes:
    """The JSON of a written request. Raises BadRequest for what nests too deep to be written."""
    try:
        return orjson.dumps(fields)
    except orjson.JSONEncodeError:
        raise _too_deep() from None


def fields_of(body: bytes) -> dict[str, Any]:
    """What a reader of a written body finds. Raises BadRequest for what nests too deep for it."""
    try:
        fields: dict[str, Any] = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _too_deep() from None
    return fields


def _too_deep() -> BadRequest:
    return BadRequest(
        "The request nests too deep, or holds a number of more than 64 bits.",
        "Nest objects and arrays less deeply than 200 levels.",
    )
