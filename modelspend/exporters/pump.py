"""The pump: the ledger is the queue, and each sink takes from it at its own pace.

One task for each configured sink, none without one. It holds one batch, moves its number in the
ledger once the batch is sent or given up, and waits when the far end does not take it; so a sink
that is slow, dead or hostile costs nothing but a growing number. After a crash the last batch is
sent again: at least once, never not at all.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

from modelspend import tasks
from modelspend.errors import LedgerUnavailable, Overloaded, SinkInUse
from modelspend.exporters.http import NotNow
from modelspend.exporters.ration import CALM_S, Ration
from modelspend.record import frozen, record
from modelspend.sinks import Standing, Wants, section_of
from modelspend.store import Store
from modelspend.store.sinks import Also, Emission, Heading, told_at

log = logging.getLogger("modelspend.sinks")

T = TypeVar("T")

_GRACE_S = 2.0
_FEW = 8


@record
class Taken:
    """What became of a batch: its emissions are sent, dropped (`error` says why), or filed to be
    sent later; all are counted. `also` is written in the same transaction."""

    sent: int = 0
    dropped: int = 0
    filed: int = 0
    error: str | None = None
    also: tuple[Also, ...] = ()


class Sink(Protocol):
    """Where the ledger is sent. `most` emissions make a batch, which waits up to `linger_s` to
    fill. It is a Sender or a Filer; it may be a Worker as well."""

    @property
    def name(self) -> str: ...

    @property
    def wants(self) -> Wants: ...

    @property
    def most(self) -> int: ...

    @property
    def linger_s(self) -> float: ...

    async def close(self) -> None: ...


@runtime_checkable
class Sender(Sink, Protocol):
    """Takes a batch when its turn comes."""

    async def send(self, batch: Sequence[Emission]) -> Taken:
        """Raises NotNow when the whole batch is to be tried again."""


@runtime_checkable
class Filer(Sink, Protocol):
    """Notes what it will send, unread, and sends that in its own time."""

    def file(self, batch: Sequence[Heading]) -> Also: ...

    async def room(self) -> int:
        """How many more it takes now; waits until it takes any."""


@runtime_checkable
class Worker(Protocol):
    """Has work of its own beside its batches."""

    async def work(self, news: asyncio.Event, ration: Ration) -> None:
        """Until it is cancelled; `news` is set when there may be more to send. What it starts
        beside itself runs in the ration."""


@frozen
class Pace:
    """How long is waited after failures, how old a batch may become before it is given up, and how
    long after the last receipt no call is going on."""

    first_s: float = 1.0
    most_s: float = 300.0
    give_up_s: float = 7 * 86_400.0
    calm_s: float = CALM_S

    def pause_s(self, failures: int, asked_s: float | None, chance: float) -> float:
        """Growing, with jitter (`chance` is 0 to 1); never sooner than the far end asked for."""
        grown = min(self.first_s * 2.0 ** min(failures - 1, 30), self.most_s)
        return max(grown * (0.5 + chance / 2), asked_s or 0.0)


@dataclass(slots=True)
class Line:
    """One sink and how far it is. `counted` is the number up to which `emitted` was counted. It is
    asked once which kind its sink is: to look through all of its methods takes long."""

    sink: Sink
    sender: Sender | None
    filer: Filer | None
    standing: Standing
    counted: int
    emitted: int
    failures: int = 0
    failing_since_ms: int = 0
    faults: int = 0
    fault_at_s: float = 0.0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    work: asyncio.Event = field(default_factory=asyncio.Event)
    running: list["asyncio.Task[None]"] = field(default_factory=list)


class Pump:
    """Runs the sinks. One for each process."""

    def __init__(
        self,
        store: Store,
        now_ms: Callable[[], int],
        chance: Callable[[], float],
        pace: Pace | None = None,
    ) -> None:
        self._store, self._now_ms, self._chance = store, now_ms, chance
        self._pace = pace or Pace()
        self._lines: dict[str, Line] = {}
        self._listens = False
        self._ration = Ration(self._pace.calm_s, store.right_of_way)
        self._changing, self._ended = asyncio.Lock(), False

    async def start(self, sinks: Sequence[Sink], off: Sequence[str] = ()) -> None:
        """Begin, or go on with others: those that ran before are stopped first. Where those that
        are turned `off` were is forgotten."""
        async with self._changing:
            await self._stop()
            if not self._ended:
                await self._start(sinks, off)

    async def _start(self, sinks: Sequence[Sink], off: Sequence[str]) -> None:
        if off:
            await self._noted(lambda: self._store.sinks.forget(off))
        if sinks and not self._listens:
            self._listens = True
            self._store.on_commit(self._wake)
            self._store.on_foreign_commit(self._wake_all)
        for sink in sinks:
            standing = await self._noted(partial(self._store.sinks.enrol, sink.name, sink.wants))
            done = standing.sent + standing.dropped + standing.filed
            sender = sink if isinstance(sink, Sender) else None
            filer = sink if isinstance(sink, Filer) else None
            line = Line(sink, sender, filer, standing, counted=standing.cursor, emitted=done)
            self._lines[sink.name] = line
            self._spawn(line, partial(self._run, line))
            if isinstance(sink, Worker):
                self._spawn(line, partial(self._work, line, sink))

    def _spawn(self, line: Line, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        line.running.append(tasks.spawn(self._ration.run(work), f"sink {line.sink.name}"))

    def _wake(self, last: int) -> None:
        self._ration.heard()
        for line in self._lines.values():
            line.news.set()

    def _wake_all(self) -> None:
        """A command may have given dead letters back."""
        for line in self._lines.values():
            line.news.set()
            line.work.set()

    async def stop(self) -> None:
        """What is on its way is cut; it is sent again after the next start."""
        async with self._changing:
            await self._stop()

    async def end(self) -> None:
        """Stop, and never begin again: a reload may still be on its way."""
        self._ended = True
        async with self._changing:
            await self._stop()

    async def _stop(self) -> None:
        lines, self._lines = list(self._lines.values()), {}
        running = [task for line in lines for task in line.running]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_GRACE_S)
        for line in lines:
            await line.sink.close()
        self._ration.calm()

    async def let_go(self, name: str) -> Standing | None:
        """Forget one that does not run, and what waits for it; None where nobody knows it. Raises
        SinkInUse."""
        async with self._changing:
            if name in self._lines:
                raise SinkInUse(
                    f"{name} is in use: {section_of(name)} asks for it.",
                    "Take that out first, then: modelspend reload",
                )
            return await self._store.sinks.let_go(name, self._now_ms())

    async def standings(self) -> list[Standing]:
        """Of every sink that runs: sent + dropped + queued is what was emitted for it."""
        return [await self._standing(line) for line in self._lines.values()]

    async def _standing(self, line: Line) -> Standing:
        now_ms = self._now_ms()
        known = {one.name: one for one in await self._store.sinks.rows()}
        stored = known.get(line.sink.name, line.standing)
        await self._count(line, stored.cursor)
        done = stored.sent + stored.dropped
        queued = line.emitted - done
        lag = await self._store.sinks.lag_ms(stored, line.sink.wants, now_ms) if queued else None
        failing = line.failures > 0
        return replace(
            stored,
            queued=queued,
            lag_ms=lag,
            retry_at_ms=line.standing.retry_at_ms if failing else None,
        )

    async def _count(self, line: Line, at_least: int) -> None:
        """Count what has come since the last time; at least as far as the sink has come."""
        while True:
            before = line.counted
            more, until = await self._store.sinks.count(before, None, line.sink.wants)
            if line.counted == before:  # nobody else has counted meanwhile
                line.counted, line.emitted = until, line.emitted + more
            if line.counted >= at_least:
                return

    async def _run(self, line: Line) -> None:
        """Batch after batch, for ever."""
        while True:
            try:
                if not await self._batch(line):
                    await self._rest(line)
            except (LedgerUnavailable, Overloaded):
                await asyncio.sleep(self._pace.first_s)
            except Exception as error:  # of a fault of ours nobody would hear, and it would be over
                await self._faulty(line, error)

    async def _faulty(self, line: Line, error: Exception) -> None:
        """Say what went wrong, and be ready to try again in a while."""
        log.error("sink %s: a fault of ours: %s", line.sink.name, type(error).__name__)
        self._ration.behind(line.sink.name, 0.0)  # it takes nothing until then
        text = f"a fault of ours: {type(error).__name__}"
        with suppress(LedgerUnavailable, Overloaded):
            await self._store.sinks.failed(line.sink.name, text, self._now_ms())
        now_s = time.monotonic()
        line.faults = 1 if now_s - line.fault_at_s > 2 * self._pace.most_s else line.faults + 1
        line.fault_at_s = now_s
        await asyncio.sleep(self._pace.pause_s(line.faults, None, self._chance()))

    async def _work(self, line: Line, worker: Worker) -> None:
        """Its own work, for ever: begun again when it has ended by a fault."""
        while True:
            try:
                return await worker.work(line.work, self._ration)
            except Exception as error:
                await self._faulty(line, error)

    async def _rest(self, line: Line) -> None:
        """Until there is news, and a little longer: a batch of one is a waste. Not all of them for
        as long: what they write at the same time, a call waits for."""
        if line.sender:  # it has told all: what it took to catch up is over
            self._ration.behind(line.sink.name, 0.0)
        await line.news.wait()
        longer_s = self._ration.linger_s * (0.5 + self._chance())
        await asyncio.sleep(max(line.sink.linger_s, longer_s))

    async def _batch(self, line: Line) -> bool:
        """Send the next one; whether there was any way to go."""
        line.news.clear()
        if line.filer:
            return await self._filed(line, line.filer)
        assert line.sender
        return await self._read(line, line.sender)

    async def _filed(self, line: Line, sink: Filer) -> bool:
        most = min(await sink.room(), sink.most)
        page = await self._store.sinks.headings(line.standing.cursor, most, sink.wants)
        taken = Taken()
        if page.headings:
            taken = Taken(filed=len(page.headings), also=(sink.file(page.headings),))
        return await self._on(line, page.cursor, page.last, taken, full=len(page.headings) == most)

    async def _read(self, line: Line, sink: Sender) -> bool:
        """In small pages, each of which is looked at when it is this sink's turn."""
        batch: list[Emission] = []
        damaged: list[int] = []
        cursor, last, more = line.standing.cursor, 0, True
        while more and len(batch) < sink.most and len(damaged) < sink.most:
            few = min(_FEW, sink.most - len(batch))
            page = await self._store.sinks.page(cursor, few, sink.wants)
            self._ration.beside(page.took_s)
            batch += page.emissions
            damaged += page.damaged
            cursor, last = page.cursor, page.last
            more = len(page.emissions) + len(page.damaged) == few
        taken = await self._sent(line, sink, batch) if batch else Taken()
        if damaged:
            error = f"number {damaged[0]} of the ledger is damaged; see: modelspend verify"
            taken = replace(taken, dropped=taken.dropped + len(damaged), error=error)
        return await self._on(line, cursor, last, taken, full=more)

    async def _on(self, line: Line, cursor: int, last: int, taken: Taken, *, full: bool) -> bool:
        """Whether there is more behind it."""
        if taken == Taken() and cursor == last:
            # Nothing of it is wanted: remembered in memory, written with the next batch.
            line.standing = replace(line.standing, cursor=cursor)
            return False
        await self._move(line, cursor, taken)
        return full or cursor < last

    async def _sent(self, line: Line, sink: Sender, batch: Sequence[Emission]) -> Taken:
        """The batch is taken, or given up; until then it is tried again and again."""
        while True:
            try:
                taken = await sink.send(batch)
            except NotNow as error:
                line.failures += 1
                self._ration.behind(line.sink.name, 0.0)
                if line.failures == 1:
                    line.failing_since_ms = self._now_ms()
                if self._too_old(line, batch):
                    return Taken(dropped=len(batch), error=f"given up: {error.text}")
                await self._wait(line, error)
            except (LedgerUnavailable, Overloaded):
                raise
            except Exception as error:  # a fault of ours must not stop the sink for ever
                log.error("sink %s: a batch was dropped: %s", line.sink.name, type(error).__name__)
                return Taken(dropped=len(batch), error=f"a fault of ours: {type(error).__name__}")
            else:
                line.failures = 0
                age_ms = self._now_ms() - told_at(batch[0])
                self._ration.behind(line.sink.name, age_ms / 1000)
                return taken

    def _too_old(self, line: Line, batch: Sequence[Emission]) -> bool:
        """Nothing was taken for so long, and all of this happened longer ago than that."""
        since_ms = self._now_ms() - self._pace.give_up_s * 1000
        return max(line.failing_since_ms, told_at(batch[-1])) < since_ms

    async def _wait(self, line: Line, error: NotNow) -> None:
        pause_s = self._pace.pause_s(line.failures, error.after_s, self._chance())
        now_ms = self._now_ms()
        if line.failures == 1 or error.text != line.standing.error:
            log.warning("sink %s: %s", line.sink.name, error.text)
            with suppress(LedgerUnavailable):
                await self._store.sinks.failed(line.sink.name, error.text, now_ms)
        line.standing = replace(
            line.standing,
            error=error.text,
            error_at_ms=now_ms,
            retry_at_ms=now_ms + round(pause_s * 1000),
        )
        await asyncio.sleep(pause_s)

    async def _move(self, line: Line, cursor: int, taken: Taken) -> None:
        """Write down how far it is; what was sent is sent, so this is tried until it is written."""
        await self._noted(
            lambda: self._store.sinks.advance(
                line.sink.name,
                cursor,
                sent=taken.sent,
                dropped=taken.dropped,
                filed=taken.filed,
                at_ms=self._now_ms(),
                error=taken.error,
                also=taken.also,
            )
        )
        line.standing = replace(line.standing, cursor=cursor)
        if taken.filed:
            line.work.set()

    async def _noted(self, note: Callable[[], Awaitable[T]]) -> T:
        """What the ledger must know: tried until it takes writes again, or all is over."""
        while True:
            try:
                return await note()
            except LedgerUnavailable:
                if self._ended:
                    raise
                await asyncio.sleep(self._pace.first_s)
