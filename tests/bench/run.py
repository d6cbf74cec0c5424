"""What the sidecar costs, measured in one run beside what it replaces.

    python tests/bench/run.py [--rounds 3] [--full] [--profile] [--json FILE]
    python tests/bench/run.py --sinks [--rounds 7]

Four things answer the same requests in turn: the mock upstream itself, a bare aiohttp pass-through,
and `modelspend serve` with everything on (full durability, receipts, bodies) and with bodies off.
Each round visits all of them; figures are medians over rounds with their least and greatest. The
gateway is held to core 0, load and upstream to core 1. Needs Linux, two cores, and the packages
of the product. Everything is on 127.0.0.1 and bounded in time and number.

`--sinks` compares a sidecar without sinks and one with all of them on and a black hole behind
them, each alone in its turn; exit 1 when they cost calls more than a tenth.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import measure
import profiling
import report
import sinks
import targets


def main(words: Sequence[str]) -> int:
    asked = _options(words)
    os.sched_setaffinity(0, {targets.LOAD_CORE})
    with targets.bench(asked.folder) as bench, ExitStack() as stack:
        if asked.profile:
            print(profiling.profile(stack.enter_context(bench.sidecar("full")), bench))
            return 0
        if asked.sinks:
            told, met = sinks.compared(bench, asked.rounds)
            print(told)
            return 0 if met else 1
        side_by_side = [
            bench.direct(),
            stack.enter_context(bench.bare()),
            stack.enter_context(bench.sidecar("full")),
            stack.enter_context(bench.sidecar("none")),
        ]
        figures = measure.run(
            bench, side_by_side, rounds=asked.rounds, calls=100_000 if asked.full else asked.calls
        )
    print(report.drawn(figures))
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def _options(words: Sequence[str]) -> argparse.Namespace:
    head, _, tail = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="tests/bench/run.py",
        description=head,
        epilog=tail,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="visits to each target (3)")
    parser.add_argument("--calls", type=int, default=5_000, help="calls for the memory test (5000)")
    parser.add_argument("--full", action="store_true", help="100,000 calls for the memory test")
    parser.add_argument("--folder", type=Path, help="where the ledgers lie: the disk that counts")
    parser.add_argument("--json", type=Path, help="write every figure here as well")
    parser.add_argument("--sinks", action="store_true", help="only: what sinks cost calls")
    parser.add_argument("--profile", action="store_true", help="only: where the CPU goes (py-spy)")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
