"""Google's own schema language as JSON Schema: OpenAPI 3.0 with types in capitals.

An order of properties becomes the order in which they stand. The fields are those of `Schema`
in google-genai 3.6 (types.py); numbers for types are those of its protobuf message.
"""

import re
from collections.abc import Mapping
from typing import Any

_DEEPEST = 60
_TYPES = ("", "string", "number", "integer", "boolean", "array", "object", "null")
_COUNTS = frozenset(
    {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}
)
_SNAKE = re.compile(r"(?<=[a-z0-9])_([a-z])")


def camel(name: str) -> str:
    """A name in the spelling of Google's documentation; its clients send the other one too."""
    return _SNAKE.sub(lambda at: at[1].upper(), name) if "_" in name else name


def json_schema(schema: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """The same in JSON Schema; what is nested deeper than any real schema stays as it is."""
    if depth > _DEEPEST:
        return dict(schema)
    told: dict[str, Any] = {}
    for spelled, value in schema.items():
        name = camel(spelled)
        match name:
            case "type":
                told["type"] = _type(value)
            case "properties" if isinstance(value, Mapping):
                told[name] = {key: _inner(inner, depth) for key, inner in value.items()}
            case "anyOf" | "oneOf" | "allOf" | "prefixItems" if isinstance(value, list):
                told[name] = [_inner(inner, depth) for inner in value]
            case "items" | "additionalProperties":
                told[name] = _inner(value, depth)
            case "defs" | "$defs" if isinstance(value, Mapping):
                told["$defs"] = {key: _inner(inner, depth) for key, inner in value.items()}
            case "ref" if isinstance(value, str):
                told["$ref"] = value.replace("#/defs/", "#/$defs/")
            case "example":
                told["examples"] = [value]
            case "format" if value == "enum":
                pass  # says only that `enum` follows
            case _ if name in _COUNTS and isinstance(value, str) and value.isdecimal():
                told[name] = int(value)
            case _ if value is not None:
                told[name] = value
    _order(told)
    _nullable(told)
    return {name: value for name, value in told.items() if value is not None}


def _inner(value: object, depth: int) -> Any:
    return json_schema(value, depth + 1) if isinstance(value, Mapping) else value


def _type(value: object) -> Any:
    if isinstance(value, str):
        lower = value.lower()
        return lower if lower in _TYPES and lower else None
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < len(_TYPES):
        return _TYPES[value]
    return value if isinstance(value, list) else None


def _order(told: dict[str, Any]) -> None:
    order, properties = told.pop("propertyOrdering", None), told.get("properties")
    if isinstance(order, list) and isinstance(properties, dict):
        first = [name for name in order if isinstance(name, str) and name in properties]
        told["properties"] = {name: properties[name] for name in (*first, *properties)}


def _nullable(told: dict[str, Any]) -> None:
    if told.pop("nullable", None) is not True:
        return
    if isinstance(told.get("type"), str):
        told["type"] = [told["type"], "null"]
        if isinstance(told.get("enum"), list):
            told["enum"] = [*told["enum"], None]
    elif isinstance(told.get("anyOf"), list):
        told["anyOf"] = [*told["anyOf"], {"type": "null"}]
