"""The control plane: what the operator's tools ask of a running sidecar."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from modelspend import __version__
from modelspend.dialects import jsonbody
from modelspend.errors import ReceiptNotFound, Usage
from modelspend.gateway import dryrun
from modelspend.money import dumps
from modelspend.receipt_json import to_json
from modelspend.server.body import read_body
from modelspend.server.guard import Handler, require_token
from modelspend.server.keys import LIVE, RELOAD, STORE
from modelspend.store import Filter, Stored

_MOST_RECEIPTS = 1000


def guarded(handler: Callable[[web.Request], Awaitable[object]]) -> Handler:
    """A handler that needs the local token and whose value is sent as JSON."""

    async def handle(request: web.Request) -> web.StreamResponse:
        require_token(request)
        return _json(await handler(request))

    return handle


async def healthz(request: web.Request) -> web.StreamResponse:
    """Alive. Tells nothing else, needs no token."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.StreamResponse:
    """200 when calls are taken: the ledger can be written and we are not stopping."""
    live = request.app[LIVE]
    ready = request.app[STORE].healthy and not live.gateway.draining
    return web.Response(status=200 if ready else 503, text="ready\n" if ready else "not ready\n")


async def status(request: web.Request) -> object:
    live = request.app[LIVE]
    gateway = live.gateway
    now_ms = gateway.now_ms()
    return {
        "url": live.url,
        "pid": live.pid,
        "version": __version__,
        "config": live.config_path,
        "ledger": live.ledger,
        "token_file": live.token_file,
        "mode": live.settings.routing.mode,
        "uptime_s": round((now_ms - live.started_at_ms) / 1000, 3),
        "in_flight": gateway.in_flight,
        "draining": gateway.draining,
        "ledger_healthy": request.app[STORE].healthy,
        "providers": sorted(live.catalog.providers),
        "rejected": live.rejected,
        "drills": [drill.to_json() for drill in gateway.attempts.faults],
        "sinks": [one.to_json() for one in await live.pump.standings()],
        "sinks_left_behind": live.left_behind,
    }


async def route(request: web.Request) -> object:
    """A decision without a call; see `gateway.dryrun`."""
    live = request.app[LIVE]
    said = await _object(request)
    gateway = live.gateway
    return await dryrun.decide(said, gateway.router, gateway.fingerprint, gateway.now_ms())


async def _object(request: web.Request) -> Mapping[str, Any]:
    body = await read_body(request, request.app[LIVE].settings.server)
    return jsonbody.decode(body)


async def receipts(request: web.Request) -> object:
    """`GET /v1/receipts?tenant=&model=&status=&limit=&after=`: newest first, after a `seq`."""
    asked = dict(request.query)
    limit = min(_whole_number(asked.pop("limit", "50"), "limit"), _MOST_RECEIPTS)
    after = asked.pop("after", None)
    wanted = _filter(asked)
    store = request.app[STORE].receipts
    if after is None:
        found = await store.list(wanted, limit=limit)
    else:
        found = await store.after(_whole_number(after, "after"), wanted, limit=limit)
    return [_shape(one) for one in found]


def _filter(asked: Mapping[str, str]) -> Filter:
    known = ("tenant", "workflow", "model", "provider", "category", "session")
    unknown = sorted(asked.keys() - {*known, "status"})
    if unknown:
        raise Usage(f"Unknown filter {unknown[0]!r}.", f"Known: status, {', '.join(known)}.")
    return Filter(
        tenant=asked.get("tenant"),
        workflow=asked.get("workflow"),
        model=asked.get("model"),
        provider=asked.get("provider"),
        category=asked.get("category"),
        session=asked.get("session"),
        status=tuple(filter(None, asked.get("status", "").split(","))),
    )


def _shape(one: Stored) -> dict[str, Any]:
    shape = to_json(one.receipt)
    shape["request"]["body_kept"] = one.body_kept
    return {**shape, "seq": one.seq}


async def receipt(request: web.Request) -> object:
    wanted = request.match_info["receipt_id"]
    found = await request.app[STORE].receipts.get(wanted)
    if found is None:
        raise ReceiptNotFound(f"No receipt {wanted}.", "See `modelspend receipts list`.")
    return _shape(found)


async def reload(request: web.Request) -> object:
    """Read the configuration again; a bad one is refused and the old one stays."""
    return {"reloaded": True, "notes": await request.app[RELOAD]()}


def _whole_number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise Usage(f"{name} must be a whole number, not {text!r}.", f"Write {name}=50.")
    return int(text)


def _json(value: object) -> web.Response:
    return web.Response(body=dumps(value), content_type="application/json")
