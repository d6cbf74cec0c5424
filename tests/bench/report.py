"""The figures of one run as tables, and whether each goal is met.

Ratios are taken within a round, sidecar over yardstick, before their median: a slow minute slows
both. An added latency is the target's percentile less the direct one of the same round.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from measure import CONNECTIONS, RATES, STREAMS

Figures = dict[str, Any]
Rows = dict[str, dict[str, list[float]]]

_NOISY = 0.10


@dataclass(frozen=True, slots=True)
class Goal:
    """One promise of the run: what was seen over rounds, and the most that it may be."""

    name: str
    seen: list[float]
    most: float
    unit: str = ""

    @property
    def met(self) -> bool:
        return median(self.seen) <= self.most


def goals(figures: Figures) -> list[Goal]:
    rows: Rows = figures["rows"]
    bare, sidecar, lean = rows["bare aiohttp"], rows["sidecar"], rows["sidecar, bodies off"]
    added = 1.5 + 2 * median(figures["sync_ms"])
    return [
        Goal("CPU per call, × bare aiohttp", _over(sidecar, bare, "cpu_ms"), 3.0),
        Goal("CPU per call with bodies off, × bare", _over(lean, bare, "cpu_ms"), 2.4),
        Goal(
            "CPU per streamed call, 200 open, × bare", _over(sidecar, bare, "paced200_cpu_ms"), 2.0
        ),
        Goal(
            "CPU per stream that comes in one piece, × bare",
            _over(sidecar, bare, "stream_cpu_ms"),
            2.0,
        ),
        Goal(
            "added p50, one connection (1.5 ms + 2 syncs)",
            _added(rows, "sidecar", "serial_p50"),
            added,
            "ms",
        ),
        Goal(f"memory after {figures['memory_calls']} calls", sidecar["rss_after_mb"], 120, "MB"),
        Goal("memory growth in their second half", sidecar["rss_growth_mb"], 2.0, "MB"),
        Goal("cold start to the first answered call", sidecar["cold_s"], 0.6, "s"),
    ]


def drawn(figures: Figures) -> str:
    return "\n".join(_lines(figures))


def _lines(figures: Figures) -> Iterable[str]:
    rows: Rows = figures["rows"]
    yield f"{figures['rounds']} rounds in {figures['seconds']:.0f} s; median (least-greatest)"
    yield "durable write of 4 KiB, ms: " + _cell(figures["sync_ms"])
    share = figures["foreign_cpu_share"]
    yield f"CPU that others used meanwhile: {share:.0%}" + (
        " — too much: do not compare this run" if share > _NOISY else ""
    )
    for title, columns in _tables(rows):
        yield ""
        yield from _table(title, columns)
    yield ""
    for name, (asked, kept) in figures["receipts"].items():
        yield f"{name}: {asked} calls, {kept} receipts" + (
            "" if asked == kept else "  <-- NOT EQUAL"
        )
    for problem in figures["problems"]:
        yield f"PROBLEM {problem}"
    yield ""
    for goal in goals(figures):
        verdict = "met" if goal.met else "NOT MET"
        yield f"{goal.name:48} {_cell(goal.seen):>24} {goal.unit:2} ≤ {goal.most:<6.3g} {verdict}"


Table = dict[str, dict[str, list[float]]]


def _tables(rows: Rows) -> Iterable[tuple[str, Table]]:
    """Each table: column heading → target → values."""
    both = ("p50", "p99")
    yield (
        "One connection and fixed rates: latency added over direct, ms",
        {
            f"{label} {p}": {
                name: _added(rows, name, f"{key}_{p}") for name in rows if name != "direct"
            }
            for label, key in [("serial", "serial"), *((f"{r}/s", f"rate{r}") for r in RATES)]
            for p in both
        },
    )
    yield (
        f"{CONNECTIONS} connections",
        {
            "requests/s": _column(rows, "rps"),
            "p50 ms": _column(rows, "busy_p50"),
            "p99 ms": _column(rows, "busy_p99"),
            "CPU s/1000": _column(rows, "cpu_ms"),
            "one by one": _column(rows, "serial_cpu_ms"),
        },
    )
    yield (
        "Streams of 20 pieces: CPU s/1000, without and with pauses",
        {
            "streams/s": _column(rows, "streams_per_s"),
            "no pause": _column(rows, "stream_cpu_ms"),
            **{f"{n} open": _column(rows, f"paced{n}_cpu_ms") for n in STREAMS},
        },
    )
    yield (
        "Open streams: first piece beyond its 100 ms, ms",
        {f"{n} {p}": _column(rows, f"first{n}_{p}") for n in STREAMS for p in both},
    )
    yield (
        "Open streams: a piece's way from upstream to client, ms",
        {f"{n} {p}": _column(rows, f"piece{n}_{p}") for n in STREAMS for p in both},
    )
    yield (
        "Process",
        {
            "cold start s": _column(rows, "cold_s"),
            "RSS idle MB": _column(rows, "rss_idle_mb"),
            "RSS after MB": _column(rows, "rss_after_mb"),
            "growth MB": _column(rows, "rss_growth_mb"),
        },
    )


def _table(title: str, columns: Table) -> Iterable[str]:
    yield title
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    grid = [["", *columns]]
    grid += [[name, *(_cell(columns[c].get(name, [])) for c in columns)] for name in names]
    widths = [max(len(row[i]) for row in grid) for i in range(len(grid[0]))]
    for row in grid:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {row[0].ljust(widths[0])}  " + "  ".join(rest) if first else ""


def _column(rows: Rows, key: str) -> dict[str, list[float]]:
    return {name: row[key] for name, row in rows.items() if row.get(key)}


def _added(rows: Rows, name: str, key: str) -> list[float]:
    return [a - b for a, b in zip(rows[name][key], rows["direct"][key], strict=True)]


def _over(a: dict[str, list[float]], b: dict[str, list[float]], key: str) -> list[float]:
    return [x / y for x, y in zip(a[key], b[key], strict=True) if y]


def _cell(values: list[float]) -> str:
    if not values:
        return "-"
    middle = _number(median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({_number(min(values))}-{_number(max(values))})"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
