"""Where answers lie that a provider keeps, so that a request that goes on from one finds it again.

A row is written in the transaction of its receipt; what was written or asked for last is in memory.
An id is looked for within its tenant only: another tenant's id is as good as unknown.
"""

import sqlite3
from collections import OrderedDict
from functools import partial

from modelspend.record import record
from modelspend.store.book import Book
from modelspend.store.readers import Readers
from modelspend.store.writer import Writer, needed

KEPT_MS = 30 * 86_400_000
"""OpenAI keeps a response for 30 days (platform.openai.com/docs/guides/your-data, 2026-11-25)."""

MOST = 20_000  # in memory, at some 300 bytes each
_BATCH = 500


@record
class StoredAnswer:
    """An answer that its provider keeps under an id of its own."""

    tenant: str
    answer_id: str
    provider: str
    model: str
    at_ms: int


class StoredAnswers:
    def __init__(self, readers: Readers, writer: Writer | None, *, most: int = MOST) -> None:
        self._readers = readers
        self._writer = writer
        self._known: OrderedDict[tuple[str, str], StoredAnswer] = OrderedDict()
        self._most = most

    async def find(self, tenant: str, answer_id: str) -> StoredAnswer | None:
        """Who keeps an answer; null when we do not know of it."""
        found = self._known.get((tenant, answer_id))
        if found is None:
            found = await self._readers.ask(partial(_select, tenant=tenant, answer_id=answer_id))
        if found is not None:
            self.remember(found)
        return found

    def remember(self, answer: StoredAnswer) -> None:
        """Know it from now on; give it to `calls.finish`, too, for the time after a restart."""
        key = (answer.tenant, answer.answer_id)
        self._known[key] = answer
        self._known.move_to_end(key)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    async def expire(self, now_ms: int, *, kept_ms: int = KEPT_MS) -> int:
        """Forget what its provider no longer keeps, in small batches; how many went."""
        before, gone = now_ms - kept_ms, 0
        for key, answer in tuple(self._known.items()):
            if answer.at_ms < before:
                del self._known[key]
        while batch := await needed(self._writer).later(partial(_delete, before=before)):
            gone += batch
        return gone


def write_stored(book: Book, answer: StoredAnswer) -> None:
    """Part of the receipt's transaction."""
    book.execute(
        "INSERT INTO stored_answers (tenant, answer_id, provider, model, at)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT (tenant, answer_id) DO UPDATE SET"
        " provider = excluded.provider, model = excluded.model, at = excluded.at",
        (answer.tenant, answer.answer_id, answer.provider, answer.model, answer.at_ms),
    )


def _select(conn: sqlite3.Connection, *, tenant: str, answer_id: str) -> StoredAnswer | None:
    row = conn.execute(
        "SELECT provider, model, at FROM stored_answers WHERE tenant = ? AND answer_id = ?",
        (tenant, answer_id),
    ).fetchone()
    if row is None:
        return None
    provider, model, at = row
    return StoredAnswer(
        tenant=tenant, answer_id=answer_id, provider=provider, model=model, at_ms=at
    )


def _delete(book: Book, *, before: int) -> int:
    gone = book.execute(
        "DELETE FROM stored_answers WHERE (tenant, answer_id) IN"
        " (SELECT tenant, answer_id FROM stored_answers WHERE at < ? ORDER BY at LIMIT ?)",
        (before, _BATCH),
    )
    return gone.rowcount
