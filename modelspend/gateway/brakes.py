"""What stops a caller: an operator, or the rules against runaways.

Stops are in the ledger and hold until they are lifted; what a rule counts is in memory alone. Both
are asked before anything is decided about a call, and a stop again before each further attempt.
"""

from modelspend.errors import Stopped
from modelspend.events import Event
from modelspend.gateway.call import Call
from modelspend.gateway.who import who
from modelspend.money import from_usd
from modelspend.runaways import Limit, Runaways, Trip
from modelspend.settings import Settings
from modelspend.store import Stop, Store


class Brakes:
    """Refuses whom nobody may hear any more. `refresh` takes what the file and the ledger say."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._runaways = Runaways()
        self._stopped: dict[str, str] = {}

    async def refresh(self, settings: Settings) -> None:
        """Limits and stops as they are now; what counts already goes on counting."""
        limits = limits_of(settings)
        if limits != self._runaways.limits:
            self._runaways = Runaways(limits)
        self._stopped = {each.name: each.reason for each in await self._store.budgets.stops()}

    def check(self, call: Call) -> None:
        """Who was stopped, or runs away, is refused before anything is decided. Raises Stopped."""
        self.check_stopped(call)
        if self._runaways:
            whose = who(call.caller, call.session_id)
            trip = self._runaways.met(whose, call.asked_sha256, call.created_at_ms)
            if trip is not None:
                self._tripped(call, trip)

    def check_stopped(self, call: Call) -> None:
        """Raises Stopped for whom nobody may be asked any more."""
        for name in (call.session_id, call.caller.key_id):
            if name in self._stopped:
                raise _stopped(name, self._stopped[name])

    def stopped(self, call: Call) -> bool:
        """Whether its session or key was stopped while it waited for its answer."""
        return not self._stopped.keys().isdisjoint((call.session_id, call.caller.key_id))

    def _tripped(self, call: Call, trip: Trip) -> None:
        if trip.first:
            call.events.append(_runaway(trip, call))
        if trip.limit.kills:
            self._stopped[trip.name] = trip.why
            call.kills = trip.name
        hint = "It may go on when it has calmed down."
        if trip.limit.kills:
            hint = f"Let it go on: modelspend kill {trip.name} --lift"
        raise Stopped(f"{trip.limit.scope.capitalize()} {trip.name}: {trip.why}.", hint)

    def spent(self, call: Call) -> None:
        """The rules see what a call was charged."""
        if self._runaways and call.tries:
            whose = who(call.caller, call.session_id)
            total = sum(one.charged_pico for one in call.tries)
            self._runaways.spent(whose, total, call.created_at_ms)

    async def stop(self, name: str, reason: str, now_ms: int) -> None:
        """Refuse the calls of a session or key from now on."""
        self._stopped[name] = reason
        told = Event(
            kind="caller.stopped", at_ms=now_ms, level="warn", data={"name": name, "why": reason}
        )
        await self._store.budgets.stop(Stop(name=name, reason=reason, at_ms=now_ms), told)

    async def lift(self, name: str, now_ms: int) -> bool:
        """Let it call again; false when it was not stopped."""
        told = Event(kind="caller.lifted", at_ms=now_ms, data={"name": name})
        lifted = await self._store.budgets.lift(name, told)
        self._stopped.pop(name, None)
        return lifted


def limits_of(settings: Settings) -> tuple[Limit, ...]:
    """The rules against runaways that the file declares."""
    return tuple(
        Limit(
            rule=name,
            scope=section.scope,
            name=section.name,
            pico_per_minute=(
                None if section.usd_per_minute is None else from_usd(section.usd_per_minute)
            ),
            repeats=section.repeats,
            within_ms=round(section.within_s * 1000),
            kills=section.then == "kill" and section.scope != "tenant",
        )
        for name, section in settings.limits.items()
    )


def _stopped(name: str, reason: str) -> Stopped:
    return Stopped(
        f"Calls of {name} are stopped: {reason}.", f"Let it go on: modelspend kill {name} --lift"
    )


def _runaway(trip: Trip, call: Call) -> Event:
    return Event(
        kind="caller.runaway",
        at_ms=call.created_at_ms,
        level="critical" if trip.limit.kills else "warn",
        tenant=call.caller.tenant,
        receipt_id=call.receipt_id,
        data={
            "rule": trip.limit.rule,
            "scope": trip.limit.scope,
            "name": trip.name,
            "why": trip.why,
            "killed": trip.limit.kills,
        },
    )
