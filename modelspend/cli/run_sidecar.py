"""The sidecar of a run: the one that holds the ledger already, or one of our own in a thread.

A ledger has one writer, so a second `run` uses the sidecar of the first. That is why the first one
waits at its end: as long as another run's process lives, its sidecar stays.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

from modelspend.cli.client import Daemon, find
from modelspend.cli.context import Here, note
from modelspend.errors import DaemonUnreachable, LedgerHeld, NotFound

if TYPE_CHECKING:
    from modelspend.server.keys import Live
    from modelspend.settings import Loaded

_PATIENCE_S = 10.0
_LOOK_S = 0.05


@contextmanager
def found_or_started(at: Here) -> Iterator[Daemon]:
    """A sidecar on the configured ledger while the block lasts.

    Raises LedgerHeld when a process holds the ledger and serves nothing, ConfigInvalid as `serve`.
    """
    own: _Own | None = None
    patience = time.monotonic() + _PATIENCE_S
    while True:
        with suppress(DaemonUnreachable):
            daemon = find(at.ledger)
            break
        try:
            own = _Own(at)
            daemon = find(at.ledger)
            break
        except LedgerHeld:  # somebody else is just starting, or stopping
            if time.monotonic() > patience:
                raise
            time.sleep(_LOOK_S)
    _speak_of_keys(at, daemon, own)
    try:
        yield daemon
    finally:
        if own is not None:
            own.leave()


@contextmanager
def opened(daemon: Daemon, asked: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(id, key) of a run that the sidecar knows while the block lasts."""
    run = daemon.post("/v1/runs", {**asked, "pid": os.getpid()})
    try:
        yield run["run_id"], run["key"]
    finally:
        with suppress(DaemonUnreachable, NotFound):  # gone, or started anew: so is the key
            daemon.call("DELETE", f"/v1/runs/{run['run_id']}")


class _Own:
    """A sidecar in a thread of this process, on a free port."""

    def __init__(self, at: Here) -> None:
        self._at = at
        self._ready: Future[Live] = Future()
        self._thread = Thread(target=self._run, name="sidecar", daemon=True)
        self._thread.start()
        self._live = self._ready.result()

    def leave(self) -> None:
        """Stop it, once no other run needs it."""
        try:
            if self._needed():
                note("another run uses this run's sidecar: waiting for it (Ctrl-C cuts it off).")
            while self._needed():
                time.sleep(_LOOK_S)
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _needed(self) -> bool:
        return any(_lives(run.pid) for run in self._live.callers.runs)

    def _run(self) -> None:
        import uvloop

        try:
            uvloop.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        from modelspend import settings
        from modelspend.server.app import Started
        from modelspend.server.run import live_of, serving

        def load() -> "Loaded":
            return settings.load(self._at.config, self._at.env, {"server.port": 0})

        loaded = load()
        started = Started(loaded, loaded.ledger, self._at.env, reload=load)
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with serving(started) as app:
            self._ready.set_result(live_of(app))
            await self._stop.wait()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _speak_of_keys(at: Here, daemon: Daemon, own: _Own | None) -> None:
    """Say before the program fails for it: calls go with the sidecar's keys, not this shell's."""
    from modelspend.cli.init import keys_found

    configured = set(daemon.get("/v1/status")["providers"])
    if not configured:
        note("no provider is configured: set a key (such as OPENAI_API_KEY), or modelspend init.")
    if own is None:
        for provider, key in keys_found(at.env).items():
            if provider not in configured:
                note(
                    f"{key} is set here, but the sidecar that runs has no key for {provider}: start"
                    " it anew where the key is set."
                )
