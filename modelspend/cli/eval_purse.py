"""A cap in dollars over the calls of one run: nothing is asked that could take the sum past it.

The worst case of a call is held while it is under way, and its true cost counted when it ends. Held
here, in the command that makes the calls; a hold in the ledger takes its place when budgets come.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from threading import Condition
from typing import TYPE_CHECKING, Any

from modelspend.cli.eval_call import Target
from modelspend.errors import Usage

if TYPE_CHECKING:
    from modelspend.cli.context import Here
    from modelspend.money import Price
    from modelspend.settings import Settings

UNSTATED_OUTPUT = 16_384  # tokens that a worst case reckons with where a suite sets no max_tokens
_MESSAGE_TOKENS = 16  # what a provider adds around a message, generously
_INPUTS = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")


class Purse:
    """`cap_pico` null: no cap, and everything is counted all the same."""

    def __init__(self, cap_pico: int | None, prices: "Mapping[str, Price]") -> None:
        self.cap_pico = cap_pico
        self.spent_pico = 0
        self.unpriced = 0
        self._held = 0
        self._prices = prices
        self._turn = Condition()

    def worst(self, target: Target, messages: Iterable[Mapping[str, Any]], output: int) -> int:
        """What a call could cost: a token for every byte, at the highest rates of its price."""
        if self.cap_pico is None:
            return 0
        tokens = sum(len(str(m["content"]).encode()) + _MESSAGE_TOKENS for m in messages)
        rates = [band.rates for band in self._prices[target.name].bands]
        highest = max((each.get(bucket, 0) for each in rates for bucket in _INPUTS), default=0)
        dearest = max((each.get("output_tokens", 0) for each in rates), default=0)
        each_call = max((each.get("requests", 0) for each in rates), default=0)
        return tokens * highest + output * dearest + each_call

    def hold(self, worst: int) -> bool:
        """Hold a call's worst case; false when the cap has no room for it.

        Waits for the calls under way, which mostly end cheaper than they are held for.
        """
        with self._turn:
            if self.cap_pico is None:
                return True
            while self.spent_pico + self._held + worst > self.cap_pico:
                if not self._held:
                    return False
                self._turn.wait()
            self._held += worst
            return True

    def settle(self, worst: int, costs: Sequence[int | None]) -> None:
        """The call is over; where a cost is not known, its worst case counts as spent."""
        with self._turn:
            known = sum(cost for cost in costs if cost is not None)
            self.unpriced += sum(cost is None for cost in costs)
            self.spent_pico += max(known, worst) if None in costs else known
            self._held -= worst
            self._turn.notify_all()


def prices_of(at: "Here", settings: "Settings", targets: Iterable[Target]) -> "Mapping[str, Price]":
    """The price of each model. Raises Usage for one without: its cap could not be held."""
    import asyncio

    from modelspend.catalog.library import InProcess
    from modelspend.catalog.prices import PriceBook
    from modelspend.cli.reading import read

    rows, overrides = [], []
    if at.ledger.exists():
        rows = read(at.ledger, lambda store: store.prices.rows())
        overrides = read(at.ledger, lambda store: store.prices.overrides())
    book = PriceBook(rows=rows, overrides=overrides, settings=settings, library=InProcess())

    async def find() -> "dict[str, Price]":
        found = {}
        for target in targets:
            held = await book.held(target.provider, target.model, at.now_ms())
            if not held:
                raise Usage(
                    f"{target.name} has no known price, so no cap can be held.",
                    "Set one: modelspend prices set "
                    f"{target.provider.name}/{target.model} --input USD --output USD",
                )
            found[target.name] = held[0]
        return found

    return asyncio.run(find())


def cap_of(text: str | None) -> int | None:
    """Pico-dollars of `--max-usd`. Raises Usage."""
    from modelspend.money import from_usd

    if text is None:
        return None
    try:
        return from_usd(text.removeprefix("$"))
    except ValueError as error:
        raise Usage(f"--max-usd: {error}.", "Write dollars, such as --max-usd 0.50.") from None


def short(pico: int) -> str:
    """Dollars rounded up to a hundredth of a cent: for talk, never for a sum."""
    from modelspend.money import usd_text

    step = 10**8
    return usd_text(math.ceil(pico / step) * step)
