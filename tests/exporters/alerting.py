"""Alerts to tell of, and channels that tell them from a real ledger."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from modelspend.alarms import FIRED, RESOLVED, Alarm, event_of
from modelspend.events import Event
from modelspend.exporters import Pace, Pump
from modelspend.exporters.channels import Channel
from modelspend.sinks import Standing
from modelspend.store import Store
from tests.exporters.emitting import now_ms, until


def told(kind: str = FIRED, **changes: Any) -> Event:
    """What the ledger tells when an alarm changes."""
    said = {
        "rule": "fallback_rate",
        "scope": "tenant",
        "name": "acme",
        "level": "warn",
        "told": "warn",
        "said": "20 of 40 calls (50%) in an hour were led elsewhere.",
        "value": 0.5,
        "limit": 0.1,
        "see": "failovers --tenant acme",
        "window_ms": 1_795_305_600_000,
        "since_ms": 1_795_305_600_000,
        "seen_ms": 1_795_305_600_000,
    }
    if "level" in changes:
        changes.setdefault("told", changes["level"])
    return event_of(kind, Alarm(**{**said, **changes}), now_ms())


@asynccontextmanager
async def telling(store: Store, *channels: Channel) -> AsyncIterator[Pump]:
    pump = Pump(store, now_ms, lambda: 0.5, Pace(first_s=0.01, most_s=0.05, calm_s=0.0))
    for one in channels:
        one.linger_s = 0.0
    await pump.start(channels)
    try:
        yield pump
    finally:
        await pump.stop()


async def ended(pump: Pump, count: int, at: int = 0) -> Standing:
    """When a channel has sent or dropped so many, and nothing waits."""
    found: list[Standing] = []

    async def so_far() -> bool:
        found[:] = await pump.standings()
        return found[at].sent + found[at].dropped >= count and not found[at].queued

    await until(so_far)
    return found[at]


__all__ = ["FIRED", "RESOLVED", "ended", "telling", "told"]
