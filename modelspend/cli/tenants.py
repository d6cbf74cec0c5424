"""`tenants`: the report of that name; see `reports/tenants.py` for what it counts and how."""

import typer

from modelspend.cli.filters import Asked, filtered
from modelspend.cli.report import By, Csv, Json, Limit, Plot, days_of, report


@filtered
def tenants(
    ctx: typer.Context,
    asked: Asked,
    by: By = None,
    limit: Limit = 50,
    json: Json = False,
    csv: Csv = False,
    plot: Plot = None,
) -> None:
    """Show everything by tenant: spend, change, savings, errors, latency, what they use most.

    Month to date, unless --since says otherwise.
    """
    from modelspend.reports import tenants as ask

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
    )
