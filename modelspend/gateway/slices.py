"""A live stream that holds its output by the slice, so that a long answer does not pin a small cap.

It begins with two slices and takes the next one, durably, before it has come to the last: the last
slice is there for what the provider has written and we have not counted yet. When the next slice
does not fit, the stream is cut as soon as it reaches that reserve. So what a cut stream cost stays
within what it held, as long as its provider is never ahead of us by more than half a slice: one
half is what we read last, the other what it writes until it notices. Beyond that, a cap may be
passed by twice what it was ahead more.

What was read is counted as it is bounded before a call: a token for every byte of text.
"""

import asyncio
from collections.abc import Sequence

from modelspend import tasks
from modelspend.budgets import Hold
from modelspend.dialects.dialect import AnswerNote
from modelspend.errors import BudgetExceeded, LedgerUnavailable, ModelspendError
from modelspend.gateway.call import Try
from modelspend.store import Store


class Slices:
    """The slices of one attempt. Counts are tokens."""

    def __init__(
        self,
        *,
        store: Store,
        one: Try,
        receipt_id: str,
        lines: Sequence[Hold],
        step: int,
        rate_pico: int,
        granted: int,
        limit: int,
    ) -> None:
        self._store = store
        self._one = one
        self._receipt_id = receipt_id
        self._keys = {each.budget.key for each in lines}
        self._step = step
        self._rate_pico = rate_pico
        self._granted = granted
        self._limit = limit
        self._seen = self._chars = 0
        self._asking: asyncio.Task[None] | None = None
        self.refusal: ModelspendError | None = None

    async def go_on(self, chunk: bytes, note: AnswerNote) -> bool:
        """Note what has come; false when the stream may not go on. Waits only at the reserve."""
        return not self._saw(chunk, note.output_chars) or await self._more()

    def _saw(self, chunk: bytes, output_chars: int) -> bool:
        new, self._chars = output_chars - self._chars, output_chars
        plain = chunk.isascii() and b"\\u" not in chunk
        self._seen += new if plain else 4 * new  # no letter has more than four bytes
        if self._granted >= self._limit:
            return False
        if self._seen > self._granted - self._step - self._step // 2 and self._asking is None:
            self._asking = tasks.spawn(self._ask(), f"next slice of {self._receipt_id}")
        return self._seen > self._granted - self._step

    async def _more(self) -> bool:
        while self.refusal is None and self._granted < self._limit:
            if self._seen <= self._granted - self._step:
                return True
            if self._asking is None:
                self._asking = tasks.spawn(self._ask(), f"next slice of {self._receipt_id}")
            await asyncio.shield(self._asking)
        return self.refusal is None

    async def _ask(self) -> None:
        """One slice more for every budget that is held in slices."""
        size = min(self._step, self._limit - self._granted)
        amount = size * self._rate_pico
        one = self._one
        wanted = [
            Hold(budget=each.budget, slot=each.slot, amount_pico=amount)
            for each in one.holds
            if each.budget.key in self._keys
        ]
        try:
            await self._store.calls.extend(self._receipt_id, one.n, wanted)
        except (BudgetExceeded, LedgerUnavailable) as error:
            self.refusal = error
        else:
            self._granted += size
            one.holds = tuple(
                Hold(budget=each.budget, slot=each.slot, amount_pico=each.amount_pico + amount)
                if each.budget.key in self._keys
                else each
                for each in one.holds
            )
            one.hold_pico = max(each.amount_pico for each in one.holds)
        finally:
            self._asking = None
