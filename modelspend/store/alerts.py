"""What alerts look at: the last hours of the ledger, hour by hour and by what names a call.

Hides that an hour is counted back from now, so that no rule has to wait for a full one; the week
before comes out of the sums by day. Whoever keeps sums of his own reads the rest in parts, none of
which takes long or much memory. Calls that a drill has met are left out: what they were like says
nothing of anybody.
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from orjson import loads

from modelspend.receipt import Status
from modelspend.sliding import Part, Reach, rounded
from modelspend.store import detail
from modelspend.store.readers import Readers
from modelspend.store.search import Filter, conditions, of_facets
from modelspend.store.sums import sum_of, whole
from modelspend.tallies import Classified, Hour, Led

_HOUR_MS = 3_600_000
_UNSENT = (Status.REFUSED, Status.CACHED)
_NO_DRILL = "seq NOT IN (SELECT seq FROM attempts WHERE drill IS NOT NULL)"

LOOKED_AT = 400
SAMPLED = 15_000
_AT_A_TIME = 2_000

Durations = dict[tuple[str | None, str | None], Counter[int]]
"""By model and provider."""


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

    async def part(self, reach: Reach, *, timed: bool) -> Part:
        """Some of a reach, from its beginning on; with durations if it is `timed`."""
        return await self._readers.ask(lambda conn: _part(conn, reach, timed))

    async def durations(self, where: Filter) -> Durations:
        """How long answers took, by (model, provider): of some `SAMPLED` calls where there are
        more, so that it holds nobody up, and `rounded`."""
        return await self._readers.ask(lambda conn: _durations(conn, where))

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

    async def first_of(self, where: Filter) -> int | None:
        """When the first call with some names began within a time; drills are no calls."""
        return await self._readers.ask(lambda conn: _first_of(conn, where))


def _ago(where: Filter, column: str) -> str:
    return f"({where.until_ms or 0} - 1 - {column}) / {_HOUR_MS}"


def _hours(conn: sqlite3.Connection, where: Filter) -> list[Hour]:
    terms = conditions(where)
    source = f"receipts INDEXED BY receipts_time WHERE {terms}"
    asked = (_ago(where, "created_at"), "min(created_at)", _EVERY_DURATION)
    return _grouped(conn, source, terms.values, *asked)


_EVERY_DURATION = "json_group_array(latency_ms)"


def _grouped(
    conn: sqlite3.Connection,
    source: str,
    values: Sequence[Any],
    hour: str,
    first: str,
    durations: str,
) -> list[Hour]:
    """Receipts by hour and facet, which are numbers and quicker to sort than names."""
    rows = conn.execute(
        "SELECT f.status, f.tenant, f.category, f.model, f.provider, g.* FROM"
        f" (SELECT facet_id, {hour}, {first}, count(*), count(*) - count(cost_pico),"
        f" {sum_of('cost_pico')}, sum(input_tokens + cache_read_tokens + cache_write_tokens),"
        f" sum(cache_read_tokens), {durations} FROM {source} AND {_NO_DRILL} GROUP BY 1, 2) g"
        " JOIN facets f ON f.id = g.facet_id",
        values,
    )
    return [_hour(*row) for row in rows]


def _hour(status: str, *row: Any) -> Hour:
    tenant, category, model, provider, _, hour, first, calls, unpriced, high, low, *more = row
    prompt, cached, took = more
    sent = status not in _UNSENT
    return Hour(
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


def _led(conn: sqlite3.Connection, where: Filter) -> list[Led]:
    terms = conditions(where)
    return _led_by(
        conn,
        "v3_failover_decisions d INDEXED BY failovers_time JOIN receipts r ON r.seq = d.seq"
        " JOIN facets f ON f.id = r.facet_id WHERE d.n = 1 AND d.decided_at >= ?"
        f" AND r.seq IN (SELECT seq FROM receipts INDEXED BY receipts_time WHERE {terms}"
        f" AND {_NO_DRILL})",
        (where.since_ms or 0, *terms.values),
        _ago(where, "r.created_at"),
    )


def _led_by(
    conn: sqlite3.Connection, source: str, values: Sequence[Any], hour: str = "0"
) -> list[Led]:
    rows = conn.execute(
        f"SELECT {hour}, f.tenant, f.category, d.from_provider, f.provider, count(*) FROM {source}"
        " GROUP BY 1, 2, 3, 4, 5",
        values,
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


def _part(conn: sqlite3.Connection, reach: Reach, timed: bool) -> Part:
    reach = _cut(conn, reach)
    index = "NOT INDEXED" if reach.edge == "seq" else "INDEXED BY receipts_time"
    source = f"receipts {index} WHERE created_at >= ? AND created_at < ? AND seq > ? AND seq <= ?"
    values = (reach.since_ms, reach.until_ms, reach.after, reach.upto)
    durations = _EVERY_DURATION if timed else "NULL"
    hours = [
        replace(hour, latency_ms=tuple(map(rounded, hour.latency_ms))) if hour.latency_ms else hour
        for hour in _grouped(conn, source, values, "0", "NULL", durations)
    ]
    led = _led_by(
        conn,
        f"(SELECT seq, facet_id FROM {source} AND {_NO_DRILL}) r"
        " CROSS JOIN v3_failover_decisions d ON d.seq = r.seq AND d.n = 1"
        " JOIN facets f ON f.id = r.facet_id WHERE true",
        values,
    )
    return Part(reach=reach, hours=hours, led=led)


def _cut(conn: sqlite3.Connection, reach: Reach) -> Reach:
    """Its first receipts; those of one millisecond stay together."""
    if reach.edge == "seq":
        return replace(reach, upto=min(reach.upto, reach.after + _AT_A_TIME))
    row = conn.execute(
        "SELECT created_at FROM receipts INDEXED BY receipts_time"
        " WHERE created_at >= ? AND created_at < ? ORDER BY created_at LIMIT 1 OFFSET ?",
        (reach.since_ms, reach.until_ms, _AT_A_TIME),
    ).fetchone()
    return reach if row is None else replace(reach, until_ms=max(row[0], reach.since_ms + 1))


def _durations(conn: sqlite3.Connection, where: Filter) -> Durations:
    terms = conditions(where)
    place = f"receipts INDEXED BY receipts_time WHERE {terms} AND {_NO_DRILL}"
    (calls,) = conn.execute(f"SELECT count(*) FROM {place}", terms.values).fetchone()
    facets = {
        row[0]: row[1:]
        for row in conn.execute(
            "SELECT id, model, provider FROM facets WHERE status = ?", (Status.SUCCESS.value,)
        )
    }
    found: Durations = defaultdict(Counter)
    rows = conn.execute(
        f"SELECT facet_id, latency_ms FROM {place} AND seq % ? = 0",
        (*terms.values, calls // SAMPLED + 1),
    )
    for facet, ms in rows:
        if facet in facets:
            found[facets[facet]][rounded(ms)] += 1
    return found


def _first_of(conn: sqlite3.Connection, where: Filter) -> int | None:
    """By facet: a name that is rare is not looked for among all others."""
    named = of_facets(where)
    (first,) = conn.execute(
        "SELECT min((SELECT created_at FROM receipts INDEXED BY receipts_facet"
        f" WHERE facet_id = f.id AND created_at >= ? AND created_at < ? AND {_NO_DRILL}"
        f" ORDER BY created_at LIMIT 1)) FROM facets f WHERE {named}",
        (where.since_ms, where.until_ms, *named.values),
    ).fetchone()
    return None if first is None else int(first)


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
