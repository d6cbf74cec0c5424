"""Request and answer bodies: compressed together, apart from receipts, kept for a while.

Hides that large ones are compressed before they reach the writer, so that a photograph does not
hold up everybody's commit, and that old ones go in small batches which let every call pass first.
"""

import sqlite3
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from modelspend.store.book import Book
from modelspend.store.readers import Readers
from modelspend.store.writer import Writer, needed

LARGE = 128 * 1024
_BATCH_ROWS = 200
_BATCH_BYTES = 4 * 1024 * 1024
_BATCH_PAGES = 500
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Bodies:
    """The bytes as they were; None for a part that is not kept."""

    request: bytes | None = None
    answer: bytes | None = None

    @property
    def size(self) -> int:
        return len(self.request or b"") + len(self.answer or b"")


@dataclass(frozen=True, slots=True)
class Packed:
    """Bodies ready for their row."""

    request_size: int | None
    answer_size: int | None
    data: bytes


def pack(bodies: Bodies) -> Packed:
    packer = zlib.compressobj(1, zlib.DEFLATED, -15, 8)
    parts = [packer.compress(part) for part in (bodies.request, bodies.answer) if part]
    return Packed(
        None if bodies.request is None else len(bodies.request),
        None if bodies.answer is None else len(bodies.answer),
        b"".join([*parts, packer.flush()]),
    )


def write_bodies(book: Book, seq: int, tenant: str, created_at: int, packed: Packed) -> None:
    """Part of the receipt's transaction."""
    book.execute(
        "INSERT INTO bodies (seq, tenant, created_at, size, request_size, answer_size, data)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            seq,
            tenant,
            created_at,
            len(packed.data),
            packed.request_size,
            packed.answer_size,
            packed.data,
        ),
    )


class BodyStore:
    def __init__(self, readers: Readers, writer: Writer | None) -> None:
        self._readers = readers
        self._writer = writer

    async def get(self, receipt_id: str) -> Bodies:
        """The kept bodies of a receipt; both None when nothing is kept."""

        def ask(conn: sqlite3.Connection) -> Bodies:
            row = conn.execute(
                "SELECT b.request_size, b.answer_size, b.data FROM receipts r"
                " JOIN bodies b ON b.seq = r.seq WHERE r.receipt_id = ?",
                (receipt_id,),
            ).fetchone()
            return Bodies() if row is None else unpack(Packed(*row))

        return await self._readers.ask(ask)

    async def expire(self, now_ms: int, *, days: int, tenant_days: Mapping[str, int]) -> int:
        """Delete what is older than its days, in batches between calls; how many went.

        `tenant_days` wins over `days` for the tenants that it names; 0 keeps for ever.
        """
        gone, writer = 0, needed(self._writer)
        for tenant in await self._readers.ask(_tenants):
            kept_days = tenant_days.get(tenant, days)
            if kept_days:
                gone += await self._expire(writer, tenant, now_ms - kept_days * _DAY_MS)
        while gone and await writer.later(_give_back):
            pass
        return gone

    async def _expire(self, writer: Writer, tenant: str, before_ms: int) -> int:
        gone = 0
        while batch := await writer.later(lambda book: _delete(book, tenant, before_ms)):
            gone += batch
        return gone


def unpack(packed: Packed) -> Bodies:
    """The bytes as they were. Raises ValueError when the row is damaged."""
    try:
        both = zlib.decompress(packed.data, wbits=-15)
    except zlib.error:
        raise ValueError("the bodies cannot be unpacked") from None
    split = packed.request_size or 0
    return Bodies(
        None if packed.request_size is None else both[:split],
        None if packed.answer_size is None else both[split:],
    )


def _tenants(conn: sqlite3.Connection) -> list[str]:
    """Each tenant with bodies: one step of the index for each, however many rows there are."""
    return [
        str(row[0])
        for row in conn.execute(
            "WITH RECURSIVE t(name) AS (SELECT min(tenant) FROM bodies UNION ALL"
            " SELECT (SELECT min(tenant) FROM bodies WHERE tenant > t.name) FROM t"
            " WHERE t.name IS NOT NULL) SELECT name FROM t WHERE name IS NOT NULL"
        )
    ]


def _delete(book: Book, tenant: str, before_ms: int) -> int:
    """Some of the oldest rows: so few, and so few bytes, that a waiting call hardly notices."""
    chosen: list[tuple[int]] = []
    room = _BATCH_BYTES
    for seq, size in book.execute(
        "SELECT seq, size FROM bodies WHERE tenant = ? AND created_at < ?"
        " ORDER BY created_at LIMIT ?",
        (tenant, before_ms, _BATCH_ROWS),
    ):
        chosen.append((seq,))
        room -= size
        if room < 0:
            break
    book.conn.executemany("DELETE FROM bodies WHERE seq = ?", chosen)
    return len(chosen)


def _give_back(book: Book) -> bool:
    """Return some freed pages to the file system; whether there may be more."""
    (free,) = book.execute("PRAGMA freelist_count").fetchone()
    book.execute(f"PRAGMA incremental_vacuum({_BATCH_PAGES})").fetchall()
    return int(free) > _BATCH_PAGES
