"""`modelspend serve`: the sidecar itself, in the foreground; for a service manager too."""

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from modelspend.cli.context import Here, here

if TYPE_CHECKING:
    from modelspend.settings import Loaded
    from modelspend.store.lock import RunsAs

STARTED_BY_UP = "_MODELSPEND_STARTED_BY_UP"
"""Set by `up` for the process that it leaves behind, so that `down` and `restore` know of it."""


def serve(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0 takes any free one.")
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "warning",
    log_format: Annotated[
        Literal["text", "json"], typer.Option(help="How a line of the log is written.")
    ] = "text",
) -> None:
    """Serve: carry model calls and write a receipt for each, until interrupted.

    SIGTERM and Ctrl-C let open streams finish, a second one ends them; SIGHUP reads the
    configuration again. See: modelspend help service.
    """
    import gc

    gc.disable()  # until all is loaded: nothing of it is garbage
    place = here(ctx)
    _log(log_level, log_format)
    loaded = place.load({"server.host": host, "server.port": port})

    import uvloop

    from modelspend.server.app import Started
    from modelspend.server.run import run
    from modelspend.server.supervisor import Supervisor

    started_by_up = os.environ.pop(STARTED_BY_UP, None)
    supervisor = Supervisor.take(os.environ)
    runs_as: RunsAs = "up" if started_by_up else "systemd" if supervisor.address else "serve"
    started = Started(
        loaded,
        loaded.ledger,
        place.env,
        reload=lambda: _reload(place, host, port),
        runs_as=runs_as,
        supervisor=supervisor,
    )
    uvloop.run(run(started, ready=_ready))


def _log(level: str, form: str) -> None:
    """One line for each event worth reading, on stderr."""
    import logging

    from modelspend.errors import Usage

    name = level.upper()
    if name not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise Usage(f"There is no log level {level!r}.", "Write debug, info, warning or error.")
    logging.basicConfig(level=name, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if form == "json":
        from modelspend.cli.serve_log import JsonLines

        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonLines())


def _reload(place: Here, host: str | None, port: int | None) -> "Loaded":
    from modelspend import settings

    return settings.load(place.config, place.env, {"server.host": host, "server.port": port})


def _ready(url: str) -> None:
    """The one line on stdout: a script may read the address from it."""
    typer.echo(f"modelspend is serving at {url}")
