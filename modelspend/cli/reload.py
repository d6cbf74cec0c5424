"""`reload`: the running sidecar reads its configuration again; a bad one is refused."""

import typer

from modelspend.cli.context import here, note
from modelspend.cli.output import Json, write_json


def reload(ctx: typer.Context, json: Json = False) -> None:
    """Have the sidecar read its configuration again; if it is wrong, the old one stays."""
    from modelspend.cli import client

    daemon = client.find(here(ctx).ledger)
    told = daemon.post("/v1/reload", {})
    if json:
        write_json(told)
        return
    typer.echo(f"The sidecar at {daemon.url} has read its configuration again.")
    for text in told["notes"]:
        note(text)
