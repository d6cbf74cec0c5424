"""Segments: planted changes are named exactly, and what changes no prefix is no difference."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from modelspend.segments import (
    LAYOUTS,
    Difference,
    addressed,
    cut,
    first_difference,
    mask,
    masks,
)

TOOLS = ["search", "fetch", "write"]
SYSTEM = "You work for Acme. Today is Monday, 2026-11-23, 08:15 UTC. Be kind."
TURNS = ["Hi there", "Hello.", "What is our refund policy?", "Thirty days.", "And in Spain?"]


def _chat() -> dict[str, Any]:
    turns = [
        {"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(TURNS)
    ]
    return {
        "model": "m",
        "tools": [{"type": "function", "function": {"name": name}} for name in TOOLS],
        "response_format": {"type": "json_object"},
        "messages": [{"role": "system", "content": SYSTEM}, *turns],
    }


def _responses() -> dict[str, Any]:
    turns = [
        {"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(TURNS)
    ]
    return {
        "tools": [{"type": "function", "name": name} for name in TOOLS],
        "instructions": SYSTEM,
        "text": {"format": {"type": "json_object"}},
        "input": turns,
    }


def _anthropic() -> dict[str, Any]:
    turns = [
        {"role": ("user", "assistant")[n % 2], "content": [{"type": "text", "text": text}]}
        for n, text in enumerate(TURNS)
    ]
    return {
        "tools": [{"name": name, "input_schema": {"type": "object"}} for name in TOOLS],
        "system": [{"type": "text", "text": SYSTEM}],
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "messages": turns,
    }


def _gemini() -> dict[str, Any]:
    turns = [
        {"role": ("user", "model")[n % 2], "parts": [{"text": text}]}
        for n, text in enumerate(TURNS)
    ]
    return {
        "tools": [{"functionDeclarations": [{"name": name} for name in TOOLS]}],
        "systemInstruction": {"parts": [{"text": SYSTEM}]},
        "contents": turns,
    }


BODIES: dict[str, Callable[[], dict[str, Any]]] = {
    "openai.chat": _chat,
    "openai.responses": _responses,
    "anthropic.messages": _anthropic,
    "gemini.generate": _gemini,
}
DIALECTS = pytest.mark.parametrize("dialect", BODIES)


def tools(fields: dict[str, Any]) -> list[Any]:
    found = fields["tools"]
    return found[0].get("functionDeclarations", found) if len(found) == 1 else found


def messages(fields: dict[str, Any]) -> list[Any]:
    return next(fields[name] for name in ("messages", "input", "contents") if name in fields)


def edit_system(fields: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    assert json.dumps(fields).count(old) == 1
    return json.loads(json.dumps(fields).replace(old, new))


def first_message(dialect: str) -> int:
    return 1 if dialect == "openai.chat" else 0


def grown(fields: dict[str, Any]) -> dict[str, Any]:
    """The next turn: an answer and a question more."""
    after = deepcopy(fields)
    said = messages(after)
    said += deepcopy(said[-2:-1]) + deepcopy(said[-1:])
    return after


def differ(dialect: str, before: dict[str, Any], now: dict[str, Any]) -> Difference | None:
    return first_difference(cut(dialect, before), cut(dialect, now))


@DIALECTS
def test_a_conversation_that_only_grows_differs_nowhere(dialect: str) -> None:
    before = BODIES[dialect]()
    assert differ(dialect, before, grown(before)) is None
    assert differ(dialect, before, before) is None


@DIALECTS
def test_every_segment_is_cut_and_named_by_its_place(dialect: str) -> None:
    places = [segment.place for segment in cut(dialect, BODIES[dialect]())]
    start = first_message(dialect)
    settings = [] if dialect == "gemini.generate" else ["settings[0]"]
    system, said = ["system[0]"], [f"messages[{start + n}]" for n in range(len(TURNS))]
    middle = settings + system if dialect == "openai.chat" else system + settings
    assert places == ["tools[0]", "tools[1]", "tools[2]", *middle, *said]


@DIALECTS
def test_tools_in_another_order_are_told_apart_from_other_tools(dialect: str) -> None:
    before = BODIES[dialect]()
    now = grown(before)
    tools(now)[1], tools(now)[2] = tools(now)[2], tools(now)[1]
    assert differ(dialect, before, now) == Difference("tool_order", "tools[1]")
    now = grown(before)
    tools(now)[2]["description"] = "new"
    assert differ(dialect, before, now) == Difference("tools_changed", "tools[2]")
    now = grown(before)
    tools(now).append({"name": "more"})
    assert differ(dialect, before, now) == Difference("tools_changed", "tools[3]")
    now = grown(before)
    del tools(now)[0]
    assert differ(dialect, before, now) == Difference("tools_changed", "tools[0]")


@DIALECTS
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("08:15", "08:16"),
        ("Monday, 2026-11-23", "Tuesday, 2026-11-24"),
        ("Acme", "4f1d2c3b-aaaa-4bbb-8ccc-1234567890ab"),
    ],
)
def test_a_timestamp_in_the_system_prompt_is_named(dialect: str, old: str, new: str) -> None:
    before = BODIES[dialect]()
    if old == "Acme":
        before = edit_system(before, "Acme", "99999999-aaaa-4bbb-8ccc-fedcba987654")
        old = "99999999-aaaa-4bbb-8ccc-fedcba987654"
    now = edit_system(grown(before), old, new)
    assert differ(dialect, before, now) == Difference("system_timestamp", "system[0]")


@DIALECTS
@pytest.mark.parametrize(("old", "new"), [("kind", "brief"), ("Acme", "Acne"), ("Be", "be")])
def test_other_words_in_the_system_prompt_are_no_timestamp(
    dialect: str, old: str, new: str
) -> None:
    before = BODIES[dialect]()
    now = edit_system(grown(before), old, new)
    assert differ(dialect, before, now) == Difference("system_changed", "system[0]")


@DIALECTS
def test_an_edited_message_and_dropped_messages_are_told_apart(dialect: str) -> None:
    before, at = BODIES[dialect](), first_message(dialect)
    now = grown(before)
    edited = json.dumps(messages(now)[at + 2]).replace("refund", "return")
    messages(now)[at + 2] = json.loads(edited)
    assert differ(dialect, before, now) == Difference("history_edited", f"messages[{at + 2}]")
    now = grown(before)
    del messages(now)[at : at + 2]
    assert differ(dialect, before, now) == Difference("history_truncated", f"messages[{at}]")
    now = grown(before)
    del messages(now)[at + 1 : at + 3]
    assert differ(dialect, before, now) == Difference("history_truncated", f"messages[{at + 1}]")
    now = deepcopy(before)
    del messages(now)[-1]
    last = f"messages[{at + len(TURNS) - 1}]"
    assert differ(dialect, before, now) == Difference("history_truncated", last)


@pytest.mark.parametrize(
    ("dialect", "name", "value"),
    [
        ("openai.chat", "response_format", {"type": "text"}),
        ("openai.responses", "text", {"format": {"type": "text"}}),
        ("anthropic.messages", "thinking", {"type": "disabled"}),
        ("anthropic.messages", "tool_choice", {"type": "any"}),
    ],
)
def test_a_setting_that_is_part_of_the_prefix_is_named(
    dialect: str, name: str, value: object
) -> None:
    before = BODIES[dialect]()
    now = grown(before) | {name: value}
    assert differ(dialect, before, now) == Difference("settings_changed", "settings[0]")
    assert differ(dialect, before, grown(before) | {"temperature": 0.3, "user": "x"}) is None


def test_the_first_of_several_differences_is_named() -> None:
    before = _anthropic()
    now = edit_system(grown(before), "kind", "brief")
    messages(now)[0]["content"] = "other"
    assert differ("anthropic.messages", before, now) == Difference("system_changed", "system[0]")
    tools(now)[0]["name"] = "other"
    assert differ("anthropic.messages", before, now) == Difference("tools_changed", "tools[0]")


def test_cache_marks_that_wander_and_texts_in_a_list_are_no_difference() -> None:
    before = _anthropic()
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    before["messages"][-1]["content"][0] |= mark
    before["tools"][-1] |= mark
    now = grown(_anthropic())
    now["messages"][-1]["content"][0] |= mark
    now["messages"][0]["content"] = TURNS[0]
    now["system"] = SYSTEM
    assert differ("anthropic.messages", before, now) is None
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "r"}]}
    marked = deepcopy(result)
    marked["content"][0] |= mark  # type: ignore[index]
    one = {"messages": [{"role": "user", "content": [result, {"type": "text", "text": "x"}]}]}
    two = {"messages": [{"role": "user", "content": [marked, {"type": "text", "text": "x"}]}]}
    assert differ("anthropic.messages", one, two) is None


def test_a_text_that_speaks_of_cache_marks_counts_whole() -> None:
    one = {"messages": [{"role": "user", "content": '"cache_control":{"type":"a"},'}]}
    two = {"messages": [{"role": "user", "content": '"cache_control":{"type":"b"},'}]}
    assert differ("openai.chat", one, two) == Difference("history_edited", "messages[0]")


def test_the_order_of_keys_counts_since_providers_render_it() -> None:
    one = {"tools": [{"name": "a", "description": "b"}], "messages": []}
    two = {"tools": [{"description": "b", "name": "a"}], "messages": []}
    assert differ("anthropic.messages", one, two) == Difference("tools_changed", "tools[0]")


def test_system_messages_after_the_first_turn_are_history_that_may_grow() -> None:
    before = _chat()
    now = grown(before)
    now["messages"].append({"role": "system", "content": "Reminder: be brief."})
    assert differ("openai.chat", before, now) is None


def test_known_masks_are_taken_and_not_computed_again() -> None:
    fields = _chat()
    first = cut("openai.chat", fields)
    digest = next(segment.digest for segment in first if segment.area == "system")
    assert set(masks(first)) == {digest}
    again = cut("openai.chat", fields, {digest: b"planted!"})
    assert [segment.masked for segment in again if segment.area == "system"] == [b"planted!"]
    assert cut("openai.chat", fields, {b"else": b"planted!"}) == first


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("on 2026-11-23T08:15:00Z,", "on 2027-01-01T23:59:59Z,", True),
        ("Mon Nov 23 2026", "Tue Dec 1 2026", True),
        ("MONDAY at 8 am", "FRIDAY at 11 pm", True),
        (
            "id 550e8400-e29b-41d4-a716-446655440000",
            "id f47ac10b-58cc-4372-a567-0e02b2c3d479",
            True,
        ),
        ("request req_01JKEZ4F9TXYZABCDE", "request req_01JKEZ4F9UABCDEFGH", True),
        ("call 17 of 20", "call 18 of 20", True),
        ("v1.2.3 (build 7)", "v1.2.4 (build 8)", True),
        ("a bad idea", "a mad idea", False),
        ("decade", "facade", False),
        ("on Monday", "on holiday", False),
        ("at 8", "at eight", False),
    ],
)
def test_masking_takes_out_moments_and_counters_and_nothing_else(
    one: str, two: str, same: bool
) -> None:
    assert (mask(one) == mask(two)) is same


SHAPES: list[Any] = [None, "text", 7, [], {}, [None, "a", 3, [], {}], {"parts": 5}, [[["x"]]]]


@pytest.mark.parametrize("dialect", LAYOUTS)
def test_no_strange_shape_raises(dialect: str) -> None:
    names = ("messages", "input", "contents", "system", "instructions", "tools", "text")
    for name in names:
        for shape in SHAPES:
            fields = {name: shape, "systemInstruction": shape}
            assert len(cut(dialect, fields)) == len(list(addressed(dialect, fields)))


def test_other_dialects_have_no_segments() -> None:
    assert cut("openai.embeddings", {"input": ["a"]}) == ()


FILES = {
    "openai.chat": "openai_chat",
    "openai.responses": "openai_responses",
    "anthropic.messages": "anthropic",
    "gemini.generate": "gemini",
}


@pytest.mark.parametrize("dialect", FILES)
def test_recorded_requests_are_cut_the_same_twice_and_where_they_stand(
    dialect: str, recorded: Path
) -> None:
    rows = (recorded / "traffic" / f"{FILES[dialect]}.jsonl").read_text("utf-8").splitlines()
    seen = 0
    for row in rows:
        fields = json.loads(row)["request"]
        if not isinstance(fields, dict):
            continue
        found = cut(dialect, fields)
        assert found == cut(dialect, deepcopy(fields))
        areas = [area for area, _, _ in addressed(dialect, fields)]
        assert areas == [segment.area for segment in found]
        for _, path, value in addressed(dialect, fields):
            inner: Any = fields
            for step in path:
                inner = inner[step]
            assert not path or inner is value
        seen += bool(found)
    assert seen > 100
