"""Laws that hold for every conversation and every stream, not only for the recorded ones."""

import re
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelspend import chat, translation
from modelspend.delivery import Delivery
from modelspend.dialects import CHAT_DIALECTS
from modelspend.errors import Uncarriable
from tests.translation import made
from tests.translation.meaning import meaning
from tests.translation.test_recorded_requests import MODELS

# What one of the dialects has no words for: named, and nothing else.
ALLOWED = {"seed", "stop", "max_tokens", "parallel_tool_calls", "thoughtSignature"}
common = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, *HealthCheck]
)


def read_again(asked: chat.Request, to: str) -> tuple[chat.Request, list[str]]:
    dialect = CHAT_DIALECTS[to]
    encoded = dialect.encode_request(asked, MODELS[to])
    path = f"/v1{dialect.target(encoded.view, MODELS[to])}"
    return dialect.neutral(dialect.read(path, encoded.body)), [*encoded.dropped, *encoded.added]


@pytest.mark.parametrize("to", CHAT_DIALECTS)
@given(asked=made.requests())
@common
def test_what_all_dialects_can_say_means_the_same_in_each(to: str, asked: chat.Request) -> None:
    prepared = translation.prepare(asked, to=to)
    again, dropped = read_again(prepared.request, to)
    without = [*prepared.dropped, *dropped]
    assert set(without) <= ALLOWED
    assert meaning(again, without) == meaning(asked, without)


@pytest.mark.parametrize("to", CHAT_DIALECTS)
@given(asked=made.requests())
@common
def test_a_dialect_reads_its_own_words_as_what_they_were(to: str, asked: chat.Request) -> None:
    own, _ = read_again(translation.prepare(asked, to=to).request, to)
    again, dropped = read_again(own, to)
    assert dropped == []
    assert again == own


@pytest.mark.parametrize("to", CHAT_DIALECTS)
@given(asked=made.requests())
@common
def test_ids_fit_their_dialect_and_stay_the_same_as_a_conversation_grows(
    to: str, asked: chat.Request
) -> None:
    def ids(request: chat.Request) -> list[str]:
        carried = translation.prepare(request, to=to).request
        parts = [part for message in carried.messages for part in message.parts]
        results = [part.call_id for part in parts if isinstance(part, chat.ToolResult)]
        calls = [part.call_id for part in parts if isinstance(part, chat.ToolCall)]
        assert sorted(results) == sorted(calls)
        assert len(set(calls)) == len(calls)
        return calls

    longest = 40 if to == "openai.chat" else 64
    found = ids(asked)
    for call_id in found:
        assert len(call_id) <= longest
        assert re.fullmatch("[a-zA-Z0-9_-]+", call_id)
    grown = replace(asked, messages=(*asked.messages, *asked.messages))
    assert ids(grown)[: len(found)] == found


@pytest.mark.parametrize("to", CHAT_DIALECTS)
@given(events=made.streams(), data=st.data())
@common
def test_a_written_stream_is_read_as_what_it_was_however_it_is_cut(
    to: str, events: list[chat.StreamEvent], data: st.DataObject
) -> None:
    dialect = CHAT_DIALECTS[to]
    delivery = Delivery(to=to)
    written = b"".join(dialect.encode_stream(delivery.feed(events)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(written)), max_size=6)))
    decoder = dialect.decoder()
    read: list[chat.StreamEvent] = []
    for start, end in zip([0, *cuts], [*cuts, len(written)], strict=True):
        read += decoder.feed(written[start:end])
    read += decoder.close()
    assert read[-1] == chat.Ended()
    got, wanted = chat.fold(read), chat.fold(events)
    assert _gist(got) == _gist(wanted)
    assert (got.answer_id, got.model, got.stop) == (wanted.answer_id, wanted.model, wanted.stop)
    assert got.usage == wanted.usage


def _gist(answer: chat.Answer) -> list[Any]:
    """Parts as (kind, words); two of a kind in a row count as one, as some dialects join them."""
    told: list[Any] = []
    for part in answer.parts:
        match part:
            case chat.ToolCall():
                told.append((part.name, orjson.loads(part.arguments)))
            case chat.Text() | chat.Reasoning():
                kind = type(part).__name__
                if told and told[-1][0] == kind:
                    told[-1] = (kind, told[-1][1] + part.text)
                else:
                    told.append((kind, part.text))
    return told


@pytest.mark.parametrize("to", CHAT_DIALECTS)
@given(events=made.streams())
@common
def test_events_written_one_by_one_are_the_bytes_of_all_at_once(
    to: str, events: list[chat.StreamEvent]
) -> None:
    view = CHAT_DIALECTS["openai.responses"].read("/v1/responses", b'{"model":"m","stream":true}')
    at_once = b"".join(CHAT_DIALECTS[to].writer(view).write(events))
    writer = CHAT_DIALECTS[to].writer(view)
    assert b"".join(told for event in events for told in writer.write([event])) == at_once


@given(events=made.streams())
@common
def test_an_answer_unfolded_is_a_stream_that_folds_into_it(events: list[chat.StreamEvent]) -> None:
    answer = chat.fold(events)
    assert chat.fold(chat.unfold(answer)) == answer


@given(asked=made.requests())
@settings(max_examples=30, deadline=None)
def test_a_foreign_tool_is_refused_by_name_everywhere(asked: chat.Request) -> None:
    tool = chat.Opaque(origin=made.ORIGIN, value={"type": "web_search"})
    for to in CHAT_DIALECTS:
        with pytest.raises(Uncarriable) as refused:
            translation.prepare(replace(asked, tools=(tool,)), to=to)
        assert refused.value.capability == "server_tools"
