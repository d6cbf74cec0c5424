"""Which receipts match: the newest for any filters, quick at a million rows.

Hides the ways of looking. Filters on names are resolved in `facets`, which has one row for each
combination that occurs; each facet's receipts stand newest first in one index, so a combination
without a receipt costs nothing, and one that is never so dear or so slow is left out. A filter that
most receipts pass is met among the newest few thousand before any of that.
"""

import sqlite3
from heapq import nlargest
from typing import Any

from modelspend.record import frozen

_FEW_FACETS = 50  # so many are looked into one by one at once
_RECENT = 2_000
_MANY_FACETS = 4_000  # above it a walk through time beats a step into each facet


@frozen(kw_only=True)
class Filter:
    """What a receipt must be; the fields that are set must all hold.

    `status` holds any of several. Times are those of `created_at`, `until_ms` excluded. Latency is
    compared in whole milliseconds. An empty name asks for receipts without one; a tag is
    `name=value`, and `!name` asks for receipts without a tag of that name. `hopped` ones had more
    than one attempt. `failed` ones had an attempt that failed: `any`, or at a place such as
    `model=NAME`, `provider=NAME` or `region=NAME`.
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
    region: str | None = None
    tag: str | None = None
    hopped: bool | None = None
    failed: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


ALL = Filter()


@frozen
class Terms:
    """Conditions in SQL, all of which must hold, and the values of their question marks."""

    terms: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()

    def __add__(self, more: "Terms") -> "Terms":
        return Terms(self.terms + more.terms, self.values + more.values)

    def __str__(self) -> str:
        return " AND ".join(self.terms) or "1"


_NOTHING = Terms()
_NEWEST_FIRST = "ORDER BY created_at DESC, seq DESC LIMIT ?"


def conditions(where: Filter) -> Terms:
    """Every condition of a filter, for a statement that may choose its own way."""
    return _range(where) + _in_facets(where) + _session(where) + _beside(where)


def newest(conn: sqlite3.Connection, where: Filter, limit: int, before: int | None) -> list[int]:
    """The numbers of the newest receipts that match, in order."""
    of_facets = _of_facets(where)
    ranges = _range(where) + _page(before) + _session(where)
    if where.session:
        terms = ranges + _in_facets(where) + _beside(where)
        return _walk(conn, "receipts_session", terms, limit)
    if _beside(where) != _NOTHING:
        recent = _recent(conn, where, before, limit)
        if len(recent) == limit:
            return recent
        return _walk(conn, "", _beside(where) + ranges + _in_facets(where), limit)
    if of_facets == _NOTHING:
        return _walk(conn, "receipts_time", ranges, limit)
    facets = _facets(conn, of_facets)
    if len(facets) > _MANY_FACETS:
        return _walk(conn, "receipts_time", ranges + _in_facets(where), limit)
    if len(facets) > _FEW_FACETS:
        recent = _recent(conn, where, before, limit)
        if len(recent) == limit or _few(conn, _times(where) + _page(before)):
            return recent
    return [seq for _, seq in _by_facet(conn, facets, ranges, limit)]


def _facets(conn: sqlite3.Connection, terms: Terms) -> list[int]:
    """The combinations that match, the newest first."""
    rows = conn.execute(f"SELECT id FROM facets WHERE {terms} ORDER BY id DESC", terms.values)
    return [row[0] for row in rows]


def _walk(conn: sqlite3.Connection, index: str, terms: Terms, limit: int) -> list[int]:
    by = f"INDEXED BY {index}" if index else ""
    rows = conn.execute(
        f"SELECT seq FROM receipts {by} WHERE {terms} {_NEWEST_FIRST}",
        (*terms.values, limit),
    )
    return [row[0] for row in rows]


def _recent(conn: sqlite3.Connection, where: Filter, before: int | None, limit: int) -> list[int]:
    """What matches among the newest few thousand: for a filter that most receipts pass."""
    times = _times(where) + _page(before)
    others = _least(where) + _in_facets(where) + _beside(where) + _session(where)
    also = ", session_id" if where.session is not None else ""  # no index but its own has it
    rows = conn.execute(
        f"SELECT seq FROM (SELECT seq, facet_id, cost_pico, latency_ms, created_at{also}"
        " FROM receipts"
        f" INDEXED BY receipts_time WHERE {times} {_NEWEST_FIRST})"
        f" WHERE {others} {_NEWEST_FIRST}",
        (*times.values, _RECENT, *others.values, limit),
    )
    return [row[0] for row in rows]


def _few(conn: sqlite3.Connection, times: Terms) -> bool:
    """Whether the newest few thousand were all that there is in that time."""
    (count,) = conn.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM receipts INDEXED BY receipts_time WHERE {times}"
        " LIMIT ?)",
        (*times.values, _RECENT),
    ).fetchone()
    return int(count) < _RECENT


def _by_facet(
    conn: sqlite3.Connection, facets: list[int], ranges: Terms, limit: int
) -> list[tuple[int, int]]:
    """The newest of each facet as (created_at, seq), merged.

    A full page sets the bound for the facets that follow, so most of them cost one step.
    """
    found: list[tuple[int, int]] = []
    oldest = -(1 << 62)
    query = (
        "SELECT created_at, seq FROM receipts INDEXED BY receipts_facet"
        f" WHERE facet_id = ? AND created_at >= ? AND {ranges} {_NEWEST_FIRST}"
    )
    for facet in facets:
        more = conn.execute(query, (facet, oldest, *ranges.values, limit)).fetchall()
        if more:
            found = nlargest(limit, found + more)
            if len(found) == limit:
                oldest = found[-1][0]
    return found


def starting(conn: sqlite3.Connection, text: str, limit: int) -> list[int]:
    """Receipts whose id starts with `text`, newest first."""
    term = _id_starts(text)
    rows = conn.execute(
        f"SELECT seq FROM receipts WHERE {term} ORDER BY receipt_id DESC LIMIT ?",
        (*term.values, limit),
    )
    return [row[0] for row in rows]


def matching(conn: sqlite3.Connection, text: str, where: Filter, limit: int) -> list[int]:
    """The newest receipts of which the id or session starts with `text`, or a name or tag has it.

    Names and tags are compared without regard to case.
    """
    facets = _facets(conn, Terms((_HAS_TEXT,), (text.lower(),)) + _of_facets(where))
    ranges = _range(where) + _session(where) + _beside(where)
    found = set(_by_facet(conn, facets, ranges, limit))
    rest = conditions(where)
    for source in (
        _id_starts(text),
        Terms(("session_id >= ?", "session_id < ?"), (text, text + _LAST)),
        Terms(("seq IN (SELECT seq FROM tags WHERE instr(lower(tag), ?))",), (text.lower(),)),
    ):
        terms = source + rest
        found.update(
            conn.execute(
                f"SELECT created_at, seq FROM receipts WHERE {terms} {_NEWEST_FIRST}",
                (*terms.values, limit),
            )
        )
    return [seq for _, seq in nlargest(limit, found)]


_LAST = chr(0x10FFFF)  # sorts behind every letter
_HAS_TEXT = (
    "instr(lower(tenant || char(10) || coalesce(workflow, '') || char(10) || coalesce(model, '')"
    " || char(10) || coalesce(provider, '') || char(10) || coalesce(category, '')), ?)"
)


def _id_starts(text: str) -> Terms:
    """Ids are in capitals behind their prefix, which may be left out."""
    low = "rcpt_" + text.removeprefix("rcpt_").upper()
    return Terms(("receipt_id >= ?", "receipt_id < ?"), (low, low + _LAST))


def _held(*bounds: tuple[str, Any]) -> Terms:
    """The terms whose value is given."""
    held = [(term, value) for term, value in bounds if value is not None]
    return Terms(tuple(term for term, _ in held), tuple(value for _, value in held))


def _names(where: Filter, unpriced: str = "(cost_pico IS NULL)") -> Terms:
    """What a receipt's own columns and its facet's have in common."""
    named = (
        _named("tenant", where.tenant)
        + _named("workflow", where.workflow)
        + _named("model", where.model)
        + _named("provider", where.provider)
        + _named("category", where.category)
    )
    if where.status:
        named += Terms((f"status IN ({', '.join('?' * len(where.status))})",), where.status)
    if where.unpriced is not None:
        named += Terms((f"{unpriced} = ?",), (int(where.unpriced),))
    return named


def _named(column: str, value: str | None) -> Terms:
    """A name that must hold; the empty one stands for none."""
    if value is None:
        return _NOTHING
    return Terms((f"{column} = ?",), (value,)) if value else Terms((f"{column} IS NULL",))


def of_facets(where: Filter) -> Terms:
    """The names that a combination must have; nothing that only its receipts can tell."""
    return _names(where, unpriced="unpriced") + _named("region", where.region)


def _of_facets(where: Filter) -> Terms:
    """What can be asked of facets: names, and maxima that rule a whole one out."""
    return of_facets(where) + _held(
        ("max_cost_pico >= ?", where.min_cost_pico), ("max_latency_ms >= ?", where.min_latency_ms)
    )


def _in_facets(where: Filter) -> Terms:
    terms = _of_facets(where)
    if terms == _NOTHING:
        return _NOTHING
    return Terms((f"facet_id IN (SELECT id FROM facets WHERE {terms})",), terms.values)


def _session(where: Filter) -> Terms:
    return _named("session_id", where.session)


def _beside(where: Filter) -> Terms:
    """What only a receipt's rows in other tables tell: its tags, further attempts."""
    return _tagged(where) + _hopped(where) + _failed(where)


def _hopped(where: Filter) -> Terms:
    if where.hopped is None:
        return _NOTHING
    how = "IN" if where.hopped else "NOT IN"
    return Terms((f"seq {how} (SELECT seq FROM attempts INDEXED BY attempts_hops WHERE n > 1)",))


PLACES = {"model": "model_id", "provider": "provider", "region": "region"}
"""What an attempt is found by, and its columns."""


def _failed(where: Filter) -> Terms:
    if where.failed is None:
        return _NOTHING
    key, _, name = where.failed.partition("=")
    place = _named(PLACES[key], name) if key in PLACES else _NOTHING
    of = Terms(("status <> 'success'",)) + place
    return Terms(
        (
            f"seq IN (SELECT seq FROM attempts INDEXED BY attempts_failed WHERE {of})",
            "facet_id IN (SELECT id FROM facets WHERE status NOT IN ('refused', 'cached'))",
        ),
        of.values,
    )


def _tagged(where: Filter) -> Terms:
    if where.tag is None:
        return _NOTHING
    if where.tag.startswith("!"):
        low = where.tag[1:] + "="
        return Terms((f"seq NOT IN ({_TAGGED} tag >= ? AND tag < ?)",), (low, low + _LAST))
    return Terms((f"seq IN ({_TAGGED} tag = ?)",), (where.tag,))


_TAGGED = "SELECT seq FROM tags WHERE"


def _range(where: Filter) -> Terms:
    """What the indexes carry beside facets."""
    return _times(where) + _least(where)


def _times(where: Filter) -> Terms:
    return _held(("created_at >= ?", where.since_ms), ("created_at < ?", where.until_ms))


def _least(where: Filter) -> Terms:
    return _held(("cost_pico >= ?", where.min_cost_pico), ("latency_ms >= ?", where.min_latency_ms))


def _page(before: int | None) -> Terms:
    """Behind a receipt in the order of the list."""
    return _held(
        ("(created_at, seq) < (SELECT created_at, seq FROM receipts WHERE seq = ?)", before)
    )
