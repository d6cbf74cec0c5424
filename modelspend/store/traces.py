"""`otel_traces`: the spans that were sent to a collector, kept for some days.

Written in the transaction that moves the sink on, so the table says what was sent and what not.
"""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from modelspend.record import record
from modelspend.store.book import Book
from modelspend.store.readers import Readers
from modelspend.store.sinks import Also
from modelspend.store.writer import Writer, needed

_DELETED = 500


@record
class Row:
    """One span as the table has it; `attrs` is JSON."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status: int
    attrs: dict[str, Any]
    receipt_id: str
    tenant: str


class Traces:
    def __init__(self, readers: Readers, writer: Writer | None) -> None:
        self._readers = readers
        self._writer = writer

    async def of(self, receipt_id: str) -> list[Row]:
        """The spans of a receipt, in the order of their starts."""

        def ask(conn: sqlite3.Connection) -> list[Row]:
            rows = conn.execute(
                "SELECT trace_id, span_id, parent_id, name, kind, start_ns, end_ns, status, attrs,"
                " receipt_id, tenant FROM otel_traces WHERE receipt_id = ?"
                " ORDER BY start_ns, parent_id IS NOT NULL, name",
                (receipt_id,),
            )
            return [_row(*row) for row in rows]

        return await self._readers.ask(ask)

    async def count(self) -> int:
        return await self._readers.ask(
            lambda conn: int(conn.execute("SELECT count(*) FROM otel_traces").fetchone()[0])
        )

    async def expire(self, now_ms: int, days: int) -> int:
        """Remove what began longer ago, a little at a time; how many there were."""
        before_ns, removed, deleted = (now_ms - days * 86_400_000) * 1_000_000, 0, _DELETED
        while deleted == _DELETED:
            deleted = await needed(self._writer).later(lambda book: _expire(book, before_ns))
            removed += deleted
        return removed


def keeping(rows: Sequence[Row], at_ms: int, error: str | None) -> Also:
    """Spans that were sent at a time, or that the collector did not want."""

    cells = [
        (
            *(one.trace_id, one.span_id, one.parent_id, one.name, one.kind),
            *(one.start_ns, one.end_ns, one.status, json.dumps(one.attrs)),
            *(one.receipt_id, one.tenant, None if error else at_ms, error),
        )
        for one in rows
    ]

    def put(book: Book) -> None:
        book.conn.executemany(
            "INSERT INTO otel_traces (trace_id, span_id, parent_id, name, kind, start_ns,"
            " end_ns, status, attrs, receipt_id, tenant, exported_at, export_error)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (trace_id, span_id) DO UPDATE SET"
            " exported_at = excluded.exported_at, export_error = excluded.export_error",
            cells,
        )

    return put


def _expire(book: Book, before_ns: int) -> int:
    return book.execute(
        "DELETE FROM otel_traces WHERE (trace_id, span_id) IN"
        " (SELECT trace_id, span_id FROM otel_traces WHERE start_ns < ? LIMIT ?)",
        (before_ns, _DELETED),
    ).rowcount


def _row(*cells: Any) -> Row:
    names = (
        *("trace_id", "span_id", "parent_id", "name", "kind", "start_ns", "end_ns", "status"),
        *("attrs", "receipt_id", "tenant"),
    )
    said = dict(zip(names, cells, strict=True))
    return Row(**{**said, "attrs": json.loads(said["attrs"])})
