"""A circuit's states: each rule by an example, then all of them against a model of their own."""

import os
import random
from collections import Counter
from math import inf, nextafter
from typing import Any

import pytest

from modelspend.breaker import (
    WEIGHTS,
    Ask,
    Cancelled,
    Closed,
    Event,
    Failed,
    Go,
    HalfOpen,
    Moved,
    Open,
    Phase,
    Reset,
    State,
    Succeeded,
    Ticket,
    Trip,
    Wait,
    Weight,
    step,
)
from modelspend.receipt import FailureClass
from modelspend.sections import Circuits as Rules
from tests.breaker_model import Model

RULES = Rules()
BAD = FailureClass.SERVER_ERROR
RUNS = int(os.environ.get("BREAKER_RUNS", "10000"))
STEPS = 50


class Bench:
    """One circuit under a clock that the test moves."""

    def __init__(self, rules: Rules = RULES, chance: float = 0.0) -> None:
        self.rules, self.chance = rules, chance
        self.state: State = Closed()
        self.now = 1000.0
        self.moves: list[Moved] = []

    def do(self, event: Event, *, later: float = 0.0) -> Any:
        """The answer to `Ask`, or the move, or None."""
        self.now += later
        self.state, effects = step(self.state, event, self.now, self.rules, self.chance)
        self.moves += [each for each in effects if isinstance(each, Moved)]
        return effects[-1] if effects else None

    def ask(self, *, later: float = 0.0, panic: bool = False) -> Any:
        return self.do(Ask(panic), later=later)

    @property
    def ticket(self) -> Ticket:
        probing = getattr(self.state, "probing", False)
        return Ticket(self.state.epoch, self.state.probe if probing else 0)  # type: ignore[union-attr]

    def good(self, times: int = 1, *, slow: bool = False) -> Any:
        return [self.do(Succeeded(self.ticket, slow)) for _ in range(times)][-1]

    def bad(self, times: int = 1, failure: FailureClass = BAD, wait_s: float | None = None) -> Any:
        return [self.do(Failed(self.ticket, failure, wait_s)) for _ in range(times)][-1]

    def opened(self) -> "Bench":
        self.bad(self.rules.consecutive)
        assert isinstance(self.state, Open)
        return self

    def half_opened(self) -> "Bench":
        self.opened().ask(later=self.rules.wait_s)
        assert isinstance(self.state, HalfOpen)
        return self


# What counts.

WHAT_COUNTS = {
    "nothing": "client_error client_gone client_stalled shutdown process_died internal budget"
    " stopped",
    "ours": "auth",
    "cools": "rate_limit",
    "failure": "overloaded server_error connect connect_timeout first_byte_timeout idle_timeout"
    " total_timeout disconnected truncated error_in_stream protocol",
}


def test_every_way_of_failing_counts_as_the_table_says_and_none_is_left_out() -> None:
    said = {
        FailureClass(name): Weight(w) for w, names in WHAT_COUNTS.items() for name in names.split()
    }
    assert said == WEIGHTS
    assert set(said) == set(FailureClass)


@pytest.mark.parametrize("failure", [f for f, w in WEIGHTS.items() if w is Weight.NOTHING])
def test_the_callers_own_faults_and_ours_never_open_it(failure: FailureClass) -> None:
    bench = Bench()
    bench.bad(500, failure, wait_s=30.0)
    assert bench.state == Closed()
    assert bench.ask() == Go()


def test_a_callers_own_key_says_nothing_of_the_provider_and_the_sidecars_key_does() -> None:
    bench = Bench()
    for _ in range(100):
        bench.do(Failed(bench.ticket, FailureClass.AUTH, None, own_key=True))
    assert bench.state == Closed()
    bench.bad(5, FailureClass.AUTH)
    assert isinstance(bench.state, Open)


def test_a_rate_limit_rests_for_as_long_as_it_asks_and_opens_nothing() -> None:
    bench = Bench()
    bench.bad(100, FailureClass.RATE_LIMIT, wait_s=7.0)
    assert isinstance(bench.state, Closed)
    assert bench.state.calls == 0
    assert bench.ask() == Wait(7.0, "cooling", FailureClass.RATE_LIMIT)
    assert bench.ask(panic=True) == Wait(7.0, "cooling", FailureClass.RATE_LIMIT)
    assert isinstance(bench.ask(later=6.9), Wait)
    assert bench.ask(later=0.1) == Go()


@pytest.mark.parametrize(
    ("asked", "rests"), [(None, 1.0), (0.0, 0.0), (-5.0, 0.0), (59.0, 59.0), (86_400.0, 60.0)]
)
def test_a_rest_is_bounded_and_has_a_default(asked: float | None, rests: float) -> None:
    bench = Bench()
    bench.bad(1, FailureClass.RATE_LIMIT, wait_s=asked)
    assert isinstance(bench.state, Closed)
    assert bench.state.cool_until == bench.now + rests


def test_a_shorter_rest_does_not_cut_a_longer_one_short() -> None:
    bench = Bench()
    bench.bad(1, FailureClass.RATE_LIMIT, wait_s=20.0)
    bench.bad(1, FailureClass.RATE_LIMIT, wait_s=1.0)
    assert bench.ask().after_s == 20.0


def test_overload_with_a_wait_counts_and_rests() -> None:
    bench = Bench()
    bench.bad(1, FailureClass.OVERLOADED, wait_s=4.0)
    assert bench.state == Closed(
        calls=1,
        failed=1,
        streak=1,
        heard_at=1000.0,
        cool_until=1004.0,
        cooled_by=FailureClass.OVERLOADED,
    )
    bench.bad(1, FailureClass.OVERLOADED)
    assert bench.state.cool_until == 1004.0
    bench.good()
    assert bench.ask() == Wait(4.0, "cooling", FailureClass.OVERLOADED)


# Opening.


def test_failures_in_a_row_open_it_and_one_success_between_them_does_not() -> None:
    bench = Bench()
    bench.bad(4)
    bench.good()
    assert bench.bad(4) is None
    assert bench.bad() == Moved(Phase.CLOSED, Phase.OPEN, "consecutive", BAD, 15.0, 1, 10, 9)


def test_a_rate_counts_only_from_enough_calls_on() -> None:
    bench = Bench(Rules(consecutive=100))
    assert bench.bad(9) is None
    assert bench.bad() == Moved(Phase.CLOSED, Phase.OPEN, "failure_rate", BAD, 15.0, 1, 10, 10)


@pytest.mark.parametrize(
    ("rate", "bad", "opens"), [(0.7, 7, True), (0.7, 6, False), (0.5, 5, True)]
)
def test_the_rate_itself_opens_it(rate: float, bad: int, opens: bool) -> None:
    bench = Bench(Rules(consecutive=100, failure_rate=rate))
    bench.good(10 - bad)
    bench.bad(bad)
    assert isinstance(bench.state, Open) is opens


def test_the_window_holds_the_last_calls_only() -> None:
    bench = Bench(Rules(consecutive=100, window=10, min_calls=10, failure_rate=0.5))
    bench.bad(4)
    bench.good(6)
    bench.good(4)  # pushes the bad ones out
    assert bench.bad(4) is None
    assert bench.state.calls == 10
    assert bench.bad().why == "failure_rate"


def test_a_call_stays_in_the_window_for_as_many_calls_as_it_holds() -> None:
    for slow in (False, True):
        bench = Bench(Rules(consecutive=100, window=10, failure_rate=0.2, slow_rate=0.2))
        again = (lambda bench=bench: bench.good(slow=True)) if slow else bench.bad
        again()
        bench.good(8)
        assert again().why == ("slow" if slow else "failure_rate")


def test_a_window_that_heard_nothing_for_long_begins_anew() -> None:
    bench = Bench()
    bench.bad(4)
    bench.now += RULES.window_s
    assert bench.bad().why == "consecutive"
    bench = Bench()
    bench.bad(4)
    bench.now = nextafter(bench.now + RULES.window_s, inf)
    assert bench.bad() is None
    assert (bench.state.calls, bench.state.streak) == (1, 1)  # type: ignore[union-attr]


def test_slow_calls_open_it_and_count_as_good_ones_until_then() -> None:
    bench = Bench()
    bench.good(2)
    bench.good(7, slow=True)
    assert isinstance(bench.state, Closed)
    assert bench.good(slow=True) == Moved(Phase.CLOSED, Phase.OPEN, "slow", None, 15.0, 1, 10, 0)
    assert Bench().good(9, slow=True) is None


def test_a_success_never_opens_it_whatever_the_window_holds() -> None:
    bench = Bench(Rules(consecutive=100, failure_rate=0.5))
    bench.bad(9)
    assert bench.good() is None
    slow = Bench(Rules(slow_rate=0.5))
    slow.good(9, slow=True)
    assert slow.good() is None


# Waiting.


def test_the_wait_doubles_while_it_keeps_opening_up_to_a_ceiling() -> None:
    bench = Bench().opened()
    waits = [bench.moves[-1].wait_s]
    for _ in range(40):
        bench.ask(later=bench.moves[-1].wait_s)  # type: ignore[arg-type]
        waits.append(bench.bad().wait_s)
    assert waits[:6] == [15, 30, 60, 120, 240, 300]
    assert set(waits[6:]) == {300}
    assert bench.state.trips == 32


@pytest.mark.parametrize(("chance", "wait"), [(0.0, 15.0), (0.5, 14.25), (1.0, 13.5)])
def test_chance_takes_a_part_of_the_wait(chance: float, wait: float) -> None:
    assert Bench(chance=chance).opened().moves[-1].wait_s == pytest.approx(wait)


def test_what_was_well_for_long_begins_with_a_short_wait_and_what_flaps_does_not() -> None:
    for well, wait in ((RULES.forget_s, 30.0), (nextafter(RULES.forget_s, inf) + 1, 15.0)):
        bench = Bench().half_opened()
        bench.good()
        bench.now += well
        bench.bad(5)
        assert bench.moves[-1].wait_s == wait


def test_it_stays_open_for_as_long_as_the_provider_asked() -> None:
    bench = Bench()
    bench.bad(4)
    assert bench.bad(1, FailureClass.OVERLOADED, wait_s=40.0).wait_s == 40.0
    assert bench.ask(later=39.0) == Wait(1.0, "open", FailureClass.OVERLOADED)
    assert bench.ask(later=1.0) == Go(1)
    assert bench.bad(1, FailureClass.OVERLOADED, wait_s=50.0).wait_s == 50.0


def test_nothing_passes_before_the_wait_is_over_and_one_at_its_end() -> None:
    bench = Bench().opened()
    assert bench.ask(later=14.5) == Wait(0.5, "open", BAD)
    assert bench.ask(later=0.5) == Go(1)
    assert bench.moves[-1] == Moved(Phase.OPEN, Phase.HALF_OPEN, "wait_over", BAD, trips=1)
    assert bench.ask() == Wait(1.0, "probing", BAD)
    assert bench.ask(panic=True) == Wait(1.0, "probing", BAD)


# The probe.


def test_a_good_probe_closes_it_with_an_empty_window() -> None:
    bench = Bench().half_opened()
    assert bench.good() == Moved(Phase.HALF_OPEN, Phase.CLOSED, "probe_succeeded", trips=1)
    assert bench.state == Closed(epoch=3, trips=1, since=1015.0)


def test_a_bad_or_slow_probe_opens_it_for_longer() -> None:
    bench = Bench().half_opened()
    assert bench.bad(1, FailureClass.CONNECT) == Moved(
        Phase.HALF_OPEN, Phase.OPEN, "probe_failed", FailureClass.CONNECT, 30.0, 2, 1, 1
    )
    bench = Bench().half_opened()
    assert bench.good(slow=True) == Moved(Phase.HALF_OPEN, Phase.OPEN, "slow", BAD, 30.0, 2, 1, 1)


def test_a_cancelled_probe_gives_its_place_back() -> None:
    bench = Bench().half_opened()
    bench.do(Cancelled(bench.ticket))
    assert bench.ask() == Go(2)


def test_a_probe_that_tells_nothing_gives_its_place_back() -> None:
    bench = Bench().half_opened()
    bench.bad(1, FailureClass.CLIENT_ERROR)
    assert bench.ask() == Go(2)
    bench.do(Failed(bench.ticket, FailureClass.AUTH, None, own_key=True))
    assert bench.ask() == Go(3)


def test_a_probe_that_is_rate_limited_is_repeated_after_the_rest() -> None:
    bench = Bench().half_opened()
    bench.bad(1, FailureClass.RATE_LIMIT, wait_s=5.0)
    assert isinstance(bench.state, HalfOpen)
    assert bench.ask() == Wait(5.0, "cooling", BAD)
    bench.do(Cancelled(Ticket(bench.state.epoch, 1)))
    assert bench.ask(later=5.0) == Go(2)


def test_a_probe_without_an_end_is_given_up_and_its_late_word_is_not_heard() -> None:
    bench = Bench().half_opened()
    late = bench.ticket
    assert isinstance(bench.ask(later=59.5), Wait)
    assert bench.ask(later=0.5) == Go(2)
    assert bench.do(Succeeded(late)) is None
    assert bench.do(Failed(late, BAD)) is None
    bench.do(Cancelled(late))
    assert isinstance(bench.ask(), Wait)
    assert bench.good().new is Phase.CLOSED


def test_a_word_after_the_probe_was_given_back_is_not_heard() -> None:
    bench = Bench().half_opened()
    ticket = bench.ticket
    bench.do(Cancelled(ticket))
    assert bench.do(Succeeded(ticket)) is None
    assert isinstance(bench.state, HalfOpen)


def test_results_of_calls_that_an_earlier_state_let_pass_change_nothing() -> None:
    bench = Bench().opened()
    before = bench.state
    for event in (Succeeded(Ticket(0)), Failed(Ticket(0), BAD, 50.0), Cancelled(Ticket(0))):
        bench.do(event)
        assert bench.state is before
    bench.ask(later=15.0)
    before = bench.state
    bench.do(Succeeded(Ticket(0)))
    bench.do(Succeeded(Ticket(2, 0)))
    assert bench.state is before
    bench.good()
    for _ in range(10):
        bench.do(Failed(Ticket(0), BAD, 50.0))
    assert bench.state == Closed(epoch=3, trips=1, since=1015.0)


# Panic.


def test_panic_tries_an_open_one_now_and_then_one_at_a_time() -> None:
    bench = Bench().opened()
    assert bench.ask(panic=True) == Go(1)
    assert bench.ask(panic=True) == Wait(1.0, "probing", BAD)
    assert bench.bad() is None
    assert isinstance(bench.state, Open)
    assert bench.ask(panic=True, later=0.5) == Wait(14.5, "open", BAD)
    assert bench.ask(panic=True, later=0.5) == Go(2)
    bench.do(Cancelled(bench.ticket))
    assert isinstance(bench.ask(panic=True, later=0.9), Wait)
    assert len(bench.moves) == 1, "what panic tries in vain is no news, and makes no wait longer"
    assert bench.ask(later=13.1) == Go(1)


def test_a_panics_success_closes_it() -> None:
    bench = Bench().opened()
    bench.ask(panic=True)
    assert bench.good(slow=True) is None
    bench.ask(panic=True, later=1.0)
    assert bench.good() == Moved(Phase.OPEN, Phase.CLOSED, "panic", trips=1)
    assert bench.ask() == Go()


def test_a_panics_call_holds_its_place_when_the_wait_is_over() -> None:
    bench = Bench().opened()
    bench.ask(panic=True, later=14.0)
    assert bench.ask(later=2.0) == Wait(1.0, "probing", BAD)
    assert bench.ask(later=58.0) == Go(1)


def test_panic_obeys_a_provider_that_asks_for_time() -> None:
    bench = Bench().opened()
    bench.ask(panic=True)
    bench.bad(1, FailureClass.RATE_LIMIT, wait_s=20.0)
    assert bench.ask(panic=True, later=2.0) == Wait(18.0, "open", BAD)
    assert isinstance(bench.ask(later=17.0), Wait)
    assert bench.ask(later=1.0) == Go(1)


# By hand.


@pytest.mark.parametrize(
    "prepare", [Bench, lambda: Bench().opened(), lambda: Bench().half_opened()]
)
def test_a_hand_trips_it_from_any_state_and_nothing_but_time_or_a_hand_closes_it(
    prepare: Any,
) -> None:
    bench = prepare()
    trips = bench.state.trips
    was = bench.state.phase
    assert bench.do(Trip(30.0)) == Moved(was, Phase.OPEN, "manual", None, 30.0, trips)
    assert bench.state.why == "manual"
    assert bench.ask(panic=True, later=29.0) == Wait(1.0, "manual")
    assert bench.ask(later=1.0) == Go()
    assert bench.moves[-1] == Moved(Phase.OPEN, Phase.CLOSED, "trip_over", trips=trips)
    assert bench.do(Trip()) == Moved(Phase.CLOSED, Phase.OPEN, "manual", None, None, trips)
    assert bench.ask(later=1e9) == Wait(inf, "manual")
    assert bench.do(Reset()) == Moved(Phase.OPEN, Phase.CLOSED, "reset")
    assert bench.state == Closed(epoch=bench.state.epoch, since=bench.now)


def test_a_reset_of_a_closed_one_forgets_and_is_no_move() -> None:
    bench = Bench()
    bench.bad(4)
    assert bench.do(Reset()) is None
    assert bench.bad(4) is None
    half = Bench().half_opened()
    assert half.do(Reset()) == Moved(Phase.HALF_OPEN, Phase.CLOSED, "reset")


# All of it, against the model.


def _rules(rng: random.Random) -> Rules:
    window = rng.choice((1, 2, 4, 8))
    return Rules(
        window=window,
        window_s=rng.choice((2, 8)),
        min_calls=rng.choice([n for n in (1, 2, 4) if n <= window]),
        failure_rate=rng.choice((0.25, 0.5, 0.7, 1.0)),
        consecutive=rng.choice((1, 2, 3, 100)),
        slow_rate=rng.choice((0.5, 1.0)),
        wait_s=rng.choice((1, 4)),
        wait_max_s=rng.choice((4, 16)),
        jitter=rng.choice((0, 0.5, 1)),
        probe_s=rng.choice((1, 8)),
        panic_s=rng.choice((0.5, 2)),
        cool_s=rng.choice((0.5, 2)),
        cool_max_s=rng.choice((1, 8)),
        forget_s=rng.choice((4, 32)),
    )


def _event(rng: random.Random, tickets: list[Ticket]) -> Event:
    ticket = rng.choice(tickets[-3:]) if rng.random() < 0.9 else rng.choice(tickets)
    kind = rng.random()
    if kind < 0.35:
        return Ask(rng.random() < 0.3)
    if kind < 0.52:
        return Succeeded(ticket, rng.random() < 0.3)
    if kind < 0.88:
        failure = BAD if rng.random() < 0.6 else rng.choice(list(FailureClass))
        return Failed(ticket, failure, rng.choice((None, None, 0, 1, 50)), rng.random() < 0.3)
    if kind < 0.94:
        return Cancelled(ticket)
    if kind < 0.97:
        return Trip(rng.choice((None, 2.0, 6.0)))
    return Reset()


def _asked_of(model: Model, event: Event, now: float, chance: float) -> list[tuple[Any, ...]]:
    match event:
        case Ask(panic):
            return model.ask(now, panic)
        case Succeeded(ticket, slow):
            return model.succeed(ticket, slow, now, chance)
        case Failed(ticket, failure, wait_s, own_key):
            return model.fail(ticket, failure, wait_s, own_key, now, chance)
        case Cancelled(ticket):
            return model.cancel(ticket)
        case Trip(for_s):
            return model.trip(for_s, now)
        case _:
            return model.reset(now)


def _told(effects: Any) -> list[tuple[Any, ...]]:
    def one(effect: Any) -> tuple[Any, ...]:
        match effect:
            case Go(probe):
                return ("go", probe)
            case Wait(after_s, why, _):
                return ("wait", after_s, why)
            case _:
                return (
                    "moved",
                    *(each.value if isinstance(each, Phase) else each for each in effect),
                )

    return [one(effect) for effect in effects]


def _place(state: State, event: Event, model: Model) -> tuple[str, str]:
    """The row and column of the table of transitions that a step is in."""
    row = state.phase.value
    if isinstance(state, Open) and state.manual:
        row = "tripped"
    elif getattr(state, "probing", False):
        row += " probing"
    name = type(event).__name__
    if isinstance(event, Failed):
        name += f" {WEIGHTS[event.failure]}"
    elif isinstance(event, Succeeded):
        name += " slow" * event.slow
    elif isinstance(event, Ask):
        name += " panic" * event.panic
    if isinstance(event, Succeeded | Failed | Cancelled):
        current = event.ticket.epoch == model.generation
        heard = current if model.phase == "closed" else model.is_probe(event.ticket)
        name += "" if heard else " late"
    return row, name


COLUMNS = [
    "Ask",
    "Ask panic",
    *(
        name + late
        for name in ("Succeeded", "Succeeded slow", "Cancelled", *(f"Failed {w}" for w in Weight))
        for late in ("", " late")
    ),
    "Trip",
    "Reset",
]
HEARD = [column for column in COLUMNS if f"{column} late" in COLUMNS]
ROWS = ["closed", "open", "open probing", "half_open", "half_open probing", "tripped"]


def test_ten_thousand_random_lives_are_as_the_model_says() -> None:
    """Same answers, same moves, same waits, step by step; and no place of the table is left out."""
    seen: Counter[tuple[str, str]] = Counter()
    for seed in range(RUNS):
        rng = random.Random(seed)
        rules = _rules(rng)
        model, state, now = Model(rules), Closed(), 1000.0
        life: State = state
        tickets = [Ticket(0)]
        for n in range(STEPS):
            now += rng.choice((0, 0, 0, 0.25, 0.5, 1, 2, 4, 16))
            event, chance = _event(rng, tickets), rng.choice((0.0, 0.5))
            seen[_place(life, event, model)] += 1
            expected = _asked_of(model, event, now, chance)
            life, effects = step(life, event, now, rules, chance)
            found = _told(effects)
            assert [_rounded(each) for each in found] == [_rounded(each) for each in expected], (
                f"seed {seed}, step {n}: {event}"
            )
            assert life.phase.value == model.phase
            if effects and isinstance(effects[-1], Go):
                tickets.append(Ticket(life.epoch, effects[-1].probe))
    places = {(row, column) for row in ROWS for column in COLUMNS}
    places -= {(row, column) for row in ("open", "half_open", "tripped") for column in HEARD}
    if RUNS >= 1000:
        assert places - set(seen) == set(), "a place of the table was never tried"
    print(f"\n{RUNS} runs x {STEPS} steps, 0 divergences, {len(seen)} places of the table seen")


def _rounded(said: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(round(each, 6) if isinstance(each, float) else each for each in said)
