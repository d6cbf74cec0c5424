"""Puts receipts and events into a ledger, and counts them without the code that is under test."""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

from modelspend.events import Event
from modelspend.store import Store
from tests.store.synthetic import Traffic


async def emit(store: Store, traffic: Traffic, receipts: int, events: int, kind: str = "x") -> None:
    """Durable when this returns; both in turn, so that their numbers mix."""
    for n in range(max(receipts, events)):
        if n < events:
            store.events.tell(Event(kind=kind, at_ms=now_ms(), data={"n": n}))
        if n < receipts:
            await store.calls.finish(traffic.receipt())
    await store.circuits.obeyed([])


def emitted(ledger: Path, after: int = 0, kind: str = "%", receipts: bool = True) -> int:
    """How many rows there are behind a number, as somebody else counts them."""
    with closing(sqlite3.connect(ledger)) as conn:
        (events,) = conn.execute(
            "SELECT count(*) FROM events WHERE seq > ? AND kind LIKE ?", (after, kind)
        ).fetchone()
        (calls,) = conn.execute("SELECT count(*) FROM receipts WHERE seq > ?", (after,)).fetchone()
    return int(events) + (int(calls) if receipts else 0)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def until(true: Callable[[], Awaitable[bool]], limit_s: float = 20.0) -> None:
    """Look again after each turn of the loop and a moment, until it is so."""
    async with asyncio.timeout(limit_s):
        while not await true():
            await asyncio.sleep(0.01)
