"""Sums, risks and the sentence of a back-test, from calls written out by hand."""

from dataclasses import replace
from decimal import Decimal

import pytest

from modelspend.backtest import RISKIEST, Redecided, Tally, advice, percent, risk_of, to_json
from modelspend.receipt import Classification

USD = 10**12


def found(**changes: object) -> Classification:
    calm = Classification(
        category="chat", confidence=0.95, complexity=0.1, tier="simple", risk_signals={}
    )
    return replace(calm, **changes)  # type: ignore[arg-type]


def call(ledger: int | None, policy: int | None, n: int = 1, **changes: object) -> Redecided:
    one = Redecided(
        receipt_id=f"rcpt_{n}",
        ended="moved",
        before="openai/big",
        after="openai/small",
        ledger_pico=ledger,
        policy_pico=policy,
        tier_before="simple",
        found=found(),
    )
    return replace(one, **changes)  # type: ignore[arg-type]


def tally(*calls: Redecided) -> Tally:
    made = Tally()
    for one in calls:
        made.add(one)
    return made


def test_the_difference_is_made_of_what_is_known_on_both_sides() -> None:
    made = tally(
        call(10 * USD, 4 * USD),
        call(7 * USD, None),
        call(None, 2 * USD),
        call(None, None),
    )
    assert made.difference_pico == -6 * USD
    said = to_json(made)
    assert said["compared"] == {
        "calls": 1,
        "ledger_usd": 10,
        "policy_usd": 4,
        "difference_usd": -6,
        "difference_pct": Decimal("-60.00"),
    }
    assert said["ledger"] == {"calls": 4, "unpriced": 2, "cost_usd": 17}
    assert said["policy"] == {"calls": 4, "unpriced": 2, "cost_usd": 6}
    assert said["newly_unpriced"] == {"calls": 1, "ledger_usd": 7}


def test_models_and_tiers_add_up_to_the_totals() -> None:
    made = tally(
        call(5 * USD, 3 * USD),
        call(8 * USD, 8 * USD, ended="same", after="openai/big", found=found(tier="standard")),
        call(0, 0, ended="not_decided", before="", after="", found=None, tier_before=None, why="x"),
    )
    said = to_json(made)
    for rows in (said["models"], said["tiers"]):
        for side in ("ledger", "policy"):
            for figure in ("calls", "unpriced", "cost_usd"):
                assert sum(row[side][figure] for row in rows) == said[side][figure]
    assert [row["tier"] for row in said["tiers"]] == ["simple", "standard", "(unclassified)"]
    assert [row["model"] for row in said["models"]] == ["openai/big", "openai/small", "(nobody)"]
    assert said["not_decided"] == [{"reason": "x", "calls": 1, "unpriced": 0, "ledger_usd": 0}]


RISKS = [
    ({}, ()),
    ({"found": found(complexity=0.61)}, ("complexity 0.61",)),
    ({"found": found(confidence=0.79)}, ("confidence 0.79",)),
    ({"output_tokens": 1500}, ("1500 tokens of output",)),
    ({"output_tokens": 1499}, ()),
    ({"calls_tools": True}, ("calls tools",)),
    (
        {
            "found": found(
                risk_signals={
                    "hasAdvancedReasoningSignals": True,
                    "advancedReasoningDetails": ["formal_proof"],
                }
            )
        },
        ("advanced: formal_proof",),
    ),
    ({"found": None, "calls_tools": True}, ()),
]


@pytest.mark.parametrize(("changes", "reasons"), RISKS)
def test_a_risk_has_its_reasons(changes: dict[str, object], reasons: tuple[str, ...]) -> None:
    risk = risk_of(call(2, 1, **changes))
    assert (risk.reasons if risk else ()) == reasons


def test_only_what_goes_to_less_of_a_model_is_risky() -> None:
    risky = {"calls_tools": True}
    assert risk_of(call(1, 2, **risky)) is None
    assert risk_of(call(1, 2, step=-1, **risky)) is not None
    assert risk_of(call(2, 1, step=1, **risky)) is None
    assert risk_of(call(2, 1, step=0, **risky)) is not None
    assert risk_of(call(2, None, **risky)) is None
    assert risk_of(call(2, 1, ended="refused", **risky)) is None


def test_the_riskiest_are_kept_in_order_and_all_are_counted() -> None:
    calls = [call(2, 1, n, found=found(complexity=0.6 + n / 1000)) for n in range(100)]
    made = tally(*calls)
    assert made.risky == 100
    kept = [risk.call.receipt_id for risk in made.riskiest]
    assert kept == [f"rcpt_{n}" for n in range(99, 99 - RISKIEST, -1)]
    same = tally(*(call(2, 1, n, calls_tools=True) for n in range(100)))
    assert [risk.call.receipt_id for risk in same.riskiest] == [f"rcpt_{n}" for n in range(20)]


def test_the_sentence_says_only_what_the_figures_say() -> None:
    assert advice(tally()) is None
    assert advice(tally(call(3, 3, ended="same"))) is None
    told = advice(tally(call(4 * USD, USD)))
    assert told is not None
    saved, _, rest = told.partition(", ")
    assert saved == "The policy saves 3 USD (-75.00 %) on these calls"
    assert rest == "and none of those that it moves is risky."
    told = advice(tally(call(4 * USD, USD, calls_tools=True)))
    assert told is not None
    assert told.endswith("look at the 1 risky ones before you take it.")
    assert advice(tally(call(USD, 4 * USD))) == (
        "The policy costs +3 USD more (+300.00 %) on these calls."
    )
    assert advice(tally(call(4 * USD, USD), call(USD, None))) is None
    assert advice(tally(call(4 * USD, 0, ended="refused", after="", why="nobody"))) is None


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [(1, 3, "33.33"), (2, 3, "66.67"), (-1, 3, "-33.33"), (1, 20000, "0.01"), (0, 5, "0.00"),
     (10**30, 3, "33333333333333333333333333333333.33")],
)  # fmt: skip
def test_a_share_is_rounded_once_from_whole_numbers(part: int, whole: int, said: str) -> None:
    assert str(percent(part, whole)) == said
    assert percent(part, 0) is None


def test_a_call_whose_prompt_is_weighed_otherwise_changes_its_tier() -> None:
    made = tally(call(1, 1, tier_before="standard"), call(1, 1), call(1, 1, tier_before=None))
    assert made.retiered == 1
