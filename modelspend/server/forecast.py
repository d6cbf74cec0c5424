"""`GET /v1/reports/forecast` and `POST /v1/forecast/scenario`: what the command prints as JSON.

Both read all days of a ledger, and a scenario prices weeks of receipts again, so they work in a
thread with a door of their own to the ledger, one at a time: a call under way never waits for them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar, get_args

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelspend import forecast_json, scenario
from modelspend.errors import BadRequest, Usage
from modelspend.exhaustion import of_month
from modelspend.forecast import HORIZONS
from modelspend.gateway.scenario import Scenario
from modelspend.money import from_usd
from modelspend.periods import instant
from modelspend.reports import forecast as reports
from modelspend.reports.exhaustion import exhaustions
from modelspend.reports.table import Asked
from modelspend.server.body import read_body
from modelspend.server.keys import LIVE
from modelspend.settings import Settings, budgets_of
from modelspend.store import Filter, Store
from modelspend.store.daily import Name

T = TypeVar("T")

_NAMES = ("tenant", "workflow", "model", "provider", "category")
_PERIOD = ("since", "until")
_ONE_AT_A_TIME: web.AppKey[asyncio.Lock] = web.AppKey("one forecast at a time", asyncio.Lock)


async def report(request: web.Request) -> object:
    """`?horizon=&by=&budget=` and the filters of the command."""
    asked, now_ms = dict(request.query), request.app[LIVE].gateway.now_ms()
    by, horizon, budget = (asked.pop(name, None) for name in ("by", "horizon", "budget"))
    if by is not None and by not in get_args(Name):
        raise Usage(f"by: {by!r} is none of {', '.join(get_args(Name))}.")
    if horizon is not None and not (horizon.isascii() and horizon.isdigit()):
        raise Usage(f"horizon must be a whole number of days, not {horizon!r}.")
    horizons = HORIZONS if horizon is None else (int(horizon[:9]),)
    where, limit = _filter(asked, now_ms), None
    try:
        limit = None if budget is None else from_usd(budget)
    except ValueError as why:
        raise Usage(f"budget: {why}.") from None
    name: Any = by
    file = budgets_of(request.app[LIVE].settings)
    of_budgets = Asked(now_ms=now_ms, wheres=(where,), budgets=file)

    async def ask(store: Store) -> object:
        try:
            found = await reports.forecast(store, [where], now_ms, horizons, name)
        except ValueError as why:
            raise Usage(f"{why}.", "Write horizon=30.") from None
        said = reports.to_json(found, by)
        gone = None if limit is None else of_month(found.forecast, limit)
        said["budget"] = (
            None if gone is None or limit is None else forecast_json.exhaustion_json(gone, limit)
        )
        budgets = await exhaustions(store, of_budgets)
        said["budgets"] = [forecast_json.outlook_json(each) for each in budgets]
        return {**said, "errors": []}

    return await _apart(request, ask)


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    horizon_days: int = Field(30, ge=1, le=90)
    routing_shift_deep_pct: Decimal = Decimal(0)
    routing_shift_to: str | None = None
    cache_hit_rate_delta: Decimal = Decimal(0)
    usage_growth_pct: Decimal = Decimal(0)
    model_mix: dict[str, dict[str, Decimal]] = {}
    tenant: str | None = None
    workflow: str | None = None
    model: str | None = None
    provider: str | None = None
    category: str | None = None
    since: str | None = None
    until: str | None = None


async def post_scenario(request: web.Request) -> object:
    """A change by its fields → what it saves, by mechanism."""
    live = request.app[LIVE]
    settings, now_ms = live.settings, live.gateway.now_ms()
    try:
        asked = _Asked.model_validate_json(await read_body(request, settings.server))
        change = scenario.Change(
            shift_deep_pct=asked.routing_shift_deep_pct,
            shift_to=asked.routing_shift_to,
            cache_hit_delta=asked.cache_hit_rate_delta,
            growth_pct=asked.usage_growth_pct,
            mix=asked.model_mix,
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise BadRequest(f"{place}: {first['msg']}.", field=place) from None
    except ValueError as why:
        raise BadRequest(f"{why}.") from None
    said = {name: getattr(asked, name) for name in (*_NAMES, *_PERIOD)}
    where = _filter({name: value for name, value in said.items() if value is not None}, now_ms)

    async def ask(store: Store) -> object:
        return await _worked_out(store, settings, change, where, now_ms, asked.horizon_days)

    return await _apart(request, ask)


async def _worked_out(
    store: Store,
    settings: Settings,
    change: scenario.Change,
    where: Filter,
    now_ms: int,
    horizon_days: int,
) -> object:
    filters, days = await reports.recent(store, [where], now_ms, scenario.WINDOW)
    made = await Scenario.of(store, settings, change)
    async for _ in made.run(store, filters):
        pass
    ahead = await reports.horizon_of(store, [where], now_ms, horizon_days)
    return scenario.to_json(change, made.tally, days, horizon_days, ahead)


def _filter(asked: Mapping[str, str], now_ms: int) -> Filter:
    unknown = sorted(asked.keys() - {*_NAMES, *_PERIOD})
    if unknown:
        known = ", ".join((*_NAMES, *_PERIOD, "horizon", "by", "budget"))
        raise Usage(f"Unknown parameter {unknown[0]!r}.", f"Known: {known}.")
    try:
        times = {
            f"{name}_ms": instant(asked[name], now_ms, end=name == "until")
            for name in _PERIOD
            if name in asked
        }
    except ValueError as why:
        raise Usage(f"{why}.") from None
    return Filter(**{name: asked[name] for name in _NAMES if name in asked}, **times)  # type: ignore[arg-type]


async def _apart(request: web.Request, ask: Callable[[Store], Awaitable[T]]) -> T:
    """The answer to a question, asked in a thread of its own."""
    path = Path(request.app[LIVE].ledger)

    async def opened() -> T:
        store = await Store.open_read(path)
        try:
            return await ask(store)
        finally:
            await store.close()

    async with request.app[_ONE_AT_A_TIME]:
        return await asyncio.to_thread(lambda: asyncio.run(opened()))


def prepare(app: web.Application) -> None:
    """What the routes here share."""
    app[_ONE_AT_A_TIME] = asyncio.Lock()
