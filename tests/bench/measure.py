"""The measurements: each visits every target once a round, so that slow minutes hit all alike."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import procs
from targets import LOAD_CORE, Bench, Target, cold_start_s, receipts

RATES = (50, 200)
STREAMS = (50, 200, 1000)
CONNECTIONS = 32
FIRST_MS, GAP_MS = 100, 50

Figures = dict[str, Any]
Rows = dict[str, dict[str, list[float]]]


def run(bench: Bench, side_by_side: list[Target], *, rounds: int, calls: int) -> Figures:
    """All figures of one run: `rows[target][name]` holds one value a round."""
    began, busy = time.monotonic(), procs.machine_busy_s()
    own = _own_cpu_s(bench, side_by_side)
    rows: dict[str, dict[str, list[float]]] = {target.name: {} for target in side_by_side}
    seen = _Seen(rows)
    figures: Figures = {"rounds": rounds, "sync_ms": [], "problems": seen.problems}
    _idle_memory(side_by_side, seen)
    _warm(side_by_side, seen)
    for number in range(rounds):
        _say(f"round {number + 1} of {rounds}")
        figures["sync_ms"] += procs.sync_ms(bench.folder)
        for measured in (_one_connection, _fixed_rates, _many_connections, _fast_streams):
            bench.pace(0, 0)
            for target in side_by_side:
                measured(target, seen)
        bench.pace(FIRST_MS, GAP_MS)
        for target in side_by_side[:3]:
            _open_streams(target, seen)
    bench.pace(0, 0)
    _say(f"memory over {calls} calls")
    for target in side_by_side[1:]:
        _memory(target, calls, seen)
    _say("cold starts")
    _cold_starts(bench, rounds, seen)
    figures["rows"] = rows
    figures["memory_calls"] = calls
    figures["receipts"] = {
        t.name: [seen.calls[t.name], receipts(t.ledger)] for t in side_by_side if t.ledger
    }
    ours = _own_cpu_s(bench, side_by_side) - own
    figures["seconds"] = time.monotonic() - began
    foreign = (procs.machine_busy_s() - busy - ours) / figures["seconds"]
    figures["foreign_cpu_share"] = max(0.0, foreign / (os.cpu_count() or 1))
    return figures


def spine(side_by_side: list[Target], rounds: int) -> tuple[Rows, list[str]]:
    """Latencies and rates alone, and what went wrong: whoever is not visited stands still."""
    rows: Rows = {target.name: {} for target in side_by_side}
    seen = _Seen(rows)
    _warm(side_by_side, seen)
    for number in range(rounds):
        _say(f"round {number + 1} of {rounds}")
        turn = side_by_side[number % len(side_by_side) :] + side_by_side
        for target in turn[: len(side_by_side)]:
            with procs.alone(target.process, [one.process for one in side_by_side]):
                for measured in (_one_connection, _fixed_rates, _many_connections, _fast_streams):
                    measured(target, seen)
    return rows, seen.problems


class _Seen:
    """Where figures are noted, and every answer that was not as it should be."""

    def __init__(self, rows: dict[str, dict[str, list[float]]]) -> None:
        self._rows = rows
        self.problems: list[str] = []
        self.calls = dict.fromkeys(rows, 0)

    def note(self, target: Target, **values: float) -> None:
        for name, value in values.items():
            if target.process is None and name.endswith("cpu_ms"):
                continue  # the upstream's own CPU is no figure of this benchmark
            self._rows[target.name].setdefault(name, []).append(value)

    def load(self, target: Target, mode: str, amount: float, seconds: float, *rest: object) -> Any:
        got = procs.load(LOAD_CORE, mode, target.url, amount, seconds, *rest)
        self.calls[target.name] += got["ok"] + got["not_200"] + got["incomplete"]
        wrong = {name: got[name] for name in ("not_200", "broken", "incomplete") if got[name]}
        if wrong:
            self.problems.append(f"{target.name}, {mode} {amount:g}: {wrong} {got['sample']}")
        return got


def _one_connection(target: Target, seen: _Seen) -> None:
    before = target.cpu_s()
    got = seen.load(target, "closed", 1, 1.0)
    cpu = target.cpu_s() - before
    seen.note(
        target,
        serial_p50=got["whole_ms"]["p50"],
        serial_p99=got["whole_ms"]["p99"],
        serial_cpu_ms=cpu / max(1, got["ok"]) * 1000,
    )


def _fixed_rates(target: Target, seen: _Seen) -> None:
    for rate in RATES:
        got = seen.load(target, "open", rate, 1.5 if rate < 100 else 1.0)
        seen.note(
            target,
            **{
                f"rate{rate}_p50": got["whole_ms"]["p50"],
                f"rate{rate}_p99": got["whole_ms"]["p99"],
            },
        )


def _many_connections(target: Target, seen: _Seen) -> None:
    before = target.cpu_s()
    got = seen.load(target, "closed", CONNECTIONS, 1.5)
    cpu = target.cpu_s() - before
    seen.note(
        target,
        rps=got["ok"] / got["seconds"],
        cpu_ms=cpu / max(1, got["ok"]) * 1000,
        busy_p50=got["whole_ms"]["p50"],
        busy_p99=got["whole_ms"]["p99"],
    )


def _fast_streams(target: Target, seen: _Seen) -> None:
    """Streams as fast as they go: twenty pieces without a pause, each a write of its own."""
    before = target.cpu_s()
    got = seen.load(target, "closed", CONNECTIONS, 1.5, "stream")
    cpu = target.cpu_s() - before
    seen.note(
        target,
        streams_per_s=got["ok"] / got["seconds"],
        stream_cpu_ms=cpu / max(1, got["ok"]) * 1000,
    )


def _open_streams(target: Target, seen: _Seen) -> None:
    """Streams side by side: first piece after 100 ms, then one each 50 ms."""
    for count in STREAMS:
        before = target.cpu_s()
        got = seen.load(target, "stream", count, 1.0)
        cpu = target.cpu_s() - before
        seen.note(
            target,
            **{
                f"first{count}_p50": got["first_ms"]["p50"] - FIRST_MS,
                f"first{count}_p99": got["first_ms"]["p99"] - FIRST_MS,
                f"piece{count}_p50": got["piece_ms"]["p50"],
                f"piece{count}_p99": got["piece_ms"]["p99"],
                f"paced{count}_cpu_ms": cpu / max(1, got["ok"]) * 1000,
            },
        )


def _idle_memory(side_by_side: list[Target], seen: _Seen) -> None:
    for target in side_by_side:
        if target.process:
            seen.note(target, rss_idle_mb=target.process.rss_mb())


def _memory(target: Target, calls: int, seen: _Seen) -> None:
    """Ten steps, so that growth shows as a slope and not as one number."""
    assert target.process is not None
    steps = []
    for _ in range(10):
        seen.load(target, "closed", CONNECTIONS, 600, max(CONNECTIONS, calls // 10))
        steps.append(target.process.rss_mb())
    seen.note(target, rss_after_mb=steps[-1], rss_growth_mb=steps[-1] - steps[4])


def _cold_starts(bench: Bench, rounds: int, seen: _Seen) -> None:
    starts: list[tuple[str, Callable[[], Any]]] = [
        ("bare aiohttp", bench.bare),
        ("sidecar", lambda: bench.sidecar("full")),
    ]
    for _ in range(max(3, rounds)):
        for name, start in starts:
            seen.note(Target(name, ""), cold_s=cold_start_s(start()))


def _warm(side_by_side: list[Target], seen: _Seen) -> None:
    for target in side_by_side:
        seen.load(target, "closed", 8, 30, 500)
        seen.load(target, "closed", 8, 30, 100, "stream")


def _own_cpu_s(bench: Bench, side_by_side: list[Target]) -> float:
    spent = os.times()
    mine = spent.user + spent.system + spent.children_user + spent.children_system
    return mine + bench.upstream.cpu_s() + sum(target.cpu_s() for target in side_by_side)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
