"""`cache-misses` on a real ledger, with no daemon running."""

import asyncio
import json
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from modelspend.cli.cache_misses import KINDS, SESSIONS, TURNS
from modelspend.conversations import Miss
from modelspend.store import Store
from tests.cli.conftest import Cli, receipt
from tests.cli.test_doors import on_terminal
from tests.store.test_conversations import missing

PLANTED: list[tuple[int, str, str, str, Any, int, int | None]] = [
    (1, "acme", "bot", "conv-1", "system_timestamp", 5000, 7_500_000_000),
    (2, "acme", "bot", "conv-1", "tool_order", 300, 450_000_000),
    (3, "acme", "crawl", "conv \x1b[31m\t2", "system_timestamp", 40_000, 60_000_000_000),
    (4, "beta", "bot", "conv-1", "expired", 7000, None),
]


async def _write(path: Path) -> None:
    store = await Store.open(path)
    for n, tenant, workflow, session, kind, tokens, cost in PLANTED:
        advanced = missing(tokens, tenant=tenant, session=session)
        miss = Miss(kind=kind, place="system[0]", tokens=tokens, cost_pico=cost)
        one = receipt(n, tenant=tenant, workflow=workflow, session_id=session)
        await store.calls.finish(one, advanced=replace(advanced, miss=miss))
    await store.calls.finish(receipt(5))
    await store.close()


@pytest.fixture
def missed(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = home / "ledger" / "ledger.db"
    asyncio.run(_write(path))
    monkeypatch.setenv("MODELSPEND_STORE__PATH", str(path))
    return path


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_kinds_come_dearest_first_with_exact_dollars_and_their_meaning(
    cli: Cli, missed: Path
) -> None:
    done = cli("cache-misses")
    assert done.exit_code == 0
    header, *found = rows(done.stdout)
    assert header == list(KINDS)
    assert [row[:4] for row in found] == [
        ["system_timestamp", "2", "45000", "0.0675"],
        ["tool_order", "1", "300", "0.00045"],
        ["expired", "1", "7000", ""],
    ]
    assert found[0][4] == "a date, id or number in the system prompt changed"
    assert "4 misses, 52300 tokens, 0.06795 USD, without 1 whose price is not known." in done.stderr


def test_conversations_and_turns_are_lines_of_their_own(cli: Cli, missed: Path) -> None:
    header, *found = rows(cli("cache-misses", "--by", "conversation").stdout)
    assert header == list(SESSIONS)
    assert [row[:5] for row in found] == [
        ["acme", "conv  [31m 2", "1", "40000", "0.06"],
        ["acme", "conv-1", "2", "5300", "0.00795"],
        ["beta", "conv-1", "1", "7000", ""],
    ]
    assert found[1][5:] == ["system_timestamp,tool_order", "2026-11-02T00:00:00.000Z"]
    header, *found = rows(cli("cache-misses", "--by", "turn").stdout)
    assert header == list(TURNS)
    assert [row[7:] for row in found] == [
        ["system_timestamp", "system[0]", "40000", "0.06"],
        ["system_timestamp", "system[0]", "5000", "0.0075"],
        ["tool_order", "system[0]", "300", "0.00045"],
        ["expired", "system[0]", "7000", ""],
    ]
    assert found[0][0] == receipt(3).receipt_id


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        (("--tenant", "beta"), [7000]),
        (("--workflow", "bot"), [5000, 300, 7000]),
        (("--since", "2026-11-02", "--until", "2026-11-03"), [40_000, 300]),
        (("--limit", "1"), [40_000]),
        (("--tenant", "nobody"), []),
        (("--session", "conv-1", "--tenant", "acme"), [5000, 300]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_filters_mean_what_they_mean_everywhere(
    cli: Cli, missed: Path, options: tuple[str, ...], tokens: list[int]
) -> None:
    shape = json.loads(cli("cache-misses", "--json", *options).stdout)
    assert [turn["tokens"] for turn in shape["turns"]] == tokens


def test_json_has_exact_dollars_and_null_for_what_is_not_known(cli: Cli, missed: Path) -> None:
    done = cli("cache-misses", "--json")
    shape = json.loads(done.stdout, parse_float=Decimal)
    assert shape["kinds"][0] == {
        "kind": "system_timestamp",
        "misses": 2,
        "unpriced": 0,
        "tokens": 45_000,
        "cost_usd": Decimal("0.0675"),
    }
    assert shape["kinds"][2]["cost_usd"] is None
    assert shape["conversations"][2]["cost_usd"] is None
    last = shape["turns"][3]
    assert (last["kind"], last["segment"], last["cost_usd"]) == ("expired", "system[0]", None)
    total = sum(kind["cost_usd"] or 0 for kind in shape["kinds"])
    assert total == sum(turn["cost_usd"] or 0 for turn in shape["turns"]) == Decimal("0.06795")


def test_an_empty_ledger_says_why_there_is_nothing(cli: Cli, ledger: Path) -> None:
    done = cli("cache-misses")
    assert done.exit_code == 0
    assert rows(done.stdout) == [list(KINDS)]
    assert "No misses: no turn paid again" in done.stderr
    shape = json.loads(cli("cache-misses", "--json").stdout)
    assert shape == {"kinds": [], "conversations": [], "turns": []}


def test_without_a_ledger_it_is_not_found(cli: Cli, home: Path) -> None:
    done = cli("cache-misses")
    assert done.exit_code == 3
    assert "no ledger" in done.stderr


def test_what_makes_a_line_is_one_of_three(cli: Cli, missed: Path) -> None:
    done = cli("cache-misses", "--by", "model")
    assert done.exit_code == 2


@pytest.mark.parametrize("width", [60, 200])
@pytest.mark.parametrize("by", ["kind", "conversation", "turn"])
def test_every_table_fits_its_terminal_and_keeps_the_dollars(
    missed: Path, by: str, width: int
) -> None:
    code, drawn = on_terminal("cache-misses", "--by", by, width=width, NO_COLOR="1")
    assert code == 0
    assert "cost_usd" in drawn
    assert "0.0" in drawn
    assert "\x1b[31m" not in drawn
    table = re.sub(r"\x1b\[[0-9;]*m", "", drawn).splitlines()[:-1]
    assert max(map(len, table)) <= width
