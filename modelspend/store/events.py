"""Events: the ledger as a queue. Sinks keep a cursor and ask for what came after it.

Receipts are among them for whoever asks for their type: what there is to know of one at a glance.

A cursor is one number, and a page says where it goes on: past what a filter left out as well, so a
sink that wants little never looks through the same rows twice. Numbers are given by one writer and
become visible in their order, so nothing ever appears behind a cursor.
"""

import json
import sqlite3
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

from modelspend.chain import row_digest
from modelspend.events import ALL, RECEIPT, Event, Wanted
from modelspend.money import dumps, usd
from modelspend.store.book import Book
from modelspend.store.readers import Readers
from modelspend.store.writer import Writer, needed

_SCAN = 20_000


class Page(NamedTuple):
    """Events, oldest first, and the number after which the next page begins."""

    events: list[Event]
    cursor: int


class Events:
    def __init__(self, readers: Readers, writer: Writer | None) -> None:
        self._readers = readers
        self._writer = writer

    async def page(self, cursor: int, limit: int = 100, where: Wanted = ALL) -> Page:
        """The next ones with a greater number than the cursor. No question looks through more than
        `_SCAN` receipts: a filter that few of them pass holds up no reader for long."""
        found, last = list[Event](), cursor + 1
        while cursor < last and len(found) < limit:
            part = partial(_part, where=where, cursor=cursor, limit=limit - len(found))
            some, cursor, last = await self._readers.ask(part)
            found += some
        return Page(found, cursor)

    async def after(self, seq: int, limit: int = 100, where: Wanted = ALL) -> list[Event]:
        """Those with a greater number, oldest first."""
        return (await self.page(seq, limit, where)).events

    async def newest(self, limit: int = 100, where: Wanted = ALL) -> list[Event]:
        """The last ones, newest first."""
        return await self._readers.ask(lambda conn: _both(conn, where, "1", (), "seq DESC", limit))

    async def last(self, where: Wanted = ALL) -> int:
        """The cursor behind all that there is of what is wanted: what comes after it is new."""
        return await self._readers.ask(lambda conn: _last(conn, where))

    def tell(self, event: Event) -> None:
        """Write one that belongs to no receipt; on its way when this returns, and kept until it is
        durable."""
        needed(self._writer).keep(lambda book: write_event(book, event), None)


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


def _last(conn: sqlite3.Connection, where: Wanted) -> int:
    tables = ("events", "receipts") if where.receipts else ("events",)
    asked = (conn.execute(f"SELECT coalesce(max(seq), 0) FROM {table}") for table in tables)
    return max(int(each.fetchone()[0]) for each in asked)


def _part(
    conn: sqlite3.Connection, where: Wanted, cursor: int, limit: int
) -> tuple[list[Event], int, int]:
    """The next ones of a part, the number to go on from, and the last there is."""
    last = max(_last(conn, where), cursor)
    until = min(last, cursor + _SCAN) if where.receipts else last
    found = _both(conn, where, "seq > ? AND seq <= ?", (cursor, until), "seq", limit)
    return found, found[-1].seq if len(found) == limit else until, last


def _both(
    conn: sqlite3.Connection,
    where: Wanted,
    place: str,
    values: tuple[int, ...],
    order: str,
    limit: int,
) -> list[Event]:
    """Events, and receipts where they are wanted, in an order of their numbers."""
    found = select(conn, where, place, values, order, limit)
    if not where.receipts or where.levels or where.rules:
        return found
    asked = {
        "tenant = ?": where.tenant,
        "provider = ?": where.provider,
        "created_at >= ?": where.since_ms,
    }
    held = {term: value for term, value in asked.items() if value is not None}
    rows = conn.execute(
        f"SELECT {_GLANCE} FROM receipts WHERE {' AND '.join((place, *held))}"
        f" ORDER BY {order} LIMIT ?",
        (*values, *held.values(), limit),
    )
    found += [_receipt(*row) for row in rows]
    found.sort(key=lambda each: each.seq, reverse=order.endswith("DESC"))
    return found[:limit]


_GLANCE = (
    "seq, created_at, tenant, receipt_id, status, provider, model, category, cost_pico,"
    " input_tokens, output_tokens, latency_ms"
)


def _receipt(seq: int, at: int, tenant: str | None, receipt_id: str, *rest: Any) -> Event:
    status, provider, model, category, cost_pico, tokens_in, tokens_out, latency_ms = rest
    data = {
        "status": status,
        "provider": provider,
        "model": model,
        "category": category,
        "cost_usd": None if cost_pico is None else usd(cost_pico),
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "latency_ms": latency_ms,
    }
    return Event(seq=seq, at_ms=at, kind=RECEIPT, tenant=tenant, receipt_id=receipt_id, data=data)


def select(
    conn: sqlite3.Connection,
    where: Wanted,
    place: str,
    values: tuple[int, ...],
    order: str,
    limit: int,
) -> list[Event]:
    """Events of a place in the table, in an order; `where` must hold for each."""
    terms, more = conditions(where)
    rows = conn.execute(
        f"SELECT {EVENT_COLUMNS} FROM events WHERE {' AND '.join((place, *terms))}"
        f" ORDER BY {order} LIMIT ?",
        (*values, *more, limit),
    )
    return [_event(*row) for row in rows]


def conditions(where: Wanted) -> tuple[list[str], list[Any]]:
    """What must hold for each event, and the values in it."""
    terms: list[str] = []
    values: list[Any] = []
    if where.kinds:
        terms.append(f"({' OR '.join('kind GLOB ?' for _ in where.kinds)})")
        values += where.kinds
    if where.tenant is not None:
        terms.append("tenant = ?")
        values.append(where.tenant)
    if where.provider is not None:
        terms.append(f"? IN ({', '.join(f'json_extract(data, {path!r})' for path in _NAMED)})")
        values.append(where.provider)
    for path, wanted in (("$.level", where.levels), ("$.rule", where.rules)):
        if wanted:
            terms.append(f"json_extract(data, '{path}') IN ({', '.join('?' * len(wanted))})")
            values += wanted
    if where.since_ms is not None:
        terms.append("created_at >= ?")
        values.append(where.since_ms)
    return terms, values


_NAMED = ("$.provider", "$.from_provider", "$.to_provider")


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
        data=json.loads(data, parse_float=Decimal, object_hook=_exact_money),
    )


def _exact_money(shape: dict[str, Any]) -> dict[str, Any]:
    """Dollars digit by digit, other numbers as numbers."""
    return {
        key: float(value) if isinstance(value, Decimal) and not key.endswith("_usd") else value
        for key, value in shape.items()
    }
