"""What alerts look at: the last hours of the ledger, hour by hour and by what names a call.

Hides that an hour is counted back from now, so that no rule has to wait for a full one; the week
before comes out of the sums by day. Calls that a drill has met are left out: what they were like
says nothing of anybody.
"""

import sqlite3
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, NamedTuple

from orjson import loads

from modelspend.receipt import Status
from modelspend.store import detail
from modelspend.store.readers import Readers
from modelspend.store.search import Filter, conditions
from modelspend.store.sums import sum_of, whole

_HOUR_MS = 3_600_000
_UNSENT = (Status.REFUSED, Status.CACHED)
_NO_DRILL = "seq NOT IN (SELECT seq FROM attempts WHERE drill IS NOT NULL)"

LOOKED_AT = 400
SAMPLED = 15_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """The calls of one hour (0 is the one until now) that have these names in common.

    `calls` counts what was sent; `latency_ms` has a duration for each call that was answered, and
    `first_ms` is when the first of all began.
    """

    hour: int
    first_ms: int
    tenant: str
    category: str | None
    model: str | None
    provider: str | None
    calls: int
    unpriced: int
    cost_pico: int
    prompt_tokens: int
    cached_tokens: int
    latency_ms: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Led:
    """Calls of one hour that were led elsewhere: from the provider that should have had them to the
    one that had them last."""

    hour: int
    tenant: str
    category: str | None
    provider: str
    answered_by: str | None
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """How many calls were looked at that have these names in common, and of how many the
    classifier was not sure."""

    tenant: str
    category: str | None
    calls: int
    unsure: int


class Slowest(NamedTuple):
    """How many answers were looked at, and what 95 per cent of them took at most."""

    name: str
    calls: int
    p95_ms: int


DETAIL_COLUMNS = (
    "receipt_id, tenant, workflow, session_id, key_id, trace_id, price_id, model, model_asked"
)
"""What opens a detail, in the order of `detail.Columns`."""


class Alerts:
    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def hours(self, where: Filter) -> list[Hour]:
        """The hours of a time that has an end, by hours before it."""
        return await self._readers.ask(lambda conn: _hours(conn, where))

    async def sums(self, where: Filter) -> list[Hour]:
        """A time as if it were one hour, without durations: quick however many calls it has."""
        return await self._readers.ask(lambda conn: _hours(conn, where, as_one=True))

    async def p95(self, key: Literal["model", "provider"], where: Filter) -> list[Slowest]:
        """What 95 per cent of the answers took at most, by model or provider. Made by the database
        from some `SAMPLED` calls where there are more, so that it holds nobody up."""
        return await self._readers.ask(lambda conn: _p95(conn, key, where))

    async def led(self, where: Filter) -> list[Led]:
        """The same of the calls that were led elsewhere."""
        return await self._readers.ask(lambda conn: _led(conn, where))

    async def classified(self, where: Filter, sure_from: float) -> list[Classified]:
        """How sure the classifier was of the newest calls of a time, up to `LOOKED_AT` of them: it
        stands in their details, which take time to open."""
        return await self._readers.ask(lambda conn: _classified(conn, where, sure_from))

    async def told_at(self) -> dict[tuple[str, int, str], int]:
        """When each mark of a budget was passed: (key, start of the window, rule) → UTC ms."""

        def ask(conn: sqlite3.Connection) -> dict[tuple[str, int, str], int]:
            rows = conn.execute("SELECT budget, start, rule, at FROM budget_firings")
            return {(budget, start, rule): at for budget, start, rule, at in rows}

        return await self._readers.ask(ask)

    async def first_ms(self) -> int | None:
        """When the oldest receipt was begun."""
        return await self._readers.ask(
            lambda conn: conn.execute("SELECT min(created_at) FROM receipts").fetchone()[0]
        )


def _ago(where: Filter, column: str) -> str:
    return f"({where.until_ms or 0} - 1 - {column}) / {_HOUR_MS}"


def _hours(conn: sqlite3.Connection, where: Filter, *, as_one: bool = False) -> list[Hour]:
    terms = conditions(where)
    facets = {
        row[0]: row[1:]
        for row in conn.execute("SELECT id, tenant, category, model, provider, status FROM facets")
    }
    hour, durations = _ago(where, "created_at"), "json_group_array(latency_ms)"
    if as_one:
        hour, durations = "0", "null"
    rows = conn.execute(
        f"SELECT {hour}, facet_id, min(created_at), count(*),"
        f" count(*) - count(cost_pico), {sum_of('cost_pico')},"
        " sum(input_tokens + cache_read_tokens + cache_write_tokens), sum(cache_read_tokens),"
        f" {durations} FROM receipts INDEXED BY receipts_time"
        f" WHERE {terms} AND {_NO_DRILL} GROUP BY 1, 2",
        terms.values,
    )
    found = []
    for hour, facet, first, calls, unpriced, high, low, prompt, cached, took in rows:
        tenant, category, model, provider, status = facets[facet]
        sent = status not in _UNSENT
        found.append(
            Hour(
                hour=hour,
                first_ms=first,
                tenant=tenant,
                category=category,
                model=model,
                provider=provider,
                calls=calls if sent else 0,
                unpriced=unpriced if sent else 0,
                cost_pico=whole(high, low),
                prompt_tokens=prompt if sent else 0,
                cached_tokens=cached if sent else 0,
                latency_ms=tuple(loads(took)) if took and status == Status.SUCCESS else (),
            )
        )
    return found


def _p95(conn: sqlite3.Connection, key: str, where: Filter) -> list[Slowest]:
    terms = conditions(where)
    place = f"receipts r INDEXED BY receipts_time WHERE {terms} AND {_NO_DRILL}"
    (calls,) = conn.execute(f"SELECT count(*) FROM {place}", terms.values).fetchone()
    rows = conn.execute(
        f"WITH each AS (SELECT f.{key} AS name, r.latency_ms AS ms,"
        f" row_number() OVER (PARTITION BY f.{key} ORDER BY r.latency_ms) AS nth,"
        f" count(*) OVER (PARTITION BY f.{key}) AS calls"
        f" FROM (SELECT facet_id, latency_ms FROM {place} AND seq % ? = 0) r"
        f" JOIN facets f ON f.id = r.facet_id AND f.status = ? AND f.{key} NOTNULL)"
        " SELECT name, calls, min(ms) FROM each WHERE nth * 100 >= calls * 95 GROUP BY name",
        (*terms.values, calls // SAMPLED + 1, Status.SUCCESS.value),
    )
    return [Slowest(*row) for row in rows]


def _led(conn: sqlite3.Connection, where: Filter) -> list[Led]:
    terms = conditions(where)
    rows = conn.execute(
        f"SELECT {_ago(where, 'r.created_at')}, f.tenant, f.category, d.from_provider, f.provider,"
        " count(*) FROM v3_failover_decisions d INDEXED BY failovers_time"
        " JOIN receipts r ON r.seq = d.seq JOIN facets f ON f.id = r.facet_id"
        " WHERE d.n = 1 AND d.decided_at >= ?"
        f" AND r.seq IN (SELECT seq FROM receipts INDEXED BY receipts_time WHERE {terms}"
        f" AND {_NO_DRILL})"
        " GROUP BY 1, 2, 3, 4, 5",
        (where.since_ms or 0, *terms.values),
    )
    return [
        Led(
            hour=hour,
            tenant=tenant,
            category=category,
            provider=provider,
            answered_by=answered_by,
            calls=calls,
        )
        for hour, tenant, category, provider, answered_by, calls in rows
    ]


def _classified(conn: sqlite3.Connection, where: Filter, sure_from: float) -> list[Classified]:
    terms = conditions(where)
    rows = conn.execute(
        f"SELECT tenant, category, detail, {DETAIL_COLUMNS} FROM receipts INDEXED BY receipts_time"
        f" WHERE {terms} AND {_NO_DRILL} AND category IS NOT NULL ORDER BY created_at DESC LIMIT ?",
        (*terms.values, LOOKED_AT),
    )
    calls, unsure = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for tenant, category, packed, *columns in rows:
        with suppress(ValueError, KeyError, TypeError):  # a damaged one is `verify`'s business
            said = loads(detail.unpack(packed, tuple(columns)))["classification"]
            if said["confidence"]:  # 0: there was nothing to read in it
                calls[tenant, category] += 1
                unsure[tenant, category] += said["confidence"] < sure_from
    return [
        Classified(tenant=tenant, category=category, calls=n, unsure=unsure[tenant, category])
        for (tenant, category), n in calls.items()
    ]
