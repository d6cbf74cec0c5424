"""Makes a dictionary for details from ledgers: `python -m tests.bench.dictionary OUT LEDGER…`.

A detail is small and much like every other, so nearly all of it comes from the dictionary. What it
is trained on: receipts of the ledgers named (a demo, that of `tests.bench.reports --keep`, one that
calls of every dialect went through, routed, failing and streamed) and synthetic ones, none of them
of recorded traffic, so that no shape crowds out the others. Prints what a receipt that it was not
trained on takes, by ledger, beside what it takes now. A dictionary that
was ever released is kept for ever; a new one gets the next number in `store/detail.py`.
"""

import argparse
import itertools
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import zstandard

from modelspend.receipt_json import canonical
from modelspend.store import detail
from modelspend.store.alerts import DETAIL_COLUMNS
from modelspend.store.calls import dictionary_of, receipt_columns
from tests.store.synthetic import Traffic

SIZE = 28 * 1024
EACH = 1_500
"""Receipts that are taken of a ledger, spread over it; half of them to train on."""

Detail = tuple[bytes, detail.Columns]


def of_ledger(path: Path) -> list[Detail]:
    """Canonical bytes and columns of some receipts, spread evenly."""
    query = f"SELECT detail, {DETAIL_COLUMNS} FROM receipts WHERE seq % ? = 0 LIMIT ?"
    with closing(sqlite3.connect(path)) as conn:
        (count,) = conn.execute("SELECT count(*) FROM receipts").fetchone()
        rows = conn.execute(query, (count // EACH + 1, EACH)).fetchall()
    return [(detail.unpack(packed, tuple(columns)), tuple(columns)) for packed, *columns in rows]


def synthetic() -> list[Detail]:
    """The same of receipts that nobody sent."""
    receipts = Traffic(11, tenants=60).receipts(EACH)
    return [(canonical(each), dictionary_of(receipt_columns(each))) for each in receipts]


def trained(sets: Sequence[Sequence[Detail]]) -> zstandard.ZstdCompressionDict:
    """A dictionary from every second one, each set as often as the largest."""
    largest = max(map(len, sets))
    samples = [
        detail.bare(*each)
        for some in sets
        for each in itertools.islice(itertools.cycle(some[::2]), largest // 2)
    ]
    return zstandard.train_dictionary(SIZE, samples, level=detail.LEVEL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("ledgers", type=Path, nargs="+")
    asked = parser.parse_args()
    sets = {path.name: of_ledger(path) for path in asked.ledgers} | {"synthetic": synthetic()}
    found = trained(list(sets.values()))
    packer = detail.packer_with(found.as_bytes())
    for name, some in sets.items():
        held_out = some[1::2]
        then = sum(len(packer.compress(detail.bare(*each))) for each in held_out)
        now = sum(len(detail.pack(*each)) for each in held_out)
        sys.stdout.write(f"{name:24} {then / len(held_out):6.0f} {now / len(held_out):6.0f}\n")
    asked.out.write_bytes(found.as_bytes())


if __name__ == "__main__":
    main()
