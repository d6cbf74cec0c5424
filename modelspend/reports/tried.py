"""What was asked of one provider, attempt by attempt: our side of its bill.

An attempt that surely was not sent is none of theirs. One that may have been, and whose usage we
never learnt, is kept without lines: a bill may hold it.
"""

from decimal import Decimal
from json import loads
from typing import Any

from modelspend.money import from_usd
from modelspend.receipt import Delivery
from modelspend.receipt_json import from_iso
from modelspend.reconcile import Tried
from modelspend.store import Filter, Store


async def tried(store: Store, provider: str, since_ms: int, until_ms: int) -> list[Tried]:
    """Every attempt at a provider that may be billed, of receipts of a period."""
    found: list[Tried] = []
    where = Filter(since_ms=since_ms, until_ms=until_ms)
    async for page in store.walk.links(where):
        for link in page:
            shape = loads(link.canonical, parse_float=Decimal)
            found += (
                _tried(attempt, shape["receipt_id"])
                for attempt in shape["attempts"]
                if attempt["provider"] == provider and attempt["delivery"] != Delivery.NOT_SENT
            )
    return found


def _tried(attempt: dict[str, Any], receipt_id: str) -> Tried:
    cost = attempt["cost_usd"]
    return Tried(
        at_ms=from_iso(attempt["started_at"]),
        model=attempt["model_id"],
        tier=attempt["service_tier"],
        receipt_id=receipt_id,
        cost_pico=None if cost is None else from_usd(cost),
        lines=tuple(
            (line["bucket"], line["quantity"], _pico(line["unit_price_usd"]))
            for line in attempt["cost"]["lines"]
        ),
        call_id=attempt["upstream_request_id"],
    )


def _pico(price: Any) -> int | None:
    return None if price is None else from_usd(price)
