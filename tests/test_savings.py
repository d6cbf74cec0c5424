"""Savings add up to the last pico-dollar, whichever parts they have, and losses are losses."""

import random
from collections.abc import Mapping
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspend.money import Band, Price, price_usage
from modelspend.receipt import Savings
from modelspend.savings import MECHANISMS, Place, Tried, attributed, cached, cost_at

USED = {"input_tokens": 1000, "cache_read_tokens": 400, "output_tokens": 100}


def place(
    model: str, input: int | None, output: int = 0, provider: str = "openai", **more: int
) -> Place:
    """A model with rates in pico-dollars; without an input rate it has no price."""
    if input is None:
        return Place(provider=provider, model=model)
    rates = {"input_tokens": input, "output_tokens": output, **more}
    price = Price(provider=provider, model=model, source="test", bands=(Band(0, rates),))
    return Place(provider=provider, model=model, price=price)


def answered(at: Place, used: Mapping[str, int] = USED) -> Tried:
    return Tried(place=at, cost_pico=price_usage(used, at.price).total_pico)


def parts(
    baseline: Place | None,
    tried: list[Tried],
    used: Mapping[str, int],
    taken_out: int,
    planned: Place | None = None,
) -> Savings:
    """The savings of a call whose first choice was the first one tried, unless one is named."""
    return attributed(baseline, planned or tried[0].place, tried, used, taken_out)


DEAR = place("dear", 10_000_000, 40_000_000, cache_read_tokens=1_000_000)
CHEAP = place("cheap", 1_000_000, 4_000_000, cache_read_tokens=100_000)
MIDDLE = place("middle", 2_000_000, 8_000_000, cache_read_tokens=200_000, provider="other")


def test_a_cheaper_route_saves_the_difference_at_the_same_tokens() -> None:
    saved = parts(DEAR, [answered(CHEAP)], USED, 0)
    baseline = 1000 * 10_000_000 + 400 * 1_000_000 + 100 * 40_000_000
    actual = 1000 * 1_000_000 + 400 * 100_000 + 100 * 4_000_000
    assert saved.baseline_model == "openai/dear"
    assert saved.baseline_cost_pico == baseline
    assert saved.by_mechanism == {**dict.fromkeys(MECHANISMS, 0), "routing": baseline - actual}
    assert DEAR.price is not None
    assert saved.baseline_price_id == DEAR.price.price_id


def test_a_dearer_route_is_a_negative_saving() -> None:
    saved = parts(CHEAP, [answered(DEAR)], USED, 0)
    assert (
        saved.by_mechanism["routing"]
        == -parts(DEAR, [answered(CHEAP)], USED, 0).by_mechanism["routing"]
    )
    assert saved.by_mechanism["routing"] < 0


def test_a_call_that_went_where_it_was_asked_to_saves_nothing_whatever_its_tier_cost() -> None:
    flex = Tried(place=DEAR, cost_pico=5)  # the provider billed another tier
    saved = parts(DEAR, [flex], USED, 0)
    assert set(saved.by_mechanism.values()) == {0}
    assert saved.baseline_cost_pico == 5


def test_who_answered_in_place_of_the_plan_is_failover_and_what_it_left_behind_a_loss() -> None:
    broke_off = Tried(place=CHEAP, cost_pico=77)
    saved = parts(DEAR, [broke_off, answered(MIDDLE)], USED, 0)
    cheap, middle = answered(CHEAP).cost_pico, answered(MIDDLE).cost_pico
    assert cheap is not None
    assert middle is not None
    assert saved.by_mechanism["failover"] == cheap - middle - 77
    assert saved.by_mechanism["routing"] == (answered(DEAR).cost_pico or 0) - cheap
    assert saved.by_mechanism["retry"] == 0


def test_a_first_choice_that_was_left_alone_is_what_failover_is_counted_from() -> None:
    saved = parts(DEAR, [answered(MIDDLE)], USED, 0, planned=CHEAP)
    cheap, middle = answered(CHEAP).cost_pico, answered(MIDDLE).cost_pico
    assert cheap is not None
    assert middle is not None
    assert saved.by_mechanism["failover"] == cheap - middle < 0
    assert saved.by_mechanism["routing"] == (answered(DEAR).cost_pico or 0) - cheap
    back = parts(DEAR, [answered(CHEAP)], USED, 0, planned=MIDDLE)
    assert back.by_mechanism["failover"] == middle - cheap


def test_a_call_that_comes_back_to_its_first_choice_pays_for_both_ways() -> None:
    tries = [Tried(place=CHEAP, cost_pico=5), Tried(place=MIDDLE, cost_pico=7), answered(CHEAP)]
    saved = parts(CHEAP, tries, USED, 0)
    assert saved.by_mechanism == {**dict.fromkeys(MECHANISMS, 0), "failover": -12}


def test_what_was_tried_again_at_the_same_place_is_a_loss_of_retry() -> None:
    tries = [Tried(place=CHEAP, cost_pico=5), Tried(place=CHEAP, cost_pico=6), answered(CHEAP)]
    saved = parts(CHEAP, tries, USED, 0)
    assert saved.by_mechanism == {**dict.fromkeys(MECHANISMS, 0), "retry": -11}


def test_tokens_taken_out_are_saved_at_the_rate_of_who_answered() -> None:
    saved = parts(DEAR, [answered(CHEAP)], USED, 50)
    assert saved.by_mechanism["compression"] == 50 * 1_000_000
    assert saved.by_mechanism["routing"] == (50 * 9_000_000) + 1000 * 9_000_000 + (
        400 * 900_000 + 100 * 36_000_000
    )


def test_a_shorter_prompt_may_stay_below_a_price_cliff() -> None:
    bands = (Band(0, {"input_tokens": 10}), Band(1000, {"input_tokens": 25}))
    steep = Place(
        provider="p",
        model="m",
        price=Price(provider="p", model="m", source="test", bands=bands),
    )
    used = {"input_tokens": 990}
    saved = parts(steep, [answered(steep, used)], used, 20)
    assert saved.by_mechanism["compression"] == 1010 * 25 - 990 * 10


@pytest.mark.parametrize(
    ("baseline", "tried", "taken_out"),
    [
        (place("new", None), [answered(CHEAP)], 0),
        (None, [answered(CHEAP)], 0),
        (DEAR, [Tried(place=CHEAP, cost_pico=None)], 0),
        (DEAR, [Tried(place=CHEAP, cost_pico=None), answered(MIDDLE)], 0),
        (DEAR, [Tried(place=place("gone", None), cost_pico=0), answered(MIDDLE)], 0),
        (DEAR, [Tried(place=place("bare", None), cost_pico=9)], 10),
    ],
)
def test_what_cannot_be_known_is_not_made_up(
    baseline: Place | None, tried: list[Tried], taken_out: int
) -> None:
    saved = parts(baseline, tried, USED, taken_out)
    assert saved.baseline_cost_pico is None
    assert saved.by_mechanism == {}


def test_a_provider_without_a_cache_price_bills_cached_tokens_as_input() -> None:
    plain = place("plain", 3, 5)
    written = {"input_tokens": 10, "cache_write_5m_tokens": 20, "cache_read_tokens": 30}
    assert cost_at(plain.price, written) == 60 * 3
    assert cost_at(plain.price, {"input_tokens": 1, "web_searches": 1}) is None


def test_a_kept_answer_saves_what_it_cost() -> None:
    saved = cached("gpt", 12)
    assert saved.baseline_cost_pico == 12
    assert saved.by_mechanism == {**dict.fromkeys(MECHANISMS, 0), "caching": 12}
    assert cached("gpt", None).by_mechanism == {}


PLACES = st.sampled_from([DEAR, CHEAP, MIDDLE])
TRIED = st.lists(
    st.builds(Tried, place=PLACES, cost_pico=st.integers(0, 10**12)), min_size=1, max_size=5
)
TOKENS = st.fixed_dictionaries(
    {name: st.integers(0, 10**6) for name in ("input_tokens", "output_tokens", "cache_read_tokens")}
)


@given(baseline=PLACES, planned=PLACES, tried=TRIED, used=TOKENS, taken_out=st.integers(0, 10**5))
def test_the_parts_add_up_to_baseline_less_cost(
    baseline: Place, planned: Place, tried: list[Tried], used: dict[str, int], taken_out: int
) -> None:
    saved = parts(baseline, tried, used, taken_out, planned=planned)
    actual = sum(one.cost_pico or 0 for one in tried)
    assert saved.baseline_cost_pico is not None
    assert list(saved.by_mechanism) == list(MECHANISMS)
    assert saved.baseline_cost_pico - actual == sum(saved.by_mechanism.values())


@given(tried=TRIED, used=TOKENS, seed=st.integers(0, 1000))
def test_the_order_in_which_receipts_and_mechanisms_are_added_changes_nothing(
    tried: list[Tried], used: dict[str, int], seed: int
) -> None:
    every = [parts(DEAR, tried[:n], used, n) for n in range(1, len(tried) + 1)]
    mixed = random.Random(seed).sample(every, len(every))
    for order in list(permutations(MECHANISMS))[:: 1 + seed % 17]:
        assert sum(s.by_mechanism[m] for m in order for s in mixed) == sum(
            s.by_mechanism[m] for s in every for m in MECHANISMS
        )
    for mechanism in MECHANISMS:
        assert sum(s.by_mechanism[mechanism] for s in mixed) == sum(
            s.by_mechanism[mechanism] for s in every
        )
