"""`kill SESSION|KEY`: stop whoever runs away, open streams and all, until that is lifted."""

from typing import Annotated

import typer

from modelspend.cli.context import here
from modelspend.cli.output import Json, draw, write_json
from modelspend.errors import Usage


def kill(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[SESSION|KEY]", help="A session, or a key_id of receipts."),
    ] = None,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What its refusals say; told to clients.")
    ] = None,
    lift: Annotated[bool, typer.Option("--lift", help="Let it call again.")] = False,
    json: Json = False,
) -> None:
    """Cut the open streams of a session or key and refuse its calls; alone, list who is stopped."""
    from modelspend.cli.client import find

    at = here(ctx)
    if name is None:
        if lift or reason is not None:
            raise Usage("Nobody is named.", "Such as: modelspend kill conv-42")
        _list(ctx, json)
        return
    asked = {"name": name, "lift": lift} | ({} if reason is None else {"reason": reason})
    told = find(at.ledger).post("/v1/kill", asked)
    if json:
        write_json(told)
    elif lift:
        typer.echo(f"{name} may call again.")
    else:
        streams = f"{told['cut']} open stream{'s' * (told['cut'] != 1)} cut"
        again = at.typed(f"modelspend kill {name} --lift")
        typer.echo(f"{name} is stopped; {streams}. Let it go on: {again}")


def _list(ctx: typer.Context, json: bool) -> None:
    from modelspend.cli.reading import read
    from modelspend.receipt_json import iso

    at = here(ctx)
    stops = read(at.ledger, lambda store: store.budgets.stops()) if at.ledger.exists() else []
    if json:
        shape = [{"name": s.name, "reason": s.reason, "since": iso(s.at_ms)} for s in stops]
        write_json(shape)
    else:
        draw(("name", "since", "reason"), [(s.name, iso(s.at_ms), s.reason) for s in stops])
