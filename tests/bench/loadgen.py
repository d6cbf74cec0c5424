"""Asks one address for answers and tells how long they took, as one line of JSON.

    loadgen.py closed URL CONNECTIONS SECONDS [COUNT] [stream]   the next when one is answered
    loadgen.py open   URL RATE SECONDS                           Poisson arrivals, never held back
    loadgen.py stream URL STREAMS RAMP_SECONDS                   begun evenly over the ramp

`raw` behind any of them adds every latency, so that several runs can be looked at as one.
A latency counts from the moment of sending. Timers of the loop are whole milliseconds, so `late_ms`
tells how far behind its schedule the generator was: large values mean that it was overrun itself.
"""

import asyncio
import json
import random
import re
import sys
import time
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

import uvloop
from traffic import PATH, PIECES, request_body

_STAMP = re.compile(rb"@(\d{19})@")
_LIMIT_S = 20.0


class Tally:
    """What was seen, in nanoseconds."""

    def __init__(self) -> None:
        self.whole: list[int] = []
        self.first: list[int] = []
        self.pieces: list[int] = []
        self.late: list[int] = []
        self.not_200 = 0
        self.broken = 0
        self.incomplete = 0
        self.sample = ""

    def told(self, seconds: float) -> dict[str, object]:
        return {
            "ok": len(self.whole),
            "not_200": self.not_200,
            "broken": self.broken,
            "incomplete": self.incomplete,
            "sample": self.sample,
            "seconds": seconds,
            "whole_ms": _spread(self.whole),
            "first_ms": _spread(self.first),
            "piece_ms": _spread(self.pieces),
            "late_ms": _spread(self.late),
        }


def _spread(values: list[int]) -> dict[str, float]:
    if not values:
        return {}
    values.sort()
    at = lambda share: round(values[min(len(values) - 1, int(share * len(values)))] / 1e6, 4)  # noqa: E731
    return {"p50": at(0.5), "p99": at(0.99), "max": at(1.0)}


class Connection(asyncio.Protocol):
    """One request at a time; `done(self, kept)` is called when its answer is whole, or lost."""

    def __init__(self, tally: Tally, done: Callable[["Connection", bool], None]) -> None:
        self._tally = tally
        self._done = done
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def send(self, request: bytes) -> None:
        self._busy, self._head_read, self._chunked = True, False, False
        self._inbox, self._size, self._seen, self._pieces = b"", 0, 0, 0
        self._sent_at = time.monotonic_ns()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self._inbox += data
        if not self._head_read and not self._read_head():
            return
        if self._chunked:
            self._read_pieces(now)
            if self._inbox.endswith(b"\r\n0\r\n\r\n"):
                self._finish(now)
        elif len(self._inbox) >= self._size:
            self._finish(now)

    def connection_lost(self, error: Exception | None) -> None:
        if self._busy:
            self._busy = False
            self._tally.broken += 1
            self._done(self, False)

    def close(self) -> None:
        self._transport.close()

    def _read_head(self) -> bool:
        head, end, rest = self._inbox.partition(b"\r\n\r\n")
        if not end:
            return False
        head = head.lower()
        self._head_read, self._inbox = True, rest
        self._status = int(head[9:12])
        self._chunked = b"\r\ntransfer-encoding: chunked" in head
        if not self._chunked:
            self._size = int(head.partition(b"\r\ncontent-length:")[2].split(b"\r\n")[0])
        return True

    def _read_pieces(self, now: int) -> None:
        for stamp in _STAMP.finditer(self._inbox, self._seen):
            if not self._pieces:
                self._tally.first.append(now - self._sent_at)
            self._pieces += 1
            self._tally.pieces.append(now - int(stamp[1]))
            self._seen = stamp.end()

    def _finish(self, now: int) -> None:
        self._busy = False
        if self._status != 200:
            self._tally.not_200 += 1
            self._tally.sample = self._tally.sample or self._inbox[:300].decode("latin-1")
        elif self._chunked and (self._pieces != PIECES or b"data: [DONE]" not in self._inbox):
            self._tally.incomplete += 1
        else:
            self._tally.whole.append(now - self._sent_at)
        self._done(self, True)


class Load:
    """Keeps a pool of connections to one address."""

    def __init__(self, url: str, *, stream: bool) -> None:
        self.tally = Tally()
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        body = request_body(stream=stream)
        self._request = (
            b"POST %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer sk-bench\r\n"
            b"Content-Type: application/json\r\nUser-Agent: bench\r\nAccept: */*\r\n"
            b"Content-Length: %d\r\n\r\n" % (PATH.encode(), self._port, len(body))
        ) + body
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._under_way = 0
        self._sent = 0
        self._quiet = asyncio.Event()

    async def closed(self, connections: int, seconds: float, count: int) -> None:
        """Until the time is up, or that many have been sent when a count is given."""
        until = self._loop.time() + seconds
        more = lambda: self._sent < count if count else self._loop.time() < until  # noqa: E731

        def again(one: Connection, kept: bool) -> None:
            self._under_way -= 1
            if more() and kept:
                self._fire(one)
            elif not self._under_way:
                self._quiet.set()

        for one in [await self._dial(again) for _ in range(connections)]:
            self._fire(one)
        await self._settled(seconds if not count else 600)

    async def open(self, rate: float, seconds: float) -> None:
        chance = random.Random(7)
        due, start = 0.0, self._loop.time() + 0.02
        while (due := due + chance.expovariate(rate)) < seconds:
            await self._at(start + due)
        await self._settled()

    async def streams(self, count: int, ramp_s: float) -> None:
        start = self._loop.time() + 0.02
        for number in range(count):
            await self._at(start + ramp_s * number / count)
        await self._settled()

    async def _at(self, when: float) -> None:
        """Send one request at its time, on an idle connection or a new one."""
        wait = when - self._loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        self.tally.late.append(max(0, int((self._loop.time() - when) * 1e9)))
        self._fire(self._idle.pop() if self._idle else await self._dial(self._rested))

    def _rested(self, one: Connection, kept: bool) -> None:
        self._under_way -= 1
        if kept:
            self._idle.append(one)
        if not self._under_way:
            self._quiet.set()

    def _fire(self, one: Connection) -> None:
        self._under_way += 1
        self._sent += 1
        self._quiet.clear()
        one.send(self._request)

    async def _dial(self, done: Callable[[Connection, bool], None]) -> Connection:
        _, one = await self._loop.create_connection(
            lambda: Connection(self.tally, done), self._host, self._port
        )
        self._open.add(one)
        return one

    async def _settled(self, more_s: float = 0) -> None:
        try:
            async with asyncio.timeout(more_s + _LIMIT_S):
                await self._quiet.wait()
        except TimeoutError:
            self.tally.broken += self._under_way
        for one in self._open:
            one.close()


async def main(mode: str, url: str, amount: float, seconds: float, *rest: str) -> None:
    load = Load(url, stream=mode == "stream" or "stream" in rest)
    started = time.monotonic()
    if mode == "closed":
        count = next((int(word) for word in rest if word.isdigit()), 0)
        await load.closed(int(amount), seconds, count)
    elif mode == "open":
        await load.open(amount, seconds)
    else:
        await load.streams(int(amount), seconds)
    told = load.tally.told(time.monotonic() - started)
    if "raw" in rest:
        told["raw_ms"] = [ns / 1e6 for ns in load.tally.whole]
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    uvloop.run(
        main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), *sys.argv[5:])
    )
