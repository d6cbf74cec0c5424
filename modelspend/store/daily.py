"""What the days of a ledger cost, altogether or by a name, and what its conversations cost.

Days are those of UTC, so that none has 23 or 25 hours. Receipts whose cost is not known are counted
and add nothing.
"""

import sqlite3
from collections.abc import Sequence
from typing import Literal

from modelspend.record import frozen
from modelspend.store.days import Key, sums_by
from modelspend.store.history import any_of
from modelspend.store.readers import Readers
from modelspend.store.search import ALL, Filter
from modelspend.store.sums import sum_of, whole

DayName = Literal["tenant", "workflow", "model", "provider", "category"]
Name = Literal["tenant", "workflow", "model", "provider", "category", "tier"]
DAY = 86_400_000


@frozen
class DaySum:
    """One day (its number since 1970) of one name; `unpriced` of its receipts add no cost."""

    day: int
    name: str | None
    receipts: int
    unpriced: int
    cost_pico: int


@frozen(kw_only=True)
class ConversationSum:
    """The calls of one conversation at one model and tier; a call without a session is its own."""

    tenant: str
    key: str
    tier: str | None
    provider: str | None
    model: str | None
    asked: str
    calls: int
    cost_pico: int


def _by_name(conn: sqlite3.Connection, where: Sequence[Filter], by: DayName | None) -> list[DaySum]:
    """Out of the sums by day, which are there already."""
    keys: tuple[Key, ...] = ("day", by) if by else ("day",)
    rows = [
        DaySum(key[0], key[1] if by else None, one.receipts, one.unpriced, one.cost_pico)
        for key, one in sums_by(conn, keys, where or (ALL,), saved=False).items()
    ]
    return sorted(rows, key=lambda row: (row.day, row.name is not None, row.name or ""))


def _by_tier(conn: sqlite3.Connection, where: Sequence[Filter]) -> list[DaySum]:
    """Receipt by receipt: no sum is kept by tier."""
    terms = any_of(where)
    rows = conn.execute(
        f"SELECT created_at / {DAY} AS day, tier, count(*),"
        f" count(*) - count(cost_pico), {sum_of('cost_pico')}"
        f" FROM receipts WHERE {terms} GROUP BY 1, 2 ORDER BY 1, 2",
        terms.values,
    )
    return [
        DaySum(day, named, receipts, unpriced, whole(high, low))
        for day, named, receipts, unpriced, high, low in rows
    ]


class Daily:
    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def sums(self, where: Sequence[Filter], by: Name | None = None) -> list[DaySum]:
        """The days that have a receipt that any filter matches, in order."""
        return await self._readers.ask(
            lambda conn: _by_tier(conn, where) if by == "tier" else _by_name(conn, where, by)
        )

    async def conversations(self, where: Sequence[Filter]) -> list[ConversationSum]:
        """Those whose cost is known."""

        def ask(conn: sqlite3.Connection) -> list[ConversationSum]:
            terms = any_of(where)
            rows = conn.execute(
                "SELECT tenant, coalesce(session_id, receipt_id) AS key, tier, provider, model,"
                f" model_asked, count(*), {sum_of('cost_pico')} FROM receipts"
                f" WHERE cost_pico IS NOT NULL AND {terms} GROUP BY 1, 2, 3, 4, 5, 6",
                terms.values,
            )
            return [
                ConversationSum(
                    tenant=tenant,
                    key=key,
                    tier=tier,
                    provider=provider,
                    model=model,
                    asked=asked,
                    calls=calls,
                    cost_pico=whole(high, low),
                )
                for tenant, key, tier, provider, model, asked, calls, high, low in rows
            ]

        return await self._readers.ask(ask)
