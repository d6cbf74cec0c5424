"""Deliberately broken variants of the product, one for each invariant of the resilience part;
those of the caps are in `seeded_cap_faults`.

A variant is the product with some text replaced. When the product changes so that a text is no
longer there, the test says so: then write down how that invariant can be broken now.
"""

from typing import NamedTuple


class Edit(NamedTuple):
    """Replace `old`, which stands once in `file`, by `new`."""

    file: str
    old: str
    new: str


class Fault(NamedTuple):
    """An invariant, the tests that must notice (each of them), and how it is broken."""

    invariant: str
    tests: tuple[str, ...]
    edits: tuple[Edit, ...]


def fault(
    invariant: str, tests: str | tuple[str, ...], file: str, old: str, new: str, *more: Edit
) -> Fault:
    named = (tests,) if isinstance(tests, str) else tests
    return Fault(invariant, named, (Edit(file, old, new), *more))


BREAKER, RETRIES = "tests/test_breaker.py", "tests/test_retries.py"
HALF_OPEN = "tests/gateway/test_half_open.py"
FAILOVER, HOPS = "tests/gateway/test_failover.py", "tests/gateway/test_hops.py"
LEAVING, CUTS = "tests/gateway/test_leaving.py", "tests/gateway/test_cuts.py"
KILL, STORM = "tests/chaos/test_kill_circuits.py", "tests/chaos/test_storm.py"
SDK = "tests/sdk/test_failover.py"
LEDGER = "tests/store/test_circuits.py"

FAULTS = (
    # The circuit.
    fault(
        "half open, one call at a time passes",
        HALF_OPEN,
        "breaker.py",
        "    if state.probing and now < state.lease:\n"
        '        return state, (Wait(SOON_S, "probing", state.failure),)\n'
        "    if now < state.cool_until:",
        "    if now < state.cool_until:",
    ),
    fault(
        "a probe whose client leaves gives its permit back",
        LEAVING,
        "breaker.py",
        "    return replace(state, probing=False, cool_until=cool_until), _NOTHING\n\n\n"
        "def _asked_half_open",
        "    return replace(state, cool_until=cool_until), _NOTHING\n\n\ndef _asked_half_open",
    ),
    fault(
        "a permit that was not used is given back",
        HOPS,
        "gateway/call.py",
        "            one.permit.cancelled(perf_counter())",
        "            pass",
    ),
    fault(
        "a probe that fails opens the circuit again",
        BREAKER,
        "breaker.py",
        '        return _opened_again(state, "probe_failed"',
        '        return _recovered(state, "probe_succeeded", now)\n'
        '        return _opened_again(state, "probe_failed"',
    ),
    fault(
        "a probe without an end is given up after a while",
        BREAKER,
        "breaker.py",
        "        lease=now + rules.probe_s,\n    )\n    moved",
        "        lease=inf,\n    )\n    moved",
    ),
    fault(
        "what the caller got wrong opens nothing",
        BREAKER,
        "breaker.py",
        "FailureClass.CLIENT_ERROR: Weight.NOTHING",
        "FailureClass.CLIENT_ERROR: Weight.FAILURE",
    ),
    fault(
        "a client that leaves says nothing of the provider",
        LEAVING,
        "breaker.py",
        "FailureClass.CLIENT_GONE: Weight.NOTHING",
        "FailureClass.CLIENT_GONE: Weight.FAILURE",
    ),
    fault(
        "a 429 cools and opens nothing",
        BREAKER,
        "breaker.py",
        "FailureClass.RATE_LIMIT: Weight.COOLS",
        "FailureClass.RATE_LIMIT: Weight.FAILURE",
    ),
    fault(
        "slow calls open it",
        BREAKER,
        "breaker.py",
        "        if event.slow and _too_many(heard.slow, heard.calls, rules.slow_rate, rules):",
        "        if False:",
    ),
    fault(
        "waits grow up to a ceiling",
        BREAKER,
        "breaker.py",
        "min(rules.wait_s * 2 ** (trips - 1), rules.wait_max_s)",
        "rules.wait_s * 2 ** (trips - 1)",
    ),
    fault(
        "waits are spread by chance",
        BREAKER,
        "breaker.py",
        "longest * (1 - rules.jitter * chance)",
        "longest",
    ),
    fault(
        "what comes late changes nothing",
        BREAKER,
        "breaker.py",
        "event.ticket.epoch != state.epoch or isinstance(event, Cancelled)",
        "isinstance(event, Cancelled)",
    ),
    fault(
        "what a hand has tripped is never tried, not even in panic",
        BREAKER,
        "breaker.py",
        "    if state.manual:\n"
        '        return state, (Wait(state.until - now, "manual"),)\n'
        "    if state.probing",
        "    if state.probing",
    ),
    fault(
        "ten thousand random lives are as the model says",
        BREAKER,
        "breaker.py",
        "streak=streak + 1 if failed else 0",
        "streak=streak + 1 if failed else streak",
    ),
    # Over a restart.
    fault(
        "each move of a circuit is in the ledger",
        KILL,
        "server/circuits.py",
        "        store.circuits.moved(transition, live.gateway.now_ms(), drill)",
        "        pass",
    ),
    fault(
        "a start takes up what the last process left",
        KILL,
        "server/circuits.py",
        "    live.circuits.restore(await store.circuits.saved(), perf_counter(),"
        " live.gateway.now_ms())\n",
        "",
    ),
    fault(
        "a wait goes on where it was",
        KILL,
        "circuits.py",
        "min(max(retry_at - wall_ms, 0) / 1000, whole, most_s)",
        "min(whole, most_s)",
    ),
    fault(
        "what was half open is asked again at once",
        KILL,
        "circuits.py",
        "    left = 0.0\n    if saved.phase is Phase.OPEN:",
        "    left = 5.0\n    if saved.phase is Phase.OPEN:",
    ),
    # What is tried again.
    fault(
        "failures before the first content are led round",
        FAILOVER,
        "gateway/life.py",
        "        if not await self.failovers.after(call):\n",
        "        if True:\n",
    ),
    fault(
        "nobody else is asked after the first content",
        f"{FAILOVER}::test_a_failure_after_the_first_content_is_told_and_nobody_else_is_asked",
        "gateway/relay.py",
        "self._reader.note.content or self._closed",
        "self._closed",
        Edit(
            "gateway/relay.py", "        if note.content:\n", "        if self._broken is None:\n"
        ),
        Edit("retries.py", "    if course.content_sent:\n", "    if False:\n"),
        Edit("gateway/answering.py", "await relay.begin(self.hold_s)", "await relay.begin(9)"),
    ),
    fault(
        "a beginning is held back for so long and no longer",
        HOPS,
        "gateway/relay.py",
        "asyncio.timeout(hold_s)",
        "asyncio.timeout(None)",
    ),
    fault(
        "an error inside a 200 is a failure",
        FAILOVER,
        "gateway/relay.py",
        "        elif note.error is not None:\n",
        "        elif False:\n",
    ),
    fault(
        "a stream without its end is a failure",
        FAILOVER,
        "gateway/relay.py",
        "        if not self._reader.note.ended and self._reader.note.error is None:\n",
        "        if False:\n",
    ),
    fault(
        "the caller's own fault is told at once",
        FAILOVER,
        "retries.py",
        '    FailureClass.CLIENT_ERROR: "caller"',
        '    FailureClass.CLIENT_ERROR: "anywhere"',
    ),
    fault(
        "a lone provider that is open refuses at once",
        RETRIES,
        "retries.py",
        "    if len({way.circuit.provider for way, _ in standings}) < 2:\n        return None\n",
        "",
    ),
    fault(
        "of several that are all open the least bad is tried",
        FAILOVER,
        "retries.py",
        "    if not resorts:\n",
        "    if True:\n",
    ),
    fault(
        "panic stays limited to a call now and then",
        FAILOVER,
        "breaker.py",
        "now < state.cool_until or now - state.tried_at < rules.panic_s",
        "now < state.cool_until",
    ),
    fault(
        "no more than a share of all calls is repeated",
        STORM,
        "retries.py",
        "max(self.rules.floor, self.rules.share * self._total)",
        "max(self.rules.floor, self._total)",
    ),
    fault(
        "the first hop to one that is well never waits for the budget",
        RETRIES,
        "retries.py",
        "free = last is None or (standing.closed and len(providers) == 1)",
        "free = last is None",
    ),
    fault(
        "one of two may be dead and no client notices",
        f"{STORM}::test_one_of_two_providers_is_dead_and_no_client_notices",
        "retries.py",
        "in sorted(others, key=lambda found: not found[1].closed):",
        "in ():",
    ),
    fault(
        "a call that a circuit refuses goes to the next who may answer",
        f"{HOPS}::test_a_call_that_the_circuit_of_its_provider_refuses_goes_to_the_next",
        "gateway/failover.py",
        "        call.refused_by.append(leave.circuit)\n        end = await self._lead(call)\n",
        "        call.refused_by.append(leave.circuit)\n"
        '        end: GiveUp | None = GiveUp(why="circuit_open")\n',
    ),
    fault(
        "Retry-After is obeyed",
        RETRIES,
        "retries.py",
        "        last.wait_s or 0.0,\n",
        "",
    ),
    fault(
        "x-should-retry is obeyed",
        RETRIES,
        "retries.py",
        "if not may or last.should_retry is False or course.sdk_retry:",
        "if not may or course.sdk_retry:",
    ),
    fault(
        "the retries of a client's library are not multiplied",
        SDK,
        "retries.py",
        "if not may or last.should_retry is False or course.sdk_retry:",
        "if not may or last.should_retry is False:",
    ),
    # Clients that leave, and what is left behind.
    fault(
        "a client that leaves before a second try ends its call",
        LEAVING,
        "gateway/failover.py",
        "        with suppress(TimeoutError):\n"
        "            async with asyncio.timeout(step.after_s):",
        "        with suppress(TimeoutError, asyncio.CancelledError):\n"
        "            async with asyncio.timeout(step.after_s):",
    ),
    fault(
        "a client that leaves while a beginning is held back frees the provider",
        LEAVING,
        "gateway/ending.py",
        "            call.reply.close()\n",
        "            pass\n",
    ),
    fault(
        "no stream stays open of a call that has ended",
        LEAVING,
        "gateway/life.py",
        "                    self.answering.drop(opened)\n",
        "                    opened.reply.close()\n",
    ),
    fault(
        "an attempt that broke off is let go of",
        HOPS,
        "gateway/upstream.py",
        "                self.close()\n                raise AttemptFailed(broken.failure",
        "                raise AttemptFailed(broken.failure",
    ),
    # Money and trail.
    fault(
        "a later attempt is durable before its first byte",
        HOPS,
        "gateway/purse.py",
        "        await self._store.calls.hop(\n            call.receipt_id,\n            one.n,\n"
        "            one.target.provider.name,\n            one.target.model,\n"
        "            one.started_at_ms,\n            holds,\n            hold_pico=one.hold_pico,\n"
        "            freed=[each.n for each in freed if each.hold_pico],\n        )\n",
        "",
    ),
    fault(
        "a later attempt holds what it may cost, or is not made",
        HOPS,
        "gateway/purse.py",
        "        holds = await self.hold(call)\n        await self._store.calls.hop(",
        "        holds = ()\n        await self._store.calls.hop(",
    ),
    fault(
        "what may have been accepted is not said to be unsent",
        CUTS,
        "gateway/upstream.py",
        "if line is None or not line.sent else Delivery.MAYBE_ACCEPTED",
        "",
    ),
    fault(
        "what is not known is charged as it was held",
        CUTS,
        "gateway/settle.py",
        "known if one.sure else max(known, one.hold_pico)",
        "known",
    ),
    fault(
        "what was paid for twice is charged twice",
        CUTS,
        "gateway/settle.py",
        "for one in call.tries]\n        costs",
        "for one in call.tries[-1:]]\n        costs",
    ),
    fault(
        "what is cut is never told as whole",
        CUTS,
        "gateway/relay.py",
        "            now = await self._broke_off(failed)\n"
        "            yield now\n"
        "            return\n",
        "            self._reader.note.ended = True\n",
    ),
    fault(
        "each hop is in the trail",
        FAILOVER,
        "gateway/settle.py",
        "            failovers=tuple(call.hops),\n",
        "            failovers=(),\n",
    ),
    fault(
        "an incident opens with its circuit",
        LEDGER,
        "store/circuits.py",
        '        told["incident_id"] = touch_or_open(book, circuit, moved, at_ms, drill)\n',
        "        pass\n",
    ),
    fault(
        "an incident ends when its circuit recovers",
        LEDGER,
        "store/circuits.py",
        "        told |= resolve(book, circuit, moved.why, at_ms)\n",
        "        pass\n",
    ),
    fault(
        "a failover is reproduced by the policy that was in force",
        "tests/gateway/test_backtest_failovers.py",
        "gateway/backtest.py",
        'return (decision["provider"], decision["model_id"]) if decision["provider"] else None',
        'return (past.provider, past.model) if decision["provider"] else None',
    ),
)
