"""Circuits in the ledger: moves, incidents, orders, and what `kill -9` leaves of them."""

import random
import subprocess
import sys
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from modelspend.breaker import Moved, Open, Phase
from modelspend.circuits import ANY, CircuitKey, Circuits, Order, Saved, Transition, restored
from modelspend.failovers import Failover, Touched, Trail
from modelspend.ids import incident_id
from modelspend.incidents import Incident
from modelspend.receipt import FailureClass
from modelspend.sections import Circuits as Rules
from modelspend.store import Store
from tests.store.conftest import outside
from tests.store.synthetic import START_MS, Traffic

BAD = FailureClass.SERVER_ERROR
GPT = CircuitKey("openai", "gpt-4.1")
OPENED = Moved(Phase.CLOSED, Phase.OPEN, "consecutive", BAD, 15.0, 1, 9, 5)
HALF = Moved(Phase.OPEN, Phase.HALF_OPEN, "wait_over", BAD, trips=1)
AGAIN = Moved(Phase.HALF_OPEN, Phase.OPEN, "probe_failed", BAD, 30.0, 2, 1, 1)
CLOSED = Moved(Phase.HALF_OPEN, Phase.CLOSED, "probe_succeeded", trips=2)


def moved(moved: Moved, circuit: CircuitKey = GPT) -> Transition:
    return Transition(circuit=circuit, moved=moved)


async def durable(store: Store) -> None:
    """What was put before is written."""
    await store.circuits.obeyed([])


async def test_a_circuit_is_kept_as_it_stood_last(store: Store) -> None:
    for n, one in enumerate((OPENED, HALF, AGAIN)):
        store.circuits.moved(moved(one), START_MS + n * 1000)
    store.circuits.moved(moved(CLOSED, GPT._replace(key="k")), START_MS)
    await durable(store)
    closed, opened = await store.circuits.saved()
    assert opened == Saved(
        circuit=GPT,
        phase=Phase.OPEN,
        why="probe_failed",
        changed_at_ms=START_MS + 2000,
        retry_at_ms=START_MS + 32_000,
        failure=BAD,
        trips=2,
    )
    assert (closed.phase, closed.retry_at_ms, closed.circuit.key) == (Phase.CLOSED, None, "k")


async def test_each_move_is_an_event_and_they_are_its_history(
    store: Store, traffic: Traffic
) -> None:
    for n, one in enumerate((OPENED, HALF, AGAIN, HALF, CLOSED)):
        store.circuits.moved(moved(one), START_MS + n * 1000)
        await store.calls.finish(traffic.receipt())
    store.circuits.moved(moved(OPENED, CircuitKey("groq", "llama")), START_MS)
    await durable(store)
    events = await store.circuits.history(provider="openai")
    assert [event.kind for event in events] == [
        "circuit.recovered",
        "circuit.half_open",
        "circuit.open",
        "circuit.half_open",
        "circuit.open",
    ]
    named = incident_id(START_MS, events[-1].seq)
    assert events[-1].level == "warn"
    assert dict(events[-1].data) == {
        "provider": "openai",
        "model_id": "gpt-4.1",
        "key_id": "",
        "from": "closed",
        "reason": "consecutive",
        "failure_class": "server_error",
        "trips": 1,
        "incident_id": named,
        "wait_s": 15.0,
        "calls": 9,
        "failures": 5,
    }
    assert events[0].data["open_s"] == 4.0
    assert events[0].data["incident_id"] == named
    assert (await store.circuits.history(limit=1))[0].data["provider"] == "groq"
    assert len(await store.circuits.history(since_ms=START_MS + 3000)) == 2
    assert len(await store.circuits.history(until_ms=START_MS + 3000)) == 4
    assert await store.meta.check() == []


async def test_an_incident_lasts_from_the_first_opening_to_the_recovery(store: Store) -> None:
    for n, one in enumerate((OPENED, HALF, AGAIN, HALF, CLOSED, OPENED)):
        store.circuits.moved(moved(one), START_MS + n * 1000)
    await durable(store)
    second, first = await store.incidents.list()
    assert first == Incident(
        incident_id=first.incident_id,
        circuit=GPT,
        opened_at_ms=START_MS,
        resolved_at_ms=START_MS + 4000,
        reason="consecutive",
        failure_class=BAD,
        resolution="probe_succeeded",
        opens=2,
        failures=5,
        calls_affected=0,
        unpriced=0,
        extra_cost_pico=0,
    )
    assert (second.opened_at_ms, second.resolved_at_ms) == (START_MS + 5000, None)
    assert [one.incident_id for one in await store.incidents.list(unresolved=True)] == [
        second.incident_id
    ]
    assert await store.incidents.list(until_ms=START_MS + 5000) == [first]
    assert await store.incidents.list(since_ms=START_MS + 4001) == [second]
    assert len(await store.incidents.list(since_ms=START_MS + 4000)) == 2
    assert await store.incidents.list(provider="groq") == []


async def test_a_clock_that_goes_back_makes_no_incident_of_negative_length(store: Store) -> None:
    store.circuits.moved(moved(OPENED), START_MS)
    store.circuits.moved(moved(CLOSED), START_MS - 5000)
    await durable(store)
    (only,) = await store.incidents.list()
    assert only.resolved_at_ms == START_MS
    assert only.to_json(START_MS)["duration_s"] == 0


async def test_calls_are_counted_in_the_incident_that_they_met_with(
    store: Store, traffic: Traffic
) -> None:
    def at(ms: int):  # type: ignore[no-untyped-def]
        return replace(traffic.receipt(), created_at_ms=START_MS + ms)

    def met(extra: int | None = 0, circuit: CircuitKey = GPT) -> Trail:
        return Trail(touched=(Touched(circuit=circuit, extra_cost_pico=extra),))

    await store.calls.finish(at(0), trail=met())  # before it: counts nowhere
    store.circuits.moved(moved(OPENED), START_MS + 1000)
    await store.calls.finish(at(500), trail=met(7))
    await store.calls.finish(at(1500), trail=met(-2))
    await store.calls.finish(at(1500), trail=met(None))
    await store.calls.finish(at(1500), trail=met(90, GPT._replace(key="other")))
    store.circuits.moved(moved(CLOSED), START_MS + 2000)
    await store.calls.finish(at(1900), trail=met(10))  # it ends after the recovery
    await store.calls.finish(at(2001), trail=met(50))  # it began after the recovery
    (only,) = await store.incidents.list()
    assert (only.calls_affected, only.unpriced, only.extra_cost_pico) == (4, 1, 15)
    shape = only.to_json(START_MS)
    assert (f"{shape['extra_cost_usd']:f}", shape["unpriced"]) == ("0.000000000015", 1)
    assert (shape["status"], shape["duration_s"], shape["key_id"]) == ("resolved", 1.0, None)


def test_an_extra_cost_of_which_nothing_is_known_is_null_and_not_zero() -> None:
    one = Incident(
        incident_id="inc_1", circuit=CircuitKey("openai", ANY, ANY), opened_at_ms=0,
        resolved_at_ms=None, reason="manual", failure_class=None, resolution=None, opens=1,
        failures=0, calls_affected=2, unpriced=2, extra_cost_pico=0,
    )  # fmt: skip
    shape = one.to_json(2500)
    assert shape["extra_cost_usd"] is None
    assert (shape["model_id"], shape["status"], shape["duration_s"]) == (None, "open", 2.5)
    assert replace(one, calls_affected=0, unpriced=0).to_json(0)["extra_cost_usd"] == 0


HOP = Failover(
    from_provider="openai",
    to_provider="groq",
    model_id="gpt-4o",
    to_model_id="llama-3.3-70b",
    reason="circuit_open",
    decided_at_ms=START_MS,
    failure_class=BAD,
    perhaps_twice=True,
)


async def test_a_hop_is_a_row_and_an_event_in_its_receipts_transaction(
    store: Store, traffic: Traffic
) -> None:
    first, second = traffic.receipt(), replace(traffic.receipt(), tenant="beta")
    later = replace(HOP, to_provider="mistral", decided_at_ms=START_MS + 5, failure_class=None)
    await store.calls.finish(first, trail=Trail(failovers=(HOP, later)))
    seq = await store.calls.finish(second, trail=Trail(failovers=(HOP,)))
    await store.calls.finish(second, trail=Trail(failovers=(HOP,)))  # a doubt: written once
    rows = await store.failovers.list()
    assert [(row.receipt_id, row.n, row.failover) for row in rows] == [
        (second.receipt_id, 1, HOP),
        (first.receipt_id, 2, later),
        (first.receipt_id, 1, HOP),
    ]
    assert rows[0].to_json() == {
        "from_provider": "openai",
        "to_provider": "groq",
        "model_id": "gpt-4o",
        "to_model_id": "llama-3.3-70b",
        "failure_class": "server_error",
        "reason": "circuit_open",
        "perhaps_twice": True,
        "decided_at": "2026-09-21T14:13:20.000Z",
        "tenant": "beta",
        "receipt_id": second.receipt_id,
        "seq": seq,
    }
    events = [one for one in await store.events.after(0) if one.kind == "failover"]
    assert [(one.tenant, one.receipt_id) for one in events] == [
        (first.tenant, first.receipt_id),
        (first.tenant, first.receipt_id),
        ("beta", second.receipt_id),
    ]
    assert events[0].data["to_provider"] == "groq"
    listed = store.failovers.list
    assert [row.tenant for row in await listed(tenant="beta")] == ["beta"]
    assert len(await listed(provider="mistral")) == 1
    assert len(await listed(provider="openai")) == 3
    assert len(await listed(since_ms=START_MS + 5)) == 1
    assert len(await listed(until_ms=START_MS + 5)) == 2
    assert [row.receipt_id for row in await listed(after=seq - 1)] == [second.receipt_id]
    assert [row.n for row in await listed(after=0, limit=2)] == [1, 2]
    assert await store.meta.check() == []


async def test_a_move_whose_commit_was_in_doubt_is_written_once(store: Store) -> None:
    from modelspend.store.circuits import _move
    from modelspend.store.writer import needed

    store.circuits.moved(moved(OPENED), START_MS)
    store.circuits.moved(moved(HALF), START_MS + 1)
    await durable(store)
    boot = store.circuits._boot_id
    for n, one in ((1, OPENED), (2, HALF)):
        await needed(store._writer).do(
            lambda book, n=n, one=one: _move(book, moved(one), START_MS, boot, n)  # type: ignore[misc]
        )
    assert len(await store.circuits.history()) == 2
    assert (await store.circuits.saved())[0].phase is Phase.HALF_OPEN


async def test_a_row_that_makes_no_sense_is_left_out(store: Store, ledger: Path) -> None:
    for key in ("a", "b", "c"):
        store.circuits.moved(moved(OPENED, CircuitKey("openai", key)), START_MS)
    await durable(store)
    with outside(ledger) as conn:
        table = "v3_provider_circuit_breakers"
        conn.execute(f"UPDATE {table} SET state = 'ajar' WHERE model_id = 'a'")
        conn.execute(f"UPDATE {table} SET reason = 'whim' WHERE model_id = 'b'")
        conn.execute(f"UPDATE {table} SET failure_class = 'later' WHERE model_id = 'c'")
    (only,) = await store.circuits.saved()
    assert (only.circuit.model, only.failure) == ("c", None)


async def test_an_order_reaches_the_daemon_from_beside_it(store: Store, ledger: Path) -> None:
    notes = await Store.open_notes(ledger)
    trip = Order(
        act="trip", provider="openai", model=None, at_ms=START_MS, until_ms=START_MS + 9000
    )
    reset = Order(act="reset", provider="openai", model="gpt-4.1", at_ms=START_MS)
    first = await notes.circuits.order(trip)
    await notes.circuits.order(reset)
    again = await notes.circuits.order(replace(trip, until_ms=None))
    await notes.close()
    assert again > first
    orders = await store.circuits.orders()
    assert orders == [
        replace(reset, order_id=first + 1),
        replace(trip, order_id=again, until_ms=None),
    ]
    circuits = Circuits(Rules())
    for order in orders:
        circuits.obey(order, 0.0, START_MS)
    assert circuits.snapshot(0.0).refuses(*GPT)
    await store.circuits.obeyed([order.order_id for order in orders])
    assert await store.circuits.orders() == []
    assert await store.circuits.order(reset) > again, "a number is never given twice"


# kill -9.


def live_and_die(
    ledger: Path, seed: int, stop_at: str | None = None, lines: int = 1
) -> list[list[str]]:
    """One life of the child; the promises that it made before it was killed."""
    command = [sys.executable, "-m", "tests.store.circuits_child", str(ledger), str(seed)]
    with subprocess.Popen(
        [*command, *([stop_at] if stop_at else [])],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as child:
        assert child.stdout is not None
        heard = []
        for line in child.stdout:
            heard.append(line)
            if len(heard) >= lines:
                break
        child.kill()
        heard += child.stdout.readlines()
    return [line.split() for line in heard if line.endswith("\n")]


async def after_the_kill(ledger: Path) -> list[Saved]:
    store = await Store.open(ledger)
    try:
        assert await store.meta.check() == []
        return await store.circuits.saved()
    finally:
        await store.close()


KINDS = {
    "open": "circuit.open",
    "half_open": "circuit.half_open",
    "closed": "circuit.recovered",
}
PHASES = {
    "open": Phase.OPEN,
    "half_open": Phase.HALF_OPEN,
    "closed": Phase.CLOSED,
    "tripped": Phase.OPEN,
}


async def _killed_in(stop_at: str, ledger: Path, seed: int) -> None:
    (promise,) = live_and_die(ledger, seed, stop_at)
    _, name, phase, retry_at, wall, _ = promise
    rows = {row.circuit: row for row in await after_the_kill(ledger)}
    key = CircuitKey(name, ANY, ANY) if stop_at == "tripped" else CircuitKey(name, "m")
    row, wall_ms = rows[key], int(wall)
    assert row.phase is PHASES[stop_at] is Phase(phase)
    state = restored(row, 1000.0, wall_ms + 7000, Rules(wait_s=60, wait_max_s=240))
    if stop_at == "open":
        left = (int(retry_at) - wall_ms) / 1000 - 7
        assert isinstance(state, Open)
        assert abs(state.until - 1000.0 - left) < 0.01
    elif stop_at == "half_open":
        assert isinstance(state, Open)
        assert state.until == 1000.0
    elif stop_at == "tripped":
        assert isinstance(state, Open)
        assert (state.manual, state.until) == (True, inf)
    else:
        assert state is not None
        assert (state.phase, state.trips) == (Phase.CLOSED, 1)


@pytest.mark.parametrize("stop_at", PHASES)
async def test_a_kill_in_each_state_leaves_that_state(stop_at: str, ledger: Path) -> None:
    await _killed_in(stop_at, ledger, 1)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stop_at", PHASES)
async def test_a_kill_in_each_state_fifty_times(stop_at: str, tmp_path: Path) -> None:
    for seed in range(50):
        await _killed_in(stop_at, tmp_path / str(seed) / "ledger.db", seed)
    print(f"\n50 kills while {stop_at}: 50 states taken up again")


async def _killed_anywhere(ledger: Path, rounds: int, first_seed: int = 0) -> None:
    """No move that was promised is lost, and none that nobody made is there."""
    before = 0
    for seed in range(first_seed, first_seed + rounds):
        lines = random.Random(seed).randint(1, 60)
        promises = live_and_die(ledger, seed, lines=lines)
        rows = {row.circuit.provider: row for row in await after_the_kill(ledger)}
        with outside(ledger) as conn:
            told = conn.execute(
                "SELECT json_extract(data, '$.provider'), kind, created_at FROM events"
                " WHERE kind LIKE 'circuit.%'"
            ).fetchall()
            (unresolved,) = conn.execute(
                "SELECT count(*) FROM incidents WHERE resolved_at IS NULL"
            ).fetchone()
        assert len(told) - before >= int(promises[-1][5]), "a promised move is lost"
        before = len(told)
        for _, name, phase, _, wall, _ in promises:
            assert (name, KINDS[phase], int(wall)) in told
            assert rows[name].changed_at_ms >= int(wall)
        assert unresolved == sum(row.phase is not Phase.CLOSED for row in rows.values())


async def test_a_kill_at_any_instant_loses_no_promised_move(ledger: Path) -> None:
    await _killed_anywhere(ledger, 4)


@pytest.mark.full
@pytest.mark.timeout(900)
async def test_fifty_kills_at_any_instant_lose_no_promised_move(ledger: Path) -> None:
    await _killed_anywhere(ledger, 50, first_seed=100)
