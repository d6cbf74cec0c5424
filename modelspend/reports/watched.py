"""What the rules on rates look at: hours of the ledger by each name, and the week before them.

Hides that the week comes out of the sums by day, and that it may be kept for a while: it moves by
an hour in 168. How sure the classifier was is looked up for the last hour alone.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from modelspend.alert_rates import Seen, Watched
from modelspend.alerts import HOUR_MS, HOURS
from modelspend.record import frozen
from modelspend.store import Filter, Key, Store
from modelspend.tallies import (
    TIMED,
    Name,
    Tally,
    add_classified,
    add_hour,
    add_led,
    names_of,
)

WEEK_HOURS = 7 * 24
T = TypeVar("T")


@frozen
class Baseline:
    """The week that ended `HOURS` ago, by name; `hours` of it are known."""

    hours: float
    seen: Mapping[Name, Seen]


async def baseline(store: Store, where: Filter, now_ms: int) -> Baseline:
    """What the last hours are compared with."""
    start = now_ms + 1 - HOURS * HOUR_MS
    first = await store.alerts.first_ms()
    known = known_hours(first, start)
    week = replace(where, since_ms=start - WEEK_HOURS * HOUR_MS, until_ms=start)
    found = await _week(store, week) if known else {}
    return Baseline(known, {name: tally.seen() for name, tally in found.items()})


def known_hours(first_ms: int | None, start_ms: int) -> float:
    """How much of the week before an instant the ledger knows, from its oldest receipt on."""
    return 0.0 if first_ms is None else min(max(start_ms - first_ms, 0) / HOUR_MS, WEEK_HOURS)


async def watched(
    store: Store,
    where: Filter,
    now_ms: int,
    before: Baseline,
    sure_from: float,
    hours: int = HOURS,
) -> list[Watched]:
    """Everything that was called within so many hours, by each of its names, and all of it."""
    recent = replace(where, since_ms=now_ms + 1 - hours * HOUR_MS, until_ms=now_ms + 1)
    by_hour: dict[Name, list[Tally]] = defaultdict(lambda: [Tally() for _ in range(hours)])
    for hour in await store.alerts.hours(recent):
        for name in names_of(hour.tenant, hour.category, hour.model, hour.provider):
            add_hour(by_hour[name][hour.hour], name[0], hour)
    for led in await store.alerts.led(recent):
        add_led(lambda name, hour=led.hour: by_hour[name][hour], led)  # type: ignore[misc]
    newest = replace(recent, since_ms=now_ms + 1 - HOUR_MS)
    for one in await store.alerts.classified(newest, sure_from):
        for name in names_of(one.tenant, one.category, None, None):
            add_classified(by_hour[name][0], one)
    return [
        beside(before, name, [tally.seen() for tally in tallies])
        for name, tallies in by_hour.items()
    ]


def beside(before: Baseline, name: Name, hours: Sequence[Seen]) -> Watched:
    """The hours of one name beside its week."""
    return Watched(
        scope=name[0],
        name=name[1],
        hours=hours,
        before=before.seen.get(name, Seen()),
        before_hours=before.hours,
    )


async def _week(store: Store, where: Filter) -> dict[Name, Tally]:
    found = await sums_of_days(store, where)
    latencies = await store.latencies.by(("model", "provider"), where, ttft=False)
    for ((model, provider), part), took in latencies.items():
        if part != "failed":
            for name in names_of(None, None, model, provider):
                if name[0] in TIMED:
                    found[name].latency_ms.update(took.latency_ms)
    return found


async def sums_of_days(store: Store, where: Filter) -> dict[Name, Tally]:
    """Costs and tokens of a time by each name; the loop is let go from time to time."""
    found: dict[Name, Tally] = defaultdict(Tally)
    keys: tuple[Key, ...] = ("tenant", "category", "model", "provider")
    async for names, one in unhurried((await store.days.costs(keys, where)).items()):
        for name in names_of(*names):
            found[name].cost_pico += one.cost_pico
    async for names, used in unhurried((await store.days.tokens(keys, where)).items()):
        for name in names_of(*names):
            found[name].prompt_tokens += used.prompt
            found[name].cached_tokens += used.cached
    return found


async def unhurried(many: Iterable[T]) -> AsyncIterator[T]:
    """The same, with a pause for others after every few."""
    for n, one in enumerate(many, start=1):
        yield one
        if n % _AT_A_TIME == 0:
            await asyncio.sleep(0)


_AT_A_TIME = 100
