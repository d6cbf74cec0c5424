"""The demo's apps at work: a few threads that send HTTP calls, and the clock that the days go by.

Plain `http.client`, one kept-open connection for each thread: to the sidecar these are strangers.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from threading import Event, local
from urllib.parse import urlsplit

from modelspend.cli.demo_traffic import Ask, Burst

_THREADS = 8
_PATIENCE_S = 30.0


class Clock:
    """Milliseconds UTC: a moment of the story that runs on by itself, until it is let go."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._shift_ms = 0

    def __call__(self) -> int:
        return self._now_ms() + self._shift_ms

    def turn_to(self, at_ms: int) -> None:
        self._shift_ms = at_ms - self._now_ms()

    def let_go(self) -> None:
        self._shift_ms = 0


class Apps:
    """Sends what it is given to one sidecar; `stop` ends that after the calls under way."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self._mine = local()
        self._stopped = Event()
        self.day = 0

    def stop(self) -> None:
        self._stopped.set()

    def live_through(self, bursts: Iterable[Burst], clock: Clock) -> None:
        """Send each burst at its moment: all of its calls at once, the next when all are done."""
        with ThreadPoolExecutor(_THREADS, "demo-app") as pool:
            for burst in bursts:
                if self._stopped.is_set():
                    return
                self.day = burst.day
                clock.turn_to(burst.at_ms)
                list(pool.map(self._send, burst.asks))

    def go_on(self, asks: Iterable[Ask], every_s: float) -> None:
        """Send one call after the other at a quiet pace, until stopped."""
        for ask in asks:
            if self._stopped.wait(every_s):
                return
            self._send(ask)

    def wait(self) -> None:
        """Do nothing until stopped."""
        self._stopped.wait()

    def _send(self, ask: Ask) -> None:
        """One call. An answer that breaks off is a part of the story."""
        connection = self._connection()
        try:
            connection.request("POST", ask.path, body=ask.body, headers=ask.headers)
            answer = connection.getresponse()
            if ask.leaves:
                answer.read(1)
                connection.close()
            else:
                answer.read()
        except (OSError, HTTPException):
            with suppress(OSError):
                connection.close()

    def _connection(self) -> HTTPConnection:
        """This thread's own; it opens itself again after it was closed."""
        found: HTTPConnection | None = getattr(self._mine, "connection", None)
        if found is None:
            host, port = self._address.hostname or "", self._address.port
            found = self._mine.connection = HTTPConnection(host, port, timeout=_PATIENCE_S)
        return found
