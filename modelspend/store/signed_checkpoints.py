"""Signed checkpoints of this ledger: made, kept, and read.

Hides the key: a file for this user alone beside the ledger, made when first needed and never
replaced. A reader would not guess that none is signed where the chain no longer leads to the one
before: a signature must not cover up what somebody has exchanged since.
"""

import os
import secrets
import sqlite3
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import orjson

from modelspend.chain import GENESIS, Checkpoint, checkpoint_from, sign
from modelspend.errors import CheckFailed, LedgerUnavailable
from modelspend.places import checkpoint_key
from modelspend.store.book import Book
from modelspend.store.readers import Readers
from modelspend.store.writer import Writer, needed

_LIMIT_S = 600.0


class SignedCheckpoints:
    def __init__(self, path: Path, readers: Readers, writer: Writer | None) -> None:
        self._path = path
        self._readers = readers
        self._writer = writer

    async def all(self) -> list[Checkpoint]:
        """Every one that is kept, oldest first."""
        return await self._readers.ask(kept)

    async def make(self, now_ms: int) -> Checkpoint:
        """One of the chain as it is now, kept; the last one again where nothing came since.

        Raises CheckFailed when the chain does not lead to the last one any more.
        """
        key = make_key(checkpoint_key(self._path))
        found = await self._readers.ask(lambda conn: look(conn, now_ms), limit_s=_LIMIT_S)
        before = await self.all()
        if before:
            last = before[-1]
            if (last.seq, last.hash, last.events) == (found.seq, found.hash, found.events):
                return last
            await self._readers.ask(lambda conn: _still_leads_to(conn, last))
        signed = sign(found, key)
        await needed(self._writer).do(lambda book: write(book, signed))
        return signed


def read_key(file: Path) -> bytes | None:
    """The key in a file; None when there is none, or it cannot be read."""
    try:
        return bytes.fromhex(file.read_text("ascii").strip()) or None
    except (OSError, ValueError):
        return None


def make_key(file: Path) -> bytes:
    """The key, made at the first use: 256 random bits for this user alone."""
    with suppress(FileExistsError):
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as new:
            new.write(secrets.token_hex(32) + "\n")
    key = read_key(file)
    if key is None:
        raise LedgerUnavailable(
            f"{file} holds no key to sign checkpoints with.",
            "Put the file back; or move it away, and a new key is made.",
        )
    return key


def look(conn: sqlite3.Connection, now_ms: int) -> Checkpoint:
    """The chain as it is now, not signed yet; all of it read in one state of the ledger."""
    conn.execute("BEGIN")
    try:
        ledger_id, receipts, seq, link = conn.execute(_NOW).fetchone()
        digest, events = sha256(), 0
        for (each,) in conn.execute(_DIGESTS):
            digest.update(each or b"")
            events += 1
        last = conn.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]
    finally:
        conn.execute("COMMIT")
    return Checkpoint(
        ledger_id=ledger_id,
        seq=max(seq, last),
        hash=(link or GENESIS).hex(),
        receipts=receipts,
        events=events,
        events_hash=digest.hexdigest(),
        at_ms=now_ms,
    )


_NOW = (
    "SELECT (SELECT value FROM meta WHERE key = 'ledger.id'),"
    " h.receipts + (SELECT count(*) FROM receipts WHERE seq > h.seq),"
    " (SELECT coalesce(max(seq), 0) FROM receipts),"
    " (SELECT hash FROM receipts ORDER BY seq DESC LIMIT 1) FROM head h"
)
_DIGESTS = "SELECT digest FROM events ORDER BY seq"


def kept(conn: sqlite3.Connection) -> list[Checkpoint]:
    """Those in the ledger, oldest first; one that cannot be read is left to `verify`."""
    found = []
    for (said,) in conn.execute("SELECT said FROM checkpoints ORDER BY seq, at"):
        with suppress(ValueError):
            found.append(checkpoint_from(orjson.loads(said)))
    return found


def write(book: Book, signed: Checkpoint) -> None:
    """Part of the caller's transaction."""
    book.execute(
        "INSERT INTO checkpoints (seq, at, said) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (signed.seq, signed.at_ms, orjson.dumps(signed.to_json()).decode()),
    )


def write_break(conn: sqlite3.Connection, path: Path, reason: str, now_ms: int) -> None:
    """Say, signed, that the chain up to here is not whole and why; its links stay as they are.

    Part of the caller's transaction. What `verify` finds missing before it is a break, from then
    on, and no tampering; what is changed before it later is found by its hash over all links.
    """
    book = Book(conn)
    links = sha256()
    for (link,) in conn.execute("SELECT hash FROM receipts ORDER BY seq"):
        links.update(link)
    (ledger_id,) = conn.execute("SELECT value FROM meta WHERE key = 'ledger.id'").fetchone()
    digests = [row[0] for row in conn.execute(_DIGESTS)]
    found = Checkpoint(
        ledger_id=ledger_id,
        seq=book.seq,
        hash=book.head.hex(),
        receipts=book.receipts,
        events=len(digests),
        events_hash=sha256(b"".join(digests)).hexdigest(),
        at_ms=now_ms,
        broken=reason,
        links_hash=links.hexdigest(),
    )
    write(book, sign(found, make_key(checkpoint_key(path))))


def _still_leads_to(conn: sqlite3.Connection, last: Checkpoint) -> None:
    row = conn.execute(
        "SELECT hash FROM receipts WHERE seq <= ? ORDER BY seq DESC LIMIT 1", (last.seq,)
    ).fetchone()
    if (row[0].hex() if row else GENESIS.hex()) != last.hash:
        raise CheckFailed(
            f"The chain does not lead to the {last.name} any more, so no new one is signed.",
            "See what was changed: modelspend verify",
        )
