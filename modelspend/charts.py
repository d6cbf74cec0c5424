"""Pictures of numbers: sparklines and bars of letters for a terminal, small SVG files for a page.

No library and no state: numbers go in, text comes out. An SVG is one element with its title and
description inside, legible on light and dark pages, and the same bytes for the same numbers.
"""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

_STEPS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉"

COLOURS = ("#3b6fd4", "#e07a2f", "#3fa36a", "#b1458f", "#8a6bd1", "#c9a227", "#2e9fb0", "#8c8c8c")
"""Told apart by people who do not see all colours alike; the last stands for all others."""


def sparkline(values: Sequence[float], width: int | None = None) -> str:
    """One letter for each value, or for each of `width` equal stretches of them."""
    shown = _stretches(values, width) if width and len(values) > width else list(values)
    highest = max(shown, default=0)
    if highest <= 0:
        return _STEPS[0] * len(shown)
    last = len(_STEPS) - 1
    return "".join(_STEPS[round(max(value, 0) / highest * last)] for value in shown)


def _stretches(values: Sequence[float], width: int) -> list[float]:
    edges = [len(values) * n // width for n in range(width + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]


def bar(part: float, width: int) -> str:
    """A bar of `part` (0 to 1) of a width, to an eighth of a letter."""
    eighths = round(min(max(part, 0.0), 1.0) * width * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(width)


_WIDTH, _HEIGHT = 760, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 190, 48, 40


def stacked(
    title: str, labels: Sequence[str], series: Mapping[str, Sequence[float]], unit: str = ""
) -> str:
    """Columns over time, one for each label, of stacked parts; the greatest parts stand below.

    More series than colours are drawn together as the last of them.
    """
    parts = _few(series)
    sums = [sum(max(values[n], 0.0) for values in parts.values()) for n in range(len(labels))]
    top = _round_up(max(sums, default=0.0))
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(labels), 1)
    drawn = []
    for n in range(len(labels)):
        below = 0.0
        for colour, (name, values) in zip(COLOURS, parts.items(), strict=False):
            value = max(values[n], 0.0)
            if value:
                high, low = _y(below + value, top), _y(below, top)
                drawn.append(
                    f'<rect x="{_LEFT + n * step + step * 0.1:.2f}" y="{high:.2f}"'
                    f' width="{step * 0.8:.2f}" height="{low - high:.2f}" fill="{colour}">'
                    f"<title>{escape(f'{labels[n]} {name}: {_said(value)}{unit}')}</title></rect>"
                )
            below += value
    return _page(title, [*_axis(top, unit), *_labels(labels, step), *drawn, *_legend(list(parts))])


def bars(title: str, values: Mapping[str, float], unit: str = "") -> str:
    """One bar for each name, to the right of 0 or, for losses, to its left."""
    shown = list(values.items())[:18]
    lowest = min((value for _, value in shown), default=0.0)
    highest = max((value for _, value in shown), default=0.0)
    span = max(highest, 0.0) - min(lowest, 0.0) or 1.0
    left, width = 210, _WIDTH - 210 - 110
    zero = left + width * -min(lowest, 0.0) / span
    drawn = []
    for n, (name, value) in enumerate(shown):
        y, long = _TOP + n * 22, width * abs(value) / span
        x = zero if value >= 0 else zero - long
        colour = COLOURS[0] if value >= 0 else COLOURS[1]
        named, told = escape(_short(name, 30)), f"{_said(value)}{escape(unit)}"
        drawn += [
            f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{named}</text>',
            f'<rect x="{x:.2f}" y="{y + 2}" width="{long:.2f}" height="15" fill="{colour}"/>',
            f'<text x="{max(zero, x + long) + 6:.2f}" y="{y + 13}">{told}</text>',
        ]
    return _page(title, drawn, height=_TOP + len(shown) * 22 + 20)


def _few(series: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    ordered = sorted(series.items(), key=lambda pair: (-sum(pair[1]), pair[0]))
    if len(ordered) <= len(COLOURS):
        return dict(ordered)
    kept, rest = ordered[: len(COLOURS) - 1], ordered[len(COLOURS) - 1 :]
    others = [sum(each) for each in zip(*(values for _, values in rest), strict=True)]
    return dict(kept) | {f"{len(rest)} others": others}


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, … times a power of ten."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power > value:
        power /= 10
    while power * 10 <= value:
        power *= 10
    return next(power * step for step in (1, 2, 5, 10) if power * step >= value)


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / top


def _axis(top: float, unit: str) -> list[str]:
    drawn = []
    for n in range(5):
        y = _y(top * n / 4, top)
        drawn += [
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.2f}" y2="{y:.2f}" class="rule"/>',
            f'<text x="{_LEFT - 6}" y="{y + 4:.2f}" text-anchor="end">'
            f"{_said(top * n / 4)}{escape(unit)}</text>",
        ]
    return drawn


def _labels(labels: Sequence[str], step: float) -> list[str]:
    every = max(1, -(-len(labels) // 6))
    return [
        f'<text x="{_LEFT + (n + 0.5) * step:.2f}" y="{_HEIGHT - _BOTTOM + 18}"'
        f' text-anchor="middle">{escape(labels[n])}</text>'
        for n in range(0, len(labels), every)
    ]


def _legend(names: Sequence[str]) -> list[str]:
    drawn = []
    for n, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        x, y = _WIDTH - _RIGHT + 16, _TOP + n * 20
        drawn += [
            f'<rect x="{x}" y="{y}" width="11" height="11" fill="{colour}"/>',
            f'<text x="{x + 17}" y="{y + 10}">{escape(_short(name, 26))}</text>',
        ]
    return drawn


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _said(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _page(title: str, drawn: Sequence[str], height: int = _HEIGHT) -> str:
    inner = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">\n'
        "<style>text{font:12px system-ui,sans-serif;fill:#555}.rule{stroke:#8883}"
        "@media(prefers-color-scheme:dark){text{fill:#bbb}}</style>\n"
        f"<title>{escape(title)}</title>\n"
        f'<text x="16" y="24" style="font-size:15px">{escape(title)}</text>\n'
        f"{inner}\n</svg>\n"
    )
