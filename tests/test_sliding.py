"""A window that moves is the receipts in it, whatever comes late, and wherever it stops."""

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from modelspend.alert_rates import p95
from modelspend.sliding import ROUNDED_WITHIN, Part, Reach, Sliding, rounded
from modelspend.tallies import Hour, Led, Tally, add_hour, add_led, names_of

SPAN = 100
DURATIONS = st.integers(0, 10**7)


@dataclass
class Ledger:
    """Receipts by their numbers: when each began, and of which model and provider it was; the
    provider that it should have gone to is the model's name."""

    calls: dict[int, tuple[int, str, str]] = field(default_factory=dict)

    def add(self, begun: int, model: str, provider: str) -> None:
        self.calls[len(self.calls) + 1] = (begun, model, provider)

    def read(self, reach: Reach, most: int = 10**6) -> Part:
        """The first of them, in the order of the edge; what began at once stays together."""
        if reach.edge == "seq":
            upto = min(reach.upto, reach.after + most)
            done = Reach(edge="seq", since_ms=reach.since_ms, until_ms=reach.until_ms,
                         after=reach.after, upto=upto)  # fmt: skip
        else:
            until = sorted(at for at, _, _ in self._in(reach))[most : most + 1]
            end = max(until[0], reach.since_ms + 1) if until else reach.until_ms
            done = Reach(edge=reach.edge, since_ms=reach.since_ms, until_ms=end,
                         after=reach.after, upto=reach.upto)  # fmt: skip
        hours, led = [], []
        for begun, model, provider in self._in(done):
            hours.append(Hour(tenant="t", category=None, model=model, provider=provider, calls=1,
                              unpriced=begun % 2, cost_pico=begun, prompt_tokens=3,
                              cached_tokens=1, latency_ms=(rounded(begun),)))  # fmt: skip
            if model != provider:
                led.append(
                    Led(tenant="t", category=None, provider=model, answered_by=provider, calls=1)
                )
        return Part(reach=done, hours=hours, led=led)

    def _in(self, reach: Reach) -> list[tuple[int, str, str]]:
        return [
            call
            for seq, call in self.calls.items()
            if reach.after < seq <= reach.upto and reach.since_ms <= call[0] < reach.until_ms
        ]

    def whole(self, since: int, until: int, upto: int) -> dict[tuple[str, str], Tally]:
        """The sums of a window, from nothing."""
        every = Reach(edge="seq", since_ms=since, until_ms=until, after=0, upto=upto)
        part, names = self.read(every), dict[tuple[str, str], Tally]()
        for one in part.hours:
            for name in names_of(one.tenant, one.category, one.model, one.provider):
                add_hour(names.setdefault(name, Tally()), name[0], one)
        for led in part.led:
            add_led(lambda name: names.setdefault(name, Tally()), led)
        return names


def sums(window: Sliding) -> dict[tuple[str, str], Tally]:
    return {name: tally for name, tally in window.names.items() if tally != Tally()}


CALL = st.tuples(st.integers(-150, 20), st.sampled_from("ab"), st.sampled_from("ab"))
STEP = st.tuples(st.integers(-30, 160), st.lists(CALL, max_size=6), st.integers(0, 12))


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=12), st.integers(1, 4))
def test_wherever_it_stops_it_is_the_sum_of_what_it_says_it_has(
    steps: list[tuple[int, list[tuple[int, str, str]], int]], most: int
) -> None:
    """Clocks go on, or back; calls end late, and some begin in what is still the future; a look may
    end before everything is read, and the next one goes on."""
    ledger, window, now = Ledger(), Sliding(SPAN, timed=True), 1000
    for later, calls, reads in steps:
        now += later
        for begun, model, provider in calls:
            ledger.add(now + begun, model, provider)
        for _ in range(reads):
            reach = window.next(now, len(ledger.calls))
            if reach is None:
                break
            window.take(ledger.read(reach, most))
            held = ledger.whole(window.since_ms, window.until_ms, window.seq)
            assert sums(window) == {n: t for n, t in held.items() if t != Tally()}
    while reach := window.next(now, len(ledger.calls)):
        window.take(ledger.read(reach, most))
    assert window.names == sums(window)
    assert sums(window) == {
        name: tally
        for name, tally in ledger.whole(now + 1 - SPAN, now + 1, len(ledger.calls)).items()
        if tally != Tally()
    }


def test_a_look_reads_only_what_has_come_and_what_has_gone() -> None:
    ledger, window, now = Ledger(), Sliding(SPAN), 1000
    for at in range(900, 1001):
        ledger.add(at, "a", "a")
    while reach := window.next(now, 101):
        window.take(ledger.read(reach))
    ledger.add(1004, "a", "a")
    ledger.add(990, "a", "a")
    read = []
    while reach := window.next(now + 5, 103):
        read.append((reach.edge, len(list(ledger.read(reach).hours))))
        window.take(ledger.read(reach))
    assert read == [("since", 5), ("until", 0), ("seq", 2)]


def test_a_name_without_calls_takes_no_room() -> None:
    ledger, window = Ledger(), Sliding(SPAN, timed=True)
    for n in range(50):
        ledger.add(1000 + n, f"model-{n}", "lab")
    for now in (1050, 1120, 2000):
        while reach := window.next(now, 50):
            window.take(ledger.read(reach))
        began = [one for one in range(1000, 1050) if one > now - SPAN]
        assert len([name for name in window.names if name[0] == "model"]) == len(began)
    assert window.names == {}


@given(DURATIONS)
def test_a_rounded_duration_is_near_its_own(ms: int) -> None:
    assert abs(rounded(ms) - ms) <= ms * ROUNDED_WITHIN
    assert ms >= 128 or rounded(ms) == ms
    assert rounded(rounded(ms)) == rounded(ms)
    assert rounded(ms) <= rounded(ms + 1)


def test_there_are_few_rounded_durations_in_a_day() -> None:
    assert len({rounded(ms) for ms in range(600_000)}) < 1000


@given(st.lists(DURATIONS, min_size=1, max_size=200))
def test_the_percentile_of_rounded_durations_is_the_rounded_percentile(took: list[int]) -> None:
    assert p95(Counter(map(rounded, took))) == rounded(p95(Counter(took)))
