"""`tail`: follow new receipts as they are written, with a daemon or without one.

What it shows it reads in the ledger, by the receipts' own number, so nothing is shown twice or
missed. When there is more, the feed of the sidecar says; without one, or once it has ended, a cheap
look at the newest number does.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from modelspend.cli.context import Here, here
from modelspend.cli.filters import Asked, filtered
from modelspend.cli.output import Json, clean, write_json

if TYPE_CHECKING:
    from modelspend.receipt import Receipt
    from modelspend.store import Filter, Store, Stored

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
    read(at.ledger, lambda store: _follow(at, store, filters, last, follow, json))


async def _follow(
    at: Here, store: "Store", filters: "Sequence[Filter]", last: int, follow: bool, json: bool
) -> None:
    from modelspend.cli.reading import listed
    from modelspend.cli.tail_news import News

    cursor = (await store.meta.info()).last_seq
    older = await listed(store, filters, last, None) if last else []
    for stored in reversed(older):
        _print(stored, json)
    cursor = max([cursor, *(stored.seq for stored in older)])
    if not follow:
        return
    news = News(store, await store.meta.last_seq())
    news.listen(at, cursor)
    while True:
        fresh = await _after(store, filters, cursor)
        for stored in fresh:
            _print(stored, json)
            cursor = stored.seq
        if len(fresh) < _PAGE:
            await news.come()


async def _after(store: "Store", filters: "Sequence[Filter]", seq: int) -> "list[Stored]":
    arms = [await store.receipts.after(seq, where, _PAGE) for where in filters]
    found = {stored.seq: stored for arm in arms for stored in arm}
    return [found[seq] for seq in sorted(found)][:_PAGE]


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
