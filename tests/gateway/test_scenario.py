"""Changes on a ledger written out by hand: every figure is worked out on paper, and they add up."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from modelspend import settings
from modelspend.errors import UnknownModel
from modelspend.gateway.scenario import NO_PRICE, NOT_TOLD, Scenario
from modelspend.money import NO_COST
from modelspend.receipt import Delivery, Status, Usage
from modelspend.scenario import MECHANISMS, Change, Tally, chosen, outcome, to_json
from modelspend.store import ALL, Store
from tests.gateway.test_backtest import BASE, DOWN, found, kept, receipt, written
from tests.store.bulk import load
from tests.store.synthetic import Traffic

MICRO = 1_000_000  # a dollar per million tokens, in pico-dollars a token


async def change(folder: Path, tree: Mapping[str, Any] = BASE, **asked: Any) -> Tally:
    """The whole ledger of a folder under a change."""
    loaded = settings.load(written(folder, "base", {**tree, "profiles": DOWN["profiles"]}), {})
    store = await Store.open_read(folder / "ledger.db")
    try:
        made = await Scenario.of(store, loaded.settings, Change(**asked))
        async for _ in made.run(store, [ALL]):
            pass
        return made.tally
    finally:
        await store.close()


def deep(n: int, used: Mapping[str, int], **changes: Any) -> Any:
    return receipt(n, used, classification=found("deep_reasoning"), **changes)


def alone(n: int, used: Mapping[str, int]) -> Any:
    return deep(n, used, session_id=None, session_source=None)


PLAIN = {"input_tokens": 1000, "output_tokens": 100}
BIG, MID, SMALL = 15_000 * MICRO, 6_000 * MICRO, 1_500 * MICRO


async def test_nothing_asked_changes_nothing(tmp_path: Path) -> None:
    load(tmp_path / "ledger.db", ((one, None) for one in Traffic(seed=3).receipts(300)))
    tally = await change(tmp_path)
    assert len(set(tally.costs)) == 1
    assert tally.costs[0] > 0
    assert not tally.moves
    assert tally.read == tally.read_after


async def test_a_fifth_of_deep_reasoning_goes_a_tier_down_at_its_price(tmp_path: Path) -> None:
    shallow = receipt(0, PLAIN, session_id=None, session_source=None)
    kept(tmp_path, shallow, *(alone(n, PLAIN) for n in range(1, 11)))
    tally = await change(tmp_path, shift_deep_pct=Decimal(20))
    assert tally.costs == [11 * BIG, 11 * BIG, 9 * BIG + 2 * MID, 9 * BIG + 2 * MID]
    (move,) = tally.moves.values()
    assert (move.calls, move.before_pico, move.after_pico) == (2, 2 * BIG, 2 * MID)
    assert (tally.shifted_pico, tally.deep_pico) == (2 * BIG, 10 * BIG)


async def test_a_conversation_that_shifts_loses_the_cache_that_it_had(tmp_path: Path) -> None:
    turns = [
        {"input_tokens": 2048, "output_tokens": 10},
        {"input_tokens": 256, "cache_read_tokens": 2048, "output_tokens": 10},
    ]
    shallow = receipt(0, turns[0])
    kept(tmp_path, shallow, deep(1, turns[1]))
    tally = await change(tmp_path, shift_deep_pct=Decimal(100))
    # the first turn stays, so the second finds nothing in the other model's cache
    stays = (2048 * 10 + 10 * 50) * MICRO
    assert tally.costs[0] == stays + (256 * 10 + 2048 + 10 * 50) * MICRO
    assert tally.costs[2] == stays + (2304 * 4 + 10 * 20) * MICRO


async def test_a_conversation_that_shifts_whole_keeps_reading_from_the_new_cache(
    tmp_path: Path,
) -> None:
    turns = [
        {"input_tokens": 2048, "output_tokens": 10},
        {"input_tokens": 256, "cache_read_tokens": 2048, "output_tokens": 10},
    ]
    kept(tmp_path, *(deep(n, used) for n, used in enumerate(turns)))
    tally = await change(tmp_path, shift_deep_pct=Decimal(100), shift_to="small")
    moved = [2048 + 10 * 5, 256 + 2048 // 10 + 10 * 5]
    exact = (2048 + 50) * MICRO + 256 * MICRO + 2048 * MICRO // 10 + 50 * MICRO
    assert tally.costs[2] == exact
    assert sum(moved) * MICRO <= exact  # a tenth of 2048 tokens is no whole number of dollars


async def test_a_better_cache_reads_what_was_fresh(tmp_path: Path) -> None:
    used = {"input_tokens": 8000, "cache_read_tokens": 2000, "output_tokens": 10}
    kept(tmp_path, alone(1, used))
    tally = await change(tmp_path, cache_hit_delta=Decimal("0.15"))
    assert tally.costs[3] == tally.costs[2] - 1500 * 9 * MICRO
    assert (tally.read, tally.read_after, tally.prompt) == (2000, 3500, 10_000)
    worse = await change(tmp_path, cache_hit_delta=Decimal("-0.5"))
    assert worse.costs[3] == worse.costs[2] + 2000 * 9 * MICRO
    most = await change(tmp_path, cache_hit_delta=Decimal(1))
    assert most.costs[3] == (10_000 + 10 * 50) * MICRO


async def test_a_prompt_too_short_to_be_kept_gains_nothing(tmp_path: Path) -> None:
    kept(tmp_path, alone(1, {"input_tokens": 1000, "output_tokens": 1}))
    tally = await change(tmp_path, cache_hit_delta=Decimal("0.5"))
    assert tally.costs[3] == tally.costs[0]


async def test_a_mix_moves_shares_of_a_model_to_others(tmp_path: Path) -> None:
    kept(tmp_path, *(alone(n, PLAIN) for n in range(10)))
    shares = {"mid": Decimal(30), "acme/small": Decimal(20)}
    tally = await change(tmp_path, mix={"big": shares})
    assert tally.costs[1] == 5 * BIG + 3 * MID + 2 * SMALL
    assert {key[2]: move.calls for key, move in tally.moves.items()} == {
        "acme/mid": 3,
        "acme/small": 2,
    }
    assert (await change(tmp_path, mix={"other": {"mid": Decimal(50)}})).unseen == ["other"]


async def test_a_model_without_a_price_takes_nobody(tmp_path: Path) -> None:
    kept(tmp_path, alone(1, PLAIN))
    tally = await change(tmp_path, shift_deep_pct=Decimal(100), shift_to="dark")
    assert tally.costs == [BIG] * 4
    assert tally.stuck == {NO_PRICE: 1}


async def test_what_is_stuck_is_not_said_to_have_shifted(tmp_path: Path) -> None:
    kept(tmp_path, alone(1, PLAIN), alone(2, PLAIN))
    tally = await change(tmp_path, shift_deep_pct=Decimal(50), shift_to="dark")
    assert (tally.shifted_pico, tally.deep_pico) == (0, 2 * BIG)
    mixed = await change(tmp_path, mix={"big": {"dark": Decimal(50), "mid": Decimal(50)}})
    said = to_json(
        Change(mix={"big": {"dark": Decimal(50), "mid": Decimal(50)}}), mixed, 1, 1, None
    )
    assert said["reached"]["model_mix"] == {"big": {"dark": 0, "mid": 50}}


async def test_a_call_that_cannot_be_made_again_is_told_and_stays(tmp_path: Path) -> None:
    embedded = replace(
        alone(1, PLAIN), request=replace(alone(1, PLAIN).request, dialect="openai.embeddings")
    )
    kept(tmp_path, embedded)
    asked: dict[str, Any] = {"shift_deep_pct": Decimal(100), "mix": {"big": {"mid": Decimal(100)}}}
    tally = await change(tmp_path, **asked)
    assert tally.costs == [BIG] * 4
    assert tally.stuck == {NOT_TOLD: 1}
    reached = to_json(Change(**asked), tally, 1, 1, None)["reached"]
    assert (reached["routing_shift_deep_pct"], reached["model_mix"]["big"]["mid"]) == (0, 0)


async def test_every_attempt_of_a_call_is_priced_again_the_ones_that_failed_as_well(
    tmp_path: Path,
) -> None:
    plain = alone(1, PLAIN)
    (one,) = plain.attempts
    cut = replace(
        one,
        status=Status.TRUNCATED,
        usage=replace(one.usage, quantities={"input_tokens": 1000, "output_tokens": 7}),
    )
    unsent = replace(
        one, status=Status.ERROR, delivery=Delivery.NOT_SENT, usage=Usage(), cost=NO_COST
    )
    cost = BIG + (1000 * 10 + 7 * 50) * MICRO
    twice = replace(
        plain,
        attempts=(cut, replace(unsent, n=2), replace(one, n=3)),
        execution=replace(plain.execution, actual_cost_pico=cost),
    )
    kept(tmp_path, twice)
    tally = await change(tmp_path, shift_deep_pct=Decimal(100))
    assert tally.costs == [cost, cost, MID + (1000 * 4 + 7 * 20) * MICRO, tally.costs[2]]
    assert tally.costs[3] == tally.costs[2]
    grown = await change(tmp_path, cache_hit_delta=Decimal(0))
    assert grown.costs == [cost] * 4


async def test_tokens_that_were_written_to_a_cache_are_fresh_where_nobody_bills_writes(
    tmp_path: Path,
) -> None:
    used = {"input_tokens": 100, "cache_write_5m_tokens": 4000, "output_tokens": 10}
    plain = alone(1, PLAIN)
    cost = (100 * 10 + 10 * 50) * MICRO + 4000 * 12_500_000
    (one,) = plain.attempts
    written = replace(
        plain,
        attempts=(
            replace(
                one,
                usage=replace(one.usage, quantities=used),
                cost=replace(one.cost, total_pico=cost),
            ),
        ),
        execution=replace(plain.execution, actual_cost_pico=cost),
    )
    kept(tmp_path, written)
    tally = await change(tmp_path, shift_deep_pct=Decimal(100))
    assert tally.costs[2] == (4100 * 4 + 10 * 20) * MICRO
    better = await change(tmp_path, cache_hit_delta=Decimal("0.5"))
    # half of the 4,100 tokens of the prompt are read at 1 where they were written at 12.5
    assert better.costs[0] - better.costs[3] == 2050 * 11_500_000


async def test_what_moves_and_what_stays_save_all_that_a_step_saves(tmp_path: Path) -> None:
    """A conversation of which only the deep turns move: the others find less in their cache."""
    turns = [
        {"input_tokens": 4096, "output_tokens": 10},
        {"input_tokens": 256, "cache_read_tokens": 4096, "output_tokens": 10},
    ]
    kept(tmp_path, deep(0, turns[0]), receipt(1, turns[1]))
    tally = await change(tmp_path, shift_deep_pct=Decimal(100))
    lost = 4096 * 11_500_000  # written anew at 12.5, where they were read at 1
    assert tally.beside("routing") == -lost
    (move,) = tally.moves.values()
    saved = move.before_pico - move.after_pico
    assert tally.costs[1] - tally.costs[2] == saved - lost


async def test_an_unknown_cost_is_counted_and_never_added(tmp_path: Path) -> None:
    plain = alone(1, PLAIN)
    lost = replace(plain.execution, actual_cost_pico=None)
    kept(tmp_path, plain, replace(plain, receipt_id="rcpt_unknown", execution=lost))
    tally = await change(tmp_path, shift_deep_pct=Decimal(100))
    assert (tally.calls, tally.unpriced, tally.costs[2]) == (1, 1, MID)


async def test_a_model_that_nobody_has_is_refused(tmp_path: Path) -> None:
    kept(tmp_path, alone(1, PLAIN))
    with pytest.raises(UnknownModel, match="no-such-model"):
        await change(tmp_path, shift_deep_pct=Decimal(1), shift_to="no-such-model")


async def test_changes_compose_on_a_synthetic_ledger(tmp_path: Path) -> None:
    load(tmp_path / "ledger.db", ((one, None) for one in Traffic(seed=3).receipts(400)))
    mix = {"gpt-4.1-2025-04-14": {"claude-haiku-4-5": Decimal(40)}}
    shift, better = Decimal(50), Decimal("0.2")
    both = await change(tmp_path, mix=mix, shift_deep_pct=shift, cache_hit_delta=better)
    mixed = await change(tmp_path, mix=mix)
    shifted = await change(tmp_path, mix=mix, shift_deep_pct=shift)
    assert both.costs[:2] == mixed.costs[:2]
    assert both.costs[:3] == shifted.costs[:3]
    assert both.costs[3] < both.costs[2]
    said = to_json(Change(mix=mix), both, 28, 30, None)
    assert sum(said["savings_by_mechanism"].values()) == said["savings_vs_base_usd"]


@pytest.mark.parametrize("seed", range(4))
async def test_printed_parts_are_the_printed_whole_whatever_is_asked(
    tmp_path: Path, seed: int
) -> None:
    load(tmp_path / "ledger.db", ((one, None) for one in Traffic(seed=seed).receipts(250)))
    random = Random(seed)
    asked: dict[str, Any] = {
        "mix": {"gpt-5": {"gpt-5-mini": Decimal(random.randint(0, 60)), "small": Decimal(20)}},
        "shift_deep_pct": Decimal(random.randint(0, 100)),
        "shift_to": "small",
        "cache_hit_delta": Decimal(random.randint(-100, 100)) / 100,
        "growth_pct": Decimal(random.randint(-100, 200)),
    }
    said = to_json(Change(**asked), await change(tmp_path, **asked), 28, 60, None)
    base, adjusted = said["base_daily_cost_usd"], said["adjusted_daily_cost_usd"]
    assert said["savings_vs_base_usd"] == (base - adjusted) * 60
    assert sum(said["savings_by_mechanism"].values()) == said["savings_vs_base_usd"]
    at = said["priced_again"]["ledger_usd"]
    for step in ("mix", "routing"):
        moves = [move for move in said["moves"] if move["mechanism"] == step]
        at -= sum(move["before_usd"] - move["after_usd"] for move in moves)
        at -= said["saved_beside_moves"][f"{step}_usd"]
        assert at == said["priced_again"][f"after_{step}_usd"]
    assert abs(base - said["priced_again"]["ledger_usd"] / 28) <= Decimal("5e-13")
    for targets in said["reached"]["model_mix"].values():
        assert sum(share or 0 for share in targets.values()) <= 100


# The sums and the choice, without a ledger.


@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.integers(0, 10**18), min_size=4, max_size=4),
    st.integers(1, 90),
    st.integers(1, 400),
    st.decimals(-100, 300, places=2),
)
def test_what_mechanisms_save_adds_up_to_the_whole(
    costs: list[int], horizon: int, days: int, growth: Decimal
) -> None:
    tally = Tally()
    tally.add(costs)
    made = outcome(tally, days, growth)
    assert tuple(made.saved_pico) == MECHANISMS
    assert sum(made.saved_pico.values()) == made.base_pico - made.adjusted_pico
    said = to_json(Change(growth_pct=growth), tally, days, horizon, None)
    base, adjusted = said["base_daily_cost_usd"], said["adjusted_daily_cost_usd"]
    assert said["savings_vs_base_usd"] == (base - adjusted) * horizon
    assert sum(said["savings_by_mechanism"].values()) == said["savings_vs_base_usd"]
    if base:
        ratio = said["routing_savings_ratio_used"]
        assert abs(ratio - (base - adjusted) / base) <= Decimal("0.0000005") * (1 + abs(ratio))


@given(
    st.dictionaries(st.text(min_size=1, max_size=4), st.integers(0, 10**9), max_size=30),
    st.integers(0, 100),
)
def test_the_choice_is_never_further_from_the_goal_than_nothing(
    weights: dict[str, int], pct: int
) -> None:
    asked = {("t", key): weight for key, weight in weights.items()}
    goal = Fraction(pct * sum(weights.values()), 100)
    taken = chosen(asked, goal, "salt")
    assert taken == chosen(dict(reversed(asked.items())), goal, "salt")
    reached = sum(asked[each] for each in taken)
    assert abs(reached - goal) <= goal
    if pct == 100:
        assert reached == goal


@pytest.mark.parametrize(
    "asked",
    [
        {"shift_deep_pct": Decimal(101)},
        {"cache_hit_delta": Decimal("1.5")},
        {"growth_pct": Decimal(-101)},
        {"mix": {"a": {"b": Decimal(60), "c": Decimal(50)}}},
        {"mix": {"a": {"b": Decimal(-1)}}},
    ],
)
def test_what_no_traffic_can_do_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|would move"):
        Change(**asked)
