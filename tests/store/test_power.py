"""A power cut: under `full` nothing acknowledged is lost; under `normal` the same test shows loss.

Needs root, FUSE and fusepy: `pytest -m full tests/store/test_power.py`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.store.test_kill import Promises, broken_promises, run_and_kill

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]

ROUNDS = int(os.environ.get("MODELSPEND_POWER_CUTS", "50"))


@pytest.fixture(scope="module", autouse=True)
def _can_mount() -> None:
    try:
        import fuse  # noqa: F401
    except (ImportError, OSError) as error:
        pytest.skip(f"needs fusepy and libfuse: {error}")
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        pytest.skip("needs root and /dev/fuse")


@contextmanager
def powered(backing: Path, mount: Path) -> Iterator[None]:
    """The forgetful file system; leaving the block is the cut."""
    mount.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.store.forgetful", str(backing), str(mount)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as daemon:
        deadline = time.monotonic() + 10
        while not os.path.ismount(mount):
            assert daemon.poll() is None, "the file system did not start"
            assert time.monotonic() < deadline, "the file system did not come up"
            time.sleep(0.02)
        try:
            yield
        finally:
            daemon.kill()
    subprocess.run(["umount", "-l", str(mount)], check=True)


async def _cuts(tmp_path: Path, durability: str, rounds: int) -> tuple[Promises, list[str]]:
    backing, mount = tmp_path / "disk", tmp_path / "mount"
    backing.mkdir()
    promises = Promises()
    for seed in range(1, rounds + 1):
        with powered(backing, mount):
            run_and_kill(mount / "ledger.db", seed, promises, durability)
    (backing / "ledger.db-shm").unlink(missing_ok=True)
    return promises, await broken_promises(backing / "ledger.db", promises)


async def test_a_power_cut_loses_nothing_under_full(tmp_path: Path) -> None:
    promises, broken = await _cuts(tmp_path, "full", ROUNDS)
    assert broken == []
    assert len(promises.done) > 20 * ROUNDS


async def test_the_same_cut_shows_loss_under_normal(tmp_path: Path) -> None:
    promises, broken = await _cuts(tmp_path, "normal", 3)
    assert promises.done
    assert broken, "if nothing is lost here, the test above proves nothing"
