"""A small model of a circuit, written from the rules and not from the code: what it should do.

It keeps a list of calls where the code keeps bits, one mutable object where the code has three
frozen shapes, and answers with plain tuples. Slow and obvious on purpose.
"""

from math import inf
from typing import Any

from modelspend.breaker import WEIGHTS, Weight
from modelspend.receipt import FailureClass
from modelspend.sections import Circuits as Rules


class Model:
    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.phase = "closed"
        self.manual = False
        self.calls: list[str] = []  # "good", "bad" or "slow", oldest first
        self.row = 0  # failures in a row, which may be more than the window holds
        self.last_heard = -inf
        self.rest_until = -inf  # the provider asked for it
        self.retry_at = inf
        self.openings = 0
        self.closed_since = -inf
        self.failure: FailureClass | None = None
        self.generation = 0
        self.probes = 0
        self.probe: int | None = None  # the one that is out
        self.probe_until = -inf
        self.panicked_at = -inf

    # Each of these gives what follows: ("go", probe), ("wait", seconds, why) or ("moved", …).

    def ask(self, now: float, panic: bool) -> list[tuple[Any, ...]]:
        if self.phase == "closed":
            if now < self.rest_until:
                return [("wait", self.rest_until - now, "cooling")]
            return [("go", 0)]
        if self.manual:
            if now < self.retry_at:
                return [("wait", self.retry_at - now, "manual")]
            return [*self.close("trip_over", now), ("go", 0)]
        if self.probe is not None and now < self.probe_until:
            return [("wait", 1.0, "probing")]
        if self.phase == "half_open":
            if now < self.rest_until:
                return [("wait", self.rest_until - now, "cooling")]
            return [self.send_probe(now)]
        if now >= self.retry_at:
            self.phase, self.generation, self.probes = "half_open", self.generation + 1, 0
            said = (
                "moved",
                "open",
                "half_open",
                "wait_over",
                self.failure,
                0.0,
                self.openings,
                0,
                0,
            )
            return [said, self.send_probe(now)]
        rested = now >= self.rest_until and now - self.panicked_at >= self.rules.panic_s
        if panic and rested:
            self.panicked_at = now
            return [self.send_probe(now)]
        return [("wait", self.retry_at - now, "open")]

    def send_probe(self, now: float) -> tuple[Any, ...]:
        self.probes += 1
        self.probe, self.probe_until = self.probes, now + self.rules.probe_s
        return ("go", self.probe)

    def succeed(self, ticket: tuple[int, int], slow: bool, now: float, chance: float) -> Any:
        if self.phase == "closed":
            if ticket[0] != self.generation:
                return []
            self.remember("slow" if slow else "good", now)
            if slow and self.share("slow") >= self.rules.slow_rate:
                return self.open("slow", None, now, chance)
            return []
        if not self.is_probe(ticket):
            return []
        if slow and self.phase == "half_open":
            return self.open("slow", None, now, chance, rest_until=-inf)
        if slow:
            self.probe = None
            return []
        return self.close("probe_succeeded" if self.phase == "half_open" else "panic", now)

    def fail(
        self,
        ticket: tuple[int, int],
        failure: FailureClass,
        asked_s: float | None,
        own_key: bool,
        now: float,
        chance: float,
    ) -> Any:
        weight = WEIGHTS[failure]
        counts = weight is Weight.FAILURE or (weight is Weight.OURS and not own_key)
        rest = -inf
        if weight is Weight.COOLS or (asked_s is not None and weight is not Weight.NOTHING):
            wanted = self.rules.cool_s if asked_s is None else asked_s
            rest = now + min(max(wanted, 0), self.rules.cool_max_s)
        if self.phase == "closed":
            if ticket[0] != self.generation:
                return []
            self.rest_until = max(self.rest_until, rest)
            if not counts:
                return []
            self.remember("bad", now)
            if self.row >= self.rules.consecutive:
                return self.open("consecutive", failure, now, chance)
            if self.share("bad") >= self.rules.failure_rate:
                return self.open("failure_rate", failure, now, chance)
            return []
        if not self.is_probe(ticket):
            return []
        rest = max(rest, self.rest_until)
        if self.phase == "half_open" and counts:
            return self.open("probe_failed", failure, now, chance, rest_until=rest)
        self.probe, self.rest_until = None, rest
        self.retry_at = max(self.retry_at, rest)
        return []

    def cancel(self, ticket: tuple[int, int]) -> Any:
        if self.phase != "closed" and self.is_probe(ticket):
            self.probe = None
        return []

    def trip(self, for_s: float | None, now: float) -> Any:
        said = ("moved", self.phase, "open", "manual", None, for_s, self.openings, 0, 0)
        self.begin("open")
        self.manual = True
        self.retry_at = inf if for_s is None else now + for_s
        return [said]

    def reset(self, now: float) -> Any:
        said = ("moved", self.phase, "closed", "reset", None, 0.0, 0, 0, 0)
        was_open = self.phase != "closed"
        self.begin("closed")
        self.openings, self.closed_since = 0, now
        return [said] if was_open else []

    # What the rules say.

    def is_probe(self, ticket: tuple[int, int]) -> bool:
        return self.probe is not None and ticket == (self.generation, self.probe)

    def remember(self, how: str, now: float) -> None:
        if now - self.last_heard > self.rules.window_s:
            self.calls, self.row = [], 0
        self.last_heard = now
        self.calls = [*self.calls, how][-self.rules.window :]
        self.row = self.row + 1 if how == "bad" else 0

    def share(self, how: str) -> float:
        if len(self.calls) < self.rules.min_calls:
            return -1
        return self.calls.count(how) / len(self.calls)

    def open(
        self,
        why: str,
        failure: FailureClass | None,
        now: float,
        chance: float,
        rest_until: float | None = None,
    ) -> Any:
        old, calls, bad = self.phase, len(self.calls), self.calls.count("bad")
        if old == "half_open":
            calls = bad = 1
            self.openings = min(self.openings + 1, 32)
            failure = failure or self.failure
        else:
            well_for = now - self.closed_since
            self.openings = 1 if well_for > self.rules.forget_s else min(self.openings + 1, 32)
        rest = self.rest_until if rest_until is None else rest_until
        wait = min(self.rules.wait_s * 2 ** (self.openings - 1), self.rules.wait_max_s)
        wait -= wait * self.rules.jitter * chance
        wait = max(wait, rest - now)
        self.begin("open")
        self.rest_until, self.failure, self.retry_at = rest, failure, now + wait
        return [("moved", old, "open", why, failure, wait, self.openings, calls, bad)]

    def close(self, why: str, now: float) -> Any:
        said = ("moved", self.phase, "closed", why, None, 0.0, self.openings, 0, 0)
        self.begin("closed")
        self.closed_since = now
        return [said]

    def begin(self, phase: str) -> None:
        """A new phase forgets all but how often it opened."""
        openings, since, generation = self.openings, self.closed_since, self.generation
        self.__init__(self.rules)  # type: ignore[misc]
        self.phase, self.openings, self.closed_since = phase, openings, since
        self.generation = generation + 1
