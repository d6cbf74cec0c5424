"""Made-up values that satisfy a JSON Schema: tool arguments and structured output.

Covers what the vendors' tools take (types, enums, references, unions, bounds). Patterns are not
solved: a field with one gets a plain word.
"""

from collections.abc import Mapping
from typing import Any

_DEPTH = 12  # a schema that refers to itself ends in nulls and empty lists

_BY_FORMAT = {
    "date": "2026-01-02",
    "date-time": "2026-01-02T03:04:05Z",
    "time": "03:04:05Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
}


def instance(schema: Mapping[str, Any], word: str = "sample") -> Any:
    """One value that the schema accepts; every string in it is `word` where that is allowed."""
    return _make(schema, schema, word, 0)


def _make(schema: Any, root: Mapping[str, Any], word: str, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > _DEPTH:
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if isinstance(schema.get("$ref"), str):
        return _make(_resolve(schema["$ref"], root), root, word, depth + 1)
    for union in ("anyOf", "oneOf"):
        if schema.get(union):
            return _make(_first_real(schema[union]), root, word, depth + 1)
    if schema.get("allOf"):
        return _make(_merged(schema["allOf"], root), root, word, depth + 1)
    return _typed(schema, root, word, depth)


def _typed(schema: Mapping[str, Any], root: Mapping[str, Any], word: str, depth: int) -> Any:
    match _type_of(schema):
        case "object":
            fields = schema.get("properties") or {}
            return {name: _make(field, root, word, depth + 1) for name, field in fields.items()}
        case "array":
            if depth == _DEPTH:
                return []
            count = max(1, int(schema.get("minItems") or 0))
            return [_make(schema.get("items"), root, word, depth + 1) for _ in range(count)]
        case "integer":
            return int(_number(schema))
        case "number":
            return _number(schema)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _string(schema, word)


def _type_of(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type") or ("object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    return str(kind).lower()  # Gemini writes types in capitals


def _number(schema: Mapping[str, Any]) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None:
        return 7.0 if high is None or high > 7 else float(high) - 1
    return float(low) if "minimum" in schema else float(low) + 1


def _string(schema: Mapping[str, Any], word: str) -> str:
    text = _BY_FORMAT.get(str(schema.get("format")), word)
    text = text.ljust(int(schema.get("minLength") or 0), "x")
    longest = schema.get("maxLength")
    return text if longest is None else text[: int(longest)]


def _resolve(pointer: str, root: Mapping[str, Any]) -> Any:
    place: Any = root
    for key in pointer.removeprefix("#").strip("/").split("/"):
        if key:
            place = place.get(key) if isinstance(place, Mapping) else None
    return place


def _first_real(options: list[Any]) -> Any:
    real = [o for o in options if not (isinstance(o, Mapping) and o.get("type") == "null")]
    return (real or options)[0]


def _merged(parts: list[Any], root: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for part in parts:
        found = _resolve(part["$ref"], root) if "$ref" in part else part
        properties = {**out.get("properties", {}), **found.get("properties", {})}
        out = {**out, **found, **({"properties": properties} if properties else {})}
    return out
