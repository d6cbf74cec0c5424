"""The batch door's files: JSONL or CSV, from a path or stdin, row by row and never at once.

A line that is no row is yielded as the ValueError that says why, in its place, so that whoever
answers line by line keeps the order.
"""

import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from modelspend.errors import ModelspendError

Row = Mapping[str, Any]

_BOM = b"\xef\xbb\xbf"


def rows(file: str, csv_row: Callable[[Row], Row]) -> Iterator[Row | ValueError]:
    """The rows of a file, in order; `-` is stdin. Raises ModelspendError when it cannot be read.

    `csv_row` makes a row of one in CSV, whose cells are all text; it may raise ValueError.
    """
    return (row for _, row in numbered(file, csv_row))


def numbered(file: str, csv_row: Callable[[Row], Row]) -> Iterator[tuple[int, Row | ValueError]]:
    """The same, each with the number of its line."""
    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as lines:
            before, first = _first(lines)
            every: Iterable[bytes] = chain([first], lines) if first else ()
            if file.lower().endswith(".csv") or not _looks_like_json(first):
                yield from _csv_rows(every, csv_row, before)
            else:
                each = enumerate(every, before + 1)
                yield from ((n, _json_row(line)) for n, line in each if line.strip())
    except OSError as why:
        raise ModelspendError(f"Cannot read {file}: {why.strerror}.") from None


def _first(lines: Iterable[bytes]) -> tuple[int, bytes]:
    """How many blank lines a file begins with, and the line that follows them."""
    return next(((n, line) for n, line in enumerate(lines) if line.strip()), (0, b""))


def _looks_like_json(line: bytes) -> bool:
    return line.removeprefix(_BOM).lstrip().startswith((b"{", b"["))


def _json_row(line: bytes) -> Row | ValueError:
    import orjson

    try:
        row = orjson.loads(line.removeprefix(_BOM))
    except orjson.JSONDecodeError as why:
        return ValueError(f"not JSON: {why}")
    return row if isinstance(row, dict) else ValueError("not a JSON object")


def _csv_rows(
    lines: Iterable[bytes], csv_row: Callable[[Row], Row], before: int
) -> Iterator[tuple[int, Row | ValueError]]:
    text = (line.decode("utf-8-sig", "replace") for line in lines)
    reader = csv.DictReader(text)
    for row in reader:
        try:
            yield before + reader.line_num, csv_row(row)
        except ValueError as why:
            yield before + reader.line_num, why


def usage_row(row: Row) -> Row:
    """A row whose usage is JSON in one cell, or spread over columns named like its fields
    (`prompt_tokens_details.cached_tokens`)."""
    said = {key: row[key] for key in _USAGE_KEYS if row.get(key)}
    if row.get("usage"):
        return {**said, "usage": _json_cell(row, "usage")}
    usage: dict[str, Any] = {}
    for name, cell in row.items():
        if name and name not in (*_USAGE_KEYS, "usage") and isinstance(cell, str) and cell.strip():
            *outer, last = name.split(".")
            place = usage
            for key in outer:
                place = place.setdefault(key, {})
            place[last] = int(cell) if cell.strip().isdecimal() else cell
    return {**said, "usage": usage}


_USAGE_KEYS = ("id", "provider", "model", "dialect", "at", "service_tier")


def prompt_row(row: Row) -> Row:
    """A row with a prompt as text, or a body as JSON, in one cell."""
    said = {key: row[key] for key in ("id", "prompt", "model", "dialect", "path") if row.get(key)}
    return {**said, "body": _json_cell(row, "body")} if row.get("body") else said


def _json_cell(row: Row, name: str) -> Any:
    import orjson

    try:
        return orjson.loads(row[name])
    except orjson.JSONDecodeError as why:
        raise ValueError(f"`{name}` is not JSON: {why}") from None
