"""How long calls took, exactly: every duration counted, none of them put in a box.

Hides how a million durations are read in a moment: by facet, out of the one index that has them, as
one JSON text each. Calls that hopped to another place are taken out of that and told attempt by
attempt, so that a slow first choice does not hide behind a quick second one.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

from orjson import loads

from modelspend.receipt import Status
from modelspend.record import frozen
from modelspend.store.readers import Readers
from modelspend.store.search import ALL, Filter, conditions, of_facets

LatencyKey = Literal["tenant", "workflow", "category", "model", "provider", "region"]

Part = Literal["direct", "hop", "failed"]
"""An answer by the place that was asked first; by a later one; an attempt that gave none."""

Durations = Counter[int]
"""Whole milliseconds, and how many took that long; a count may have fallen to 0."""

_ANSWERED = Status.SUCCESS.value


@frozen
class Took:
    """How long some attempts took, and how long they took to their first token."""

    latency_ms: Durations = field(default_factory=Counter)
    ttft_ms: Durations = field(default_factory=Counter)

    @property
    def attempts(self) -> int:
        return self.latency_ms.total()


ByPart = dict[tuple[tuple[str | None, ...], Part], Took]


class Latencies:
    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def by(
        self, keys: Sequence[LatencyKey], where: Filter = ALL, *, ttft: bool = True
    ) -> ByPart:
        """Durations by each combination of the keys, and part; half as much work without the
        times to the first token (`ttft`)."""
        return await self._readers.ask(lambda conn: _by(conn, keys, where, ttft))


def _by(conn: sqlite3.Connection, keys: Sequence[LatencyKey], where: Filter, ttft: bool) -> ByPart:
    found: ByPart = {}
    names = "".join(f", {key}" for key in keys)
    named = of_facets(where)
    facets = {
        row[0]: row[1:]
        for row in conn.execute(
            f"SELECT id, status{names} FROM facets WHERE provider IS NOT NULL AND {named}",
            named.values,
        )
    }
    for facet, latencies, firsts in _direct(conn, facets, where, ttft):
        if facet not in facets:
            continue  # calls that never came to an attempt
        status, *group = facets[facet]
        part = _part_of(status)
        if part is not None:
            key = (tuple(group), part)
            if key not in found:
                found[key] = Took()
            took = found[key]
            took.latency_ms.update(latencies)
            took.ttft_ms.update(firsts)
    _apart(conn, keys, where, facets, found)
    if not ttft:
        found = {key: Took(took.latency_ms) for key, took in found.items()}
    return {key: took for key, took in found.items() if took.attempts}


def _part_of(status: str) -> Part | None:
    """What was never sent anywhere took no time of a provider's."""
    if status in (Status.CACHED, Status.REFUSED):
        return None
    return "direct" if status == _ANSWERED else "failed"


def _direct(
    conn: sqlite3.Connection, facets: Iterable[int], where: Filter, ttft: bool
) -> Iterator[tuple[int, list[int], list[int]]]:
    """All durations of each facet that has any in this time."""
    firsts = "json_group_array(ttft_ms) FILTER (WHERE ttft_ms NOTNULL)" if ttft else "'[]'"
    listed = f"json_group_array(latency_ms), {firsts}"
    if where == ALL:
        rows = conn.execute(
            f"SELECT facet_id, {listed} FROM receipts INDEXED BY receipts_facet GROUP BY facet_id"
        )
        yield from ((facet, loads(took), loads(first)) for facet, took, first in rows)
        return
    terms = conditions(_ranges(where))
    query = (
        f"SELECT {listed} FROM receipts INDEXED BY receipts_facet WHERE facet_id = ? AND {terms}"
    )
    for facet in facets:
        took, first = conn.execute(query, (facet, *terms.values)).fetchone()
        if took != "[]":
            yield facet, loads(took), loads(first)


def _ranges(where: Filter) -> Filter:
    """What is left of a filter once the facets are known."""
    return Filter(
        session=where.session,
        tag=where.tag,
        hopped=where.hopped,
        failed=where.failed,
        min_cost_pico=where.min_cost_pico,
        min_latency_ms=where.min_latency_ms,
        since_ms=where.since_ms,
        until_ms=where.until_ms,
    )


_HOPPED = (
    "SELECT r.facet_id, r.latency_ms, r.ttft_ms, a.n, a.status = {answered}, a.latency_ms,"
    " a.ttft_ms{places} FROM (SELECT seq, facet_id, latency_ms, ttft_ms"
    " FROM receipts NOT INDEXED WHERE seq IN"
    " (SELECT seq FROM attempts INDEXED BY attempts_hops WHERE n > 1) AND {terms}) r"
    " JOIN attempts a ON a.seq = r.seq"
)


def _apart(
    conn: sqlite3.Connection,
    keys: Sequence[LatencyKey],
    where: Filter,
    facets: Mapping[int, Sequence[Any]],
    found: ByPart,
) -> None:
    """Take the calls that hopped out of what was counted, and count their attempts instead."""
    terms = conditions(where)
    counted = {
        facet: (tuple(named), part)
        for facet, (status, *named) in facets.items()
        if (part := _part_of(status)) is not None
    }
    own = [at for at, key in enumerate(keys) if key in _OF_ATTEMPT]
    query = _HOPPED.format(
        answered=f"'{_ANSWERED}'",
        places="".join(f", {_OF_ATTEMPT[keys[at]]}" for at in own),
        terms=terms,
    )
    for facet, latency, first, n, answered, took_ms, first_ms, *places in conn.execute(
        query, terms.values
    ):
        key = counted.get(facet)
        if key is None:
            continue  # it was never sent anywhere
        if n == 1:  # once for each call
            took = found[key]
            took.latency_ms[latency] -= 1
            if first is not None:
                took.ttft_ms[first] -= 1
        group = key[0]
        if places:
            named = list(group)
            for at, place in zip(own, places, strict=True):
                named[at] = place
            group = tuple(named)
        key = (group, "failed" if not answered else "direct" if n == 1 else "hop")
        if key not in found:
            found[key] = Took()
        took = found[key]
        took.latency_ms[took_ms] += 1
        if first_ms is not None:
            took.ttft_ms[first_ms] += 1


_OF_ATTEMPT: dict[LatencyKey, str] = {
    "provider": "a.provider",
    "model": "a.model_id",
    "region": "a.region",
}
