"""Which receipts match: the newest for any filters, quick at a million rows.

Hides the two ways of looking. Filters on names are resolved in `facets`, which has one row for each
combination that occurs; each facet's receipts stand newest first in one index, so a combination
without a receipt costs nothing. A search without names walks the index on time, which carries what
else it asks for.
"""

import sqlite3
from dataclasses import dataclass
from heapq import nlargest
from typing import Any

_FEW_FACETS = 50  # so many are looked into one by one at once
_RECENT = 2_000
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


def newest(conn: sqlite3.Connection, where: Filter, limit: int, before: int | None) -> list[int]:
    """The numbers of the newest receipts that match, in order."""
    ranges, values = _ranges(where, before)
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
    if len(facets) > _FEW_FACETS:
        dense = _recent(conn, where, before, limit)
        if len(dense) == limit:
            return dense
    return [seq for _, seq in _by_facet(conn, facets, ranges, values, limit)]


def _walk(
    conn: sqlite3.Connection, index: str, terms: list[str], values: list[Any], limit: int
) -> list[int]:
    rows = conn.execute(
        f"SELECT seq FROM receipts INDEXED BY {index} WHERE {all_of(terms)}"
        " ORDER BY created_at DESC, seq DESC LIMIT ?",
        (*values, limit),
    )
    return [row[0] for row in rows]


def _by_facet(
    conn: sqlite3.Connection, facets: list[int], ranges: list[str], values: list[Any], limit: int
) -> list[tuple[int, int]]:
    """The newest of each facet as (created_at, seq), merged.

    A full page sets the bound for the facets that follow, so most of them cost one step.
    """
    found: list[tuple[int, int]] = []
    oldest = -(1 << 62)
    query = (
        "SELECT created_at, seq FROM receipts INDEXED BY receipts_facet"
        f" WHERE {all_of(['facet_id = ?', 'created_at >= ?', *ranges])}"
        " ORDER BY created_at DESC, seq DESC LIMIT ?"
    )
    for facet in facets:
        more = conn.execute(query, (facet, oldest, *values, limit)).fetchall()
        if more:
            found = nlargest(limit, found + more)
            if len(found) == limit:
                oldest = found[-1][0]
    return found


def _recent(conn: sqlite3.Connection, where: Filter, before: int | None, limit: int) -> list[int]:
    """What matches among the newest few thousand: for a filter that most receipts pass."""
    times, bounds = _held(_times(where, before))
    others, least = _held(_least(where))
    rows = conn.execute(
        "SELECT seq FROM (SELECT seq, facet_id, cost_pico, latency_ms, created_at FROM receipts"
        f" INDEXED BY receipts_time WHERE {all_of(times)}"
        " ORDER BY created_at DESC, seq DESC LIMIT ?)"
        f" WHERE {all_of([_in_facets(where), *others])}"
        " ORDER BY created_at DESC, seq DESC LIMIT ?",
        (*bounds, _RECENT, *_names(where), *least, limit),
    )
    return [row[0] for row in rows]


_Bound = tuple[str, int | float | None]


def _ranges(where: Filter, before: int | None = None) -> tuple[list[str], list[Any]]:
    """Terms on what the indexes carry beside facets, and their values."""
    return _held([*_times(where, before), *_least(where)])


def _times(where: Filter, before: int | None) -> list[_Bound]:
    page = "(created_at, seq) < (SELECT created_at, seq FROM receipts WHERE seq = ?)"
    return [("created_at >= ?", where.since_ms), ("created_at < ?", where.until_ms), (page, before)]


def _least(where: Filter) -> list[_Bound]:
    return [("cost_pico >= ?", where.min_cost_pico), ("latency_ms >= ?", where.min_latency_ms)]


def _held(bounds: list[_Bound]) -> tuple[list[str], list[Any]]:
    held = [(term, value) for term, value in bounds if value is not None]
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
        f"SELECT id FROM facets WHERE {all_of(terms)} ORDER BY id DESC", _names(where)
    )
    return [row[0] for row in rows]


def _in_facets(where: Filter) -> str:
    return f"facet_id IN (SELECT id FROM facets WHERE {all_of(_facet_terms(where))})"


def conditions(where: Filter) -> tuple[list[str], list[Any]]:
    """Every condition of a filter, for a statement that may choose its own way."""
    terms, values = _ranges(where)
    if _facet_terms(where):
        terms.append(_in_facets(where))
        values += _names(where)
    if where.session is not None:
        terms.append("session_id = ?")
        values.append(where.session)
    return terms, values


def all_of(terms: list[str]) -> str:
    return " AND ".join(terms) or "1"


def starting(conn: sqlite3.Connection, text: str, limit: int) -> list[int]:
    """Receipts whose id starts with `text`, newest first."""
    rows = conn.execute(
        f"SELECT seq FROM receipts WHERE {_STARTS_ID} ORDER BY receipt_id DESC LIMIT ?",
        (*_id_range(text), limit),
    )
    return [row[0] for row in rows]


def matching(conn: sqlite3.Connection, text: str, where: Filter, limit: int) -> list[int]:
    """The newest receipts of which the id or session starts with `text`, or a name or tag has it.

    Names and tags are compared without regard to case.
    """
    found = set(_with_name(conn, text, where, limit))
    terms, values = conditions(where)
    for source, asked in (
        (_STARTS_ID, _id_range(text)),
        ("session_id >= ? AND session_id < ?", (text, text + _LAST)),
        ("seq IN (SELECT seq FROM tags WHERE instr(lower(tag), ?))", (text.lower(),)),
    ):
        found.update(
            conn.execute(
                f"SELECT created_at, seq FROM receipts WHERE {all_of([source, *terms])}"
                " ORDER BY created_at DESC, seq DESC LIMIT ?",
                (*asked, *values, limit),
            )
        )
    return [seq for _, seq in nlargest(limit, found)]


def _with_name(
    conn: sqlite3.Connection, text: str, where: Filter, limit: int
) -> list[tuple[int, int]]:
    rows = conn.execute(
        f"SELECT id FROM facets WHERE {all_of([_HAS_TEXT, *_facet_terms(where)])} ORDER BY id DESC",
        (text.lower(), *_names(where)),
    ).fetchall()
    ranges, values = _ranges(where)
    if where.session is not None:
        ranges.append("session_id = ?")
        values.append(where.session)
    return _by_facet(conn, [row[0] for row in rows], ranges, values, limit)


_LAST = chr(0x10FFFF)  # sorts behind every letter
_STARTS_ID = "receipt_id >= ? AND receipt_id < ?"
_HAS_TEXT = (
    "instr(lower(tenant || char(10) || coalesce(workflow, '') || char(10) || coalesce(model, '')"
    " || char(10) || coalesce(provider, '') || char(10) || coalesce(category, '')), ?)"
)


def _id_range(text: str) -> tuple[str, str]:
    """Ids are in capitals behind their prefix, which may be left out."""
    low = "rcpt_" + text.removeprefix("rcpt_").upper()
    return low, low + _LAST
