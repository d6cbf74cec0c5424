"""`incidents`: when circuits were not closed, how long, and what that did to calls."""

from typing import TYPE_CHECKING, Annotated

import typer

from modelspend.cli.context import here
from modelspend.cli.filters import Limit, ProviderName, Since, Until, instant
from modelspend.cli.output import Json, draw, write_json

if TYPE_CHECKING:
    from modelspend.incidents import Incident


def incidents(
    ctx: typer.Context,
    unresolved: Annotated[
        bool, typer.Option("--open", help="Only those that are not resolved.")
    ] = False,
    provider: ProviderName = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """List incidents, newest first: they open with a circuit and resolve when it recovers."""
    from modelspend.cli.reading import read

    at = here(ctx)
    now_ms = at.now_ms()
    times = instant("--since", since, now_ms), instant("--until", until, now_ms)
    found = read(
        at.ledger,
        lambda store: store.incidents.list(
            unresolved=unresolved,
            provider=provider,
            since_ms=times[0],
            until_ms=times[1],
            limit=limit,
        ),
    )
    if json:
        write_json([one.to_json(now_ms) for one in found])
        return
    draw(COLUMNS, [_cells(one, now_ms) for one in found], right=_NUMBERS,
         spare=("incident_id", "resolution", "failure_class", "reason", "drill"))  # fmt: skip
    going_on = sum(one.resolved_at_ms is None for one in found)
    typer.echo(f"{len(found)} incidents, {going_on} of them not resolved.", err=True)


COLUMNS = (
    "incident_id", "provider", "model_id", "status", "opened_at", "duration_s", "reason",
    "failure_class", "resolution", "calls_affected", "extra_cost_usd", "drill",
)  # fmt: skip
"""The columns of a piped list; scripts rely on their names and their order."""

_NUMBERS = ("duration_s", "calls_affected", "extra_cost_usd")


def _cells(one: "Incident", now_ms: int) -> list[str]:
    shape = one.to_json(now_ms)
    if shape["extra_cost_usd"] is not None:
        shape["extra_cost_usd"] = f"{shape['extra_cost_usd']:f}"
    return ["" if shape[name] is None else str(shape[name]) for name in COLUMNS]
