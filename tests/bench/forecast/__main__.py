"""How well `forecast` does on series that nobody here wrote, beside four known methods.

    python -m tests.bench.forecast [--data FOLDER] [--series FOLDER] [--readme FILE]

Rolling origins, totals of 30, 60 and 90 days. First how often the bands held, at every week of
every series from all that was known then; then the same forecasts beside SeasonalNaive, AutoETS,
AutoTheta and AutoARIMA (`pip install statsforecast`), every method with the same year of history.
`--series` takes another folder of `*_daily.csv` (date,value), `--readme` puts the tables between
two comments of a file, `--alone` leaves the comparison out. All of it takes half an hour, most of
it AutoARIMA's; the tables say how busy the machine was.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelspend.days import Series
from modelspend.forecast import HORIZONS, LEAST_DAYS
from modelspend.projection import Past
from tests.bench.accuracy.tables import table
from tests.bench.forecast import methods, series
from tests.bench.forecast.scoring import Mean, Score, mean, score

BLOCK = re.compile(r"(?<=<!-- forecast: begin -->\n).*?(?=<!-- forecast: end -->)", re.DOTALL)
YEAR = 364
_FEW = 8  # series that have rows of their own
_LEAST_HISTORY = 56  # days for a comparison: fewer are no season to the other methods

Scores = dict[int, list[Score]]
"""By horizon."""


def main(words: Sequence[str]) -> int:
    asked = _options(words)
    folder = asked.series or asked.data / "series"
    sets = {"public series": series.given(folder), "built ledgers": series.built(folder)}
    text = "\n\n".join(_sections({name: each for name, each in sets.items() if each}, asked))
    print(text)
    if asked.readme:
        page = asked.readme.read_text("utf-8")
        if not BLOCK.search(page):
            raise ValueError("no <!-- forecast: begin --> and <!-- forecast: end --> in the page")
        asked.readme.write_text(BLOCK.sub(lambda _: f"{text}\n", page), "utf-8")
    return 0


def _sections(sets: Mapping[str, Mapping[str, Series]], asked: argparse.Namespace) -> Iterator[str]:
    for name, found in sets.items():
        yield f"**How often bands of totals held, {name}, an origin every week.**\n\n" + _bands(
            {each: weekly(one) for each, one in found.items()}
        )
    if asked.alone or not methods.others():
        return
    every: dict[str, Method] = {}
    for name, found in sets.items():
        made = compared(found, asked.every)
        for each, one in made.items():
            every.setdefault(each, Method()).add(one)
        yield (
            f"**Beside other methods, {name}, an origin every {asked.every} days,"
            f" {YEAR} days of history at most.**\n\n" + _compared(made)
        )
    yield "**Beside other methods, all of these together.**\n\n" + _compared(every)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    yield f"ms: of one forecast of all three totals; {os.cpu_count()} cores with a load of {load}."


def weekly(one: Series) -> Scores:
    """A forecast at every week from the first day on which one is made."""
    past, found = Past(one.costs, one.first.weekday()), _nothing()
    for origin in range(len(one.costs) - min(HORIZONS), LEAST_DAYS - 1, -7):
        _add(found, methods.told_by(past, origin, HORIZONS), one, origin, origin)
    return found


@dataclass(slots=True)
class Method:
    """What a method said at many origins, and how long it took."""

    scores: Scores = field(default_factory=lambda: _nothing())
    seconds: float = 0.0
    asked: int = 0

    def add(self, more: "Method") -> None:
        for horizon, scores in more.scores.items():
            self.scores[horizon] += scores
        self.seconds, self.asked = self.seconds + more.seconds, self.asked + more.asked


def compared(found: Mapping[str, Series], every: int) -> dict[str, Method]:
    """Every method at the same origins with the same history."""
    made: dict[str, Method] = {}
    for name, tell in {"modelspend": methods.ours, **methods.others()}.items():
        made[name] = method = Method()
        for one in found.values():
            for origin in range(len(one.costs) - min(HORIZONS), _LEAST_HISTORY - 1, -every):
                days = min(origin, YEAR)
                history = one.costs[origin - days : origin]
                if any(history):
                    began = time.perf_counter()
                    told = tell(history, one.date(origin - days).weekday(), HORIZONS)
                    method.seconds, method.asked = (
                        method.seconds + time.perf_counter() - began,
                        method.asked + 1,
                    )
                    _add(method.scores, told, one, origin, days)
    return made


def _nothing() -> Scores:
    return {horizon: [] for horizon in HORIZONS}


def _add(
    scores: Scores, told: Mapping[int, methods.Told], one: Series, origin: int, days: int
) -> None:
    for horizon in HORIZONS:
        actual = one.costs[origin : origin + horizon]
        if len(actual) == horizon:
            recent = one.costs[origin - min(days, YEAR) : origin]
            made = score(told[horizon], actual, recent)
            if made is not None:
                scores[horizon].append(made)


def _bands(found: Mapping[str, Scores]) -> str:
    rows = [
        (name, horizon, *_shown(mean(scores[horizon])))
        for name, scores in (found if len(found) <= _FEW else {}).items()
        for horizon in HORIZONS
        if scores[horizon]
    ]
    pooled = [
        (
            f"**all {len(found)}**",
            horizon,
            *_shown(mean(each for scores in found.values() for each in scores[horizon])),
        )
        for horizon in HORIZONS
    ]
    return table(("series", "days", *_HEAD), [*rows, *pooled])


def _compared(made: Mapping[str, Method]) -> str:
    return table(
        ("method", "days", *_HEAD, "ms"),
        [
            (
                name,
                horizon,
                *_shown(mean(method.scores[horizon])),
                f"{1000 * method.seconds / method.asked:.0f}",
            )
            for name, method in made.items()
            for horizon in HORIZONS
        ],
    )


_HEAD = (
    "origins",
    "80 % held",
    "95 % held",
    "width of 80 %",
    "pinball loss",
    "MASE",
    "median error",
)


def _shown(one: Mean) -> tuple[object, ...]:
    return (
        one.origins,
        f"{100 * one.coverage_80:.1f} %",
        f"{100 * one.coverage_95:.1f} %",
        f"{100 * one.width_80:.0f} %",
        f"{one.pinball:.4f}",
        f"{one.mase:.2f}",
        f"{100 * one.median_error:.0f} %",
    )


def _options(words: Sequence[str]) -> argparse.Namespace:
    head, _, tail = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.forecast",
        description=head,
        epilog=tail,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    beside = Path(__file__).parents[3].parent / "shared" / "data"
    data = Path(os.environ.get("MODELSPEND_DATA", beside))
    parser.add_argument("--data", type=Path, default=data, help="the folder of public data")
    parser.add_argument("--series", type=Path, help="a folder of *_daily.csv instead")
    parser.add_argument("--readme", type=Path, help="swap the tables into this file")
    parser.add_argument("--alone", action="store_true", help="leave out the other methods")
    parser.add_argument("--every", type=int, default=28, help="days between compared origins")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
