"""A forecast's laws: sums are exact, bands widen, nothing is peeked at, budgets run out."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelspend.days import Day
from modelspend.errors import TooLittleHistory
from modelspend.exhaustion import exhaustion, of_month
from modelspend.forecast import HORIZONS, LEAST_DAYS, LEVELS, project
from modelspend.projection import Past

START = date(2026, 1, 5)
USD = 10**12


def days(costs: Sequence[int], start: date = START) -> list[Day]:
    return [Day(start + timedelta(days=n), cost) for n, cost in enumerate(costs)]


def noisy(length: int, noise: float, seed: int = 1) -> list[int]:
    random = Random(seed)
    return [round(100 * USD * max(0.0, random.gauss(1, noise))) for _ in range(length)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**16), min_size=LEAST_DAYS, max_size=150))
@example([0, 1, 1, 1, 1, 1, 32, 0, 0, 0, 0, 0, 0, 0])
def test_days_add_up_to_every_total_and_bands_hold_it(costs: list[int]) -> None:
    found = project(days(costs))
    for horizon in found.horizons:
        assert len(horizon.daily) == horizon.days
        assert sum(day.cost_pico for day in horizon.daily) == horizon.cost_pico
        assert horizon.daily[-1].cumulative_pico == horizon.cost_pico
        assert horizon.daily[-1].cumulative_bands == horizon.bands
        for each in (horizon, *horizon.daily):
            low, high = each.bands[80]
            least, most = each.bands[95]
            assert 0 <= least <= low <= each.cost_pico <= high <= most
        edges = [day.cumulative_bands[80] for day in horizon.daily]
        assert edges == sorted(edges)


@pytest.mark.parametrize("last", [date(2024, 2, 28), date(2026, 3, 28), date(2026, 10, 24),
                                  date(2026, 12, 31), date(2028, 2, 29)])  # fmt: skip
def test_the_days_ahead_are_every_day_once(last: date) -> None:
    found = project(days([USD] * 60, last - timedelta(days=59)))
    dates = [day.date for day in found.horizons[-1].daily]
    assert dates == [last + timedelta(days=n) for n in range(1, 91)]


def test_shorter_horizons_are_the_beginning_of_longer_ones() -> None:
    found = project(days(noisy(200, 0.3)))
    for short, long in zip(found.horizons, found.horizons[1:], strict=False):
        assert long.daily[: short.days] == short.daily


def test_a_band_widens_with_variance() -> None:
    widths = []
    for noise in (0.02, 0.1, 0.3, 0.6):
        horizon = project(days(noisy(180, noise))).horizons[0]
        low, high = horizon.bands[80]
        widths.append((high - low) / horizon.cost_pico)
    assert widths == sorted(widths)
    assert widths[-1] > 2 * widths[0]


def test_a_steady_cost_goes_on_to_the_last_digit() -> None:
    found = project(days([123_456_789_012] * 120))
    assert [each.cost_pico for each in found.horizons] == [123_456_789_012 * n for n in HORIZONS]
    assert found.base_daily_pico == 123_456_789_012
    assert found.trend == 0


def test_weekdays_are_those_of_the_past() -> None:
    costs = [USD * (1 if n % 7 > 4 else 10) for n in range(140)]
    ahead = project(days(costs)).horizons[0].daily
    weekend = [day.cost_pico for day in ahead if day.date.weekday() > 4]
    working = [day.cost_pico for day in ahead if day.date.weekday() <= 4]
    assert max(weekend) < min(working) / 5


def test_growth_goes_on_and_dies_away() -> None:
    found = project(days([round(USD * 1.01**n) for n in range(120)]))
    assert 0.02 < found.trend < 1.01**28 - 1


def test_a_giant_day_counts_for_little_until_it_comes_again() -> None:
    once = [10 * USD] * 120
    once[70] = 5000 * USD
    again = list(once)
    again[100] = 5000 * USD
    first, second = (project(days(costs)).horizons[0].cost_pico for costs in (once, again))
    assert 300 * USD <= first < 450 * USD
    assert second > 3 * first


def test_a_new_level_is_believed_after_its_first_day() -> None:
    costs = [USD] * 60 + [1000 * USD] * 30
    total = project(days(costs)).horizons[0].cost_pico
    assert total > 15_000 * USD


def test_bursts_between_days_of_nothing_are_the_rule() -> None:
    costs = [20 * USD if n % 14 == 3 else 0 for n in range(140)]
    total = project(days(costs)).horizons[-1].cost_pico
    assert 0.7 * 129 * USD < total < 1.3 * 129 * USD


def test_nothing_spent_forecasts_nothing() -> None:
    found = project(days([0] * 40))
    assert found.horizons[-1].cost_pico == 0
    assert found.horizons[-1].bands[95] == (0, 0)


def test_an_origin_knows_nothing_of_what_came_after_it() -> None:
    costs = noisy(300, 0.4)
    for origin in (20, 60, 150, 299):
        other = [*costs[:origin], *[7 * cost for cost in costs[origin:]]]
        assert Past(costs, 0).at(origin) == Past(other, 0).at(origin)


def test_the_back_test_is_the_forecast_of_its_own_time() -> None:
    """The band that a past origin is judged by is the one that was printed then."""
    costs = noisy(200, 0.5, seed=5)
    costs[20] = costs[23] = costs[120] = 10**17
    for horizon in (30, 60):
        told = project(days(costs), (horizon,)).horizons[0].backtest
        origins = range(len(costs) - horizon, LEAST_DAYS - 1, -7)[:26]
        held = dict.fromkeys(LEVELS, 0)
        for origin in origins:
            then = project(days(costs[:origin]), (horizon,)).horizons[0]
            actual = sum(costs[origin : origin + horizon])
            for level in LEVELS:
                held[level] += then.bands[level][0] <= actual <= then.bands[level][1]
        assert told.origins == len(origins)
        assert told.covered == held


@pytest.mark.parametrize("length", [0, 1, LEAST_DAYS - 1])
def test_too_few_days_are_refused_with_how_many_there_must_be(length: int) -> None:
    with pytest.raises(TooLittleHistory, match=str(LEAST_DAYS)):
        project(days([USD] * length))


def test_the_least_history_says_that_nothing_was_tried_out() -> None:
    found = project(days(noisy(LEAST_DAYS, 0.2))).horizons[0]
    assert found.backtest.origins == 0
    assert found.backtest.coverage(80) is None


def test_the_scale_of_the_money_does_not_matter() -> None:
    costs = noisy(120, 0.3)
    small, large = project(days(costs)), project(days([cost * 1000 for cost in costs]))
    for a, b in zip(small.horizons, large.horizons, strict=True):
        assert b.cost_pico == pytest.approx(1000 * a.cost_pico, rel=1e-9)
        assert b.backtest.covered == a.backtest.covered


# Budgets.


def test_a_budget_is_gone_sooner_when_it_is_smaller() -> None:
    found = project(days(noisy(120, 0.3)))
    until = found.series.last + timedelta(days=30)
    chances = [exhaustion(found, n * 100 * USD, until).probability for n in (1, 20, 30, 45, 200)]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > 0.99
    assert chances[-1] < 0.01


def test_a_steady_budget_is_gone_on_the_day_that_division_says() -> None:
    found = project(days([10 * USD] * 100))
    gone = exhaustion(found, 95 * USD, found.series.last + timedelta(days=30))
    assert gone.reached_on == found.series.last + timedelta(days=10)
    assert gone.earliest_on is not None
    assert gone.earliest_on <= gone.reached_on


def test_a_budget_that_is_spent_is_gone() -> None:
    found = project(days([10 * USD] * 100))
    assert exhaustion(found, 0, found.series.last).probability == 1.0


@pytest.mark.parametrize(
    ("last", "spent_days", "until"),
    [
        (date(2026, 4, 10), 10, date(2026, 4, 30)),
        (date(2026, 3, 31), 0, date(2026, 4, 30)),
        (date(2024, 2, 1), 1, date(2024, 2, 29)),
        (date(2026, 12, 30), 30, date(2026, 12, 31)),
    ],
)
def test_a_monthly_budget_counts_what_the_month_has_spent(
    last: date, spent_days: int, until: date
) -> None:
    found = project(days([10 * USD] * 60, last - timedelta(days=59)))
    gone = of_month(found, 1000 * USD)
    assert gone.left_pico == (1000 - 10 * spent_days) * USD
    assert gone.until == until


def test_a_horizon_beyond_what_was_tried_is_refused() -> None:
    with pytest.raises(ValueError, match="1 to 90"):
        project(days([USD] * 60), (120,))


def test_missing_days_at_the_end_count() -> None:
    known = days([USD] * 40)
    until = known[-1].date + timedelta(days=10)
    found = project(known, within=(START, until))
    assert found.history_days == 50
    assert found.series.missing == 10
    assert found.base_daily_pico < USD
    assert replace(found, view=found.view) == found
