"""Evidence into the ledger: through the sidecar while one runs, else straight into the file.

A promotion is an event, and events get their numbers from whoever holds the ledger: the sidecar, or
for the moment that it takes, this command.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from modelspend.cli.client import Daemon, through_its_holder

if TYPE_CHECKING:
    from modelspend.cli.context import Here
    from modelspend.quality import Evidence

_AT_ONCE = 1_000  # rows of one request: calls wait for the ledger as long as it takes them


def added(at: "Here", rows: "Sequence[Evidence]") -> dict[str, Any]:
    """`{"added", "known", "promotions"}`. Raises LedgerHeld when its holder serves nothing."""
    return through_its_holder(
        at.ledger,
        lambda daemon: through(daemon, rows),
        lambda: asyncio.run(_into_the_file(at, rows)),
    )


def through(daemon: Daemon, rows: "Sequence[Evidence]") -> dict[str, Any]:
    """The same through a sidecar, in requests of a bounded size."""
    done: dict[str, Any] = {"added": 0, "known": 0, "promotions": []}
    for start in range(0, len(rows), _AT_ONCE):
        some = [asdict(row) for row in rows[start : start + _AT_ONCE]]
        told = daemon.post("/v1/evals/evidence", {"evidence": some})
        done["added"] += told["added"]
        done["known"] += told["known"]
        done["promotions"] += told["promotions"]
    return done


async def _into_the_file(at: "Here", rows: "Sequence[Evidence]") -> dict[str, Any]:
    from modelspend.store import Store

    store = await Store.open(at.ledger)
    try:
        return (await store.quality.add(rows, at.now_ms())).to_json()
    finally:
        await store.close()
