"""The daily series of the forecast bench: public ones from files, and ledgers built from traces.

A value of the files is an integer of a millionth, as a cost is one of a pico-dollar. The two weeks
of the ServeGen trace are too short for a total of 30 days, so ledgers are built of it: tenants with
its weekdays, whose level wanders, stops and starts, and whose calls have the tokens of the Azure
trace. How they wander was chosen before the first forecast of them was made, and not since. The
method was chosen on the public series and on ledgers of other numbers (from 1,000 on).
"""

import csv
import math
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from random import Random

from modelspend.days import Day, Series, whole

BUILT = 24
_DAYS = 420
_START = date(2025, 1, 6)
_INPUT_PICO, _OUTPUT_PICO = 1_250_000, 10_000_000  # $1.25 and $10 per million tokens


def given(folder: Path) -> dict[str, Series]:
    """Every `*_daily.csv` with a date and a value, by its name."""
    return {path.stem.removesuffix("_daily"): _read(path) for path in sorted(folder.glob(_FILES))}


_FILES = "*_daily.csv"


def _read(path: Path) -> Series:
    with path.open(encoding="utf-8", newline="") as lines:
        return whole(
            Day(date.fromisoformat(row["date"]), round(float(row["value"]) * 10**6))
            for row in csv.DictReader(lines)
        )


def built(folder: Path, first: int = 0, count: int = BUILT) -> dict[str, Series]:
    """So many ledgers of the two traces, from one number on; none where these are not there."""
    rates, calls = folder / "servegen_m-small_hourly_requests.csv", folder / _AZURE
    if not (rates.exists() and calls.exists()):
        return {}
    hours = [float(row["requests"]) for row in _rows(rates)]
    days = [sum(hours[n : n + 24]) for n in range(0, len(hours) - 23, 24)]
    level = sum(days) / len(days)
    week = [(days[n] + days[n + 7]) / 2 / level for n in range(7)]
    costs = [
        int(row["ContextTokens"]) * _INPUT_PICO + int(row["GeneratedTokens"]) * _OUTPUT_PICO
        for row in _rows(calls)
    ]
    numbers = range(first, first + count)
    return {f"ledger {n + 1}": _ledger(Random(n), week, costs) for n in numbers}


_AZURE = "azure_llm_2023_code.csv"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _ledger(random: Random, week: list[float], costs: list[int]) -> Series:
    level, walk = math.log(random.choice((2, 20, 200))), random.choice((0.01, 0.03, 0.06))
    pauses, jumps = random.choice((0.0, 0.02, 0.1)), random.choice((0.0, 0.01))
    days = []
    for n in range(_DAYS):
        level = min(level + random.gauss(0, walk), math.log(500))
        if random.random() < jumps:
            level += random.choice((-1, 1)) * math.log(2)
        rate = 0.0 if random.random() < pauses else math.exp(level) * week[n % 7]
        calls = random.choices(costs, k=_poisson(random, rate))
        days.append(Day(_START + timedelta(days=n), sum(calls)))
    return whole(days)


def _poisson(random: Random, rate: float) -> int:
    return sum(1 for _ in _arrivals(random, rate))


def _arrivals(random: Random, rate: float) -> Iterator[float]:
    at = random.expovariate(rate) if rate > 0 else 2.0
    while at < 1:
        yield at
        at += random.expovariate(rate)
