"""Where the demo lives: a folder of its own with a configuration, a ledger and a token.

Nothing of the user's is read or written: the folder stands beside the real ledger's default place,
and the sidecar gets an empty environment, so that no key or setting of this shell can reach it.
"""

import os
import shlex
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelspend.errors import LedgerHeld
from modelspend.record import frozen

if TYPE_CHECKING:
    from modelspend.server.keys import Live
    from modelspend.store import Store

DEFAULT_PORT = 8787


@frozen
class Place:
    """The demo's folder, ready to be served from. `kept` is true when it has a ledger already."""

    folder: Path
    port: int
    kept: bool

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.db"

    def command(self, words: str) -> str:
        """A command on this ledger, as it may be typed into any shell here."""
        return f"{_program(sys.argv[0])} {words} --config {_typed(self.config)}"


@frozen
class Side:
    """The demo's sidecar while it runs."""

    live: "Live"
    store: "Store"

    @property
    def url(self) -> str:
        return self.live.url

    async def quiet(self) -> bool:
        """Whether every call has its receipt."""
        return not self.live.gateway.in_flight and not await self.store.calls.open_count()


def prepared(port: int | None, *, keep: bool) -> Place:
    """The folder, emptied unless it is to be kept. Raises LedgerHeld while a demo runs there."""
    from modelspend import places
    from modelspend.store import read_lock

    folder = places.default_ledger().parent / "demo"
    ledger = folder / "ledger.db"
    holder = read_lock(ledger)
    if holder is not None:
        raise LedgerHeld(
            f"A demo runs already, at {holder.url or 'an address it is about to tell'}"
            f" (process {holder.pid}).",
            "End it there with Ctrl-C, or look at it: modelspend tail --config "
            f"{_typed(folder / 'config.toml')}",
        )
    if folder.exists() and not keep:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Place(folder, _free(port), keep and ledger.exists())


def _free(port: int | None) -> int:
    """The port that was asked for; else the usual one, or any when something listens there."""
    if port is not None:
        return port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", DEFAULT_PORT))
        except OSError:
            return 0
    return DEFAULT_PORT


_OF_A_STORY: Mapping[str, Mapping[str, Any]] = {
    # Sixty days pass in seconds: who asks for two seconds' rest would be let alone for weeks.
    "circuits": {"enabled": False},
    "retries": {"max_attempts": 1},
}


@asynccontextmanager
async def sidecar(
    place: Place,
    providers: Mapping[str, Any],
    now_ms: Callable[[], int],
    sections: Mapping[str, Mapping[str, Any]] = _OF_A_STORY,
) -> AsyncIterator[Side]:
    """A sidecar in front of these providers, with a clock that may tell other times."""
    import tomli_w

    from modelspend import settings
    from modelspend.server.app import Started
    from modelspend.server.keys import LIVE, STORE
    from modelspend.server.run import serving

    tree = {
        **sections,
        "server": {**sections.get("server", {}), "port": place.port},
        "store": {"path": place.ledger.name, "body_retention_days": 90},
        "providers": dict(providers),
    }
    place.config.write_text("# Written anew each time.\n" + tomli_w.dumps(tree), "utf-8")
    loaded = settings.load(place.config, {})
    started = Started(
        loaded, loaded.ledger, {}, reload=lambda: settings.load(place.config, {}), now_ms=now_ms
    )
    async with serving(started) as app:
        yield Side(app[LIVE], app[STORE])


def _program(started_as: str) -> str:
    """This program as a shell finds it: by its name, or as it was started."""
    if Path(started_as).name == "__main__.py":
        return f"{_typed(Path(sys.executable))} -m modelspend"
    found = shutil.which("modelspend")
    if found and os.path.samefile(found, shutil.which(started_as) or started_as):
        return "modelspend"
    return shlex.quote(started_as)


def _typed(path: Path) -> str:
    """A path as a person would type it: short, and right whatever letters it has."""
    try:
        inside = path.relative_to(Path.home())
    except ValueError:
        return shlex.quote(str(path))
    return f"~/{shlex.quote(str(inside))}"
