"""When a budget will be gone: how likely before its window ends, and on which day.

A forecast speaks of whole days in UTC, a budget of a window that ends at an instant and has seen a
part of today. So the first day ahead counts only for what is left of it, and the last one up to the
end of the window, both evenly over their hours. What a reader would not guess: a rolling window
gives back what leaves it, so it is followed for its own length and no further.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction

from modelspend.budgets import Usage
from modelspend.days import MOST_DAYS, Day, Series
from modelspend.errors import TooLittleHistory
from modelspend.forecast import Forecast, Horizon, project
from modelspend.projection import WINDOWS, View
from modelspend.record import frozen

DAY_MS = 86_400_000
SOON = 0.1
"""The probability from which on a budget may be gone: `earliest_on` is the first such day."""


@frozen
class Exhaustion:
    """When what is left of a budget is gone.

    `probability` is that of its being gone by the end of `until`; `reached_on` is when the
    projection reaches it, `earliest_on` the first day by which it is gone with a probability of
    10 %. None is after `until`, when a budget may begin anew.
    """

    left_pico: int
    until: date
    probability: float
    reached_on: date | None
    earliest_on: date | None


def exhaustion(forecast: Forecast, left_pico: int, until: date) -> Exhaustion:
    """When `left_pico` will be spent, counted from the first day ahead; until the last at most."""
    longest = _longest(forecast).daily
    until = min(until, longest[-1].date)
    ahead = [day for day in longest if day.date <= until]
    chances = [
        _chance(forecast.view, n, day.cumulative_pico, left_pico) for n, day in enumerate(ahead, 1)
    ]
    passed = (day.date for day in ahead if day.cumulative_pico >= left_pico)
    soon = (day.date for chance, day in zip(chances, ahead, strict=True) if chance >= SOON)
    return Exhaustion(
        left_pico=left_pico,
        until=until,
        probability=max(chances, default=float(left_pico <= 0)),
        reached_on=next(passed, None),
        earliest_on=next(soon, None),
    )


def of_month(forecast: Forecast, budget_pico: int) -> Exhaustion:
    """When a budget for a calendar month is gone: the month of the first day ahead, of which the
    days before it are spent."""
    series = forecast.series
    first = series.date(len(series.costs))
    until = (first.replace(day=1) + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    before = min(first.day - 1, len(series.costs))
    spent = sum(series.costs[len(series.costs) - before :])
    return exhaustion(forecast, budget_pico - spent, until)


@frozen(kw_only=True)
class Outlook:
    """What becomes of a budget of the ledger, from now to `until_ms`.

    `left_pico` is the cap without what is spent, negative where more was; `expected_pico` what will
    be spent until then, and `returning_pico` what a rolling window will have let go by then.
    `forecast` has one horizon, of the days until then.
    """

    usage: Usage
    left_pico: int
    until_ms: int
    expected_pico: int
    returning_pico: int
    probability: float
    reached_on: date | None
    earliest_on: date | None
    forecast: Forecast


@frozen
class Unforeseen:
    """A budget that cannot be projected, and why."""

    usage: Usage
    reason: str


@frozen
class _Step:
    """The time up to the end of a day ahead: what is spent in it, and what comes back."""

    days: int
    date: date
    spent_pico: int
    returning_pico: int


def outlook(usage: Usage, charged: Sequence[Day], now_ms: int) -> Outlook | Unforeseen:
    """What becomes of a budget with a cap; `charged` are its days up to yesterday, in UTC."""
    cap = usage.budget.cap_pico
    if cap is None:
        return Unforeseen(usage, "it has no cap")
    if usage.budget.window.kind == "rolling" and usage.budget.window.length_ms < DAY_MS:
        return Unforeseen(usage, "its window is shorter than a day")
    today = now_ms // DAY_MS * DAY_MS
    until = min(_ends(usage, now_ms), today + WINDOWS[-1] * DAY_MS)
    days = max(1, -(-(until - today) // DAY_MS))
    try:
        forecast = project(charged, (days,), _span(charged, today))
    except TooLittleHistory as why:
        return Unforeseen(usage, str(why))
    left = cap - usage.spent_pico
    steps = list(_steps(usage, forecast, now_ms, until))
    chances = [_step_chance(forecast.view, step, left) for step in steps]
    reached = (s.date for s in steps if s.spent_pico - s.returning_pico >= left)
    soon = (step.date for step, chance in zip(steps, chances, strict=True) if chance >= SOON)
    return Outlook(
        usage=usage,
        left_pico=left,
        until_ms=until,
        expected_pico=steps[-1].spent_pico,
        returning_pico=steps[-1].returning_pico,
        probability=max(chances),
        reached_on=_day_of(now_ms) if left <= 0 else next(reached, None),
        earliest_on=next(soon, None),
        forecast=forecast,
    )


def _ends(usage: Usage, now_ms: int) -> int:
    """When the window begins anew, or has let go of all that it holds now."""
    window = usage.budget.window
    if window.kind == "rolling":
        return now_ms + window.length_ms
    return now_ms + WINDOWS[-1] * DAY_MS if usage.resets_at_ms is None else usage.resets_at_ms


def _span(charged: Sequence[Day], today: int) -> tuple[date, date] | None:
    """From the first day on which it was charged anything to yesterday."""
    if not charged:
        return None
    last = _day_of(today) - timedelta(days=1)
    return max(min(day.date for day in charged), last - timedelta(days=MOST_DAYS - 1)), last


def _steps(usage: Usage, forecast: Forecast, now_ms: int, until: int) -> Iterator[_Step]:
    spent = Fraction(0)
    for n, day in enumerate(_longest(forecast).daily, 1):
        begin = _instant(day.date)
        end = min(begin + DAY_MS, until)
        spent += day.cost_pico * Fraction(max(0, end - max(begin, now_ms)), DAY_MS)
        returning = _returning(usage, forecast.series, now_ms, end)
        yield _Step(n, day.date, round(spent), returning)


def _returning(usage: Usage, series: Series, now_ms: int, at_ms: int) -> int:
    """What a rolling window holds now and has let go by then: each day evenly, today as well."""
    window = usage.budget.window
    if window.kind != "rolling":
        return 0
    today, edge = _instant(series.date(len(series.costs))), at_ms - window.length_ms
    left = _between(series, now_ms - window.length_ms, min(edge, today))
    if edge > today:
        held = usage.spent_pico - left
        left += held * Fraction(min(edge, now_ms) - today, max(1, now_ms - today))
    return min(round(left), usage.spent_pico)


def _between(series: Series, begin: int, end: int) -> Fraction:
    """What a time of past days cost."""
    first, found = _instant(series.first), Fraction(0)
    for n in range(max(0, (begin - first) // DAY_MS), len(series.costs)):
        day = first + n * DAY_MS
        if day >= end:
            break
        found += series.costs[n] * Fraction(min(end, day + DAY_MS) - max(begin, day), DAY_MS)
    return found


def _step_chance(view: View, step: _Step, left: int) -> float:
    if left <= 0:
        return 1.0
    return _chance(view, step.days, step.spent_pico, left + step.returning_pico)


def _chance(view: View, days: int, cumulative: int, left: int) -> float:
    """The probability that the first so many days pass what is left."""
    if left <= 0:
        return 1.0
    if cumulative == 0:
        return 0.0
    return 1 - view.spread(days).probability_below(left / cumulative)


def _longest(forecast: Forecast) -> Horizon:
    return max(forecast.horizons, key=lambda horizon: horizon.days)


def _instant(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp()) * 1000


def _day_of(ms: int) -> date:
    return datetime.fromtimestamp(ms / 1000, UTC).date()
