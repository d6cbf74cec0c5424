"""`GET /v1/sla/failover-audit` and `/v1/sla/provider-history`: what an operator can prove later."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from modelspend.health import MINUTE_MS, history
from modelspend.receipt_json import iso
from modelspend.server.asked import Asked
from modelspend.server.keys import LIVE, STORE

_DAY_MS = 86_400_000
_HOUR_S = 3600
_MOST_WINDOWS = 1500


async def failover_audit(request: web.Request) -> Mapping[str, Any]:
    """One item for each hop, newest first: `?tenant=&provider=&since=&until=&after=&limit=`.

    `after` is the `seq` of an item; what follows it comes oldest first.
    """
    now_ms = request.app[LIVE].gateway.now_ms()
    asked = Asked(request, "tenant", "provider", "since", "until", "after", "limit")
    found = await request.app[STORE].failovers.list(
        tenant=asked.text("tenant"),
        provider=asked.text("provider"),
        since_ms=asked.instant("since", now_ms),
        until_ms=asked.instant("until", now_ms),
        after=asked.number("after"),
        limit=asked.limit(),
    )
    return {"items": [one.to_json() for one in found]}


async def provider_history(request: web.Request) -> Mapping[str, Any]:
    """Availability, percentiles and failures of each model, for each window of a time.

    `?provider=&model=&since=24h&until=&window_s=3600`; windows are whole minutes.
    """
    now_ms = request.app[LIVE].gateway.now_ms()
    asked = Asked(request, "provider", "model", "since", "until", "window_s")
    since_ms = asked.instant("since", now_ms)
    since_ms = now_ms - _DAY_MS if since_ms is None else since_ms
    until_ms = asked.instant("until", now_ms)
    until_ms = now_ms + MINUTE_MS if until_ms is None else until_ms
    window_s = asked.number("window_s")
    window_ms = max((_HOUR_S if window_s is None else window_s) * 1000, MINUTE_MS)
    window_ms = max(window_ms, (until_ms - since_ms) // _MOST_WINDOWS)
    window_ms = window_ms // MINUTE_MS * MINUTE_MS
    samples = await request.app[STORE].health.samples(
        since_ms, until_ms, provider=asked.text("provider"), model=asked.text("model")
    )
    return {
        "since": iso(since_ms),
        "until": iso(min(until_ms, now_ms)),
        "window_s": window_ms // 1000,
        "items": history(samples, window_ms),
    }
