"""Past calls under a change: priced again at the models, prices and caches that they would meet.

Hides three histories of every conversation, each with the provider's caches that it would have
left: as the ledger has it, with another mix of models, and with part of deep_reasoning a tier down.
What a reader would not guess: nothing is asked of the new model but a price and a dialect in
common; whether it can use tools or see images is what `backtest` tells.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from modelspend.catalog import Catalog
from modelspend.catalog.library import InProcess
from modelspend.catalog.prices import PriceBook
from modelspend.conversations import least_kept
from modelspend.dialects import CHAT_DIALECTS, DIALECTS
from modelspend.errors import BadRequest, NoCredential, UnknownModel, Unsupported
from modelspend.gateway import options
from modelspend.gateway.backtest import caller_of, carried, with_keys
from modelspend.gateway.caller import Caller
from modelspend.gateway.options import Known
from modelspend.gateway.repricing import Again, Repricer, price_of, target_of
from modelspend.gateway.target import Target, choose
from modelspend.prompt_caches import PromptCaches, Where, read_more, reads
from modelspend.receipt import Status
from modelspend.scenario import Change, Conversation, Tally, chosen
from modelspend.settings import Settings
from modelspend.store import ConversationSum, Filter, Past, Store

DEEP, BELOW = "deep_reasoning", "standard"
NOT_SAID = "the model speaks no dialect of theirs"
NO_PRICE = "no price is known for the model"
NO_COST = "their cost at the model cannot be told"
NOT_TOLD = "their receipts do not tell of a chat that could go elsewhere"
NO_MODEL = "no tier of the profile below lists a model"


@dataclass(slots=True)
class Scenario:
    """One change, on the calls of a ledger in the order in which they were written."""

    known: Known
    change: Change
    tally: Tally = field(default_factory=Tally)
    _repricer: Repricer = field(init=False)
    _mixed: PromptCaches = field(default_factory=PromptCaches)
    _shifted: PromptCaches = field(default_factory=PromptCaches)
    _to: dict[tuple[str, Conversation], str] = field(default_factory=dict)
    _deep: frozenset[Conversation] = frozenset()
    _targets: dict[tuple[str, str], Target | None] = field(default_factory=dict)

    @classmethod
    async def of(cls, store: Store, settings: Settings, change: Change) -> "Scenario":
        """A change of what a ledger holds. Raises UnknownModel for a model that nobody has."""
        rows, overrides = await store.prices.rows(), await store.prices.overrides()
        answered = await store.history.providers()
        prices = PriceBook(rows=rows, overrides=overrides, settings=settings, library=InProcess())
        catalog = with_keys(Catalog.load(settings.providers, {}), answered)
        made = cls(Known(catalog=catalog, prices=prices, settings=settings), change)
        for name in filter(None, (change.shift_to, *_targets_of(change))):
            choose(catalog, DIALECTS["openai.chat"], name, Caller())
        return made

    def __post_init__(self) -> None:
        self._repricer = Repricer(self.known, self.known)

    async def run(self, store: Store, where: Sequence[Filter]) -> AsyncIterator[int]:
        """Every receipt that any filter matches; yields how many have been priced so far."""
        self._choose(await store.daily.conversations(where))
        _, last = await store.history.count(where)
        seq = done = 0
        while batch := await store.history.after(seq, where, until=last):
            for past in batch:
                await self.add(past)
            seq, done = batch[-1].seq, done + len(batch)
            yield done

    # Who moves.

    def _choose(self, sums: Sequence[ConversationSum]) -> None:
        deep = _weights(each for each in sums if each.tier == DEEP)
        goal = Fraction(self.change.shift_deep_pct) * sum(deep.values()) / 100
        self._deep = chosen(deep, goal, "shift_deep")
        for source, targets in self.change.mix.items():
            left = _weights(each for each in sums if source in _names(each))
            total = sum(left.values())
            if not left:
                self.tally.unseen.append(source)
            for target, share in targets.items():
                taken = chosen(left, Fraction(share) * total / 100, f"mix:{source}:{target}")
                for conversation in taken:
                    self._to[source, conversation] = target
                    del left[conversation]

    def _mix_target(
        self, past: Past, was: Where | None, conversation: Conversation
    ) -> tuple[str, str] | None:
        """The name in the mix that the call goes by, and where it goes."""
        names = {past.model, past.asked, "/".join(was or ()), f"{past.provider}/{past.model}"}
        for source in self.change.mix:
            if source in names:
                self.tally.mix_pico[source] += past.cost_pico or 0
                if (source, conversation) in self._to:
                    return source, self._to[source, conversation]
        return None

    def _shift_target(self, past: Past) -> str | None:
        """The model a tier below, in the profile that holds for the call."""
        if self.change.shift_to:
            return self.change.shift_to
        caller = caller_of(past)
        try:
            wish = options.wish_of(self.known.settings, past.asked, caller)
            profile = options.profile_of(self.known.settings, wish, caller)
        except BadRequest:
            return None
        listed = profile.lists[BELOW]
        return next((name for name in listed if self._target(past.dialect, name)), None)

    def _target(self, dialect: str, name: str) -> Target | None:
        key = dialect, name
        if key not in self._targets:
            try:
                found = choose(self.known.catalog, DIALECTS[dialect], name, Caller())
            except (UnknownModel, Unsupported, NoCredential):
                found = None
            self._targets[key] = found
        return self._targets[key]

    # What it costs.

    async def add(self, past: Past) -> None:
        """The next call. Never raises for what a receipt may say."""
        cost, was = past.cost_pico, carried(past)
        if cost is None:
            self.tally.unpriced += 1
            return
        deep = past.tier == DEEP
        self.tally.deep_pico += cost if deep else 0
        conversation = past.tenant, past.session_id or past.receipt_id
        goes = self._mix_target(past, was, conversation)
        if past.damaged or was is None or past.dialect not in CHAT_DIALECTS:
            if goes or (deep and conversation in self._deep):
                self.tally.stuck[NOT_TOLD] += 1
            self.tally.add([cost] * 4)
            return
        own = target_of(self.known.catalog, was, past.dialect)
        same = Again(
            cost_pico=cost,
            exact=True,
            tries=tuple((one, dict(one.usage.quantities)) for one in past.tries),
        )
        mix = await self._reached(past, goes[1]) if goes else None
        mixed = same
        if self.change.mix:
            mixed = await self._again(past, was, self._mixed, mix or own, same)
        if goes is not None and mix is not None and mixed is not same:
            self.tally.mixed_pico[goes] += cost
            if _said(mix) != _said(own):
                self.tally.moved("mix", _said(own), _said(mix), cost, _cost(mixed))
        shift, shifted = None, mixed
        if deep and conversation in self._deep:
            shift = await self._shift(past)
        if self._deep:
            shifted = await self._again(past, was, self._shifted, shift or mix or own, mixed)
        if shift is not None and shifted is not mixed:
            self.tally.shifted_pico += cost
            if _said(shift) != _said(mix or own):
                costs = _cost(mixed), _cost(shifted)
                self.tally.moved("routing", _said(mix or own), _said(shift), *costs)
        self.tally.inexact += not shifted.exact
        cached = await self._cached(past, was, shift or mix or own, shifted)
        self.tally.add([cost, _cost(mixed), _cost(shifted), cached])

    async def _shift(self, past: Past) -> Target | None:
        name = self._shift_target(past)
        if name is None:
            self.tally.stuck[NO_MODEL] += 1
            return None
        return await self._reached(past, name)

    async def _reached(self, past: Past, name: str) -> Target | None:
        """A target that can be spoken with and has a price; others are counted."""
        target = self._target(past.dialect, name)
        if target is None:
            self.tally.stuck[NOT_SAID] += 1
            return None
        if await price_of(self.known.prices, target.provider, target.model, past.created_at_ms):
            return target
        self.tally.stuck[NO_PRICE] += 1
        return None

    async def _again(
        self, past: Past, was: Where, caches: PromptCaches, target: Target, before: Again
    ) -> Again:
        """The call there; as it was before where its cost cannot be told."""
        thread = caches.thread(past.tenant, past.session_id)
        found = await self._repricer.again(past, thread, was, target)
        if found.cost_pico is None:
            self.tally.stuck[NO_COST] += 1
            return before
        return found

    async def _cached(self, past: Past, was: Where, target: Target, at: Again) -> int:
        """The cost with more of each prompt read from the cache of its model, at one price."""
        caching = await self._repricer.caching(target, past.created_at_ms)
        share, least = Fraction(self.change.cache_hit_delta), least_kept(caching.dialect)
        if not caching.reads or past.status == Status.CACHED:
            share = Fraction(0)
        more = tuple((one, read_more(used, share, least)) for one, used in at.tries)
        for (_, used), (_, after) in zip(at.tries, more, strict=True):
            read, prompt = reads(used)
            self.tally.prompt += prompt
            self.tally.read += read
            self.tally.read_after += reads(after)[0]
        if not share or more == at.tries:
            return _cost(at)
        costs = [await self._repricer.billed(past, was, target, each) for each in (at.tries, more)]
        (before, _), (after_pico, _) = costs
        if before is None or after_pico is None:
            self.tally.stuck[NO_COST] += 1
            return _cost(at)
        return max(0, _cost(at) + after_pico - before)


def _cost(one: Again) -> int:
    return one.cost_pico or 0


def _said(target: Target) -> str:
    return f"{target.provider.name}/{target.model}"


def _targets_of(change: Change) -> list[str]:
    return [name for targets in change.mix.values() for name in targets]


def _names(one: ConversationSum) -> set[str]:
    """Every name by which a model may be called."""
    names = {one.model, one.asked}
    if one.provider and one.model:
        names.add(f"{one.provider}/{one.model}")
    return {name for name in names if name}


def _weights(sums: Iterable[ConversationSum]) -> dict[Conversation, int]:
    """What each conversation costs, of the calls that are given."""
    found: dict[Conversation, int] = defaultdict(int)
    for each in sums:
        found[each.tenant, each.key] += each.cost_pico
    return dict(found)
