"""Whether the ledger says what was written: pages, chain, columns, attempts, bodies.

Hides that the searchable columns and the attempts are copies: each is derived again from the
canonical bytes that the chain covers, so a figure edited in place is found, and named by its seq.
"""

import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from modelspend.receipt import Receipt
from modelspend.store import bodies, days, detail
from modelspend.store.calls import (
    ATTEMPT_COLUMNS,
    RECEIPT_COLUMNS,
    SAVINGS_COLUMNS,
    TAG_COLUMNS,
    attempt_rows,
    chain_hash,
    dictionary_of,
    facet_of,
    receipt_columns,
    savings_row,
    tag_rows,
)

GENESIS = bytes(32)
MOST = 20  # problems that are told; the first is the one that matters


def chain_problems(conn: sqlite3.Connection, *, since: int = 0) -> Iterator[str]:
    """Receipts whose bytes, columns, attempts or place in the chain are not as written."""
    facets = {row[0]: row[1:] for row in conn.execute(_FACETS)}
    previous = _link_before(conn, since)
    for row in conn.execute(
        f"SELECT {RECEIPT_COLUMNS} FROM receipts WHERE seq > ? ORDER BY seq", (since,)
    ):
        seq, link = row[0], row[30]
        yield from (f"receipt {seq}: {what}" for what in _row_problems(conn, row, previous, facets))
        previous = link
    yield from _end_problems(conn)
    yield from days.problems(conn)


def _end_problems(conn: sqlite3.Connection) -> Iterator[str]:
    """The chain up to where its end was last written down; what is newer stands on its links."""
    seq, receipts, head = conn.execute("SELECT seq, receipts, hash FROM head").fetchone()
    (here,) = conn.execute("SELECT count(*) FROM receipts WHERE seq <= ?", (seq,)).fetchone()
    if _link_before(conn, seq) != head:
        yield f"the chain has another end than the one written down at number {seq}"
    elif here != receipts:
        yield f"{receipts} receipts were written up to number {seq}, and {here} are here"
    last, given = conn.execute(_NUMBERS).fetchone()
    if last != given:
        yield f"{last} numbers were given, and {given} receipts and events are here"


_NUMBERS = (
    "SELECT max((SELECT coalesce(max(seq), 0) FROM receipts), (SELECT coalesce(max(seq), 0)"
    " FROM events)), (SELECT count(*) FROM receipts) + (SELECT count(*) FROM events)"
)
_FACETS = (
    "SELECT id, tenant, workflow, model, provider, category, status, unpriced,"
    " region, max_cost_pico, max_latency_ms FROM facets"
)


def _link_before(conn: sqlite3.Connection, since: int) -> bytes:
    row = conn.execute(
        "SELECT hash FROM receipts WHERE seq <= ? ORDER BY seq DESC LIMIT 1", (since,)
    ).fetchone()
    return GENESIS if row is None else bytes(row[0])


def _row_problems(
    conn: sqlite3.Connection, row: tuple[Any, ...], previous: bytes, facets: dict[int, Any]
) -> Iterator[str]:
    seq, columns = row[0], row[1:28]
    facet, prev_link, link, packed = row[28:]
    if prev_link != previous:
        yield "it does not follow the receipt before it (one was removed, added or moved)"
    try:
        body = detail.unpack(packed, dictionary_of(columns))
        receipt = detail.thaw(body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"its detail cannot be read ({type(error).__name__})"
        return
    if chain_hash(prev_link, seq, body) != link:
        yield "its content is not what was hashed"
    elif receipt_columns(receipt) != columns or not _in_facet(columns, receipt, facets.get(facet)):
        yield "its columns differ from its content"
    elif conn.execute(_ATTEMPTS, (seq,)).fetchall() != attempt_rows(seq, receipt):
        yield "its attempts differ from its content"
    elif any(
        conn.execute(_TAG, row[:2]).fetchone() != row for row in tag_rows(seq, receipt, facet)
    ):
        yield "its tags differ from its content"
    elif conn.execute(_SAVINGS, (seq,)).fetchone() != (
        savings_row(seq, receipt.savings) if receipt.savings else None
    ):
        yield "its savings differ from its content"
    else:
        yield from _body_problems(conn, seq, receipt.request.sha256, receipt.request.answer_sha256)


def _in_facet(columns: tuple[Any, ...], receipt: Receipt, facet: tuple[Any, ...] | None) -> bool:
    """A search finds a receipt only through its facet: the names and the maxima must hold."""
    if facet is None or facet[:8] != facet_of(columns, receipt):
        return False
    return (columns[13] or 0) <= facet[8] and int(columns[16]) <= int(facet[9])


_TAG = f"SELECT {TAG_COLUMNS} FROM tags WHERE tag = ? AND seq = ?"
_SAVINGS = f"SELECT {SAVINGS_COLUMNS} FROM savings WHERE seq = ?"
_ATTEMPTS = f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE seq = ? ORDER BY n"


def _body_problems(
    conn: sqlite3.Connection, seq: int, request: str, answer: str | None
) -> Iterator[str]:
    row = conn.execute(
        "SELECT request_size, answer_size, data FROM bodies WHERE seq = ?", (seq,)
    ).fetchone()
    if row is None:
        return
    try:
        kept = bodies.unpack(bodies.Packed(*row))
    except ValueError:
        yield "its bodies cannot be unpacked"
        return
    for name, part, expected in (
        ("request", kept.request, request),
        ("answer", kept.answer, answer),
    ):
        if part is not None and expected and sha256(part).hexdigest() != expected:
            yield f"its {name} body is not the one that was hashed"
