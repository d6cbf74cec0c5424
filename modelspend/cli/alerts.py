"""`alerts`: the report of that name, by itself; `alerts list|test|silence`: who was told of what.

Nobody is told by the report, and it needs no sidecar; what it says now a sidecar remembers as
alarms. On a terminal a rule that has nothing to say is named in one line; everywhere else it has a
row.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modelspend.cli.alerts_channels import try_
from modelspend.cli.alerts_state import list_, silence
from modelspend.cli.filters import Asked, filtered
from modelspend.cli.output import draw
from modelspend.cli.report import Csv, Json, Limit, age, report
from modelspend.errors import ExitCode

if TYPE_CHECKING:
    from modelspend.reports import Report

FailAt = Annotated[
    Literal["info", "warn", "critical"] | None,
    typer.Option("--fail-at", help="Exit 6 when an alert is at least as bad.", show_default=False),
]


app = typer.Typer()
app.command("list")(list_)
app.command("test")(try_)
app.command("silence")(silence)


@app.callback(invoke_without_command=True)
@filtered
def alerts(
    ctx: typer.Context,
    asked: Asked,
    limit: Limit = 200,
    fail_at: FailAt = None,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Show what would page someone now: how bad it is, since when, and where to look.

    Of budgets, circuits, incidents, calls led elsewhere, slowness, prompt caches, the classifier,
    unknown prices and the pace of spending. Limits and channels are in [alerts]; see: modelspend
    help alerts
    """
    if ctx.invoked_subcommand is not None:
        return
    from modelspend.alerts import LEVELS
    from modelspend.reports import alerts as ask

    found = report(
        ctx, ask, asked, by=None, limit=limit, json=json, csv=csv, show=_show, configured=True
    )
    worst = found.figures["level"]
    if fail_at is not None and LEVELS.index(worst) >= LEVELS.index(fail_at):
        raise typer.Exit(ExitCode.CHECK_FAILED)


def _show(found: "Report") -> None:
    rows: list[tuple[str, ...]] = []
    well: list[str] = []
    commands: list[str] = []
    for row in found.main.rows:
        cells: tuple[Any, ...] = row.cells
        level, rule, scope, name, _, seconds, _, _, message = cells
        if level == "ok":
            well.append(rule)
            continue
        whom = "everything" if scope == "process" else f"{scope} {name}"
        rows.append((level, rule, whom, "" if seconds is None else age(seconds), message))
        if row.command and row.command not in commands:
            commands.append(row.command)
    if rows:
        draw(_SHOWN, rows, right=("for",), spare=("rule", "for"), fold="what")
    if well:
        typer.echo(f"{'Well' if rows else 'All is well'}: {', '.join(well)}.")
    for command in commands[:_MOST_COMMANDS]:
        typer.echo(f"See: {command}", err=True)


_SHOWN = ("level", "rule", "whom", "for", "what")
_MOST_COMMANDS = 5
