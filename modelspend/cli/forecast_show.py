"""A forecast drawn: totals with their bands and how these did before, the chart, the oddities."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from shutil import get_terminal_size
from typing import TYPE_CHECKING

import typer

from modelspend.cli.output import draw, on_terminal

if TYPE_CHECKING:
    from modelspend.exhaustion import Exhaustion, Outlook
    from modelspend.forecast import Backtest, Forecast, Horizon
    from modelspend.reports.exhaustion import Exhaustions
    from modelspend.reports.forecast import Projected

TOTALS = ("days", "until", "cost_usd", "low_80_usd", "high_80_usd", "low_95_usd", "high_95_usd",
          "held_80", "held_95")  # fmt: skip
PARTS = ("name", *TOTALS)
"""The columns of a piped list; scripts rely on their names and their order."""

_SHOWN = ("days", "until", "cost_usd", "band_80", "held_80", "band_95", "held_95")
_SPARE = ("until", "held_95", "band_95", "held_80")
DIFFERENCE = "(difference)"
ALL = "(all)"


def show(
    found: "Projected",
    by: str | None,
    gone: "tuple[Exhaustion, int] | None",
    budgets: "Exhaustions",
) -> None:
    """On a terminal a chart and tables; a table alone when piped."""
    terminal = on_terminal()
    if terminal:
        typer.echo("\n".join(_chart(found.forecast)) + "\n")
    if by is None:
        rows: list[tuple[str, ...]] = [_total(each) for each in found.forecast.horizons]
        columns: tuple[str, ...] = TOTALS
    else:
        rows = list(_parts(found))
        columns = (by, *TOTALS)
    if terminal:
        named = columns[: -len(TOTALS)]
        rows = [(*row[: len(named)], *_narrow(row[len(named) :])) for row in rows]
        draw((*named, *_SHOWN), rows, right=("days", *_SHOWN[2:]), spare=_SPARE)
    else:
        draw(columns, rows)
    if terminal:
        _below(found, by)
    if gone is not None:
        typer.echo(budget_said(*gone), err=not terminal)
    _budgets(budgets)


def write_rows(
    found: "Projected",
    by: str | None,
    write: Callable[[Sequence[str], Iterable[Sequence[str]]], None],
) -> None:
    """The days ahead as rows; with `--by` the totals of each name."""
    from modelspend.forecast_json import COLUMNS, rows

    if by is None:
        longest = max(found.forecast.horizons, key=lambda each: each.days)
        write(COLUMNS, rows(longest))
    else:
        write((by, *PARTS[1:]), _parts(found))


def _total(horizon: "Horizon") -> tuple[str, ...]:
    bands = [edge for level in (80, 95) for edge in horizon.bands[level]]
    return (
        str(horizon.days),
        horizon.daily[-1].date.isoformat(),
        *(_money(pico) for pico in (horizon.cost_pico, *bands)),
        *(_held(horizon.backtest, level) for level in (80, 95)),
    )


def _parts(found: "Projected") -> "Iterator[tuple[str, ...]]":
    """Every name, what they leave of all, and all: the costs of a horizon add up."""
    for n, horizon in enumerate(found.forecast.horizons):
        own = [part.forecast.horizons[n] for part in found.parts]
        for part, each in zip(found.parts, own, strict=True):
            yield part.name or "(none)", *_total(each)
        rest = horizon.cost_pico - sum(each.cost_pico for each in own)
        until = horizon.daily[-1].date.isoformat()
        yield DIFFERENCE, str(horizon.days), until, _money(rest), *[""] * 6
        yield ALL, *_total(horizon)


def _narrow(total: Sequence[str]) -> tuple[str, ...]:
    """The cells of a total with each band in one."""
    days, until, cost, low, high, least, most, held, held_95 = total
    bands = [f"{a} – {b}" if a else "" for a, b in ((low, high), (least, most))]
    return days, until, cost, bands[0], held, bands[1], held_95


def _held(found: "Backtest", level: int) -> str:
    return f"{found.covered[level]} of {found.origins}" if found.origins else "too short"


def _money(pico: int) -> str:
    """Exact when piped; cents on a terminal, or what it takes to see anything."""
    from modelspend.money import PICO_PER_USD, usd_text

    if not on_terminal():
        return usd_text(pico)
    value = pico / PICO_PER_USD
    return f"{value:,.2f}" if abs(value) >= 1 or not pico else f"{value:.4g}"


def _chart(forecast: "Forecast") -> list[str]:
    from modelspend.forecast_chart import lines

    plain = "utf" not in (sys.stdout.encoding or "").lower() or os.environ.get("TERM") == "dumb"
    columns = min(get_terminal_size((80, 24)).columns, 120)
    return lines(forecast, columns, plain=plain)


def _below(found: "Projected", by: str | None) -> None:
    """The level, the weekdays, the trend, and what was odd, in a few lines."""
    from modelspend.forecast_json import WEEKDAYS

    forecast = found.forecast
    typer.echo(
        f"{forecast.history_days} days of history; a day cost {_money(forecast.base_daily_pico)}"
        f" USD on average of late. Trend: {100 * forecast.trend:+.0f} % in 30 days."
    )
    week = zip(WEEKDAYS, forecast.week, strict=True)
    said = ", ".join(f"{name[:3].capitalize()} {100 * (each - 1):+.0f} %" for name, each in week)
    typer.echo(f"Weekdays: {said}.")
    for shift in forecast.shifts[-2:]:
        typer.echo(
            f"New level since {shift.date}: {_money(shift.before_pico)} →"
            f" {_money(shift.after_pico)} USD a day."
        )
    for odd in forecast.anomalies[-5:]:
        typer.echo(
            f"Odd: {odd.date} cost {_money(odd.cost_pico)} USD ({odd.kind}), usually"
            f" {_money(odd.usual_pico)}."
        )
    typer.echo("held: how many of the totals of past weeks a band made then would have held.")
    if by:
        typer.echo(f"{DIFFERENCE}: each name is projected by itself, and so are all together.")


BUDGETS = ("budget", "window", "cap_usd", "spent_usd", "until", "expected_usd", "gone_with",
           "reached_on", "earliest_on")  # fmt: skip


def _budgets(budgets: "Exhaustions") -> None:
    """A table of them on a terminal; when piped, those that may be gone are told on stderr."""
    from modelspend.exhaustion import SOON, Outlook

    told = [each for each in budgets if isinstance(each, Outlook)]
    if on_terminal():
        if told:
            typer.echo("")
            draw(BUDGETS, map(_outlook, told), right=BUDGETS[2:4], spare=_SPARE_OF_BUDGETS)
    else:
        for each in told:
            if each.probability >= SOON:
                typer.echo(outlook_said(each), err=True)
    for left_out in budgets:
        if not isinstance(left_out, Outlook):
            budget = left_out.usage.budget
            typer.echo(
                f"The budget of {budget.title} per {budget.window.name} is not projected:"
                f" {left_out.reason.rstrip('.')}.",
                err=True,
            )


_SPARE_OF_BUDGETS = ("expected_usd", "earliest_on", "spent_usd", "window", "until", "cap_usd")


def _outlook(found: "Outlook") -> tuple[str, ...]:
    from modelspend.receipt_json import iso

    budget = found.usage.budget
    return (
        budget.title,
        budget.window.name,
        _money(budget.cap_pico or 0),
        _money(found.usage.spent_pico),
        iso(found.until_ms)[:10],
        _money(found.expected_pico),
        f"{_chance(found.probability)} %",
        found.reached_on.isoformat() if found.reached_on else "–",
        found.earliest_on.isoformat() if found.earliest_on else "–",
    )


def outlook_said(found: "Outlook") -> str:
    """One budget of the ledger in a sentence."""
    from modelspend.money import usd_text
    from modelspend.receipt_json import iso

    budget = found.usage.budget
    return (
        f"The budget of {budget.title} per {budget.window.name}: {usd_text(found.usage.spent_pico)}"
        f" of {usd_text(budget.cap_pico or 0)} USD spent, gone before {iso(found.until_ms)} with"
        f" {_chance(found.probability)} % probability{_days_said(found)}."
    )


def _days_said(found: "Outlook | Exhaustion") -> str:
    sooner = found.earliest_on is not None and found.earliest_on != found.reached_on
    early = f", with bad luck on {found.earliest_on}" if sooner else ""
    if found.reached_on is None:
        return f"; not expected by then{early}"
    return f"; reached on {found.reached_on}{early}"


def _chance(probability: float) -> str:
    chance = 100 * probability
    return "under 1" if 0 < chance < 1 else "over 99" if 99 < chance < 100 else f"{chance:.0f}"


def budget_said(found: "Exhaustion", budget_pico: int) -> str:
    """The chance of its being gone, and the day."""
    from modelspend.money import usd_text

    return (
        f"Budget of {usd_text(budget_pico)} USD: {_money(found.left_pico)} USD left; gone by the"
        f" end of {found.until} with {_chance(found.probability)} % probability{_days_said(found)}."
    )
