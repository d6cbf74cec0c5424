"""Bands hold as often as they say, on public series and on ledgers that nobody looked at.

The long comparison with four known methods is `python -m tests.bench.forecast`; a short one runs
with `pytest -m full tests/test_forecast_accuracy.py` where statsforecast is installed.
"""

from pathlib import Path

import pytest

from modelspend.forecast import HORIZONS
from tests.bench.forecast import methods
from tests.bench.forecast.__main__ import BLOCK, compared, weekly
from tests.bench.forecast.scoring import Score, mean
from tests.bench.forecast.series import built, given

Sets = dict[str, dict[int, list[Score]]]


def pooled(sets: Sets, horizon: int) -> list[Score]:
    return [each for scores in sets.values() for each in scores[horizon]]


def holds(scores: list[Score]) -> None:
    found = mean(scores)
    assert 0.75 <= found.coverage_80 <= 0.88
    assert found.coverage_95 >= 0.92


@pytest.mark.parametrize("horizon", HORIZONS)
def test_bands_of_totals_hold_on_public_series_and_on_ledgers_of_traces(
    recorded: Path, horizon: int
) -> None:
    folder = recorded / "series"
    series = {**given(folder), **built(folder, count=8)}
    assert len(series) >= 12
    holds(pooled({name: weekly(one) for name, one in series.items()}, horizon))


def test_bands_hold_on_ledgers_that_the_method_was_not_chosen_on(recorded: Path) -> None:
    sets = {name: weekly(one) for name, one in built(recorded / "series", 5_000, 16).items()}
    for horizon in HORIZONS:
        assert len(pooled(sets, horizon)) >= 700
        holds(pooled(sets, horizon))


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_totals_are_told_no_worse_than_by_the_best_of_four_known_methods(recorded: Path) -> None:
    pytest.importorskip("statsforecast")
    folder = recorded / "series"
    assert methods.others()
    found = compared({**given(folder), **built(folder, count=8)}, 112)
    for horizon in HORIZONS:
        losses = {name: mean(one.scores[horizon]).pinball for name, one in found.items()}
        assert losses.pop("modelspend") <= min(losses.values())


def test_the_tables_have_a_place_in_the_readme() -> None:
    page = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    found = BLOCK.search(page)
    assert found is not None
    assert "AutoARIMA" in found[0]
