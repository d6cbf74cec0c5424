"""How results are drawn: tables on a terminal, tab-separated when piped, JSON and CSV on demand.

Hides the width of the terminal and every escape: control characters in a value never reach the
terminal, a tab never splits a cell, and no CSV cell can become a spreadsheet's formula.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]

Row = Sequence[str]


def on_terminal() -> bool:
    """Whether a person reads stdout; pipes and files get plain, steady text."""
    return sys.stdout.isatty()


def write_json(value: Any, *, line: bool = False) -> None:
    """JSON on stdout, money digit by digit; `line` keeps it on one line."""
    from modelspend.money import dumps

    sys.stdout.write(dumps(value, indent=not line).decode() + "\n")


def draw(columns: Row, rows: Iterable[Row], *, right: Sequence[str] = ()) -> None:
    """A table on a terminal, else tab-separated lines with a header; `right` are number columns."""
    if on_terminal():
        _table(columns, rows, right)
        return
    for row in (columns, *rows):
        sys.stdout.write("\t".join(clean(cell) for cell in row) + "\n")


def _table(columns: Row, rows: Iterable[Row], right: Sequence[str]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(cell), style=_STYLES.get(cell, "")) for cell in row))
    Console(no_color="NO_COLOR" in os.environ or None, highlight=False).print(table)


_STYLES = {
    "ok": "green",
    "success": "green",
    "cached": "cyan",
    "warn": "yellow",
    "truncated": "yellow",
    "client_disconnect": "yellow",
    "refused": "yellow",
    "budget_stopped": "yellow",
    "fail": "red",
    "error": "red",
    "interrupted": "red",
}


def clean(cell: str) -> str:
    """A value on one line, without what a terminal would obey or a tab would split."""
    return "".join(letter if letter.isprintable() else " " for letter in cell)


def write_csv(columns: Row, rows: Iterable[Row]) -> None:
    """RFC 4180 on stdout; a cell that a spreadsheet would run gets an apostrophe before it."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_harmless(cell) for cell in row])


def _harmless(cell: str) -> str:
    dangerous = cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) and not _is_number(cell)
    return f"'{cell}" if dangerous else cell


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "n" not in cell.lower()  # not nan or inf
