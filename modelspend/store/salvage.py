"""What can still be read of a damaged ledger goes into the new one; only what proves itself.

A receipt is taken over when its bytes match its own link of the chain; its columns and attempts are
derived from those bytes, never copied. Links are kept as they were, so the chain of the new ledger
breaks visibly where receipts are lost. The damaged file stays beside it under its new name.
"""

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelspend.chain import chain_hash, row_digest
from modelspend.store import bodies, detail
from modelspend.store.book import Book
from modelspend.store.calls import (
    RECEIPT_COLUMNS,
    dictionary_of,
    restore_receipt,
)
from modelspend.store.events import EVENT_COLUMNS
from modelspend.store.failovers import HOP_COLUMNS
from modelspend.store.files import Unreadable, connect_reader

_PAGE = 200
_COPIED = {  # what is not chained is copied as it reads
    "meta": "key, value",
    "events": "seq, created_at, kind, level, tenant, receipt_id, data",
    "prices": "price_id, provider, model, tier, source, valid_from, valid_until, bands",
    "price_overrides": "provider, model, tier, valid_from, price_id, set_at",
    "ratios": "key, samples, chars, tokens, error_sum",
    "evidence": "evidence_id, model, category, source, suite, task, item, subject, score, n,"
    " receipt_id, at, superseded",
    "v3_provider_circuit_breakers": "provider, model_id, key_id, state, reason, failure_class,"
    " manual, trips, changed_at, retry_at, boot_id, n",
    "circuit_orders": "order_id, act, provider, model_id, ordered_at, until",
    "incidents": "incident_id, provider, model_id, key_id, opened_at, resolved_at, reason,"
    " failure_class, resolution, opens, failures, calls_affected, unpriced, extra_cost_pico",
    "health_samples": "minute, provider, model_id, calls, failures, latency, ttft",
    "checkpoints": "seq, at, said",
    "budgets": "id, key, scope, name, window_name, opened_at",
    "budget_sums": "budget, start, spent_pico, held_pico",
    "budget_overrides": "scope, name, window_text, zone, cap_pico, hard, set_at",
    "budget_firings": "budget, start, rule, at",
    "stops": "name, reason, set_at",
    "alarms": "rule, scope, name, period, level, message, value, threshold, see, window_start,"
    " window_end, since, last_seen, quiet_since, resolved_at, told, is_open",
    "alarm_silences": "rule, scope, name, silenced_at, until",
    "intents": "receipt_id, boot_id, created_at, tenant, hold_pico, detail, holds",
    "intent_attempts": "receipt_id, n, provider, model_id, started_at, hold_pico, holds",
}

_OF_RECEIPTS = {  # each row belongs to a receipt that is there by then
    "cache_misses": "seq, session, kind, segment, tokens, cost_pico",
    "v3_failover_decisions": "seq, n, tenant, receipt_id, from_provider, to_provider, model_id,"
    " to_model_id, failure_class, reason, perhaps_twice, decided_at",
}

log = logging.getLogger("modelspend.store")


def into(conn: sqlite3.Connection, aside: Path) -> dict[str, int]:
    """Fill the new ledger behind `conn`; how many receipts were kept, and lost if that is known."""
    kept = 0
    try:
        old = connect_reader(aside)
    except Unreadable:
        return {"receipts_kept": 0}
    try:
        conn.execute("BEGIN IMMEDIATE")
        book = Book(conn)
        for table, columns in _COPIED.items():
            _copy(conn, old, table, columns)
        for row in _rows(old):
            kept += _take(book, old, row)
        for table, columns in _OF_RECEIPTS.items():
            _copy(conn, old, table, columns)
        _digest_anew(conn)
        _keep_id(conn, old)
        written = _written(old)
        book.seq = max(book.seq, *_last(old), *_last(conn))
        book.seal()
        conn.execute("COMMIT")
    finally:
        old.close()
    return {"receipts_kept": kept} | ({"receipts_lost": written - kept} if written else {})


def _copy(conn: sqlite3.Connection, old: sqlite3.Connection, table: str, columns: str) -> None:
    marks = ", ".join("?" * len(columns.split(",")))
    insert = f"INSERT INTO {table} ({columns}) VALUES ({marks}) ON CONFLICT DO NOTHING"
    try:
        for row in old.execute(f"SELECT {columns} FROM {table}"):
            try:
                conn.execute(insert, row)
            except sqlite3.IntegrityError:  # a row whose owner was lost, or one that is damaged
                continue
    except Unreadable as error:
        log.warning("%s could not be salvaged whole: %s", table, error)


def _digest_anew(conn: sqlite3.Connection) -> None:
    """Of what was copied as it read, older ledgers have no digests; checkpoints hold theirs."""
    for table, columns, key in (
        ("events", EVENT_COLUMNS, ("seq",)),
        ("v3_failover_decisions", HOP_COLUMNS, ("seq", "n")),
    ):
        where = " AND ".join(f"{name} = ?" for name in key)
        update = f"UPDATE {table} SET digest = ? WHERE {where}"
        for row in conn.execute(f"SELECT {columns} FROM {table}").fetchall():
            conn.execute(update, (row_digest(row), *row[: len(key)]))


def _keep_id(conn: sqlite3.Connection, old: sqlite3.Connection) -> None:
    """It is the same ledger still, if it can be read which one it was."""
    try:
        row = old.execute("SELECT value FROM meta WHERE key = 'ledger.id'").fetchone()
    except Unreadable:
        return
    if row is not None:
        conn.execute("UPDATE meta SET value = ? WHERE key = 'ledger.id'", row)


def _rows(old: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Every receipt row that can be read: page by page, and around a bad page one by one."""
    after, last = 0, max(_last(old), default=0)
    query = f"SELECT {RECEIPT_COLUMNS} FROM receipts WHERE"
    while True:
        try:
            rows = old.execute(f"{query} seq > ? ORDER BY seq LIMIT ?", (after, _PAGE)).fetchall()
        except Unreadable:
            rows = []
            for seq in range(after + 1, after + 1 + _PAGE):
                try:
                    rows += old.execute(f"{query} seq = ?", (seq,)).fetchall()
                except Unreadable:
                    continue
            after += _PAGE
            if after > last:
                yield from rows
                return
            yield from rows
            continue
        if not rows:
            return
        yield from rows
        after = rows[-1][0]


def _last(conn: sqlite3.Connection) -> list[int]:
    """The greatest numbers that the tables tell of, where they can be read."""
    found = []
    for query in (
        "SELECT seq FROM head",
        "SELECT max(seq) FROM receipts",
        "SELECT max(seq) FROM events",
    ):
        try:
            (value,) = conn.execute(query).fetchone() or (0,)
        except Unreadable:
            continue
        if isinstance(value, int):
            found.append(value)
    return found


def _written(old: sqlite3.Connection) -> int | None:
    try:
        (count,) = old.execute("SELECT receipts FROM head").fetchone()
    except (*Unreadable, TypeError):
        return None
    return int(count)


def _take(book: Book, old: sqlite3.Connection, row: tuple[Any, ...]) -> int:
    seq, columns = row[0], row[1:28]
    prev_link, link, packed = row[29:]
    try:
        body = detail.unpack(packed, dictionary_of(columns))
        if chain_hash(prev_link, seq, body) != link:
            return 0
        receipt = detail.thaw(body)
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0
    if not restore_receipt(book, seq, receipt, body, prev_link, link):
        return 0
    _take_bodies(book, old, seq)
    return 1


def _take_bodies(book: Book, old: sqlite3.Connection, seq: int) -> None:
    try:
        row = old.execute(
            "SELECT request_size, answer_size, data FROM bodies WHERE seq = ?", (seq,)
        ).fetchone()
        if row is not None:
            packed = bodies.Packed(*row)
            bodies.unpack(packed)
            bodies.write_bodies(book, seq, packed)
    except (sqlite3.DatabaseError, ValueError):
        return
