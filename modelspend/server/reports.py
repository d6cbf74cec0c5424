"""`GET /v1/reports/{name}`: what the command of the same name prints as JSON."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from modelspend import periods
from modelspend.errors import NotFound, Usage
from modelspend.money import from_usd
from modelspend.reports import REPORTS, Asked
from modelspend.reports.table import to_json
from modelspend.server.keys import LIVE, STORE
from modelspend.settings import budgets_of
from modelspend.store import PLACES, Filter

_NAMES = (
    "tenant",
    "workflow",
    "model",
    "provider",
    "category",
    "session",
    "region",
    "tag",
    "failed",
)
_OTHERS = ("status", "min-cost", "min-latency", "since", "until", "by", "limit")
_FLAGS = {"unpriced": ("unpriced", True), "priced": ("unpriced", False)} | {
    "hopped": ("hopped", True),
    "not-hopped": ("hopped", False),
}
_MOST_ROWS = 10_000


async def report(request: web.Request) -> object:
    """A report by its name; the parameters are the options of its command."""
    asked, named = dict(request.query), request.match_info["name"]
    ask = dict(REPORTS).get(named)
    if ask is None:
        raise NotFound(
            f"There is no report {named!r}.", f"Reports: {', '.join(name for name, _ in REPORTS)}."
        )
    live = request.app[LIVE]
    now_ms = live.gateway.now_ms()
    by, limit = asked.pop("by", None), asked.pop("limit", "50")
    if not limit.isdecimal() or not 0 < int(limit[:9]) <= _MOST_ROWS:
        raise Usage(f"limit must be 1 to {_MOST_ROWS}, not {limit!r}.", "Write limit=50.")
    question = Asked(
        now_ms=now_ms,
        wheres=(filter_of(asked, now_ms),),
        by=by,
        limit=int(limit[:9]),
        budgets=budgets_of(live.settings),
        limits=live.settings.alerts,
    )
    return to_json(await ask(request.app[STORE], question))


def filter_of(asked: Mapping[str, str], now_ms: int) -> Filter:
    """The filter that query parameters say, in the words of the commands' options. Raises Usage."""
    unknown = sorted(asked.keys() - {*_NAMES, *_OTHERS, *_FLAGS})
    if unknown:
        known = ", ".join((*_NAMES, *_OTHERS, *_FLAGS))
        raise Usage(f"Unknown parameter {unknown[0]!r}.", f"Known: {known}.")
    said: dict[str, Any] = {name: asked[name] for name in _NAMES if name in asked}
    place, equals, _ = said.get("failed", "any").partition("=")
    if place not in ("any", *PLACES) or bool(equals) == (place == "any"):
        raise Usage(
            f"failed cannot be {asked['failed']!r}.", "Write failed=any, or failed=model=NAME."
        )
    said |= {field: value for name, (field, value) in _FLAGS.items() if name in asked}
    try:
        if "status" in asked:
            said["status"] = tuple(filter(None, asked["status"].split(",")))
        if "min-cost" in asked:
            said["min_cost_pico"] = from_usd(asked["min-cost"])
        if "min-latency" in asked:
            said["min_latency_ms"] = float(asked["min-latency"])
        for name in ("since", "until"):
            if name in asked:
                said[f"{name}_ms"] = periods.instant(asked[name], now_ms, end=name == "until")
    except ValueError as error:
        raise Usage(f"{error}.") from None
    return Filter(**said)
