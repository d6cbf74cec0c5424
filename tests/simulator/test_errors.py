"""Errors come in each vendor's own shape, as the recorded ones do."""

import json
from pathlib import Path
from typing import Any

import pytest

from modelspend.simulator import Simulator
from tests.simulator.ask import CHATS, ask

OPENAI = ("openai.chat", "openai.responses")


def shape(value: Any) -> Any:
    """The names and types in a JSON value; scalars lose their values."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return type(value).__name__ if isinstance(value, str | int) else None


@pytest.mark.parametrize("dialect", CHATS)
async def test_errors_have_the_fields_of_recorded_ones(
    sim: Simulator, recorded: Path, dialect: str
) -> None:
    host = {"anthropic.messages": "anthropic", "gemini.generate": "generativelanguage"}
    wanted = host.get(dialect, "api.openai.com")
    rows = map(json.loads, (recorded / "traffic/errors.jsonl").read_text().splitlines())
    theirs = [row for row in rows if wanted in row["host"] and row["status"] in (400, 401, 404)]
    assert theirs
    for row in theirs:
        got = await ask(sim, dialect, f"sim-{row['status']}")
        ours = json.loads(got.body)
        assert got.status == row["status"]
        assert set(shape(ours)) == set(shape(row["response"]))
        assert set(ours["error"]) == set(row["response"]["error"])


KINDS = {
    401: ("invalid_api_key", "authentication_error", "UNAUTHENTICATED"),
    404: ("model_not_found", "not_found_error", "NOT_FOUND"),
    429: ("rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED"),
    500: (None, "api_error", "INTERNAL"),
    503: ("server_overloaded", "api_error", "UNAVAILABLE"),
    529: ("server_overloaded", "overloaded_error", "UNAVAILABLE"),
}


@pytest.mark.parametrize("dialect", CHATS)
@pytest.mark.parametrize("status", KINDS)
async def test_a_status_has_the_vendors_own_word(sim: Simulator, status: int, dialect: str) -> None:
    got = await ask(sim, dialect, f"sim-{status}", stream=True)
    error = json.loads(got.body)["error"]
    openai, anthropic, gemini = KINDS[status]
    assert got.status == status
    if dialect in OPENAI:
        assert error["code"] == openai
    elif dialect == "anthropic.messages":
        assert error["type"] == anthropic
        assert json.loads(got.body)["request_id"] == got.headers["request-id"]
    else:
        assert (error["code"], error["status"]) == (status, gemini)


@pytest.mark.parametrize("dialect", CHATS)
async def test_the_wait_stands_where_the_vendor_puts_it(sim: Simulator, dialect: str) -> None:
    got = await ask(sim, dialect, "sim-429-retry-7")
    if dialect == "gemini.generate":
        (detail,) = json.loads(got.body)["error"]["details"]
        assert detail["retryDelay"] == "7s"
        assert "retry-after" not in got.headers
    else:
        assert got.headers["retry-after"] == "7"
    assert got.headers["x-should-retry"] == "true"
    assert "retry-after" not in (await ask(sim, dialect, "sim-429")).headers


@pytest.mark.parametrize("dialect", CHATS)
async def test_an_error_inside_a_stream_is_the_vendors_event(sim: Simulator, dialect: str) -> None:
    got = await ask(sim, dialect, "sim-error-after-3", stream=True)
    names = [line for line in got.body.splitlines() if line.startswith(b"event: ")]
    last = got.documents[-1]
    if dialect == "openai.responses" or dialect == "anthropic.messages":
        assert (names[-1], last["type"]) == (b"event: error", "error")
    else:
        assert list(last) == ["error"]


@pytest.mark.parametrize("dialect", CHATS)
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": 7}', b"\xff"])
async def test_a_body_that_cannot_be_read_is_a_400(
    sim: Simulator, dialect: str, body: bytes
) -> None:
    import aiohttp

    from tests.simulator.ask import path

    if dialect == "gemini.generate" and body == b'{"model": 7}':
        return  # Gemini's model stands in the path
    async with aiohttp.ClientSession() as client:
        url = sim.url + path(dialect, "sim-ok")
        async with client.post(url, data=body) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["message"]


async def test_an_unknown_path_is_a_404_and_in_the_log(sim: Simulator) -> None:
    import aiohttp

    async with (
        aiohttp.ClientSession() as client,
        client.post(sim.url + "/redirected", json={"model": "x"}) as answer,
    ):
        assert answer.status == 404
    accepted, ended = sim.log
    assert (accepted["path"], accepted["dialect"]) == ("/redirected", None)
    assert ended["outcome"] == "error"
