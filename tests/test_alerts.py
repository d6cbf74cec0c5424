"""What pages and what does not: each rule goes off where it should, and just before that it is
quiet; ages, levels and sentences are those of what was seen."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspend.alert_rates import Seen, Watched, p95, rates
from modelspend.alert_sections import Alerts
from modelspend.alerts import (
    HOUR_MS,
    HOURS,
    LEVELS,
    RULES,
    Alert,
    Level,
    graded,
    of_budgets,
    of_circuits,
    ordered,
    with_the_well,
)
from modelspend.breaker import Phase
from modelspend.budgets import Budget, Usage
from modelspend.circuits import CircuitKey, Saved
from modelspend.incidents import Incident
from modelspend.receipt import FailureClass
from modelspend.windows import parse

NOW = 1_795_000_000_000
LIMITS = Alerts()
USD = 10**12


NOTHING = Seen()


def watched(
    hours: Sequence[Seen], before: Seen = NOTHING, scope: Any = "tenant", **more: Any
) -> Watched:
    """The last hours, the newest first; all that are not told were without calls."""
    rest = [Seen()] * (HOURS - len(hours))
    told = {"name": "acme", "before_hours": 168.0, **more}
    return Watched(scope=scope, hours=[*hours, *rest], before=before, **told)


def judged(one: Watched, limits: Alerts = LIMITS) -> dict[str, Alert]:
    return {alert.rule: alert for alert in rates([one], limits, NOW)}


@pytest.mark.parametrize(
    ("value", "before", "level"),
    [
        (0.0, "ok", "ok"),
        (0.0999, "ok", "ok"),
        (0.1, "ok", "warn"),
        (0.4999, "ok", "warn"),
        (0.5, "ok", "critical"),
        (9.0, "ok", "critical"),
        (0.46, "critical", "critical"),
        (0.449, "critical", "warn"),
        (0.46, "warn", "warn"),
        (0.091, "warn", "warn"),
        (0.091, "critical", "warn"),
        (0.0899, "critical", "ok"),
    ],
)
def test_a_level_is_left_only_some_way_below_where_it_began(
    value: float, before: Level, level: Level
) -> None:
    assert graded(value, (0.1, 0.5), before=before) == level


@given(st.lists(st.floats(0, 1), max_size=20))
def test_a_value_that_hovers_at_a_limit_pages_once(values: list[float]) -> None:
    level: Level = "ok"
    for value in values:
        level = graded(0.1 - value * 0.009, (0.1, 0.5), before=level)
        assert level == "ok" or graded(0.0901, (0.1, 0.5), before=level) == level
    assert graded(1.0, (0.1, 0.5), before=level) == "critical"


def calls(many: int, **more: Any) -> Seen:
    return Seen(calls=many, **more)


@pytest.mark.parametrize(
    ("led", "many", "level"),
    [(0, 100, None), (9, 100, None), (10, 100, "warn"), (49, 100, "warn"), (50, 100, "critical"),
     (19, 19, None), (20, 20, "critical")],
)  # fmt: skip
def test_calls_that_are_led_elsewhere_page_by_their_share(
    led: int, many: int, level: str | None
) -> None:
    found = judged(watched([calls(many, led=led)])).get("fallback_rate")
    assert (found.level if found else None) == level
    if found is not None:
        assert found.value == led / many
        assert found.said.startswith(f"{led} of {many} calls")
        assert (found.scope, found.name) == ("tenant", "acme")
        assert found.since_ms == found.from_ms == NOW - HOUR_MS


@pytest.mark.parametrize(
    ("unpriced", "many", "level"),
    [(0, 100, None), (1, 100, "info"), (4, 100, "info"), (5, 100, "warn"), (25, 100, "critical"),
     (1, 1, "info"), (19, 19, "info")],
)  # fmt: skip
def test_any_call_without_a_cost_is_told_and_many_of_them_page(
    unpriced: int, many: int, level: str | None
) -> None:
    one = watched([Seen(), calls(many, unpriced=unpriced)])
    found = judged(one).get("unpriced_share")
    assert (found.level if found else None) == level
    if found is not None:
        assert found.receipts == {"unpriced": "", "tenant": "acme"}
        assert found.since_ms == NOW - 2 * HOUR_MS
        assert found.from_ms == NOW - HOURS * HOUR_MS


@pytest.mark.parametrize(
    ("spent", "week", "hours", "level"),
    [
        (4.9, 168.0, 168.0, None),
        (5.0, 168.0, 168.0, "warn"),
        (20.0, 168.0, 168.0, "critical"),
        (0.99, 0.1, 168.0, None),  # too little to wake anybody
        (5.0, 24.0, 24.0, "warn"),
        (500.0, 23.0, 23.0, None),  # too young to know what is usual
        (500.0, 0.0, 168.0, None),
    ],
)
def test_spending_much_faster_than_in_the_week_before_pages(
    spent: float, week: float, hours: float, level: str | None
) -> None:
    before = Seen(calls=1000, cost_pico=round(week * USD))
    one = watched([calls(50, cost_pico=round(spent * USD))], before, before_hours=hours)
    found = judged(one).get("velocity")
    assert (found.level if found else None) == level


def test_a_slow_hour_pages_beside_the_week_before() -> None:
    usual = Seen(calls=1000, latency_ms=Counter({100: 900, 400: 100}))
    for slowest, level in ((790, None), (800, "warn"), (1999, "warn"), (2000, "critical")):
        hour = calls(40, latency_ms=Counter({100: 36, slowest: 4}))
        found = judged(watched([hour], usual, scope="model")).get("p95_drift")
        assert (found.level if found else None) == level, slowest
        if found is not None:
            assert found.receipts == {"status": "success", "model": "acme"}
            assert f"{slowest:,} ms" in found.said
            assert "(400 ms)" in found.said
    few = calls(19, latency_ms=Counter({9000: 19}))
    assert "p95_drift" not in judged(watched([few], usual, scope="model"))
    quick = Seen(calls=1000, latency_ms=Counter({10: 1000}))
    still_quick = calls(40, latency_ms=Counter({200: 40}))  # 20 times as slow, and nobody notices
    assert "p95_drift" not in judged(watched([still_quick], quick, scope="model"))
    assert "p95_drift" not in judged(watched([hour], usual, scope="tenant"))


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200))
def test_a_p95_is_not_exceeded_by_95_per_cent(durations: list[int]) -> None:
    found = p95(Counter(durations))
    assert sum(ms <= found for ms in durations) * 100 >= len(durations) * 95
    assert sum(ms < found for ms in durations) * 100 < len(durations) * 95


@pytest.mark.parametrize(
    ("cached", "level"),
    [(600, None), (301, None), (300, "warn"), (60, "critical"), (0, "critical")],
)
def test_a_prompt_cache_that_is_no_longer_hit_pages(cached: int, level: str | None) -> None:
    before = Seen(calls=900, prompt_tokens=1_000_000, cached_tokens=600_000)
    hour = calls(50, prompt_tokens=50_000, cached_tokens=cached * 50)
    found = judged(watched([hour], before)).get("cache_drop")
    assert (found.level if found else None) == level
    hardly = replace(before, cached_tokens=10_000)
    assert "cache_drop" not in judged(watched([hour], hardly))
    small = calls(50, prompt_tokens=19_999)
    assert "cache_drop" not in judged(watched([small], before))


def test_an_alert_is_as_old_as_the_first_bad_hour_in_a_row() -> None:
    bad, good, quiet = calls(100, led=60), calls(100), calls(3, led=3)
    for hours, age in (
        ([bad], 1),
        ([bad, bad, good, bad], 2),
        ([bad, quiet, quiet, bad, good, bad], 4),
        ([bad, quiet], 1),
        ([bad] * HOURS, HOURS),
    ):
        found = judged(watched(hours))["fallback_rate"]
        assert found.since_ms == NOW - age * HOUR_MS, hours
    began = calls(100, led=60, first_ms=NOW - 7_000)  # in the middle of the hour
    assert judged(watched([began]))["fallback_rate"].since_ms == NOW - 7_000
    day = judged(watched([calls(100)] * 5 + [calls(100, unpriced=90)] * 2))["unpriced_share"]
    assert day.since_ms == NOW - 7 * HOUR_MS


def test_the_limits_are_those_of_the_configuration() -> None:
    one = watched([calls(100, led=9)])
    assert "fallback_rate" not in judged(one)
    strict = Alerts(fallback_rate=(0.01, 0.09))
    assert judged(one, strict)["fallback_rate"].level == "critical"
    assert judged(one, strict)["fallback_rate"].limit == 0.09
    assert "fallback_rate" in judged(watched([calls(3, led=3)]), Alerts(min_calls=3))


# Budgets.


def usage(spent: float, cap: float | None, name: str = "acme", **more: Any) -> Usage:
    budget = Budget(
        scope="tenant",
        name=name,
        window=parse("month"),
        cap_pico=None if cap is None else round(cap * USD),
        **more,
    )
    return Usage(
        budget=budget,
        spent_pico=round(spent * USD),
        held_pico=0,
        starts_at_ms=NOW - 20 * 24 * HOUR_MS,
        resets_at_ms=NOW + 10 * 24 * HOUR_MS,
    )


@pytest.mark.parametrize(
    ("spent", "cap", "level"),
    [
        (49.9, 100, None),
        (50, 100, "info"),
        (66.6, 100, "info"),  # its pace is right
        (67, 100, "warn"),  # gone before its window ends
        (80, 100, "warn"),
        (99.9, 100, "warn"),
        (100, 100, "critical"),
        (250, 100, "critical"),
        (1, None, None),
        (1, 0, None),  # blocked on purpose
    ],
)
def test_a_budget_pages_by_what_is_spent_and_by_its_pace(
    spent: float, cap: float | None, level: str | None
) -> None:
    found = list(of_budgets([usage(spent, cap)], {}, NOW))
    assert [alert.level for alert in found] == ([level] if level else [])
    for alert in found:
        assert alert.value == pytest.approx(spent / (cap or 1))
        assert alert.receipts == {"tenant": "acme"}
        assert ("gone by" in alert.said) == (66.6 < spent < 100)


def test_a_budget_s_alert_is_as_old_as_the_mark_that_it_passed() -> None:
    one = usage(85, 100)
    told = {(one.budget.key, one.starts_at_ms or 0, rule): at for rule, at in (
        ("50%", NOW - 900), ("80%", NOW - 500), ("projected", NOW - 800))}  # fmt: skip
    (alert,) = of_budgets([one], told, NOW)
    assert alert.since_ms == NOW - 500
    (unknown,) = of_budgets([one], {}, NOW)
    assert unknown.since_ms is None


# Circuits.


def circuit(phase: Phase, age_s: float, **more: Any) -> Saved:
    told = {"why": "failures", "retry_at_ms": NOW + 5000, **more}
    return Saved(
        circuit=CircuitKey("openai", "gpt-4.1"),
        phase=phase,
        changed_at_ms=NOW - round(age_s * 1000),
        failure=FailureClass.SERVER_ERROR,
        **told,
    )


def incident(opened_s: float, resolved_s: float | None) -> Incident:
    return Incident(
        incident_id="inc",
        circuit=CircuitKey("openai", "gpt-4.1"),
        opened_at_ms=NOW - round(opened_s * 1000),
        resolved_at_ms=None if resolved_s is None else NOW - round(resolved_s * 1000),
        reason="failures",
        failure_class=None,
        resolution=None,
        opens=3,
        failures=9,
        calls_affected=41,
        unpriced=0,
        extra_cost_pico=0,
    )


@pytest.mark.parametrize(
    ("saved", "incidents", "level", "age_s"),
    [
        (circuit(Phase.CLOSED, 5), [], None, None),
        (circuit(Phase.OPEN, 5), [], "warn", 5),
        (circuit(Phase.OPEN, 899), [], "warn", 899),
        (circuit(Phase.OPEN, 900), [], "critical", 900),
        (circuit(Phase.OPEN, 5), [incident(1000, None)], "critical", 1000),
        (circuit(Phase.HALF_OPEN, 5), [incident(100, None)], "warn", 100),
        (circuit(Phase.OPEN, 5000, retry_at_ms=NOW - 1), [], "info", 5000),
        (circuit(Phase.OPEN, 5000, manual=True, retry_at_ms=None), [], "info", 5000),
    ],
)
def test_an_open_circuit_pages_and_one_that_stays_open_more_so(
    saved: Saved, incidents: list[Incident], level: str | None, age_s: float | None
) -> None:
    found = list(of_circuits([saved], incidents, LIMITS, NOW))
    assert [alert.level for alert in found] == ([level] if level else [])
    if found and age_s is not None:
        assert found[0].since_ms == NOW - age_s * 1000
        assert found[0].name == "openai/gpt-4.1"


def test_an_incident_that_is_over_is_told_for_a_day() -> None:
    (alert,) = of_circuits([], [incident(7200, 3600)], LIMITS, NOW)
    assert (alert.rule, alert.level) == ("incident", "info")
    assert "60.0 minutes" in alert.said
    assert "41 calls" in alert.said
    assert not list(of_circuits([], [incident(100_000, 86_401)], LIMITS, NOW))


# What is listed.


def test_every_rule_has_a_line_also_when_it_has_nothing_to_say() -> None:
    quiet = with_the_well([])
    assert [alert.rule for alert in quiet] == list(RULES)
    assert {alert.level for alert in quiet} == {"ok"}
    loud = Alert(rule="velocity", level="warn", said="!")
    told = with_the_well([loud])
    assert told[0] is loud
    assert sorted(alert.rule for alert in told) == sorted(RULES)
    assert {alert.key for alert in told} == {f"{rule}:process:all" for rule in RULES}


def test_the_worst_comes_first_then_what_has_lasted_longest() -> None:
    alerts = [
        Alert(rule=rule, level=level, said="", since_ms=since, name=str(since))
        for level in LEVELS
        for rule in RULES[:2]
        for since in (5, 3, None)
    ]
    found = ordered(alerts)
    levels = [LEVELS.index(alert.level) for alert in found]
    assert levels == sorted(levels, reverse=True)
    worst = [(a.rule, a.since_ms) for a in found if a.level == "critical" and a.since_ms]
    assert worst == [(rule, since) for rule in RULES[:2] for since in (3, 5)]
