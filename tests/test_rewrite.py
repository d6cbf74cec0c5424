"""Rewriting: shorter, the same in meaning, code byte by byte, stable from turn to turn."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelspend.conversations import sent_as_they_are, turn_of
from modelspend.rewrite import STEPS, Rewritten, rewrite, steps_for
from modelspend.sections import Rewrite, Tenant, Workflow
from modelspend.segments import LAYOUTS, cut
from modelspend.settings import Settings

LOOSE = "This is a sentence of dogs.  It goes on.   \nAnd so on.\n\n\n\nThe end is near to us.\n"
TIGHT = "This is a sentence of dogs. It goes on.\nAnd so on.\n\nThe end is near to us.\n"
LAYOUT = '{\n  "b": [1.0, 1e5, 12345678901234567890123, -0.0],\n  "a": "x  y \\n {",\n  "a": 2\n}\n'
DENSE = '{"b":[1.0,1e5,12345678901234567890123,-0.0],"a":"x  y \\n {","a":2}'


def chat(*messages: tuple[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": r, "content": c} for r, c in messages], **more}


def done(fields: dict[str, Any], dialect: str = "openai.chat", **more: Any) -> dict[str, Any]:
    body = json.dumps(fields, indent=1).encode()
    return orjson.loads(rewrite(body, orjson.loads(body), dialect, **more).body)


def one(text: str, role: str = "user") -> str:
    return done(chat((role, text)))["messages"][0]["content"]


def test_loose_prose_gets_single_spaces_and_single_blank_lines() -> None:
    assert one(LOOSE) == TIGHT
    assert one(LOOSE, "system") == TIGHT
    assert one("A plain sentence of six words.\n \n  \nAnother plain sentence of six words.") == (
        "A plain sentence of six words.\n\nAnother plain sentence of six words."
    )


UNTOUCHED = {
    "fence": "Look at this code.\n\n\n\n```python\nx  =  1   \n\n\n\ny = 2\n```\n\n\n\nGood?",
    "open fence": "```\nThis is all a part of it.   \n\n\n\nAnd this is a part too.   \n",
    "longer fence": "````\n```\n\n\nThis is a part of it, too.  \n\n\n````\n",
    "tilde fence": "~~~\nThis is all a part of it.   \n\n\n\nAnd this is a part too.   \n~~~",
    "indented": "    def f():   \n        return  1   \n\n\n    x = 2   ",
    "two spaces in": "  - one item of a list.  And more.\n  - another item of it.   \n",
    "inline code": "Please run `ls  -l` in that folder.  Then tell me what you see.",
    "quotation": 'He said "two  spaces  here" and left.  Then he came back again.',
    "long quotation": 'He wrote: "Late.\n\n\n\nThey had all gone home.  He was alone.\n\n\nEnd."',
    "curly": "He wrote “late.\n\n\n\nThey had all gone home.  He was alone.\n\n\n\nThe end.”",
    "single quotes": "Replace 'a  b' with the word c.  Then show me it.",
    "guillemets": "Il a dit «deux  espaces» hier soir.  Puis il est parti.",
    "table": "| a  | b   |\n|----|-----|\n| 1  | 2   |",
    "columns": "Name   Age   City now.\nBob    12    Rome now.\nAnn    7     Oslo now.",
    "narrow columns": "one  two three four five six.\nten  six three four five six.",
    "diff": "@@ -1,3 +1,3 @@\n context line here now.  \n-old line.  Here.\n+new line.  Here.",
    "removed lines": "-  this was a line of six words.\n-  this was another line of words.",
    "code without fence": "for x in range(10):  # loops\nprint(x)  # prints it all.",
    "assignment": "x  = the first of all the values.  ",
    "shell": "git  commit -m message and push it.  $ ls",
    "path": "Look into src/main for the code.  It is there.",
    "dotted": "Call os.path for the folder name.  It is there.",
    "call": "Then call main() and wait for it.  It is there.",
    "yaml": "name:  x\nvalue:  y\nother:  z",
    "poem": "Roses\n  are red\n    violets\n",
    "pre": "<pre>One two three four five six.   \n\n\n\nSeven.</pre>",
    "carriage returns": "One two three four five six.  \r\n\r\n\r\n\r\nSeven.",
    "few words": "Hello  there.   \n\n\n\nBye.",
    "no sentence": "these are just some words  with no end",
    "drawing": "┌──┐ one two three four five.  Six.\n└──┘",
    "math": "Compute a + b for all of these.  Then stop.",
    "blank": "   \n\n\n\n   ",
    "about spaces": "How many spaces are in this text?  Count them well.  One two three.",
    "about indentation": "Keep the indentation as it is here.  One two three.  Four.",
    "about blank lines": "Count every blank line of this text.\n\n\n\nOne two three four five six.",
}  # fmt: skip


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_may_not_be_prose_keeps_every_byte(name: str) -> None:
    fields = chat(("user", UNTOUCHED[name]))
    body = orjson.dumps(fields)
    assert rewrite(body, fields, "openai.chat") == Rewritten(body=body)


def test_prose_beside_a_fence_is_rewritten_and_the_fence_is_not() -> None:
    fence = "```\nx  =  1   \n\n\n\ny\n```"
    assert one(f"{LOOSE}\n\n\n{fence}\n\n\n\n{LOOSE}") == (
        one(LOOSE).rstrip("\n") + f"\n\n\n\n{fence}\n\n\n\n" + TIGHT
    )


def test_once_a_text_speaks_of_spaces_all_that_follows_stays_and_nothing_before() -> None:
    fields = chat(("user", LOOSE), ("user", "Mind the whitespace."), ("user", LOOSE))
    texts = [message["content"] for message in done(fields)["messages"]]
    assert texts == [TIGHT, "Mind the whitespace.", LOOSE]


@pytest.mark.parametrize("near", ["workspace", "spacecraft", "namespaces", "airspace"])
def test_words_that_only_contain_space_are_not_about_spaces(near: str) -> None:
    assert one(f"The {near} is what we talk of.  It is big.") == (
        f"The {near} is what we talk of. It is big."
    )


def test_the_end_of_a_text_stays_since_another_may_follow_it() -> None:
    assert one("One two three four five.  Six words here.  ") == (
        "One two three four five. Six words here.  "
    )


def test_a_tool_result_that_is_json_loses_its_layout_and_no_character_of_a_token() -> None:
    assert one(LAYOUT, "tool") == DENSE
    assert one("[]\n", "tool") == "[]"
    for text in ('"a  b" ', "12 ", "{a: 1}  ", '{"a": NaN} ', '{"a": 1} trailing', "# {\n}", ""):
        assert one(text, "tool") == text
    assert one(LAYOUT, "user") == LAYOUT
    assert one(LOOSE, "tool") == LOOSE


DIALECT_BODIES: dict[str, tuple[dict[str, Any], list[tuple[Any, ...]]]] = {
    "openai.chat": (
        chat(
            ("system", LOOSE),
            ("user", [{"type": "text", "text": LOOSE}, {"type": "image_url", "image_url": {}}]),
            ("assistant", LOOSE),
            ("tool", LAYOUT),
            ("tool", [{"type": "text", "text": LAYOUT}]),
            ("developer", LOOSE),
        ),
        [("messages", 0, "content"), ("messages", 1, "content", 0, "text"),
         ("messages", 3, "content"), ("messages", 4, "content", 0, "text"),
         ("messages", 5, "content")],
    ),
    "openai.responses": (
        {
            "instructions": LOOSE,
            "input": [
                {"role": "user", "content": LOOSE},
                {"role": "user", "content": [{"type": "input_text", "text": LOOSE}]},
                {"role": "assistant", "content": [{"type": "output_text", "text": LOOSE}]},
                {"type": "function_call", "call_id": "c", "arguments": LAYOUT},
                {"type": "function_call_output", "call_id": "c", "output": LAYOUT},
                {"type": "reasoning", "encrypted_content": "x  y", "summary": []},
            ],
        },
        [("instructions",), ("input", 0, "content"), ("input", 1, "content", 0, "text"),
         ("input", 4, "output")],
    ),
    "anthropic.messages": (
        {
            "system": [{"type": "text", "text": LOOSE}],
            "messages": [
                {"role": "user", "content": LOOSE},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": LOOSE, "signature": "s"},
                    {"type": "text", "text": LOOSE},
                    {"type": "tool_use", "id": "t", "name": "n", "input": {"a": LOOSE}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": LAYOUT},
                    {"type": "tool_result", "tool_use_id": "u",
                     "content": [{"type": "text", "text": LAYOUT}]},
                    {"type": "text", "text": LOOSE},
                    {"type": "document", "source": {"type": "text", "data": LOOSE}}]},
            ],
        },
        [("system", 0, "text"), ("messages", 0, "content"),
         ("messages", 2, "content", 0, "content"),
         ("messages", 2, "content", 1, "content", 0, "text"),
         ("messages", 2, "content", 2, "text")],
    ),
    "gemini.generate": (
        {
            "systemInstruction": {"parts": [{"text": LOOSE}]},
            "contents": [
                {"role": "user", "parts": [{"text": LOOSE}, {"inlineData": {"data": "a  b"}}]},
                {"role": "model", "parts": [{"text": LOOSE}]},
                {"parts": [{"functionResponse": {"name": "f", "response": {"result": LAYOUT}}}]},
            ],
        },
        [("systemInstruction", "parts", 0, "text"), ("contents", 0, "parts", 0, "text"),
         ("contents", 2, "parts", 0, "functionResponse", "response", "result")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECT_BODIES)
def test_every_text_of_the_client_is_found_and_nothing_else_changes(dialect: str) -> None:
    fields, paths = DIALECT_BODIES[dialect]
    expected = deepcopy(fields)
    for path in paths:
        inner: Any = expected
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = TIGHT if inner[path[-1]] == LOOSE else DENSE
    assert expected != fields
    assert done(fields, dialect) == expected


def test_what_was_done_is_told_with_the_characters_of_the_texts_that_changed() -> None:
    fields = chat(("user", LOOSE), ("tool", LAYOUT), ("user", "Short."))
    told = rewrite(orjson.dumps(fields), fields, "openai.chat")
    assert told.steps == ("whitespace", "tool_json")
    assert told.chars_before == len(LOOSE) + len(LAYOUT)
    assert told.chars_after == len(TIGHT) + len(DENSE)
    only = rewrite(orjson.dumps(fields), fields, "openai.chat", steps=("tool_json",))
    assert only.steps == ("tool_json",)
    none = rewrite(orjson.dumps(fields), fields, "openai.chat", steps=())
    assert none == Rewritten(body=orjson.dumps(fields))
    vectors = {"input": LOOSE}
    assert not rewrite(orjson.dumps(vectors), vectors, "openai.embeddings").steps


def test_every_byte_outside_the_texts_is_the_clients_own() -> None:
    body = (
        b'{ "unknown": [1.50, {"x":\t1e3}],"messages":\n[ {"role":"user","content": %b ,"y": 1} ],'
        b' "seed":12345678901234567890 }'
    )
    loose = json.dumps("É " + LOOSE, ensure_ascii=True).encode()
    sent = body % loose
    told = rewrite(sent, orjson.loads(sent), "openai.chat")
    before, after = body.split(b"%b")
    assert told.body.startswith(before)
    assert told.body.endswith(after)
    assert orjson.loads(told.body)["messages"][0]["content"] == "É " + TIGHT


def test_of_a_key_told_twice_the_last_is_rewritten_since_the_last_is_read() -> None:
    sent = b'{"messages":[{"role":"user","content":"x","content":%b}]}' % orjson.dumps(LOOSE)
    told = rewrite(sent, orjson.loads(sent), "openai.chat")
    assert told.body == sent.replace(orjson.dumps(LOOSE), orjson.dumps(TIGHT))


def marked(n: int) -> dict[str, Any]:
    """Five messages of which the n-th carries the mark."""
    fields: dict[str, Any] = {"messages": []}
    for k in range(5):
        block: dict[str, Any] = {"type": "text", "text": LOOSE}
        if k == n:
            block["cache_control"] = {"type": "ephemeral"}
        fields["messages"].append({"role": "user", "content": [block]})
    return fields


@pytest.mark.parametrize("n", range(5))
def test_nothing_at_or_before_the_last_cache_mark_is_touched(n: int) -> None:
    texts = [m["content"][0]["text"] for m in done(marked(n), "anthropic.messages")["messages"]]
    assert texts == [LOOSE] * (n + 1) + [TIGHT] * (4 - n)


def test_marks_on_tools_system_and_results_protect_what_is_before_them() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    fields = {
        "tools": [{"name": "t", **mark}],
        "system": [{"type": "text", "text": LOOSE}],
        "messages": [{"role": "user", "content": LOOSE}],
    }
    found = done(fields, "anthropic.messages")
    assert found["system"][0]["text"] == TIGHT, "tools come first in the prefix"
    fields["system"][0] |= mark  # type: ignore[index, operator]
    found = done(fields, "anthropic.messages")
    assert found["system"][0]["text"] == LOOSE
    assert found["messages"][0]["content"] == TIGHT
    result = {"type": "tool_result", "tool_use_id": "t",
              "content": [{"type": "text", "text": LAYOUT, **mark}]}  # fmt: skip
    fields["messages"].append({"role": "user", "content": [result]})  # type: ignore[attr-defined]
    assert done(fields, "anthropic.messages") == fields
    whole = {"messages": [{"role": "user", "content": LOOSE}], **mark}
    assert done(whole, "anthropic.messages") == whole, "the whole request is one cached prefix"


def test_an_escaped_mark_is_a_mark() -> None:
    body = b'{"messages":[{"role":"user","content":[{"type":"text","text":%b,' % orjson.dumps(LOOSE)
    body += b'"cache\\u005fcontrol":{"type":"ephemeral"}}]}]}'
    assert rewrite(body, orjson.loads(body), "anthropic.messages").body == body


def test_what_earlier_turns_sent_as_it_is_stays() -> None:
    fields = chat(("system", LOOSE), ("user", LOOSE), ("assistant", "Hm."), ("user", LOOSE))
    for known in range(5):
        texts = [m["content"] for m in done(fields, cached_prefix=known)["messages"]]
        expected = [LOOSE if n < known or n == 2 else TIGHT for n in range(4)]
        expected[2] = "Hm."
        assert texts == expected


def test_a_conversation_that_began_unrewritten_keeps_its_cache_and_a_rewritten_one_too() -> None:
    """Turn 1 goes out as it is, the others are rewritten: each body begins with the last one."""
    history: list[tuple[str, Any]] = [("user", LOOSE)]
    before = None
    sent_before: list[Any] = []
    for turn in range(3):
        fields = chat(*history)
        body = orjson.dumps(fields)
        segments = cut("openai.chat", fields)
        known = sent_as_they_are(before, segments)
        if turn:
            body = rewrite(body, fields, "openai.chat", cached_prefix=known).body
        sent = orjson.loads(body)
        assert sent["messages"][: len(sent_before)] == sent_before
        sent_before = sent["messages"]
        before = turn_of(
            dialect="openai.chat",
            fields=sent,
            segments=cut("openai.chat", sent),
            provider="p",
            model="m",
            at_ms=turn,
            quantities={"input_tokens": 9000},
            before=before,
        )
        history += [("assistant", "Yes."), ("user", LOOSE)]
    texts = [m["content"] for m in sent_before]
    assert texts == [LOOSE, "Yes.", TIGHT, "Yes.", TIGHT]


# Laws.

PIECES = (
    *("the", "dog", "goes", "home.", "And", "then?", "it", "is", "late!\n", "end.\n", "spaces"),
    *("one two three four five six. ", "  ", "   ", " ", "", "\n", "\n \n", "\n\n\n", "\t", "\r\n"),
    *("```", "```\n", "~~~\n", "`", '"', "'", "“", "”", "|", "{", "\n    ", "- ", "* ", "1. "),
    *("x=1", "a.b", "<pre>", "(", ")", "é", "漢字。", ":", ";", ","),
)
WORDS = st.sampled_from(PIECES)
TEXTS = st.lists(WORDS, max_size=25).map(" ".join) | st.lists(WORDS, max_size=25).map("".join)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text('ab "\\', max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
RESULTS = st.builds(lambda v, n: json.dumps(v, indent=n), JSONS, st.integers(0, 3)) | TEXTS
MESSAGES = st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXTS) | st.tuples(
    st.just("tool"), RESULTS
)
TALKS = st.lists(MESSAGES, max_size=6)
LAWS = settings(max_examples=150, deadline=None)


@LAWS
@given(TALKS, st.booleans())
@example([("user", LOOSE), ("tool", LAYOUT)], True)
def test_it_is_idempotent_never_longer_and_changes_nothing_but_strings(
    talk: list[tuple[str, str]], ascii_only: bool
) -> None:
    fields = chat(*talk, seed=1)
    body = json.dumps(fields, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    told = rewrite(body, orjson.loads(body), "openai.chat")
    assert len(told.body) <= len(body)
    assert told.chars_after <= told.chars_before
    again = rewrite(told.body, orjson.loads(told.body), "openai.chat")
    assert again.body == told.body
    assert not again.steps
    after = orjson.loads(told.body)
    for message, (role, text) in zip(after["messages"], talk, strict=True):
        assert message["role"] == role
        assert _bare(message["content"]) == _bare(text), "only whitespace may go"
        if role == "assistant":
            assert message["content"] == text
        if role == "tool" and message["content"] != text:
            assert json.loads(message["content"]) == json.loads(text)
        message["content"] = text
    assert after == orjson.loads(body)


def _bare(text: str) -> str:
    return "".join(text.split())


@LAWS
@given(TALKS, st.integers(0, 6))
def test_what_a_turn_sent_is_the_beginning_of_what_the_next_turn_sends(
    talk: list[tuple[str, str]], until: int
) -> None:
    def sent(messages: list[tuple[str, str]]) -> bytes:
        body = orjson.dumps(chat(*messages))
        return rewrite(body, orjson.loads(body), "openai.chat").body

    earlier, later = sent(talk[:until]), sent(talk)
    assert later.startswith(earlier.removesuffix(b"]}"))


@LAWS
@given(TEXTS, TEXTS)
def test_code_in_a_fence_is_byte_identical_whatever_is_around_it(before: str, after: str) -> None:
    if "~~~" in before or "`" in before or "\r" in before:
        return
    fence = "```\nx  =  1   \n\n\n\n  if  y:   \n```"
    assert fence in one(f"{before}\n{fence}\n{after}")


FILES = {
    "openai.chat": "openai_chat",
    "openai.responses": "openai_responses",
    "anthropic.messages": "anthropic",
    "gemini.generate": "gemini",
}


@pytest.mark.parametrize("dialect", LAYOUTS)
def test_recorded_requests_keep_everything_but_whitespace(dialect: str, recorded: Path) -> None:
    rows = (recorded / "traffic" / f"{FILES[dialect]}.jsonl").read_text("utf-8").splitlines()
    changed = 0
    for row in rows:
        fields = json.loads(row)["request"]
        if not isinstance(fields, dict):
            continue
        body = json.dumps(fields).encode()
        told = rewrite(body, orjson.loads(body), dialect)
        assert len(told.body) <= len(body)
        assert _squashed(orjson.loads(told.body)) == _squashed(fields)
        assert rewrite(told.body, orjson.loads(told.body), dialect).body == told.body
        changed += bool(told.steps)
    print(f"{dialect}: {changed} of {len(rows)} rewritten")


def _squashed(value: Any) -> Any:
    if isinstance(value, str):
        return _bare(value)
    if isinstance(value, list):
        return [_squashed(each) for each in value]
    if isinstance(value, dict):
        return {key: _squashed(each) for key, each in value.items()}
    return value


def test_who_is_rewritten_for_is_said_by_workflow_tenant_and_the_whole() -> None:
    on, off = Rewrite(enabled=True), Rewrite()
    yes, no, unsaid = Tenant(rewrite=True), Tenant(rewrite=False), Tenant()

    def steps(whole: Rewrite, tenant: Tenant, workflow: bool | None) -> bool:
        settings_ = Settings(
            rewrite=whole, tenants={"t": tenant}, workflows={"w": Workflow(rewrite=workflow)}
        )
        assert not steps_for(Settings(), "t", "w")
        return steps_for(settings_, "t", "w") == STEPS

    assert steps(on, unsaid, None)
    assert not steps(off, unsaid, None)
    assert steps(off, yes, None)
    assert steps(off, unsaid, True)
    assert not steps(on, unsaid, False)
    assert not steps(on, yes, False)
    assert not steps(on, no, True), "a tenant's no holds for every workflow"
    assert steps_for(Settings(rewrite=Rewrite(enabled=True, steps=("tool_json",))), "x", None) == (
        "tool_json",
    )
