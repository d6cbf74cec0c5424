"""`spend`: where the money went, beside the same days of the month before.

Sums are exact and count the receipts that they leave out. A reader would not guess that a receipt
with two tags stands in two rows of `--by tag`, so only there rows add up to more than the total.
"""

from dataclasses import replace

from modelspend.budgets import Usage, burn_pico_per_hour, exhausted_at_ms
from modelspend.reports.budgets import standing
from modelspend.reports.table import (
    Asked,
    Cell,
    Column,
    Report,
    Row,
    Table,
    before,
    change,
    cut,
    day_text,
    days_of,
    notes,
    share,
)
from modelspend.store import DAY_MS, Filter, Key, Store, Sum

BY = (
    "tenant",
    "workflow",
    "category",
    "model",
    "provider",
    "session",
    "tag",
    "day",
    "region",
    "status",
)

Groups = dict[str | None, Sum]


async def spend(store: Store, asked: Asked) -> Report:
    """Cost by whatever makes a row; month to date where no time is asked for."""
    by = asked.grouped(BY, "tenant")
    since, until = asked.period("mtd")
    earlier = before(since, until)
    now, trends = await _now(store, by, asked, since, until)
    then = {} if by == "day" else await _groups(store, by, asked.within(*earlier))
    total = await _total(store, by, now, asked.within(since, until))
    was = await _total(store, by, then or None, asked.within(*earlier))
    said = await notes(store, asked, total, since, until)
    rows = [
        Row(
            (
                _label(by, key),
                found.cost_pico,
                share(found.cost_pico, total.cost_pico),
                found.receipts,
                found.unpriced,
                *_compared(by, found, then.get(key, Sum())),
                *((trends.get(key),) if trends else ()),
            ),
            _link(asked, by, key, since, until),
        )
        for key, found in _ordered(by, now)
    ]
    if by == "tag":
        said.append("A receipt counts in each of its tags.")
    everything = (*_compared(by, total, was), *((trends.get(_ALL),) if trends else ()))
    return Report(
        name="spend",
        since_ms=since,
        until_ms=until,
        main=Table(
            columns=_columns(by, bool(trends)),
            rows=cut(rows, asked.limit, said),
            total=Row(
                (
                    "total",
                    total.cost_pico,
                    1.0 if total.cost_pico else None,
                    total.receipts,
                    total.unpriced,
                    *everything,
                ),
                asked.leads_to(since, until),
            ),
        ),
        beside=(await _budgets(store, asked),),
        figures={
            "by": by,
            "cost_usd": total.cost_pico,
            "requests": total.receipts,
            "unpriced": total.unpriced,
            "before": {
                "since": _iso(earlier[0]),
                "until": _iso(earlier[1]),
                "cost_usd": was.cost_pico,
                "change": change(total.cost_pico, was.cost_pico),
            },
        },
        notes=tuple(said),
    )


_ALL = "\0all"


async def _budgets(store: Store, asked: Asked) -> Table:
    """Where the budgets of whom it is asked about stand now, and when each would be gone."""
    return Table(
        name="budgets",
        columns=(
            Column("scope", "name"),
            Column("name", "name"),
            Column("window", "name"),
            Column("cap_usd", "usd"),
            Column("spent_usd", "usd"),
            Column("used", "share"),
            Column("held_usd", "usd"),
            Column("burn_usd_per_hour", "usd"),
            Column("exhausted_at", "time"),
            Column("resets_at", "time"),
        ),
        rows=tuple(_budget(usage, asked) for usage in await standing(store, asked)),
    )


def _budget(usage: Usage, asked: Asked) -> Row:
    budget, since = usage.budget, usage.starts_at_ms
    receipts = None
    if budget.scope in ("process", "tenant", "workflow", "session"):
        named = {} if budget.scope == "process" else {budget.scope: budget.name}
        receipts = replace(asked, wheres=(Filter(),), view=None).leads_to(
            since or 0, asked.now_ms + 1, **named
        )
    return Row(
        (
            budget.scope,
            budget.name,
            budget.window.name,
            budget.cap_pico,
            usage.spent_pico,
            share(usage.spent_pico, budget.cap_pico or 0),
            usage.held_pico,
            burn_pico_per_hour(usage, asked.now_ms),
            exhausted_at_ms(usage, asked.now_ms),
            usage.resets_at_ms,
        ),
        receipts,
    )


def _iso(ms: int) -> str:
    from modelspend.receipt_json import iso

    return iso(ms)


def _columns(by: str, trends: bool) -> tuple[Column, ...]:
    compared = () if by == "day" else (Column("before_usd", "usd"), Column("change", "change"))
    return (
        Column(by.replace("tag:", ""), "name"),
        Column("cost_usd", "usd"),
        Column("share", "share"),
        Column("requests", "count"),
        Column("unpriced", "count"),
        *compared,
        *((Column("trend", "trend"),) if trends else ()),
    )


def _compared(by: str, now: Sum, then: Sum) -> tuple[Cell, ...]:
    return () if by == "day" else (then.cost_pico, change(now.cost_pico, then.cost_pico))


async def _groups(store: Store, by: str, wheres: tuple[Filter, ...]) -> Groups:
    if by.startswith("tag"):
        return await store.days.by_tag(by.partition(":")[2] or None, *wheres)
    key: Key = by  # type: ignore[assignment]
    return {named: found for (named,), found in (await store.days.costs((key,), *wheres)).items()}


async def _total(store: Store, by: str, groups: Groups | None, wheres: tuple[Filter, ...]) -> Sum:
    """All of it: the groups together, where each receipt is in one of them."""
    if groups is not None and by != "session" and not by.startswith("tag"):
        return sum(groups.values(), Sum())
    return (await store.days.costs((), *wheres)).get((), Sum())


Trends = dict[str | None, tuple[int, ...]]


async def _now(
    store: Store, by: str, asked: Asked, since: int, until: int
) -> tuple[Groups, Trends]:
    """The groups, and their cost by day; no days where a row is one, or all lasts no longer."""
    within = asked.within(since, until)
    if by in ("day", "session") or by.startswith("tag") or until - since <= 2 * DAY_MS:
        return await _groups(store, by, within), {}
    key: Key = by  # type: ignore[assignment]
    days, groups = days_of(since, until), Groups()
    trends: dict[str | None, list[int]] = {_ALL: [0] * len(days)}
    for (named, day), one in (await store.days.costs((key, "day"), *within)).items():
        groups[named] = groups[named] + one if named in groups else one
        trends.setdefault(named, [0] * len(days))[day - days.start] += one.cost_pico
        trends[_ALL][day - days.start] += one.cost_pico
    return groups, {named: tuple(costs) for named, costs in trends.items()}


def _ordered(by: str, groups: Groups) -> list[tuple[str | None, Sum]]:
    if by == "day":
        return sorted(groups.items(), key=lambda pair: pair[0] or 0)
    return sorted(groups.items(), key=lambda pair: (-pair[1].cost_pico, pair[0] or ""))


def _label(by: str, key: str | None) -> str | None:
    if by == "day":
        return day_text(int(key or 0))
    return key.partition("=")[2] if key and by.startswith("tag:") else key


def _link(asked: Asked, by: str, key: str | None, since: int, until: int) -> dict[str, str]:
    if by == "day":
        day = int(key or 0) * DAY_MS
        return asked.leads_to(max(since, day), min(until, day + DAY_MS))
    if by.startswith("tag"):
        return asked.leads_to(since, until, tag=key or f"!{by.partition(':')[2]}")
    return asked.leads_to(since, until, **{by: key})
