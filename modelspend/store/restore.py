"""A backup takes the place of the ledger: prepared beside it, swapped in one step, nothing deleted.

Hides the order that makes a crash harmless. The new ledger is finished under a name of its own;
giving it the name `.incoming` is the instant at which it counts, and whoever opens the ledger next
does what is left to do. A reader would not guess what goes on and does not go back: numbers, since
others have seen them; what caps have counted, since it was spent; who is stopped; how far sinks
have come.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from modelspend.budgets import MOST_SPENT
from modelspend.errors import LedgerHeld, LedgerUnavailable, NotFound, Usage
from modelspend.events import Event
from modelspend.places import checkpoint_key
from modelspend.receipt_json import iso
from modelspend.record import frozen
from modelspend.store import backup, files, sinks
from modelspend.store.backup import MADE_AT, Holding, Progress, quiet
from modelspend.store.book import Book
from modelspend.store.days import roll
from modelspend.store.events import write_event
from modelspend.store.lock import Gate, Holder, Lock, SideLock, read_lock
from modelspend.store.migrations import migrate
from modelspend.store.signed_checkpoints import read_key, write_break

_GATE_PATIENCE_S = 5.0
_LEAP, _LEAP_PER_S = 1_000_000, 100
"""How far numbers leap where the ledger of the backup is gone, which alone knows those it has used:
a sidecar would have had to give a hundred a second, day and night, since the backup."""


@frozen(kw_only=True)
class Restored:
    """What a restore did. `lost` receipts came after the backup, if that is known; `numbers_known`
    is false where what the ledger did after its backup is not."""

    holding: Holding
    aside: Path | None
    continues_at: int
    lost: int | None
    numbers_known: bool


@frozen(kw_only=True)
class _Old:
    """The ledger that is replaced, as far as it can be read."""

    conn: sqlite3.Connection | None = None
    ledger_id: str | None = None
    last: int | None = None
    receipts: int | None = None


def restore(
    ledger: Path,
    file: Path,
    now_ms: int,
    *,
    progress: Progress = quiet,
) -> Restored:
    """Put what a backup holds in the place of the ledger; the old file stays under a new name.

    Raises LedgerHeld while a gateway runs, CheckFailed when the backup is not sound, NotFound.
    """
    refuse_names(ledger, file)
    files.make_folder(ledger.parent)
    with _alone(ledger, now_ms):
        finish(ledger)
        done = _bring_in(ledger, file, now_ms, progress)
        return replace(done, aside=finish(ledger))


def _bring_in(ledger: Path, file: Path, now_ms: int, progress: Progress) -> Restored:
    """Prepare the new ledger; at the end it has the name under which it counts."""
    part = incoming(ledger).with_name(incoming(ledger).name + ".part")
    try:
        with SideLock(part) as held:
            held.empty()
            for left in files.family(part)[1:]:
                left.unlink(missing_ok=True)
            backup.copy(file, part, progress)
            key = read_key(checkpoint_key(ledger))
            backup.examine(part, str(file), hint=ANOTHER, key=key, progress=progress)
            told = replace(backup.holding(part), path=file)
            done = _prepare(ledger, part, told, now_ms)
            held.sync()
            part.rename(incoming(ledger))
        files.sync_folder(ledger.parent)
    finally:
        for left in files.family(part):
            left.unlink(missing_ok=True)
    return done


ANOTHER = "Name another backup; the ledger is as it was."


def refuse_names(ledger: Path, file: Path) -> None:
    """Raises NotFound or Usage for what is no file to restore from."""
    if file.is_dir():
        raise Usage(f"{file} is a folder.", "Name a backup in it.")
    if not file.is_file():
        raise NotFound(f"There is no file {file}.", "Make a backup: modelspend backup FILE")
    if ledger.exists() and ledger.samefile(file):
        raise Usage(f"{file} is the ledger itself.", "Name a backup of it.")


def incoming(ledger: Path) -> Path:
    """The name of a new ledger that is complete and has yet to take its place."""
    return ledger.with_name(ledger.name + ".incoming")


def finish(ledger: Path) -> Path | None:
    """Do what is left of a swap that has begun: the old ledger's new name; None when none had.

    The caller holds the lock. What it is named after is the time of the new file, so that a swap
    that was broken off goes on under the same name.
    """
    new = incoming(ledger)
    if not new.exists():
        return None
    there = ledger.exists()
    aside = files.set_aside(ledger, new.stat().st_mtime_ns // 1_000_000, "replaced")
    new.rename(ledger)
    files.sync_folder(ledger.parent)
    return aside if there or aside.exists() else None


def pending(ledger: Path) -> bool:
    """Whether a swap was broken off. Somebody else may be at it just now."""
    return incoming(ledger).exists()


def finish_if_broken_off(ledger: Path, now_ms: int) -> None:
    """For whoever opens a ledger without being its gateway; somebody else may do it just now."""
    if pending(ledger) and read_lock(ledger) is None:
        with suppress(LedgerHeld), _alone(ledger, now_ms):
            finish(ledger)


@contextmanager
def _alone(ledger: Path, now_ms: int) -> Iterator[None]:
    """No gateway writes here, and no command. Raises LedgerHeld, LedgerUnavailable."""
    lock = Lock(ledger, Holder(os.getpid(), None, "", now_ms))
    gate = Gate(ledger)
    try:
        if not gate.enter(_GATE_PATIENCE_S):
            raise LedgerUnavailable(f"Another command is writing to {ledger}.", "Try again.")
        try:
            yield
        finally:
            gate.leave()
    finally:
        lock.release()


def _prepare(ledger: Path, part: Path, told: Holding, now_ms: int) -> Restored:
    """Make the copy the ledger that goes on from here."""
    old = _open_old(ledger)
    conn = files.connect_writer(part, "full")
    try:
        migrate(conn)
        conn.execute("BEGIN IMMEDIATE")
        done = _go_on(conn, old, told, now_ms)
        data = {
            "backup": told.path.name,
            "backup_at": iso(told.made_at_ms),
            "receipts": told.receipts,
            "receipts_after_it": done.lost,
            "numbers_known": done.numbers_known,
        }
        book = Book(conn)
        book.seq = done.continues_at - 1
        kind, level = "ledger.restored", "warn"
        write_event(book, Event(kind=kind, at_ms=now_ms, level=level, data=data))
        book.seal()
        reason = f"restored from a backup of {iso(told.made_at_ms)}"
        write_break(conn, ledger, reason, now_ms)
        conn.execute("COMMIT")
        conn.execute("PRAGMA journal_mode = DELETE").fetchall()
    finally:
        conn.close()
        if old.conn is not None:
            old.conn.close()
    _put_the_log_in(ledger)
    return done


def _go_on(conn: sqlite3.Connection, old: _Old, told: Holding, now_ms: int) -> Restored:
    while roll(Book(conn)):
        pass
    last = max(told.last_seq, old.last or 0)
    same = old.conn is not None and old.ledger_id == told.ledger_id
    numbers_known = same and old.last is not None
    if not numbers_known:
        last += _LEAP + max(now_ms - told.made_at_ms, 0) // 1000 * _LEAP_PER_S
    if old.conn is not None:
        _keep_spent(conn, old.conn, same=same)
        if same:
            for table in _STANDING:
                _exchange(conn, old.conn, table)
            _drop_unsent(conn, old.conn, told.last_seq, last)
    conn.execute("UPDATE rolled SET seq = ?", (last,))  # no receipt lies between
    conn.execute("DELETE FROM circuit_orders")  # those of then were obeyed then
    conn.execute("DELETE FROM meta WHERE key = ?", (MADE_AT,))
    known = same and old.receipts is not None
    return Restored(
        holding=told,
        aside=None,
        continues_at=last + 1,
        lost=max((old.receipts or 0) - told.receipts, 0) if known else None,
        numbers_known=numbers_known,
    )


def _open_old(ledger: Path) -> _Old:
    """The old ledger opened to read; as little as can be read of a damaged one."""
    if not ledger.exists() or not ledger.stat().st_size:
        return _Old()
    try:
        conn = files.connect_reader(ledger)
    except files.Unreadable:
        return _Old()
    old = _Old(conn=conn)
    with suppress(*files.Unreadable, TypeError):
        (ledger_id,) = conn.execute("SELECT value FROM meta WHERE key = 'ledger.id'").fetchone()
        old = replace(old, ledger_id=ledger_id)
    with suppress(*files.Unreadable, TypeError):
        last, receipts = conn.execute(_OLD_LAST).fetchone()
        old = replace(old, last=last, receipts=receipts)
    return old


_OLD_LAST = (
    "SELECT max(h.seq, coalesce((SELECT max(seq) FROM receipts), 0),"
    " coalesce((SELECT max(seq) FROM events), 0)),"
    " h.receipts + (SELECT count(*) FROM receipts WHERE seq > h.seq) FROM head h"
)

_STANDING = (
    "stops",
    "budget_overrides",
    "budget_firings",
    "alarms",
    "alarm_silences",
    "sinks",
    "webhook_deliveries",
    "webhook_dead_letters",
)
"""What stands as it was last, not as it was at the time of the backup."""


def _exchange(conn: sqlite3.Connection, old: sqlite3.Connection, table: str) -> None:
    """All rows of the old ledger in the place of the backup's; those stay where it is damaged."""
    conn.execute("SAVEPOINT exchange")
    try:
        known = [row[1] for row in old.execute(f"PRAGMA table_info({table})")]
        ours = {row[1] for row in conn.execute(f"PRAGMA table_info({table})")}
        columns = ", ".join(name for name in known if name in ours)
        if columns:  # an older ledger may not have the table yet
            rows = old.execute(f"SELECT {columns} FROM {table}").fetchall()
            marks = ", ".join("?" * len(columns.split(",")))
            conn.execute(f"DELETE FROM {table}")
            conn.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
    except files.Unreadable:
        conn.execute("ROLLBACK TO exchange")
    conn.execute("RELEASE exchange")


def _keep_spent(conn: sqlite3.Connection, old: sqlite3.Connection, *, same: bool) -> None:
    """No window has less spent and held than before; held of calls that only the old ledger knows
    is spent. What another ledger has counted is added, since its calls were others."""
    with suppress(*files.Unreadable):
        rows = old.execute("SELECT id, key, scope, name, window_name, opened_at FROM budgets")
        for number, *budget in rows.fetchall():
            (ours,) = conn.execute(_KEEP_BUDGET, budget).fetchone()
            for start, spent, held in old.execute(_SUMS, (number,)).fetchall():
                add = spent + held
                if same:
                    here = conn.execute(f"{_SUMS} AND start = ?", (ours, start)).fetchone()
                    add -= here[1] + here[2] if here else 0
                if add > 0:
                    conn.execute(_ADD_SPENT, (ours, start, min(add, MOST_SPENT)))


_SUMS = "SELECT start, spent_pico, held_pico FROM budget_sums WHERE budget = ?"
_KEEP_BUDGET = (
    "INSERT INTO budgets (key, scope, name, window_name, opened_at) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (key) DO UPDATE SET opened_at = excluded.opened_at RETURNING id"
)
_ADD_SPENT = (
    "INSERT INTO budget_sums (budget, start, spent_pico, held_pico) VALUES (?, ?, ?, 0)"
    " ON CONFLICT (budget, start) DO UPDATE"
    f" SET spent_pico = min(spent_pico + excluded.spent_pico, {MOST_SPENT})"
)


def _drop_unsent(conn: sqlite3.Connection, old: sqlite3.Connection, after: int, last: int) -> None:
    """What sinks had yet to take of what came after the backup is not there any more: dropped."""
    for sink, wants in sinks.written(conn):
        with suppress(*files.Unreadable):
            count, start = 0, max(sink.cursor, after)
            while start < last:
                more, start, _ = sinks.counted(old, start, last, wants)
                count += more
            sinks.settle(Book(conn), sink.name, dropped=count)
        if sink.cursor >= after:
            conn.execute("UPDATE sinks SET cursor = ? WHERE name = ?", (last, sink.name))


def _put_the_log_in(ledger: Path) -> None:
    """Empty the old ledger's write-ahead log into it, so that one file is set aside; a damaged one
    keeps its log beside it."""
    if not ledger.exists() or not ledger.stat().st_size:
        return
    with suppress(*files.Unreadable):
        conn = files.connect_writer(ledger, "full")
        try:
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            conn.close()
