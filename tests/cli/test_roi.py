"""`roi` in front of a ledger, and without one."""

import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from modelspend.receipt import Savings
from modelspend.savings import MECHANISMS
from tests.cli.conftest import Cli
from tests.days_of_spend import DAY_MS, spend, write_days
from tests.store.bulk import load

USD = 10**12


def said(cli: Cli, *words: str) -> Any:
    done = cli("roi", *words, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout, parse_float=Decimal)


def value(told: Any, name: str) -> Any:
    return {each["name"]: each["value"] for each in told["assumptions"]}[name]


@pytest.fixture
def place(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = home / "spend"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("MODELSPEND_STORE__PATH", str(folder / "ledger.db"))
    return folder / "ledger.db"


def routed(place: Path, days: int, saved: int) -> None:
    """A call of $6 every day, on which routing saved so much of it (but for a tenth)."""
    today = time.time_ns() // 10**6 // DAY_MS
    parts = {**dict.fromkeys(MECHANISMS, 0), "routing": saved, "failover": -USD // 10}
    calls = [
        spend(
            n,
            (today - days + n) * DAY_MS + 1000,
            6 * USD,
            savings=Savings(
                baseline_model="openai/gpt-5",
                baseline_cost_pico=6 * USD + sum(parts.values()),
                by_mechanism=parts,
            ),
        )
        for n in range(days)
    ]
    load(place, ((one, None) for one in calls))


def test_the_ledger_s_last_30_days_say_what_is_saved(cli: Cli, place: Path) -> None:
    routed(place, 50, 4 * USD)
    told = said(cli)
    assert value(told, "measured_days") == 30
    assert value(told, "measured_cost_usd") == 180
    assert value(told, "measured_saved_usd") == 30 * Decimal("3.9")
    assert value(told, "monthly_spend_usd") == 297
    assert told["monthly_saving_usd"] == 117
    assert told["monthly_net_usd"] == 17
    assert told["range"]["low"] == told["range"]["high"]
    assert value(said(cli, "--since", "10d"), "measured_days") == 9  # whole ones


def test_a_younger_ledger_gives_the_days_it_has(cli: Cli, place: Path) -> None:
    routed(place, 5, 4 * USD)
    told = said(cli)
    assert value(told, "measured_days") == 5
    assert told["monthly_saving_usd"] == 117
    assert told["range"] is None


def test_a_ledger_that_lost_money_is_told_as_it_is(cli: Cli, place: Path) -> None:
    routed(place, 30, -USD)
    told = said(cli)
    assert told["monthly_saving_usd"] == -33
    assert told["payback_months"] is None
    assert "costs more than it saves" in cli("roi").stderr


def test_a_ledger_without_decisions_claims_nothing(cli: Cli, place: Path) -> None:
    write_days(place, time.time_ns() // 10**6, {"acme": [10 * USD] * 40})
    told = said(cli)
    assert told["monthly_saving_usd"] is None
    assert value(told, "monthly_spend_usd") == 300
    done = cli("roi")
    assert "no decision was applied" in done.stderr
    assert said(cli, "--savings", "50%")["monthly_saving_usd"] == 150


def test_without_a_ledger_one_s_own_figures_do(cli: Cli, home: Path) -> None:
    told = said(cli, "--monthly-spend", "$5,000", "--savings", "20", "--setup-hours", "0")
    assert told["monthly_saving_usd"] == 1000
    assert told["payback_months"] == 0
    assert said(cli, "--monthly-spend", "5000")["monthly_saving_usd"] is None


def test_piped_it_is_one_list_with_a_header(cli: Cli, home: Path) -> None:
    done = cli("roi", "--monthly-spend", "5000", "--savings", "20")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert rows[0] == ["figure", "value", "low", "high", "source"]
    assert {len(row) for row in rows} == {5}
    assert ["monthly_spend_usd", "5000", "", "", "flag"] in rows
    assert ["people", "1", "", "", "default"] in rows


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--savings", "20"),
        ("--monthly-spend", "lots"),
        ("--monthly-spend", "-1"),
        ("--monthly-spend", "nan"),
        ("--monthly-spend", "1", "--savings", "101"),
        ("--monthly-spend", "1", "--savings", "1", "--tenant", "acme"),
    ],
)
def test_what_cannot_be_worked_out_is_refused(cli: Cli, home: Path, words: tuple[str, ...]) -> None:
    done = cli("roi", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
