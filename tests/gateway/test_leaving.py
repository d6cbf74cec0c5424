"""Clients that leave while nothing of an answer has reached them yet: during the wait before a
second try, and while the beginning of a stream is held back.

The provider is let go, there is one receipt, the permit is back, and no task is left behind.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from modelspend.breaker import Closed, HalfOpen
from modelspend.circuits import CircuitKey
from modelspend.receipt import Delivery, FailureClass, Receipt, Status
from modelspend.simulator import Simulator
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.gateway.asking import CHATS, question

LONG_S = 60
"""What nobody waits for here: the tests end long before it, or fail."""

SILENT_AFTER = {"openai.chat": 1, "openai.responses": 2, "anthropic.messages": 1}
"""Events of each dialect that hold no content yet; Gemini's first one has some."""

EASILY = {"consecutive": 1, "wait_s": 1e-6, "wait_max_s": 1e-6, "jitter": 0}
"""One failure opens a circuit, and its wait is over at once."""


@asynccontextmanager
async def patient(folder: Path, simulator: Simulator, **circuits: Any) -> AsyncIterator[Sidecar]:
    """A sidecar that waits long, before a second try and for a first content."""
    waits = {"backoff_s": LONG_S, "backoff_max_s": LONG_S, "wait_max_s": LONG_S, "hold_s": LONG_S}
    async with sidecar_for(folder, simulator.url, retries=waits, circuits=circuits) as sidecar:
        sidecar.gateway.failovers.chance = lambda: 0.999
        yield sidecar


async def leave(sidecar: Sidecar, asked: tuple[str, Any], reached: Callable[[], bool]) -> Receipt:
    """Call, and go as soon as something is so; the receipt of that call."""
    await sidecar.post(*question("openai.chat", "sim-ok", stream=False))  # connections are there
    before = len(asyncio.all_tasks())
    path, body = asked
    call = asyncio.get_running_loop().create_task(
        sidecar.client.post(sidecar.url + path, json=body)
    )
    async with asyncio.timeout(5):
        while not reached():
            await asyncio.sleep(0)
        assert not call.done()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        _, receipt = await sidecar.receipts()
        while len(asyncio.all_tasks()) > before:  # the last of them end a moment later
            await asyncio.sleep(0)
    assert receipt.execution.status is Status.CLIENT_DISCONNECT
    assert sidecar.gateway.endings.relays == set()
    return receipt


def open_circuit(sidecar: Sidecar, key: CircuitKey) -> None:
    """Open, with its wait over: the next call is the probe."""
    circuits = sidecar.gateway.failovers.circuits
    circuits.admit(key, perf_counter()).failed(FailureClass.SERVER_ERROR, perf_counter())
    assert not isinstance(circuits.state(key), Closed)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
@pytest.mark.parametrize("model", ["sim-500", "sim-200-error-first"])
async def test_a_client_that_leaves_before_the_second_try_ends_the_call_there(
    tmp_path: Path, simulator: Simulator, dialect: str, model: str, *, stream: bool
) -> None:
    async with patient(tmp_path, simulator) as sidecar:
        circuits = sidecar.gateway.failovers.circuits
        key = CircuitKey("sim", model)
        asked = question(dialect, model, stream=stream)
        receipt = await leave(sidecar, asked, lambda: circuits.state(key).streak == 1)
        assert circuits.state(key).streak == 1  # of the one try: leaving is no failure
        await simulator.quiet()
    (only,) = receipt.attempts
    assert only.failure_class in (FailureClass.SERVER_ERROR, FailureClass.ERROR_IN_STREAM)
    assert receipt.execution.charged_pico == 0
    assert [each.model for each in simulator.requests] == ["sim-ok", model]


async def test_a_client_that_leaves_before_a_probes_second_try_gives_its_permit_back(
    tmp_path: Path, simulator: Simulator
) -> None:
    """A 429 keeps a circuit half open, and its call waits for the time that it names."""
    key = CircuitKey("sim", "sim-429-retry-30")
    async with patient(tmp_path, simulator, **EASILY) as sidecar:
        circuits = sidecar.gateway.failovers.circuits
        open_circuit(sidecar, key)

        def waits() -> bool:
            state = circuits.state(key)
            return isinstance(state, HalfOpen) and state.cool_until > 0

        asked = question("openai.chat", key.model, stream=False)
        receipt = await leave(sidecar, asked, waits)
        assert circuits.standing(key, perf_counter()).refusal.why == "cooling"
        assert circuits.standing(key, perf_counter() + 31).ready, "its permit is not back"
    assert [one.failure_class for one in receipt.attempts] == [FailureClass.RATE_LIMIT]
    assert len(simulator.requests) == 2


@pytest.mark.parametrize("dialect", SILENT_AFTER)
async def test_a_client_that_leaves_while_a_beginning_is_held_back_frees_the_provider(
    tmp_path: Path, simulator: Simulator, dialect: str
) -> None:
    key = CircuitKey("sim", f"sim-stall-{SILENT_AFTER[dialect]}")
    async with patient(tmp_path, simulator, **EASILY) as sidecar:
        circuits, relays = sidecar.gateway.failovers.circuits, sidecar.gateway.endings.relays
        open_circuit(sidecar, key)
        asked = question(dialect, key.model, stream=True)
        receipt = await leave(sidecar, asked, lambda: bool(relays))
        async with asyncio.timeout(5):
            await simulator.quiet()
        assert isinstance(circuits.state(key), HalfOpen)
        assert circuits.standing(key, perf_counter()).ready, "its permit is not back"
    assert simulator.ended()[-1]["outcome"] == "aborted_by_client"
    (only,) = receipt.attempts
    assert (only.failure_class, only.delivery) == (FailureClass.CLIENT_GONE, Delivery.RESPONDING)
