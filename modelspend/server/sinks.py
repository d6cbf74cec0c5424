"""Sinks as the configuration has them: started, and those told of that it names no more.

What a sink was and what waits for it stays in the ledger when its section is taken out or renamed:
by itself nothing of it is deleted. So it is said at each start and reload, until the section is
back or somebody lets the sink go.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from modelspend import tasks
from modelspend.errors import LedgerUnavailable, NotFound
from modelspend.exporters import Sink, left_behind, turned_off
from modelspend.server.asked import Asked
from modelspend.server.keys import LIVE, Live
from modelspend.sinks import section_of
from modelspend.store import Store

log = logging.getLogger("modelspend.sinks")


async def start(live: Live, store: Store, env: Mapping[str, str], made: Sequence[Sink]) -> None:
    """Start them, or go on with these instead of those that run."""
    await live.pump.start(made, turned_off(live.settings, env))
    known = [one.name for one in await store.sinks.rows()]
    live.left_behind = left_behind(known, made, live.settings)
    if live.left_behind:  # beside the start: what waits may take a while to be counted
        tasks.spawn(_warn(live, store, tuple(live.left_behind)), "sinks that were left behind")


async def _warn(live: Live, store: Store, names: Sequence[str]) -> None:
    try:
        standings = await store.sinks.standings(live.gateway.now_ms(), names)
    except LedgerUnavailable:
        return
    for one in standings:
        log.warning(
            "sink %s: nothing asks for it any more; %d wait for it. To go on, put %s back; to let"
            " it go: modelspend sinks forget %s --yes",
            *(one.name, one.queued, section_of(one.name), one.name),
        )


async def forget(request: web.Request) -> Mapping[str, Any]:
    """`DELETE /v1/sinks?name=webhook:ops` → how the sink stood that is let go."""
    live, name = request.app[LIVE], Asked(request, "name").text("name") or ""
    gone = await live.pump.let_go(name)
    if gone is None:
        raise NotFound(f"There is no sink {name}.", "See: modelspend sinks list")
    live.left_behind = [each for each in live.left_behind if each != name]
    return gone.to_json()
