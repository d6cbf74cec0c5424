"""A forecast as JSON and as rows: dates, exact dollars, each band beside how often it held.

Where a figure could be recomputed from others of the same answer, it is: the days add up to the
total, the total is the last cumulative cost, a coverage is `covered` over `origins`.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from modelspend.days import Anomaly, Shift
from modelspend.exhaustion import Exhaustion, Outlook, Unforeseen
from modelspend.forecast import LEVELS, Backtest, Bands, DayAhead, Forecast, Horizon
from modelspend.money import usd
from modelspend.receipt_json import iso

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def to_json(forecast: Forecast) -> dict[str, Any]:
    series = forecast.series
    return {
        "base_daily_cost_usd": usd(forecast.base_daily_pico),
        "history_days": forecast.history_days,
        "first_day": series.first.isoformat(),
        "last_day": series.last.isoformat(),
        "missing_days": series.missing,
        "unknown_days": series.unknown,
        "weekday_factors": dict(zip(WEEKDAYS, map(_short, forecast.week), strict=True)),
        "trend_30d": _short(forecast.trend),
        "horizons": [_horizon(each) for each in forecast.horizons],
        "anomalies": [_anomaly(each) for each in forecast.anomalies],
        "level_shifts": [_shift(each) for each in forecast.shifts],
    }


def total_json(horizon: Horizon) -> dict[str, Any]:
    """A total with its bands and how they did, without its days."""
    return {
        "horizon_days": horizon.days,
        "total": {"cost_usd": usd(horizon.cost_pico), "bands": _bands(horizon.bands)},
        "backtest": _backtest(horizon.backtest),
    }


def exhaustion_json(found: Exhaustion, budget_pico: int) -> dict[str, Any]:
    return {
        "budget_usd": usd(budget_pico),
        "left_usd": usd(found.left_pico),
        "until": found.until.isoformat(),
        "probability": _short(found.probability),
        "reached_on": found.reached_on.isoformat() if found.reached_on else None,
        "earliest_on": found.earliest_on.isoformat() if found.earliest_on else None,
    }


def outlook_json(found: Outlook | Unforeseen) -> dict[str, Any]:
    """A budget of the ledger. What is not spent is its cap without what is; the rest is null and
    `reason` says why where it cannot be projected."""
    said = found.usage.to_json()
    if isinstance(found, Unforeseen):
        return {**said, "outlook": None, "reason": found.reason}
    outlook = {
        "unspent_usd": usd(found.left_pico),
        "until": iso(found.until_ms),
        "expected_usd": usd(found.expected_pico),
        "returning_usd": usd(found.returning_pico),
        "probability": _short(found.probability),
        "reached_on": found.reached_on.isoformat() if found.reached_on else None,
        "earliest_on": found.earliest_on.isoformat() if found.earliest_on else None,
        "history_days": found.forecast.history_days,
        "backtest": _backtest(found.forecast.horizons[0].backtest),
    }
    return {**said, "outlook": outlook, "reason": None}


COLUMNS = (
    "date", "cost_usd", "low_80_usd", "high_80_usd", "low_95_usd", "high_95_usd",
    "cumulative_usd", "cumulative_low_80_usd", "cumulative_high_80_usd",
    "cumulative_low_95_usd", "cumulative_high_95_usd",
)  # fmt: skip
"""Of CSV; scripts rely on their names and their order."""


def rows(horizon: Horizon) -> Iterator[tuple[str, ...]]:
    """A row for each day ahead."""
    for day in horizon.daily:
        figures = [day.cost_pico, *_flat(day.bands)]
        figures += [day.cumulative_pico, *_flat(day.cumulative_bands)]
        yield day.date.isoformat(), *(format(usd(each), "f") for each in figures)


def _flat(bands: Bands) -> list[int]:
    return [edge for level in LEVELS for edge in bands[level]]


def _horizon(horizon: Horizon) -> dict[str, Any]:
    return {**total_json(horizon), "daily": [_day(day) for day in horizon.daily]}


def _day(day: DayAhead) -> dict[str, Any]:
    return {
        "date": day.date.isoformat(),
        "cost_usd": usd(day.cost_pico),
        "bands": _bands(day.bands),
        "cumulative_usd": usd(day.cumulative_pico),
        "cumulative_bands": _bands(day.cumulative_bands),
    }


def _bands(bands: Bands) -> Mapping[str, list[Decimal]]:
    return {str(level): [usd(edge) for edge in bands[level]] for level in LEVELS}


def _backtest(found: Backtest) -> dict[str, Any]:
    told = {str(level): found.coverage(level) for level in LEVELS}
    return {
        "origins": found.origins,
        "covered": {str(level): found.covered[level] for level in LEVELS},
        "coverage": {level: None if each is None else _short(each) for level, each in told.items()},
        "median_error": None if found.median_error is None else _short(found.median_error),
    }


def _anomaly(found: Anomaly) -> dict[str, Any]:
    return {
        "date": found.date.isoformat(),
        "kind": found.kind,
        "cost_usd": usd(found.cost_pico),
        "usual_usd": usd(found.usual_pico),
    }


def _shift(found: Shift) -> dict[str, Any]:
    return {
        "date": found.date.isoformat(),
        "before_usd": usd(found.before_pico),
        "after_usd": usd(found.after_pico),
    }


def _short(value: float) -> Decimal:
    """A share or a factor, to four digits behind the point."""
    return Decimal(f"{value:.4f}")
