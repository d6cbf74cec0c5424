"""Caps in the ledger: all or none, at every instant, whatever ends a call."""

import asyncio
import random
import sqlite3
from collections import Counter
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from modelspend import budgets, windows
from modelspend.budgets import Budget, Hold
from modelspend.errors import BudgetExceeded
from modelspend.events import Event
from modelspend.receipt import Receipt, Status
from modelspend.store import Firing, Stop, Store
from modelspend.store.holds import event_of
from tests.store.conftest import outside
from tests.store.synthetic import START_MS, Traffic, intent_of

NOW = START_MS
CENT = 10**10


def budget(
    cap: int | None, scope: budgets.Scope = "tenant", name: str = "acme", window: str = "month"
) -> Budget:
    return Budget(scope=scope, name=name, window=windows.parse(window), cap_pico=cap)


def hold(of: Budget, amount: int, at: int = NOW) -> Hold:
    return Hold(budget=of, slot=windows.slot(of.window, at), amount_pico=amount)


def call(traffic: Traffic, charged: int = 0, at: int = NOW, **more: object) -> Receipt:
    """A receipt that charges so much."""
    receipt = traffic.receipt()
    run = replace(receipt.execution, charged_pico=charged)
    return replace(receipt, created_at_ms=at, tenant="acme", execution=run, **more)  # type: ignore[arg-type]


async def where(store: Store, of: Budget, at: int = NOW) -> tuple[int, int]:
    (usage,) = await store.budgets.usage([of], at)
    return usage.spent_pico, usage.held_pico


async def begun(store: Store, receipt: Receipt, *held: Hold) -> None:
    most = max((each.amount_pico for each in held), default=0)
    await store.budgets.open([each.budget for each in held], NOW)
    await store.calls.begin(replace(intent_of(receipt), hold_pico=most), held)


@pytest.fixture
def traffic() -> Traffic:
    return Traffic(seed=5)


async def test_a_hold_counts_until_the_receipt_puts_the_charge_in_its_place(
    store: Store, traffic: Traffic
) -> None:
    cap, receipt = budget(100), call(traffic, 40)
    await begun(store, receipt, hold(cap, 70))
    assert await where(store, cap) == (0, 70)
    await store.calls.finish(receipt, charges=[hold(cap, 40)])
    assert await where(store, cap) == (40, 0)
    await store.calls.finish(receipt, charges=[hold(cap, 40)])  # of unknown outcome: once more
    assert await where(store, cap) == (40, 0)


async def test_a_call_holds_of_all_its_budgets_or_of_none(store: Store, traffic: Traffic) -> None:
    wide, narrow = budget(1000), budget(100, "session", "s1", "24h")
    await begun(store, call(traffic), hold(wide, 60), hold(narrow, 60))
    with pytest.raises(BudgetExceeded) as refused:
        await begun(store, call(traffic), hold(wide, 60), hold(narrow, 60))
    assert refused.value.budget == narrow
    assert await where(store, wide) == (0, 60)
    assert await where(store, narrow) == (0, 60)
    assert await store.calls.open_count() == 1


async def test_exactly_the_cap_fits_and_one_pico_dollar_more_does_not(
    store: Store, traffic: Traffic
) -> None:
    cap = budget(100)
    await begun(store, call(traffic), hold(cap, 99))
    with pytest.raises(BudgetExceeded, match=r"holds \$0.000000000099 of its monthly cap"):
        await begun(store, call(traffic), hold(cap, 2))
    await begun(store, call(traffic), hold(cap, 1))
    await begun(store, call(traffic), hold(cap, 0))
    assert await where(store, cap) == (0, 100)


async def test_a_cap_of_nothing_blocks_even_what_is_free_and_no_cap_blocks_nothing(
    store: Store, traffic: Traffic
) -> None:
    with pytest.raises(BudgetExceeded, match=r"Tenant acme is blocked: its cap is \$0"):
        await begun(store, call(traffic), hold(budget(0), 0))
    await begun(store, call(traffic), hold(budget(None), 4 * 10**18))


@pytest.mark.parametrize("window", ["month", "7d", "total"])
async def test_the_greatest_sums_neither_overflow_nor_round(
    store: Store, traffic: Traffic, window: str
) -> None:
    """Four million dollars are 4·10^18: three of them are more than 64 bits hold."""
    most, open_ = budget(4 * 10**18, window=window), budget(None, "process", "all", window)
    await begun(store, call(traffic), hold(most, 4 * 10**18 - 1), hold(open_, 4 * 10**18))
    await begun(store, call(traffic), hold(most, 1), hold(open_, 4 * 10**18))
    with pytest.raises(BudgetExceeded):
        await begun(store, call(traffic), hold(most, 1))
    with pytest.raises(BudgetExceeded):
        await begun(store, call(traffic), hold(most, 4 * 10**18))
    for n in range(4):
        paid = call(traffic, 4 * 10**18, at=NOW + n * 1000)
        await store.calls.finish(paid, charges=[hold(open_, 4 * 10**18, NOW + n * 1000)])
    with pytest.raises(BudgetExceeded):  # what is spent far above a cap still refuses
        await begun(store, call(traffic), hold(replace(open_, cap_pico=4 * 10**18), 1))


async def test_a_refusal_leaves_no_trace_and_no_harm_in_its_batch(
    store: Store, ledger: Path, traffic: Traffic
) -> None:
    """Forty calls in one batch, every second one refused: the others are there, and only they."""
    cap = budget(20 * CENT)
    await store.budgets.open([cap], NOW)
    commits = store.calls._writer.commits  # type: ignore[union-attr]
    calls = [call(traffic) for _ in range(40)]
    took = await asyncio.gather(
        *(
            begun(store, each, hold(cap, CENT if n % 2 else 30 * CENT))
            for n, each in enumerate(calls)
        ),
        return_exceptions=True,
    )
    assert [type(each) for each in took] == [BudgetExceeded, type(None)] * 20
    assert store.calls._writer.commits - commits < 8  # type: ignore[union-attr]
    assert await where(store, cap) == (0, 20 * CENT)
    with outside(ledger) as conn:
        kept = {name for (name,) in conn.execute("SELECT receipt_id FROM intents")}
    assert kept == {each.receipt_id for each in calls[1::2]}


async def test_a_thousand_at_once_get_exactly_what_fits(store: Store, traffic: Traffic) -> None:
    cap, amount = budget(777 * CENT + 5), 3 * CENT
    calls = [call(traffic, CENT) for _ in range(1_000)]
    took = await asyncio.gather(
        *(begun(store, each, hold(cap, amount)) for each in calls), return_exceptions=True
    )
    admitted = [c for c, refused in zip(calls, took, strict=True) if refused is None]
    assert len(admitted) == cap.cap_pico // amount  # type: ignore[operator]
    await asyncio.gather(
        *(store.calls.finish(each, charges=[hold(cap, CENT)]) for each in admitted)
    )
    assert await where(store, cap) == (len(admitted) * CENT, 0)


async def test_a_hop_takes_a_hold_of_its_own_or_is_refused(store: Store, traffic: Traffic) -> None:
    cap, receipt = budget(100), call(traffic, 55)
    await begun(store, receipt, hold(cap, 40))
    await store.calls.hop(receipt.receipt_id, 2, "p", "m", NOW, [hold(cap, 50)])
    assert await where(store, cap) == (0, 90)
    with pytest.raises(BudgetExceeded):
        await store.calls.hop(receipt.receipt_id, 3, "p", "m", NOW, [hold(cap, 11)])
    assert [each.held_pico for each in await store.budgets.holds()] == [40, 50]
    await store.calls.hop(receipt.receipt_id, 3, "p", "m", NOW, [hold(cap, 55)], freed=[2])
    assert await where(store, cap) == (0, 95)
    with pytest.raises(BudgetExceeded):  # then what was to be given back is held on
        await store.calls.hop(receipt.receipt_id, 4, "p", "m", NOW, [hold(cap, 61)], freed=[1])
    assert [each.held_pico for each in await store.budgets.holds()] == [40, 55]
    await store.calls.finish(receipt, charges=[hold(cap, 55)])
    assert await where(store, cap) == (55, 0)


async def test_a_hop_of_a_call_that_is_not_open_holds_nothing(
    store: Store, traffic: Traffic
) -> None:
    cap = budget(100)
    await store.budgets.open([cap], NOW)
    with pytest.raises(ValueError, match="no open intent"):
        await store.calls.hop("rcpt_none", 2, "p", "m", NOW, [hold(cap, 50)])
    assert await where(store, cap) == (0, 0)


async def test_a_stream_takes_more_by_the_slice(store: Store, traffic: Traffic) -> None:
    cap, receipt = budget(100), call(traffic, 45)
    await begun(store, receipt, hold(cap, 40))
    await store.calls.extend(receipt.receipt_id, 1, [hold(cap, 30)])
    await store.calls.extend(receipt.receipt_id, 1, [hold(cap, 30)])
    assert await where(store, cap) == (0, 100)
    with pytest.raises(BudgetExceeded):
        await store.calls.extend(receipt.receipt_id, 1, [hold(cap, 1)])
    await store.calls.finish(receipt, charges=[hold(cap, 45)])
    assert await where(store, cap) == (45, 0)


async def test_a_dead_process_is_charged_what_it_held_and_leaves_no_hold(
    ledger: Path, traffic: Traffic
) -> None:
    cap = budget(1000)
    first = await Store.open(ledger, durability="normal", boot_id="one")
    plain, sliced, hopped = (call(traffic) for _ in range(3))
    await begun(first, plain, hold(cap, 100))
    await begun(first, sliced, hold(cap, 50))
    await first.calls.extend(sliced.receipt_id, 1, [hold(cap, 25)])
    await begun(first, hopped, hold(cap, 10))
    await first.calls.hop(hopped.receipt_id, 2, "p", "m", NOW, [hold(cap, 20)], hold_pico=20)
    await first.close()
    again = await Store.open(ledger, durability="normal", boot_id="two")
    await again.calls.recover(NOW)
    assert await where(again, cap) == (205, 0)
    assert await again.budgets.holds() == []
    charged = {
        one.receipt.receipt_id: [attempt.charged_pico for attempt in one.receipt.attempts]
        for one in await again.receipts.list()
    }
    assert charged == {
        plain.receipt_id: [100],
        sliced.receipt_id: [75],
        hopped.receipt_id: [10, 20],
    }
    assert await again.meta.check() == []
    await again.close()


async def test_a_budget_that_comes_late_finds_what_its_window_has_spent(
    store: Store, traffic: Traffic
) -> None:
    """Every scope, by the receipts alone, and only those of the window."""
    month = windows.span(windows.parse("month"), NOW)
    for n, at in enumerate((month[0] - 1, month[0], NOW, month[1] - 1, month[1])):
        receipt = call(traffic, 10**n, at)
        receipt = replace(receipt, workflow="bot", session_id="s", key_id="k", tags={"run": "r"})
        attempts = tuple(replace(each, model_id="gpt-x-2026-01-01") for each in receipt.attempts)
        attempts = (replace(attempts[0], charged_pico=10**n),)
        await store.calls.finish(replace(receipt, attempts=attempts))
    names: dict[budgets.Scope, str] = {
        "process": "all",
        "tenant": "acme",
        "workflow": "bot",
        "session": "s",
        "key": "k",
        "model": "gpt-x",
        "run": "r",
    }
    for scope, name in names.items():
        of = budget(10**9, scope, name)
        assert await where(store, of) == (1110, 0), scope  # read, not opened
        await store.budgets.open([of], NOW)
        assert await where(store, of) == (1110, 0), scope
        if scope != "process":
            assert await where(store, budget(1, scope, "somebody else")) == (0, 0)
    rolling = budget(10**9, window="24h")
    await store.budgets.open([rolling], NOW)
    assert (await where(store, rolling))[0] >= 100


async def test_a_call_under_way_when_a_budget_comes_is_counted_once(
    store: Store, traffic: Traffic
) -> None:
    late, receipt = budget(1000), call(traffic, 40)
    await begun(store, receipt)
    await store.budgets.open([late], NOW)
    await store.calls.finish(receipt, charges=[hold(late, 40)])
    assert await where(store, late) == (40, 0)
    never = budget(1000, "workflow", "bot")
    other = replace(call(traffic, 7), workflow="bot")
    await store.calls.finish(other, charges=[hold(never, 7), hold(late, 7)])
    assert await where(store, never) == (7, 0)  # not open: its receipts are asked
    await store.budgets.open([never], NOW)
    assert await where(store, never) == (7, 0)


async def test_what_is_in_force_no_more_is_forgotten_and_comes_back_right(
    store: Store, traffic: Traffic
) -> None:
    of, each = budget(1000), budget(50, "session", "s")
    rule = replace(each, name="*")
    receipt = replace(call(traffic, 40), session_id="s")
    await begun(store, receipt, hold(of, 40), hold(each, 40))
    await store.budgets.retain([rule])
    unseen = call(traffic, 5)
    await store.calls.finish(receipt, charges=[hold(each, 40)])
    await store.calls.finish(unseen)
    assert await where(store, each) == (40, 0)
    await store.budgets.open([of], NOW)
    assert await where(store, of) == (45, 0)


async def test_a_hold_of_a_budget_that_is_gone_is_given_back_to_no_other(
    store: Store, traffic: Traffic
) -> None:
    """Else what is given back would be taken from what another holds, and its cap passed."""
    gone, receipt = budget(100), call(traffic, 60)
    await begun(store, receipt, hold(gone, 60))
    await store.budgets.retain([])
    next_one = budget(100, name="other")
    await store.budgets.open([next_one], NOW)
    await store.calls.finish(receipt, charges=[hold(gone, 60)])
    assert await where(store, next_one) == (0, 0)
    assert await where(store, gone) == (60, 0)


async def test_a_budget_that_comes_back_knows_what_is_held_of_it(
    store: Store, traffic: Traffic
) -> None:
    """A cap that was taken out and put in again while a call ran: together they may not pass it."""
    of, running, between = budget(100), call(traffic, 55), call(traffic, 20)
    await begun(store, running, hold(of, 60))
    await store.budgets.retain([])
    assert (await where(store, of))[1] == 60
    await store.calls.finish(between)
    await store.budgets.retain([of])
    await store.budgets.open([of], NOW)
    assert await where(store, of) == (20, 60)
    with pytest.raises(BudgetExceeded):
        await begun(store, call(traffic), hold(of, 21))
    await store.calls.finish(running, charges=[hold(of, 55)])
    assert await where(store, of) == (75, 0)
    await store.budgets.retain([])
    assert await store.budgets.holds() == []
    assert await where(store, of) == (75, 0)


async def test_a_call_that_was_weighed_before_its_cap_went_does_not_open_it_again(
    store: Store, traffic: Traffic
) -> None:
    """An open budget is believed: one that nobody adds to must not be taken for it."""
    of, late, between = budget(100), call(traffic, 50), call(traffic, 30)
    await store.budgets.open([of], NOW)
    await store.budgets.retain([])
    await store.calls.begin(replace(intent_of(late), hold_pico=60), [hold(of, 60)])
    await store.calls.finish(between)
    await store.budgets.retain([of])
    await store.budgets.open([of], NOW)
    assert await where(store, of) == (30, 60)
    await store.calls.finish(late, charges=[hold(of, 50)])
    assert await where(store, of) == (80, 0)


async def test_a_call_that_nobody_settled_counts_where_it_held_nothing_too(
    ledger: Path, traffic: Traffic
) -> None:
    """A budget that only warns, by every scope: it counts what the receipt charges."""
    names: dict[budgets.Scope, str] = {
        "process": "all",
        "tenant": "acme",
        "workflow": "bot",
        "session": "s",
        "key": "k",
        "run": "r",
        "model": "gpt-x",
    }
    warned = [budget(10, scope, name, "day") for scope, name in names.items()]
    cap, other = budget(1000), budget(10, "workflow", "another")
    receipt = replace(call(traffic), workflow="bot", session_id="s", key_id="k", tags={"run": "r"})
    intent = replace(intent_of(receipt), hold_pico=40, provider="openai", model_id="gpt-x")
    first = await Store.open(ledger, durability="normal", boot_id="one")
    await first.budgets.open([*warned, cap, other], NOW)
    await first.calls.begin(intent, [hold(cap, 40)])
    await first.calls.hop(receipt.receipt_id, 2, "other", "gpt-y", NOW, [hold(cap, 5)], hold_pico=5)
    await first.close()
    again = await Store.open(ledger, durability="normal", boot_id="two")
    await again.calls.recover(NOW)
    for each in warned:
        assert await where(again, each) == (40 if each.scope == "model" else 45, 0), each.scope
    assert await where(again, cap) == (45, 0)
    assert await where(again, other) == (0, 0)
    await again.close()


async def test_each_window_has_its_own_sum_also_when_the_clock_goes_back(
    store: Store, traffic: Traffic
) -> None:
    of = budget(100, window="day")
    start = windows.span(of.window, NOW)[0]
    yesterday, today = start - 5, start + 5
    await begun(store, call(traffic, at=yesterday), hold(of, 80, yesterday))
    await begun(store, call(traffic, at=today), hold(of, 90, today))
    for at, room in ((yesterday, 20), (today, 10), (yesterday + 1, 0)):
        with pytest.raises(BudgetExceeded):
            await begun(store, call(traffic, at=at), hold(of, room + 1, at))
        if room:
            await begun(store, call(traffic, at=at), hold(of, room, at))
    assert await where(store, of, yesterday) == (0, 100)
    assert await where(store, of, today) == (0, 100)


async def test_no_stretch_of_a_rolling_length_holds_more_than_the_cap(
    store: Store, traffic: Traffic
) -> None:
    """Calls at random times, the clock going back among them."""
    chance, of = random.Random(3), budget(1_000, window="60m")
    length, at, taken = 3_600_000, NOW, list[tuple[int, int]]()
    for _ in range(400):
        at += chance.choice((30_000, 120_000, 600_000, -300_000))
        amount = chance.randint(1, 300)
        receipt = call(traffic, amount, at=at)
        try:
            await begun(store, receipt, hold(of, amount, at))
        except BudgetExceeded:
            continue
        taken.append((at, amount))
        if chance.random() < 0.7:
            await store.calls.finish(receipt, charges=[hold(of, amount, at)])
    assert len(taken) > 50
    for first, _ in taken:
        assert sum(n for t, n in taken if first <= t <= first + length) <= 1_000


async def test_each_threshold_is_told_once_in_its_window(store: Store, traffic: Traffic) -> None:
    of = budget(100, window="day")
    start, end = windows.span(of.window, NOW)
    for at in (NOW, NOW, NOW, NOW, end + 1):
        await store.calls.finish(call(traffic, 30, at=at), charges=[hold(of, 30, at)])
        if not store.budgets.known(of):
            await store.budgets.open([of], NOW)
    await store.calls.finish(call(traffic, 60, at=end + 1), charges=[hold(of, 60, end + 1)])
    told = [each for each in await store.events.after(0) if each.kind == "budget.threshold"]
    assert [(e.data["rule"], e.level) for e in told] == [
        ("50%", "info"),
        ("80%", "warn"),
        ("100%", "critical"),
        ("50%", "info"),
        ("80%", "warn"),
    ]
    assert told[0].tenant == "acme"
    assert told[0].data["spent_usd"] == Decimal("60e-12")  # to the last digit
    assert await store.budgets.firings(of) == {start: ["50%", "80%", "100%"], end: ["50%", "80%"]}
    again = Firing(budget=of, start=end, rule="50%", event=event_of("x", of, NOW, level="info"))
    await store.budgets.fire([again])
    assert len([e for e in await store.events.after(0)]) == 5


async def test_what_an_operator_sets_is_kept_and_can_be_cleared(store: Store) -> None:
    month, day = budget(5 * CENT), replace(budget(0, window="day"), hard=False)
    await store.budgets.set_override(month, NOW)
    await store.budgets.set_override(replace(month, cap_pico=None), NOW)
    await store.budgets.set_override(day, NOW)
    found = {each.key: each for each in await store.budgets.overrides()}
    assert found[month.key].cap_pico is None
    assert (found[day.key].cap_pico, found[day.key].hard) == (0, False)
    assert await store.budgets.clear_override("tenant", "acme", day.window) == 1
    assert await store.budgets.clear_override("tenant", "acme", None) == 1
    assert await store.budgets.overrides() == []


async def test_a_stop_survives_a_restart_until_it_is_lifted(ledger: Path) -> None:
    event = Event(kind="caller.stopped", at_ms=NOW)
    first = await Store.open(ledger, durability="normal")
    await first.budgets.stop(Stop(name="s1", reason="because", at_ms=NOW), event)
    await first.budgets.stop(Stop(name="s1", reason="again", at_ms=NOW), event)
    await first.close()
    again = await Store.open(ledger, durability="normal")
    assert [(each.name, each.reason) for each in await again.budgets.stops()] == [("s1", "because")]
    assert await again.budgets.lift("s1", event)
    assert not await again.budgets.lift("s1", event)
    assert await again.budgets.stops() == []
    assert len(await again.events.after(0)) == 2
    await again.close()


async def test_history_is_made_from_receipts_window_by_window(
    store: Store, traffic: Traffic
) -> None:
    of, day = budget(100, window="day"), 86_400_000
    for n in (0, 0, 1, 3):
        await store.calls.finish(call(traffic, 10 + n, at=NOW - n * day))
    found = await store.budgets.history(of, NOW, 10)
    assert [(usage.spent_pico, many) for usage, many in found] == [
        (20, 2),
        (11, 1),
        (0, 0),
        (13, 1),
    ]


async def test_the_rule_for_each_lists_the_dearest_first(store: Store, traffic: Traffic) -> None:
    rule = budget(100, "session", "*")
    for name, amount in (("a", 5), ("b", 50), ("c", 20)):
        await begun(store, call(traffic), hold(budgets.one_of(rule, name), amount))
    assert await store.budgets.names(rule, NOW) == ["b", "c", "a"]
    assert await store.budgets.names(replace(rule, window=windows.parse("day")), NOW) == []


@pytest.mark.parametrize("window", ["60s", "day", "total"])
async def test_who_has_long_been_silent_is_forgotten_and_comes_back_right(
    store: Store, ledger: Path, traffic: Traffic, window: str
) -> None:
    rule = budget(100, "session", "*", window)
    cap = budget(100, window=window)
    later = NOW + 3 * 86_400_000
    for name in ("silent", "holding", "busy"):
        of = budgets.one_of(rule, name)
        for at in (NOW, later) if name == "busy" else (NOW,):
            receipt = replace(call(traffic, 30, at=at), session_id=name)
            held = [hold(of, 40, at), hold(cap, 40, at)]
            await begun(store, receipt, *held[: 1 if name == "busy" else 2])
            if name != "holding":
                await store.calls.finish(receipt, charges=[hold(of, 30, at), hold(cap, 30, at)])
    assert await store.budgets.forget([rule, cap], later) == (window != "total")
    with outside(ledger) as conn:
        left = {name for (name,) in conn.execute("SELECT name FROM budgets")}
        (sums,) = conn.execute("SELECT count(*) FROM budget_sums").fetchone()
    assert left == {"acme", "holding", "busy"} | ({"silent"} if window == "total" else set())
    assert sums == {"60s": 4, "day": 5, "total": 4}[window]
    silent, busy = budgets.one_of(rule, "silent"), budgets.one_of(rule, "busy")
    assert store.budgets.known(silent) is (window == "total")
    assert await where(store, silent, NOW) == (30, 0)
    assert await where(store, busy, later) == (60 if window == "total" else 30, 0)
    await store.budgets.open([silent], NOW)
    assert await where(store, silent, NOW) == (30, 0)


async def test_an_abandoned_begin_gives_its_hold_back(store: Store, traffic: Traffic) -> None:
    """What undoes a commit of unknown outcome undoes the hold with it."""
    from modelspend.store.calls import _drop_intent

    cap, receipt = budget(100), call(traffic)
    await begun(store, receipt, hold(cap, 60))
    await store.calls._writer.do(lambda book: _drop_intent(book, receipt.receipt_id))  # type: ignore[union-attr]
    assert await where(store, cap) == (0, 0)
    assert await store.receipts.get(receipt.receipt_id) is None


async def test_an_id_that_is_open_already_holds_nothing_twice(
    store: Store, traffic: Traffic
) -> None:
    cap, receipt = budget(100), call(traffic)
    await begun(store, receipt, hold(cap, 10))
    with pytest.raises(ValueError, match="has an intent already"):
        await begun(store, receipt, hold(cap, 10))
    assert await where(store, cap) == (0, 10)


async def test_a_receipt_of_a_refusal_carries_no_charge(store: Store, traffic: Traffic) -> None:
    cap = budget(0)
    refused = replace(call(traffic), attempts=())
    run = replace(refused.execution, status=Status.REFUSED)
    await store.calls.finish(replace(refused, execution=run))
    assert await where(store, cap) == (0, 0)


def test_the_statement_is_plain_enough_for_the_oldest_sqlite_we_run_on() -> None:
    assert sqlite3.sqlite_version_info >= (3, 35), "RETURNING"


CHANGES = [
    # zone, window, an instant amid what is odd there
    ("Europe/Berlin", "day", "2026-10-25T01:00Z"),  # 25 hours
    ("Europe/Berlin", "day", "2026-03-29T01:00Z"),  # 23 hours
    ("America/Havana", "day", "2025-11-02T05:00Z"),  # two midnights
    ("America/Sao_Paulo", "day", "2018-11-04T03:00Z"),  # none
    ("Pacific/Apia", "day", "2011-12-30T10:00Z"),  # a day left out
    ("America/St_Johns", "day", "2010-11-07T02:31Z"),  # set back into yesterday
    ("UTC", "day", "2028-02-29T12:00Z"),
    ("America/New_York", "month", "2028-03-01T05:00Z"),  # after a leap day
    ("Europe/Berlin", "month", "2026-03-31T22:00Z"),
    ("America/New_York", "week", "2026-11-01T06:00Z"),  # a Sunday of 25 hours
]


@pytest.mark.parametrize(("zone", "window", "around"), CHANGES)
async def test_no_window_is_opened_twice_and_none_is_left_out_whatever_the_clock_does(
    store: Store, traffic: Traffic, zone: str, window: str, around: str
) -> None:
    """Calls every half hour for three days, the clock going back now and then: each window lets
    through exactly its cap, whenever its calls come, and no call counts in another."""
    middle = round(datetime.fromisoformat(around).timestamp() * 1000)
    of = Budget(scope="tenant", name="acme", window=windows.parse(window, zone), cap_pico=7)
    chance, at, half = random.Random(1), middle - 36 * 3_600_000, 1_800_000
    asked: Counter[int] = Counter()
    took: Counter[int] = Counter()
    await store.budgets.open([of], at)
    while at < middle + 36 * 3_600_000:
        start = windows.span(of.window, at)[0]
        asked[start] += 1
        receipt = call(traffic, 1, at=at)
        try:
            await store.calls.begin(replace(intent_of(receipt), hold_pico=1), [hold(of, 1, at)])
        except BudgetExceeded:
            assert took[start] == 7
        else:
            took[start] += 1
            if chance.random() < 0.8:
                await store.calls.finish(receipt, charges=[hold(of, 1, at)])
        at += half if chance.random() < 0.85 else -chance.randint(1, 5) * half
    assert took == {start: min(7, many) for start, many in asked.items()}
    for start, many in took.items():
        assert sum(await where(store, of, start)) == many
    starts = sorted(took)
    assert all(windows.span(of.window, one)[1] == next_ for one, next_ in pairwise(starts))
    assert len(starts) >= (2 if window != "day" else 3)
