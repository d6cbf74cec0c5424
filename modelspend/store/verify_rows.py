"""Whether one row says what was written: each copy is derived again from what was hashed.

Hides that the searchable columns, the attempts, the tags and the savings are copies of a receipt's
canonical bytes, which the chain covers, so that a figure edited in place is found. Events and
failovers have a digest each, a price is named by a hash of what it says.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from modelspend.chain import Kind, Problem, chain_hash, row_digest
from modelspend.money import content_id
from modelspend.receipt import Receipt
from modelspend.store import bodies, detail
from modelspend.store.calls import (
    ATTEMPT_COLUMNS,
    SAVINGS_COLUMNS,
    TAG_COLUMNS,
    attempt_rows,
    dictionary_of,
    facet_of,
    receipt_columns,
    savings_row,
    tag_rows,
)
from modelspend.store.failovers import HOP_COLUMNS
from modelspend.store.prices import PRICE_COLUMNS, price_of

Rows = Mapping[int, list[tuple[Any, ...]]]
"""The rows of a table by the number of their receipt."""


class Beside(NamedTuple):
    """What lies beside the receipts of a page of numbers."""

    facets: Mapping[int, tuple[Any, ...]]
    attempts: Rows
    savings: Rows
    hops: Rows
    tags: set[tuple[Any, ...]]


def beside(conn: sqlite3.Connection, after: int, until: int, facets: Mapping[int, Any]) -> Beside:
    """The rows of the receipts whose numbers are above `after`, up to `until`."""

    def by_seq(table: str, columns: str, order: str) -> Rows:
        found: dict[int, list[tuple[Any, ...]]] = {}
        query = f"SELECT {columns} FROM {table} WHERE seq > ? AND seq <= ? ORDER BY {order}"
        for row in conn.execute(query, (after, until)):
            found.setdefault(row[0], []).append(row)
        return found

    return Beside(
        facets,
        by_seq("attempts", ATTEMPT_COLUMNS, "seq, n"),
        by_seq("savings", SAVINGS_COLUMNS, "seq"),
        by_seq("v3_failover_decisions", f"{HOP_COLUMNS}, digest", "seq, n"),
        set(),
    )


def facets(conn: sqlite3.Connection) -> dict[int, tuple[Any, ...]]:
    """Every combination of columns by its number, with its maxima."""
    return {row[0]: row[1:] for row in conn.execute(_FACETS)}


_FACETS = (
    "SELECT id, tenant, workflow, model, provider, category, status, unpriced,"
    " region, max_cost_pico, max_latency_ms FROM facets"
)


class Checked(NamedTuple):
    """A receipt row: whether its bytes are those of its link, its tags, and what is wrong."""

    sound: bool
    tags: int
    problems: list[Problem]


def receipt_row(conn: sqlite3.Connection, row: tuple[Any, ...], near: Beside) -> Checked:
    """The first thing that is wrong with a receipt itself; its place in the chain is not asked."""
    seq, columns = row[0], row[1:28]
    facet, previous, link, packed = row[28:]

    def wrong(kind: Kind, what: str, *, sound: bool, tags: int = 0) -> Checked:
        return Checked(sound, tags, [Problem(kind=kind, seq=seq, receipt_id=named, what=what)])

    named = columns[0] if isinstance(columns[0], str) else None
    try:
        body = detail.unpack(packed, dictionary_of(columns))
        receipt = detail.thaw(body)
        follows = chain_hash(previous, seq, body) == link
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        what = f"its detail cannot be read ({type(error).__name__}): it or a column was changed"
        return wrong("content", what, sound=False)
    if not follows:
        return wrong("content", "its content is not what was hashed", sound=False)
    tags = tag_rows(seq, receipt, facet)
    if receipt_columns(receipt) != columns or not _in_facet(columns, receipt, near.facets, facet):
        return wrong("columns", "its columns differ from its content", sound=True, tags=len(tags))
    for kind, what, same in (
        ("attempts", "attempts", near.attempts.get(seq, []) == attempt_rows(seq, receipt)),
        ("tags", "tags", all(_tag(conn, tag) == tag for tag in tags)),
        ("columns", "savings", near.savings.get(seq, []) == _savings(seq, receipt)),
    ):
        if not same:
            what = f"its {what} differ from its content"
            return wrong(kind, what, sound=True, tags=len(tags))  # type: ignore[arg-type]
    found = list(_hops(receipt, near.hops.get(seq, []), seq))
    return Checked(True, len(tags), found)


def _in_facet(
    columns: tuple[Any, ...], receipt: Receipt, facets: Mapping[int, Any], number: int
) -> bool:
    """A search finds a receipt only through its facet: the names and the maxima must hold."""
    facet = facets.get(number)
    if facet is None or facet[:8] != facet_of(columns, receipt):
        return False
    return (columns[13] or 0) <= facet[8] and int(columns[16]) <= int(facet[9])


def _tag(conn: sqlite3.Connection, tag: Sequence[Any]) -> Any:
    return conn.execute(_TAG, tag[:2]).fetchone()


_TAG = f"SELECT {TAG_COLUMNS} FROM tags WHERE tag = ? AND seq = ?"


def _savings(seq: int, receipt: Receipt) -> list[tuple[Any, ...]]:
    return [savings_row(seq, receipt.savings)] if receipt.savings else []


def _hops(receipt: Receipt, rows: list[tuple[Any, ...]], seq: int) -> Iterator[Problem]:
    whole = [row[1] for row in rows] == list(range(1, len(rows) + 1))
    if not whole or any(row_digest(row[:-1]) != row[-1] for row in rows):
        what = "its failovers are not what was written"
        yield Problem(kind="failovers", seq=seq, receipt_id=receipt.receipt_id, what=what)


def body_row(seq: int, row: tuple[Any, ...], receipt_row_: tuple[Any, ...]) -> list[Problem]:
    """Whether kept bodies are those that a sound receipt tells the hashes of."""
    columns = receipt_row_[1:28]
    asked = detail.thaw(detail.unpack(receipt_row_[31], dictionary_of(columns))).request
    named = str(columns[0])
    try:
        kept = bodies.unpack(bodies.Packed(*row))
        sizes = [None if part is None else len(part) for part in (kept.request, kept.answer)]
        if sizes != list(row[:2]):
            raise ValueError("the sizes are not those of the bodies")
    except (ValueError, TypeError):
        what = "its bodies cannot be unpacked"
        return [Problem(kind="body", seq=seq, receipt_id=named, what=what)]
    return [
        Problem(
            kind="body",
            seq=seq,
            receipt_id=named,
            what=f"its {name} body is not the one that was hashed",
        )
        for name, part, expected in (
            ("request", kept.request, asked.sha256),
            ("answer", kept.answer, asked.answer_sha256),
        )
        if part is not None and expected and sha256(part).hexdigest() != expected
    ]


def event_row(row: tuple[Any, ...]) -> list[Problem]:
    """Whether an event says what was written; the last value is its digest."""
    if row_digest(row[:-1]) == row[-1]:
        return []
    receipt_id = row[5] if isinstance(row[5], str) else None
    what = "it is not what was written"
    return [Problem(kind="event", seq=row[0], receipt_id=receipt_id, what=what)]


def price_problems(conn: sqlite3.Connection) -> Iterator[Problem]:
    """Price rows that do not say what their ids are a hash of."""
    for row in conn.execute(f"SELECT {PRICE_COLUMNS} FROM prices p ORDER BY p.price_id"):
        try:
            same = content_id(price_of(row)) == row[0]
        except (ValueError, TypeError):
            same = False
        if not same:
            what = f"price {row[0]} ({row[1]}/{row[2]}) is not what its id is a hash of"
            yield Problem(kind="price", what=what)
