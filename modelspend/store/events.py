"""Events: the ledger as a queue. Sinks keep a cursor and ask for what came after it."""

import sqlite3

import orjson

from modelspend.chain import row_digest
from modelspend.events import Event
from modelspend.money import dumps
from modelspend.store.book import Book
from modelspend.store.readers import Readers


class Events:
    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def after(self, seq: int, limit: int = 100) -> list[Event]:
        """Events with a greater number, oldest first."""

        def ask(conn: sqlite3.Connection) -> list[Event]:
            rows = conn.execute(
                f"SELECT {EVENT_COLUMNS} FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
                (seq, limit),
            )
            return [_event(*row) for row in rows]

        return await self._readers.ask(ask)


def write_event(book: Book, event: Event) -> None:
    """Part of the caller's transaction; the number is the next one of the ledger."""
    row = (
        book.next_seq(),
        event.at_ms,
        event.kind,
        event.level,
        event.tenant,
        event.receipt_id,
        dumps(dict(event.data)).decode(),
    )
    book.execute(_INSERT, (*row, row_digest(row)))


EVENT_COLUMNS = "seq, created_at, kind, level, tenant, receipt_id, data"
_INSERT = f"INSERT INTO events ({EVENT_COLUMNS}, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


def _event(
    seq: int, at: int, kind: str, level: str, tenant: str | None, receipt: str | None, data: str
) -> Event:
    return Event(
        seq=seq,
        at_ms=at,
        kind=kind,
        level=level,
        tenant=tenant,
        receipt_id=receipt,
        data=orjson.loads(data),
    )
