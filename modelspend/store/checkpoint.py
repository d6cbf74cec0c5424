"""When the write-ahead log is copied into the ledger: in the pauses of the writer, not in a commit.

Hides that a checkpoint may be refused: while a command writes a setting (see `lock.Gate`), or while
a slow reader still needs the log. Then it is tried again later.
"""

import os
import sqlite3
from pathlib import Path

from modelspend.store.lock import Gate

PAUSE_S = 0.05  # a pause this long is used for a checkpoint …
AFTER_PAUSED = 64  # … when so many commits have gathered
AFTER_BUSY = 512  # without any pause it is done between two batches
LOOK_EVERY = 64  # commits between two looks at the size of the log
TOO_LONG = 16 * 1024 * 1024


class Checkpoints:
    """Counts commits and decides; runs in the writer's thread."""

    def __init__(self, path: Path) -> None:
        self._wal = path.with_name(path.name + "-wal")
        self._gate = Gate(path)
        self._done_at = 0
        self._seen = 0
        self._due = False

    def patience(self, longest: float) -> float:
        return PAUSE_S if self._due else longest

    def run(self, conn: sqlite3.Connection, commits: int, *, idle: bool) -> None:
        gathered = commits - self._done_at
        self._due = gathered >= AFTER_PAUSED
        if (idle and gathered) or gathered >= AFTER_BUSY or self._too_long(commits):
            self._checkpoint(conn, "PASSIVE")
            self._done_at, self._due = commits, False

    def last(self, conn: sqlite3.Connection) -> None:
        """At the end: leave one file behind."""
        self._checkpoint(conn, "TRUNCATE")

    def _too_long(self, commits: int) -> bool:
        if commits - self._seen < LOOK_EVERY:
            return False
        self._seen = commits
        return wal_size(self._wal) > 2 * TOO_LONG

    def _checkpoint(self, conn: sqlite3.Connection, how: str) -> None:
        if self._gate.enter():
            try:
                conn.execute(f"PRAGMA wal_checkpoint({how})").fetchall()
            finally:
                self._gate.leave()


def wal_size(wal: Path) -> int:
    """Its bytes on disk: `stat` is harmless where `open` would drop SQLite's locks."""
    try:
        return os.stat(wal).st_size
    except FileNotFoundError:
        return 0
