"""Calls led round a failing provider: before the first content always, after it never.

Both providers lie at the same simulated one; the first fails as its model's name says, the second
answers. What clients see, what the receipt says and what was truly asked are compared.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from modelspend.receipt import FailureClass, Status
from modelspend.simulator import Simulator
from tests.fakes.sidecar import ALL_DIALECTS, CUT, PRICE, Sidecar, sidecar_for
from tests.gateway.asking import CHATS, question

GOOD = "echo"
"""The second provider says the last message again, so its words can be told from the first's."""

WORDS = "pineapple umbrella"

BEFORE_CONTENT = {
    "500": FailureClass.SERVER_ERROR,
    "503": FailureClass.OVERLOADED,
    "529": FailureClass.OVERLOADED,
    "401": FailureClass.AUTH,
    "429-retry-30": FailureClass.RATE_LIMIT,
    "hangup": FailureClass.DISCONNECTED,
    "reset": FailureClass.DISCONNECTED,
    "raw-garbage": FailureClass.PROTOCOL,
    "redirect": FailureClass.PROTOCOL,
    "200-error-first": FailureClass.ERROR_IN_STREAM,
    "stall-headers": FailureClass.FIRST_BYTE_TIMEOUT,
    "html-502": FailureClass.SERVER_ERROR,
}

AFTER_CONTENT = {
    "error-after-8+chunks-20": FailureClass.ERROR_IN_STREAM,
    "cut-8+chunks-20": FailureClass.DISCONNECTED,
    "reset-8+chunks-20": FailureClass.DISCONNECTED,
    "stall-8+chunks-20": FailureClass.IDLE_TIMEOUT,
    "no-done": FailureClass.TRUNCATED,
}


@pytest.fixture
async def pair(tmp_path: Path, simulator: Simulator) -> AsyncIterator[Sidecar]:
    """A sidecar whose profiles `from-X` name the failing model X first, and a good one after it."""
    everything = [*BEFORE_CONTENT, *AFTER_CONTENT, "404", "400"]
    profiles = {
        name.replace("+", "_"): tiers(f"sim/sim-{name}", f"other/sim-{GOOD}") for name in everything
    }
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers={"other": _provider(simulator)},
        profiles=profiles,
        retries={"backoff_s": 0.01},
        circuits={},
        upstream={"first_byte_s": 0.5, "stream_first_byte_s": 0.5, "idle_s": 0.4},
    ) as running:
        yield running


def tiers(*models: str) -> dict[str, tuple[str, ...]]:
    return {tier: models for tier in ("simple", "standard", "deep_reasoning")}


def _provider(simulator: Simulator, **more: Any) -> dict[str, Any]:
    return {
        "base_url": f"{simulator.url}/v1",
        "dialects": ALL_DIALECTS,
        "price": {**PRICE, "output": 7},
        **more,
    }


def asked(dialect: str, model: str, *, stream: bool) -> tuple[str, dict[str, Any]]:
    path, body = question(dialect, "MODEL", stream=stream, text=WORDS)
    if "model" in body:
        body["model"] = model
    return path.replace("sim/MODEL", model), body


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_a_failure_before_the_first_content_is_never_seen_by_the_client(
    pair: Sidecar, dialect: str, *, stream: bool
) -> None:
    for behaviour, failure in BEFORE_CONTENT.items():
        path, body = asked(dialect, f"auto:{behaviour}", stream=stream)
        status, headers, data = await pair.post(path, body)
        receipt = await pair.receipt_of(headers)
        assert status == 200, behaviour
        assert CUT not in data, behaviour
        assert b"pineapple" in data, behaviour
        assert b"simulated" not in data, behaviour  # not a word of the first one's
        first, last = receipt.attempts[0], receipt.attempts[-1]
        assert receipt.execution.status is Status.SUCCESS, behaviour
        assert (first.provider, first.failure_class) == ("sim", failure), behaviour
        assert (last.provider, last.status) == ("other", Status.SUCCESS), behaviour
        assert len(receipt.attempts) == 2, behaviour
        assert receipt.decision is not None
        assert receipt.decision.strategy == "fallback"
        assert (receipt.decision.provider, headers["x-modelspend-provider"]) == ("sim", "other")
        (hop,) = await pair.store.failovers.list(limit=1)
        assert (hop.receipt_id, hop.failover.to_provider) == (receipt.receipt_id, "other")
        assert hop.failover.failure_class == failure
        await _close(pair)


async def _close(pair: Sidecar) -> None:
    """The next case begins with circuits that have heard nothing."""
    pair.gateway.failovers.circuits.reset("sim", None, 0.0)


@pytest.mark.parametrize("dialect", CHATS)
async def test_a_failure_after_the_first_content_is_told_and_nobody_else_is_asked(
    pair: Sidecar, dialect: str
) -> None:
    for behaviour, failure in AFTER_CONTENT.items():
        path, body = asked(dialect, f"auto:{behaviour.replace('+', '_')}", stream=True)
        status, headers, data = await pair.post(path, body)
        receipt = await pair.receipt_of(headers)
        assert status == 200, behaviour
        assert b"pineapple" not in data, behaviour
        (only,) = receipt.attempts
        assert only.failure_class == failure, behaviour
        assert receipt.execution.status in (Status.TRUNCATED, Status.ERROR), behaviour
        assert b"error" in data[-900:], behaviour
        assert await pair.store.failovers.list() == []
        await _close(pair)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
@pytest.mark.parametrize("behaviour", ["400", "404"])
async def test_what_is_the_callers_own_fault_is_told_at_once(
    pair: Sidecar, dialect: str, behaviour: str, *, stream: bool
) -> None:
    path, body = asked(dialect, f"auto:{behaviour}", stream=stream)
    status, headers, _ = await pair.post(path, body)
    receipt = await pair.receipt_of(headers)
    assert status == int(behaviour)
    assert len(receipt.attempts) == 1


async def test_a_lone_provider_is_asked_again_and_then_left_alone(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(
        tmp_path, simulator.url, retries={"backoff_s": 0.01}, circuits={"consecutive": 3}
    ) as sidecar:
        path, body = asked("openai.chat", "sim/sim-500", stream=False)
        status, headers, _ = await sidecar.post(path, body)
        receipt = await sidecar.receipt_of(headers)
        assert status == 500
        assert len(receipt.attempts) == 3
        status, headers, data = await sidecar.post(path, body)
        assert (status, b"circuit_open" in data) == (503, True)
        assert 0 < int(headers["retry-after"]) <= 15
        assert len(simulator.log) == 6  # three accepted, three ended: the fourth never went out
        (incident,) = await sidecar.store.incidents.list()
        assert incident.calls_affected == 2


async def test_a_call_that_goes_as_it_was_asked_fails_over_to_the_same_model_only(
    tmp_path: Path, simulator: Simulator
) -> None:
    dead = {"base_url": "http://127.0.0.1:9/v1", "dialects": ALL_DIALECTS, "price": PRICE}
    alive = _provider(simulator)
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers={
            "dead": dead | {"models": ["sim-echo", "sim-ok"]},
            "alive": alive | {"models": ["vendor/sim-echo"]},
        },
        retries={"backoff_s": 0.01},
        circuits={},
    ) as sidecar:
        path, body = asked("anthropic.messages", "sim-echo", stream=False)
        status, headers, data = await sidecar.post(path, body)
        receipt = await sidecar.receipt_of(headers)
        assert (status, b"pineapple" in data) == (200, True)
        assert [one.provider for one in receipt.attempts] == ["dead", "alive"]
        path, body = asked("anthropic.messages", "sim-ok", stream=False)
        status, headers, _ = await sidecar.post(path, body)
        assert status == 502
        named = "dead/sim-echo"  # who is named is asked, and nobody else
        path, body = asked("anthropic.messages", named, stream=False)
        status, headers, _ = await sidecar.post(path, body)
        assert status == 502
        receipt = await sidecar.receipt_of(headers)
        assert {one.provider for one in receipt.attempts} == {"dead"}


async def test_where_all_circuits_are_open_the_least_bad_is_tried_now_and_then(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers={"other": _provider(simulator)},
        profiles={"p": tiers("sim/sim-500", "other/sim-503")},
        retries={"backoff_s": 0.001},
        circuits={"consecutive": 2, "panic_s": 60},
    ) as sidecar:
        strategies = []
        for _ in range(12):
            path, body = asked("openai.chat", "auto:p", stream=False)
            _, headers, _ = await sidecar.post(path, body)
            decision = (await sidecar.receipt_of(headers)).decision
            assert decision is not None
            strategies.append(decision.strategy)
        assert "panic" in strategies
        assert strategies.count("panic") <= 2  # one for each circuit in so short a time
