"""Finding receipts by a piece of text: the start of an id or session, a part of a name or tag.

Hides that only some of it is indexed. Names are matched in `facets`, which are few; tags are inside
the compressed detail, so they are looked at in the newest receipts only (`TAGS_LOOKED_AT`).
"""

import sqlite3
from collections.abc import Callable, Iterable
from heapq import nlargest
from typing import Any

TAGS_LOOKED_AT = 5_000
_LAST = "\U0010ffff"

Conditions = tuple[list[str], list[Any]]


def starting(conn: sqlite3.Connection, prefix: str, limit: int) -> list[int]:
    """The numbers of receipts whose id starts so, newest first."""
    low = _as_id(prefix)
    return [
        row[0]
        for row in conn.execute(
            "SELECT seq FROM receipts WHERE receipt_id >= ? AND receipt_id < ?"
            " ORDER BY receipt_id DESC LIMIT ?",
            (low, low + _LAST, limit),
        )
    ]


def matching(
    conn: sqlite3.Connection,
    text: str,
    conditions: Conditions,
    newest: Iterable[int],
    tags_of: Callable[[int], dict[str, str]],
    limit: int,
) -> list[int]:
    """The numbers of what matches a text and further conditions, newest first."""
    found: dict[int, int] = {}
    for term, values in _indexed(conn, text):
        found.update(_select(conn, term, values, conditions, limit))
    wanted = text.casefold()
    tagged = [
        seq
        for seq in newest
        if any(wanted in f"{key}={value}".casefold() for key, value in tags_of(seq).items())
    ]
    for seq in tagged[:limit]:
        found[seq] = _created(conn, seq)
    return nlargest(limit, found, key=lambda seq: (found[seq], seq))


def _indexed(conn: sqlite3.Connection, text: str) -> Iterable[tuple[str, tuple[Any, ...]]]:
    low = _as_id(text)
    yield "receipt_id >= ? AND receipt_id < ?", (low, low + _LAST)
    yield "session_id >= ? AND session_id < ?", (text, text + _LAST)
    part = "%" + text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"
    names = ("tenant", "workflow", "model", "provider", "category")
    alike = " OR ".join(rf"{name} LIKE ? ESCAPE '\'" for name in names)
    for (facet,) in conn.execute(f"SELECT id FROM facets WHERE {alike}", (part,) * len(names)):
        yield "facet_id = ?", (facet,)


def _select(
    conn: sqlite3.Connection,
    term: str,
    values: tuple[Any, ...],
    conditions: Conditions,
    limit: int,
) -> dict[int, int]:
    terms, more = conditions
    rows = conn.execute(
        f"SELECT seq, created_at FROM receipts WHERE {' AND '.join([term, *terms])}"
        " ORDER BY created_at DESC, seq DESC LIMIT ?",
        (*values, *more, limit),
    )
    return dict(rows.fetchall())


def _created(conn: sqlite3.Connection, seq: int) -> int:
    row = conn.execute("SELECT created_at FROM receipts WHERE seq = ?", (seq,)).fetchone()
    return int(row[0])


def _as_id(text: str) -> str:
    """Text as the start of an id: the prefix may be left out, and letters may be small."""
    bare = text.removeprefix("rcpt_").upper()
    return f"rcpt_{bare}"
