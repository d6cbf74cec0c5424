"""What the readers of all streamed answers share: framing, holding the end back, giving up safely.

A subclass says what one event means. Everything about bytes is here: events go through as they
came, and from the first event that ends the answer (well or badly) all bytes are held, so that the
receipt can be final before the client sees the end.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson

from modelspend.dialects.dialect import AnswerNote, ProviderError
from modelspend.dialects.sse import Piece, SseSplitter, parse_event
from modelspend.errors import ModelspendError

_STANDARD_TIERS = frozenset({"default", "standard", "auto", "on_demand", "unspecified"})
_NOTHING: Mapping[str, Any] = {}

MAX_NAME = 256


class Splitter(Protocol):
    """Cuts a byte stream into whole events that keep their bytes."""

    def feed(self, chunk: bytes) -> list[bytes | Piece]: ...

    def close(self) -> bytes: ...


class EventReader:
    """A `StreamReader` for one answer; `note` says what has been learnt so far."""

    def __init__(self, note: AnswerNote | None = None) -> None:
        self.note = note or AnswerNote()
        self._splitter: Splitter = SseSplitter()
        self._holding = False
        self._whole = True  # the bytes handed on so far end with an event's blank line

    def feed(self, chunk: bytes) -> tuple[bytes, bytes]:
        now: list[bytes] = []
        held: list[bytes] = []
        for item in self._splitter.feed(chunk):
            raw = self._event(item) if item.__class__ is bytes else self._piece(item)  # type: ignore[arg-type]
            (held if self._holding else now).append(raw)
        return b"".join(now), b"".join(held)

    def close(self) -> tuple[bytes, bytes]:
        """A last event without its blank line counts when its data is whole, else it is dropped."""
        rest = self._splitter.close()
        if not rest or not self._complete(rest):
            return b"", b""
        self._whole = False
        raw = self._event(rest)
        return (b"", raw) if self._holding else (raw, b"")

    def error_event(self, error: ModelspendError) -> bytes:
        """The bytes that end this very stream as an error, whatever was handed on before."""
        return (b"" if self._whole else b"\n\n") + self._failure(error)

    # What a dialect says.

    def _failure(self, error: ModelspendError) -> bytes:
        raise NotImplementedError

    def _take(self, name: bytes, value: Mapping[str, Any], raw: bytes) -> bytes:
        """Learn from one event; the bytes to hand on instead of it are usually its own."""
        raise NotImplementedError

    def _take_word(self, data: bytes) -> None:
        """Learn from data that is not a JSON object, such as `[DONE]`."""

    def _take_unread(self, piece: Piece) -> None:
        """Learn what can be learnt from an event too big to read: that there was content."""
        self.note.content = True

    # How any event is handled.

    def _event(self, raw: bytes) -> bytes:
        name, data = self._data(raw)
        if data is None:
            return raw
        value = None if data == b"[DONE]" else parsed(data)
        if isinstance(value, dict):
            raw = self._take(name, value, raw)
        else:
            self._take_word(data.strip())
        self._hold_if_over()
        return raw

    def _data(self, raw: bytes) -> tuple[bytes, bytes | None]:
        return parse_event(raw)

    def _piece(self, piece: Piece) -> bytes:
        self._whole = piece.last
        if piece.last:
            self._take_unread(piece)
            self._hold_if_over()
        return piece.raw

    def _hold_if_over(self) -> None:
        if self.note.ended or self.note.error:
            self._holding = True

    def _complete(self, rest: bytes) -> bool:
        _, data = self._data(rest)
        if data is None:
            return not rest.strip(b"\r\n")
        if data.strip() == b"[DONE]":
            return True
        return parsed(data) is not None

    def _end(self) -> None:
        """The terminal event came; after an error it ends nothing well."""
        self.note.ended = self.note.error is None

    def _wrote(self, text: object) -> None:
        """The model wrote this; anything but a non-empty string is nothing."""
        if text and isinstance(text, str):
            self.note.content = True
            self.note.output_chars += len(text)


def parsed(data: bytes) -> Any:
    """A JSON value, read as forgivingly as the vendors' clients do (NaN, a byte order mark).

    None for what is no JSON at all.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(_writable(json.loads(data)))
    except (ValueError, RecursionError):
        return None


def _writable(value: object) -> bytes:
    """JSON of a value whose texts are text: half of a surrogate pair could never be stored."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def as_object(value: object) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one: a stranger's shape never raises."""
    return value if isinstance(value, dict) else _NOTHING


def as_list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def as_text(value: object) -> str | None:
    """The value if it is a non-empty string."""
    return value if value and isinstance(value, str) else None


def as_name(value: object) -> str | None:
    """The value if it can stand in a header and on a receipt: printable, and no longer than any
    name of a model, an answer or a reason is."""
    name = as_text(value)
    return name if name and len(name) <= MAX_NAME and name.isprintable() else None


def as_usage(value: object) -> dict[str, Any] | None:
    """A raw usage object that a receipt can keep, without members that JSON could not say again
    (numbers above 64 bits, bottomless nesting); None when it is no object."""
    if not isinstance(value, dict):
        return None
    if _keepable(value):
        return value
    return {key: kept for key, kept in value.items() if _keepable(kept)}


def _keepable(value: object) -> bool:
    try:
        orjson.dumps([[[[[[[[value]]]]]]]])  # it will stand as deep as that on a receipt
    except orjson.JSONEncodeError:
        return False
    return True


def served_tier(value: object) -> str:
    """A service tier as answered: "" is the standard one, whatever its provider calls it."""
    tier = (as_name(value) or "").lower()
    return "" if tier in _STANDARD_TIERS else tier


def provider_error(value: object) -> ProviderError | None:
    """The error that an answer tells, in any of the shapes in use; None when it tells none."""
    if isinstance(value, list):
        return provider_error(value[0]) if value else None
    if not isinstance(value, dict):
        return None
    told = value.get("error")
    if not told and value.get("type") == "error":
        told = value
    if told:
        return error_of(told)
    words = value.get("message") or value.get("detail")
    return (
        ProviderError("error", words if isinstance(words, str) else str(words)) if words else None
    )


def error_of(told: object) -> ProviderError:
    """An error from what stands under `error`: an object of some sort, or plain words."""
    if not isinstance(told, dict):
        return ProviderError("error", str(told))
    names = [told.get(key) for key in ("type", "status", "code")]
    words = (name for name in map(as_name, names) if name and name != "error")
    number = next((str(name) for name in names if isinstance(name, int)), "error")
    message = str(told.get("message") or "")
    return ProviderError(next(words, number), message, _advised(told.get("details")))


def _advised(details: object) -> float | None:
    """Google's `RetryInfo` among the details of an error: `"retryDelay": "34.4s"`."""
    delays = (as_text(as_object(each).get("retryDelay")) for each in as_list(details))
    found = next((_DELAY.fullmatch(delay) for delay in delays if delay), None)
    return float(found[1]) if found else None


_DELAY = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)s")


def count_chars(value: Any) -> int:
    """Characters of text anywhere in a JSON value, without base64 media and sealed reasoning."""
    total = 0
    waiting = [value]
    for item in waiting:  # it grows while it is read
        kind = type(item)
        if kind is str:
            total += 0 if item.startswith("data:") else len(item)
        elif kind is list:
            waiting += item
        elif kind is dict:
            for key, kept in item.items():
                total += len(key)
                if key in _NOT_TEXT:
                    continue
                if type(kept) is not str:
                    waiting.append(kept)
                elif not kept.startswith("data:"):
                    total += len(kept)
    return total


_NOT_TEXT = frozenset(
    {
        "data",
        "file_data",
        "fileData",
        "file_id",
        "encrypted_content",
        "signature",
        "thoughtSignature",
        "thought_signature",
        "cache_control",
    }
)


def opening(*texts: object) -> bytes:
    """Texts of a conversation's start as bytes to fingerprint; lists give the texts in them."""
    found: list[str] = []
    for text in texts:
        if isinstance(text, str):
            found.append(text)
        parts = map(as_object, as_list(text))
        found += [part["text"] for part in parts if isinstance(part.get("text"), str)]
    return "\x1e".join(found).encode("utf-8", "surrogatepass")
