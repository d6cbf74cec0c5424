"""The ledger's files: who may read them, how they are opened, what is wrong with them.

Hides pragmas and file modes. A reader would not guess why nothing here calls `open` on the ledger:
closing any descriptor of the file drops the locks that SQLite holds on it in this process.
"""

import errno
import os
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from modelspend.errors import LedgerCorrupt, NotFound
from modelspend.store.migrations import APPLICATION_ID, MIGRATIONS, version

Unreadable = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What a damaged file raises: its texts, error messages included, may not be UTF-8 any more."""

Durability = Literal["full", "normal"]

BUSY_TIMEOUT_MS = 250
WAL_LIMIT = 64 * 1024 * 1024
_CHECK_OPCODES = 20_000  # how often a bounded check looks at the time
_NO_SYNC = frozenset({errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS})
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph"})


def prepare(path: Path) -> None:
    """Make the folder (0700) and an empty ledger (0600), whatever the umask says."""
    make_folder(path.parent)
    with suppress(FileExistsError):  # exclusive: what is closed here is no open database
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    for file in family(path):
        if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077:
            file.chmod(0o600)


def make_folder(folder: Path) -> None:
    """One for this user alone, whatever the umask says; one that is there stays as it is."""
    if not folder.is_dir():
        folder.mkdir(parents=True, mode=0o700)
        folder.chmod(0o700)


def sync_folder(folder: Path) -> None:
    """What names were given in it outlives a power cut; where a file system cannot do that, or the
    folder may be written and not read, nothing better can be had. Raises OSError when its disk
    fails: what was just named there may be gone after a power cut."""
    if os.name == "nt":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


def family(path: Path) -> tuple[Path, ...]:
    """The ledger and the files that SQLite keeps beside it."""
    return (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm"))


def connect_writer(path: Path, durability: Durability) -> sqlite3.Connection:
    """The connection that writes; the calling thread owns it."""
    conn = sqlite3.connect(path, isolation_level=None, timeout=0, cached_statements=256)
    try:
        for pragma in (
            f"busy_timeout = {BUSY_TIMEOUT_MS}",
            "auto_vacuum = INCREMENTAL",  # counts only while the file is empty
            "journal_mode = WAL",
            f"synchronous = {durability.upper()}",
            "fullfsync = ON",  # macOS: fsync alone does not reach the platter
            "foreign_keys = ON",
            "wal_autocheckpoint = 0",  # see checkpoint.py
            f"journal_size_limit = {WAL_LIMIT}",
            "temp_store = MEMORY",
            "cache_size = -8000",
            "trusted_schema = OFF",
        ):
            conn.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        conn.close()
        raise
    return conn


def connect_reader(path: Path, cache_kib: int = 8_000) -> sqlite3.Connection:
    """A connection that cannot write; it works beside a daemon and without one. It keeps so many
    KiB of pages, which it never gives back."""
    if not path.exists():
        raise NotFound(f"There is no ledger at {path}.", "It is made by: modelspend serve")
    conn = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5
    )
    try:
        for pragma in ("query_only = ON", f"cache_size = -{cache_kib}", "temp_store = MEMORY"):
            conn.execute(f"PRAGMA {pragma}")
        refuse_stranger(conn, path)
    except BaseException:
        conn.close()
        raise
    return conn


def refuse_stranger(conn: sqlite3.Connection, path: Path) -> None:
    """Raise LedgerCorrupt for a database that is not ours, or newer than this program."""
    (tables,) = conn.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (mark,) = conn.execute("PRAGMA application_id").fetchone()
    if tables and mark != APPLICATION_ID:
        raise LedgerCorrupt(
            f"{path} is a database of something else; it was left untouched.",
            "Choose another path: [store] path, or MODELSPEND_STORE__PATH.",
        )
    if version(conn) > len(MIGRATIONS):
        raise LedgerCorrupt(
            f"{path} was written by a newer modelspend (schema {version(conn)}; "
            f"this one knows {len(MIGRATIONS)}).",
            "Upgrade modelspend, or choose another path.",
        )


def problems(conn: sqlite3.Connection, check: str, seconds: float) -> list[str] | None:
    """What `quick_check` or `integrity_check` finds; None when the time did not suffice."""
    conn.set_progress_handler(_past(time.monotonic() + seconds), _CHECK_OPCODES)
    try:
        found = [str(row[0]) for row in conn.execute(f"PRAGMA {check}(20)")]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return None
        raise
    finally:
        conn.set_progress_handler(None, 0)
    return [] if found == ["ok"] else found


def _past(deadline: float) -> Callable[[], bool]:
    return lambda: time.monotonic() > deadline


def set_aside(path: Path, now_ms: int, why: Literal["damaged", "replaced"] = "damaged") -> Path:
    """Rename the ledger and its companions; the new name of the ledger. Nothing is deleted.

    Done half-way, it goes on at the same instant's name when it is done again.
    """
    aside = aside_name(path, now_ms, why)
    for old, new in zip(family(path), family(aside), strict=True):
        if old.exists():
            old.rename(_free(new))
    return aside


def _free(name: Path) -> Path:
    """The name, or the next one that nothing has: a file that was kept is never written over."""
    n, free = 2, name
    while free.exists():
        free, n = name.with_name(f"{name.name}.{n}"), n + 1
    return free


def aside_name(path: Path, now_ms: int, why: str) -> Path:
    """What the ledger is called once it is set aside."""
    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S%f")[:-3]
    return path.with_name(f"{path.name}.{why}-{stamp}Z")


def network_kind(path: Path) -> str | None:
    """The kind of network file system that the ledger lies on, where the system tells."""
    try:
        mounts = Path("/proc/mounts").read_text(errors="replace").splitlines()
    except OSError:
        return None
    here = path.absolute()
    best, kind = Path("/"), ""
    for line in mounts:
        _, where, what, *_ = line.split(" ")
        mount = Path(where.replace("\\040", " "))
        if here.is_relative_to(mount) and len(mount.parts) >= len(best.parts):
            best, kind = mount, what
    return kind if kind in _NETWORK else None
