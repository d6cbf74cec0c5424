"""Counts of what came since the last look, for the meters of `/metrics`.

Each look reads only the rows behind a number, a bounded stretch at a time, and adds nothing to a
call: nobody looks, nobody counts.
"""

import sqlite3
from typing import Any

from modelspend.record import record
from modelspend.store.readers import Readers
from modelspend.store.sums import sum_of, whole

BOUNDS_MS = (50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000)
"""Upper bounds of the buckets of durations; one more takes the rest."""

_SCAN = 20_000


@record
class Tally:
    """Receipts of one kind. `took` and `began` count durations and times to the first content, by
    bucket and not cumulated; `began` only of those that had one."""

    tenant: str
    provider: str | None
    model: str | None
    status: str
    calls: int
    unpriced: int
    cost_pico: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    took_ms: int
    took: tuple[int, ...]
    began_ms: int
    began: tuple[int, ...]


@record
class Stretch:
    """What is up to the number `seq`: receipts, failovers by (from, to, class), events by kind."""

    seq: int
    last: int
    tallies: tuple[Tally, ...]
    failovers: tuple[tuple[str, str, str, int], ...]
    events: tuple[tuple[str, int], ...]


class Metering:
    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def last(self) -> int:
        """The newest number: what is behind it has yet to come."""
        return await self._readers.ask(_last)

    async def after(self, seq: int) -> Stretch:
        """The next stretch; there is more while its `seq` is below its `last`."""
        return await self._readers.ask(lambda conn: _stretch(conn, seq))


def _last(conn: sqlite3.Connection) -> int:
    (last,) = conn.execute(
        "SELECT max(coalesce((SELECT max(seq) FROM events), 0),"
        " coalesce((SELECT max(seq) FROM receipts), 0))"
    ).fetchone()
    return int(last)


def _stretch(conn: sqlite3.Connection, seq: int) -> Stretch:
    last = _last(conn)
    end = min(max(last, seq), seq + _SCAN)
    span = (seq, end)
    failovers = conn.execute(
        "SELECT from_provider, to_provider, coalesce(failure_class, ''), count(*)"
        " FROM v3_failover_decisions WHERE seq > ? AND seq <= ? GROUP BY 1, 2, 3",
        span,
    )
    events = conn.execute(
        "SELECT kind, count(*) FROM events WHERE seq > ? AND seq <= ? GROUP BY kind", span
    )
    return Stretch(
        seq=end,
        last=max(last, end),
        tallies=tuple(_tally(row) for row in conn.execute(_TALLIES, span)),
        failovers=tuple(failovers),
        events=tuple(events),
    )


def _buckets(column: str) -> str:
    below = [f"sum({column} > {low} AND {column} <= {high})"
             for low, high in zip((-1, *BOUNDS_MS), BOUNDS_MS, strict=False)]  # fmt: skip
    return ", ".join([*below, f"sum({column} > {BOUNDS_MS[-1]})"])


_TALLIES = (
    "SELECT f.tenant, f.provider, f.model, f.status, count(*), count(r.cost_pico),"
    f" {sum_of('r.cost_pico')}, sum(r.input_tokens), sum(r.cache_read_tokens),"
    " sum(r.cache_write_tokens), sum(r.output_tokens), sum(r.latency_ms),"
    f" {_buckets('r.latency_ms')}, sum(r.ttft_ms), {_buckets('r.ttft_ms')}"
    " FROM receipts r JOIN facets f ON f.id = r.facet_id"
    " WHERE r.seq > ? AND r.seq <= ? GROUP BY r.facet_id"
)


def _tally(row: tuple[Any, ...]) -> Tally:
    tenant, provider, model, status, calls, priced, high, low, *rest = row
    tokens, (took_ms, *rest) = rest[:4], rest[4:]
    many = len(BOUNDS_MS) + 1
    return Tally(
        tenant=tenant,
        provider=provider,
        model=model,
        status=status,
        calls=calls,
        unpriced=calls - priced,
        cost_pico=whole(high, low),
        input_tokens=tokens[0],
        cache_read_tokens=tokens[1],
        cache_write_tokens=tokens[2],
        output_tokens=tokens[3],
        took_ms=took_ms,
        took=tuple(rest[:many]),
        began_ms=rest[many] or 0,
        began=tuple(n or 0 for n in rest[many + 1 :]),
    )
