"""Which price holds for a call: the book of all price rows at hand.

The order: an override in the ledger, a price in the configuration, the provider's own declared
price, the library's table. Each is asked for the model served, then for the model asked; when only
the table's row for the model asked is found, or only the standard tier's, the cost says so.
"""

import asyncio
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal

from modelspend import tasks
from modelspend.catalog import known_providers
from modelspend.catalog.cost import Bill, Found, settle_cost
from modelspend.catalog.library import Child, Library
from modelspend.catalog.provider import Provider
from modelspend.catalog.rows import (
    config_prices,
    declared_prices,
    library_price,
    may_ask,
    question,
    source_of,
)
from modelspend.money import Cost, Price
from modelspend.receipt import Usage

if TYPE_CHECKING:
    from modelspend.settings import Settings

__all__ = ["MISSING", "Bill", "Found", "Missing", "PriceBook", "settle_cost"]


class _Answer(Enum):
    MISSING = "the library has not been asked yet"


MISSING: Final = _Answer.MISSING
Missing = Literal[_Answer.MISSING]


_Key = tuple[str, str, str]

_MOST_UNKNOWN = 10_000  # names of models that the library does not know; then we begin anew
_AGAIN_AFTER_S = 30.0  # a library that failed is left alone for so long


class PriceBook:
    """Every price row at hand, found by (provider, model, instant, tier) in a few microseconds.

    `find` and `cost` never wait; `prepare` asks the library in the background, `settle` waits for
    it. `unsaved` are the rows that costs were computed with and that the ledger does not have yet.
    """

    def __init__(
        self,
        *,
        rows: Iterable[Price] = (),
        overrides: Iterable[Price] = (),
        settings: "Settings | None" = None,
        library: Library | None = None,
    ) -> None:
        self._library = library or Child()
        self._rows: dict[_Key, dict[str, Price]] = {}
        self._unknown: set[tuple[str, str]] = set()
        self._failure = ""
        self._ask_again_at = 0.0
        self._asking: dict[tuple[str, str, int], asyncio.Task[tuple[Price, ...]]] = {}
        self._saved: set[str] = set()
        self._used: dict[str, Price] = {}
        for row in rows:
            self._saved.add(row.price_id)
            if row.source == source_of(known_providers().get(row.provider), row.model):
                self._keep(row)
        self.override(overrides)
        self._config: _Dated = {}
        self._declared: dict[str, Price] = {}
        if settings is not None:
            self.configure(settings)

    def override(self, rows: Iterable[Price]) -> None:
        """Take these as the ledger's overrides, in place of those before."""
        self._overrides = _grouped(rows)

    def configure(self, settings: "Settings") -> None:
        """Take the prices of a configuration, in place of those before. Raises ConfigInvalid."""
        config, declared = config_prices(settings.prices), declared_prices(settings.providers)
        self._config, self._declared = _grouped(config), declared

    def find(
        self,
        provider: Provider,
        asked: str,
        at_ms: int,
        *,
        served: str | None = None,
        tier: str = "",
    ) -> Found | Missing:
        """The price that holds; MISSING when the library must be asked first."""
        models = (served, asked) if served and served != asked else (asked,)
        price = self._own(provider.name, models, at_ms)
        if price is None:
            return self._listed(provider, models, at_ms, tier)
        if tier and not price.free:
            return Found(price, (f"served at the tier {tier}, which this price does not name",))
        return Found(price)

    def _own(self, provider: str, models: tuple[str, ...], at_ms: int) -> Price | None:
        """The user's price: set in the ledger, dated in the file, or declared for the provider."""
        for dated in (self._overrides, self._config):
            if not dated:
                continue
            for model in models:
                price = _holding(dated.get((provider, model), ()), at_ms)
                if price is not None:
                    return price
        return self._declared.get(provider)

    def _listed(
        self, provider: Provider, models: tuple[str, ...], at_ms: int, tier: str
    ) -> Found | Missing:
        if provider.declares_free(models[0]):
            return Found(Price(provider=provider.name, model=models[0], source="free"))
        if not may_ask(provider):
            return Found(None)
        for n, model in enumerate(models):
            standard = self._row(provider, model, at_ms, "")
            if standard is not None:
                notes = (f"no price for {models[0]}: priced as {model}",) if n else ()
                return self._at_tier(Found(standard, notes), at_ms, tier)
            if (provider.name, model) not in self._unknown:
                return MISSING
        return Found(None)

    def _row(self, provider: Provider, model: str, at_ms: int, tier: str) -> Price | None:
        return _holding(self._rows.get((provider.name, model, tier), {}).values(), at_ms)

    def _at_tier(self, standard: Found, at_ms: int, tier: str) -> Found:
        if not tier or standard.price is None:
            return standard
        key = (standard.price.provider, standard.price.model, tier)
        price = _holding(self._rows.get(key, {}).values(), at_ms)
        if price is not None:
            return Found(price, standard.notes)
        note = f"no price for the service tier {tier}: priced as the standard tier"
        return Found(standard.price, (*standard.notes, note))

    def cost(self, bill: Bill) -> Cost | Missing:
        """What the bill costs; MISSING when the library must be asked first."""
        tier = bill.tier
        found = self.find(bill.provider, bill.asked, bill.at_ms, served=bill.served, tier=tier)
        if found is MISSING:
            return MISSING
        apart: list[tuple[Usage, Found]] = []
        for model, usage in bill.apart:
            price = self.find(bill.provider, model, bill.at_ms, tier=tier)
            if price is MISSING:
                return MISSING
            apart.append((usage, price))
        return self._settled(bill, found, apart)

    def _settled(self, bill: Bill, found: Found, apart: list[tuple[Usage, Found]]) -> Cost:
        for each in (found, *(price for _, price in apart)):
            if each.price is not None and each.price.price_id not in self._saved:
                self._used[each.price.price_id] = each.price
        return settle_cost(bill, found, apart)

    async def settle(self, bill: Bill) -> Cost:
        """What the bill costs; asks the library for prices that are missing. Never raises."""
        cost = self.cost(bill)
        if cost is not MISSING:
            return cost
        for model in bill.models:
            if self.find(bill.provider, model, bill.at_ms) is MISSING:
                await self.fetch(bill.provider, model, bill.at_ms)
        cost = self.cost(bill)
        if cost is not MISSING:
            return cost
        unpriced = Found(None, (self._failure,))
        return self._settled(bill, unpriced, [(usage, unpriced) for _, usage in bill.apart])

    def prepare(self, provider: Provider, asked: str, at_ms: int) -> None:
        """Ask the library in the background, so that the price is there when the answer ends."""
        if self.find(provider, asked, at_ms) is MISSING:
            self._ask(provider, asked, at_ms)

    async def fetch(self, provider: Provider, model: str, at_ms: int) -> tuple[Price, ...]:
        """Ask the library for a model's rows around an instant and keep them. Never raises.

        After a failure nobody asks for half a minute: calls end unpriced, with the reason.
        """
        if asyncio.get_running_loop().time() < self._ask_again_at:
            return ()
        return await asyncio.shield(self._ask(provider, model, at_ms))

    def _ask(self, provider: Provider, model: str, at_ms: int) -> "asyncio.Task[tuple[Price, ...]]":
        """One question at a time for one model and instant, whoever waits for it."""
        key = (provider.name, model, at_ms)
        task = self._asking.get(key)
        if task is None:
            task = tasks.spawn(self._fetched(provider, model, at_ms), "ask for a price")
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return task

    async def _fetched(self, provider: Provider, model: str, at_ms: int) -> tuple[Price, ...]:
        if self.find(provider, model, at_ms) is not MISSING:  # another question brought it
            return ()
        answer = await self._library.ask(question(provider, model, at_ms))
        if "error" in answer:
            self._failure = f"no price: {answer['error']}"
            self._ask_again_at = asyncio.get_running_loop().time() + _AGAIN_AFTER_S
            return ()
        rows = tuple(library_price(provider, model, row) for row in answer.get("rows", ()))
        for row in rows:
            self._keep(row)
        if not rows:
            if len(self._unknown) >= _MOST_UNKNOWN:
                self._unknown.clear()
            self._unknown.add((provider.name, model))
        return rows

    def _keep(self, row: Price) -> None:
        self._rows.setdefault((row.provider, row.model, row.tier), {})[row.price_id] = row

    async def held(self, provider: Provider, model: str, at_ms: int) -> tuple[Price, ...]:
        """The price that holds at an instant; after a library's row, those of its other tiers."""
        if self.find(provider, model, at_ms) is MISSING:
            await self.fetch(provider, model, at_ms)
        found = self.find(provider, model, at_ms)
        if found is MISSING or found.price is None:
            return ()
        tiers = [rows for (owner, name, tier), rows in self._rows.items()
                 if (owner, name) == (provider.name, model) and tier]  # fmt: skip
        others = (_holding(rows.values(), at_ms) for rows in tiers)
        listed = found.price.source.startswith("genai-prices")
        return (found.price, *(row for row in others if listed and row is not None))

    def own(self) -> tuple[Price, ...]:
        """The prices that the user set, in the ledger or in the configuration."""
        dated = [*self._overrides.values(), *self._config.values()]
        return (*(row for rows in dated for row in rows), *self._declared.values())

    def unsaved(self) -> tuple[Price, ...]:
        """The rows that costs were computed with and that `saved` was not told of."""
        return tuple(self._used.values())

    def use(self, row: Price) -> None:
        """Something that a receipt says was computed with this row: it must be kept, too."""
        if row.price_id not in self._saved:
            self._used[row.price_id] = row

    def saved(self, rows: Iterable[Price]) -> None:
        """The ledger has these now."""
        for row in rows:
            self._saved.add(row.price_id)
            self._used.pop(row.price_id, None)

    async def close(self) -> None:
        await self._library.close()


_Dated = dict[tuple[str, str], tuple[Price, ...]]


def _grouped(rows: Iterable[Price]) -> _Dated:
    grouped: _Dated = {}
    for row in rows:
        key = (row.provider, row.model)
        grouped[key] = (*grouped.get(key, ()), row)
    return grouped


def _holding(rows: Iterable[Price], at_ms: int) -> Price | None:
    """The row that holds at an instant; of several the one that began last."""
    best: Price | None = None
    for row in rows:
        begun = row.valid_from_ms is None or row.valid_from_ms <= at_ms
        ended = row.valid_until_ms is not None and row.valid_until_ms <= at_ms
        later = best is None or (row.valid_from_ms or 0) >= (best.valid_from_ms or 0)
        if begun and not ended and later:
            best = row
    return best
