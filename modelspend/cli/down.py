"""`down`: the sidecar of this ledger drains and ends; what is not running is down already.

Hides who has to be asked: the service manager, which would start it again, or the process itself.
A sidecar that belongs to a command, such as `run`, ends with it and is not touched.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from modelspend.cli.context import Here, here, note
from modelspend.cli.output import Json, write_json
from modelspend.record import frozen

if TYPE_CHECKING:
    from modelspend.store import Holder

_LOOK_S = 0.05
_TO_START_S = 10.0
_TO_CLOSE_S = 15.0


@frozen
class Ended:
    """A sidecar that was stopped, and who had started it."""

    holder: "Holder"


def down(
    ctx: typer.Context,
    now: Annotated[
        bool, typer.Option("--now", help="Cut open streams instead of waiting for them.")
    ] = False,
    json: Json = False,
) -> None:
    """Stop the sidecar: open streams get their time (server.drain_s); nothing running is fine."""
    at = here(ctx)
    ended = stop(at, now=now)
    if json:
        was = ended.holder if ended else None
        write_json({"stopped": was is not None, "pid": was.pid if was else None,
                    "url": was.url if was else None})  # fmt: skip
    elif ended:
        typer.echo(f"The sidecar at {ended.holder.url} (process {ended.holder.pid}) has stopped.")
    else:
        note(f"no sidecar was running on the ledger {at.ledger}.")


@contextmanager
def stopped(at: Here) -> Iterator[None]:
    """No sidecar runs while the block lasts; one of `up` or systemd is started again after it."""
    ended = stop(at)
    try:
        yield
    finally:
        if ended is not None and ended.holder.runs_as in ("up", "systemd"):
            from modelspend.cli.up import start

            note(f"the sidecar is serving again at {start(at).url}")
        elif ended is not None:
            again = at.typed("modelspend serve")
            note(f"the sidecar was stopped; start it again where it ran: {again}")


def stop(at: Here, *, now: bool = False) -> Ended | None:
    """Drain and end the sidecar of the ledger; None when there is none.

    Raises LedgerHeld when it is no sidecar of its own, or does not end in time.
    """
    holder = _known(at)
    if holder is None:
        return None
    if not holder.runs_as:
        from modelspend.errors import LedgerHeld

        raise LedgerHeld(
            f"{at.ledger} is in use by process {holder.pid}, a command that ends by itself.",
            "Wait for it, or end it where it runs (such as: modelspend run).",
        )
    from modelspend.cli import init_systemd

    if holder.runs_as != "systemd" or not init_systemd.stop(holder.pid):
        _signal(holder.pid)
    _wait(at, holder, now=now)
    return Ended(holder)


def _known(at: Here) -> "Holder | None":
    """Who holds the ledger, once it serves; None when nobody does."""
    from modelspend.store import read_lock

    patience = time.monotonic() + _TO_START_S
    while True:
        holder = read_lock(at.ledger)
        if holder is None or holder.url or time.monotonic() > patience:
            return holder
        time.sleep(_LOOK_S)


def _wait(at: Here, holder: "Holder", *, now: bool) -> None:
    """Until the ledger is let go of. A second signal cuts what is still open."""
    from modelspend.errors import LedgerHeld
    from modelspend.store import read_lock

    limit_s = _drain_s(at) + _TO_CLOSE_S
    deadline, told = time.monotonic() + limit_s, time.monotonic() + 1
    while (at_it := read_lock(at.ledger)) is not None and at_it.boot_id == holder.boot_id:
        if now:
            _signal(holder.pid)
        if time.monotonic() > told:
            told = deadline
            note("waiting for open streams (again with --now cuts them)")
        if time.monotonic() > deadline:
            raise LedgerHeld(
                f"The sidecar (process {holder.pid}) has not ended within {limit_s:g} s.",
                "Cut what is open: modelspend down --now",
            )
        time.sleep(_LOOK_S)


def _drain_s(at: Here) -> float:
    from modelspend import settings
    from modelspend.errors import ConfigInvalid

    try:
        return settings.load(at.config, at.env).settings.server.drain_s
    except ConfigInvalid:  # it runs with what it read; the default will do
        return 30.0


def _signal(pid: int) -> None:
    from contextlib import suppress

    with suppress(ProcessLookupError):  # it has just ended
        os.kill(pid, signal.SIGTERM)
