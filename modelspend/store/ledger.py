"""Opening a ledger: to write it (one gateway), to read it (anybody), to leave a note in it.

`Store.open` takes the lock, brings the schema up to date, checks the file and starts the writer.
A damaged file is never deleted and never silently lost: see `salvage.py`.
"""

import asyncio
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from modelspend.errors import LedgerCorrupt, LedgerUnavailable, NotFound
from modelspend.events import Event
from modelspend.store import files, restore, salvage
from modelspend.store.alarms import Alarms
from modelspend.store.alerts import Alerts
from modelspend.store.answers import Answers
from modelspend.store.bodies import BodyStore
from modelspend.store.book import Book
from modelspend.store.budgets import Budgets
from modelspend.store.calls import Calls
from modelspend.store.checkpoint import Checkpoints
from modelspend.store.circuits import Circuits
from modelspend.store.conversations import Conversations
from modelspend.store.daily import Daily
from modelspend.store.days import Days
from modelspend.store.events import Events, write_event
from modelspend.store.failovers import Failovers
from modelspend.store.files import Durability
from modelspend.store.health import Health
from modelspend.store.history import History
from modelspend.store.incidents import Incidents
from modelspend.store.latencies import Latencies
from modelspend.store.lock import Gate, Holder, Lock, known_as_ledger, read_lock
from modelspend.store.meta import Meta, NoWriter
from modelspend.store.metering import Metering
from modelspend.store.migrations import MIGRATIONS, migrate, version
from modelspend.store.prices import Prices
from modelspend.store.quality import Quality
from modelspend.store.rates import Rates
from modelspend.store.ratios import Ratios
from modelspend.store.readers import Readers
from modelspend.store.receipts import Receipts
from modelspend.store.right_of_way import RightOfWay
from modelspend.store.signed_checkpoints import SignedCheckpoints, write_break
from modelspend.store.sinks import Lately, Sinks
from modelspend.store.stored_answers import StoredAnswers
from modelspend.store.traces import Traces
from modelspend.store.walk import Walk
from modelspend.store.webhooks import Webhooks
from modelspend.store.writer import Writer, needed

_READERS = 2
_DAEMON_CACHE_KIB = 1_000  # for each of them: what the system caches is a copy away
_START_CHECK_S = 0.25
_GATE_PATIENCE_S = 5.0

log = logging.getLogger("modelspend.store")


def wall_ms() -> int:
    """Now, in milliseconds UTC."""
    return time.time_ns() // 1_000_000


class Store:
    """One open ledger. Its parts are named after what they keep."""

    def __init__(
        self,
        path: Path,
        readers: Readers,
        writer: Writer | None = None,
        *,
        lock: Lock | None = None,
        gate: Gate | None = None,
        boot_id: str = "",
    ) -> None:
        self.path = path
        self._readers = readers
        self._writer = writer
        self._lock = lock
        self._gate = gate
        self._outside = self._closed = False
        self.calls = Calls(writer, readers, boot_id)
        self.receipts = Receipts(readers)
        self.history = History(readers)
        self.daily = Daily(readers)
        self.checkpoints = SignedCheckpoints(path, readers, writer)
        self.bodies = BodyStore(readers, writer)
        self.answers = Answers(readers, writer)
        self.conversations = Conversations(readers, writer)
        self.stored_answers = StoredAnswers(readers, writer)
        self.events = Events(readers, writer)
        self.right_of_way = RightOfWay()
        lately = Lately(self.right_of_way if writer else None)
        self.sinks = Sinks(readers, writer, lately)
        self.webhooks = Webhooks(readers, writer, lately)
        self.traces = Traces(readers, writer)
        self.metering = Metering(readers)
        self.budgets = Budgets(readers, writer)
        self.prices = Prices(readers, writer)
        self.ratios = Ratios(readers)
        self.rates = Rates(readers)
        self.quality = Quality(readers, writer)
        self.circuits = Circuits(readers, writer, boot_id)
        self.incidents = Incidents(readers)
        self.failovers = Failovers(readers)
        self.health = Health(readers, writer)
        self.days = Days(readers, writer)
        self.latencies = Latencies(readers)
        self.walk = Walk(readers)
        self.alerts = Alerts(readers)
        self.alarms = Alarms(readers, writer)
        self.meta = Meta(path, readers, writer or NoWriter())
        if writer is not None:
            writer.on_foreign_commit.append(self._noticed)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        durability: Durability = "full",
        clock: Callable[[], int] = wall_ms,
        boot_id: str | None = None,
    ) -> "Store":
        """The one store that writes receipts. Raises LedgerHeld or LedgerCorrupt."""
        boot = boot_id or secrets.token_hex(8)
        known = known_as_ledger(path)
        files.make_folder(path.parent)
        lock = Lock(path, Holder(os.getpid(), None, boot, clock()))
        try:
            restore.finish(path)
            files.prepare(path)
            ledger = _Opening(path, durability, clock, known)
            writer = Writer(ledger.connect, ledger.resumed, Checkpoints(path))
            await writer.start()
        except BaseException:
            lock.release()
            raise
        readers = Readers(
            lambda: files.connect_reader(path, _DAEMON_CACHE_KIB), threads=_READERS, limit_s=5.0
        )
        return cls(path, readers, writer, lock=lock, boot_id=boot)

    @classmethod
    async def open_read(cls, path: Path) -> "Store":
        """For commands that read, beside a daemon or without one. Raises NotFound."""
        await asyncio.to_thread(bring_up, path, make=False)
        return cls(
            path, Readers(lambda: files.connect_reader(path), threads=_READERS, limit_s=None)
        )

    @classmethod
    async def open_notes(cls, path: Path) -> "Store":
        """For commands that set something the daemon will notice: an override, a cap.

        It writes no receipt and no event, since their numbers are the daemon's to give.
        """
        await asyncio.to_thread(bring_up, path, make=True)
        gate = Gate(path)
        if not await asyncio.to_thread(gate.enter, _GATE_PATIENCE_S):
            raise LedgerUnavailable(f"Another command is writing to {path}.", "Try again.")
        ledger = _Opening(path, "full", wall_ms, known=True)
        writer = Writer(ledger.connect_beside, ledger.resumed, None)
        try:
            await writer.start()
        except BaseException:
            gate.leave()
            raise
        readers = Readers(lambda: files.connect_reader(path), threads=1, limit_s=None)
        return cls(path, readers, writer, gate=gate)

    @property
    def lock(self) -> Lock:
        """The lock of the store that writes receipts; others hold none."""
        if self._lock is None:
            raise RuntimeError("this ledger was opened without its lock")
        return self._lock

    @property
    def healthy(self) -> bool:
        """Whether a new call may begin: false while the ledger takes no writes."""
        return self._writer is None or self._writer.trouble is None

    @property
    def trouble(self) -> str | None:
        """Why it is not healthy, in words."""
        return None if self._writer is None else self._writer.trouble

    def on_commit(self, listener: Callable[[int], None]) -> None:
        """Be called on the event loop with the last number after each commit of ours."""
        needed(self._writer).on_commit.append(listener)

    def on_foreign_commit(self, listener: Callable[[], None]) -> None:
        """Be called on the event loop after another process has written."""
        needed(self._writer).on_foreign_commit.append(listener)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Be called on the event loop after each commit, ours or another process's."""
        writer = needed(self._writer)
        writer.on_commit.append(lambda _: listener())
        writer.on_foreign_commit.append(listener)

    async def changed_outside(self) -> bool:
        """Whether another process has written here since the last time this was asked."""
        changed, self._outside = self._outside, False
        return changed

    async def secret(self, name: str) -> bytes:
        """32 random bytes that belong to this ledger; made when first asked for."""
        fresh = secrets.token_bytes(32)
        return await needed(self._writer).do(lambda book: _secret(book, name, fresh))

    async def close(self) -> None:
        """Write what waits, let go of the file, then of the lock. Twice is as good as once."""
        if self._closed:
            return
        self._closed = True
        await self._readers.close()
        await asyncio.to_thread(self.calls.settle)
        if self._writer is not None:
            await self._writer.close()
        if self._gate is not None:
            self._gate.leave()
        if self._lock is not None:
            self._lock.release()

    def _noticed(self) -> None:
        self._outside = True


class _Opening:
    """What the writer's thread does to get a connection, first and after an I/O error."""

    def __init__(
        self, path: Path, durability: Durability, clock: Callable[[], int], known: bool
    ) -> None:
        self._path = path
        self._durability = durability
        self._clock = clock
        self._known = known
        self._opened = False

    def connect(self) -> sqlite3.Connection:
        """The first time, a damaged file is put aside; later, it is an error like any other."""
        if self._opened:
            return self._sound()
        try:
            conn = self._sound()
        except files.Unreadable as error:
            if isinstance(error, sqlite3.OperationalError):
                raise LedgerUnavailable(
                    f"{self._path} cannot be opened: {error}.", "Look at it: modelspend doctor"
                ) from error
            if not self._known:
                raise self._refused(error) from error
            conn = self._start_anew(str(error))
        self._opened = True
        return conn

    def connect_beside(self) -> sqlite3.Connection:
        """Beside a daemon: no checkpoints, no schema changes."""
        return files.connect_writer(self._path, self._durability)

    def resumed(self, book: Book, was: str) -> None:
        """The first transaction after trouble tells of it."""
        told = Event(kind="ledger.resumed", at_ms=self._clock(), level="warn", data={"was": was})
        write_event(book, told)

    def _sound(self) -> sqlite3.Connection:
        conn = files.connect_writer(self._path, self._durability)
        try:
            files.refuse_stranger(conn, self._path)
            migrate(conn)
            found = files.problems(conn, "quick_check", _START_CHECK_S)
            if found:
                raise sqlite3.DatabaseError(found[0])
        except BaseException:
            conn.close()
            raise
        return conn

    def _start_anew(self, reason: str) -> sqlite3.Connection:
        now = self._clock()
        aside = files.set_aside(self._path, now)
        log.error("the ledger is damaged (%s); it was put aside as %s", reason, aside.name)
        files.prepare(self._path)
        conn = self._sound()
        told = salvage.into(conn, aside)
        book = Book(conn)
        book.execute("BEGIN IMMEDIATE")
        data = {"aside": aside.name, "reason": reason, **told}
        write_event(book, Event(kind="ledger.gap", at_ms=now, level="critical", data=data))
        book.seal()
        try:
            lost = f"the file was damaged and salvaged ({reason})"
            write_break(conn, self._path, lost, now)
        except (OSError, LedgerUnavailable) as error:
            log.warning("the break in the chain is not signed: %s", error)
        book.execute("COMMIT")
        return conn

    def _refused(self, error: Exception) -> LedgerCorrupt:
        return LedgerCorrupt(
            f"{self._path} cannot be opened as a ledger: {error}.",
            "It was left untouched. Choose another path, or move the file away.",
        )


def bring_up(path: Path, *, make: bool) -> None:
    """Bring the schema up to date where no gateway has yet; `make` makes a missing ledger.

    Raises NotFound."""
    restore.finish_if_broken_off(path, wall_ms())
    if not path.exists() and not make:
        raise NotFound(f"There is no ledger at {path}.", "It is made by: modelspend serve")
    if path.exists() and _schema(path) >= len(MIGRATIONS):
        return
    if read_lock(path) is not None:
        return  # its gateway is at it
    files.prepare(path)
    lock = Lock(path, Holder(os.getpid(), None, "", wall_ms()))
    try:
        conn = files.connect_writer(path, "full")
        try:
            files.refuse_stranger(conn, path)
            migrate(conn)
        finally:
            conn.close()
    finally:
        lock.release()


def _schema(path: Path) -> int:
    try:
        conn = files.connect_reader(path)
        try:
            return version(conn)
        finally:
            conn.close()
    except files.Unreadable as error:
        raise LedgerCorrupt(
            f"{path} cannot be read as a ledger: {error}.",
            "Start the gateway on it to salvage what can be read: modelspend serve",
        ) from None


def _secret(book: Book, name: str, fresh: bytes) -> bytes:
    book.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING",
        (f"secret.{name}", fresh),
    )
    (kept,) = book.execute("SELECT value FROM meta WHERE key = ?", (f"secret.{name}",)).fetchone()
    return bytes(kept)
