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
from hypothesis import HealthCheck, Phase, settings
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
    """One call: what each attempt holds of each budget, or what it was charged in the end."""

    receipt: Receipt
    at: int
    tries: list[dict[str, int]] = field(default_factory=list)
    charged: int | None = None

    def most(self) -> int:
        return sum(max(one.values(), default=0) for one in self.tries)


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
    def reserve(self, amount: int, *, opens: bool = True) -> None:
        receipt = self._receipt()
        call, wanted = Called(receipt, self.now), dict.fromkeys(self._hard(), amount)
        if opens:
            self._do(self.store.budgets.open([BUDGETS[key] for key in self.caps], self.now))
        intent = replace(intent_of(receipt), hold_pico=amount if wanted else 0)
        if self._fits(call, wanted, self.store.calls.begin(intent, self._holds(call, wanted))):
            call.tries.append(wanted)
            self.calls.append(call)

    @precondition(lambda self: self._open())
    @rule(data=st.data(), amount=AMOUNTS, refused=st.booleans())
    def hop(self, data: st.DataObject, amount: int, refused: bool) -> None:
        """A further attempt; the one before was refused unbilled, or may yet be billed."""
        call = data.draw(st.sampled_from(self._open()))
        n, wanted = len(call.tries) + 1, dict.fromkeys(self._hard(), amount)
        took = self.store.calls.hop(
            call.receipt.receipt_id,
            n,
            "p",
            "m",
            self.now,
            self._holds(call, wanted),
            hold_pico=amount if wanted else 0,
            freed=[n - 1] if refused else [],
        )
        if self._fits(call, wanted, took, freed=call.tries[-1] if refused else {}):
            if refused:
                call.tries[-1] = {}
            call.tries.append(wanted)

    @precondition(lambda self: any(call.tries[-1] for call in self._open()))
    @rule(data=st.data(), amount=AMOUNTS)
    def one_slice_more(self, data: st.DataObject, amount: int) -> None:
        """Of what its attempt holds of already, whatever is in force by now."""
        call = data.draw(st.sampled_from([one for one in self._open() if one.tries[-1]]))
        held = call.tries[-1]
        wanted = dict.fromkeys([key for key in held if self.caps.get(key) is not None], amount)
        if not wanted:
            return
        receipt_id, n = call.receipt.receipt_id, len(call.tries)
        if self._fits(
            call, wanted, self.store.calls.extend(receipt_id, n, self._holds(call, wanted))
        ):
            call.tries[-1] = {key: held[key] + wanted.get(key, 0) for key in held}

    @precondition(lambda self: self._open())
    @rule(data=st.data(), share=st.integers(0, 100))
    def settle(self, data: st.DataObject, share: int) -> None:
        """To what it cost, which is at most what it held; 0 is a release."""
        call = data.draw(st.sampled_from(self._open()))
        call.charged = call.most() * share // 100
        run = replace(call.receipt.execution, charged_pico=call.charged)
        charges = self._holds(call, dict.fromkeys(self.caps, call.charged))
        self._do(self.store.calls.finish(replace(call.receipt, execution=run), charges=charges))

    @rule(key=st.sampled_from(sorted(BUDGETS)), cap=CAPS)
    def set_cap(self, key: str, cap: int | None) -> None:
        if key in self.caps:
            self.caps[key] = cap

    @rule(key=st.sampled_from(sorted(BUDGETS)), cap=CAPS, late=st.none() | AMOUNTS)
    def take_out_and_put_in(self, key: str, cap: int | None, late: int | None) -> None:
        """`late` is a call that was weighed before the cap went, and comes to the ledger after."""
        before = dict(self.caps)
        if key in self.caps:
            del self.caps[key]
        else:
            self.caps[key] = cap
        self._do(self.store.budgets.retain([BUDGETS[one] for one in self.caps]))
        if late is not None and before.get(key) is not None:
            after, self.caps = self.caps, before
            self.reserve(late, opens=False)
            self.caps = after

    @rule()
    def crash(self) -> None:
        """Nobody settles what was open; the next start charges what it held."""
        self._do(self.store.close())
        self.store = self._opened()
        self._do(self.store.calls.recover(self.now))
        for call in self._open():
            call.charged = call.most()

    # What must be so.

    @invariant()
    def the_ledger_knows_what_the_calls_know(self) -> None:
        for key in self.caps:
            (usage,) = self._do(self.store.budgets.usage([BUDGETS[key]], self.now))
            known = self._spent(key, self.now), self._held(key, self.now)
            assert (usage.spent_pico, usage.held_pico) == known, key

    # The reference.

    def _spent(self, key: str, at: int) -> int:
        return sum(call.charged or 0 for call in self.calls if counts_in(key, call.at, at))

    def _held(self, key: str, at: int) -> int:
        calls = [call for call in self._open() if counts_in(key, call.at, at)]
        return sum(one.get(key, 0) for call in calls for one in call.tries)

    def _fits(
        self,
        call: Called,
        wanted: dict[str, int],
        took: Coroutine[Any, Any, None],
        freed: dict[str, int] | None = None,
    ) -> bool:
        """Whether there is room for all, and that the ledger says the same."""
        fits = True
        for key, amount in wanted.items():
            cap = self.caps[key]
            assert cap is not None
            used = self._spent(key, call.at) + self._held(key, call.at) - (freed or {}).get(key, 0)
            fits = fits and cap > 0 and used + amount <= cap
        try:
            self._do(took)
        except BudgetExceeded:
            assert not fits
            return False
        assert fits
        return True

    def _open(self) -> list[Called]:
        return [call for call in self.calls if call.charged is None]

    def _hard(self) -> list[str]:
        return [key for key in sorted(self.caps) if self.caps[key] is not None]

    def _holds(self, call: Called, wanted: dict[str, int]) -> list[Hold]:
        return [
            Hold(
                budget=(budget := replace(BUDGETS[key], cap_pico=self.caps[key])),
                slot=windows.slot(budget.window, call.at),
                amount_pico=amount,
            )
            for key, amount in wanted.items()
        ]

    def _receipt(self) -> Receipt:
        made = replace(self.traffic.receipt(), created_at_ms=self.now, tenant="acme")
        return replace(made, session_id="s", tags={})

    def _opened(self) -> Store:
        self.boots += 1
        name = f"boot-{self.boots}"
        return self._do(Store.open(self.ledger, durability="normal", boot_id=name))

    def _do(self, what: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(what)


_HOW = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "stateful_step_count": 40,
    "print_blob": False,
}


def test_the_ledger_holds_settles_and_forgets_nothing_as_its_model_says() -> None:
    run_state_machine_as_test(
        Caps, settings=settings(max_examples=40, phases=[Phase.generate], **_HOW)
    )


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_the_ledger_does_what_its_model_says_in_a_thousand_histories() -> None:
    run_state_machine_as_test(Caps, settings=settings(max_examples=1_000, **_HOW))
