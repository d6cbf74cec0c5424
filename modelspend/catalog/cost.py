"""What a call costs: its usage, the price found for it, and every reason why it may differ.

`settle_cost` is the one place where a cost is made: the gateway, `prices quote` and a replay all
come here, so that the same usage at the same price is always the same money.
"""

from collections.abc import Iterable
from dataclasses import replace

from modelspend.catalog.provider import Provider
from modelspend.catalog.usage import billed_apart, reported_pico, served_tier
from modelspend.money import Cost, Price, price_usage, usd_text
from modelspend.receipt import Usage
from modelspend.record import frozen, record


@frozen
class Found:
    """The price that holds, or null, and what a reader must know about it."""

    price: Price | None
    notes: tuple[str, ...] = ()


@record
class Bill:
    """What is to be priced: a usage, where it arose, and by which names its model goes.

    `served` is the model that the answer names, `asked` the one that was sent upstream; `told` is
    the service tier that the answer names outside its usage.
    """

    provider: Provider
    dialect: str
    usage: Usage
    asked: str
    at_ms: int
    served: str | None = None
    told: str = ""

    @property
    def tier(self) -> str:
        """The service tier that it was served at, "" for the standard one."""
        return served_tier(self.provider.tier, self.usage.raw, self.told)

    @property
    def apart(self) -> tuple[tuple[str, Usage], ...]:
        """(model, usage) of the rounds that are billed at another model's price."""
        return billed_apart(self.provider.usage[self.dialect], self.usage.raw)

    @property
    def models(self) -> tuple[str, ...]:
        """Every model whose price the bill may need, the likeliest first."""
        names = (self.served or self.asked, self.asked, *(model for model, _ in self.apart))
        return tuple(dict.fromkeys(names))


def settle_cost(bill: Bill, found: Found, apart: Iterable[tuple[Usage, Found]] = ()) -> Cost:
    """The cost of a usage: its lines, their sum, and every reason why the invoice may differ.

    `apart` are the rounds that other models took part with, each at that model's price.
    """
    usage, provider = bill.usage, bill.provider
    if usage.source == "none":
        return Cost(inexact=usage.problems)
    cost = _priced(provider, bill.served or bill.asked, usage, found)
    for round_usage, round_found in apart:
        cost = _plus(cost, _priced(provider, "", round_usage, round_found))
    if usage.source == "estimated":
        cost = _noting(cost, _estimated(usage))
    return _reported(cost, bill)


def _priced(provider: Provider, model: str, usage: Usage, found: Found) -> Cost:
    quantities = provider.at_most(model, usage.quantities)
    if found.price is not None and any("requests" in band.rates for band in found.price.bands):
        quantities["requests"] = 1
    return _noting(price_usage(quantities, found.price), *found.notes, *usage.problems)


def _plus(cost: Cost, more: Cost) -> Cost:
    known = cost.total_pico is not None and more.total_pico is not None
    return replace(
        cost,
        lines=cost.lines + more.lines,
        total_pico=(cost.total_pico or 0) + (more.total_pico or 0) if known else None,
        inexact=tuple(dict.fromkeys(cost.inexact + more.inexact)),
    )


def _noting(cost: Cost, *notes: str) -> Cost:
    return replace(cost, inexact=tuple(dict.fromkeys((*cost.inexact, *notes)))) if notes else cost


def _estimated(usage: Usage) -> str:
    if usage.error_ratio is None:
        return "usage estimated from content"
    return f"usage estimated from content (so far wrong by {usage.error_ratio:.0%} on average)"


def _reported(cost: Cost, bill: Bill) -> Cost:
    """The provider's own figure beside ours; a difference of more than 1 % is told."""
    reported = reported_pico(bill.provider.usage[bill.dialect], bill.usage.raw)
    if reported is None:
        return cost
    cost = replace(cost, reported_pico=reported)
    ours = cost.total_pico
    if ours is not None and abs(ours - reported) * 100 > max(ours, reported):
        return _noting(cost, f"the provider reported {usd_text(reported)} USD")
    return cost
