"""The data plane: bytes in, bytes out. All that a call means is the gateway's business.

`carry` only reads the body, names the caller, and copies chunks to the socket. It never gives up
on a slow client by itself: a timer looks whether one write has been waiting for too long.
"""

import asyncio
from contextlib import aclosing
from types import TracebackType
from typing import Self

from aiohttp import web
from multidict import CIMultiDict

from modelspend.dialects import DIALECTS
from modelspend.dialects.dialect import Dialect
from modelspend.gateway.call import Request
from modelspend.gateway.life import Answer, ClientStalled
from modelspend.gateway.relay import Relay
from modelspend.server.body import read_body
from modelspend.server.guard import Handler
from modelspend.server.keys import LIVE


def carry(dialect_name: str) -> Handler:
    """The handler of a route that speaks one dialect."""
    dialect = DIALECTS[dialect_name]

    async def handle(request: web.Request) -> web.StreamResponse:
        return await _carry(request, dialect)

    return handle


async def _carry(request: web.Request, dialect: Dialect) -> web.StreamResponse:
    live = request.app[LIVE]
    headers = [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers
    ]
    caller = live.callers.identify(headers, request.query_string)
    body = await read_body(request, live.settings.server)
    path, _, query = request.raw_path.partition("?")
    asked = Request(dialect=dialect, path=path, query=query, headers=headers, body=body)
    async with live.gateway.open(asked, caller) as answer:
        if answer.relay is not None:
            return await _pass_on(
                request, answer, answer.relay, live.settings.server.client_stall_s
            )
    return web.Response(status=answer.status, body=answer.body, headers=CIMultiDict(answer.headers))


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
    if relay.broken and request.transport is not None:
        request.transport.close()  # without the last chunk: a client must see that it was cut
    return response


class _StallWatch:
    """Cuts a client that has taken nothing for `limit_s` while we were writing to it."""

    def __init__(self, request: web.Request, limit_s: float) -> None:
        self._request = request
        self._limit_s = limit_s
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self.stalled = False

    def __enter__(self) -> Self:
        self._timer = self._loop.call_later(self._limit_s, self._look)
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

    def written(self) -> None:
        self._since = None

    def _look(self) -> None:
        waited = 0.0 if self._since is None else self._loop.time() - self._since
        if waited >= self._limit_s:
            self.stalled = True
            if self._request.transport is not None:
                self._request.transport.abort()
            return
        self._timer = self._loop.call_later(max(self._limit_s - waited, 0.05), self._look)
