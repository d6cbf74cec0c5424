"""Deliveries of webhooks: what is to be sent when, what became of it, and what could not be sent.

A delivery refers to what it tells by its number and is read again for each try, so a queue of a
million costs a million short rows; only a dead letter keeps its bytes. Each end moves the counts of
the sink in the same transaction.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from modelspend.receipt_json import iso
from modelspend.record import record
from modelspend.store.book import Book
from modelspend.store.readers import Readers
from modelspend.store.sinks import Also, Lately, Read, settle
from modelspend.store.writer import Writer, needed

KEPT_MS = 30 * 86_400_000
_DELETED = 500


@record
class Delivery:
    """One event for one webhook. `status`: pending, delivered, dead; `due_at_ms`: the next try."""

    delivery_id: str
    webhook: str
    seq: int
    type: str
    tenant: str | None
    created_at_ms: int
    status: str = "pending"
    attempts: int = 0
    due_at_ms: int | None = None
    http_status: int | None = None
    error: str | None = None
    ended_at_ms: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As `webhooks deliveries` and `webhooks dead` tell it."""
        return {
            "delivery_id": self.delivery_id,
            "webhook": self.webhook,
            "seq": self.seq,
            "type": self.type,
            "tenant": self.tenant,
            "created_at": iso(self.created_at_ms),
            "status": self.status,
            "attempts": self.attempts,
            "due_at": None if self.due_at_ms is None else iso(self.due_at_ms),
            "http_status": self.http_status,
            "error": self.error,
            "ended_at": None if self.ended_at_ms is None else iso(self.ended_at_ms),
        }


class Due(NamedTuple):
    """What is to be sent now, and when the next one after that is."""

    deliveries: list[Delivery]
    next_at_ms: int | None


class Webhooks:
    def __init__(self, readers: Readers, writer: Writer | None, lately: Lately) -> None:
        self._readers = readers
        self._writer = writer
        self._lately = lately

    async def due(self, webhook: str, now_ms: int, limit: int) -> Due:
        """The oldest that are due."""

        def ask(conn: sqlite3.Connection) -> Due:
            rows = conn.execute(
                f"{_SELECT} WHERE webhook = ? AND due_at <= ? ORDER BY due_at, seq LIMIT ?",
                (webhook, now_ms, limit),
            ).fetchall()
            (later,) = conn.execute(
                "SELECT min(due_at) FROM webhook_deliveries WHERE webhook = ? AND due_at > ?",
                (webhook, now_ms),
            ).fetchone()
            return Due([_delivery(row) for row in rows], later)

        return await self._readers.ask(ask)

    async def due_count(self, webhook: str, now_ms: int, most: int) -> int:
        """How many are due; no more are counted than `most`."""
        query = (
            "SELECT count(*) FROM (SELECT 1 FROM webhook_deliveries"
            " WHERE webhook = ? AND due_at <= ? LIMIT ?)"
        )
        return await self._readers.ask(
            lambda conn: int(conn.execute(query, (webhook, now_ms, most)).fetchone()[0])
        )

    async def told(self, deliveries: Sequence[Delivery]) -> tuple[Read, float]:
        """What they tell, by its number, and how many seconds of CPU it took; what is not in the
        ledger, or damaged, is missing."""
        several = [(one.seq, one.type) for one in deliveries]
        return await self._readers.timed(lambda conn: self._lately.read(conn, several))

    async def write(self, ends: Sequence[Also]) -> None:
        """What several tries came to, made durable at once: each write of its own would cost calls
        a sync of the disk."""

        def put(book: Book) -> None:
            for end in ends:
                end(book)

        await needed(self._writer).aside(put)

    @staticmethod
    def delivered(one: Delivery, http_status: int, at_ms: int) -> Also:
        """It was taken."""

        def put(book: Book) -> None:
            if _end(book, one, "delivered", http_status, None, at_ms):
                settle(book, _sink(one.webhook), sent=1, filed=-1)
                book.execute(
                    "UPDATE sinks SET sent_at = ? WHERE name = ?", (at_ms, _sink(one.webhook))
                )

        return put

    @staticmethod
    def put_off(
        one: Delivery, until_ms: int, http_status: int | None, error: str, at_ms: int
    ) -> Also:
        """It has failed once more, and is tried again then."""

        def put(book: Book) -> None:
            book.execute(
                "UPDATE webhook_deliveries SET attempts = ?, due_at = ?, http_status = ?,"
                " error = ? WHERE delivery_id = ? AND status = 'pending'",
                (one.attempts + 1, until_ms, http_status, error, one.delivery_id),
            )
            _note(book, one.webhook, error, at_ms)

        return put

    @staticmethod
    def died(
        one: Delivery, payload: bytes, http_status: int | None, error: str, at_ms: int
    ) -> Also:
        """It is given up: a dead letter."""

        def put(book: Book) -> None:
            if not _end(book, one, "dead", http_status, error, at_ms):
                return
            book.execute(
                "INSERT INTO webhook_dead_letters (delivery_id, webhook, seq, type, tenant,"
                " payload, attempts, http_status, error, died_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(one.delivery_id, one.webhook, one.seq, one.type, one.tenant),
                    *(payload, one.attempts + 1, http_status, error, at_ms),
                ),
            )
            settle(book, _sink(one.webhook), dropped=1, filed=-1)
            _note(book, one.webhook, error, at_ms)

        return put

    async def list(
        self, *, webhook: str | None = None, status: str | None = None, limit: int = 50
    ) -> list[Delivery]:
        """Newest first."""
        values = (webhook, webhook, status, status, limit)
        return await self._readers.ask(
            lambda conn: [
                _delivery(row)
                for row in conn.execute(
                    f"{_SELECT} WHERE (? IS NULL OR webhook = ?) AND (? IS NULL OR status = ?)"
                    " ORDER BY seq DESC LIMIT ?",
                    values,
                )
            ]
        )

    async def letters(self, webhook: str | None, limit: int) -> tuple[str, ...]:
        """The ids of dead letters that can be given back."""
        query = (
            "SELECT delivery_id FROM webhook_dead_letters"
            f" WHERE (? IS NULL OR webhook = ?) AND {_KNOWN} LIMIT ?"
        )
        return await self._readers.ask(
            lambda conn: tuple(row[0] for row in conn.execute(query, (webhook, webhook, limit)))
        )

    async def letter(self, delivery_id: str) -> bytes | None:
        """The bytes of a dead letter."""
        row = await self._readers.ask(
            lambda conn: conn.execute(
                "SELECT payload FROM webhook_dead_letters WHERE delivery_id = ?", (delivery_id,)
            ).fetchone()
        )
        return None if row is None else bytes(row[0])

    async def retry(self, delivery_ids: Sequence[str], now_ms: int) -> int:
        """Dead letters become deliveries again, due at once; how many there were. One of a webhook
        that is not known stays: nobody would ever send it."""

        def put(book: Book) -> int:
            revived = 0
            for delivery_id in delivery_ids:
                row = book.execute(
                    "DELETE FROM webhook_dead_letters WHERE delivery_id = ?"
                    f" AND {_KNOWN} RETURNING webhook",
                    (delivery_id,),
                ).fetchone()
                if row is None:
                    continue
                book.execute(
                    "UPDATE webhook_deliveries SET status = 'pending', attempts = 0, due_at = ?,"
                    " ended_at = NULL WHERE delivery_id = ?",
                    (now_ms, delivery_id),
                )
                settle(book, _sink(row[0]), dropped=-1, filed=1)
                revived += 1
            return revived

        return await needed(self._writer).do(put)

    async def expire(self, now_ms: int) -> None:
        """Deliveries that came to their end 30 days ago, and dead letters as old, are removed."""
        before_ms, deleted = now_ms - KEPT_MS, _DELETED
        while deleted == _DELETED:
            deleted = await needed(self._writer).later(lambda book: _expire(book, before_ms))


_KNOWN = "EXISTS (SELECT 1 FROM sinks WHERE name = 'webhook:' || webhook)"


def filing(deliveries: Sequence[Delivery]) -> Also:
    """New deliveries, written with the sink's number."""

    rows = [
        (
            *(one.delivery_id, one.webhook, one.seq, one.type, one.tenant),
            *(one.created_at_ms, one.due_at_ms),
        )
        for one in deliveries
    ]

    def put(book: Book) -> None:
        book.conn.executemany(
            "INSERT INTO webhook_deliveries (delivery_id, webhook, seq, type, tenant,"
            " created_at, due_at, status) VALUES (?, ?, ?, ?, ?, ?, ?, 'pending')",
            rows,
        )

    return put


def _sink(webhook: str) -> str:
    return f"webhook:{webhook}"


def _note(book: Book, webhook: str, error: str, at_ms: int) -> None:
    book.execute(
        "UPDATE sinks SET error = ?, error_at = ? WHERE name = ?", (error, at_ms, _sink(webhook))
    )


def _end(
    book: Book, one: Delivery, status: str, http_status: int | None, error: str | None, at_ms: int
) -> bool:
    """Whether it was still pending: an end counts once."""
    changed = book.execute(
        "UPDATE webhook_deliveries SET status = ?, attempts = ?, due_at = NULL, http_status = ?,"
        " error = ?, ended_at = ? WHERE delivery_id = ? AND status = 'pending'",
        (status, one.attempts + 1, http_status, error, at_ms, one.delivery_id),
    )
    return changed.rowcount == 1


def _expire(book: Book, before_ms: int) -> int:
    book.execute(
        "DELETE FROM webhook_dead_letters WHERE delivery_id IN"
        " (SELECT delivery_id FROM webhook_dead_letters WHERE died_at < ? LIMIT ?)",
        (before_ms, _DELETED),
    )
    return book.execute(
        "DELETE FROM webhook_deliveries WHERE delivery_id IN"
        " (SELECT delivery_id FROM webhook_deliveries WHERE ended_at < ? LIMIT ?)",
        (before_ms, _DELETED),
    ).rowcount


_SELECT = (
    "SELECT delivery_id, webhook, seq, type, tenant, created_at, status, attempts, due_at,"
    " http_status, error, ended_at FROM webhook_deliveries"
)


def _delivery(row: tuple[Any, ...]) -> Delivery:
    names = (
        *("delivery_id", "webhook", "seq", "type", "tenant", "created_at_ms", "status"),
        *("attempts", "due_at_ms", "http_status", "error", "ended_at_ms"),
    )
    return Delivery(**dict(zip(names, row, strict=True)))
