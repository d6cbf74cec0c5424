"""What a sidecar looks at every half minute: the same as the report, made by the database.

Hides how that stays cheap at any size: sums come by the combinations of names that there are,
percentiles of a sample, and whatever is added up here lets others go first. So a figure may be off
by a per cent from the report's, whose every duration counts.
"""

from collections import Counter, defaultdict

from modelspend.alert_rates import Seen, Watched
from modelspend.alerts import HOUR_MS, HOURS
from modelspend.reports.watched import (
    WEEK_HOURS,
    Baseline,
    Name,
    Tally,
    add_classified,
    add_hour,
    add_led,
    beside,
    known_hours,
    names_of,
    sums_of_days,
    unhurried,
)
from modelspend.store import Filter, Store


async def week(store: Store, now_ms: int) -> Baseline:
    """What the last hours are compared with."""
    start = now_ms + 1 - HOURS * HOUR_MS
    known = known_hours(await store.alerts.first_ms(), start)
    if not known:
        return Baseline(0.0, {})
    before = Filter(since_ms=start - WEEK_HOURS * HOUR_MS, until_ms=start)
    found = await sums_of_days(store, before)
    await _add_p95(store, before, found)
    return Baseline(known, {name: tally.seen() for name, tally in found.items()})


async def hour(store: Store, now_ms: int, before: Baseline) -> list[Watched]:
    """The last hour, without how sure the classifier was."""
    recent = _last(1, now_ms)
    found = await _sums(store, recent)
    await _add_p95(store, recent, found)
    return [beside(before, name, [tally.seen()]) for name, tally in found.items()]


async def day(store: Store, now_ms: int, before: Baseline, sure_from: float) -> list[Watched]:
    """The last day as if all of it were its newest hour, and how sure the classifier was in that:
    for the rules in `alert_rates.SELDOM` alone."""
    found = await _sums(store, _last(HOURS, now_ms))
    for one in await store.alerts.classified(_last(1, now_ms), sure_from):
        for name in names_of(one.tenant, one.category, None, None):
            add_classified(found[name], one)
    quiet = [Seen()] * (HOURS - 1)
    return [beside(before, name, [tally.seen(), *quiet]) for name, tally in found.items()]


def _last(hours: int, now_ms: int) -> Filter:
    return Filter(since_ms=now_ms + 1 - hours * HOUR_MS, until_ms=now_ms + 1)


async def _sums(store: Store, where: Filter) -> dict[Name, Tally]:
    found: dict[Name, Tally] = defaultdict(Tally)
    async for one in unhurried(await store.alerts.sums(where)):
        for name in names_of(one.tenant, one.category, one.model, one.provider):
            add_hour(found[name], name[0], one)
    for led in await store.alerts.led(where):
        add_led(found.__getitem__, led)
    return found


async def _add_p95(store: Store, where: Filter, found: dict[Name, Tally]) -> None:
    """As durations that are all alike, whose 95th percentile is theirs."""
    for name, calls, ms in await store.alerts.p95("model", where):
        found["model", name].latency_ms = Counter({ms: calls})
    for name, calls, ms in await store.alerts.p95("provider", where):
        found["provider", name].latency_ms = Counter({ms: calls})
