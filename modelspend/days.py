"""A daily series of cost: made whole, and searched for what is odd in it.

A day that is missing cost nothing, since a ledger has no row for it; a day whose cost is not known
(None) gets the mean of the nearest same weekdays. What is odd is told by medians, so that one wild
day neither hides another nor makes a shift of the level.
"""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from statistics import median
from typing import Literal

from modelspend.record import frozen


@frozen
class Day:
    """What one day cost in all; None when nobody knows."""

    date: date
    cost_pico: int | None


@frozen
class Series:
    """Every day from the first to the last. `missing` days count as 0, `unknown` are filled in."""

    first: date
    costs: tuple[int, ...]
    missing: int
    unknown: int

    @property
    def last(self) -> date:
        return self.date(len(self.costs) - 1)

    def date(self, day: int) -> date:
        """That of the n-th day; days after the last are days ahead."""
        return self.first + timedelta(days=day)


@frozen
class Anomaly:
    """A day far off its own weekday's usual cost."""

    date: date
    kind: Literal["spike", "drop"]
    cost_pico: int
    usual_pico: int


@frozen
class Shift:
    """The first day of a new level, with the usual cost of a day before and after."""

    date: date
    before_pico: int
    after_pico: int


MOST_DAYS = 7305
"""Twenty years."""

_AHEAD = 366


def whole(days: Iterable[Day], within: tuple[date, date] | None = None) -> Series:
    """The days in order without gaps; several of one date are added up.

    Raises ValueError for a negative cost, for no day at all, and for days too far apart: one wrong
    year would make millions.

    `within` is the first and the last day of the series where those may have cost nothing.
    """
    found: dict[date, int | None] = {}
    for day in days:
        if day.cost_pico is not None and day.cost_pico < 0:
            raise ValueError(f"{day.date} has a negative cost")
        known = [cost for cost in (found.get(day.date), day.cost_pico) if cost is not None]
        found[day.date] = sum(known) if known else None
    if not found:
        raise ValueError("there is no day")
    first, last = within or (min(found), max(found))
    length = (last - first).days + 1
    if length > MOST_DAYS or date.max - last < timedelta(days=_AHEAD):
        raise ValueError(
            f"the days are of {first} to {last}; they may lie {MOST_DAYS} days apart at most,"
            f" and not at the end of the calendar"
        )
    costs = [found.get(first + timedelta(days=n), 0) for n in range(length)]
    missing = sum(first + timedelta(days=n) not in found for n in range(length))
    return Series(first, _filled(costs), missing, costs.count(None))


def anomalies(series: Series) -> tuple[Anomaly, ...]:
    """Days that stand out, oldest first; none where so many do that they are the rule."""
    costs = series.costs
    usual = [_usual(costs, day) for day in range(len(costs))]
    off = [abs(cost - is_usual) for cost, is_usual in zip(costs, usual, strict=True)]
    least = sum(costs) / len(costs) * _LEAST_ODD
    bound = max(_ODD * median(off), least)
    odd = [day for day, by in enumerate(off) if by > bound and by > usual[day] * _LEAST_ODD]
    if len(odd) > len(costs) * _RARE:
        return ()
    return tuple(
        Anomaly(
            series.date(day),
            "spike" if costs[day] > usual[day] else "drop",
            costs[day],
            usual[day],
        )
        for day in odd
    )


def shifts(series: Series) -> tuple[Shift, ...]:
    """Where the level changed for good, or for two weeks at least; oldest first."""
    costs, n = series.costs, len(series.costs)
    found: list[Shift] = []
    scores = {day: _split(costs, day) for day in range(_SPAN, n - _SPAN + 1)}
    for day, (gain, before, after) in scores.items():
        near = range(day - _SPAN + 1, day + _SPAN)
        if gain and all(scores[other][0] <= gain for other in near if other in scores):
            if found and (series.date(day) - found[-1].date).days < _SPAN:
                continue  # as good a place for the same shift
            found.append(Shift(series.date(day), before, after))
    return tuple(found)


_SPAN = 14  # days on both sides of a shift: whole weeks
_STEP = 1.25  # a shift moves the level by at least this factor, up or down
_SHIFT_SHARE = 0.35  # and accounts for so much of how days differ around it
_ODD = 7.0  # times the usual distance
_LEAST_ODD = 0.5  # of the usual cost
_RARE = 0.05


def _split(costs: Sequence[int], day: int) -> tuple[float, int, int]:
    """How much better two levels tell the days around one than a single level does."""
    before, after = costs[day - _SPAN : day], costs[day : day + _SPAN]
    was, now = sorted((_middle(before), _middle(after)))
    if was * _STEP >= now:
        return 0.0, 0, 0
    apart = _distance([*before, *after])
    together = _distance(before) + _distance(after)
    gain = 1 - together / apart if apart else 0.0
    return (gain if gain >= _SHIFT_SHARE else 0.0), _middle(before), _middle(after)


def _distance(costs: Sequence[int]) -> float:
    middle = median(costs)
    return sum(abs(cost - middle) for cost in costs)


def _usual(costs: Sequence[int], day: int) -> int:
    """The median of the same weekday in the four weeks before and after."""
    places = (day + 7 * week for week in (-4, -3, -2, -1, 1, 2, 3, 4))
    near = [costs[place] for place in places if 0 <= place < len(costs)]
    return _middle(near) if near else costs[day]


def _middle(costs: Sequence[int]) -> int:
    """The median, whole."""
    ordered = sorted(costs)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) // 2


def _filled(costs: Sequence[int | None]) -> tuple[int, ...]:
    return tuple(
        _neighbours(costs, day) if cost is None else cost for day, cost in enumerate(costs)
    )


def _neighbours(costs: Sequence[int | None], day: int) -> int:
    """The mean of the nearest known same weekday on each side, else of the nearest known day."""
    for step in (7, 1):
        before = next((costs[n] for n in range(day, -1, -step) if costs[n] is not None), None)
        after = next((costs[n] for n in range(day, len(costs), step) if costs[n] is not None), None)
        known = [cost for cost in (before, after) if cost is not None]
        if known:
            return sum(known) // len(known)
    return 0
