"""Payback: each figure follows from those beside it; nothing is claimed that nobody knows."""

import math
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspend.roi import CASE, DEFAULTS, LEAST_DAYS, Measured, to_json, work_out

TODAY = date(2026, 11, 25)
USD = 10**12


def told(measured: Measured | None = None, **figures: Any) -> dict[str, Any]:
    return to_json(work_out({k: Decimal(v) for k, v in figures.items()}, measured, TODAY))


def days(*saved: int, cost: int = 600 * USD, **counts: int) -> Measured:
    return Measured(cost_pico=cost, saved=saved, **{"decided": 10, "receipts": 10, **counts})


def value(said: Mapping[str, Any], name: str) -> Any:
    return {each["name"]: each["value"] for each in said["assumptions"]}[name]


def check(said: Mapping[str, Any]) -> None:
    """Work out every figure again from the printed ones, by the printed formula."""
    names = {each["name"]: each["value"] for each in said["assumptions"]} | dict(said)
    known = {k: Fraction(v) for k, v in names.items() if isinstance(v, Decimal)}
    for name, formula in said["how"].items():
        if name == "break_even_on":
            if said[name] is not None:
                ratio = 30 * known["setup_cost_usd"] / known["monthly_net_usd"]
                assert said[name] == (TODAY + timedelta(days=math.ceil(ratio))).isoformat()
            continue
        shown = names.get(name)
        if shown is None:
            continue
        again = eval(formula, {}, known)
        money = name.endswith("_usd")
        assert abs(again - Fraction(shown)) <= Fraction(1, 10**12 if money else 10**6), name


def test_one_s_own_figures_pay_back_as_division_says() -> None:
    said = told(monthly_spend_usd=5000, savings_pct=20, people=2, setup_hours=6, hourly_usd=100,
                upkeep_hours=2, fees_usd=50)  # fmt: skip
    assert said["setup_cost_usd"] == 1200
    assert said["monthly_cost_usd"] == 250
    assert said["monthly_saving_usd"] == 1000
    assert said["monthly_net_usd"] == 750
    assert said["payback_months"] == Decimal("1.6")
    assert said["break_even_on"] == (TODAY + timedelta(days=48)).isoformat()
    assert said["net_12_months_usd"] == 7800
    assert said["break_even_savings_pct"] == 7
    assert said["range"] is None
    check(said)


def test_at_the_break_even_share_a_year_nets_nothing() -> None:
    said = told(monthly_spend_usd=5000, savings_pct=1)
    again = told(monthly_spend_usd=5000, savings_pct=said["break_even_savings_pct"])
    assert 0 <= again["net_12_months_usd"] < Decimal("0.01")


def test_every_assumption_says_where_it_comes_from() -> None:
    said = told(days(*[USD] * 30), hourly_usd=80)
    sources = {each["name"]: each["source"] for each in said["assumptions"]}
    assert sources["hourly_usd"] == "flag"
    assert sources["setup_hours"] == sources["fees_usd"] == "default"
    assert sources["monthly_spend_usd"] == sources["measured_saved_usd"] == "ledger"
    assert all(each["meaning"] for each in said["assumptions"])
    assert set(DEFAULTS) <= sources.keys()


def test_what_the_ledger_saved_is_scaled_to_30_days_with_its_error() -> None:
    saved = [(10 + n % 5) * USD for n in range(15)]
    said = told(days(*saved, cost=420 * USD))
    assert value(said, "measured_saved_usd") == 180
    assert value(said, "monthly_spend_usd") == 1200
    assert said["monthly_saving_usd"] == 360
    low, high = said["range"]["low"], said["range"]["high"]
    error = value(said, "saving_error_usd")
    assert 0 < error < 60
    assert low["monthly_saving_usd"] == 360 - error
    assert high["monthly_saving_usd"] == 360 + error
    assert low["payback_months"] > said["payback_months"] > high["payback_months"]
    check(said)


def test_days_that_hang_together_say_less_than_days_that_do_not() -> None:
    apart = told(days(*[(10 + 4 * (n % 2)) * USD for n in range(30)]))
    waves = told(days(*[(10 + 4 * (n // 10 % 2)) * USD for n in range(30)]))
    steady = told(days(*[10 * USD] * 30))
    errors = [value(said, "saving_error_usd") for said in (steady, apart, waves)]
    assert errors[0] == 0
    assert errors == sorted(errors)
    assert errors[2] > 2 * errors[1]


def test_one_s_own_spend_takes_the_measured_share() -> None:
    saved = [(10 + n % 3) * USD for n in range(30)]
    said = told(days(*saved, cost=770 * USD), monthly_spend_usd=22_000)
    assert value(said, "savings_pct") == 30
    assert said["monthly_saving_usd"] == 6600
    assert said["range"]["low"]["monthly_saving_usd"] < 6600
    check(said)


def test_what_nobody_measured_or_gave_is_not_claimed() -> None:
    for measured in (None, days(*[0] * 30, decided=0), days(*[0] * 30, decided=5, unknown=5)):
        said = told(measured, monthly_spend_usd=1000)
        assert {said[name] for name in CASE} == {None}
        assert said["range"] is None
        assert said["break_even_savings_pct"] is not None
        assert "is not known" in said["notes"][0]
        assert "monthly_saving_usd" not in said["how"]
        check(said)


@pytest.mark.parametrize("spend", [None, 1000])
def test_a_ledger_that_lost_money_says_so_and_pays_nothing_back(spend: int | None) -> None:
    figures = {} if spend is None else {"monthly_spend_usd": spend}
    said = told(days(*[-USD, -2 * USD] * 15), **figures)
    assert said["monthly_saving_usd"] < 0
    assert said["payback_months"] is said["break_even_on"] is None
    assert said["net_12_months_usd"] < 0
    assert "costs more than it saves" in said["notes"][0]
    check(said)


def test_savings_below_what_it_costs_to_run_never_pay_back() -> None:
    said = told(monthly_spend_usd=100, savings_pct=50)
    assert said["monthly_net_usd"] == -50
    assert said["payback_months"] is None
    assert "does not pay back" in said["notes"][0]


def test_a_range_that_reaches_below_the_costs_says_that_it_may_never_pay_back() -> None:
    said = told(days(*[0, 8 * USD] * 15))
    assert said["payback_months"] is not None
    assert said["range"]["low"]["payback_months"] is None
    assert "may never pay back" in said["notes"][0]


def test_a_few_days_have_no_range_and_say_so() -> None:
    said = told(days(*[10 * USD] * (LEAST_DAYS - 1)))
    assert said["range"] is None
    assert any("cannot be told" in note for note in said["notes"])
    assert told(days(*[10 * USD] * LEAST_DAYS))["range"] is not None


def test_what_is_missing_from_the_ledger_is_told() -> None:
    notes = " ".join(told(days(*[USD] * 30, unknown=3, unpriced=2))["notes"])
    assert "3 of 10 decisions" in notes
    assert "2 of 10 receipts" in notes


def test_a_free_setup_has_paid_back_today() -> None:
    said = told(monthly_spend_usd=1000, savings_pct=50, setup_hours=0)
    assert said["payback_months"] == 0
    assert said["break_even_on"] == TODAY.isoformat()


def test_a_payback_beyond_the_calendar_has_no_date() -> None:
    said = told(monthly_spend_usd="100.00001", savings_pct=100, setup_hours=10**8)
    assert said["payback_months"] > 10**9
    assert said["break_even_on"] is None


@pytest.mark.parametrize(
    "figures",
    [
        {"monthly_spend_usd": -1},
        {"monthly_spend_usd": "1e308"},
        {"monthly_spend_usd": "NaN"},
        {"monthly_spend_usd": 1, "savings_pct": 101},
        {"monthly_spend_usd": 1, "people": -1},
        {"monthly_spend_usd": 1, "colour": 1},
        {},
    ],
)
def test_what_cannot_be_is_refused(figures: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|is called|nothing says"):
        told(**figures)


MONEY = st.decimals(0, 10**6, places=6)


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "monthly_spend_usd": MONEY,
            "savings_pct": st.decimals(-100, 100, places=3),
            "people": st.decimals(0, 50, places=0),
            "setup_hours": st.decimals(0, 200, places=1),
            "hourly_usd": st.decimals(0, 500, places=2),
            "upkeep_hours": st.decimals(0, 40, places=1),
            "fees_usd": MONEY,
        },
    ),
    st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=40),
    st.integers(0, 10**17),
    st.integers(0, 3),
)
def test_all_figures_recompute_from_the_printed_ones(
    figures: dict[str, Decimal], saved: list[int], cost: int, decided: int
) -> None:
    whole = cost + max(0, -sum(saved))  # what was lost is a part of what was paid
    said = told(Measured(cost_pico=whole, saved=saved, decided=decided), **figures)
    check(said)
    if said["payback_months"] is not None:
        assert said["monthly_net_usd"] > 0
    if said["range"] is not None:
        low, high = said["range"]["low"], said["range"]["high"]
        assert low["net_12_months_usd"] <= said["net_12_months_usd"] <= high["net_12_months_usd"]
