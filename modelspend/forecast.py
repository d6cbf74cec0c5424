"""What is going to be spent: daily and in total, with bands of the total that were tried out.

Daily bands do not add up: good and bad days cancel within a month, while a wrong level does not. So
the band of a total is made of the errors of past totals, and beside it stands how often such a band
held on this very series, made at every past week from what was known then. `projection` holds the
model; here it becomes dates and whole pico-dollars, in which the days add up to the total.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from fractions import Fraction
from statistics import median

from modelspend.days import Anomaly, Day, Series, Shift, anomalies, shifts, whole
from modelspend.errors import TooLittleHistory
from modelspend.projection import WINDOWS, Past, View
from modelspend.record import frozen

HORIZONS = (30, 60, 90)
LEVELS = (80, 95)
LEAST_DAYS = 14
"""Two of each weekday: with fewer, a Sunday cannot be told from a bad day."""

_MOST_ORIGINS = 26  # half a year of weeks
_BASE_DAYS = 28

Bands = Mapping[int, tuple[int, int]]
"""By level in per cent: the least and the most."""


@frozen
class DayAhead:
    """One day to come, and all up to it. Daily bands do not add up to cumulative ones."""

    date: date
    cost_pico: int
    bands: Bands
    cumulative_pico: int
    cumulative_bands: Bands


@frozen
class Backtest:
    """How such a band did at past origins, a week apart: how many totals each level covered.

    `median_error` is that of the totals, as a share of what they came to.
    """

    origins: int
    covered: Mapping[int, int]
    median_error: float | None

    def coverage(self, level: int) -> float | None:
        """The share of totals that the band covered; None without an origin."""
        return self.covered[level] / self.origins if self.origins else None


@frozen
class Horizon:
    """The total of the days ahead, which are the same in every horizon."""

    days: int
    cost_pico: int
    bands: Bands
    daily: tuple[DayAhead, ...]
    backtest: Backtest


@frozen(kw_only=True)
class Forecast:
    """A projection. `week` is what Monday to Sunday cost beside the mean day.

    `base_daily_pico` is the mean of the last four weeks, `trend` how much the level changes over
    the first 30 days ahead (0.1 is 10 % more). `view` is the model as it stands today.
    """

    series: Series
    base_daily_pico: int
    week: tuple[float, ...]
    trend: float
    horizons: tuple[Horizon, ...]
    anomalies: tuple[Anomaly, ...]
    shifts: tuple[Shift, ...]
    view: View

    @property
    def history_days(self) -> int:
        return len(self.series.costs)


def project(
    days: Iterable[Day],
    horizons: Sequence[int] = HORIZONS,
    within: tuple[date, date] | None = None,
) -> Forecast:
    """The projection of a daily series, the same for the same days; `within` is as for `whole`.

    Raises TooLittleHistory, and ValueError for a horizon that is not among 1 to 90 days.
    """
    if not all(1 <= horizon <= WINDOWS[-1] for horizon in horizons):
        raise ValueError(f"a horizon is 1 to {WINDOWS[-1]} days, not {horizons}")
    series = _enough(days, within)
    past = Past(series.costs, series.first.weekday())
    view = past.at(len(series.costs))
    ahead = _ahead(series, view, max(horizons))
    return Forecast(
        series=series,
        base_daily_pico=_base(series.costs),
        week=view.week,
        trend=_trend(view),
        horizons=tuple(_horizon(past, series, ahead, horizon) for horizon in horizons),
        anomalies=anomalies(series),
        shifts=shifts(series),
        view=view,
    )


def _enough(days: Iterable[Day], within: tuple[date, date] | None) -> Series:
    """The series, if it is long enough to say anything."""
    known = list(days)
    series = whole(known, within) if known else None
    found = len(series.costs) if series else 0
    if series is None or found < LEAST_DAYS:
        raise TooLittleHistory(
            f"A forecast needs {LEAST_DAYS} whole days, two of each weekday; there"
            f" {'is' if found == 1 else 'are'} {found}.",
            "Wait, widen --since, or read a longer history: modelspend forecast --from daily.csv",
        )
    return series


def _ahead(series: Series, view: View, days: int) -> tuple[DayAhead, ...]:
    ahead: list[DayAhead] = []
    total = 0
    low = dict.fromkeys(LEVELS, 0)
    high = dict.fromkeys(LEVELS, 0)
    for n in range(days):
        cost = round(Fraction(view.days[n]))
        total += cost
        bands = {}
        spread = view.spread(n + 1)
        day, whole_time = (cost, cost), (total, total)
        for level in LEVELS:  # a wider one holds the narrower, also where few days were seen
            below, above = _edges(level)
            day = bands[level] = _around(
                day, cost, view.day_factor(n + 1, below), view.day_factor(n + 1, above)
            )
            whole_time = _around(whole_time, total, spread.factor(below), spread.factor(above))
            least, most = whole_time
            low[level], high[level] = max(low[level], least), max(high[level], most)
        ahead.append(
            DayAhead(
                date=series.date(len(series.costs) + n),
                cost_pico=cost,
                bands=bands,
                cumulative_pico=total,
                cumulative_bands={level: (low[level], high[level]) for level in LEVELS},
            )
        )
    return tuple(ahead)


def _horizon(past: Past, series: Series, ahead: tuple[DayAhead, ...], days: int) -> Horizon:
    last = ahead[days - 1]
    return Horizon(
        days=days,
        cost_pico=last.cumulative_pico,
        bands=last.cumulative_bands,
        daily=ahead[:days],
        backtest=_backtest(past, series.costs, days),
    )


def _backtest(past: Past, costs: Sequence[int], days: int) -> Backtest:
    """The same forecast from past weeks, each from no more than what was known then."""
    origins = range(len(costs) - days, LEAST_DAYS - 1, -7)[:_MOST_ORIGINS]
    covered = dict.fromkeys(LEVELS, 0)
    errors = []
    for origin in origins:
        view = past.at(origin, days)
        told, spread = sum(view.days[:days]), view.spread(days)
        actual = sum(costs[origin : origin + days])
        for level in LEVELS:
            below, above = _edges(level)
            covered[level] += told * spread.factor(below) <= actual <= told * spread.factor(above)
        if actual:
            errors.append(abs(told / actual - 1))
    return Backtest(len(origins), covered, median(errors) if errors else None)


def _edges(level: int) -> tuple[float, float]:
    """The probabilities between which the band lies."""
    return (100 - level) / 200, (100 + level) / 200


def _around(inner: tuple[int, int], cost: int, below: float, above: float) -> tuple[int, int]:
    """A band around a cost, in whole pico-dollars, that holds a narrower one."""
    return min(inner[0], int(cost * Fraction(below))), max(inner[1], -int(-cost * Fraction(above)))


def _base(costs: Sequence[int]) -> int:
    recent = costs[-_BASE_DAYS:]
    return round(Fraction(sum(recent), len(recent)))


def _trend(view: View) -> float:
    """From the first week ahead to the fifth, so that weekdays do not count."""
    now, then = sum(view.days[:7]), sum(view.days[28:35])
    return then / now - 1 if now else 0.0
