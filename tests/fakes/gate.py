"""A provider that answers when it is told to, and counts who is inside meanwhile.

What it counts is what a provider sees: a request that has been read whole, until its answer has
been written or its client has gone.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from tests.fakes.provider import CHAT


@dataclass(slots=True)
class Gate:
    """`status` and `headers` are what those get who are let out, `cuts` hangs up on them instead.

    `inside` wait now, `most` did at once, `asked` is how many have come, by model in `asked_for`.
    """

    url: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cuts: bool = False
    inside: int = 0
    most: int = 0
    asked: int = 0
    asked_for: dict[str, int] = field(default_factory=dict)
    left: int = 0
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def shut(self) -> None:
        """From now on everybody waits."""
        self._open.clear()

    def let_out(self, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Whoever waits is answered so, and all who come."""
        self.status, self.headers, self.cuts = status, headers or {}, False
        self._open.set()

    def hang_up(self) -> None:
        """Whoever waits is hung up on, and all who come."""
        self.cuts = True
        self._open.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is true that only a coming or going can make true."""
        async with self._news:
            await self._news.wait_for(reached)

    async def _answer(self, request: web.Request) -> web.Response:
        model = str(orjson.loads(await request.read())["model"])
        self.asked += 1
        self.asked_for[model] = self.asked_for.get(model, 0) + 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self._tell()
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self.left += 1
            raise
        finally:
            self.inside -= 1
            await self._tell()
        if self.cuts and request.transport is not None:
            request.transport.abort()
        return web.json_response(CHAT, status=self.status, headers=self.headers)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


@asynccontextmanager
async def gate() -> AsyncIterator[Gate]:
    """One that listens while the block runs, and lets everybody through at first."""
    made = Gate()
    made.let_out()
    app = web.Application()
    app.router.add_post("/{tail:.*}", made._answer)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
