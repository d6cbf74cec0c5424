"""What a past call costs at another model, or at another price: usage, caches, price.

What was tried and used stays as it was: the same tries, the same output, the same prompt, of which
the providers' caches read another part. What a reader would not guess: a call that stays with its
model keeps its cost to the last digit, whatever today's price list says of it, unless the policy
itself sets another price.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from modelspend.catalog import Catalog, Provider, stranger
from modelspend.catalog.prices import MISSING, Bill, PriceBook
from modelspend.catalog.usage import served_tier
from modelspend.dialects import CHAT_DIALECTS, DIALECTS
from modelspend.gateway.options import Known
from modelspend.gateway.target import Target, spoken_with
from modelspend.money import Cost, Price
from modelspend.prompt_caches import Caching, Thread, Where
from modelspend.receipt import Status
from modelspend.record import record
from modelspend.settings import Settings
from modelspend.store import Past, PastTry

Used = tuple[PastTry, dict[str, int]]
"""A try, and what it would have used."""


@record
class Again:
    """A call elsewhere: its cost, whether nothing is known to be missing from it, its usage."""

    cost_pico: int | None
    exact: bool
    tries: tuple[Used, ...]


@dataclass(slots=True)
class Repricer:
    """Prices past calls; `ledger` is what the configuration says without the policy."""

    ledger: Known
    policy: Known
    _reprices: bool = field(init=False)

    def __post_init__(self) -> None:
        self._reprices = _prices_of(self.ledger.settings) != _prices_of(self.policy.settings)

    def refused(self, past: Past, thread: Thread, was: Where) -> None:
        """A call that nobody may answer: its conversation goes on without it."""
        self._remember(past, thread, was, None, {}, _NO_CACHING, _NO_CACHING)

    async def cost(
        self, past: Past, thread: Thread, was: Where, target: Target
    ) -> tuple[int | None, bool]:
        """(cost, whether nothing is known to be missing from it)."""
        found = await self.again(past, thread, was, target)
        return found.cost_pico, found.exact

    async def again(self, past: Past, thread: Thread, was: Where, target: Target) -> Again:
        """The call at the target, as the next turn of its conversation."""
        now = target.provider.name, target.model
        alone = past.session_id is None
        if past.status == Status.CACHED or (now == was and alone and not self._reprices):
            # a kept answer is kept under the policy's model as well
            same = tuple((one, dict(one.usage.quantities)) for one in past.tries)
            return Again(cost_pico=past.cost_pico, exact=True, tries=same)
        tries = await self._used(past, thread, was, target)
        if (
            now == was
            and not self._reprices
            and all(used == one.usage.quantities for one, used in tries)
        ):
            return Again(cost_pico=past.cost_pico, exact=True, tries=tries)
        cost, exact = await self._priced(past, was, target, tries)
        return Again(cost_pico=cost, exact=exact, tries=tries)

    async def _used(
        self, past: Past, thread: Thread, was: Where, target: Target
    ) -> tuple[Used, ...]:
        """What each try would have used at the target, whose caches remember it."""
        now = target.provider.name, target.model
        caching = await self.caching(target, past.created_at_ms)
        before = caching
        if now != was:
            old = target_of(self.policy.catalog, was, past.dialect)
            before = await self.caching(old, past.created_at_ms)
        tries: list[Used] = []
        for one in past.tries:
            used = one.usage.quantities
            if now == was:
                used = thread.used_as_it_was(used, was, past.created_at_ms, caching)
            else:
                used = thread.used_elsewhere(used, was, now, past.created_at_ms, before, caching)
            tries.append((one, dict(used)))
        if tries:
            self._remember(past, thread, was, now, tries[-1][1], before, caching)
        return tuple(tries)

    def _remember(
        self,
        past: Past,
        thread: Thread,
        was: Where,
        now: Where | None,
        used: Mapping[str, int],
        before: Caching,
        after: Caching,
    ) -> None:
        """The conversation goes on from here, in the ledger and under the policy."""
        if past.status != Status.SUCCESS or not past.tries or past.dialect not in CHAT_DIALECTS:
            return
        thread.went(
            was,
            past.tries[-1].usage.quantities,
            before,
            now,
            used,
            after,
            past.created_at_ms,
        )

    async def _priced(
        self,
        past: Past,
        was: Where,
        target: Target,
        tries: Sequence[Used],
    ) -> tuple[int | None, bool]:
        stays = (target.provider.name, target.model) == was
        if stays and not await self._priced_anew(past, target):
            kept = [used == one.usage.quantities for one, used in tries]
            if all(kept):
                return past.cost_pico, True
        return await self.billed(past, was, target, tries)

    async def billed(
        self, past: Past, was: Where, target: Target, tries: Sequence[Used]
    ) -> tuple[int | None, bool]:
        """Every try that was billed, at the target's price; null as soon as one is not known."""
        stays = (target.provider.name, target.model) == was
        total, exact = 0, True
        for one, used in tries:
            if not one.sent:
                continue
            if one.usage.source == "none":
                if one.costs is not False:
                    return None, False
                continue
            cost = await self._bill(past, target, one, used, stays=stays)
            if cost.total_pico is None:
                return None, False
            total += cost.total_pico
            exact &= cost.exact
        return total, exact

    async def _bill(
        self, past: Past, target: Target, one: PastTry, used: dict[str, int], *, stays: bool
    ) -> Cost:
        usage = replace(one.usage, quantities=used)
        told, served = one.service_tier, one.model if stays else None
        if not stays:
            told = ""
            if one.provider == target.provider.name:
                told = served_tier(target.provider.tier, usage.raw, one.service_tier)
            usage = replace(usage, raw=None, problems=())
        return await self.policy.prices.settle(
            Bill(
                provider=target.provider,
                dialect=target.dialect,
                usage=usage,
                asked=target.model,
                served=served,
                told=told,
                at_ms=past.created_at_ms,
            )
        )

    async def _priced_anew(self, past: Past, target: Target) -> bool:
        """Whether the policy sets another price for a call that stays where it was."""
        if not self._reprices:
            return False
        provider, at_ms = target.provider, past.created_at_ms
        names = dict.fromkeys([*(one.model for one in past.tries), target.model])
        for model in names:
            before, after = [
                await price_of(each.prices, provider, model, at_ms)
                for each in (self.ledger, self.policy)
            ]
            if before != after:
                return True
        return False

    async def caching(self, target: Target, at_ms: int) -> Caching:
        provider = target.provider
        price = await price_of(self.policy.prices, provider, target.model, at_ms)
        rates: Mapping[str, int] = price.rates_at(0) if price else {}
        return Caching(
            dialect=target.dialect,
            unasked=provider.usage[target.dialect].cache == "inside",
            reads=price is None or price.free or "cache_read_tokens" in rates,
            writes="cache_write_5m_tokens" in rates,
            writes_hour="cache_write_1h_tokens" in rates,
        )


_NO_CACHING = Caching(dialect="", unasked=False)


def target_of(catalog: Catalog, where: Where, dialect: str) -> Target:
    """A model at a provider, as a call in a dialect would be carried there."""
    provider = catalog.known.get(where[0]) or stranger(where[0])
    spoken = spoken_with(provider, DIALECTS[dialect])
    return Target(provider=provider, model=where[1], dialect=spoken, credential=())


async def price_of(prices: PriceBook, provider: Provider, model: str, at_ms: int) -> Price | None:
    """The price of a model at an instant; null when none is known."""
    if prices.find(provider, model, at_ms) is MISSING:
        await prices.fetch(provider, model, at_ms)
    found = prices.find(provider, model, at_ms)
    return None if found is MISSING else found.price


def _prices_of(settings: Settings) -> tuple[Any, Any]:
    declared = {name: each.price for name, each in settings.providers.items() if each.price}
    return settings.prices, declared
