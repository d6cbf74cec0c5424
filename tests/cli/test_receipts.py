"""`receipts`, `explain` and `tail` on a real ledger, with no daemon running."""

import csv
import io
import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from modelspend.cli.receipts import COLUMNS
from modelspend.receipt_json import from_json
from tests.cli.conftest import PRICE, RECEIPTS, Cli, write


def ids(text: str) -> list[int]:
    """The numbers of the receipts that a text names, in order."""
    return [int(n) for n in re.findall(r"rcpt_01KTEST(\d\d)", text)]


def test_a_piped_list_is_tab_separated_with_one_header_and_the_newest_first(
    cli: Cli, ledger: Path
) -> None:
    done = cli("receipts", "list")
    lines = done.stdout.splitlines()
    assert done.exit_code == 0
    assert lines[0].split("\t") == list(COLUMNS)
    assert {line.count("\t") for line in lines} == {len(COLUMNS) - 1}
    assert ids(done.stdout) == [7, 6, 5, 4, 3, 2, 1]


def test_the_line_below_a_list_sums_exactly_and_says_what_it_leaves_out(
    cli: Cli, ledger: Path
) -> None:
    done = cli("receipts", "list")
    known = sum(
        n * 1000 * Decimal("0.000002") + 10 * Decimal("0.000008") for n in (1, 2, 4, 5, 6, 7)
    )
    assert (
        f"7 receipts, {known.normalize():f} USD, without 1 whose cost is not known." in done.stderr
    )
    assert "There are more" in cli("receipts", "list", "--limit", "6").stderr


FILTERS = [
    (("--tenant", "beta"), [4, 2]),
    (("--tenant", "nobody"), []),
    (("--workflow", "support-bot"), [7, 6, 5, 4, 2, 1]),
    (("--model", "gpt-4.1"), [7, 6, 5, 4, 3, 2, 1]),
    (("--provider", "anthropic"), []),
    (("--category", "chat"), [7, 6, 5, 4, 3, 2, 1]),
    (("--status", "error,truncated"), [7, 4]),
    (("--status", "refused", "--tenant", "beta"), []),
    (("--session", "conv-2"), [2]),
    (("--min-cost", "0.01"), [7, 6, 5]),
    (("--min-cost", "$0.01"), [7, 6, 5]),
    (("--min-latency", "550"), [7, 6]),
    (("--unpriced",), [3]),
    (("--since", "2026-11-03", "--until", "2026-11-04"), [4, 3]),
    (("--until", "2026-11-03T00:00:00Z"), [2, 1]),
    (("--limit", "2"), [7, 6]),
    (("-n", "1", "--tenant", "beta"), [4]),
    (("--after", "rcpt_01KTEST05"), [6, 7]),
    (("--after", "rcpt_01KTEST01", "--tenant", "beta", "--limit", "1"), [2]),
    (("--view", "on-call"), [7, 4]),
    (("--view", "finance"), [3]),
    (("--view", "security"), [5]),
    (("--view", "on-call", "--status", "error"), [4]),
]


@pytest.mark.parametrize(("options", "found"), FILTERS, ids=lambda value: " ".join(map(str, value)))
def test_each_filter_finds_what_it_says(
    cli: Cli, ledger: Path, options: tuple[str, ...], found: list[int]
) -> None:
    done = cli("receipts", "list", *options)
    assert (done.exit_code, ids(done.stdout)) == (0, found), done.stderr


def test_a_saved_view_from_the_configuration_is_found_by_name(
    cli: Cli, ledger: Path, home: Path
) -> None:
    file = home / "c.toml"
    file.write_text("[views.mine]\ntenant = 'beta'\nstatus = ['error']\n")
    assert ids(cli("receipts", "list", "--view", "mine", "--config", str(file)).stdout) == [4]
    done = cli("receipts", "list", "--view", "mne", "--config", str(file))
    assert done.exit_code == 3
    assert "Views: on-call, finance, security, mine" in done.stderr


def test_json_is_an_array_of_whole_receipts_that_read_back_as_they_were(
    cli: Cli, ledger: Path
) -> None:
    shapes = json.loads(cli("receipts", "list", "--json").stdout, parse_float=Decimal)
    assert [from_json(shape) for shape in reversed(shapes)] == list(RECEIPTS)
    assert all(shape["request"]["body_kept"] is True for shape in shapes)
    assert json.loads(cli("receipts", "list", "--json", "--tenant", "nobody").stdout) == []


def test_no_csv_cell_can_become_a_formula(cli: Cli, ledger: Path) -> None:
    done = cli("receipts", "list", "--csv", "--unpriced")
    header, row = list(csv.reader(io.StringIO(done.stdout)))
    assert header == list(COLUMNS)
    said = dict(zip(header, row, strict=True))
    assert said["workflow"] == "'=cmd|' /C calc'!A0"
    assert said["cost_usd"] == ""


def test_a_name_with_escapes_and_tabs_cannot_reach_the_terminal_or_split_a_row(
    cli: Cli, ledger: Path
) -> None:
    for words in (("receipts", "list"), ("tail", "--no-follow"), ("explain", "rcpt_01KTEST06")):
        assert "\x1b" not in cli(*words).stdout
    line = cli("receipts", "list", "--limit", "2").stdout.splitlines()[2]
    assert line.split("\t")[2] == "red  [31m tab"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("rcpt_01KTEST05", [5]),
        ("01ktest05", [5]),
        ("conv-4", [4]),
        ("team=sea", [2]),
        ("BETA", [4, 2]),
        ("pt-4", [7, 6, 5, 4, 3, 2, 1]),
        ("nothing-like-it", []),
        ("100%", []),
    ],
)
def test_search_finds_ids_sessions_tags_and_names(
    cli: Cli, ledger: Path, text: str, found: list[int]
) -> None:
    done = cli("receipts", "search", text)
    assert (done.exit_code, ids(done.stdout)) == (0, found), done.stderr


def test_search_takes_filters_too(cli: Cli, ledger: Path) -> None:
    assert ids(cli("receipts", "search", "gpt", "--status", "error").stdout) == [4]
    assert len(json.loads(cli("receipts", "search", "gpt", "-n", "2", "--json").stdout)) == 2


@pytest.mark.parametrize(
    "words",
    [
        ("--status", "sucess"),
        ("--since", "last week"),
        ("--until", "soon"),
        ("--min-cost", "much"),
        ("--min-cost", "-1"),
        ("--limit", "0"),
        ("--limit", "many"),
        ("--bogus",),
        ("--json", "--csv"),
    ],
)
def test_a_filter_typed_wrong_is_a_usage_error_that_says_what_to_write(
    cli: Cli, ledger: Path, words: tuple[str, ...]
) -> None:
    done = cli("receipts", "list", *words)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr


def test_one_receipt_is_found_by_its_id_by_the_start_of_it_and_as_the_last(
    cli: Cli, ledger: Path
) -> None:
    whole = RECEIPTS[4].receipt_id
    for named in (whole, whole[:14], "last"):
        shape = json.loads(cli("receipts", "show", named, "--json").stdout)
        assert shape["receipt_id"] == (RECEIPTS[-1].receipt_id if named == "last" else whole)


def test_an_unknown_receipt_is_exit_3_and_an_unclear_one_exit_2(cli: Cli, ledger: Path) -> None:
    for command in (("receipts", "show"), ("explain",)):
        missing = cli(*command, "rcpt_zzz")
        assert (missing.exit_code, missing.stdout) == (3, "")
        assert "There is no receipt rcpt_zzz" in missing.stderr
        unclear = cli(*command, "rcpt_01KTEST")
        assert unclear.exit_code == 2
        assert "More than one receipt" in unclear.stderr
    assert cli("receipts", "list", "--after", "rcpt_zzz").exit_code == 3


def test_show_draws_every_field_of_a_receipt(cli: Cli, ledger: Path) -> None:
    done = cli("receipts", "show", "rcpt_01KTEST01")
    fields = dict(line.split("\t") for line in done.stdout.splitlines())
    assert fields["tenant"] == "acme"
    assert fields["execution.actual_cost_usd"] == "0.00208"
    assert fields["request.body_kept"] == "true"


def test_explain_works_every_number_out_again(cli: Cli, ledger: Path) -> None:
    said = json.loads(cli("explain", "rcpt_01KTEST02", "--json").stdout, parse_float=Decimal)
    (attempt,) = said["attempts"]
    lines = attempt["lines"]
    assert [line["quantity"] * line["unit_price_usd"] for line in lines] == [
        line["cost_usd"] for line in lines
    ]
    assert sum(line["cost_usd"] for line in lines) == attempt["sum_usd"] == said["total_usd"]
    assert attempt["price"]["price_id"] == PRICE.price_id == lines[0]["price_id"]
    assert attempt["price"]["source"] == "genai-prices 0.2.3"
    assert said["adds_up"] is said["exact"] is True


def test_explain_tells_a_person_lines_price_payer_and_timing(cli: Cli, ledger: Path) -> None:
    text = cli("explain", "rcpt_01KTEST02").stdout
    row = r"input_tokens +2000 × +0\.000002 = +0\.004"
    assert re.search(row, text)
    assert re.search(r"sum of the lines +0\.00408", text)
    assert f"Price {PRICE.price_id}: openai/gpt-4.1, from genai-prices 0.2.3" in text
    assert "tenant beta, workflow support-bot, session conv-2 (header)" in text
    assert "env=prod" in text
    assert "every line, sum and total adds up" in text


def test_explain_says_why_a_cost_is_not_known(cli: Cli, ledger: Path) -> None:
    text = cli("explain", "rcpt_01KTEST03").stdout
    assert "cost not known" in text
    assert "because: no price for this model" in text
    said = json.loads(cli("explain", "rcpt_01KTEST03", "--json").stdout)
    assert (said["total_usd"], said["exact"]) == (None, False)


async def test_explain_finds_a_total_that_its_lines_do_not_make(tmp_path: Path) -> None:
    from dataclasses import replace

    from modelspend.cli.explain import worked_out
    from modelspend.store import Store
    from tests.cli.conftest import receipt

    one = receipt(1)
    wrong = replace(one, execution=replace(one.execution, actual_cost_pico=1))
    await write(tmp_path / "l.db", wrong)
    store = await Store.open_read(tmp_path / "l.db")
    (stored,) = await store.receipts.list()
    await store.close()
    assert worked_out(stored, {})["contradictions"] == [
        "the attempts do not add up to the receipt's cost"
    ]


def test_tail_shows_the_last_ones_oldest_first_and_takes_filters(cli: Cli, ledger: Path) -> None:
    assert ids(cli("tail", "--no-follow", "-n", "3").stdout) == [5, 6, 7]
    assert ids(cli("tail", "--no-follow", "--tenant", "beta").stdout) == [2, 4]
    lines = cli("tail", "--no-follow", "--json").stdout.splitlines()
    assert [json.loads(line)["receipt_id"] for line in lines] == [r.receipt_id for r in RECEIPTS]
    assert cli("tail", "--no-follow", "-n", "0").stdout == ""


@pytest.mark.parametrize(
    "words",
    [("receipts", "list"), ("receipts", "show", "x"), ("explain", "x"), ("tail",)],
)
def test_without_a_ledger_reading_is_exit_3_and_says_what_makes_one(
    cli: Cli, words: tuple[str, ...]
) -> None:
    done = cli(*words, "--json")
    assert (done.exit_code, done.stdout) == (3, "")
    error = json.loads(done.stderr)["error"]
    assert (error["code"], error["exit_code"]) == ("not_found", 3)
    assert "modelspend serve" in error["hint"]


def test_a_file_that_is_no_ledger_is_refused_and_left_as_it_is(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = home / "notes.db"
    stranger.write_bytes(b"dear diary" * 500)
    monkeypatch.setenv("MODELSPEND_STORE__PATH", str(stranger))
    done = cli("receipts", "list")
    assert (done.exit_code, done.stdout) == (1, "")
    assert stranger.read_bytes() == b"dear diary" * 500


def test_the_path_of_the_ledger_is_told_whether_it_exists_or_not(cli: Cli, ledger: Path) -> None:
    assert cli("receipts", "path").stdout == f"{ledger}\n"
    ledger.unlink()
    assert json.loads(cli("receipts", "path", "--json").stdout) == {
        "path": str(ledger),
        "exists": False,
    }
