"""Every report: its rows lead to exactly their receipts, its sums are exact on every surface."""

import json
import shlex
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from modelspend.receipt import Receipt
from modelspend.receipt_json import iso
from modelspend.reports import REPORTS
from modelspend.reports.latency import percentiles
from modelspend.reports.table import before
from modelspend.savings import MECHANISMS
from modelspend.store import DAY_MS
from tests.reports.conftest import END_MS, Cli, Written
from tests.store.synthetic import START_MS

SINCE, UNTIL = iso(START_MS + 9 * DAY_MS + 5_000_003), iso(END_MS - 3 * DAY_MS - 777)
EVERY = [
    ("spend", by)
    for by in (
        "tenant", "workflow", "category", "model", "provider", "session", "tag", "tag:team",
        "day", "region", "status",
    )
]  # fmt: skip
EVERY += [("savings", by) for by in ("category", "tenant", "workflow", "model", "day")]
EVERY += [("mix", by) for by in ("model", "category", "category,model")]
EVERY += [("tenants", by) for by in ("tenant", "workflow")]


def asked(cli: Cli, *words: str) -> Any:
    done = cli(*words, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout, parse_float=Decimal, parse_int=Decimal)


def within(receipt: Receipt) -> bool:
    return SINCE <= iso(receipt.created_at_ms) < UNTIL


@pytest.mark.parametrize(("name", "by"), EVERY)
def test_every_row_leads_to_exactly_its_receipts(cli: Cli, name: str, by: str) -> None:
    report = asked(cli, name, "--by", by, "--since", SINCE, "--until", UNTIL, "--limit", "100000")
    assert len(report["rows"]) > 1
    for row in [*report["rows"][:40], report["total"]]:
        program, *words = shlex.split(row["receipts_command"])
        assert program == "modelspend"
        listed = asked(cli, *words, "--limit", "100000")
        assert len(listed) == row["requests"]
        costs = [one["execution"]["actual_cost_usd"] for one in listed]
        assert sum(cost for cost in costs if cost is not None) == row["cost_usd"]
        if "unpriced" in row:
            assert costs.count(None) == row["unpriced"]
        if name == "savings":
            _same_savings(row, listed)


def _same_savings(row: Any, listed: list[Any]) -> None:
    saved = [one["savings"] for one in listed if one["savings"] is not None]
    known = [each for each in saved if each["baseline_cost_usd"] is not None]
    assert (row["decided"], row["unknown"]) == (len(saved), len(saved) - len(known))
    for mechanism in MECHANISMS:
        assert row[f"{mechanism}_usd"] == sum(each[f"{mechanism}_usd"] for each in known)
    assert row["saved_usd"] == sum(row[f"{mechanism}_usd"] for mechanism in MECHANISMS)
    assert row["baseline_usd"] - row["cost_usd"] == row["saved_usd"]


@pytest.mark.parametrize(("name", "by"), [each for each in EVERY if each[1] != "tag"])
def test_the_rows_add_up_to_the_total(cli: Cli, written: Written, name: str, by: str) -> None:
    report = asked(cli, name, "--by", by, "--since", SINCE, "--until", UNTIL, "--limit", "100000")
    chosen = [receipt for receipt in written.receipts if within(receipt)]
    known = [r.execution.actual_cost_pico for r in chosen if r.execution.actual_cost_pico]
    assert report["total"]["cost_usd"] == Decimal(sum(known)) / 10**12
    assert report["total"]["requests"] == len(chosen)
    if by != "session":  # receipts without a session are in no row
        for column in ("cost_usd", "requests"):
            assert sum(row[column] for row in report["rows"]) == report["total"][column]


def test_a_row_of_latencies_leads_to_the_receipts_that_took_so_long(cli: Cli) -> None:
    report = asked(cli, "latency", "--since", SINCE, "--until", UNTIL)
    assert {row["part"] for row in report["rows"]} == {"direct", "hop", "failed"}
    for row in report["rows"]:
        _, *words = shlex.split(row["receipts_command"])
        listed = asked(cli, *words, "--limit", "100000")
        if row["part"] == "failed":
            assert _failures(listed, "model_id", row["model"]) == row["attempts"]
            continue
        took = sorted(
            round(one["attempts"][-1 if row["part"] == "hop" else 0]["latency_ms"])
            if row["part"] == "hop"
            else round(one["execution"]["actual_latency_ms"])
            for one in listed
        )
        assert len(took) == row["attempts"]
        assert took[-1] == row["max_ms"]
        for percent in (50, 95, 99):
            assert took[max(0, -(-len(took) * percent // 100) - 1)] == row[f"p{percent}_ms"]


@pytest.mark.parametrize("by", ["provider", "region", "tenant", "workflow"])
def test_a_row_of_failures_leads_to_the_receipts_that_have_them(cli: Cli, by: str) -> None:
    report = asked(cli, "latency", "--by", by, "--since", SINCE, "--until", UNTIL)
    rows = [row for row in [*report["rows"], *report["parts"]] if row["part"] == "failed"]
    assert len(rows) > 1
    for row in rows:
        _, *words = shlex.split(row["receipts_command"])
        listed = asked(cli, *words, "--limit", "100000")
        key = by if by in ("provider", "region") and by in row else None
        assert _failures(listed, key, row.get(by)) == row["attempts"]
        assert all(_failures([one], key, row.get(by)) for one in listed)


def _failures(listed: list[Any], key: str | None, name: str | None) -> int:
    """The failed attempts at a place in some receipts."""
    return sum(
        attempt["status"] != "success" and (key is None or attempt[key] == name)
        for one in listed
        for attempt in one["attempts"]
    )


def test_a_failed_attempt_is_asked_for_by_a_place_that_is_known(cli: Cli) -> None:
    for word in ("model", "moon=x", "", "any=x"):
        done = cli("receipts", "list", "--failed", word)
        assert done.exit_code == 2, word
        assert "provider=NAME" in done.stderr


def test_a_percentile_is_the_smallest_that_as_many_do_not_exceed() -> None:
    from collections import Counter

    assert percentiles(Counter()) == [None, None, None]
    assert percentiles(Counter({5: 1})) == [5, 5, 5]
    assert percentiles(Counter(range(1, 101))) == [50, 95, 99]
    assert percentiles(Counter({1: 99, 9: 1})) == [1, 1, 1]
    assert percentiles(Counter({1: 98, 9: 2, 50: 0})) == [1, 1, 9]


def test_filters_hold_in_every_report(cli: Cli, written: Written) -> None:
    mine = [r for r in written.receipts if r.tenant == "team-000" and within(r)]
    for name in ("spend", "savings", "mix", "tenants"):
        report = asked(cli, name, "--tenant", "team-000", "--since", SINCE, "--until", UNTIL)
        assert report["total"]["requests"] == len(mine)
    took = asked(cli, "latency", "--tenant", "team-000", "--since", SINCE, "--until", UNTIL)
    assert sum(row["attempts"] for row in took["parts"]) >= len(mine) * 0.9


def test_a_view_of_several_filters_is_summed_once(cli: Cli) -> None:
    report = asked(cli, "spend", "--view", "finance", "--since", SINCE, "--until", UNTIL)
    _, *words = shlex.split(report["total"]["receipts_command"])
    assert "--view" in words
    assert len(asked(cli, *words, "--limit", "100000")) == report["total"]["requests"] > 0
    assert cli("latency", "--view", "finance").exit_code == 2


def test_unknown_costs_are_counted_and_said(cli: Cli, written: Written) -> None:
    done = cli("spend", "--since", SINCE, "--until", UNTIL)
    unpriced = sum(r.execution.actual_cost_pico is None for r in written.receipts if within(r))
    assert f"{unpriced} receipts have no known cost" in done.stderr


def test_piped_rows_have_every_digit_and_csv_the_same(cli: Cli) -> None:
    words = ("spend", "--by", "model", "--since", SINCE, "--until", UNTIL)
    report = asked(cli, *words)
    piped = [line.split("\t") for line in cli(*words).stdout.splitlines()]
    assert piped[0][:2] == ["model", "cost_usd"]
    assert [row[:2] for row in piped[1:]] == [
        [row["model"], format(row["cost_usd"], "f")] for row in report["rows"]
    ]
    lines = cli(*words, "--csv").stdout.splitlines()
    assert lines[1].split(",")[:2] == piped[1][:2]


def test_a_picture_is_well_formed_and_the_same_each_time(cli: Cli, tmp_path: Any) -> None:
    from xml.etree import ElementTree

    for name in (name for name, _ in REPORTS if name != "alerts"):
        file = tmp_path / f"{name}.svg"
        drawn = []
        for _ in range(2):
            done = cli(name, "--since", SINCE, "--until", UNTIL, "--plot", str(file))
            assert done.exit_code == 0, done.stderr
            drawn.append(file.read_bytes())
        assert drawn[0] == drawn[1]
        root = ElementTree.fromstring(drawn[0])
        assert root.tag.endswith("svg")
        assert len([each for each in root.iter() if each.tag.endswith("rect")]) > 2
        assert [each.name for each in tmp_path.glob(f".{name}*")] == []


@pytest.mark.parametrize("command", ["spend", "forecast"])
def test_a_picture_of_another_kind_is_refused_with_what_to_do(
    cli: Cli, tmp_path: Path, command: str
) -> None:
    done = cli(command, "--plot", str(tmp_path / "spend.png"))
    assert done.exit_code == 2
    assert f"--plot {tmp_path / 'spend.svg'}" in done.stderr
    assert list(tmp_path.glob("*.png")) == []


def test_a_report_that_cannot_be_grouped_so_says_how_it_can(cli: Cli) -> None:
    done = cli("mix", "--by", "moon")
    assert done.exit_code == 2
    assert "category,model" in done.stderr


def test_the_period_before_is_the_same_days_of_the_month_before() -> None:
    def ms(text: str) -> int:
        from modelspend.receipt_json import from_iso

        return from_iso(text)

    now = ms("2026-11-25T06:00:00Z")
    assert before(ms("2026-11-01T00:00:00Z"), now) == (
        ms("2026-10-01T00:00:00Z"),
        ms("2026-10-25T06:00:00Z"),
    )
    march = ms("2027-03-01T00:00:00Z")  # its last days have none beside them in February
    assert before(march, ms("2027-03-31T12:00:00Z")) == (ms("2027-02-01T00:00:00Z"), march)
    assert before(now - 5 * DAY_MS, now) == (now - 10 * DAY_MS, now - 5 * DAY_MS)


def test_a_new_model_is_flagged_and_an_old_one_is_not(cli: Cli, written: Written) -> None:
    first = {}
    for receipt in written.receipts:
        first.setdefault(receipt.attempts[-1].model_id, receipt.created_at_ms)
    late = sorted(first, key=lambda model: first[model])[-1]
    since = iso(first[late] - 1000)
    report = asked(cli, "mix", "--since", since)
    new = {row["model"] for row in report["rows"] if row["new"]}
    assert new == {model for model, at in first.items() if at >= first[late] - 1000}
    assert not [row for row in asked(cli, "mix", "--since", "2020-01-01")["rows"]
                if row["new"] and first[row["model"]] < START_MS + DAY_MS]  # fmt: skip
