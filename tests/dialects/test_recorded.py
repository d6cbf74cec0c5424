"""Every recorded exchange: requests are read, answers give their usage, streams survive any cut."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from modelspend.dialects.sse import parse_event
from modelspend.errors import BadRequest, Unsupported
from tests.dialects.recorded import FILES, VIEW, Row, read_stream

Traffic = Callable[[str], tuple[Row, ...]]
STREAMED = ("openai_chat", "openai_responses", "anthropic", "gemini")


def streams(traffic: Traffic, file: str) -> list[Row]:
    return [row for row in traffic(file) if row.stream]


def events(raw: bytes) -> list[bytes]:
    """The events of a recorded stream with their blank lines; its line ends are uniform."""
    end = b"\r\n\r\n" if b"\r\n\r\n" in raw else b"\n\n"
    parts = raw.split(end)
    return [part + end for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def said(raw: bytes) -> Iterator[dict]:
    """The JSON of each event, read without the code under test."""
    for one in events(raw):
        lines = [line[5:] for line in one.splitlines() if line.startswith(b"data:")]
        text = b"\n".join(lines).strip()
        if text and text != b"[DONE]":
            yield orjson.loads(text)


@pytest.mark.parametrize("file", FILES)
def test_every_recorded_request_is_read(traffic: Traffic, file: str) -> None:
    seen = Counter()
    for row in traffic(file):
        if row.request is None:
            continue
        if row.request.get("background"):
            with pytest.raises(Unsupported, match="background"):
                row.dialect.read(row.path, row.body)
            seen["refused"] += 1
            continue
        view = row.dialect.read(row.path, row.body)
        named = row.request.get("model") or row.path.rpartition("/")[2].partition(":")[0]
        assert view.model == named, row
        assert view.stream == bool(row.stream or "stream" in row.path.rpartition(":")[2]), row
        assert view.body == row.request, row
        assert row.dialect.input_chars(view) > 0, row
        seen["read"] += 1
    assert seen["read"] > 10
    print(f"{file}: {dict(seen)}")


@pytest.mark.parametrize("file", FILES)
def test_every_recorded_request_has_a_neutral_form(traffic: Traffic, file: str) -> None:
    for row in traffic(file):
        if row.request is None or row.request.get("background"):
            continue
        if "Please use a valid role" in str(row.response):
            with pytest.raises(BadRequest, match="role"):
                row.dialect.decode_request(row.path, row.body)
            continue
        neutral = row.dialect.decode_request(row.path, row.body)
        assert neutral.model, row
        assert neutral.messages, row
        told = row.request.get("messages") or row.request.get("contents")
        if told:
            spoken = [message for message in neutral.messages if message.role != "system"]
            asked = [m for m in told if m.get("role") not in ("system", "developer")]
            assert len(spoken) == len(asked), row


@pytest.mark.parametrize("file", ["openai_chat", "openai_responses", "anthropic", "embeddings"])
def test_another_model_is_spliced_into_every_recorded_request(traffic: Traffic, file: str) -> None:
    for row in traffic(file):
        if row.request is None or row.request.get("background"):
            continue
        view = row.dialect.read(row.path, row.body)
        changed = row.dialect.with_model(row.body, view, 'ex"ample/…')
        assert orjson.loads(changed) == {**row.request, "model": 'ex"ample/…'}, row
        assert row.dialect.with_model(changed, view, view.model) == row.body, row


USAGE = {
    "openai_chat": "usage",
    "openai_responses": "usage",
    "anthropic": "usage",
    "gemini": "usageMetadata",
    "embeddings": "usage",
}


@pytest.mark.parametrize("file", FILES)
def test_every_whole_answer_gives_its_usage_and_every_error_its_message(
    traffic: Traffic, file: str
) -> None:
    seen = Counter()
    for row in traffic(file):
        if row.stream:
            continue
        note = row.dialect.note(row.answer)
        last = row.response[-1] if isinstance(row.response, list) else row.response
        usage = last.get(USAGE[file]) if isinstance(last, dict) else None
        if row.status >= 400:
            assert note.error, row
            assert note.error.kind, row
            assert not note.ended, row
            seen["errors"] += 1
        elif usage is None:
            assert note.usage is None, row
            seen["without usage"] += 1
        else:
            assert note.usage == {
                k: v for k, v in usage.items() if file != "anthropic" or v is not None
            }
            assert note.model == (last.get("model") or last.get("modelVersion")), row
            assert note.ended, row
            assert note.error is None, row
            assert file == "embeddings" or note.finish_reason or not _finish(last), row
            seen["answers"] += 1
    assert seen["answers"] > 10
    print(f"{file}: {dict(seen)}")


def _finish(value: dict) -> str | None:
    found = (value.get("choices") or value.get("candidates") or [{}])[0]
    stop = value.get("delta", {}) if isinstance(value.get("delta"), dict) else {}
    return found.get("finish_reason") or found.get("finishReason") or stop.get("stop_reason")


@pytest.mark.parametrize("file", STREAMED)
def test_every_stream_passes_unchanged_and_gives_its_usage(traffic: Traffic, file: str) -> None:
    held_from = {
        "openai_chat": b"[DONE]",
        "openai_responses": b"response.",
        "anthropic": b"message_stop",
        "gemini": b"finishReason",
    }
    for row in streams(traffic, file):
        read = read_stream(row.dialect, row.answer)
        assert read.all == row.answer, row
        if read.note.error:
            assert b'"error":{' in row.answer, row
            continue
        assert read.note.ended, row
        assert held_from[file] in read.held, row
        assert len(events(read.held)) == 1, row
        told = [value for value in map(_usage, said(row.answer)) if value]
        assert (read.note.usage is None) == (not told), row
        for name in ("completion_tokens", "output_tokens", "candidatesTokenCount"):
            if told and name in told[-1]:
                assert read.note.usage[name] == told[-1][name], row
        assert read.note.model, row
        finish = any(map(_finish, said(row.answer)))
        assert bool(read.note.finish_reason) == (finish or file == "openai_responses"), row
        assert read.note.answer_id, row
        assert read.note.content, row
        assert read.note.output_chars > 0 or file == "openai_responses", row


def _usage(value: dict) -> dict | None:
    inner = value.get("response") or value.get("message") or {}
    groq = value.get("x_groq", {}).get("usage")
    return value.get("usage") or value.get("usageMetadata") or inner.get("usage") or groq


@pytest.mark.parametrize("file", STREAMED)
def test_a_stream_cut_after_any_event_before_the_last_is_never_ended(
    traffic: Traffic, file: str
) -> None:
    cuts = 0
    for row in streams(traffic, file):
        parts = events(row.answer)
        whole = read_stream(row.dialect, row.answer)
        terminal = len(events(whole.now))
        reader = row.dialect.reader(VIEW, hide_usage=False)
        for n, part in enumerate(parts[:terminal]):
            now, held = reader.feed(part)
            assert (now, held) == (part, b""), (row, n)
            assert not reader.note.ended, (row, n)
            cuts += 1
    assert cuts > 50
    print(f"{file}: {cuts} cuts")


@pytest.mark.parametrize("file", STREAMED)
def test_line_ends_of_every_kind_read_the_same(traffic: Traffic, file: str) -> None:
    for row in streams(traffic, file)[::5]:
        plain = row.answer.replace(b"\r\n", b"\n")
        expected = read_stream(row.dialect, plain).note
        for end in (b"\r\n", b"\r"):
            stream = plain.replace(b"\n", end)
            for chunks in ([stream], [stream[n : n + 700] for n in range(0, len(stream), 700)]):
                read = read_stream(row.dialect, *chunks)
                assert read.all == stream, row
                assert read.note == expected, row


def cut_in_two(row: Row, places: range) -> int:
    stream = row.answer
    whole = read_stream(row.dialect, stream)
    for at in places:
        read = read_stream(row.dialect, stream[:at], stream[at:])
        assert (read.now, read.held, read.note) == (whole.now, whole.held, whole.note), (row, at)
    return len(places)


@pytest.mark.parametrize("file", STREAMED)
def test_streams_cut_at_sampled_bytes_read_the_same(traffic: Traffic, file: str) -> None:
    cuts = 0
    for n, row in enumerate(streams(traffic, file)):
        step = max(1, len(row.answer) // 12)
        cuts += cut_in_two(row, range(n % step, len(row.answer), step))
    short = min(streams(traffic, file), key=lambda row: len(row.answer))
    cuts += cut_in_two(short, range(len(short.answer) + 1))
    print(f"{file}: {cuts} cuts")


def cut_every_event(row: Row) -> int:
    """Each event of a stream in two chunks, cut at each of its bytes, from the state before it.

    The state after it must be the state of a reader that got it whole; so every two-chunk cut of
    the stream gives what the whole gives, without reading the stream anew for each.
    """
    whole = read_stream(row.dialect, row.answer)
    reader = row.dialect.reader(VIEW, hide_usage=False)
    now = held = b""
    for part in events(row.answer):
        before = copy.deepcopy(reader)
        expected = reader.feed(part)
        for at in range(1, len(part)):
            cut = copy.deepcopy(before)
            first, second = cut.feed(part[:at]), cut.feed(part[at:])
            assert (first[0] + second[0], first[1] + second[1]) == expected, (row, at)
            assert state(cut) == state(reader), (row, at)
        now, held = now + expected[0], held + expected[1]
    assert (now, held, reader.note) == (whole.now, whole.held, whole.note), row
    return len(row.answer)


def state(reader: Any) -> Any:
    """All that a reader knows, as plain values."""
    known = dict(vars(reader))
    splitter = known.pop("_splitter")
    return known | {"splitter": vars(splitter)}


@pytest.mark.full
@pytest.mark.timeout(0)
@pytest.mark.parametrize("file", STREAMED)
def test_streams_cut_at_every_byte_read_the_same(traffic: Traffic, file: str) -> None:
    cuts = sum(cut_every_event(row) for row in streams(traffic, file))
    print(f"{file}: {cuts} cuts")


@pytest.mark.parametrize("file", STREAMED)
def test_streams_fed_byte_by_byte_read_the_same(traffic: Traffic, file: str) -> None:
    for row in sorted(streams(traffic, file), key=lambda row: len(row.answer))[:6]:
        stream = row.answer
        whole = read_stream(row.dialect, stream)
        read = read_stream(row.dialect, *(stream[n : n + 1] for n in range(len(stream))))
        assert (read.now, read.held, read.note) == (whole.now, whole.held, whole.note), row


def test_a_rest_that_is_cut_inside_an_event_is_dropped(traffic: Traffic) -> None:
    for file in STREAMED:
        row = streams(traffic, file)[0]
        terminal = read_stream(row.dialect, row.answer).held
        before = row.answer.removesuffix(terminal)
        for keep in (1, len(terminal) // 2):
            read = read_stream(row.dialect, before + terminal[:keep])
            assert read.all == before, (row, keep)
            assert not read.note.ended, (row, keep)


def test_a_terminal_event_without_its_blank_line_counts(traffic: Traffic) -> None:
    for file in STREAMED:
        row = streams(traffic, file)[0]
        stream = row.answer.rstrip(b"\r\n")
        read = read_stream(row.dialect, stream)
        assert read.note.ended, row
        assert read.all == stream, row


def test_asking_for_usage_of_a_chat_stream_leaves_no_trace(traffic: Traffic) -> None:
    """What the answer to the spliced flag adds is taken out: compared with a tree-level removal."""
    hidden = 0
    for row in streams(traffic, "openai_chat"):
        read = read_stream(row.dialect, row.answer, hide_usage=True)
        plain = read_stream(row.dialect, row.answer)
        assert read.note == plain.note, row
        expected = []
        for value in said(row.answer):
            if value.get("usage") and value.get("choices") == []:
                hidden += 1
                continue
            if value.get("usage", 0) is None:
                value.pop("usage")
                hidden += 1
            expected.append(value)
        assert list(said(read.all)) == expected, row
        untouched = [one for one in events(row.answer) if b'"usage":' not in one]
        assert [one for one in events(read.all) if one in untouched] == untouched, row
    assert hidden > 100


@pytest.mark.parametrize("file", STREAMED)
def test_stream_events_are_all_json_or_done(traffic: Traffic, file: str) -> None:
    """The recordings themselves hold no event that the fast pattern reads otherwise."""
    for row in streams(traffic, file):
        found = [data for _, data in map(parse_event, events(row.answer)) if data is not None]
        read = [orjson.loads(data) for data in found if data.strip() != b"[DONE]"]
        assert read == list(said(row.answer)), row
