"""How `top` looks: one screen that fits a terminal, or the same figures as lines.

What is wrong has a colour and comes with the words for it; what is unknown is a dash, never 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from modelspend.cli.output import clean

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

Look = Mapping[str, Any]

_BARS = " ▁▂▃▄▅▆▇█"
_BAD_SHARE = 0.05


class Screen:
    """The whole terminal, until interrupted; what was there before comes back."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live("", console=Console(highlight=False), screen=True, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, look: Look) -> None:
        self._live.update(view(look), refresh=True)


def view(look: Look) -> "RenderableType":
    """The screen."""
    from rich.console import Group
    from rich.text import Text

    figures = [Text.assemble((f"{name:<13}", "dim"), value) for name, value in _figures(look)]
    bars = Text.assemble(" " * 13, (sparkline(look["recent"]), "cyan"))
    figures.insert(1, bars)
    below: list[RenderableType] = [_providers(look)] if look["providers"] else []
    if look["circuits"]["not_closed"] or look["circuits"]["cooling"]:
        below.append(_circuits(look))
    return Group(_title(look), Text(), *figures, Text(), *below)


def _title(look: Look) -> "Text":
    from rich.text import Text

    if not look["running"]:
        where = Text("no sidecar is running: this is the ledger alone", style="yellow")
    else:
        where = Text(f"{look['url']}  {look['mode']}  up {_duration(look['uptime_s'])}")
    title = Text.assemble(("modelspend top", "bold"), "  ", where, f"  {look['at'][11:19]} UTC")
    if look["draining"]:
        title.append("  stopping", style="bold yellow")
    for one in look["drills"]:
        title.append(f"  drill: {one['fault']} at {one['provider']}", style="bold magenta")
    return title


def _figures(look: Look) -> Iterator[tuple[str, str]]:
    share, spend = look["error_share"], look["spend"]
    yield "calls", f"{look['per_s']:g} a second, {look['calls']} in {look['window_s']} s"
    bad = {name: count for name, count in look["by_status"].items() if name != "success"}
    told = ", ".join(f"{name} {count}" for name, count in bad.items())
    yield "errors", f"{_percent(share)}{f'  ({told})' if told else ''}"
    yield "latency", _times(look["latency_ms"])
    yield "first token", _times(look["ttft_ms"])
    flight = look["in_flight"]
    yield "under way", f"{_or_dash(flight)} calls, ${look['held_usd']:f} held"
    for name, key in (("this hour", "hour"), ("today", "today")):
        missing = f", {spend[key]['unpriced']} unpriced" if spend[key]["unpriced"] else ""
        yield name, f"${spend[key]['cost_usd']:f} for {spend[key]['calls']:,} calls{missing}"
    circuits = look["circuits"]
    closed = circuits["all"] - len(circuits["not_closed"])
    yield (
        "circuits",
        (
            f"{closed} of {circuits['all']} closed, {len(circuits['cooling'])} resting;"
            f" {look['open_incidents']} incidents open"
        ),
    )


def rows(look: Look) -> Iterator[tuple[str, str]]:
    """The same as (what, value), for a pipe or a single look."""
    yield "at", look["at"]
    yield "sidecar", look["url"] or "none is running: this is the ledger alone"
    yield from _figures(look)
    for one in look["providers"]:
        first = f", first token {_times(one['ttft_ms'])}" if one["ttft_ms"]["p50"] else ""
        yield (
            one["provider"],
            f"{one['per_s']:g} a second, errors {_percent(one['error_share'])},"
            f" {_times(one['latency_ms'])}{first}, ${one['cost_usd']:f}",
        )
    for one in look["circuits"]["not_closed"]:
        yield f"{one['provider']}/{one['model_id'] or '*'}", f"{one['state']} ({one['reason']})"
    for one in look["drills"]:
        yield "drill", f"{one['fault']} at {one['provider']} until {one['ends_at'][11:19]}"


def _providers(look: Look) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("provider")
    for name in ("a second", "errors", "p50 ms", "p95 ms", "first token p50", "p95", "USD"):
        table.add_column(name, justify="right")
    for one in look["providers"]:
        share = one["error_share"]
        table.add_row(
            clean(one["provider"]),
            f"{one['per_s']:g}",
            Text(_percent(share), style="red" if share and share >= _BAD_SHARE else ""),
            *(_number(one[of][p]) for of in ("latency_ms", "ttft_ms") for p in ("p50", "p95")),
            f"{one['cost_usd']:f}",
        )
    return table


def _circuits(look: Look) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in ("circuit", "state", "why", "last failure", "since", "asked again"):
        table.add_column(name)
    for one in look["circuits"]["not_closed"]:
        table.add_row(*_circuit(one, Text(one["state"], style="red"), one["retry_at"]))
    for one in look["circuits"]["cooling"]:
        table.add_row(*_circuit(one, Text("resting", style="yellow"), one["cooling_until"]))
    return table


def _circuit(one: Look, state: "Text", until: str | None) -> "Iterator[str | Text]":
    yield clean(f"{one['provider']}/{one['model_id'] or '*'}")
    yield state
    yield one["reason"] or ""
    yield one["failure_class"] or ""
    yield (one["since"] or "")[11:19]
    yield until[11:19] if until else ""


def sparkline(values: Sequence[float]) -> str:
    """One bar for each value, the newest last."""
    most = max(values, default=0) or 1
    steps = len(_BARS) - 1
    return "".join(_BARS[round(value * steps / most)] for value in values)


def _times(of: Mapping[str, float | None]) -> str:
    return f"p50 {_number(of['p50'])}, p95 {_number(of['p95'])} ms"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _duration(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours} h {minute} min" if hours else f"{minute} min {second} s"
