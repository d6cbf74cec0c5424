"""What a replay changes in a body, and how two answers are compared."""

from typing import Any

import pytest

from modelspend import chat
from modelspend.replays import changed, similarity, text_of, unified, with_system

BODY: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": "there"}],
    "temperature": 1,
}


@pytest.mark.parametrize(
    ("place", "value", "there"),
    [
        ("temperature", 0, {**BODY, "temperature": 0}),
        ("temperature", None, {k: v for k, v in BODY.items() if k != "temperature"}),
        ("reasoning.effort", "low", {**BODY, "reasoning": {"effort": "low"}}),
        (
            "messages.1.content",
            "no",
            {**BODY, "messages": [BODY["messages"][0], {"role": "user", "content": "no"}]},
        ),
    ],
)
def test_one_value_changes_and_nothing_else(place: str, value: Any, there: Any) -> None:
    before = repr(BODY)
    assert changed(BODY, place, value) == there
    assert repr(BODY) == before


@pytest.mark.parametrize("place", ["messages.2", "messages.x", "temperature.a", "a..b", ""])
def test_a_place_that_is_not_there_is_an_error(place: str) -> None:
    with pytest.raises(LookupError):
        changed(BODY, place, 1)


@pytest.mark.parametrize(
    ("dialect", "fields", "there"),
    [
        ("anthropic.messages", {"system": "a", "x": 1}, {"system": "new", "x": 1}),
        ("openai.responses", {"instructions": "a"}, {"instructions": "new"}),
        (
            "gemini.generate",
            {"system_instruction": {"parts": []}},
            {"systemInstruction": {"parts": [{"text": "new"}]}},
        ),
        (
            "openai.chat",
            {"messages": [{"role": "developer", "content": "a"}, {"role": "user", "content": "b"}]},
            {
                "messages": [
                    {"role": "developer", "content": "new"},
                    {"role": "user", "content": "b"},
                ]
            },
        ),
    ],
)
def test_a_system_prompt_stands_where_its_dialect_has_it(
    dialect: str, fields: dict[str, Any], there: dict[str, Any]
) -> None:
    assert with_system(dialect, fields, "new") == there


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [("a b c d", "a b c d", 1.0), ("a b c d", "a b x y", 0.5), ("a", "b", 0.0), ("", "", 1.0)],
)
def test_similarity_counts_the_words_that_agree(one: str, other: str, alike: float) -> None:
    assert similarity(one, other) == alike
    assert similarity(other, one) == alike


def test_a_diff_has_its_lines_and_no_file_names() -> None:
    lines = unified("a\nb\nc", "a\nB\nc").splitlines()
    assert lines[1:] == [" a", "-b", "+B", " c"]
    assert unified("a", "a") == ""


def test_an_answer_is_its_text_and_its_tool_calls() -> None:
    answer = chat.Answer(
        answer_id="1",
        model="m",
        parts=(
            chat.Reasoning(text="hidden"),
            chat.Text(text="Look:"),
            chat.ToolCall(call_id="c", name="find", arguments='{"q":1}'),
        ),
        stop="tool_calls",
    )
    assert text_of(answer) == 'Look:\n→ find({"q":1})'
