"""The alerts of a real ledger: what they count is what its receipts say, hour by hour."""

import asyncio
import json
import random
import shlex
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from modelspend.alert_rates import OFTEN, SELDOM, rates
from modelspend.alerts import HOUR_MS, HOURS, RULES
from modelspend.breaker import Moved, Phase
from modelspend.budgets import Budget
from modelspend.circuits import CircuitKey, Transition
from modelspend.cli import app
from modelspend.errors import Usage
from modelspend.failovers import Failover, Trail
from modelspend.receipt import FailureClass, Receipt, Status
from modelspend.reports import Asked, Report, alerts, glance, spend
from modelspend.sliding import ROUNDED_WITHIN, Sliding
from modelspend.store import DAY_MS, Filter, Store
from modelspend.windows import parse
from tests.store.synthetic import START_MS, Traffic

NOW = START_MS + 30 * DAY_MS + 4_321
USD = 10**12


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "ledger.db", durability="normal", boot_id="b")
    yield opened
    await opened.close()


def answered(seed: int, count: int) -> Iterator[Receipt]:
    """Receipts of calls that one provider answered, all alike but for what they cost."""
    for made in Traffic(seed).receipts(count * 2):
        last = made.attempts[-1]
        if last.status is Status.SUCCESS and last.cost.total_pico is not None:
            yield replace(made, attempts=(last,))


def at(made: Receipt, ms: int, provider: str = "openai", model: str = "gpt-4.1", took: int = 500,
       tenant: str = "acme", cost: int | None = 10**9, sure: float = 0.9) -> Receipt:  # fmt: skip
    last = replace(made.attempts[-1], provider=provider, model_id=model, latency_ms=float(took))
    run = replace(
        made.execution, actual_cost_pico=cost, charged_pico=cost or 0, actual_latency_ms=float(took)
    )
    sorted_into = made.classification and replace(made.classification, confidence=sure)
    return replace(
        made, created_at_ms=ms, tenant=tenant, attempts=(last,), execution=run,
        classification=sorted_into,
    )  # fmt: skip


async def write(store: Store, receipts: list[tuple[Receipt, Trail | None]]) -> None:
    await asyncio.gather(*(store.calls.finish(one, trail=trail) for one, trail in receipts))


def led_from(provider: str, ms: int) -> Trail:
    hop = Failover(
        from_provider=provider,
        to_provider="anthropic",
        model_id="gpt-4.1",
        to_model_id="claude",
        reason="attempt_failed",
        decided_at_ms=ms + 40,
        failure_class=FailureClass.SERVER_ERROR,
    )
    return Trail(failovers=(hop,))


async def found(store: Store, **more: Any) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Everything that is not well, by rule, scope and name."""
    report = await alerts(store, Asked(now_ms=NOW, limit=10_000, **more))
    return told(report)


def told(report: Report) -> dict[tuple[str, str, str], dict[str, Any]]:
    names = [column.name for column in report.main.columns]
    rows = [dict(zip(names, row.cells, strict=True)) | {"row": row} for row in report.main.rows]
    return {(row["rule"], row["scope"], row["name"]): row for row in rows if row["level"] != "ok"}


async def test_an_empty_ledger_is_well(store: Store) -> None:
    report = await alerts(store, Asked(now_ms=NOW))
    assert [row.cells[:2] for row in report.main.rows] == [("ok", rule) for rule in RULES]
    assert report.figures["level"] == "ok"


async def test_each_rule_counts_what_the_receipts_say(store: Store) -> None:
    rng, calls = random.Random(4), answered(4, 900)
    written: list[tuple[Receipt, Trail | None]] = []
    for _ in range(500):  # a week like any other
        ms = NOW - rng.randint(HOURS * HOUR_MS, 8 * DAY_MS)
        written.append((at(next(calls), ms, tenant=rng.choice(("acme", "other"))), None))
    hour = [NOW - rng.randrange(HOUR_MS) for _ in range(60)]
    for n, ms in enumerate(hour[:40]):  # an hour in which one provider fails and is slow
        if n % 2:
            written.append((at(next(calls), ms, provider="anthropic", model="claude"),
                            led_from("openai", ms)))  # fmt: skip
        else:
            written.append((at(next(calls), ms, took=4000, cost=USD), None))
    written += [
        (at(next(calls), ms, "lab", "tuned", tenant="other", cost=None), None) for ms in hour[40:]
    ]
    await write(store, written)
    await store.days.roll()
    bad = await found(store)

    fallback = bad["fallback_rate", "provider", "openai"]
    assert (fallback["value"], fallback["level"]) == (0.5, "critical")
    assert "20 of 40 calls" in fallback["message"]
    assert ("fallback_rate", "provider", "anthropic") not in bad
    assert bad["fallback_rate", "tenant", "acme"]["value"] == 0.5
    assert ("fallback_rate", "tenant", "other") not in bad
    assert bad["fallback_rate", "process", "all"]["value"] == 20 / 60

    assert bad["p95_drift", "model", "gpt-4.1"]["value"] == 8.0
    assert bad["p95_drift", "provider", "openai"]["level"] == "critical"
    assert ("p95_drift", "model", "claude") not in bad

    unpriced = bad["unpriced_share", "provider", "lab"]
    assert (unpriced["value"], unpriced["level"]) == (1.0, "critical")
    assert bad["unpriced_share", "process", "all"]["value"] == 20 / 60

    week = sum(r.execution.actual_cost_pico or 0 for r, _ in written[:500])
    pace = bad["velocity", "process", "all"]
    now = sum(r.execution.actual_cost_pico or 0 for r, _ in written[500:])
    assert pace["value"] == pytest.approx(now * 168 / week, rel=0.01)
    assert ("velocity", "tenant", "other") not in bad

    made = [one for one, _ in written[500:]]
    firsts = {
        "lab": min(hour[40:]),
        "all": min(hour),
    }
    for (_, _, name), row in bad.items():
        assert NOW - HOUR_MS < row["since"] <= NOW
        assert row["since"] in {one.created_at_ms for one in made}
        assert row["age_s"] == (NOW - row["since"]) // 1000
        if name in ("lab", "all"):
            assert row["since"] == firsts[name]
    assert {row["rule"] for row in bad.values()} == {
        "fallback_rate", "p95_drift", "unpriced_share", "velocity"
    }  # fmt: skip
    only = await found(store, wheres=(Filter(tenant="other"),))
    assert {key[0] for key in only} == {"unpriced_share"}


async def test_a_glance_sees_what_the_report_says(store: Store) -> None:
    """What a sidecar looks at out of sums that it keeps, beside every receipt and duration."""
    rng, calls, written = random.Random(31), answered(31, 2500), []
    for _ in range(1500):
        ms = NOW - rng.randint(HOURS * HOUR_MS, 8 * DAY_MS)
        written.append((at(next(calls), ms, took=rng.randint(100, 900)), None))
    for n in range(600):
        ms = NOW - rng.randrange(3 * HOUR_MS)
        slow, cost = rng.randint(100, 6000), rng.choice((None, 10**11))
        trail = led_from("openai", ms) if n % 3 == 0 else None
        provider = "anthropic" if trail else "openai"
        sure = rng.choice((0.3, 0.9))
        written.append((at(next(calls), ms, provider, took=slow, cost=cost, sure=sure), trail))
    await write(store, written)
    await store.days.roll()
    report = await found(store)
    limits, week = _limits(), await glance.week(store, NOW)
    last_hour, last_day = Sliding(HOUR_MS, timed=True), Sliding(HOURS * HOUR_MS)
    for window in (last_hour, last_day):
        await glance.moved(store, window, NOW)
    hour = glance.hour(last_hour, week)
    day = await glance.day(store, last_day, NOW, week, limits.sure_from)
    seen = [*rates(hour, limits, NOW, only=OFTEN), *rates(day, limits, NOW, only=SELDOM)]
    assert {(one.rule, one.scope, one.name) for one in seen} == set(report)
    assert {one.rule for one in seen} == OFTEN | SELDOM - {"cache_drop"}
    for one in seen:
        row = report[one.rule, one.scope, one.name]
        assert one.level == row["level"]
        if one.rule == "p95_drift":  # of rounded durations, as are those of the week
            assert one.value == pytest.approx(row["value"], rel=2 * ROUNDED_WITHIN)
        else:
            assert (one.value, one.said) == (row["value"], row["message"])


async def test_every_alert_leads_to_its_receipts(store: Store, tmp_path: Path) -> None:
    calls, written = answered(6, 100), []
    for n in range(60):
        ms = NOW - 1 - n * 20 * 60_000
        trail = led_from("openai", ms) if n < 3 else None
        cost = None if n < 30 else 10**9
        written.append((at(next(calls), ms, cost=cost, tenant=f"t{n % 2}"), trail))
    await write(store, written)
    bad = await found(store)
    unpriced = bad["unpriced_share", "tenant", "t1"]["row"].command
    _, *words = shlex.split(unpriced)
    store_path = str(tmp_path / "ledger.db")
    listed = json.loads(run(store_path, *words, "--json"))
    assert len(listed) == 15
    assert all(one["execution"]["actual_cost_usd"] is None for one in listed)
    assert all(one["tenant"] == "t1" for one in listed)
    quick = Asked(now_ms=NOW, limits=_limits(min_calls=1))
    led = told(await alerts(store, quick))["fallback_rate", "provider", "openai"]["row"]
    _, *words = shlex.split(led.command)
    hops = json.loads(run(store_path, *words, "--json"))
    assert {hop["receipt_id"] for hop in hops} == {one.receipt_id for one, t in written if t}


def _limits(**more: Any) -> Any:
    from modelspend.alert_sections import Alerts

    return Alerts(**more)


def run(path: str, *words: str) -> str:
    """What a command prints about that ledger, in a thread of its own event loop."""
    from concurrent.futures import ThreadPoolExecutor

    runner = CliRunner(env={"MODELSPEND_STORE__PATH": path})
    with ThreadPoolExecutor(1) as apart:
        done = apart.submit(runner.invoke, app, list(words)).result()
    assert done.exit_code == 0, done.stderr
    return done.stdout


async def test_a_call_counts_at_the_provider_that_should_have_had_it(store: Store) -> None:
    calls, written = answered(7, 200), []
    for n in range(60):
        ms = NOW - n * 1000
        if n < 20:  # openai's calls, led to anthropic
            trail, provider = led_from("openai", ms), "anthropic"
        elif n < 30:  # anthropic's, led to groq
            trail, provider = led_from("anthropic", ms), "groq"
        else:  # anthropic's own
            trail, provider = None, "anthropic"
        written.append((at(next(calls), ms, provider=provider), trail))
    await write(store, written)
    bad = await found(store)
    assert bad["fallback_rate", "provider", "openai"]["message"].startswith("20 of 20 calls")
    assert bad["fallback_rate", "provider", "anthropic"]["message"].startswith("10 of 40 calls")
    assert ("fallback_rate", "provider", "groq") not in bad


async def test_an_hour_and_a_day_reach_back_to_their_last_millisecond(store: Store) -> None:
    calls = answered(7, 20)
    hour, day = NOW - HOUR_MS + 1, NOW - HOURS * HOUR_MS + 1
    edges = [(hour, 1, "in"), (hour - 1, 1, "out"), (day, 2, "in"), (day - 1, 2, "out")]
    await write(
        store,
        [(at(next(calls), ms, tenant=f"{n}-{name}", cost=None), None) for ms, n, name in edges],
    )
    bad = await found(store)
    ages = {name: NOW - row["since"] for (rule, scope, name), row in bad.items()
            if (rule, scope) == ("unpriced_share", "tenant")}  # fmt: skip
    assert ages == {"1-in": HOUR_MS - 1, "1-out": HOUR_MS, "2-in": HOURS * HOUR_MS - 1}


async def test_an_hour_in_which_the_classifier_is_seldom_sure_is_told(store: Store) -> None:
    calls, written = answered(11, 200), []
    for n in range(40):
        made = at(next(calls), NOW - n * 1000, tenant="vague", sure=0.4 if n % 4 else 0.95)
        written.append((made, None))
    for n in range(40):
        written.append((at(next(calls), NOW - n * 1000, tenant="clear"), None))
        old = at(next(calls), NOW - HOUR_MS - n * 1000, tenant="clear", sure=0.1)
        written.append((old, None))
    await write(store, written)
    bad = await found(store)
    vague = bad["low_confidence", "tenant", "vague"]
    assert (vague["level"], vague["value"]) == ("critical", 0.75)
    assert vague["message"].startswith("30 of 40 calls (75%)")
    assert bad["low_confidence", "process", "all"]["value"] == 30 / 80
    assert ("low_confidence", "tenant", "clear") not in bad
    calm = told(await alerts(store, Asked(now_ms=NOW, limits=_limits(sure_from=0.4))))
    assert not [key for key in calm if key[0] == "low_confidence"]


async def test_what_a_drill_has_met_counts_nowhere(store: Store) -> None:
    """The same hour twice: as a drill made it, and as it would be without one."""
    for seed, drill in ((12, "down"), (13, None)):
        calls, written = answered(seed, 200), []
        for n in range(40):
            ms = NOW - n * 1000
            made = at(next(calls), ms, took=9_000, cost=None)
            last = replace(made.attempts[-1], drill=drill)
            written.append((replace(made, attempts=(last,)), led_from("openai", ms)))
        await write(store, written)
        bad = await found(store)
        assert bool(bad) is (drill is None), drill


async def test_a_circuit_that_a_drill_has_opened_wakes_nobody(store: Store) -> None:
    step = Moved(Phase.CLOSED, Phase.OPEN, "consecutive", None, 15.0, 1)
    circuit = CircuitKey("openai", "gpt-4.1")
    store.circuits.moved(Transition(circuit=circuit, moved=step), NOW - 5_000, "down")
    await store.calls.finish(at(next(answered(1, 2)), NOW))
    opened = (await found(store))["circuit_open", "model", "openai/gpt-4.1"]
    assert opened["level"] == "info"
    assert "A drill did it (down)." in opened["message"]


async def test_calls_that_were_never_sent_count_in_no_share(store: Store) -> None:
    calls = answered(8, 60)
    written = []
    for n in range(40):
        made = at(next(calls), NOW - n - 1, cost=0)
        status = Status.REFUSED if n % 2 else Status.CACHED
        written.append((replace(made, execution=replace(made.execution, status=status)), None))
    written.append((at(next(calls), NOW - 1, cost=None), None))
    await write(store, written)
    bad = await found(store)
    assert bad["unpriced_share", "process", "all"]["message"].startswith("1 of 1 calls")


# Budgets and circuits.


def budget(cap: float, scope: str = "tenant", name: str = "acme", **more: Any) -> Budget:
    return Budget(
        scope=scope,  # type: ignore[arg-type]
        name=name,
        window=parse("month"),
        cap_pico=round(cap * USD),
        **more,
    )


async def test_budgets_stand_in_alerts_and_in_spend_as_they_are(store: Store) -> None:
    calls = answered(9, 20)
    await write(store, [(at(next(calls), NOW - n, cost=USD), None) for n in range(1, 10)])
    await write(store, [(at(next(calls), NOW - 5, cost=USD, tenant="other"), None)])
    caps = (
        budget(10), budget(100, "process", "all"), budget(4, name="*"), budget(9, "workflow", "w")
    )  # fmt: skip
    bad = await found(store, budgets=caps)
    acme = bad["budget_burn", "tenant", "acme"]
    assert acme["value"] == 0.9
    assert "$9 of its hard cap of $10 per month are spent (90%)" in acme["message"]
    assert acme["row"].receipts["tenant"] == "acme"
    assert ("budget_burn", "process", "all") not in bad

    report = await spend(store, Asked(now_ms=NOW, budgets=caps))
    (table,) = report.beside
    names = [column.name for column in table.columns]
    rows = [dict(zip(names, row.cells, strict=True)) for row in table.rows]
    assert [(row["scope"], row["name"], row["spent_usd"], row["used"]) for row in rows] == [
        ("tenant", "acme", 9 * USD, 0.9),
        ("process", "all", 10 * USD, 0.1),
        ("workflow", "w", 0, 0.0),
    ]
    assert rows[0]["exhausted_at"] is not None
    one = await spend(store, Asked(now_ms=NOW, budgets=caps, wheres=(Filter(tenant="other"),)))
    assert one.beside[0].rows == ()

    await store.budgets.open([budget(4, name="other"), budget(10)], NOW)  # both are counted now
    under = await spend(store, Asked(now_ms=NOW, budgets=caps))
    assert [row.cells[1::2][:3] for row in under.beside[0].rows] == [
        ("acme", 10 * USD, 0.9),
        ("other", 4 * USD, 0.25),
        ("all", 100 * USD, 0.1),
        ("w", 9 * USD, 0.0),
    ]


async def test_a_cap_that_was_set_in_the_ledger_wins(store: Store) -> None:
    calls = answered(9, 20)
    await write(store, [(at(next(calls), NOW - n, cost=USD), None) for n in range(1, 10)])
    await store.budgets.set_override(budget(1000), NOW)
    assert not await found(store, budgets=(budget(10),))
    await store.budgets.open([budget(9)], NOW)
    opened = told(await alerts(store, Asked(now_ms=NOW, budgets=(budget(9),))))
    assert not opened
    await store.budgets.clear_override("tenant", "acme", None)
    assert (await found(store, budgets=(budget(9),)))["budget_burn", "tenant", "acme"]["level"] == (
        "critical"
    )


async def moved(store: Store, old: Phase, new: Phase, at_ms: int, model: str = "gpt-4.1") -> None:
    step = Moved(old, new, "consecutive" if new is Phase.OPEN else "recovered", None, 15.0, 1)
    store.circuits.moved(Transition(circuit=CircuitKey("openai", model), moved=step), at_ms)
    await store.calls.finish(at(next(answered(1, 2)), at_ms))  # behind it in the writer's line


async def test_a_circuit_is_told_while_it_is_open_and_a_day_after(store: Store) -> None:
    await moved(store, Phase.CLOSED, Phase.OPEN, NOW - 5_000)
    key = ("circuit_open", "model", "openai/gpt-4.1")
    bad = await found(store)
    assert (bad[key]["level"], bad[key]["age_s"]) == ("warn", 5)
    assert not [k for k in await found(store, wheres=(Filter(provider="groq"),)) if k[0] == key[0]]
    strict = told(await alerts(store, Asked(now_ms=NOW, limits=_limits(circuit_critical_s=5))))
    assert strict[key]["level"] == "critical"
    await store.calls.finish(replace(next(answered(2, 2)), created_at_ms=NOW))
    await moved(store, Phase.HALF_OPEN, Phase.CLOSED, NOW - 1_000)
    bad = await found(store)
    assert key not in bad
    over = bad["incident", "model", "openai/gpt-4.1"]
    assert (over["level"], over["age_s"]) == ("info", 5)


async def test_a_provider_that_is_open_as_a_whole_concerns_each_of_its_models(store: Store) -> None:
    await moved(store, Phase.CLOSED, Phase.OPEN, NOW - 5_000, model="*")
    for where, told_of in (
        (Filter(model="gpt-4.1"), True),
        (Filter(provider="openai", model="gpt-5"), True),
        (Filter(provider="groq", model="gpt-5"), False),
    ):
        bad = await found(store, wheres=(where,))
        assert (("circuit_open", "provider", "openai") in bad) is told_of


# The command.


async def test_alerts_take_no_time_and_no_rows_of_another_kind(store: Store) -> None:
    for asked in (
        Asked(now_ms=NOW, by="tenant"),
        Asked(now_ms=NOW, wheres=(Filter(since_ms=5),)),
        Asked(now_ms=NOW, wheres=(Filter(tag="a=b"),)),
        Asked(now_ms=NOW, wheres=(Filter(), Filter())),
    ):
        with pytest.raises(Usage):
            await alerts(store, asked)


def test_the_command_fails_at_the_level_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    path = tmp_path / "ledger.db"
    monkeypatch.setenv("MODELSPEND_STORE__PATH", str(path))
    monkeypatch.setenv("HOME", str(tmp_path))
    now = time.time_ns() // 1_000_000

    async def fill() -> None:
        opened = await Store.open(path, durability="normal")
        calls = answered(5, 60)
        await write(opened, [(at(next(calls), now - n, cost=None), None) for n in range(30)])
        await opened.close()

    asyncio.run(fill())
    runner = CliRunner()
    assert runner.invoke(app, ["alerts"]).exit_code == 0
    done = runner.invoke(app, ["alerts", "--json", "--fail-at", "critical"])
    assert done.exit_code == 6
    report = json.loads(done.stdout, parse_float=Decimal)
    assert report["level"] == "critical"
    assert report["rows"][0]["rule"] == "unpriced_share"
    assert report["rows"][0]["receipts_command"].startswith("modelspend receipts list --unpriced")
    assert {row["rule"] for row in report["rows"]} == set(RULES)
    monkeypatch.setenv("MODELSPEND_ALERTS__UNPRICED_SHARE", "[1.5, 2]")
    assert runner.invoke(app, ["alerts", "--fail-at", "warn"]).exit_code == 0
    assert runner.invoke(app, ["alerts", "--fail-at", "info"]).exit_code == 6
