"""The circuits of a process: permits, what hands trip, and what a restart takes up again."""

import asyncio
import random
import timeit
from dataclasses import replace
from math import inf

import pytest

from modelspend import circuits as circuits_module
from modelspend import tasks as tasks_module
from modelspend.breaker import Moved, Open, Phase
from modelspend.circuits import (
    ANY,
    READY,
    CircuitKey,
    Circuits,
    Order,
    Permit,
    Refusal,
    Saved,
    Snapshot,
    Transition,
    restored,
)
from modelspend.receipt import FailureClass
from modelspend.sections import Circuits as Rules

BAD = FailureClass.SERVER_ERROR
GPT, CLAUDE = CircuitKey("openai", "gpt-4.1"), CircuitKey("anthropic", "claude-sonnet-4-6")
RULES = Rules(jitter=0)
HOUR_MS = 3_600_000


def made(rules: Rules = RULES) -> tuple[Circuits, list[Transition]]:
    told: list[Transition] = []
    circuits = Circuits(rules)
    circuits.listeners.append(told.append)
    return circuits, told


def allowed(circuits: Circuits, key: CircuitKey, now: float, *, panic: bool = False) -> Permit:
    permit = circuits.admit(key, now, panic=panic)
    assert isinstance(permit, Permit), permit
    return permit


def refused(circuits: Circuits, key: CircuitKey, now: float, *, panic: bool = False) -> Refusal:
    refusal = circuits.admit(key, now, panic=panic)
    assert isinstance(refusal, Refusal)
    return refusal


def broken(circuits: Circuits, key: CircuitKey, now: float) -> None:
    for _ in range(5):
        allowed(circuits, key, now).failed(BAD, now)


def moves(told: list[Transition]) -> list[tuple[str, str, str]]:
    return [(each.moved.old.value, each.moved.new.value, each.moved.why) for each in told]


# Permits.


def test_each_provider_model_and_key_has_a_circuit_of_its_own() -> None:
    circuits, told = made()
    broken(circuits, GPT, 10.0)
    assert [(each.circuit, each.moved.new) for each in told] == [(GPT, Phase.OPEN)]
    assert refused(circuits, GPT, 10.0) == Refusal(
        circuit=GPT, retry_after_s=15.0, why="open", failure=BAD
    )
    for other in (
        CircuitKey("openai", "gpt-5"),
        CircuitKey("azure", "gpt-4.1"),
        GPT._replace(key="k"),
    ):
        allowed(circuits, other, 10.0)


def test_the_first_word_of_a_permit_stands() -> None:
    circuits, _ = made()
    for _ in range(5):
        permit = allowed(circuits, GPT, 0.0)
        permit.cancelled(0.0)
        permit.failed(BAD, 0.0)
        permit.succeeded(0.0)
    view = next(circuits.views(0.0), None)
    assert view is None, "a call that told nothing leaves nothing"
    for _ in range(9):
        permit = allowed(circuits, GPT, 0.0)
        permit.succeeded(0.0)
        permit.failed(BAD, 0.0)
    assert next(circuits.views(0.0)).failures == 0


def test_a_callers_own_key_is_told_from_the_sidecars_by_the_circuit() -> None:
    circuits, _ = made()
    own = GPT._replace(key="fingerprint")
    for _ in range(20):
        allowed(circuits, own, 0.0).failed(FailureClass.AUTH, 0.0)
    for _ in range(5):
        allowed(circuits, GPT, 0.0).failed(FailureClass.AUTH, 0.0)
    refused(circuits, GPT, 0.0)


def test_a_stream_is_slow_by_its_first_byte_and_a_whole_answer_never_is() -> None:
    circuits, _ = made()
    for _ in range(20):
        allowed(circuits, GPT, 0.0).succeeded(0.0, None)
        allowed(circuits, GPT, 0.0).succeeded(0.0, 29.9)
    assert next(circuits.views(0.0)).slow == 0
    for _ in range(40):
        permit = circuits.admit(GPT, 0.0)
        if isinstance(permit, Permit):
            permit.succeeded(0.0, 30.0)
    assert refused(circuits, GPT, 0.0).why == "open"


def test_retry_after_reaches_the_circuit() -> None:
    circuits, told = made()
    allowed(circuits, GPT, 0.0).failed(FailureClass.RATE_LIMIT, 0.0, 12.0)
    assert refused(circuits, GPT, 2.0).retry_after_s == 10.0
    assert refused(circuits, GPT, 2.0).why == "cooling"
    assert not told, "a rest is no move"


def test_a_permit_that_is_no_probe_waits_for_the_end() -> None:
    circuits, _ = made()
    permit = allowed(circuits, GPT, 0.0)
    permit.answering(1.0, 40.0)
    permit.failed(BAD, 2.0)
    (view,) = circuits.views(2.0)
    assert (view.calls, view.failures, view.slow) == (1, 1, 0)
    late = allowed(circuits, GPT, 3.0)
    late.succeeded(4.0, 40.0)
    late.answering(5.0, 40.0)
    assert next(circuits.views(5.0)).slow == 1


def test_a_probe_that_is_cancelled_makes_room_for_the_next_and_tells_nothing_any_more() -> None:
    circuits, _ = made()
    broken(circuits, GPT, 0.0)
    probe = allowed(circuits, GPT, 15.0)
    assert refused(circuits, GPT, 15.0).why == "probing"
    probe.cancelled(15.0)
    probe.answering(15.0)
    assert allowed(circuits, GPT, 15.0).probe
    probe.succeeded(15.0)
    assert refused(circuits, GPT, 15.0).why == "probing"


def test_nobody_is_asked_in_panic_unless_that_is_said() -> None:
    circuits, _ = made()
    broken(circuits, GPT, 0.0)
    refused(circuits, GPT, 5.0)
    assert allowed(circuits, GPT, 5.0, panic=True).probe


def test_a_probes_first_content_lets_the_others_in_and_its_end_still_counts() -> None:
    circuits, told = made()
    broken(circuits, GPT, 0.0)
    probe = allowed(circuits, GPT, 15.0)
    assert probe.probe
    assert refused(circuits, GPT, 15.0).why == "probing"
    probe.answering(16.0, 1.0)
    allowed(circuits, GPT, 16.0).answering(16.0)
    assert not probe.probe
    probe.answering(16.5)
    probe.failed(BAD, 17.0)
    assert next(circuits.views(17.0)).streak == 1
    assert moves(told) == [
        ("closed", "open", "consecutive"),
        ("open", "half_open", "wait_over"),
        ("half_open", "closed", "probe_succeeded"),
    ]


def test_a_probes_slow_first_content_is_its_last_word() -> None:
    circuits, told = made()
    broken(circuits, GPT, 0.0)
    probe = allowed(circuits, GPT, 15.0)
    probe.answering(60.0, 45.0)
    probe.succeeded(61.0)
    assert moves(told)[-1] == ("half_open", "open", "slow")
    assert refused(circuits, GPT, 61.0).why == "open"


def test_switched_off_it_counts_nothing_and_refuses_nobody_but_by_hand() -> None:
    circuits, _ = made(Rules(enabled=False))
    for _ in range(50):
        allowed(circuits, GPT, 0.0).failed(BAD, 0.0, 60.0)
    assert circuits.standing(GPT, 0.0) is READY
    circuits.trip("openai", None, 0.0, None)
    assert refused(circuits, GPT, 0.0).why == "manual"
    standing = circuits.standing(GPT, 0.0)
    assert (standing.ready, standing.closed, standing.last_resort) == (False, False, False)
    assert standing.refusal == refused(circuits, GPT, 0.0)


class Crowd:
    """Calls that all come at once, some of which are cancelled; counts the probes that are out."""

    def __init__(self, circuits: Circuits) -> None:
        self.circuits = circuits
        self.rng = random.Random(4)
        self.out = self.most = self.probes = self.cancelled = 0

    async def call(self, now: float) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            permit = self.circuits.admit(GPT, now)
            if isinstance(permit, Permit) and permit.probe:
                await self.probe(permit, now)

    async def probe(self, permit: Permit, now: float) -> None:
        self.probes += 1
        self.out += 1
        self.most = max(self.most, self.out)
        try:
            for _ in range(self.rng.randrange(6)):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled += 1
            self.out -= 1
            permit.cancelled(now)
            raise
        self.out -= 1
        match self.rng.randrange(4):
            case 0:
                permit.failed(FailureClass.CLIENT_ERROR, now)
            case 1:
                permit.failed(BAD, now)
            case 2:
                permit.cancelled(now)
            case _:
                permit.succeeded(now)

    async def come(self, count: int, now: float) -> None:
        tasks = [tasks_module.spawn(self.call(now), "caller") for _ in range(count)]
        for _ in range(6):
            await asyncio.sleep(0)
            for task in self.rng.sample(tasks, count // 10):
                task.cancel()
        await asyncio.wait(tasks)


async def test_of_500_at_once_one_is_the_probe_a_hundred_times_over() -> None:
    """Half open under a crowd: never two probes out, and no permit is lost however they end."""
    circuits, _ = made(Rules(jitter=0, wait_s=1, wait_max_s=1, probe_s=1000))
    crowd, now = Crowd(circuits), 0.0
    for _ in range(100):
        broken(circuits, GPT, now)
        now += 1.0
        await crowd.come(500, now)
        assert crowd.most == 1
        assert crowd.out == 0
        now += 1.0
        last = circuits.admit(GPT, now)
        assert isinstance(last, Permit), "a permit leaked: nobody is let through any more"
        last.succeeded(now)
        assert circuits.standing(GPT, now) is READY
    print(
        f"\n{100 * 500} calls, {crowd.probes} probes ({crowd.cancelled} cancelled half-way),"
        f" never more than {crowd.most} out, 0 permits leaked"
    )
    assert crowd.probes >= 100
    assert crowd.cancelled >= 5


# How they stand.


def test_looking_changes_nothing_and_says_what_asking_would() -> None:
    circuits, told = made()
    assert circuits.standing(GPT, 0.0) is READY
    broken(circuits, GPT, 0.0)
    del told[:]
    for _ in range(3):
        standing = circuits.standing(GPT, 14.0)
        assert (standing.ready, standing.closed) == (False, False)
        assert standing.last_resort
        assert standing.trips == 1
        assert standing.refusal == Refusal(circuit=GPT, retry_after_s=1.0, why="open", failure=BAD)
        later = circuits.standing(GPT, 15.0)
        assert (later.ready, later.closed) == (True, False)
    assert not told
    allowed(circuits, GPT, 14.0, panic=True)
    assert not circuits.standing(GPT, 14.5).last_resort
    allowed(circuits, CLAUDE, 0.0).failed(FailureClass.RATE_LIMIT, 0.0, 30.0)
    resting = circuits.standing(CLAUDE, 1.0)
    assert (resting.ready, resting.last_resort) == (False, False)
    assert circuits.standing(CLAUDE, 30.0) is READY


def test_a_snapshot_names_who_refuses_now() -> None:
    circuits, _ = made()
    assert circuits.snapshot(0.0) == Snapshot()
    broken(circuits, GPT, 0.0)
    allowed(circuits, CLAUDE, 0.0).failed(FailureClass.RATE_LIMIT, 0.0, 5.0)
    circuits.trip("groq", None, 0.0, 100.0)
    circuits.trip("mistral", "small", 0.0, None)
    assert Snapshot().refuses(*GPT) is False
    seen = circuits.snapshot(1.0)
    assert seen.refused == {
        GPT,
        CLAUDE,
        CircuitKey("groq", ANY, ANY),
        CircuitKey("mistral", "small", ANY),
    }
    assert seen.refuses(*GPT)
    assert not seen.refuses("openai", "gpt-4.1", "own")
    assert seen.refuses("groq", "any", "own")
    assert seen.refuses("mistral", "small")
    assert not seen.refuses("mistral", "large")
    later = circuits.snapshot(15.0)
    assert not later.refuses(*GPT), "who may be probed is not refused, or it would never be"
    assert not later.refuses(*CLAUDE)
    allowed(circuits, GPT, 15.0).succeeded(15.0)
    allowed(circuits, CLAUDE, 15.0).succeeded(15.0)
    circuits.reset("mistral", None, 15.0)
    assert circuits.snapshot(100.0) == Snapshot()
    assert circuits._unwell == set()


def test_a_client_that_asks_for_a_thousand_models_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(circuits_module, "MOST", 10)
    circuits, _ = made()
    broken(circuits, GPT, 0.0)
    for n in range(1000):
        allowed(circuits, CircuitKey("openai", f"m{n}"), 0.0).failed(BAD, 0.0, 9.0)
    assert len(list(circuits.views(0.0))) == 10
    assert len(circuits._unwell) <= 10
    refused(circuits, GPT, 1.0)
    for n in range(20):
        broken(circuits, CircuitKey("openai", f"b{n}"), 0.0)
    assert len(list(circuits.views(0.0))) == 10


def test_the_way_of_a_call_costs_some_microseconds() -> None:
    circuits, _ = made()

    def call() -> None:
        permit = circuits.admit(GPT, 1.0)
        assert isinstance(permit, Permit)
        permit.succeeded(2.0, 0.3)

    for _ in range(100):
        call()
    n = 20_000
    admit = min(timeit.repeat(lambda: circuits.admit(GPT, 1.0), number=n, repeat=5)) / n
    whole = min(timeit.repeat(call, number=n, repeat=5)) / n
    look = min(timeit.repeat(lambda: circuits.snapshot(1.0), number=n, repeat=5)) / n
    told = {"admit": admit, "with its end": whole, "snapshot": look}
    print("\n" + ", ".join(f"{name} {took * 1e6:.2f} us" for name, took in told.items()))
    assert admit < 6e-6, "twice of what it may cost, for a busy machine"
    assert whole < 12e-6


# By hand.


def test_a_trip_holds_a_model_or_a_whole_provider_for_every_key() -> None:
    circuits, told = made()
    circuits.trip("openai", "gpt-4.1", 0.0, None)
    assert refused(circuits, GPT, 5.0).circuit == CircuitKey("openai", "gpt-4.1", ANY)
    assert refused(circuits, GPT._replace(key="own"), 5.0).why == "manual"
    assert refused(circuits, GPT, 5.0, panic=True).retry_after_s == inf
    assert not circuits.standing(GPT, 5.0).last_resort
    allowed(circuits, CircuitKey("openai", "gpt-5"), 5.0)
    circuits.trip("openai", None, 5.0, 60.0)
    assert refused(circuits, CircuitKey("openai", "gpt-5"), 6.0).retry_after_s == 59.0
    allowed(circuits, CLAUDE, 6.0)
    assert circuits.standing(CLAUDE, 6.0) is READY
    allowed(circuits, CircuitKey("openai", "gpt-5"), 65.0)
    assert moves(told) == [
        ("closed", "open", "manual"),
        ("closed", "open", "manual"),
        ("open", "closed", "trip_over"),
    ]
    assert told[-1].circuit == CircuitKey("openai", ANY, ANY)
    refused(circuits, GPT, 65.0)


def test_a_reset_closes_what_its_name_covers() -> None:
    circuits, told = made()
    other = CircuitKey("openai", "gpt-5")
    for key in (GPT, GPT._replace(key="own"), other, CLAUDE):
        broken(circuits, key, 0.0)
    circuits.trip("openai", "gpt-4.1", 0.0, None)
    circuits.trip("openai", None, 0.0, None)
    assert circuits.reset("openai", "gpt-4.1", 1.0) == 3
    assert refused(circuits, GPT, 1.0).circuit.model == ANY
    assert circuits.reset("openai", None, 1.0) == 2
    for key in (GPT, GPT._replace(key="own"), other):
        allowed(circuits, key, 1.0)
    refused(circuits, CLAUDE, 1.0)
    assert circuits.reset("openai", None, 1.0) == 0
    assert [each.moved.why for each in told].count("reset") == 5


def test_views_show_what_an_operator_asks_for() -> None:
    circuits, _ = made()
    circuits.trip("groq", None, 0.0, None)
    circuits.trip("mistral", "small", 0.0, 60.0)
    own = GPT._replace(key="fingerprint")
    broken(circuits, own, 0.0)
    allowed(circuits, CLAUDE, 0.0).succeeded(0.0, 40.0)
    allowed(circuits, CLAUDE, 0.0).failed(FailureClass.OVERLOADED, 0.0, 8.0)
    shapes = [view.to_json(HOUR_MS) for view in circuits.views(5.0)]
    nothing = {
        "state": "closed", "reason": None, "failure_class": None, "manual": False, "trips": 0,
        "since": None, "retry_at": None, "cooling_until": None, "probing": False,
        "calls": 0, "failures": 0, "slow": 0, "streak": 0,
    }  # fmt: skip
    since = {"since": "1970-01-01T00:59:55.000Z"}
    by_hand = {**nothing, **since, "state": "open", "reason": "manual", "manual": True}
    assert shapes == [
        {**by_hand, "provider": "groq", "model_id": None, "key_id": None},
        {
            **by_hand,
            "provider": "mistral",
            "model_id": "small",
            "key_id": None,
            "retry_at": "1970-01-01T01:00:55.000Z",
        },
        {
            **nothing,
            **since,
            "provider": "openai",
            "model_id": "gpt-4.1",
            "key_id": "fingerprint",
            "state": "open",
            "reason": "consecutive",
            "failure_class": "server_error",
            "trips": 1,
            "retry_at": "1970-01-01T01:00:10.000Z",
        },
        {
            **nothing,
            "provider": "anthropic",
            "model_id": "claude-sonnet-4-6",
            "key_id": None,
            "cooling_until": "1970-01-01T01:00:03.000Z",
            "calls": 2,
            "failures": 1,
            "slow": 1,
            "streak": 1,
        },
    ]


def test_views_show_a_probe_that_is_out_and_a_rest_until_it_is_over() -> None:
    circuits, _ = made(Rules(jitter=0, probe_s=10))
    broken(circuits, GPT, 0.0)
    assert next(circuits.views(20.0)).wait_s == 0.0
    probe = allowed(circuits, GPT, 20.0)
    (view,) = circuits.views(25.0)
    assert (view.phase, view.probing, view.wait_s) == (Phase.HALF_OPEN, True, None)
    assert next(circuits.views(30.0)).probing is False
    probe.failed(FailureClass.RATE_LIMIT, 30.0, 5.0)
    (view,) = circuits.views(31.0)
    assert (view.cooling_s, view.probing, view.trips) == (4.0, False, 1)
    assert next(circuits.views(35.0)).cooling_s is None
    allowed(circuits, GPT, 35.0).succeeded(35.0)
    (view,) = circuits.views(36.0)
    assert (view.phase, view.trips, view.since_s, view.cooling_s) == (Phase.CLOSED, 1, 1.0, None)
    allowed(circuits, GPT, 36.0).failed(FailureClass.RATE_LIMIT, 36.0, 5.0)
    assert next(circuits.views(41.0)).cooling_s is None


@pytest.mark.parametrize(
    ("until", "wait"), [(None, inf), (9000, 9.0), (1, 0.001), (0, None), (-1, None)]
)
def test_an_order_whose_time_is_over_trips_nothing(until: int | None, wait: float | None) -> None:
    circuits, told = made()
    until_ms = None if until is None else HOUR_MS + until
    order = Order(act="trip", provider="openai", model="gpt-4.1", at_ms=0, until_ms=until_ms)
    circuits.obey(order, 0.0, HOUR_MS)
    refusal = circuits.standing(GPT, 0.0).refusal
    assert (None if refusal is None else refusal.retry_after_s) == wait
    circuits.obey(replace(order, act="reset"), 0.0, HOUR_MS)
    assert circuits.standing(GPT, 0.0).ready
    assert len(told) == (0 if wait is None else 2)


# Over a restart.


def saved(
    phase: Phase, *, ago_s: float, wait_s: float | None = 60.0, manual: bool = False, trips: int = 3
) -> Saved:
    changed = HOUR_MS * 100 - round(ago_s * 1000)
    return Saved(
        circuit=GPT,
        phase=phase,
        why="manual" if manual else "consecutive",
        changed_at_ms=changed,
        retry_at_ms=None if wait_s is None else changed + round(wait_s * 1000),
        failure=BAD,
        manual=manual,
        trips=trips,
    )


@pytest.mark.parametrize(
    ("one", "left"),
    [
        (saved(Phase.OPEN, ago_s=10), 50.0),
        (saved(Phase.OPEN, ago_s=60), 0.0),
        (saved(Phase.OPEN, ago_s=3000), 0.0),
        (saved(Phase.OPEN, ago_s=3600), 0.0),
        (saved(Phase.OPEN, ago_s=3601), None),
        (saved(Phase.HALF_OPEN, ago_s=1), 0.0),
        (saved(Phase.CLOSED, ago_s=1, trips=0), None),
        # the wall clock went back: never longer than it was to be, or than a wait may be
        (saved(Phase.OPEN, ago_s=-86_400), 60.0),
        (saved(Phase.OPEN, ago_s=0, wait_s=86_400), 300.0),
        (saved(Phase.OPEN, ago_s=0, wait_s=-5), 0.0),
        # a hand's trip does not age
        (saved(Phase.OPEN, ago_s=86_400 * 30, wait_s=None, manual=True), inf),
        (saved(Phase.OPEN, ago_s=600, wait_s=1000, manual=True), 400.0),
        (saved(Phase.OPEN, ago_s=600, wait_s=500, manual=True), 0.0),
        (saved(Phase.OPEN, ago_s=-86_400, wait_s=500, manual=True), 500.0),
    ],
)
def test_a_state_is_taken_up_with_the_wait_that_is_left(one: Saved, left: float | None) -> None:
    state = restored(one, 50.0, HOUR_MS * 100, RULES)
    if left is None:
        assert state is None
        return
    assert isinstance(state, Open)
    assert state.until - 50.0 == pytest.approx(left)
    assert state.manual is one.manual
    assert state.trips == (0 if one.manual else 3)
    assert state.failure is (None if one.manual else BAD)


def test_a_restart_forgets_no_wait_and_asks_what_was_half_open_at_once() -> None:
    circuits, told = made()
    circuits.restore(
        [
            saved(Phase.OPEN, ago_s=10),
            Saved(
                circuit=CLAUDE,
                phase=Phase.HALF_OPEN,
                why="wait_over",
                changed_at_ms=HOUR_MS * 100,
                retry_at_ms=None,
                failure=BAD,
                trips=2,
            ),
        ],
        7.0,
        HOUR_MS * 100,
    )
    assert refused(circuits, GPT, 7.0).retry_after_s == pytest.approx(50.0)
    assert circuits.snapshot(7.0).refused == {GPT}
    probe = allowed(circuits, CLAUDE, 7.0)
    assert probe.probe
    refused(circuits, CLAUDE, 7.0)
    probe.failed(BAD, 7.0)
    assert told[-1].moved == Moved(Phase.HALF_OPEN, Phase.OPEN, "probe_failed", BAD, 60.0, 3, 1, 1)


def test_a_restart_says_so_when_something_is_too_old_to_count() -> None:
    circuits, told = made()
    circuits.restore([saved(Phase.OPEN, ago_s=7200)], 7.0, HOUR_MS * 100)
    circuits.restore([saved(Phase.CLOSED, ago_s=7200)], 7.0, HOUR_MS * 100)
    allowed(circuits, GPT, 7.0)
    assert moves(told) == [("open", "closed", "forgotten")]


def test_a_restart_keeps_a_hands_trip_for_all_keys() -> None:
    circuits, told = made()
    hand = saved(Phase.OPEN, ago_s=10, wait_s=None, manual=True)
    wide = Saved(
        circuit=CircuitKey("openai", ANY, ANY),
        phase=hand.phase,
        why="manual",
        changed_at_ms=hand.changed_at_ms,
        retry_at_ms=None,
        manual=True,
    )
    circuits.restore([wide], 0.0, HOUR_MS * 100)
    assert refused(circuits, GPT._replace(key="own"), 1.0).why == "manual"
    assert circuits.reset("openai", None, 1.0) == 1
    allowed(circuits, GPT, 1.0)
    assert moves(told) == [("open", "closed", "reset")]


def test_a_closed_one_that_had_opened_lately_still_waits_longer_after_a_restart() -> None:
    circuits, told = made()
    circuits.restore([saved(Phase.CLOSED, ago_s=100)], 0.0, HOUR_MS * 100)
    broken(circuits, GPT, 0.0)
    assert told[-1].moved.wait_s == 120.0
    assert told[-1].moved.trips == 4
