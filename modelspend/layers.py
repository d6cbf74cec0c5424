"""Layers of settings: TOML text and variables as trees that know where each value stands.

Hides line numbers, which `tomllib` does not give, and the wording of what pydantic finds wrong. A
value is never quoted where a pasted key could stand: the fault is told without it.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import field
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from modelspend.record import frozen

Path = tuple[str | int, ...]

_BARE_KEY = re.compile(r"^[A-Za-z0-9_-]+$")
_HEADER = re.compile(r"^\[\[?(.+?)\]\]?\s*(?:#.*)?$")


@frozen
class Problem:
    """One fault: where it stands (`config.toml:3`), its dotted key, and what to write instead."""

    place: str
    key: str
    text: str

    def __str__(self) -> str:
        return (
            f"{self.place}: {self.key}: {self.text}" if self.key else f"{self.place}: {self.text}"
        )


@frozen
class Layer:
    """One source of settings; `origin` names it, `lines` has the places within a file."""

    origin: str
    tree: Mapping[str, Any]
    lines: Mapping[Path, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def place(self, path: Path) -> str:
        """`config.toml:3`, or the name of the variable or flag."""
        line = self.line(path)
        return f"{self.origin}:{line}" if line else self.origin

    def line(self, path: Path) -> int:
        """The line of a path or of the table around it; 0 when the source has no lines."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)


def dotted(path: Path) -> str:
    """A path as TOML writes it: `prices."local/tuned-1".input`, `prices."a/b"[1].from`."""
    out = ""
    for step in path:
        if isinstance(step, int):
            out += f"[{step}]"
        else:
            name = step if _BARE_KEY.match(step) else '"' + step.replace('"', '\\"') + '"'
            out += f".{name}" if out else name
    return out


def leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value that is no table, with its path; a list is one value."""
    if isinstance(tree, Mapping) and (tree or not path):
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, tree


def read_toml(origin: str, text: str) -> Layer:
    """The layer of a TOML text; a text that is not TOML gives a layer with its one problem."""
    try:
        tree = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        return Layer(origin, {}, problems=(_syntax(origin, text, str(error)),))
    return Layer(origin, tree, _lines(text, tree))


def _syntax(origin: str, text: str, error: str) -> Problem:
    what, _, where = error.partition(" (at ")
    found = re.match(r"line (\d+)", where)
    line = int(found[1]) if found else len(text.splitlines())
    return Problem(f"{origin}:{line}", "", f"not valid TOML: {what[:1].lower()}{what[1:]}.")


def _lines(text: str, tree: Mapping[str, Any]) -> dict[Path, int]:
    """Where each key of the tree is written, found by its own line; inline tables share theirs."""
    places: dict[Path, int] = {}
    table: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        header = _HEADER.match(stripped)
        if header and (named := _key_path(header[1])) is not None:
            if stripped.startswith("[["):
                named = (*named, sum(1 for place in places if place[:-1] == named))
            if _at(tree, named) is not None:
                table = named
                for length in range(1, len(table) + 1):
                    places.setdefault(table[:length], number)
        elif "=" in stripped and (named := _key_path(stripped.partition("=")[0])) is not None:
            for length in range(1, len(named) + 1):
                if _at(tree, (*table, *named[:length])) is not None:
                    places.setdefault((*table, *named[:length]), number)
    return places


def _key_path(text: str) -> Path | None:
    try:
        tree: Any = tomllib.loads(f"{text} = 0")
    except tomllib.TOMLDecodeError:
        return None
    path: Path = ()
    while isinstance(tree, dict) and tree:
        key, tree = next(iter(tree.items()))
        path = (*path, key)
    return path or None


def _at(tree: Any, path: Path) -> Any:
    for step in path:
        if isinstance(step, int):
            tree = tree[step] if isinstance(tree, list) and step < len(tree) else None
        else:
            tree = tree.get(step) if isinstance(tree, Mapping) else None
    return tree


def check(model: type[BaseModel], layer: Layer, *, textual: bool = False) -> list[Problem]:
    """What is wrong with a layer, every fault of it; `textual` values are all text (variables)."""
    try:
        model.model_validate(layer.tree, context={"textual": textual})
    except ValidationError as error:
        return list(_told(model, layer, error.errors(include_url=False)))
    return []


def _told(model: type[BaseModel], layer: Layer, errors: list[ErrorDetails]) -> Iterator[Problem]:
    """One problem for each place: of the arms of a union, those that got furthest speak."""
    found: dict[Path, list[ErrorDetails]] = {}
    for error in errors:
        found.setdefault(_real_path(layer.tree, error["loc"]), []).append(error)
    for path, faults in sorted(found.items(), key=lambda item: layer.line(item[0])):
        deeper = any(len(other) > len(path) and other[: len(path)] == path for other in found)
        if path[-1:] == ("[key]",):
            text = (
                _NAME_WANTED if faults[0]["type"] != "value_error" else _words(model, path, faults)
            )
            yield Problem(layer.place(path), dotted(path[:-1]), text)
        elif not deeper:
            yield Problem(layer.place(path), dotted(path), _words(model, path, faults))


_NAME_WANTED = "not a name; write letters, digits, '.', '_' and '-' only, at most 64."


def _real_path(tree: Any, loc: Path) -> Path:
    """The steps of a pydantic location that are ours: the names of a union's arms are left out."""
    path: Path = ()
    for step in loc:
        inside = _at(tree, (step,))
        if inside is not None:
            path, tree = (*path, step), inside
    return (*path, "[key]") if loc and loc[-1] == "[key]" else path


def _words(model: type[BaseModel], path: Path, faults: list[ErrorDetails]) -> str:
    fault = faults[0]
    if fault["type"] == "extra_forbidden":
        return _unknown(str(path[-1]), known_keys(model, path[:-1]))
    if fault["type"] in ("value_error", "quiet_conversion"):
        return f"{fault['msg'].removeprefix('Value error, ')}."
    expected = " or ".join(dict.fromkeys(_expected(each) for each in faults))
    return f"found {_shown(fault)}; expected {expected}{_example(field_at(model, path))}."


def _unknown(key: str, known: list[str]) -> str:
    near = nearest(key, known)
    said = f"unknown key; did you mean {near}?" if near else "unknown key."
    return f"{said} Known here: {', '.join(known)}." if known else said


def nearest(word: str, known: list[str]) -> str | None:
    """The known word that was most likely meant, if one is near enough."""
    folded = {each.lower().replace("-", "_"): each for each in known}
    close = get_close_matches(word.lower().replace("-", "_"), folded, n=1, cutoff=0.55)
    return folded[close[0]] if close else None


def _shown(fault: ErrorDetails) -> str:
    """The value as found, unless it could be a pasted secret."""
    value = fault["input"]
    if isinstance(value, str):
        secret = fault["type"] == "string_pattern_mismatch" or len(value) > 40
        return (
            "a text that is not shown here (it may hold a key)" if secret else f'the text "{value}"'
        )
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, (list, tuple)):
        return "a list"
    return str(value)


_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string": "text in quotes",
    "path": "a path in quotes",
    "date": 'a day such as "2026-11-01"',
    "tuple": 'a list, such as ["one", "two"]',
    "model": "a table",
    "dict": "a table",
}

_PATTERNS = {
    r"^https?://": "an http:// or https:// address without user, query or '#'",
    r"^[A-Za-z_]": "the NAME of an environment variable that holds it, never the key itself",
    r"^[A-Za-z0-9]": "a name of letters, digits, '.', '_' and '-'",
}


def _expected(fault: ErrorDetails) -> str:
    kind, limits = fault["type"], fault.get("ctx", {})
    if kind in ("literal_error", "enum"):
        return str(limits["expected"]).replace("'", '"')
    if kind == "string_pattern_mismatch":
        starts = (
            words for start, words in _PATTERNS.items() if limits["pattern"].startswith(start)
        )
        return next(starts, "another form")
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        word = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
        return " and ".join(f"{word[name]} {limit:.15g}" for name, limit in limits.items())
    for start, words in _EXPECTED.items():
        if kind.startswith(start):
            return words
    return fault["msg"].lower()


def _example(found: FieldInfo | None) -> str:
    if found is None or found.default in (None, (), {}) or found.is_required():
        return ""
    default = found.default
    if isinstance(default, (BaseModel, Mapping)):
        return ""
    return (
        f' (the default is "{default}")'
        if isinstance(default, str)
        else (f" (the default is {str(default).lower() if isinstance(default, bool) else default})")
    )


def known_keys(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that may stand in the table at a path, as they are written."""
    table = table_at(model, path)
    return [] if table is None else [f.alias or name for name, f in table.model_fields.items()]


def field_at(model: type[BaseModel], path: Path) -> FieldInfo | None:
    """The declaration of the setting at a path."""
    names = tuple(step for step in path if isinstance(step, str))
    table = table_at(model, names[:-1]) if names else None
    if table is None:
        return None
    return next((f for name, f in table.model_fields.items() if names[-1] in (name, f.alias)), None)


def table_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The model of a table: through fields, through the values of maps, through lists."""
    kind: Any = model
    for step in path:
        if isinstance(step, int):
            continue
        table = _model_in(kind)
        if table is not None and _field_map(kind) is None:
            kind = next(
                (f.annotation for n, f in table.model_fields.items() if step in (n, f.alias)), None
            )
        else:
            kind = _field_map(kind)
    return _model_in(kind) if _field_map(kind) is None else None


def _field_map(kind: Any) -> Any:
    """The type of the values, when a type is a map of names."""
    return get_args(kind)[1] if get_origin(kind) is dict else None


def _model_in(kind: Any) -> type[BaseModel] | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    if get_origin(kind) is dict:
        return None
    return next((found for arg in get_args(kind) if (found := _model_in(arg))), None)
