"""`circuits`, `incidents` and `failovers`, beside a sidecar and without one."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from modelspend.breaker import Moved, Phase
from modelspend.circuits import CircuitKey, Permit, Transition
from modelspend.cli import circuits as circuits_module
from modelspend.cli.failovers import COLUMNS as FAILOVERS
from modelspend.cli.incidents import COLUMNS as INCIDENTS
from modelspend.failovers import Failover, Touched, Trail
from modelspend.receipt import FailureClass
from modelspend.server.keys import LIVE
from modelspend.store import Store
from tests.cli.conftest import START_MS, Cli, receipt
from tests.cli.test_daemon import run
from tests.fakes.sidecar import Sidecar

BAD = FailureClass.SERVER_ERROR
GPT, LLAMA = CircuitKey("openai", "gpt-4.1"), CircuitKey("groq", "llama")
OPENED = Moved(Phase.CLOSED, Phase.OPEN, "consecutive", BAD, 30.0, 1, 9, 5)
HALF = Moved(Phase.OPEN, Phase.HALF_OPEN, "wait_over", BAD, trips=1)
CLOSED = Moved(Phase.HALF_OPEN, Phase.CLOSED, "probe_succeeded", trips=1)
HOP = Failover(
    from_provider="openai", to_provider="groq", model_id="gpt-4o", to_model_id="llama",
    reason="circuit_open", decided_at_ms=START_MS, failure_class=BAD,
)  # fmt: skip


async def _write(path: Path, now_ms: int) -> None:
    store = await Store.open(path)
    at = START_MS
    for n, (key, move) in enumerate(((GPT, OPENED), (GPT, HALF), (GPT, CLOSED), (LLAMA, OPENED))):
        at = START_MS + n * 1000 if key is GPT else now_ms
        store.circuits.moved(Transition(circuit=key, moved=move), at)
    for n, tenant in ((1, "acme"), (2, "beta")):
        touched = Touched(circuit=GPT, extra_cost_pico=5_000_000_000)
        trail = Trail(failovers=(HOP,), touched=(touched,))
        await store.calls.finish(receipt(n, tenant=tenant, created_at_ms=START_MS), trail=trail)
    await store.close()


@pytest.fixture
def kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = home / "ledger" / "ledger.db"
    asyncio.run(_write(path, time.time_ns() // 1_000_000))
    monkeypatch.setenv("MODELSPEND_STORE__PATH", str(path))
    return path


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_without_a_sidecar_circuits_are_as_the_last_one_left_them(cli: Cli, kept: Path) -> None:
    done = cli("circuits", "list", "--json")
    assert done.exit_code == 0
    (llama,) = json.loads(done.stdout)
    assert (llama["provider"], llama["state"], llama["reason"]) == ("groq", "open", "consecutive")
    header, row = rows(cli("circuits", "list").stdout)
    assert header == list(circuits_module.LISTED)
    assert row[:4] == ["groq", "llama", "", "open"]
    assert "1 circuits, 1 of them not closed" in cli("circuits", "list").stderr
    assert json.loads(cli("circuits", "list", "--provider", "openai", "--json").stdout) == []


def test_the_history_tells_each_move(cli: Cli, kept: Path) -> None:
    header, *found = rows(cli("circuits", "history", "--provider", "openai").stdout)
    assert header == list(circuits_module.HISTORY)
    assert [row[4:6] for row in found] == [
        ["circuit.recovered", "probe_succeeded"],
        ["circuit.half_open", "wait_over"],
        ["circuit.open", "consecutive"],
    ]
    newest = json.loads(cli("circuits", "history", "--json", "--limit", "1").stdout)
    assert (newest[0]["provider"], newest[0]["wait_s"]) == ("groq", 30.0)
    assert len(json.loads(cli("circuits", "history", "--json", "--since", "1h").stdout)) == 1
    old = cli("circuits", "history", "--json", "--until", "2026-11-02")
    assert len(json.loads(old.stdout)) == 3


def test_incidents_tell_how_long_how_many_and_what_it_cost(cli: Cli, kept: Path) -> None:
    done = cli("incidents")
    header, going_on, over = rows(done.stdout)
    assert header == list(INCIDENTS)
    assert going_on[1:4] == ["groq", "llama", "open"]
    said = dict(zip(INCIDENTS, over, strict=True))
    assert (said["provider"], said["status"], said["duration_s"]) == ("openai", "resolved", "2.0")
    assert (said["calls_affected"], said["extra_cost_usd"]) == ("2", "0.01")
    assert "2 incidents, 1 of them not resolved." in done.stderr
    (only,) = json.loads(cli("incidents", "--open", "--json").stdout)
    assert only["provider"] == "groq"
    assert len(json.loads(cli("incidents", "--json", "--until", "2026-11-02").stdout)) == 1
    assert json.loads(cli("incidents", "--provider", "mistral", "--json").stdout) == []


def test_failovers_are_listed_for_each_tenant(cli: Cli, kept: Path) -> None:
    header, *found = rows(cli("failovers").stdout)
    assert header == list(FAILOVERS)
    assert [row[1:5] for row in found] == [
        ["beta", "openai", "gpt-4o", "groq"],
        ["acme", "openai", "gpt-4o", "groq"],
    ]
    (only,) = json.loads(cli("failovers", "--tenant", "acme", "--json").stdout)
    assert only["receipt_id"] == receipt(1).receipt_id
    after = cli("failovers", "--after", receipt(1).receipt_id, "--json")
    assert [one["tenant"] for one in json.loads(after.stdout)] == ["beta"]
    assert json.loads(cli("failovers", "--since", "1h", "--json").stdout) == []
    assert cli("failovers", "--after", "rcpt_none").exit_code == 3


def test_without_a_sidecar_a_trip_is_noted_and_shown(cli: Cli, kept: Path) -> None:
    done = cli("circuits", "trip", "openai/gpt-4.1", "--for", "10m", "--json")
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert (said["provider"], said["model_id"], said["in_force"]) == ("openai", "gpt-4.1", False)
    assert said["until"] is not None
    assert cli("circuits", "trip", "anthropic").stdout.startswith("Noted: anthropic is open")
    found = json.loads(cli("circuits", "list", "--json").stdout)
    assert {(one["provider"], one["model_id"], one["manual"]) for one in found} == {
        ("openai", "gpt-4.1", True),
        ("anthropic", None, True),
        ("groq", "llama", False),
    }
    cli("circuits", "reset", "openai")
    cli("circuits", "reset", "groq")
    found = json.loads(cli("circuits", "list", "--json").stdout)
    assert [one["provider"] for one in found if one["state"] != "closed"] == ["anthropic"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("trip", "opnai"), 3, "There is no provider 'opnai'"),
        (("trip", "openai/"), 3, "no model"),
        (("trip", "openai", "--for", "soon"), 2, "not a length of time"),
        (("trip", "openai", "--for", "0s"), 2, "not a length of time"),
        (("reset",), 2, "Missing argument"),
        (("history", "--since", "soon"), 2, "not a time"),
    ],
)
def test_what_is_typed_wrong_is_said_and_changes_nothing(
    cli: Cli, kept: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    done = cli("circuits", *words)
    assert done.exit_code == code
    assert says in done.stderr
    assert len(json.loads(cli("circuits", "list", "--json").stdout)) == 1


def test_without_a_ledger_reading_says_how_to_make_one(cli: Cli) -> None:
    for words in (("circuits", "list"), ("circuits", "history"), ("incidents",), ("failovers",)):
        done = cli(*words)
        assert done.exit_code == 3
        assert "modelspend serve" in done.stderr


async def test_beside_a_sidecar_a_trip_is_in_force_when_the_command_ends(sidecar: Sidecar) -> None:
    ledger, circuits = str(sidecar.store.path), sidecar.app[LIVE].circuits
    key = CircuitKey("sim", "sim-ok")
    config = str(Path(ledger).with_name("config.toml"))

    async def command(*words: str) -> Any:
        code, out, err = await run(
            "circuits", *words, "--json", ledger=ledger, MODELSPEND_CONFIG=config
        )
        assert code == 0, err
        return json.loads(out)

    said = await command("trip", "sim/sim-ok")
    assert said["in_force"] is True
    assert circuits.snapshot(time.monotonic()).refuses(*key)
    (listed,) = await command("list")
    assert (listed["provider"], listed["manual"], listed["retry_at"]) == ("sim", True, None)
    said = await command("reset", "sim")
    assert said["in_force"] is True
    assert isinstance(circuits.admit(key, time.monotonic()), Permit)
    events = [one["event"] for one in await command("history")]
    assert events == ["circuit.recovered", "circuit.open"]
