"""A request cut into the segments that a provider's prompt cache sees, and where two turns part.

A prompt cache holds a prefix: tools, then the system prompt, then the messages. Each segment is
kept as eight bytes of a hash of its JSON (of SHA-256, which processors have: it takes 0.6 of the
time of BLAKE2), its keys in their order, since a provider renders it so. What does not change the
prefix is left out: `cache_control` marks wander from turn to turn, and a list of one text is the
same as that text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal, NamedTuple

import orjson

from modelspend.record import frozen

Area = Literal["tools", "system", "settings", "messages"]

DifferenceKind = Literal[
    "model_switch",
    "tool_order",
    "tools_changed",
    "system_timestamp",
    "system_changed",
    "settings_changed",
    "history_truncated",
    "history_edited",
]

AREAS: tuple[Area, ...] = ("tools", "system", "settings", "messages")

_DIGEST = 8


class Segment(NamedTuple):
    """One tool, part of the system prompt, setting or message.

    `position` counts within the client's own array. `masked` is the hash of a system part's text
    without dates, times, ids and numbers (empty for other areas), `size` the bytes of its JSON.
    """

    area: Area
    position: int
    digest: bytes
    masked: bytes
    size: int

    @property
    def place(self) -> str:
        """What it is called, such as `messages[3]`."""
        return f"{self.area}[{self.position}]"


Segments = tuple[Segment, ...]


@frozen
class Layout:
    """Under which names a dialect keeps what makes the prefix, as data.

    `settings` are those that the providers say break their cache when they change
    (docs.anthropic.com prompt-caching, "What invalidates the cache"; platform.openai.com
    prompt-caching: a schema is a prefix of the system message; both as of 2026-11).
    """

    messages: tuple[str, ...]
    tools: tuple[str, ...] = ("tools",)
    system: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


LAYOUTS: Mapping[str, Layout] = {
    "openai.chat": Layout(
        messages=("messages",), tools=("tools", "functions"), settings=("response_format",)
    ),
    "openai.responses": Layout(messages=("input",), system=("instructions",), settings=("text",)),
    "anthropic.messages": Layout(
        messages=("messages",), system=("system",), settings=("tool_choice", "thinking", "speed")
    ),
    "gemini.generate": Layout(
        messages=("contents",), system=("systemInstruction", "system_instruction")
    ),
}
"""The dialects that hold a conversation; others have nothing to cut."""

_SYSTEM_ROLES = frozenset({"system", "developer"})


@frozen
class Difference:
    """Where a turn parts from the one before it: what happened, and to which segment."""

    kind: DifferenceKind
    place: str


def cut(
    dialect: str, fields: Mapping[str, Any], known: Mapping[bytes, bytes] | None = None
) -> Segments:
    """The segments of a request, in the order in which a cache sees them.

    `known` has masked hashes by digest, those of an earlier turn (`masks`): masking a text is dear
    and a system prompt that stays the same is masked once.
    """
    layout = LAYOUTS.get(dialect)
    if layout is None:
        return ()
    found: list[Segment] = []
    for n, tool in enumerate(_tools(_first(fields, layout.tools))):
        found.append(_segment("tools", n, tool))
    for n, part in enumerate(_parts(_first(fields, layout.system))):
        found.append(_system(n, part, known or {}))
    settings = {name: fields[name] for name in layout.settings if name in fields}
    if settings:
        found.append(_segment("settings", 0, settings))
    leading = True  # later system messages are a part of the history, which may grow by them
    for n, message in enumerate(_parts(_first(fields, layout.messages))):
        leading = leading and message.__class__ is dict and message.get("role") in _SYSTEM_ROLES
        if leading:
            found.append(_system(n, message, known or {}))
        else:
            found.append(_segment("messages", n, message))
    return tuple(found)


def addressed(
    dialect: str, fields: Mapping[str, Any]
) -> Iterator[tuple[Area, tuple[str | int, ...], Any]]:
    """Each segment of a request in the order of `cut`: its area, where it stands, its value."""
    layout = LAYOUTS.get(dialect)
    if layout is None:
        return
    for tool in _tools(_first(fields, layout.tools)):
        yield "tools", (), tool
    for path, part in _placed(fields, layout.system):
        yield "system", path, part
    settings = {name: fields[name] for name in layout.settings if name in fields}
    if settings:
        yield "settings", (), settings
    leading = True
    for path, message in _placed(fields, layout.messages):
        leading = leading and message.__class__ is dict and message.get("role") in _SYSTEM_ROLES
        yield "system" if leading else "messages", path, message


def _placed(
    fields: Mapping[str, Any], names: Sequence[str]
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    name = next((name for name in names if name in fields), "")
    value = fields.get(name)
    within: tuple[str | int, ...] = (name,)
    if isinstance(value, dict) and isinstance(value.get("parts"), list):
        value, within = value["parts"], (name, "parts")
    if isinstance(value, list):
        yield from (((*within, n), part) for n, part in enumerate(value))
    elif value is not None:
        yield within, value


def masks(segments: Iterable[Segment]) -> dict[bytes, bytes]:
    """The masked hashes by digest, which a later `cut` need not compute again."""
    return {segment.digest: segment.masked for segment in segments if segment.masked}


def first_difference(before: Segments, now: Segments) -> Difference | None:
    """The first segment of the earlier turn that the later one does not repeat; None when the
    later one only adds to the end of the conversation."""
    for area in AREAS:
        old, new = _of(before, area), _of(now, area)
        at = shared(old, new)
        if at == len(old) and (area == "messages" or at == len(new)):
            continue
        lost = old[at] if at < len(old) else new[at]
        return Difference(_kind(area, old, new, at), lost.place)
    return None


def shared(before: Sequence[Segment], now: Sequence[Segment]) -> int:
    """How many leading segments are the same."""
    count = 0
    for old, new in zip(before, now, strict=False):
        if old.digest != new.digest:
            break
        count += 1
    return count


def _kind(area: Area, old: Sequence[Segment], new: Sequence[Segment], at: int) -> DifferenceKind:
    match area:
        case "tools":
            same = sorted(one.digest for one in old) == sorted(one.digest for one in new)
            return "tool_order" if same else "tools_changed"
        case "system":
            only_masked = [one.masked for one in old] == [one.masked for one in new]
            return "system_timestamp" if only_masked else "system_changed"
        case "settings":
            return "settings_changed"
        case "messages":
            later = {one.digest for one in old[at + 1 :]}
            dropped = at == len(new) or new[at].digest in later
            return "history_truncated" if dropped else "history_edited"


def _of(segments: Segments, area: Area) -> list[Segment]:
    return [segment for segment in segments if segment.area == area]


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((fields[name] for name in names if name in fields), None)


def _tools(value: Any) -> Iterator[Any]:
    """Each tool; Gemini groups the functions of one tool, and each of them counts."""
    for tool in value if isinstance(value, list) else ():
        functions = None
        if isinstance(tool, dict):
            functions = tool.get("functionDeclarations") or tool.get("function_declarations")
        yield from functions if isinstance(functions, list) else (tool,)


def _parts(value: Any) -> Sequence[Any]:
    """The parts of a system prompt, or the messages, in any of the shapes in use."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        parts = value.get("parts")
        return parts if isinstance(parts, list) else (value,)
    return () if value is None else (value,)


def _segment(area: Area, position: int, value: Any) -> Segment:
    raw = orjson.dumps(_canonical(value))
    return Segment(area, position, sha256(raw).digest()[:_DIGEST], b"", len(raw))


def _system(position: int, part: Any, known: Mapping[bytes, bytes]) -> Segment:
    plain = _segment("system", position, part)
    masked = known.get(plain.digest)
    if masked is None:
        text = mask("\n".join(texts(part)))
        masked = sha256(text.encode("utf-8", "replace")).digest()[:_DIGEST]
    return plain._replace(masked=masked)


def texts(value: Any) -> Iterator[str]:
    """Every text in a part or message, without its names and roles."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, dict):
        for name in ("text", "content", "parts"):
            yield from texts(value.get(name))


def _canonical(value: Any) -> Any:
    """The value without what the cached prefix does not have."""
    if value.__class__ is not dict:
        return value
    if "cache_control" in value:
        value = {name: kept for name, kept in value.items() if name != "cache_control"}
    content = value.get("content")
    if content.__class__ is list:
        return value | {"content": _plain([_canonical(part) for part in content])}
    if len(value) == 2 and value.get("type") == "text":
        return value.get("text")
    return value


def _plain(content: list[Any]) -> Any:
    """A list of one text that says nothing else is that text."""
    return content[0] if len(content) == 1 and content[0].__class__ is str else content


def mask(text: str) -> str:
    """A text without what changes from one moment to the next: dates, times, ids, numbers."""
    calendar = _CALENDAR
    return " ".join(
        [_masked(word) if word in calendar or not word.isalpha() else word for word in text.split()]
    )


def _masked(word: str) -> str:
    bare = word.strip(_PUNCTUATION)
    if bare in _CALENDAR:
        return "#"
    if bare.isalpha() or not _HAS_DIGIT.search(bare):
        return word
    return "#" if _ID.fullmatch(bare) else _NUMBER.sub("#", word)


_PUNCTUATION = ".,;:!?()[]{}<>\"'`*_"
_MONTHS = "january february march april may june july august september october november december"
_DAYS = "monday tuesday wednesday thursday friday saturday sunday"
_CALENDAR = frozenset(
    spelled
    for names in (_MONTHS, _DAYS)
    for name in names.split()
    for spelled in (name.title(), name[:3].title(), name.upper(), name[:3].upper())
) | {"AM", "PM", "am", "pm", "a.m", "p.m", "UTC", "GMT", "Z"}
_HAS_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_ID = re.compile(r"[0-9A-Fa-f:./TZ+-]+|[\w-]{16,}")
