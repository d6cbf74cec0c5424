"""`savings`: what applied decisions saved, signed, in parts that add up to the last pico-dollar.

`baseline_usd` is what the same calls would have cost without us: the cost plus what was saved.
Nothing is saved by a call on which nothing was applied, and nothing is claimed for one whose
baseline is not known: those are counted.
"""

from modelspend.reports.table import (
    Asked,
    Cell,
    Column,
    Report,
    Row,
    Table,
    cut,
    day_text,
    notes,
    share,
)
from modelspend.savings import MECHANISMS
from modelspend.store import DAY_MS, Key, Store, Sum

BY = ("category", "tenant", "workflow", "model", "provider", "day")
WINDOWS = (7, 30, 90)

_FIGURES = (
    Column("baseline_usd", "usd"),
    Column("cost_usd", "usd"),
    Column("saved_usd", "usd"),
    Column("saved", "share"),
    *(Column(f"{name}_usd", "usd") for name in MECHANISMS),
    Column("requests", "count"),
    Column("decided", "count"),
    Column("unknown", "count"),
    Column("unpriced", "count"),
)


async def savings(store: Store, asked: Asked) -> Report:
    """By category or whatever makes a row, for 30 days; beside it 7, 30 and 90 days as a whole."""
    by = asked.grouped(BY, "category")
    since, until = asked.period("30d")
    key: Key = by  # type: ignore[assignment]
    found = await store.days.sums((key,), *asked.within(since, until))
    total = sum(found.values(), Sum())
    said = await notes(store, asked, total, since, until)
    if total.unknown:
        said.append(
            f"What {total.unknown} of {total.decided} decisions saved is not known (a price, or the"
            " baseline, is missing) and counts as nothing."
        )
    if not total.decided:
        said.append(
            'No decision was applied in this time. Routing applies with [routing] mode = "route",'
            " kept answers with [cache] enabled = true."
        )
    rows = [
        Row((_label(by, name), *figures(one)), _link(asked, by, name, since, until))
        for (name,), one in sorted(found.items(), key=lambda pair: _order(by, *pair))
    ]
    windows = [await _window(store, asked, days, until) for days in WINDOWS]
    return Report(
        name="savings",
        since_ms=since,
        until_ms=until,
        main=Table(
            columns=(Column(by, "name"), *_FIGURES),
            rows=cut(rows, asked.limit, said),
            total=Row(("total", *figures(total)), asked.leads_to(since, until)),
        ),
        beside=(
            Table(
                name="windows", columns=(Column("days", "count"), *_FIGURES), rows=tuple(windows)
            ),
        ),
        figures={"by": by, "saved_usd": sum(total.saved_pico.values())},
        notes=tuple(said),
    )


def figures(one: Sum) -> tuple[Cell, ...]:
    """The cells of a sum, in the order of the columns."""
    saved = sum(one.saved_pico.values())
    baseline = one.cost_pico + saved
    return (
        baseline,
        one.cost_pico,
        saved,
        share(saved, baseline),
        *(one.saved_pico.get(name, 0) for name in MECHANISMS),
        one.receipts,
        one.decided,
        one.unknown,
        one.unpriced,
    )


async def _window(store: Store, asked: Asked, days: int, until: int) -> Row:
    since = until - days * DAY_MS
    found = await store.days.sums((), *asked.within(since, until))
    return Row((days, *figures(found.get((), Sum()))), asked.leads_to(since, until))


def _order(by: str, key: tuple[object, ...], one: Sum) -> tuple[object, ...]:
    if by == "day":
        return key
    return (-sum(one.saved_pico.values()), -one.cost_pico, str(key[0] or ""))


def _label(by: str, name: object) -> str | None:
    return day_text(int(str(name))) if by == "day" else None if name is None else str(name)


def _link(asked: Asked, by: str, name: object, since: int, until: int) -> dict[str, str]:
    if by == "day":
        day = int(str(name)) * DAY_MS
        return asked.leads_to(max(since, day), min(until, day + DAY_MS))
    return asked.leads_to(since, until, **{by: None if name is None else str(name)})
