"""`events`, beside a sidecar and without one, and over the end of one."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from modelspend.cli.events import COLUMNS
from modelspend.events import Event
from modelspend.store import Store
from tests.cli.conftest import START_MS, Cli, receipt
from tests.cli.test_daemon import ROOT, run
from tests.fakes.sidecar import Sidecar, sidecar_for


async def _write(path: Path) -> None:
    store = await Store.open(path)
    hop = {"from_provider": "openai", "to_provider": "groq", "perhaps_twice": False}
    store.events.tell(Event(kind="circuit.open", at_ms=START_MS, data={"provider": "openai"}))
    await store.calls.finish(receipt(1))
    told = Event(kind="failover", at_ms=START_MS, tenant="acme", level="warn", data=hop)
    store.events.tell(told)
    odd = {"reason": "the disk\x1b[31m is full"}
    store.events.tell(Event(kind="ledger.resumed", at_ms=START_MS + 1, data=odd))
    await store.close()


@pytest.fixture
def kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = home / "ledger" / "ledger.db"
    asyncio.run(_write(path))
    monkeypatch.setenv("MODELSPEND_STORE__PATH", str(path))
    return path


def seqs(text: str) -> list[int]:
    return [one["seq"] for one in json.loads(text)]


def test_events_are_listed_newest_first(cli: Cli, kept: Path) -> None:
    done = cli("events")
    header, *rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert header == list(COLUMNS)
    assert [(row[0], row[2]) for row in rows] == [
        ("4", "ledger.resumed"),
        ("3", "failover"),
        ("1", "circuit.open"),
    ]
    assert rows[1][3:5] == ["warn", "acme"]
    assert rows[1][6] == "from_provider=openai to_provider=groq perhaps_twice=no"
    assert "\x1b" not in done.stdout
    assert "3 events." in done.stderr


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), [4, 3, 1]),
        (("--limit", "1"), [4]),
        (("--after", "1"), [3, 4]),
        (("--after", "1", "--limit", "1"), [3]),
        (("--after", receipt(1).receipt_id), [3, 4]),
        (("--type", "circuit.*,failover"), [3, 1]),
        (("--tenant", "acme"), [3]),
        (("--provider", "openai"), [3, 1]),
        (("--since", "2026-11-01T00:00:00.001Z"), [4]),
    ],
)
def test_each_filter_finds_what_it_says(
    cli: Cli, kept: Path, words: tuple[str, ...], found: list[int]
) -> None:
    assert seqs(cli("events", "--json", *words).stdout) == found


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--type", "a?"), 2, "write circuit.open"),
        (("--after", "rcpt_none"), 3, "no receipt"),
        (("--since", "soon"), 2, "not a time"),
    ],
)
def test_what_is_typed_wrong_is_said(
    cli: Cli, kept: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    done = cli("events", *words)
    assert done.exit_code == code
    assert says in done.stderr


def test_without_a_ledger_it_says_how_to_make_one(cli: Cli) -> None:
    assert cli("events").exit_code == 3
    assert "modelspend serve" in cli("events", "--follow").stderr


async def started(ledger: Path, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "modelspend", "events", "--follow", "--json", *words,
        cwd=ROOT,
        env={"MODELSPEND_STORE__PATH": str(ledger), "HOME": str(ledger.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


async def following(process: asyncio.subprocess.Process) -> int:
    """The number of the next one."""
    assert process.stdout is not None
    async with asyncio.timeout(20):
        return int(json.loads(await process.stdout.readline())["seq"])


async def test_following_goes_on_over_the_end_of_a_sidecar_and_the_start_of_another(
    tmp_path: Path,
) -> None:
    """By the feed, then in the ledger alone; each event once."""
    nobody = "http://127.0.0.1:9"
    ledger = tmp_path / "ledger.db"

    async def tell(sidecar: Sidecar) -> None:
        sidecar.store.events.tell(Event(kind="circuit.open", at_ms=START_MS))
        await sidecar.store.circuits.obeyed([])

    async with sidecar_for(tmp_path, nobody) as sidecar:
        await tell(sidecar)
        process = await started(ledger)
        other = await started(ledger, "--type", "failover")
        try:
            assert await following(process) == 1
            await tell(sidecar)
            assert await following(process) == 2
            await sidecar.app.shutdown()
            await tell(sidecar)
            assert await following(process) == 3
        finally:
            other.kill()
            await other.communicate()
    try:
        async with sidecar_for(tmp_path, nobody) as sidecar:
            await tell(sidecar)
            assert await following(process) == 4
        process.send_signal(2)
        async with asyncio.timeout(10):
            out, err = await process.communicate()
        assert (process.returncode, out, err) == (130, b"", b"")
    finally:
        if process.returncode is None:
            process.kill()


async def test_a_list_is_the_same_beside_a_sidecar(sidecar: Sidecar) -> None:
    sidecar.store.events.tell(Event(kind="circuit.open", at_ms=START_MS))
    await sidecar.store.circuits.obeyed([])
    code, out, _ = await run("events", "--json", ledger=str(sidecar.store.path))
    assert (code, seqs(out)) == (0, [1])
