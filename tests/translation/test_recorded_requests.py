"""Every recorded request, said in every other dialect and read again there: the same meaning.

None is lost on the way: each is carried, or refused by a typed error, and counted.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from modelspend import chat, translation
from modelspend.dialects import CHAT_DIALECTS
from modelspend.errors import BadRequest, Uncarriable, UnpairedToolCall, Unsupported
from tests.dialects.recorded import FILES, Row
from tests.translation.meaning import meaning

# Models that take what their vendor's newest take, so that only the dialect decides.
MODELS = {
    "openai.chat": "somebodys-model",
    "openai.responses": "somebodys-model",
    "anthropic.messages": "claude-sonnet-4-5",
    "gemini.generate": "gemini-3-pro",
}
SOURCES = [file for file, name in FILES.items() if name in CHAT_DIALECTS]
PAIRS = [(file, to) for file in SOURCES for to in CHAT_DIALECTS if to != FILES[file]]

# The least share of the recorded requests that each source must get through; what is refused
# names a tool, a file or a conversation that only its own vendor has.
LEAST = {"openai_chat": 0.94, "openai_responses": 0.75, "anthropic": 0.8, "gemini": 0.8}


def asked_by(row: Row) -> chat.Request:
    dialect = CHAT_DIALECTS[FILES[row.file]]
    return dialect.neutral(dialect.read(row.path, row.body))


def carried(row: Row, to: str) -> tuple[chat.Request, chat.Request, list[str]]:
    """(what was asked, what the other dialect reads of its own words, what was dropped)."""
    asked = asked_by(row)
    prepared = translation.prepare(asked, to=to)
    encoded = CHAT_DIALECTS[to].encode_request(prepared.request, MODELS[to])
    path = f"/v1{CHAT_DIALECTS[to].target(encoded.view, MODELS[to])}"
    again = CHAT_DIALECTS[to].neutral(CHAT_DIALECTS[to].read(path, encoded.body))
    return asked, again, [*prepared.dropped, *encoded.dropped, *encoded.added]


@pytest.mark.parametrize(("file", "to"), PAIRS)
def test_every_recorded_request_means_the_same_in_every_other_dialect(
    file: str, to: str, traffic: Callable[[str], tuple[Row, ...]], tally: Counter[str]
) -> None:
    recorded = traffic(file)
    for row in recorded:
        try:
            asked, again, dropped = carried(row, to)
        except (BadRequest, Unsupported, UnpairedToolCall) as refused:
            tally[f"{file} → {to}: refused, {refused.code} {refused.field}"] += 1
            continue
        except Uncarriable as refused:
            tally[f"{file} → {to}: refused, {refused.capability}"] += 1
            continue
        tally[f"{file} → {to}: carried"] += 1
        tally.update(f"{file} → {to}: dropped {name}" for name in dropped)
        assert again.model == MODELS[to], row
        assert meaning(again, dropped) == meaning(_kept(asked), dropped), row
        _every_word_is_there(row, again, dropped)
    assert tally[f"{file} → {to}: carried"] >= LEAST[file] * len(recorded)


def _kept(asked: chat.Request) -> chat.Request:
    """The request without what another vendor's model is never shown."""

    messages = tuple(
        replace(
            message,
            parts=tuple(
                p for p in message.parts if not isinstance(p, chat.Reasoning | chat.Opaque)
            ),
        )
        for message in asked.messages
    )
    tools = tuple(tool for tool in asked.tools if isinstance(tool, chat.Tool))
    return replace(asked, messages=messages, tools=tools)


def _every_word_is_there(row: Row, again: chat.Request, dropped: list[str]) -> None:
    """Read straight from the recorded JSON: what our own reading lost would not be missed above."""
    texts = [part.text for message in again.messages for part in _texts(message.parts)]
    whole = "\x1e".join(texts)
    for word in _spoken(row.request):
        assert word in whole, (row, word[:80])


def _texts(parts: tuple[chat.Part, ...]) -> Iterator[chat.Text]:
    for part in parts:
        if isinstance(part, chat.Text):
            yield part
        elif isinstance(part, chat.ToolResult):
            yield from _texts(part.parts)


def _spoken(request: Any) -> Iterator[str]:
    """The words of the user and the system in a request of any dialect."""
    for name in ("instructions", "system", "input"):
        if isinstance(request.get(name), str):
            yield request[name]
    lists = (request.get(name) for name in ("messages", "input", "contents", "system"))
    for item in (item for items in lists if isinstance(items, list) for item in items):
        apart = "parts" in item or "text" in item  # Gemini's contents, Anthropic's system blocks
        if item.get("role", "user" if apart else "") in ("user", "system", "developer"):
            content = item.get("content", item.get("parts", item.get("text")))
            if isinstance(content, str):
                yield content
            for part in content if isinstance(content, list) else ():
                if isinstance(part.get("text"), str) and not part.get("thought"):
                    yield part["text"]


@pytest.mark.parametrize("file", SOURCES)
def test_a_request_said_in_its_own_dialect_is_what_it_was(
    file: str, traffic: Callable[[str], tuple[Row, ...]]
) -> None:
    """Parts that no other dialect has words for, and fields that we do not know, survive here."""
    name = FILES[file]
    dialect = CHAT_DIALECTS[name]
    seen = 0
    for row in traffic(file):
        try:
            asked = asked_by(row)
        except (BadRequest, Unsupported):
            continue
        prepared = translation.prepare(asked, to=name, same_provider=True)
        assert prepared == translation.Prepared(asked), row
        encoded = dialect.encode_request(asked, asked.model)
        again = dialect.neutral(dialect.read(row.path, encoded.body))
        assert encoded.dropped == (), row
        assert _without_usage(again) == _without_usage(asked), row
        seen += 1
    assert seen


def _without_usage(asked: chat.Request) -> chat.Request:
    """A streamed chat request asks for its usage whether its client did or not."""
    extra = {name: value for name, value in asked.extra.items() if name != "stream_options"}
    return replace(asked, extra=extra)


@pytest.mark.parametrize("file", SOURCES)
def test_a_prepared_request_is_the_same_every_time(
    file: str, traffic: Callable[[str], tuple[Row, ...]]
) -> None:
    for row in traffic(file)[::7]:
        for to in CHAT_DIALECTS:
            try:
                first, second = (
                    CHAT_DIALECTS[to].encode_request(
                        translation.prepare(asked_by(row), to=to).request, "m"
                    )
                    for _ in range(2)
                )
            except (BadRequest, Unsupported, Uncarriable, UnpairedToolCall):
                continue
            assert first.body == second.body, row
