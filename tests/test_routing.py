"""Plans: every reason to rule a model out, the order of preference, and laws that always hold."""

import json
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspend.constraints import NOBODY, Constraints
from modelspend.money import Band, Price
from modelspend.receipt import Classification
from modelspend.routing import (
    EXPECTED_OUTPUT,
    LEAST_AHEAD,
    MOST_AHEAD,
    TIERS,
    Asked,
    Option,
    Plan,
    Policy,
    Stay,
    estimate_pico,
    plan,
)

ANY = Asked(mode="route", any_model=True, input_tokens=1000)
NAMED = replace(ANY, any_model=False)
POLICY = Policy(profile="default")


def price(fresh: int, out: int, read: int | None = None, **more: int) -> Price:
    rates = {"input_tokens": fresh, "output_tokens": out, **more}
    if read is not None:
        rates["cache_read_tokens"] = read
    return Price(provider="p", model="m", source="test", bands=(Band(0, rates),))


def option(name: str, fresh: int | None = 1000, out: int = 4000, **facts: Any) -> Option:
    provider, _, model = name.partition("/")
    told = None if fresh is None else price(fresh, out, facts.pop("read", None))
    return Option(provider=provider, model=model, price=facts.pop("price", told), **facts)


def found(tier: str = "standard", **signals: Any) -> Classification:
    return Classification(
        category="chat", confidence=0.9, complexity=0.5, tier=tier, risk_signals=signals
    )


def chosen(made: Plan) -> str | None:
    return made.chosen.name if made.chosen else None


def out_of(made: Plan) -> dict[str, str | None]:
    return {f"{each.provider}/{each.model_id}": each.filtered_out_by for each in made.candidates}


# What rules a candidate out.

RULED_OUT: dict[str, tuple[Asked, Policy, Option]] = {
    "provider_denied": (ANY, POLICY, option("a/x", has_key=False)),
    "provider_denied by a list": (
        ANY,
        replace(POLICY, constraints=Constraints(providers=("b",))),
        option("a/x"),
    ),
    "privacy": (ANY, replace(POLICY, constraints=Constraints(no_training=True)), option("a/x")),
    "privacy where it may train": (
        ANY,
        replace(POLICY, constraints=Constraints(no_training=True)),
        option("a/x", trains=True),
    ),
    "privacy by region": (
        ANY,
        replace(POLICY, constraints=Constraints(regions=("eu",))),
        option("a/x", region="us"),
    ),
    "privacy by an unknown region": (
        ANY,
        replace(POLICY, constraints=Constraints(regions=("eu",))),
        option("a/x"),
    ),
    "capability:tools": (
        replace(ANY, needs=frozenset({"tools", "vision"})),
        POLICY,
        option("a/x", lacks=frozenset({"tools", "vision"})),
    ),
    "capability:vision": (
        replace(ANY, needs=frozenset({"vision"})),
        POLICY,
        option("a/x", lacks=frozenset({"vision"})),
    ),
    "capability:audio": (
        replace(ANY, needs=frozenset({"audio"})),
        POLICY,
        option("a/x", lacks=frozenset({"audio"})),
    ),
    "capability:json_schema": (
        replace(ANY, needs=frozenset({"json_schema"})),
        POLICY,
        option("a/x", lacks=frozenset({"json_schema"})),
    ),
    "context_window": (ANY, POLICY, option("a/x", context=1000 + 599)),
    "circuit_open": (ANY, POLICY, option("a/x", circuit_open=True)),
    "unpriced": (ANY, POLICY, option("a/x", fresh=None)),
    "unpriced without an input price": (
        ANY,
        POLICY,
        option("a/x", price=Price(provider="p", model="m", source="test", bands=(Band(0, {}),))),
    ),
    "budget": (
        ANY,
        replace(POLICY, constraints=Constraints(max_pico=1000 * 1000 + 600 * 4000 - 1)),
        option("a/x"),
    ),
    "quality_floor": (ANY, replace(POLICY, quality_floor=0.8), option("a/x", quality=0.79)),
}


@pytest.mark.parametrize("case", RULED_OUT)
def test_what_rules_a_candidate_out_is_told(case: str) -> None:
    asked, policy, bad = RULED_OUT[case]
    good = option(
        "b/y", fresh=1, out=1, trains=False, region="eu", quality=0.9 if "quality" in case else None
    )
    made = plan(asked, found(), [bad, good], policy)
    assert out_of(made) == {"a/x": case.split()[0], "b/y": None}
    assert chosen(made) == "b/y"
    alone = plan(asked, found(), [bad], policy)
    if case == "circuit_open":  # whoever has only that against it may still be asked
        assert chosen(alone) == "a/x"
        assert made.chain == (bad,)
        return
    assert alone.chosen is None
    assert alone.decision.model_id == ""
    assert alone.decision.rationale[-1] == f"no candidate: {case.split()[0]}"


def test_where_every_circuit_is_open_the_cheapest_is_asked_and_the_rest_is_the_chain() -> None:
    shut = [
        option("a/x", fresh=9, out=9, circuit_open=True),
        option("b/y", fresh=1, out=1, circuit_open=True),
        option("c/z", fresh=0, out=0, circuit_open=True, lacks=frozenset({"tools"})),
    ]
    made = plan(replace(ANY, needs=frozenset({"tools"})), found(), shut, POLICY)
    assert chosen(made) == "b/y"
    assert [each.name for each in made.chain] == ["a/x"]
    assert made.decision.rationale[-1] == "every circuit is open"


ALMOST: dict[str, tuple[Asked, Policy, Option]] = {
    "a known region": (
        ANY,
        replace(POLICY, constraints=Constraints(regions=("eu", "us"))),
        option("a/x", region="us"),
    ),
    "no training": (
        ANY,
        replace(POLICY, constraints=Constraints(no_training=True)),
        option("a/x", trains=False),
    ),
    "a need that it has": (
        replace(ANY, needs=frozenset({"tools"})),
        POLICY,
        option("a/x", lacks=frozenset({"vision"})),
    ),
    "just enough room": (ANY, POLICY, option("a/x", context=1600)),
    "room for the caller's lower limit": (
        replace(ANY, output_limit=10),
        POLICY,
        option("a/x", context=1010),
    ),
    "an unknown price where cost counts for nothing": (
        ANY,
        replace(POLICY, cost_weight=0.0),
        option("a/x", fresh=None),
    ),
    "just within the budget": (
        ANY,
        replace(POLICY, constraints=Constraints(max_pico=1000 * 1000 + 600 * 4000)),
        option("a/x"),
    ),
    "no evidence under a floor": (ANY, replace(POLICY, quality_floor=0.8), option("a/x")),
    "just the floor": (ANY, replace(POLICY, quality_floor=0.8), option("a/x", quality=0.8)),
}


@pytest.mark.parametrize("case", ALMOST)
def test_what_is_just_good_enough_may_answer(case: str) -> None:
    asked, policy, only = ALMOST[case]
    made = plan(asked, found(), [only], policy)
    assert (chosen(made), out_of(made)) == ("a/x", {"a/x": None})


def test_the_first_reason_is_told_in_the_order_of_the_rules() -> None:
    everything = option(
        "a/x",
        fresh=None,
        has_key=False,
        context=1,
        circuit_open=True,
        quality=0.0,
        lacks=frozenset({"tools"}),
    )
    asked = replace(ANY, needs=frozenset({"tools"}))
    policy = replace(POLICY, quality_floor=0.5, constraints=Constraints(no_training=True))
    told = []
    for fix in (
        {"has_key": True},
        {"trains": False},
        {"lacks": frozenset()},
        {"context": None},
        {"price": price(1, 1)},
        {"quality": 0.9},
        {"circuit_open": False},
    ):
        told.append(out_of(plan(asked, found(), [everything], policy))["a/x"])
        everything = replace(everything, **fix)
    assert told == [
        "provider_denied",
        "privacy",
        "capability:tools",
        "context_window",
        "unpriced",
        "quality_floor",
        "circuit_open",
    ]
    assert chosen(plan(asked, found(), [everything], policy)) == "a/x"


# Constraints.


def test_constraints_compose_to_the_narrower_of_both() -> None:
    one = Constraints(providers=("a", "b"), regions=("eu",), max_pico=10)
    other = Constraints(providers=("b", "c"), no_training=True, max_pico=7)
    assert one.within(other) == Constraints(
        providers=("b",), regions=("eu",), no_training=True, max_pico=7
    )
    assert one.within(Constraints()) == one == Constraints().within(one)


def test_constraints_that_leave_nobody_allow_nobody() -> None:
    none = Constraints(providers=("a",)).within(Constraints(providers=("b",)))
    assert none.providers == (NOBODY,)
    assert none.within(Constraints(providers=("a",))).providers == (NOBODY,)
    policy = replace(POLICY, constraints=none)
    assert plan(ANY, found(), [option("a/x"), option("b/y")], policy).chosen is None


names = st.sets(st.sampled_from("abcd")).map(lambda found: tuple(sorted(found)))
constraints = st.builds(
    Constraints,
    providers=names,
    regions=names,
    no_training=st.booleans(),
    max_pico=st.none() | st.integers(0, 10**10),
)


@given(constraints, constraints, constraints)
def test_composing_constraints_is_a_meeting(one: Any, two: Any, three: Any) -> None:
    def allowed(rules: Constraints) -> set[str | None]:
        each = [
            option(f"{p}/x", region=region, trains=trains)
            for p in "abcd"
            for region in ("a", "b", None)
            for trains in (True, False, None)
        ]
        policy = replace(POLICY, constraints=rules)
        seen = [plan(ANY, found(), [one_], policy) for one_ in each]
        return {f"{n}" for n, made in enumerate(seen) if made.chosen}

    assert allowed(one.within(two)) == allowed(one) & allowed(two)
    assert allowed(one.within(two.within(three))) == allowed(one.within(two).within(three))


# Who is best.


def test_without_evidence_the_order_of_the_profile_decides() -> None:
    dear_first = [option("a/dear", fresh=9000), option("b/cheap", fresh=1), option("c/middle")]
    for weight in (0.0, 1.0, 100.0):
        made = plan(ANY, found(), dear_first, replace(POLICY, cost_weight=weight))
        assert chosen(made) == "a/dear"
    assert [each.name for each in made.chain] == ["b/cheap", "c/middle"]
    assert made.decision.fallback_chain == ("b/cheap", "c/middle")


def test_evidence_decides_by_score_and_a_tie_by_order() -> None:
    made = plan(ANY, found(), [option("a/x", quality=0.5), option("b/y", quality=0.9)], POLICY)
    assert chosen(made) == "b/y"
    assert made.candidates[1].reasons == ("evals>=0.900",)
    twins = [option("a/x", quality=0.9), option("b/y", quality=0.9)]
    assert chosen(plan(ANY, found(), twins, POLICY)) == "a/x"


def test_cost_weighs_against_quality_as_the_profile_says() -> None:
    good = option("a/good", fresh=10_000, out=40_000, quality=0.9)
    cheap = option("b/cheap", fresh=100, out=400, quality=0.8)
    assert chosen(plan(ANY, found(), [good, cheap], replace(POLICY, cost_weight=0.0))) == "a/good"
    assert chosen(plan(ANY, found(), [good, cheap], replace(POLICY, cost_weight=1.0))) == "b/cheap"


def test_quickness_weighs_where_it_is_known() -> None:
    policy = replace(POLICY, latency_weight=5.0)
    slow, quick = option("a/x", quality=0.8, latency_ms=900.0), option("b/y", quality=0.8)
    assert chosen(plan(ANY, found(), [slow, replace(quick, latency_ms=90.0)], policy)) == "b/y"


@pytest.mark.parametrize("tier", TIERS)
def test_the_estimate_is_price_times_tokens(tier: str) -> None:
    one = option("a/x", fresh=3_000_000, out=15_000_000, read=300_000)
    made = plan(ANY, found(tier), [one], POLICY)
    assert made.candidates[0].est_cost_pico == 1000 * 3_000_000 + EXPECTED_OUTPUT[tier] * 15_000_000
    limited = plan(replace(ANY, output_limit=7), found(tier), [one], POLICY)
    assert limited.candidates[0].est_cost_pico == 1000 * 3_000_000 + 7 * 15_000_000
    stay = Stay(provider="a", model="x", cached_tokens=600)
    warm = plan(replace(ANY, output_limit=7, stay=stay), found(tier), [one], POLICY)
    by_hand = 400 * 3_000_000 + 600 * 300_000 + 7 * 15_000_000
    assert warm.candidates[0].est_cost_pico == by_hand
    assert warm.candidates[0].reasons == ("cached",)


def test_the_estimate_of_a_long_prompt_uses_its_band() -> None:
    bands = (
        Band(0, {"input_tokens": 1, "output_tokens": 1}),
        Band(500, {"input_tokens": 2, "output_tokens": 3}),
    )
    told = Price(provider="p", model="m", source="test", bands=bands)
    one = Option(provider="a", model="x", price=told)
    assert estimate_pico(one, replace(ANY, input_tokens=500), "simple") == 500 + 200
    assert estimate_pico(one, replace(ANY, input_tokens=501), "simple") == 2 * 501 + 3 * 200


def test_free_is_declared_and_unknown_is_not_free() -> None:
    free = Option(
        provider="a",
        model="x",
        price=Price(provider="a", model="x", source="free"),
    )
    assert plan(ANY, found(), [free], POLICY).candidates[0].est_cost_pico == 0
    unknown = plan(ANY, found(), [option("a/x", fresh=None)], replace(POLICY, cost_weight=0.0))
    assert unknown.candidates[0].est_cost_pico is None


# The model that was asked for.

OWN = option("own/asked", fresh=2000, out=8000)


def test_a_named_model_is_left_for_a_cheaper_one_and_never_for_a_dearer() -> None:
    cheap = plan(NAMED, found(), [option("a/x")], POLICY, own=OWN)
    assert (chosen(cheap), cheap.decision.strategy) == ("a/x", "single")
    dear = plan(NAMED, found(), [option("a/x", fresh=2001, out=8000)], POLICY, own=OWN)
    assert chosen(dear) == "own/asked"
    assert dear.decision.rationale == (
        "standard",
        "stays with the model asked for: it costs less",
    )


def test_a_prompt_that_needs_deep_reasoning_may_cost_more() -> None:
    made = plan(NAMED, found("deep_reasoning"), [option("a/x", fresh=9000)], POLICY, own=OWN)
    assert chosen(made) == "a/x"


def test_near_the_threshold_the_model_asked_for_stays_unless_told_otherwise() -> None:
    near = found("deep_reasoning", nearThreshold=True)
    stays = plan(NAMED, near, [option("a/x", fresh=1)], POLICY, own=OWN)
    assert chosen(stays) == "own/asked"
    assert "near the threshold" in stays.decision.rationale[-1]
    decides = plan(NAMED, near, [option("a/x", fresh=1)], replace(POLICY, near="decide"), own=OWN)
    assert chosen(decides) == "a/x"
    assert chosen(plan(ANY, near, [option("a/x")], POLICY)) == "a/x"


def test_a_model_of_unknown_price_stays_for_nobody_can_say_what_leaving_it_saves() -> None:
    unknown = option("own/local", fresh=None)
    made = plan(NAMED, found(), [option("a/x")], POLICY, own=unknown)
    assert chosen(made) == "own/local"
    assert made.decision.rationale[-1].endswith("its price is not known")
    deep = plan(NAMED, found("deep_reasoning"), [option("a/x")], POLICY, own=unknown)
    assert chosen(deep) == "a/x"
    near = found("deep_reasoning", nearThreshold=True)
    assert chosen(plan(NAMED, near, [option("a/x")], POLICY, own=unknown)) == "own/local"
    capped = replace(POLICY, constraints=Constraints(max_pico=10**12))
    assert chosen(plan(NAMED, found(), [option("a/x")], capped, own=unknown)) == "a/x"


@pytest.mark.parametrize("mode", ["shadow", "route"])
@pytest.mark.parametrize("case", RULED_OUT)
def test_a_named_model_alone_answers_unless_a_rule_forbids_it(mode: Any, case: str) -> None:
    asked, policy, only = RULED_OUT[case]
    asked = replace(asked, mode=mode, any_model=False)
    forbidden = case.split()[0] in ("provider_denied", "privacy", "budget")
    made = plan(asked, found(), [], policy, own=only)
    assert chosen(made) == (None if forbidden and mode == "route" else "a/x")
    assert out_of(made) == {"a/x": case.split()[0]}
    pinned = plan(replace(asked, pinned="pinned: why"), found(), [], policy, own=only)
    assert chosen(pinned) == chosen(made)
    if not forbidden:
        assert (pinned.decision.strategy, pinned.decision.rationale[-1]) == (
            "pinned",
            "pinned: why",
        )


def test_a_pinned_request_goes_nowhere_else_and_is_priced() -> None:
    made = plan(replace(NAMED, pinned="pinned: why"), found(), [option("a/x")], POLICY, own=OWN)
    assert (chosen(made), made.decision.strategy, made.chain) == ("own/asked", "pinned", ())
    assert out_of(made) == {"own/asked": None}
    assert made.candidates[0].est_cost_pico == 1000 * 2000 + 600 * 8000


def test_observe_plans_nothing() -> None:
    made = plan(replace(NAMED, mode="observe"), found(), [option("a/x")], POLICY, own=OWN)
    assert (chosen(made), made.candidates, made.decision.profile) == ("own/asked", (), None)


@pytest.mark.parametrize("mode", ["shadow", "route"])
def test_an_empty_profile_leaves_the_model_asked_for_and_auto_nobody(mode: Any) -> None:
    assert chosen(plan(replace(NAMED, mode=mode), found(), [], POLICY, own=OWN)) == "own/asked"
    nobody = plan(replace(ANY, mode=mode), found(), [], POLICY)
    assert (nobody.chosen, nobody.candidates) == (None, ())
    assert nobody.decision.rationale == ("standard", "the profile is empty")


# Conversations.

A, B = option("a/x", read=100), option("b/y", fresh=500, out=2000, read=50)


def _stay(name: str, cached: int, **more: Any) -> Asked:
    provider, model = name.split("/")
    stay = Stay(provider=provider, model=model, cached_tokens=cached, **more)
    return replace(ANY, input_tokens=10_000, stay=stay)


def test_a_conversation_stays_while_a_switch_costs_more_than_it_saves() -> None:
    near = option("b/y", fresh=999, out=4000, read=100)
    made = plan(_stay("a/x", 9_000), found(), [near, A], POLICY)
    assert (chosen(made), made.decision.strategy) == ("a/x", "sticky")
    assert made.decision.rationale[-1].startswith("stays: a switch costs 0.0")
    assert f"in {1 + LEAST_AHEAD} turns" in made.decision.rationale[-1]
    cold = plan(_stay("a/x", 0), found(), [near, A], POLICY)
    assert (chosen(cold), cold.decision.strategy) == ("b/y", "single")


def test_a_switch_is_made_when_it_saves_over_the_turns_to_come() -> None:
    """At once it costs more: 10,000 fresh tokens at 500 against 9,000 cached at 100."""
    made = plan(_stay("a/x", 9_000), found(), [B, A], POLICY)
    first, second = made.candidates
    assert first.est_cost_pico is not None
    assert second.est_cost_pico is not None
    assert first.est_cost_pico > second.est_cost_pico
    assert chosen(made) == "b/y"


def test_the_look_ahead_grows_with_the_conversation_within_bounds() -> None:
    """A saving of 1,000 a turn against 8,000 once: it pays from the eighth turn on."""
    here = option("a/x", fresh=10, out=0, price=price(10, 0, 2))
    there = option("b/y", fresh=10, out=0, price=price(10, 0, 1))
    asked = replace(ANY, input_tokens=1000)
    switched = []
    for turns in (1, 4, 7, 8, 9, 50):
        stay = Stay(provider="a", model="x", cached_tokens=1000, turns=turns)
        made = plan(replace(asked, stay=stay), found(), [there, here], POLICY)
        switched.append(chosen(made) == "b/y")
    assert switched == [False, False, False, False, True, True]
    assert LEAST_AHEAD < 8 < MOST_AHEAD


def test_a_conversation_that_goes_back_finds_its_old_cache() -> None:
    old = option("b/y", fresh=1000, out=3999, read=100)
    cold = plan(_stay("a/x", 9_000), found(), [old, A], POLICY)
    warm = plan(_stay("a/x", 9_000, elsewhere={"b/y": 9_000}), found(), [old, A], POLICY)
    assert (chosen(cold), chosen(warm)) == ("a/x", "b/y")
    assert warm.candidates[0].reasons == ("cached",)


def test_a_model_that_keeps_nothing_of_this_request_is_priced_so() -> None:
    made = plan(_stay("a/x", 9_000), found(), [replace(B, caches=False), A], POLICY)
    assert chosen(made) == "a/x"


def test_a_prompt_that_became_too_hard_leaves_the_model_it_is_on() -> None:
    """The model asked for is where the conversation is; it is not listed for this tier."""
    asked = replace(_stay("own/asked", 9_000), any_model=False)
    made = plan(asked, found("deep_reasoning"), [option("a/x", fresh=9000)], POLICY, own=OWN)
    assert chosen(made) == "a/x"


def test_a_conversation_on_a_better_model_may_stay_there() -> None:
    better = option("c/z", fresh=1100, out=4000, read=10)
    asked = _stay("c/z", 9_900)
    made = plan(asked, found("simple"), [A], POLICY, incumbent=better)
    assert (chosen(made), made.decision.strategy) == ("c/z", "sticky")
    assert chosen(plan(asked, found("simple"), [A], POLICY)) == "a/x"


def test_where_a_price_is_unknown_a_conversation_stays() -> None:
    policy = replace(POLICY, cost_weight=0.0)
    made = plan(_stay("a/x", 9_000), found(), [option("b/y", fresh=None), A], policy)
    assert chosen(made) == "a/x"
    assert made.decision.rationale[-1] == "stays: the saving of a switch is not known"


# Laws.

rates = st.integers(0, 10**8)
quality = st.none() | st.floats(0, 1)


@st.composite
def options_(draw: st.DrawFn, name: str) -> Option:
    told = draw(st.sampled_from(["known", "known", "known", "unknown", "free"]))
    cost = None
    if told == "known":
        fresh = draw(rates)
        cost = price(fresh, draw(rates), draw(st.integers(0, fresh)))
    elif told == "free":
        cost = Price(provider="p", model="m", source="free")
    return Option(
        provider=name,
        model="m",
        price=cost,
        context=draw(st.none() | st.integers(1, 20_000)),
        lacks=draw(st.frozensets(st.sampled_from(["tools", "vision"]))),
        region=draw(st.sampled_from([None, "eu", "us"])),
        trains=draw(st.sampled_from([None, True, False])),
        has_key=draw(st.sampled_from([True, True, True, False])),
        circuit_open=draw(st.sampled_from([False, False, False, True])),
        quality=draw(quality),
        latency_ms=draw(st.none() | st.floats(1, 10_000)),
        caches=draw(st.booleans()),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Asked, Classification, list[Option], Policy, Option | None]:
    options = [draw(options_(name)) for name in "abcd"[: draw(st.integers(0, 4))]]
    own = draw(st.none() | options_("own"))
    stay = None
    if draw(st.booleans()):
        stay = Stay(
            provider=draw(st.sampled_from(["a", "b", "own", "gone"])),
            model="m",
            cached_tokens=draw(st.integers(0, 20_000)),
            turns=draw(st.integers(1, 40)),
        )
    asked = Asked(
        mode=draw(st.sampled_from(["shadow", "route"])),
        any_model=own is None,
        input_tokens=draw(st.integers(0, 20_000)),
        output_limit=draw(st.none() | st.integers(1, 5000)),
        needs=draw(st.frozensets(st.sampled_from(["tools", "vision"]))),
        stay=stay,
    )
    policy = Policy(
        profile="p",
        quality_weight=draw(st.floats(0, 5)),
        cost_weight=draw(st.floats(0, 5)),
        latency_weight=draw(st.floats(0, 5)),
        quality_floor=draw(st.floats(0, 1)),
        near=draw(st.sampled_from(["stay", "decide"])),
        constraints=draw(constraints.map(lambda c: replace(c, providers=(), regions=()))),
    )
    near = draw(st.booleans())
    return asked, found(draw(st.sampled_from(TIERS)), nearThreshold=near), options, policy, own


@given(cases())
def test_a_plan_is_whole(case: Any) -> None:
    asked, classified, options, policy, own = case
    made = plan(asked, classified, options, policy, own=own)
    accepted = [f"{c.provider}/{c.model_id}" for c in made.candidates if not c.filtered_out_by]
    shut = [
        f"{c.provider}/{c.model_id}" for c in made.candidates if c.filtered_out_by == "circuit_open"
    ]
    everybody = {each.name for each in options} | ({own.name} if own else set())
    assert {f"{c.provider}/{c.model_id}" for c in made.candidates} == everybody
    assert all(c.score is not None and 0 <= c.score <= 1 for c in made.candidates)
    chain = [each.name for each in made.chain]
    if made.chosen is None:
        assert not accepted
        assert not shut
        assert made.decision.model_id == made.decision.provider == ""
        assert not chain
    else:
        name = made.chosen.name
        assert f"{made.decision.provider}/{made.decision.model_id}" == name
        asked_for = own is not None and name == own.name
        assert name in accepted or (not accepted and name in shut) or asked_for
        assert sorted({*chain, name} & set(accepted)) == sorted(accepted)
        assert name not in chain
        assert made.decision.fallback_chain == tuple(chain)
        assert [each in shut for each in chain] == sorted(each in shut for each in chain)
    costs = [
        estimate_pico(each, asked, classified.tier, _cached(asked, each))
        for each in made.chain
        if each.name not in shut
    ]
    known = [cost for cost in costs if cost is not None]
    assert known == sorted(known)
    assert costs[: len(known)] == known
    assert own is None or asked.mode != "shadow" or made.chosen is not None
    assert made.decision.rationale[0] == classified.tier


def _cached(asked: Asked, each: Option) -> int:
    here = asked.stay is not None and asked.stay.name == each.name
    return asked.stay.cached_tokens if here and asked.stay else 0


@given(cases())
def test_a_plan_costs_no_more_than_what_was_asked_for(case: Any) -> None:
    """Where no deep reasoning is needed, on a first turn, and with both prices known."""
    asked, classified, options, policy, own = case
    asked = replace(asked, stay=None)
    made = plan(asked, classified, options, policy, own=own)
    if own is None or made.chosen is None or classified.tier == "deep_reasoning":
        return
    mine = next(c for c in made.candidates if c.provider == "own")
    if mine.filtered_out_by is not None or mine.est_cost_pico is None:
        return
    cost = estimate_pico(made.chosen, asked, classified.tier)
    assert cost is None or cost <= mine.est_cost_pico


@given(cases())
def test_the_same_values_give_the_same_plan(case: Any) -> None:
    asked, classified, options, policy, own = case
    one = plan(asked, classified, options, policy, own=own)
    two = plan(asked, classified, list(options), policy, own=own)
    assert one == two


@given(cases())
def test_the_order_of_models_changes_no_candidate_but_by_its_rank(case: Any) -> None:
    """What filters a model out, and what it costs, does not depend on its neighbours; and where
    all have evidence, neither does the choice, save for ties."""
    asked, classified, options, policy, own = case
    asked, policy = replace(asked, stay=None), replace(policy, latency_weight=0.0)
    options = [replace(each, quality=each.quality or 0.5) for each in options][:3]
    plans = [
        plan(asked, classified, list(order), policy, own=own) for order in permutations(options)
    ]
    facts = [
        {(c.provider, c.filtered_out_by, c.est_cost_pico) for c in made.candidates}
        for made in plans
    ]
    assert all(each == facts[0] for each in facts)
    scores = [sorted((c.provider, c.score or 0) for c in made.candidates) for made in plans]
    if own is None and all(each == scores[0] for each in scores):
        first = plans[0].candidates
        best = [c.score for c in first if not c.filtered_out_by]
        best = best or [c.score for c in first]  # where all are out, one with an open circuit is it
        if len(best) == len(set(best)):
            assert len({chosen(made) for made in plans}) == 1


@given(cases())
def test_adding_a_model_that_may_not_answer_changes_no_choice(case: Any) -> None:
    asked, classified, options, policy, own = case
    options = [replace(each, quality=0.1 + n / 10) for n, each in enumerate(options)]
    barred = option("z/z", fresh=1, has_key=False)
    more = [*options, barred]
    made, with_it = (plan(asked, classified, each, policy, own=own) for each in (options, more))
    assert chosen(made) == chosen(with_it)
    assert [each.name for each in made.chain] == [each.name for each in with_it.chain]


def test_a_plan_is_json_of_the_same_bytes_each_time() -> None:
    made = plan(NAMED, found(), [A, B, option("c/z", quality=0.3)], POLICY, own=OWN)
    told = [
        (c.provider, c.model_id, c.score, c.est_cost_pico, c.reasons, c.filtered_out_by)
        for c in made.candidates
    ]
    again = plan(NAMED, found(), [A, B, option("c/z", quality=0.3)], POLICY, own=OWN)
    assert json.dumps(told) == json.dumps(
        [
            (c.provider, c.model_id, c.score, c.est_cost_pico, c.reasons, c.filtered_out_by)
            for c in again.candidates
        ]
    )
