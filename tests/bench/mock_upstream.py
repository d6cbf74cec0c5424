"""The provider of the benchmark: as little work for each answer as Python allows.

A raw protocol on uvloop, so that the gateway under test is the dearest part of every measurement.
`GET /_set?first_ms=…&gap_ms=…` changes the pace of the streams to come; `GET /_stats` says how many
requests came. Prints its port, then serves until it is told to stop.
"""

import asyncio
import json
import time
from typing import cast
from urllib.parse import parse_qsl, urlsplit

import uvloop
from traffic import END, PIECES, answer_body, piece

_ANSWER = answer_body()
_WHOLE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\n"
    b"content-length: %d\r\n\r\n" % len(_ANSWER)
) + _ANSWER
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\nx-request-id: req_bench\r\n\r\n"
)


class Pace:
    """Shared by all connections: how streams are paced, and what has been asked so far."""

    def __init__(self) -> None:
        self.first_s = 0.0
        self.gap_s = 0.0
        self.requests = 0
        self.streams = 0

    def change(self, query: str) -> None:
        asked = dict(parse_qsl(query))
        self.first_s = float(asked.get("first_ms", self.first_s * 1000)) / 1000
        self.gap_s = float(asked.get("gap_ms", self.gap_s * 1000)) / 1000


class Exchange(asyncio.Protocol):
    """One connection: reads whole requests, answers them in order."""

    def __init__(self, pace: Pace, loop: asyncio.AbstractEventLoop) -> None:
        self._pace = pace
        self._loop = loop
        self._inbox = b""
        self._streaming = False
        self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._inbox += data
        while not self._streaming and self._take_one():
            pass

    def _take_one(self) -> bool:
        head, end, rest = self._inbox.partition(b"\r\n\r\n")
        if not end:
            return False
        size = _content_length(head)
        if len(rest) < size:
            return False
        self._inbox = rest[size:]
        if head.startswith(b"GET"):
            self._told(head.split(b" ", 2)[1].decode())
        else:
            self._asked(rest[:size])
        return True

    def _told(self, target: str) -> None:
        path, query = urlsplit(target).path, urlsplit(target).query
        if path == "/_set":
            self._pace.change(query)
        counts = {"requests": self._pace.requests, "streams": self._pace.streams}
        body = json.dumps(counts).encode()
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    def _asked(self, body: bytes) -> None:
        self._pace.requests += 1
        if b'"stream": true' not in body:
            self._transport.write(_WHOLE)
            return
        self._pace.streams += 1
        self._streaming, self._number = True, 0
        self._transport.write(_STREAM_HEAD)
        self._later(self._pace.first_s)

    def _later(self, wait_s: float) -> None:
        """Even without a pause each piece is a write of its own, in a turn of its own."""
        if wait_s:
            self._loop.call_later(wait_s, self._next)
        else:
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        if self._transport.is_closing():
            return
        if self._number < PIECES:
            event = piece(self._number, time.monotonic_ns())
            self._number += 1
            self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
            self._later(self._pace.gap_s)
            return
        self._transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(END), END))
        self._streaming = False
        self.data_received(b"")


def _content_length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


async def main() -> None:
    loop, pace = asyncio.get_running_loop(), Pace()
    server = await loop.create_server(lambda: Exchange(pace, loop), "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
