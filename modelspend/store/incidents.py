"""Incidents in the ledger: opened and resolved with their circuit's moves, counted with receipts.

All writing here is part of somebody else's transaction: a move's, or a receipt's.
"""

import sqlite3
from typing import Any

from modelspend.breaker import Moved
from modelspend.circuits import CircuitKey
from modelspend.failovers import Touched
from modelspend.ids import incident_id
from modelspend.incidents import Incident
from modelspend.receipt import FailureClass
from modelspend.store.book import Book
from modelspend.store.readers import Readers


class Incidents:
    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def list(
        self,
        *,
        unresolved: bool = False,
        provider: str | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        limit: int = 50,
    ) -> list[Incident]:
        """Newest first; of a time: those that were going on in it."""

        def ask(conn: sqlite3.Connection) -> list[Incident]:
            rows = conn.execute(
                f"SELECT {_COLUMNS} FROM incidents WHERE (? = 0 OR resolved_at IS NULL)"
                " AND (? IS NULL OR provider = ?)"
                " AND (? IS NULL OR resolved_at IS NULL OR resolved_at >= ?)"
                " AND (? IS NULL OR opened_at < ?)"
                " ORDER BY opened_at DESC, incident_id DESC LIMIT ?",
                (
                    int(unresolved),
                    provider,
                    provider,
                    since_ms,
                    since_ms,
                    until_ms,
                    until_ms,
                    limit,
                ),
            )
            return [_incident(*row) for row in rows]

        return await self._readers.ask(ask)


_COLUMNS = (
    "incident_id, provider, model_id, key_id, opened_at, resolved_at, reason, failure_class,"
    " resolution, opens, failures, calls_affected, unpriced, extra_cost_pico, drill"
)


def touch_or_open(
    book: Book, circuit: CircuitKey, moved: Moved, at_ms: int, drill: str | None
) -> str:
    """The incident of a circuit that opens: the one that goes on, else a new one; its id."""
    going_on = book.execute(
        "SELECT incident_id FROM incidents WHERE provider = ? AND model_id = ? AND key_id = ?"
        " AND resolved_at IS NULL",
        circuit,
    ).fetchone()
    if going_on is not None:
        book.execute("UPDATE incidents SET opens = opens + 1 WHERE incident_id = ?", going_on)
        return str(going_on[0])
    named = incident_id(at_ms, book.seq + 1)  # the number of the event that tells of it
    book.execute(
        f"INSERT INTO incidents ({_COLUMNS})"
        " VALUES (?, ?, ?, ?, ?, NULL, ?, ?, NULL, 1, ?, 0, 0, 0, ?)",
        (named, *circuit, at_ms, moved.why, moved.failure, moved.failures, drill),
    )
    return named


def resolve(book: Book, circuit: CircuitKey, resolution: str, at_ms: int) -> dict[str, Any]:
    """End the incident of a circuit that has closed; what its event says of it."""
    row = book.execute(
        "UPDATE incidents SET resolved_at = max(?, opened_at), resolution = ?"
        " WHERE provider = ? AND model_id = ? AND key_id = ? AND resolved_at IS NULL"
        " RETURNING incident_id, resolved_at - opened_at",
        (at_ms, resolution, *circuit),
    ).fetchone()
    return {} if row is None else {"incident_id": row[0], "open_s": row[1] / 1000}


def touch(book: Book, touched: Touched, began_ms: int) -> None:
    """Count a call in the newest incident of a circuit, if that went on while the call did."""
    extra = touched.extra_cost_pico
    book.execute(
        "UPDATE incidents SET calls_affected = calls_affected + 1,"
        " unpriced = unpriced + ?, extra_cost_pico = extra_cost_pico + ?"
        " WHERE incident_id = (SELECT incident_id FROM incidents WHERE provider = ?"
        " AND model_id = ? AND key_id = ? ORDER BY opened_at DESC LIMIT 1)"
        " AND (resolved_at IS NULL OR resolved_at >= ?)",
        (int(extra is None), extra or 0, *touched.circuit, began_ms),
    )


def _incident(*row: Any) -> Incident:
    named, provider, model, key, opened_at, resolved_at, reason, failure, *rest = row
    resolution, opens, failures, affected, unpriced, extra, drill = rest
    return Incident(
        incident_id=named,
        circuit=CircuitKey(provider, model, key),
        opened_at_ms=opened_at,
        resolved_at_ms=resolved_at,
        reason=reason,
        failure_class=FailureClass(failure) if failure in set(FailureClass) else None,
        resolution=resolution,
        opens=opens,
        failures=failures,
        calls_affected=affected,
        unpriced=unpriced,
        extra_cost_pico=extra,
        drill=drill,
    )
