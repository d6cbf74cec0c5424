"""One running sidecar: the ledger's lock, the socket, the signals.

SIGTERM and SIGINT drain; a second one ends the open streams at once. SIGHUP reloads. The address
is written beside the lock as soon as it is known, so that commands find us.
"""

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from modelspend import tasks
from modelspend.errors import ConfigInvalid, ModelspendError
from modelspend.server.app import CALL_PATHS, Started, build
from modelspend.server.hearing import Hearing
from modelspend.server.keys import LIVE, RELOAD, Live
from modelspend.server.lane import Lanes
from modelspend.server.supervisor import Supervisor, check_sockets
from modelspend.settings import Settings
from modelspend.store import Store

log = logging.getLogger("modelspend")

_http_log = logging.getLogger("modelspend.http")

_BACKLOG = 4096
_LINE_LIMIT = 16 * 1024
_KEEP_ALIVE_S = 75
_MOST_DESCRIPTORS = 65_536
_LINGER_S = 1.0  # for the rest of a body that is refused; aiohttp's own ten suit who drips it in


def _without_quotes(record: logging.LogRecord) -> bool:
    """What aiohttp cannot read it quotes in its error: a key or a prompt may stand there."""
    if record.exc_info and record.exc_info[0]:
        record.msg, record.args = "%s: %s", (record.getMessage(), record.exc_info[0].__name__)
        record.exc_info = record.exc_text = None
    return True


_http_log.addFilter(_without_quotes)


async def run(started: Started, ready: Callable[[str], None]) -> None:
    """Serve until a signal says stop; `ready` gets the URL once calls are taken."""
    stop, supervisor = asyncio.Event(), started.supervisor
    _allow_many_connections()
    with supervisor.watched():
        async with serving(started) as app:
            live = app[LIVE]
            _listen_to_signals(app, stop, supervisor)
            _calm_the_collector()
            ready(live.url)
            supervisor.tell("READY=1", f"STATUS=Serving at {live.url}")
            log.info("serving at %s", live.url)
            await stop.wait()
            count, limit_s = live.gateway.in_flight, live.settings.server.drain_s
            supervisor.stopping(count, limit_s)
            log.info("stopping: %d calls under way get up to %g s", count, limit_s)
    log.info("stopped")


@asynccontextmanager
async def serving(started: Started) -> AsyncIterator[web.Application]:
    """A sidecar that takes calls while the block runs, and drains at its end.

    Raises LedgerHeld, LedgerCorrupt or ConfigInvalid before anything is served.
    """
    settings = started.loaded.settings
    store = await Store.open(started.ledger, durability=settings.store.durability)
    try:
        app = await build(started, store)
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=_http_log,
            handler_cancellation=True,
            keepalive_timeout=_KEEP_ALIVE_S,
            max_line_size=_LINE_LIMIT,
            max_field_size=_LINE_LIMIT,
            auto_decompress=False,
            shutdown_timeout=2.0,
            lingering_time=_LINGER_S,
        )
        lanes = Lanes(app[LIVE], CALL_PATHS, _KEEP_ALIVE_S)
        app.on_shutdown.append(lambda _: lanes.close())
        await runner.setup()
        lanes.other = runner.server
        assert runner.server is not None
        hearing = Hearing(runner.server, settings.server.header_timeout_s)
        hearing.start()
        listening: list[asyncio.Server] = []
        try:
            listening = await _listen(lanes, settings, started.supervisor.sockets)
            app[LIVE].url = _url(listening[0])
            store.lock.update(url=app[LIVE].url, runs_as=started.runs_as)
            yield app
        finally:
            for each in listening:
                each.close()
            if listening:
                lanes.retire()
            hearing.stop()
            await runner.cleanup()
    finally:
        await store.close()


def live_of(app: web.Application) -> Live:
    """What a running sidecar knows of itself; for whoever started it in this process."""
    return app[LIVE]


async def _listen(
    lanes: Lanes, settings: Settings, given: Sequence[socket.socket]
) -> list[asyncio.Server]:
    """At the address of the settings, or at the sockets that a service manager holds open."""
    loop, server = asyncio.get_running_loop(), settings.server
    host = server.host.strip("[]")
    if given:
        check_sockets(given, settings)
        return [await loop.create_server(lanes.lane, sock=each, backlog=_BACKLOG) for each in given]
    try:
        return [
            await loop.create_server(
                lanes.lane, host, server.port, backlog=_BACKLOG, reuse_address=True
            )
        ]
    except OSError as error:
        raise ConfigInvalid(
            f"Port {server.port} on {host} cannot be listened on:"
            f" {error.strerror or 'it is taken'}.",
            "Choose another with --port (0 takes any free one); `modelspend status` shows a"
            " sidecar that runs already.",
        ) from None


def _url(listening: asyncio.Server) -> str:
    name, bound = listening.sockets[0].getsockname()[:2]
    return f"http://[{name}]:{bound}" if ":" in name else f"http://{name}:{bound}"


def _allow_many_connections() -> None:
    """As many descriptors as we may have: a shell gives a thousand, and each call takes two."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _calm_the_collector() -> None:
    """What is loaded is not garbage, and a call leaves no cycles: look rarely.

    With the defaults the collector takes about an eighth of the CPU of a call.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()


def _listen_to_signals(app: web.Application, stop: asyncio.Event, supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()

    def told_to_stop() -> None:
        if stop.is_set():
            app[LIVE].gateway.stop_now()
        stop.set()

    async def reload() -> None:
        supervisor.reloading()
        try:
            notes = await app[RELOAD]()
            log.warning("configuration reloaded%s", "".join(f"; {note}" for note in notes))
        except ModelspendError as error:
            log.error("configuration not reloaded, the old one stays: %s", error.text)
        finally:
            supervisor.tell("READY=1")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: tasks.spawn(reload(), "reload"))
