"""Conversations and streams made up by hypothesis, of what every dialect can say."""

import json
from typing import Any

from hypothesis import strategies as st

from modelspend import chat

ORIGIN = "nowhere.chat"

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1).map(
    lambda text: f"{text}."
)
names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,20}", fullmatch=True)
# As vendors make them, too long for some, of letters that some refuse, and none at all.
ids = st.one_of(
    st.sampled_from(["call_1", "toolu_01A", "functions.get:0", "0", "", "x" * 41, "é" * 70]),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=80),
)
_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=12), st.just(0.5)
)
json_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
objects = st.dictionaries(st.text(max_size=8), json_values, max_size=3)
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="


@st.composite
def requests(draw: st.DrawFn) -> chat.Request:
    messages: list[chat.Message] = []
    if draw(st.booleans()):
        messages.append(said("system", draw(words)))
    for _ in range(draw(st.integers(1, 3))):
        messages.append(chat.Message(role="user", parts=tuple(draw(user_parts))))
        calls = draw(st.lists(tool_calls, max_size=3))
        spoken = [chat.Text(text=draw(words))] if draw(st.booleans()) or not calls else []
        messages.append(chat.Message(role="assistant", parts=(*spoken, *calls)))
        for call in calls:
            parts = tuple(chat.Text(text=text) for text in draw(st.lists(words, max_size=2)))
            result = chat.ToolResult(call_id=call.call_id, name=call.name, parts=parts)
            messages.append(chat.Message(role="tool", parts=(result,)))
    messages.append(said("user", draw(words)))
    tools = tuple(draw(st.lists(tool_definitions, max_size=3)))
    return chat.Request(
        model="m",
        origin=ORIGIN,
        stream=draw(st.booleans()),
        messages=tuple(messages),
        tools=tools,
        tool_choice=draw(choices(tools)) if tools else None,
        output=draw(st.one_of(st.none(), st.just(OUTPUT))),
        max_output=draw(st.one_of(st.none(), st.integers(16, 4000))),
        temperature=draw(st.one_of(st.none(), st.just(0.5))),
        stop=tuple(draw(st.lists(words, max_size=3))),
        seed=draw(st.one_of(st.none(), st.integers(0, 2**31 - 1))),
    )


def said(role: chat.Role, text: str) -> chat.Message:
    return chat.Message(role=role, parts=(chat.Text(text=text),))


user_parts: st.SearchStrategy[list[chat.Part]] = st.lists(
    st.one_of(
        st.builds(lambda text: chat.Text(text=text), words),
        st.just(chat.Media(kind="image", mime="image/png", data=PNG)),
        st.just(chat.Media(kind="image", mime="image/png", url="https://example.com/a.png")),
    ),
    min_size=1,
    max_size=3,
)
tool_calls: st.SearchStrategy[chat.ToolCall] = st.builds(
    lambda call_id, name, args: chat.ToolCall(
        call_id=call_id, name=name, arguments=json.dumps(args)
    ),
    ids,
    names,
    objects,
)
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "where"}},
    "required": ["city"],
}
OUTPUT = chat.OutputFormat(
    kind="json_schema", name="place", schema={**_SCHEMA, "additionalProperties": False}
)
tool_definitions = st.builds(
    lambda name, text, schema: chat.Tool(name=name, description=text, schema=schema),
    names,
    st.one_of(st.just(""), words),
    st.sampled_from([_SCHEMA, {"type": "object", "properties": {}}]),
)


def choices(tools: tuple[chat.Tool, ...]) -> st.SearchStrategy[chat.ToolChoice | None]:
    modes = st.sampled_from(["auto", "none", "required"])
    parallel = st.sampled_from([None, True, False])
    plain = st.builds(lambda mode, both: chat.ToolChoice(mode, None, both), modes, parallel)
    named = st.just(chat.ToolChoice("named", tools[0].name))
    return st.one_of(st.none(), plain, named)


@st.composite
def streams(draw: st.DrawFn) -> list[chat.StreamEvent]:
    """A whole answer in events: thoughts, words, and calls whose fragments come in turn."""
    events: list[chat.StreamEvent] = [chat.Started(answer_id="answer-1", model="served")]
    index = 0
    for kind in draw(st.lists(st.sampled_from(["thought", "text"]), max_size=2, unique=True)):
        for text in draw(st.lists(words, min_size=1, max_size=3)):
            delta = chat.ReasoningDelta if kind == "thought" else chat.TextDelta
            events.append(delta(index, text))
        events.append(chat.PartEnded(index))
        index += 1
    calls = draw(st.lists(st.tuples(names, objects), max_size=3))
    waiting: list[list[chat.StreamEvent]] = []
    for n, (name, args) in enumerate(calls):
        text = json.dumps(args) if args else ""
        at = draw(st.integers(0, len(text)))
        pieces = [piece for piece in (text[:at], text[at:]) if piece]
        told = [chat.ArgumentsDelta(index + n, piece) for piece in pieces]
        started = chat.ToolCallStarted(index + n, f"call_{n}", name)
        waiting.append([started, *told, chat.PartEnded(index + n)])
    events += _mingled(draw, waiting)
    reason = "tool_calls" if calls else draw(st.sampled_from(["stop", "length"]))
    usage = {"input_tokens": 5, "output_tokens": 7}
    return [*events, chat.Stopped(reason, usage), chat.Ended()]


def _mingled(draw: st.DrawFn, waiting: list[list[chat.StreamEvent]]) -> list[chat.StreamEvent]:
    """The calls start in order; after that their fragments come in any."""
    told: list[chat.StreamEvent] = []
    begun = 0
    while any(waiting):
        ready = [n for n, left in enumerate(waiting) if left and n <= begun]
        n = draw(st.sampled_from(ready))
        begun = max(begun, n + 1)
        told.append(waiting[n].pop(0))
    return told
