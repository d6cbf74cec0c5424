"""Who takes a call: the first choice while its circuit lets it pass, else who comes next.

`retries.next_step` decides from values; here its decisions are carried out: a permit is taken, a
wait is waited, a hop is noted for the trail. What a reader would not guess: who else may answer is
found out only once somebody has failed or refused, so a call that goes well pays for none of it.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import random
from time import perf_counter

from modelspend.circuits import Circuits, Permit
from modelspend.errors import BadRequest, CircuitOpen, Cooling, Uncarriable, UnpairedToolCall
from modelspend.failovers import Failover
from modelspend.gateway.attempts import Attempts
from modelspend.gateway.call import Call
from modelspend.gateway.router import Router
from modelspend.gateway.target import Target
from modelspend.receipt import FailureClass
from modelspend.retries import (
    Course,
    GiveUp,
    HopTo,
    Repeats,
    RetryBudget,
    RetryHere,
    Tried,
    Way,
    next_step,
    sdk_retries,
)

_MOST_TURNS = 16
"""Steps of one call at most: circuits may change while it looks for its way."""


@dataclass(slots=True)
class Failovers:
    """Leads calls to who takes them. One for each process."""

    circuits: Circuits
    router: Router
    attempts: Attempts
    budget: RetryBudget
    repeats: Repeats
    now_ms: Callable[[], int]
    chance: Callable[[], float] = random
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def first(self, call: Call) -> None:
        """Begin the first attempt, at whoever takes it. Raises CircuitOpen when nobody does."""
        now = perf_counter()
        self.budget.called(now)
        leave = self.circuits.admit(call.target.circuit, now)
        if isinstance(leave, Permit):
            call.begin_try(call.target, self.now_ms(), leave)
            return
        call.refused_by.append(leave.circuit)
        end = await self._lead(call)
        if end is not None:
            raise _nobody(call, end, cooling=leave.why == "cooling")

    async def after(self, call: Call) -> bool:
        """Begin the next attempt of a call whose last one failed, if there is to be one."""
        end = await self._lead(call)
        if end is None:
            return True
        call.retry_after_s = end.retry_after_s
        self.repeats.failed(_mark(call), perf_counter())
        return False

    def withdraw(self, call: Call) -> None:
        """Take back the attempt that was begun last: it shall not be sent."""
        withdrawn = call.last
        call.withdraw()
        if withdrawn.target.circuit != call.last.target.circuit:  # else it was asked again
            call.not_led()

    async def _lead(self, call: Call) -> GiveUp | None:
        if call.chain is None:
            call.chain = await self._chain(call)
        for _ in range(_MOST_TURNS):
            course = self._course(call, call.chain)
            step = next_step(course, self.circuits, self.budget, perf_counter(), self.chance())
            match step:
                case GiveUp():
                    return step
                case HopTo():
                    begun = self._goes(call, call.chain, step)
                case RetryHere():
                    begun = await self._stays(call, step)
            if begun:
                return None
        return GiveUp(why="nobody_left")

    def _goes(self, call: Call, chain: Sequence[Target], hop: HopTo) -> bool:
        """Somebody else is asked, if its circuit still lets the call pass."""
        now = perf_counter()
        target = next(each for each in chain if each.circuit == hop.way.circuit)
        leave = self.circuits.admit(target.circuit, now, panic=hop.panic)
        if not isinstance(leave, Permit):
            call.refused_by.append(leave.circuit)
            return False
        if hop.spends:
            self.budget.spend(now)
        before = call.last.target if call.tries else call.target
        call.led(
            Failover(
                from_provider=before.provider.name,
                to_provider=target.provider.name,
                model_id=before.model,
                to_model_id=target.model,
                reason=hop.reason,
                decided_at_ms=self.now_ms(),
                failure_class=hop.failure,
                perhaps_twice=hop.twice,
            )
        )
        call.out = self.attempts.passage(call, target)
        call.begin_try(target, self.now_ms(), leave)
        return True

    async def _stays(self, call: Call, step: RetryHere) -> bool:
        """The same one is asked again after a wait, if its circuit still lets the call pass."""
        self.budget.spend(perf_counter())
        before = perf_counter()
        with suppress(TimeoutError):
            async with asyncio.timeout(step.after_s):
                await self.stopping.wait()
        call.waited += perf_counter() - before
        target = call.last.target
        leave = self.circuits.admit(target.circuit, perf_counter())
        if not isinstance(leave, Permit):
            call.refused_by.append(leave.circuit)
            return False
        call.begin_try(target, self.now_ms(), leave)
        return True

    async def _chain(self, call: Call) -> Sequence[Target]:
        """Who may answer: the first choice, then those in whose dialect the call can be said."""
        assert call.view is not None
        others = await self.router.others(call, call.view, call.ruling)
        return (call.target, *(each for each in others if self._can_be_said(call, each)))

    def _can_be_said(self, call: Call, target: Target) -> bool:
        try:
            self.attempts.passage(call, target)
        except (Uncarriable, UnpairedToolCall, BadRequest):
            return False
        return True

    def _course(self, call: Call, chain: Sequence[Target]) -> Course:
        now = perf_counter()
        tried = tuple(
            Tried(
                circuit=one.target.circuit,
                failure=one.failure,
                delivery=one.delivery,
                wait_s=one.wait_s,
                should_retry=one.should_retry,
            )
            for one in call.tries
            if one.failure is not None
            and (one is call.last or one.failure is not FailureClass.CLIENT_ERROR)
        )
        return Course(
            chain=[Way(circuit=each.circuit) for each in chain],
            tried=tried,
            content_sent=any(one.first_content is not None for one in call.tries[-1:]),
            sdk_retry=self._client_retries(call, now),
            left_s=self.attempts.limit_s(call) - (now - call.started),
        )

    def _client_retries(self, call: Call, now: float) -> bool:
        """Whether the client's own library tries again what has failed: it shall not multiply."""
        given = {name.lower(): value for name, value in call.request.headers}
        return sdk_retries(given.get) > 0 or self.repeats.again(_mark(call), now)


def _mark(call: Call) -> str:
    """What is the same call when it comes again."""
    return f"{call.caller.tenant} {call.asked_sha256}"


def _nobody(call: Call, end: GiveUp, *, cooling: bool) -> CircuitOpen:
    names = ", ".join(dict.fromkeys(f"{each.provider}/{each.model}" for each in call.refused_by))
    kind, why = (Cooling, "has asked for a rest") if cooling else (CircuitOpen, "keeps failing")
    return kind(
        f"Nobody takes this call now: {names} {why}.",
        "See `modelspend circuits list`; or give the profile more models: modelspend help failover",
        retry_after_s=end.retry_after_s,
    )
