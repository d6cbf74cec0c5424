"""How long a call waits for its receipt to be durable before it lets its answer go on."""

import asyncio
from collections import deque

from modelspend.errors import LedgerUnavailable

PATIENCE_S = 2.0

_Told = asyncio.Future[int]


class Patience:
    """Lets whoever waits too long for a receipt go; the writer keeps the receipt.

    All wait equally long, so one timer looks at the one that has waited longest.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, _Told]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, told: "_Told") -> None:
        loop = asyncio.get_running_loop()
        self._waiting.append((loop.time() + PATIENCE_S, told))
        if self._timer is None:
            self._timer = loop.call_at(self._waiting[0][0], self._look)

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= loop.time()):
            told = self._waiting.popleft()[1]
            if not told.done():
                told.set_exception(
                    LedgerUnavailable("The ledger takes long to write.", "See: modelspend doctor")
                )
        if self._waiting:
            self._timer = loop.call_at(self._waiting[0][0], self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
