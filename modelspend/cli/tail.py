"""`tail`: follow new receipts as they are written, with a daemon or without one.

It reads the ledger and nothing else: a cheap look at its newest number says whether there is more,
and the cursor is the receipts' own number, so nothing is shown twice or missed.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from modelspend.cli.context import here
from modelspend.cli.filters import Asked, filtered
from modelspend.cli.output import Json, clean, write_json

if TYPE_CHECKING:
    from modelspend.receipt import Receipt
    from modelspend.store import Filter, Store, Stored

_LOOK_S = 0.2
_PAGE = 500


@filtered
def tail(
    ctx: typer.Context,
    asked: Asked,
    last: Annotated[
        int, typer.Option("--last", "-n", min=0, max=_PAGE, help="Show this many older ones first.")
    ] = 10,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Wait for new ones, until interrupted.")
    ] = True,
    json: Json = False,
) -> None:
    """Follow new receipts as they are written; --json prints one object on each line."""
    from modelspend.cli.reading import read

    at = here(ctx)
    filters = asked.filters(at)
    read(at.ledger, lambda store: _follow(store, filters, last, follow, json))


async def _follow(
    store: "Store", filters: "Sequence[Filter]", last: int, follow: bool, json: bool
) -> None:
    from modelspend.cli.reading import listed

    cursor = (await store.meta.info()).last_seq
    older = await listed(store, filters, last, None) if last else []
    for stored in reversed(older):
        _print(stored, json)
    cursor = max([cursor, *(stored.seq for stored in older)])
    seen = await store.meta.last_seq()
    while follow:
        fresh = await _after(store, filters, cursor)
        for stored in fresh:
            _print(stored, json)
            cursor = stored.seq
        if len(fresh) < _PAGE:
            seen = await _commit_after(store, seen)


async def _after(store: "Store", filters: "Sequence[Filter]", seq: int) -> "list[Stored]":
    arms = [await store.receipts.after(seq, where, _PAGE) for where in filters]
    found = {stored.seq: stored for arm in arms for stored in arm}
    return [found[seq] for seq in sorted(found)][:_PAGE]


async def _commit_after(store: "Store", seen: int) -> int:
    """The newest number once it is another; SQLite wakes nobody in another process: we look."""
    import asyncio

    while True:
        newest = await store.meta.last_seq()
        if newest != seen:
            return newest
        await asyncio.sleep(_LOOK_S)


def _print(stored: "Stored", json: bool) -> None:
    if json:
        from modelspend.cli.reading import shape

        write_json(shape(stored), line=True)
    else:
        sys.stdout.write(line(stored.receipt) + "\n")
    sys.stdout.flush()


def line(receipt: "Receipt") -> str:
    """One receipt on one line: time, how it ended, cost, latency, who, what, id."""
    from modelspend.cli.receipts import COLUMNS, cells

    said = dict(zip(COLUMNS, cells(receipt), strict=True))
    cost = f"${said['cost_usd']}" if said["cost_usd"] else "-"
    return clean(
        f"{said['created_at'][11:23]}  {said['status']:<17}  {cost:>14}"
        f"  {receipt.execution.actual_latency_ms:>7.0f} ms"
        f"  {said['tenant']:<14}  {said['provider']}/{said['model']}  {said['receipt_id']}"
    )
