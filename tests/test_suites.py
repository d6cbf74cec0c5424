"""Suites: read whole, or refused with every mistake in its place."""

import json
from pathlib import Path
from typing import Any

import pytest

import modelspend
from modelspend.errors import ConfigInvalid
from modelspend.suites import Suite, suite_of

GOOD: dict[str, Any] = {
    "id": "a",
    "prompt": "2 + 2?",
    "category": "reasoning",
    "grader": {"kind": "exact", "answer": "4"},
}


def lines(*items: object) -> str:
    return "".join((i if isinstance(i, str) else json.dumps(i)) + "\n" for i in items)


def read(*items: object, toml: str = "") -> Suite:
    return suite_of("folder", {"items.jsonl": lines(*items), "suite.toml": toml})


def test_a_suite_is_its_items_and_what_holds_for_all_of_them() -> None:
    bare = {"id": 1, "messages": [{"role": "user", "content": "hi"}]}
    toml = """
        name = "mine"
        task = "mt_bench"
        system = "Be brief."
        max_tokens = 9
        temperature = 0.5
        [grader]
        kind = "contains"
        any = ["hello"]
    """
    suite = read(GOOD, "", bare, toml=toml)
    assert (suite.name, suite.max_tokens, suite.temperature) == ("mine", 9, 0.5)
    first, second = suite.items
    assert (first.category, first.place) == ("reasoning", "items.jsonl:1")
    assert (second.item_id, second.category, second.place) == ("1", "chat", "items.jsonl:3")
    assert [m["role"] for m in second.messages] == ["system", "user"]
    assert second.asked == "hi"


def test_files_are_read_in_order_of_their_names() -> None:
    files = {"b.jsonl": lines(GOOD), "a.jsonl": lines(GOOD | {"id": "z"}), "notes.md": "x"}
    assert [item.item_id for item in suite_of("s", files).items] == ["z", "a"]
    assert suite_of("s", files).name == "s"


MISTAKES: tuple[tuple[object, str], ...] = (
    ("nope", "not JSON"),
    ([1], "not a JSON object"),
    (GOOD | {"promt": "x"}, "promt: unknown"),
    ({k: v for k, v in GOOD.items() if k != "id"}, "id: must be a name"),
    (GOOD | {"id": "x" * 101}, "id: must be a name"),
    (GOOD | {"id": "a,b=c"}, "id: must be a name"),
    (GOOD | {"id": "ä"}, "id: must be a name"),
    (GOOD | {"id": True}, "id: must be a name"),
    (GOOD | {"messages": []}, "prompt: give either"),
    ({k: v for k, v in GOOD.items() if k != "prompt"}, "prompt: give either"),
    (GOOD | {"prompt": " "}, "prompt: must be text"),
    (GOOD | {"category": "maths"}, "category: 'maths' is none of"),
    ({**GOOD, "category": None}, "category: missing"),
    ({**GOOD, "category": None, "task": "zork"}, "task: 'zork' belongs to no known"),
    ({**GOOD, "grader": None}, "grader: missing"),
    ({**GOOD, "grader": {"kind": "exact"}}, "grader.answer: give"),
    ({**GOOD, "grader": "exact"}, "grader.kind: a grader is an object"),
    ({**GOOD, "grader": {"kind": "regex", "pattern": "("}}, "grader.pattern: not a regular"),
)

TALKS: tuple[tuple[object, str], ...] = (
    ("hi", "messages: must be a list"),
    ([], "messages: must be a list"),
    ([{"role": "user"}], r"messages\[0\]: must be an object"),
    ([{"role": "tool", "content": "x"}], r"messages\[0\].role"),
    ([{"role": "user", "content": ""}], r"messages\[0\].content"),
    ([{"role": "user", "content": ["x"]}], r"messages\[0\].content"),
    ([{"role": "assistant", "content": "x"}], "messages: the last one"),
)


@pytest.mark.parametrize(("item", "why"), MISTAKES)
def test_a_mistake_in_an_item_is_told_with_its_line_and_key(item: object, why: str) -> None:
    with pytest.raises(ConfigInvalid, match=rf"items\.jsonl:2: {why}"):
        read(GOOD, item, GOOD | {"id": "c"})


@pytest.mark.parametrize(("messages", "why"), TALKS)
def test_a_mistake_in_a_conversation_is_told_with_its_place(messages: object, why: str) -> None:
    item = {k: v for k, v in GOOD.items() if k != "prompt"} | {"messages": messages}
    with pytest.raises(ConfigInvalid, match=rf"items\.jsonl:1: {why}"):
        read(item)


@pytest.mark.parametrize(
    ("toml", "why"),
    [
        ("name = ", "suite.toml:1: not valid TOML"),
        ("\ntemprature = 1", "suite.toml:2: temprature: unknown key"),
        ("max_tokens = 0", "suite.toml:1: max_tokens"),
        ("temperature = 'hot'", "suite.toml:1: temperature"),
        ("category = 'maths'", "suite.toml:1: category: 'maths' is none of"),
        ("\n[grader]\nkind = 'regex'", "suite.toml:2: grader.pattern: must be text"),
    ],
)
def test_a_mistake_in_the_settings_is_told_with_its_line(toml: str, why: str) -> None:
    with pytest.raises(ConfigInvalid, match=why):
        read(GOOD, toml=toml)


def test_every_mistake_is_told_at_once_and_an_id_stands_for_one_item() -> None:
    with pytest.raises(ConfigInvalid) as told:
        read(GOOD, "nope", GOOD, {}, toml="x = 1")
    assert [problem.partition(": ")[0] for problem in told.value.problems] == [
        "suite.toml:1", "items.jsonl:2", "items.jsonl:3", "items.jsonl:4",
    ]  # fmt: skip
    assert "a is the id of items.jsonl:1" in str(told.value)


def test_a_folder_without_items_is_no_suite() -> None:
    with pytest.raises(ConfigInvalid, match="no item"):
        suite_of("empty", {})


def test_a_key_changes_with_all_that_makes_a_result_and_with_nothing_else() -> None:
    (item,) = read(GOOD).items
    same = read("", GOOD).items[0]
    assert item.key(None) == same.key(None) == item.key("a judge that nobody needs")
    changed = [
        read(GOOD | {"prompt": "3 + 3?"}),
        read(GOOD | {"id": "b"}),
        read(GOOD | {"category": "code"}),
        read(GOOD | {"grader": {"kind": "exact", "answer": "5"}}),
        read(GOOD, toml="system = 'x'"),
        read(GOOD, toml="max_tokens = 5"),
        read(GOOD, toml="temperature = 0"),
    ]
    keys = {each.items[0].key(None) for each in changed}
    assert len(keys | {item.key(None)}) == len(changed) + 1
    judged = read(GOOD | {"grader": {"kind": "judge", "rubric": "r"}}).items[0]
    assert judged.key("one") != judged.key("other")


def test_a_limit_leaves_some_of_each_category() -> None:
    items = [GOOD | {"id": f"{c}{n}", "category": c} for c in ("code", "chat") for n in range(3)]
    assert [i.item_id for i in read(*items).first(2).items] == ["code0", "code1", "chat0", "chat1"]


def test_the_suites_that_come_with_the_program_can_be_read() -> None:
    folders = sorted((Path(modelspend.__file__).parent / "cli" / "suites").iterdir())
    assert folders
    for folder in folders:
        suite = suite_of(folder.name, {f.name: f.read_text("utf-8") for f in folder.iterdir()})
        assert len(suite.items) >= 12
        assert len({item.category for item in suite.items}) >= 4
        assert not any(item.needs_judge for item in suite.items)
