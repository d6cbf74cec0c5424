"""The circuits of this process: who may be asked now, for each provider, model and key.

`Circuits` keeps one `breaker` state each and hands out permits. What a reader would not guess: the
path of a call takes no lock and starts no timer (a wait is over when somebody asks), a permit may
be told how its call ended more than once (the first word stands), and what was tripped by hand
lies beside the states, since it may name a whole provider.
"""

from collections.abc import Callable, Iterable, Iterator
from math import inf
from random import random
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from modelspend.breaker import (
    Ask,
    Cancelled,
    Closed,
    Event,
    Failed,
    Go,
    Moved,
    Open,
    Phase,
    Reset,
    State,
    Succeeded,
    Ticket,
    Trip,
    Wait,
    Why,
    bits,
    step,
)
from modelspend.receipt import FailureClass
from modelspend.receipt_json import iso
from modelspend.record import record

if TYPE_CHECKING:
    from modelspend.sections import Circuits as Rules

ANY = "*"
MOST = 4096
"""Circuits in memory at most: a client may ask for any name of a model."""

WHYS: frozenset[str] = frozenset(get_args(Why))


class CircuitKey(NamedTuple):
    """`key` is the fingerprint of a caller's own key, empty for the sidecar's own."""

    provider: str
    model: str
    key: str = ""


@record
class Refusal:
    """A call may not go there. `circuit` is the one that says so, `failure` what it last saw."""

    circuit: CircuitKey
    retry_after_s: float
    why: Literal["open", "manual", "probing", "cooling"]
    failure: FailureClass | None = None


@record
class Standing:
    """How a circuit stands, without taking its permit. `ready`: a call may go there, `closed`: as
    any number may; `last_resort`: not ready, but may be tried when nobody is.
    """

    ready: bool
    closed: bool
    last_resort: bool = False
    refusal: Refusal | None = None
    trips: int = 0


READY = Standing(ready=True, closed=True)


@record
class Transition:
    """What listeners are told."""

    circuit: CircuitKey
    moved: Moved


@record
class Saved:
    """A circuit as it is kept over a restart: times are UTC, a null `retry_at_ms` is never."""

    circuit: CircuitKey
    phase: Phase
    why: Why
    changed_at_ms: int
    retry_at_ms: int | None
    failure: FailureClass | None = None
    manual: bool = False
    trips: int = 0


@record
class Order:
    """What a hand wants of a provider, or of one model of it; how commands reach the daemon."""

    act: Literal["trip", "reset"]
    provider: str
    model: str | None
    at_ms: int
    until_ms: int | None = None
    order_id: int = 0


@record
class Snapshot:
    """Who refuses calls at one moment: what a plan is made from."""

    refused: frozenset[CircuitKey] = frozenset()

    def refuses(self, provider: str, model: str, key: str = "") -> bool:
        if not self.refused:
            return False
        names = ((model, key), (model, ANY), (ANY, ANY))
        return any(CircuitKey(provider, *name) in self.refused for name in names)


class Permit:
    """Leave to send one call. Tell it how the call ended; the first word stands."""

    __slots__ = ("_circuits", "_ticket", "circuit", "probe")

    def __init__(self, circuits: "Circuits", circuit: CircuitKey, ticket: Ticket | None) -> None:
        self.circuit = circuit
        self.probe = ticket is not None and ticket.probe > 0
        self._circuits = circuits
        self._ticket = ticket

    def succeeded(self, now: float, first_byte_s: float | None = None) -> None:
        """It ended well. `first_byte_s` of a stream tells whether it was slow."""
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            slow = first_byte_s is not None and first_byte_s >= self._circuits.rules.slow_s
            self._circuits.hear(self.circuit, Succeeded(ticket, slow), now)

    def answering(self, now: float, first_byte_s: float | None = None) -> None:
        """The first content came. A probe has done its work then: a long stream holds up nobody."""
        if not self.probe or self._ticket is None:
            return
        self.succeeded(now, first_byte_s)
        after = self._circuits.state(self.circuit)
        if isinstance(after, Closed):
            self._ticket, self.probe = Ticket(after.epoch), False

    def failed(self, failure: FailureClass, now: float, retry_after_s: float | None = None) -> None:
        """It failed. `retry_after_s` is what the provider asked for."""
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            event = Failed(ticket, failure, retry_after_s, own_key=bool(self.circuit.key))
            self._circuits.hear(self.circuit, event, now)

    def cancelled(self, now: float) -> None:
        """It ended without telling anything of the provider."""
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self._circuits.hear(self.circuit, Cancelled(ticket), now)


class Circuits:
    """Hands out permits. `now` is always seconds of a clock that never goes back."""

    def __init__(self, rules: "Rules", chance: Callable[[], float] = random) -> None:
        self.rules = rules
        self.listeners: list[Callable[[Transition], None]] = []
        self._chance = chance
        self._states: dict[CircuitKey, State] = {}
        self._by_hand: dict[CircuitKey, State] = {}
        self._unwell: set[CircuitKey] = set()

    # On the path of a call.

    def admit(self, circuit: CircuitKey, now: float, *, panic: bool = False) -> Permit | Refusal:
        """Leave for one call, or why not. `panic`: there is nobody else to ask."""
        if self._by_hand and (refusal := self._refused_by_hand(circuit, now)):
            return refusal
        if not self.rules.enabled:
            return Permit(self, circuit, None)
        state = self._states.get(circuit, _NEW)
        after, effects = step(state, Ask(panic), now, self.rules)
        if after is not state:
            self._keep(circuit, after, now)
        for effect in effects:
            if isinstance(effect, Go):
                return Permit(self, circuit, Ticket(after.epoch, effect.probe))
            if isinstance(effect, Moved):
                self._tell(circuit, effect)
            else:
                return _refusal(circuit, effect)
        raise AssertionError("a question without an answer")

    def hear(self, circuit: CircuitKey, event: Event, now: float) -> None:
        """What became of a call; `Permit` says it."""
        state = self._states.get(circuit, _NEW)
        after, effects = step(state, event, now, self.rules, self._chance())
        if after is not state:
            self._keep(circuit, after, now)
        for effect in effects:
            if isinstance(effect, Moved):
                self._tell(circuit, effect)

    def standing(self, circuit: CircuitKey, now: float) -> Standing:
        """How it stands; nothing changes."""
        for wide in _wide(circuit) if self._by_hand else ():
            refusal = self._look(wide, self._by_hand.get(wide), now)
            if refusal is not None:
                return Standing(ready=False, closed=False, refusal=refusal)
        state = self._states.get(circuit)
        if state is None or not self.rules.enabled:
            return READY
        refusal = self._look(circuit, state, now)
        if refusal is None:
            return READY if isinstance(state, Closed) else Standing(ready=True, closed=False)
        _, effects = step(state, Ask(panic=True), now, self.rules)
        return Standing(
            ready=False,
            closed=False,
            last_resort=isinstance(effects[-1], Go),
            refusal=refusal,
            trips=state.trips,
        )

    def snapshot(self, now: float) -> Snapshot:
        """Who refuses calls now; costs as much as there are circuits that are not well."""
        if not self._unwell and not self._by_hand:
            return _ALL_WELL
        refused = [key for key in self._unwell if not self.standing(key, now).ready]
        refused += [key for key, state in self._by_hand.items() if self._look(key, state, now)]
        return Snapshot(refused=frozenset(refused))

    def state(self, circuit: CircuitKey) -> State:
        return self._states.get(circuit, _NEW)

    def _refused_by_hand(self, circuit: CircuitKey, now: float) -> Refusal | None:
        for wide in _wide(circuit):
            state = self._by_hand.get(wide)
            if state is None:
                continue
            refusal = self._look(wide, state, now)
            if refusal is not None:
                return refusal
            self._close_by_hand(wide, Ask(), now)
        return None

    def _look(self, circuit: CircuitKey, state: State | None, now: float) -> Refusal | None:
        if state is None:
            return None
        _, effects = step(state, Ask(), now, self.rules)
        last = effects[-1]
        return _refusal(circuit, last) if isinstance(last, Wait) else None

    def _keep(self, circuit: CircuitKey, state: State, now: float) -> None:
        if circuit not in self._states and len(self._states) >= MOST:
            self._make_room()
        self._states[circuit] = state
        if not isinstance(state, Closed) or state.cool_until > now:
            self._unwell.add(circuit)
        elif self._unwell:
            self._unwell.discard(circuit)

    def _make_room(self) -> None:
        """Forget one that is closed, the oldest if it is; those that are open stay."""
        forgotten = next((k for k, s in self._states.items() if isinstance(s, Closed)), None)
        if forgotten is None:
            forgotten = next(iter(self._states))
        del self._states[forgotten]
        self._unwell.discard(forgotten)

    def _tell(self, circuit: CircuitKey, moved: Moved) -> None:
        for listener in self.listeners:
            listener(Transition(circuit=circuit, moved=moved))

    # By hand, and over a restart.

    def trip(self, provider: str, model: str | None, now: float, for_s: float | None) -> None:
        """Open a provider, or one model of it, for so long or until it is reset."""
        wide = CircuitKey(provider, model or ANY, ANY)
        state, effects = step(self._by_hand.get(wide, _NEW), Trip(for_s), now, self.rules)
        self._by_hand[wide] = state
        self._tell_all(wide, effects)

    def reset(self, provider: str, model: str | None, now: float) -> int:
        """Close all of a provider, or of one model of it; how many had not been closed."""
        closed = 0
        for wide in [key for key in self._by_hand if _within(key, provider, model)]:
            self._close_by_hand(wide, Reset(), now)
            closed += 1
        for key in [key for key in self._states if _within(key, provider, model)]:
            closed += not isinstance(self._states[key], Closed)
            self.hear(key, Reset(), now)
        return closed

    def obey(self, order: Order, now: float, wall_ms: int) -> None:
        """Do what a command has written down; a trip that is over by now is none."""
        if order.act == "reset":
            self.reset(order.provider, order.model, now)
        elif order.until_ms is None:
            self.trip(order.provider, order.model, now, None)
        elif order.until_ms > wall_ms:
            self.trip(order.provider, order.model, now, (order.until_ms - wall_ms) / 1000)

    def restore(self, saved: Iterable[Saved], now: float, wall_ms: int) -> None:
        """Take up what an earlier process left, each aged by the time that has passed."""
        for one in saved:
            state = restored(one, now, wall_ms, self.rules)
            if one.manual and isinstance(state, Open):
                self._by_hand[one.circuit] = state
            elif state is not None:
                self._keep(one.circuit, state, now)
            elif one.phase is not Phase.CLOSED:
                self._tell(one.circuit, Moved(one.phase, Phase.CLOSED, "forgotten"))

    def views(self, now: float) -> "Iterator[View]":
        """Every circuit as it stands, those tripped by hand first."""
        for circuit, state in (*self._by_hand.items(), *self._states.items()):
            yield _view(circuit, state, now)

    def _close_by_hand(self, wide: CircuitKey, event: Event, now: float) -> None:
        _, effects = step(self._by_hand.pop(wide), event, now, self.rules)
        self._tell_all(wide, effects)

    def _tell_all(self, circuit: CircuitKey, effects: Iterable[object]) -> None:
        for effect in effects:
            if isinstance(effect, Moved):
                self._tell(circuit, effect)


_NEW = Closed()
_ALL_WELL = Snapshot()


@record
class View:
    """A circuit for a person to look at. Seconds are from now; null for good, or for nothing."""

    circuit: CircuitKey
    phase: Phase
    why: Why | None = None
    failure: FailureClass | None = None
    manual: bool = False
    trips: int = 0
    since_s: float | None = None
    wait_s: float | None = None
    cooling_s: float | None = None
    probing: bool = False
    calls: int = 0
    failures: int = 0
    slow: int = 0
    streak: int = 0

    def to_json(self, now_ms: int) -> dict[str, Any]:
        """For `GET /v1/circuits` and `circuits list`; a null model or key stands for all of them,
        a null `retry_at` of an open one for good."""
        provider, model, key = self.circuit

        def at(seconds: float | None) -> str | None:
            return None if seconds is None else iso(now_ms + round(seconds * 1000))

        return {
            "provider": provider,
            "model_id": None if model == ANY and key == ANY else model,
            "key_id": None if key in ("", ANY) else key,
            "state": self.phase,
            "reason": self.why,
            "failure_class": self.failure,
            "manual": self.manual,
            "trips": self.trips,
            "since": at(None if self.since_s is None else -self.since_s),
            "retry_at": at(self.wait_s),
            "cooling_until": at(self.cooling_s),
            "probing": self.probing,
            "calls": self.calls,
            "failures": self.failures,
            "slow": self.slow,
            "streak": self.streak,
        }


def _view(circuit: CircuitKey, state: State, now: float) -> View:
    cooling = state.cool_until - now
    since = None if state.since == -inf else now - state.since
    if isinstance(state, Closed):
        return View(
            circuit=circuit,
            phase=state.phase,
            trips=state.trips,
            since_s=since,
            cooling_s=cooling if cooling > 0 else None,
            calls=state.calls,
            failures=bits(state.failed),
            slow=bits(state.slow),
            streak=state.streak,
        )
    is_open = isinstance(state, Open)
    return View(
        circuit=circuit,
        phase=state.phase,
        why=state.why,
        failure=state.failure,
        manual=isinstance(state, Open) and state.manual,
        trips=state.trips,
        since_s=since,
        wait_s=_left(state, now) if is_open else None,
        cooling_s=cooling if cooling > 0 else None,
        probing=state.probing and now < state.lease,
    )


def _left(state: State, now: float) -> float | None:
    until = state.until if isinstance(state, Open) else now
    return None if until == inf else max(until - now, 0.0)


def _refusal(circuit: CircuitKey, wait: Wait) -> Refusal:
    return Refusal(circuit=circuit, retry_after_s=wait.after_s, why=wait.why, failure=wait.failure)


def _wide(circuit: CircuitKey) -> tuple[CircuitKey, CircuitKey]:
    """The names under which it may be tripped by hand."""
    return CircuitKey(circuit.provider, ANY, ANY), CircuitKey(circuit.provider, circuit.model, ANY)


def _within(circuit: CircuitKey, provider: str, model: str | None) -> bool:
    return circuit.provider == provider and model in (None, circuit.model)


def restored(saved: Saved, now: float, wall_ms: int, rules: "Rules") -> State | None:
    """The state of a circuit that an earlier process left; None when nothing of it counts now.

    A wait goes on where it was, however the wall clock has jumped: never longer than it was to be.
    What was half open is asked again at once; what is old is closed, unless a hand tripped it.
    """
    age_s = max(wall_ms - saved.changed_at_ms, 0) / 1000
    since = now - age_s
    if saved.manual and saved.phase is not Phase.CLOSED:
        left = inf if saved.retry_at_ms is None else _remaining(saved, wall_ms, inf)
        return Open(epoch=0, since=since, until=now + left, trips=0, why="manual", manual=True)
    if age_s > rules.forget_s:
        return None
    if saved.phase is Phase.CLOSED:
        return Closed(trips=saved.trips, since=since) if saved.trips else None
    left = 0.0
    if saved.phase is Phase.OPEN:
        left = _remaining(saved, wall_ms, max(rules.wait_max_s, rules.cool_max_s))
    return Open(
        epoch=0,
        since=since,
        until=now + left,
        trips=saved.trips,
        why=saved.why,
        failure=saved.failure,
    )


def _remaining(saved: Saved, wall_ms: int, most_s: float) -> float:
    retry_at = wall_ms if saved.retry_at_ms is None else saved.retry_at_ms
    whole = max(retry_at - saved.changed_at_ms, 0) / 1000
    return min(max(retry_at - wall_ms, 0) / 1000, whole, most_s)
