"""The one thread that writes: it drains a queue, and one commit makes the whole batch durable.

Hides group commit and every way in which a disk fails. A batch first runs without savepoints,
which cost more than the statements they guard; only when an item fails half-way is the batch
rolled back and run again with a savepoint for each item, so that the bad one fails alone.

After a storage error nothing is acknowledged: what need not be kept fails at once, what must be
(`keep`) waits and is tried again, twice a second, until the ledger takes it. What waits is bounded
by the calls that were under way when the trouble began, since no new one is admitted.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from typing import Any, Generic, TypeVar

from modelspend.errors import LedgerUnavailable
from modelspend.store.book import Book
from modelspend.store.checkpoint import PAUSE_S, Checkpoints

R = TypeVar("R")
Run = Callable[[Book], R]

BATCH = 128
PROBE_S = 0.5
IDLE_S = 1.0  # how often a quiet writer looks for the commits of other processes
LOCK_PATIENCE_S = 15.0  # a foreign lock is waited out for so long before calls are refused
SEAL_AFTER = 2_000  # numbers, when there is no pause to seal the chain in
CROWD = 4  # after a batch this large, more is on its way: a short wait makes the next one larger
GATHER_S = 0.003
LATER_WAIT_S = 1.0  # background work goes between two batches once it has waited so long
ASIDE_WAIT_S = 0.25  # small things wait for so long, and then for the commit of a call …
RIDERS = 4  # … which takes so many of them: a commit of their own would hold up the next call
CALM_S = 0.5  # so long after the last call they have commits of their own again

_ITEM_FAULTS = frozenset(
    {
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_MISUSE,
    }
)
_WAITS = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_CONNECTION_STILL_GOOD = _WAITS | {sqlite3.SQLITE_FULL}

log = logging.getLogger("modelspend.store")


class Job(Generic[R]):
    """One item of a batch: what to run, whom to tell, whether it must outlive trouble.

    `undo` is run after a commit of unknown outcome: a refused item must leave nothing behind.
    """

    __slots__ = ("error", "future", "keep", "run", "since", "undo", "value")

    def __init__(
        self,
        run: Run[R],
        future: "asyncio.Future[R] | None" = None,
        *,
        keep: bool = False,
        undo: Run[Any] | None = None,
    ) -> None:
        self.run = run
        self.future = future
        self.keep = keep
        self.undo = undo
        self.since = time.monotonic()
        self.value: R | None = None
        self.error: BaseException | None = None


class _Spoiled(Exception):
    """An item of an unguarded batch failed after it had written something."""


class Writer:
    """Owns the write connection from its thread; the event loop only puts and awaits."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        resumed: Callable[[Book, str], None],
        checkpoints: Checkpoints | None,
    ) -> None:
        self._connect = connect
        self._resumed = resumed
        self._checkpoints = checkpoints
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._later: deque[Job[Any]] = deque()
        self._aside: deque[Job[Any]] = deque()
        self._kept: deque[Job[Any]] = deque()
        self._undo: list[Job[Any]] = []
        self._book: Book | None = None
        self._closing = False
        self._told_seq = 0
        self._data_version = 0
        self._looked = 0.0
        self._crowd = 0
        self._busy_at = 0.0
        self._started: ThreadFuture[None] = ThreadFuture()
        self._thread = threading.Thread(target=self._main, name="ledger-writer", daemon=True)
        self.trouble: str | None = None
        self.last_error: str | None = None
        self.commits = self.items = self.lock_waits = 0
        self.on_commit: list[Callable[[int], None]] = []
        self.on_foreign_commit: list[Callable[[], None]] = []

    # What the event loop calls.

    async def start(self) -> None:
        """Start the thread; raises what opening the connection raises."""
        self._thread.start()
        await asyncio.wrap_future(self._started)

    def do(self, run: Run[R], *, undo: Run[Any] | None = None) -> "asyncio.Future[R]":
        """Run in the next batch. Raises LedgerUnavailable at once while there is trouble."""
        return self._put(Job(run, self._admitted(), undo=undo))

    def keep(self, run: Run[R], told: "asyncio.Future[R] | None") -> None:
        """Run in the next batch, and again until it is durable; from any thread."""
        self._queue.put(Job(run, told, keep=True))

    def later(self, run: Run[R]) -> "asyncio.Future[R]":
        """Run when nothing else waits, or between two batches after a second."""
        return self._beside(self._later, run)

    def aside(self, run: Run[R]) -> "asyncio.Future[R]":
        """Something small that no call shall wait for: as `later`, but one commit takes all of it
        that has come. While calls go on it has none of its own: theirs take a little of it, after
        a quarter of a second."""
        return self._beside(self._aside, run)

    def _beside(self, waiting: deque[Job[Any]], run: Run[R]) -> "asyncio.Future[R]":
        job = Job(run, self._admitted())
        waiting.append(job)
        self._queue.put(_WAKE)
        assert job.future is not None
        return job.future

    async def close(self) -> None:
        """Write what waits, empty the write-ahead log, close."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        await self._loop.run_in_executor(None, self._thread.join)

    def _admitted(self) -> "asyncio.Future[Any]":
        if self.trouble is not None or self._closing:
            raise self._unavailable()
        return self._loop.create_future()

    def _put(self, job: Job[R]) -> "asyncio.Future[R]":
        self._queue.put(job)
        assert job.future is not None
        return job.future

    def _unavailable(self) -> LedgerUnavailable:
        return LedgerUnavailable(
            f"The ledger cannot take a call: {self.trouble or 'it is being closed'}.",
            "Nothing was sent. It resumes by itself once the cause is gone: modelspend doctor",
            retry_after_s=1,
        )

    # What the thread does: take a batch, commit it, tell; between batches, the background.

    def _main(self) -> None:
        try:
            self._open()
        except BaseException as error:
            self._started.set_exception(error)
            return
        self._started.set_result(None)
        ended = False
        while not ended:
            batch, ended = self._take()
            self._turn(batch)
        self._end()

    def _take(self) -> tuple[list[Job[Any]], bool]:
        """All that waits, up to a bound, and whether the queue was closed behind it."""
        batch: list[Job[Any]] = []
        try:
            job = self._queue.get(timeout=self._patience())
            while job is not None:
                if job is not _WAKE:
                    batch.append(job)
                if len(batch) == BATCH:
                    return batch, False
                if len(batch) == 1 and self._crowd >= CROWD:
                    time.sleep(GATHER_S)
                job = self._queue.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _patience(self) -> float:
        if self._later:
            return 0.0
        if self.trouble:
            return PROBE_S
        longest = self._checkpoints.patience(IDLE_S) if self._checkpoints else IDLE_S
        return min(longest, PAUSE_S) if self._aside else longest

    def _turn(self, batch: list[Job[Any]]) -> None:
        if self.trouble is not None:
            self._struggle(batch)
        elif batch:
            self._attempt(batch + self._riders())
            self._crowd, self._busy_at = len(batch), time.monotonic()
        if self.trouble is None:
            if self._later and (not batch or _waited(self._later[0], LATER_WAIT_S)):
                self._attempt([self._later.popleft()])
            pause_s = 0.0 if batch else time.monotonic() - self._busy_at
            quiet = pause_s >= PAUSE_S
            if self._aside and (pause_s >= CALM_S or _waited(self._aside[0], LATER_WAIT_S)):
                few = range(min(BATCH, len(self._aside)))
                self._attempt([self._aside.popleft() for _ in few])
            # Work of the background is no pause: after each bit of it, sealing and copying the log
            # would cost calls three more syncs.
            self._look(idle=quiet)

    def _riders(self) -> list[Job[Any]]:
        """What has waited long enough to go with a call's commit, whose sync it shares."""
        if not self._aside or not _waited(self._aside[0], ASIDE_WAIT_S):
            return []
        return [self._aside.popleft() for _ in range(min(RIDERS, len(self._aside)))]

    def _attempt(self, batch: list[Job[Any]]) -> None:
        try:
            self._commit(batch)
        except sqlite3.Error as error:
            self._fail(batch, error)
        else:
            self._tell(batch)

    def _commit(self, jobs: list[Job[Any]]) -> None:
        """One transaction; an item's own fault is noted on it, a storage error is raised."""
        book = self._open()
        self._begin(book, jobs)
        mark = book.mark()
        try:
            try:
                self._run(book, jobs)
            except _Spoiled:
                book.execute("ROLLBACK")
                book.back_to(mark)
                self._begin(book, jobs)
                self._run_guarded(book, jobs)
            book.execute("COMMIT")
        except BaseException:
            _roll_back(book)
            book.back_to(mark)
            raise
        self.commits += 1
        self.items += len(jobs)

    def _begin(self, book: Book, jobs: list[Job[Any]]) -> None:
        """Take the write lock; a foreign one is waited out, for as long as patience lasts."""
        deadline = jobs[0].since + LOCK_PATIENCE_S
        while True:
            try:
                book.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if _code(error) not in _WAITS or time.monotonic() > deadline:
                    raise
                self.lock_waits += 1

    def _run(self, book: Book, jobs: list[Job[Any]]) -> None:
        for job in jobs:
            before = book.conn.total_changes
            try:
                job.value = job.run(book)
            except Exception as error:
                _raise_if_storage(error)
                if book.conn.total_changes != before:
                    raise _Spoiled from error
                job.error = error  # it had written nothing: a refusal, not a mess

    def _run_guarded(self, book: Book, jobs: list[Job[Any]]) -> None:
        for job in jobs:
            mark = book.mark()
            job.error = None
            book.execute("SAVEPOINT item")
            try:
                job.value = job.run(book)
            except Exception as error:
                _raise_if_storage(error)
                book.execute("ROLLBACK TO item")
                book.back_to(mark)
                job.error = error
            book.execute("RELEASE item")

    def _tell(self, jobs: list[Job[Any]]) -> None:
        """Wake the event loop once for the whole batch."""
        seq = self._book.seq if self._book else self._told_seq
        news = seq if seq != self._told_seq else None
        self._told_seq = seq
        try:
            self._loop.call_soon_threadsafe(self._resolve, jobs, news)
        except RuntimeError:
            log.warning("the event loop ended before %d ledger items were told", len(jobs))

    def _resolve(self, jobs: list[Job[Any]], news: int | None) -> None:
        for job in jobs:
            if job.future is None:
                if job.error is not None:
                    log.error("a ledger item was refused: %s", type(job.error).__name__)
            elif job.future.done():
                continue
            elif job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.value)
        if news is not None:
            for listener in self.on_commit:
                listener(news)

    # Trouble.

    def _fail(self, jobs: list[Job[Any]], error: sqlite3.Error) -> None:
        """Nothing of the batch is acknowledged: the kept wait, the others are refused."""
        self._in_trouble(error)
        for job in jobs:
            job.value = None
            if not job.keep and job.undo is not None:
                self._undo.append(Job(job.undo))
        self._put_off(jobs)

    def _in_trouble(self, error: sqlite3.Error) -> None:
        self.last_error = f"{getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}"
        if self.trouble is None:
            log.error("the ledger does not take writes: %s", self.last_error)
        self.trouble = _REASONS.get(_code(error), self.last_error)
        if _code(error) not in _CONNECTION_STILL_GOOD:
            self._close_book()

    def _put_off(self, jobs: list[Job[Any]]) -> None:
        """Nobody waits for a disk in trouble: whoever asked is told, and what is kept is kept."""
        self._kept.extend(Job(job.run, keep=True) for job in jobs if job.keep)
        self._refuse([job for job in jobs if job.future is not None])

    def _refuse(self, jobs: list[Job[Any]]) -> None:
        if jobs:
            for job in jobs:
                job.error = self._unavailable()
            self._tell(jobs)

    def _struggle(self, batch: list[Job[Any]]) -> None:
        """Try what is kept, one by one, so that one too big for the disk holds up no other."""
        self._put_off(batch)
        try:
            while self._undo:
                self._commit([self._undo[0]])
                self._undo.pop(0)
            while self._kept:
                self._commit([self._kept[0]])
                self._tell([self._kept.popleft()])
            self._commit([Job(_fill)])
            was = self.trouble or ""
            self._commit([Job(lambda book: self._resumed(book, was))])
        except sqlite3.Error as error:
            self._kept.rotate(-1)
            self._in_trouble(error)
        else:
            log.warning("the ledger takes writes again")
            self.trouble = None

    # The connection, and what is done while nothing waits.

    def _open(self) -> Book:
        if self._book is None:
            conn = self._connect()
            try:
                self._book = Book(conn)
            except BaseException:
                conn.close()
                raise
            self._data_version = _data_version(self._book)
            self._told_seq = self._told_seq or self._book.seq
        return self._book

    def _look(self, *, idle: bool) -> None:
        """Checkpoint when it is due; once a second, look for other processes' commits."""
        try:
            book = self._open()
            if book.unsealed and (idle or book.unsealed > SEAL_AFTER):
                self._seal(book)
            if self._checkpoints:
                self._checkpoints.run(book.conn, self.commits, idle=idle)
            now = time.monotonic()
            if now - self._looked >= IDLE_S:
                self._looked = now
                self._notice(_data_version(book))
        except sqlite3.Error as error:
            self._in_trouble(error)

    def _seal(self, book: Book) -> None:
        self._commit([Job(Book.seal)])
        book.sealed()

    def _notice(self, data_version: int) -> None:
        if data_version != self._data_version:
            self._data_version = data_version
            for listener in self.on_foreign_commit:
                self._loop.call_soon_threadsafe(listener)

    def _end(self) -> None:
        """The queue is closed: a last try for what is kept, then let go of the file."""
        if self.trouble is not None:
            self._struggle([])
        rest = [*self._kept, *self._later, *self._aside]
        if self._kept:
            log.error("%d receipts could not be written before the end", len(self._kept))
        self._refuse(rest)
        try:
            if self._book and self._checkpoints and self.trouble is None:
                self._seal(self._book)
                self._checkpoints.last(self._book.conn)
        except sqlite3.Error as error:  # everything is durable already, in the log
            self._in_trouble(error)
        self._close_book()

    def _close_book(self) -> None:
        if self._book is not None:
            book, self._book = self._book, None
            book.conn.close()


def _roll_back(book: Book) -> None:
    try:
        if book.conn.in_transaction:
            book.execute("ROLLBACK")
    except sqlite3.Error as error:  # the connection is beyond use; it is reopened
        log.warning("rollback failed: %s", type(error).__name__)


def _raise_if_storage(error: Exception) -> None:
    if isinstance(error, sqlite3.DatabaseError) and _code(error) not in _ITEM_FAULTS | {0}:
        raise error


def _code(error: sqlite3.Error) -> int:
    """The primary result code: extended codes carry it in their low byte."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _data_version(book: Book) -> int:
    return int(book.execute("PRAGMA data_version").fetchone()[0])


def _waited(job: Job[Any], long_s: float) -> bool:
    return time.monotonic() - job.since > long_s


def _fill(book: Book) -> None:
    """Ask for some room and give it back: a lone small row may fit where no call does."""
    book.execute("INSERT INTO meta (key, value) VALUES ('room', zeroblob(65536))")
    book.execute("DELETE FROM meta WHERE key = 'room'")


def _nothing(book: Book) -> None:
    """What wakes the writer for its background work."""


def needed(writer: Writer | None) -> Writer:
    """The writer of a store that has one."""
    if writer is None:
        raise RuntimeError("this ledger was opened to read")
    return writer


_WAKE: Job[Any] = Job(_nothing)
_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write",
    sqlite3.SQLITE_BUSY: "another process has locked it",
    sqlite3.SQLITE_CORRUPT: "its file is damaged",
    sqlite3.SQLITE_NOTADB: "its file is damaged",
    sqlite3.SQLITE_READONLY: "its file may not be written",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened",
}
