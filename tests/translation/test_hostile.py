"""What strangers send: recorded requests and answers with anything put in the place of anything.

A fault in a request is a typed error, one in an answer a ValueError or a `Failed`; nothing else.
"""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest

from modelspend import chat, translation
from modelspend.delivery import Delivery, deliver
from modelspend.dialects import CHAT_DIALECTS
from modelspend.errors import ModelspendError
from tests.dialects.recorded import FILES, Row

SOURCES = [file for file, name in FILES.items() if name in CHAT_DIALECTS]
ODD: list[Any] = [
    None, True, False, 0, -1, 2**53, 0.5, "", "x", "auto", "tool", [], {}, [None], ["x"], [{}],
    {"type": "text"}, {"type": "function"}, {"type": "refusal"}, {"url": 5}, [[]], {"": None},
    "{not json", "{}", "[1]", "http://", "data:;base64,", "data:image/png;base64,AA", "\x00",
]  # fmt: skip


def deep() -> Any:
    """Deeper than can be written, and not than can be read."""
    value: Any = "x"
    for _ in range(300):
        value = [value]
    return value


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every node below the top."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list) and len(path) < 40:
            yield from places(inner, (*path, key))


def spoilt(value: Any, chance: random.Random) -> Any:
    """A copy with one to three nodes replaced, left out, or told twice."""
    copy = orjson.loads(orjson.dumps(value))
    for _ in range(chance.randint(1, 3)):
        found = list(places(copy))
        if not found:
            break
        *way, last = chance.choice(found)
        holder = copy
        for step in way:
            holder = holder[step]
        match chance.randint(0, 5):
            case 0:
                del holder[last]
            case 1 if isinstance(holder, list):
                holder.append(holder[last])
            case 2 if chance.random() < 0.2:
                holder[last] = deep()
            case _:
                holder[last] = orjson.loads(orjson.dumps(chance.choice(ODD)))
    return copy


@pytest.mark.parametrize("file", SOURCES)
def test_a_spoilt_request_is_carried_or_refused_by_a_typed_error(
    file: str, traffic: Callable[[str], tuple[Row, ...]]
) -> None:
    chance = random.Random(f"requests of {file}")
    dialect = CHAT_DIALECTS[FILES[file]]
    carried = refused = 0
    faults: set[tuple[int, bool]] = set()
    rows = [row for row in traffic(file) if isinstance(row.request, dict)]
    for row in chance.choices(rows, k=1500):
        body = json.dumps(spoilt(row.request, chance)).encode()
        for to in CHAT_DIALECTS:
            try:
                asked = dialect.neutral(dialect.read(row.path, body))
                translation.needs(asked)
                prepared = translation.prepare(asked, to=to)
                encoded = CHAT_DIALECTS[to].encode_request(prepared.request, "m")
            except ModelspendError as fault:
                faults.add((fault.status, fault.text.isprintable()))
                refused += 1
                continue
            assert all(name.isprintable() for name in prepared.dropped)
            carried += 1
            path = f"/v1{CHAT_DIALECTS[to].target(encoded.view, 'm')}"
            again = CHAT_DIALECTS[to].read(path, encoded.body)
            assert again.stream == encoded.view.stream
            try:
                CHAT_DIALECTS[to].neutral(again)
            except ModelspendError:
                print("XX", to, body, encoded.body)
                raise
    assert carried > 500
    assert refused > 500
    assert faults == {(400, True)}


@pytest.mark.parametrize("file", SOURCES)
def test_a_spoilt_answer_is_delivered_or_no_answer_at_all(
    file: str, traffic: Callable[[str], tuple[Row, ...]]
) -> None:
    chance = random.Random(f"answers of {file}")
    source = CHAT_DIALECTS[FILES[file]]
    delivered = 0
    rows = [row for row in traffic(file) if not row.stream and isinstance(row.response, dict)]
    for row in chance.choices(rows, k=1500):
        body = json.dumps(spoilt(row.response, chance)).encode()
        try:
            answer = source.decode_answer(body)
        except ValueError:
            continue
        for to in CHAT_DIALECTS:
            told, _ = deliver(answer, to=to)
            orjson.loads(CHAT_DIALECTS[to].encode_answer(told))
            delivered += 1
    assert delivered > 1000


@pytest.mark.parametrize("file", SOURCES)
def test_a_spoilt_stream_is_delivered_as_far_as_it_goes(
    file: str, traffic: Callable[[str], tuple[Row, ...]]
) -> None:
    chance = random.Random(f"streams of {file}")
    source = CHAT_DIALECTS[FILES[file]]
    rows = [row for row in traffic(file) if row.stream]
    ended = 0
    for row in chance.choices(rows, k=400):
        body = b"".join(_spoilt_events(row.answer, chance))
        decoder = source.decoder()
        events = [*decoder.feed(body), *decoder.close()]
        assert sum(isinstance(event, chat.Ended | chat.Failed) for event in events) <= 1
        assert sum(isinstance(event, chat.Started) for event in events) <= 1
        with suppress(ValueError):
            chat.fold(events)
        for to in CHAT_DIALECTS:
            delivery = Delivery(to=to)
            written = b"".join(CHAT_DIALECTS[to].encode_stream(delivery.feed(events)))
            again = CHAT_DIALECTS[to].decoder()
            read = [*again.feed(written), *again.close()]
            if chat.Ended() in events:
                assert read[-1] == chat.Ended()
                ended += 1
            else:
                assert chat.Ended() not in read
    assert ended > 100


def _spoilt_events(body: bytes, chance: random.Random) -> Iterator[bytes]:
    for event in body.split(b"\n\n"):
        name, data, told = event.partition(b"data: ")
        if data and told.startswith(b"{") and chance.random() < 0.15:
            with suppress(ValueError):  # events cut elsewhere, where lines end with CRLF
                told = json.dumps(spoilt(orjson.loads(told), chance)).encode()
        if chance.random() < 0.98:
            yield name + data + told + b"\n\n"
