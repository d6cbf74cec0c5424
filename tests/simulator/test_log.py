"""The log is an oracle: it says what was accepted, what was charged, and who ended a call."""

import asyncio
import hashlib
import json
import os
import stat
from pathlib import Path

import aiohttp
import pytest

from modelspend.money import from_usd_per_million
from modelspend.simulator import Simulator
from modelspend.simulator.prices import parse_price
from tests.simulator.ask import CHATS, ask, ask_raw, body, connect, path


async def test_a_call_leaves_two_lines_that_name_it(sim: Simulator) -> None:
    asked = json.dumps(body("openai.chat", "gpt-4.1")).encode()
    headers = {"Authorization": "Bearer sk-secret", "X-Modelspend-Attempt": "rcpt_1/2"}
    async with (
        aiohttp.ClientSession(headers=headers) as client,
        client.post(sim.url + "/v1/chat/completions", data=asked) as answer,
    ):
        told = await answer.read()
    await sim.quiet()
    accepted, ended = sim.log
    assert (accepted["event"], ended["event"]) == ("accepted", "ended")
    assert accepted["n"] == ended["n"] == 0
    assert accepted["request_id"] == ended["request_id"] == answer.headers["x-request-id"]
    assert accepted["body_sha256"] == hashlib.sha256(asked).hexdigest()
    assert (accepted["body_size"], accepted["model"]) == (len(asked), "gpt-4.1")
    assert accepted["attempt"] == "rcpt_1/2"
    assert "authorization" in accepted["headers"]
    assert accepted["credential"] == hashlib.sha256(b"sk-secret").hexdigest()[:12]
    assert (ended["outcome"], ended["status"], ended["bytes_sent"]) == ("complete", 200, len(told))
    assert ended["sha256"] == hashlib.sha256(told).hexdigest()
    assert accepted["at"] <= ended["at"]
    assert sim.requests[0].body == asked


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Authorization", "Bearer sk-canary"),
        ("x-api-key", "sk-canary"),
        ("x-goog-api-key", "sk-canary"),
        ("api-key", "sk-canary"),
    ],
)
async def test_every_kind_of_key_is_logged_by_its_fingerprint_alone(
    tmp_path: Path, header: str, value: str
) -> None:
    file = tmp_path / "log.jsonl"
    async with Simulator(log=file) as sim, aiohttp.ClientSession() as client:
        asked = body("openai.chat", "sim-ok", text="a canary prompt")
        url = sim.url + "/v1/chat/completions"
        async with client.post(url, json=asked, headers={header: value}) as answer:
            await answer.read()
    text = file.read_text()
    assert hashlib.sha256(b"sk-canary").hexdigest()[:12] in text
    assert "canary" not in text


async def test_the_file_is_private_and_only_grows(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    for _ in range(2):
        async with Simulator(log=file, sync=True) as sim:
            await ask(sim, "openai.chat", "sim-ok")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["accepted", "ended"] * 2
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_a_client_that_leaves_a_silent_provider_is_noticed(
    sim: Simulator, dialect: str, stream: bool
) -> None:
    _, writer = await connect(sim, dialect, "sim-stall-headers", stream=stream)
    await sim.until(lambda: len(sim.requests) == 1)
    assert sim.ended() == []
    writer.close()
    await sim.quiet()
    (line,) = sim.ended()
    assert (line["outcome"], line["bytes_sent"]) == ("aborted_by_client", 0)


@pytest.mark.parametrize("dialect", CHATS)
async def test_a_client_that_leaves_a_stream_pays_its_input_and_what_was_generated(
    sim: Simulator, dialect: str
) -> None:
    seen, how = await ask_raw(sim, dialect, "sim-stall-5", stream=True, until=b"\r\n\r\n")
    assert how == "left"
    assert seen
    (line,) = sim.ended()
    assert line["outcome"] == "aborted_by_client"
    assert line["charged"]["input_tokens"] == line["usage"]["input_tokens"]
    assert 0 < line["charged"].get("output_tokens", 1) < line["usage"]["output_tokens"]


@pytest.mark.parametrize("dialect", CHATS)
async def test_what_is_charged_is_true_whatever_is_reported(sim: Simulator, dialect: str) -> None:
    for lie in ("missing", "null", "negative", "huge", "string", "early", "twice"):
        name = f"sim-tokens-1000-200+usage-{lie}"
        await ask(sim, dialect, name, stream=True)
        assert sim.ended()[-1]["charged"] == {"input_tokens": 1000, "output_tokens": 200}


@pytest.mark.parametrize("dialect", CHATS)
async def test_work_that_was_lost_is_charged_and_a_refusal_is_not(
    sim: Simulator, dialect: str
) -> None:
    for name, charged in (
        ("sim-tokens-10-20+lost", {"input_tokens": 10, "output_tokens": 20}),
        ("sim-tokens-10-20+hangup", {}),
        ("sim-tokens-10-20+503", {}),
        ("sim-tokens-10-20+200-error-first", {}),
    ):
        await ask(sim, dialect, name, stream=True)
        assert sim.ended()[-1]["charged"] == charged, name


async def test_a_price_makes_the_charge_money() -> None:
    prices = dict(map(parse_price, ("gpt-4.1:input=2,output=8,cache_read=0.5", "*:input=1")))
    async with Simulator(prices=prices) as sim:
        await ask(sim, "openai.chat", "gpt-4.1")
        await ask(sim, "openai.chat", "sim-tokens-7-0")
    first, second = sim.ended()
    used = first["charged"]
    assert first["cost_pico"] == (
        used["input_tokens"] * from_usd_per_million(2)
        + used["output_tokens"] * from_usd_per_million(8)
    )
    assert second["cost_pico"] == 7 * from_usd_per_million(1)


@pytest.mark.parametrize("text", ["gpt", "gpt:", "gpt:input", "gpt:input=x", "gpt:speed=3", ":a=1"])
def test_a_price_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_price(text)


async def test_closing_ends_whoever_is_waiting_and_leaks_nothing() -> None:
    names = ("sim-stall-headers", "sim-stall-3", "sim-delay-3600000", "sim-drip-3600000")
    before = asyncio.all_tasks()
    async with Simulator() as sim:
        clients = [await connect(sim, "openai.chat", name, stream=True) for name in names * 5]
        await sim.until(lambda: len(sim.requests) == 20)
    assert [line["outcome"] for line in sim.ended()] == ["cut"] * 20
    assert asyncio.all_tasks() == before
    for _, writer in clients:
        writer.close()


async def test_many_streams_at_once_are_all_complete(sim: Simulator) -> None:
    async with asyncio.TaskGroup() as group:
        calls = [
            group.create_task(ask(sim, CHATS[i % 4], "sim-drip-1+chunks-20", stream=True))
            for i in range(200)
        ]
    assert all(call.result().whole for call in calls)
    assert [line["outcome"] for line in sim.ended()] == ["complete"] * 200


async def test_paths_are_known_with_and_without_a_prefix(sim: Simulator) -> None:
    async with aiohttp.ClientSession() as client:
        for dialect in CHATS:
            place = path(dialect, "sim-ok").removeprefix("/v1beta").removeprefix("/v1")
            for prefix in ("", "/v1", "/openai/v1", "/api/v1", "/v1beta"):
                if dialect == "gemini.generate" and prefix in ("/openai/v1", "/api/v1"):
                    continue  # Google's own paths have no such prefix
                asked = body(dialect, "sim-ok")
                async with client.post(sim.url + prefix + place, json=asked) as answer:
                    assert answer.status == 200, prefix + place
        async with client.get(sim.url + "/v1/models") as answer:
            listed = [model["id"] for model in (await answer.json())["data"]]
        async with client.head(sim.url + "/") as answer:
            assert answer.status == 200
    assert "sim-ok" in listed
