"""What sinks read, and where each of them is.

One number follows receipts and events alike, since both draw it from one counter. A page never
looks through more than `_SCAN` numbers, so a sink that wants little holds up no reader for long.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from modelspend.events import RECEIPT, Event, Wanted
from modelspend.sinks import Standing, Wants
from modelspend.store.book import Book
from modelspend.store.events import conditions, select, write_event
from modelspend.store.readers import Readers
from modelspend.store.receipts import Stored, load
from modelspend.store.right_of_way import RightOfWay
from modelspend.store.writer import Writer, needed

log = logging.getLogger("modelspend.sinks")

_SCAN = 20_000
_DELETED = 500
_LATELY = 512  # about 5 MB; sinks are some seconds apart

Emission = Event | Stored
"""One thing to tell; both have a `seq`."""

Read = dict[int, Emission]
"""By their numbers."""

Also = Callable[[Book], object]
"""What is written in the transaction that moves a sink on."""


class Heading(NamedTuple):
    """What is to be known of one thing to tell before it is read; `kind` of a receipt: RECEIPT."""

    seq: int
    at_ms: int
    kind: str
    tenant: str | None
    receipt_id: str | None


class Headings(NamedTuple):
    """In the order of their numbers, the number to go on from, the newest there is."""

    headings: list[Heading]
    cursor: int
    last: int


class Page(NamedTuple):
    """Emissions in the order of their numbers, the number to go on from, the newest there is, the
    numbers of those that are damaged and cannot be read, and the CPU seconds that it took."""

    emissions: list[Emission]
    cursor: int
    last: int
    damaged: tuple[int, ...] = ()
    took_s: float = 0.0


class Lately:
    """What was read last. All sinks read the same, and to make a receipt of its row is most of the
    work. Nothing that has a number ever changes; what is deleted is not asked for any more.

    After each receipt that is made, calls go first (`way`; None where no call is carried).
    """

    def __init__(self, way: RightOfWay | None) -> None:
        self._way = way
        self._kept: dict[int, Emission] = {}
        self._lock = threading.Lock()

    def read(self, conn: sqlite3.Connection, several: Iterable[tuple[int, str]]) -> Read:
        """What has these numbers, each named with its kind. What is not there, or damaged so that
        it cannot be read, is missing: one bad row must not stop whoever has the others to tell."""
        found: Read = {}
        for seq, kind in several:
            try:
                one = self._kept.get(seq) or self._made(conn, seq, kind)
            except sqlite3.Error:
                raise
            except Exception as error:
                log.error("number %d of the ledger cannot be read: %s", seq, type(error).__name__)
            else:
                if one:
                    found[seq] = one
        self._keep(found)
        return found

    def _made(self, conn: sqlite3.Connection, seq: int, kind: str) -> Emission | None:
        if kind != RECEIPT:
            return next(iter(select(conn, Wanted(), "seq = ?", (seq,), "seq", 1)), None)
        receipt = load(conn, [seq])[0]
        if self._way:
            self._way.give()
        return receipt

    def _keep(self, found: Read) -> None:
        with self._lock:
            self._kept.update(found)
            for seq in sorted(self._kept)[:-_LATELY]:
                del self._kept[seq]


class Sinks:
    def __init__(self, readers: Readers, writer: Writer | None, lately: Lately) -> None:
        self._readers = readers
        self._writer = writer
        self._lately = lately

    async def page(self, cursor: int, limit: int, wants: Wants) -> Page:
        """The next ones that a sink wants."""
        page, took_s = await self._readers.timed(
            lambda conn: self._page(conn, cursor, limit, wants)
        )
        return page._replace(took_s=took_s)

    def _page(self, conn: sqlite3.Connection, cursor: int, limit: int, wants: Wants) -> Page:
        found, until, last = _headings(conn, cursor, limit, wants)
        told = self._lately.read(conn, [(one.seq, one.kind) for one in found])
        damaged = tuple(one.seq for one in found if one.seq not in told)
        return Page(list(told.values()), until, last, damaged)

    async def headings(self, cursor: int, limit: int, wants: Wants) -> Headings:
        """The same without reading them: a hundredth of the work."""
        return await self._readers.ask(lambda conn: _headings(conn, cursor, limit, wants))

    async def last(self) -> int:
        """The newest number there is."""
        return await self._readers.ask(_last)

    async def before(self, ms: int) -> int:
        """The number behind which lies all that happened at a time (milliseconds UTC) or later."""
        return await self._readers.ask(lambda conn: _before(conn, ms))

    async def count(self, after: int, until: int | None, wants: Wants) -> tuple[int, int]:
        """How many a sink wants with numbers after one and up to another (or the newest): the
        count, and the number up to which it was counted."""
        count = 0
        while True:
            start = after
            found, after, last = await self._readers.ask(
                lambda conn, start=start: counted(conn, start, until, wants)  # type: ignore[misc]
            )
            count += found
            if after >= last:
                return count, after

    async def enrol(self, name: str, wants: Wants) -> Standing:
        """Where a sink goes on; a new one begins with what happens from now on. Dead letters of
        an earlier one of its name are its own: they may be given back to it."""

        def put(book: Book) -> Standing:
            last = _last(book.conn)
            letters = 0
            if not book.execute("SELECT 1 FROM sinks WHERE name = ?", (name,)).fetchone():
                (letters,) = book.execute(_LETTERS, (_webhook(name),)).fetchone()
            book.execute(
                f"INSERT INTO sinks (name, {_WANTS}, started, cursor, dropped)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
                + ", ".join(f"{column} = excluded.{column}" for column in _WANTS.split(", ")),
                (name, *_wants_row(wants), last, last, letters),
            )
            row = book.execute(f"{_SELECT} WHERE name = ?", (name,)).fetchone()
            return _standing(*row)[0]

        return await needed(self._writer).aside(put)  # behind what it wrote before it was stopped

    async def forget(self, names: Sequence[str]) -> None:
        """Where some sinks were, unless deliveries of theirs wait: each begins anew."""

        def put(book: Book) -> None:
            for name in names:
                book.execute("DELETE FROM sinks WHERE name = ? AND filed = 0", (name,))

        await needed(self._writer).later(put)

    async def let_go(self, name: str, at_ms: int) -> Standing | None:
        """Forget where a sink was and what waits for it, and tell of that; how it stood, or None
        where it is not known. Its dead letters stay as long as others do."""
        found = await self.standings(at_ms, (name,))
        if not found:
            return None
        writer, deleted = needed(self._writer), _DELETED
        while deleted == _DELETED:
            deleted = await writer.later(lambda book: _drop_filed(book, name))
        told = Event(
            kind="sink.forgotten",
            at_ms=at_ms,
            data={"sink": name, "waited": found[0].queued, "sent": found[0].sent},
        )

        def put(book: Book) -> None:
            if book.execute("DELETE FROM sinks WHERE name = ?", (name,)).rowcount:
                write_event(book, told)

        await writer.do(put)
        return found[0]

    async def advance(
        self,
        name: str,
        cursor: int,
        *,
        sent: int,
        dropped: int,
        filed: int,
        at_ms: int,
        error: str | None = None,
        also: Sequence[Also] = (),
    ) -> None:
        """Everything up to a number is sent, dropped or filed; all of it or nothing."""

        def put(book: Book) -> None:
            book.execute(
                "UPDATE sinks SET cursor = ?, sent = sent + ?, dropped = dropped + ?,"
                " filed = filed + ?, sent_at = CASE WHEN ? THEN ? ELSE sent_at END WHERE name = ?",
                (cursor, sent, dropped, filed, sent, at_ms, name),
            )
            if error is not None:
                _fail(book, name, error, at_ms)
            for one in also:
                one(book)

        await needed(self._writer).aside(put)

    async def failed(self, name: str, error: str, at_ms: int) -> None:
        """What went wrong last."""
        await needed(self._writer).aside(lambda book: _fail(book, name, error, at_ms))

    async def rows(self) -> list[Standing]:
        """Every sink as it is written down, without what waits in the ledger."""
        return [_standing(*row)[0] for row in await self._rows()]

    async def _rows(self) -> list[tuple[Any, ...]]:
        return await self._readers.ask(lambda conn: conn.execute(_SELECT).fetchall())

    async def standings(self, now_ms: int, names: Collection[str] | None = None) -> list[Standing]:
        """Every sink that the ledger knows of, or some, with what waits for it."""
        found = []
        for row in await self._rows():
            standing, wants = _standing(*row)
            if names is not None and standing.name not in names:
                continue
            waiting, _ = await self.count(standing.cursor, None, wants)
            lag = await self.lag_ms(standing, wants, now_ms) if waiting or standing.filed else None
            found.append(replace(standing, queued=waiting + standing.filed, lag_ms=lag))
        return found

    async def lag_ms(self, standing: Standing, wants: Wants, now_ms: int) -> int | None:
        """The age of the oldest that waits."""
        first = await self.headings(standing.cursor, 1, wants)
        ages = [now_ms - one.at_ms for one in first.headings]
        if standing.filed:
            webhook = _webhook(standing.name)
            oldest = await self._readers.ask(lambda conn: _first(conn, _OLDEST, webhook))
            ages += [] if oldest is None else [now_ms - oldest]
        return max(ages, default=None)


_OLDEST = "SELECT min(created_at) FROM webhook_deliveries WHERE webhook = ? AND due_at IS NOT NULL"
_LETTERS = "SELECT count(*) FROM webhook_dead_letters WHERE webhook = ?"
_WANTS = "kinds, tenant, receipts, levels, rules"
_SELECT = (
    f"SELECT name, cursor, sent, dropped, filed, sent_at, error, error_at, {_WANTS} FROM sinks"
)


def _first(conn: sqlite3.Connection, query: str, value: str) -> int | None:
    found: int | None = conn.execute(query, (value,)).fetchone()[0]
    return found


def settle(book: Book, name: str, *, sent: int = 0, dropped: int = 0, filed: int = 0) -> None:
    """Part of the caller's transaction: what was filed has come to an end, or is filed again."""
    book.execute(
        "UPDATE sinks SET sent = sent + ?, dropped = dropped + ?, filed = filed + ? WHERE name = ?",
        (sent, dropped, filed, name),
    )


def _webhook(sink: str) -> str:
    return sink.removeprefix("webhook:") if sink.startswith("webhook:") else ""


def _drop_filed(book: Book, name: str) -> int:
    """Some of the deliveries that have not come to their end."""
    gone = book.execute(
        "DELETE FROM webhook_deliveries WHERE delivery_id IN (SELECT delivery_id"
        " FROM webhook_deliveries WHERE webhook = ? AND due_at IS NOT NULL LIMIT ?)",
        (_webhook(name), _DELETED),
    ).rowcount
    settle(book, name, filed=-gone)
    return gone


def _fail(book: Book, name: str, error: str, at_ms: int) -> None:
    book.execute("UPDATE sinks SET error = ?, error_at = ? WHERE name = ?", (error, at_ms, name))


def told_at(one: Emission) -> int:
    """When it happened, in milliseconds UTC; of a receipt, when its call began."""
    return one.at_ms if isinstance(one, Event) else one.receipt.created_at_ms


def written(conn: sqlite3.Connection) -> list[tuple[Standing, Wants]]:
    """Every sink as it is written down, and what it takes."""
    return [_standing(*row) for row in conn.execute(_SELECT)]


def _wants_row(wants: Wants) -> tuple[Any, ...]:
    """In the order of `_WANTS`."""
    kinds, levels, rules = map(",".join, (wants.kinds, wants.levels, wants.rules))
    return kinds, wants.tenant, wants.receipts, levels, rules


def _standing(*row: Any) -> tuple[Standing, Wants]:
    name, cursor, sent, dropped, filed, sent_at, error, error_at, *wanted = row
    standing = Standing(
        name=name,
        cursor=cursor,
        sent=sent,
        dropped=dropped,
        filed=filed,
        sent_at_ms=sent_at,
        error=error,
        error_at_ms=error_at,
    )
    kinds, tenant, receipts, levels, rules = wanted
    return standing, Wants(
        receipts=bool(receipts),
        kinds=_named(kinds),
        tenant=tenant,
        levels=_named(levels),
        rules=_named(rules),
    )


def _named(text: str) -> tuple[str, ...]:
    return tuple(each for each in text.split(",") if each)


def _last(conn: sqlite3.Connection) -> int:
    row = conn.execute(
        "SELECT max(coalesce((SELECT max(seq) FROM events), 0),"
        " coalesce((SELECT max(seq) FROM receipts), 0))"
    ).fetchone()
    return int(row[0])


def _before(conn: sqlite3.Connection, ms: int) -> int:
    firsts = [
        conn.execute(query, (ms,)).fetchone()[0]
        for query in (
            "SELECT min(seq) FROM events WHERE created_at >= ?",
            "SELECT min(seq) FROM receipts INDEXED BY receipts_time WHERE created_at >= ?",
        )
    ]
    known = [first for first in firsts if first is not None]
    return min(known) - 1 if known else _last(conn)


def _headings(conn: sqlite3.Connection, cursor: int, limit: int, wants: Wants) -> Headings:
    """What is behind the newest number is all there: later rows have greater ones."""
    last = max(_last(conn), cursor)
    until = min(last, cursor + _SCAN)
    rows: list[tuple[Any, ...]] = []
    if wants.kinds:
        terms, values = conditions(wants.events)
        rows += conn.execute(
            "SELECT seq, created_at, kind, tenant, receipt_id FROM events"
            f" WHERE {' AND '.join((_PLACE, *terms))} ORDER BY seq LIMIT ?",
            (cursor, until, *values, limit),
        )
    if wants.receipts:
        rows += conn.execute(
            f"SELECT seq, created_at, '{RECEIPT}', tenant, receipt_id FROM receipts"
            f" WHERE {_RECEIPTS} ORDER BY seq LIMIT ?",
            (cursor, until, wants.tenant, wants.tenant, limit),
        )
    found = [Heading(*row) for row in sorted(rows)[:limit]]
    return Headings(found, found[-1].seq if len(found) == limit else until, last)


_PLACE = "seq > ? AND seq <= ?"
_RECEIPTS = f"{_PLACE} AND (? IS NULL OR tenant = ?)"


def counted(
    conn: sqlite3.Connection, after: int, until: int | None, wants: Wants
) -> tuple[int, int, int]:
    """How many a sink wants of the next numbers, up to which number they were looked at, and the
    last to look at."""
    last = max(_last(conn) if until is None else until, after)
    end = min(last, after + _SCAN)
    count = 0
    if wants.kinds:
        terms, values = conditions(wants.events)
        count += conn.execute(
            f"SELECT count(*) FROM events WHERE {' AND '.join((_PLACE, *terms))}",
            (after, end, *values),
        ).fetchone()[0]
    if wants.receipts:
        count += conn.execute(
            f"SELECT count(*) FROM receipts WHERE {_RECEIPTS}",
            (after, end, wants.tenant, wants.tenant),
        ).fetchone()[0]
    return count, end, last
