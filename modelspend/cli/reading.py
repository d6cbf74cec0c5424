"""Questions to the ledger from a command: opened to read, with a daemon or without one.

Hides the event loop, how one receipt is found by the start of its id, and how several filters make
one list.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from modelspend.errors import ReceiptNotFound, Usage

if TYPE_CHECKING:
    from modelspend.store import Filter, Store, Stored

R = TypeVar("R")

LAST = "last"
"""In place of an id: the newest receipt."""


def read(ledger: Path, question: "Callable[[Store], Awaitable[R]]") -> R:
    """The answer to a question. Raises NotFound when there is no ledger."""
    from modelspend.store import Store

    async def ask() -> R:
        store = await Store.open_read(ledger)
        try:
            return await question(store)
        finally:
            await store.close()

    return asyncio.run(ask())


def shape(stored: "Stored") -> dict[str, Any]:
    """The receipt's JSON, with what is known only when it is read."""
    from modelspend.receipt_json import to_json

    said = to_json(stored.receipt)
    said["request"]["body_kept"] = stored.body_kept
    return {**said, "seq": stored.seq, "hash": stored.hash}


async def one(store: "Store", named: str) -> "Stored":
    """The receipt of an id, of the start of one, or of `last`. Raises ReceiptNotFound, Usage."""
    if named == LAST:
        found = await store.receipts.list(limit=1)
        if not found:
            raise ReceiptNotFound(
                "There is no receipt yet.", "Send a call: modelspend help clients"
            )
        return found[0]
    exact = await store.receipts.get(named)
    if exact is not None:
        return exact
    alike = await store.receipts.starting(named, limit=4)
    if len(alike) == 1:
        return alike[0]
    if not alike:
        raise ReceiptNotFound(f"There is no receipt {named}.", "See: modelspend receipts list")
    some = ", ".join(stored.receipt.receipt_id for stored in alike[:3])
    raise Usage(f"More than one receipt starts with {named}: {some}, …", "Write more of the id.")


async def listed(
    store: "Store", filters: "Sequence[Filter]", limit: int, after: str | None
) -> "list[Stored]":
    """What matches any of the filters: newest first, or what follows a receipt, oldest first."""
    if after is not None:
        seq = (await one(store, after)).seq
        arms = [await store.receipts.after(seq, where, limit) for where in filters]
        return sorted(_distinct(arms), key=lambda stored: stored.seq)[:limit]
    arms = [await store.receipts.list(where, limit=limit) for where in filters]
    newest = sorted(
        _distinct(arms), key=lambda found: (found.receipt.created_at_ms, found.seq), reverse=True
    )
    return newest[:limit]


def _distinct(arms: "list[list[Stored]]") -> "list[Stored]":
    return list({stored.seq: stored for arm in arms for stored in arm}.values())
