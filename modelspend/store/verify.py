"""Whether the ledger says what was written: every number, link, column, attempt, body, event.

Hides that a ledger of a million receipts is read in pages, each short, while calls go on, and that
a number which is neither a receipt's nor an event's is one that was removed. What was removed
before a signed break (a ledger salvaged or restored) is told as that break.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import orjson

from modelspend.chain import GENESIS, Checkpoint, Links, Problem, checkpoint_from, key_id, signed_by
from modelspend.record import frozen
from modelspend.store import days, detail, verify_rows
from modelspend.store.calls import RECEIPT_COLUMNS, dictionary_of, tag_rows
from modelspend.store.events import EVENT_COLUMNS

PAGE = 500
MOST = 1_000  # problems that are kept; all are counted


@frozen(kw_only=True)
class Break:
    """Where the chain is known not to be whole: what a signed checkpoint says of it."""

    seq: int
    at_ms: int
    reason: str
    missing: int
    signed: bool


@frozen(kw_only=True)
class Verdict:
    """What was looked at, and what is wrong with it, in the order of the numbers.

    `wrong` counts all problems, of which `problems` are the first. `unsigned` checkpoints have a
    signature that no key here can check.
    """

    ledger_id: str
    receipts: int
    events: int
    bodies: int
    prices: int
    last_seq: int
    hash: str
    checkpoints: int
    unsigned: int
    breaks: tuple[Break, ...]
    problems: tuple[Problem, ...]
    wrong: int


@dataclass(slots=True)
class Inspection:
    """One reading of a whole ledger, a page at a time: `begin`, `page` until it is done, `end`."""

    key: bytes | None = None
    given: Sequence[Checkpoint] = ()
    after: int = 0
    last: int = 0
    expected: int = 0
    _found: list[Problem] = field(default_factory=list)
    _gaps: list[Problem] = field(default_factory=list)
    _wrong: int = 0
    _links: Links = field(default_factory=Links)
    _all_links: Any = field(default_factory=sha256)
    _digests: Any = field(default_factory=sha256)
    _receipts: int = 0
    _events: int = 0
    _bodies: int = 0
    _prices: int = 0
    _tags: int = 0
    _missing: int = 0
    _lost: list[tuple[int, int]] = field(default_factory=list)
    _ledger_id: str = ""
    _head: tuple[int, int, bytes] = (0, 0, GENESIS)
    _at_head: tuple[int, bytes, int] | None = None
    _due: list[Checkpoint] = field(default_factory=list)
    _outside: frozenset[str] = frozenset()
    _checkpoints: int = 0
    _unsigned: int = 0
    _breaks: list[Break] = field(default_factory=list)
    _good: int = 0
    _doubts: list[tuple[Checkpoint, Problem]] = field(default_factory=list)
    _hops: Counter[str] = field(default_factory=Counter)
    _facets: dict[int, tuple[Any, ...]] = field(default_factory=dict)

    def begin(self, conn: sqlite3.Connection) -> None:
        """Fix what is looked at: what is written later is not."""
        self._ledger_id, *head, receipts, events = conn.execute(_STATE).fetchone()
        self._head = (head[0], head[1], bytes(head[2]))
        self.last = max(head[0], receipts, events)
        (self.expected,) = conn.execute(_COUNT).fetchone()
        for table, kind in (("receipts", "receipt"), ("events", "event")):
            for (seq,) in conn.execute(f"SELECT seq FROM {table} WHERE seq < 1"):
                self.say(Problem(kind="number", seq=seq, what=f"no {kind} has such a number"))
        self._take_checkpoints(conn)

    def page(self, conn: sqlite3.Connection) -> bool:
        """Look at the next numbers; whether there are more."""
        self._facets = verify_rows.facets(conn)
        query = (
            f"SELECT {RECEIPT_COLUMNS} FROM receipts WHERE seq > ? AND seq <= ? ORDER BY seq"
            " LIMIT ?"
        )
        rows = conn.execute(query, (self.after, self.last, PAGE)).fetchall()
        until = rows[-1][0] if len(rows) == PAGE else self.last
        told = conn.execute(_EVENTS, (self.after, until)).fetchall()
        self._walk(conn, rows, told, until)
        self.after = until
        return until < self.last

    def end(self, conn: sqlite3.Connection) -> Verdict:
        """What is asked of the whole, and the verdict."""
        self._pass_checkpoints(self.last + 1)
        self._end_of_chain()
        for left in self._due:
            self._beyond(left)
        self._stray_rows(conn)
        for problem in verify_rows.price_problems(conn):
            self.say(problem)
        (self._prices,) = conn.execute("SELECT count(*) FROM prices").fetchone()
        for what in days.problems(conn):
            self.say(Problem(kind="columns", what=what))
        self._tell_doubts()
        for gap in self._gaps:
            self.say(gap)
        found = sorted(self._found, key=_order)
        return Verdict(
            ledger_id=self._ledger_id,
            receipts=self._receipts,
            events=self._events,
            bodies=self._bodies,
            prices=self._prices,
            last_seq=self.last,
            hash=self._links.link.hex(),
            checkpoints=self._checkpoints,
            unsigned=self._unsigned,
            breaks=tuple(self._breaks),
            problems=tuple(found[:MOST]),
            wrong=self._wrong,
        )

    # The walk through one page.

    def _walk(
        self,
        conn: sqlite3.Connection,
        rows: list[tuple[Any, ...]],
        told: list[tuple[Any, ...]],
        until: int,
    ) -> None:
        near = verify_rows.beside(conn, self.after, until, self._facets)
        sound: dict[int, tuple[Any, ...]] = {}
        numbered = sorted([(row[0], 0, row) for row in rows] + [(row[0], 1, row) for row in told])
        expected = self.after + 1
        for seq, is_event, row in numbered:
            self._pass_checkpoints(seq)
            checked = None if is_event else verify_rows.receipt_row(conn, row, near)
            wrong = verify_rows.event_row(row) if checked is None else checked.problems
            trusted = checked.sound if checked is not None else not wrong
            if seq < expected:
                what = "the number is a receipt's and an event's at once"
                self.say(Problem(kind="number", seq=seq, what=what))
            elif seq > expected:  # a row that was changed does not tell that there were others
                low, high = expected, seq - 1 if trusted else min(seq - 1, self._head[0])
                if low <= high:
                    self._lost.append((low, high))
            expected = seq + 1
            for problem in wrong:
                self.say(problem)
            if checked is None:
                self._event(row, counts=not wrong)
                continue
            if seq in near.hops:
                self._hops[row[1]] -= len(near.hops[seq])
            self._receipt(row, checked)
            if checked.sound:
                sound[seq] = row
        if expected <= until:
            self._lost.append((expected, until))
        self._rows_without(near, {row[0] for row in rows})
        self._look_at_bodies(conn, until, sound)

    def _receipt(self, row: tuple[Any, ...], checked: verify_rows.Checked) -> None:
        seq, previous, link = row[0], row[29], row[30]
        gap = bool(self._lost)
        self._removed(chained=previous == self._links.link)
        steps = self._links.step(seq, previous, link, sound=checked.sound, gap=gap)
        self._gaps += [replace(one, receipt_id=row[1] if one.seq == seq else None) for one in steps]
        self._tags += checked.tags
        self._receipts += 1
        self._all_links.update(link if isinstance(link, bytes) else b"")

    def _event(self, row: tuple[Any, ...], *, counts: bool) -> None:
        if row[2] == "failover" and counts:
            self._hops[row[5]] += 1
        self._events += 1
        self._digests.update(row[-1] if isinstance(row[-1], bytes) else b"")

    def _removed(self, *, chained: bool) -> None:
        """Numbers that are missing before a receipt: events, if it follows the one before them."""
        for seq, until in self._lost:
            self._missing += until - seq + 1
            one = until == seq
            if chained:
                what = "it was removed" if one else "they were removed"
                self._gaps.append(Problem(kind="event", seq=seq, until=until, what=what))
            else:
                what = "it was removed" if one else "they were removed, or events of these numbers"
                self._gaps.append(Problem(kind="missing", seq=seq, until=until, what=what))
        self._lost = []

    def _rows_without(self, near: verify_rows.Beside, here: set[int]) -> None:
        for name, rows in (
            ("attempts", near.attempts),
            ("savings", near.savings),
            ("failovers", near.hops),
        ):
            for seq in rows.keys() - here:
                if not any(low <= seq <= high for low, high in self._removed_numbers()):
                    what = f"there are {name} of a receipt that does not exist"
                    self.say(Problem(kind="attempts", seq=seq, what=what))

    def _removed_numbers(self) -> Iterator[tuple[int, int]]:
        yield from self._lost
        for gap in self._gaps:
            if gap.kind in ("missing", "event") and gap.seq is not None:
                yield gap.seq, gap.until or gap.seq

    def _look_at_bodies(
        self, conn: sqlite3.Connection, until: int, sound: dict[int, tuple[Any, ...]]
    ) -> None:
        for seq, *row in conn.execute(_BODIES, (self.after, until)):
            self._bodies += 1
            if seq in sound:
                for problem in verify_rows.body_row(seq, tuple(row), sound[seq]):
                    self.say(problem)

    # Checkpoints, in the order of their numbers.

    def _take_checkpoints(self, conn: sqlite3.Connection) -> None:
        kept: list[Checkpoint] = []
        for seq, said in conn.execute("SELECT seq, said FROM checkpoints ORDER BY seq, at"):
            try:
                kept.append(checkpoint_from(orjson.loads(said)))
            except (ValueError, TypeError, AttributeError):
                what = f"the checkpoint of number {seq} cannot be read"
                self.say(Problem(kind="checkpoint", what=what))
        self._outside = frozenset(each.signature for each in self.given)
        same = {each.signature for each in kept}
        every = kept + [each for each in self.given if each.signature not in same]
        self._checkpoints = len(every)
        self._due = []
        for each in sorted(every, key=lambda one: (one.seq, one.at_ms)):
            if each.ledger_id != self._ledger_id:
                what = f"the {each.name} is of another ledger ({each.ledger_id})"
                self.say(Problem(kind="checkpoint", what=what))
            elif self._signature_holds(each):
                self._due.append(each)

    def _signature_holds(self, each: Checkpoint) -> bool:
        if self.key is None or key_id(self.key) != each.key_id:
            self._unsigned += 1
            return True
        if signed_by(each, self.key):
            return True
        what = f"the {each.name} is not what was signed"
        self.say(Problem(kind="signature", what=what))
        return False

    def _pass_checkpoints(self, seq: int) -> None:
        """Compare those that stand before this number with what was found up to there."""
        if self._at_head is None and self._head[0] < seq:
            self._at_head = (self._links.seq, self._links.link, self._receipts)
        while self._due and self._due[0].seq < seq and self._due[0].seq <= self._highest(seq):
            each = self._due.pop(0)
            if each.broken is not None:
                self._break(each)
            elif self._agrees(each):
                self._good = each.seq
            else:
                self._differs(each)

    def _highest(self, seq: int) -> int:
        return self.last if seq > self.last else seq - 1

    def _agrees(self, each: Checkpoint) -> bool:
        return (
            each.hash == self._links.link.hex()
            and each.receipts == self._receipts
            and (each.events, each.events_hash) == (self._events, self._digests.hexdigest())
        )

    def _break(self, each: Checkpoint) -> None:
        """What is missing before a signed break is known to be; nothing else may have changed."""
        if each.links_hash != self._all_links.hexdigest() or not self._agrees(each):
            self._differs(each)
            return
        self._removed(chained=False)
        self._links.end()
        self._breaks.append(
            Break(
                seq=each.seq,
                at_ms=each.at_ms,
                reason=each.broken or "",
                missing=self._missing,
                signed=self.key is not None and key_id(self.key) == each.key_id,
            )
        )
        self._gaps, self._missing, self._good = [], 0, each.seq
        self._doubts = [one for one in self._doubts if one[0].signature in self._outside]

    def _differs(self, each: Checkpoint) -> None:
        what = (
            f"what the {each.name} was signed for is not what is here"
            f" ({each.receipts} receipts and {each.events} events then,"
            f" {self._receipts} and {self._events} now)"
        )
        told = Problem(kind="checkpoint", seq=self._good + 1, until=each.seq, what=what)
        self._doubts.append((each, told))

    def _tell_doubts(self) -> None:
        """A checkpoint that differs is told where nothing else says why: what is found by itself
        has its own place."""
        known = [one.seq for one in (*self._found, *self._gaps) if one.seq is not None]
        for each, told in self._doubts:
            explained = any((told.seq or 0) <= seq <= each.seq for seq in known)
            if not explained or each.signature in self._outside:
                self.say(told)
                return  # the later ones differ for the same reason

    def _beyond(self, each: Checkpoint) -> None:
        broken = f" It was broken: {self._breaks[-1].reason}." if self._breaks else ""
        what = f"they were here at the {each.name}; the ledger ends before them.{broken}"
        self.say(Problem(kind="missing", seq=self.last + 1, until=each.seq, what=what))

    # The end.

    def _end_of_chain(self) -> None:
        """Up to where the end of the chain was last written down; what is newer stands on its
        links."""
        seq, receipts, head = self._head
        at_end = self.last == seq
        if self._lost:
            self._removed(chained=self._links.link == head if at_end else True)
        self._gaps += self._links.end(head if at_end else None)
        last, link, count = self._at_head or (self._links.seq, self._links.link, self._receipts)
        if self._found or self._gaps:
            return
        if link != head:
            what = "it is not the one that was written down as the last"
            self.say(Problem(kind="head", seq=last, what=what))
        elif count != receipts:
            what = f"{receipts} receipts were written down up to here, and {count} are here"
            self.say(Problem(kind="head", seq=seq, what=what))

    def _stray_rows(self, conn: sqlite3.Connection) -> None:
        for table, kind in (
            ("attempts", "attempts"),
            ("bodies", "body"),
            ("savings", "columns"),
            ("v3_failover_decisions", "failovers"),
            ("tags", "tags"),
        ):
            for (seq,) in conn.execute(_STRAY.format(table)):
                if not any(low <= seq <= high for low, high in self._removed_numbers()):
                    what = f"there are {table} of a receipt that does not exist"
                    if not any(one.seq == seq for one in self._found):
                        self.say(Problem(kind=kind, seq=seq, what=what))  # type: ignore[arg-type]
        for receipt_id, fewer in self._hops.items():
            row = conn.execute(_NUMBER, (receipt_id,)).fetchone()
            if fewer > 0 and row and not any(one.seq == row[0] for one in self._found):
                what = f"{fewer} of its failovers were removed"
                self.say(Problem(kind="failovers", seq=row[0], receipt_id=receipt_id, what=what))
        (tags,) = conn.execute("SELECT count(*) FROM tags WHERE seq <= ?", (self.last,)).fetchone()
        if tags != self._tags:
            for problem in _strange_tags(conn, self.last):
                if not any(one.seq == problem.seq for one in (*self._found, *self._gaps)):
                    self.say(problem)

    def say(self, problem: Problem) -> None:
        """One more problem."""
        self._wrong += 1
        if len(self._found) < MOST:
            self._found.append(problem)


def _order(one: Problem) -> tuple[bool, bool, int]:
    """By number; what is only known of a whole stretch, or of no number, comes last."""
    return one.seq is None, one.kind == "checkpoint", one.seq or 0


_STATE = (
    "SELECT (SELECT value FROM meta WHERE key = 'ledger.id'), h.seq, h.receipts, h.hash,"
    " (SELECT coalesce(max(seq), 0) FROM receipts), (SELECT coalesce(max(seq), 0) FROM events)"
    " FROM head h"
)
_COUNT = "SELECT h.receipts + (SELECT count(*) FROM receipts WHERE seq > h.seq) FROM head h"
_EVENTS = f"SELECT {EVENT_COLUMNS}, digest FROM events WHERE seq > ? AND seq <= ? ORDER BY seq"
_BODIES = (
    "SELECT seq, request_size, answer_size, data FROM bodies WHERE seq > ? AND seq <= ?"
    " ORDER BY seq"
)
_NUMBER = "SELECT seq FROM receipts WHERE receipt_id = ?"
_STRAY = (
    "SELECT DISTINCT seq FROM {} t WHERE NOT EXISTS"
    " (SELECT 1 FROM receipts r WHERE r.seq = t.seq) ORDER BY seq LIMIT 1000"
)


def _strange_tags(conn: sqlite3.Connection, last: int) -> Iterator[Problem]:
    """Tags that no receipt has; only looked for where there are more than there should be."""
    query = f"SELECT {RECEIPT_COLUMNS} FROM receipts WHERE seq = ?"
    for tag, seq in conn.execute("SELECT tag, seq FROM tags WHERE seq <= ? ORDER BY seq", (last,)):
        row = conn.execute(query, (seq,)).fetchone()
        try:
            receipt = detail.thaw(detail.unpack(row[31], dictionary_of(row[1:28])))
            own = [each[0] for each in tag_rows(seq, receipt, row[28])]
        except (ValueError, KeyError, TypeError, AttributeError):
            own = []
        if tag not in own:
            what = "it has a tag that it was not written with"
            yield Problem(kind="tags", seq=seq, receipt_id=row[1] if row else None, what=what)


def inspect(
    conn: sqlite3.Connection, key: bytes | None = None, given: Sequence[Checkpoint] = ()
) -> Verdict:
    """All of it at once."""
    inspection = Inspection(key=key, given=given)
    inspection.begin(conn)
    while inspection.page(conn):
        pass
    return inspection.end(conn)
