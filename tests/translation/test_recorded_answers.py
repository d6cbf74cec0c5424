"""Every recorded answer, said in every other dialect and read by that vendor's own client.

Text, tools, arguments and the kind of stop are those that the recorded JSON tells.
"""

from collections import Counter
from collections.abc import Callable

import orjson
import pytest

from modelspend import chat
from modelspend.delivery import Delivery, deliver
from modelspend.dialects import CHAT_DIALECTS, DIALECTS
from modelspend.errors import ProviderRefused
from tests.dialects.recorded import FILES, Row, read_stream
from tests.translation.judges import JUDGED, STOPS, Told, judging
from tests.translation.spoken import Spoken, kind_of_stop, said

pytestmark = [
    # google-genai subclasses aiohttp's session, which aiohttp warns about; neither is ours.
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession"),
    pytest.mark.timeout(300),
]

SOURCES = [file for file, name in FILES.items() if name in CHAT_DIALECTS]
PAIRS = [(file, to) for file in SOURCES for to in JUDGED if to != FILES[file]]


def decoded(row: Row) -> list[chat.StreamEvent]:
    decoder = CHAT_DIALECTS[FILES[row.file]].decoder()
    return [*decoder.feed(row.answer), *decoder.close()]


def as_told(spoken: Spoken, to: str) -> Told:
    """What the client of a dialect must find; some get every call's arguments as an object."""
    text, calls, _ = spoken
    if not to.startswith("openai"):
        calls = [
            (name, args if isinstance(args, dict) else {"raw_arguments": args})
            for name, args in calls
        ]
    return text, calls, kind_of_stop(spoken)


@pytest.mark.parametrize(("file", "to"), PAIRS)
async def test_every_recorded_answer_is_read_by_the_other_vendors_client(
    file: str, to: str, traffic: Callable[[str], tuple[Row, ...]], tally: Counter[str]
) -> None:
    source = CHAT_DIALECTS[FILES[file]]
    async with judging() as judges:
        for row in traffic(file):
            if row.stream:
                continue
            expected = said(row)
            if expected is None:
                with pytest.raises(ValueError, match=r"\w"):
                    source.decode_answer(row.answer)
                tally[f"{file} → {to}: no answer"] += 1
                continue
            answer, dropped = deliver(source.decode_answer(row.answer), to=to)
            told = await judges.whole(to, DIALECTS[to].encode_answer(answer))
            if expected[2] == "UNEXPECTED_TOOL_CALL":  # of a tool that was never offered
                told = (*told[:2], "tools")
            assert told == as_told(expected, to), row
            tally[f"{file} → {to}: carried"] += 1
            tally.update(f"{file} → {to}: dropped {name}" for name in dropped)
    assert tally[f"{file} → {to}: carried"]


@pytest.mark.parametrize(("file", "to"), PAIRS)
async def test_every_recorded_stream_is_read_by_the_other_vendors_client(
    file: str, to: str, traffic: Callable[[str], tuple[Row, ...]], tally: Counter[str]
) -> None:
    async with judging() as judges:
        for row in traffic(file):
            expected = said(row) if row.stream else None
            if not row.stream:
                continue
            events = decoded(row)
            if expected is None:
                assert chat.Ended() not in events, row
                tally[f"{file} → {to}: no answer"] += 1
                continue
            delivery = Delivery(to=to)
            told = [told for event in events for told in delivery.feed([event])]
            body = b"".join(DIALECTS[to].encode_stream(told))
            read = await judges.streamed(to, body)
            assert read == as_told(expected, to), row
            note = read_stream(DIALECTS[to], body).note
            assert note.ended, row
            assert note.content == bool(expected[0] or expected[1] or _thought(told)), row
            tally[f"{file} → {to}: carried"] += 1
            tally.update(f"{file} → {to}: dropped {name}" for name in delivery.dropped)
    assert tally[f"{file} → {to}: carried"]


@pytest.mark.parametrize("to", CHAT_DIALECTS)
async def test_every_recorded_error_is_raised_by_the_other_vendors_client(
    to: str, traffic: Callable[[str], tuple[Row, ...]]
) -> None:
    """Under the provider's own status and in its own words, as an error of the client's own."""
    seen = 0
    async with judging() as judges:
        for row in (row for file in SOURCES for row in traffic(file) if row.status >= 400):
            told = CHAT_DIALECTS[FILES[row.file]].note(row.answer).error
            assert told is not None, row
            refused = ProviderRefused(told.message, kind=told.kind, status=row.status)
            body = CHAT_DIALECTS[to].error_body(refused)
            status, message = await judges.refused(to, body, row.status)
            assert status == row.status, row
            assert told.message in message.replace("\\'", "'").replace("\\n", "\n"), row
            seen += 1
    assert seen > 10


def _thought(events: list[chat.StreamEvent]) -> bool:
    return any(isinstance(event, chat.ReasoningDelta) for event in events)


@pytest.mark.parametrize("file", SOURCES)
def test_a_folded_stream_is_the_recorded_answer(
    file: str, traffic: Callable[[str], tuple[Row, ...]]
) -> None:
    seen = 0
    for row in traffic(file):
        expected = said(row) if row.stream else None
        if expected is None:
            continue
        answer = chat.fold(decoded(row))
        texts = [part.text for part in answer.parts if isinstance(part, chat.Text)]
        calls = [part for part in answer.parts if isinstance(part, chat.ToolCall)]
        assert "".join(texts) == expected[0], row
        assert [(c.name, orjson.loads(c.arguments)) for c in calls] == expected[1], row
        assert STOPS[answer.stop] == kind_of_stop(expected), row
        seen += 1
    assert seen


@pytest.mark.parametrize("file", SOURCES)
def test_a_stream_means_the_same_however_it_is_cut(
    file: str, traffic: Callable[[str], tuple[Row, ...]]
) -> None:
    """Cut in two at every byte; then byte by byte."""
    dialect = CHAT_DIALECTS[FILES[file]]
    for row in traffic(file):
        if not row.stream or len(row.answer) > 12_000:
            continue
        whole = decoded(row)
        for at in range(0, len(row.answer), 1 if len(row.answer) < 1500 else 37):
            decoder = dialect.decoder()
            cut = [*decoder.feed(row.answer[:at]), *decoder.feed(row.answer[at:])]
            assert [*cut, *decoder.close()] == whole, (row, at)
        decoder = dialect.decoder()
        single = [told for byte in row.answer for told in decoder.feed(bytes((byte,)))]
        assert [*single, *decoder.close()] == whole, row


@pytest.mark.parametrize("file", SOURCES)
def test_a_stream_that_breaks_off_never_ends_well(
    file: str, traffic: Callable[[str], tuple[Row, ...]]
) -> None:
    for row in [row for row in traffic(file) if row.stream and len(row.answer) < 12_000][:12]:
        whole = decoded(row)
        if not whole or not isinstance(whole[-1], chat.Ended):
            continue
        size = len(row.answer)
        for at in [*range(0, size - 200, 17), *range(max(0, size - 200), size - 1)]:
            decoder = CHAT_DIALECTS[FILES[file]].decoder()
            events = [*decoder.feed(row.answer[:at]), *decoder.close()]
            if chat.Ended() in events:
                assert b"data:" not in row.answer[at - 4 :], (row, at)


_TOTALS = {
    "openai_chat": ("prompt_tokens", "completion_tokens"),
    "openai_responses": ("input_tokens", "output_tokens"),
}


@pytest.mark.parametrize("file", [file for file in SOURCES if file in _TOTALS])
def test_the_usage_shown_sums_to_what_the_provider_told(
    file: str, traffic: Callable[[str], tuple[Row, ...]]
) -> None:
    """A client's dialect adds up what the neutral buckets hold apart: the totals must survive."""
    source = CHAT_DIALECTS[FILES[file]]
    for row in traffic(file):
        if row.stream or said(row) is None or not (raw := row.response.get("usage")):
            continue
        again = source.note(source.encode_answer(source.decode_answer(row.answer))).usage
        assert again is not None
        assert [again[key] for key in _TOTALS[file]] == [raw.get(key) or 0 for key in _TOTALS[file]]
