"""`modelspend serve`: the sidecar itself, in the foreground."""

from typing import Annotated

import typer

from modelspend.cli.context import Here, here


def serve(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0 takes any free one.")
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "warning",
) -> None:
    """Serve: carry model calls and write a receipt for each, until interrupted.

    SIGTERM and Ctrl-C let open streams finish, a second one ends them; SIGHUP reads the
    configuration again.
    """
    import gc

    gc.disable()  # until all is loaded: nothing of it is garbage
    place = here(ctx)
    loaded = place.load({"server.host": host, "server.port": port})

    import logging

    import uvloop

    from modelspend.server.app import Started
    from modelspend.server.run import run

    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    started = Started(loaded, loaded.ledger, place.env, reload=lambda: _reload(place, host, port))
    uvloop.run(run(started, ready=_ready))


def _reload(place: Here, host: str | None, port: int | None):  # type: ignore[no-untyped-def]
    from modelspend import settings

    return settings.load(place.config, place.env, {"server.host": host, "server.port": port})


def _ready(url: str) -> None:
    """The one line on stdout: a script may read the address from it."""
    typer.echo(f"modelspend is serving at {url}")
