"""What our decisions saved on a call, worked out once, when its receipt is made.

The baseline is what the call would have cost without us: the baseline model (`[savings]
baseline_model`, else the model that was asked for) at the very same tokens, and at the price row of
that instant. From there to the true cost the parts are taken in the order of events, each from
where the one before ended, so they add up to the difference to the last pico-dollar:

1. `routing`: from the baseline model to the model that was planned,
2. `failover`: from there to the model that answered, and, negative, what attempts cost that were
   given up for another place,
3. `compression`: the tokens taken out of the prompt, at the rate of the model that answered,
4. `retry`: negative, what attempts cost that were tried again at the same place,
5. `caching`: all of it, for an answer that was kept; then nothing else has happened.

Every part is signed: a route that cost more shows as a loss. Only what was applied saves; where one
price is missing nothing is said, and the report counts it. A kept answer saves what it cost when it
was made, whatever the model would cost now.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from modelspend.money import Price, price_usage
from modelspend.receipt import Savings
from modelspend.record import record

MECHANISMS = ("routing", "caching", "compression", "failover", "retry")
"""The closed list, in the order in which they are printed."""


@record
class Place:
    """A model at a provider, by the name that it is asked for, and its price row of the instant."""

    provider: str
    model: str
    price: Price | None = None

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


@record
class Tried:
    """One attempt: where, and what it cost (null when that is not known)."""

    place: Place
    cost_pico: int | None


def cached(model: str, cost_pico: int | None) -> Savings:
    """A kept answer was given again: the baseline is what it cost when it was made."""
    known = {} if cost_pico is None else _parts(caching=cost_pico)
    return Savings(baseline_model=model, baseline_cost_pico=cost_pico, by_mechanism=known)


def attributed(
    baseline: Place | None,
    planned: Place,
    tried: Sequence[Tried],
    quantities: Mapping[str, int],
    taken_out: int,
) -> Savings:
    """The signed parts for a call that was sent; without parts when a price is not known.

    `planned` is the first choice, which nothing may have been sent to. `quantities` are the tokens
    of the attempt that answered, `taken_out` those that a shorter prompt left out. `baseline` is
    null when no model was asked for and none is configured.
    """
    whole = {**quantities, "input_tokens": quantities.get("input_tokens", 0) + taken_out}
    last = tried[-1]
    shorter = _difference(last.place, whole, quantities) if taken_out else 0
    given_up, again = _given_up(tried), _tried_again(tried)
    if last.cost_pico is None or shorter is None or given_up is None or again is None:
        return _unknown(baseline)
    answering = last.cost_pico + shorter
    there = answering if planned.name == last.place.name else cost_at(planned.price, whole)
    if baseline is None or there is None:
        return _unknown(baseline)
    paid_before = there if baseline.name == planned.name else cost_at(baseline.price, whole)
    if paid_before is None:
        return _unknown(baseline)
    return Savings(
        baseline_model=baseline.name,
        baseline_cost_pico=paid_before,
        baseline_price_id=baseline.price.price_id if baseline.price else None,
        by_mechanism=_parts(
            routing=paid_before - there,
            failover=there - answering - given_up,
            compression=shorter,
            retry=-again,
        ),
    )


def _unknown(baseline: Place | None) -> Savings:
    return Savings(baseline_model=baseline.name if baseline else "", baseline_cost_pico=None)


def _given_up(tried: Sequence[Tried]) -> int | None:
    """What the attempts cost that were followed by one at another place."""
    return _sum(a for a, b in pairwise(tried) if a.place.name != b.place.name)


def _tried_again(tried: Sequence[Tried]) -> int | None:
    """What the attempts cost that were followed by one at the same place."""
    return _sum(a for a, b in pairwise(tried) if a.place.name == b.place.name)


def _sum(tried: Iterable[Tried]) -> int | None:
    costs = [one.cost_pico for one in tried]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def _difference(place: Place, whole: Mapping[str, int], sent: Mapping[str, int]) -> int | None:
    before, after = cost_at(place.price, whole), cost_at(place.price, sent)
    return None if before is None or after is None else before - after


def _parts(**known: int) -> dict[str, int]:
    return {name: known.get(name, 0) for name in MECHANISMS}


_AS_INPUT = ("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")


def cost_at(price: Price | None, quantities: Mapping[str, int]) -> int | None:
    """What these tokens cost at another model's price; null when a bucket has none there.

    A provider that has no price for reads from a cache, or for writes to one, bills those tokens
    as plain input.
    """
    if price is None:
        return None
    used = dict(quantities)
    rates = price.rates_at(sum(used.get(bucket, 0) for bucket in (*_AS_INPUT, "input_tokens")))
    for bucket in _AS_INPUT:
        if bucket in used and bucket not in rates:
            used["input_tokens"] = used.get("input_tokens", 0) + used.pop(bucket)
    cost = price_usage(used, price)
    return cost.total_pico if not cost.inexact else None
