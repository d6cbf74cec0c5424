"""What a sidecar looks at every half minute: the same as the report, out of sums that it keeps.

Hides how that stays cheap at any size: a look reads what has come since the last one and what has
grown too old, a little at a time, and lets others go first. Sums are exact; durations of the last
hour are rounded, and those of the week before are a sample where there are many, so a percentile
may be off by a per cent from the report's, whose every duration counts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from modelspend.alert_rates import Seen, Watched
from modelspend.alerts import HOUR_MS, HOURS, Alert, Level
from modelspend.errors import Overloaded
from modelspend.reports.watched import (
    WEEK_HOURS,
    Baseline,
    beside,
    known_hours,
    sums_of_days,
)
from modelspend.sliding import Sliding
from modelspend.store import Filter, Store
from modelspend.tallies import TIMED, Name, Tally, add_classified, names_of

_AT_MOST = 1_000
"""Parts that one look may read; a sidecar that has just begun has a day to catch up with."""


async def moved(store: Store, window: Sliding, now_ms: int) -> None:
    """Bring a window up to now. Raises Overloaded when there is more than one look may read; the
    next one goes on from there."""
    last = await store.metering.last()
    for _ in range(_AT_MOST):
        reach = window.next(now_ms, last)
        if reach is None:
            return
        window.take(await store.alerts.part(reach, timed=window.timed))
    raise Overloaded("The sums of the last day are not there yet.", "They are being made.")


async def week(store: Store, now_ms: int) -> Baseline:
    """What the last hours are compared with."""
    start = now_ms + 1 - HOURS * HOUR_MS
    known = known_hours(await store.alerts.first_ms(), start)
    if not known:
        return Baseline(0.0, {})
    before = Filter(since_ms=start - WEEK_HOURS * HOUR_MS, until_ms=start)
    found = await sums_of_days(store, before)
    for (model, provider), took in (await store.alerts.durations(before)).items():
        for name in names_of(None, None, model, provider):
            if name[0] in TIMED:
                found[name].latency_ms += took
    return Baseline(known, {name: tally.seen() for name, tally in found.items()})


def hour(window: Sliding, before: Baseline) -> list[Watched]:
    """The last hour, without how sure the classifier was."""
    return [beside(before, name, [tally.seen()]) for name, tally in window.names.items()]


async def day(
    store: Store, window: Sliding, now_ms: int, before: Baseline, sure_from: float
) -> list[Watched]:
    """The last day as if all of it were its newest hour, and how sure the classifier was in the
    last one: for the rules in `alert_rates.SELDOM` alone."""
    sure: dict[Name, Tally] = {}
    for one in await store.alerts.classified(_last(1, now_ms), sure_from):
        for name in names_of(one.tenant, one.category, None, None):
            add_classified(sure.setdefault(name, Tally()), one)
    quiet = [Seen()] * (HOURS - 1)
    return [
        beside(before, name, [_with(tally.seen(), sure.get(name)), *quiet])
        for name, tally in window.names.items()
    ]


def _with(seen: Seen, sure: Tally | None) -> Seen:
    if sure is None:
        return seen
    return replace(seen, classified=sure.classified, unsure=sure.unsure)


async def since(
    store: Store, alerts: Iterable[Alert], now_ms: int, levels: Mapping[str, Level]
) -> list[Alert]:
    """The same alerts; those that have just gone off hold since the first call of their time."""
    return [await _begun(store, alert, now_ms, levels) for alert in alerts]


async def _begun(store: Store, alert: Alert, now_ms: int, levels: Mapping[str, Level]) -> Alert:
    if alert.key in levels or alert.level == "info":
        return alert
    named: dict[str, Any] = {} if alert.scope == "process" else {alert.scope: alert.name}
    where = Filter(since_ms=(alert.from_ms or 0) + 1, until_ms=now_ms + 1, **named)
    first = await store.alerts.first_of(where)
    return alert if first is None else replace(alert, since_ms=first)


def _last(hours: int, now_ms: int) -> Filter:
    return Filter(since_ms=now_ms + 1 - hours * HOUR_MS, until_ms=now_ms + 1)
