"""Sinks take a small share of the event loop while calls go on, and all of it when none do.

A share that is always small would leave a sink behind for ever where calls never pause: it grows
with the age of what a sink that gets on has still to say, and is small again once it has. It only
grows into what calls leave free: where they need all of the processor, sinks stay behind.

Hides that a coroutine is run step by step: what each step takes is measured, and the next one waits
until all sinks together are back within their share, and a moment for a gap between calls. So it
holds for every sink, whatever its far end does and however much it has to say; what it cannot say
now stays in the ledger.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import closing
from typing import Any, Generic, TypeVar

from modelspend.store.right_of_way import RightOfWay

T = TypeVar("T")

SHARE, MOST_SHARE = 0.01, 0.15
_PATIENT_S = 5.0  # a sink this far behind still has its small share; at twice that, twice as much
CALM_S = 1.0
_LINGER_S = 1.0
_BURST_S = 0.0003  # what may be taken at once: a timer for each small step would cost more
_TYPICAL_S = 0.0001  # what a turn is reckoned at until it has been taken
_LOOK_S = 0.25  # how often it is seen how busy the process is
_MOST_DEBT_S = 1.0  # one step that took very long shall not stop the others for ever


class Ration:
    """What the sinks of a process share. `calm_s` after the last receipt no call is going on."""

    def __init__(self, calm_s: float = CALM_S, way: RightOfWay | None = None) -> None:
        self._calm_s = calm_s
        self._way = way or RightOfWay()
        self._busy_until = self._free_at = 0.0
        self._behind: dict[str, float] = {}
        self._needed, self._most = SHARE, MOST_SHARE
        self._looked_at, self._process_s, self._own_s = time.monotonic(), time.process_time(), 0.0

    def heard(self) -> None:
        """A call goes on."""
        self._busy_until = time.monotonic() + self._calm_s

    def behind(self, sink: str, seconds: float) -> None:
        """How old what a sink has just taken is; 0 of one that takes nothing: it has no use for
        more time."""
        self._behind[sink] = seconds
        self._needed = SHARE * max(max(self._behind.values()) / _PATIENT_S, 1.0)

    def calm(self) -> None:
        """All sinks begin anew: how far one was behind that runs no more does not count."""
        self._behind.clear()
        self._needed = SHARE

    @property
    def _share(self) -> float:
        return min(self._needed, self._most)

    @property
    def linger_s(self) -> float:
        """How long a batch is waited for at least: fewer and larger ones cost calls less."""
        return _LINGER_S if time.monotonic() < self._busy_until else 0.0

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `work` returns or raises; cancelling it cancels that."""
        with closing(work()) as begun:
            return await _Steps(begun, self)

    async def wait(self) -> None:
        """Until the next step may be taken: it is its turn, and no call is in its way."""
        if wait_s := self.turn():
            await asyncio.sleep(wait_s)
        await self._way.gap()

    def turn(self) -> float:
        """When the next step may be taken, in seconds from now; it is taken then."""
        now = time.monotonic()
        if now >= self._busy_until:
            return 0.0
        if now - self._looked_at >= _LOOK_S:
            self._look(now)
        turn = max(self._free_at, now)
        self._free_at = turn + _TYPICAL_S / self._share
        return turn - now if turn - now > _BURST_S / self._share else 0.0

    def spent(self, seconds: float) -> None:
        """What the step has taken after all."""
        self._own_s += seconds
        self._owe(seconds - _TYPICAL_S)

    def beside(self, seconds: float) -> None:
        """What another thread has taken for a sink: it runs Python too, and no call goes on
        then."""
        self._own_s += seconds
        self._owe(seconds)

    def _look(self, now: float) -> None:
        """How much of one processor calls leave free. Squared: the less it is, the likelier one of
        them comes in the midst of a step. What threads took is told once they are done, which may
        be after an earlier look: never more than all of it is free."""
        process_s = time.process_time()
        busy = (process_s - self._process_s - self._own_s) / (now - self._looked_at)
        free = min(max(1.0 - busy, 0.0), 1.0)
        self._most = max(MOST_SHARE * free**2, SHARE)
        self._looked_at, self._process_s, self._own_s = now, process_s, 0.0

    def _owe(self, seconds: float) -> None:
        now = time.monotonic()
        owed = max(self._free_at, now) + seconds / self._share
        self._free_at = min(owed, now + _MOST_DEBT_S)


class _Steps(Generic[T]):
    """Hands on to the loop whatever `work` waits for."""

    def __init__(self, work: Coroutine[Any, Any, T], ration: Ration) -> None:
        self._work, self._ration = work, ration

    def __await__(self) -> Generator[Any, None, T]:
        raised: BaseException | None = None
        while True:
            try:
                if raised is None:
                    yield from self._ration.wait().__await__()
            except asyncio.CancelledError as cancelled:
                raised = cancelled
            began = time.thread_time()
            try:
                awaited = self._work.throw(raised) if raised else self._work.send(None)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                raised = None
                self._ration.spent(time.thread_time() - began)
            try:
                yield awaited
            except (Exception, asyncio.CancelledError) as error:
                raised = error
