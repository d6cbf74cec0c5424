"""`export ledger`: exact, whole, the same bytes each time, and nothing a spreadsheet would run."""

import asyncio
import csv
import io
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from modelspend import focus
from modelspend.cli.output import csv_line
from modelspend.money import usd
from modelspend.receipt import Receipt
from modelspend.receipt_json import canonical, iso
from modelspend.store import Store
from tests.reports.conftest import Cli, Written
from tests.store.synthetic import Traffic

MONTH = ("--period", "2026-10")
"""The synthetic ledger goes from September to November; this month is in its middle."""


def exported(cli: Cli, *words: str) -> bytes:
    done = cli("export", "ledger", *words)
    assert done.exit_code == 0, done.stderr
    return done.stdout_bytes


def table(cli: Cli, *words: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(exported(cli, *words).decode(), newline="")))


def of_month(written: Written) -> list[Receipt]:
    return [one for one in written.receipts if iso(one.created_at_ms).startswith("2026-10")]


def test_a_period_ends_where_the_next_one_begins(cli: Cli, written: Written) -> None:
    months = [
        {row["receipt_id"] for row in table(cli, "--period", month)}
        for month in ("2026-09", "2026-10", "2026-11")
    ]
    assert all(months)
    assert sum(map(len, months)) == len(set().union(*months))
    assert months[1] == {one.receipt_id for one in of_month(written)}


async def test_a_receipt_of_midnight_belongs_to_the_day_that_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from modelspend.cli import app
    from modelspend.receipt_json import from_iso

    edge = from_iso("2026-11-01T00:00:00Z")
    store = await Store.open(tmp_path / "edge.db", durability="normal")
    for made, at in zip(Traffic(3).receipts(3), (edge - 1, edge, edge + 1), strict=True):
        await store.calls.finish(replace(made, created_at_ms=at))
    await store.close()
    monkeypatch.setenv("MODELSPEND_STORE__PATH", str(tmp_path / "edge.db"))
    for month, count in (("2026-10", 1), ("2026-11", 2)):
        words = ["export", "ledger", "--period", month]
        done = await asyncio.to_thread(CliRunner().invoke, app, words)
        assert len(done.stdout.splitlines()) == 1 + count


def test_dollars_are_exact_in_every_format(cli: Cli, written: Written) -> None:
    costs = [one.execution.actual_cost_pico for one in of_month(written)]
    total = usd(sum(cost for cost in costs if cost is not None))
    assert sum(Decimal(row["cost_usd"]) for row in table(cli, *MONTH) if row["cost_usd"]) == total
    lines = exported(cli, *MONTH, "--format", "jsonl").splitlines()
    shapes = [json.loads(line, parse_float=Decimal) for line in lines]
    found = [each["execution"]["actual_cost_usd"] for each in shapes]
    assert sum(cost for cost in found if cost is not None) == total
    for by in ("day", "tenant,model", "category,provider,region"):
        assert sum(Decimal(row["cost_usd"]) for row in table(cli, *MONTH, "--by", by)) == total
    summed = exported(cli, *MONTH, "--by", "model", "--format", "jsonl").splitlines()
    assert sum(json.loads(line, parse_float=Decimal)["cost_usd"] for line in summed) == total


def test_json_lines_hold_the_very_bytes_that_were_hashed(cli: Cli, written: Written) -> None:
    lines = exported(cli, *MONTH, "--format", "jsonl").splitlines()
    receipts = of_month(written)
    assert len(lines) == len(receipts)
    for line, receipt in zip(lines, receipts, strict=True):
        assert line.startswith(canonical(receipt)[:-1] + b',"seq":')


def test_a_second_export_is_the_same_bytes(cli: Cli, tmp_path: Path) -> None:
    for words in (
        ("--format", "csv"),
        ("--format", "jsonl"),
        ("--format", "focus"),
        ("--by", "day"),
    ):
        first, second = tmp_path / "first", tmp_path / "second"
        for file in (first, second):
            assert exported(cli, *MONTH, *words, "--out", str(file)) == b""
        assert first.read_bytes() == second.read_bytes() == exported(cli, *MONTH, *words)
        assert first.stat().st_mode & 0o777 == 0o600
    beside = [f"{name}.checkpoint.json" for name in ("first", "second")]
    assert sorted(os.listdir(tmp_path)) == sorted(["first", "second", *beside])


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ('=HYPERLINK("http://x")', '"\'=HYPERLINK(""http://x"")"'),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", '"\'\tx"'),
        ("＝1+1", "'＝1+1"),
        ("'=1+1", "''=1+1"),
        ("'tis", "'tis"),
        ("a;=1+1", '"a;=1+1"'),
        ("\rx", '"\'\rx"'),
        ("-0.25", "-0.25"),
        ("-1_000", "'-1_000"),
        ("a,b", '"a,b"'),
        ("plain", "plain"),
    ],
)
def test_no_cell_becomes_a_formula(cell: str, written: str) -> None:
    assert csv_line(["x", cell]) == f"x,{written}\r\n".encode()


def test_what_cannot_be_exported_so_is_refused_before_anything_is_written(
    cli: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "out"
    for words in (
        ("--period", "2026-13"),
        ("--period", "2026-10", "--since", "7d"),
        ("--by", "moon"),
        ("--by", "day,day"),
        ("--by", "day", "--format", "focus"),
        ("--view", "finance"),
    ):
        assert cli("export", "ledger", *words, "--out", str(file)).exit_code == 2
        assert not file.exists()


# FOCUS 1.2.

_TIME = re.compile(r"2026-\d\d-\d\dT00:00:00Z")
_PRESENT = set(focus.COLUMNS) - {
    "ChargeClass", "InvoiceId", "RegionId", "RegionName", "SkuPriceDetails",
    *(name for name in focus.COLUMNS if name.startswith("CommitmentDiscount")),
}  # fmt: skip
"""Columns that are never null in a usage row of ours."""


def test_charges_add_up_to_the_ledger_and_each_to_its_price(cli: Cli, written: Written) -> None:
    rows = table(cli, *MONTH, "--format", "focus")
    lines = [
        line
        for receipt in of_month(written)
        for attempt in receipt.attempts
        for line in attempt.cost.lines
        if line.unit_pico is not None
    ]
    assert sum(Decimal(row["BilledCost"]) for row in rows) == usd(
        sum(line.quantity * (line.unit_pico or 0) for line in lines)
    )
    assert len(rows) > 100
    for row in rows:
        quantity, price = Decimal(row["PricingQuantity"]), Decimal(row["ListUnitPrice"])
        assert quantity * price == Decimal(row["ListCost"]) == Decimal(row["EffectiveCost"])


def test_charges_have_the_columns_and_forms_of_the_specification(cli: Cli) -> None:
    rows = table(cli, *MONTH, "--format", "focus")
    assert tuple(rows[0]) == focus.COLUMNS == tuple(sorted(focus.COLUMNS))
    keys = set()
    for row in rows:
        assert [name for name in _PRESENT if not row[name]] == []
        assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == (
            "2026-10-01T00:00:00Z",
            "2026-11-01T00:00:00Z",
        )
        assert _TIME.fullmatch(row["ChargePeriodStart"])
        assert row["ChargePeriodStart"] < row["ChargePeriodEnd"] <= row["BillingPeriodEnd"]
        assert row["BillingCurrency"] == row["PricingCurrency"] == "USD"
        assert row["ServiceSubcategory"] == "Generative AI"
        assert isinstance(json.loads(row["Tags"]), dict)
        assert bool(row["RegionId"]) == bool(row["RegionName"])
        keys.add(tuple(row[name] for name in (
            "ChargePeriodStart", "SubAccountId", "Tags", "SkuId", "SkuPriceId", "RegionId",
            "ListUnitPrice",
        )))  # fmt: skip
    assert len(keys) == len(rows)


_DRAFTS = {
    "ChargeType": "ChargeCategory",
    "InvoiceIssuer": "InvoiceIssuerName",
    "Provider": "ProviderName",
    "Publisher": "PublisherName",
    "ResourceID": "ResourceId",
}
"""What focus-validator 1.0.0 calls columns that the specification calls otherwise since 1.0."""


@pytest.mark.full
def test_the_validator_of_the_foundation_finds_nothing(cli: Cli, tmp_path: Path) -> None:
    """Needs its program: pip install focus-validator 'multimethod<2', in an environment of its own,
    and FOCUS_VALIDATOR=…/bin/focus-validator. Its newest rules are those of 1.0."""
    program = shutil.which(os.environ.get("FOCUS_VALIDATOR", "focus-validator"))
    if program is None:
        pytest.skip("focus-validator is not installed")
    rows = table(cli, *MONTH, "--format", "focus")
    file = tmp_path / "focus.csv"
    with file.open("w", newline="") as out:
        writer: Any = csv.DictWriter(out, [*focus.COLUMNS, *_DRAFTS])
        writer.writeheader()
        writer.writerows(row | {old: row[new] for old, new in _DRAFTS.items()} for row in rows)
    codes = tmp_path / "focus_validator" / "utils"  # it looks for its list where it is run
    codes.mkdir(parents=True)
    (codes / "currency_codes.csv").write_text(",currency_codes\n0,USD\n1,EUR\n")
    told = subprocess.run(
        [program, "--data-file", file.name, "--validate-version", "1.0"],
        cwd=tmp_path, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert "failed" not in told.stdout, told.stdout
    assert told.returncode == 0, told.stderr
