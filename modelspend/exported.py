"""Whether an export of receipts says what was written, without the ledger that it came from.

Each line of JSON is the very bytes that were hashed, with its number and its links at the end, so
it proves itself; a manifest beside the file says, signed, which numbers are in it. A reader would
not guess that a line which another program wrote anew fails: bytes are hashed, not meaning.
"""

import hmac
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from typing import Any

import orjson

from modelspend.chain import (
    Checkpoint,
    Links,
    Problem,
    chain_hash,
    checkpoint_from,
    key_id,
    signed_by,
)
from modelspend.record import frozen

Range = tuple[int, int]
"""Numbers from the first to the second, both of them included."""

_PLACE = re.compile(
    rb',"seq":([0-9]{1,19}),"prev_hash":"([0-9a-f]{64})","hash":"([0-9a-f]{64})"\}$'
)
_SEQ = re.compile(rb'"seq":([0-9]{1,18})[,}]')
_ID = re.compile(rb'"receipt_id":"(rcpt_[0-9A-Za-z]{1,40})"')


@frozen(kw_only=True)
class Manifest:
    """What was exported: the file's hash, and for receipts their numbers and their links.

    `complete`: every receipt up to `checkpoint` is in it. `numbers` is null for a file whose lines
    are no receipts (CSV, FOCUS, sums), which only its hash proves.
    """

    file: str
    sha256: str
    complete: bool
    numbers: tuple[Range, ...] | None
    links_hash: str | None
    checkpoint: Checkpoint
    key_id: str = ""
    signature: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "modelspend_export": 1,
            "file": self.file,
            "sha256": self.sha256,
            "complete": self.complete,
            "numbers": self.numbers,
            "links_hash": self.links_hash,
            "checkpoint": self.checkpoint.to_json(),
            "key_id": self.key_id,
            "signature": self.signature,
        }


def manifest_from(said: Mapping[str, Any]) -> Manifest:
    """What `to_json` said. Raises ValueError when it is no manifest."""
    try:
        if said["modelspend_export"] != 1:
            raise ValueError("it is of another version")
        numbers = said["numbers"]
        return Manifest(
            file=str(said["file"]),
            sha256=str(said["sha256"]),
            complete=said["complete"] is True,
            numbers=None if numbers is None else tuple((int(a), int(b)) for a, b in numbers),
            links_hash=said["links_hash"],
            checkpoint=checkpoint_from(said["checkpoint"]),
            key_id=str(said["key_id"]),
            signature=str(said["signature"]),
        )
    except (KeyError, TypeError, AttributeError) as why:
        raise ValueError("it is no manifest of an export") from why


def sign_manifest(manifest: Manifest, key: bytes) -> Manifest:
    """The same with the key's id and its HMAC-SHA256 over everything else."""
    named = replace(manifest, key_id=key_id(key), signature="")
    return replace(named, signature=_mac(named, key))


def _mac(unsigned: Manifest, key: bytes) -> str:
    said = orjson.dumps(unsigned.to_json(), option=orjson.OPT_SORT_KEYS)
    return hmac.new(key, said, sha256).hexdigest()


class Numbers:
    """Gathers growing numbers as ranges, and the links that go with them."""

    def __init__(self) -> None:
        self._ranges: list[Range] = []
        self._links = sha256()

    def add(self, seq: int, link: bytes) -> None:
        if self._ranges and self._ranges[-1][1] == seq - 1:
            self._ranges[-1] = (self._ranges[-1][0], seq)
        else:
            self._ranges.append((seq, seq))
        self._links.update(link)

    @property
    def ranges(self) -> tuple[Range, ...]:
        return tuple(self._ranges)

    @property
    def links_hash(self) -> str:
        return self._links.hexdigest()


@frozen(kw_only=True)
class Checked:
    """What was found in an export. `signed` is null where no key here can tell."""

    receipts: int
    last_seq: int
    hash: str
    signed: bool | None
    problems: tuple[Problem, ...]


def check(
    lines: Iterable[bytes],
    manifest: Manifest | None = None,
    checkpoints: Sequence[Checkpoint] = (),
    key: bytes | None = None,
) -> Checked:
    """Every line against its own hash, its neighbours, and what was signed.

    Without a manifest the export is taken for a complete one.
    """
    reading = _Reading(manifest, checkpoints)
    if manifest is not None:
        reading.signature(manifest, key)
    for number, line in enumerate(lines, start=1):
        if stripped := line.rstrip(b"\r\n"):
            reading.line(number, stripped)
    reading.end()
    return Checked(
        receipts=reading.receipts,
        last_seq=reading.links.seq,
        hash=reading.links.link.hex(),
        signed=reading.signed,
        problems=tuple(sorted(reading.found, key=lambda one: (one.seq is None, one.seq or 0))),
    )


class _Reading:
    """The lines as they come, each held to its own hash; then, in the order of their numbers, to
    each other. Of a line only its number, its links and whether it is sound are kept."""

    def __init__(self, manifest: Manifest | None, given: Sequence[Checkpoint]) -> None:
        self.found: list[Problem] = []
        self.receipts = 0
        self.signed: bool | None = None
        self.links = Links()
        self._manifest = manifest
        self._expected = manifest.numbers if manifest else None
        self._complete = manifest is None or manifest.complete
        own = [manifest.checkpoint] if manifest and manifest.complete else []
        self._due = sorted([*given, *own], key=lambda one: one.seq)
        self._seqs = array("q")
        self._both = bytearray()
        self._sound = bytearray()
        self._unread: set[int] = set()

    def signature(self, manifest: Manifest, key: bytes | None) -> None:
        if key is None or key_id(key) != manifest.key_id:
            return
        right = _mac(replace(manifest, signature=""), key)
        self.signed = hmac.compare_digest(right, manifest.signature)
        if not self.signed or not signed_by(manifest.checkpoint, key):
            what = "the manifest is not what was signed"
            self.found.append(Problem(kind="signature", what=what))

    def line(self, number: int, line: bytes) -> None:
        place = _PLACE.search(line)
        if place is None:
            self._unreadable(number, line)
            return
        seq, previous, link = int(place[1]), _bytes(place[2]), _bytes(place[3])
        sound = _sound(previous, seq, line[: place.start()] + b"}", link)
        if not sound:
            what = f"line {number} is not what was hashed"
            problem = Problem(kind="content", seq=seq, receipt_id=_named(line), what=what)
            self.found.append(problem)
        self._seqs.append(seq)
        self._both += previous + link
        self._sound.append(sound)
        self.receipts += 1

    def _unreadable(self, number: int, line: bytes) -> None:
        seq = _SEQ.search(line)
        what = f"line {number} cannot be read as an exported receipt"
        at = int(seq[1]) if seq else None
        self.found.append(Problem(kind="line", seq=at, receipt_id=_named(line), what=what))
        if at is not None:
            self._unread.add(at)

    def end(self) -> None:
        for at in _out_of_order(self._seqs):
            what = "its line stands in another place"
            self.found.append(Problem(kind="number", seq=self._seqs[at], what=what))
        numbers = Numbers()
        for at in sorted(range(len(self._seqs)), key=self._seqs.__getitem__):
            seq, link = self._seqs[at], bytes(self._both[at * 64 + 32 : at * 64 + 64])
            self._pass_checkpoints(seq)
            if seq == self.links.seq and numbers.ranges:
                what = "there is more than one line of this number"
                self.found.append(Problem(kind="number", seq=seq, what=what))
                continue
            numbers.add(seq, link)
            self._follow(seq, bytes(self._both[at * 64 : at * 64 + 32]), link, self._sound[at])
        self.found += self.links.end()
        if self._expected is not None:
            self._hold_to_numbers(self._expected)
        for each in self._due:
            self._compare(each)
        if self._manifest and self._manifest.links_hash not in (None, numbers.links_hash):
            self._other_links()

    def _follow(self, seq: int, previous: bytes, link: bytes, sound: int) -> None:
        if not self._complete and seq != self.links.seq + 1:  # what lies between was not exported
            self.found += self.links.end()
            self.links = Links(previous)
        gap = self._room(seq)
        broken = previous != self.links.link
        if broken and gap and sound and self._expected is None and not self._bad(self.links.seq):
            low = self.links.seq + 1
            what = "receipts of these numbers were removed"
            self.found.append(Problem(kind="missing", seq=low, until=seq - 1, what=what))
        self.found += self.links.step(seq, previous, link, sound=bool(sound), gap=gap)

    def _bad(self, seq: int) -> bool:
        return any(one.seq == seq for one in self.found)

    def _room(self, seq: int) -> bool:
        """Whether a receipt may be missing before this number."""
        low, high = self.links.seq + 1, seq - 1
        if self._expected is None:
            return low <= high
        return low <= high and any(a <= high and b >= low for a, b in self._expected)

    def _pass_checkpoints(self, seq: int) -> None:
        while self._due and self._due[0].seq < seq:
            self._compare(self._due.pop(0))

    def _compare(self, each: Checkpoint) -> None:
        if each.hash == self.links.link.hex():
            return
        if any(one.seq is not None and one.seq <= each.seq for one in self.found):
            return
        low = self.links.seq + 1
        if low <= each.seq and self.receipts < each.receipts:
            what = f"they were here at the {each.name}; the export ends before them"
            self.found.append(Problem(kind="missing", seq=low, until=each.seq, what=what))
            return
        what = f"what the {each.name} was signed for is not what is here"
        self.found.append(Problem(kind="checkpoint", seq=1, until=each.seq, what=what))

    def _other_links(self) -> None:
        if not self.found:
            what = "the links are not those that the manifest was signed for"
            last = self.links.seq
            self.found.append(Problem(kind="checkpoint", seq=1, until=last, what=what))

    def _hold_to_numbers(self, expected: Sequence[Range]) -> None:
        here, known = set(self._seqs) | self._unread, {one.seq for one in self.found}
        for seq in sorted(here - known):
            if not any(a <= seq <= b for a, b in expected):
                what = "it was not in what was exported"
                self.found.append(Problem(kind="number", seq=seq, what=what))
        for a, b in expected:
            for seq in range(a, b + 1):
                if seq not in here:
                    self.found.append(Problem(kind="missing", seq=seq, what="it was removed"))


def _out_of_order(seqs: Sequence[int]) -> list[int]:
    """The fewest places that, set right, leave the numbers growing; copies are told elsewhere."""
    if all(before <= after for before, after in pairwise(seqs)):
        return []
    count = range(len(seqs))
    first = list({seq: at for at, seq in reversed(list(enumerate(seqs)))}.values())[::-1]
    last = sorted({seq: at for at, seq in enumerate(seqs)}.values())
    ways = [_not_growing(seqs, sorted(first)), _not_growing(seqs, last)]
    if len(first) == len(seqs):
        right = sorted(seqs)
        ways.insert(0, [at for at in count if seqs[at] != right[at]])
    return min(ways, key=len)


def _not_growing(seqs: Sequence[int], places: Sequence[int]) -> list[int]:
    """Those of some places that are not in the longest growing row of numbers among them."""
    ends: list[int] = []
    holders: list[int] = []
    before: dict[int, int] = {}
    for at in places:
        length = bisect_right(ends, seqs[at])
        before[at] = holders[length - 1] if length else -1
        ends[length : length + 1] = [seqs[at]]
        holders[length : length + 1] = [at]
    kept, at = set(), holders[-1]
    while at >= 0:
        kept.add(at)
        at = before[at]
    return [at for at in places if at not in kept]


def _sound(previous: bytes, seq: int, canonical: bytes, link: bytes) -> bool:
    try:
        return chain_hash(previous, seq, canonical) == link
    except OverflowError:
        return False


def _bytes(text: bytes) -> bytes:
    return bytes.fromhex(text.decode())


def _named(line: bytes) -> str | None:
    found = _ID.search(line)
    return found[1].decode() if found else None


def place(seq: int, previous: bytes, link: bytes) -> bytes:
    """What stands at the end of an exported line in place of its closing brace."""
    said = b',"seq":%d,"prev_hash":"%s","hash":"%s"}'
    return said % (seq, previous.hex().encode(), link.hex().encode())
