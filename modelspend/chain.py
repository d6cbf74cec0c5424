"""The hash chain of receipts and its signed checkpoints: what they say, and whether it holds.

Each receipt's link hashes the link before it, its number and its canonical bytes, so a change
anywhere breaks the chain there. Who can write the ledger could hash all of it anew; a checkpoint
that lies elsewhere is what shows that. Its signature is an HMAC: it proves that the holder of the
key made it, and no more, for whoever has the key can sign anything.
"""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b, sha256
from typing import Any, Literal

import orjson

from modelspend.receipt_json import from_iso, iso
from modelspend.record import frozen

GENESIS = bytes(32)
"""The link before the first receipt."""


def chain_hash(previous: bytes, seq: int, body: bytes) -> bytes:
    """The link of a receipt: SHA-256 of the link before, the number, the canonical bytes."""
    return sha256(previous + seq.to_bytes(8, "big") + body).digest()


def row_digest(values: Iterable[object]) -> bytes:
    """A hash of a row that is no receipt: each value with its kind and its length before it."""
    found = blake2b(digest_size=16)
    for value in values:
        raw = repr(value).encode("utf-8", "backslashreplace")
        found.update(len(raw).to_bytes(8, "big") + raw)
    return found.digest()


Kind = Literal[
    "file", "content", "link", "missing", "number", "columns", "attempts", "tags", "failovers",
    "body", "event", "price", "head", "checkpoint", "signature", "line",
]  # fmt: skip


@frozen(kw_only=True)
class Problem:
    """One thing that is not as it was written; `seq` to `until` are the numbers it is about."""

    kind: Kind
    what: str
    seq: int | None = None
    until: int | None = None
    receipt_id: str | None = None

    def __str__(self) -> str:
        if self.seq is None:
            return self.what
        noun = {"event": "event", "number": "number"}.get(self.kind, "receipt")
        if self.until is not None and self.until > self.seq:
            return f"{noun}s {self.seq} to {self.until}: {self.what}"
        return f"{noun} {self.seq}: {self.what}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@frozen(kw_only=True)
class Checkpoint:
    """The chain as it was at an instant: its last receipt, how many there were, and the events.

    `hash` is that receipt's link, `events_hash` a SHA-256 over the digests of all events up to
    `seq`. A `broken` one says, in words, why the chain before it is not whole: then `links_hash`,
    over all links up to it, is what holds it together.
    """

    ledger_id: str
    seq: int
    hash: str
    receipts: int
    events: int
    events_hash: str
    at_ms: int
    broken: str | None = None
    links_hash: str | None = None
    key_id: str = ""
    signature: str = ""

    def to_json(self) -> dict[str, Any]:
        """What a file of it holds."""
        said = asdict(self)
        at = iso(said.pop("at_ms"))
        return {"modelspend_checkpoint": 1, "at": at, **said}

    @property
    def name(self) -> str:
        """How people call it: its number and its time."""
        return f"checkpoint {self.seq} of {iso(self.at_ms)}"


def checkpoint_from(said: Mapping[str, Any]) -> Checkpoint:
    """What `to_json` said. Raises ValueError when it is no checkpoint."""
    if said.get("modelspend_checkpoint") != 1:
        raise ValueError("it is no checkpoint of modelspend")
    texts = ("ledger_id", "hash", "events_hash", "key_id", "signature")
    counts = ("seq", "receipts", "events")
    told = {name: said.get(name) for name in (*texts, *counts, "broken", "links_hash")}
    if not all(isinstance(told[name], str) for name in texts):
        raise ValueError("its texts are missing")
    if not all(type(told[name]) is int for name in counts):
        raise ValueError("its numbers are missing")
    return Checkpoint(at_ms=from_iso(str(said.get("at"))), **told)  # type: ignore[arg-type]


def key_id(key: bytes) -> str:
    """Which key it is, without telling it."""
    return sha256(b"modelspend checkpoint key\0" + key).hexdigest()[:16]


def sign(checkpoint: Checkpoint, key: bytes) -> Checkpoint:
    """The same with the key's id and its HMAC-SHA256 over everything else."""
    named = replace(checkpoint, key_id=key_id(key), signature="")
    return replace(named, signature=_mac(named, key))


def signed_by(checkpoint: Checkpoint, key: bytes) -> bool:
    """Whether this key made it, and it says what it said then."""
    unsigned = replace(checkpoint, signature="")
    return hmac.compare_digest(_mac(unsigned, key), checkpoint.signature)


def _mac(unsigned: Checkpoint, key: bytes) -> str:
    said = orjson.dumps(unsigned.to_json(), option=orjson.OPT_SORT_KEYS)
    return hmac.new(key, said, sha256).hexdigest()


@dataclass(slots=True)
class _Row:
    seq: int
    link: bytes
    sound: bool


class Links:
    """Follows a chain link by link and says which receipt is at fault where one does not follow.

    Between two receipts that are each sound in themselves a mismatch alone does not tell which of
    them is the stranger: a stranger has one on either side, or was hashed anew, and then what
    follows it still names the link of the one that was there.
    """

    def __init__(self, previous: bytes = GENESIS) -> None:
        self._before = _Row(0, previous, sound=False)
        self._doubt: tuple[_Row, _Row] | None = None
        self._first = True

    def step(
        self, seq: int, previous: bytes, link: bytes, *, sound: bool, gap: bool
    ) -> list[Problem]:
        """The next receipt; `gap`: numbers between the last one and it are missing."""
        row, last = _Row(seq, link, sound), self._before
        follows = previous == last.link
        told = self._settle(again=not follows and sound)
        if not follows and not gap and sound:
            if self._first:
                told.append(_stranger(row))
            elif last.sound and not any(problem.seq == last.seq for problem in told):
                self._doubt = (last, row)
        self._before, self._first = row, False
        return told

    def end(self, head: bytes | None = None) -> list[Problem]:
        """After the last receipt; `head` is what its link should be, if that is known."""
        return self._settle(again=head is not None and head != self._before.link)

    @property
    def link(self) -> bytes:
        """The link of the last receipt."""
        return self._before.link

    @property
    def seq(self) -> int:
        """The number of the last receipt."""
        return self._before.seq

    def _settle(self, *, again: bool) -> list[Problem]:
        if self._doubt is None:
            return []
        (before, after), self._doubt = self._doubt, None
        return [_stranger(after) if again else _forged(before, after)]


def _stranger(row: _Row) -> Problem:
    what = "it does not follow the receipt before it (it was moved or added)"
    return Problem(kind="link", seq=row.seq, what=what)


def _forged(before: _Row, after: _Row) -> Problem:
    what = f"receipt {after.seq} follows another receipt than this one (it was exchanged)"
    return Problem(kind="link", seq=before.seq, what=what)
