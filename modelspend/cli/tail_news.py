"""When there are new receipts: the feed of a sidecar says so, else looks at the ledger do."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING

from modelspend.cli.client import find
from modelspend.cli.context import Here
from modelspend.errors import ModelspendError
from modelspend.events import RECEIPT

if TYPE_CHECKING:
    from modelspend.store import Store

_LOOK_S = 0.2


class News:
    """Waits until there may be receipts with a greater number than `seen`."""

    def __init__(self, store: "Store", seen: int) -> None:
        self._store, self._seen = store, seen
        self._bell, self._listens = asyncio.Event(), False

    def listen(self, at: Here, cursor: int) -> None:
        """Be told by a sidecar, as long as one tells; nobody waits for this thread at the end."""
        self._listens = True
        loop = asyncio.get_running_loop()
        ring = lambda: loop.call_soon_threadsafe(self._bell.set)  # noqa: E731
        ended = lambda: loop.call_soon_threadsafe(self._ended)  # noqa: E731
        Thread(target=_hear, args=(at, cursor, ring, ended), daemon=True).start()

    def _ended(self) -> None:
        self._listens = False
        self._bell.set()

    async def come(self) -> None:
        """SQLite wakes nobody in another process: without a feed we look."""
        if self._listens:
            await self._bell.wait()
            self._bell.clear()
            return
        while True:
            newest = await self._store.meta.last_seq()
            if newest != self._seen:
                self._seen = newest
                return
            await asyncio.sleep(_LOOK_S)


def _hear(at: Here, cursor: int, ring: Callable[[], object], ended: Callable[[], object]) -> None:
    with suppress(RuntimeError):  # the loop has ended before us
        try:
            for _ in find(at.ledger).feed(f"/v1/events?type={RECEIPT}&after={cursor}"):
                ring()
        except ModelspendError:  # none runs, or it takes no more listeners
            pass
        ended()
