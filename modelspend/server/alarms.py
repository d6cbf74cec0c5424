"""Looking at the rules of alerts from time to time, and keeping what goes off as alarms.

Hides that most looks are cheap: the last hour is read each time, the rules that look back over a
day are asked every ten minutes, the week before is read anew each hour. All of it happens behind
the calls, in the threads that read.
"""

import logging

from modelspend.alarms import steps
from modelspend.alert_rates import OFTEN, SELDOM, rates
from modelspend.alerts import Alert, Level
from modelspend.errors import Overloaded
from modelspend.reports import glance
from modelspend.reports.alerts import beside_rates
from modelspend.reports.table import Asked
from modelspend.reports.watched import Baseline
from modelspend.server.keys import Live
from modelspend.settings import budgets_of
from modelspend.store import Store

_SELDOM_EVERY_MS = 600_000
_WEEK_EVERY_MS = 3_600_000

log = logging.getLogger("modelspend")


class Lookout:
    """One for each process; all that must outlive it is in the ledger."""

    def __init__(self, live: Live, store: Store) -> None:
        self._live, self._store = live, store
        self._week: Baseline | None = None
        self._week_at_ms = self._seldom_at_ms = 0
        self._seldom: list[Alert] = []

    async def look(self) -> None:
        """Ask every rule, write what has changed. What takes too long is asked the next time."""
        now_ms, settings = self._live.gateway.now_ms(), self._live.settings
        try:
            alarms = await self._store.alarms.known()
            levels = {alarm.key: alarm.level for alarm in alarms if alarm.resolved_ms is None}
            asked = Asked(now_ms=now_ms, budgets=budgets_of(settings), limits=settings.alerts)
            alerts = await self._gone_off(asked, levels)
            silences = await self._store.alarms.silences()
        except Overloaded:
            log.warning("the rules of alerts were not asked: the ledger took too long to answer")
            return
        quiet_ms = round(settings.alerts.resolve_after_s * 1000)
        changed = steps(alarms, alerts, silences, now_ms, quiet_ms)
        if changed:
            await self._store.alarms.write(changed)

    async def _gone_off(self, asked: Asked, levels: dict[str, Level]) -> list[Alert]:
        store, now_ms, limits = self._store, asked.now_ms, self._live.settings.alerts
        if self._week is None or now_ms - self._week_at_ms >= _WEEK_EVERY_MS:
            self._week, self._week_at_ms = await glance.week(store, now_ms), now_ms
        if now_ms - self._seldom_at_ms >= _SELDOM_EVERY_MS:
            day = await glance.day(store, now_ms, self._week, limits.sure_from)
            self._seldom = list(rates(day, limits, now_ms, levels, SELDOM))
            self._seldom_at_ms = now_ms
        hour = await glance.hour(store, now_ms, self._week)
        often = rates(hour, limits, now_ms, levels, OFTEN)
        return [*often, *self._seldom, *await beside_rates(store, asked)]
