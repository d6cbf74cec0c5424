"""Evidence on the quality of models, and the results of suites that are still under way.

What a reader would not guess: scores are summed as whole millionths of an answer, so a posterior is
the same to the last bit whatever the order in which its evidence came. Evidence and the promotions
that follow from it are one transaction, hence of the store that gives events their numbers.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from modelspend.events import Event
from modelspend.quality import (
    Evidence,
    Key,
    Posterior,
    Promotion,
    Result,
    Scores,
    Source,
    believed,
    identified,
    promotions,
)
from modelspend.record import frozen
from modelspend.store.book import Book
from modelspend.store.events import write_event
from modelspend.store.readers import Readers
from modelspend.store.writer import Writer, needed

_MILLIONTHS = 1_000_000


@frozen
class Added:
    """What became of some evidence: rows that are new, rows that were known, who took over."""

    added: int
    known: int
    promotions: tuple[Promotion, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "added": self.added,
            "known": self.known,
            "promotions": [each.to_json() for each in self.promotions],
        }


class Quality:
    def __init__(self, readers: Readers, writer: Writer | None) -> None:
        self._readers = readers
        self._writer = writer

    async def add(self, rows: Iterable[Evidence], at_ms: int) -> Added:
        """Add evidence, each row once, and tell of promotions by an event each."""
        kept = tuple(rows)
        if not all(row.evidence_id for row in kept):
            kept = identified(kept)
        return await needed(self._writer).do(lambda book: _add(book, kept, at_ms))

    async def posteriors(self) -> dict[Key, Posterior]:
        """What all evidence says of each model in each category."""
        return believed(await self.sources())

    async def scores(self) -> Scores:
        """The same, ready for the request path."""
        return Scores(await self.posteriors())

    async def sources(self) -> list[Source]:
        """Where the posteriors come from: each suite, or task of an import, with what it adds."""
        return await self._readers.ask(_sources)

    async def keep(self, result: Result) -> None:
        """Keep what became of an item, in place of what became of it before."""
        await needed(self._writer).do(lambda book: _keep(book, result))

    async def results(self, item_keys: Sequence[str]) -> list[Result]:
        """What became of items, for each model that was asked."""

        def ask(conn: sqlite3.Connection) -> list[Result]:
            found: list[Result] = []
            for key in item_keys:
                rows = conn.execute(
                    f"SELECT {_RESULT} FROM eval_results WHERE item_key = ?", (key,)
                )
                found.extend(Result(**dict(zip(_FIELDS, row, strict=True))) for row in rows)
            return found

        return await self._readers.ask(ask)


def _add(book: Book, rows: Sequence[Evidence], at_ms: int) -> Added:
    touched = sorted({row.category for row in rows})
    before = believed(_sources(book.conn, touched))
    added = sum(_insert(book, row) for row in rows)
    after = believed(_sources(book.conn, touched)) if added else before
    found = promotions(before, after)
    for promotion in found:
        write_event(book, Event(kind="model.promoted", at_ms=at_ms, data=promotion.to_json()))
    return Added(added, len(rows) - added, found)


def _insert(book: Book, row: Evidence) -> int:
    added = book.execute(
        "INSERT INTO evidence (evidence_id, model, category, source, suite, task, item, subject,"
        " score, n, receipt_id, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (evidence_id) DO NOTHING",
        (
            row.evidence_id,
            row.model,
            row.category,
            row.source,
            row.suite,
            row.task,
            row.item,
            row.subject or None,
            row.score,
            row.n,
            row.receipt_id or None,
            row.at_ms,
        ),
    ).rowcount
    if added and row.subject:
        book.execute(_SUPERSEDE, {"subject": row.subject})
    return added


_SUPERSEDE = (  # all rows of a subject but the newest, whichever came into the ledger last
    "UPDATE evidence SET superseded = 1 WHERE subject = :subject AND superseded = 0"
    " AND evidence_id <> (SELECT evidence_id FROM evidence WHERE subject = :subject"
    " ORDER BY at DESC, evidence_id DESC LIMIT 1)"
)


def _sources(conn: sqlite3.Connection, categories: Sequence[str] | None = None) -> list[Source]:
    some = "" if categories is None else f"AND category IN ({', '.join('?' * len(categories))})"
    rows = conn.execute(
        "SELECT model, category, source, suite, task, sum(n),"
        f" sum(CAST(round(score * n * {_MILLIONTHS}) AS INTEGER)) FROM evidence"
        f" WHERE superseded = 0 {some} GROUP BY category, model, source, suite, task",
        categories or (),
    )
    return [
        Source(
            model=model,
            category=category,
            source=source,
            suite=suite,
            task=task,
            n=n,
            successes=millionths / _MILLIONTHS,
        )
        for model, category, source, suite, task, n, millionths in rows
    ]


_FIELDS = (
    "item_key", "model", "suite", "item", "category", "outcome", "score", "why", "receipt_id",
    "cost_pico", "judge_receipt_id", "judge_cost_pico", "latency_ms", "at_ms",
)  # fmt: skip
_RESULT = ", ".join(_FIELDS).replace("at_ms", "at")


def _keep(book: Book, result: Result) -> None:
    news = ", ".join(f"{name} = excluded.{name}" for name in _RESULT.split(", ")[2:])
    book.execute(
        f"INSERT INTO eval_results ({_RESULT}) VALUES ({', '.join('?' * len(_FIELDS))})"
        f" ON CONFLICT (item_key, model) DO UPDATE SET {news}",
        tuple(getattr(result, name) for name in _FIELDS),
    )
