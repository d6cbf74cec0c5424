"""Clients that stop reading: noticed while we write to them, and let go in the end.

Neither a client that reads slowly nor a provider that pauses is taken for one: what counts is
whether anything of what waits was taken, out of our memory or out of the kernel's.
"""

import asyncio
import sys
from types import TracebackType
from typing import Self

if sys.platform == "win32":
    _QUEUED = None
else:
    import fcntl
    import termios

    _QUEUED: int | None = termios.TIOCOUTQ

_LOOKS = 4
"""How often a client is looked at within its limit."""


class StallWatch:
    """Cuts a client that has taken nothing for `limit_s` while we were writing to it.

    A client that reads slowly takes something: then less is waiting than at the last look, in our
    buffer or in the kernel's.
    """

    def __init__(
        self, among: "set[StallWatch]", transport: asyncio.Transport | None, limit_s: float
    ) -> None:
        self._among = among
        self._transport = transport
        self._limit_s = limit_s
        self._pause_s = max(limit_s / _LOOKS, 0.05)
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._waiting = 0
        self._hurried = False
        self.stalled = False

    def __enter__(self) -> Self:
        self._among.add(self)
        self._timer = self._loop.call_later(self._pause_s, self._look)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._among.discard(self)
        self._timer.cancel()

    def hurry(self, limit_s: float) -> None:
        """We are stopping: who takes nothing for so long is let go, and that is our doing."""
        self._hurried = True
        self._limit_s, self._pause_s = limit_s, limit_s / _LOOKS
        self._timer.cancel()
        self._timer = self._loop.call_later(self._pause_s, self._look)

    def writing(self) -> None:
        self._since = self._loop.time()
        self._waiting = 0

    def written(self) -> None:
        self._since = None

    def _look(self) -> None:
        transport, now = self._transport, self._loop.time()
        if self._since is not None and transport is not None:
            waiting = transport.get_write_buffer_size() + _in_kernel(transport)
            if waiting < self._waiting:
                self._since = now
            self._waiting = waiting
            if now - self._since >= self._limit_s:
                self.stalled = not self._hurried
                transport.abort()
                return
        self._timer = self._loop.call_later(self._pause_s, self._look)


def _in_kernel(transport: asyncio.BaseTransport) -> int:
    """Bytes that the kernel holds for the client; 0 where it does not tell."""
    socket = transport.get_extra_info("socket")
    if _QUEUED is None or socket is None:
        return 0
    try:
        size = fcntl.ioctl(socket.fileno(), _QUEUED, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(size, sys.byteorder)
