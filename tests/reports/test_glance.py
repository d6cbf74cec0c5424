"""The sums that a sidecar keeps for alerts, beside every receipt of a real ledger."""

import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelspend.alert_rates import Seen, Watched, p95, rates
from modelspend.alert_sections import Alerts
from modelspend.alerts import HOUR_MS, HOURS
from modelspend.errors import Overloaded
from modelspend.receipt import Receipt, Status
from modelspend.reports import glance
from modelspend.reports.watched import Baseline
from modelspend.sliding import Sliding, rounded
from modelspend.store import Filter, Store
from modelspend.tallies import Name, Tally, add_hour, add_led, names_of
from tests.reports.test_alerts import NOW, answered, at, led_from, write
from tests.store.bulk import load

NO_WEEK = Baseline(0.0, {})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "ledger.db", durability="normal", boot_id="b")
    yield opened
    await opened.close()


def hour() -> Sliding:
    return Sliding(HOUR_MS, timed=True)


def day() -> Sliding:
    return Sliding(HOURS * HOUR_MS)


def seen(found: list[Watched]) -> dict[tuple[str, str], Seen]:
    """By name what was counted, without the names that have nothing that counts."""
    told = {(one.scope, one.name): replace(one.hours[0], classified=0, unsure=0) for one in found}
    return {name: one for name, one in told.items() if one != Seen()}


async def from_all_receipts(
    store: Store, now_ms: int, hours: int = 1
) -> dict[tuple[str, str], Seen]:
    """The same, from nothing, out of what the report reads; without durations for a day."""
    where = Filter(since_ms=now_ms + 1 - hours * HOUR_MS, until_ms=now_ms + 1)
    names: dict[Name, Tally] = defaultdict(Tally)
    for one in await store.alerts.hours(where):
        for name in names_of(one.tenant, one.category, one.model, one.provider):
            add_hour(names[name], name[0], one)
    for led in await store.alerts.led(where):
        add_led(names.__getitem__, led)
    for tally in names.values():
        tally.first_ms = None
        took = Counter(rounded(ms) for ms in tally.latency_ms.elements())
        tally.latency_ms = took if hours == 1 else Counter()
    found = {name: tally.seen() for name, tally in names.items()}
    return {name: one for name, one in found.items() if one != Seen()}


async def assert_same(store: Store, last_hour: Sliding, last_day: Sliding, now_ms: int) -> None:
    await glance.moved(store, last_hour, now_ms)
    await glance.moved(store, last_day, now_ms)
    assert seen(glance.hour(last_hour, NO_WEEK)) == await from_all_receipts(store, now_ms)
    found = await glance.day(store, last_day, now_ms, NO_WEEK, 0.7)
    assert seen(found) == await from_all_receipts(store, now_ms, HOURS)


def some(rng: random.Random, made: Receipt, now_ms: int) -> tuple[Receipt, Any]:
    """A call that ends now: begun just now, long ago, at an edge of the hour or day, or by a clock
    that is ahead; of any kind."""
    edge = now_ms + 1 - rng.choice((HOUR_MS, HOURS * HOUR_MS))
    begun = rng.choice(
        (
            now_ms - rng.randrange(30_000),
            now_ms - rng.randrange(2 * HOUR_MS),
            now_ms - rng.randrange(26 * HOUR_MS),
            edge - 1,
            edge,
            now_ms,
            now_ms + 1,
            now_ms + rng.randrange(60_000),
        )
    )
    led = rng.random() < 0.2
    made = at(
        made,
        begun,
        provider="anthropic" if led else rng.choice(("openai", "anthropic", "lab")),
        model=rng.choice(("gpt-4.1", "claude", "tuned")),
        took=round(10 ** rng.uniform(0, 5)),
        tenant=rng.choice(("acme", "other")),
        cost=rng.choice((None, 0, 10**9, 2**62)),
    )
    if rng.random() < 0.1:
        status = rng.choice((Status.REFUSED, Status.CACHED, Status.ERROR))
        made = replace(made, execution=replace(made.execution, status=status))
    if rng.random() < 0.1:
        made = replace(made, attempts=(replace(made.attempts[-1], drill="down"),))
    return made, led_from(rng.choice(("openai", "groq")), begun) if led else None


@pytest.mark.parametrize("seed", [1, 2])
async def test_sums_that_move_along_are_those_of_all_receipts(store: Store, seed: int) -> None:
    """Two days in which calls end late, clocks are set back, and a sidecar starts again; each time
    both windows say what a reading of everything says."""
    rng, now = random.Random(seed), NOW
    calls = answered(seed, 6000)
    last_hour, last_day = hour(), day()
    for n in range(60):
        now += rng.choice((1, 500, 30_000, 30_000, 30_000, 20 * 60_000, 2 * HOUR_MS, -60_000))
        count = rng.randrange(40) if n % 4 else 0
        await write(store, [some(rng, next(calls), now) for _ in range(count)])
        if n % 13 == 12:
            last_hour, last_day = hour(), day()
        await assert_same(store, last_hour, last_day, now)


async def test_a_long_hour_is_read_in_parts_and_calls_that_began_at_once_are_in_one(
    tmp_path: Path,
) -> None:
    calls = answered(5, 8000)
    begun = [NOW - HOUR_MS + 1 + n for n in range(2500)] + [NOW - 5000] * 2300 + [NOW] * 200
    path = tmp_path / "ledger.db"
    load(path, ((at(next(calls), ms, took=ms % 9000), None) for ms in begun))
    store = await Store.open(path, durability="normal", boot_id="b")
    last_hour, last = hour(), await store.metering.last()
    ends = []
    while reach := last_hour.next(NOW, last):
        last_hour.take(await store.alerts.part(reach, timed=True))
        ends.append(last_hour.until_ms)
        held = sum(1 for ms in begun if ms < last_hour.until_ms)
        assert last_hour.names["process", "all"].calls == held
    assert ends == sorted(ends)
    assert len(ends) == 4  # 2,000; the other 500; all of one instant; the rest
    assert seen(glance.hour(last_hour, NO_WEEK)) == await from_all_receipts(store, NOW)
    # Later the same way out, while the same number of calls comes in.
    later = NOW + HOUR_MS - 6000
    more = [(at(next(calls), later - 10), None) for _ in range(2300)]
    await write(store, more)
    await glance.moved(store, last_hour, later)
    assert seen(glance.hour(last_hour, NO_WEEK)) == await from_all_receipts(store, later)
    await store.close()


async def test_a_look_that_is_broken_off_is_gone_on_with(store: Store) -> None:
    """A ledger that says too late in between leaves sums that the next look can go on from."""

    class Slow:
        def __init__(self, store: Store) -> None:
            self.real, self.left = store.alerts, 1

        async def part(self, *given: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Overloaded("The question took longer than 5 s.", "Narrow it.")
            return await self.real.part(*given, **named)

    calls, last_hour, now = answered(6, 400), hour(), NOW
    slow, broken_off = Slow(store), 0
    for n in range(9):
        await write(store, [(at(next(calls), now - k * 7000), None) for k in range(20)])
        store.alerts = slow  # type: ignore[assignment]
        slow.left = n % 3
        try:
            await glance.moved(store, last_hour, now)
        except Overloaded:
            broken_off += 1
        store.alerts = slow.real
        now += 90_000
    await glance.moved(store, last_hour, now)
    assert seen(glance.hour(last_hour, NO_WEEK)) == await from_all_receipts(store, now)
    assert broken_off >= 5


async def test_what_goes_off_holds_since_the_first_call_of_its_time(store: Store) -> None:
    """Looked up for what has just gone off, since a sum that moves along does not know it."""
    calls, window = answered(7, 200), day()
    begun = [NOW - HOURS * HOUR_MS, *(NOW - n * 60_000 for n in range(100, 40, -1))]
    drill = replace(at(next(calls), NOW - 200 * 60_000), tenant="acme")
    drill = replace(drill, attempts=(replace(drill.attempts[-1], drill="down"),))
    await write(store, [(at(next(calls), ms, cost=None), None) for ms in begun])
    await write(store, [(at(next(calls), NOW - 150 * 60_000, tenant="b"), None), (drill, None)])
    await glance.moved(store, window, NOW)
    found = await glance.day(store, window, NOW, NO_WEEK, 0.7)
    alerts = list(rates(found, Alerts(), NOW, only={"unpriced_share"}))
    told = {one.key: one for one in await glance.since(store, alerts, NOW, {})}
    assert told["unpriced_share:tenant:acme"].since_ms == NOW - 100 * 60_000
    assert told["unpriced_share:process:all"].since_ms == NOW - 150 * 60_000
    known = {"unpriced_share:tenant:acme": "critical"}
    kept = {one.key: one for one in await glance.since(store, alerts, NOW, known)}  # type: ignore[arg-type]
    assert kept["unpriced_share:tenant:acme"] in alerts  # its alarm knows since when


async def test_the_week_is_a_sample_that_is_like_all_of_it(tmp_path: Path) -> None:
    rng, calls = random.Random(8), answered(8, 40_000)
    took = [round(10 ** rng.uniform(2, 4)) for _ in range(31_000)]
    path = tmp_path / "ledger.db"
    begun = NOW - 30 * HOUR_MS
    load(path, ((at(next(calls), begun - n * 1000, took=ms), None) for n, ms in enumerate(took)))
    store = await Store.open(path, durability="normal", boot_id="b")
    week = await glance.week(store, NOW)
    durations = week.seen["model", "gpt-4.1"].latency_ms
    assert 10_000 < durations.total() <= 15_000
    assert durations == week.seen["provider", "openai"].latency_ms
    assert p95(durations) == pytest.approx(p95(Counter(took)), rel=0.03)
    await store.close()
