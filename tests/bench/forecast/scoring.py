"""One forecast against what came: covered or not, how wide, how far off.

A total is scored by the pinball loss of its quantiles 2.5, 10, 50, 90 and 97.5 %, as a share of
what the days before it cost on average, so that series of any size weigh the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

QUANTILES = (0.025, 0.1, 0.5, 0.9, 0.975)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a method said at an origin: a cost for each day, and quantiles of the total."""

    days: Sequence[float]
    quantiles: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    within_80: bool
    within_95: bool
    width_80: float
    pinball: float
    mase: float
    error: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """Scores over many origins."""

    origins: int
    coverage_80: float
    coverage_95: float
    width_80: float
    pinball: float
    mase: float
    median_error: float


def score(told: Told, actual: Sequence[float], history: Sequence[float]) -> Score | None:
    """The score of one forecast; None where nothing was spent before it, since nothing is off."""
    usual = sum(history) / len(history) * len(actual)
    naive = [abs(now - then) for now, then in zip(history[7:], history, strict=False)]
    step = sum(naive) / len(naive) if naive else 0.0
    if not usual or not step:
        return None
    total = sum(actual)
    least, low, _, high, most = told.quantiles
    off = [abs(now - day) for now, day in zip(actual, told.days, strict=True)]
    return Score(
        within_80=low <= total <= high,
        within_95=least <= total <= most,
        width_80=(high - low) / usual,
        pinball=sum(map(_pinball, QUANTILES, told.quantiles, [total] * 5)) / 5 / usual,
        mase=sum(off) / len(off) / step,
        error=abs(sum(told.days) / total - 1) if total else None,
    )


def _pinball(p: float, told: float, actual: float) -> float:
    return p * (actual - told) if actual >= told else (1 - p) * (told - actual)


def mean(scores: Iterable[Score]) -> Mean:
    """All origins alike."""
    every = list(scores)

    def of(name: str) -> float:
        return sum(getattr(each, name) for each in every) / len(every)

    return Mean(
        origins=len(every),
        coverage_80=of("within_80"),
        coverage_95=of("within_95"),
        width_80=of("width_80"),
        pinball=of("pinball"),
        mase=of("mase"),
        median_error=median(each.error for each in every if each.error is not None),
    )
