"""The simulator as a server: real sockets, one request at a time told to the log.

`async with Simulator(seed=1) as sim:` listens on a free loopback port at `sim.url`. Handlers are
cancelled when their client leaves, which is how the log knows when a gateway closed its side.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Self

import orjson
from aiohttp import web

from modelspend.money import Price
from modelspend.record import frozen
from modelspend.simulator import vendors
from modelspend.simulator.exchange import Exchange, Seen
from modelspend.simulator.log import Log
from modelspend.simulator.provider import Provider
from modelspend.simulator.routes import Route, route_of
from modelspend.simulator.wire import Broken, Wire

REPLAY_HEADER = "x-sim-replay"
"""A request that carries it is answered with the recorded exchange of that key."""

_MAX_BODY = 2**30
_MAX_HEADER = 256 * 1024


@frozen(kw_only=True)
class Recorded:
    """An answer to be given verbatim: to the request that names its `key`, or in order."""

    status: int = 200
    content_type: str = "application/json"
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None


class Simulator:
    """A provider in a box. `log` and `requests` hold the last `keep` entries."""

    def __init__(
        self,
        *,
        seed: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        latency_ms: float = 0,
        log: Path | None = None,
        sync: bool = False,
        keep: int = 10_000,
        prices: Mapping[str, Price] | None = None,
    ) -> None:
        self.requests: deque[Seen] = deque(maxlen=keep)
        self._host, self._port = host, port
        self._seed = seed
        self._prices = prices or {}
        self._log_to = (log, sync, keep)
        self._provider = Provider(seed, latency_ms)
        self._count = 0
        self._open = 0
        self._recorded: deque[Recorded] = deque()
        self._by_key: dict[str, Recorded] = {}
        self._chunk: int | None = None

    async def __aenter__(self) -> Self:
        path, sync, keep = self._log_to
        self._log = Log(path, sync=sync, keep=keep)
        self._closing = asyncio.Event()
        self._news = asyncio.Event()
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{tail:.*}", self._serve)
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=1,
            max_line_size=_MAX_HEADER,
            max_field_size=_MAX_HEADER,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=1024)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        await self._runner.cleanup()
        self._log.close()

    @property
    def url(self) -> str:
        """The base URL, without a path."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log's lines so far: `accepted` and `ended`, in the order in which they happened."""
        return list(self._log.lines)

    def ended(self, n: int | None = None) -> list[dict[str, Any]]:
        """The `ended` lines, or those of one request."""
        lines = (line for line in self._log.lines if line["event"] == "ended")
        return [line for line in lines if n is None or line["n"] == n]

    async def quiet(self) -> None:
        """Wait until no request is under way, so that the log is whole."""
        await self.until(lambda: not self._open)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is true that only a further line of the log can make true."""
        while not reached():
            await self._news.wait()

    def replay(self, recorded: Iterable[Recorded], *, chunk: int | None = None) -> None:
        """From now on answer with these, verbatim, in writes of `chunk` bytes (or in one).

        One with a key waits for the request that names it; the others are given in order.
        """
        self._chunk = chunk
        for one in recorded:
            if one.key is None:
                self._recorded.append(one)
            else:
                self._by_key[one.key] = one

    async def _serve(self, http: web.Request) -> web.StreamResponse:
        body = await http.read()
        exchange, route = self._accept(http, body)
        try:
            return await self._respond(route, exchange, http)
        except Broken:
            exchange.outcome = exchange.outcome or "cut"
            return web.Response()
        except ConnectionError:
            return web.Response()
        finally:
            self._end(exchange)

    def _accept(self, http: web.Request, body: bytes) -> tuple[Exchange, Route | None]:
        route = route_of(http.method, http.path)
        n = self._count
        self._count += 1
        seen = Seen(
            n=n,
            method=http.method,
            path=http.path,
            query=http.query,
            headers=http.headers,
            body=body,
            dialect=route.dialect if route else None,
            model=(route.model if route else None) or _model_in(body),
        )
        request_id = vendors.request_id(self._seed, n)
        self.requests.append(seen)
        self._open += 1
        self._tell(seen.accepted(request_id))
        wire = Wire(http, self._closing)
        return Exchange(seen=seen, request_id=request_id, wire=wire), route

    async def _respond(
        self, route: Route | None, exchange: Exchange, http: web.Request
    ) -> web.StreamResponse:
        key = http.headers.get(REPLAY_HEADER)
        if key is not None and key in self._by_key:
            return await self._play(self._by_key[key], exchange)
        if self._recorded and http.method == "POST":
            return await self._play(self._recorded.popleft(), exchange)
        return await self._provider.answer(route, exchange)

    async def _play(self, recorded: Recorded, exchange: Exchange) -> web.StreamResponse:
        exchange.status = recorded.status
        size = self._chunk or len(recorded.body) or 1
        body = recorded.body
        pieces = (body[at : at + size] for at in range(0, len(body), size))
        head = {"Content-Type": recorded.content_type, **recorded.headers}
        streamed = "event-stream" in recorded.content_type
        length = None if streamed else len(body)
        response = await exchange.wire.answer(recorded.status, head.items(), pieces, length=length)
        exchange.outcome = "complete" if recorded.status < 400 else "error"
        await response.write_eof()
        return response

    def _end(self, exchange: Exchange) -> None:
        """Write the last line; whoever was not done by now was left by the client, or by us."""
        if exchange.outcome is None:
            exchange.outcome = "cut" if self._closing.is_set() else "aborted_by_client"
        self._open -= 1
        self._tell(exchange.ended(self._prices))

    def _tell(self, line: dict[str, Any]) -> None:
        self._log.add(line)
        self._news.set()
        self._news = asyncio.Event()


def _model_in(body: bytes) -> str | None:
    try:
        model = orjson.loads(body).get("model")
    except (orjson.JSONDecodeError, AttributeError):
        return None
    return model if isinstance(model, str) else None
