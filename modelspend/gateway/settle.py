"""From what was seen to what it cost: usage, price, receipt, and the durable write.

Nothing here may lose a receipt. Where all is at hand the write is queued before this code first
gives way; where a price must be asked for, a task of its own does it, which no client can cancel.
A ledger that cannot be written holds up an answer for a moment only: the write goes on being
retried, and until it succeeds no new call is admitted.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from modelspend import tasks
from modelspend.catalog import usage as usage_rules
from modelspend.catalog.prices import MISSING, Bill, PriceBook
from modelspend.errors import LedgerUnavailable
from modelspend.estimate import Estimator, Ratio
from modelspend.failovers import Touched, Trail, extra_cost
from modelspend.gateway import savings
from modelspend.gateway.brakes import Brakes
from modelspend.gateway.call import Call, Try
from modelspend.gateway.conversations import LEAST_CACHED, Conversations, Turn
from modelspend.gateway.purse import Purse
from modelspend.gateway.thrift import Thrift
from modelspend.money import INPUT_BUCKETS, Cost
from modelspend.receipt import NO_USAGE, Delivery, Savings, Status, Usage
from modelspend.savings import cost_at
from modelspend.settings import Settings
from modelspend.store import Advanced, Bodies, Store
from modelspend.store.stored_answers import StoredAnswer

log = logging.getLogger("modelspend")

CACHED = ("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")

_FREE_OF_CHARGE = Cost(total_pico=0)
_KEEP_UP_TO = 8 * 1024 * 1024
_KNOWN_WELL = 50
_NOW_AND_THEN = 32


class Settler:
    """Prices calls and writes their receipts."""

    def __init__(
        self,
        store: Store,
        prices: PriceBook,
        estimator: Estimator,
        conversations: Conversations,
        thrift: Thrift,
        purse: Purse,
        brakes: Brakes,
        settings: Settings,
    ) -> None:
        self._store = store
        self._prices = prices
        self._estimator = estimator
        self._conversations = conversations
        self._thrift = thrift
        self._purse = purse
        self._brakes = brakes
        self._settings = settings
        self._turn = 0

    def reconfigure(self, settings: Settings) -> None:
        """Take new settings; calls that are settling keep what they began with."""
        self._prices.configure(settings)
        self._thrift.reconfigure(settings)
        self._settings = settings

    def prepare(self, call: Call) -> None:
        """Look for the price while the provider thinks."""
        target = call.last.target
        self._prices.prepare(target.provider, target.model, call.created_at_ms)

    def keep_up_to(self, tenant: str) -> int:
        """Bytes of an answer that are kept for this tenant; 0 keeps none."""
        section = self._settings.tenants.get(tenant)
        keep = (section.keep_bodies if section else None) or self._settings.store.keep_bodies
        return _KEEP_UP_TO if keep == "full" else 0

    async def settle(self, call: Call) -> None:
        """Make the call's receipt final and durable; the caller may be cancelled at any moment.

        A fault of ours in pricing must not cost the receipt: it is then written without a cost.
        """
        try:
            await self._settle(call)
        except Exception as fault:
            log.error("%s could not be priced: %s", call.receipt_id, type(fault).__name__)
            for one in call.tries:
                one.usage = NO_USAGE
                _charge(one, Cost(inexact=("this version failed to price it",)))
            with suppress(LedgerUnavailable):
                await self._store.calls.finish(
                    call.receipt(), self._bodies(call), charges=self._purse.charges(call)
                )

    async def _settle(self, call: Call) -> None:
        bills = [(one, self._bill(call, one)) for one in call.tries]
        costs = [self._prices.cost(bill) if bill else _FREE_OF_CHARGE for _, bill in bills]
        if MISSING in costs or savings.unasked(call, self._prices):
            work = tasks.spawn(self._price_and_write(call, bills), f"settle {call.receipt_id}")
            await asyncio.shield(work)
            return
        for (one, _), cost in zip(bills, costs, strict=True):
            assert cost is not MISSING
            _charge(one, cost)
        await self._write(call)

    async def _price_and_write(self, call: Call, bills: Sequence[tuple[Try, Bill | None]]) -> None:
        """Ask for prices that are missing."""
        for one, bill in bills:
            _charge(one, await self._prices.settle(bill) if bill else _FREE_OF_CHARGE)
        for place in savings.unasked(call, self._prices):
            await self._prices.fetch(*place, call.created_at_ms)
        savings.unasked(call, self._prices)  # the row of the baseline is known only now
        await self._write(call)

    async def _write(self, call: Call) -> None:
        self._remember(call)
        call.savings = call.savings or self._saved(call)
        self._brakes.spent(call)
        events, firings = self._purse.told(call)
        prices = self._prices.unsaved()
        write = self._store.calls.finish(
            call.receipt(),
            self._bodies(call),
            ratios=self._lessons(call),
            advanced=self._advanced(call),
            trail=self._trail(call),
            stored=self._stored(call),
            events=events,
            charges=self._purse.charges(call),
            firings=firings,
            prices=prices,  # with the first receipt that names them, they are in the ledger
        )
        with suppress(LedgerUnavailable):  # it is kept and tried again; no client waits for that
            call.seq = await write
            self._prices.saved(prices)
            self._thrift.keep(call)

    def _saved(self, call: Call) -> Savings | None:
        """What applied decisions saved; a fault in that costs neither receipt nor price."""
        try:
            return savings.saved(call, self._prices)
        except Exception as fault:
            log.error("%s has no savings: %s", call.receipt_id, type(fault).__name__)
            return None

    def _advanced(self, call: Call) -> Advanced | None:
        """What its conversation's next turn must know; a fault in that costs no receipt."""
        if not call.tries:
            return None
        one = call.last
        found = self._prices.find(
            one.target.provider, one.target.model, call.created_at_ms, served=one.note.model
        )
        try:
            return self._thrift.advanced(call, None if found is MISSING else found.price)
        except Exception as fault:
            log.error("%s left its conversation alone: %s", call.receipt_id, type(fault).__name__)
            return None

    def _trail(self, call: Call) -> Trail | None:
        """Who was asked in whose place, and which circuits the call suffered from."""
        hurt = [one.target.circuit for one in call.tries if one.failure is not None]
        touched = dict.fromkeys((*call.refused_by, *hurt))
        if not touched and not call.hops:
            return None
        extra = extra_cost([one.attempt() for one in call.tries], self._at_first_choice(call))
        return Trail(
            failovers=tuple(call.hops),
            touched=tuple(Touched(circuit=each, extra_cost_pico=extra) for each in touched),
        )

    def _at_first_choice(self, call: Call) -> int | None:
        """What the answer would have cost where it was to come from; null when nobody knows."""
        if not call.tries:
            return 0
        one, first = call.last, call.target
        if one.target.circuit == first.circuit or one.usage.source == "none":
            return one.cost.total_pico
        found = self._prices.find(first.provider, first.model, call.created_at_ms)
        price = None if found is MISSING else found.price
        return cost_at(price, one.usage.quantities)

    def _remember(self, call: Call) -> None:
        """Where the conversation is now, and what its provider has probably cached of it."""
        one = call.tries[-1] if call.tries else None
        if one is None or one.status is not Status.SUCCESS or not call.request.dialect.billable:
            return
        provider, told = one.target.provider, one.usage.quantities
        cached = sum(told.get(bucket, 0) for bucket in CACHED)
        if provider.usage[one.target.dialect].cache == "inside":  # there, all prompts are cached
            whole = sum(told.get(bucket, 0) for bucket in INPUT_BUCKETS)
            cached = max(cached, whole if whole >= LEAST_CACHED else 0)
        turn = Turn(
            provider=provider.name,
            model=one.target.model,
            at_ms=call.created_at_ms,
            cached_tokens=cached,
        )
        self._conversations.took(call.caller.tenant, call.session_id, turn)

    def _stored(self, call: Call) -> StoredAnswer | None:
        """An answer that its provider keeps: a later request may go on from it by its id."""
        one = call.tries[-1] if call.tries else None
        if one is None or one.status is not Status.SUCCESS or call.view is None:
            return None
        keeps = one.target.dialect == call.request.dialect.name == "openai.responses"
        if not keeps or call.view.body.get("store") is False or not one.note.answer_id:
            return None
        stored = StoredAnswer(
            tenant=call.caller.tenant,
            answer_id=one.note.answer_id,
            provider=one.target.provider.name,
            model=one.target.model,
            at_ms=call.created_at_ms,
        )
        self._store.stored_answers.remember(stored)
        return stored

    def _bodies(self, call: Call) -> Bodies | None:
        if not self.keep_up_to(call.caller.tenant):
            return None
        return Bodies(request=call.request.body, answer=call.kept_answer())

    def _bill(self, call: Call, one: Try) -> Bill | None:
        """What an attempt used, ready to be priced; None when it can have cost nothing."""
        if not call.request.dialect.billable or not one.may_be_billed:
            return None
        provider, note = one.target.provider, one.note
        one.usage = self._usage(call, one)
        if one.usage.source == "none" and one.delivery is Delivery.MAYBE_ACCEPTED:
            one.usage = replace(one.usage, problems=("the provider may have accepted it",))
        return Bill(
            provider=provider,
            dialect=one.target.dialect,
            usage=one.usage,
            asked=one.target.model,
            served=note.model,
            told=note.service_tier,
            at_ms=call.created_at_ms,
        )

    def _usage(self, call: Call, one: Try) -> Usage:
        """What the provider reported; else an estimate from the content, and said to be one."""
        provider, note = one.target.provider, one.note
        rules = provider.usage[one.target.dialect]
        told = NO_USAGE
        if note.usage is not None:
            told = usage_rules.read(rules, note.usage, note.counts)
            if told.source == "provider" and (note.ended or one.status is Status.SUCCESS):
                return told
        if one.delivery is Delivery.MAYBE_ACCEPTED or call.view is None:
            return told
        model = note.model or one.target.model
        guess = self._estimator.usage(
            provider.name,
            model,
            input_chars=call.request.dialect.input_chars(call.view),
            output_chars=note.output_chars,
        )
        return _completed(told, guess)

    def _lessons(self, call: Call) -> tuple[Ratio, ...]:
        """What this call teaches the estimator; a model that it knows well teaches now and then."""
        if not call.tries or call.view is None:
            return ()
        one = call.last
        if one.usage.source != "provider" or one.status is not Status.SUCCESS:
            return ()
        provider, model = one.target.provider.name, one.note.model or one.target.model
        self._turn += 1
        if self._estimator.samples(provider, model) >= _KNOWN_WELL and self._turn % _NOW_AND_THEN:
            return ()
        return self._estimator.learn(
            provider,
            model,
            one.usage,
            input_chars=call.request.dialect.input_chars(call.view),
            output_chars=one.note.output_chars,
        )


def _completed(told: Usage, guess: Usage) -> Usage:
    """An estimate that does not fall below what the provider had told before it was cut off."""
    if told.source != "provider":
        return replace(guess, raw=told.raw, problems=told.problems)
    quantities = dict(told.quantities)
    written = guess.quantities.get("output_tokens", 0)
    quantities["output_tokens"] = max(quantities.get("output_tokens", 0), written)
    return replace(told, quantities=quantities, source="estimated", error_ratio=guess.error_ratio)


def _charge(one: Try, cost: Cost) -> None:
    """What it cost, and what budgets count: the same, or what was held where that is not known."""
    one.cost = cost
    used = one.usage
    told = used.source == "provider" and not used.problems
    priced = all(line.cost_pico is not None for line in cost.lines)
    one.sure = cost is _FREE_OF_CHARGE or (told and priced and cost.total_pico is not None)
    known = cost.total_pico or 0
    one.charged_pico = known if one.sure else max(known, one.hold_pico)
