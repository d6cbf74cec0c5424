"""Reading receipts: one by id, pages of a search, what came after a cursor, totals.

Hides how a search stays quick for any pair of filters at a million rows. The filters on names are
resolved in `facets`, which has one row for each combination that occurs; each facet's receipts
stand newest first in one index, so that a combination without a receipt costs nothing. A search
without names walks the index on time, which carries what else it asks for.
"""

import sqlite3
from dataclasses import dataclass
from heapq import nlargest
from typing import Any

from modelspend.receipt import Receipt
from modelspend.store import detail, search
from modelspend.store.readers import Readers
from modelspend.store.sums import sum_of, whole

_MANY_FACETS = 2_000  # above it a walk through time beats a step into each facet


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What a receipt must be; the fields that are set must all hold.

    `status` holds any of several. Times are those of `created_at`, `until_ms` excluded. Latency is
    compared in whole milliseconds.
    """

    tenant: str | None = None
    workflow: str | None = None
    model: str | None = None
    provider: str | None = None
    category: str | None = None
    status: tuple[str, ...] = ()
    session: str | None = None
    min_cost_pico: int | None = None
    min_latency_ms: float | None = None
    unpriced: bool | None = None
    since_ms: int | None = None
    until_ms: int | None = None


ALL = Filter()


@dataclass(frozen=True, slots=True)
class Stored:
    """A receipt as the ledger has it: its number, its link of the chain, whether bodies remain."""

    receipt: Receipt
    seq: int
    hash: str
    body_kept: bool


Page = list[Stored]


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over receipts; `unpriced` of them have no known cost and add nothing to `cost_pico`."""

    receipts: int
    unpriced: int
    cost_pico: int
    charged_pico: int


class Receipts:
    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def get(self, receipt_id: str) -> Stored | None:
        return await self._readers.ask(lambda conn: _get(conn, receipt_id))

    async def starting(self, prefix: str, *, limit: int = 2) -> "list[Stored]":
        """Those whose id starts so, newest first; `rcpt_` may be left out."""
        return await self._readers.ask(
            lambda conn: _load(conn, search.starting(conn, prefix, limit))
        )

    async def search(self, text: str, where: Filter = ALL, *, limit: int = 50) -> "list[Stored]":
        """Newest first: id or session starts so, or a name or a (recent) tag contains it."""

        def ask(conn: sqlite3.Connection) -> "list[Stored]":
            recent = newest(conn, where, search.TAGS_LOOKED_AT, None)
            seqs = search.matching(
                conn,
                text,
                _conditions(conn, where),
                recent,
                lambda seq: dict(_load(conn, [seq])[0].receipt.tags),
                limit,
            )
            return _load(conn, seqs)

        return await self._readers.ask(ask)

    async def list(
        self, where: Filter = ALL, *, limit: int = 50, before: int | None = None
    ) -> Page:
        """Newest first by `created_at`; `before` is the number of the last one already seen."""
        return await self._readers.ask(lambda conn: _load(conn, newest(conn, where, limit, before)))

    async def after(self, seq: int, where: Filter = ALL, limit: int = 100) -> Page:
        """What was written after a number, oldest first: to follow the ledger."""

        def ask(conn: sqlite3.Connection) -> Page:
            terms, values = _conditions(conn, where)
            rows = conn.execute(
                f"SELECT seq FROM receipts WHERE {_all(['seq > ?', *terms])} ORDER BY seq LIMIT ?",
                (seq, *values, limit),
            )
            return _load(conn, [row[0] for row in rows])

        return await self._readers.ask(ask)

    async def totals(self, where: Filter = ALL) -> Totals:
        """Exact sums over all that matches."""

        def ask(conn: sqlite3.Connection) -> Totals:
            terms, values = _conditions(conn, where)
            receipts, priced, *halves = conn.execute(
                f"SELECT count(*), count(cost_pico), {sum_of('cost_pico')},"
                f" {sum_of('charged_pico')} FROM receipts WHERE {_all(terms)}",
                values,
            ).fetchone()
            return Totals(receipts, receipts - priced, whole(*halves[:2]), whole(*halves[2:]))

        return await self._readers.ask(ask)

    async def count(self, where: Filter = ALL) -> int:
        return (await self.totals(where)).receipts


def newest(conn: sqlite3.Connection, where: Filter, limit: int, before: int | None) -> list[int]:
    """The numbers of the newest receipts that match, in order."""
    ranges, values = _ranges(where)
    if before is not None:
        ranges.append("(created_at, seq) < (SELECT created_at, seq FROM receipts WHERE seq = ?)")
        values.append(before)
    facets = _facets(conn, where)
    if facets is not None and not facets:
        return []
    if where.session is not None:
        named = ["session_id = ?", *_named(where)]
        asked = [where.session, *_names(where)]
        return _walk(conn, "receipts_session", [*named, *ranges], [*asked, *values], limit)
    if facets is None:
        return _walk(conn, "receipts_time", ranges, values, limit)
    if len(facets) > _MANY_FACETS:
        terms, asked = [*ranges, _in_facets(where)], [*values, *_names(where)]
        return _walk(conn, "receipts_time", terms, asked, limit)
    return _by_facet(conn, facets, ranges, values, limit)


def _walk(
    conn: sqlite3.Connection, index: str, terms: list[str], values: list[Any], limit: int
) -> list[int]:
    rows = conn.execute(
        f"SELECT seq FROM receipts INDEXED BY {index} WHERE {_all(terms)}"
        " ORDER BY created_at DESC, seq DESC LIMIT ?",
        (*values, limit),
    )
    return [row[0] for row in rows]


def _by_facet(
    conn: sqlite3.Connection, facets: list[int], ranges: list[str], values: list[Any], limit: int
) -> list[int]:
    """The newest of each facet, merged; a full page sets the bound for the facets that follow."""
    found: list[tuple[int, int]] = []
    oldest = -(1 << 62)
    query = (
        "SELECT created_at, seq FROM receipts INDEXED BY receipts_facet"
        f" WHERE {_all(['facet_id = ?', 'created_at >= ?', *ranges])}"
        " ORDER BY created_at DESC, seq DESC LIMIT ?"
    )
    for facet in facets:
        more = conn.execute(query, (facet, oldest, *values, limit)).fetchall()
        if more:
            found = nlargest(limit, found + more)
            if len(found) == limit:
                oldest = found[-1][0]
    return [seq for _, seq in found]


def _ranges(where: Filter) -> tuple[list[str], list[Any]]:
    given = (
        ("created_at >= ?", where.since_ms),
        ("created_at < ?", where.until_ms),
        ("cost_pico >= ?", where.min_cost_pico),
        ("latency_ms >= ?", where.min_latency_ms),
    )
    held = [(term, value) for term, value in given if value is not None]
    return [term for term, _ in held], [value for _, value in held]


_NAMED = ("tenant", "workflow", "model", "provider", "category")


def _named(where: Filter) -> list[str]:
    """Terms on the columns that facets have."""
    terms = [f"{name} = ?" for name in _NAMED if getattr(where, name) is not None]
    if where.status:
        terms.append(f"status IN ({', '.join('?' * len(where.status))})")
    return terms


def _names(where: Filter) -> list[Any]:
    """The values of `_named`, in its order."""
    named = [getattr(where, name) for name in _NAMED if getattr(where, name) is not None]
    return [*named, *where.status]


def _facet_terms(where: Filter) -> list[str]:
    terms = _named(where)
    if where.unpriced is not None:
        terms.append(f"unpriced = {int(where.unpriced)}")
    return terms


def _facets(conn: sqlite3.Connection, where: Filter) -> list[int] | None:
    """The combinations that match, the newest first; None when nothing is asked of them."""
    terms = _facet_terms(where)
    if not terms:
        return None
    rows = conn.execute(
        f"SELECT id FROM facets WHERE {_all(terms)} ORDER BY id DESC", _names(where)
    )
    return [row[0] for row in rows]


def _in_facets(where: Filter) -> str:
    return f"facet_id IN (SELECT id FROM facets WHERE {_all(_facet_terms(where))})"


def _conditions(conn: sqlite3.Connection, where: Filter) -> tuple[list[str], list[Any]]:
    """Every condition of a filter, for a statement that may choose its own way."""
    terms, values = _ranges(where)
    if _facet_terms(where):
        terms.append(_in_facets(where))
        values += _names(where)
    if where.session is not None:
        terms.append("session_id = ?")
        values.append(where.session)
    return terms, values


def _all(terms: list[str]) -> str:
    return " AND ".join(terms) or "1"


_COLUMNS = (
    "r.seq, r.receipt_id, r.tenant, r.workflow, r.session_id, r.key_id, r.trace_id, r.price_id,"
    " r.model, r.model_asked, r.hash, r.detail,"
    " EXISTS (SELECT 1 FROM bodies b WHERE b.seq = r.seq)"
)


def _get(conn: sqlite3.Connection, receipt_id: str) -> Stored | None:
    row = conn.execute(
        f"SELECT {_COLUMNS} FROM receipts r WHERE r.receipt_id = ?", (receipt_id,)
    ).fetchone()
    return None if row is None else _stored(row)


def _load(conn: sqlite3.Connection, seqs: list[int]) -> list[Stored]:
    query = f"SELECT {_COLUMNS} FROM receipts r WHERE r.seq = ?"
    return [_stored(conn.execute(query, (seq,)).fetchone()) for seq in seqs]


def _stored(row: tuple[Any, ...]) -> Stored:
    seq, *columns, link, packed, kept = row
    receipt = detail.thaw(detail.unpack(packed, tuple(columns)))
    return Stored(receipt, seq, link.hex(), bool(kept))
