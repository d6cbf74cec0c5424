"""How a replay is drawn: figures side by side, then what the answers say differently."""

import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import typer

from modelspend.cli.output import draw, on_terminal

_COLUMNS = ("", "original", "replay", "change")
_STYLES = {"+": typer.colors.GREEN, "-": typer.colors.RED, "@": typer.colors.CYAN}


def told(said: Mapping[str, Any]) -> None:
    """The replay of one receipt, on stdout."""
    diff = said["diff"]
    rows = [
        ["receipt", said["original"]["receipt_id"], said["replay"]["receipt_id"], ""],
        *([name, *_pair(diff[name])] for name in ("model", "status", "stop_reason", "tier")),
        *([name, *_figures(figures)] for name, figures in diff["tokens"].items()),
        *([name, *_figures(diff[name])] for name in ("cost_usd", "latency_ms", "ttft_ms")),
    ]
    draw(_COLUMNS, rows, right=("change",))
    typer.echo("")
    _answer(diff["answer"])
    if spread := said.get("spread"):
        typer.echo("")
        _spread(spread, len(said["replays"]))


def verdict(answer: Mapping[str, Any]) -> str:
    """How alike two answers are, in words."""
    if answer["same_bytes"]:
        return "The answers are the same, byte for byte."
    if answer["equal"]:
        return "The answers say the same; their bytes differ (ids, times)."
    if answer["similarity"] is None:
        missing = "original" if answer["original"] is None else "replay's"
        return f"The answers cannot be compared: the {missing} answer is not there as words."
    return f"The answers differ; {Decimal(str(answer['similarity'])):.0%} of their words agree."


def _answer(answer: Mapping[str, Any]) -> None:
    typer.echo(verdict(answer))
    for line in (answer["unified"] or "").splitlines():
        safe = "".join(letter if letter.isprintable() else " " for letter in line)
        colour = _STYLES.get(line[:1]) if on_terminal() else None
        sys.stdout.write(typer.style(safe, fg=colour) + "\n")


def _spread(spread: Mapping[str, Any], n: int) -> None:
    rows = [
        [name, *(_text(found[key]) for key in ("least", "median", "most"))]
        for name in ("cost_usd", "latency_ms", "output_tokens", "similarity")
        if (found := spread[name]) is not None
    ]
    draw((f"of {n} replays", "least", "median", "most"), rows, right=("least", "median", "most"))
    typer.echo(f"{spread['answers']} different answers.")


def _pair(found: Mapping[str, Any]) -> list[str]:
    return [_text(found["original"]), _text(found["replay"]), "" if found["equal"] else "changed"]


def _figures(found: Mapping[str, Any]) -> list[str]:
    change, ratio = found["change"], found["ratio"]
    told = "" if not change else f"{change:+f}" if isinstance(change, Decimal) else f"{change:+}"
    if told and ratio is not None:
        told += f" (x{Decimal(str(ratio)):.2f})"
    return [_text(found["original"]), _text(found["replay"]), told]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return format(value, "f") if isinstance(value, Decimal) else str(value)
