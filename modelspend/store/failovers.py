"""The audit of failovers: one row for each hop, in the transaction of its receipt."""

import sqlite3
from decimal import Decimal
from typing import Any

from modelspend.chain import row_digest
from modelspend.events import Event
from modelspend.failovers import Audited, Failover, Trail
from modelspend.money import usd
from modelspend.receipt import FailureClass, Receipt
from modelspend.store.book import Book
from modelspend.store.events import write_event
from modelspend.store.incidents import touch
from modelspend.store.readers import Readers


class Failovers:
    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def list(
        self,
        *,
        tenant: str | None = None,
        provider: str | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        after: int | None = None,
        limit: int = 50,
    ) -> list[Audited]:
        """Newest first, or, after the number of a receipt, oldest first; `provider` is either."""
        asked = (
            ("tenant = ?", tenant),
            ("? IN (from_provider, to_provider)", provider),
            ("decided_at >= ?", since_ms),
            ("decided_at < ?", until_ms),
            ("seq > ?", after),
        )
        terms = [(term, value) for term, value in asked if value is not None]
        where = " AND ".join(term for term, _ in terms) or "1"
        order = "seq DESC, n DESC" if after is None else "seq, n"

        def ask(conn: sqlite3.Connection) -> list[Audited]:
            rows = conn.execute(
                f"SELECT {HOP_COLUMNS} FROM v3_failover_decisions WHERE {where}"
                f" ORDER BY {order} LIMIT ?",
                (*(value for _, value in terms), limit),
            )
            return [_audited(*row) for row in rows]

        return await self._readers.ask(ask)


HOP_COLUMNS = (
    "seq, n, tenant, receipt_id, from_provider, to_provider, model_id, to_model_id,"
    " failure_class, reason, perhaps_twice, decided_at"
)
_INSERT = (
    f"INSERT INTO v3_failover_decisions ({HOP_COLUMNS}, digest) VALUES ({', '.join('?' * 13)})"
)


def write_trail(book: Book, seq: int, receipt: Receipt, trail: Trail) -> None:
    """Part of the receipt's transaction: hops, an event each, what incidents count. What the call
    cost extra stands on its last hop."""
    extra = {"extra_cost_usd": _extra(trail)}
    last = len(trail.failovers)
    for n, hop in enumerate(trail.failovers, start=1):
        row = (
            seq,
            n,
            receipt.tenant,
            receipt.receipt_id,
            hop.from_provider,
            hop.to_provider,
            hop.model_id,
            hop.to_model_id,
            None if hop.failure_class is None else str(hop.failure_class),
            hop.reason,
            int(hop.perhaps_twice),
            hop.decided_at_ms,
        )
        book.execute(_INSERT, (*row, row_digest(row)))
        write_event(
            book,
            Event(
                kind="failover",
                at_ms=hop.decided_at_ms,
                tenant=receipt.tenant,
                receipt_id=receipt.receipt_id,
                data=hop.told() | (extra if n == last else {}),
            ),
        )
    for touched in trail.touched:
        touch(book, touched, receipt.created_at_ms)


def _extra(trail: Trail) -> Decimal | None:
    """It is the same at every circuit that the call touched."""
    pico = trail.touched[0].extra_cost_pico if trail.touched else None
    return None if pico is None else usd(pico)


def _audited(seq: int, n: int, tenant: str, receipt_id: str, *hop: Any) -> Audited:
    from_provider, to_provider, model, to_model, failure, reason, twice, decided_at = hop
    return Audited(
        seq=seq,
        n=n,
        tenant=tenant,
        receipt_id=receipt_id,
        failover=Failover(
            from_provider=from_provider,
            to_provider=to_provider,
            model_id=model,
            to_model_id=to_model,
            reason=reason,
            decided_at_ms=decided_at,
            failure_class=FailureClass(failure) if failure in set(FailureClass) else None,
            perhaps_twice=bool(twice),
        ),
    )
