"""Reports as commands: asked once, drawn as a table, tab-separated, JSON, CSV or a picture.

Hides how a cell is said on each surface. On a terminal shares are bars, days are sparklines and
money has as many digits as it needs to be told apart; everywhere else every digit is there.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelspend.cli.context import Here, here
from modelspend.cli.filters import Asked
from modelspend.cli.output import (
    Csv,
    Json,
    draw,
    on_terminal,
    one_form,
    svg_alone,
    write_aside,
    write_csv,
    write_json,
)

if TYPE_CHECKING:
    from modelspend.reports import Report
    from modelspend.reports.table import Asked as Question
    from modelspend.reports.table import Cell, Column, Table
    from modelspend.store import Store

Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw it as an SVG picture in this file."),
]
By = Annotated[
    str | None, typer.Option("--by", metavar="WHAT", help="What makes a row.", show_default=False)
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many rows.")]

Ask = Callable[["Store", "Question"], Awaitable["Report"]]
Picture = Callable[["Report"], str]

__all__ = ["By", "Csv", "Json", "Limit", "Plot", "bars_of", "days_of", "report"]


def report(
    ctx: typer.Context,
    ask: Ask,
    asked: Asked,
    *,
    by: str | None,
    limit: int,
    json: bool,
    csv: bool,
    plot: Path | None = None,
    picture: Picture | None = None,
    show: "Callable[[Report], None] | None" = None,
    configured: bool = False,
) -> "Report":
    """Ask for a report and draw it in the form that was wished for.

    `configured` ones need what the configuration says of budgets and alerts; `show` draws it on a
    terminal, where the usual table will not do.
    """
    from modelspend.cli.reading import read
    from modelspend.reports.table import Asked as Question
    from modelspend.reports.table import to_json

    one_form(json, csv)
    if plot is not None:
        svg_alone(plot)
    at = here(ctx)
    filters = asked.filters(at)
    question = Question(
        **_of_settings(at) if configured else {},
        now_ms=at.now_ms(),
        wheres=filters,
        view=asked.view if len(filters) > 1 else None,
        by=by,
        limit=limit,
    )
    found = read(at.ledger, lambda store: ask(store, question))
    if plot is not None and picture is not None:
        write_aside(plot, picture(found).encode())
        typer.echo(f"Drawn in {plot}", err=True)
    if json:
        write_json(to_json(found))
    elif csv:
        write_csv(names(found.main), [plain(found.main, row.cells) for row in found.main.rows])
    elif on_terminal():
        (show or _show)(found)
    else:
        rows = [(*plain(found.main, row.cells), row.command or "") for row in found.main.rows]
        draw((*names(found.main), "receipts"), rows)
    for note in found.notes:
        typer.echo(note, err=True)
    return found


def _of_settings(at: Here) -> dict[str, Any]:
    from modelspend.settings import budgets_of

    settings = at.load().settings
    return {"budgets": budgets_of(settings), "limits": settings.alerts}


def names(table: "Table") -> tuple[str, ...]:
    return tuple(column.name for column in table.columns)


def plain(table: "Table", cells: "tuple[Cell, ...]") -> tuple[str, ...]:
    """A row with every digit; what is not known is empty."""
    return tuple(_plain(column, cell) for column, cell in zip(table.columns, cells, strict=True))


def _plain(column: "Column", cell: "Cell") -> str:
    from modelspend.money import usd_text
    from modelspend.receipt_json import iso

    match cell:
        case None:
            return ""
        case bool():
            return "true" if cell else "false"
        case tuple():
            return " ".join(usd_text(pico) for pico in cell)
        case float():
            return f"{cell:.6f}".rstrip("0").rstrip(".")
        case int() if column.kind == "usd":
            return usd_text(cell)
        case int() if column.kind == "time":
            return iso(cell)
        case _:
            return str(cell)


# On a terminal.


def _show(found: "Report") -> None:
    from modelspend.receipt_json import iso

    typer.echo(f"{found.name}, {iso(found.since_ms)[:16]} to {iso(found.until_ms)[:16]} UTC")
    for table in (*found.beside, found.main):
        if not table.rows and table is not found.main:
            continue
        rows = [*table.rows, *([table.total] if table.total is not None and table.rows else [])]
        numbers = [column.name for column in table.columns if column.kind in _RIGHT]
        said = [_seen(table, row.cells) for row in rows]
        kept = _told(table, said)
        columns = [_HEADS.get(name, name) for name in names(table)]
        shown = {names(table)[n] for n in kept}
        draw(
            [columns[n] for n in kept],
            [[row[n] for n in kept] for row in said],
            right=[_HEADS.get(name, name) for name in numbers],
            spare=[_HEADS.get(name, name) for name in _SPARE if name in shown],
        )
    first = next((row.command for row in found.main.rows if row.command), None)
    if first is not None:
        typer.echo(f"The receipts of a row: {first}", err=True)


_RIGHT = frozenset({"usd", "count", "ms", "change"})
_HEADS = {
    "cost_usd": "cost USD",
    "before_usd": "before USD",
    "baseline_usd": "baseline USD",
    "saved_usd": "saved USD",
    "cost_share": "of cost",
    "requests_share": "of requests",
    "first_seen": "first seen",
    "went_wrong": "wrong",
    "top_model": "top model",
    "top_category": "top category",
    "attempts": "tries",
    **{f"p{n}_ms": f"p{n} ms" for n in (50, 95, 99)},
    **{f"ttft_p{n}_ms": f"ttft p{n}" for n in (50, 95, 99)},
    **{f"{name}_usd": name for name in ("routing", "caching", "compression", "failover", "retry")},
    "max_ms": "max ms",
    "cap_usd": "cap USD",
    "spent_usd": "spent USD",
    "held_usd": "held USD",
    "burn_usd_per_hour": "USD an hour",
    "exhausted_at": "gone by",
    "resets_at": "resets",
}
_SPARE = (
    "held_usd",
    "burn_usd_per_hour",
    "resets_at",
    "max_ms",
    "ttft_p99_ms",
    "ttft_p95_ms",
    "ttft_p50_ms",
    "baseline_usd",
    "decided",
    "top_category",
    "first_seen",
    "before_usd",
    "unpriced",
    "top_model",
    "went_wrong",
    "unknown",
    "requests",
    "requests_share",
    "saved",
    "retry_usd",
    "failover_usd",
    "compression_usd",
    "p50_ms",
    "saved_usd",
    "trend",
    "p95_ms",
)
"""What a narrow terminal does without, first to go first."""

_HUSHED = frozenset(
    {"held_usd", "unpriced", "unknown", "new", "retry_usd", "failover_usd", "compression_usd"}
)
"""Columns that say nothing when all of them say nothing."""


def _told(table: "Table", said: list[tuple[str, ...]]) -> list[int]:
    """The numbers of the columns that have something to say."""
    return [
        n
        for n, column in enumerate(table.columns)
        if column.name not in _HUSHED or any(row[n] not in ("", "0", "$0", "-") for row in said)
    ]


def _seen(table: "Table", cells: "tuple[Cell, ...]") -> tuple[str, ...]:
    return tuple(_look(column, cell) for column, cell in zip(table.columns, cells, strict=True))


def _look(column: "Column", cell: "Cell") -> str:
    from modelspend.charts import bar, sparkline

    match column.kind:
        case "usd":
            return "-" if cell is None else dollars(int(cell))  # type: ignore[arg-type]
        case "share":
            return "-" if not isinstance(cell, float) else f"{bar(cell, 6)}{_percent(cell):>7}"
        case "change":
            return "-" if not isinstance(cell, float) else f"{cell:+.1%}"
        case "trend":
            return sparkline(cell, 14) if isinstance(cell, tuple) else ""
        case "time":
            from modelspend.receipt_json import iso

            return "" if cell is None else iso(int(cell))[:10]  # type: ignore[arg-type]
        case "flag":
            return "new" if cell else ""
        case "ms" | "count":
            return "-" if cell is None else f"{cell:,}"
        case "number":
            return f"{cell:.3g}" if isinstance(cell, float) else "-"
        case "age":
            return "" if cell is None else age(int(cell))  # type: ignore[arg-type]
        case "level" | "text":
            return str(cell)
        case "name":
            return "(none)" if cell is None else str(cell)


def age(seconds: int) -> str:
    """A length of time in its two greatest units."""
    minutes, hours = seconds // 60, seconds // 3600
    if hours >= 24:
        return f"{hours // 24}d {hours % 24}h"
    return f"{hours}h {minutes % 60:02}m" if hours else f"{minutes}m"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def dollars(pico: int) -> str:
    """Dollars for a person: cents where there are dollars, else four digits that say something."""
    amount = pico / 1e12
    if pico == 0:
        return "0"
    if abs(amount) >= 0.995:
        return f"{amount:,.2f}"
    return f"{amount:.4g}" if abs(amount) >= 0.0001 else f"{amount:.2e}"


def bars_of(column: str, title: str, unit: str = " USD") -> Picture:
    """A picture with one bar for each row, by one of its columns."""

    def picture(found: "Report") -> str:
        from modelspend.charts import bars

        at = names(found.main).index(column)
        values: dict[str, float] = {}
        for row in found.main.rows:
            value: Any = row.cells[at]
            values[_named(found.main, row.cells)] = 0.0 if value is None else _scaled(column, value)
        return bars(title.format(by=found.figures["by"]), values, unit)

    return picture


def days_of(title: str) -> Picture:
    """A picture of the trends of all rows, stacked by day."""

    def picture(found: "Report") -> str:
        from modelspend.charts import stacked
        from modelspend.reports.table import day_text, days_of

        if "trend" not in names(found.main):
            return bars_of("cost_usd", title)(found)
        at = names(found.main).index("trend")
        series: dict[str, list[float]] = {}
        for row in found.main.rows:
            trend: Any = row.cells[at] or ()
            series[_named(found.main, row.cells)] = [pico / 1e12 for pico in trend]
        days = [day_text(day)[5:] for day in days_of(found.since_ms, found.until_ms)]
        return stacked(title.format(by=found.figures["by"]), days, series, " USD")

    return picture


def _named(table: "Table", cells: "tuple[Cell, ...]") -> str:
    pairs = zip(table.columns, cells, strict=True)
    told = [str(cell or "(none)") for column, cell in pairs if column.kind == "name"]
    return " ".join(told[:2]) if table.columns[1].kind == "name" else told[0]


def _scaled(column: str, value: Any) -> float:
    return float(value) / 1e12 if column.endswith("_usd") else float(value)
