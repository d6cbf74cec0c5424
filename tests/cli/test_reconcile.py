"""`reconcile` as a user meets it: a real ledger, a provider's file, the gap and its causes."""

import asyncio
import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from modelspend.cli import app
from modelspend.money import usd
from modelspend.receipt import Receipt
from modelspend.receipt_json import iso
from modelspend.store import Store
from modelspend.waterfall import CAUSES
from tests.store.synthetic import Traffic

Cli = Callable[..., Result]
COUNT = 300


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Receipt]]:
    path = tmp_path_factory.mktemp("reconcile") / "ledger.db"
    receipts = _priced(list(Traffic(31, gap_ms=1_200_000, tenants=4).receipts(COUNT)))

    async def write() -> None:
        store = await Store.open(path, durability="normal")
        for receipt in receipts:
            await store.calls.finish(receipt)
        await store.close()

    asyncio.run(write())
    return path, receipts


@pytest.fixture
def cli(
    written: tuple[Path, list[Receipt]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Cli:
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("MODELSPEND_CONFIG", raising=False)
    monkeypatch.setenv("MODELSPEND_STORE__PATH", str(written[0]))
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, list(words))


_ITEMS = {
    "input_tokens": "input",
    "cache_read_tokens": "cached input",
    "output_tokens": "output",
}


_HEADER = "start_time,end_time,amount_value,amount_currency,quantity,quantity_unit,line_item"


def _openai(receipts: list[Receipt], *, leave_out: str = "") -> str:
    """OpenAI's costs of a ledger, by day and line item, as the dashboard exports them."""
    sums: dict[tuple[int, str], list[int]] = {}
    for receipt in receipts:
        for attempt in receipt.attempts:
            if attempt.provider != "openai" or receipt.receipt_id == leave_out:
                continue
            for line in attempt.cost.lines:
                day = attempt.started_at_ms - attempt.started_at_ms % 86_400_000
                cell = sums.setdefault((day, f"{attempt.model_id}, {_ITEMS[line.bucket]}"), [0, 0])
                cell[0] += line.quantity if line.unit_pico is not None else 0
                cell[1] += line.cost_pico or 0
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(_HEADER.split(","))
    for (day, item), (count, pico) in sorted(sums.items()):
        rows.writerow([day // 1000, day // 1000 + 86_400, usd(pico), "usd", count, "tokens", item])
    return out.getvalue()


def _priced(receipts: list[Receipt]) -> list[Receipt]:
    return [r for r in receipts if all(a.cost.total_pico is not None for a in r.attempts)]


def _one(receipts: list[Receipt]) -> Receipt:
    """A call to OpenAI in the middle that was answered at once."""
    return next(
        r
        for r in receipts[COUNT // 2 :]
        if [a.provider for a in r.attempts] == ["openai"] and r.execution.actual_cost_pico
    )


def test_a_bill_that_agrees_passes_the_check(cli: Cli, written: tuple[Path, list[Receipt]]) -> None:
    Path("costs.csv").write_text(_openai(written[1]))
    done = cli("reconcile", "costs.csv", "--provider", "openai", "--check", "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout, parse_float=Decimal)
    assert said["ok"] is True
    assert said["gap_usd"] == said["drift_usd"] == 0
    assert said["theirs_usd"] == said["ours_usd"] > 0


def test_a_call_that_was_not_billed_fails_the_check_with_its_amount(
    cli: Cli, written: tuple[Path, list[Receipt]]
) -> None:
    one = _one(written[1])
    Path("costs.csv").write_text(_openai(written[1], leave_out=one.receipt_id))
    cost = usd(one.execution.actual_cost_pico or 0)
    words = ("reconcile", "costs.csv", "--provider", "openai")
    assert cli(*words).exit_code == 0
    done = cli(*words, "--check")
    assert done.exit_code == 6
    assert f"is -{cost} USD apart from the receipts: missing_there -{cost}." in done.stderr
    assert cli(*words, "--check", "--tolerance", str(cost)).exit_code == 0
    assert cli(*words, "--check", "--tolerance", "99%").exit_code == 0
    said = json.loads(cli(*words, "--json").stdout, parse_float=Decimal)
    assert said["causes"]["missing_there_usd"] == -cost
    (cell,) = [cell for cell in said["cells"] if cell["gap_usd"]]
    assert cell["day"] == iso(one.created_at_ms)[:10]


def test_every_form_adds_up_to_the_same_gap(cli: Cli, written: tuple[Path, list[Receipt]]) -> None:
    one = _one(written[1])
    Path("costs.csv").write_text(_openai(written[1], leave_out=one.receipt_id))
    words = ("reconcile", "costs.csv", "--provider", "openai")
    said = json.loads(cli(*words, "--json").stdout, parse_float=Decimal)
    for form, mark in (("--csv", ","), ("", "\t")):
        text = cli(*words, *([form] if form else [])).stdout
        rows = list(csv.DictReader(io.StringIO(text), delimiter=mark))
        assert sum(Decimal(row["gap_usd"]) for row in rows) == said["gap_usd"]
        for row in rows:
            parts = sum(Decimal(row[f"{cause}_usd"]) for cause in CAUSES)
            assert parts == Decimal(row["gap_usd"])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("none.csv",), 3, "There is no file none.csv."),
        (("bad.csv",), 2, "bad.csv, line 2, column amount_value: 'x' is no amount."),
        (("empty.csv",), 2, "There is no charge in empty.csv."),
        (("latin.csv",), 2, "latin.csv is no text in UTF-8 (byte 1)."),
        (("bad.csv", "--tolerance", "much"), 2, "--tolerance much is no amount."),
        (("bad.csv", "--json", "--csv"), 2, "--json and --csv exclude each other."),
    ],
)
def test_what_cannot_be_compared_is_told_with_the_next_step(
    cli: Cli, words: tuple[str, ...], code: int, said: str
) -> None:
    head = "start_time,amount_value,line_item\n"
    Path("bad.csv").write_text(head + "1790553600,x,y\n")
    Path("empty.csv").write_text(head)
    Path("latin.csv").write_bytes(b"a\xff")
    done = cli("reconcile", *words, "--provider", "openai")
    assert done.exit_code == code
    assert said in done.stderr
