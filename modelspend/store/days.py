"""Sums of receipts by day and by everything that a facet names, exact and quick at any size.

Hides that most of a sum is there already: `days` has it for receipts up to the number in `rolled`,
which follows in the background, outside of any call's transaction. A question adds the days that
its range cuts and all that is newer, in one statement and so from one state of the ledger: what it
says is always the sum of the receipts. A filter that only single receipts can answer (a session, a
tag, a least cost) walks those.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from datetime import date, timedelta
from typing import Any, Literal

from modelspend.record import frozen
from modelspend.savings import MECHANISMS
from modelspend.store.book import Book
from modelspend.store.readers import Readers
from modelspend.store.search import ALL, Filter, Terms, conditions, of_facets
from modelspend.store.sums import whole
from modelspend.store.writer import Writer, needed

DAY_MS = 86_400_000

Key = Literal[
    "day", "tenant", "workflow", "category", "model", "provider", "status", "region", "session"
]

_CHUNK = 2_000  # numbers rolled up at a time: some 10 ms of the writer's
_BEHIND = 50_000  # numbers; above it all receipts are walked by an index rather than the newest


@frozen
class Sum:
    """What some receipts add up to.

    `unpriced` of them have no known cost. Decisions were applied to `decided` of them; what those
    saved is not known for `unknown` of these. `saved_pico` is by mechanism, signed; it is empty
    where nobody asked what was saved.
    """

    receipts: int = 0
    unpriced: int = 0
    cost_pico: int = 0
    decided: int = 0
    unknown: int = 0
    saved_pico: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "Sum") -> "Sum":
        return Sum(
            self.receipts + other.receipts,
            self.unpriced + other.unpriced,
            self.cost_pico + other.cost_pico,
            self.decided + other.decided,
            self.unknown + other.unknown,
            _added(self.saved_pico, other.saved_pico),
        )


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> Mapping[str, int]:
    if not one or not other:
        return one or other
    return {m: one[m] + other[m] for m in MECHANISMS}


NOTHING = Sum()


@frozen
class Tokens:
    """What some receipts used; `cached` of the prompts' tokens came out of a provider's cache."""

    receipts: int = 0
    prompt: int = 0
    cached: int = 0
    output: int = 0


Sums = dict[tuple[Any, ...], Sum]
"""By the values of the keys that were asked for; a day is its number since 1970."""


class Days:
    def __init__(self, readers: Readers, writer: Writer | None) -> None:
        self._readers = readers
        self._writer = writer

    async def sums(self, keys: Sequence[Key], *wheres: Filter) -> Sums:
        """Sums of all that matches any of the filters, by each combination of the keys."""
        return await self._readers.ask(lambda conn: sums_by(conn, keys, wheres or (ALL,)))

    async def costs(self, keys: Sequence[Key], *wheres: Filter) -> Sums:
        """The same without what was saved, which takes a third of the time."""
        return await self._readers.ask(
            lambda conn: sums_by(conn, keys, wheres or (ALL,), saved=False)
        )

    async def by_tag(self, name: str | None, *wheres: Filter) -> dict[str | None, Sum]:
        """Costs by tag (`name=value`): of all tags, where one receipt counts in each of its tags;
        or of those with one name, and under None the receipts that have none."""
        return await self._readers.ask(lambda conn: _by_tag(conn, name, wheres or (ALL,)))

    async def tokens(
        self, keys: Sequence[Key], where: Filter = ALL
    ) -> dict[tuple[Any, ...], Tokens]:
        """Tokens of all that matches a filter of names and times, by each combination of the keys;
        by anything but `session`."""
        return await self._readers.ask(lambda conn: tokens_by(conn, keys, where))

    async def first_days(self) -> dict[tuple[str | None, str | None], int]:
        """When each (provider, model) was first seen, in milliseconds."""
        return await self._readers.ask(_first_days)

    async def roll(self) -> None:
        """Bring the sums up to now, a little at a time, whenever the writer has nothing else."""
        while await needed(self._writer).later(roll):
            pass


# Rolling up.

_HALVES = tuple(f"{name}_{half}" for name in ("cost", *MECHANISMS) for half in ("high", "low"))
_COLUMNS = ("receipts", *_HALVES[:2], "saved", "unknown", *_HALVES[2:])
_TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens")

_EACH_COST = "1 AS receipts, r.cost_pico >> 32 AS cost_high, r.cost_pico & 4294967295 AS cost_low"
_EACH = ", ".join(
    (
        _EACH_COST,
        "s.seq IS NOT NULL AS saved",
        "s.seq IS NOT NULL AND s.caching_pico IS NULL AS unknown",
        *(
            f"s.{name}_pico {operation} AS {name}_{half}"
            for name in MECHANISMS
            for half, operation in (("high", ">> 32"), ("low", "& 4294967295"))
        ),
    )
)
_EACH_TOKENS = (
    "1 AS receipts, r.input_tokens + r.cache_read_tokens + r.cache_write_tokens AS prompt_tokens,"
    " r.cache_read_tokens AS cached_tokens, r.output_tokens AS output_tokens"
)
_SAVED = "LEFT JOIN savings s ON s.seq = r.seq"
_KEPT = (*_COLUMNS, *_TOKENS)
_EACH_KEPT = f"{_EACH}, {_EACH_TOKENS.removeprefix('1 AS receipts, ')}"
_ADDED = ", ".join(f"coalesce(sum({name}), 0)" for name in _KEPT)
_ROLL = (
    f"INSERT INTO days (day, facet_id, {', '.join(_KEPT)})"
    f" SELECT day, facet_id, {_ADDED} FROM ("
    f"SELECT r.created_at / {DAY_MS} AS day, r.facet_id, {_EACH_KEPT} FROM receipts r {_SAVED}"
    " WHERE r.seq > ? AND r.seq <= ?) WHERE true GROUP BY day, facet_id"
    " ON CONFLICT (day, facet_id) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _KEPT)
)


def roll(book: Book) -> bool:
    """Take the next receipts into the sums; whether there are more. Part of a transaction."""
    (done,) = book.execute("SELECT seq FROM rolled").fetchone()
    (last,) = book.execute("SELECT coalesce(max(seq), 0) FROM receipts").fetchone()
    if last <= done:
        return False
    upto = min(last, done + _CHUNK)
    book.execute(_ROLL, (done, upto))
    book.execute("UPDATE rolled SET seq = ?", (upto,))
    return bool(upto < last)


def problems(conn: sqlite3.Connection) -> list[str]:
    """Days whose sums are not those of the receipts up to the number that they tell of."""
    query = (
        f"SELECT day, facet_id, {_ADDED} FROM (SELECT r.created_at / {DAY_MS} AS day, r.facet_id,"
        f" {_EACH_KEPT} FROM receipts r {_SAVED} WHERE r.seq <= (SELECT seq FROM rolled))"
        " GROUP BY day, facet_id"
    )
    kept = f"SELECT day, facet_id, {', '.join(_KEPT)} FROM days"
    wrong = conn.execute(
        f"SELECT day FROM ({query} EXCEPT {kept}) UNION SELECT day FROM ({kept} EXCEPT {query})"
    )
    days = (date(1970, 1, 1) + timedelta(days=row[0]) for row in wrong)
    return [f"the sums of {day} are not those of its receipts" for day in days]


# Asking.


def sums_by(
    conn: sqlite3.Connection, keys: Sequence[Key], wheres: Sequence[Filter], *, saved: bool = True
) -> Sums:
    figures = _SAVINGS if saved else _COST
    sliced = len(wheres) == 1 and "session" not in keys and _of_facets_alone(wheres[0])
    source = _slices(conn, wheres[0], figures) if sliced else _walked(keys, wheres, figures)
    rows = _grouped(conn, keys, source, figures, "sum(d.receipts * f.unpriced)")
    return {key: _sum(told) for key, told in rows if told[1]}


def _grouped(
    conn: sqlite3.Connection, keys: Sequence[Key], source: "_Source", figures: "_Figures", more: str
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """(keys, more and the figures). Where only names make a row, slices are added up by facet
    first: numbers are quicker to sort."""
    named = [_NAMED.get(key, f"f.{key}") for key in keys]
    if named and not any(key in _NAMED for key in keys):
        totals = ", ".join(f"sum({name}) AS {name}" for name in figures.columns)
        source = _Source(f"SELECT facet_id, {totals} FROM ({source}) GROUP BY 1", source.values)
    rows = conn.execute(
        f"SELECT {', '.join((*named, more, *(f'sum(d.{name})' for name in figures.columns)))}"
        f" FROM ({source}) d JOIN facets f ON f.id = d.facet_id"
        f"{' GROUP BY ' * bool(named)}{', '.join(named)}",
        source.values,
    )
    return ((row[: len(keys)], row[len(keys) :]) for row in rows)


_NAMED: dict[Key, str] = {"day": "d.day", "session": "d.session_id"}
"""What a slice has itself; all else is its facet's."""


def tokens_by(
    conn: sqlite3.Connection, keys: Sequence[Key], where: Filter
) -> dict[tuple[Any, ...], Tokens]:
    rows = _grouped(conn, keys, _slices(conn, where, _USED), _USED, "NULL")
    return {key: Tokens(*told[1:]) for key, told in rows if told[1]}


def _sum(row: tuple[Any, ...]) -> Sum:
    unpriced, receipts, cost_high, cost_low, *more = row
    if not more:
        return Sum(receipts, unpriced, whole(cost_high, cost_low))
    saved, unknown, *halves = more
    parts = zip(MECHANISMS, halves[::2], halves[1::2], strict=True)
    return Sum(
        receipts,
        unpriced,
        whole(cost_high, cost_low),
        saved,
        unknown,
        {name: whole(high, low) for name, high, low in parts},
    )


@frozen
class _Source:
    """A statement that gives one row for each slice: day, facet, and what is summed."""

    text: str
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return self.text


@frozen
class _Figures:
    """What is summed: columns of `days`, and how each receipt gives them."""

    columns: tuple[str, ...]
    each: str
    joined: str = ""


_COST = _Figures(("receipts", "cost_high", "cost_low"), _EACH_COST)
_SAVINGS = _Figures(_COLUMNS, _EACH, _SAVED)
_USED = _Figures(("receipts", *_TOKENS), _EACH_TOKENS)


def _of_facets_alone(where: Filter) -> bool:
    """Whether every receipt of a facet and a time matches, or none."""
    least = (
        where.min_cost_pico,
        where.min_latency_ms,
        where.session,
        where.tag,
        where.hopped,
        where.failed,
    )
    return all(each is None for each in least)


def _slices(conn: sqlite3.Connection, where: Filter, figures: _Figures) -> _Source:
    """Whole days from their sums; the days that the range cuts, and what is newer, one by one."""
    (behind,) = conn.execute(
        "SELECT coalesce((SELECT max(seq) FROM receipts), 0) - seq FROM rolled"
    ).fetchone()
    named = of_facets(where)
    if behind > _BEHIND:
        return _raw("receipts r INDEXED BY receipts_time", _within(where), named, figures)
    since, until = where.since_ms, where.until_ms
    first = None if since is None else -(-since // DAY_MS)
    end = None if until is None else until // DAY_MS
    if first is not None and end is not None and first > end:  # within one day
        return _raw("receipts r INDEXED BY receipts_time", _within(where), named, figures)
    sources = [
        _rolled(first, end, named, figures),
        _raw("receipts r", _NEWER + _within(where, "+"), named, figures),
    ]
    edges = []
    if since is not None and since % DAY_MS:
        edges.append((since, -(-since // DAY_MS) * DAY_MS))
    if until is not None and until % DAY_MS:
        edges.append((until // DAY_MS * DAY_MS, until))
    for low, high in edges:
        between = Terms(("r.created_at >= ?", "r.created_at < ?"), (low, high))
        sources.append(
            _raw("receipts r INDEXED BY receipts_time", _OLDER + between, named, figures)
        )
    return _Source(
        " UNION ALL ".join(map(str, sources)), tuple(v for each in sources for v in each.values)
    )


_NEWER = Terms(("r.seq > (SELECT seq FROM rolled)",))
_OLDER = Terms(("+r.seq <= (SELECT seq FROM rolled)",))


def _within(where: Filter, mark: str = "") -> Terms:
    terms = Terms()
    if where.since_ms is not None:
        terms += Terms((f"{mark}r.created_at >= ?",), (where.since_ms,))
    if where.until_ms is not None:
        terms += Terms((f"{mark}r.created_at < ?",), (where.until_ms,))
    return terms


def _rolled(first: int | None, end: int | None, named: Terms, figures: _Figures) -> _Source:
    terms = _in_facets(named)
    if first is not None:
        terms += Terms(("day >= ?",), (first,))
    if end is not None:
        terms += Terms(("day < ?",), (end,))
    return _Source(
        f"SELECT day, facet_id, {', '.join(figures.columns)} FROM days WHERE {terms}", terms.values
    )


def _raw(table: str, terms: Terms, named: Terms, figures: _Figures) -> _Source:
    terms += _in_facets(named)
    return _Source(
        f"SELECT r.created_at / {DAY_MS} AS day, r.facet_id, {figures.each}"
        f" FROM {table} {figures.joined}"
        f" WHERE {terms}",
        terms.values,
    )


def _in_facets(named: Terms) -> Terms:
    if not named.terms:
        return named
    return Terms((f"facet_id IN (SELECT id FROM facets WHERE {named})",), named.values)


def _walked(keys: Sequence[Key], wheres: Sequence[Filter], figures: _Figures) -> _Source:
    """Receipt by receipt: for what no sum has, and for filters of which any may match."""
    terms = _any(wheres)
    session = "session" in keys
    index = "INDEXED BY receipts_session" if session else ""
    some = "session_id IS NOT NULL AND " if session else ""
    return _Source(
        f"SELECT r.created_at / {DAY_MS} AS day, r.facet_id, {'r.session_id, ' * session}"
        f"{figures.each}"
        f" FROM (SELECT seq, created_at, facet_id, cost_pico{', session_id' * session}"
        f" FROM receipts {index} WHERE {some}({terms})) r {figures.joined}",
        terms.values,
    )


def _any(wheres: Sequence[Filter]) -> Terms:
    each = [conditions(where) for where in wheres]
    return Terms(
        (" OR ".join(f"({one})" for one in each),), tuple(v for one in each for v in one.values)
    )


_LAST = chr(0x10FFFF)


def _by_tag(
    conn: sqlite3.Connection, name: str | None, wheres: Sequence[Filter]
) -> dict[str | None, Sum]:
    matching = _any(wheres)
    chosen = Terms()
    if name is not None:
        chosen = Terms(("tag >= ?", "tag < ?"), (f"{name}=", f"{name}={_LAST}"))
    if any(w.session is not None or w.min_latency_ms is not None for w in wheres):
        # All but these a tag has in columns of its own.
        matching = Terms((f"seq IN (SELECT seq FROM receipts WHERE {matching})",), matching.values)
    terms = Terms((f"({matching})",), matching.values) + chosen
    rows = conn.execute(
        "SELECT t.tag, sum(t.cost_pico IS NULL), sum(receipts), sum(cost_high), sum(cost_low) FROM"
        f" (SELECT r.tag, r.cost_pico, {_EACH_COST} FROM tags r WHERE {terms}) t GROUP BY t.tag",
        terms.values,
    )
    found: dict[str | None, Sum] = {row[0]: _sum(row[1:]) for row in rows}
    if name is not None:
        every = sums_by(conn, (), wheres, saved=False).get((), NOTHING)
        tagged = sum(found.values(), NOTHING)
        rest = every.receipts - tagged.receipts
        if rest:
            found[None] = Sum(
                rest, every.unpriced - tagged.unpriced, every.cost_pico - tagged.cost_pico
            )
    return found


def _first_days(conn: sqlite3.Connection) -> dict[tuple[str | None, str | None], int]:
    rows = conn.execute(
        "SELECT provider, model, min((SELECT min(created_at) FROM receipts INDEXED BY"
        " receipts_facet WHERE facet_id = f.id)) FROM facets f GROUP BY provider, model"
    )
    return {(provider, model): first for provider, model, first in rows if first is not None}
