"""What forecasts in the bench: modelspend, and four methods of statsforecast where it is installed.

The library's daily intervals say nothing about a total, since they do not add up; its methods are
asked for 500 paths instead, whose sums give the quantiles of the total.
"""

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from modelspend.projection import Past
from tests.bench.forecast.scoring import QUANTILES, Told

Method = Callable[[Sequence[int], int, Sequence[int]], dict[int, Told]]
"""(history, first weekday, horizons) → what it says by horizon."""

PATHS = 500


def ours(history: Sequence[int], first_weekday: int, horizons: Sequence[int]) -> dict[int, Told]:
    return told_by(Past(history, first_weekday), len(history), horizons)


def told_by(past: Past, origin: int, horizons: Sequence[int]) -> dict[int, Told]:
    view = past.at(origin)
    found = {}
    for horizon in horizons:
        total, spread = sum(view.days[:horizon]), view.spread(horizon)
        quantiles = [total * spread.factor(p) for p in QUANTILES]
        found[horizon] = Told(days=view.days[:horizon], quantiles=quantiles)
    return found


def others() -> dict[str, Method]:
    """SeasonalNaive, AutoETS, AutoTheta and AutoARIMA, each with a week's season."""
    if find_spec("statsforecast") is None:
        return {}
    return {name: _other(name) for name in ("SeasonalNaive", "AutoETS", "AutoTheta", "AutoARIMA")}


def _other(name: str) -> Method:
    def tell(
        history: Sequence[int], first_weekday: int, horizons: Sequence[int]
    ) -> dict[int, Told]:
        import numpy
        from statsforecast import models

        model = getattr(models, name)(season_length=7)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(numpy.array(history, float))
            days = numpy.maximum(model.predict(max(horizons))["mean"], 0)
            paths = numpy.maximum(model.simulate(max(horizons), PATHS, seed=1), 0)
        sums = numpy.cumsum(paths, axis=1)
        return {
            horizon: Told(
                days=[float(day) for day in days[:horizon]],
                quantiles=[float(q) for q in numpy.quantile(sums[:, horizon - 1], QUANTILES)],
            )
            for horizon in horizons
        }

    return tell
