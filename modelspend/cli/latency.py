"""`latency`: the report of that name; see `reports/latency.py` for what it counts and how."""

import typer

from modelspend.cli.filters import Asked, filtered
from modelspend.cli.report import By, Csv, Json, Limit, Plot, bars_of, report


@filtered
def latency(
    ctx: typer.Context,
    asked: Asked,
    by: By = None,
    limit: Limit = 50,
    json: Json = False,
    csv: Csv = False,
    plot: Plot = None,
) -> None:
    """Show how long answers took (p50, p95, p99, first token), with fallback hops apart.

    The last 7 days, unless --since says otherwise.
    """
    from modelspend.reports import latency as ask

    report(
        ctx,
        ask,
        asked,
        by=by,
        limit=limit,
        json=json,
        csv=csv,
        plot=plot,
        picture=bars_of("p95_ms", "95 of 100 answers came within, by {by}", " ms"),
    )
