"""What to do after a call could not be sent, or failed: try again here, elsewhere, or not at all.

`next_step` decides from values and changes nothing; who acts on it spends the budget. What a reader
would not guess: the first hop to another provider is free, since it asks nobody twice, and only
what asks the same provider again has to fit in the budget; a client's own library that retries
is left to it; and of several circuits that are all open the least bad one is asked, now and then.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import inf, isfinite
from typing import TYPE_CHECKING, Literal, TypeAlias

from modelspend.circuits import CircuitKey, Circuits, Standing
from modelspend.receipt import Delivery, FailureClass
from modelspend.record import record

if TYPE_CHECKING:
    from modelspend.sections import Retries as Rules

Again = Literal["anywhere", "elsewhere", "never", "caller"]

AGAIN: Mapping[FailureClass, Again] = {
    FailureClass.CLIENT_ERROR: "caller",
    FailureClass.AUTH: "elsewhere",
    FailureClass.RATE_LIMIT: "anywhere",
    FailureClass.OVERLOADED: "anywhere",
    FailureClass.SERVER_ERROR: "anywhere",
    FailureClass.CONNECT: "anywhere",
    FailureClass.CONNECT_TIMEOUT: "elsewhere",  # the limit itself was the wait
    FailureClass.FIRST_BYTE_TIMEOUT: "elsewhere",
    FailureClass.IDLE_TIMEOUT: "elsewhere",
    FailureClass.TOTAL_TIMEOUT: "never",
    FailureClass.DISCONNECTED: "anywhere",
    FailureClass.TRUNCATED: "anywhere",
    FailureClass.ERROR_IN_STREAM: "anywhere",
    FailureClass.PROTOCOL: "elsewhere",
    FailureClass.CLIENT_GONE: "never",
    FailureClass.CLIENT_STALLED: "never",
    FailureClass.SHUTDOWN: "never",
    FailureClass.PROCESS_DIED: "never",
    FailureClass.INTERNAL: "never",
    FailureClass.BUDGET: "never",
    FailureClass.STOPPED: "never",
}
"""Where a call that failed so may be tried again. `caller`: its own fault, the same everywhere."""

_WHOLE_PROVIDER = frozenset({FailureClass.CONNECT, FailureClass.CONNECT_TIMEOUT, FailureClass.AUTH})
_PERHAPS_BILLED = frozenset({Delivery.MAYBE_ACCEPTED, Delivery.RESPONDING})


@record
class Way:
    """One who may answer: by the circuit that stands before it."""

    circuit: CircuitKey


@record
class Tried:
    """An attempt that failed. `wait_s` and `should_retry` are what its answer said, if anything."""

    circuit: CircuitKey
    failure: FailureClass
    delivery: Delivery
    wait_s: float | None = None
    should_retry: bool | None = None


@record
class Course:
    """A call so far. `chain` is who may answer, the first choice first; `tried` is empty when
    nothing was sent yet, because a circuit refused. `sdk_retry`: the client is trying again itself.
    """

    chain: Sequence[Way]
    tried: Sequence[Tried] = ()
    content_sent: bool = False
    client_gone: bool = False
    sdk_retry: bool = False
    left_s: float = inf


@record
class RetryHere:
    """Ask the same one again after a wait; spends the budget. `twice`: both may be charged."""

    after_s: float
    twice: bool = False


@record
class HopTo:
    """Ask another one now. `spends` the budget or not; `panic`: its circuit must be told so."""

    way: Way
    reason: Literal["attempt_failed", "circuit_open", "cooling", "panic"]
    failure: FailureClass | None = None
    panic: bool = False
    spends: bool = False
    twice: bool = False


@record
class GiveUp:
    """Tell the client. `retry_after_s` is when it may be worth asking again, if that is known."""

    why: Literal[
        "content_sent",
        "client_gone",
        "caller_fault",
        "not_retryable",
        "attempts",
        "budget",
        "circuit_open",
        "nobody_left",
    ]
    retry_after_s: float | None = None


Next: TypeAlias = RetryHere | HopTo | GiveUp


class RetryBudget:
    """How much of the traffic of this process was repeated of late. O(1); holds some seconds."""

    _SLICES = 10

    def __init__(self, rules: "Rules") -> None:
        self.rules = rules
        self._calls: deque[list[int]] = deque()  # [slice of time, calls in it]
        self._total = 0
        self._spent: deque[float] = deque()

    def called(self, now: float) -> None:
        """A client has called."""
        at = self._slice(now)
        if self._calls and self._calls[-1][0] == at:
            self._calls[-1][1] += 1
        else:
            self._calls.append([at, 1])
        self._total += 1
        self._forget(now)

    def spare(self, now: float) -> bool:
        """Whether one more repetition fits."""
        self._forget(now)
        return len(self._spent) + 1 <= max(self.rules.floor, self.rules.share * self._total)

    def spend(self, now: float) -> None:
        self._spent.append(now)

    def _forget(self, now: float) -> None:
        oldest = self._slice(now) - self._SLICES
        while self._calls and self._calls[0][0] <= oldest:
            self._total -= self._calls.popleft()[1]
        while self._spent and self._spent[0] <= now - self.rules.per_s:
            self._spent.popleft()

    def _slice(self, now: float) -> int:
        return int(now * self._SLICES / self.rules.per_s)


class Repeats:
    """Calls that failed a moment ago: who sends the same again is a library that retries."""

    def __init__(self, within_s: float = 60.0, most: int = 4096) -> None:
        self._within_s = within_s
        self._most = most
        self._failed: OrderedDict[str, float] = OrderedDict()

    def failed(self, mark: str, now: float) -> None:
        """`mark` joins what is the same call: the tenant with its idempotency key, or its hash."""
        self._failed[mark] = now
        self._failed.move_to_end(mark)
        while len(self._failed) > self._most:
            self._failed.popitem(last=False)

    def again(self, mark: str, now: float) -> bool:
        at = self._failed.get(mark)
        return at is not None and now - at <= self._within_s


def next_step(
    course: Course,
    circuits: Circuits,
    budget: RetryBudget,
    now: float,
    chance: float,
) -> Next:
    """What to do now. `chance` in [0, 1) spreads the waits."""
    last = course.tried[-1] if course.tried else None
    if stop := _no_more(course, last, budget.rules):
        return stop
    spare = budget.spare(now)
    standings = [(way, circuits.standing(way.circuit, now)) for way in course.chain]
    blames_caller = last is not None and _blames_caller(last)
    if not blames_caller and (hop := _hop(course, last, standings, spare)):
        return hop
    if last is not None and (retry := _retry(course, last, standings, budget.rules, chance)):
        if spare:
            return retry
        return GiveUp(why="budget", retry_after_s=retry.after_s)
    if not blames_caller and (hop := _panic(course, last, standings)):
        return hop
    return _give_up(course, last, standings)


def _no_more(course: Course, last: Tried | None, rules: "Rules") -> GiveUp | None:
    """What forbids any further try."""
    if course.content_sent:
        return GiveUp(why="content_sent")
    if course.client_gone:
        return GiveUp(why="client_gone")
    if last is None:
        return None
    if last.failure in (FailureClass.CLIENT_GONE, FailureClass.CLIENT_STALLED):
        return GiveUp(why="client_gone")
    if AGAIN[last.failure] == "never":
        return GiveUp(why="not_retryable")
    if _blames_caller(last) and last.should_retry is not True:
        return GiveUp(why="caller_fault")
    if len(course.tried) >= rules.max_attempts:
        return GiveUp(why="attempts", retry_after_s=last.wait_s)
    return None


def _blames_caller(last: Tried) -> bool:
    """A request that nobody will take, or a key of the caller's own that is not good."""
    own_key = last.failure is FailureClass.AUTH and bool(last.circuit.key)
    return own_key or AGAIN[last.failure] == "caller"


Standings: TypeAlias = list[tuple[Way, Standing]]


def _hop(course: Course, last: Tried | None, standings: Standings, spare: bool) -> HopTo | None:
    """The next of the chain who takes calls: another provider, else another model at this one."""
    tried = {one.circuit for one in course.tried}
    providers = {one.circuit.provider for one in course.tried}
    ready = [(w, s) for w, s in standings if s.ready and w.circuit not in tried]
    others = [(w, s) for w, s in ready if w.circuit.provider not in providers]
    for way, standing in sorted(others, key=lambda found: not found[1].closed):
        free = last is None or (standing.closed and len(providers) == 1)
        if free or spare:
            return _hopping(course, last, way, standings, spends=not free)
    if last is None or not spare or last.failure in _WHOLE_PROVIDER:
        return None
    for way, _ in ready:
        return _hopping(course, last, way, standings, spends=True)
    return None


def _hopping(
    course: Course,
    last: Tried | None,
    way: Way,
    standings: Standings,
    *,
    spends: bool = False,
    panic: bool = False,
) -> HopTo:
    reason: Literal["attempt_failed", "circuit_open", "cooling"] = "attempt_failed"
    failure = last.failure if last else None
    if last is None:
        first = standings[0][1].refusal
        cooling = first is not None and first.why == "cooling"
        reason, failure = "cooling" if cooling else "circuit_open", first.failure if first else None
    return HopTo(
        way=way,
        reason="panic" if panic else reason,
        failure=failure,
        panic=panic,
        spends=spends,
        twice=_twice(course),
    )


def _retry(
    course: Course, last: Tried, standings: Standings, rules: "Rules", chance: float
) -> RetryHere | None:
    """The same one again, if that may help and the wait is worth it."""
    may = AGAIN[last.failure] == "anywhere" or last.should_retry is True
    if not may or last.should_retry is False or course.sdk_retry:
        return None
    here = next((s for w, s in standings if w.circuit == last.circuit), None)
    refusal = here.refusal if here else None
    if here is None or (refusal is not None and refusal.why != "cooling"):
        return None
    times = sum(one.circuit == last.circuit for one in course.tried)
    after_s = max(
        backoff_s(times, rules, chance),
        last.wait_s or 0.0,
        refusal.retry_after_s if refusal else 0.0,
    )
    if after_s > max(rules.wait_max_s, rules.backoff_max_s) or after_s >= course.left_s:
        return None
    return RetryHere(after_s=after_s, twice=_twice(course))


def backoff_s(times: int, rules: "Rules", chance: float) -> float:
    """The wait after so many tries: any part of a bound that doubles ("full jitter")."""
    bound: float = min(rules.backoff_s * 2 ** (times - 1), rules.backoff_max_s)
    return bound * chance


def _panic(course: Course, last: Tried | None, standings: Standings) -> HopTo | None:
    """Nobody takes calls: the least bad of several providers is tried all the same."""
    if len({way.circuit.provider for way, _ in standings}) < 2:
        return None
    tried = {one.circuit for one in course.tried}
    resorts = [(w, s) for w, s in standings if s.last_resort and w.circuit not in tried]
    if not resorts:
        return None
    way, _ = min(resorts, key=lambda found: found[1].trips)
    return _hopping(course, last, way, standings, panic=True)


def _give_up(course: Course, last: Tried | None, standings: Standings) -> GiveUp:
    waits = [s.refusal.retry_after_s for _, s in standings if s.refusal is not None]
    soonest = min(waits, default=None)
    if last is None:
        return GiveUp(why="circuit_open", retry_after_s=soonest)
    asked = last.wait_s if soonest is None else soonest
    return GiveUp(why="nobody_left", retry_after_s=asked)


def _twice(course: Course) -> bool:
    return any(one.delivery in _PERHAPS_BILLED for one in course.tried)


# What headers say.

Header: TypeAlias = Callable[[str], str | None]
"""The first value of a header, by its name in lower case."""


def told_wait_s(header: Header, now_ms: int) -> float | None:
    """Seconds that a provider asks us to wait: `retry-after-ms`, or `retry-after` as seconds or a
    date (RFC 9110, section 10.2.3). None when it says nothing that can be read."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        told = header(name)
        if told is None:
            continue
        try:
            seconds = float(told) * unit
        except ValueError:
            seconds = _until(told, now_ms)
        if isfinite(seconds) and seconds >= 0:
            return seconds
    return None


def _until(date: str, now_ms: int) -> float:
    try:
        at = parsedate_to_datetime(date)
    except ValueError:
        return inf
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(at.timestamp() - now_ms / 1000, 0.0)


def told_should_retry(header: Header) -> bool | None:
    """What `x-should-retry` says; the vendors' own libraries obey it, too."""
    return {"true": True, "false": False}.get((header("x-should-retry") or "").strip().lower())


def sdk_retries(header: Header) -> int:
    """How often the client's library has tried this call before (`x-stainless-retry-count`)."""
    told = (header("x-stainless-retry-count") or "").strip()
    return int(told) if told.isascii() and told.isdigit() and len(told) < 4 else 0
