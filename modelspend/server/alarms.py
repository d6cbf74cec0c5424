"""Looking at the rules of alerts from time to time, and keeping what goes off as alarms.

Hides that most looks are cheap: the sums of the last hour and day are kept here and move on with
each look, the rules that look back over a day are asked every ten minutes, the week before is read
anew each hour. All of it happens behind the calls, in the threads that read.
"""

import logging
from collections.abc import Mapping
from functools import partial

from modelspend.alarms import steps
from modelspend.alert_rates import OFTEN, SELDOM, rates
from modelspend.alerts import HOUR_MS, HOURS, RULES, Alert, Level
from modelspend.errors import Overloaded
from modelspend.reports import glance
from modelspend.reports.alerts import beside_rates
from modelspend.reports.table import Asked
from modelspend.reports.watched import Baseline
from modelspend.server.keys import Live
from modelspend.settings import Alerts, budgets_of
from modelspend.sliding import Sliding
from modelspend.store import Store

_SELDOM_EVERY_MS = 600_000
_WEEK_EVERY_MS = 3_600_000

BESIDE = frozenset(RULES) - OFTEN - SELDOM
"""The rules that are on no rate."""

Levels = Mapping[str, Level]

log = logging.getLogger("modelspend")


class Lookout:
    """One for each process; all that must outlive it is in the ledger."""

    def __init__(self, live: Live, store: Store) -> None:
        self._live, self._store = live, store
        self._hour, self._day = Sliding(HOUR_MS, timed=True), Sliding(HOURS * HOUR_MS)
        self._week = Baseline(0.0, {})
        self._week_at_ms = self._seldom_at_ms = 0
        self._seldom: list[Alert] | None = None
        self._unknown: frozenset[str] = frozenset()

    async def look(self) -> None:
        """Ask the rules, write what has changed. What takes the ledger too long is not known: it is
        neither loud nor quiet until it is asked again."""
        now_ms, settings = self._live.gateway.now_ms(), self._live.settings
        alarms, silences = await self._store.alarms.known(), await self._store.alarms.silences()
        levels = {alarm.key: alarm.level for alarm in alarms if alarm.resolved_ms is None}
        asked = Asked(now_ms=now_ms, budgets=budgets_of(settings), limits=settings.alerts)
        parts = (
            (BESIDE, partial(beside_rates, self._store, asked)),
            (SELDOM, partial(self._ask_seldom, now_ms, settings.alerts, levels)),
            (OFTEN, partial(self._ask_often, now_ms, settings.alerts, levels)),
        )
        alerts: list[Alert] = []
        known: set[str] = set()
        for rules, ask in parts:
            try:
                alerts += await ask()
                known |= rules
            except Overloaded:
                continue
        self._complain(known)
        quiet_ms = round(settings.alerts.resolve_after_s * 1000)
        of_known = [alarm for alarm in alarms if alarm.rule in known or alarm.rule not in RULES]
        changed = steps(of_known, alerts, silences, now_ms, quiet_ms)
        if changed:
            await self._store.alarms.write(changed)

    def _complain(self, known: set[str]) -> None:
        """Once, of what could not be said."""
        unknown = frozenset(RULES) - known
        if unknown - self._unknown:
            log.warning("the ledger took too long to say: %s", ", ".join(sorted(unknown)))
        self._unknown = unknown

    async def _ask_often(self, now_ms: int, limits: Alerts, levels: Levels) -> list[Alert]:
        await glance.moved(self._store, self._hour, now_ms)
        hour = glance.hour(self._hour, await self._the_week(now_ms))
        found = rates(hour, limits, now_ms, levels, OFTEN)
        return await glance.since(self._store, found, now_ms, levels)

    async def _ask_seldom(self, now_ms: int, limits: Alerts, levels: Levels) -> list[Alert]:
        """What it said the last time, for a while; also that it could not be said."""
        await glance.moved(self._store, self._day, now_ms)
        if now_ms - self._seldom_at_ms >= _SELDOM_EVERY_MS:
            self._seldom, self._seldom_at_ms = None, now_ms
            week = await self._the_week(now_ms)
            day = await glance.day(self._store, self._day, now_ms, week, limits.sure_from)
            found = rates(day, limits, now_ms, levels, SELDOM)
            self._seldom = await glance.since(self._store, found, now_ms, levels)
        if self._seldom is None:
            raise Overloaded("It could not be asked.", "It is asked again in ten minutes.")
        return self._seldom

    async def _the_week(self, now_ms: int) -> Baseline:
        """The one before; nothing is compared while it cannot be read."""
        if now_ms - self._week_at_ms >= _WEEK_EVERY_MS:
            self._week_at_ms = now_ms
            try:
                self._week = await glance.week(self._store, now_ms)
            except Overloaded:
                log.warning("the ledger took too long to say what the week before was like")
        return self._week
