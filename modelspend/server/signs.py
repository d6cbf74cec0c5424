"""What is told when it changes and not with a call: how providers are, who was turned away at the
door, whom the rules of privacy have ruled out.

Each is looked at from time to time and compared with the last look. The looks are in memory: after
a restart every provider counts as well until its attempts say otherwise.
"""

from collections import Counter
from collections.abc import Mapping

from modelspend.events import Event
from modelspend.health import Sample, Standing, standing
from modelspend.receipt_json import iso
from modelspend.server.keys import Live
from modelspend.store import Store

_WINDOW_MS = 5 * 60_000
_LEVELS: Mapping[Standing, str] = {"ok": "info", "degraded": "warn", "down": "critical"}
_ANOMALIES = {
    "wrong_host": "requests that named another server: a page that had its name rebound to us?",
    "forbidden": "requests from pages of another origin",
    "not_authorised": "requests to the control plane without its token",
}
"""What turned away at the door is no mere mistake, by the code of its error."""


class Signs:
    """One for each process."""

    def __init__(self, live: Live, store: Store) -> None:
        self._live, self._store = live, store
        self._standings: dict[str, Standing] = {}
        self._turned_away: Counter[str] = Counter()

    async def look_at_providers(self) -> None:
        """`provider.health` for each whose standing is another one than at the last look."""
        now_ms = self._live.gateway.now_ms()
        together: dict[str, Sample] = {}
        for one in await self._store.health.samples(now_ms - _WINDOW_MS, now_ms + 1):
            known = together.setdefault(one.provider, Sample(one.at_ms, one.provider, ""))
            known.merge(one)
        for provider, sample in together.items():
            before = self._standings.get(provider, "ok")
            now = self._standings[provider] = standing(sample, before)
            if now != before:
                data = {"provider": provider, "standing": now, "was": before, **sample.to_json()}
                self._tell("provider.health", _LEVELS[now], data=data)

    async def look_at_the_door(self) -> None:
        """`audit.anomaly` for what was turned away since the last look and should not have come."""
        counted = Counter({code: self._live.rejected.get(code, 0) for code in _ANOMALIES})
        fresh, self._turned_away = counted - self._turned_away, counted
        for code, count in fresh.items():
            data = {"code": code, "count": count, "what": _ANOMALIES[code]}
            self._tell("audit.anomaly", "warn", data=data)

    async def look_at_privacy(self) -> None:
        """`privacy.dropped` for each tenant: how many candidates since the last look."""
        router = self._live.gateway.router
        dropped, router.dropped = router.dropped, Counter()
        day = iso(self._live.gateway.now_ms())[:10]
        for tenant, count in dropped.items():
            self._tell("privacy.dropped", "info", {"candidates": count, "day": day}, tenant)

    def _tell(
        self, kind: str, level: str, data: Mapping[str, object], tenant: str | None = None
    ) -> None:
        at_ms = self._live.gateway.now_ms()
        event = Event(kind=kind, at_ms=at_ms, level=level, tenant=tenant, data=data)
        self._store.events.tell(event)
