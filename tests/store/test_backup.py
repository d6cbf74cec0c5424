"""A backup: one state of the ledger, whole, checked, and never in the way of a call."""

import asyncio
import errno
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from modelspend.errors import BadPath, CheckFailed, LedgerUnavailable, NotFound, Usage
from modelspend.store import Store, backup, files
from modelspend.store.bodies import Bodies
from tests.store.bulk import load
from tests.store.conftest import outside
from tests.store.synthetic import Traffic, intent_of, with_bodies

ROOT = Path(__file__).parents[2]


def filled(ledger: Path, count: int = 60, seed: int = 5) -> None:
    calls: list[tuple[object, Bodies | None]] = [
        with_bodies(made) for made in Traffic(seed, tenants=3).receipts(count)
    ]
    load(ledger, calls)  # type: ignore[arg-type]


def rows(ledger: Path) -> list[tuple[object, ...]]:
    with outside(ledger) as conn:
        return conn.execute("SELECT seq, hash, detail FROM receipts ORDER BY seq").fetchall()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere" / "copy.db"


def test_a_backup_holds_what_the_ledger_holds_and_says_so(ledger: Path, copied: Path) -> None:
    filled(ledger)
    held = backup.make(ledger, copied, now_ms=1_795_000_000_000)
    assert rows(copied) == rows(ledger)
    assert (held.receipts, held.bodies, held.last_seq, held.open_intents) == (60, 60, 60, 0)
    assert (held.made_at_ms, held.size) == (1_795_000_000_000, copied.stat().st_size)
    assert backup.holding(copied) == held


def test_a_backup_is_one_file_for_this_user_alone(ledger: Path, copied: Path) -> None:
    filled(ledger)
    old = os.umask(0)
    try:
        backup.make(ledger, copied, now_ms=1)
    finally:
        os.umask(old)
    assert stat.S_IMODE(copied.stat().st_mode) == 0o600
    assert [each.name for each in copied.parent.iterdir()] == [copied.name]


def test_the_key_that_signs_checkpoints_is_not_in_it(ledger: Path, copied: Path) -> None:
    filled(ledger)
    key = ledger.with_name("checkpoint.key")
    key.write_text("ab" * 32)
    backup.make(ledger, copied, now_ms=1)
    assert b"ab" * 32 not in copied.read_bytes()
    assert bytes.fromhex("ab" * 32) not in copied.read_bytes()


def test_a_file_that_is_there_is_replaced_only_when_that_is_asked_for(
    ledger: Path, copied: Path
) -> None:
    filled(ledger)
    backup.make(ledger, copied, now_ms=1)
    before = copied.read_bytes()
    with pytest.raises(Usage, match="exists already, a backup of 1970-01-01"):
        backup.make(ledger, copied, now_ms=2)
    assert copied.read_bytes() == before
    backup.make(ledger, copied, now_ms=2, overwrite=True)
    assert backup.holding(copied).made_at_ms == 2


def test_the_ledger_itself_is_never_the_file_that_is_written(ledger: Path) -> None:
    filled(ledger)
    for name in (ledger, ledger.parent / ".." / ledger.parent.name / ledger.name):
        with pytest.raises(Usage, match="the ledger itself"):
            backup.make(ledger, name, now_ms=1, overwrite=True)
    with pytest.raises(Usage, match="a folder"):
        backup.make(ledger, ledger.parent, now_ms=1)
    assert len(rows(ledger)) == 60


def test_without_a_ledger_there_is_nothing_to_copy(ledger: Path, copied: Path) -> None:
    with pytest.raises(NotFound):
        backup.make(ledger, copied, now_ms=1)
    assert not copied.exists()


def _edit_a_receipt(conn: sqlite3.Connection) -> None:
    conn.execute("UPDATE receipts SET tenant = 'somebody-else' WHERE seq = 7")


def _cut_the_tail(conn: sqlite3.Connection) -> None:
    for table in ("attempts", "bodies", "tags", "savings", "v3_failover_decisions", "receipts"):
        conn.execute(f"DELETE FROM {table} WHERE seq = 60")


@pytest.mark.parametrize("change", [_edit_a_receipt, _cut_the_tail])
def test_a_copy_of_what_is_not_as_it_was_written_is_no_backup(
    ledger: Path, copied: Path, change: "object"
) -> None:
    filled(ledger)
    with outside(ledger) as conn:
        change(conn)  # type: ignore[operator]
    with pytest.raises(CheckFailed, match="is not sound"):
        backup.make(ledger, copied, now_ms=1)
    assert list(copied.parent.iterdir()) == []


def test_a_damaged_page_is_found_before_the_copy_counts(ledger: Path, copied: Path) -> None:
    filled(ledger, 400)
    with ledger.open("r+b") as file:
        file.seek(40 * 4096)
        file.write(os.urandom(3 * 4096))
    with pytest.raises(CheckFailed):
        backup.make(ledger, copied, now_ms=1)
    assert not copied.exists()


def test_a_place_without_room_keeps_the_last_backup(ledger: Path, copied: Path) -> None:
    filled(ledger, 400)
    backup.make(ledger, copied, now_ms=1)
    before = copied.read_bytes()
    done = subprocess.run(
        ["bash", "-c", f'ulimit -f {ledger.stat().st_size // 2048}; exec "$@"', "bash",
         sys.executable, "-c", _CHILD, str(ledger), str(copied)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert "LedgerUnavailable" in done.stderr, done.stderr
    assert copied.read_bytes() == before
    assert [each.name for each in copied.parent.iterdir()] == [copied.name]


def test_two_backups_to_one_file_do_not_mix(ledger: Path, copied: Path) -> None:
    filled(ledger)
    copied.parent.mkdir()
    with backup._written_aside(copied), pytest.raises(LedgerUnavailable, match="Another backup"):
        backup.make(ledger, copied, now_ms=1)
    assert copied.exists()


async def test_calls_go_on_while_a_backup_is_made_and_it_is_of_one_instant(
    ledger: Path, copied: Path
) -> None:
    """The copy stops half-way until fifty more calls are in the ledger: it keeps nobody waiting."""
    filled(ledger, 1_500)
    store = await Store.open(ledger)
    traffic = Traffic(9, start_ms=1_792_000_000_000)
    halfway, enough = threading.Event(), threading.Event()

    def progress(done: int, of: int) -> None:
        halfway.set()
        assert enough.wait(30), "the calls wait for the backup"

    def back_up() -> backup.Holding:
        return backup.make(ledger, copied, now_ms=1, progress=progress)

    copying = asyncio.get_running_loop().run_in_executor(None, back_up)
    assert await asyncio.to_thread(halfway.wait, 30)
    for _ in range(50):
        receipt, bodies = with_bodies(traffic.receipt())
        await store.calls.begin(intent_of(receipt))
        await store.calls.finish(receipt, bodies)
    enough.set()
    held = await copying
    await store.close()
    assert held.receipts == 1_500
    assert len(rows(ledger)) == 1_550
    assert rows(copied) == rows(ledger)[:1_500]


_CHILD = (
    "import sys; from pathlib import Path; from modelspend.store import backup;"
    "backup.make(Path(sys.argv[1]), Path(sys.argv[2]), 7, overwrite=True,"
    " progress=lambda done, of: print(done, flush=True))"
)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_kill_9_in_the_middle_leaves_the_file_that_was_there(
    ledger: Path, copied: Path, steps: int
) -> None:
    filled(ledger, 2_000)
    backup.make(ledger, copied, now_ms=1)
    before = copied.read_bytes()
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(ledger), str(copied)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert child.stdout is not None
    for _ in range(steps):
        child.stdout.readline()
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert copied.read_bytes() == before
    with closing(files.connect_reader(ledger)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert backup.make(ledger, copied, now_ms=3, overwrite=True).made_at_ms == 3
    assert [each.name for each in copied.parent.iterdir()] == [copied.name]


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("taken/x.db", "taken is no folder"),
        ("taken/deeper/x.db", "taken is no folder"),
        ("n" * 300, "File name too long"),
        ("/proc/x.db", "/proc: No such file or directory"),
        ("/proc/none/x.db", "/proc/none: No such file or directory"),
    ],
)
def test_a_place_where_no_file_can_be_is_told_with_its_path_and_why(
    ledger: Path, tmp_path: Path, place: str, why: str
) -> None:
    filled(ledger, 1)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(BadPath) as caught:
        backup.make(ledger, tmp_path / place, 0)
    assert caught.value.message.startswith(f"{tmp_path / place} cannot be written: ")
    assert why in caught.value.message
    assert caught.value.code == "bad_path"
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_disk_that_fails_is_told_and_a_file_system_without_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a backup or an export says is on the disk must be; /proc is one that syncs no folder."""
    files.sync_folder(Path("/proc"))
    files.sync_folder(tmp_path)

    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="Input/output error"):
        files.sync_folder(tmp_path)
