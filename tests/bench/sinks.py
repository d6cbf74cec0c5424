"""What sinks cost calls: a sidecar without any beside one with all of them and a black hole."""

from contextlib import ExitStack
from statistics import median

import measure
from targets import Bench

MOST = 1.10
_FIGURES = {
    "serial_p50": "one connection, p50 ms",
    "rate50_p50": "50/s, p50 ms",
    "rate200_p50": "200/s, p50 ms",
    "busy_p50": f"{measure.CONNECTIONS} connections, p50 ms",
    "busy_p99": f"{measure.CONNECTIONS} connections, p99 ms",
    "rps": "requests/s",
    "streams_per_s": "streams/s",
}
_MORE_IS_BETTER = ("rps", "streams_per_s")


def compared(bench: Bench, rounds: int) -> tuple[str, bool]:
    """Both side by side, and whether each figure is within a tenth: the median of its ratios, each
    taken within a round."""
    with ExitStack() as stack:
        hole = stack.enter_context(bench.black_hole())
        off = stack.enter_context(bench.sidecar("full"))
        on = stack.enter_context(bench.sidecar("full", hole))
        rows, problems = measure.spine([off, on], rounds)
    lines = [f"{'median of ' + str(rounds) + ' rounds':32} {'sinks off':>10} {'all on':>10}  cost"]
    met = not problems
    for figure, name in _FIGURES.items():
        without, those = rows[off.name][figure], rows[on.name][figure]
        ratios = [b / a for a, b in zip(without, those, strict=True)]
        cost = median(1 / one if figure in _MORE_IS_BETTER else one for one in ratios)
        met = met and cost <= MOST
        verdict = "met" if cost <= MOST else "NOT MET"
        lines.append(
            f"{name:32} {median(without):10.3g} {median(those):10.3g}  × {cost:.3f} {verdict}"
        )
    return "\n".join([*lines, *(f"PROBLEM {one}" for one in problems)]), met
