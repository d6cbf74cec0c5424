"""The circuits' side of the control plane, and what a restart and a command change in it."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from modelspend.circuits import CircuitKey, Order, Permit, Refusal
from modelspend.failovers import Failover, Trail
from modelspend.receipt import FailureClass
from modelspend.server.keys import LIVE, STORE, Live
from modelspend.simulator import Simulator
from modelspend.store import Store
from tests.cli.conftest import receipt
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.server.test_control import ask, call

BAD = FailureClass.SERVER_ERROR


@pytest.fixture
async def sidecar(tmp_path: Path, simulator: Simulator) -> AsyncIterator[Sidecar]:
    """One that leaves alone what fails."""
    async with sidecar_for(tmp_path, simulator.url, circuits={}) as running:
        yield running


KEY = CircuitKey("sim", "sim-ok")


def live_of(sidecar: Sidecar) -> Live:
    return sidecar.app[LIVE]


def broken(live: Live, key: CircuitKey = KEY) -> None:
    for _ in range(5):
        permit = live.circuits.admit(key, time.perf_counter())
        assert isinstance(permit, Permit)
        permit.failed(BAD, time.perf_counter())


async def durable(sidecar: Sidecar) -> None:
    await sidecar.app[STORE].circuits.obeyed([])


async def items(sidecar: Sidecar, path: str) -> list[dict[str, Any]]:
    status, _, told = await ask(sidecar, path)
    assert status == 200, told
    return list(told["items"])


async def test_circuits_are_told_as_they_stand(sidecar: Sidecar) -> None:
    assert await items(sidecar, "/v1/circuits") == []
    live = live_of(sidecar)
    broken(live)
    live.circuits.trip("groq", None, time.perf_counter(), 60.0)
    hand, sim = await items(sidecar, "/v1/circuits")
    assert {name: sim[name] for name in ("provider", "model_id", "key_id", "state", "reason")} == {
        "provider": "sim",
        "model_id": "sim-ok",
        "key_id": None,
        "state": "open",
        "reason": "consecutive",
    }
    assert (sim["failure_class"], sim["manual"], sim["trips"]) == ("server_error", False, 1)
    assert sim["retry_at"] > sim["since"]
    assert (hand["model_id"], hand["manual"], hand["reason"]) == (None, True, "manual")
    (only,) = await items(sidecar, "/v1/circuits?provider=groq&state=open")
    assert only["manual"]
    assert [one["provider"] for one in await items(sidecar, "/v1/circuits?provider=sim")] == ["sim"]
    assert await items(sidecar, "/v1/circuits?state=closed") == []


async def test_an_opening_is_an_incident_and_its_end_resolves_it(sidecar: Sidecar) -> None:
    live = live_of(sidecar)
    broken(live)
    await durable(sidecar)
    (one,) = await items(sidecar, "/v1/incidents?status=open")
    assert (one["provider"], one["status"], one["failures"]) == ("sim", "open", 5)
    live.circuits.reset("sim", None, time.perf_counter())
    await durable(sidecar)
    assert await items(sidecar, "/v1/incidents?status=open") == []
    (one,) = await items(sidecar, "/v1/incidents?provider=sim&since=1h&limit=5")
    assert (one["status"], one["resolution"]) == ("resolved", "reset")
    kinds = [event.kind for event in await sidecar.app[STORE].events.after(0)]
    assert kinds == ["circuit.open", "circuit.recovered"]


async def test_a_failover_is_in_the_audit_of_its_tenant(sidecar: Sidecar) -> None:
    hop = Failover(
        from_provider="openai", to_provider="groq", model_id="gpt-4o", to_model_id="llama",
        reason="circuit_open", decided_at_ms=1_793_491_200_000, failure_class=BAD,
    )  # fmt: skip
    store = sidecar.app[STORE]
    for n, tenant in ((1, "acme"), (2, "beta")):
        await store.calls.finish(receipt(n, tenant=tenant), trail=Trail(failovers=(hop,)))
    (one,) = await items(sidecar, "/v1/sla/failover-audit?tenant=acme")
    assert (
        one.items()
        >= {
            "from_provider": "openai",
            "to_provider": "groq",
            "model_id": "gpt-4o",
            "failure_class": "server_error",
            "reason": "circuit_open",
            "decided_at": "2026-11-01T00:00:00.000Z",
            "tenant": "acme",
            "receipt_id": receipt(1).receipt_id,
        }.items()
    )
    both = await items(sidecar, "/v1/sla/failover-audit?after=0")
    assert [each["tenant"] for each in both] == ["acme", "beta"]
    assert await items(sidecar, f"/v1/sla/failover-audit?after={both[0]['seq']}&limit=1") == [
        both[1]
    ]
    assert await items(sidecar, "/v1/sla/failover-audit?provider=mistral") == []
    assert await items(sidecar, "/v1/sla/failover-audit?until=2026-10-31") == []


async def test_the_history_of_a_provider_has_its_windows(sidecar: Sidecar) -> None:
    for _ in range(3):
        await call(sidecar)
    await sidecar.stored()
    status, _, told = await ask(sidecar, "/v1/sla/provider-history?provider=sim&window_s=60")
    assert status == 200
    assert told["window_s"] == 60
    (one,) = told["items"]
    assert (one["provider"], one["calls"], one["failed"], one["availability"]) == ("sim", 3, 0, 1)
    assert set(one["latency_ms"]) == {"p50", "p95", "p99"}
    assert sum(window["calls"] for window in one["windows"]) == 3
    await sidecar.app[STORE].health.sample(live_of(sidecar).gateway.now_ms())
    assert (await ask(sidecar, "/v1/sla/provider-history?window_s=60"))[2]["items"] == [one]
    far = await ask(sidecar, "/v1/sla/provider-history?since=2000-01-01&window_s=1")
    assert far[2]["window_s"] > 60, "no more windows than can be read"
    assert (await ask(sidecar, "/v1/sla/provider-history?model=none"))[2]["items"] == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/circuits?tenant=x",
        "/v1/incidents?status=closed",
        "/v1/incidents?since=soon",
        "/v1/sla/failover-audit?after=-1",
        "/v1/sla/failover-audit?limit=many",
        "/v1/sla/provider-history?window_s=1h",
    ],
)
async def test_a_query_that_cannot_be_taken_is_refused_and_not_widened(
    sidecar: Sidecar, path: str
) -> None:
    status, kind, told = await ask(sidecar, path)
    assert (status, kind) == (400, "application/problem+json")
    assert told["hint"] or told["detail"]


async def test_a_sidecar_that_starts_goes_on_where_the_last_one_was(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(tmp_path, simulator.url, circuits={}) as first:
        broken(live_of(first))
        live_of(first).circuits.trip("groq", None, time.perf_counter(), None)
    async with sidecar_for(tmp_path, simulator.url, circuits={}) as second:
        circuits = live_of(second).circuits
        refusal = circuits.admit(KEY, time.perf_counter())
        assert isinstance(refusal, Refusal)
        assert 5 < refusal.retry_after_s < 15
        assert circuits.snapshot(time.perf_counter()).refuses("groq", "any")
        circuits.reset("sim", None, time.perf_counter())
    async with sidecar_for(tmp_path, simulator.url, circuits={}) as third:
        assert isinstance(live_of(third).circuits.admit(KEY, time.perf_counter()), Permit)
        (one,) = await items(third, "/v1/incidents?status=open")
        assert one["provider"] == "groq"


async def test_what_a_command_ordered_is_done_while_we_run_and_at_the_start(
    tmp_path: Path, simulator: Simulator
) -> None:
    def trip(provider: str) -> Order:
        return Order(act="trip", provider=provider, model=None, at_ms=0)

    async with sidecar_for(tmp_path, simulator.url, circuits={}) as sidecar:
        ledger = Path(sidecar.store.path)
        notes = await Store.open_notes(ledger)
        await notes.circuits.order(trip("sim"))
        await notes.close()
        circuits = live_of(sidecar).circuits
        async with asyncio.timeout(10):
            while not circuits.snapshot(time.perf_counter()).refuses(*KEY):
                await asyncio.sleep(0.05)
            while await sidecar.app[STORE].circuits.orders():
                await asyncio.sleep(0.05)
    notes = await Store.open_notes(ledger)
    await notes.circuits.order(trip("groq"))
    await notes.close()
    async with sidecar_for(tmp_path, simulator.url, circuits={}) as sidecar:
        assert live_of(sidecar).circuits.snapshot(time.perf_counter()).refuses("groq", "any")
        assert await sidecar.app[STORE].circuits.orders() == []


async def test_a_reload_changes_the_limits(tmp_path: Path, simulator: Simulator) -> None:
    async with sidecar_for(tmp_path, simulator.url, circuits={}) as sidecar:
        file = tmp_path / "config.toml"
        file.write_text(file.read_text().replace("[circuits]", "[circuits]\nconsecutive = 2"))
        status, _, _ = await ask(sidecar, "/v1/reload", method="POST")
        assert status == 200
        live = live_of(sidecar)
        for _ in range(2):
            permit = live.circuits.admit(KEY, time.perf_counter())
            assert isinstance(permit, Permit)
            permit.failed(BAD, time.perf_counter())
        assert isinstance(live.circuits.admit(KEY, time.perf_counter()), Refusal)
