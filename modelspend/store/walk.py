"""Every receipt of a filter, in the order in which they were written, a page at a time.

Hides that a million receipts are never in memory at once, and that what is wanted of each differs:
its searchable columns, or the very bytes that the chain covers.
"""

import sqlite3
from array import array
from collections.abc import AsyncIterator
from typing import Any

from modelspend.record import frozen
from modelspend.store import detail
from modelspend.store.readers import Readers
from modelspend.store.search import ALL, Filter, Terms, conditions

_PAGE = 1_000


@frozen
class Link:
    """A receipt as the chain has it: the canonical bytes, and the links before and after them.

    `cost_pico` is the column beside them, null when the cost is not known.
    """

    seq: int
    prev_hash: bytes
    hash: bytes
    canonical: bytes
    cost_pico: int | None


COLUMNS = (
    "receipt_id",
    "created_at",
    "tenant",
    "workflow",
    "session_id",
    "provider",
    "model",
    "region",
    "category",
    "tier",
    "status",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "cost_pico",
    "charged_pico",
    "exact",
    "latency_ms",
    "ttft_ms",
    "price_id",
    "key_id",
    "replay_of",
    "trace_id",
)
"""What `columns` gives of each receipt, in this order."""


class Walk:
    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def count(self, where: Filter = ALL) -> int:
        return len(await self._numbers(where))

    async def columns(self, where: Filter = ALL) -> AsyncIterator[list[tuple[Any, ...]]]:
        """Pages of the searchable columns."""
        async for page in self._pages(where):
            yield await self._readers.ask(lambda conn, page=page: _columns(conn, page))  # type: ignore[misc]

    async def links(self, where: Filter = ALL) -> AsyncIterator[list[Link]]:
        """Pages of the receipts as the chain has them. Raises ValueError at a damaged one."""
        async for page in self._pages(where):
            yield await self._readers.ask(lambda conn, page=page: _links(conn, page))  # type: ignore[misc]

    async def _pages(self, where: Filter) -> "AsyncIterator[array[int]]":
        numbers = await self._numbers(where)
        for start in range(0, len(numbers), _PAGE):
            yield numbers[start : start + _PAGE]

    async def _numbers(self, where: Filter) -> "array[int]":
        return await self._readers.ask(lambda conn: _numbers(conn, where))


def _numbers(conn: sqlite3.Connection, where: Filter) -> "array[int]":
    terms = conditions(where)
    index = "" if terms == Terms() or where.session else "INDEXED BY receipts_time"
    rows = conn.execute(f"SELECT seq FROM receipts {index} WHERE {terms}", terms.values)
    return array("q", sorted(row[0] for row in rows))


def _columns(conn: sqlite3.Connection, page: "array[int]") -> list[tuple[Any, ...]]:
    named = ", ".join(f"f.{name}" if name == "region" else f"r.{name}" for name in COLUMNS)
    query = f"SELECT {named} FROM receipts r JOIN facets f ON f.id = r.facet_id WHERE r.seq = ?"
    return [conn.execute(query, (seq,)).fetchone() for seq in page]


_LINK = (
    "SELECT seq, prev_hash, hash, cost_pico, detail, receipt_id, tenant, workflow, session_id,"
    " key_id, trace_id, price_id, model, model_asked FROM receipts WHERE seq = ?"
)


def _links(conn: sqlite3.Connection, page: "array[int]") -> list[Link]:
    found = []
    for number in page:
        seq, before, link, cost, packed, *named = conn.execute(_LINK, (number,)).fetchone()
        canonical = detail.unpack(packed, tuple(named))
        found.append(Link(seq, bytes(before), bytes(link), canonical, cost))
    return found
