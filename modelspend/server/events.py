"""`GET /v1/events`: what happens, told as it happens, and from any earlier number on.

Server-sent events, each under its number, so that a client that comes back with `Last-Event-ID`
misses nothing. The feed reads the ledger and holds up nobody: who is slow reads later, who takes
nothing for too long is let go. What a reader would not guess: whatever the number of clients and
of commits, one small look at the ledger at a time says whether there is anything new at all.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from aiohttp import web

from modelspend import tasks
from modelspend.errors import Overloaded, Usage
from modelspend.events import Event, Wanted, kinds
from modelspend.money import dumps
from modelspend.server.asked import Asked, whole_number
from modelspend.server.guard import require_token
from modelspend.server.keys import LIVE, STORE
from modelspend.store import Store

_MOST = 64
_PAGE = 100
_LOOK_S = 0.1
_BEAT_S = 15.0
_COME_BACK_MS = 2000


class Feed:
    """Tells clients what is new. One for each process; `most` clients at once."""

    def __init__(self, store: Store) -> None:
        self.beat_s, self.most = _BEAT_S, _MOST
        self._store = store
        self._news = asyncio.Event()
        self._moved = asyncio.Event()
        self._clients: dict[asyncio.Transport, Wanted] = {}
        self._writing: set[asyncio.Transport] = set()
        self._looking = self._ended = False
        store.on_change(self._news.set)

    async def serve(
        self, request: web.Request, response: web.StreamResponse, cursor: int, where: Wanted
    ) -> None:
        """Tell one client until it leaves or the sidecar stops. Raises Overloaded beyond `most`."""
        if len(self._clients) >= self.most:
            raise Overloaded(
                f"{self.most} clients follow the events already.",
                "End one of them.",
                retry_after_s=5,
            )
        client = request.transport
        if client is None:
            raise ConnectionResetError("the client is gone")
        self._clients[client] = where
        if not self._looking:
            self._looking = True
            tasks.spawn(self._look(), "events")
        stall_s = request.app[LIVE].settings.server.client_stall_s
        try:
            await response.prepare(request)
            async with aclosing(self.follow(cursor, where)) as told:
                async for data in told:
                    self._writing.add(client)
                    async with asyncio.timeout(stall_s):
                        await response.write(data)
                    self._writing.discard(client)
            await response.write_eof()
        except TimeoutError:
            client.abort()
        finally:
            self._clients.pop(client, None)
            self._writing.discard(client)
            self._news.set()

    async def follow(self, cursor: int, where: Wanted) -> AsyncGenerator[bytes, None]:
        """The bytes of one feed; they end when the sidecar stops."""
        yield b"retry: %d\n\n" % _COME_BACK_MS
        while True:
            moved, ended = self._moved, self._ended  # before the look: nothing slips in between
            page = await self._store.events.page(cursor, _PAGE, where)
            cursor = page.cursor
            if page.events:
                yield b"".join(map(_told, page.events))
            if len(page.events) == _PAGE:
                continue
            if ended:
                return
            try:
                async with asyncio.timeout(self.beat_s):
                    await moved.wait()
            except TimeoutError:
                yield b": still here\nid: %d\n\n" % cursor

    def close(self) -> None:
        """The sidecar stops: what is written already is told, then every feed ends."""
        self._ended = True
        self._news.set()
        self._wake()
        for client in tuple(self._writing):
            client.abort()  # it takes nothing, and shall not hold up the end

    async def _look(self) -> None:
        """Wake the clients when there is something new; ends after the last of them."""
        newest = -1
        try:
            while self._clients and not self._ended:
                await self._news.wait()
                self._news.clear()
                with suppress(Overloaded):  # the next commit brings another look
                    wanted = {kind for each in self._clients.values() for kind in each.kinds}
                    last = await self._store.events.last(Wanted(kinds=tuple(wanted)))
                    if last != newest:
                        newest = last
                        self._wake()
                await asyncio.sleep(_LOOK_S)
        finally:
            self._looking = False

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


FEED: web.AppKey[Feed] = web.AppKey("feed", Feed)


async def events(request: web.Request) -> web.StreamResponse:
    """`?type=circuit.*&tenant=&provider=&since=&after=SEQ`; without a start, from now on."""
    require_token(request)
    feed = request.app[FEED]
    cursor, where = await _asked(request)
    headers = {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
    }
    response = web.StreamResponse(headers=headers)
    await feed.serve(request, response, cursor, where)
    return response


async def _asked(request: web.Request) -> tuple[int, Wanted]:
    """Where to begin, and what is wanted. A browser that comes back repeats its query, so what it
    has seen since wins over that."""
    asked = Asked(request, "type", "tenant", "provider", "since", "after")
    try:
        wanted = kinds(asked.text("type") or "")
    except ValueError as error:
        raise Usage(f"type: {error}.") from None
    where = Wanted(
        kinds=wanted,
        tenant=asked.text("tenant"),
        provider=asked.text("provider"),
        since_ms=asked.instant("since", request.app[LIVE].gateway.now_ms()),
    )
    seen = request.headers.get("Last-Event-ID", "").strip()
    start = whole_number("Last-Event-ID", seen) if seen else asked.number("after")
    newest = await request.app[STORE].events.last(where)
    if start is None:
        start = newest if where.since_ms is None else 0
    return min(start, newest), where  # beyond it: of a ledger that another has replaced


def _told(event: Event) -> bytes:
    """One event; its data is one line of JSON."""
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (
        event.seq,
        event.kind.encode(),
        dumps(event.to_json()),
    )
