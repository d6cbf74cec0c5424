"""How results are drawn: tables on a terminal, tab-separated when piped, JSON and CSV on demand.

Hides the width of the terminal and every escape: control characters in a value never reach the
terminal, a tab never splits a cell, and no CSV cell can become a spreadsheet's formula.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import typer

from modelspend.errors import Usage

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]

Row = Sequence[str]


def on_terminal() -> bool:
    """Whether a person reads stdout; pipes and files get plain, steady text."""
    return sys.stdout.isatty()


def write_aside(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, readable by this user alone."""
    with aside(path) as file:
        file.write(data)


@contextmanager
def aside(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes its name only when all of it is there and on the disk."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def one_form(json: bool, csv: bool) -> None:
    """Raises Usage when two forms of output were asked for at once."""
    if json and csv:
        raise Usage("--json and --csv exclude each other.", "Choose one of them.")


def svg_alone(file: Path) -> None:
    """Raises Usage for a picture that is no SVG: any other kind would take a library to draw."""
    if file.suffix.lower() != ".svg":
        raise Usage(
            f"Pictures are drawn as SVG, not as {file.suffix or 'a file without a suffix'}.",
            f"Write --plot {file.with_suffix('.svg')}; for a PNG of it: rsvg-convert, Inkscape or"
            " a browser.",
        )


def write_json(value: Any, *, line: bool = False) -> None:
    """JSON on stdout, money digit by digit; `line` keeps it on one line."""
    from modelspend.money import dumps

    sys.stdout.write(dumps(value, indent=not line).decode() + "\n")


def draw(
    columns: Row,
    rows: Iterable[Row],
    *,
    right: Sequence[str] = (),
    spare: Sequence[str] = (),
    fold: str | None = None,
) -> None:
    """A table on a terminal, else tab-separated lines with a header.

    `right` are columns of numbers; `spare` those that a narrow terminal does without, first to go
    first; `fold` is the one of sentences, which takes what is left of a line.
    """
    if on_terminal():
        _table(columns, [[clean(cell) for cell in row] for row in rows], right, spare, fold)
        return
    for row in (columns, *rows):
        sys.stdout.write("\t".join(clean(cell) for cell in row) + "\n")


def _table(columns: Row, rows: list[list[str]], right: Row, spare: Row, fold: str | None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(no_color="NO_COLOR" in os.environ or None, highlight=False)
    shown = _that_fit(columns, rows, spare, console.width, fold)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index in shown:
        side: Literal["left", "right"] = "right" if columns[index] in right else "left"
        whole = fold not in (None, columns[index])
        table.add_column(columns[index], justify=side, overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*(Text(row[index], style=_STYLES.get(row[index], "")) for index in shown))
    console.print(table)


def _that_fit(
    columns: Row, rows: list[list[str]], spare: Row, width: int, fold: str | None
) -> list[int]:
    """The numbers of the columns that a terminal has room for."""
    wide = [max(len(row[n]) for row in (columns, *rows)) + _GAP for n in range(len(columns))]
    if fold is not None:
        wide[columns.index(fold)] = min(wide[columns.index(fold)], _LEAST_FOLDED)
    shown = list(range(len(columns)))
    for name in spare:
        if sum(wide[n] for n in shown) <= width:
            break
        shown.remove(columns.index(name))
    return shown


_GAP = 3
_LEAST_FOLDED = 36

_STYLES = {
    "ok": "green",
    "success": "green",
    "cached": "cyan",
    "info": "cyan",
    "warn": "yellow",
    "critical": "bold red",
    "truncated": "yellow",
    "client_disconnect": "yellow",
    "refused": "yellow",
    "budget_stopped": "yellow",
    "fail": "red",
    "error": "red",
    "interrupted": "red",
}


_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(share: float, more: float = 0.0, width: int = 12) -> str:
    """A bar of a share in [0, 1], and lighter behind it what is yet to be decided."""
    full = min(max(share, 0.0), 1.0) * width
    solid = "█" * int(full)
    if rest := int((full - int(full)) * 8):
        solid += _EIGHTHS[rest]
    light = round(min(max(share + more, 0.0), 1.0) * width) - len(solid)
    return (solid + "░" * max(light, 0)).ljust(width, "·")[:width]


def clean(cell: str) -> str:
    """A value on one line, without what a terminal would obey or a tab would split."""
    return "".join(letter if letter.isprintable() else " " for letter in cell)


def write_csv(columns: Row, rows: Iterable[Row]) -> None:
    """RFC 4180 on stdout."""
    for row in (columns, *rows):
        sys.stdout.write(csv_line(row).decode())


def csv_line(row: Iterable[str]) -> bytes:
    """One line of RFC 4180; a cell that a spreadsheet would run gets an apostrophe before it."""
    return (",".join([_cell(cell) for cell in row]) + "\r\n").encode()


def _cell(cell: str) -> str:
    safe = _harmless(cell)
    if any(mark in safe for mark in ',;"\t\r\n'):  # some spreadsheets part cells at ; or a tab
        return '"' + safe.replace('"', '""') + '"'
    return safe


def _harmless(cell: str) -> str:
    """What stands behind apostrophes gets one more, so that taking one off gives the text back."""
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")  # the wide ones run in some languages' Excel
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)


class Progress:
    """A count on a terminal's stderr while something long goes on; nothing anywhere else."""

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            typer.echo("\r" + " " * 60 + "\r", err=True, nl=False)

    def tell(self, done: int, of: int | None = None) -> None:
        """So many of so many; of nobody knows how many without the second."""
        if self._shown:
            whole = "" if of is None else f" of {of:,}"
            typer.echo(f"\r{done:,}{whole} {self._noun}", err=True, nl=False)

    def count(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """The same lines, counted as they pass."""
        for number, line in enumerate(lines, start=1):
            if number % 5_000 == 0:
                self.tell(number)
            yield line
