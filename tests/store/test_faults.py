"""Disks that fail for real: system calls made to fail by strace, and a disk of half a megabyte."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.test_kill import Promises, broken_promises, run_and_kill

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]

_FAULTS = {
    "sync": "fdatasync,fsync:error=EIO:when={n}..{m}",
    "write": "pwrite64:error=EIO:when={n}..{m}",
    "room": "pwrite64:error=ENOSPC:when={n}..{m}",
}


@pytest.mark.parametrize("fault", _FAULTS)
async def test_a_failing_system_call_breaks_no_promise_and_is_got_over(
    tmp_path: Path, fault: str
) -> None:
    """The n-th to m-th call of its kind fails, for n = 1 … 40, in the start as in full flow."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    promises, refused, stopped = Promises(), 0, 0
    ledger = tmp_path / "ledger.db"
    run_and_kill(ledger, 0, promises, lines_to_hear=60)
    for n in range(1, 41):
        first = n if n < 20 else 5 * n
        what = _FAULTS[fault].format(n=first, m=first + n % 3)
        calls = what.partition(":")[0]
        under = ["strace", "-D", "-f", "-o", "/dev/null", "-e", f"trace={calls}"]
        heard = run_and_kill(
            ledger, n, promises, under=[*under, "-e", f"inject={what}"], lines_to_hear=60
        )
        refused += heard.count("refused\n")
        stopped += len(heard) < 60
    print(f"{fault}: {refused} calls refused, {stopped} of 40 starts refused")
    assert await broken_promises(ledger, promises) == []
    assert refused, "the faults must be felt"
    assert stopped < 20, "a fault in full flow is got over without a restart"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_a_disk_that_is_really_full_breaks_no_promise(
    small_disk: Path, tmp_path: Path
) -> None:
    promises = Promises()
    heard = run_and_kill(small_disk / "ledger.db", 1, promises, lines_to_hear=2_000)
    assert "refused\n" in heard, "the disk must have filled"
    rescued = tmp_path / "rescued"
    shutil.copytree(small_disk, rescued)
    assert await broken_promises(rescued / "ledger.db", promises) == []
    assert promises.done
