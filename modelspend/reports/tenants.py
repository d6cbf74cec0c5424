"""`tenants`: everything else, pivoted by who pays; for whoever passes the bill on.

A report made of the others' parts: nothing is computed here that they do not compute.
"""

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
from modelspend.store import Key, Store, Sum

BY = ("tenant", "workflow")
_WENT_WRONG = frozenset({Status.ERROR, Status.TRUNCATED, Status.INTERRUPTED})


async def tenants(store: Store, asked: Asked) -> Report:
    """One row for each tenant, month to date."""
    by = asked.grouped(BY, "tenant")
    since, until = asked.period("mtd")
    key: Key = by  # type: ignore[assignment]
    within = asked.within(since, until)
    days = days_of(since, until)
    groups: dict[str | None, Sum] = {}
    trends: dict[str | None, list[int]] = {}
    for (name, day), one in (await store.days.sums((key, "day"), *within)).items():
        groups[name] = groups.get(name, Sum()) + one
        trends.setdefault(name, [0] * len(days))[day - days.start] += one.cost_pico
    then = await store.days.sums((key,), *asked.within(*before(since, until)))
    wrong = _wrong(await store.days.sums((key, "status"), *within))
    models = _dearest(await store.days.sums((key, "model"), *within))
    categories = _dearest(await store.days.sums((key, "category"), *within))
    took = await store.latencies.by((by,), within[0]) if len(within) == 1 else {}  # type: ignore[arg-type]
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


def _wrong(found: dict[tuple[str | None, ...], Sum]) -> dict[str | None, int]:
    counts: dict[str | None, int] = {}
    for (name, status), one in found.items():
        if status in _WENT_WRONG:
            counts[name] = counts.get(name, 0) + one.receipts
    return counts


def _dearest(found: dict[tuple[str | None, ...], Sum]) -> dict[str | None, str | None]:
    """What each one spends most on."""
    best: dict[str | None, tuple[int, str | None]] = {}
    for (name, what), one in found.items():
        mine = (one.cost_pico, what)
        if name not in best or (mine[0], mine[1] or "") > (best[name][0], best[name][1] or ""):
            best[name] = mine
    return {name: what for name, (_, what) in best.items()}
