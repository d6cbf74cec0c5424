"""Fixtures that every part shares: a simulated provider, and a sidecar in front of it."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from modelspend.simulator import Simulator
from tests.fakes.sidecar import Sidecar, sidecar_for


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regen", action="store_true", help="rewrite the generated files")


def pytest_configure(config: pytest.Config) -> None:
    """A shell that runs us in the background has Ctrl-C ignored, and so would all our children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Files run side by side where all of them are run; else all runs, and prints, in here."""
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    chosen = config.option.keyword or config.option.markexpr != "not full"
    prints = config.option.capture == "no"
    return min(os.cpu_count() or 1, 4) if everything and not (chosen or prints) else 0


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A provider in a box."""
    async with Simulator(seed=1) as running:
        yield running


@pytest.fixture
async def sidecar(tmp_path: Path, simulator: Simulator) -> AsyncIterator[Sidecar]:
    """A sidecar in front of the simulator, with a provider `sim` that speaks every dialect."""
    async with sidecar_for(tmp_path, simulator.url) as running:
        yield running


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded public data; without it the tests that need it are skipped."""
    beside = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("MODELSPEND_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no recorded data at {folder}: set MODELSPEND_DATA")
    return folder
