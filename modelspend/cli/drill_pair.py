"""A drill's own world, for when no sidecar runs: two providers, a sidecar, apps that call it.

All in one thread of this process, on real sockets, with a ledger in a folder that is gone
afterwards. Circuits, retries and limits towards providers are those of the user's configuration,
so the times that are reported are the ones to expect. The apps count for themselves what they saw.
"""

import asyncio
import json
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelspend import tasks
from modelspend.cli import demo_place
from modelspend.cli.client import Daemon, find
from modelspend.cli.context import Here

if TYPE_CHECKING:
    from modelspend.settings import Settings

_EVERY_S = 0.2
_MOST = 256
_WARM = 8
_PRICE = {"input": 1, "output": 4}
_DEARER = {"input": 1.5, "output": 6}
_BEHAVIOUR = "chunks-24+delay-40+drip-4"
_DIALECTS = ["openai.chat"]


@dataclass(slots=True)
class Call:
    """One call as its app saw it."""

    began_ms: int
    well: bool | None = None
    status: int | None = None


class Pair:
    """`provider` is the first choice, `other` the one that stands by."""

    def __init__(self, here: Here, provider: str, folder: Path) -> None:
        self.provider = provider
        self.other = "backup" if provider != "backup" else "primary"
        self.place = demo_place.Place(folder, 0, kept=False)
        self.calls: list[Call] = []
        self._here = here
        self._ready: Future[None] = Future()
        self._thread = Thread(target=self._run, name="drill", daemon=True)

    def start(self) -> None:
        """Raises what starting a sidecar raises."""
        self._thread.start()
        self._ready.result()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    @property
    def daemon(self) -> Daemon:
        return find(self.place.ledger)

    async def warm(self) -> None:
        """Until some calls went well, which the drill can be compared with."""
        while sum(call.well is True for call in self.calls) < _WARM:  # noqa: ASYNC110  # they are in another thread
            await asyncio.sleep(_EVERY_S)

    def tally(self, told: Mapping[str, Any]) -> dict[str, int]:
        """What the apps counted, of the calls that began in the drill; `open` have no end yet."""
        from modelspend.receipt_json import from_iso

        drill = told["drill"]
        start, end = from_iso(drill["started_at"]), from_iso(drill["ended_at"])
        mine = [call for call in self.calls if start <= call.began_ms < end]
        return {
            "calls": len(mine),
            "succeeded": sum(call.well is True for call in mine),
            "failed": sum(call.well is False for call in mine),
            "open": sum(call.well is None for call in mine),
        }

    def _run(self) -> None:
        import uvloop

        try:
            uvloop.run(self._play())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _play(self) -> None:
        from modelspend.simulator import Simulator

        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        rules = _rules(self._here.load().settings)
        async with Simulator(seed=1, keep=0) as first, Simulator(seed=2, keep=0) as second:
            providers = {
                self.provider: _provider(first.url, _PRICE),
                self.other: _provider(second.url, _DEARER),
            }
            models = [f"{name}/drill" for name in providers]
            tiers = dict.fromkeys(("simple", "standard", "deep_reasoning"), models)
            sections = {**rules, "profiles": {"drill": tiers}}
            async with demo_place.sidecar(
                self.place, providers, self._here.now_ms, sections
            ) as side:
                apps = _Apps(side.url, self._here, self.calls)
                sending = tasks.spawn(apps.go_on(), "drill apps")
                self._ready.set_result(None)
                await self._over.wait()
                sending.cancel()
                with suppress(asyncio.CancelledError):
                    await sending
                await apps.leave()


@contextmanager
def played(here: Here, provider: str) -> Iterator[tuple[Pair, Path]]:
    """The pair and its ledger while the block lasts."""
    with tempfile.TemporaryDirectory(prefix="modelspend-drill-") as folder:
        pair = Pair(here, provider, Path(folder))
        pair.start()
        try:
            yield pair, pair.place.ledger
        finally:
            pair.stop()


def _rules(settings: "Settings") -> dict[str, Any]:
    """What decides how a failure goes, from the user's own configuration."""
    return {
        "circuits": settings.circuits.model_dump(),
        "retries": settings.retries.model_dump(),
        "upstream": settings.upstream.model_dump(),
        "server": {"drain_s": 0},
    }


def _provider(url: str, price: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "base_url": f"{url}/v1",
        "dialects": _DIALECTS,
        "models": ["drill"],
        "price": dict(price),
    }


@dataclass(slots=True)
class _Apps:
    """Calls at a steady pace, whole ones and streams by turns, each on a connection of its own."""

    url: str
    here: Here
    calls: list[Call]
    _open: "set[asyncio.Task[None]]" = field(default_factory=set)

    async def go_on(self) -> None:
        for turn in count():
            if len(self._open) < _MOST:
                call = Call(self.here.now_ms())
                self.calls.append(call)
                task = tasks.spawn(self._send(call, stream=turn % 2 == 0), "drill call")
                self._open.add(task)
                task.add_done_callback(self._open.discard)
            await asyncio.sleep(_EVERY_S)

    async def leave(self) -> None:
        """Hang up whatever is still open."""
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _send(self, call: Call, *, stream: bool) -> None:
        """One call on bare sockets: hundreds may wait at once when a provider is slow."""
        address = urlsplit(self.url)
        body = json.dumps(
            {
                "model": "auto:drill",
                "stream": stream,
                "messages": [{"role": "user", "content": "How does a sidecar fail over?"}],
            }
        )
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"X-Sim-Behave: {_BEHAVIOUR}\r\nConnection: close\r\n\r\n"
        )
        try:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            try:
                writer.write((head + body).encode())
                answer = await reader.read()
            finally:
                writer.transport.abort()
        except OSError:
            answer = b""
        call.status = int(answer[9:12]) if answer[9:12].isdigit() else None
        end = b"data: [DONE]\n\n\r\n0\r\n\r\n" if stream else b"}"
        call.well = call.status == 200 and answer.endswith(end)
