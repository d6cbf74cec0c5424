"""Calls go first: who works beside them waits for a gap between them.

Where few calls are under way a gap comes soon, and nobody is ever waited for because of work that
could as well be done in it. Where many are, or one streams for minutes, no gap comes: then it is
enough that who works beside them takes little.
"""

import asyncio
import time
from collections.abc import Callable

_FEW = 3
_LOOKS, _LOOK_S = 5, 0.002
_BREATH_S = 0.0002


class RightOfWay:
    """`calls` says how many are under way; whoever carries them sets it."""

    def __init__(self) -> None:
        self.calls: Callable[[], int] = lambda: 0

    @property
    def _taken(self) -> bool:
        return 0 < self.calls() <= _FEW

    async def gap(self) -> None:
        """Until there is one, or for a hundredth of a second."""
        for _ in range(_LOOKS):
            if not self._taken:
                return
            await asyncio.sleep(_LOOK_S)

    def give(self) -> None:
        """The same for a thread between two pieces of work. It always pauses a little: a thread
        that asks SQLite again and again gives up the interpreter each time, but has it back before
        anybody else wakes up."""
        time.sleep(_BREATH_S)
        for _ in range(_LOOKS):
            if not self._taken:
                return
            time.sleep(_LOOK_S)
