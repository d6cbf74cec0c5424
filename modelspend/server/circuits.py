"""`GET /v1/circuits` and `/v1/incidents`; how circuits meet the ledger: taken up, kept, ordered."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any

from aiohttp import web

from modelspend.circuits import Transition
from modelspend.server.asked import Asked
from modelspend.server.keys import LIVE, STORE, Live
from modelspend.store import Store


async def circuits(request: web.Request) -> Mapping[str, Any]:
    """Every circuit of this process as it stands: `?provider=&state=`."""
    live = request.app[LIVE]
    asked = Asked(request, "provider", "state")
    provider, state = asked.text("provider"), asked.text("state")
    now_ms, faults = live.gateway.now_ms(), live.gateway.attempts.faults
    return {
        "items": [
            view.to_json(now_ms) | {"drill": faults.name(view.circuit.provider)}
            for view in live.circuits.views(perf_counter())
            if provider in (None, view.circuit.provider) and state in (None, view.phase)
        ]
    }


async def incidents(request: web.Request) -> Mapping[str, Any]:
    """Newest first: `?provider=&status=open&since=&until=&limit=`."""
    now_ms = request.app[LIVE].gateway.now_ms()
    asked = Asked(request, "provider", "status", "since", "until", "limit")
    found = await request.app[STORE].incidents.list(
        unresolved=asked.one_of("status", ("open", "all")) == "open",
        provider=asked.text("provider"),
        since_ms=asked.instant("since", now_ms),
        until_ms=asked.instant("until", now_ms),
        limit=asked.limit(),
    )
    return {"items": [one.to_json(now_ms) for one in found]}


async def take_up(live: Live, store: Store) -> None:
    """Go on where the last process was, and keep every move from here on."""

    def keep(transition: Transition) -> None:
        drill = live.gateway.attempts.faults.name(transition.circuit.provider)
        store.circuits.moved(transition, live.gateway.now_ms(), drill)

    live.circuits.listeners.append(keep)
    live.circuits.restore(await store.circuits.saved(), perf_counter(), live.gateway.now_ms())
    await obey_orders(live, store)


async def obey_orders(live: Live, store: Store) -> None:
    """Do what commands have written down; an order is taken away once it is done."""
    orders = await store.circuits.orders()
    for order in orders:
        live.circuits.obey(order, perf_counter(), live.gateway.now_ms())
    if orders:
        await store.circuits.obeyed([order.order_id for order in orders])
