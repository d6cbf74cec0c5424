"""`forecast` on ledgers and files of all kinds: figures that add up, or a clear word why not."""

import json
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from modelspend.days import MOST_DAYS
from tests.cli.conftest import Cli
from tests.days_of_spend import spend, write_days
from tests.store.bulk import load

USD = 10**12


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def yesterday() -> date:
    return datetime.now(UTC).date() - timedelta(days=1)


@pytest.fixture
def place(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger that every command finds and a test fills."""
    folder = home / "spend"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("MODELSPEND_STORE__PATH", str(folder / "ledger.db"))
    return folder / "ledger.db"


def said(cli: Cli, *words: str) -> Any:
    done = cli("forecast", *words, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout, parse_float=Decimal)


def sums(told: Any) -> None:
    """Everything that is printed twice is the same, and bands hold what they are around."""
    for horizon in told["horizons"]:
        total, days = horizon["total"], horizon["daily"]
        assert sum(day["cost_usd"] for day in days) == total["cost_usd"]
        assert days[-1]["cumulative_usd"] == total["cost_usd"]
        assert days[-1]["cumulative_bands"] == total["bands"]
        for each in (total, *days):
            (low, high), (least, most) = each["bands"]["80"], each["bands"]["95"]
            assert 0 <= least <= low <= each["cost_usd"] <= high <= most


# Budgets of the ledger.


def test_budgets_are_told_by_themselves_each_from_its_own_days(
    cli: Cli, place: Path, tmp_path: Path
) -> None:
    write_days(place, now_ms(), {"acme": [10 * USD] * 40, "beta": [USD] * 20})
    assert (
        cli("budgets", "set", "tenant", "acme", "--max-usd", "450", "--window", "total").exit_code
        == 0
    )
    assert cli("budgets", "set", "process", "--max-usd", "9000", "--window", "30d").exit_code == 0
    assert (
        cli("budgets", "set", "tenant", "beta", "--max-usd", "1", "--window", "1h").exit_code == 0
    )
    assert cli("budgets", "set", "tenant", "new", "--max-usd", "1").exit_code == 0
    acme, process, *others = said(cli)["budgets"]
    assert (acme["scope"], acme["name"], acme["spent_usd"]) == ("tenant", "acme", 400)
    outlook = acme["outlook"]
    assert outlook["unspent_usd"] == acme["cap_usd"] - acme["spent_usd"] == 50
    assert outlook["probability"] > Decimal("0.99")
    reached = date.fromisoformat(outlook["reached_on"])
    assert timedelta(days=4) < reached - yesterday() <= timedelta(days=7)
    assert outlook["history_days"] == 40
    assert process["outlook"]["probability"] < Decimal("0.01")
    assert process["outlook"]["returning_usd"] == process["spent_usd"]
    reasons = {each["name"]: each["reason"] for each in others}
    assert {each["outlook"] for each in others} == {None}
    assert "shorter than a day" in reasons["beta"]
    assert "there are 0" in reasons["new"]


def test_a_filter_leaves_the_budgets_that_it_names(cli: Cli, place: Path) -> None:
    write_days(place, now_ms(), {"acme": [10 * USD] * 40, "beta": [USD] * 40})
    for tenant in ("acme", "beta"):
        cli("budgets", "set", "tenant", tenant, "--max-usd", "100")
    cli("budgets", "set", "process", "--max-usd", "100")
    assert [each["name"] for each in said(cli, "--tenant", "beta")["budgets"]] == ["beta"]
    assert said(cli, "--workflow", "support-bot")["budgets"] == []
    assert len(said(cli, "--since", "20d")["budgets"]) == 3
    assert said(cli, "--since", "20d")["budgets"][0]["outlook"]["history_days"] == 40


def test_a_piped_forecast_tells_on_stderr_of_what_may_be_gone(cli: Cli, place: Path) -> None:
    write_days(place, now_ms(), {"acme": [10 * USD] * 40})
    cli("budgets", "set", "tenant", "acme", "--max-usd", "410", "--window", "total")
    cli("budgets", "set", "process", "--max-usd", "9000", "--window", "total")
    done = cli("forecast")
    assert done.stdout.splitlines()[0].startswith("days\tuntil\t")
    assert len(done.stdout.splitlines()) == 4
    assert "The budget of tenant acme per total: 400 of 410 USD spent" in done.stderr
    assert "this sidecar" not in done.stderr


# Ledgers of all kinds.


def test_no_ledger_and_an_empty_one_say_what_is_missing(cli: Cli, place: Path) -> None:
    done = cli("forecast")
    assert (done.exit_code, done.stdout) == (3, "")
    write_days(place, now_ms(), {})
    for words in ((), ("--growth", "10")):
        done = cli("forecast", *words)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "whole day" in done.stderr


@pytest.mark.parametrize("days", [1, 13])
def test_too_short_a_ledger_is_refused_with_how_many_days_there_are(
    cli: Cli, place: Path, days: int
) -> None:
    write_days(place, now_ms(), {"acme": [USD] * days})
    done = cli("forecast")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "needs 14 whole days" in done.stderr
    assert f"{'is' if days == 1 else 'are'} {days}." in done.stderr
    scenario = json.loads(cli("forecast", "--growth", "10", "--json").stdout, parse_float=Decimal)
    assert scenario["projection"] is None
    assert scenario["adjusted_daily_cost_usd"] == Decimal("1.1")


def test_a_month_without_calls_counts_as_days_of_nothing(cli: Cli, place: Path) -> None:
    now = now_ms()
    write_days(place, now - 45 * 86_400_000, {"acme": [10 * USD] * 40})
    found = said(cli)
    assert (found["history_days"], found["missing_days"]) == (85, 45)
    assert found["base_daily_cost_usd"] == 0
    assert found["last_day"] == yesterday().isoformat()
    sums(found)


def test_a_receipt_that_a_wrong_clock_dated_does_not_stop_a_forecast(cli: Cli, place: Path) -> None:
    now = now_ms()
    load(place, [(spend(1000, 5, USD), None)])
    write_days(place, now, {"acme": [10 * USD] * 40})
    found = said(cli)
    assert found["history_days"] == MOST_DAYS
    assert found["horizons"][0]["total"]["cost_usd"] > 200


def test_zeros_alone_forecast_zero(cli: Cli, place: Path) -> None:
    write_days(place, now_ms(), {"acme": [0] * 40})
    found = said(cli)
    sums(found)
    assert found["horizons"][-1]["total"]["bands"]["95"] == [0, 0]
    scenario = said(cli, "--shift-deep", "20", "--growth", "10")
    assert scenario["savings_vs_base_usd"] == 0
    assert scenario["routing_savings_ratio_used"] is None


def test_a_giant_day_is_told_and_does_not_become_the_rule(cli: Cli, place: Path) -> None:
    costs: list[int | None] = [10 * USD] * 60
    costs[-20] = 50_000 * USD
    write_days(place, now_ms(), {"acme": costs})
    found = said(cli)
    sums(found)
    assert [each["kind"] for each in found["anomalies"]] == ["spike"]
    assert found["anomalies"][0]["cost_usd"] == 50_000
    total = found["horizons"][0]["total"]
    assert 250 < total["cost_usd"] < 450
    assert total["bands"]["95"][1] < 2000


def test_a_day_of_unknown_cost_is_no_day_of_nothing(cli: Cli, place: Path) -> None:
    costs: list[int | None] = [10 * USD] * 40
    costs[20] = costs[30] = None
    write_days(place, now_ms(), {"acme": costs})
    found = said(cli)
    assert (found["unknown_days"], found["unpriced_receipts"]) == (2, 2)
    assert found["horizons"][0]["total"]["cost_usd"] == 300
    assert "The cost of 2 of 40 receipts is not known." in cli("forecast").stderr


def test_parts_and_their_difference_are_the_whole(cli: Cli, place: Path) -> None:
    write_days(place, now_ms(), {"acme": [10 * USD, 30 * USD] * 20, "beta": [USD] * 25})
    found = said(cli, "--by", "tenant")
    for n, horizon in enumerate(found["horizons"]):
        parts = sum(part["horizons"][n]["total"]["cost_usd"] for part in found["parts"])
        assert parts + horizon["difference_usd"] == horizon["total"]["cost_usd"]


def test_names_that_cost_little_are_projected_together(cli: Cli, place: Path) -> None:
    each = {f"t{n:02}": [(n + 1) * USD] * 20 for n in range(23)}
    write_days(place, now_ms(), each)
    found = said(cli, "--by", "tenant", "--horizon", "30")
    names = [part["name"] for part in found["parts"]]
    assert (len(names), names[0], names[-1]) == (21, "t22", "(3 others)")
    assert [part["names"] for part in found["parts"]] == [1] * 20 + [3]
    totals = [part["horizons"][0]["total"]["cost_usd"] for part in found["parts"]]
    assert totals[-1] == 30 * (1 + 2 + 3)
    assert sum(totals) + found["horizons"][0]["difference_usd"] == 30 * sum(range(1, 24))


@pytest.mark.parametrize(
    "words",
    [
        ("--mix", "a=b:50", "--mix", "a=b:30"),
        ("--mix", "a=b:60", "--mix", "a=c:60"),
        ("--mix", "a=b"),
        ("--growth", "nan"),
        ("--growth", "-101"),
        ("--cache-hit", "15"),
        ("--shift-to", "small"),
        ("--shift-deep", "20", "--from", "daily.csv"),
    ],
)
def test_a_scenario_that_cannot_be_is_a_usage_error(
    cli: Cli, place: Path, words: tuple[str, ...]
) -> None:
    done = cli("forecast", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")


# Files of all kinds.


def days_file(folder: Path, *lines: str) -> str:
    file = folder / "daily.csv"
    file.write_text("\n".join(("date,cost_usd", *lines)) + "\n")
    return str(file)


def plain(count: int, first: date = date(2026, 3, 1), cost: str = "10") -> list[str]:
    return [f"{first + timedelta(days=n)},{cost}" for n in range(count)]


def test_lines_that_are_no_days_are_told_by_number_and_left_out(cli: Cli, tmp_path: Path) -> None:
    strange = ["2026-04-20,-5", "2026-13-01,3", "yesterday,3", "2026-04-21,NaN", "2026-04-22,inf",
               "2026-04-23,1e400", "2026-04-24,ten", "2026-04-25", "2026-04-26,1,2"]  # fmt: skip
    file = days_file(tmp_path, *plain(50), *strange)
    found = said(cli, "--from", file)
    sums(found)
    assert [each["line"] for each in found["errors"]] == [52, 53, 54, 56, 57, 58]
    assert found["unknown_days"] == 2  # NaN, and a line without a cost
    assert cli("forecast", "--from", file).stderr.count("is left out") == 5


def test_dates_may_come_twice_and_in_any_order(cli: Cli, tmp_path: Path) -> None:
    lines = plain(60, cost="10")
    whole = said(cli, "--from", days_file(tmp_path, *lines))
    halves = [line.replace(",10", ",4") for line in lines] + [
        line.replace(",10", ",6") for line in reversed(lines)
    ]
    assert said(cli, "--from", days_file(tmp_path, *halves)) == whole


@pytest.mark.parametrize("change", [date(2026, 3, 29), date(2026, 10, 25), date(2028, 2, 29)])
def test_a_day_on_which_clocks_change_is_a_day_like_any_other(
    cli: Cli, tmp_path: Path, change: date
) -> None:
    file = days_file(tmp_path, *plain(60, change - timedelta(days=30)))
    found = said(cli, "--from", file, "--horizon", "60")
    dates = [day["date"] for day in found["horizons"][0]["daily"]]
    first = change + timedelta(days=30)
    assert dates == [(first + timedelta(days=n)).isoformat() for n in range(60)]
    assert found["missing_days"] == 0


@pytest.mark.parametrize(
    ("text", "code", "why"),
    [
        ("", 2, "must name the columns"),
        ("day,usd\n2026-01-01,3\n", 2, "must name the columns"),
        ("date,cost_usd\n", 1, "there are 0"),
        ("date,cost_usd\n2026-01-01,3\n", 1, "there is 1"),
        ("date,cost_usd\n2026-01-01,-3\n", 1, "there are 0"),
        ("date,cost_usd\n0001-01-01,3\n2026-12-31,3\n", 2, "year wrong"),
        ("date,cost_usd\n9999-12-31,3\n", 2, "end of the calendar"),
        ("\x00\x00", 2, "must name the columns"),
    ],
)
def test_a_file_that_says_nothing_is_refused_with_its_reason(
    cli: Cli, tmp_path: Path, text: str, code: int, why: str
) -> None:
    file = tmp_path / "daily.csv"
    file.write_text(text)
    done = cli("forecast", "--from", str(file))
    assert (done.exit_code, done.stdout) == (code, ""), done.stderr
    assert why in done.stderr


def test_a_file_that_is_not_there_or_no_text_is_a_usage_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "daily.csv").write_bytes(b"\xff\xfe\x00")
    for name, code in (("nothing.csv", 1), (".", 1), ("daily.csv", 2)):
        done = cli("forecast", "--from", str(tmp_path / name))
        assert done.exit_code == code, done.stderr
        assert name in done.stderr
        assert done.stdout == ""
