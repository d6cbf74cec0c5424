"""A few threads that read, each with a connection of its own that cannot write.

Hides that a long read pins the write-ahead log: every question has five seconds, then it is
interrupted. `cancel` of the awaiting task drops a question that has not begun.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from modelspend.errors import Overloaded

R = TypeVar("R")
Ask = Callable[[sqlite3.Connection], R]

LIMIT_S = 5.0
_OPCODES = 10_000  # how often a question looks at the time: about each millisecond


class Readers:
    """`ask` runs a function with a connection in one of the threads."""

    def __init__(
        self, connect: Callable[[], sqlite3.Connection], *, threads: int, limit_s: float | None
    ) -> None:
        self._connect = connect
        self._limit_s = limit_s
        self._queue: queue.SimpleQueue[tuple[Ask[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._main, name=f"ledger-reader-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def ask(self, question: Ask[R], *, limit_s: float | None = None) -> R:
        """Raises Overloaded when the question outlasts its limit."""
        future: Future[R] = Future()
        self._queue.put((_within(question, limit_s or self._limit_s), future))
        return await asyncio.wrap_future(future)

    async def timed(self, question: Ask[R]) -> tuple[R, float]:
        """The same, and how much CPU it took, in seconds."""

        def measured(conn: sqlite3.Connection) -> tuple[R, float]:
            began_s = time.thread_time()
            found = question(conn)
            return found, time.thread_time() - began_s

        return await self.ask(measured)

    async def close(self) -> None:
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            await asyncio.get_running_loop().run_in_executor(None, thread.join)

    def _main(self) -> None:
        conn: sqlite3.Connection | None = None
        while (item := self._queue.get()) is not None:
            question, future = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                conn = conn or self._connect()
                future.set_result(question(conn))
            except BaseException as error:
                future.set_exception(error)
            del item, question, future
        if conn is not None:
            conn.close()


def _within(question: Ask[R], limit_s: float | None) -> Ask[R]:
    if limit_s is None:
        return question

    def limited(conn: sqlite3.Connection) -> R:
        deadline = time.monotonic() + limit_s
        conn.set_progress_handler(lambda: time.monotonic() > deadline, _OPCODES)
        try:
            return question(conn)
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
                raise
            raise Overloaded(
                f"The question took longer than {limit_s:g} s.", "Narrow it: --since, --tenant."
            ) from None
        finally:
            conn.set_progress_handler(None, 0)

    return limited
