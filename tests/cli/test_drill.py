"""`drill` as a program: without a sidecar on a pair of its own, and beside one on its calls."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from modelspend.drills import FAULTS
from modelspend.simulator import Simulator
from tests.cli.conftest import Cli
from tests.cli.test_daemon import ROOT, run
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.gateway.test_drills import _provider
from tests.gateway.test_failover import tiers
from tests.server.test_control import ask, call

QUICK = {"MODELSPEND_CIRCUITS__WAIT_S": "0.5", "MODELSPEND_CIRCUITS__CONSECUTIVE": "2"}


def test_alone_it_lists_the_faults(cli: Cli) -> None:
    assert [line.split("\t")[0] for line in cli("drill").stdout.splitlines()[1:]] == list(FAULTS)
    assert len(json.loads(cli("drill", "--json").stdout)) == len(FAULTS)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("flood",), "Faults: outage, "),
        (("outage", "--for", "soon"), "not a length of time"),
        (("outage", "--for", "2h"), "at most an hour"),
        (("slow", "--delay", "x"), "--delay"),
    ],
)
def test_what_is_typed_wrong_is_said(cli: Cli, words: tuple[str, ...], says: str) -> None:
    done = cli("drill", *words)
    assert done.exit_code == 2
    assert says in done.stderr


async def test_without_a_sidecar_a_drill_is_complete_by_itself(tmp_path: Path) -> None:
    """With the user's own circuits: two failures open it here. The apps agree with the ledger."""
    ledger = tmp_path / "none.db"
    words = ("drill", "outage", "--for", "3s", "--json")
    code, out, err = await run(*words, ledger=str(ledger), **QUICK)
    assert code == 0, err
    told = json.loads(out)
    assert (told["simulated"], told["interrupted"]) == (True, False)
    calls, clients = told["calls"], told["clients"]
    assert calls["total"] >= 5
    assert abs(calls["total"] - clients["calls"]) <= 2  # one at each end of the time, perhaps
    assert calls["succeeded"] == calls["total"]
    assert clients["succeeded"] == clients["calls"]
    assert (calls["failed"], clients["failed"], clients["open"]) == (0, 0, 0)
    assert told["attempts"]["by_failure_class"].keys() == {"connect"}
    assert told["failover"]["to"] == {"backup": calls["total"]}
    circuit = told["circuit"]
    assert 2 <= circuit["attempts_until_open"] <= 4  # a slow machine has some under way together
    assert circuit["recovered"]
    assert float(told["cost"]["extra_usd"]) > 0
    assert told["cost"]["extra_unknown"] == 0
    assert not ledger.exists()


async def test_the_report_is_a_table_and_talk_goes_to_stderr(tmp_path: Path) -> None:
    code, out, err = await run(
        "drill", "cut", "--at", "6", "--for", "2s", "--provider", "mine",
        ledger=str(tmp_path / "none.db"), **QUICK,
    )  # fmt: skip
    assert code == 0, err
    said = dict(line.split("\t") for line in out.splitlines())
    assert said["drill"].startswith("cut at mine, ")
    assert "failed" in said["clients saw"]
    assert "disconnected" in said["the fault met"]
    assert "for answers that the fault spoilt" in said["cost"]
    assert "cut in front of mine for 2 s (a simulated pair" in err


@pytest.fixture
async def pair(tmp_path: Path, simulator: Simulator) -> AsyncIterator[Sidecar]:
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers={"other": _provider(simulator)},
        profiles={"p": tiers("sim/sim-ok", "other/sim-ok")},
        retries={"backoff_s": 0.01},
        circuits={"consecutive": 2, "wait_s": 0.3},
    ) as running:
        yield running


async def _calling(sidecar: Sidecar, over: asyncio.Event) -> int:
    """Calls until it is over; how many."""
    made = 0
    while not over.is_set():
        await call(sidecar, "auto:p")
        made += 1
        await asyncio.sleep(0.05)
    return made


async def test_beside_a_sidecar_its_own_calls_are_met_and_reported(pair: Sidecar) -> None:
    over = asyncio.Event()
    calling = asyncio.create_task(_calling(pair, over))  # noqa: TID251
    ledger = str(pair.store.path)
    code, out, err = await run(
        "drill", "outage", "--provider", "sim", "--for", "2s", "--json", ledger=ledger
    )
    over.set()
    made = await calling
    assert code == 0, err
    told: dict[str, Any] = json.loads(out)
    assert told["simulated"] is False
    assert 5 <= told["calls"]["total"] <= made
    assert told["calls"]["failed"] == 0
    assert told["circuit"]["attempts_until_open"] == 2
    assert told["circuit"]["recovered"]
    incidents = await pair.store.incidents.list()
    assert incidents
    assert {one.drill for one in incidents} <= {"outage", None}
    assert incidents[-1].drill == "outage"


async def test_without_a_name_the_provider_of_most_calls_is_met(pair: Sidecar) -> None:
    for _ in range(3):
        await call(pair, "other/sim-ok")
    await call(pair, "sim/sim-ok")
    code, out, err = await run(
        "drill", "slow", "--delay", "1s", "--for", "1s", "--json", ledger=str(pair.store.path)
    )
    assert code == 0, err
    assert json.loads(out)["drill"]["provider"] == "other"
    assert "other it is" in err
    assert "no call met the drill" in err


async def test_a_provider_that_is_not_there_is_refused(pair: Sidecar) -> None:
    code, _, err = await run("drill", "outage", "--provider", "opnai", ledger=str(pair.store.path))
    assert code == 3
    assert "Providers: other, sim" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupt_ends_the_fault_at_once_and_the_report_is_told(
    pair: Sidecar, number: int
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "modelspend", "drill", "outage", "--provider", "sim", "--json",
        cwd=ROOT,
        env={"MODELSPEND_STORE__PATH": str(pair.store.path), "HOME": str(pair.store.path.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(20):
        while not list(pair.gateway.attempts.faults):
            await asyncio.sleep(0.02)
        await call(pair, "auto:p")
        process.send_signal(number)
        out, err = await process.communicate()
    assert process.returncode == 130, err
    told = json.loads(out)
    assert told["interrupted"] is True
    assert told["calls"]["total"] == 1
    assert list(pair.gateway.attempts.faults) == []


async def test_a_drill_that_is_on_shows_in_status_and_circuits(pair: Sidecar) -> None:
    await call(pair, "auto:p")
    headers = {"authorization": f"Bearer {pair.token}"}
    asked = {"fault": "outage", "provider": "sim"}
    await pair.post("/v1/drill", asked, headers=headers)
    ledger = str(pair.store.path)
    _, out, err = await run("circuits", "list", ledger=ledger)
    assert "a drill (outage) stands in front of sim" in err
    assert out.splitlines()[1].endswith("outage")
    _, out, _ = await run("status", ledger=ledger)
    assert "drills\toutage at sim until" in out
    _, _, told = await ask(pair, "/v1/circuits")
    assert told["items"][0]["drill"] == "outage"
