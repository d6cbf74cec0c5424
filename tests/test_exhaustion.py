"""When budgets run out: today counts in part, windows end where they do, what leaves is back."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspend import windows
from modelspend.budgets import Budget, Usage
from modelspend.days import Day
from modelspend.exhaustion import DAY_MS, Outlook, Unforeseen, of_month, outlook
from modelspend.forecast import LEAST_DAYS, project
from tests.test_forecast import USD, noisy

NOON = datetime(2026, 4, 10, 12, tzinfo=UTC)


def ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def usage(
    window: str, cap: int | None, spent: int, zone: str = "UTC", at: datetime = NOON
) -> Usage:
    own = windows.parse(window, zone)
    ends = windows.span(own, ms(at))[1] if own.calendar else None
    return Usage(
        budget=Budget(scope="tenant", name="acme", window=own, cap_pico=cap),
        spent_pico=spent,
        held_pico=0,
        starts_at_ms=None,
        resets_at_ms=ends,
    )


def before(at: datetime, costs: Sequence[int]) -> list[Day]:
    """So many days, the last of them yesterday."""
    first = at.date() - timedelta(days=len(costs))
    return [Day(first + timedelta(days=n), cost) for n, cost in enumerate(costs)]


def told(one: Usage, costs: Sequence[int], at: datetime = NOON) -> Outlook:
    found = outlook(one, before(at, costs), ms(at))
    assert isinstance(found, Outlook)
    return found


STEADY = [10 * USD] * 60


def test_of_today_only_what_is_left_of_it_is_still_to_come() -> None:
    found = told(usage("month", 125 * USD, 95 * USD), STEADY)
    assert found.left_pico == 30 * USD
    # 5 today, then 10 a day: 5, 15, 25, 35
    assert found.reached_on == date(2026, 4, 13)
    assert found.expected_pico == 205 * USD
    assert found.probability > 0.99


@pytest.mark.parametrize(
    ("window", "zone", "ends"),
    [
        ("month", "UTC", datetime(2026, 5, 1, tzinfo=UTC)),
        ("month", "America/Los_Angeles", datetime(2026, 5, 1, 7, tzinfo=UTC)),
        ("month", "Europe/Berlin", datetime(2026, 4, 30, 22, tzinfo=UTC)),
        ("week", "Asia/Kolkata", datetime(2026, 4, 12, 18, 30, tzinfo=UTC)),
        ("day", "Asia/Tokyo", datetime(2026, 4, 10, 15, tzinfo=UTC)),
    ],
)
def test_what_is_expected_is_what_fits_in_before_the_window_ends(
    window: str, zone: str, ends: datetime
) -> None:
    found = told(usage(window, 1000 * USD, 0, zone), STEADY)
    assert found.until_ms == ms(ends)
    assert found.expected_pico == round(Fraction(10 * USD * (ms(ends) - ms(NOON)), DAY_MS))
    assert found.reached_on is None


@pytest.mark.parametrize(
    ("at", "hours"),
    [
        (datetime(2026, 3, 27, 23, tzinfo=UTC), 23),  # 00:00 in Berlin; the clock goes forward
        (datetime(2026, 10, 24, 22, tzinfo=UTC), 25),  # 00:00 in Berlin; the clock goes back
    ],
)
def test_a_day_on_which_the_clock_changes_costs_as_many_hours_as_it_has(
    at: datetime, hours: int
) -> None:
    start = at + timedelta(days=1) if hours == 23 else at
    one = usage("day", 100 * USD, 0, "Europe/Berlin", start)
    found = told(one, [24 * USD] * 60, start)
    assert found.until_ms - ms(start) == hours * 3_600_000
    assert found.expected_pico == hours * USD


def test_a_month_that_ends_soon_is_not_said_to_run_out_in_the_next_one() -> None:
    late = datetime(2026, 4, 29, tzinfo=UTC)
    found = told(usage("month", 325 * USD, 280 * USD, at=late), STEADY, late)
    assert found.reached_on is None
    assert found.expected_pico == 20 * USD
    whole = of_month(project(before(late, STEADY)), 325 * USD)
    assert whole.until == date(2026, 4, 30)
    assert whole.reached_on is None


def test_a_rolling_window_gets_back_what_leaves_it() -> None:
    found = told(usage("7d", 75 * USD, 70 * USD), STEADY)
    assert found.until_ms == ms(NOON) + 7 * DAY_MS
    assert found.expected_pico == 70 * USD
    assert found.returning_pico == 70 * USD
    assert found.reached_on is None
    assert found.probability < 0.01
    # a week at 20 leaves it while 10 a day come: it is fullest now
    fallen = [*[10 * USD] * 50, *[20 * USD] * 10]
    assert told(usage("7d", 141 * USD, 140 * USD), fallen).reached_on is None
    # and one at 10 leaves it while some 20 a day come
    risen = [*[20 * USD] * 40, *[10 * USD] * 7]
    assert told(usage("7d", 80 * USD, 70 * USD), risen).reached_on is not None


def test_a_rolling_window_of_a_year_is_followed_as_far_as_a_forecast_goes() -> None:
    found = told(usage("365d", 2000 * USD, 600 * USD), STEADY)
    assert found.until_ms == ms(NOON.replace(hour=0)) + 90 * DAY_MS
    assert found.returning_pico == 0
    assert found.expected_pico == 895 * USD


def test_a_budget_that_never_begins_anew_is_followed_to_the_last_day_ahead() -> None:
    found = told(usage("total", 700 * USD, 600 * USD), STEADY)
    assert found.reached_on == date(2026, 4, 20)
    assert found.probability > 0.99


def test_what_is_spent_already_is_gone_today() -> None:
    for spent in (100 * USD, 130 * USD):
        found = told(usage("month", 100 * USD, spent), STEADY)
        assert (found.probability, found.reached_on) == (1.0, NOON.date())
        assert found.earliest_on == NOON.date()
        assert found.left_pico == 100 * USD - spent


def test_nothing_spent_takes_nothing() -> None:
    found = told(usage("month", 1, 0), [0] * 30)
    assert (found.probability, found.expected_pico, found.reached_on) == (0.0, 0, None)


@pytest.mark.parametrize(
    ("one", "costs", "why"),
    [
        (usage("month", None, 0), STEADY, "no cap"),
        (usage("60m", USD, 0), STEADY, "shorter than a day"),
        (usage("month", USD, 0), STEADY[: LEAST_DAYS - 1], f"needs {LEAST_DAYS} whole days"),
        (usage("month", USD, 0), [], f"needs {LEAST_DAYS} whole days"),
    ],
)
def test_what_cannot_be_projected_says_why(one: Usage, costs: list[int], why: str) -> None:
    found = outlook(one, before(NOON, costs), ms(NOON))
    assert isinstance(found, Unforeseen)
    assert why in found.reason


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 10**14), min_size=LEAST_DAYS, max_size=90),
    st.sampled_from(["day", "week", "month", "total", "24h", "30d"]),
    st.integers(0, 10**15),
    st.integers(0, 47),
)
def test_a_larger_cap_is_never_gone_sooner(
    costs: list[int], window: str, spent: int, hours: int
) -> None:
    at = datetime(2026, 3, 28, tzinfo=UTC) + timedelta(hours=hours)
    caps = (0, spent, spent + 10**13, spent + 10**15, spent + 10**17)
    found = [told(usage(window, cap, spent, at=at), costs, at) for cap in caps]
    chances = [each.probability for each in found]
    assert all(0 <= chance <= 1 for chance in chances)
    assert chances == sorted(chances, reverse=True)
    reached = [each.reached_on or date.max for each in found]
    assert reached == sorted(reached)
    assert len({each.expected_pico for each in found}) == 1


def test_noise_makes_a_budget_that_would_just_do_a_matter_of_chance() -> None:
    costs = [cost // 10 for cost in noisy(120, 0.4)]
    found = told(usage("month", 300 * USD, 95 * USD), costs)
    assert 0.05 < found.probability < 0.95
