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

AT_ONCE = {"consecutive": 1, "wait_s": 1e-6, "wait_max_s": 1e-6, "jitter": 0}

SILENT_AFTER = {"openai.chat": 1, "openai.responses": 2, "anthropic.messages": 1}
"""Events of each dialect that hold no content yet; Gemini's first one has some."""


@asynccontextmanager
async def patient(folder: Path, simulator: Simulator, **more: Any) -> AsyncIterator[Sidecar]:
    """A sidecar that waits long, before a second try and for a first content."""
    waits = {"backoff_s": LONG_S, "backoff_max_s": LONG_S, "wait_max_s": LONG_S, "hold_s": LONG_S}
    async with sidecar_for(folder, simulator.url, retries=waits, circuits={}, **more) as sidecar:
        sidecar.gateway.failovers.chance = lambda: 0.999
        yield sidecar


async def leave(sidecar: Sidecar, asked: tuple[str, Any], there: Callable[[], bool]) -> None:
    """Call, and go as soon as something is so."""
    path, body = asked
    before = asyncio.all_tasks()
    call = asyncio.get_running_loop().create_task(
        sidecar.client.post(sidecar.url + path, json=body)
    )
    async with asyncio.timeout(5):
        while not there():
            await asyncio.sleep(0)
        assert not call.done()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        while sidecar.gateway.in_flight or await sidecar.store.calls.open_count():
            await asyncio.sleep(0)
        while asyncio.all_tasks() - before:  # connections of the client may end a little later
            await asyncio.sleep(0)


def failures(sidecar: Sidecar, model: str) -> int:
    state = sidecar.gateway.failovers.circuits.state(CircuitKey("sim", model))
    return state.streak if isinstance(state, Closed) else 0


async def gone(sidecar: Sidecar) -> Receipt:
    """The one receipt: of a client that left."""
    receipt = await sidecar.receipt()
    assert receipt.execution.status is Status.CLIENT_DISCONNECT
    return receipt


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_a_client_that_leaves_before_the_second_try_ends_the_call_there(
    tmp_path: Path, simulator: Simulator, dialect: str, *, stream: bool
) -> None:
    async with patient(tmp_path, simulator) as sidecar:
        asked = question(dialect, "sim-500", stream=stream)
        await leave(sidecar, asked, lambda: failures(sidecar, "sim-500") == 1)
        receipt = await gone(sidecar)
        assert failures(sidecar, "sim-500") == 1  # of the one try: leaving is no failure
        assert not sidecar.gateway.endings.relays
    (only,) = receipt.attempts
    assert (only.failure_class, only.delivery) == (FailureClass.SERVER_ERROR, Delivery.DONE)
    assert receipt.execution.charged_pico == 0
    assert len(simulator.requests) == 1


async def test_a_client_that_leaves_before_a_probes_second_try_gives_its_permit_back(
    tmp_path: Path, simulator: Simulator
) -> None:
    """A 429 keeps a circuit half open, and its call waits for the time that it names."""
    async with patient(tmp_path, simulator) as sidecar:
        circuits = sidecar.gateway.failovers.circuits
        key = CircuitKey("sim", "sim-429-retry-30")
        half_open(sidecar, key)

        def waits() -> bool:
            state = circuits.state(key)
            return isinstance(state, HalfOpen) and not state.probing and state.cool_until > 0

        await leave(sidecar, question("openai.chat", key.model, stream=False), waits)
        receipt = await gone(sidecar)
        assert not any(view.probing for view in circuits.views(perf_counter()))
        later = perf_counter() + 31
        assert circuits.standing(key, later).ready
    assert [one.failure_class for one in receipt.attempts] == [FailureClass.RATE_LIMIT]
    assert len(simulator.requests) == 1


def half_open(sidecar: Sidecar, key: CircuitKey) -> None:
    """Open, with its wait over: the next call is the probe."""
    circuits = sidecar.gateway.failovers.circuits
    circuits.rules = circuits.rules.model_copy(update=AT_ONCE)
    permit = circuits.admit(key, perf_counter())
    permit.failed(FailureClass.SERVER_ERROR, perf_counter())
    assert not isinstance(circuits.state(key), Closed)


@pytest.mark.parametrize("dialect", SILENT_AFTER)
async def test_a_client_that_leaves_while_a_beginning_is_held_back_frees_the_provider(
    tmp_path: Path, simulator: Simulator, dialect: str
) -> None:
    model = f"sim-stall-{SILENT_AFTER[dialect]}"
    async with patient(tmp_path, simulator) as sidecar:
        key = CircuitKey("sim", model)
        half_open(sidecar, key)
        held = Held(sidecar)
        await leave(sidecar, question(dialect, model, stream=True), held.has_bytes)
        receipt = await gone(sidecar)
        async with asyncio.timeout(5):
            await simulator.quiet()
        circuits = sidecar.gateway.failovers.circuits
        assert isinstance(circuits.state(key), HalfOpen)
        assert circuits.standing(key, perf_counter()).ready, "its permit is not back"
        assert not sidecar.gateway.endings.relays
    (ended,) = simulator.ended()
    assert ended["outcome"] == "aborted_by_client"
    (only,) = receipt.attempts
    assert (only.failure_class, only.delivery) == (FailureClass.CLIENT_GONE, Delivery.RESPONDING)


class Held:
    """Looks at the one stream that is being held back."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._relays = sidecar.gateway.endings.relays

    def has_bytes(self) -> bool:
        return any(relay._early for relay in self._relays)
