"""Strict reading of bodies, and splices that leave every other byte alone."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspend.dialects import DIALECTS, jsonbody
from modelspend.errors import BadRequest

CHAT = DIALECTS["openai.chat"]
KEYS = st.one_of(
    st.sampled_from(["model", "stream", "stream_options", "include_usage", "messages", "usage"]),
    st.text(max_size=6),
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**60), 2**60),
        st.floats(allow_nan=False, allow_infinity=False, width=32),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
        st.sampled_from(['"model":1', "{", "]}", "\\", '\\"', "},{", '","model":"x']),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=6)
STYLES = st.sampled_from(
    [
        {"separators": (",", ":")},
        {"indent": 1},
        {"indent": "\t", "separators": (" ,", " : ")},
        {"ensure_ascii": False},
    ]
)


def written(value: Any, style: dict[str, Any]) -> bytes:
    return b" \n" + json.dumps(value, **style).encode() + b"\r\n"


@given(OBJECTS, STYLES)
@settings(max_examples=150, deadline=None)
def test_every_member_is_found_at_its_bytes(value: dict[str, Any], style: dict[str, Any]) -> None:
    body = written(value, style)
    found = list(jsonbody.members(body))
    assert [place.key for place in found] == list(value)
    for place in found:
        assert json.loads(body[place.value : place.end]) == value[place.key]
        assert body[place.start : place.start + 1] == b'"'


@given(OBJECTS, VALUES, STYLES, st.integers(0, 6))
@settings(max_examples=150, deadline=None)
def test_replacing_and_cutting_a_member_changes_only_it(
    value: dict[str, Any], new: Any, style: dict[str, Any], pick: int
) -> None:
    body = written({**value, "last one": 1}, style)
    places = list(jsonbody.members(body))
    place = places[pick % len(places)]
    raw = json.dumps(new).encode()
    changed = jsonbody.replace(body, place, raw)
    assert changed == body[: place.value] + raw + body[place.end :]
    assert json.loads(changed) == {**value, "last one": 1, place.key: new}
    rest = jsonbody.cut(body, place)
    kept = {key: old for key, old in {**value, "last one": 1}.items() if key != place.key}
    assert json.loads(rest) == kept
    assert list(json.loads(rest)) == list(kept)


@given(OBJECTS, STYLES, st.sampled_from([None, False, True, {}, {"x": [1]}, "absent"]))
@settings(max_examples=200, deadline=None)
def test_asking_for_usage_changes_nothing_else(
    value: dict[str, Any], style: dict[str, Any], options: Any
) -> None:
    value = {**value, "model": "m", "stream": True, "stream_options": options}
    if options == "absent":
        del value["stream_options"]
    if isinstance(options, dict) and "x" in options:
        value["stream_options"] = {**options, "include_usage": False}
    body = written(value, style)
    if options is True:
        with pytest.raises(BadRequest, match="stream_options"):
            CHAT.read("", body)
        return
    if options is False:
        with pytest.raises(BadRequest, match="stream_options"):
            CHAT.read("", body)
        return
    view = CHAT.read("", body)
    spliced = CHAT.with_usage(body, view)
    assert spliced is not None
    asked = {**(value.get("stream_options") or {}), "include_usage": True}
    assert json.loads(spliced) == {**value, "stream_options": asked}
    same = len(body) - len(_common(body, spliced)) - len(_common(body[::-1], spliced[::-1]))
    assert same <= len(b'{"include_usage":false}'), "one stretch of bytes changed"
    assert CHAT.with_usage(spliced, CHAT.read("", spliced)) is None


def _common(one: bytes, other: bytes) -> bytes:
    n = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    return one[:n]


@given(OBJECTS, STYLES, st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@settings(max_examples=150, deadline=None)
def test_another_model_changes_only_the_bytes_of_the_model(
    value: dict[str, Any], style: dict[str, Any], model: str
) -> None:
    value = {"tools": [{"model": "not me"}], **value, "model": "old"}
    value.pop("stream", None)
    value.pop("stream_options", None)
    body = written(value, style)
    changed = CHAT.with_model(body, CHAT.read("", body), model)
    assert json.loads(changed) == {**value, "model": model}
    place = jsonbody.there(body, "model")
    assert changed.startswith(body[: place.value])
    assert changed.endswith(body[place.end :])
    assert len(changed) == len(body) - len(b'"old"') + len(orjson.dumps(model))


@given(OBJECTS, STYLES)
@settings(max_examples=150, deadline=None)
def test_nested_repeats_of_a_name_are_nobodys_business(
    value: dict[str, Any], style: dict[str, Any]
) -> None:
    body = written({**value, "deep": {"model": [value, {"model": 1}]}}, style)
    value = {**value, "deep": {"model": [value, {"model": 1}]}}
    if isinstance(value.get("stream_options"), dict) and not value["stream_options"]:
        value.pop("stream_options")
        body = written(value, style)
    assert jsonbody.decode(body) == value


DUPLICATES = [
    (b'{"model":"a","model":"b"}', "model", 13),
    (b'{"model":"a","n":{"model":1},\n "model":"b"}', "model", 31),
    (b'{"model":"a","\\u006dodel":"b"}', "model", 13),
    (b'{"m\\u006Fdel":"a","x":1,"model":"b"}', "model", 24),
    (b'{"model":"a","a-b":1,"a-b":2}', "a-b", 21),
    ('{"model":"a","é":1,"\\u00e9":2}'.encode(), "é", 20),
    (b'{"model":"a","":1,"":2}', "", 18),
    (b'{"model":"a","stream" : true,"tools":["stream"],"stream":false}', "stream", 48),
    (
        b'{"model":"a","stream_options":{"include_usage":true,"include_usage":false}}',
        "stream_options.include_usage",
        52,
    ),
    (
        b'{"model":"a","stream_options":{"include_usage":true,"include\\u005fusage":false}}',
        "stream_options.include_usage",
        52,
    ),
]


@pytest.mark.parametrize(("body", "name", "offset"), DUPLICATES)
def test_a_key_told_twice_is_refused_with_its_place(body: bytes, name: str, offset: int) -> None:
    with pytest.raises(BadRequest) as refused:
        CHAT.read("/v1/chat/completions", body)
    assert refused.value.field == name
    assert f"(byte {offset})" in refused.value.message
    assert f"`{name}` is told twice" in refused.value.message


UNREADABLE = [
    (b"", "empty", "{"),
    (b" \n", "empty", "{"),
    (b"[]", "an array", "{"),
    (b'"x"', "a string", "{"),
    (b"null", "null", "{"),
    (b'{"a":NaN}', "line 1, column 6 (byte 5)", "NaN"),
    (b'{"a":[1,\n2,\n-Infinity]}', "line 3,", "Infinity"),
    (b'{"a":1} x', "line 1, column 9", "nothing after"),
    (b'{"a":1}{}', "line 1, column 8", "nothing after"),
    (b'{"a":1', "line 1, column 7", "Check"),
    (b'{"a":1,}', "line 1, column 7", "Check"),
    (b"{'a':1}", "line 1, column 2", "Check"),
    (b'{"a":"\xff"}', "byte 0xff at offset 6", "UTF-8"),
    (b'{"a":"\\ud800"}', "line 1", "Check"),
    (b'\xef\xbb\xbf{"a":1}', "line 1, column 1", "byte order mark"),
    (b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}", "line 1, column", "1,024"),
    ('{"a":"é",\n"b":x}'.encode(), "line 2, column 5 (byte 15)", "Check"),
]


@pytest.mark.parametrize(
    ("body", "place", "hint"), UNREADABLE, ids=[repr(u[0][:24]) for u in UNREADABLE]
)
def test_an_unreadable_body_is_refused_with_the_place_and_what_to_write(
    body: bytes, place: str, hint: str
) -> None:
    for dialect in DIALECTS.values():
        with pytest.raises(BadRequest) as refused:
            dialect.read("/v1beta/models/m:generateContent", body)
        assert place in refused.value.message
        assert hint in refused.value.hint


def test_deep_nesting_within_the_bound_is_read_and_spliced() -> None:
    body = b'{"messages":' + b"[" * 900 + b"]" * 900 + b',"model":"a"}'
    view = CHAT.read("", body)
    assert CHAT.with_model(body, view, "b") == body[:-4] + b'"b"}'
    assert CHAT.input_chars(view) == 0
    assert CHAT.prefix(view) == b""
