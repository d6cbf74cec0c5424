"""What handlers find in the application: typed keys, set once when it is built."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from modelspend.catalog import Catalog
from modelspend.circuits import Circuits
from modelspend.exporters import Pump
from modelspend.gateway.assembly import Assembly
from modelspend.gateway.caller import Callers
from modelspend.gateway.life import Gateway
from modelspend.gateway.models import Models
from modelspend.server.stalls import StallWatch
from modelspend.settings import Settings
from modelspend.store import Store


@dataclass(slots=True)
class Live:
    """The parts that a reload swaps whole, and what the process knows of itself."""

    settings: Settings
    assembly: Assembly
    models: Models
    pump: Pump
    config_path: str | None
    token: str
    token_file: str
    ledger: str
    pid: int
    started_at_ms: int
    url: str = ""
    left_behind: list[str] = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)
    writing: set[StallWatch] = field(default_factory=set)

    @property
    def gateway(self) -> Gateway:
        return self.assembly.gateway

    @property
    def callers(self) -> Callers:
        return self.assembly.callers

    @property
    def catalog(self) -> Catalog:
        return self.gateway.router.catalog

    @property
    def circuits(self) -> Circuits:
        return self.gateway.failovers.circuits


LIVE: web.AppKey[Live] = web.AppKey("live", Live)
RELOAD: web.AppKey[Callable[[], Awaitable[list[str]]]] = web.AppKey("reload")
STORE: web.AppKey[Store] = web.AppKey("store", Store)
