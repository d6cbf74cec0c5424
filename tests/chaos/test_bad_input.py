"""Bodies that nobody should send: a clear error in the caller's dialect, a receipt, never a 500.

Each case names what the error must say; `field` is the place in the body where one is to blame.
"""

import asyncio
import gzip
import io
import json
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from calls import CHAT, COUNT, DOORS, EMBEDDINGS, GEMINI, MESSAGES, RESPONSES, Door
from sidecar import Sidecar, provider

from modelspend.simulator import Simulator

LIMIT_MIB = 1


@dataclass(slots=True)
class Bench:
    sidecar: Sidecar
    sim: Simulator
    session: aiohttp.ClientSession

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        """The answer; asserts that it left one receipt, which the answer names."""
        before = self.receipts()
        async with self.session.post(self.sidecar.url + path, data=body, headers=headers) as answer:
            said = await answer.read()
        assert self.receipts() == before + 1, f"{answer.status} without a receipt: {said[:300]!r}"
        named = answer.headers.get("x-modelspend-receipt")
        (last,) = self.sidecar.ask("SELECT receipt_id FROM receipts ORDER BY seq DESC LIMIT 1")
        assert named == last[0]
        return answer.status, said, dict(answer.headers)

    def receipts(self) -> int:
        return int(self.sidecar.ask("SELECT count(*) FROM receipts")[0][0])


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("bad-input")
    async with Simulator() as sim:
        config = provider("sim", sim.url, models=["sim-ok"])
        server = f"max_body_mib = {LIMIT_MIB}\nbody_timeout_s = 0.5"
        async with (
            Sidecar(folder, config, server=server) as sidecar,
            aiohttp.ClientSession() as session,
        ):
            yield Bench(sidecar, sim, session)
        assert "Traceback" not in sidecar.log_text()


pytestmark = pytest.mark.asyncio(loop_scope="module")


def told(door: Door, status: int, said: bytes) -> str:
    """The message of an error in a dialect's own shape."""
    shape = json.loads(said)
    error = shape["error"]
    if door.dialect.startswith("anthropic"):
        assert shape["type"] == "error"
        assert error["type"] == "request_too_large" or error["type"].endswith("_error")
    elif door.dialect == "gemini.generate":
        assert error["code"] == status
        assert error["status"].isupper()
    else:
        assert {"message", "type", "param", "code"} <= set(error)
    assert error["message"]
    return str(error["message"])


_NOT_OBJECTS = {
    "empty": b"",
    "blank": b"  \r\n ",
    "text": b"model=gpt-4.1&prompt=hello",
    "null": b"null",
    "array": b"[]",
    "number": b"42",
    "string": b'"model"',
    "cut short": b'{"model": "sim-ok", "messages": [',
    "two values": b'{"model": "sim-ok"} {"model": "sim-ok"}',
    "trailing comma": b'{"model": "sim-ok",}',
    "single quotes": b"{'model': 'sim-ok'}",
    "not UTF-8": b'{"model": "sim-ok", "user": "\xff\xfe"}',
    "half a letter": b'{"model": "sim-ok", "user": "\xe2\x82"}',
    "UTF-16": '{"model": "sim-ok"}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbfnot json",
    "a raw NUL": b'{"model": "sim\x00-ok"}',
}


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.dialect)
@pytest.mark.parametrize("case", _NOT_OBJECTS)
async def test_a_body_that_is_no_json_object_is_refused_and_recorded(
    bench: Bench, door: Door, case: str
) -> None:
    sent = len(bench.sim.requests)
    path = door.at("sim-ok", stream=False)
    status, said, headers = await bench.post(path, _NOT_OBJECTS[case])
    assert status == 400, said
    assert told(door, status, said)
    assert headers["x-should-retry"] == "false"
    assert len(bench.sim.requests) == sent


def _with(door: Door, **fields: object) -> bytes:
    body = {**door.body(stream=False), "model": "sim-ok", **fields}
    return json.dumps(body).encode()


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.dialect)
async def test_nesting_without_end_is_refused(bench: Bench, door: Door) -> None:
    for levels in (1_100, 5_000, 100_000):
        body = _with(door)[:-1] + b', "metadata": ' + b"[" * levels + b"]" * levels + b"}"
        status, said, _ = await bench.post(door.at("sim-ok", stream=False), body)
        assert status == 400, (levels, said)
        assert told(door, status, said)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.dialect)
@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
async def test_numbers_that_json_does_not_have_are_refused(
    bench: Bench, door: Door, number: bytes
) -> None:
    body = _with(door)[:-1] + b', "temperature": ' + number + b"}"
    status, said, _ = await bench.post(door.at("sim-ok", stream=False), body)
    assert status == 400, said
    assert told(door, status, said)


@pytest.mark.parametrize(
    "door", [CHAT, RESPONSES, MESSAGES, EMBEDDINGS, COUNT], ids=lambda d: d.dialect
)
async def test_two_models_in_one_body_are_refused_since_readers_disagree_on_which_counts(
    bench: Bench, door: Door
) -> None:
    body = b'{"model": "sim-cheap", ' + _with(door)[1:]
    status, said, _ = await bench.post(door.at("sim-ok", stream=False), body)
    assert status == 400, said
    assert "model" in told(door, status, said)


_WRONG_TYPES: list[tuple[Door, str, object]] = [
    (CHAT, "model", 7),
    (CHAT, "model", None),
    (CHAT, "model", ""),
    (CHAT, "model", ["sim-ok"]),
    (CHAT, "stream", "yes"),
    (CHAT, "stream", 1),
    (CHAT, "stream_options", "usage"),
    (RESPONSES, "model", {}),
    (RESPONSES, "stream", "true"),
    (RESPONSES, "background", True),
    (MESSAGES, "model", 1.5),
    (MESSAGES, "stream", []),
    (EMBEDDINGS, "model", False),
    (COUNT, "model", None),
]


@pytest.mark.parametrize(("door", "field", "value"), _WRONG_TYPES)
async def test_a_wrong_type_is_refused_by_naming_its_place(
    bench: Bench, door: Door, field: str, value: object
) -> None:
    body = _with(door, **{"stream": field.startswith("stream"), field: value})
    status, said, _ = await bench.post(door.at("sim-ok", stream=False), body)
    assert status == 400, said
    message = told(door, status, said)
    assert field in message or json.loads(said)["error"].get("param") == field


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.dialect)
async def test_an_unknown_model_is_refused_with_the_choices(bench: Bench, door: Door) -> None:
    for model in ("no-such-model", "nowhere/sim-ok", "../../etc/passwd", "a" * 250, "модель"):
        if door is GEMINI:
            model = model.replace("../", "")
        path, body = door.request(model)
        status, said, _ = await bench.post(path, body)
        assert status == 404, (model[:40], said)
        assert model[:20] in told(door, status, said)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.dialect)
async def test_a_body_above_the_limit_is_refused_with_the_setting_that_raises_it(
    bench: Bench, door: Door
) -> None:
    path = door.at("sim-ok", stream=False)
    large = _with(door, metadata={"padding": "x" * (LIMIT_MIB * 1024 * 1024)})

    async def drip() -> Any:
        for start in range(0, len(large), 65_536):
            yield large[start : start + 65_536]

    for body in (io.BytesIO(large), drip()):
        status, said, _ = await bench.post(path, body)
        assert status == 413
        assert "max_body_mib" in told(door, status, said)


async def test_a_small_body_that_inflates_beyond_the_limit_is_refused(bench: Bench) -> None:
    bomb = gzip.compress(b" " * (64 * 1024 * 1024))
    path = CHAT.at("sim-ok", stream=False)
    status, said, _ = await bench.post(path, bomb, **{"Content-Encoding": "gzip"})
    assert status == 413
    assert "max_body_mib" in told(CHAT, status, said)
    assert bench.sidecar.peak_rss_mb() < 200


@pytest.mark.parametrize(
    ("encoding", "body", "word"),
    [
        ("gzip", b"this is no gzip", "Content-Encoding"),
        ("gzip", gzip.compress(b'{"model": "sim-ok"}')[:-9], "Send it whole"),
        ("br", b"\x0b\x02\x80", "br"),
        ("gzip, gzip", b"", "gzip, gzip"),
    ],
)
async def test_compression_that_cannot_be_read_is_refused(
    bench: Bench, encoding: str, body: bytes, word: str
) -> None:
    path = CHAT.at("sim-ok", stream=False)
    status, said, _ = await bench.post(path, body, **{"Content-Encoding": encoding})
    assert status == 400, said
    assert word in told(CHAT, status, said)


async def test_a_body_that_stops_half_way_is_given_up(bench: Bench) -> None:
    before = bench.receipts()
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.sidecar.port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {bench.sidecar.host}\r\n"
    writer.write(f"{head}Content-Length: 500\r\n\r\n".encode() + b'{"model": "sim-ok"')
    said = await asyncio.wait_for(reader.read(4096), 10)
    writer.close()
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"stopped after 18 bytes" in said
    assert bench.receipts() == before + 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-modelspend-tags", "no-equals-sign"),
        ("x-modelspend-tags", ",".join(f"k{n}=v" for n in range(40))),
        ("x-modelspend-tenant", "t" * 5_000),
        ("x-modelspend-mode", "sideways"),
        ("x-modelspend-profile", "no-such-profile"),
        ("x-modelspend-max-usd", "much"),
    ],
)
async def test_a_header_of_ours_that_makes_no_sense_is_refused_and_recorded(
    bench: Bench, name: str, value: str
) -> None:
    status, said, _ = await bench.post(*CHAT.request("sim-ok"), **{name: value})
    assert status == 400, said
    assert name in told(CHAT, status, said)


async def test_odd_but_legal_bodies_are_carried_as_they_are(bench: Bench) -> None:
    """What we do not know is the provider's business, byte for byte."""
    messages = b'"messages": [{"role": "user", "content": "\\ud83d\\ude00 \\u0000 /\\/"}]'
    odd = [
        b'\t{ "model" :\n"sim-ok" , %b, "x-future": {"deep": [[[[1e400]]]]}}  ' % messages,
        b'{"messages": [], "m\\u006fdel": "sim-ok"}',
        b'{"model": "sim-ok", %b, "seed": 123456789012345678901234567890}' % messages,
        b'{"model": "sim-ok", %b, "user": "a", "user": "b"}' % messages,
    ]
    for body in odd:
        status, said, _ = await bench.post("/v1/chat/completions", body)
        if status == 400:
            assert told(CHAT, status, said)
        else:
            assert status == 200, said
            assert bench.sim.requests[-1].body == body
