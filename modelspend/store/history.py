"""Past calls in the order in which they were written, a batch at a time.

Hides the detail blob: of each receipt only what a decision is made again from is taken out of it,
without its money, which the columns hold. So a million receipts pass in the memory of one batch.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import orjson

from modelspend.money import BUCKETS
from modelspend.receipt import Classification, Delivery, Usage
from modelspend.record import record
from modelspend.store import detail
from modelspend.store.readers import Readers
from modelspend.store.search import Filter, Terms, conditions

BATCH = 500


@record
class PastTry:
    """An attempt as it was: what it used, and whether it can have cost anything.

    `costs` is false where it surely cost nothing, and null where nobody knows what it cost.
    """

    provider: str
    model: str
    sent: bool
    costs: bool | None
    usage: Usage
    service_tier: str = ""
    finish_reason: str | None = None


@record
class Past:
    """A receipt as a decision is made again from it.

    `decision` is the receipt's own, as JSON; `damaged` says why the detail cannot be read, and
    then only the columns are known.
    """

    seq: int
    receipt_id: str
    created_at_ms: int
    tenant: str
    workflow: str | None
    session_id: str | None
    tier: str | None
    provider: str | None
    model: str | None
    asked: str
    dialect: str
    status: str
    cost_pico: int | None
    output_tokens: int
    body_kept: bool
    path: str = ""
    classification: Classification | None = None
    decision: Mapping[str, Any] | None = None
    translated_to: str | None = None
    tries: tuple[PastTry, ...] = field(default=())
    damaged: str = ""


class History:
    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def count(self, where: Sequence[Filter]) -> tuple[int, int]:
        """(how many receipts any of the filters matches, the number of the last one)."""

        def ask(conn: sqlite3.Connection) -> tuple[int, int]:
            terms = any_of(where)
            count, last = conn.execute(
                f"SELECT count(*), max(seq) FROM receipts WHERE {terms}", terms.values
            ).fetchone()
            return int(count), int(last or 0)

        return await self._readers.ask(ask)

    async def after(
        self, seq: int, where: Sequence[Filter], *, until: int, limit: int = BATCH
    ) -> list[Past]:
        """The next ones in the order of their numbers, up to and with `until`."""

        def ask(conn: sqlite3.Connection) -> list[Past]:
            terms = Terms(("seq > ?", "seq <= ?"), (seq, until)) + any_of(where)
            rows = conn.execute(
                f"SELECT {_COLUMNS} FROM receipts r NOT INDEXED WHERE {terms} ORDER BY seq LIMIT ?",
                (*terms.values, limit),
            )
            return [_past(row) for row in rows]

        return await self._readers.ask(ask)

    async def providers(self) -> frozenset[str]:
        """Every provider that a receipt names."""

        def ask(conn: sqlite3.Connection) -> frozenset[str]:
            rows = conn.execute("SELECT DISTINCT provider FROM facets WHERE provider IS NOT NULL")
            return frozenset(row[0] for row in rows)

        return await self._readers.ask(ask)


_COLUMNS = (
    "r.seq, r.created_at, r.tier, r.provider, r.dialect, r.status, r.cost_pico, r.output_tokens,"
    " EXISTS (SELECT 1 FROM bodies b WHERE b.seq = r.seq), r.detail,"
    " r.receipt_id, r.tenant, r.workflow, r.session_id, r.key_id, r.trace_id, r.price_id,"
    " r.model, r.model_asked"
)


def any_of(where: Sequence[Filter]) -> Terms:
    """The condition that at least one of the filters holds."""
    arms = [conditions(each) for each in where]
    if not arms:
        return Terms()
    said = " OR ".join(f"({arm})" for arm in arms)
    return Terms((f"({said})",), tuple(value for arm in arms for value in arm.values))


def _past(row: tuple[Any, ...]) -> Past:
    seq, at, tier, provider, dialect, status, cost, output, body_kept, packed, *columns = row
    receipt_id, tenant, workflow, session_id, _, _, _, model, asked = columns
    told: dict[str, Any] = {}
    try:
        shape = orjson.loads(detail.unpack(packed, tuple(columns)))
        told = _told(shape)
    except (ValueError, KeyError, TypeError) as why:
        told = {"damaged": str(why) or type(why).__name__}
    return Past(
        seq=seq,
        receipt_id=receipt_id,
        created_at_ms=at,
        tenant=tenant,
        workflow=workflow,
        session_id=session_id,
        tier=tier,
        provider=provider,
        model=model,
        asked=asked,
        dialect=dialect,
        status=status,
        cost_pico=cost,
        output_tokens=output,
        body_kept=bool(body_kept),
        **told,
    )


def _told(shape: Mapping[str, Any]) -> dict[str, Any]:
    request = shape["request"]
    return {
        "path": request["path"],
        "translated_to": request.get("translated_to"),
        "classification": _classification(shape["classification"]),
        "decision": shape["decision"],
        "tries": tuple(_try(attempt) for attempt in shape["attempts"]),
    }


def _classification(said: Mapping[str, Any] | None) -> Classification | None:
    if said is None:
        return None
    return Classification(
        category=said["category"],
        confidence=said["confidence"],
        complexity=said["complexity"],
        tier=said["tier"],
        risk_signals=said["risk_signals"],
    )


def _try(said: Mapping[str, Any]) -> PastTry:
    used, cost = said["usage"], said["cost_usd"]
    return PastTry(
        provider=said["provider"],
        model=said["model_id"],
        sent=said["delivery"] != Delivery.NOT_SENT,
        costs=None if cost is None else bool(cost),
        usage=Usage(
            quantities={bucket: used[bucket] for bucket in BUCKETS if used.get(bucket)},
            reasoning_tokens=used["reasoning_tokens"],
            source=used["source"],
            raw=said["raw_usage"],
            error_ratio=used["error_ratio"],
            problems=tuple(used["problems"]),
        ),
        service_tier=said["service_tier"],
        finish_reason=said["finish_reason"],
    )
