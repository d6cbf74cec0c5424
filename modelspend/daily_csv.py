"""A daily series from a file: `date,cost_usd` as CSV, or one JSON object a line.

A line that cannot be read is told with its number and left out, and the others count. Costs here
come from other people's tools, as floats more often than not, so they are rounded to a pico-dollar
where an invoice would be refused; an empty cost is one that nobody knows.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal, DecimalException, localcontext
from typing import Any

from modelspend.days import Day
from modelspend.money import PICO_PER_USD
from modelspend.record import frozen

_HIGHEST = Decimal(10**15)  # dollars a day
_UNKNOWN = ("", "null", "none", "nan", "n/a")


@frozen
class BadLine:
    line: int
    error: str


def read(lines: Iterable[str]) -> tuple[list[Day], list[BadLine]]:
    """The days in the order of the lines, and the lines that are none.

    Raises ValueError where the first line says that this is no such file.
    """
    days: list[Day] = []
    bad: list[BadLine] = []
    for number, row in _rows(iter(lines)):
        try:
            days.append(_day(row))
        except ValueError as why:
            bad.append(BadLine(number, str(why)))
    return days, bad


def _rows(lines: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Numbered from 1; a text is what went wrong with a line."""
    first = next(lines, "").removeprefix("\ufeff")
    if first.lstrip().startswith("{"):
        yield from ((n, _object(line)) for n, line in _numbered(first, lines))
        return
    names = [name.strip().lower() for name in next(csv.reader([first]), [])]
    if not {"date", "cost_usd"} <= set(names):
        raise ValueError(f"the first line must name the columns date and cost_usd, not {first!r}")
    for number, line in enumerate(lines, 2):
        if line.strip():
            cells = [cell.strip() for cell in next(csv.reader([line]))]
            yield number, dict(zip(names, cells, strict=False))


def _numbered(first: str, lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    yield 1, first
    yield from ((n, line) for n, line in enumerate(lines, 2) if line.strip())


def _object(line: str) -> Mapping[str, Any] | str:
    try:
        said = json.loads(line, parse_float=Decimal)
    except ValueError:
        return "not a JSON object"
    return said if isinstance(said, dict) else "not a JSON object"


def _day(row: Mapping[str, Any] | str) -> Day:
    if isinstance(row, str):
        raise ValueError(row)
    said = str(row.get("date", ""))
    try:
        day = date.fromisoformat(said)
    except ValueError:
        raise ValueError(f"not a date: {said[:40]!r}; write 2026-11-01") from None
    return Day(day, _pico(row.get("cost_usd")))


def _pico(said: Any) -> int | None:
    text = "" if said is None else str(said).strip()
    if text.lower() in _UNKNOWN:
        return None
    try:
        cost = Decimal(text.removeprefix("$"))
    except DecimalException:
        raise ValueError(f"not an amount of money: {text[:40]!r}") from None
    if not cost.is_finite() or not 0 <= cost <= _HIGHEST:
        raise ValueError(f"a cost must be 0 or more dollars, not {text[:40]}")
    with localcontext(prec=60):
        pico = (cost * PICO_PER_USD).to_integral_value(ROUND_HALF_EVEN)
    return int(pico)
