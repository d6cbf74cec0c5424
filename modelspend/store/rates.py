"""How much passes just now: calls, their ends, times and cost in a short time up to this moment.

For a view that is drawn anew every second, so every question walks the index over time, and only
over the newest receipts. A call counts when it ends: a receipt is dated by its beginning, which for
a long stream was some time ago.
"""

import sqlite3
from dataclasses import dataclass, field
from typing import NamedTuple

from modelspend.store.readers import Readers
from modelspend.store.sums import sum_of, whole

_LONGEST_MS = 600_000
"""Calls that took longer are counted as if they had begun later."""


@dataclass(slots=True)
class Pace:
    """What ended in a time. Latencies are milliseconds of what ended well; `ends` are the instants
    (milliseconds UTC) of all."""

    calls: int = 0
    failed: int = 0
    unpriced: int = 0
    cost_pico: int = 0
    by_status: dict[str, int] = field(default_factory=dict)
    latency: list[int] = field(default_factory=list)
    ttft: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


class Spent(NamedTuple):
    calls: int
    unpriced: int
    cost_pico: int


class Holding(NamedTuple):
    """Calls that are open, and the most that they may cost by what they hold."""

    calls: int
    held_pico: int


class Rates:
    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def providers(self, since_ms: int) -> list[tuple[str, int]]:
        """(provider, attempts) since then, the most asked first."""

        def ask(conn: sqlite3.Connection) -> list[tuple[str, int]]:
            rows = conn.execute(
                "SELECT a.provider, count(*) FROM receipts r JOIN attempts a ON a.seq = r.seq"
                " WHERE r.created_at >= ? GROUP BY 1 ORDER BY 2 DESC, 1",
                (since_ms,),
            )
            return [(provider, count) for provider, count in rows]

        return await self._readers.ask(ask)

    async def pace(self, since_ms: int) -> tuple[Pace, dict[str, Pace]]:
        """(all calls that ended since then, the attempts of those calls by provider)."""

        def ask(conn: sqlite3.Connection) -> tuple[Pace, dict[str, Pace]]:
            values = (since_ms - _LONGEST_MS, since_ms)
            every, of = Pace(), dict[str, Pace]()
            for end, status, cost, latency, ttft in conn.execute(f"{_CALLS} {_ENDED}", values):
                every.ends.append(end)
                every.by_status[status] = every.by_status.get(status, 0) + 1
                _add(every, status not in _WELL, cost, latency, ttft)
            for provider, failure, cost, latency, ttft in conn.execute(
                f"{_ATTEMPTS} {_ENDED}", values
            ):
                _add(of.setdefault(provider, Pace()), failure is not None, cost, latency, ttft)
            return every, of

        return await self._readers.ask(ask)

    async def spent(self, since_ms: int) -> Spent:
        """By calls that began since then, to the last digit."""

        def ask(conn: sqlite3.Connection) -> Spent:
            calls, priced, high, low = conn.execute(
                f"SELECT count(*), count(cost_pico), {sum_of('cost_pico')} FROM receipts"
                " INDEXED BY receipts_time WHERE created_at >= ?",
                (since_ms,),
            ).fetchone()
            return Spent(calls, calls - priced, whole(high, low))

        return await self._readers.ask(ask)

    async def holding(self) -> Holding:
        """Of every call that has an intent and no receipt."""

        def ask(conn: sqlite3.Connection) -> Holding:
            halves = [
                conn.execute(f"SELECT count(*), {sum_of('hold_pico')} FROM {table}").fetchone()
                for table in ("intents", "intent_attempts")
            ]
            return Holding(halves[0][0], sum(whole(high, low) for _, high, low in halves))

        return await self._readers.ask(ask)


_WELL = ("success", "cached", "client_disconnect")  # what a client leaves is no error of ours
_ENDED = "WHERE r.created_at >= ? AND r.created_at + r.latency_ms >= ?"
_CALLS = (
    "SELECT r.created_at + r.latency_ms, r.status, r.cost_pico, r.latency_ms, r.ttft_ms"
    " FROM receipts r INDEXED BY receipts_time"
)
_ATTEMPTS = (
    "SELECT a.provider, a.failure_class, a.cost_pico, a.latency_ms, a.ttft_ms"
    " FROM receipts r INDEXED BY receipts_time JOIN attempts a ON a.seq = r.seq"
)


def _add(pace: Pace, failed: bool, cost: int | None, latency: int, ttft: int | None) -> None:
    pace.calls += 1
    pace.cost_pico += cost or 0
    pace.unpriced += cost is None
    if failed:
        pace.failed += 1
        return
    pace.latency.append(latency)
    if ttft is not None:
        pace.ttft.append(ttft)
