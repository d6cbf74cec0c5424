"""Schemas cut to what a vendor takes: nothing else is left, and what went is named."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspend.dialects.json_schema import CLOSED, OPEN, Subset, narrowed, plain_root

_HOLDERS = ("properties", "$defs")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")


def keywords(schema: Any) -> set[str]:
    """Every keyword of a schema and of those within it."""
    if not isinstance(schema, dict):
        return set()
    found = set(schema)
    for name in _HOLDERS:
        for inner in schema.get(name, {}).values():
            found |= keywords(inner)
    for name in _LISTS:
        for inner in schema.get(name, []):
            found |= keywords(inner)
    return found | keywords(schema.get("items")) | keywords(schema.get("additionalProperties"))


def test_a_reference_is_put_in_its_place_with_what_stands_beside_it() -> None:
    schema = {
        "$defs": {"a/b": {"type": "string"}, "Two": {"$ref": "#/$defs/a~1b"}},
        "definitions": {"Old": {"type": "number"}},
        "type": "object",
        "properties": {
            "x": {"$ref": "#/$defs/Two", "description": "beside"},
            "y": {"allOf": [{"$ref": "#/definitions/Old"}], "title": "kept"},
        },
    }
    fit = narrowed(schema, OPEN)
    assert fit.schema == {
        "type": "object",
        "properties": {
            "x": {"type": "string", "description": "beside"},
            "y": {"type": "number", "title": "kept"},
        },
    }
    assert fit.dropped == ()
    assert set(fit.added) == {"$ref", "allOf"}


def test_a_reference_to_somewhere_else_is_cut_and_named() -> None:
    for ref in ("https://x.org/schema", "#/$defs/None", "#/type/object"):
        fit = narrowed({"type": "object", "properties": {"x": {"$ref": ref}}}, OPEN)
        assert fit.schema == {"type": "object", "properties": {"x": {}}}
        assert fit.dropped == ("$ref",)


TREE = {
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {
                "value": {"type": "string"},
                "next": {"$ref": "#/$defs/Node"},
            },
        }
    },
    "$ref": "#/$defs/Node",
}


def test_a_circle_is_kept_by_name_where_the_vendor_takes_it_and_refused_where_not() -> None:
    fit = narrowed(TREE, OPEN)
    assert fit.schema is not None
    (name,) = fit.schema["$defs"]
    again = {"$ref": f"#/$defs/{name}"}
    node = {"type": "object", "properties": {"value": {"type": "string"}, "next": again}}
    assert fit.schema == {**node, "$defs": {name: node}}
    refused = narrowed(TREE, CLOSED)
    assert refused.schema is None
    assert refused.fault == "refers to itself"


def test_a_schema_that_unfolds_without_end_is_no_schema() -> None:
    doubling: dict[str, Any] = {"n0": {"type": "string"}}
    for n in range(1, 40):
        inner = {"$ref": f"#/$defs/n{n - 1}"}
        doubling[f"n{n}"] = {"type": "object", "properties": {"a": inner, "b": inner}}
    fit = narrowed({"$defs": doubling, "$ref": "#/$defs/n39"}, OPEN)
    assert fit.schema is None
    assert "big" in fit.fault
    assert narrowed({"$defs": doubling, "$ref": "#/$defs/n5"}, OPEN).schema is not None


def test_objects_are_closed_where_the_vendor_wants_it() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": ["object", "null"], "additionalProperties": {}}},
    }
    fit = narrowed(schema, CLOSED)
    assert fit.schema == {
        "type": "object",
        "properties": {"a": {"type": ["object", "null"], "additionalProperties": False}},
        "additionalProperties": False,
    }
    assert fit.dropped == ("additionalProperties",)
    assert fit.added == ("additionalProperties",)
    assert narrowed(fit.schema, CLOSED).same


@pytest.mark.parametrize(
    ("subset", "schema", "left", "dropped"),
    [
        (CLOSED, {"type": "array", "minItems": 2}, {"type": "array"}, ("minItems",)),
        (CLOSED, {"type": "array", "minItems": 1}, {"type": "array", "minItems": 1}, ()),
        (CLOSED, {"format": "uri"}, {"format": "uri"}, ()),
        (CLOSED, {"format": "regex"}, {}, ("format",)),
        (CLOSED, {"const": 1}, {"const": 1}, ()),
        (CLOSED, {"enum": [{}]}, {}, ("enum",)),
        (CLOSED, {"oneOf": [{"type": "null"}]}, {"anyOf": [{"type": "null"}]}, ("oneOf",)),
        (CLOSED, {"maximum": 4, "pattern": "a"}, {}, ("maximum", "pattern")),
        (OPEN, {"maximum": 4, "pattern": "a"}, {"maximum": 4}, ("pattern",)),
        (OPEN, {"enum": ["a", None]}, {}, ("enum",)),
        (OPEN, {"enum": ["a", 1]}, {"enum": ["a", 1]}, ()),
        (OPEN, {"oneOf": [{"type": "null"}]}, {"oneOf": [{"type": "null"}]}, ()),
        (OPEN, {"not": {}, "if": {}, "then": {}}, {}, ("not", "if", "then")),
        (OPEN, {"items": {"examples": [1]}}, {"items": {}}, ("examples",)),
        (OPEN, {"properties": {"pattern": {"type": "string"}}}, None, ()),
    ],
)
def test_a_keyword_stays_or_goes(subset: Subset, schema: Any, left: Any, dropped: Any) -> None:
    fit = narrowed(schema, subset)
    assert fit.schema == (schema if left is None else left)
    assert fit.dropped == dropped


ANY_KEYWORD = st.sampled_from(
    [
        *("type", "title", "description", "enum", "const", "format", "default", "examples"),
        *("minimum", "maxLength", "pattern", "minItems", "uniqueItems", "required", "$comment"),
    ]
)
SCHEMAS = st.recursive(
    st.dictionaries(ANY_KEYWORD, st.none() | st.integers() | st.text() | st.lists(st.integers())),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", ["object", "null"]]),
            "properties": st.dictionaries(st.text(max_size=4), inner, max_size=3),
            "items": inner,
            "additionalProperties": inner | st.booleans(),
            "anyOf": st.lists(inner, max_size=2),
            "oneOf": st.lists(inner, max_size=2),
            "allOf": st.lists(inner, max_size=2),
            "$ref": st.sampled_from(["#", "#/items", "#/properties/a", "#/nowhere", "x.json"]),
        },
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(schema=SCHEMAS, subset=st.sampled_from([OPEN, CLOSED]))
def test_nothing_but_the_subset_is_left_and_what_went_is_named(
    schema: dict[str, Any], subset: Subset
) -> None:
    fit = narrowed(schema, subset)
    if fit.schema is None:
        assert fit.fault
        return
    assert keywords(fit.schema) <= subset.keywords | {"$ref", "$defs"}
    assert fit.same == (fit.schema == schema)
    if fit.schema != schema and not keywords(schema) <= {"$defs", "definitions", "$ref"}:
        assert fit.dropped or fit.added
    if "$ref" not in keywords(fit.schema):  # else the names of circles are new ones
        assert narrowed(fit.schema, subset).same


def test_a_tools_root_is_one_object() -> None:
    assert plain_root({}) == {"type": "object"}
    assert plain_root({"type": ["object", "null"], "properties": None}) == {
        "type": "object",
        "properties": {},
    }
    whole = {"type": "object", "properties": {"a": {}}}
    assert plain_root(whole) == whole
    assert plain_root({"oneOf": []}) is None
