"""The money of a call before it goes out: who pays, what it may cost at most, whether that fits.

`hold` is the one admission of every billable call. It asks which budgets the call falls under,
bounds what it may cost there, splices an output limit into a request that sets none, and gives the
holds that the ledger then takes with the intent. A call under no budget passes without a look at
its prices. After the call, `charges` says what each budget is charged for it.
"""

from collections.abc import Iterable, Sequence

from modelspend import budgets, windows, worstcase
from modelspend.budgets import Budget, Hold, Rules
from modelspend.catalog import Provider
from modelspend.catalog.prices import PriceBook
from modelspend.dialects.dialect import RequestView
from modelspend.errors import BudgetExceeded
from modelspend.events import Event
from modelspend.gateway.brakes import Brakes
from modelspend.gateway.call import Call, Try
from modelspend.gateway.caller import Caller
from modelspend.gateway.passage import Request, limited
from modelspend.gateway.slices import Slices
from modelspend.gateway.target import Target
from modelspend.gateway.who import who
from modelspend.money import usd, usd_text
from modelspend.settings import Settings, budgets_of
from modelspend.store import Firing, Store
from modelspend.store.holds import event_of, window_start
from modelspend.windows import Slot, Window
from modelspend.worstcase import Bound, Rates

_RATES_KEPT = 2_000
_UNSTATED_OUTPUT = 16_384
_NEARLY_ALL = 9  # tenths of a cap from which a refusal means that it is exhausted


class Purse:
    """Admits calls to money. `refresh` takes what the file and the ledger say now."""

    def __init__(self, store: Store, prices: PriceBook, settings: Settings, brakes: Brakes) -> None:
        self._store = store
        self._prices = prices
        self._settings = settings
        self._brakes = brakes
        self._in_force: tuple[Budget, ...] | None = None  # nobody has looked yet
        self._rules = Rules(())
        self._slots: dict[Window, Slot] = {}
        self._rates: dict[tuple[str, str, int], Rates] = {}
        self._refusals: dict[str, tuple[Budget, int]] = {}

    @property
    def rules(self) -> Rules:
        return self._rules

    async def refresh(self, settings: Settings, now_ms: int) -> None:
        """Budgets as they are now; what counts already goes on counting."""
        self._settings = settings
        found = budgets.in_force(budgets_of(settings), await self._store.budgets.overrides())
        self._rates.clear()
        if found != self._in_force:
            self._in_force, self._rules = found, Rules(found)
            await self._store.budgets.retain(found)
        await self._open([each for each in found if each.name != budgets.EACH], now_ms)

    # Before a call.

    def blocks(self, call: Call) -> bool:
        """Whether a cap of 0 lets nothing of it through, not even an answer that is kept."""
        applying = self._applying(call.caller, call.session_id, call.target)
        return any(each.holds and each.cap_pico == 0 for each in applying)

    async def hold(self, call: Call) -> tuple[Hold, ...]:
        """What the newest attempt holds of each budget; its request may get an output limit.

        Raises BudgetExceeded when nobody knows what it may cost, and a hard cap must know.
        """
        one, applying = call.last, self._asked_of(call)
        if not applying and call.caller.max_pico is None:
            return ()
        await self._open(applying, call.created_at_ms)
        if (hard := self.limit(call, applying)) is None:
            return ()
        rates = await self._rates_of(one.target.provider, one.target.model, call.created_at_ms)
        view, target = call.out.view, one.target
        why = worstcase.unbounded(target.dialect, view.body, target.model)
        bound = worstcase.bound(target.dialect, view.body, call.out.body)
        most = rates.most(bound, view.max_output or 0)
        if most is None:
            why = f"{target.provider.name}/{target.model} has no price that covers it"
        _within_its_own(call, most, why)
        holds = tuple(self._line(each, call, most, why) for each in hard)
        if why is None and most is not None:
            holds = self._sliced(call, holds, rates, bound, most)
        one.holds = holds
        one.hold_pico = max((each.amount_pico for each in holds), default=most or 0)
        return holds

    def limit(self, call: Call, asked: list[Budget] | None = None) -> list[Budget] | None:
        """The hard caps that must know what it may cost, its answer limited for them; or None."""
        asked = self._asked_of(call) if asked is None else asked
        hard = [each for each in asked if each.holds]
        if not hard and (call.caller.max_pico is None or not call.request.dialect.billable):
            return None
        self._limit(call, hard)
        return hard

    def _asked_of(self, call: Call) -> list[Budget]:
        """The budgets that a call counts in; those of a call that costs nothing are none."""
        caller = call.caller
        if (not self._rules and caller.run_cap_pico is None) or not call.request.dialect.billable:
            return []
        return self._applying(caller, call.session_id, call.last.target)

    async def hop(self, call: Call) -> None:
        """A further attempt of an open call: it holds what it may cost, durably, before it is sent.

        What was sent and may yet be billed keeps its hold beside it; what was turned away unbilled
        gives its own back in the same transaction. Raises BudgetExceeded when it does not fit,
        Stopped when its caller was, or LedgerUnavailable: it must then not be sent.
        """
        self._brakes.check_stopped(call)
        one = call.last
        freed = [each for each in call.tries[:-1] if not each.may_be_billed]
        holds = await self.hold(call)
        await self._store.calls.hop(
            call.receipt_id,
            one.n,
            one.target.provider.name,
            one.target.model,
            one.started_at_ms,
            holds,
            hold_pico=one.hold_pico,
            freed=[each.n for each in freed if each.hold_pico],
        )
        for each in freed:
            each.holds, each.hold_pico = (), 0

    def _limit(self, call: Call, hard: Sequence[Budget]) -> None:
        """An answer without a limit could cost anything: it gets the lowest that is configured."""
        limits = [each.output_limit for each in hard] or [_UNSTATED_OUTPUT]
        known = call.last.target.provider.facts_of(call.last.target.model).output
        call.out = limited(call.out, min([*limits, known] if known else limits))

    def _line(self, budget: Budget, call: Call, most: int | None, why: str | None) -> Hold:
        if why is not None:
            match budget.unpriced:
                case "block":
                    raise budgets.unknown_price(budget, why)
                case "hold":
                    most = budget.unpriced_pico
                case "allow":
                    most = 0
        return Hold(
            budget=budget,
            slot=self._slot(budget.window, call.created_at_ms),
            amount_pico=most or 0,
        )

    def _sliced(
        self, call: Call, holds: tuple[Hold, ...], rates: Rates, bound: Bound, most: int
    ) -> tuple[Hold, ...]:
        """A stream's holds where a budget lets it take its output by the slice.

        Only of models that cannot think unseen: what is not told cannot be counted.
        """
        slices = [each.budget.slice_pico for each in holds if each.budget.slice_pico]
        target, view = call.last.target, call.out.view
        if not slices or not view.stream or bound.answers > 1 or bound.extra_output:
            return holds
        if "reasoning" not in self._lacks(target.provider, target.model):
            return holds
        rate = rates.output_rate(bound)
        step = min(slices) // rate if rate else 0
        first = 2 * step
        if not step or view.max_output is None or first >= view.max_output:
            return holds
        start = most - (view.max_output - first) * rate
        wanted = [each for each in holds if each.budget.slice_pico]
        call.slices = Slices(
            store=self._store,
            one=call.last,
            receipt_id=call.receipt_id,
            lines=wanted,
            step=step,
            rate_pico=rate,
            granted=first,
            limit=view.max_output,
        )
        return tuple(
            Hold(budget=each.budget, slot=each.slot, amount_pico=start) if each in wanted else each
            for each in holds
        )

    def _lacks(self, provider: Provider, model: str) -> frozenset[str]:
        told = self._settings.models.get(f"{provider.name}/{model}")
        if told is not None and told.lacks is not None:
            return frozenset(told.lacks)
        return provider.facts_of(model).lacks

    # Before a decision.

    async def over_cap(
        self,
        request: Request,
        view: RequestView,
        caller: Caller,
        session_id: str | None,
        candidates: Iterable[tuple[Provider, str]],
        now_ms: int,
    ) -> frozenset[str]:
        """The candidates (`provider/model`) whose worst case has no room now.

        A snapshot for the decision: what is held in the end is decided by the ledger alone.
        """
        if not self._rules and caller.run_cap_pico is None:
            return frozenset()
        dialect = request.dialect.name
        bound = worstcase.bound(dialect, view.body, request.body)
        full = set()
        for provider, model in candidates:
            target = Target(provider=provider, model=model, dialect=dialect, credential=())
            hard = [b for b in self._applying(caller, session_id, target) if b.holds]
            if not hard:
                continue
            limit = view.max_output or min(each.output_limit for each in hard)
            known = provider.facts_of(model).output
            rates = await self._rates_of(provider, model, now_ms)
            most = rates.most(bound, min(limit, known) if known else limit)
            usages = await self._store.budgets.usage(hard, now_ms)
            if most is not None and any(most > (each.left_pico or 0) for each in usages):
                full.add(f"{provider.name}/{model}")
        return frozenset(full)

    # After a call.

    def charges(self, call: Call) -> tuple[Hold, ...]:
        """What a call's receipt charges to each budget that counts it."""
        if not self._rules and call.caller.run_cap_pico is None:
            return ()
        found: dict[str, Hold] = {}
        for one in call.tries:
            held = {each.budget.key: each.amount_pico for each in one.holds}
            for budget in self._applying(call.caller, call.session_id, one.target):
                amount = one.charged_pico
                if not one.sure and budget.key in held:
                    amount = max(one.cost.total_pico or 0, held[budget.key])
                before = found.get(budget.key)
                found[budget.key] = Hold(
                    budget=budget,
                    slot=self._slot(budget.window, call.created_at_ms),
                    amount_pico=amount + (before.amount_pico if before else 0),
                )
        return tuple(found.values())

    def told(self, call: Call) -> tuple[list[Event], list[Firing]]:
        """What is to be told with a call's receipt: events, and those told once in a window."""
        events, firings = call.events, list[Firing]()
        for one in call.tries:
            if one.holds and one.sure and one.charged_pico > one.hold_pico:
                events.append(_overrun(call, one))
        error = call.refused_for
        if isinstance(error, BudgetExceeded) and isinstance(error.budget, Budget):
            budget = error.budget
            count = self._refusals.get(budget.key, (budget, 0))[1]
            self._refusals[budget.key] = budget, count + 1
            used = error.spent_pico + error.held_pico
            if budget.cap_pico is not None and used * 10 >= budget.cap_pico * _NEARLY_ALL:
                slot = self._slot(budget.window, call.created_at_ms)
                firings.append(_exhausted(budget, slot, error, call.created_at_ms))
        return events, firings

    # From time to time.

    async def tell_refusals(self, now_ms: int) -> None:
        """One event for each budget that has refused calls since the last time: how many."""
        counted, self._refusals = self._refusals, {}
        for budget, count in counted.values():
            event = event_of("budget.refused", budget, now_ms, level="warn", calls=count)
            await self._store.budgets.tell(event)

    async def foresee(self, now_ms: int) -> None:
        """Tell of budgets whose pace will exhaust them before their window ends."""
        named: list[Budget] = []
        for each in self._rules.all:
            if each.cap_pico and each.window.calendar:
                wide = each.name == budgets.EACH
                names = await self._store.budgets.names(each, now_ms) if wide else ()
                named += [budgets.one_of(each, name) for name in names] if wide else [each]
        firings = []
        for usage in await self._store.budgets.usage(named, now_ms) if named else ():
            for rule, data in budgets.foreseen(usage, now_ms):
                said = {"rule": rule, "spent_usd": usd(usage.spent_pico), **data}
                event = event_of("budget.threshold", usage.budget, now_ms, level="warn", **said)
                start = usage.starts_at_ms or 0
                firings.append(Firing(budget=usage.budget, start=start, rule=rule, event=event))
        if firings:
            await self._store.budgets.fire(firings)

    # What all of these ask.

    def _applying(
        self, caller: Caller, session_id: str | None, target: Target | None
    ) -> list[Budget]:
        found = list(self._rules.applying(who(caller, session_id, target)))
        if caller.run_cap_pico is not None and caller.run_id is not None:
            found.append(run_budget(caller.run_id, caller.run_cap_pico))
        return found

    def _slot(self, window: Window, at_ms: int) -> Slot:
        """Remembers the calendar window that calls fall into now: working it out takes longer."""
        known = self._slots.get(window)
        if known is not None and known.ends is not None and known.start <= at_ms < known.ends:
            return known
        found = self._slots[window] = windows.slot(window, at_ms)
        return found

    async def _open(self, wanted: Sequence[Budget], at_ms: int) -> None:
        new = [each for each in wanted if not self._store.budgets.known(each)]
        if new:
            await self._store.budgets.open(new, at_ms)

    async def _rates_of(self, provider: Provider, model: str, at_ms: int) -> Rates:
        """The prices of a model in all tiers, asked anew each minute: they may end at any."""
        key = (provider.name, model, at_ms // 60_000)
        found = self._rates.get(key)
        if found is None:
            if len(self._rates) >= _RATES_KEPT:
                self._rates.clear()
            found = Rates(prices=await self._prices.held(provider, model, at_ms))
            self._rates[key] = found
        return found


def run_budget(run_id: str, cap_pico: int) -> Budget:
    """The cap of one `modelspend run --max-usd`."""
    return Budget(
        scope="run", name=run_id, window=windows.TOTAL, cap_pico=cap_pico, origin="run --max-usd"
    )


def _within_its_own(call: Call, most: int | None, why: str | None) -> None:
    """The cap that a request sets for itself, all of its attempts together."""
    cap = call.caller.max_pico
    if cap is None:
        return
    if why is not None or most is None:
        raise BudgetExceeded(
            f"x-modelspend-max-usd asks for a cap of ${usd_text(cap)}, and what this call"
            f" may cost at most is not known: {why}.",
            "Set the price (modelspend prices set), or leave the header out.",
        )
    before = sum(one.hold_pico for one in call.tries[:-1] if one.may_be_billed)
    if before + most > cap:
        raise BudgetExceeded(
            f"This call may cost up to ${usd_text(before + most)}; its x-modelspend-max-usd"
            f" is ${usd_text(cap)}.",
            "Set a lower output limit, name a cheaper model, or raise the header's cap.",
        )


def _overrun(call: Call, one: Try) -> Event:
    return Event(
        kind="budget.overrun",
        at_ms=call.created_at_ms,
        level="critical",
        tenant=call.caller.tenant,
        receipt_id=call.receipt_id,
        data={
            "model": f"{one.target.provider.name}/{one.target.model}",
            "held_usd": usd(one.hold_pico),
            "charged_usd": usd(one.charged_pico),
        },
    )


def _exhausted(budget: Budget, slot: Slot, error: BudgetExceeded, at_ms: int) -> Firing:
    event = event_of(
        "budget.exhausted",
        budget,
        at_ms,
        level="critical",
        spent_usd=usd(error.spent_pico),
        held_usd=usd(error.held_pico),
    )
    start = window_start(budget, slot.start)
    return Firing(budget=budget, start=start, rule="exhausted", event=event)
