"""`backtest` on a real ledger, with no daemon running."""

import json
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from modelspend.cli.backtest import MODELS, RISKIEST, TIERS, TOTALS
from tests.cli.conftest import Cli
from tests.store.bulk import load
from tests.store.synthetic import Traffic

ROUTE: dict[str, Any] = {
    "routing": {"mode": "route"},
    "profiles": {
        "default": {
            "simple": ["gpt-5-nano"],
            "standard": ["gpt-5-mini"],
            "deep_reasoning": ["claude-sonnet-4-6", "gpt-5"],
        }
    },
}


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    load(folder / "ledger.db", ((one, None) for one in Traffic(seed=9).receipts(600)))
    return folder / "ledger.db"


@pytest.fixture
def past(many: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELSPEND_STORE__PATH", str(many))
    return many


def policy(folder: Path, tree: dict[str, Any]) -> str:
    file = folder / "policy.toml"
    file.write_text(tomli_w.dumps(tree))
    return str(file)


def figures(text: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(text, parse_float=Decimal)
    return said


def test_mode_observe_reproduces_the_ledger(cli: Cli, past: Path, home: Path) -> None:
    done = cli("backtest", "--policy", policy(home, {"routing": {"mode": "observe"}}), "--json")
    assert done.exit_code == 0
    said = figures(done.stdout)
    assert said["calls"] == said["same"] == 600
    assert said["ledger"] == said["policy"]
    assert said["compared"]["difference_usd"] == 0
    assert said["riskiest"] == []
    assert said["recommendation"] is None
    assert 'write mode = "route"' in done.stderr


def test_the_printed_figures_recompute_from_the_printed_figures(
    cli: Cli, past: Path, home: Path
) -> None:
    said = figures(cli("backtest", "--policy", policy(home, ROUTE), "--json").stdout)
    compared = said["compared"]
    difference = compared["policy_usd"] - compared["ledger_usd"]
    assert compared["difference_usd"] == difference
    assert compared["difference_pct"] == round(100 * difference / compared["ledger_usd"], 2)
    for rows in (said["models"], said["tiers"]):
        for side in ("ledger", "policy"):
            for figure in ("calls", "unpriced", "cost_usd"):
                assert sum(row[side][figure] for row in rows) == said[side][figure]
    moved = said["moved"]
    assert moved["calls"] == sum(row["moved"] for row in said["tiers"])
    steps = ("to_lower_tier", "to_higher_tier", "within_tier", "tier_unknown")
    assert moved["calls"] == sum(moved[step] for step in steps)
    assert said["calls"] == said["same"] + moved["calls"]
    assert len(said["riskiest"]) == min(20, said["risky"])
    for risk in said["riskiest"]:
        score = risk["complexity"] + 1 - risk["confidence"] + Decimal("0.5") * len(risk["reasons"])
        assert risk["score"] == round(score, 4)
        assert risk["reasons"]


def test_the_tables_say_the_same_as_the_json(cli: Cli, past: Path, home: Path) -> None:
    file = policy(home, ROUTE)
    said = figures(cli("backtest", "--policy", file, "--json").stdout)
    done = cli("backtest", "--policy", file)
    totals, _, models, tiers, risks = (
        [line.split("\t") for line in table.splitlines()] for table in done.stdout.split("\n\n")
    )
    assert totals[0] == list(TOTALS)
    assert [Decimal(cell) for cell in totals[1][1:]] == list(said["compared"].values())
    assert models[0] == list(MODELS)
    assert [row[0] for row in models[1:]] == [row["model"] for row in said["models"]]
    assert tiers[0] == list(TIERS)
    assert risks[0] == list(RISKIEST)
    assert [row[0] for row in risks[1:]] == [risk["receipt_id"] for risk in said["riskiest"]]
    assert said["recommendation"] in done.stderr
    csv = cli("backtest", "--policy", file, "--csv")
    assert csv.stdout.splitlines()[0] == ",".join(MODELS)
    assert len(csv.stdout.splitlines()) == len(models)


def test_the_period_and_the_tenant_narrow_it(cli: Cli, past: Path, home: Path) -> None:
    file = policy(home, ROUTE)
    one = figures(cli("backtest", "--policy", file, "--tenant", "team-000", "--json").stdout)
    assert 0 < one["calls"] < 600
    none = cli("backtest", "--policy", file, "--until", "2020-01-01", "--json")
    assert figures(none.stdout)["calls"] == 0
    assert none.exit_code == 0


@pytest.mark.parametrize(
    ("gates", "code"),
    [
        (["cost>+100000%"], 0),
        (["moved>100%"], 0),
        (["moved>0"], 6),
        (["cost>+100000%", "risky>0"], 6),
        (["cost>5%!"], 2),
        (["fun>5"], 2),
    ],
)
def test_a_gate_that_holds_ends_with_6_and_says_which_figure(
    cli: Cli, past: Path, home: Path, gates: list[str], code: int
) -> None:
    options = [word for gate in gates for word in ("--fail-if", gate)]
    done = cli("backtest", "--policy", policy(home, ROUTE), *options)
    assert done.exit_code == code, done.stderr
    if code == 6:
        assert f"{gates[-1]} holds: {gates[-1].partition('>')[0]} " in done.stderr
        assert done.stdout.startswith("calls\t")
    if code == 0:
        assert f"passed: not {gates[0]}" in done.stderr


def test_the_gates_stand_in_the_json_too(cli: Cli, past: Path, home: Path) -> None:
    done = cli("backtest", "--policy", policy(home, ROUTE), "--fail-if", "moved>0", "--json")
    (gate,) = figures(done.stdout)["gates"]
    assert (gate["expression"], gate["holds"]) == ("moved>0", True)
    assert json.loads(done.stderr.splitlines()[-1])["error"]["exit_code"] == 6


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"routing": {"mode": "rout"}}, "routing.mode"),
    ({"routing": {"profile": "gone"}}, "there is no profile gone"),
    ({"profiles": {"default": {"simpel": []}}}, "simpel"),
    ({"tenants": {"acme": {"profile": "gone"}}}, "tenants.acme.profile"),
    ({"profiles": {"default": {"quality_floor": 2}}}, "quality_floor"),
    ({"providers": {"mine": {"models": ["x"]}}}, "base_url"),
]


@pytest.mark.parametrize(("tree", "told"), WRONG)
def test_a_policy_with_errors_is_refused_like_any_configuration(
    cli: Cli, past: Path, home: Path, tree: dict[str, Any], told: str
) -> None:
    done = cli("backtest", "--policy", policy(home, tree))
    assert done.exit_code == 2
    assert told in done.stderr
    assert done.stdout == ""


def test_a_policy_that_is_not_there_or_no_toml_is_told(cli: Cli, past: Path, home: Path) -> None:
    missing = cli("backtest", "--policy", str(home / "gone.toml"))
    assert missing.exit_code == 2
    assert "gone.toml: cannot be read" in missing.stderr
    (home / "bad.toml").write_text("[routing\n")
    assert cli("backtest", "--policy", str(home / "bad.toml")).exit_code == 2


def test_other_sections_of_a_policy_have_no_part_in_it(cli: Cli, past: Path, home: Path) -> None:
    whole = {**ROUTE, "store": {"path": str(home / "another" / "ledger.db")}}
    whole["server"] = {"host": "0.0.0.0"}  # what is not looked at
    done = cli("backtest", "--policy", policy(home, whole), "--json")
    assert figures(done.stdout)["calls"] == 600


def test_what_the_policy_does_not_say_stays_as_it_is(
    cli: Cli, past: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "base.toml").write_text(tomli_w.dumps(ROUTE))
    monkeypatch.setenv("MODELSPEND_CONFIG", str(home / "base.toml"))
    changed = {"profiles": {"default": {"simple": ["claude-haiku-4-5"]}}}
    said = figures(cli("backtest", "--policy", policy(home, changed), "--json").stdout)
    names = {row["model"] for row in said["models"] if row["policy"]["calls"]}
    assert {"anthropic/claude-haiku-4-5", "openai/gpt-5-mini"} <= names
    assert "openai/gpt-5-nano" not in names


def test_without_a_ledger_it_says_so(cli: Cli, home: Path) -> None:
    done = cli("backtest", "--policy", policy(home, ROUTE))
    assert done.exit_code == 3


def test_a_longer_ledger_needs_no_more_memory(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = []
    file = policy(home, ROUTE)
    for n in (300, 2_000, 6_000):  # the first one loads what is loaded once
        path = home / f"l{n}" / "ledger.db"
        path.parent.mkdir(mode=0o700)
        load(path, ((one, None) for one in Traffic(seed=2, gap_ms=60_000).receipts(n)))
        monkeypatch.setenv("MODELSPEND_STORE__PATH", str(path))
        tracemalloc.start()
        assert cli("backtest", "--policy", file, "--json").exit_code == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] * 1.5
