"""A copy of the ledger as it was at one instant, made while calls go on, proved before it counts.

Hides that the copy is read inside one transaction, a little at a time: the writer is never waited
for and never kept waiting, and what it commits meanwhile is not in the copy. It is written beside
its name and takes that name when it is whole, checked and on the disk.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from modelspend.errors import BadPath, CheckFailed, LedgerUnavailable, ModelspendError, Usage
from modelspend.places import checkpoint_key
from modelspend.receipt_json import iso
from modelspend.record import frozen
from modelspend.store import files, verify
from modelspend.store.lock import SideLock
from modelspend.store.migrations import version
from modelspend.store.signed_checkpoints import read_key

MADE_AT = "backup.made_at"
"""The row of `meta` that makes a copy a backup: when it was made."""

Progress = Callable[[int, int], None]
"""Hears (done, of how many)."""

_PAGES = 256  # a step of the copy: a mebibyte
_FULL_S = 24 * 3600.0


@frozen(kw_only=True)
class Holding:
    """What a backup holds; times are milliseconds UTC."""

    path: Path
    size: int
    made_at_ms: int
    ledger_id: str
    receipts: int
    events: int
    bodies: int
    open_intents: int
    last_seq: int
    oldest_ms: int | None
    newest_ms: int | None
    schema_version: int
    breaks: int


def quiet(done: int, of: int) -> None:
    """Progress that nobody looks at."""


def make(
    ledger: Path,
    file: Path,
    now_ms: int,
    *,
    overwrite: bool = False,
    progress: Progress = quiet,
) -> Holding:
    """Copy the ledger to a file and check every page and every link of the copy.

    Raises Usage when the file is there already, BadPath when there can be none of that name,
    CheckFailed when the copy is not sound (then there is no file), LedgerUnavailable when its disk
    does not take it.
    """
    with _fit(file):
        _refuse_names(ledger, file, overwrite=overwrite)
    with _written_aside(file) as part:
        copy(ledger, part, progress)
        _mark(part, now_ms)
        examine(part, "The copy", key=read_key(checkpoint_key(ledger)), progress=progress,
                hint="See what is wrong with the ledger: modelspend verify")  # fmt: skip
    return holding(file)


def copy(source: Path, target: Path, progress: Progress = quiet) -> None:
    """Every page of a ledger in one state, into a file that is empty or no backup yet."""
    try:
        reading = files.connect_reader(source)
    except files.Unreadable as error:
        raise _unsound(source, error) from error
    try:
        _copy(reading, target, _gently(progress))
    except sqlite3.OperationalError as error:
        raise _not_taken(target.parent, str(error)) from error
    except files.Unreadable as error:
        raise _unsound(source, error) from error
    finally:
        reading.close()


def _not_taken(folder: Path, why: str) -> LedgerUnavailable:
    return LedgerUnavailable(
        f"{folder} did not take the copy: {why}.", "Free space there, or name another."
    )


def _unsound(source: Path, error: Exception) -> CheckFailed:
    return CheckFailed(
        f"{source} is not sound and cannot be copied: {error}.", "Nothing was changed."
    )


def _copy(reading: sqlite3.Connection, target: Path, step: Callable[[int, int, int], None]) -> None:
    writing = sqlite3.connect(target, isolation_level=None)
    try:
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):  # until it is whole, it is none
            writing.execute(f"PRAGMA {pragma}").fetchall()
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on: one state
        reading.backup(writing, pages=_PAGES, progress=step)
        reading.execute("COMMIT")
        writing.execute("PRAGMA journal_mode = DELETE").fetchall()  # one file, nothing beside it
    finally:
        writing.close()


def _gently(progress: Progress) -> Callable[[int, int, int], None]:
    """Between two steps, rest for as long as the last one took: the disk is the calls' first."""
    since = time.monotonic()

    def step(_: int, remaining: int, total: int) -> None:
        nonlocal since
        progress(total - remaining, total)
        time.sleep(min(time.monotonic() - since, 0.1))
        since = time.monotonic()

    return step


def examine(
    file: Path, called: str, *, hint: str, key: bytes | None = None, progress: Progress = quiet
) -> None:
    """Look at every page and every link of a file. Raises CheckFailed at what is not as written;
    `hint` says what to do then."""
    try:
        conn = files.connect_reader(file)
        try:
            found = [f"the file: {one}" for one in files.problems(conn, *_EVERY_PAGE) or ()]
            if not found and not version(conn):
                found = ["the file: there is no ledger in it"]
            elif not found and version(conn) >= _CHAIN_KNOWN:
                found = _chain(conn, key, progress)
        finally:
            conn.close()
    except files.Unreadable as error:
        found = [f"the file: {error}"]
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise CheckFailed(f"{called} is not sound, so nothing was changed: {found[0]}{more}.", hint)


_EVERY_PAGE = ("integrity_check", _FULL_S)
_CHAIN_KNOWN = 8  # the schema from which on everything that the check asks for is there


def _chain(conn: sqlite3.Connection, key: bytes | None, progress: Progress) -> list[str]:
    looking = verify.Inspection(key=key)
    looking.begin(conn)
    while looking.page(conn):
        progress(looking.after, looking.last)
    return [str(problem) for problem in looking.end(conn).problems]


def holding(file: Path) -> Holding:
    """What a backup holds. Raises NotFound, LedgerCorrupt."""
    conn = files.connect_reader(file)
    try:
        made_at = conn.execute("SELECT value FROM meta WHERE key = ?", (MADE_AT,)).fetchone()
        ledger_id = conn.execute("SELECT value FROM meta WHERE key = 'ledger.id'").fetchone()
        receipts, events, bodies, intents, last, oldest, newest = conn.execute(_HELD).fetchone()
        known = version(conn)
        breaks = 0 if known < _CHAIN_KNOWN else conn.execute(_BREAKS).fetchone()[0]
    finally:
        conn.close()
    return Holding(
        path=file,
        size=file.stat().st_size,
        made_at_ms=made_at[0] if made_at else newest or 0,
        ledger_id=ledger_id[0] if ledger_id else "",
        receipts=receipts,
        events=events,
        bodies=bodies,
        open_intents=intents,
        last_seq=last,
        oldest_ms=oldest,
        newest_ms=newest,
        schema_version=known,
        breaks=breaks,
    )


_HELD = (
    "SELECT (SELECT count(*) FROM receipts), (SELECT count(*) FROM events),"
    " (SELECT count(*) FROM bodies), (SELECT count(*) FROM intents),"
    " max(h.seq, coalesce((SELECT max(seq) FROM receipts), 0),"
    " coalesce((SELECT max(seq) FROM events), 0)),"
    " (SELECT min(created_at) FROM receipts), (SELECT max(created_at) FROM receipts) FROM head h"
)
_BREAKS = "SELECT count(*) FROM checkpoints WHERE json_extract(said, '$.broken') IS NOT NULL"


def _mark(part: Path, now_ms: int) -> None:
    conn = sqlite3.connect(part, isolation_level=None)
    try:
        conn.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (MADE_AT, now_ms),
        )
    finally:
        conn.close()


def _refuse_names(ledger: Path, file: Path, *, overwrite: bool) -> None:
    if not ledger.exists():
        return  # whoever opens it says so
    if file.is_dir():
        raise Usage(f"{file} is a folder.", f"Name a file in it: {file / 'ledger-backup.db'}")
    if not file.exists():
        return
    if any(each.exists() and each.samefile(file) for each in files.family(ledger)):
        raise Usage(f"{file} is the ledger itself.", "Name another file.")
    if not overwrite:
        told = f", a backup of {iso(made)}" if (made := _made_at(file)) else ""
        raise Usage(f"{file} exists already{told}.", "Replace it: add --yes; or name another file.")


def _made_at(file: Path) -> int | None:
    try:
        return holding(file).made_at_ms
    except (ModelspendError, *files.Unreadable):
        return None


@contextmanager
def _written_aside(file: Path) -> Iterator[Path]:
    """A name beside the file's own; what is there at the end takes the file's name, on the disk.

    It is held while it is written, so what another process left behind when it died is written
    over, and what another process is writing is not.
    """
    part = file.with_name(f".{file.name}.part")
    with ExitStack() as stack:
        with _fit(file):
            files.make_folder(file.parent)
            held = stack.enter_context(SideLock(part))
        if not held.taken:
            raise LedgerUnavailable(f"Another backup is being written to {file}.", "Wait for it.")
        held.empty()
        try:
            yield part
            held.sync()
            part.replace(file)
            files.sync_folder(file.parent)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise _not_taken(file.parent, error.strerror or type(error).__name__) from error
        except BaseException:
            part.unlink(missing_ok=True)
            raise


@contextmanager
def _fit(file: Path) -> Iterator[None]:
    """What keeps a file of that name from being there is a BadPath."""
    try:
        yield
    except OSError as error:
        why = f"{file.parent}: {error.strerror or type(error).__name__}"
        if isinstance(error, FileExistsError | NotADirectoryError):
            why = f"{next(one for one in file.parents if one.exists())} is no folder"
        raise BadPath(
            f"{file} cannot be written: {why}.",
            "Name a file in a folder that you may write to.",
        ) from error
