"""Who is told of what goes off: once in a window and level, of its end, and not in a silence."""

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspend.alarms import (
    ESCALATED,
    FIRED,
    KINDS,
    RESOLVED,
    Alarm,
    Silence,
    event_of,
    silenced_until,
    state_of,
    steps,
)
from modelspend.alerts import HOUR_MS, Alert, Level, graded
from modelspend.events import Event

MINUTE = 60_000
START = 1_795_305_600_000
AFTER = 5 * MINUTE


def alert(level: Level = "warn", **more: object) -> Alert:
    said = {"rule": "fallback_rate", "level": level, "said": f"{level}.", "scope": "tenant",
            "name": "acme", "value": 0.2, "limit": 0.1}  # fmt: skip
    return Alert(**(said | more))  # type: ignore[arg-type]


@dataclass
class Remembered:
    """What the ledger would hold, and all that was told."""

    alarms: dict[str, Alarm] = field(default_factory=dict)
    told: list[Event] = field(default_factory=list)
    windows: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    silences: list[Silence] = field(default_factory=list)

    def look(self, at_ms: int, *alerts: Alert) -> list[str]:
        found = []
        for step in steps(self.alarms.values(), alerts, self.silences, at_ms, AFTER):
            before = self.alarms.get(step.alarm.key)
            self.alarms[step.alarm.key] = step.alarm
            for event in step.events:
                ended = event.kind == RESOLVED
                window = before.window_ms if ended and before else step.alarm.window_ms
                self.windows[event.kind, step.alarm.key, window] += 1
            found += [event.kind for event in step.events]
            self.told += step.events
        return found

    @property
    def one(self) -> Alarm:
        (only,) = self.alarms.values()
        return only


def at(minutes: float) -> int:
    return START + round(minutes * MINUTE)


def test_what_goes_off_is_told_once_and_its_end_after_a_quiet_while() -> None:
    seen = Remembered()
    assert seen.look(at(0), alert()) == [FIRED]
    assert [seen.look(at(n), alert()) for n in range(1, 120)] == [[]] * 119
    assert [seen.look(at(120 + n)) for n in range(5)] == [[]] * 5
    assert seen.one.quiet_ms == at(120)
    assert seen.look(at(125)) == [RESOLVED]
    assert seen.look(at(126)) == []
    assert state_of(seen.one) == "resolved"
    fired, resolved = seen.told
    assert fired.tenant == resolved.tenant == "acme"
    assert (fired.level, resolved.level) == ("warn", "info")
    assert fired.data["alert"] == resolved.data["alert"] == "fallback_rate:tenant:acme"
    assert fired.data["since"] == resolved.data["since"]


def test_only_warnings_and_worse_are_remembered() -> None:
    seen = Remembered()
    assert seen.look(at(0), alert("info"), alert("ok", rule="velocity")) == []
    assert seen.alarms == {}


def test_a_short_quiet_is_no_end() -> None:
    seen = Remembered()
    seen.look(at(0), alert())
    assert seen.look(at(1)) == []
    assert seen.look(at(2), alert()) == []
    assert seen.one.quiet_ms is None
    assert [seen.look(at(3 + n)) for n in range(5)] == [[]] * 5
    assert seen.look(at(8)) == [RESOLVED]


def test_a_warning_becomes_critical_once() -> None:
    seen = Remembered()
    assert seen.look(at(0), alert("warn")) == [FIRED]
    assert seen.look(at(1), alert("critical")) == [ESCALATED]
    for n in range(2, 50):
        assert seen.look(at(n), alert("warn" if n % 2 else "critical")) == []
    assert [seen.look(at(60)), seen.look(at(65))] == [[], [RESOLVED]]
    assert [each.data["level"] for each in seen.told] == ["warn", "critical", "critical"]


def test_within_its_window_it_is_told_once_however_often_it_comes_back() -> None:
    seen = Remembered()
    assert seen.look(at(0), alert()) == [FIRED]
    seen.look(at(1))
    assert seen.look(at(6)) == [RESOLVED]
    assert seen.look(at(10), alert()) == []
    assert state_of(seen.one) == "firing"
    assert not seen.one.is_open
    assert seen.look(at(11), alert("critical")) == [ESCALATED]
    assert [seen.look(at(12)), seen.look(at(17))] == [[], [RESOLVED]]
    assert [seen.look(at(n), alert("critical")) for n in range(20, 60)] == [[]] * 40
    assert seen.look(at(60), alert("critical")) == [FIRED]


def budget(window_ms: int, level: Level = "warn", window: str = "month") -> Alert:
    return alert(level, rule="budget_burn", window=window, window_ms=window_ms)


def test_a_budget_is_told_once_in_its_own_window_and_again_in_the_next() -> None:
    seen = Remembered()
    assert seen.look(at(0), budget(START)) == [FIRED]
    for hours in range(1, 600):
        assert seen.look(START + hours * HOUR_MS, budget(START)) == []
    assert seen.look(START + 601 * HOUR_MS, budget(START, "critical")) == [ESCALATED]
    later = START + 720 * HOUR_MS
    assert seen.look(later, budget(later)) == [RESOLVED, FIRED]
    assert seen.look(later + 1000, budget(later)) == []
    assert set(seen.windows.values()) == {1}


def test_budgets_of_one_tenant_by_day_and_by_month_are_two_alarms() -> None:
    seen = Remembered()
    both = (budget(START, window="month"), budget(START + 5, "critical", window="day"))
    assert seen.look(at(0), *both) == [FIRED, FIRED]
    assert seen.look(at(1), both[0]) == []
    assert seen.look(at(2), *both) == []
    assert sorted(seen.alarms) == ["budget_burn:tenant:acme:day", "budget_burn:tenant:acme:month"]


def test_a_value_that_hovers_at_its_limit_pages_once() -> None:
    """The rate's own hysteresis: what was graded before is left only a tenth below the limit."""
    seen, level = Remembered(), "ok"
    for n in range(200):
        value = 0.1 if n % 2 else 0.0905
        level = graded(value, (0.1, 0.5), before=level)
        seen.look(at(n), *([alert(level)] if level != "ok" else []))
    assert [each.kind for each in seen.told] == [FIRED]


def silence(minutes: float, at_minute: float = 0, **what: str) -> Silence:
    return Silence(at_ms=at(at_minute), until_ms=at(at_minute + minutes), **what)


@pytest.mark.parametrize(
    ("what", "silent"),
    [
        ({}, True),
        ({"rule": "fallback_rate"}, True),
        ({"rule": "velocity"}, False),
        ({"rule": "fallback_rate", "scope": "tenant"}, True),
        ({"rule": "fallback_rate", "scope": "model"}, False),
        ({"scope": "tenant", "name": "acme"}, True),
        ({"scope": "tenant", "name": "other"}, False),
    ],
)
def test_a_silence_covers_what_it_names(what: dict[str, str], silent: bool) -> None:
    seen = Remembered(silences=[silence(10, **what)])
    assert seen.look(at(0), alert()) == ([] if silent else [FIRED])
    until = silenced_until(seen.one, seen.silences, at(0))
    assert (until is not None) is silent
    assert state_of(seen.one, until) == ("silenced" if silent else "firing")


def test_what_still_holds_when_its_silence_ends_is_told_then() -> None:
    seen = Remembered(silences=[silence(10)])
    assert [seen.look(at(n), alert()) for n in range(10)] == [[]] * 10
    assert seen.look(at(10), alert()) == [FIRED]


def test_what_came_and_went_in_a_silence_is_never_told() -> None:
    seen = Remembered(silences=[silence(30)])
    seen.look(at(0), alert())
    assert [seen.look(at(n)) for n in range(1, 40)] == [[]] * 39
    assert seen.one.resolved_ms == at(6)


def test_the_end_of_what_was_told_is_told_in_a_silence_too() -> None:
    """Else an incident would stay open somewhere for ever."""
    seen = Remembered()
    seen.look(at(0), alert())
    seen.silences = [silence(60, at_minute=1)]
    assert seen.look(at(2), alert("critical")) == []
    assert [seen.look(at(3)), seen.look(at(8))] == [[], [RESOLVED]]


def test_what_is_only_seen_again_is_written_seldom() -> None:
    seen = Remembered()
    seen.look(at(0), alert())
    found = [len(steps(seen.alarms.values(), [alert(value=n / 100)], [], at(n), AFTER))
             for n in range(1, 10)]  # fmt: skip
    assert found == [0] * 4 + [1] * 5
    assert steps([], [], [], at(0), AFTER) == []


def test_an_event_says_where_to_look_and_holds_no_more_than_the_alert() -> None:
    seen = Remembered()
    seen.look(at(0), alert(see="failovers --tenant acme"))
    (event,) = seen.told
    assert event.data["see"] == "modelspend failovers --tenant acme"
    assert set(event.data) == {
        "alert", "rule", "scope", "name", "window", "level", "message", "value", "limit", "since",
        "see",
    }  # fmt: skip
    assert event_of(FIRED, replace(seen.one, scope="model"), at(0)).tenant is None


LOOK = st.tuples(
    st.floats(0.1, 200.0),  # minutes since the last look
    st.sampled_from(("ok", "ok", "info", "warn", "critical")),
    st.booleans(),  # whether a silence holds
)


@given(st.lists(LOOK, max_size=60), st.booleans())
def test_whatever_comes_nothing_is_told_twice_and_no_end_is_missing(
    looks: list[tuple[float, Level, bool]], of_a_budget: bool
) -> None:
    seen, minutes, is_open = Remembered(), 0.0, False
    for passed, level, silent in looks:
        minutes += passed
        month = START + round(minutes // 1000) * 1000 * MINUTE
        one = budget(month, level) if of_a_budget else alert(level)
        seen.silences = [silence(1, at_minute=minutes)] if silent else []
        for kind in seen.look(at(minutes), one):
            assert is_open is (kind == RESOLVED or (kind == ESCALATED and is_open))
            is_open = kind != RESOLVED
        for alarm in seen.alarms.values():
            assert alarm.is_open is is_open
            assert is_open is False or alarm.told is not None
        if level == "critical" and not silent and not of_a_budget:
            assert is_open or at(minutes) < (seen.one.window_ends_ms or 0)
    assert all(many == 1 for (kind, _, _), many in seen.windows.items() if kind != RESOLVED)
    fired = [event.at_ms for event in seen.told if event.kind == FIRED]
    if not of_a_budget:
        assert all(later - first >= HOUR_MS for first, later in pairwise(fired))
    assert {event.kind for event in seen.told} <= set(KINDS)
    while is_open:
        minutes += 6
        is_open = RESOLVED not in seen.look(at(minutes))
        assert minutes < 1_000_000
