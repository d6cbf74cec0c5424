"""Ways to change a ledger behind its back, each with the numbers that it touches.

A tampering is drawn from a seed; it says what it did and where it must be found. What is drawn
covers every table that carries money or says what happened, and every column of it.
"""

import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modelspend.chain import chain_hash
from modelspend.store import detail
from modelspend.store.calls import RECEIPT_COLUMNS, dictionary_of

KEYED = {  # table: the columns that name a row, the number first
    "receipts": ("seq",),
    "attempts": ("seq", "n"),
    "savings": ("seq",),
    "tags": ("seq", "tag"),
    "v3_failover_decisions": ("seq", "n"),
    "events": ("seq",),
    "bodies": ("seq",),
}
_MAY_GO = {"bodies"}  # an operator may erase them


@dataclass(frozen=True)
class Tampering:
    """`touched`: where it must be found, one of them at least, and nowhere else."""

    how: str
    touched: frozenset[int]


class Nothing(Exception):
    """This draw would change nothing."""


def tamper(conn: sqlite3.Connection, rng: random.Random) -> Tampering:
    """Do one thing, drawn evenly among the ways; Nothing is drawn again."""
    while True:
        try:
            return rng.choice(WAYS)(conn, rng)
        except Nothing:
            continue


def edit(conn: sqlite3.Connection, rng: random.Random) -> Tampering:
    """One value of one row of any table."""
    table = rng.choice(list(KEYED))
    columns = [row[1] for row in conn.execute(f"PRAGMA table_info({table})")]
    column = rng.choice(columns)
    key = _row(conn, rng, table)
    where = " AND ".join(f"{name} = ?" for name in KEYED[table])
    (before,) = conn.execute(f"SELECT {column} FROM {table} WHERE {where}", key).fetchone()
    after = _other(before, rng, [r[0] for r in conn.execute(f"SELECT {column} FROM {table}")])
    try:
        conn.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (after, *key))
    except sqlite3.IntegrityError:
        raise Nothing from None
    touched = {key[0], after} if column == "seq" else {key[0]}
    return Tampering(f"edit {table}.{column} {before!r} to {after!r} at {key}", frozenset(touched))


def _other(before: Any, rng: random.Random, pool: list[Any]) -> Any:
    """Another value: of another row, or one that is off by little."""
    others = [value for value in pool if value != before]
    if others and rng.random() < 0.5:
        return rng.choice(others)
    if isinstance(before, int):
        return before + rng.choice((-1, 1, 1_000_000))
    if isinstance(before, str):
        return before + "0"
    if isinstance(before, bytes):
        at = rng.randrange(len(before))
        return before[:at] + bytes((before[at] ^ 1 << rng.randrange(8),)) + before[at + 1 :]
    return rng.randint(1, 10**9)


def delete(conn: sqlite3.Connection, rng: random.Random) -> Tampering:
    """One row, or one receipt with all that belongs to it."""
    table = rng.choice([name for name in KEYED if name not in _MAY_GO])
    key = _row(conn, rng, table)
    names = KEYED[table]
    tables = [table]
    if table == "receipts" and rng.random() < 0.7:
        names, key = names[:1], key[:1]
        tables = [name for name in KEYED if name != "events"]
    for name in tables:
        conn.execute(f"DELETE FROM {name} WHERE {' AND '.join(f'{k} = ?' for k in names)}", key)
    return Tampering(f"delete {key} from {', '.join(tables)}", frozenset({key[0]}))


def swap(conn: sqlite3.Connection, rng: random.Random) -> Tampering:
    """Two receipts, two events, or what belongs to two receipts, change places."""
    tables = rng.choice((["receipts"], ["events"], ["bodies"], ["attempts"], _OF_RECEIPT))
    a, b = _two(conn, rng, tables[0])
    for table in tables:
        for old, new in ((a, -a), (b, a), (-a, b)):
            conn.execute(f"UPDATE {table} SET seq = ? WHERE seq = ?", (new, old))
    return Tampering(f"swap {a} and {b} in {', '.join(tables)}", frozenset({a, b}))


_OF_RECEIPT = ["receipts", "attempts", "savings", "tags", "v3_failover_decisions", "bodies"]


def exchange(conn: sqlite3.Connection, rng: random.Random) -> Tampering:
    """A receipt's content becomes another's, and its own link is hashed anew to fit."""
    a, b = _two(conn, rng, "receipts")
    one, other = _receipt(conn, a), _receipt(conn, b)
    body = detail.unpack(other[31], dictionary_of(other[1:28]))
    link = chain_hash(one[29], a, body)
    conn.execute("DELETE FROM receipts WHERE seq = ?", (a,))
    taken = list(other)
    taken[0], taken[1], taken[29], taken[30] = a, "rcpt_" + "0" * 26, one[29], link
    marks = ", ".join("?" * len(taken))
    conn.execute(f"INSERT INTO receipts ({RECEIPT_COLUMNS}) VALUES ({marks})", taken)
    return Tampering(f"exchange {a} for {b}, hashed anew", frozenset({a}))


def repack(conn: sqlite3.Connection, rng: random.Random) -> Tampering:
    """A figure inside a receipt's bytes is changed, and nothing else: no column shows it."""
    (seq,) = _row(conn, rng, "receipts")
    row = _receipt(conn, seq)
    packed = detail.pack(_forged(row), dictionary_of(row[1:28]))
    conn.execute("UPDATE receipts SET detail = ? WHERE seq = ?", (packed, seq))
    return Tampering(f"change the bytes of {seq}", frozenset({seq}))


def rehash(conn: sqlite3.Connection, rng: random.Random) -> Tampering:
    """The same, and its own link is hashed anew to fit."""
    done = repack(conn, rng)
    (seq,) = done.touched
    row = _receipt(conn, seq)
    link = chain_hash(row[29], seq, detail.unpack(row[31], dictionary_of(row[1:28])))
    conn.execute("UPDATE receipts SET hash = ? WHERE seq = ?", (link, seq))
    return Tampering(f"{done.how} and its link", done.touched)


def _forged(row: tuple[Any, ...]) -> bytes:
    body = detail.unpack(row[31], dictionary_of(row[1:28]))
    return body.replace(b'"overhead_ms":', b'"overhead_ms":1', 1)


def insert(conn: sqlite3.Connection, rng: random.Random) -> Tampering:
    """One more row: a copy of another, where none was."""
    table = rng.choice(list(KEYED))
    names = [row[1] for row in conn.execute(f"PRAGMA table_info({table})")]
    key = _row(conn, rng, table)
    where = " AND ".join(f"{name} = ?" for name in KEYED[table])
    row = list(conn.execute(f"SELECT * FROM {table} WHERE {where}", key).fetchone())
    seq = rng.choice([0, _last(conn) + 1, *_numbers(conn)])
    row[names.index("seq")] = seq
    if table == "receipts":
        row[names.index("receipt_id")] = "rcpt_" + "1" * 26
    marks = ", ".join("?" * len(row))
    try:
        conn.execute(f"INSERT INTO {table} VALUES ({marks})", row)
    except sqlite3.IntegrityError:
        raise Nothing from None
    return Tampering(f"insert a copy of {key} into {table} as {seq}", frozenset({seq}))


def cut(conn: sqlite3.Connection, rng: random.Random) -> Tampering:
    """The last receipts and events, with all that belongs to them."""
    last = _last(conn)
    after = last - rng.randint(1, 9)
    for table in KEYED:
        conn.execute(f"DELETE FROM {table} WHERE seq > ?", (after,))
    return Tampering(f"cut after {after}", frozenset(range(after + 1, last + 1)))


WAYS: tuple[Callable[[sqlite3.Connection, random.Random], Tampering], ...] = (
    edit, edit, edit, delete, delete, swap, swap, exchange, repack, rehash, insert, cut,
)  # fmt: skip


def rebuild(conn: sqlite3.Connection, seq: int) -> None:
    """Change a receipt and hash all after it anew, and the end that is written down: what somebody
    does who knows how the ledger works, but has not the key."""
    previous: bytes | None = None
    for row in conn.execute(
        f"SELECT {RECEIPT_COLUMNS} FROM receipts WHERE seq >= ? ORDER BY seq", (seq,)
    ).fetchall():
        body = detail.unpack(row[31], dictionary_of(row[1:28]))
        if previous is None:
            previous = row[29]
            body = body.replace(b'"overhead_ms":', b'"overhead_ms":1', 1)
        link = chain_hash(previous, row[0], body)
        conn.execute(
            "UPDATE receipts SET prev_hash = ?, hash = ?, detail = ? WHERE seq = ?",
            (previous, link, detail.pack(body, dictionary_of(row[1:28])), row[0]),
        )
        previous = link
    conn.execute("UPDATE head SET hash = ?", (previous,))


def truncate(conn: sqlite3.Connection, after: int) -> None:
    """Cut the tail, and make the end that is written down, the sums and the checkpoints fit."""
    for table in (*KEYED, "checkpoints"):
        conn.execute(f"DELETE FROM {table} WHERE seq > ?", (after,))
    conn.execute("DELETE FROM days")
    conn.execute("UPDATE rolled SET seq = 0")
    conn.execute(
        "UPDATE head SET seq = ?, receipts = (SELECT count(*) FROM receipts),"
        " hash = (SELECT hash FROM receipts ORDER BY seq DESC LIMIT 1)",
        (after,),
    )


def _row(conn: sqlite3.Connection, rng: random.Random, table: str) -> tuple[Any, ...]:
    keys = conn.execute(f"SELECT {', '.join(KEYED[table])} FROM {table} ORDER BY 1").fetchall()
    found: tuple[Any, ...] = rng.choice(keys)
    return found


def _two(conn: sqlite3.Connection, rng: random.Random, table: str) -> tuple[int, int]:
    seqs = [row[0] for row in conn.execute(f"SELECT DISTINCT seq FROM {table} ORDER BY seq")]
    a, b = sorted(rng.sample(seqs, 2))
    return a, b


def _receipt(conn: sqlite3.Connection, seq: int) -> tuple[Any, ...]:
    found: tuple[Any, ...] = conn.execute(
        f"SELECT {RECEIPT_COLUMNS} FROM receipts WHERE seq = ?", (seq,)
    ).fetchone()
    return found


def _last(conn: sqlite3.Connection) -> int:
    return max(_numbers(conn))


def _numbers(conn: sqlite3.Connection) -> list[int]:
    rows = conn.execute("SELECT seq FROM receipts UNION SELECT seq FROM events ORDER BY 1")
    return [row[0] for row in rows]
