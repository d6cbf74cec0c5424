"""JSON Schema cut down to what a vendor takes, with the names of what was cut.

References within a schema are put in their place; only those that run in a circle stay. A schema
that cannot be cut down to size has none: its `fault` says why.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelspend.record import frozen

_DEEPEST = 60
_BIGGEST = 5_000

_PLAIN = frozenset({"type", "title", "description", "enum", "required", "items", "properties"})
_SUBSCHEMAS = frozenset({"items", "additionalProperties"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})


@frozen(kw_only=True)
class Subset:
    """The keywords that a vendor takes, and the habits of its own.

    `closed` wants every object to refuse further properties. `recursive` lets references run in a
    circle. `takes` judges a keyword by its value.
    """

    keywords: frozenset[str]
    closed: bool = False
    recursive: bool = False
    takes: Callable[[str, Any], bool] = lambda keyword, value: True


@dataclass(slots=True)
class Narrowed:
    """A schema in a subset; `schema` is None when there is none, and `fault` says why.

    `dropped` names the keywords that went, `added` those that stand there now in other words or
    places, and mean no less. `same` is true when nothing was changed.
    """

    schema: dict[str, Any] | None
    dropped: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    fault: str = ""
    same: bool = False


def narrowed(schema: Mapping[str, Any], subset: Subset) -> Narrowed:
    """The schema with nothing but what the subset takes."""
    cutting = _Cutting(subset, schema)
    try:
        told = cutting.cut(schema, (), 0)
    except _Unfit as fault:
        return Narrowed(None, fault=str(fault))
    if cutting.kept_defs:
        told["$defs"] = cutting.kept_defs
    return Narrowed(told, tuple(cutting.dropped), tuple(cutting.added), same=told == schema)


def plain_root(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """A tool's schema as one object at its root; None for a choice between several."""
    if not schema.keys().isdisjoint({"anyOf", "oneOf", "allOf"}):
        return None
    told = dict(schema)
    if told.get("type") != "object":
        told = {**told, "type": "object"}
    if not isinstance(told.get("properties", {}), dict):
        told["properties"] = {}
    return told


class _Unfit(ValueError):
    """Why a schema cannot be narrowed, as the end of a sentence."""


@dataclass(slots=True)
class _Cutting:
    subset: Subset
    root: Mapping[str, Any]
    dropped: dict[str, None] = field(default_factory=dict)
    added: dict[str, None] = field(default_factory=dict)
    kept_defs: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # of references that run in a circle
    size: int = 0

    def cut(self, schema: object, inside: tuple[str, ...], depth: int) -> dict[str, Any]:
        self.size += 1
        if depth > _DEEPEST or self.size > _BIGGEST:
            raise _Unfit("is too deep or too big")
        if not isinstance(schema, Mapping):
            return {}  # `true` takes anything; `false`, which takes nothing, cannot be said
        spelled = self._spelled(schema)
        if isinstance(ref := spelled.get("$ref"), str):
            return self._refer(ref, spelled, inside, depth)
        told: dict[str, Any] = {}
        for keyword, value in spelled.items():
            if keyword in ("$defs", "definitions"):
                continue
            if keyword not in self.subset.keywords or not self.subset.takes(keyword, value):
                self.dropped[keyword] = None
                continue
            told[keyword] = self._value(keyword, value, inside, depth)
        if self.subset.closed and ("properties" in told or _is_object(told.get("type"))):
            if told.get("additionalProperties", False) is not False:
                self.dropped["additionalProperties"] = None
            elif "additionalProperties" not in told:
                self.added["additionalProperties"] = None
            told["additionalProperties"] = False
        return told

    def _spelled(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Other words for what some subsets lack: a constant is an enumeration of one, a choice of
        exactly one is a choice, and all of one schema is that schema."""
        told = dict(schema)
        known = self.subset.keywords
        if "const" in told and "const" not in known:
            told.setdefault("enum", [told["const"]])
            del told["const"]
            self.added["enum"] = None
        if "oneOf" in told and "oneOf" not in known and "anyOf" not in told:
            told["anyOf"] = told.pop("oneOf")
            self.dropped["oneOf"] = None
        whole = told.get("allOf")
        if "allOf" not in known and isinstance(whole, list) and len(whole) == 1:
            only = whole[0]
            del told["allOf"]
            self.added["allOf"] = None
            if isinstance(only, Mapping):
                told = {**only, **told}
        return told

    def _value(self, keyword: str, value: Any, inside: tuple[str, ...], depth: int) -> Any:
        if keyword == "properties" and isinstance(value, Mapping):
            return {name: self.cut(inner, inside, depth + 1) for name, inner in value.items()}
        if keyword in _LISTS and isinstance(value, list):
            return [self.cut(inner, inside, depth + 1) for inner in value]
        if keyword in _SUBSCHEMAS and isinstance(value, Mapping):
            return self.cut(value, inside, depth + 1)
        return value

    def _refer(
        self, ref: str, schema: Mapping[str, Any], inside: tuple[str, ...], depth: int
    ) -> dict[str, Any]:
        target = _found(self.root, ref)
        if target is None:
            self.dropped["$ref"] = None
            return self.cut({k: v for k, v in schema.items() if k != "$ref"}, inside, depth + 1)
        self.added["$ref"] = None
        beside = {k: v for k, v in schema.items() if k not in ("$ref", "$defs", "definitions")}
        if ref in inside or ref == "#":
            self.dropped |= dict.fromkeys(beside)  # nothing may stand beside a reference
            return self._circle(ref, target)
        return self.cut({**target, **beside}, (*inside, ref), depth + 1)

    def _circle(self, ref: str, target: Mapping[str, Any]) -> dict[str, Any]:
        """A reference to what we are inside of: it can only be told by name."""
        if not self.subset.recursive:
            raise _Unfit("refers to itself")
        name = self.names.get(ref)
        if name is None:
            name = self.names[ref] = f"circle{len(self.names) + 1}"
            bare = {k: v for k, v in target.items() if k not in ("$defs", "definitions")}
            self.kept_defs[name] = self.cut(bare, (ref,), 1)
        return {"$ref": f"#/$defs/{name}"}


def _is_object(told: object) -> bool:
    return told == "object" or (isinstance(told, list) and "object" in told)


def _found(root: Mapping[str, Any], ref: str) -> Mapping[str, Any] | None:
    """What a reference within the schema points to."""
    if not ref.startswith("#"):
        return None
    place: Any = root
    for step in filter(None, ref[1:].split("/")):
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(place, Mapping) or name not in place:
            return None
        place = place[name]
    return place if isinstance(place, Mapping) else None


def _claude_takes(keyword: str, value: Any) -> bool:
    if keyword == "minItems":
        return value in (0, 1)
    if keyword == "format":
        return isinstance(value, str) and value in _FORMATS
    if keyword in ("enum", "const"):
        values: Iterable[Any] = value if isinstance(value, list) else (value,)
        return all(one is None or isinstance(one, str | int | float) for one in values)
    return True


_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)


def _gemini_takes(keyword: str, value: Any) -> bool:
    """An enumeration is of texts and numbers."""
    if keyword != "enum" or not isinstance(value, list):
        return True
    return all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in value)


# Anthropic's own client cuts a schema down to this (anthropic 2.13, lib/_parse/_transform.py; the
# limits of platform.claude.com/docs/en/build-with-claude/structured-outputs, read 2026-11-25).
CLOSED = Subset(
    keywords=_PLAIN | {"const", "anyOf", "allOf", "format", "minItems", "additionalProperties"},
    closed=True,
    takes=_claude_takes,
)

# What Google says of `responseJsonSchema` (ai.google.dev/api/generate-content, GenerationConfig,
# read 2026-11-25). A reference in a circle may stand in optional properties only.
OPEN = Subset(
    keywords=_PLAIN
    | {"$id", "$anchor", "format", "prefixItems", "minItems", "maxItems", "minimum", "maximum"}
    | {"anyOf", "oneOf", "additionalProperties", "propertyOrdering"},
    recursive=True,
    takes=_gemini_takes,
)
