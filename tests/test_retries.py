"""What is done after a failure: each rule by an example, and the budget as a law."""

import random
from dataclasses import replace
from typing import Any

import pytest

from modelspend.circuits import CircuitKey, Circuits, Permit
from modelspend.failovers import extra_cost
from modelspend.money import Cost
from modelspend.receipt import Attempt, Delivery, FailureClass, Status
from modelspend.retries import (
    AGAIN,
    Course,
    GiveUp,
    HopTo,
    Next,
    Repeats,
    RetryBudget,
    RetryHere,
    Tried,
    Way,
    backoff_s,
    next_step,
    sdk_retries,
    told_should_retry,
    told_wait_s,
)
from modelspend.sections import Circuits as CircuitRules
from modelspend.sections import Retries as Rules

BAD = FailureClass.SERVER_ERROR
RULES = Rules()


def way(name: str, key: str = "") -> Way:
    provider, _, model = name.partition("/")
    return Way(circuit=CircuitKey(provider, model, key))


A, A2, B, C = way("a/m"), way("a/n"), way("b/m"), way("c/m")


class Bench:
    """Circuits and a budget at one instant."""

    def __init__(self, rules: Rules = RULES, calls: int = 0) -> None:
        self.circuits = Circuits(CircuitRules(jitter=0))
        self.budget = RetryBudget(rules)
        self.now = 100.0
        for _ in range(calls):
            self.budget.called(self.now)

    def broken(self, *ways: Way) -> "Bench":
        for each in ways:
            for _ in range(5):
                permit = self.circuits.admit(each.circuit, self.now)
                assert isinstance(permit, Permit)
                permit.failed(BAD, self.now)
        return self

    def resting(self, one: Way, seconds: float) -> "Bench":
        permit = self.circuits.admit(one.circuit, self.now)
        assert isinstance(permit, Permit)
        permit.failed(FailureClass.RATE_LIMIT, self.now, seconds)
        return self

    def empty(self) -> "Bench":
        while self.budget.spare(self.now):
            self.budget.spend(self.now)
        return self

    def next(self, *chain: Way, tried: Any = (), chance: float = 1.0, **course: Any) -> Next:
        failed = tuple(each if isinstance(each, Tried) else failure(each) for each in tried)
        said = Course(chain=chain, tried=failed, **course)
        return next_step(said, self.circuits, self.budget, self.now, chance)


def failure(
    one: Way,
    how: FailureClass = BAD,
    delivery: Delivery = Delivery.DONE,
    wait_s: float | None = None,
    should_retry: bool | None = None,
) -> Tried:
    return Tried(
        circuit=one.circuit,
        failure=how,
        delivery=delivery,
        wait_s=wait_s,
        should_retry=should_retry,
    )


# Hops.


def test_a_failure_goes_to_the_next_of_the_chain_at_once_and_for_nothing() -> None:
    assert Bench().empty().next(A, B, C, tried=[A]) == HopTo(
        way=B, reason="attempt_failed", failure=BAD
    )


def test_a_circuit_that_refuses_leads_to_the_next_and_says_what_opened_it() -> None:
    bench = Bench().broken(A).empty()
    assert bench.next(A, B) == HopTo(way=B, reason="circuit_open", failure=BAD)
    bench = Bench().resting(A, 30.0).empty()
    assert bench.next(A, B) == HopTo(way=B, reason="cooling", failure=FailureClass.RATE_LIMIT)


def test_a_hop_passes_by_who_refuses() -> None:
    bench = Bench().broken(B)
    assert bench.next(A, B, C, tried=[A]) == HopTo(way=C, reason="attempt_failed", failure=BAD)


def test_who_is_well_goes_before_who_would_be_probed() -> None:
    bench = Bench().broken(B)
    bench.now += 15.0
    assert bench.next(A, B, C, tried=[A]) == HopTo(way=C, reason="attempt_failed", failure=BAD)
    assert bench.next(A, B, tried=[A]) == HopTo(
        way=B, reason="attempt_failed", failure=BAD, spends=True
    )
    assert isinstance(bench.empty().next(A, B, tried=[A]), GiveUp)


def test_a_second_hop_has_to_fit_in_the_budget() -> None:
    tried = [A, B]
    assert Bench().next(A, B, C, tried=tried) == HopTo(
        way=C, reason="attempt_failed", failure=BAD, spends=True
    )
    assert Bench().empty().next(A, B, C, tried=tried) == GiveUp(why="budget", retry_after_s=0.25)


def test_another_model_of_the_same_provider_is_a_repetition() -> None:
    assert Bench().next(A, A2, tried=[A]) == HopTo(
        way=A2, reason="attempt_failed", failure=BAD, spends=True
    )
    assert Bench().next(A, A2, B, tried=[A]) == HopTo(way=B, reason="attempt_failed", failure=BAD)
    assert isinstance(Bench().empty().next(A, A2, tried=[A]), GiveUp)


@pytest.mark.parametrize(
    "how", [FailureClass.CONNECT, FailureClass.CONNECT_TIMEOUT, FailureClass.AUTH]
)
def test_what_fails_for_a_whole_provider_is_not_tried_at_another_model_of_it(
    how: FailureClass,
) -> None:
    assert not isinstance(Bench().next(A, A2, tried=[failure(A, how)]), HopTo)
    assert isinstance(Bench().next(A, A2, B, tried=[failure(A, how)]), HopTo)


def test_no_circuit_is_asked_twice_by_hopping() -> None:
    assert not isinstance(Bench().next(A, B, tried=[A, B]), HopTo)


# Who is not asked again.


@pytest.mark.parametrize("sent", [{"content_sent": True}, {"client_gone": True}])
def test_nothing_is_tried_once_content_was_sent_or_the_client_has_gone(sent: Any) -> None:
    (why,) = sent
    assert Bench().next(A, B, C, tried=[A], **sent) == GiveUp(why=why)
    assert Bench().next(A, B, C, **sent) == GiveUp(why=why)


WHERE = {
    "anywhere": "rate_limit overloaded server_error connect disconnected truncated error_in_stream",
    "elsewhere": "auth connect_timeout first_byte_timeout idle_timeout protocol",
    "caller_fault": "client_error",
    "client_gone": "client_gone client_stalled",
    "not_retryable": "total_timeout shutdown process_died internal budget stopped",
}
CASES = [(FailureClass(name), where) for where, names in WHERE.items() for name in names.split()]


@pytest.mark.parametrize(("how", "where"), CASES)
def test_each_way_of_failing_is_tried_again_where_it_may_help(
    how: FailureClass, where: str
) -> None:
    elsewhere = Bench().next(A, B, tried=[failure(A, how)])
    here = Bench().next(A, tried=[failure(A, how)])
    if where in ("anywhere", "elsewhere"):
        assert elsewhere == HopTo(way=B, reason="attempt_failed", failure=how)
        wait = RetryHere(after_s=0.25)
        assert here == (wait if where == "anywhere" else GiveUp(why="nobody_left"))
    else:
        assert elsewhere == here == GiveUp(why=where)  # type: ignore[arg-type]


def test_no_way_of_failing_is_forgotten() -> None:
    assert set(AGAIN) == set(FailureClass) == {how for how, _ in CASES}


def test_a_key_of_the_callers_own_that_is_refused_is_told_to_the_caller() -> None:
    own = way("a/m", key="fingerprint")
    assert Bench().next(own, B, tried=[failure(own, FailureClass.AUTH)]) == GiveUp(
        why="caller_fault"
    )
    assert isinstance(Bench().next(A, B, tried=[failure(A, FailureClass.AUTH)]), HopTo)


def test_a_call_has_so_many_tries_and_no_more() -> None:
    last = failure(C, FailureClass.OVERLOADED, wait_s=9.0)
    assert Bench().next(A, B, C, way("d/m"), tried=[A, B, last]) == GiveUp(
        why="attempts", retry_after_s=9.0
    )


# Again, here.


def test_a_lone_provider_is_asked_again_after_a_wait() -> None:
    assert Bench().next(A, tried=[A]) == RetryHere(after_s=0.25)
    assert Bench().next(A, tried=[A, A]) == RetryHere(after_s=0.5)
    assert Bench().next(A, tried=[A], chance=0.0) == RetryHere(after_s=0.0)


def test_the_bound_of_a_wait_doubles_and_chance_takes_any_part_of_it() -> None:
    assert [backoff_s(n, RULES, 1.0) for n in (1, 2, 3, 4, 5, 6, 60)] == [
        0.25, 0.5, 1, 2, 4, 4, 4,
    ]  # fmt: skip
    assert backoff_s(3, RULES, 0.25) == 0.25


def test_retry_after_is_obeyed_up_to_what_a_client_waits_for() -> None:
    def after(wait_s: float, **course: Any) -> Next:
        last = failure(A, FailureClass.OVERLOADED, wait_s=wait_s)
        return Bench().next(A, tried=[last], **course)

    assert after(3.0) == RetryHere(after_s=3.0)
    assert after(10.0) == RetryHere(after_s=10.0)
    assert after(10.1) == GiveUp(why="nobody_left", retry_after_s=10.1)
    assert after(3.0, left_s=3.5) == RetryHere(after_s=3.0)
    assert isinstance(after(3.0, left_s=3.0), GiveUp)


def test_a_rate_limit_is_waited_out_here_when_there_is_nobody_else() -> None:
    bench = Bench().resting(A, 2.0)
    limited = failure(A, FailureClass.RATE_LIMIT, wait_s=2.0)
    assert bench.next(A, tried=[limited]) == RetryHere(after_s=2.0)
    assert bench.next(A, B, tried=[limited]) == HopTo(
        way=B, reason="attempt_failed", failure=FailureClass.RATE_LIMIT
    )
    silent = failure(A, FailureClass.RATE_LIMIT)
    assert bench.next(A, tried=[silent], chance=0.0) == RetryHere(after_s=2.0)


def test_x_should_retry_is_obeyed_both_ways() -> None:
    no = failure(A, should_retry=False)
    assert Bench().next(A, tried=[no]) == GiveUp(why="nobody_left")
    assert isinstance(Bench().next(A, B, tried=[no]), HopTo), "it speaks for its provider alone"
    yes = failure(A, FailureClass.CLIENT_ERROR, should_retry=True)
    assert Bench().next(A, B, tried=[yes]) == RetryHere(after_s=0.25)
    late = failure(A, FailureClass.FIRST_BYTE_TIMEOUT, should_retry=True)
    assert isinstance(Bench().next(A, tried=[late]), RetryHere)


def test_a_library_that_retries_is_left_to_it() -> None:
    assert Bench().next(A, tried=[A], sdk_retry=True) == GiveUp(why="nobody_left")
    assert isinstance(Bench().next(A, B, tried=[A], sdk_retry=True), HopTo)


def test_no_retry_goes_to_who_is_no_longer_of_the_chain() -> None:
    assert Bench().next(B, tried=[A, B]) == RetryHere(after_s=0.25)
    assert Bench().next(tried=[A]) == GiveUp(why="nobody_left")


def test_no_retry_goes_into_a_circuit_that_has_opened() -> None:
    bench = Bench().broken(A)
    assert bench.next(A, tried=[A]) == GiveUp(why="nobody_left", retry_after_s=15.0)


def test_a_repetition_that_does_not_fit_in_the_budget_is_not_made() -> None:
    assert Bench().empty().next(A, tried=[A]) == GiveUp(why="budget", retry_after_s=0.25)


@pytest.mark.parametrize("delivery", list(Delivery))
def test_what_may_be_charged_twice_is_said(delivery: Delivery) -> None:
    last = failure(A, FailureClass.DISCONNECTED, delivery)
    twice = delivery in (Delivery.MAYBE_ACCEPTED, Delivery.RESPONDING)
    hop = Bench().next(A, B, tried=[last])
    retry = Bench().next(A, tried=[last])
    assert isinstance(hop, HopTo)
    assert isinstance(retry, RetryHere)
    assert (hop.twice, retry.twice) == (twice, twice)


# Panic.


def test_of_several_that_are_all_open_the_least_bad_is_tried_and_it_is_called_panic() -> None:
    bench = Bench().broken(A, B)
    bench.now += 15.0
    probe = bench.circuits.admit(A.circuit, bench.now)
    assert isinstance(probe, Permit)
    probe.failed(BAD, bench.now)  # it has opened twice now
    bench.broken(C)
    probe = bench.circuits.admit(B.circuit, bench.now)
    assert isinstance(probe, Permit)
    probe.failed(BAD, bench.now)
    step = bench.next(A, B, C)
    assert step == HopTo(way=C, reason="panic", failure=BAD, panic=True)
    permit = bench.circuits.admit(C.circuit, bench.now, panic=True)
    assert isinstance(permit, Permit)
    assert bench.next(A, B, C) == HopTo(way=A, reason="panic", failure=BAD, panic=True)


def test_panic_tries_one_call_at_a_time_and_tells_the_others_when_to_come_back() -> None:
    bench = Bench().broken(A, B)
    for one in (A, B):
        step = bench.next(A, B)
        assert isinstance(step, HopTo)
        assert step.way == one
        assert isinstance(bench.circuits.admit(one.circuit, bench.now, panic=True), Permit)
    assert bench.next(A, B) == GiveUp(why="circuit_open", retry_after_s=1.0)


def test_a_lone_provider_that_is_open_refuses_at_once() -> None:
    bench = Bench().broken(A, A2)
    assert bench.next(A) == GiveUp(why="circuit_open", retry_after_s=15.0)
    assert bench.next(A, A2) == GiveUp(why="circuit_open", retry_after_s=15.0)


def test_panic_asks_nobody_who_asked_for_time_or_was_tripped_by_hand() -> None:
    bench = Bench().resting(A, 30.0).resting(B, 20.0)
    assert bench.next(A, B) == GiveUp(why="circuit_open", retry_after_s=20.0)
    bench = Bench().broken(A)
    bench.circuits.trip("b", None, bench.now, None)
    assert bench.next(A, B) == HopTo(way=A, reason="panic", failure=BAD, panic=True)


def test_when_the_only_one_that_is_well_fails_an_open_one_is_tried() -> None:
    bench = Bench().broken(B)
    last = failure(A, FailureClass.PROTOCOL)
    assert bench.next(A, B, tried=[last]) == HopTo(
        way=B, reason="panic", failure=FailureClass.PROTOCOL, panic=True
    )


# The budget.


def test_a_quiet_process_has_its_floor_and_a_busy_one_its_share() -> None:
    quiet, busy = RetryBudget(RULES), RetryBudget(RULES)
    for _ in range(100):
        busy.called(5.0)
    for budget, most in ((quiet, 3), (busy, 20)):
        spent = 0
        while budget.spare(5.0):
            budget.spend(5.0)
            spent += 1
        assert spent == most


def test_the_budget_comes_back_as_time_goes_by() -> None:
    budget = RetryBudget(RULES)
    for n in range(3):
        budget.spend(float(n))
    assert not budget.spare(9.9)
    assert budget.spare(10.0)
    assert not RetryBudget(Rules(share=0, floor=0)).spare(0.0)


def test_a_call_counts_for_no_longer_than_the_budgets_time() -> None:
    budget = RetryBudget(RULES)
    for _ in range(1000):
        budget.called(0.5)
    for _ in range(5):
        budget.spend(9.0)
    assert budget.spare(9.9)
    assert not budget.spare(10.5)


@pytest.mark.parametrize("seed", range(5))
def test_repetitions_never_pass_their_share_of_any_ten_seconds(seed: int) -> None:
    """All providers fail, every call wants to be repeated: the law of the budget holds."""
    rng = random.Random(seed)
    budget, now = RetryBudget(RULES), 0.0
    calls: list[float] = []
    spent: list[float] = []
    for _ in range(6000):
        now += rng.expovariate(rng.choice((20, 200, 200)))
        budget.called(now)
        calls.append(now)
        while budget.spare(now):
            budget.spend(now)
            spent.append(now)
            within = sum(now - 10 < at for at in calls[-4000:])
            repeated = sum(now - 10 < at for at in spent[-1000:])
            assert repeated <= max(RULES.floor, RULES.share * within)
    assert len(spent) > 0.15 * len(calls), "and it is used"


def test_the_budget_remembers_no_more_than_its_time() -> None:
    budget = RetryBudget(RULES)
    for n in range(100_000):
        budget.called(n / 100)
        if budget.spare(n / 100):
            budget.spend(n / 100)
    assert len(budget._calls) <= 11
    assert len(budget._spent) <= 201
    budget.called(1e6)
    assert budget._total == 1


# Who retries already, and what headers say.


def test_the_same_call_again_after_it_failed_is_a_retry_of_the_client() -> None:
    repeats = Repeats(within_s=60, most=2)
    assert not repeats.again("acme:1", 0.0)
    repeats.failed("acme:1", 0.0)
    assert repeats.again("acme:1", 60.0)
    repeats.failed("acme:1", 1000.0)
    assert repeats.again("acme:1", 1001.0)
    repeats.failed("acme:1", 0.0)
    assert not repeats.again("acme:1", 60.1)
    assert not repeats.again("other:1", 0.0)
    repeats.failed("acme:2", 1.0)
    repeats.failed("acme:1", 2.0)
    repeats.failed("acme:3", 3.0)
    assert [repeats.again(f"acme:{n}", 3.0) for n in (1, 2, 3)] == [True, False, True]


NOW_MS = 1_790_000_000_000  # 2026-09-21T14:13:20Z


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:50 GMT"}, 30.0),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:50"}, 30.0),
        ({"retry-after": "Mon, 21 Sep 2026 14:00:00 GMT"}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Mon, 99 Sep 2026 14:00:00 GMT"}, None),
    ],
)
def test_retry_after_is_read_as_vendors_write_it(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert told_wait_s(headers.get, NOW_MS) == seconds


@pytest.mark.parametrize(
    ("told", "means"), [(None, None), ("true", True), ("False", False), ("", None), ("1", None)]
)
def test_x_should_retry_is_read(told: str | None, means: bool | None) -> None:
    assert told_should_retry(lambda name: told if name == "x-should-retry" else "7") is means


@pytest.mark.parametrize(
    ("told", "count"),
    [(None, 0), ("0", 0), ("2", 2), (" 1 ", 1), ("-1", 0), ("x", 0), ("9999", 0), ("²", 0)],
)
def test_the_retries_of_a_vendors_library_are_counted(told: str | None, count: int) -> None:
    assert sdk_retries(lambda name: told if name == "x-stainless-retry-count" else "7") == count


# What it cost.


def test_the_extra_cost_of_a_failover_is_signed_and_unknown_when_a_part_of_it_is() -> None:
    lost = Attempt(
        n=1, provider="a", model_id="m", started_at_ms=0, status=Status.ERROR,
        delivery=Delivery.MAYBE_ACCEPTED, cost=Cost(total_pico=3),
    )  # fmt: skip
    answered = replace(lost, n=2, delivery=Delivery.DONE, cost=Cost(total_pico=10))
    unknown = replace(lost, cost=Cost(total_pico=None))
    not_sent = replace(unknown, delivery=Delivery.NOT_SENT)
    assert extra_cost((lost, answered), 6) == 7
    assert extra_cost((not_sent, answered), 12) == -2
    assert extra_cost((unknown, answered), 6) is None
    assert extra_cost((lost, answered), None) is None
