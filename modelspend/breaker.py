"""One circuit: whether calls may pass, as a pure function of what was heard before.

`step` takes a state, an event and the time and gives the next state with what follows from it;
the registry in `circuits` keeps the states. Three things that a reader would not guess: windows
are whole numbers whose bits are calls, so a state is small and never copied; a result counts only
in the state that let its call pass (its `Ticket` says which), so what comes late changes nothing;
and a provider that asks for time (429, Retry-After) is left alone without being called broken.
"""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from modelspend.receipt import FailureClass
from modelspend.record import record

if TYPE_CHECKING:
    from modelspend.sections import Circuits as Rules


class Phase(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Weight(StrEnum):
    """What a failure says of the provider's health."""

    FAILURE = "failure"
    COOLS = "cools"
    OURS = "ours"  # a failure where the key is the sidecar's own; of a caller's key it says nothing
    NOTHING = "nothing"


WEIGHTS: Mapping[FailureClass, Weight] = {
    FailureClass.CLIENT_ERROR: Weight.NOTHING,
    FailureClass.AUTH: Weight.OURS,
    FailureClass.RATE_LIMIT: Weight.COOLS,
    FailureClass.OVERLOADED: Weight.FAILURE,
    FailureClass.SERVER_ERROR: Weight.FAILURE,
    FailureClass.CONNECT: Weight.FAILURE,
    FailureClass.CONNECT_TIMEOUT: Weight.FAILURE,
    FailureClass.FIRST_BYTE_TIMEOUT: Weight.FAILURE,
    FailureClass.IDLE_TIMEOUT: Weight.FAILURE,
    FailureClass.TOTAL_TIMEOUT: Weight.FAILURE,
    FailureClass.DISCONNECTED: Weight.FAILURE,
    FailureClass.TRUNCATED: Weight.FAILURE,
    FailureClass.ERROR_IN_STREAM: Weight.FAILURE,
    FailureClass.PROTOCOL: Weight.FAILURE,
    FailureClass.CLIENT_GONE: Weight.NOTHING,
    FailureClass.CLIENT_STALLED: Weight.NOTHING,
    FailureClass.SHUTDOWN: Weight.NOTHING,
    FailureClass.PROCESS_DIED: Weight.NOTHING,
    FailureClass.INTERNAL: Weight.NOTHING,
    FailureClass.BUDGET: Weight.NOTHING,
    FailureClass.STOPPED: Weight.NOTHING,
}
"""How each way of failing counts. The caller's own faults and our own never do."""

Why = Literal[
    "consecutive",
    "failure_rate",
    "slow",
    "probe_failed",
    "probe_succeeded",
    "panic",
    "manual",
    "reset",
    "trip_over",
    "wait_over",
    "forgotten",
]
"""What moved a circuit."""


@record
class Closed:
    """Calls pass. `failed` and `slow` are bits, one a call, of the last `calls`; the newest is the
    lowest. `streak` counts failures in a row, `trips` how often it opened of late. `cooled_by` is
    what asked for the rest until `cool_until`.
    """

    epoch: int = 0
    calls: int = 0
    failed: int = 0
    slow: int = 0
    streak: int = 0
    heard_at: float = -inf
    cool_until: float = -inf
    cooled_by: FailureClass | None = None
    trips: int = 0
    since: float = -inf

    @property
    def phase(self) -> Phase:
        return Phase.CLOSED


@record
class Open:
    """No call passes before `until`, except one at a time where there is nobody else (panic).

    `manual` was tripped by hand: it is never tried, and is over at `until` (which may be never).
    `probing` is true while a panic's call, number `probe`, is out, at most until `lease`.
    """

    epoch: int
    since: float
    until: float
    trips: int
    why: Why
    failure: FailureClass | None = None
    manual: bool = False
    cool_until: float = -inf
    probe: int = 0
    probing: bool = False
    lease: float = -inf
    tried_at: float = -inf

    @property
    def phase(self) -> Phase:
        return Phase.OPEN


@record
class HalfOpen:
    """One call at a time passes: what becomes of it decides."""

    epoch: int
    since: float
    trips: int
    why: Why
    failure: FailureClass | None = None
    cool_until: float = -inf
    probe: int = 1
    probing: bool = True
    lease: float = -inf

    @property
    def phase(self) -> Phase:
        return Phase.HALF_OPEN


State: TypeAlias = Closed | Open | HalfOpen


class Ticket(NamedTuple):
    """What let a call pass: the epoch of the state, and the number of the probe (0 for none)."""

    epoch: int
    probe: int = 0


# What may happen to a circuit.


class Ask(NamedTuple):
    """May a call pass? `panic`: there is nobody else."""

    panic: bool = False


class Succeeded(NamedTuple):
    ticket: Ticket
    slow: bool = False


class Failed(NamedTuple):
    """`wait_s` is what the provider asked for (Retry-After); `own_key`: the caller's own."""

    ticket: Ticket
    failure: FailureClass
    wait_s: float | None = None
    own_key: bool = False


class Cancelled(NamedTuple):
    """The call ended without telling anything of the provider."""

    ticket: Ticket


class Trip(NamedTuple):
    """Opened by hand; for good without `for_s`."""

    for_s: float | None = None


class Reset(NamedTuple):
    """Closed by hand; all that was heard is forgotten."""


Heard: TypeAlias = Ask | Succeeded | Failed | Cancelled
Event: TypeAlias = Heard | Trip | Reset


# What follows.


class Go(NamedTuple):
    """The call may pass; `probe` is not 0 when it is what decides."""

    probe: int = 0


class Wait(NamedTuple):
    """The call may not pass for so long, as far as can be told."""

    after_s: float
    why: Literal["open", "manual", "probing", "cooling"]
    failure: FailureClass | None = None


class Moved(NamedTuple):
    """The circuit moved. `wait_s` is how long it will be open, None for good."""

    old: Phase
    new: Phase
    why: Why
    failure: FailureClass | None = None
    wait_s: float | None = 0.0
    trips: int = 0
    calls: int = 0
    failures: int = 0


Effect: TypeAlias = Go | Wait | Moved
Step: TypeAlias = tuple[State, tuple[Effect, ...]]

SOON_S = 1.0
"""What to advise while a probe is out: its answer changes everything."""

_MOST_TRIPS = 32  # the wait has long reached its ceiling
_GO = (Go(),)
_NOTHING: tuple[Effect, ...] = ()


def step(state: State, event: Event, now: float, rules: "Rules", chance: float = 0.0) -> Step:
    """The next state, and what follows: `Go` or `Wait` for `Ask`, `Moved` when it moved.

    `now` is seconds of a clock that never goes back; `chance` in [0, 1) spreads the waits.
    """
    if isinstance(event, Trip):
        return _tripped(state, event, now)
    if isinstance(event, Reset):
        return _reset(state, now)
    if isinstance(state, Closed):
        return _closed(state, event, now, rules, chance)
    if isinstance(state, Open):
        return _open(state, event, now, rules)
    return _half_open(state, event, now, rules, chance)


def bits(window: int) -> int:
    """How many calls of a window are marked."""
    return window.bit_count()


# Closed: everything passes; each result is heard.


def _closed(state: Closed, event: Heard, now: float, rules: "Rules", chance: float) -> Step:
    if isinstance(event, Ask):
        if now < state.cool_until:
            return state, (Wait(state.cool_until - now, "cooling", state.cooled_by),)
        return state, _GO
    if event.ticket.epoch != state.epoch or isinstance(event, Cancelled):
        return state, _NOTHING
    if isinstance(event, Succeeded):
        heard = _heard(state, now, rules, failed=0, slow=int(event.slow))
        if event.slow and _too_many(heard.slow, heard.calls, rules.slow_rate, rules):
            return _opened(heard, "slow", None, now, rules, chance)
        return heard, _NOTHING
    state = _cooled(state, event, now, rules)
    if not _counts(event):
        return state, _NOTHING
    heard = _heard(state, now, rules, failed=1, slow=0)
    if heard.streak >= rules.consecutive:
        return _opened(heard, "consecutive", event.failure, now, rules, chance)
    if _too_many(heard.failed, heard.calls, rules.failure_rate, rules):
        return _opened(heard, "failure_rate", event.failure, now, rules, chance)
    return heard, _NOTHING


def _heard(state: Closed, now: float, rules: "Rules", *, failed: int, slow: int) -> Closed:
    """One more call in the window; a window that heard nothing for long begins anew."""
    calls, before, slower, streak = state.calls, state.failed, state.slow, state.streak
    if now - state.heard_at > rules.window_s:
        calls = before = slower = streak = 0
    seen = (1 << rules.window) - 1
    return Closed(
        epoch=state.epoch,
        calls=min(calls + 1, rules.window),
        failed=(before << 1 | failed) & seen,
        slow=(slower << 1 | slow) & seen,
        streak=streak + 1 if failed else 0,
        heard_at=now,
        cool_until=state.cool_until,
        cooled_by=state.cooled_by,
        trips=state.trips,
        since=state.since,
    )


def _too_many(window: int, calls: int, rate: float, rules: "Rules") -> bool:
    return calls >= rules.min_calls and bits(window) / calls >= rate


def _cooled(state: Closed, event: Failed, now: float, rules: "Rules") -> Closed:
    until = _cool_until(event, now, rules)
    if until <= state.cool_until:
        return state
    return replace(state, cool_until=until, cooled_by=event.failure)


def _cool_until(event: Failed, now: float, rules: "Rules") -> float:
    """Until when the provider wants to be left alone: what it asked for, within bounds."""
    weight = WEIGHTS[event.failure]
    if weight is Weight.NOTHING or (weight is not Weight.COOLS and event.wait_s is None):
        return -inf
    asked = rules.cool_s if event.wait_s is None else max(event.wait_s, 0.0)
    return now + min(asked, rules.cool_max_s)


def _counts(event: Failed) -> bool:
    weight = WEIGHTS[event.failure]
    return weight is Weight.FAILURE or (weight is Weight.OURS and not event.own_key)


def _opened(
    state: Closed,
    why: Why,
    failure: FailureClass | None,
    now: float,
    rules: "Rules",
    chance: float,
) -> Step:
    """Waits grow while it keeps opening; what has been well for long begins anew."""
    trips = 1 if now - state.since > rules.forget_s else min(state.trips + 1, _MOST_TRIPS)
    wait_s = max(_wait_s(trips, rules, chance), state.cool_until - now)
    opened = Open(
        epoch=state.epoch + 1,
        since=now,
        until=now + wait_s,
        trips=trips,
        why=why,
        failure=failure,
        cool_until=state.cool_until,
    )
    moved = Moved(
        Phase.CLOSED, Phase.OPEN, why, failure, wait_s, trips, state.calls, bits(state.failed)
    )
    return opened, (moved,)


def _wait_s(trips: int, rules: "Rules", chance: float) -> float:
    """Twice as long each time up to the ceiling, less a part that chance decides."""
    longest: float = min(rules.wait_s * 2 ** (trips - 1), rules.wait_max_s)
    return longest * (1 - rules.jitter * chance)


# Open: nothing passes until the wait is over.


def _open(state: Open, event: Heard, now: float, rules: "Rules") -> Step:
    if isinstance(event, Ask):
        return _asked_open(state, event, now, rules)
    if not _decides(state, event.ticket):
        return state, _NOTHING
    if isinstance(event, Succeeded) and not event.slow:
        return _recovered(state, "panic", now)
    if not isinstance(event, Failed):
        return replace(state, probing=False), _NOTHING
    cool_until = max(state.cool_until, _cool_until(event, now, rules))
    until = max(state.until, cool_until)
    return replace(state, probing=False, until=until, cool_until=cool_until), _NOTHING


def _asked_open(state: Open, event: Ask, now: float, rules: "Rules") -> Step:
    if state.manual and now >= state.until:
        closed, moved = _recovered(state, "trip_over", now)
        return closed, (*moved, *_GO)
    if state.manual:
        return state, (Wait(state.until - now, "manual"),)
    if state.probing and now < state.lease:
        return state, (Wait(SOON_S, "probing", state.failure),)
    if now >= state.until:
        return _half_opened(state, now, rules)
    rests = now < state.cool_until or now - state.tried_at < rules.panic_s
    if not event.panic or rests:
        return state, (Wait(state.until - now, "open", state.failure),)
    lease = now + rules.probe_s
    tried = replace(state, probing=True, probe=state.probe + 1, lease=lease, tried_at=now)
    return tried, (Go(tried.probe),)


def _half_opened(state: Open, now: float, rules: "Rules") -> Step:
    half = HalfOpen(
        epoch=state.epoch + 1,
        since=now,
        trips=state.trips,
        why=state.why,
        failure=state.failure,
        lease=now + rules.probe_s,
    )
    moved = Moved(Phase.OPEN, Phase.HALF_OPEN, "wait_over", state.failure, trips=state.trips)
    return half, (moved, Go(half.probe))


# Half open: one call decides.


def _half_open(state: HalfOpen, event: Heard, now: float, rules: "Rules", chance: float) -> Step:
    if isinstance(event, Ask):
        return _asked_half_open(state, now, rules)
    if not _decides(state, event.ticket):
        return state, _NOTHING
    if isinstance(event, Succeeded):
        if event.slow:
            return _opened_again(state, "slow", None, now, rules, chance, -inf)
        return _recovered(state, "probe_succeeded", now)
    if isinstance(event, Cancelled):
        return replace(state, probing=False), _NOTHING
    cool_until = max(state.cool_until, _cool_until(event, now, rules))
    if _counts(event):
        return _opened_again(state, "probe_failed", event.failure, now, rules, chance, cool_until)
    return replace(state, probing=False, cool_until=cool_until), _NOTHING


def _asked_half_open(state: HalfOpen, now: float, rules: "Rules") -> Step:
    if state.probing and now < state.lease:
        return state, (Wait(SOON_S, "probing", state.failure),)
    if now < state.cool_until:
        return state, (Wait(state.cool_until - now, "cooling", state.failure),)
    tried = replace(state, probing=True, probe=state.probe + 1, lease=now + rules.probe_s)
    return tried, (Go(tried.probe),)


def _decides(state: "Open | HalfOpen", ticket: Ticket) -> bool:
    """Whether this is the probe that is out, and not a call that comes late."""
    return state.probing and (state.epoch, state.probe) == ticket


def _opened_again(
    state: HalfOpen,
    why: Why,
    failure: FailureClass | None,
    now: float,
    rules: "Rules",
    chance: float,
    cool_until: float,
) -> Step:
    trips = min(state.trips + 1, _MOST_TRIPS)
    wait_s = max(_wait_s(trips, rules, chance), cool_until - now)
    opened = Open(
        epoch=state.epoch + 1,
        since=now,
        until=now + wait_s,
        trips=trips,
        why=why,
        failure=failure or state.failure,
        cool_until=cool_until,
    )
    return opened, (Moved(Phase.HALF_OPEN, Phase.OPEN, why, opened.failure, wait_s, trips, 1, 1),)


def _recovered(state: "Open | HalfOpen", why: Why, now: float) -> Step:
    """Closed, with an empty window; it still knows how often it opened, should it fail again."""
    closed = Closed(epoch=state.epoch + 1, trips=state.trips, since=now)
    return closed, (Moved(state.phase, Phase.CLOSED, why, trips=state.trips),)


# By hand.


def _tripped(state: State, event: Trip, now: float) -> Step:
    until = inf if event.for_s is None else now + event.for_s
    opened = Open(
        epoch=state.epoch + 1,
        since=now,
        until=until,
        trips=state.trips,
        why="manual",
        manual=True,
    )
    return opened, (Moved(state.phase, Phase.OPEN, "manual", None, event.for_s, state.trips),)


def _reset(state: State, now: float) -> Step:
    closed = Closed(epoch=state.epoch + 1, since=now)
    if isinstance(state, Closed):
        return closed, _NOTHING
    return closed, (Moved(state.phase, Phase.CLOSED, "reset"),)
