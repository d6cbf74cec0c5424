"""Conversations as the ledger keeps them, and what their turns missed in the providers' caches.

A row is written in the transaction of its receipt; nothing is read there. What is asked before a
call comes from memory, which knows the conversations that were active last, and of all others the
hash of their name: so a new session costs no SQL, and an old one one question, once.
"""

import sqlite3
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from struct import Struct, error
from typing import Any

import orjson

from modelspend.conversations import (
    Conversation,
    Miss,
    MissKind,
    Turn,
    continued,
    missed,
    thread_of,
    turn_of,
)
from modelspend.record import record
from modelspend.segments import AREAS, Segment, Segments
from modelspend.store.book import Book
from modelspend.store.readers import Readers
from modelspend.store.search import ALL, Filter, Terms, conditions
from modelspend.store.sums import sum_of, whole
from modelspend.store.writer import Writer, needed

KEPT_MS = 30 * 86_400_000  # a conversation that rests longer is forgotten
ROOM = 16 * 1024 * 1024
_BATCH = 200
_MOST = 200_000  # names in memory, at some sixty bytes each; beyond it SQL is asked
_EACH = 400  # bytes of a conversation in memory beside its segments
_SEGMENT = 160

_Key = tuple[str, str]


@record
class Advanced:
    """A conversation after one more turn, for the transaction of that turn's receipt."""

    tenant: str
    session: str
    conversation: Conversation
    miss: Miss | None


@record
class Missed:
    """A miss with what its receipt says of it."""

    seq: int
    receipt_id: str
    created_at_ms: int
    tenant: str
    workflow: str | None
    session: str
    provider: str | None
    model: str | None
    miss: Miss


@record
class MissTotal:
    """Misses together; `unpriced` of them add nothing to `cost_pico`. `kind` is theirs, or ""."""

    kind: str
    misses: int
    unpriced: int
    tokens: int
    cost_pico: int


@record
class MissedSession:
    """What one conversation missed; `last_ms` is when it last did."""

    tenant: str
    session: str
    last_ms: int
    kinds: tuple[str, ...]
    total: MissTotal


class Conversations:
    def __init__(self, readers: Readers, writer: Writer | None, *, room: int = ROOM) -> None:
        self._readers = readers
        self._writer = writer
        self._known: OrderedDict[_Key, Conversation] = OrderedDict()
        self._room = room
        self._size = 0
        self._elsewhere: set[int] | None = None  # hashes of names to ask the ledger for
        self._too_many = False  # to remember: the ledger is asked each time

    async def of(self, tenant: str, session: str) -> Conversation | None:
        """A session's conversation so far; None for a new one, and for a row that is damaged."""
        key = tenant, session
        found = self._known.get(key)
        if found is not None:
            return found
        if self._elsewhere is None and not self._too_many:
            self._elsewhere = await self._readers.ask(_names)
            self._too_many = self._elsewhere is None
        if self._elsewhere is not None and hash(key) not in self._elsewhere:
            return self._known.get(key)
        found = await self._readers.ask(lambda conn: _load(conn, tenant, session))
        newer = self._known.get(key)
        if newer is None and found is not None:
            self._remember(key, found)
        return newer or found

    def advance(
        self,
        tenant: str,
        session: str,
        *,
        dialect: str,
        fields: Mapping[str, Any],
        segments: Segments,
        provider: str,
        model: str,
        at_ms: int,
        quantities: Mapping[str, int],
        rates: Mapping[str, int] | None,
        so_far: Conversation | None = None,
    ) -> Advanced:
        """The next turn of a conversation, from what was sent and the usage that the provider told.

        `segments` are those of the bytes that went out, `rates` pico-dollars a token by bucket at
        this turn's price; `so_far` is what `of` gave when the call began, for a session that was
        pushed out of memory since. Give the result to `calls.finish`.
        """
        key = tenant, session
        conversation = self._known.get(key) or so_far
        before = thread_of(conversation, segments)
        now = turn_of(
            dialect=dialect,
            fields=fields,
            segments=segments,
            provider=provider,
            model=model,
            at_ms=at_ms,
            quantities=quantities,
            before=before,
        )
        miss = missed(before, now, segments, quantities, rates)
        after = continued(conversation, before, now)
        self._remember(key, after)
        return Advanced(tenant=tenant, session=session, conversation=after, miss=miss)

    async def misses(
        self, *where: Filter, kind: MissKind | None = None, limit: int = 50
    ) -> list[Missed]:
        """The dearest first, those without a price last; receipts that any filter matches."""

        def ask(conn: sqlite3.Connection) -> list[Missed]:
            matching = _matching(where)
            rows = conn.execute(
                f"SELECT {_MISSED} FROM cache_misses m JOIN receipts r ON r.seq = m.seq"
                f" WHERE m.seq IN ({matching}) AND (? IS NULL OR m.kind = ?)"
                " ORDER BY m.cost_pico IS NULL, m.cost_pico DESC, m.tokens DESC, m.seq DESC"
                " LIMIT ?",
                (*matching.values, kind, kind, limit),
            )
            return [_missed(*row) for row in rows]

        return await self._readers.ask(ask)

    async def by_kind(self, *where: Filter) -> list[MissTotal]:
        """Exact sums for each kind that occurs, the dearest first."""
        found = await self._readers.ask(lambda conn: _totals(conn, where, "m.kind", "m.kind"))
        return [total for _, total in found]

    async def by_session(self, *where: Filter, limit: int = 50) -> list[MissedSession]:
        """Exact sums for each conversation, the dearest first."""
        found = await self._readers.ask(
            lambda conn: _totals(
                conn,
                where,
                "r.tenant, m.session",
                "r.tenant, m.session, max(r.created_at), group_concat(DISTINCT m.kind)",
            )
        )
        return [
            MissedSession(
                tenant=tenant,
                session=session,
                last_ms=last,
                kinds=tuple(sorted(kinds.split(","))),
                total=total,
            )
            for (tenant, session, last, kinds), total in found[:limit]
        ]

    async def expire(self, now_ms: int, *, kept_ms: int = KEPT_MS) -> int:
        """Forget what has rested for long, in small batches between calls; how many went."""
        gone, before = 0, now_ms - kept_ms
        for key, conversation in tuple(self._known.items()):
            if conversation.last.at_ms < before:
                self._forget(key)
        while names := await self._readers.ask(lambda conn: _resting(conn, before)):
            gone += await needed(self._writer).later(partial(_delete, names=names, before=before))
        return gone

    def _remember(self, key: _Key, conversation: Conversation) -> None:
        self._forget(key)
        self._known[key] = conversation
        self._size += _weight(key, conversation)
        while self._size > self._room and len(self._known) > 1:
            oldest = next(iter(self._known))
            self._forget(oldest)
            if self._elsewhere is not None:
                self._elsewhere.add(hash(oldest))

    def _forget(self, key: _Key) -> None:
        conversation = self._known.pop(key, None)
        if conversation is not None:
            self._size -= _weight(key, conversation)


def write_advanced(book: Book, seq: int, done: Advanced) -> None:
    """Part of the receipt's transaction; of two turns that overtook each other the later stays."""
    last = done.conversation.last
    book.execute(
        _UPSERT,
        (
            done.tenant,
            done.session,
            last.provider,
            last.model,
            done.conversation.turns,
            last.at_ms,
            last.input_tokens,
            last.cached_tokens,
            pack(done.conversation),
        ),
    )
    if done.miss is not None:
        miss = done.miss
        book.execute(
            "INSERT INTO cache_misses (seq, session, kind, segment, tokens, cost_pico)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (seq) DO NOTHING",
            (seq, done.session, miss.kind, miss.place, miss.tokens, miss.cost_pico),
        )


_UPSERT = (
    "INSERT INTO conversations (tenant, session, provider, model, turns, last_at, input_tokens,"
    " cached_tokens, segments) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, session)"
    " DO UPDATE SET provider = excluded.provider, model = excluded.model, turns = excluded.turns,"
    " last_at = excluded.last_at, input_tokens = excluded.input_tokens,"
    " cached_tokens = excluded.cached_tokens, segments = excluded.segments"
    " WHERE excluded.last_at >= last_at"
)
_MISSED = (
    "m.seq, r.receipt_id, r.created_at, r.tenant, r.workflow, m.session, r.provider, r.model,"
    " m.kind, m.segment, m.tokens, m.cost_pico"
)


def _matching(where: Sequence[Filter]) -> Terms:
    """The numbers of the receipts that any of some filters matches, as one query."""
    arms = [conditions(each) for each in where] or [conditions(ALL)]
    query = " UNION ".join(f"SELECT seq FROM receipts WHERE {arm}" for arm in arms)
    return Terms((query,), tuple(value for arm in arms for value in arm.values))


def _totals(
    conn: sqlite3.Connection, where: Sequence[Filter], group: str, columns: str
) -> list[tuple[tuple[Any, ...], MissTotal]]:
    matching = _matching(where)
    rows = conn.execute(
        f"SELECT count(*), count(m.cost_pico), sum(m.tokens), {sum_of('m.cost_pico')}, {columns}"
        " FROM cache_misses m JOIN receipts r ON r.seq = m.seq"
        f" WHERE m.seq IN ({matching}) GROUP BY {group}",
        matching.values,
    )
    found = []
    for misses, priced, tokens, high, low, *said in rows:
        total = MissTotal(
            kind=said[0] if group == "m.kind" else "",
            misses=misses,
            unpriced=misses - priced,
            tokens=tokens,
            cost_pico=whole(high, low),
        )
        found.append((tuple(said), total))
    return sorted(found, key=lambda each: (-each[1].cost_pico, -each[1].tokens, each[0]))


def _missed(*row: Any) -> Missed:
    seq, receipt_id, at, tenant, workflow, session, provider, model, *miss = row
    kind, place, tokens, cost = miss
    return Missed(
        seq=seq,
        receipt_id=receipt_id,
        created_at_ms=at,
        tenant=tenant,
        workflow=workflow,
        session=session,
        provider=provider,
        model=model,
        miss=Miss(kind=kind, place=place, tokens=tokens, cost_pico=cost),
    )


def _names(conn: sqlite3.Connection) -> set[int] | None:
    names = conn.execute("SELECT tenant, session FROM conversations LIMIT ?", (_MOST + 1,))
    found = {hash(name) for name in names}
    return found if len(found) <= _MOST else None


def _load(conn: sqlite3.Connection, tenant: str, session: str) -> Conversation | None:
    row = conn.execute(
        "SELECT turns, CAST(segments AS BLOB) FROM conversations WHERE tenant = ? AND session = ?",
        (tenant, session),
    ).fetchone()
    try:
        return None if row is None else unpack(*row)
    except ValueError:
        return None  # what it was is lost; the next turn writes it anew


def _resting(conn: sqlite3.Connection, before: int) -> list[_Key]:
    return conn.execute(
        "SELECT tenant, session FROM conversations WHERE last_at < ? LIMIT ?", (before, _BATCH)
    ).fetchall()


def _delete(book: Book, *, names: list[_Key], before: int) -> int:
    """Those that still rest: a turn may have come since they were found."""
    return book.conn.executemany(
        "DELETE FROM conversations WHERE tenant = ? AND session = ? AND last_at < ?",
        [(*name, before) for name in names],
    ).rowcount


def _weight(key: _Key, conversation: Conversation) -> int:
    segments = sum(len(turn.segments) for turn in conversation.threads)
    return _EACH + len(key[0]) + len(key[1]) + segments * _SEGMENT


# One blob for each conversation: a line of JSON, then each segment in as few bytes as it needs.

_SHORT = Struct(
    "<BHI8s"
)  # area, position, size, digest; after those of the system the masked digest
_MASK = 8
_SYSTEM = AREAS.index("system")


def pack(conversation: Conversation) -> bytes:
    """The threads as bytes."""
    heads: list[Any] = []
    rows: list[bytes] = []
    for turn in conversation.threads:
        heads.append(
            [
                turn.dialect,
                turn.provider,
                turn.model,
                turn.at_ms,
                turn.input_tokens,
                turn.cached_tokens,
                turn.lifetime_ms,
                turn.rest,
                turn.rest_digest.hex(),
                len(turn.segments),
            ]
        )
        for one in turn.segments:
            area, position, size = AREAS.index(one.area), one.position, one.size
            rows.append(_SHORT.pack(area, min(position, 0xFFFF), min(size, 0xFFFFFFFF), one.digest))
            rows.append(one.masked)
    return orjson.dumps(heads) + b"\n" + b"".join(rows)


def unpack(turns: int, blob: bytes) -> Conversation:
    """The conversation of a blob. Raises ValueError when it is damaged."""
    try:
        head, _, rest = blob.partition(b"\n")
        threads, at = [], 0
        for said in orjson.loads(head):
            *_, digest, count = said
            segments, at = _segments(rest, at, count)
            threads.append(_turn(said, bytes.fromhex(digest), segments))
        if not threads or at != len(rest):
            raise ValueError("its length is not what it says")
    except (TypeError, IndexError, AttributeError, error) as fault:
        raise ValueError(f"a conversation cannot be read: {type(fault).__name__}") from None
    return Conversation(turns=turns, threads=tuple(threads))


def _segments(rows: bytes, at: int, count: int) -> tuple[Segments, int]:
    found: list[Segment] = []
    for _ in range(count):
        area, position, size, digest = _SHORT.unpack_from(rows, at)
        at += _SHORT.size
        masked = rows[at : at + _MASK] if area == _SYSTEM else b""
        at += _MASK if masked else 0
        found.append(Segment(AREAS[area], position, digest, masked, size))
    return tuple(found), at


def _turn(said: list[Any], rest_digest: bytes, segments: Segments) -> Turn:
    dialect, provider, model, at_ms, input_tokens, cached_tokens, lifetime_ms, rest = said[:8]
    return Turn(
        dialect=dialect,
        provider=provider,
        model=model,
        at_ms=at_ms,
        segments=segments,
        input_tokens=input_tokens,
        cached_tokens=cached_tokens,
        lifetime_ms=lifetime_ms,
        rest=rest,
        rest_digest=rest_digest,
    )
