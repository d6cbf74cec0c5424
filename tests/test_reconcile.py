"""Every cause of a difference is injected, alone and in pairs, and is named with its amount."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import combinations

import pytest

from modelspend import bills
from modelspend.charges import DAY_MS
from modelspend.reconcile import Reconciliation, reconcile
from modelspend.waterfall import CAUSES
from tests.billing import (
    CLAUDE,
    PRICES,
    START_MS,
    Call,
    anthropic_costs,
    anthropic_usage,
    calls,
    changed,
    openai_costs,
    openai_costs_json,
    openai_usage_csv,
    openai_usage_json,
    openrouter_calls,
    rounded,
    sums,
    tries,
)


def _rate(_: int, model: str, tier: str, bucket: str) -> int | None:
    rates = {**PRICES, **CLAUDE}.get(model)
    return None if rates is None else rates[bucket] * (2 if tier == "priority" else 1)


def _of(text: str, provider: bills.ProviderName, ours: list[Call]) -> Reconciliation:
    found = reconcile(bills.read(text, provider), tries(ours), _rate)
    for cell in found.cells:
        assert sum(cell.causes.values()) == cell.gap_pico
    assert sum(found.causes.values()) == found.gap_pico
    return found


def _named(found: Reconciliation) -> dict[str, int]:
    return {cause: pico for cause, pico in found.causes.items() if pico}


@dataclass(frozen=True)
class Injection:
    """Both sides after one thing went wrong on a day, and what it must be found to be."""

    ours: list[Call]
    theirs: list[Call]
    cause: str
    pico: int


Inject = Callable[[list[Call], list[Call], int], Injection]
"""(our calls, theirs, the place of the call that it happens to)"""


def missing_here(ours: list[Call], theirs: list[Call], at: int) -> Injection:
    gone = [call for call in ours if call.call_id != theirs[at].call_id]
    return Injection(gone, theirs, "missing_here", theirs[at].cost)


def missing_there(ours: list[Call], theirs: list[Call], at: int) -> Injection:
    gone = [call for call in theirs if call.call_id != ours[at].call_id]
    return Injection(ours, gone, "missing_there", -ours[at].cost)


def unpriced(ours: list[Call], theirs: list[Call], at: int) -> Injection:
    return Injection(changed(ours, at, priced=False), theirs, "unpriced", ours[at].cost)


def cache_class(ours: list[Call], theirs: list[Call], at: int) -> Injection:
    lines = dict(theirs[at].lines)
    (read, cheap), (fresh, dear) = lines.pop("cache_read_tokens"), lines["input_tokens"]
    lines["input_tokens"] = (fresh + read, dear)
    return Injection(ours, changed(theirs, at, lines=lines), "cache_class", read * (dear - cheap))


def tier(ours: list[Call], theirs: list[Call], at: int) -> Injection:
    lines = {bucket: (n, 2 * unit) for bucket, (n, unit) in theirs[at].lines.items()}
    dearer = changed(theirs, at, lines=lines, tier="priority")
    return Injection(ours, dearer, "tier", theirs[at].cost)


def price_change(ours: list[Call], theirs: list[Call], at: int) -> Injection:
    """All calls of that day and model, at a tenth more."""
    like = theirs[at]
    dearer, more = [], 0
    for call in theirs:
        if (call.day, call.model) == (like.day, like.model):
            lines = {b: (n, unit + unit // 10) for b, (n, unit) in call.lines.items()}
            more += sum(n * (unit // 10) for n, unit in call.lines.values())
            call = replace(call, lines=lines)
        dearer.append(call)
    return Injection(ours, dearer, "price_change", more)


def day_edge(ours: list[Call], theirs: list[Call], at: int) -> Injection:
    """A call that they count on the day on which it ended."""
    return Injection(ours, changed(theirs, at, at_ms=theirs[at].at_ms + DAY_MS), "time_zone", 0)


FINE: tuple[Inject, ...] = (
    missing_here, missing_there, unpriced, cache_class, tier, price_change, day_edge,
)  # fmt: skip
PAIRS = list(combinations(FINE, 2))
PAIR_NAMES = [f"{one.__name__}-{other.__name__}" for one, other in PAIRS]
COUNTED = {
    "openai costs": ("openai", openai_costs),
    "openai usage": ("openai", openai_usage_json),
    "openai usage csv": ("openai", openai_usage_csv),
}


def _inject(injects: tuple[Inject, ...], seed: int) -> tuple[list[Call], list[Call], dict]:  # type: ignore[type-arg]
    """Each of them happens on a day of its own, the days two apart."""
    rng = random.Random(seed)
    made = calls(seed)
    ours, theirs, expected = made, made, dict.fromkeys(CAUSES, 0)
    for n, inject in enumerate(injects):
        of_day = [c for c in made if c.day == START_MS + (1 + 3 * n) * DAY_MS]
        named = rng.choice(of_day).call_id
        at = next(k for k, call in enumerate(theirs) if call.call_id == named)
        assert ours[at].call_id == named
        done = inject(ours, theirs, at)
        ours, theirs = done.ours, done.theirs
        if len(ours) != len(theirs):  # keep both in step for the next one
            short, long = sorted((ours, theirs), key=len)
            spare = next(c for c in long if c.call_id not in {s.call_id for s in short})
            ours = [c for c in ours if c is not spare] + [c for c in ours if c is spare]
            theirs = [c for c in theirs if c is not spare] + [c for c in theirs if c is spare]
        expected[done.cause] += done.pico  # type: ignore[index]
    return ours, theirs, {cause: pico for cause, pico in expected.items() if pico}


@pytest.mark.parametrize("shape", COUNTED)
def test_files_that_agree_leave_no_gap(shape: str) -> None:
    provider, write = COUNTED[shape]
    made = calls(1)
    found = _of(write(made), provider, made)  # type: ignore[operator, arg-type]
    assert found.theirs_pico == found.ours_pico == sum(call.cost for call in made)
    assert _named(found) == {}
    assert found.zone_ms == 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", COUNTED)
@pytest.mark.parametrize("inject", FINE, ids=lambda inject: inject.__name__)
def test_a_cause_is_named_with_its_amount(inject: Inject, shape: str, seed: int) -> None:
    provider, write = COUNTED[shape]
    ours, theirs, expected = _inject((inject,), seed)
    if inject is price_change and "usage" in shape:
        expected = {}  # a file of usage holds no prices
    found = _of(write(theirs), provider, ours)  # type: ignore[operator, arg-type]
    assert _named(found) == expected
    if inject is day_edge:
        assert any(cell.causes.get("time_zone") for cell in found.cells)


@pytest.mark.parametrize("pair", PAIRS, ids=PAIR_NAMES)
def test_two_causes_on_two_days_are_both_named(pair: tuple[Inject, Inject]) -> None:
    for seed in range(3):
        for order in (pair, pair[::-1]):
            ours, theirs, expected = _inject(order, seed)
            assert _named(_of(openai_costs(theirs), "openai", ours)) == expected


@pytest.mark.parametrize("pair", PAIRS, ids=PAIR_NAMES)
def test_two_causes_in_one_cell_still_add_up(pair: tuple[Inject, Inject]) -> None:
    for seed in range(5):
        made = calls(seed)
        first = pair[0](made, made, 9)
        if len(first.ours) != len(made) or len(first.theirs) != len(made):
            continue
        second = pair[1](first.ours, first.theirs, 10)
        found = _of(openai_costs(second.theirs), "openai", second.ours)
        assert found.gap_pico == sum(c.cost for c in second.theirs) - sum(
            c.cost for c in second.ours if c.priced
        )


def test_an_unpriced_call_in_a_file_of_usage_is_valued_at_the_known_price() -> None:
    made = calls(5)
    ours = changed(made, 4, priced=False)
    found = _of(openai_usage_json(made), "openai", ours)
    assert _named(found) == {"unpriced": made[4].cost}


@pytest.mark.parametrize("hours", [-8, -5, 3.5, 5.5, 9])
def test_days_of_another_time_zone_are_recognised(hours: float) -> None:
    zone_ms = int(hours * 3_600_000)
    made = calls(6, each_day=20)
    inside = [c for c in made if START_MS + DAY_MS <= c.at_ms - zone_ms < START_MS + 5 * DAY_MS]
    found = _of(openai_costs(inside, zone_ms), "openai", made)
    assert abs(found.zone_ms - zone_ms) <= 3_600_000, "no call tells hours apart in which none was"
    assert set(_named(found)) <= {"time_zone"}
    assert any(cell.causes.get("time_zone") for cell in found.cells)


def test_a_time_zone_and_a_missing_call_are_told_apart() -> None:
    zone_ms = -8 * 3_600_000
    made = calls(6, each_day=20)
    inside = [c for c in made if START_MS + DAY_MS <= c.at_ms - zone_ms < START_MS + 5 * DAY_MS]
    lost = inside[30]
    found = _of(openai_costs(inside, zone_ms), "openai", [c for c in made if c is not lost])
    assert _named(found).get("missing_here") == lost.cost
    assert set(_named(found)) == {"missing_here", "time_zone"}


# Files of costs without tokens.


def test_cents_are_rounding_and_nothing_else() -> None:
    made = calls(7, CLAUDE)
    found = _of(anthropic_costs(made), "anthropic", made)
    cents = sum(int(rounded(pico, 2) * 10**12) - pico for _, pico in sums(made).values())
    assert cents
    assert _named(found) == {"rounding": cents}
    assert found.drift_pico == 0


def test_a_day_of_a_model_that_one_side_does_not_know_is_missing() -> None:
    made = calls(8, CLAUDE)
    few = [c for c in made if (c.day, c.model) != (START_MS + DAY_MS, made[0].model)]
    whole, part = anthropic_costs(made, digits=9), anthropic_costs(few, digits=9)
    cost = sum(c.cost for c in made) - sum(c.cost for c in few)
    assert _named(_of(whole, "anthropic", few)) == {"missing_here": cost}
    assert _named(_of(part, "anthropic", made)) == {"missing_there": -cost}


@pytest.mark.parametrize("digits", [2, 9])
def test_tokens_that_a_cache_gave_are_told_from_dollars_alone(digits: int) -> None:
    made = calls(9, CLAUDE, each_day=40)
    done = cache_class(made, made, 50)
    found = _of(anthropic_costs(done.theirs, digits=digits), "anthropic", made)
    slack = 3 * 10**10 if digits == 2 else 10
    assert abs(_named(found)["cache_class"] - done.pico) <= slack
    assert set(_named(found)) <= {"cache_class", "rounding"}


def test_a_batch_is_told_from_dollars_alone() -> None:
    made = calls(10, CLAUDE)
    cell = (START_MS + DAY_MS, made[0].model)
    half = [
        replace(c, tier="batch", lines={b: (n, u // 2) for b, (n, u) in c.lines.items()})
        if (c.day, c.model) == cell
        else c
        for c in made
    ]
    found = _of(anthropic_costs(half, digits=9), "anthropic", made)
    assert _named(found) == {"tier": -sum(c.cost for c in made if (c.day, c.model) == cell) // 2}


def test_a_discount_is_a_price_that_changed() -> None:
    made = calls(11, CLAUDE)
    found = _of(anthropic_costs(made, digits=9, discount=Decimal("0.1")), "anthropic", made)
    total = sum(c.cost for c in made)
    assert set(_named(found)) <= {"price_change", "rounding"}
    assert abs(_named(found)["price_change"] + total // 10) < 10**6


def test_another_price_list_is_told_from_dollars_alone() -> None:
    made = calls(12)
    done = price_change(made, made, 20)
    found = _of(openai_costs(done.theirs, counted=False), "openai", made)
    assert _named(found) == {"price_change": done.pico}


def test_cents_alone_do_not_tell_a_missing_call_from_a_price() -> None:
    made = calls(16, CLAUDE)
    theirs = [c for c in made if c not in made[8:10]]
    found = _of(anthropic_costs(theirs), "anthropic", made)
    assert "price_change" not in _named(found)
    assert abs(_named(found)["unknown"] + sum(c.cost for c in made[8:10])) < 3 * 10**10


def test_what_dollars_alone_do_not_explain_is_unknown() -> None:
    made = calls(13)
    theirs = changed(made, 20, extra={"output_tokens": 370_000_000_000})
    found = _of(openai_costs(theirs, counted=False), "openai", made)
    assert _named(found) == {"unknown": 370_000_000_000}
    found = _of(openai_costs_json(theirs), "openai", made)
    assert _named(found) == {"unknown": 370_000_000_000}


def test_costs_and_usage_of_the_same_days_are_read_together() -> None:
    made = calls(14, CLAUDE)
    lost = [c for c in made if c is not made[17]]
    costs, usage = anthropic_costs(made, digits=9), anthropic_usage(made)
    charges = bills.read(costs, "anthropic") + bills.read(usage, "anthropic")
    found = reconcile(charges, tries(lost), _rate)
    assert _named(found)["missing_here"] == made[17].cost
    assert set(_named(found)) <= {"missing_here", "rounding"}
    assert found.theirs_pico == sum(int(rounded(p, 9) * 10**12) for _, p in sums(made).values())


# A file of single calls.


@pytest.mark.parametrize("inject", FINE, ids=lambda inject: inject.__name__)
def test_single_calls_are_matched_by_their_ids(inject: Inject) -> None:
    made = calls(15)
    done = inject(made, made, 30)
    found = _of(openrouter_calls(done.theirs), "openrouter", done.ours)
    if inject is tier:  # the file says no tier
        assert _named(found) == {"price_change": done.pico}
    else:
        assert _named(found) == ({done.cause: done.pico} if done.pico else {})
    if inject is day_edge:
        moved = [cell.causes.get("time_zone", 0) for cell in found.cells]
        assert sorted(moved)[0] == -sorted(moved)[-1] == -made[30].cost


def test_the_model_of_a_dated_name_is_the_same_model() -> None:
    from modelspend.charges import model_key

    for names in (
        ("gpt-5", "gpt-5-2025-08-07", "GPT-5"),
        ("Claude Haiku 4.5", "claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("Claude 3.5 Sonnet 2024-10-22", "claude-3-5-sonnet-20241022", "claude-3-5-sonnet-latest"),
        ("openai/gpt-4.1-2025-04-14", "openai/gpt-4.1", "openai/gpt-4.1:free"),
    ):
        assert len({model_key(name) for name in names}) == 1, names
    assert model_key("gpt-5-nano") != model_key("gpt-5")
