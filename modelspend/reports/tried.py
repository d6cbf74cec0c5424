"""What was asked of one provider, attempt by attempt: our side of its bill.

An attempt that surely was not sent is none of theirs. One that may have been, and whose usage we
never learnt, is kept without lines: a bill may hold it. As in `lines`, prices are read as floats,
which are exact here, and digit by digit where their sum is not the receipt's own cost.
"""

from collections.abc import Callable
from decimal import Decimal
from json import loads as exactly
from typing import Any

from orjson import loads

from modelspend.money import from_usd
from modelspend.receipt import Delivery
from modelspend.receipt_json import from_iso
from modelspend.reconcile import Tried
from modelspend.store import Filter, Store
from modelspend.store.walk import Link


async def tried(
    store: Store,
    provider: str,
    since_ms: int,
    until_ms: int,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Tried]:
    """Every attempt at a provider that may be billed, of receipts of a period; `progress` hears how
    many receipts were read."""
    found: list[Tried] = []
    done = 0
    async for page in store.walk.links(Filter(since_ms=since_ms, until_ms=until_ms)):
        for link in page:
            found += (one for one, owner in _attempts(link) if owner == provider)
        done += len(page)
        progress(done)
    return found


def _attempts(link: Link) -> list[tuple[Tried, str]]:
    """Those of a receipt that may be billed, with their providers."""
    every = _read(loads(link.canonical))
    if link.cost_pico is not None and sum(one.known_pico for one, _ in every) != link.cost_pico:
        every = _read(exactly(link.canonical, parse_float=Decimal))
    return every


def _read(shape: dict[str, Any]) -> list[tuple[Tried, str]]:
    return [
        (_tried(attempt, shape["receipt_id"]), attempt["provider"])
        for attempt in shape["attempts"]
        if attempt["delivery"] != Delivery.NOT_SENT
    ]


def _tried(attempt: dict[str, Any], receipt_id: str) -> Tried:
    lines = tuple(
        (line["bucket"], line["quantity"], _pico(line["unit_price_usd"]))
        for line in attempt["cost"]["lines"]
    )
    known = sum(n * unit for _, n, unit in lines if unit is not None)
    return Tried(
        at_ms=from_iso(attempt["started_at"]),
        model=attempt["model_id"],
        tier=attempt["service_tier"],
        receipt_id=receipt_id,
        cost_pico=None if attempt["cost_usd"] is None else known,
        lines=lines,
        call_id=attempt["upstream_request_id"],
    )


def _pico(price: Any) -> int | None:
    if isinstance(price, float):
        return round(price * 1e12)
    return None if price is None else from_usd(price)
