"""A ledger of any size in a hurry: real rows, real code, no waiting for the disk."""

from collections.abc import Iterable
from pathlib import Path

from modelspend.receipt import Receipt
from modelspend.store import files
from modelspend.store.bodies import Bodies, pack, write_bodies
from modelspend.store.book import Book
from modelspend.store.calls import write_receipt
from modelspend.store.days import roll
from modelspend.store.migrations import migrate

_COMMIT_EVERY = 10_000


def load(ledger: Path, calls: Iterable[tuple[Receipt, Bodies | None]]) -> int:
    """Write receipts to a ledger that nobody has open; how many."""
    files.prepare(ledger)
    conn = files.connect_writer(ledger, "normal")
    try:
        migrate(conn)
        conn.execute("PRAGMA synchronous = OFF")
        book = Book(conn)
        count = 0
        conn.execute("BEGIN IMMEDIATE")
        for receipt, bodies in calls:
            seq = write_receipt(book, receipt)
            if seq is not None and bodies is not None:
                write_bodies(book, seq, pack(bodies))
            count += 1
            if count % _COMMIT_EVERY == 0:
                _commit(book)
                conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                conn.execute("BEGIN IMMEDIATE")
        while roll(book):
            pass
        _commit(book)
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        conn.close()
    return count


def _commit(book: Book) -> None:
    book.seal()
    book.execute("COMMIT")
    book.sealed()
