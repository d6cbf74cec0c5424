"""`mix`: which models did the work, by spend and by requests, over time; which of them are new.

A model is new when its first receipt of all lies within the period and not at the ledger's own
beginning: what was there from the start is not news.
"""

from modelspend.reports.table import (
    Asked,
    Column,
    Report,
    Row,
    Table,
    cut,
    days_of,
    notes,
    share,
)
from modelspend.store import DAY_MS, Key, Store, Sum

_KEYS: dict[str, tuple[Key, ...]] = {
    "model": ("model",),
    "category": ("category",),
    "category,model": ("category", "model"),
}
BY = tuple(_KEYS)


async def mix(store: Store, asked: Asked) -> Report:
    """Shares by model, category, or both, for 30 days."""
    by = asked.grouped(BY, "model")
    since, until = asked.period("30d")
    keys = _KEYS[by]
    days = days_of(since, until)
    daily = await store.days.costs((*keys, "day"), *asked.within(since, until))
    groups: dict[tuple[str | None, ...], Sum] = {}
    trends: dict[tuple[str | None, ...], list[int]] = {}
    for (*names, day), one in daily.items():
        group = tuple(names)
        groups[group] = groups.get(group, Sum()) + one
        trends.setdefault(group, [0] * len(days))[day - days.start] += one.cost_pico
    total = sum(groups.values(), Sum())
    first = await _first_seen(store) if "model" in keys else {}
    new = _new(first, since, until)
    said = await notes(store, asked, total, since, until)
    if new:
        said.append(f"New in this time: {', '.join(sorted(new))}.")
    rows = []
    for group, one in sorted(groups.items(), key=lambda p: (-p[1].cost_pico, str(p[0]))):
        model = group[-1] if "model" in keys else None
        rows.append(
            Row(
                (
                    *group,
                    one.cost_pico,
                    share(one.cost_pico, total.cost_pico),
                    one.receipts,
                    share(one.receipts, total.receipts),
                    one.unpriced,
                    *((first.get(model), model in new) if "model" in keys else ()),
                    tuple(trends[group]),
                ),
                asked.leads_to(since, until, **dict(zip(keys, group, strict=True))),
            )
        )
    seen = (Column("first_seen", "time"), Column("new", "flag")) if "model" in keys else ()
    whole = tuple(map(sum, zip(*trends.values(), strict=True))) if trends else ()
    return Report(
        name="mix",
        since_ms=since,
        until_ms=until,
        main=Table(
            columns=(
                *(Column(key, "name") for key in keys),
                Column("cost_usd", "usd"),
                Column("cost_share", "share"),
                Column("requests", "count"),
                Column("requests_share", "share"),
                Column("unpriced", "count"),
                *seen,
                Column("trend", "trend"),
            ),
            rows=cut(rows, asked.limit, said),
            total=Row(
                (
                    "total",
                    *(None for _ in keys[1:]),
                    total.cost_pico,
                    1.0 if total.cost_pico else None,
                    total.receipts,
                    1.0 if total.receipts else None,
                    total.unpriced,
                    *((None, None) if seen else ()),
                    whole,
                ),
                asked.leads_to(since, until),
            ),
        ),
        figures={"by": by, "new_models": sorted(new)},
        notes=tuple(said),
    )


async def _first_seen(store: Store) -> dict[str | None, int]:
    """When each model was first seen, wherever it was served."""
    found: dict[str | None, int] = {}
    for (_, model), first in (await store.days.first_days()).items():
        found[model] = min(first, found.get(model, first))
    return found


def _new(first: dict[str | None, int], since: int, until: int) -> set[str]:
    beginning = min(first.values(), default=0)
    return {
        model
        for model, at in first.items()
        if model is not None and since <= at < until and at >= beginning + DAY_MS
    }
