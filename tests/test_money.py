"""Money: exact at the doors, exact in the lines, checked against fractions."""

from decimal import Decimal
from fractions import Fraction
from random import Random

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspend.money import (
    BUCKETS,
    INPUT_BUCKETS,
    MAX_PICO,
    PICO_PER_USD,
    Band,
    Price,
    dumps,
    from_usd,
    from_usd_per_million,
    from_usd_per_thousand,
    price_usage,
    usd,
    usd_text,
)


@pytest.mark.parametrize(
    ("amount", "pico"),
    [("0.012096", 12_096_000_000), ("4000000", MAX_PICO), ("0", 0), ("1e-12", 1), (7, 7 * 10**12)],
)
def test_dollars_become_whole_pico_dollars(amount: str | int, pico: int) -> None:
    assert from_usd(amount) == pico


def test_published_prices_are_whole_in_pico_dollars() -> None:
    assert from_usd_per_million("0.0375") == 37_500
    assert from_usd_per_million(Decimal("15")) == 15_000_000
    assert from_usd_per_thousand("10") == 10_000_000_000


@pytest.mark.parametrize(
    "amount",
    ["-1", "nan", "inf", "-inf", "", "ten", "4000000.000000000001", "1e999999999", "1e-13",
     "1e-999999999", "0." + "1" * 90, Decimal("sNaN"), 0.1],
)  # fmt: skip
def test_what_is_no_exact_amount_is_refused_at_once(amount: str) -> None:
    with pytest.raises(ValueError, match=r"amount|finer"):
        from_usd(amount)


def test_a_price_with_more_digits_than_can_be_kept_is_refused_and_not_rounded() -> None:
    with pytest.raises(ValueError, match="finer"):
        from_usd_per_million("0.08333333333333334")
    with pytest.raises(ValueError, match=r"amount|finer"):
        from_usd_per_million("1." + "0" * 100 + "1")


@given(st.integers(-(10**20), 10**20))
def test_dollars_printed_and_read_again_are_the_same(pico: int) -> None:
    text = usd_text(pico)
    assert Fraction(text) * PICO_PER_USD == pico
    assert "e" not in text.lower()
    assert not (("." in text) and text.endswith("0"))
    assert usd(pico) * PICO_PER_USD == pico
    if 0 <= pico <= MAX_PICO:
        assert from_usd(text) == pico


def test_json_holds_every_digit_of_an_amount() -> None:
    assert dumps({"cost_usd": usd(1)}) == b'{"cost_usd":0.000000000001}'
    assert dumps([usd(3_999_999 * PICO_PER_USD + 1)]) == b"[3999999.000000000001]"
    with pytest.raises(TypeError):
        dumps({"x": object()})


def test_random_usages_at_random_prices_cost_what_fractions_say() -> None:
    costs_what_fractions_say(20_000, seed=20261122)


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_a_million_usages_cost_what_fractions_say() -> None:
    """`pytest -m full tests/test_money.py -s`"""
    costs_what_fractions_say(1_000_000, seed=1)


def costs_what_fractions_say(cases: int, seed: int) -> None:
    random = Random(seed)
    for _ in range(cases):
        bands = _bands(random)
        price = Price(provider="p", model="m", source="config", bands=bands)
        used = {
            b: random.choice((0, 1, random.randrange(400_000))) for b in random.sample(BUCKETS, 5)
        }
        total, unpriced = _by_hand(used, bands)
        cost = price_usage(used, price)
        if cost.total_pico is None:
            assert unpriced
            assert all(line.cost_pico is None for line in cost.lines)
        else:
            assert Fraction(cost.total_pico, PICO_PER_USD) == total
            assert cost.exact == (not unpriced)
        assert cost.total_pico is None or cost.total_pico == sum(
            line.cost_pico or 0 for line in cost.lines
        )
        assert all(line.cost_pico is None or line.cost_pico == line.quantity * (line.unit_pico or 0)
                   for line in cost.lines)  # fmt: skip
    print(f"\n{cases} costs are equal to those of fractions, 0 differ")


def _bands(random: Random) -> tuple[Band, ...]:
    starts = sorted(random.sample((1, 100, 200_000, 272_000), random.randrange(3)))
    priced = random.sample(BUCKETS, random.randrange(1, len(BUCKETS)))
    return tuple(
        Band(start, {bucket: random.randrange(60_000_000) for bucket in priced})
        for start in (0, *starts)
    )


def _by_hand(used: dict[str, int], bands: tuple[Band, ...]) -> tuple[Fraction, set[str]]:
    """The cost in dollars as a fraction, and the buckets without a price."""
    tokens_in = sum(n for bucket, n in used.items() if bucket in INPUT_BUCKETS)
    rates = [band.rates for band in bands if band.above_input == 0 or tokens_in > band.above_input]
    total, unpriced = Fraction(0), set()
    for bucket, n in used.items():
        if n and bucket in rates[-1]:
            total += Fraction(rates[-1][bucket], PICO_PER_USD) * n
        elif n and bucket != "requests":
            unpriced.add(bucket)
    return total, unpriced


CLIFF = Price(
    provider="anthropic",
    model="m",
    source="config",
    bands=(Band(0, {"input_tokens": 3_000_000, "cache_read_tokens": 300_000}),
           Band(200_000, {"input_tokens": 6_000_000, "cache_read_tokens": 600_000})),
)  # fmt: skip


@pytest.mark.parametrize(
    ("fresh", "cached", "dollars"),
    [(200_000, 0, "0.6"), (200_001, 0, "1.200006"), (1, 200_000, "0.120006"), (0, 200_000, "0.06")],
)
def test_a_long_context_price_is_a_cliff_that_counts_cached_input_too(
    fresh: int, cached: int, dollars: str
) -> None:
    cost = price_usage({"input_tokens": fresh, "cache_read_tokens": cached}, CLIFF)
    assert usd_text(cost.total_pico or 0) == dollars


def test_a_bucket_without_a_price_is_neither_free_nor_billed_as_another() -> None:
    cost = price_usage({"input_tokens": 10, "input_audio_tokens": 44}, CLIFF)
    assert cost.total_pico == 30_000_000
    assert not cost.exact
    assert cost.inexact == ("no price for input_audio_tokens",)
    assert [line.cost_pico for line in cost.lines] == [30_000_000, None]


def test_server_tools_without_a_price_make_a_cost_inexact() -> None:
    assert not price_usage({"input_tokens": 1, "tool_calls": 2}, CLIFF).exact


def test_requests_without_a_price_are_no_line_at_all() -> None:
    cost = price_usage({"input_tokens": 1, "requests": 1}, CLIFF)
    assert cost.exact
    assert [line.bucket for line in cost.lines] == ["input_tokens"]


def test_where_nothing_has_a_price_the_total_is_unknown_and_not_zero() -> None:
    for price in (None, Price(provider="p", model="m", source="config")):
        cost = price_usage({"input_tokens": 5}, price)
        assert cost.total_pico is None
        assert cost.source == "unpriced"
        assert not cost.exact


def test_free_is_declared_and_then_costs_zero_exactly() -> None:
    free = Price(provider="local", model="*", source="free")
    cost = price_usage({"input_tokens": 5, "input_audio_tokens": 7}, free)
    assert (cost.total_pico, cost.exact, cost.source) == (0, True, "free")


def test_using_nothing_at_a_known_price_costs_zero() -> None:
    assert price_usage({}, CLIFF).total_pico == 0


def test_a_cost_that_no_call_can_have_is_not_believed() -> None:
    bands = (Band(0, {"input_tokens": PICO_PER_USD}),)
    dear = Price(provider="p", model="m", source="config", bands=bands)
    cost = price_usage({"input_tokens": 10**9}, dear)
    assert cost.total_pico is None
    assert "4 million" in cost.inexact[0]


def test_a_row_s_id_is_what_it_says_so_equal_rows_are_one_row() -> None:
    again = Price(provider="anthropic", model="m", source="config", bands=CLIFF.bands)
    assert again.price_id == CLIFF.price_id
    dearer = (Band(0, {"input_tokens": 3_000_001}),)
    for other in (
        Price(provider="anthropic", model="m", source="config", bands=dearer),
        Price(provider="anthropic", model="m", source="config", bands=CLIFF.bands, tier="batch"),
        Price(provider="anthropic", model="m", source="config", bands=CLIFF.bands, valid_from_ms=1),
    ):
        assert other.price_id != CLIFF.price_id
    assert orjson.loads(orjson.dumps(CLIFF.price_id)).startswith("price_")
