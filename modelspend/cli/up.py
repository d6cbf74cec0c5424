"""`up`: the sidecar in the background, ready when this returns; one that runs already is fine.

Hides how it is started: by the service manager where `init --systemd` has left a unit for this
ledger, else as a process of its own that outlives this shell and writes a log beside the ledger.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from modelspend.cli.context import Here, here, note
from modelspend.cli.output import Json, write_json
from modelspend.errors import DaemonUnreachable, LedgerHeld, ModelspendError
from modelspend.record import frozen

_LOOK_S = 0.05
_READY_S = 60.0
_LOG_LIMIT = 10 * 2**20
_SHOWN = 5  # lines of the log that tell why it did not start


@frozen
class Up:
    """A sidecar that serves. `started` is false when it ran already."""

    url: str
    pid: int
    by: Literal["systemd", "process", "it ran already"]
    log: Path | None = None

    @property
    def started(self) -> bool:
        return self.by != "it ran already"


def up(
    ctx: typer.Context,
    wait: Annotated[
        float, typer.Option(help="Seconds that it may take to be ready.", min=0.1)
    ] = _READY_S,
    json: Json = False,
) -> None:
    """Start the sidecar in the background and wait until it serves; twice is as good as once.

    Its log lies beside the ledger, or in the journal of systemd. See: modelspend help service.
    """
    found = start(here(ctx), wait)
    if json:
        write_json({"url": found.url, "pid": found.pid, "started": found.started, "by": found.by,
                    "log": str(found.log) if found.log else None})  # fmt: skip
        return
    typer.echo(f"modelspend is serving at {found.url}")
    if not found.started:
        note(f"it ran already (process {found.pid}).")
    elif found.log:
        note(f"process {found.pid}; its log: {found.log}")


def start(at: Here, wait_s: float = _READY_S) -> Up:
    """A sidecar that takes calls. Raises ConfigInvalid as `serve`, or what its log says."""
    if there := _serving(at):
        return Up(*there, by="it ran already")
    at.load()  # what is wrong with the settings is said here, not in a log
    from modelspend.cli import init_systemd

    if init_systemd.serves(at.ledger, at.env):
        init_systemd.start()
        return Up(*_awaited(at, wait_s, None, None), by="systemd")
    log = at.ledger.with_name("sidecar.log")
    size = _make(log)
    process = _detached(at, log)
    pid = None
    try:
        url, pid = _awaited(at, wait_s, process, (log, size))
    finally:
        if pid != process.pid:  # it must not take over when whoever was faster ends
            process.terminate()
            process.wait()
    if pid != process.pid:
        return Up(url, pid, by="it ran already")
    return Up(url, pid, by="process", log=log)


def _serving(at: Here) -> tuple[str, int] | None:
    """(address, process) of a sidecar that answers. Raises LedgerHeld for that of a command."""
    from modelspend.cli import client
    from modelspend.store import read_lock

    holder = read_lock(at.ledger)
    if holder is not None and holder.url and not holder.runs_as:
        raise LedgerHeld(
            f"{at.ledger} is in use by process {holder.pid}, a command that ends by itself.",
            "Once it has ended (such as: modelspend run), try again.",
        )
    try:
        daemon = client.find(at.ledger)
        daemon.get("/v1/status")
    except (DaemonUnreachable, ModelspendError):
        return None
    return daemon.url, daemon.pid


def _detached(at: Here, log: Path) -> "subprocess.Popen[bytes]":
    """`serve` in a session of its own, so that no Ctrl-C and no closed terminal reaches it."""
    from modelspend.cli.serve import STARTED_BY_UP

    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "modelspend", *named(at), "serve", "--log-level", "info"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=out,
            start_new_session=True,
            env={**at.env, STARTED_BY_UP: "1"},
        )


def _make(log: Path) -> int:
    """A log for this user alone, the last one beside it once it is long; how much is in it."""
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_name(f"{log.name}.1"))
    os.close(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600))
    return log.stat().st_size


def named(at: Here) -> list[str]:
    """The words that name the configuration to another process, wherever that one runs."""
    return [] if at.config is None else ["--config", str(at.config.expanduser().absolute())]


def _awaited(
    at: Here,
    wait_s: float,
    process: "subprocess.Popen[bytes] | None",
    log: tuple[Path, int] | None,
) -> tuple[str, int]:
    """(address, process) once it serves; what the log says when it does not."""
    from modelspend.store import read_lock

    deadline = time.monotonic() + wait_s
    while (there := _serving(at)) is None:
        if process is not None and process.poll() is not None and read_lock(at.ledger) is None:
            raise DaemonUnreachable(
                f"The sidecar ended as it started: {_last_words(log)}", "Try it: modelspend serve"
            )
        if time.monotonic() > deadline:
            raise DaemonUnreachable(
                f"The sidecar is not ready after {wait_s:g} s: {_last_words(log)}",
                "Look at it: modelspend doctor; or give it more time: --wait 300",
            )
        time.sleep(_LOOK_S)
    return there


def _last_words(log: tuple[Path, int] | None) -> str:
    if log is None:
        return "journalctl --user -u modelspend tells why."
    file, since = log
    with file.open("rb") as written:
        written.seek(since)
        lines = written.read().decode("utf-8", "replace").strip().splitlines()
    return " ".join(lines[-_SHOWN:]) or f"its log {file} says nothing."
