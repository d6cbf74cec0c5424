"""`budgets` and `kill`, beside a sidecar and without one; and what their topic shows."""

import asyncio
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from modelspend import settings, windows
from modelspend.budgets import Budget, Hold
from modelspend.events import Event
from modelspend.gateway.brakes import limits_of
from modelspend.settings import budgets_of
from modelspend.simulator import Simulator
from modelspend.store import Stop, Store
from tests.cli.conftest import START_MS, Cli, receipt
from tests.cli.test_daemon import run
from tests.fakes.sidecar import sidecar_for
from tests.gateway.asking import question
from tests.store.synthetic import intent_of

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "modelspend" / "cli" / "topics" / "budgets.md").read_text("utf-8")
BLOCKS = [
    re.sub("^ {4}", "", block, flags=re.M).strip()
    for block in re.findall(r"(?:^    .*\n(?:^\n(?=    ))?)+", TEXT, re.M)
]
COMMANDS = [
    line for block in BLOCKS for line in block.splitlines() if line.startswith("modelspend")
]
FILE = """
[tenants.acme]
budget_usd = 4000

[budgets.day]
cap_usd = 1.5
window = "day"
zone = "Europe/Berlin"
hard = false
"""


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


@pytest.fixture
def config(home: Path) -> Path:
    file = home / "config.toml"
    file.write_text(FILE)
    return file


def test_a_list_says_cap_spent_held_and_where_each_comes_from(
    cli: Cli, ledger: Path, config: Path
) -> None:
    said = json.loads(cli("--config", str(config), "budgets", "list", "--json").stdout)
    tenant, day = said
    assert (tenant["scope"], tenant["name"], tenant["window"], tenant["hard"]) == (
        "tenant", "acme", "month", True
    )  # fmt: skip
    assert (tenant["cap_usd"], tenant["held_usd"], tenant["origin"]) == (4000, 0, "tenants.acme")
    assert tenant["resets_at"].endswith("-01T00:00:00.000Z")
    assert (day["window"], day["zone"], day["hard"]) == ("day", "Europe/Berlin", False)
    header, first, _ = rows(cli("--config", str(config), "budgets", "list").stdout)
    assert header[:6] == ["scope", "name", "window", "cap_usd", "spent_usd", "held_usd"]
    assert first[:4] == ["tenant", "acme", "month", "4000"]
    only = cli("--config", str(config), "budgets", "list", "--scope", "process", "--json")
    assert [one["scope"] for one in json.loads(only.stdout)] == ["process"]


def test_without_any_budget_it_says_how_to_set_one(cli: Cli, ledger: Path) -> None:
    done = cli("budgets", "list")
    assert (done.exit_code, len(rows(done.stdout))) == (0, 1)
    assert "modelspend help budgets" in done.stderr
    assert cli("help", "budgets").exit_code == 0


def test_what_is_set_wins_over_the_file_until_it_is_cleared(
    cli: Cli, ledger: Path, config: Path
) -> None:
    def caps() -> list[tuple[object, object]]:
        said = json.loads(cli("--config", str(config), "budgets", "list", "--json").stdout)
        return [(one["cap_usd"], one["hard"]) for one in said if one["scope"] == "tenant"]

    put = ("--config", str(config), "budgets", "set", "tenant", "acme")
    done = cli(*put, "--max-usd", "5000.000000000001")
    assert done.exit_code == 0
    assert "tenant acme per month: a hard cap of $5000.000000000001, $" in done.stdout
    assert caps() == [(5000.000000000001, True)]
    assert cli(*put, "--max-usd", "0", "--warn").exit_code == 0
    assert caps() == [(0, False)]
    assert cli(*put, "--unlimited", "--hard").exit_code == 0
    assert caps() == [(None, True)]
    assert cli(*put, "--clear").exit_code == 0
    assert caps() == [(4000, True)]
    assert cli(*put, "--clear").exit_code == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tenant", "acme"), "Say one thing"),
        (("tenant", "acme", "--max-usd", "5", "--clear"), "Say one thing"),
        (("tenant", "--max-usd", "5"), "needs a name"),
        (("process", "x", "--max-usd", "5"), "has no name"),
        (("run", "x", "--max-usd", "5"), "is no scope"),
        (("tenant", "a", "--max-usd", "-5"), "amount"),
        (("tenant", "a", "--max-usd", "5000000"), "amount"),
        (("tenant", "a", "--max-usd", "5", "--window", "year"), "day, week, month"),
        (("tenant", "a", "--max-usd", "5", "--zone", "Mars/Olympus"), "not a time zone"),
    ],
)
def test_what_cannot_be_set_is_a_mistake_of_usage(
    cli: Cli, ledger: Path, words: tuple[str, ...], said: str
) -> None:
    done = cli("budgets", "set", *words)
    assert done.exit_code == 2
    assert said in done.stderr


async def _hold(path: Path, boot: str) -> None:
    store = await Store.open(path, boot_id=boot)
    one = replace(receipt(9), session_id="s")
    cap = Budget(scope="tenant", name="acme", window=windows.parse("month"), cap_pico=10**12)
    held = Hold(budget=cap, slot=windows.slot(cap.window, START_MS), amount_pico=5 * 10**9)
    await store.budgets.open([cap], START_MS)
    await store.calls.begin(replace(intent_of(one), hold_pico=held.amount_pico), [held])
    await store.close()


def test_holds_name_the_call_and_whether_its_process_lives(cli: Cli, ledger: Path) -> None:
    assert json.loads(cli("budgets", "holds", "--json").stdout) == []
    asyncio.run(_hold(ledger, "one that is gone"))
    (one,) = json.loads(cli("budgets", "holds", "--json").stdout)
    assert (one["scope"], one["name"], one["window"]) == ("tenant", "acme", "month")
    assert (one["held_usd"], one["lease"]) == (0.005, "expired")
    done = cli("budgets", "holds")
    header, row = rows(done.stdout)
    assert header == ["receipt", "age_s", "held_usd", "scope", "name", "window", "lease"]
    assert row[0] == one["receipt_id"]
    assert "the next start of the sidecar charges these" in done.stderr


def test_history_has_each_window_from_its_receipts(cli: Cli, ledger: Path) -> None:
    said = cli(
        "budgets", "history", "tenant", "acme", "--window", "day", "--limit", "400", "--json"
    )
    spent = {one["starts_at"][:10]: one["spent_usd"] for one in json.loads(said.stdout)}
    assert spent["2026-11-01"] == 0.00208
    assert spent["2026-11-02"] == 0  # another tenant's
    assert cli("budgets", "history", "tenant", "acme", "--window", "24h").exit_code == 2


async def _stop(path: Path) -> None:
    store = await Store.open(path)
    await store.budgets.stop(
        Stop(name="conv-42", reason="it loops", at_ms=START_MS), Event(kind="x", at_ms=START_MS)
    )
    await store.close()


def test_who_is_stopped_is_listed_without_a_sidecar_and_stopping_needs_one(
    cli: Cli, ledger: Path
) -> None:
    asyncio.run(_stop(ledger))
    (one,) = json.loads(cli("kill", "--json").stdout)
    assert (one["name"], one["reason"], one["since"][:10]) == ("conv-42", "it loops", "2026-11-01")
    assert rows(cli("kill").stdout)[0] == ["name", "since", "reason"]
    assert cli("kill", "conv-43").exit_code == 5
    assert cli("kill", "--lift").exit_code == 2


# The topic.


def test_the_settings_of_the_topic_are_read(home: Path) -> None:
    file = home / "config.toml"
    file.write_text("\n\n".join(block for block in BLOCKS if block.startswith("[")))
    loaded = settings.load(file, {}).settings
    caps = {(one.scope, one.name, one.window.text): one.cap_pico for one in budgets_of(loaded)}
    assert caps == {
        ("tenant", "acme-prod", "month"): 4000 * 10**12,
        ("session", "*", "24h"): 5 * 10**12,
    }
    assert {one.rule: (one.scope, one.kills) for one in limits_of(loaded)} == {
        "fast": ("session", True),
        "loops": ("session", False),
    }


async def test_the_commands_of_the_topic_work_as_they_are_typed(
    tmp_path: Path, simulator: Simulator
) -> None:
    """Beside a sidecar, which takes up what they set; also what a refusal says helps."""
    assert len(COMMANDS) >= 11
    async with sidecar_for(tmp_path, simulator.url) as sidecar:
        where = {
            "ledger": str(tmp_path / "ledger.db"),
            "MODELSPEND_CONFIG": str(tmp_path / "config.toml"),
        }
        for line in COMMANDS:
            code, out, err = await run(*shlex.split(line)[1:], **where)
            assert code == 0, (line, err)
            assert out or "kill" in line or "holds" in line, line
        code, out, _ = await run("budgets", "list", "--json", **where)
        assert {
            (one["scope"], one["window"], one["cap_usd"], one["hard"]) for one in json.loads(out)
        } == {
            ("process", "day", 50, True),
            ("model", "7d", 100, False),
        }  # the rule for each session has seen nobody, and the tenant's was cleared

        code, out, err = await run(
            "budgets", "set", "process", "--window", "day", "--zone", "Europe/Berlin",
            "--max-usd", "0.00001", **where,
        )  # fmt: skip
        assert code == 0, err
        path, body = question("openai.chat", "sim-ok", stream=False)
        async with asyncio.timeout(5):
            while (answer := await sidecar.post(path, body))[0] != 402:
                await asyncio.sleep(0.05)
        (raises,) = re.findall(r"modelspend (budgets set [^\"\\]+?) USD", answer[2].decode())
        code, _, err = await run(*shlex.split(raises), "50", **where)
        assert code == 0, err
        async with asyncio.timeout(5):
            while (await sidecar.post(path, body))[0] != 200:
                await asyncio.sleep(0.05)
