"""A forecast as an SVG file: each day with its bands above, the sum of the days ahead below.

One file that needs nothing beside it: no script, no font, no address. It takes the colours of the
page's own scheme, light or dark.
"""

from collections.abc import Callable, Sequence
from datetime import date
from html import escape

from modelspend.forecast import DayAhead, Forecast
from modelspend.forecast_chart import dollars

_WIDTH, _TALL = 860, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 16, 34, 30
_HISTORY = 90

_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.t{font-weight:600}.g{stroke:#ddd}"
    ".w{fill:#5b8def;fill-opacity:.16}.n{fill:#5b8def;fill-opacity:.28}"
    ".p{fill:none;stroke:#333;stroke-width:1.4}.f{fill:none;stroke:#2f62c9;stroke-width:1.8}"
    ".o{fill:#d9534f}"
    "@media(prefers-color-scheme:dark){svg{background:#16181d}text{fill:#ddd}.g{stroke:#3a3d45}"
    ".p{stroke:#ddd}.f{stroke:#8fb2ff}}"
)

Points = Sequence[tuple[float, float]]


def picture(forecast: Forecast, title: str = "Forecast") -> str:
    """The whole file, with its title and what it says in words."""
    horizon = max(forecast.horizons, key=lambda each: each.days)
    low, high = horizon.bands[80]
    said = (
        f"{horizon.days} days: {dollars(horizon.cost_pico)}, 80 % between {dollars(low)} and"
        f" {dollars(high)}, {_held(horizon.backtest.covered[80], horizon.backtest.origins)}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {2 * _TALL}" role="img">\n'
        f"<title>{escape(title)}</title>\n<desc>{escape(said)}</desc>\n"
        f"<style>{_STYLE}</style>\n"
        f"{_daily(forecast, horizon.daily)}\n{_total(horizon.daily, said)}\n</svg>\n"
    )


def _held(covered: int, origins: int) -> str:
    if not origins:
        return "not tried out yet: the history is too short"
    return f"a band that held {covered} of the last {origins} times"


def _daily(forecast: Forecast, ahead: Sequence[DayAhead]) -> str:
    series = forecast.series
    shown = min(_HISTORY, len(series.costs))
    past = list(series.costs[-shown:])
    top = _even(max(*past, *(day.bands[95][1] for day in ahead), 1))
    across, up = _scales(0, shown + len(ahead) - 1, top, 0)
    places = [across(shown + n) for n in range(len(ahead))]
    parts = [_frame(0, top, "Cost a day, with the 80 % and 95 % bands of a day; dots are odd days")]
    parts += [
        _band(kind, places, [day.bands[level] for day in ahead], up)
        for kind, level in (("w", 95), ("n", 80))
    ]
    line = [(across(n), up(cost)) for n, cost in enumerate(past)]
    coming = [(x, up(day.cost_pico)) for x, day in zip(places, ahead, strict=True)]
    parts += [_line("p", line), _line("f", [line[-1], *coming])]
    first = series.date(len(series.costs) - shown)
    parts += [
        f'<circle class="o" cx="{across((odd.date - first).days):.1f}" cy="{up(odd.cost_pico):.1f}"'
        f' r="3.5"><title>{odd.date}: {odd.kind}</title></circle>'
        for odd in forecast.anomalies
        if odd.date >= first
    ]
    parts.append(_dates(0, [(across(0), first), (places[0], ahead[0].date),
                            (places[-1], ahead[-1].date)]))  # fmt: skip
    return "\n".join(parts)


def _total(ahead: Sequence[DayAhead], said: str) -> str:
    top = _even(max(ahead[-1].cumulative_bands[95][1], 1))
    across, up = _scales(0, len(ahead), top, _TALL)
    places = [across(n) for n in range(len(ahead) + 1)]
    parts = [_frame(_TALL, top, said)]
    parts += [
        _band(kind, places, [(0, 0), *(day.cumulative_bands[level] for day in ahead)], up)
        for kind, level in (("w", 95), ("n", 80))
    ]
    heights = [up(0), *(up(day.cumulative_pico) for day in ahead)]
    parts.append(_line("f", list(zip(places, heights, strict=True))))
    ends = [(places[0], ahead[0].date), (places[-1], ahead[-1].date)]
    parts.append(_dates(_TALL, ends))
    return "\n".join(parts)


def _even(most: int) -> int:
    """The end of an axis: the next cost above whose quarters are easily read."""
    size: int = 10 ** (len(str(most)) - 1)
    return next(size * step // 5 for step in (5, 6, 8, 10, 12, 16, 20, 30, 40, 50) if
                size * step // 5 >= most)  # fmt: skip


def _scales(
    first: int, last: int, top: int, below: int
) -> tuple[Callable[[int], float], Callable[[int], float]]:
    """Where a day lies across and a cost upwards."""
    wide, tall = _WIDTH - _LEFT - _RIGHT, _TALL - _TOP - _BOTTOM
    return (
        lambda day: _LEFT + wide * (day - first) / max(last - first, 1),
        lambda cost: below + _TOP + tall * (1 - cost / top),
    )


def _frame(below: int, top: int, title: str) -> str:
    tall = _TALL - _TOP - _BOTTOM
    parts = [f'<text class="t" x="{_LEFT}" y="{below + 20}">{escape(title)}</text>']
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = below + _TOP + tall * (1 - share)
        parts.append(
            f'<line class="g" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{escape(dollars(top * share))}</text>"
        )
    return "\n".join(parts)


def _band(
    kind: str,
    places: Sequence[float],
    edges: Sequence[tuple[int, int]],
    up: Callable[[int], float],
) -> str:
    above = [(x, up(high)) for x, (_, high) in zip(places, edges, strict=True)]
    below = [(x, up(low)) for x, (low, _) in zip(places, edges, strict=True)]
    return f'<polygon class="{kind}" points="{_points([*above, *reversed(below)])}"/>'


def _line(kind: str, points: Points) -> str:
    return f'<polyline class="{kind}" points="{_points(points)}"/>'


def _points(points: Points) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _dates(below: int, ends: Sequence[tuple[float, date]]) -> str:
    y = below + _TALL - 10
    anchors = ("start", "middle", "end")[:: 1 if len(ends) == 3 else 2]
    return "\n".join(
        f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{day.isoformat()}</text>'
        for (x, day), anchor in zip(ends, anchors, strict=True)
    )
