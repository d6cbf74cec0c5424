"""Whatever happens in whatever order, the ledger knows of its caps what a list of calls knows.

The reference keeps every call as it is and adds up anew each time it is asked; it knows no sums, no
statement and no file. Ten times longer: `pytest -m full tests/store/test_caps_model.py`.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from modelspend import windows
from modelspend.budgets import Budget, Hold
from modelspend.errors import BudgetExceeded
from modelspend.receipt import Receipt
from modelspend.store import Store
from tests.store.synthetic import START_MS, Traffic, intent_of

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
CAPS = st.none() | st.integers(0, 1_000)
AMOUNTS = st.integers(0, 400)
T = TypeVar("T")


@dataclass(slots=True)
class Called:
    """One call: what each attempt holds of which budgets, or what it was charged in the end."""

    receipt: Receipt
    at: int
    tries: dict[int, int] = field(default_factory=dict)
    holds: dict[int, tuple[str, ...]] = field(default_factory=dict)
    charged: int | None = None


def counts_in(key: str, at: int, now: int) -> bool:
    """Whether what happened at an instant counts in the window of another."""
    match key:
        case "day":
            return at // DAY == now // DAY
        case "rolling":  # slots of a minute; the one that is leaving still counts whole
            return at // MINUTE * MINUTE >= now // MINUTE * MINUTE - HOUR
        case _:
            return True


BUDGETS = {
    "day": Budget(scope="tenant", name="acme", window=windows.parse("day"), cap_pico=None),
    "rolling": Budget(scope="process", name="all", window=windows.parse("60m"), cap_pico=None),
    "total": Budget(scope="session", name="s", window=windows.TOTAL, cap_pico=None),
}


@cache
def _empty() -> Path:
    """A ledger to begin from: making one takes longer than a whole example."""
    path = Path(tempfile.mkdtemp()) / "ledger.db"

    async def make() -> None:
        await (await Store.open(path, durability="normal", boot_id="none")).close()

    asyncio.run(make())
    return path


class Caps(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Path(self.folder.name) / "ledger.db"
        shutil.copy(_empty(), self.ledger)
        self.traffic = Traffic(seed=3)
        self.boots = 0
        self.now = self.latest = START_MS // DAY * DAY + DAY - HOUR
        self.caps: dict[str, int | None] = {}
        self.calls: list[Called] = []
        self.store = self._opened()

    def teardown(self) -> None:
        self._do(self.store.close())
        self.loop.close()
        self.folder.cleanup()

    @initialize(day=CAPS, rolling=CAPS, total=CAPS)
    def caps_of_all(self, day: int | None, rolling: int | None, total: int | None) -> None:
        self.caps = {"day": day, "rolling": rolling, "total": total}

    # What happens.

    @rule(by=st.sampled_from([1_000, 5 * MINUTE, 20 * MINUTE, HOUR, 25 * HOUR]))
    def time_goes_on(self, by: int) -> None:
        self.now += by
        self.latest = max(self.latest, self.now)

    @rule(by=st.sampled_from([1_000, 7 * MINUTE, 50 * MINUTE]))
    def the_clock_is_set_back(self, by: int) -> None:
        self.now = max(self.now - by, self.latest - 50 * MINUTE)

    @rule(amount=AMOUNTS)
    def reserve(self, amount: int) -> None:
        receipt = replace(self._receipt(), created_at_ms=self.now)
        call = Called(receipt, self.now)
        intent = replace(intent_of(receipt), hold_pico=amount)
        self._expect(call, 1, amount, (), self.store.calls.begin(intent, self._holds(call, amount)))
        if call.tries:
            self.calls.append(call)

    @precondition(lambda self: self._open())
    @rule(data=st.data(), amount=AMOUNTS, free=st.booleans())
    def hop(self, data: st.DataObject, amount: int, free: bool) -> None:
        call = data.draw(st.sampled_from(self._open()))
        n = max(call.tries) + 1
        freed = [n - 1] if free else []
        took = self.store.calls.hop(
            call.receipt.receipt_id, n, "p", "m", self.now, self._holds(call, amount),
            hold_pico=amount, freed=freed,
        )  # fmt: skip
        self._expect(call, n, amount, freed, took)

    @precondition(lambda self: self._open() and self._hard())
    @rule(data=st.data(), amount=AMOUNTS)
    def one_slice_more(self, data: st.DataObject, amount: int) -> None:
        call = data.draw(st.sampled_from(self._open()))
        n = max(call.tries)
        hard = self._hard()
        took = self.store.calls.extend(call.receipt.receipt_id, n, self._holds(call, amount))
        before, of = call.tries[n], call.holds[n]
        self._expect(call, n, amount, (), took)
        if call.tries[n] == amount and call.holds[n] is hard:
            pass
        if of != call.holds[n]:
            return
        call.tries[n] = before

    @precondition(lambda self: self._open())
    @rule(data=st.data(), share=st.integers(0, 100))
    def settle(self, data: st.DataObject, share: int) -> None:
        """To what it cost, which is at most what it held; 0 is a release."""
        call = data.draw(st.sampled_from(self._open()))
        self._ends(call, sum(call.tries.values()) * share // 100)

    @rule(key=st.sampled_from(sorted(BUDGETS)), cap=CAPS)
    def set_cap(self, key: str, cap: int | None) -> None:
        if key in self.caps:
            self.caps[key] = cap

    @rule(key=st.sampled_from(sorted(BUDGETS)), cap=CAPS)
    def take_out_and_put_in(self, key: str, cap: int | None) -> None:
        if key in self.caps:
            del self.caps[key]
        else:
            self.caps[key] = cap
        self._do(self.store.budgets.retain([BUDGETS[one] for one in self.caps]))

    @rule()
    def crash(self) -> None:
        """Nobody settles what was open; the next start charges what it held."""
        self._do(self.store.close())
        self.store = self._opened()
        self._do(self.store.calls.recover(self.now))
        for call in self._open():
            call.charged = sum(call.tries.values())

    # What must be so.

    @invariant()
    def the_ledger_knows_what_the_calls_know(self) -> None:
        for key in self.caps:
            (usage,) = self._do(self.store.budgets.usage([BUDGETS[key]], self.now))
            assert (usage.spent_pico, usage.held_pico) == (self._spent(key), self._held(key)), key

    # The reference.

    def _spent(self, key: str) -> int:
        return sum(c.charged or 0 for c in self.calls if counts_in(key, c.at, self.now))

    def _held(self, key: str) -> int:
        """Of the calls in the window of now, or of the instant that `_room` looks from."""
        return self._held_at(key, self.now)

    def _held_at(self, key: str, at: int) -> int:
        return sum(
            held
            for call in self._open()
            if counts_in(key, call.at, at)
            for n, held in call.tries.items()
            if key in call.holds[n]
        )

    def _room(self, key: str, at: int, without: int) -> int | None:
        cap = self.caps[key]
        if cap is None:
            return None
        spent = sum(c.charged or 0 for c in self.calls if counts_in(key, c.at, at))
        return cap - spent - self._held_at(key, at) + without

    def _open(self) -> list[Called]:
        return [call for call in self.calls if call.charged is None]

    def _hard(self) -> tuple[str, ...]:
        return tuple(key for key in sorted(self.caps) if self.caps[key] is not None)
