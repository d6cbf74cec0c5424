"""How much passes just now: calls, their ends, times and cost in a short time up to this moment.

For a view that is drawn anew every second: every question walks the index over time, for the newest
receipts alone.
"""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from modelspend.store.readers import Readers

_MOST = 50_000


class Pace(NamedTuple):
    """The receipts of a time: how many by status, their cost, latencies (ms) of those that ended
    well, and milliseconds to the first token."""

    by_status: dict[str, int]
    cost_pico: int
    unpriced: int
    latency: Sequence[int]
    ttft: Sequence[int]


class Spent(NamedTuple):
    receipts: int
    unpriced: int
    cost_pico: int


class Holding(NamedTuple):
    """Calls that are open, and what they hold of budgets at most."""

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
