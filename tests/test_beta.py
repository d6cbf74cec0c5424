"""The Beta distribution, against sums that are exact and values that are known in closed form."""

import math
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspend.beta import cdf, quantile

SHAPES = st.floats(0.5, 5_000)


def exact(x: Fraction, a: int, b: int) -> Fraction:
    """For whole parameters: the chance of at least `a` heads in a + b - 1 tosses."""
    n = a + b - 1
    return sum((comb(n, j) * x**j * (1 - x) ** (n - j) for j in range(a, n + 1)), Fraction(0))


@pytest.mark.parametrize("a", [1, 2, 3, 7, 20, 61])
@pytest.mark.parametrize("b", [1, 2, 5, 30, 100])
def test_it_equals_the_exact_sum_where_there_is_one(a: int, b: int) -> None:
    for x in (Fraction(1, 100), Fraction(1, 4), Fraction(1, 2), Fraction(9, 10), Fraction(99, 100)):
        assert cdf(float(x), a, b) == pytest.approx(float(exact(x, a, b)), rel=1e-11, abs=1e-300)


@pytest.mark.parametrize(
    ("p", "a", "b", "known"),
    [
        (0.1, 1, 1, 0.1),  # the uniform
        (0.1, 3, 1, 0.1 ** (1 / 3)),  # x^3
        (0.1, 1, 4, 1 - 0.9 ** (1 / 4)),  # 1 - (1 - x)^4
        (0.1, 0.5, 0.5, math.sin(math.pi * 0.05) ** 2),  # the arcsine law
        (0.75, 0.5, 0.5, math.sin(math.pi * 0.375) ** 2),
        (0.5, 7.5, 7.5, 0.5),  # by symmetry
    ],
)
def test_quantiles_in_closed_form(p: float, a: float, b: float, known: float) -> None:
    assert quantile(p, a, b) == pytest.approx(known, rel=1e-10)


@given(SHAPES, SHAPES, st.floats(0.001, 0.999))
@settings(max_examples=200, deadline=None)
def test_a_quantile_is_where_the_distribution_reaches_it(a: float, b: float, p: float) -> None:
    x = quantile(p, a, b)
    assert 0 <= x <= 1
    step = 1e-9
    assert cdf(x * (1 - step) - 1e-15, a, b) <= p + 1e-6
    assert cdf(x + (1 - x) * step + 1e-12, a, b) >= p - 1e-6


@given(SHAPES, SHAPES, st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_both_tails_are_all_there_is(a: float, b: float, x: float) -> None:
    assert cdf(x, a, b) + cdf(1 - x, b, a) == pytest.approx(1, abs=1e-9)


def test_ten_million_answers_are_no_trouble() -> None:
    assert quantile(0.1, 9_000_000.5, 1_000_000.5) == pytest.approx(0.899878, abs=1e-6)
    assert quantile(0.1, 0.5, 10_000_000.5) < 1e-8


@pytest.mark.parametrize(("a", "b"), [(0, 1), (1, 0), (-1, 2), (math.nan, 1)])
def test_what_does_not_exist_is_refused(a: float, b: float) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        cdf(0.5, a, b)
