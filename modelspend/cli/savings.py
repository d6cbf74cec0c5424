"""`savings`: the report of that name; see `reports/savings.py` for what it counts and how."""

import typer

from modelspend.cli.filters import Asked, filtered
from modelspend.cli.report import By, Csv, Json, Limit, Plot, bars_of, report


@filtered
def savings(
    ctx: typer.Context,
    asked: Asked,
    by: By = None,
    limit: Limit = 50,
    json: Json = False,
    csv: Csv = False,
    plot: Plot = None,
) -> None:
    """Show what routing, kept answers and shorter prompts saved, signed, and what failovers cost.

    The last 7, 30 and 90 days against the baseline that each receipt was made with.
    """
    from modelspend.reports import savings as ask

    report(
        ctx,
        ask,
        asked,
        by=by,
        limit=limit,
        json=json,
        csv=csv,
        plot=plot,
        picture=bars_of("saved_usd", "Saved by {by}"),
    )
