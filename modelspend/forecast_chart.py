"""A forecast as lines of letters for a terminal: what was spent, what is to come, and its band.

Each column is a day or, where days do not fit, the mean day of as many whole weeks as it takes: of
fewer days the weekdays would show as waves that are not there. A bar is drawn to an eighth of a
line; what is to come is shaded, with the 80 % band of a day above it. On a terminal that knows no
such letters it is drawn with `#`, `+` and `.`.
"""

from collections.abc import Sequence
from datetime import date

from modelspend.forecast import Forecast
from modelspend.money import PICO_PER_USD
from modelspend.record import frozen

HEIGHT = 10
_HISTORY = 60  # days drawn at most before what is to come
_LABEL = 9
_WIDEST = 4  # letters of a column, the last of them a gap


@frozen
class Column:
    """The mean day of some days: what it cost or will, and the most of its band."""

    first: date
    cost: float
    most: float | None = None


def lines(forecast: Forecast, width: int = 80, *, plain: bool = False) -> list[str]:
    """The picture of the longest horizon; `plain` is for terminals without block letters."""
    room = max(10, width - _LABEL - 1)
    columns, days = _columns(forecast, room)
    most = max(max(each.cost, each.most or 0.0) for each in columns)
    top = most or 1.0
    wide = min(_WIDEST, max(1, room // len(columns)))
    drawn = [_column(each, top, plain) for each in columns]
    labels = {HEIGHT - 1: top, HEIGHT // 2 - 1: top / 2} if most else {0: 0.0}
    rule = "|" if plain else "┤"
    found = [
        f"{dollars(labels[row]) if row in labels else '':>{_LABEL - 1}}{rule}"
        + "".join(_widened(each[row], wide) for each in drawn).rstrip()
        for row in reversed(range(HEIGHT))
    ]
    return [*found, *_dates(columns, wide, plain), _legend(days, width, plain)]


def _widened(letter: str, wide: int) -> str:
    return letter * max(1, wide - 1) + " " * (wide > 1)


def _legend(days: int, width: int, plain: bool) -> str:
    spent, coming, band = ("#", "+", ".") if plain else ("█", "▒", "·")
    each = "a day" if days == 1 else f"the mean day of {days // 7} weeks"
    each = "a week's mean day" if days == 7 else each
    said = f"{spent} spent  {coming} to come  {band} 80 % band  each column: {each}"
    return " " * _LABEL + said if len(said) + _LABEL <= width else ""


def _columns(forecast: Forecast, room: int) -> tuple[list[Column], int]:
    """The columns, and of how many days each is."""
    horizon = max(forecast.horizons, key=lambda each: each.days)
    shown = min(_HISTORY, horizon.days * 2, forecast.history_days)
    each = -(-(shown + horizon.days) // room)
    each = each if each == 1 else -(-each // 7) * 7
    past = [
        Column(forecast.series.date(day), float(forecast.series.costs[day]))
        for day in range(forecast.history_days - shown, forecast.history_days)
    ]
    ahead = [
        Column(day.date, float(day.cost_pico), float(day.bands[80][1])) for day in horizon.daily
    ]
    return _together(past, each, from_the_end=True) + _together(ahead, each), each


def _together(days: Sequence[Column], each: int, *, from_the_end: bool = False) -> list[Column]:
    """So many days a column, whole ones beside today; what is left over is not drawn."""
    first = len(days) % each if from_the_end else 0
    starts = range(first, len(days) - each + 1, each)
    return [_mean(days[start : start + each]) for start in starts] or [_mean(days)]


def _mean(days: Sequence[Column]) -> Column:
    most = [day.most for day in days if day.most is not None]
    return Column(
        days[0].first,
        sum(day.cost for day in days) / len(days),
        sum(most) / len(most) if most else None,
    )


_EIGHTHS = " ▁▂▃▄▅▆▇█"


def _column(column: Column, top: float, plain: bool) -> list[str]:
    """The letters of one column, from the lowest."""
    height = column.cost / top * HEIGHT
    if column.most is None:
        letters = [_bar(height - row, plain) for row in range(HEIGHT)]
        if column.cost and letters[0] == " ":
            letters[0] = "_" if plain else "▁"
        return letters
    most = column.most / top * HEIGHT
    cost, band = ("+", ".") if plain else ("▒", "·")
    return [
        cost if height - row >= 0.5 else band if most - row >= 0.5 else " " for row in range(HEIGHT)
    ]


def _bar(filled: float, plain: bool) -> str:
    if plain:
        return "#" if filled >= 0.5 else " "
    return _EIGHTHS[round(8 * min(1.0, max(0.0, filled)))]


def _dates(columns: Sequence[Column], wide: int, plain: bool) -> list[str]:
    """The rule below and the dates of the first day, today and the last column."""
    corner, line, tick = ("+", "-", "+") if plain else ("└", "─", "┬")
    today = next(n for n, each in enumerate(columns) if each.most is not None)
    rule = "".join((tick if n == today else line) + line * (wide - 1) for n in range(len(columns)))
    said = [" "] * (len(rule) + 6)
    for place in (0, today, len(columns) - 1):
        text = f"{columns[place].first:%d %b}"
        at = max(0, min(place * wide, len(rule) - len(text)))
        if all(letter == " " for letter in said[max(0, at - 1) : at + len(text) + 1]):
            said[at : at + len(text)] = text
    return [" " * (_LABEL - 1) + corner + rule, " " * _LABEL + "".join(said).rstrip()]


def dollars(pico: float) -> str:
    """At most eight letters: `$1,234`, `$12.30`, `$0.0042`."""
    value = pico / PICO_PER_USD
    if value >= 1_000_000:
        return f"${value / 1_000_000:.3g}M"
    if value >= 1000:
        return f"${value:,.0f}"
    if value >= 1:
        return f"${value:.2f}"
    return f"${value:.2g}" if value >= 0.0001 or not value else f"${value:.0e}"
