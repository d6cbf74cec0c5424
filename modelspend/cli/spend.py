"""`spend`: the report of that name; see `reports/spend.py` for what it counts and how."""

import typer

from modelspend.cli.filters import Asked, filtered
from modelspend.cli.report import By, Csv, Json, Limit, Plot, days_of, report


@filtered
def spend(
    ctx: typer.Context,
    asked: Asked,
    by: By = None,
    limit: Limit = 50,
    json: Json = False,
    csv: Csv = False,
    plot: Plot = None,
) -> None:
    """Show where the money went, by tenant, workflow, category, model, session, tag, day and more.

    Month to date beside the same days of the month before, unless --since says otherwise.
    """
    from modelspend.reports import spend as ask

    report(
        ctx,
        ask,
        asked,
        by=by,
        limit=limit,
        json=json,
        csv=csv,
        plot=plot,
        picture=days_of("Spend by {by}, USD a day"),
        configured=True,
    )
