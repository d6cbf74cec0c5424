"""`top`: the same figures beside a sidecar and without one, for eyes and for scripts."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from modelspend.cli.top import _recent
from modelspend.cli.top_show import sparkline, view
from tests.cli.conftest import Cli
from tests.cli.test_daemon import ROOT, chat, run
from tests.fakes.sidecar import Sidecar
from tests.server.test_circuits import broken, live_of


async def looked(sidecar: Sidecar, *words: str) -> dict[str, Any]:
    await sidecar.stored()
    code, out, err = await run("top", "--once", "--json", *words, ledger=str(sidecar.store.path))
    assert code == 0, err
    told: dict[str, Any] = json.loads(out)
    return told


async def test_one_look_says_what_passes(sidecar: Sidecar) -> None:
    for _ in range(3):
        await chat(sidecar)
    body = {"model": "sim/sim-500", "messages": [{"role": "user", "content": "hello"}]}
    await sidecar.post("/v1/chat/completions", body)
    told = await looked(sidecar)
    assert (told["running"], told["url"]) == (True, sidecar.url)
    assert (told["calls"], told["failed"], told["error_share"]) == (4, 1, 0.25)
    assert told["by_status"] == {"success": 3, "error": 1}
    assert told["per_s"] > 0.1  # it has been up for less than the minute
    assert sum(told["recent"]) == 4
    assert told["latency_ms"]["p50"] is not None
    (sim,) = told["providers"]
    assert (sim["provider"], sim["calls"], sim["failed"]) == ("sim", 4, 1)
    receipts = await sidecar.receipts()
    cost = sum(one.execution.actual_cost_pico or 0 for one in receipts)
    assert round(told["spend"]["today"]["cost_usd"] * 1e12) == cost
    assert told["spend"]["hour"]["calls"] in (4, 0)  # the hour may just have changed
    assert (told["in_flight"], told["open_calls"], told["held_usd"]) == (0, 0, 0)


async def test_what_is_wrong_is_shown(sidecar: Sidecar) -> None:
    live = live_of(sidecar)
    live.circuits.rules = live.circuits.rules.model_copy(update={"enabled": True})
    broken(live)
    headers = {"authorization": f"Bearer {sidecar.token}"}
    asked = {"fault": "outage", "provider": "sim"}
    await sidecar.post("/v1/drill", asked, headers=headers)
    told = await looked(sidecar)
    (circuit,) = told["circuits"]["not_closed"]
    assert (circuit["provider"], circuit["state"]) == ("sim", "open")
    assert told["open_incidents"] == 1
    assert told["drills"][0]["fault"] == "outage"
    _, out, _ = await run("top", ledger=str(sidecar.store.path))
    said = dict(line.split("\t") for line in out.splitlines())
    assert said["sim/sim-ok"] == "open (consecutive)"
    assert said["drill"].startswith("outage at sim until")
    console = Console(width=110, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(view(told))
    screen = console.export_text()
    assert "drill: outage at sim" in screen
    assert "sim/sim-ok" in screen
    assert "server_error" in screen
    console.file.close()


def test_without_a_sidecar_it_says_so_and_shows_the_ledger(cli: Cli, ledger: Path) -> None:
    done = cli("top")
    said = dict(line.split("\t") for line in done.stdout.splitlines())
    assert said["sidecar"] == "none is running: this is the ledger alone"
    assert said["under way"].startswith("- calls")
    told = json.loads(cli("top", "--once", "--json", "--window", "1h").stdout)
    assert (told["running"], told["in_flight"], told["window_s"]) == (False, None, 3600)
    assert told["error_share"] is None


@pytest.mark.parametrize("words", [("--window", "soon"), ("--every", "0")])
def test_what_is_typed_wrong_is_said(cli: Cli, ledger: Path, words: tuple[str, ...]) -> None:
    assert cli("top", *words).exit_code == 2


async def test_as_json_it_goes_on_with_a_line_each_time(sidecar: Sidecar) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "modelspend", "top", "--json", "--every", "0.2",
        cwd=ROOT,
        env={"MODELSPEND_STORE__PATH": str(sidecar.store.path), "HOME": "/nonexistent"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(20):
        assert json.loads(await process.stdout.readline())["calls"] == 0
        await chat(sidecar)
        while json.loads(await process.stdout.readline())["calls"] == 0:
            pass
        process.send_signal(2)
        _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")


def test_the_bars_are_the_counts_of_equal_parts() -> None:
    counts = _recent([1000, 1000, 60_999, 59_999, 70_000, 0], 1000, 60_000)
    assert (len(counts), counts[0], counts[58], counts[59]) == (60, 3, 1, 2)
    assert sparkline([0, 1, 2]) == " ▄█"
    assert sparkline([0, 0]) == "  "
