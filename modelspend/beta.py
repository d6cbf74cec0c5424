"""The Beta distribution in plain Python: how likely a share is below x, and where a share lies.

The regularised incomplete beta function by its continued fraction (Abramowitz and Stegun 26.5.8,
evaluated by Lentz's method), its inverse by bisection, which never leaves its bracket however
skewed the distribution is. Good to about ten digits; parameters up to tens of millions.
"""

import math

_TINY = 1e-300
_EPSILON = 1e-15
_MOST_TERMS = 100_000
_SPREADS = 12.0  # outside so many standard deviations a quantile is looked for only if it is there


def cdf(x: float, a: float, b: float) -> float:
    """The probability that a Beta(a, b) share is at most x. Raises ValueError unless a, b > 0."""
    if not (a > 0 and b > 0):
        raise ValueError(f"Beta({a}, {b}) does not exist: both parameters must be above 0")
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1) / (a + b + 2):  # where the fraction converges fast; else by symmetry
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def quantile(p: float, a: float, b: float) -> float:
    """The share that a Beta(a, b) share is below with probability p, 0 < p < 1."""
    if not 0 < p < 1:
        raise ValueError(f"a probability must be between 0 and 1, not {p}")
    mean = a / (a + b)
    spread = _SPREADS * math.sqrt(mean * (1 - mean) / (a + b + 1))
    low, high = max(0.0, mean - spread), min(1.0, mean + spread)
    if cdf(low, a, b) > p:
        low = 0.0
    if cdf(high, a, b) < p:
        high = 1.0
    while True:
        middle = (low + high) / 2
        if middle in (low, high) or high - low < 1e-12 * high:
            return middle
        if cdf(middle, a, b) < p:
            low = middle
        else:
            high = middle


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction, by Lentz's method: even and odd terms in one turn."""
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    result = d
    for m in range(1, _MOST_TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            result *= c * d
        if abs(c * d - 1) < _EPSILON:
            break
    return result


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
