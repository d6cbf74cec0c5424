"""`/v1/drill`: put a fault in front of a provider for a while, see what is on, take it away."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelspend.drills import CUT_AT, LONGEST_S, Drill, Fault, Kind
from modelspend.errors import BadRequest, DrillUnderWay, NotFound
from modelspend.events import Event
from modelspend.ids import drill_id
from modelspend.server.body import read_body
from modelspend.server.keys import LIVE, STORE, Live
from modelspend.store import Store


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    fault: Kind
    provider: str = Field(min_length=1, max_length=256)
    for_s: float = Field(60, gt=0, le=LONGEST_S)
    at: int | None = Field(None, ge=0, le=100_000)
    delay_s: float | None = Field(None, gt=0, le=LONGEST_S)
    retry_after_s: int = Field(2, ge=1, le=LONGEST_S)
    period_s: float = Field(5, gt=0, le=LONGEST_S)


async def begin(request: web.Request) -> Mapping[str, Any]:
    """`{"fault", "provider", "for_s"?, "at"?, "delay_s"?, "retry_after_s"?, "period_s"?}`."""
    live, store = request.app[LIVE], request.app[STORE]
    try:
        asked = _Asked.model_validate_json(await read_body(request, live.settings.server))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise BadRequest(f"{place}: {first['msg']}.", field=place) from None
    faults = live.gateway.attempts.faults
    _check(asked.provider, live)
    now_ms = live.gateway.now_ms()
    drill = Drill(
        drill_id=drill_id(now_ms, live.gateway.random(10)),
        provider=asked.provider,
        fault=_fault(asked, live),
        started_at_ms=now_ms,
        until_ms=now_ms + round(asked.for_s * 1000),
    )
    faults.begin(drill)
    store.events.tell(Event(kind="drill.started", at_ms=now_ms, level="warn", data=drill.to_json()))
    return drill.to_json()


async def listed(request: web.Request) -> Mapping[str, Any]:
    """What is on now."""
    return {"items": [drill.to_json() for drill in request.app[LIVE].gateway.attempts.faults]}


async def end(request: web.Request) -> Mapping[str, Any]:
    named = request.match_info["drill_id"]
    if not request.app[LIVE].gateway.attempts.faults.end(named, "stopped"):
        raise NotFound(f"The drill {named} is not on.")
    return {"drill_id": named, "ended": True}


def keep_ends(live: Live, store: Store) -> None:
    """Write down how each drill ends."""

    def tell(drill: Drill, why: str, met: int) -> None:
        data = {
            "drill_id": drill.drill_id,
            "fault": drill.fault.kind,
            "provider": drill.provider,
            "why": why,
            "attempts": met,
        }
        store.events.tell(Event(kind="drill.ended", at_ms=live.gateway.now_ms(), data=data))

    live.gateway.attempts.faults.listeners.append(tell)


def _check(provider: str, live: Live) -> None:
    known = live.catalog.providers
    if provider not in known:
        raise NotFound(
            f"There is no provider {provider!r} here.", f"Providers: {', '.join(sorted(known))}."
        )
    fault = live.gateway.attempts.faults.name(provider)
    if fault is not None:
        raise DrillUnderWay(
            f"A drill ({fault}) stands in front of {provider} already.",
            "Wait for its end, or end it: interrupt the command that began it.",
        )


def _fault(asked: _Asked, live: Live) -> Fault:
    """What was left out is such that the fault can be noticed."""
    at = asked.at if asked.at is not None else CUT_AT if asked.fault == "cut" else 0
    delay_s = asked.delay_s or live.settings.circuits.slow_s + 1
    return Fault(
        kind=asked.fault,
        at=at,
        delay_s=delay_s,
        retry_after_s=asked.retry_after_s,
        period_s=asked.period_s,
    )
