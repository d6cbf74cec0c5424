"""Later attempts of a call: durable and paid for before their first byte, or not made at all."""

import sqlite3
from pathlib import Path
from time import perf_counter
from typing import Any

import orjson
import pytest

from modelspend import tasks
from modelspend.breaker import Closed, HalfOpen
from modelspend.circuits import CircuitKey
from modelspend.errors import LedgerUnavailable
from modelspend.money import usd_text
from modelspend.receipt import FailureClass, Status
from modelspend.simulator import Simulator
from tests.fakes.gate import gate
from tests.fakes.sidecar import ALL_DIALECTS, CUT, PRICE, Sidecar, sidecar_for
from tests.gateway.asking import question
from tests.gateway.test_budgets import IN, OUT, capped, short, usage
from tests.gateway.test_failover import tiers
from tests.gateway.test_leaving import EASILY, SILENT_AFTER, open_circuit


def beside(url: str, **more: Any) -> dict[str, Any]:
    return {"base_url": f"{url}/v1", "dialects": ALL_DIALECTS, "price": PRICE, **more}


def attempts_of_open_calls(sidecar: Sidecar) -> list[tuple[Any, ...]]:
    """What another process finds in the ledger now."""
    ledger = sqlite3.connect(f"file:{sidecar.store.path}?mode=ro", uri=True)
    try:
        return ledger.execute("SELECT n, provider FROM intent_attempts ORDER BY n").fetchall()
    finally:
        ledger.close()


async def test_a_later_attempt_is_durable_before_its_first_byte(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with (
        gate() as other,
        sidecar_for(
            tmp_path,
            simulator.url,
            providers={"other": beside(other.url)},
            profiles={"p": tiers("sim/sim-500", "other/m")},
            retries={"backoff_s": 0.001},
            circuits={},
        ) as sidecar,
    ):
        other.shut()
        path, body = question("openai.chat", "m", stream=False)
        asking = tasks.spawn(sidecar.post(path, body | {"model": "auto:p"}), "a call")
        await other.until(lambda: other.inside == 1)
        assert attempts_of_open_calls(sidecar) == [(2, "other")]
        other.let_out(500)  # so it is asked again, and that is another attempt
        await other.until(lambda: other.asked == 2)
        assert attempts_of_open_calls(sidecar) == [(2, "other"), (3, "other")]
        await asking
        assert attempts_of_open_calls(sidecar) == []


async def test_a_call_that_the_circuit_of_its_provider_refuses_goes_to_the_next(
    tmp_path: Path, simulator: Simulator
) -> None:
    """It goes as it was asked: the plan names its provider, and the circuit stands before it."""
    async with (
        gate() as first,
        sidecar_for(
            tmp_path,
            simulator.url,
            providers={
                "first": beside(first.url, models=["sim-echo"]),
                "second": beside(simulator.url, models=["vendor/sim-echo"]),
            },
            retries={},
            circuits={"consecutive": 1},
        ) as sidecar,
    ):
        first.let_out(500)
        path, body = question("openai.chat", "m", stream=False)
        answers = [await sidecar.post(path, body | {"model": "sim-echo"}) for _ in range(2)]
        receipts = await sidecar.receipts()
        latest, earliest = [one.failover for one in await sidecar.store.failovers.list()]
        (incident,) = await sidecar.store.incidents.list()
    assert [status for status, *_ in answers] == [200, 200]
    assert [[one.provider for one in each.attempts] for each in receipts] == [
        ["first", "second"],
        ["second"],
    ]
    assert (earliest.reason, latest.reason) == ("attempt_failed", "circuit_open")
    assert {hop.failure_class for hop in (earliest, latest)} == {FailureClass.SERVER_ERROR}
    assert {hop.from_provider for hop in (earliest, latest)} == {"first"}
    assert (first.asked, incident.calls_affected) == (1, 2)


@pytest.mark.parametrize(
    ("holds", "asked", "strategy"),
    [(1.5, ["sim"], "single"), (2.5, ["sim", "other"], "fallback")],
)
async def test_an_attempt_whose_hold_has_no_room_is_not_made_and_the_trail_tells_what_was(
    tmp_path: Path, simulator: Simulator, holds: float, asked: list[str], strategy: str
) -> None:
    """Each attempt may have been billed, so it goes on holding. There is room for the first one
    alone, or for the hop too and not for a repetition after it."""
    path, body = short("openai.chat")
    hold = (len(orjson.dumps(body)) + 512) * IN * 5 // 4 + 100 * OUT
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers={"other": beside(simulator.url)},
        profiles={"p": tiers("sim/sim-hangup", "other/sim-lost")},
        budgets={"all": capped(usd_text(round(hold * holds)))},
        retries={"backoff_s": 0.001},
        circuits={},
    ) as sidecar:
        status, headers, _ = await sidecar.post(path, body | {"model": "auto:p"})
        receipt = await sidecar.receipt_of(headers)
        hops = [each.failover.to_provider for each in await sidecar.store.failovers.list()]
        circuits = sidecar.gateway.failovers.circuits
        streaks = [circuits.state(CircuitKey(*at)).streak for at in KEYS]
        spent, held = await usage(sidecar)
    assert status == 502
    assert [one.provider for one in receipt.attempts] == asked
    assert hops == asked[1:]
    assert streaks == [1, len(asked) - 1]
    assert (spent, held) == (receipt.execution.charged_pico, 0)
    assert len(asked) <= spent / hold < len(asked) + 0.5
    assert receipt.decision is not None
    assert receipt.decision.strategy == strategy


KEYS = (("sim", "sim-hangup"), ("other", "sim-lost"))


async def test_a_probe_that_the_ledger_refuses_gives_its_permit_back(
    tmp_path: Path, simulator: Simulator
) -> None:
    key = CircuitKey("sim", "sim-ok")
    async with sidecar_for(tmp_path, simulator.url, circuits=EASILY) as sidecar:
        circuits, calls = sidecar.gateway.failovers.circuits, sidecar.store.calls

        class Refusing:
            """The calls of a ledger whose disk is full."""

            open_count, finish, settle = calls.open_count, calls.finish, calls.settle

            async def begin(self, *_: object) -> None:
                raise LedgerUnavailable("The disk is full.", retry_after_s=1)

        open_circuit(sidecar, key)
        sidecar.store.calls = Refusing()
        status, *_ = await sidecar.post(*question("openai.chat", key.model, stream=False))
        assert status == 503
        assert isinstance(circuits.state(key), HalfOpen)
        assert circuits.standing(key, perf_counter()).ready, "its permit is not back"
        sidecar.store.calls = calls
        status, *_ = await sidecar.post(*question("openai.chat", key.model, stream=False))
        assert status == 200
        assert isinstance(circuits.state(key), Closed)
    assert len(simulator.requests) == 1


@pytest.mark.parametrize("dialect", SILENT_AFTER)
async def test_a_beginning_is_held_back_for_so_long_and_then_nobody_else_is_asked(
    tmp_path: Path, simulator: Simulator, dialect: str
) -> None:
    """What came before the first content is then the client's, and what fails is told to it."""
    model = f"sim-stall-{SILENT_AFTER[dialect]}"
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers={"other": beside(simulator.url)},
        profiles={"p": tiers(f"sim/{model}", "other/sim-echo")},
        retries={"hold_s": 0.05},
        circuits={},
        upstream={"idle_s": 0.4},
    ) as sidecar:
        path, body = question(dialect, "m", stream=True, text="pineapple")
        status, headers, said = await sidecar.post(path, body | {"model": "auto:p"})
        receipt = await sidecar.receipt_of(headers)
    assert status == 200
    assert said.endswith(CUT)
    assert b"pineapple" not in said
    (only,) = receipt.attempts
    assert only.failure_class is FailureClass.IDLE_TIMEOUT
    assert receipt.execution.status is Status.ERROR


@pytest.mark.parametrize("behaviour", ["cut-2", "bomb-32m", "stall-2"])
async def test_an_attempt_that_broke_off_is_let_go_of_before_the_next_one(
    tmp_path: Path, simulator: Simulator, behaviour: str
) -> None:
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers={"other": beside(simulator.url)},
        profiles={"p": tiers(f"sim/sim-{behaviour}", "other/sim-ok")},
        retries={},
        circuits={},
        upstream={"idle_s": 0.3},
    ) as sidecar:
        watched = sidecar.gateway.attempts.upstream._watch._watched
        path, body = question("openai.chat", "m", stream=False)
        status, *_ = await sidecar.post(path, body | {"model": "auto:p"})
        await sidecar.receipt()
        assert status == 200
        assert [type(each).__name__ for each in watched] == ["_Pool"]
