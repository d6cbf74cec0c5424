"""The application: its routes, in one table, and the start and end of its parts.

What is started is stopped in reverse order. The ledger is opened first and closed last: calls that
are cut at the end still leave their receipts.
"""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from random import Random

from aiohttp import web

from modelspend import tasks
from modelspend.catalog.prices import PriceBook
from modelspend.errors import ConfigInvalid, LedgerUnavailable, ModelspendError
from modelspend.exporters import Pump, Sink, sinks_of
from modelspend.gateway.assembly import assemble, reassemble
from modelspend.gateway.models import Models
from modelspend.record import frozen
from modelspend.server import (
    circuits,
    control,
    drills,
    evals,
    events,
    forecast,
    jobs,
    kills,
    metrics,
    models,
    replay,
    reports,
    runs,
    sinks,
    sla,
)
from modelspend.server.chat import served
from modelspend.server.guard import Handler, guard
from modelspend.server.keys import LIVE, RELOAD, STORE, Live
from modelspend.server.supervisor import Supervisor
from modelspend.settings import Loaded
from modelspend.store import Store
from modelspend.store.lock import RunsAs

CALL_ROUTES: tuple[tuple[str, str], ...] = (
    ("/chat/completions", "openai.chat"),
    ("/responses", "openai.responses"),
    ("/messages", "anthropic.messages"),
    ("/messages/count_tokens", "anthropic.count_tokens"),
    ("/embeddings", "openai.embeddings"),
    ("/models/{rest:.+:(?:generateContent|streamGenerateContent)}", "gemini.generate"),
    ("/tunedModels/{rest:.+:(?:generateContent|streamGenerateContent)}", "gemini.generate"),
)
"""The billable routes; every one is served by `chat.carry`, whose gateway has one admission."""

_HURRY_S = 0.1
"""Once the drain limit is over: how long a client may take no byte of its last words."""

CALL_PATHS = tuple(
    (prefix + path, dialect)
    for path, dialect in CALL_ROUTES
    for prefix in (("", "/v1", "/v1beta") if dialect == "gemini.generate" else ("", "/v1"))
)

ROUTES: tuple[tuple[str, str, Handler], ...] = (
    *(("POST", path, served(dialect)) for path, dialect in CALL_PATHS),
    *(("GET", prefix + "/models", models.models) for prefix in ("", "/v1", "/v1beta")),
    *(("GET", prefix + "/models/{model:.+}", models.model) for prefix in ("", "/v1", "/v1beta")),
    ("HEAD", "/", models.head),
    ("GET", "/healthz", control.healthz),
    ("GET", "/readyz", control.readyz),
    ("GET", "/metrics", metrics.metrics),
    ("GET", "/v1/status", control.guarded(control.status)),
    ("GET", "/v1/receipts", control.guarded(control.receipts)),
    ("GET", "/v1/receipts/{receipt_id}", control.guarded(control.receipt)),
    ("POST", "/v1/receipts/{receipt_id}/replay", control.guarded(replay.again)),
    ("POST", "/v1/route", control.guarded(control.route)),
    ("GET", "/v1/reports/forecast", control.guarded(forecast.report)),
    ("GET", "/v1/reports/{name}", control.guarded(reports.report)),
    ("POST", "/v1/forecast/scenario", control.guarded(forecast.post_scenario)),
    ("POST", "/v1/reload", control.guarded(control.reload)),
    ("POST", "/v1/evals/evidence", control.guarded(evals.add_evidence)),
    ("POST", "/v1/evals/results", control.guarded(evals.keep_result)),
    ("GET", "/v1/circuits", control.guarded(circuits.circuits)),
    ("GET", "/v1/incidents", control.guarded(circuits.incidents)),
    ("GET", "/v1/events", events.events),
    ("GET", "/v1/drill", control.guarded(drills.listed)),
    ("POST", "/v1/drill", control.guarded(drills.begin)),
    ("DELETE", "/v1/drill/{drill_id}", control.guarded(drills.end)),
    ("GET", "/v1/sla/failover-audit", control.guarded(sla.failover_audit)),
    ("GET", "/v1/sla/provider-history", control.guarded(sla.provider_history)),
    ("POST", "/v1/kill", control.guarded(kills.kill)),
    ("POST", "/v1/runs", control.guarded(runs.open_run)),
    ("DELETE", "/v1/runs/{run_id}", control.guarded(runs.close_run)),
    ("DELETE", "/v1/sinks", control.guarded(sinks.forget)),
)


def wall_clock() -> int:
    """Milliseconds UTC."""
    return time.time_ns() // 1_000_000


@frozen
class Started:
    """What `build` needs of the world: settings as loaded, where secrets are found, who started
    us and wants to hear of us."""

    loaded: Loaded
    ledger: Path
    env: Mapping[str, str]
    reload: Callable[[], Loaded]
    now_ms: Callable[[], int] = wall_clock
    runs_as: RunsAs = ""
    supervisor: Supervisor = field(default_factory=Supervisor)


async def build(started: Started, store: Store) -> web.Application:
    """The application over an open ledger. Raises ConfigInvalid."""
    settings = started.loaded.settings
    app = web.Application(middlewares=[guard], client_max_size=0)
    for method, path, handler in ROUTES:
        app.router.add_route(method, path, handler)
    await store.calls.recover(started.now_ms())
    prices = PriceBook(
        rows=await store.prices.rows(),
        overrides=await store.prices.overrides(),
        settings=settings,
    )
    app[STORE] = store
    forecast.prepare(app)
    app[LIVE] = await _live(started, store, prices)
    app[metrics.METERS] = metrics.Meters(await store.metering.last())
    await circuits.take_up(app[LIVE], store)
    app[events.FEED] = events.Feed(store)
    drills.keep_ends(app[LIVE], store)
    app[RELOAD] = _reloading(app, started)
    made = sinks_of(settings, started.env, store)
    app.cleanup_ctx.extend((_upstream, _background(prices), _pumping(made, started.env)))
    app.on_shutdown.append(_drain)
    return app


async def _live(started: Started, store: Store, prices: PriceBook) -> Live:
    settings = started.loaded.settings
    random = Random(os.urandom(32))  # names, not secrets: no system call for each
    token_file = started.ledger.with_name("token")
    assembly = await assemble(settings, started.env, store, prices, started.now_ms, random)
    gateway = assembly.gateway
    store.right_of_way.calls = lambda: gateway.in_flight
    return Live(
        settings=settings,
        assembly=assembly,
        models=Models(gateway.attempts.upstream),
        pump=Pump(store, started.now_ms, Random().random),
        config_path=str(started.loaded.path) if started.loaded.path else None,
        token=read_token(token_file),
        token_file=str(token_file),
        ledger=str(started.ledger),
        pid=os.getpid(),
        started_at_ms=started.now_ms(),
    )


def read_token(path: Path) -> str:
    """The local token, made at the first start: 256 random bits in a file for this user alone."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        token = secrets.token_urlsafe(32)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(token + "\n")
        return token


def _reloading(app: web.Application, started: Started) -> Callable[[], Awaitable[list[str]]]:
    """One at a time, and to its end also when whoever asked for it hangs up: half of a reload would
    leave sinks stopped, and settings that nobody has written."""
    turn = asyncio.Lock()

    async def reload() -> list[str] | ModelspendError:
        async with turn:
            try:
                return await _reload(app, started)
            except ModelspendError as refused:  # for who asked, not for the log
                return refused

    async def asked() -> list[str]:
        done = await asyncio.shield(tasks.spawn(reload(), "reload"))
        if isinstance(done, ModelspendError):
            raise done
        return done

    return asked


async def _reload(app: web.Application, started: Started) -> list[str]:
    """Validate the file whole, then swap; whatever raises leaves the old settings in place."""
    loaded = started.reload()
    live, settings = app[LIVE], loaded.settings
    old = live.settings
    if not app[STORE].healthy:  # sinks would be stopped, and could not be begun again
        raise LedgerUnavailable(
            f"The ledger takes no writes ({app[STORE].trouble}), so nothing was reloaded.",
            "Once it does: modelspend reload",
        )
    if settings.server.model_dump(include={"host", "port"}) != old.server.model_dump(
        include={"host", "port"}
    ) or settings.store.model_dump(include={"path", "durability"}) != old.store.model_dump(
        include={"path", "durability"}
    ):
        raise ConfigInvalid(
            "The address or the ledger changed, which takes a restart.",
            "Restart `modelspend serve`.",
        )
    made = sinks_of(settings, started.env, app[STORE])
    live.assembly = await reassemble(live.assembly, settings, started.env)
    live.settings = settings
    await sinks.start(live, app[STORE], started.env, made)
    return list(loaded.notes)


async def _upstream(app: web.Application) -> AsyncIterator[None]:
    async with app[LIVE].gateway.attempts.upstream:
        yield


def _pumping(
    made: Sequence[Sink], env: Mapping[str, str]
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def run(app: web.Application) -> AsyncIterator[None]:
        await sinks.start(app[LIVE], app[STORE], env, made)
        yield
        await app[LIVE].pump.end()

    return run


def _background(prices: PriceBook) -> Callable[[web.Application], AsyncIterator[None]]:
    async def run(app: web.Application) -> AsyncIterator[None]:
        stop = jobs.start(app[LIVE], app[STORE], prices)
        yield
        await stop()
        await tasks.finished()
        await prices.close()

    return run


async def _drain(app: web.Application) -> None:
    """New calls are refused at once; open streams get their time, then an error event."""
    live = app[LIVE]
    live.gateway.draining = True
    app[events.FEED].close()
    live.gateway.attempts.faults.end_all("shutdown")

    def hurry() -> None:
        for watch in tuple(live.writing):
            watch.hurry(_HURRY_S)

    await live.gateway.drained(live.settings.server.drain_s, hurry)
