"""`tenants`: everything else, pivoted by who pays; for whoever passes the bill on.

A report made of the others' parts: nothing is computed here that they do not compute.
"""

from asyncio import gather

from modelspend.receipt import Status
from modelspend.reports.latency import percentiles
from modelspend.reports.table import (
    Asked,
    Column,
    Report,
    Row,
    Table,
    before,
    change,
    cut,
    days_of,
    notes,
    share,
)
from modelspend.store import ByPart, Filter, Key, Store, Sum, Sums

BY = ("tenant", "workflow")
_WENT_WRONG = frozenset({Status.ERROR, Status.TRUNCATED, Status.INTERRUPTED})


async def tenants(store: Store, asked: Asked) -> Report:
    """One row for each tenant, month to date."""
    by = asked.grouped(BY, "tenant")
    since, until = asked.period("mtd")
    key: Key = by  # type: ignore[assignment]
    within = asked.within(since, until)
    days = days_of(since, until)
    daily, parts, then, took = await gather(  # side by side: each walks all days
        store.days.costs((key, "day"), *within),
        store.days.sums((key, "status", "model", "category"), *within),
        store.days.costs((key,), *asked.within(*before(since, until))),
        _latencies(store, key, within),
    )
    groups: dict[str | None, Sum] = {}
    for (name, *_), one in parts.items():
        groups[name] = groups[name] + one if name in groups else one
    trends: dict[str | None, list[int]] = {name: [0] * len(days) for name in groups}
    for (name, day), one in daily.items():
        if name in trends:
            trends[name][day - days.start] += one.cost_pico
    wrong, models, categories = _wrong(parts), _dearest(parts, 2), _dearest(parts, 3)
    total = sum(groups.values(), Sum())
    was = sum(then.values(), Sum())
    said = await notes(store, asked, total, since, until)
    rows = []
    for name, one in sorted(groups.items(), key=lambda p: (-p[1].cost_pico, p[0] or "")):
        direct = took.get(((name,), "direct"))
        p50, p95, _ = percentiles(direct.latency_ms) if direct else (None, None, None)
        previous = then.get((name,), Sum()).cost_pico
        rows.append(
            Row(
                (
                    name,
                    one.cost_pico,
                    share(one.cost_pico, total.cost_pico),
                    previous,
                    change(one.cost_pico, previous),
                    sum(one.saved_pico.values()),
                    one.receipts,
                    one.unpriced,
                    share(wrong.get(name, 0), one.receipts),
                    p50,
                    p95,
                    models.get(name),
                    categories.get(name),
                    tuple(trends[name]),
                ),
                asked.leads_to(since, until, **{by: name}),
            )
        )
    return Report(
        name="tenants",
        since_ms=since,
        until_ms=until,
        main=Table(
            columns=(
                Column(by, "name"),
                Column("cost_usd", "usd"),
                Column("share", "share"),
                Column("before_usd", "usd"),
                Column("change", "change"),
                Column("saved_usd", "usd"),
                Column("requests", "count"),
                Column("unpriced", "count"),
                Column("went_wrong", "share"),
                Column("p50_ms", "ms"),
                Column("p95_ms", "ms"),
                Column("top_model", "name"),
                Column("top_category", "name"),
                Column("trend", "trend"),
            ),
            rows=cut(rows, asked.limit, said),
            total=Row(
                (
                    "total",
                    total.cost_pico,
                    1.0 if total.cost_pico else None,
                    was.cost_pico,
                    change(total.cost_pico, was.cost_pico),
                    sum(total.saved_pico.values()),
                    total.receipts,
                    total.unpriced,
                    share(sum(wrong.values()), total.receipts),
                    None,
                    None,
                    None,
                    None,
                    tuple(map(sum, zip(*trends.values(), strict=True))) if trends else (),
                ),
                asked.leads_to(since, until),
            ),
        ),
        figures={"by": by},
        notes=tuple(said),
    )


async def _latencies(store: Store, key: Key, wheres: tuple[Filter, ...]) -> ByPart:
    """None for several filters, of which any may match: durations are not told apart by them."""
    if len(wheres) > 1:
        return {}
    return await store.latencies.by((key,), wheres[0], ttft=False)  # type: ignore[arg-type]


def _wrong(parts: Sums) -> dict[str | None, int]:
    counts: dict[str | None, int] = {}
    for (name, status, *_), one in parts.items():
        if status in _WENT_WRONG:
            counts[name] = counts.get(name, 0) + one.receipts
    return counts


def _dearest(parts: Sums, at: int) -> dict[str | None, str | None]:
    """What each one spends most on, by one of the keys."""
    costs: dict[tuple[str | None, str | None], int] = {}
    for key, one in parts.items():
        costs[key[0], key[at]] = costs.get((key[0], key[at]), 0) + one.cost_pico
    ordered = sorted(costs.items(), key=lambda pair: (pair[1], pair[0][1] or ""))
    return {name: what for (name, what), _ in ordered}
