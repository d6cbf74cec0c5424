"""`roi`: what modelspend pays back, from one's own figures or the ledger's, every assumption shown.

Sends nothing. Without a ledger it works from what is typed.
"""

from collections.abc import Mapping
from decimal import Decimal, DecimalException
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelspend.cli.context import Here, here
from modelspend.cli.filters import Asked, filtered
from modelspend.cli.output import Json, draw, on_terminal, write_json
from modelspend.errors import Usage

if TYPE_CHECKING:
    from modelspend.roi import Measured

COLUMNS = ("figure", "value", "low", "high", "source")
"""The columns of a piped list; scripts rely on their names and their order."""


def _figure(name: str, metavar: str, help: str) -> Any:
    return typer.Option(name, metavar=metavar, help=help, show_default=False)


@filtered
def roi(
    ctx: typer.Context,
    asked: Asked,
    monthly_spend: Annotated[
        str | None,
        _figure("--monthly-spend", "USD", "What 30 days cost; else the ledger's last 30 days."),
    ] = None,
    savings: Annotated[
        str | None,
        _figure("--savings", "PCT", "How much of it is saved; else what the ledger measured."),
    ] = None,
    people: Annotated[
        str | None, _figure("--people", "N", "How many people set it up; 1 without it.")
    ] = None,
    setup_hours: Annotated[
        str | None, _figure("--setup-hours", "HOURS", "What each needs for it, once; 4 without it.")
    ] = None,
    hourly: Annotated[
        str | None, _figure("--hourly", "USD", "What an hour costs; 100 without it.")
    ] = None,
    upkeep_hours: Annotated[
        str | None, _figure("--upkeep-hours", "HOURS", "Upkeep in 30 days; 1 without it.")
    ] = None,
    fees: Annotated[
        str | None, _figure("--fees", "USD", "Other costs of 30 days, as a machine; 0 without it.")
    ] = None,
    json: Json = False,
) -> None:
    """Work out what modelspend pays back and when, with every assumption and its source."""
    from modelspend.roi import to_json, work_out

    at = here(ctx)
    typed = {
        "monthly_spend_usd": _number("--monthly-spend", monthly_spend),
        "savings_pct": _number("--savings", savings),
        "people": _number("--people", people),
        "setup_hours": _number("--setup-hours", setup_hours),
        "hourly_usd": _number("--hourly", hourly),
        "upkeep_hours": _number("--upkeep-hours", upkeep_hours),
        "fees_usd": _number("--fees", fees),
    }
    given = {name: value for name, value in typed.items() if value is not None}
    known = "monthly_spend_usd" in given and "savings_pct" in given
    if known and asked != Asked():
        raise Usage(
            "--monthly-spend and --savings leave nothing to ask the ledger.",
            "Leave out the filters, or one of the two.",
        )
    measured = None if known else _measured(at, asked, needed="monthly_spend_usd" not in given)
    try:
        said = to_json(work_out(given, measured, _today(at)))
    except ValueError as why:
        raise Usage(f"{why}.", "See: modelspend help forecast") from None
    if json:
        write_json(said)
        return
    _draw(said)
    for note in said["notes"]:
        typer.echo(note, err=True)


def _number(option: str, text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        found = Decimal(text.removeprefix("$").removesuffix("%").replace(",", ""))
    except DecimalException:
        found = Decimal("nan")
    if not found.is_finite():
        raise Usage(f"{option}: not a number: {text!r}.", "Write digits, such as 1200 or 12.5.")
    return found


def _measured(at: Here, asked: Asked, *, needed: bool) -> "Measured | None":
    """What the ledger says; nothing where it is not needed and there is none."""
    from modelspend.cli.reading import read
    from modelspend.errors import NotFound, TooLittleHistory
    from modelspend.reports.roi import measured

    where, now_ms = asked.filters(at), at.now_ms()
    try:
        return read(at.ledger, lambda store: measured(store, where, now_ms))
    except (NotFound, TooLittleHistory) as error:
        if not needed:
            return None
        raise Usage(
            f"Nothing says what a month costs: {error}", "Say it: --monthly-spend 1200"
        ) from None


def _today(at: Here) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at.now_ms() / 1000, UTC).date()


def _draw(said: Mapping[str, Any]) -> None:
    """The assumptions, then the results with their range; one list when piped."""
    from modelspend.roi import CASE

    low, high = ((said["range"] or {}).get(end) or {} for end in ("low", "high"))
    figures = [
        (each["name"], _text(each["value"]), "", "", each["source"]) for each in said["assumptions"]
    ]
    results = [
        (name, _text(said[name]), _text(low.get(name), ""), _text(high.get(name), ""),
         said["how"].get(name, ""))
        for name in ("setup_cost_usd", "monthly_cost_usd", *CASE, "break_even_savings_pct")
    ]  # fmt: skip
    if not on_terminal():
        draw(COLUMNS, [*figures, *results])
        return
    assumed = [
        (name, value, each["source"], each["meaning"])
        for (name, value, *_), each in zip(figures, said["assumptions"], strict=True)
    ]
    draw(("assumption", "value", "source", "meaning"), assumed, right=("value",),
         spare=("meaning",))  # fmt: skip
    results = [(*row[:-1], row[-1].replace("_usd", "")) for row in results]
    columns = ("result", "value", "low", "high", "how")
    if not low:
        columns, results = ("result", "value", "how"), [(row[0], row[1], row[4]) for row in results]  # type: ignore[assignment, misc]
    draw(columns, results, right=("value", "low", "high"), spare=("how",))


def _text(value: Any, unknown: str = "unknown") -> str:
    if value is None:
        return unknown if on_terminal() else ""
    if not isinstance(value, Decimal):
        return str(value)
    if on_terminal():
        return f"{value:,.2f}" if value % 1 or abs(value) >= 1000 else f"{value:f}"
    return format(value, "f")
