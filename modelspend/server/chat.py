"""The data plane: bytes in, bytes out. All that a call means is the gateway's business.

`carry` only hands a request to the gateway and copies the answer to wherever it goes: to aiohttp
here, to a socket of our own in `lane.py`. It never gives up on a slow client by itself: a timer
looks whether one write has been waiting for too long.
"""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from aiohttp import web
from multidict import CIMultiDict

from modelspend.dialects import DIALECTS
from modelspend.errors import ModelspendError
from modelspend.gateway.answering import Answer
from modelspend.gateway.caller import Caller
from modelspend.gateway.ending import ClientStalled
from modelspend.gateway.headers import Pairs
from modelspend.gateway.passage import Request
from modelspend.gateway.relay import Relay
from modelspend.server.body import read_body
from modelspend.server.guard import Handler, headers_of
from modelspend.server.keys import LIVE, Live
from modelspend.server.stalls import StallWatch

_LARGE = 64 * 1024


class Out(Protocol):
    """Where an answer goes: whoever frames it as HTTP. Writing raises ConnectionError."""

    @property
    def transport(self) -> asyncio.Transport | None: ...

    async def whole(self, status: int, headers: Pairs, body: bytes, *, now: bool) -> None:
        """The whole answer; with `now` it has left our memory when this returns."""
        ...

    async def begin(self, status: int, headers: Pairs) -> None: ...

    async def write(self, data: bytes) -> None: ...

    async def finish(self) -> None: ...

    def cut(self) -> None:
        """Close without the last chunk: a client must see that its answer is not whole."""
        ...


async def carry(live: Live, asked: Request, caller: Caller, out: Out) -> None:
    """One call, from request to the last byte of its answer. Raises ModelspendError."""
    try:
        async with live.gateway.open(asked, caller) as answer:
            if answer.relay is not None:
                await _pass_on(out, answer, answer.relay, _watch(live, out))
                return
        await _hand_over(live, out, answer)
    except (ConnectionError, ClientStalled):
        return  # nobody is there to read it; the receipt tells of it


def _watch(live: Live, out: Out) -> StallWatch:
    return StallWatch(live.writing, out.transport, live.settings.server.client_stall_s)


async def _hand_over(live: Live, out: Out, answer: Answer) -> None:
    """A whole answer. A large one may not wait in our memory for a client that never takes it."""
    body = answer.body or b""
    if len(body) <= _LARGE:
        await out.whole(answer.status, answer.headers, body, now=False)
        return
    with _watch(live, out) as watch:
        watch.writing()
        await out.whole(answer.status, answer.headers, body, now=True)


async def _pass_on(out: Out, answer: Answer, relay: Relay, watch: StallWatch) -> None:
    with watch:
        try:
            await out.begin(answer.status, [*answer.headers, ("x-accel-buffering", "no")])
            async with aclosing(relay.chunks()) as chunks:
                async for chunk in chunks:
                    watch.writing()
                    await out.write(chunk)
                    watch.written()
            if not relay.broken:
                await out.finish()
        except (ConnectionError, asyncio.CancelledError):
            if watch.stalled:
                raise ClientStalled from None
            raise
        except Exception:  # a fault of ours: what was sent so far must not look whole
            out.cut()
            raise
    if relay.broken:
        out.cut()


def served(dialect_name: str) -> Handler:
    """aiohttp's handler of a route that speaks one dialect."""
    dialect = DIALECTS[dialect_name]

    async def handle(request: web.Request) -> web.StreamResponse:
        live = request.app[LIVE]
        headers = headers_of(request)
        path, _, query = request.raw_path.partition("?")
        caller = live.callers.identify(headers, query)
        try:
            body = await read_body(request, live.settings.server)
        except ModelspendError as fault:  # an authenticated caller's: it shall leave a receipt
            caller, body = replace(caller, fault=fault), b""
        asked = Request(dialect=dialect, path=path, query=query, headers=headers, body=body)
        out = _WebOut(request)
        await carry(live, asked, caller, out)
        return out.response or web.Response()

    return handle


class _WebOut:
    """An answer through aiohttp."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response: web.StreamResponse | None = None

    @property
    def transport(self) -> asyncio.Transport | None:
        return self._request.transport

    async def whole(self, status: int, headers: Pairs, body: bytes, *, now: bool) -> None:
        response = web.Response(status=status, body=body, headers=CIMultiDict(headers))
        self.response = response
        if now:
            await response.prepare(self._request)
            await response.write_eof()

    async def begin(self, status: int, headers: Pairs) -> None:
        self.response = web.StreamResponse(status=status, headers=CIMultiDict(headers))
        await self.response.prepare(self._request)

    async def write(self, data: bytes) -> None:
        assert self.response is not None
        await self.response.write(data)

    async def finish(self) -> None:
        assert self.response is not None
        await self.response.write_eof()

    def cut(self) -> None:
        if self.transport is not None:
            self.transport.close()
