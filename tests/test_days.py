"""Daily series: no day is skipped or doubled, gaps and unknown days are told, oddities found."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspend.days import Day, anomalies, shifts, whole

START = date(2026, 1, 5)  # a Monday


def series(*costs: int | None, start: date = START) -> list[Day]:
    return [Day(start + timedelta(days=n), cost) for n, cost in enumerate(costs)]


@pytest.mark.parametrize(
    ("first", "last", "length"),
    [
        (date(2024, 2, 27), date(2024, 3, 2), 5),  # a leap day
        (date(2026, 2, 27), date(2026, 3, 2), 4),
        (date(2026, 3, 28), date(2026, 3, 30), 3),  # clocks go forward in Europe
        (date(2026, 10, 24), date(2026, 10, 26), 3),  # and back
        (date(2026, 12, 30), date(2027, 1, 2), 4),
    ],
)
def test_no_day_is_skipped_or_doubled(first: date, last: date, length: int) -> None:
    found = whole([Day(last, 2), Day(first, 1)])
    assert len(found.costs) == length
    assert [found.date(n) for n in range(length)] == [
        first + timedelta(days=n) for n in range(length)
    ]
    assert found.last == last
    assert found.missing == length - 2


def test_rows_of_one_date_are_added_up_in_any_order() -> None:
    days = series(1, 2, 3)
    assert whole([*reversed(days), Day(START, 10)]).costs == (11, 2, 3)


def test_a_missing_day_cost_nothing_and_an_unknown_one_what_its_weekday_does() -> None:
    costs = [None if n == 8 else n % 7 + 1 for n in range(21)]
    found = whole([day for day in series(*costs) if day.date != START + timedelta(days=3)])
    assert found.costs[8] == found.costs[1] == 2
    assert found.costs[3] == 0
    assert (found.missing, found.unknown) == (1, 1)


def test_days_within_bounds_are_filled_up_to_both() -> None:
    bounds = START - timedelta(days=2), START + timedelta(days=4)
    found = whole(series(5, 6), within=bounds)
    assert (found.first, found.last) == bounds
    assert found.costs == (0, 0, 5, 6, 0, 0, 0)
    assert found.missing == 5


def test_a_negative_cost_is_refused_with_its_date() -> None:
    with pytest.raises(ValueError, match="2026-01-06"):
        whole(series(1, -1))


@given(st.lists(st.one_of(st.none(), st.integers(0, 10**18)), min_size=1, max_size=60))
def test_known_costs_stay_as_they_are(costs: list[int | None]) -> None:
    found = whole(series(*costs))
    assert len(found.costs) == len(costs)
    assert all(a == b for a, b in zip(found.costs, costs, strict=True) if b is not None)


def test_a_spike_and_a_drop_are_told_with_what_is_usual() -> None:
    costs = [100 + n % 7 for n in range(70)]
    costs[30], costs[50] = 900, 3
    found = anomalies(whole(series(*costs)))
    assert [(each.kind, each.cost_pico) for each in found] == [("spike", 900), ("drop", 3)]
    assert found[0].date == START + timedelta(days=30)
    assert found[0].usual_pico == 102


def test_what_happens_every_week_is_no_anomaly() -> None:
    assert anomalies(whole(series(*[0 if n % 7 > 4 else 100 for n in range(70)]))) == ()


def test_a_new_level_is_found_on_its_day() -> None:
    found = shifts(
        whole(series(*[100 + n % 3 for n in range(40)], *[250 + n % 3 for n in range(40)]))
    )
    assert [(each.date, each.before_pico, each.after_pico) for each in found] == [
        (START + timedelta(days=40), 101, 251)
    ]


def test_a_steady_level_has_no_shift() -> None:
    assert shifts(whole(series(*[100 + n * 7 % 5 for n in range(80)]))) == ()
