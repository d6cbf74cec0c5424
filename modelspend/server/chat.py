"""The data plane: bytes in, bytes out. All that a call means is the gateway's business.

`carry` only reads the body, names the caller, and copies chunks to the socket. It never gives up
on a slow client by itself: a timer looks whether one write has been waiting for too long.
"""

import asyncio
import sys
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Self

from aiohttp import web
from multidict import CIMultiDict

from modelspend.dialects import DIALECTS
from modelspend.dialects.dialect import Dialect
from modelspend.errors import ModelspendError
from modelspend.gateway.call import Request
from modelspend.gateway.ending import ClientStalled
from modelspend.gateway.headers import text_of
from modelspend.gateway.life import Answer
from modelspend.gateway.relay import Relay
from modelspend.server.body import read_body
from modelspend.server.guard import Handler
from modelspend.server.keys import LIVE

if sys.platform == "win32":
    _QUEUED = None
else:
    import fcntl
    import termios

    _QUEUED: int | None = termios.TIOCOUTQ

_LARGE = 64 * 1024
_LOOKS = 4
"""How often a stalled client is looked at within its limit."""


def carry(dialect_name: str) -> Handler:
    """The handler of a route that speaks one dialect."""
    dialect = DIALECTS[dialect_name]

    async def handle(request: web.Request) -> web.StreamResponse:
        return await _carry(request, dialect)

    return handle


async def _carry(request: web.Request, dialect: Dialect) -> web.StreamResponse:
    live = request.app[LIVE]
    headers = [(text_of(name), text_of(value)) for name, value in request.raw_headers]
    path, _, query = request.raw_path.partition("?")
    caller = live.callers.identify(headers, query)
    try:
        body = await read_body(request, live.settings.server)
    except ModelspendError as fault:  # an authenticated caller's: it shall leave a receipt
        caller, body = replace(caller, fault=fault), b""
    asked = Request(dialect=dialect, path=path, query=query, headers=headers, body=body)
    stall_s = live.settings.server.client_stall_s
    try:
        async with live.gateway.open(asked, caller) as answer:
            if answer.relay is not None:
                return await _pass_on(request, answer, answer.relay, stall_s)
        return await _hand_over(request, answer, stall_s)
    except (ConnectionError, ClientStalled):
        return web.Response()  # nobody is there to read it; the receipt tells of it


async def _hand_over(request: web.Request, answer: Answer, stall_s: float) -> web.StreamResponse:
    """A whole answer. A large one may not wait in our memory for a client that never takes it."""
    headers = CIMultiDict(answer.headers)
    response = web.Response(status=answer.status, body=answer.body, headers=headers)
    if len(answer.body or b"") > _LARGE:
        with _StallWatch(request, stall_s) as watch:
            watch.writing()
            await response.prepare(request)
            await response.write_eof()
    return response


async def _pass_on(
    request: web.Request, answer: Answer, relay: Relay, stall_s: float
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=CIMultiDict(answer.headers))
    response.headers["x-accel-buffering"] = "no"
    with _StallWatch(request, stall_s) as watch:
        try:
            await response.prepare(request)
            async with aclosing(relay.chunks()) as chunks:
                async for chunk in chunks:
                    watch.writing()
                    await response.write(chunk)
                    watch.written()
            if not relay.broken:
                await response.write_eof()
        except (ConnectionError, asyncio.CancelledError):
            if watch.stalled:
                raise ClientStalled from None
            raise
        except Exception:  # a fault of ours: what was sent so far must not look whole
            _cut(request)
            raise
    if relay.broken:
        _cut(request)
    return response


def _cut(request: web.Request) -> None:
    """Close without the last chunk: a client must see that its answer is not whole."""
    if request.transport is not None:
        request.transport.close()


class _StallWatch:
    """Cuts a client that has taken nothing for `limit_s` while we were writing to it.

    A client that reads slowly takes something: then less is waiting than at the last look, in our
    buffer or in the kernel's.
    """

    def __init__(self, request: web.Request, limit_s: float) -> None:
        self._request = request
        self._limit_s = limit_s
        self._pause_s = max(limit_s / _LOOKS, 0.05)
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._waiting = 0
        self.stalled = False

    def __enter__(self) -> Self:
        self._timer = self._loop.call_later(self._pause_s, self._look)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()

    def writing(self) -> None:
        self._since = self._loop.time()
        self._waiting = 0

    def written(self) -> None:
        self._since = None

    def _look(self) -> None:
        transport, now = self._request.transport, self._loop.time()
        if self._since is not None and transport is not None:
            waiting = transport.get_write_buffer_size() + _in_kernel(transport)
            if waiting < self._waiting:
                self._since = now
            self._waiting = waiting
            if now - self._since >= self._limit_s:
                self.stalled = True
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
