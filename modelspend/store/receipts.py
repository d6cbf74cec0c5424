"""Reading receipts: one by id, pages of a search, what came after a cursor, totals.

Hides how a row becomes a receipt again; `search.py` says which rows. `body_kept` is looked up when
a receipt is read, since bodies go before receipts do.
"""

import sqlite3
from typing import Any

from modelspend.receipt import Receipt
from modelspend.record import frozen
from modelspend.store import detail
from modelspend.store.readers import Readers
from modelspend.store.search import ALL, Filter, Terms, conditions, matching, newest, starting
from modelspend.store.sums import sum_of, whole


@frozen
class Stored:
    """A receipt as the ledger has it: its number, its link of the chain, whether bodies remain."""

    receipt: Receipt
    seq: int
    hash: str
    body_kept: bool


Page = list[Stored]


@frozen
class Totals:
    """Sums over receipts; `unpriced` of them have no known cost and add nothing to `cost_pico`."""

    receipts: int
    unpriced: int
    cost_pico: int
    charged_pico: int


class Receipts:
    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def get(self, receipt_id: str) -> Stored | None:
        return await self._readers.ask(lambda conn: _get(conn, receipt_id))

    async def list(
        self, where: Filter = ALL, *, limit: int = 50, before: int | None = None
    ) -> Page:
        """Newest first by `created_at`; `before` is the number of the last one already seen."""
        return await self._readers.ask(lambda conn: load(conn, newest(conn, where, limit, before)))

    async def starting(self, text: str, *, limit: int = 2) -> Page:
        """Those whose id starts with `text`, newest first; `rcpt_` may be left out."""
        return await self._readers.ask(lambda conn: load(conn, starting(conn, text, limit)))

    async def search(self, text: str, where: Filter = ALL, *, limit: int = 50) -> Page:
        """Newest first: id or session start with `text`, or a name or tag contains it."""
        return await self._readers.ask(lambda conn: load(conn, matching(conn, text, where, limit)))

    async def after(self, seq: int, where: Filter = ALL, limit: int = 100) -> Page:
        """What was written after a number, oldest first: to follow the ledger."""

        def ask(conn: sqlite3.Connection) -> Page:
            terms = Terms(("seq > ?",), (seq,)) + conditions(where)
            rows = conn.execute(
                f"SELECT seq FROM receipts WHERE {terms} ORDER BY seq LIMIT ?",
                (*terms.values, limit),
            )
            return load(conn, [row[0] for row in rows])

        return await self._readers.ask(ask)

    async def totals(self, where: Filter = ALL) -> Totals:
        """Exact sums over all that matches."""

        def ask(conn: sqlite3.Connection) -> Totals:
            terms = conditions(where)
            receipts, priced, *halves = conn.execute(
                f"SELECT count(*), count(cost_pico), {sum_of('cost_pico')},"
                f" {sum_of('charged_pico')} FROM receipts WHERE {terms}",
                terms.values,
            ).fetchone()
            return Totals(receipts, receipts - priced, whole(*halves[:2]), whole(*halves[2:]))

        return await self._readers.ask(ask)

    async def count(self, where: Filter = ALL) -> int:
        return (await self.totals(where)).receipts


_COLUMNS = (
    "r.seq, r.receipt_id, r.tenant, r.workflow, r.session_id, r.key_id, r.trace_id, r.price_id,"
    " r.model, r.model_asked, r.hash, r.detail,"
    " EXISTS (SELECT 1 FROM bodies b WHERE b.seq = r.seq)"
)


def _get(conn: sqlite3.Connection, receipt_id: str) -> Stored | None:
    row = conn.execute(
        f"SELECT {_COLUMNS} FROM receipts r WHERE r.receipt_id = ?", (receipt_id,)
    ).fetchone()
    return None if row is None else _stored(row)


def load(conn: sqlite3.Connection, seqs: list[int]) -> list[Stored]:
    """The receipts of these numbers, in their order."""
    query = f"SELECT {_COLUMNS} FROM receipts r WHERE r.seq = ?"
    return [_stored(conn.execute(query, (seq,)).fetchone()) for seq in seqs]


def _stored(row: tuple[Any, ...]) -> Stored:
    seq, *columns, link, packed, kept = row
    receipt = detail.thaw(detail.unpack(packed, tuple(columns)))
    return Stored(receipt, seq, link.hex(), bool(kept))
