"""What the ledger is going to cost: its whole days, altogether and by a name, projected.

A day counts once it is over, in UTC; today does not, and the first day ahead is today. The ledger
begins with its first receipt, so what came before is not taken for days without cost.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from modelspend import forecast_json
from modelspend.days import MOST_DAYS, Day
from modelspend.errors import TooLittleHistory
from modelspend.forecast import Forecast, Horizon, project
from modelspend.money import usd
from modelspend.record import frozen
from modelspend.store import DaySum, Filter, Store
from modelspend.store.daily import DAY, Name

Span = tuple[date, date]

MOST_NAMES = 20
"""Names that are projected each by itself: those that cost most."""


@frozen
class Part:
    """The projection of one name's days, made like that of all and from the same days; or of the
    days of many `names` that cost little."""

    name: str | None
    forecast: Forecast
    names: int = 1


@frozen(kw_only=True)
class Projected:
    """All together, and by name where that was asked; `unpriced` receipts add no cost."""

    forecast: Forecast
    parts: tuple[Part, ...] = ()
    receipts: int = 0
    unpriced: int = 0


async def forecast(
    store: Store,
    where: Sequence[Filter],
    now_ms: int,
    horizons: Sequence[int],
    by: Name | None = None,
) -> Projected:
    """The projection of all receipts that any filter matches. Raises TooLittleHistory."""
    sums = await store.daily.sums(over(where, now_ms), by)
    within = _span(sums, where, now_ms)
    every = project(_days(sums), horizons, within)
    parts = [
        Part(name, project(_days(own), horizons, within), names)
        for name, own, names in _named(sums if by else ())
    ]
    return Projected(
        forecast=every,
        parts=tuple(sorted(parts, key=_dearest_first)),
        receipts=sum(each.receipts for each in sums),
        unpriced=sum(each.unpriced for each in sums),
    )


def _dearest_first(part: Part) -> tuple[bool, int]:
    return part.names > 1, -part.forecast.horizons[-1].cost_pico


def _named(sums: Sequence[DaySum]) -> list[tuple[str | None, list[DaySum], int]]:
    """The days of each name; those of many that cost little are projected together."""
    names: dict[str | None, list[DaySum]] = defaultdict(list)
    for each in sums:
        names[each.name].append(each)
    dearest = sorted(names.items(), key=lambda own: -sum(each.cost_pico for each in own[1]))
    most = MOST_NAMES if len(dearest) > MOST_NAMES + 1 else len(dearest)
    found: list[tuple[str | None, list[DaySum], int]] = [
        (name, own, 1) for name, own in dearest[:most]
    ]
    if rest := dearest[most:]:
        together = sorted((each for _, own in rest for each in own), key=lambda each: each.day)
        found.append((f"({len(rest)} others)", together, len(rest)))
    return found


def to_json(found: Projected, by: str | None) -> dict[str, Any]:
    """Each part's totals without its days; the costs of a horizon's parts and `difference_usd`
    add up to its total."""
    said = {**forecast_json.to_json(found.forecast), "unpriced_receipts": found.unpriced}
    if by is None:
        return said
    said["by"] = by
    said["parts"] = [
        {
            "name": part.name,
            "names": part.names,
            "base_daily_cost_usd": usd(part.forecast.base_daily_pico),
            "horizons": [forecast_json.total_json(each) for each in part.forecast.horizons],
        }
        for part in found.parts
    ]
    for n, (horizon, each) in enumerate(
        zip(found.forecast.horizons, said["horizons"], strict=True)
    ):
        parts = sum(part.forecast.horizons[n].cost_pico for part in found.parts)
        each["difference_usd"] = usd(horizon.cost_pico - parts)
    return said


def over(where: Sequence[Filter], now_ms: int) -> list[Filter]:
    """The filters, of days alone that are whole."""
    return [
        replace(
            each,
            since_ms=None if each.since_ms is None else -(-each.since_ms // DAY) * DAY,
            until_ms=min(now_ms, each.until_ms or now_ms) // DAY * DAY,
        )
        for each in where
    ]


async def horizon_of(
    store: Store, where: Sequence[Filter], now_ms: int, days: int
) -> Horizon | None:
    """The total of so many days ahead; null with too little history."""
    try:
        return (await forecast(store, where, now_ms, (days,))).forecast.horizons[0]
    except TooLittleHistory:
        return None


async def recent(
    store: Store, where: Sequence[Filter], now_ms: int, days: int
) -> tuple[list[Filter], int]:
    """Filters for the last so many whole days, fewer where the ledger is younger; and how many.

    With a start of their own the filters keep it. Raises TooLittleHistory.
    """
    whole = over(where, now_ms)
    span = _span(await store.daily.sums(whole), where, now_ms)
    if span is None:
        raise TooLittleHistory(
            "There is no whole day with receipts to price again.",
            "Wait for the end of the day (UTC), or name others: --since, --until",
        )
    length = (span[1] - span[0]).days + 1
    if any(each.since_ms is not None for each in where):
        return whole, length
    days = min(days, length)
    last = max(each.until_ms or 0 for each in whole)
    return [replace(each, since_ms=last - days * DAY) for each in whole], days


def _span(sums: Sequence[DaySum], where: Sequence[Filter], now_ms: int) -> Span | None:
    """From the first day with a receipt to yesterday, or to where the filters end; of a ledger
    that a wrong clock began, the last days that a forecast can be made of."""
    if not sums:
        return None
    until = max(each.until_ms or 0 for each in over(where, now_ms)) // DAY
    return day_of(max(sums[0].day, until - MOST_DAYS)), day_of(until) - timedelta(days=1)


def _days(sums: Sequence[DaySum]) -> list[Day]:
    """A day none of whose receipts has a known cost is unknown."""
    return [
        Day(day_of(each.day), each.cost_pico if each.unpriced < each.receipts else None)
        for each in sums
    ]


def day_of(number: int) -> date:
    """The date of a day since 1970."""
    return datetime.fromtimestamp(number * DAY / 1000, UTC).date()
