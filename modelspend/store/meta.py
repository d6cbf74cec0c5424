"""The ledger about itself: size, counts, versions, and whether all of it is as it was written."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

from modelspend.chain import Checkpoint, Problem
from modelspend.record import frozen
from modelspend.store import files, verify
from modelspend.store.checkpoint import wal_size
from modelspend.store.migrations import version
from modelspend.store.readers import Readers
from modelspend.store.verify import Verdict

_FIXED = ((3, 44, 6), (3, 50, 7), (3, 51, 3))
_RECEIPTS = (  # counted up to where the chain was last written down, so that a million cost nothing
    "SELECT h.receipts + (SELECT count(*) FROM receipts WHERE seq > h.seq) FROM head h"
)
_LAST_SEQ = (
    "SELECT max(h.seq, coalesce((SELECT max(seq) FROM receipts), 0),"
    " coalesce((SELECT max(seq) FROM events), 0)) FROM head h"
)
_MOST = 20  # problems that are told; the first is the one that matters
_UNLIMITED_S = 24 * 3600.0


@frozen(kw_only=True)
class Info:
    """What `doctor` and `status` tell of a ledger; times are milliseconds UTC."""

    path: Path
    size: int
    wal_size: int
    schema_version: int
    sqlite_version: str
    wal_reset_bug: bool
    network_file_system: str | None
    receipts: int
    events: int
    bodies: int
    open_intents: int
    last_seq: int
    oldest_ms: int | None
    newest_ms: int | None
    trouble: str | None
    last_error: str | None


class Meta:
    def __init__(self, path: Path, readers: Readers, health: "Health") -> None:
        self._path = path
        self._readers = readers
        self._health = health

    async def info(self) -> Info:
        return await self._readers.ask(self._info, limit_s=_UNLIMITED_S)

    async def ledger_id(self) -> str:
        """Which ledger it is; a restored one is the same, and gives none of its numbers again."""

        def ask(conn: sqlite3.Connection) -> str:
            (found,) = conn.execute("SELECT value FROM meta WHERE key = 'ledger.id'").fetchone()
            return str(found)

        return await self._readers.ask(ask)

    async def check(self, *, full: bool = True) -> list[str]:
        """Problems, worst first; empty means sound. Not `full`: the pages of the file alone."""
        return await self._readers.ask(
            lambda conn: list(islice(_problems(conn, full), _MOST)), limit_s=_UNLIMITED_S
        )

    async def verify(
        self,
        *,
        key: bytes | None = None,
        given: Sequence[Checkpoint] = (),
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> Verdict:
        """Everything that was ever written, looked at page by page; calls may go on meanwhile.

        `key` checks signatures, `given` are checkpoints that were kept elsewhere, `progress` hears
        (numbers looked at, of how many).
        """
        looking = verify.Inspection(key=key, given=given)
        broken = await self._readers.ask(
            lambda conn: files.problems(conn, "integrity_check", _UNLIMITED_S),
            limit_s=_UNLIMITED_S,
        )
        await self._readers.ask(looking.begin, limit_s=_UNLIMITED_S)
        for problem in broken or ():
            looking.say(Problem(kind="file", what=f"the file: {problem}"))
        while await self._readers.ask(looking.page, limit_s=_UNLIMITED_S):
            progress(looking.after, looking.last)
        return await self._readers.ask(looking.end, limit_s=_UNLIMITED_S)

    async def last_seq(self) -> int:
        """The newest number of a receipt or an event: a cheap look whether there is more."""
        return await self._readers.ask(lambda conn: int(conn.execute(_LAST_SEQ).fetchone()[0]))

    def _info(self, conn: sqlite3.Connection) -> Info:
        def one(query: str) -> int:
            return int(conn.execute(query).fetchone()[0] or 0)

        oldest, newest = conn.execute(
            "SELECT (SELECT min(created_at) FROM receipts), (SELECT max(created_at) FROM receipts)"
        ).fetchone()
        return Info(
            path=self._path,
            size=self._path.stat().st_size,
            wal_size=wal_size(files.family(self._path)[1]),
            schema_version=version(conn),
            sqlite_version=sqlite3.sqlite_version,
            wal_reset_bug=has_wal_reset_bug(sqlite3.sqlite_version_info),
            network_file_system=files.network_kind(self._path),
            receipts=one(_RECEIPTS),
            events=one("SELECT count(*) FROM events"),
            bodies=one("SELECT count(*) FROM bodies"),
            open_intents=one("SELECT count(*) FROM intents"),
            last_seq=one(_LAST_SEQ),
            oldest_ms=oldest,
            newest_ms=newest,
            trouble=self._health.trouble,
            last_error=self._health.last_error,
        )


class Health(Protocol):
    """How the writer is."""

    trouble: str | None
    last_error: str | None


class NoWriter:
    """What a store without a writer has to say of one."""

    trouble: str | None = None
    last_error: str | None = None


def sqlite_release() -> tuple[str, bool]:
    """The SQLite that this process uses, and whether it has the WAL-reset bug."""
    return sqlite3.sqlite_version, has_wal_reset_bug(sqlite3.sqlite_version_info)


def has_wal_reset_bug(release: tuple[int, ...]) -> bool:
    """Whether this SQLite may lose a log to two connections (sqlite.org/wal.html, 2026-11-22)."""
    if release >= (3, 51, 3) or release < (3, 7):
        return False
    return not any(release[:2] == fixed[:2] and release >= fixed for fixed in _FIXED)


def _problems(conn: sqlite3.Connection, full: bool) -> Iterator[str]:
    try:
        found = files.problems(conn, "integrity_check" if full else "quick_check", _UNLIMITED_S)
        yield from (f"file: {problem}" for problem in found or ())
        if full:
            verdict = verify.inspect(conn)
            yield from (str(problem) for problem in verdict.problems)
            yield from (
                f"the chain is not whole up to number {each.seq}: {each.reason}"
                for each in verdict.breaks
            )
    except files.Unreadable as error:
        yield f"file: {error}"
