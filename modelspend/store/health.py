"""Health by the minute, counted from the attempts of receipts behind the back of all calls.

A cursor says how far the attempts were counted; it moves in the transaction of the counts, so a
crash neither loses nor doubles one. What came after it is counted when somebody asks. Attempts that
a drill has met are left out: they say nothing of their provider.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from modelspend.health import MINUTE_MS, Sample, Sketch
from modelspend.store.book import Book
from modelspend.store.readers import Readers
from modelspend.store.writer import Writer, needed

KEPT_MS = 30 * 86_400_000
_CURSOR = "health.seq"
_BATCH = 500  # attempts at a time: calls wait for the writer as long as it takes them
_AT_ONCE = 80  # batches
_DELETED = 500
_MOST_UNCOUNTED = 100_000  # attempts that a question counts itself

Name = tuple[int, str, str]


class Health:
    def __init__(self, readers: Readers, writer: Writer | None) -> None:
        self._readers = readers
        self._writer = writer

    async def sample(self, now_ms: int) -> int:
        """Count the attempts that came since; how many there were."""
        counted = 0
        for _ in range(_AT_ONCE):
            cursor, last, found, many = await self._readers.ask(
                lambda conn: _uncounted(conn, now_ms - KEPT_MS, _BATCH)
            )
            if last == cursor:
                break
            await needed(self._writer).later(_adding(cursor, last, found))
            counted += many
        return counted

    async def samples(
        self,
        since_ms: int,
        until_ms: int,
        *,
        provider: str | None = None,
        model: str | None = None,
    ) -> list[Sample]:
        """Every minute that a time touches, oldest first, up to the attempts of this moment."""

        first = since_ms // MINUTE_MS * MINUTE_MS

        def ask(conn: sqlite3.Connection) -> list[Sample]:
            conn.execute("BEGIN")  # what is counted and what is not, of the same moment
            try:
                found = {_name(one): one for one in _stored(conn, first, until_ms)}
                _, _, rest, _ = _uncounted(conn, first, _MOST_UNCOUNTED)
            finally:
                conn.execute("COMMIT")
            for one in rest:
                if one.at_ms < until_ms:
                    _merged(found, one)
            return [
                one
                for _, one in sorted(found.items())
                if provider in (None, one.provider) and model in (None, one.model_id)
            ]

        return await self._readers.ask(ask)

    async def expire(self, now_ms: int, *, kept_ms: int = KEPT_MS) -> int:
        """Forget minutes that are too old, some at a time between calls; how many went."""
        gone = 0
        while some := await needed(self._writer).later(
            lambda book: _expire(book, now_ms - kept_ms)
        ):
            gone += some
        return gone


def _uncounted(
    conn: sqlite3.Connection, since_ms: int, limit: int
) -> tuple[int, int, list[Sample], int]:
    """(the cursor, where it moves to, minutes, how many attempts) after the cursor.

    All attempts of a receipt go together: the last one, which may be incomplete, is left for the
    next time when there is a limit.
    """
    cursor = _cursor(conn)
    rows = conn.execute(
        "SELECT seq, started_at, provider, model_id, status, failure_class, latency_ms, ttft_ms,"
        " drill FROM attempts WHERE seq > ? ORDER BY seq, n LIMIT ?",
        (cursor, limit),
    ).fetchall()
    if len(rows) == limit and rows[0][0] != rows[-1][0]:
        rows = [row for row in rows if row[0] != rows[-1][0]]
    found: dict[Name, Sample] = {}
    for _, at, provider, model, status, failure, latency, ttft, drill in rows:
        if at >= since_ms and drill is None:
            one = Sample(at // MINUTE_MS * MINUTE_MS, provider, model)
            told = failure or (None if status in _WELL else status)
            found.setdefault(_name(one), one).add(told, latency, ttft)
    return cursor, rows[-1][0] if rows else cursor, list(found.values()), len(rows)


_WELL = ("success", "budget_stopped")  # the provider's part was well in both


def _adding(cursor: int, last: int, found: Iterable[Sample]) -> Any:
    def add(book: Book) -> None:
        if _cursor(book.conn) != cursor:
            return  # it was done already
        for one in found:
            before = book.execute(_SELECT + _THIS, _name(one)).fetchone()
            if before is not None:
                one.merge(_sample(*before))
            texts = _text(one.failures), _text(one.latency), _text(one.ttft)
            book.execute(_UPSERT, (*_name(one), one.calls, *texts))
        book.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (_CURSOR, last),
        )

    return add


def _cursor(conn: sqlite3.Connection) -> int:
    row = conn.execute("SELECT value FROM meta WHERE key = ?", (_CURSOR,)).fetchone()
    return int(row[0]) if row else 0


def _stored(conn: sqlite3.Connection, first_ms: int, until_ms: int) -> Iterator[Sample]:
    for row in conn.execute(f"{_SELECT} WHERE minute >= ? AND minute < ?", (first_ms, until_ms)):
        yield _sample(*row)


_SELECT = "SELECT minute, provider, model_id, calls, failures, latency, ttft FROM health_samples"
_THIS = " WHERE minute = ? AND provider = ? AND model_id = ?"
_UPSERT = (
    "INSERT INTO health_samples (minute, provider, model_id, calls, failures, latency, ttft)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (minute, provider, model_id) DO UPDATE SET"
    " calls = excluded.calls, failures = excluded.failures, latency = excluded.latency,"
    " ttft = excluded.ttft"
)


def _name(one: Sample) -> Name:
    return one.at_ms, one.provider, one.model_id


def _merged(found: dict[Name, Sample], one: Sample) -> None:
    if _name(one) in found:
        found[_name(one)].merge(one)
    else:
        found[_name(one)] = one


def _text(counts: Mapping[Any, int]) -> str:
    return orjson.dumps(counts, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SORT_KEYS).decode()


def _sample(
    minute: int, provider: str, model: str, calls: int, failures: str, latency: str, ttft: str
) -> Sample:
    return Sample(
        minute, provider, model, calls, orjson.loads(failures), _sketch(latency), _sketch(ttft)
    )


def _sketch(text: str) -> Sketch:
    return {int(number): count for number, count in orjson.loads(text).items()}


def _expire(book: Book, before_ms: int) -> int:
    return book.execute(
        "DELETE FROM health_samples WHERE (minute, provider, model_id) IN"
        " (SELECT minute, provider, model_id FROM health_samples WHERE minute < ? LIMIT ?)",
        (before_ms, _DELETED),
    ).rowcount
