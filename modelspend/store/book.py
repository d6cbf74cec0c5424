"""The open ledger in the writer's hands: one connection, the next number, the end of the chain.

Everything that must be undone together with a rolled-back transaction lives here. `facets` is a
cache of a table that only the writer fills, so it is forgotten, not repaired, after a rollback; so
are `budgets` and `fired`.
"""

import sqlite3

Facet = tuple[str, str | None, str | None, str | None, str | None, str, int, str | None]

Mark = tuple[int, int, bytes]

_FACETS_KEPT = 20_000
_FIRED_KEPT = 20_000
_LAST = (
    "SELECT coalesce((SELECT max(seq) FROM receipts), 0),"
    " coalesce((SELECT max(seq) FROM events), 0),"
    " coalesce((SELECT max(seq) FROM attempts), 0)"  # all that a removed receipt may have left
)
_LATER = "SELECT hash FROM receipts WHERE seq > ? ORDER BY seq"


class Book:
    """One write connection and what it has to remember between statements.

    `hopped` names the open calls that have further attempts: most have none, and looking for them
    in the table would cost every call more than the removal of its intent.
    """

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.conn = conn
        self.execute = conn.execute
        self._hopped: set[str] | None = None
        self._budgets: dict[str, int] | None = None
        self._fired: set[tuple[str, int, str]] | None = None
        self._facets: dict[Facet, tuple[int, int, int]] = {}
        sealed, receipts, head = self.execute("SELECT seq, receipts, hash FROM head").fetchone()
        self._sealed: int = sealed
        self.seq: int = max(sealed, *self.execute(_LAST).fetchone())
        later = self.execute(_LATER, (sealed,)).fetchall()
        self.receipts: int = receipts + len(later)
        self.head: bytes = later[-1][0] if later else head

    def mark(self) -> Mark:
        """Where we are; `back_to` it after a rollback."""
        return self.seq, self.receipts, self.head

    def back_to(self, mark: Mark) -> None:
        self.seq, self.receipts, self.head = mark
        self._facets.clear()
        self._hopped = self._budgets = self._fired = None

    @property
    def hopped(self) -> set[str]:
        if self._hopped is None:
            rows = self.execute("SELECT DISTINCT receipt_id FROM intent_attempts")
            self._hopped = {row[0] for row in rows}
        return self._hopped

    @property
    def budgets(self) -> dict[str, int]:
        """The numbers of the budgets that are open, by their keys."""
        if self._budgets is None:
            rows = self.execute("SELECT key, id FROM budgets WHERE opened_at IS NOT NULL")
            self._budgets = dict(rows.fetchall())
        return self._budgets

    @property
    def fired(self) -> set[tuple[str, int, str]]:
        """What was told already: (budget, start of the window, rule)."""
        if self._fired is None or len(self._fired) > _FIRED_KEPT:
            rows = self.execute(
                "SELECT budget, start, rule FROM budget_firings ORDER BY at DESC LIMIT ?",
                (_FIRED_KEPT // 2,),
            )
            self._fired = set(rows.fetchall())
        return self._fired

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq

    @property
    def unsealed(self) -> int:
        """Numbers given since the end of the chain was last written down."""
        return self.seq - self._sealed

    def seal(self) -> None:
        """Write down the counter and the end of the chain, so that a cut-off tail shows.

        Not in every transaction: it would cost each one a page. After a crash the rows themselves
        tell where the chain ended.
        """
        self.execute(
            "UPDATE head SET seq = ?, receipts = ?, hash = ?",
            (self.seq, self.receipts, self.head),
        )

    def sealed(self) -> None:
        """The transaction of the last `seal` was committed."""
        self._sealed = self.seq

    def facet(self, key: Facet, cost_pico: int, latency_ms: int) -> int:
        """The number of a combination of columns, a new one if need be; its maxima are kept."""
        known = self._facets.get(key)
        if known is None:
            known = self._find(key) or (self._add(key), 0, 0)
            if len(self._facets) >= _FACETS_KEPT:
                self._facets.clear()
        number, dearest, slowest = known
        if cost_pico > dearest or latency_ms > slowest:
            known = number, max(dearest, cost_pico), max(slowest, latency_ms)
            self.execute(
                "UPDATE facets SET max_cost_pico = ?, max_latency_ms = ? WHERE id = ?",
                (*known[1:], number),
            )
        self._facets[key] = known
        return number

    def _find(self, key: Facet) -> tuple[int, int, int] | None:
        row: tuple[int, int, int] | None = self.execute(
            "SELECT id, max_cost_pico, max_latency_ms FROM facets WHERE tenant = ?"
            " AND workflow IS ? AND model IS ? AND provider IS ? AND category IS ? AND status = ?"
            " AND unpriced = ? AND region IS ?",
            key,
        ).fetchone()
        return row

    def _add(self, key: Facet) -> int:
        added = self.execute(
            "INSERT INTO facets (tenant, workflow, model, provider, category, status, unpriced,"
            " region) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            key,
        ).lastrowid
        assert added is not None
        return added
