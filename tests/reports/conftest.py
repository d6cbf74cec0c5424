"""One rich ledger for all reports: routed, cached, tagged, in regions, with hops and unpriced."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from modelspend.cli import app
from modelspend.receipt import Receipt
from modelspend.store import DAY_MS, Store
from tests.bench.reports import rich
from tests.store.synthetic import START_MS, Traffic

COUNT = 700
END_MS = START_MS + 70 * DAY_MS

Cli = Callable[..., Result]


@dataclass(frozen=True)
class Written:
    path: Path
    receipts: tuple[Receipt, ...]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    rng = random.Random(3)
    traffic = Traffic(21, gap_ms=70 * DAY_MS / COUNT, tenants=4)
    receipts = tuple(rich(made, rng) for made in traffic.receipts(COUNT))
    path = tmp_path_factory.mktemp("reports") / "ledger.db"
    asyncio.run(_write(path, receipts))
    return Written(path, receipts)


async def _write(path: Path, receipts: tuple[Receipt, ...]) -> None:
    store = await Store.open(path, durability="normal")
    for n, receipt in enumerate(receipts):
        await store.calls.finish(receipt)
        if n == COUNT // 2:
            await store.days.roll()
    await store.close()


@pytest.fixture
def cli(written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line in front of that ledger."""
    for name, folder in (("HOME", ""), ("XDG_CONFIG_HOME", "config"), ("XDG_DATA_HOME", "data")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.delenv("MODELSPEND_CONFIG", raising=False)
    monkeypatch.setenv("MODELSPEND_STORE__PATH", str(written.path))
    runner = CliRunner()
    return lambda *words: runner.invoke(app, list(words))
