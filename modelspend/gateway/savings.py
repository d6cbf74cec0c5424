"""What a call saved, from what was decided, tried and priced; the sums are in `savings`.

Hides which prices that takes: those of the baseline and of every place tried, at the instant of the
call. Calls on which nothing was applied save nothing and carry no savings at all.
"""

from modelspend.catalog.prices import MISSING, PriceBook
from modelspend.catalog.provider import Provider
from modelspend.gateway.call import Call
from modelspend.gateway.target import Target
from modelspend.money import Price
from modelspend.receipt import Savings
from modelspend.savings import Place, Tried, attributed


def unasked(call: Call, prices: PriceBook) -> list[tuple[Provider, str]]:
    """The models whose price must be asked for before `saved` can tell anything.

    The row of the baseline is named by the receipt, so it is to be kept from here on.
    """
    if not _applied(call):
        return []
    places = [(each.provider, each.model) for each in _targets(call)]
    if (baseline := _baseline(call)) is not None:
        places.append(baseline)
        if (row := _price(*baseline, call.created_at_ms, prices)) is not None:
            prices.use(row)
    at_ms = call.created_at_ms
    return [place for place in places if prices.find(*place, at_ms) is MISSING]


def saved(call: Call, prices: PriceBook) -> Savings | None:
    """The savings of a call whose attempts are priced; null where no decision was applied."""
    if not _applied(call):
        return None
    known: dict[tuple[str, str], Place] = {}

    def at(provider: Provider, model: str) -> Place:
        place = known.get((provider.name, model))
        if place is None:
            price = _price(provider, model, call.created_at_ms, prices)
            place = Place(provider=provider.name, model=model, price=price)
            known[provider.name, model] = place
        return place

    tried = [
        Tried(place=at(one.target.provider, one.target.model), cost_pico=one.cost.total_pico)
        for one in call.tries
    ]
    baseline, rewriting = _baseline(call), call.ruling.decision.rewriting
    taken_out = rewriting.tokens_before - rewriting.tokens_after if rewriting else 0
    place = at(*baseline) if baseline else None
    planned = at(call.target.provider, call.target.model)
    return attributed(place, planned, tried, call.last.usage.quantities, max(taken_out, 0))


def _applied(call: Call) -> bool:
    """Whether anything of ours changed what the call cost: a route, another try, fewer tokens."""
    if call.savings is not None or not call.tries or not call.request.dialect.billable:
        return False
    decision = call.ruling.decision
    led = bool(call.hops) or len(call.tries) > 1
    return led or decision.applied or decision.rewriting is not None


def _baseline(call: Call) -> tuple[Provider, str] | None:
    """What would have answered without us; null when nothing was asked for by name."""
    if call.ruling.decision.applied:
        return call.ruling.baseline
    return call.target.provider, call.target.model


def _targets(call: Call) -> tuple[Target, ...]:
    """Who was to answer, and who did where that is another."""
    planned, last = call.target, call.last.target
    return (planned,) if last is planned else (planned, last)


def _price(provider: Provider, model: str, at_ms: int, prices: PriceBook) -> Price | None:
    found = prices.find(provider, model, at_ms)
    return None if found is MISSING else found.price
