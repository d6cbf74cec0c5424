"""`alerts`: the report of that name; see `alerts.py` for its rules. Nobody is told by it."""

from typing import Annotated, Literal

import typer

from modelspend.cli.filters import Asked, filtered
from modelspend.cli.report import Csv, Json, Limit, report
from modelspend.errors import ExitCode

FailAt = Annotated[
    Literal["info", "warn", "critical"] | None,
    typer.Option("--fail-at", help="Exit 6 when an alert is at least as bad.", show_default=False),
]


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

    Of budgets, circuits, incidents, calls led elsewhere, slowness, prompt caches, unknown prices
    and the pace of spending. Limits are in [alerts]; see: modelspend help reports
    """
    from modelspend.alerts import LEVELS
    from modelspend.reports import alerts as ask

    found = report(ctx, ask, asked, by=None, limit=limit, json=json, csv=csv, configured=True)
    worst = found.figures["level"]
    if fail_at is not None and LEVELS.index(worst) >= LEVELS.index(fail_at):
        raise typer.Exit(ExitCode.CHECK_FAILED)
