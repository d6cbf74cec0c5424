"""A receipt's cost lines out of its canonical bytes, quickly: for exports that read a million.

Hides that a float is exact here: a unit price has few digits, so what was read as a float is put
back into whole pico-dollars, and the sum of the lines is held against the receipt's own cost. Where
they differ (a price beyond any that is known), the bytes are read digit by digit.
"""

from collections.abc import Iterator
from decimal import Decimal
from json import loads as exactly
from typing import Any

from orjson import loads

from modelspend.money import from_usd
from modelspend.receipt_json import from_iso
from modelspend.record import frozen
from modelspend.store.walk import Link


@frozen
class Line:
    """One cost line of an attempt; `unit_pico` is null when there is no price for it."""

    provider: str
    region: str | None
    model: str
    bucket: str
    quantity: int
    unit_pico: int | None
    price_id: str | None
    tier: str
    request_id: str | None


@frozen
class Lined:
    """A receipt as far as bills are concerned."""

    receipt_id: str
    created_at_ms: int
    tenant: str
    workflow: str | None
    cost_pico: int | None
    lines: tuple[Line, ...]


def lined(link: Link) -> Lined:
    """The lines of every attempt, in order."""
    shape: dict[str, Any] = loads(link.canonical)
    lines = tuple(_lines(shape))
    known = sum(one.quantity * one.unit_pico for one in lines if one.unit_pico is not None)
    if link.cost_pico is not None and known != link.cost_pico:
        lines = tuple(_lines(exactly(link.canonical, parse_float=Decimal)))
    return Lined(
        shape["receipt_id"],
        from_iso(shape["created_at"]),
        shape["tenant"],
        shape["workflow"],
        link.cost_pico,
        lines,
    )


def _lines(shape: dict[str, Any]) -> Iterator[Line]:
    for attempt in shape["attempts"]:
        for line in attempt["cost"]["lines"]:
            yield Line(
                attempt["provider"],
                attempt["region"],
                attempt["model_id"],
                line["bucket"],
                line["quantity"],
                _pico(line["unit_price_usd"]),
                line["price_id"],
                attempt["service_tier"],
                attempt["upstream_request_id"],
            )


def _pico(price: Any) -> int | None:
    if isinstance(price, float):
        return round(price * 1e12)
    return None if price is None else from_usd(price)
