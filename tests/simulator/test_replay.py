"""Recorded exchanges are given back byte for byte, in order or by key, however they are cut."""

import json
from pathlib import Path

import aiohttp
import pytest

from modelspend.simulator import REPLAY_HEADER, Recorded, Simulator

FILES = ("openai_chat", "openai_responses", "anthropic", "gemini", "embeddings")


def _rows(recorded: Path, name: str) -> list[Recorded]:
    lines = (recorded / f"traffic/{name}.jsonl").read_text().splitlines()
    out = []
    for i, row in enumerate(map(json.loads, lines)):
        told = row["response"]
        text = told if isinstance(told, str) else json.dumps(told)
        kind = row["content_type"] or "application/json"
        out.append(
            Recorded(status=row["status"], content_type=kind, body=text.encode(), key=f"{name}/{i}")
        )
    return out


@pytest.mark.parametrize("name", FILES)
async def test_recorded_traffic_is_given_back_byte_for_byte(
    sim: Simulator, recorded: Path, name: str
) -> None:
    rows = _rows(recorded, name)
    sim.replay(rows, chunk=997)
    async with aiohttp.ClientSession() as client:
        for row in reversed(rows):
            headers = {REPLAY_HEADER: str(row.key)}
            async with client.post(sim.url + "/v1/x", data=b"{}", headers=headers) as answer:
                assert answer.status == row.status
                assert await answer.read() == row.body
                assert answer.headers["content-type"] == row.content_type
    assert len(sim.ended()) == len(rows) > 10


async def test_rows_without_a_key_come_in_order_and_then_the_simulator_answers_again(
    sim: Simulator,
) -> None:
    bodies = [b"one", b"", b"data: three\n\n"]
    sim.replay(Recorded(content_type="text/event-stream", body=body) for body in bodies)
    async with aiohttp.ClientSession() as client:
        url = sim.url + "/v1/chat/completions"
        for body in bodies:
            async with client.post(url, data=b"not even JSON") as answer:
                assert await answer.read() == body
        async with client.post(url, data=b"not even JSON") as answer:
            assert answer.status == 400
