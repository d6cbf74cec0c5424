"""One gateway per ledger: an advisory lock on a side file that says who holds it.

The lock is the operating system's, so it is gone with its process; what stands in the file is only
for people. A side file, because a lock on the ledger itself would meet SQLite's own.
"""

import json
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

from modelspend.errors import LedgerHeld
from modelspend.receipt_json import iso
from modelspend.record import frozen

RunsAs = Literal["", "serve", "up", "systemd"]
"""Who is to stop and start a sidecar: nobody, a terminal, the command `up`, the service manager."""

_TRIES, _PAUSE_S = 10, 0.01  # a command that looks who holds the lock holds it for an instant

if sys.platform == "win32":
    import msvcrt

    def _take(fd: int, *, shared: bool) -> bool:
        os.lseek(fd, 1 << 30, os.SEEK_SET)  # far behind the text, which must stay readable
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _drop(fd: int) -> None:
        os.lseek(fd, 1 << 30, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _take(fd: int, *, shared: bool) -> bool:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _drop(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


@frozen
class Holder:
    """Who writes a ledger. `runs_as` is empty for what ends by itself, such as `run`."""

    pid: int
    url: str | None
    boot_id: str
    started_at_ms: int
    runs_as: RunsAs = ""


class Lock:
    """The held lock. `update` tells the address once the port is known."""

    def __init__(self, path: Path, holder: Holder) -> None:
        self._path = _beside(path)
        self._fd = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        self.holder = holder
        for _ in range(_TRIES):
            if _take(self._fd, shared=False):
                break
            time.sleep(_PAUSE_S)
        else:
            os.close(self._fd)
            raise _held(path)
        os.chmod(self._path, 0o600)
        self._write()

    def update(self, *, url: str, runs_as: RunsAs = "") -> None:
        self.holder = replace(self.holder, url=url, runs_as=runs_as)
        self._write()

    def release(self) -> None:
        _drop(self._fd)
        os.close(self._fd)

    def _write(self) -> None:
        text = json.dumps(asdict(self.holder)).encode()
        os.lseek(self._fd, 0, os.SEEK_SET)
        os.write(self._fd, text)
        os.ftruncate(self._fd, len(text))


def read_lock(path: Path) -> Holder | None:
    """Who holds the ledger at `path` now; None when nobody does."""
    try:
        fd = os.open(_beside(path), os.O_RDWR)
    except OSError:
        return None
    try:
        if _take(fd, shared=True):
            _drop(fd)
            return None
        return _read(fd)
    finally:
        os.close(fd)


def known_as_ledger(path: Path) -> bool:
    """Whether a gateway has ever held the file at `path`."""
    return _beside(path).exists()


def _read(fd: int) -> Holder:
    for _ in range(_TRIES):  # the holder may be half-way through writing its address
        os.lseek(fd, 0, os.SEEK_SET)
        try:
            said = json.loads(os.read(fd, 4096))
            return Holder(
                said["pid"],
                said["url"],
                said["boot_id"],
                said["started_at_ms"],
                said.get("runs_as", ""),
            )
        except (ValueError, KeyError, TypeError):
            time.sleep(_PAUSE_S)
    return Holder(0, None, "", 0)


def _held(path: Path) -> LedgerHeld:
    holder = read_lock(path) or Holder(0, None, "", 0)
    where = f" at {holder.url}" if holder.url else ""
    return LedgerHeld(
        f"{path} is in use by process {holder.pid}{where}, since {iso(holder.started_at_ms)}.",
        "Use that one, stop it, or choose another path: MODELSPEND_STORE__PATH.",
    )


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


class Gate:
    """Keeps the writes of a command and the checkpoints of the daemon apart.

    SQLite before 3.51.3 can lose a write-ahead log when one process resets it while another
    checkpoints (sqlite.org/wal.html#walresetbug). Writers of all processes exclude one another
    already; this excludes the other pair.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".gate")
        self._fd: int | None = None

    def enter(self, patience_s: float = 0.0) -> bool:
        """Try to be the one inside; False when another process is, to the end of `patience_s`."""
        fd = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        deadline = time.monotonic() + patience_s
        while not _take(fd, shared=False):
            if time.monotonic() >= deadline:
                os.close(fd)
                return False
            time.sleep(_PAUSE_S)
        self._fd = fd
        return True

    def leave(self) -> None:
        if self._fd is not None:
            _drop(self._fd)
            os.close(self._fd)
            self._fd = None


class SideLock:
    """A file that is held, by its own lock, while it is written; a context manager.

    `taken` is false when another process holds it. The file is opened once and closed at the end,
    so that no lock of a database in it is dropped meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.taken = False

    def __enter__(self) -> "SideLock":
        while True:
            self._fd = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
            self.taken = _take(self._fd, shared=False)
            if not self.taken or self._still_there():
                return self
            os.close(self._fd)  # whoever held it has given it another name meanwhile

    def _still_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self._path))
        except FileNotFoundError:
            return False

    def __exit__(self, *_: object) -> None:
        if self.taken:
            _drop(self._fd)
        os.close(self._fd)

    def empty(self) -> None:
        """Take away what somebody left in it, and let nobody else read it."""
        os.ftruncate(self._fd, 0)
        os.chmod(self._path, 0o600)

    def sync(self) -> None:
        """Wait until all of it is on the disk."""
        os.fsync(self._fd)
