"""Answers that are kept to be given again: in memory within a bound, all of them in the ledger.

A hit in memory costs no SQL, and neither does a miss: the beginnings of all keys are known. A row
carries a hash of all that it says, so one that was damaged, or moved under another key, is no hit;
it is deleted. What is kept is bounded, in bytes and in number, and the oldest goes first.
"""

import asyncio
import sqlite3
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from hashlib import blake2b
from typing import Any

import orjson

from modelspend import tasks
from modelspend.answers import Kept
from modelspend.errors import LedgerUnavailable
from modelspend.store.bodies import LARGE, give_back
from modelspend.store.book import Book
from modelspend.store.readers import Readers
from modelspend.store.writer import Writer, needed

MEMORY = 16 * 1024 * 1024
MOST = 65_536
_BATCH = 200
_EACH = 512  # bytes of an answer in memory, and in the ledger, beside its body

_Row = tuple[Any, ...]
_Taken = list[tuple[bytes, int]]


class Answers:
    def __init__(
        self, readers: Readers, writer: Writer | None, *, memory: int = MEMORY, most: int = MOST
    ) -> None:
        self._readers = readers
        self._writer = writer
        self._recent: OrderedDict[bytes, Kept] = OrderedDict()
        self._memory = memory
        self._most = most
        self._used = 0
        self._starts: set[int] | None = None  # of every key in the ledger; None: not asked yet
        self._stored = 0  # bytes in the ledger

    async def get(self, key: bytes, *, tenant: str, now_ms: int) -> Kept | None:
        """The answer of a key that is this tenant's and still fresh."""
        found = self._recent.get(key)
        if found is None:
            if self._starts is None:
                self._starts = await self._load()
            if _start(key) not in self._starts:
                return None
            found = await self._from_ledger(key)
        if found is None or found.tenant != tenant or found.expires_at_ms <= now_ms:
            return None
        self._remember(found)
        return found

    async def put(self, kept: Kept, *, room: int) -> bool:
        """Keep an answer, in place of an older one of its key; `room` bounds all that the ledger
        keeps. False when it is too large, or the ledger takes nothing now: no call minds."""
        if len(kept.body) + _EACH > room // 8:
            return False
        if self._starts is None:
            self._starts = await self._load()
        self._remember(kept)
        large = len(kept.body) > LARGE
        row = await asyncio.to_thread(_row, kept) if large else _row(kept)
        try:
            self._stored += await needed(self._writer).later(partial(_insert, row=row))
            self._starts.add(_start(kept.key))
            await self._make_room(room)
        except LedgerUnavailable:
            return False
        return True

    async def expire(self, now_ms: int) -> int:
        """Delete what is no longer fresh, in small batches between calls; how many went."""
        for key, kept in tuple(self._recent.items()):
            if kept.expires_at_ms <= now_ms:
                self._forget(key)
        gone = 0
        while batch := await needed(self._writer).later(partial(_take_ended, now_ms=now_ms)):
            gone += self._gone(batch)
        while gone and await needed(self._writer).later(give_back):
            pass
        return gone

    async def _make_room(self, room: int) -> None:
        assert self._starts is not None
        while self._stored > room or len(self._starts) > self._most:
            over = self._stored - room, len(self._starts) - self._most
            batch = await needed(self._writer).later(partial(_take_oldest, over=over))
            if not self._gone(batch):
                return

    def _gone(self, batch: _Taken) -> int:
        for key, size in batch:
            self._forget(key)
            self._stored -= size
            if self._starts is not None:
                self._starts.discard(_start(key))
        return len(batch)

    async def _load(self) -> set[int]:
        keys, stored = await self._readers.ask(_known)
        if self._starts is not None:  # somebody else asked at the same time
            return self._starts
        self._stored = stored
        return {_start(key) for key in keys}

    async def _from_ledger(self, key: bytes) -> Kept | None:
        row = await self._readers.ask(lambda conn: _select(conn, key))
        kept = None if row is None else _kept(row)
        if row is not None and kept is None and self._writer is not None:
            tasks.spawn(self._drop(key), "drop a damaged answer")
        return kept

    async def _drop(self, key: bytes) -> None:
        try:
            await needed(self._writer).later(partial(_drop, key=key))
        except LedgerUnavailable:
            return
        if self._starts:
            self._starts.discard(_start(key))

    def _remember(self, kept: Kept) -> None:
        size = len(kept.body) + _EACH
        self._forget(kept.key)
        if size > self._memory:
            return
        self._recent[kept.key] = kept
        self._used += size
        while self._used > self._memory:
            self._forget(next(iter(self._recent)))

    def _forget(self, key: bytes) -> None:
        kept = self._recent.pop(key, None)
        if kept is not None:
            self._used -= len(kept.body) + _EACH


def _start(key: bytes) -> int:
    return int.from_bytes(key[:8], "big")


def _known(conn: sqlite3.Connection) -> tuple[list[bytes], int]:
    keys = [row[0] for row in conn.execute("SELECT key FROM answer_cache")]
    (stored,) = conn.execute(
        "SELECT coalesce(sum(size), 0) FROM answer_cache INDEXED BY answer_cache_age"
    ).fetchone()
    return keys, int(stored)


_COLUMNS = (
    "key, tenant, created_at, expires_at, dialect, stream, seq, status, size, digest, head, body"
)
_AS_BYTES = (  # a damaged text may be no text at all
    "key, CAST(tenant AS BLOB), created_at, expires_at, CAST(dialect AS BLOB), stream, seq, status,"
    " size, digest, CAST(head AS BLOB), CAST(body AS BLOB)"
)
_INSERT = (
    f"INSERT INTO answer_cache ({_COLUMNS}) VALUES ({', '.join('?' * 12)}) ON CONFLICT (key)"
    " DO UPDATE SET tenant = excluded.tenant, created_at = excluded.created_at,"
    " expires_at = excluded.expires_at, dialect = excluded.dialect, stream = excluded.stream,"
    " seq = excluded.seq, status = excluded.status, size = excluded.size,"
    " digest = excluded.digest, head = excluded.head, body = excluded.body"
)


def _insert(book: Book, *, row: _Row) -> int:
    """The bytes that the ledger keeps more of."""
    before = book.execute("SELECT size FROM answer_cache WHERE key = ?", (row[0],)).fetchone()
    book.execute(_INSERT, row)
    return int(row[8]) - (int(before[0]) if before else 0)


def _take_ended(book: Book, *, now_ms: int) -> _Taken:
    """A small batch of what is no longer fresh, deleted."""
    rows: _Taken = book.execute(
        "SELECT key, size FROM answer_cache WHERE expires_at <= ? ORDER BY expires_at LIMIT ?",
        (now_ms, _BATCH),
    ).fetchall()
    return _take(book, rows)


def _take_oldest(book: Book, *, over: tuple[int, int]) -> _Taken:
    """As many of the oldest as there are bytes or rows too many, a small batch at most, deleted."""
    size_over, rows_over = over
    rows: _Taken = []
    for key, size in book.execute(
        "SELECT key, size FROM answer_cache ORDER BY created_at, size LIMIT ?", (_BATCH,)
    ).fetchall():
        if size_over <= 0 and rows_over <= 0:
            break
        rows.append((key, size))
        size_over, rows_over = size_over - size, rows_over - 1
    return _take(book, rows)


def _take(book: Book, rows: _Taken) -> _Taken:
    book.conn.executemany("DELETE FROM answer_cache WHERE key = ?", [(key,) for key, _ in rows])
    return rows


def _drop(book: Book, *, key: bytes) -> None:
    book.execute("DELETE FROM answer_cache WHERE key = ?", (key,))


def _select(conn: sqlite3.Connection, key: bytes) -> _Row | None:
    row: _Row | None = conn.execute(
        f"SELECT {_AS_BYTES} FROM answer_cache WHERE key = ?", (key,)
    ).fetchone()
    return row


def _row(kept: Kept) -> _Row:
    head = orjson.dumps(
        [kept.receipt_id, kept.provider, kept.model, kept.cost_pico, kept.headers]
    ).decode()
    body = zlib.compress(kept.body, 1)
    said = (
        kept.key,
        kept.tenant,
        kept.created_at_ms,
        kept.expires_at_ms,
        kept.dialect,
        int(kept.stream),
        kept.seq,
        kept.status,
        len(body) + len(head) + _EACH,
    )
    return (*said, _digest((*said, head, body)), head, body)


def _kept(row: _Row) -> Kept | None:
    """The answer of a row; None when it does not say what was written."""
    *said, digest, head, body = row
    try:
        if _digest((*said, head, body)) != digest:
            return None
        receipt_id, provider, model, cost_pico, headers = orjson.loads(head)
        key, tenant, created_at, expires_at, dialect, stream, seq, status, _ = said
        return Kept(
            key=key,
            tenant=tenant.decode(),
            created_at_ms=created_at,
            expires_at_ms=expires_at,
            dialect=dialect.decode(),
            stream=bool(stream),
            seq=seq,
            receipt_id=receipt_id,
            provider=provider,
            model=model,
            cost_pico=cost_pico,
            status=status,
            headers=tuple((name, value) for name, value in headers),
            body=zlib.decompress(body),
        )
    except (ValueError, TypeError, AttributeError, zlib.error):
        return None


def _digest(values: Iterable[Any]) -> bytes:
    """A hash of all that a row says, each value with its length before it."""
    found = blake2b(digest_size=16)
    for value in values:
        raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
        found.update(len(raw).to_bytes(8, "big") + raw)
    return found.digest()
