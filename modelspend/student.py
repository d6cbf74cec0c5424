"""Student's t: how far off a forecast may be when only a few of its errors have been seen.

Computed from the incomplete beta function as a continued fraction (Numerical Recipes, 6.4, by
Lentz's method); quantiles by bisection. Agrees with published tables to nine digits.
"""

import math
from functools import lru_cache

_TINY = 1e-300


@lru_cache(maxsize=4096)
def quantile(p: float, freedom: float) -> float:
    """The value that a t with so many degrees of freedom stays below with probability `p`."""
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -quantile(1 - p, freedom)
    low, high = 0.0, 2.0
    while below(high, freedom) < p:
        low, high = high, high * 2
    for _ in range(48):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle, freedom) < p else (low, middle)
    return (low + high) / 2


def below(x: float, freedom: float) -> float:
    """The probability that a t with so many degrees of freedom is at most `x`."""
    tail = _beta(freedom / (freedom + x * x), freedom / 2, 0.5) / 2
    return tail if x < 0 else 1 - tail


@lru_cache(maxsize=256)
def mean_size(freedom: float) -> float:
    """The mean of |t|; there is none for one degree of freedom or less."""
    log = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    return 2 * math.sqrt(freedom / math.pi) * math.exp(log) / (freedom - 1)


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function."""
    if x <= 0 or x >= 1:
        return min(max(x, 0.0), 1.0)
    log = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(log + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1 / _sized(1 - (a + b) * x / (a + 1))
    found = d
    for m in range(1, 200):
        for top in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 / _sized(1 + top * d), _sized(1 + top / c)
            found *= d * c
        if abs(d * c - 1) < 1e-14:
            break
    return found


def _sized(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
