"""Daily files: what is read, and that a bad line is told and never stops the others."""

from datetime import date

import pytest

from modelspend.daily_csv import BadLine, read
from modelspend.days import Day

CASES = [
    ("2026-11-01,1.5", 1_500_000_000_000),
    ("2026-11-01,$0.000000000001", 1),
    ("2026-11-01,0.30000000000000004", 300_000_000_000),
    ("2026-11-01,1e-6", 1_000_000),
    ("2026-11-01,", None),
    ("2026-11-01,null", None),
    ("2026-11-01", None),
    ("2026-11-01,9000000", 9_000_000 * 10**12),
]


@pytest.mark.parametrize(("line", "cost"), CASES)
def test_a_line_is_a_date_and_dollars(line: str, cost: int | None) -> None:
    assert read(["date,cost_usd\n", line]) == ([Day(date(2026, 11, 1), cost)], [])


def test_columns_may_stand_anywhere_and_others_are_ignored() -> None:
    found = read(["\ufeffteam,Cost_USD,date\r\n", "x,2,2026-11-01\r\n", "\r\n"])
    assert found == ([Day(date(2026, 11, 1), 2 * 10**12)], [])


def test_json_lines_are_read_digit_by_digit() -> None:
    lines = [
        '{"date": "2026-11-01", "cost_usd": 0.1}\n',
        '{"date": "2026-11-02", "cost_usd": null}',
    ]
    assert read(lines)[0] == [Day(date(2026, 11, 1), 10**11), Day(date(2026, 11, 2), None)]


@pytest.mark.parametrize(
    "line", ["2026-02-29,1", "yesterday,1", "2026-11-01,-1", "2026-11-01,1e99", "2026-11-01,abc"]
)
def test_a_bad_line_is_told_with_its_number(line: str) -> None:
    days, bad = read(["date,cost_usd", line, "2026-11-03,1"])
    assert [day.date for day in days] == [date(2026, 11, 3)]
    assert [each.line for each in bad] == [2]


def test_a_bad_json_line_is_told_too() -> None:
    assert read(['{"date": "2026-11-01", "cost_usd": 1}', "{oops"])[1] == [
        BadLine(2, "not a JSON object")
    ]


@pytest.mark.parametrize("lines", [[], ["day,usd"], ["2026-11-01,1"]])
def test_a_file_of_something_else_is_refused(lines: list[str]) -> None:
    with pytest.raises(ValueError, match="date and cost_usd"):
        read(lines)
