"""`failovers`: every hop of every call that was led elsewhere."""

from typing import TYPE_CHECKING

import typer

from modelspend.cli.context import here
from modelspend.cli.filters import After, Limit, ProviderName, Since, TenantName, Until, instant
from modelspend.cli.output import Json, draw, write_json

if TYPE_CHECKING:
    from modelspend.failovers import Audited
    from modelspend.store import Store


def failovers(
    ctx: typer.Context,
    tenant: TenantName = None,
    provider: ProviderName = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    after: After = None,
    json: Json = False,
) -> None:
    """List failovers, newest first; with --after, what was written since, oldest first."""
    from modelspend.cli.reading import one, read

    at = here(ctx)
    times = instant("--since", since, at.now_ms()), instant("--until", until, at.now_ms())

    async def ask(store: "Store") -> "list[Audited]":
        seq = None if after is None else (await one(store, after)).seq
        return await store.failovers.list(
            tenant=tenant,
            provider=provider,
            since_ms=times[0],
            until_ms=times[1],
            after=seq,
            limit=limit,
        )

    shapes = [hop.to_json() for hop in read(at.ledger, ask)]
    if json:
        write_json(shapes)
        return
    rows = [["" if shape[name] is None else str(shape[name]) for name in COLUMNS]
            for shape in shapes]  # fmt: skip
    draw(COLUMNS, rows, spare=("to_model_id", "receipt_id", "tenant", "failure_class"))
    typer.echo(f"{len(rows)} failovers.", err=True)


COLUMNS = (
    "decided_at", "tenant", "from_provider", "model_id", "to_provider", "to_model_id", "reason",
    "failure_class", "receipt_id",
)  # fmt: skip
"""The columns of a piped list; scripts rely on their names and their order."""
