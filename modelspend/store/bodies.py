"""Request and answer bodies: compressed together, apart from receipts, kept for a while.

Hides that large ones are compressed before they reach the writer, so that a photograph does not
hold up everybody's commit, and that old ones go in small batches which let every call pass first.
They are Zstandard; what older versions kept is raw deflate, which cannot begin as a frame does.
"""

import sqlite3
import threading
import zlib
from collections.abc import Mapping
from functools import partial

import zstandard

from modelspend.record import frozen
from modelspend.store.book import Book
from modelspend.store.readers import Readers
from modelspend.store.writer import Writer, needed

LARGE = 128 * 1024
_LEVEL = 1
_BATCH_ROWS = 200
_BATCH_BYTES = 4 * 1024 * 1024
_BATCH_PAGES = 500
_DAY_MS = 86_400_000


@frozen
class Bodies:
    """The bytes as they were; None for a part that is not kept."""

    request: bytes | None = None
    answer: bytes | None = None

    @property
    def size(self) -> int:
        return len(self.request or b"") + len(self.answer or b"")


@frozen
class Packed:
    """Bodies ready for their row."""

    request_size: int | None
    answer_size: int | None
    data: bytes


class _Own(threading.local):
    """Each thread's own, since it may not be shared."""

    def __init__(self) -> None:
        self.packer = zstandard.ZstdCompressor(level=_LEVEL)


_own = _Own()


def pack(bodies: Bodies) -> Packed:
    """Both parts in one frame, so that what an answer says again costs little."""
    return Packed(
        None if bodies.request is None else len(bodies.request),
        None if bodies.answer is None else len(bodies.answer),
        _own.packer.compress((bodies.request or b"") + (bodies.answer or b"")),
    )


def write_bodies(book: Book, seq: int, packed: Packed) -> None:
    """Part of the receipt's transaction."""
    book.execute(
        "INSERT INTO bodies (seq, request_size, answer_size, data) VALUES (?, ?, ?, ?)",
        (seq, packed.request_size, packed.answer_size, packed.data),
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
        for facet, tenant in await self._readers.ask(_facets):
            kept_days = tenant_days.get(tenant, days)
            if kept_days:
                gone += await self._expire(writer, facet, now_ms - kept_days * _DAY_MS)
        while gone and await writer.later(give_back):
            pass
        return gone

    async def _expire(self, writer: Writer, facet: int, before_ms: int) -> int:
        """One facet's old bodies, oldest first; the ledger remembers how far it has come."""
        gone, cursor = 0, await self._readers.ask(lambda conn: _cursor(conn, facet))
        while batch := await self._next(facet, cursor, before_ms):
            cursor = batch.until
            gone += await writer.later(partial(_delete, facet=facet, batch=batch))
        return gone

    async def _next(self, facet: int, cursor: "_Cursor", before_ms: int) -> "_Batch | None":
        return await self._readers.ask(lambda conn: _old(conn, facet, cursor, before_ms))


_Cursor = tuple[int, int]
"""(created_at, seq) of a receipt."""


@frozen
class _Batch:
    """Receipts whose bodies may go, in order, up to the last of them."""

    seqs: tuple[int, ...]
    until: _Cursor


def _facets(conn: sqlite3.Connection) -> list[tuple[int, str]]:
    return conn.execute("SELECT id, tenant FROM facets").fetchall()


def _cursor(conn: sqlite3.Connection, facet: int) -> _Cursor:
    row = conn.execute("SELECT created_at, seq FROM expired WHERE facet_id = ?", (facet,))
    return row.fetchone() or (-1, 0)


def _old(conn: sqlite3.Connection, facet: int, cursor: _Cursor, before_ms: int) -> _Batch | None:
    """So few rows, and so few bytes, that a call that waits for them hardly notices."""
    rows = conn.execute(
        "SELECT r.created_at, r.seq, length(b.data) FROM receipts r INDEXED BY receipts_facet"
        " LEFT JOIN bodies b ON b.seq = r.seq WHERE r.facet_id = ? AND r.created_at < ?"
        " AND (r.created_at, r.seq) > (?, ?) ORDER BY r.created_at, r.seq LIMIT ?",
        (facet, before_ms, *cursor, _BATCH_ROWS),
    ).fetchall()
    size = 0
    for n, (_, _, length) in enumerate(rows, start=1):
        size += length or 0
        if size > _BATCH_BYTES:
            rows = rows[:n]
            break
    return _Batch(tuple(row[1] for row in rows), rows[-1][:2]) if rows else None


def _delete(book: Book, *, facet: int, batch: _Batch) -> int:
    deleted = book.conn.executemany(
        "DELETE FROM bodies WHERE seq = ?", [(seq,) for seq in batch.seqs]
    ).rowcount
    book.execute(
        "INSERT INTO expired (facet_id, created_at, seq) VALUES (?, ?, ?) ON CONFLICT (facet_id)"
        " DO UPDATE SET created_at = excluded.created_at, seq = excluded.seq",
        (facet, *batch.until),
    )
    return deleted


def unpack(packed: Packed) -> Bodies:
    """The bytes as they were. Raises ValueError when the row is damaged."""
    split = packed.request_size or 0
    try:
        if packed.data.startswith(zstandard.FRAME_HEADER):
            both = zstandard.ZstdDecompressor().decompress(packed.data)
        else:
            both = zlib.decompress(packed.data, wbits=-15)
    except (zstandard.ZstdError, MemoryError, zlib.error):
        raise ValueError("the bodies cannot be unpacked") from None
    return Bodies(
        None if packed.request_size is None else both[:split],
        None if packed.answer_size is None else both[split:],
    )


def give_back(book: Book) -> bool:
    """Return some freed pages to the file system; whether there may be more."""
    (free,) = book.execute("PRAGMA freelist_count").fetchone()
    for _ in range(min(free, _BATCH_PAGES)):  # the driver steps this statement once: one page
        book.execute("PRAGMA incremental_vacuum(1)")
    return int(free) > _BATCH_PAGES
