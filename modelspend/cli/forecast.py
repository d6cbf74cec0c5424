"""`forecast`: what will be spent, with bands that were tried out, or what a change would save.

Reads the ledger, or a file of `date,cost_usd`; sends nothing, with a sidecar running or without.
With an option of a scenario the receipts of the last weeks are priced again instead.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modelspend.cli.context import Here, here, note
from modelspend.cli.filters import Asked, filtered
from modelspend.cli.output import Csv, Json, one_form, svg_alone, write_aside, write_csv, write_json
from modelspend.errors import Usage

if TYPE_CHECKING:
    from modelspend.daily_csv import BadLine
    from modelspend.exhaustion import Exhaustion
    from modelspend.forecast import Forecast
    from modelspend.reports.exhaustion import Exhaustions
    from modelspend.reports.forecast import Projected
    from modelspend.store import Store

By = Literal["tenant", "workflow", "model", "provider", "category", "tier"]


def _scenario(name: str, metavar: str, help: str) -> Any:
    return typer.Option(name, metavar=metavar, help=help, show_default=False)


@filtered
def forecast(
    ctx: typer.Context,
    asked: Asked,
    horizon: Annotated[
        int | None,
        typer.Option("--horizon", min=1, max=90, help="Days ahead; 30, 60 and 90 without it."),
    ] = None,
    by: Annotated[By | None, typer.Option("--by", help="What makes a line of its own.")] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Read date,cost_usd; - is standard input."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="USD", help="When this much a month will be gone."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw it as SVG into this file.")
    ] = None,
    shift_deep: Annotated[
        str | None,
        _scenario("--shift-deep", "PCT", "Scenario: so much of deep_reasoning goes a tier down."),
    ] = None,
    shift_to: Annotated[
        str | None,
        _scenario("--shift-to", "MODEL", "Where it goes, instead of the profile's next tier."),
    ] = None,
    cache_hit: Annotated[
        str | None,
        _scenario("--cache-hit", "DELTA", "Scenario: prompt tokens read from caches, +0.15."),
    ] = None,
    growth: Annotated[
        str | None, _scenario("--growth", "PCT", "Scenario: so much more is used, 10 or -5.")
    ] = None,
    mix: Annotated[
        list[str] | None,
        _scenario("--mix", "A=B:PCT", "Scenario: so much of model A goes to model B."),
    ] = None,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Project the cost of the days ahead, with bands and how often such bands held before."""
    one_form(json, csv)
    if plot is not None:
        svg_alone(plot)
    at = here(ctx)
    changes = {"shift_deep": shift_deep, "shift_to": shift_to, "cache_hit": cache_hit,
               "growth": growth, "mix": mix}  # fmt: skip
    if any(each is not None for each in changes.values()):
        if source or by or budget or plot or csv:
            raise Usage(
                "A scenario prices receipts again; --from, --by, --budget, --plot and --csv do"
                " not go with it.",
                "Leave them out: modelspend help forecast",
            )
        from modelspend.cli.forecast_scenario import scenario

        scenario(at, asked, horizon or 30, changes, json=json)
        return
    limit = None if budget is None else _dollars(budget)
    if source is not None and (by or asked != Asked()):
        raise Usage(
            "--from reads days that are added up already; filters and --by need the ledger.",
            "Leave out --from or the other options.",
        )
    horizons = (horizon,) if horizon else None
    bad: list[BadLine] = []
    budgets: Exhaustions = []
    if source is None:
        found, budgets = _from_ledger(at, asked, horizons, by)
    else:
        found, bad = _from_file(source, horizons)
    gone = None if limit is None else _gone(found.forecast, limit)
    if plot is not None:
        from modelspend.forecast_svg import picture

        write_aside(plot, picture(found.forecast).encode())
        note(f"The picture is in {plot}.")
    if json:
        write_json({**_json(found, by, gone, bad), "budgets": _budgets_json(budgets)})
    elif csv:
        from modelspend.cli.forecast_show import write_rows

        write_rows(found, by, write_csv)
    else:
        from modelspend.cli.forecast_show import show

        show(found, by, gone, budgets)
    _talk(found, bad)


def _from_ledger(
    at: Here, asked: Asked, horizons: "Sequence[int] | None", by: By | None
) -> "tuple[Projected, Exhaustions]":
    from modelspend.cli.reading import read
    from modelspend.forecast import HORIZONS
    from modelspend.reports.exhaustion import exhaustions
    from modelspend.reports.forecast import forecast as projected
    from modelspend.reports.table import Asked as Question
    from modelspend.settings import budgets_of

    where, now_ms = asked.filters(at), at.now_ms()
    of_budgets = Question(now_ms=now_ms, wheres=where, budgets=budgets_of(at.load().settings))

    async def ask(store: "Store") -> "tuple[Projected, Exhaustions]":
        found = await projected(store, where, now_ms, horizons or HORIZONS, by)
        return found, await exhaustions(store, of_budgets)

    return read(at.ledger, ask)


def _from_file(source: Path, horizons: "Sequence[int] | None") -> "tuple[Projected, list[BadLine]]":
    from modelspend import daily_csv
    from modelspend.forecast import HORIZONS, project
    from modelspend.reports.forecast import Projected

    try:
        if str(source) == "-":
            days, bad = daily_csv.read(sys.stdin)
        else:
            with source.open(encoding="utf-8", newline="") as lines:
                days, bad = daily_csv.read(lines)
    except (ValueError, UnicodeDecodeError) as why:
        raise Usage(f"--from {source}: {why}.", "See: modelspend help forecast") from None
    try:
        return Projected(forecast=project(days, horizons or HORIZONS)), bad
    except ValueError as why:
        raise Usage(f"--from {source}: {why}.", "Is a year wrong? Leave that line out.") from None


def _dollars(text: str) -> int:
    from modelspend.money import from_usd

    try:
        return from_usd(text.removeprefix("$"))
    except ValueError as error:
        raise Usage(f"--budget: {error}.", "Write dollars, such as --budget 500.") from None


def _gone(forecast: "Forecast", budget_pico: int) -> "tuple[Exhaustion, int]":
    from modelspend.exhaustion import of_month

    return of_month(forecast, budget_pico), budget_pico


def _json(
    found: "Projected",
    by: By | None,
    gone: "tuple[Exhaustion, int] | None",
    bad: "Sequence[BadLine]",
) -> dict[str, Any]:
    from modelspend.forecast_json import exhaustion_json
    from modelspend.reports.forecast import to_json

    said = to_json(found, by)
    said["budget"] = None if gone is None else exhaustion_json(*gone)
    said["errors"] = [{"line": each.line, "error": each.error} for each in bad]
    return said


def _budgets_json(budgets: "Exhaustions") -> list[dict[str, Any]]:
    from modelspend.forecast_json import outlook_json

    return [outlook_json(each) for each in budgets]


def _talk(found: "Projected", bad: "Sequence[BadLine]") -> None:
    """What a reader of the figures should know, on stderr."""
    series = found.forecast.series
    for each in bad[:_MOST_BAD]:
        note(f"Line {each.line} is left out: {each.error}.")
    if len(bad) > _MOST_BAD:
        note(f"{len(bad) - _MOST_BAD} more lines are left out; all of them: --json.")
    if series.missing:
        note(f"{series.missing} of {len(series.costs)} days are missing, and count as 0.")
    if series.unknown:
        note(f"{series.unknown} days of unknown cost count as their nearest same weekdays.")
    if found.unpriced:
        note(f"The cost of {found.unpriced} of {found.receipts} receipts is not known.")


_MOST_BAD = 5
