"""How a drill is shown: lines that move on a terminal, quiet ones in a pipe, the report at the end.

Progress is talk and goes to stderr; the report is the result.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from modelspend.cli.drill_run import Seen

_WELL = ("success", "cached")


class Progress:
    """Tells what goes on, on stderr."""

    def __init__(
        self, asked: Mapping[str, Any], provider: str, *, simulated: bool, json: bool
    ) -> None:
        self._fault, self._for_s = asked["fault"], asked["for_s"]
        self._provider = provider
        self._words = f"{self._fault} in front of {provider}"
        self._live: Live | None = None
        self._begun = False
        where = (
            "a simulated pair, this configuration's limits" if simulated else "the running sidecar"
        )
        self._say(f"{self._words} for {self._for_s} s ({where})")
        if sys.stderr.isatty() and not json:
            self._live = _live()
            self._live.start()

    def phase(self, words: str) -> None:
        self._words = words
        self._say(words)

    def look(self, seen: "Seen", left_s: float) -> None:
        if left_s and not self._begun:
            self._begun = True
            self._words = f"{self._fault} in front of {self._provider}"
        if self._live is not None:
            self._live.update(_view(self._words, seen, left_s), refresh=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _say(self, words: str) -> None:
        if self._live is None:
            typer.echo(words, err=True)


def _live() -> "Live":
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    return Live("", console=console, auto_refresh=False, transient=True)


def _view(words: str, seen: "Seen", left_s: float) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    calls = seen.calls
    well = sum(one.execution.status in _WELL for one in calls)
    bad = len(calls) - well
    led = sum(bool(one.attempts) and one.attempts[-1].provider != seen.provider for one in calls)
    left = f"   {left_s:.0f} s left (Ctrl-C ends it now)" if left_s else ""
    state = {"circuit.open": "open", "circuit.half_open": "half open"}
    circuits = [f"{model} {state.get(kind, 'closed')}" for (model, _), kind in seen.states.items()]
    return Group(
        Text.assemble((words, "bold"), left),
        Text.assemble(
            f"calls {len(calls)}   ",
            (f"succeeded {well}", "green"),
            "   ",
            (f"failed {bad}", "red" if bad else ""),
            f"   answered elsewhere {led}",
        ),
        Text(f"circuits: {', '.join(circuits) or 'closed'}"),
    )


def lines(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The report as (what, value)."""
    drill, calls, circuit = told["drill"], told["calls"], told["circuit"]
    where = "a simulated pair" if told["simulated"] else "the running sidecar"
    cut = ", ended early" if told["interrupted"] else ""
    yield "drill", f"{drill['fault']} at {drill['provider']}, {drill['lasted_s']:g} s{cut}; {where}"
    yield "clients saw", _clients(calls)
    for name, key in (
        ("errors by status", "errors_by_http_status"),
        ("errors by class", "errors_by_failure_class"),
    ):
        if calls[key]:
            yield name, _counts(calls[key])
    met = told["attempts"]
    how = _counts(met["by_failure_class"]) if met["failed"] else "none of them failed"
    yield "the fault met", f"{met['met_fault']} attempts: {how}"
    yield "failover", _failover(told["failover"])
    yield "circuit", _circuit(circuit)
    for name in ("before", "during"):
        yield f"latency {name}", _latency(told["latency_ms"][name])
    yield "cost", _cost(told["cost"])


def _clients(calls: Mapping[str, Any]) -> str:
    if not calls["total"]:
        return "no call"
    share = f"{100 * calls['success_share']:.2f} %"
    well, bad = calls["succeeded"], calls["failed"]
    said = f"{calls['total']} calls: {well} succeeded ({share}), {bad} failed"
    return f"{said}; {calls['still_open']} more have no end yet" if calls["still_open"] else said


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in found.items()) or "-"


def _failover(told: Mapping[str, Any]) -> str:
    if not told["calls"]:
        return "no call was led elsewhere"
    how = [_counts(told["by_reason"])] if told["hops"] else []
    if told["planned_round"]:
        how.append(f"{told['planned_round']} planned round the open circuit")
    return f"{told['calls']} calls led to {_counts(told['to'])} ({', '.join(how)})"


def _circuit(told: Mapping[str, Any]) -> str:
    if not told["opened"]:
        return "did not open"
    attempts = told["attempts_until_open"]
    said = f"opened after {told['opened_after_s']:g} s and {attempts} attempts"
    if told["times_opened"] > 1:
        said += f", {told['times_opened']} times in all"
    if not told["recovered"]:
        return f"{said}; not recovered yet"
    return f"{said}; recovered {told['recovered_after_s']:g} s after the fault had gone"


def _latency(told: Mapping[str, Any]) -> str:
    if not told["calls"]:
        return "-"
    first = told["ttft_p50"]
    tokens = "" if first is None else f"; first token p50 {first:g}, p95 {told['ttft_p95']:g}"
    return f"p50 {told['p50']:g}, p95 {told['p95']:g}, p99 {told['p99']:g} ms{tokens}"


def _cost(told: Mapping[str, Any]) -> str:
    extra = told["extra_usd"]
    said = f"${told['spent_usd']:f} in all, "
    said += f"${abs(extra):f} {'less' if extra < 0 else 'more'} than without failover"
    if told["extra_unknown"]:
        said += f" (of {told['extra_unknown']} calls that is not known)"
    if told["spoilt_usd"]:
        said += f"; ${told['spoilt_usd']:f} of it for answers that the fault spoilt"
    return said
