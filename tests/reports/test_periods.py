"""Periods of reports: days and months of UTC, of which none is opened twice and none left out,
whatever the clocks on the walls do, and whatever this machine's own clock does."""

import asyncio
import csv
import io
import json
import random
import time
from calendar import monthrange
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from modelspend import periods
from modelspend.cli import app
from modelspend.receipt import Receipt
from modelspend.receipt_json import from_iso, iso
from modelspend.reports import Asked, mix, savings, spend, tenants
from modelspend.reports.table import before, days_of
from modelspend.store import DAY_MS, Filter, Store
from tests.store.synthetic import Traffic

HOUR_MS = 3_600_000
INSTANTS = st.datetimes(datetime(2023, 1, 1), datetime(2033, 1, 1)).map(
    lambda at: round(at.replace(tzinfo=UTC).timestamp() * 1000)
)
EDGES = [
    from_iso(text)
    for text in (
        "2024-02-29T00:00:00Z",
        "2024-02-29T23:59:59Z",
        "2024-03-31T12:00:00Z",
        "2026-03-01T00:00:00Z",
        "2026-10-25T01:30:00Z",
        "2026-12-31T23:59:59Z",
        "2027-01-01T00:00:00Z",
        "2028-02-29T12:00:00Z",
        "2100-03-01T00:00:00Z",  # no leap year
    )
]


def at_the_edges(test: Callable[..., None]) -> Callable[..., None]:
    for edge in EDGES:
        test = example(now=edge)(test)
    return test


@at_the_edges
@given(now=INSTANTS)
def test_a_month_to_date_begins_where_the_month_does_and_is_compared_with_the_one_before(
    now: int,
) -> None:
    since, until = Asked(now_ms=now).period("mtd")
    start, at = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (since, now))
    assert (start.year, start.month, start.day) == (at.year, at.month, 1)
    assert since % DAY_MS == 0
    assert since <= now < until == now + 1
    earlier, end = before(since, until)
    then = datetime.fromtimestamp(earlier / 1000, UTC)
    last_month = (start - timedelta(days=1)).replace(day=1)
    assert then == last_month
    length = monthrange(then.year, then.month)[1] * DAY_MS
    assert end == min(earlier + (until - since), earlier + length) <= since


@at_the_edges
@given(now=INSTANTS)
def test_months_follow_each_other_without_a_gap_or_a_day_in_two(now: int) -> None:
    at = datetime.fromtimestamp(now / 1000, UTC)
    months = [
        f"{at.year + (at.month + n - 1) // 12}-{(at.month + n - 1) % 12 + 1:02}" for n in range(14)
    ]
    spans = [
        (periods.instant(month, now), periods.instant(month, now, end=True)) for month in months
    ]
    assert all(end == start for (_, end), (start, _) in pairwise(spans))
    assert spans[0][0] <= now < spans[0][1]
    days = [day for since, until in spans for day in days_of(since, until)]
    assert days == list(range(days[0], days[-1] + 1))


@given(now=INSTANTS, days=st.integers(1, 400))
def test_any_other_period_is_compared_with_as_long_a_time_right_before(now: int, days: int) -> None:
    since, until = Asked(now_ms=now, wheres=(Filter(since_ms=now - days * DAY_MS),)).period("mtd")
    start = datetime.fromtimestamp(since / 1000, UTC)
    if start.day == 1 and since % DAY_MS == 0 and days <= 31:
        return
    assert before(since, until) == (since - (until - since), since)


# A ledger of the hours round the change of the clocks, month ends and leap days.

SPANS = (
    ("2026-03-28", "2026-03-31"),  # Europe goes forward, and a month ends
    ("2026-10-24", "2026-10-27"),  # Europe goes back
    ("2026-10-31", "2026-11-03"),  # the United States go back, and a month ends
    ("2028-02-28", "2028-03-02"),  # a leap day
    ("2027-12-31", "2028-01-02"),
)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia")


def every_hour() -> Iterator[Receipt]:
    made = Traffic(17).receipts(10_000)
    for first, last in SPANS:
        for ms in range(from_iso(f"{first}T00:00:00Z"), from_iso(f"{last}T00:00:00Z"), HOUR_MS):
            for shift in (0, HOUR_MS - 1):  # the first and the last millisecond of it
                yield replace(next(made), created_at_ms=ms + shift)


@pytest.fixture(scope="module")
def hourly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("periods") / "ledger.db"

    async def write() -> None:
        store = await Store.open(path, durability="normal")
        receipts = list(every_hour())
        random.Random(2).shuffle(receipts)  # the clock goes back as often as forward
        for n, receipt in enumerate(receipts):
            await store.calls.finish(receipt)
            if n % 100 == 50:
                await store.days.roll()
        assert await store.meta.check() == []
        await store.close()

    asyncio.run(write())
    return path


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The machine's own time zone, which must mean nothing."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def run(path: Path, *words: str) -> str:
    done = CliRunner(env={"MODELSPEND_STORE__PATH": str(path)}).invoke(app, list(words))
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_every_day_has_its_24_hours_in_any_time_zone(hourly: Path, zone: str) -> None:
    for first, last in SPANS:
        last_day = iso(from_iso(f"{last}T00:00:00Z") - 1)[:10]
        words = ("--by", "day", "--since", first, "--until", last_day, "--json")
        report = json.loads(run(hourly, "spend", *words))
        assert [row["requests"] for row in report["rows"]] == [48] * len(report["rows"])
        assert report["rows"][0]["day"] == first
        assert report["rows"][-1]["day"] == last_day
        days = (from_iso(f"{last}T00:00:00Z") - from_iso(f"{first}T00:00:00Z")) // DAY_MS
        assert len(report["rows"]) == days


def test_months_of_an_export_have_every_receipt_once_in_any_time_zone(
    hourly: Path, zone: str
) -> None:
    found: list[str] = []
    for month in ("2026-03", "2026-10", "2026-11", "2027-12", "2028-01", "2028-02", "2028-03"):
        text = run(hourly, "export", "ledger", "--period", month)
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        assert rows
        assert all(row["created_at"].startswith(month) for row in rows), month
        found += [row["receipt_id"] for row in rows]
    written = {receipt.receipt_id for receipt in every_hour()}
    assert len(found) == len(written)
    assert set(found) == written


async def test_a_clock_that_goes_back_over_the_end_of_a_month_opens_nothing_again(
    tmp_path: Path,
) -> None:
    """Two minutes either side of midnight, written in an order that no good clock gives, with the
    sums rolled up after each: each month has its own receipts, and all reports agree."""
    edge = from_iso("2026-11-01T00:00:00Z")
    offsets = [-60_000, 1, 60_000, -1, -30_000, 0, 90_000, -90_000]
    store = await Store.open(tmp_path / "ledger.db", durability="normal")
    costs = {True: 0, False: 0}
    for made, offset in zip(Traffic(5).receipts(len(offsets)), offsets, strict=True):
        await store.calls.finish(replace(made, created_at_ms=edge + offset))
        await store.days.roll()
        costs[offset >= 0] += made.execution.actual_cost_pico or 0
        for now, new in ((edge - 1, False), (edge + DAY_MS, True)):
            for report in (spend, mix, tenants, savings):
                where = Filter(since_ms=periods.instant("mtd", now))
                found = await report(store, Asked(now_ms=now, wheres=(where,)))
                total: Any = found.main.total
                names = [column.name for column in found.main.columns]
                assert total.cells[names.index("cost_usd")] == costs[new], report.__name__
    compared = await spend(store, Asked(now_ms=edge + DAY_MS))
    assert compared.figures["before"]["until"] == iso(edge - 30 * DAY_MS + 1)
    await store.close()


def test_all_days_together_are_the_whole_period(hourly: Path) -> None:
    words = ("--since", "2026-01-01", "--until", "2028-12-31", "--json", "--limit", "10000")
    by_day = json.loads(run(hourly, "spend", "--by", "day", *words), parse_float=Decimal)
    by_tenant = json.loads(run(hourly, "spend", *words), parse_float=Decimal)
    days = sum((Decimal(row["cost_usd"]) for row in by_day["rows"]), Decimal(0))
    assert days == by_tenant["total"]["cost_usd"] == by_tenant["cost_usd"]
    trend = [Decimal(cost) for cost in by_tenant["total"]["trend"]]
    assert sum(trend) == days
