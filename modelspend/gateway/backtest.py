"""Past calls decided again under another policy, and what they would have cost.

The decision is the live one: `options.plan` on the inputs that stand on the receipt, else on the
body while it is kept, else on what the receipt shows. What a reader would not guess: nobody needs a
key here, since nothing is sent; who has answered before counts as able to answer.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from modelspend import routing
from modelspend.backtest import Ended, Redecided
from modelspend.catalog import Catalog, stranger
from modelspend.catalog.library import InProcess
from modelspend.catalog.prices import PriceBook
from modelspend.dialects import CHAT_DIALECTS, DIALECTS
from modelspend.dialects.dialect import ChatDialect, RequestView
from modelspend.errors import BadRequest, ModelspendError, UnknownModel, Unsupported
from modelspend.estimate import Estimator
from modelspend.gateway import options, pins
from modelspend.gateway.caller import Caller
from modelspend.gateway.options import Known, Question, Unsayable, Wish
from modelspend.gateway.passage import Request, lacking
from modelspend.gateway.repricing import Repricer, target_of
from modelspend.gateway.router import asked_in, classified, nobody, refusals_in
from modelspend.gateway.target import Target, choose
from modelspend.prompt_caches import PromptCaches, Thread, Where
from modelspend.receipt import Classification
from modelspend.record import record
from modelspend.routing import Asked, Stay
from modelspend.settings import Profile, Settings
from modelspend.store import Filter, Past, Store

Body = Callable[[str], Awaitable[bytes | None]]
"""The kept request of a receipt."""

NEVER_ASKED = "it ended before anybody was asked"
NOT_CLASSIFIED = "it was not classified, and its body is not kept"
DAMAGED = "its detail cannot be read"
NOBODY_ANSWERS = "no provider here answers for the model it asked for"

_TOOL_ENDS = frozenset({"tool_calls", "tool_use", "function_call"})
_TOOL_BUCKETS = ("tool_calls", "web_searches")


def with_keys(catalog: Catalog, answered: frozenset[str]) -> Catalog:
    """The catalog as if there were keys for every provider that is configured or has answered.

    A back-test sends nothing, and may run where the sidecar's keys are not.
    """
    names = [*catalog.providers, *sorted(answered - catalog.providers.keys())]
    found = {name: catalog.known.get(name) or stranger(name) for name in names}
    configured = {name: replace(each, needs_key=False) for name, each in found.items()}
    return Catalog(catalog.known, configured)


@record
class _Read:
    """A kept body, read as the router reads a request."""

    request: Request
    view: RequestView
    chat: ChatDialect


@record
class _Verdict:
    """Whom a call would go to: null when nobody may answer, or when nobody can say."""

    ended: Ended
    target: Target | None = None
    found: Classification | None = None
    needs: frozenset[str] = frozenset()
    why: str = ""


@dataclass(slots=True)
class Backtest:
    """Decides the calls of a ledger again, in the order in which they were written.

    `ledger` is what the configuration says without the policy, `policy` with it.
    """

    ledger: Known
    policy: Known
    estimator: Estimator
    body: Body
    _caches: PromptCaches = field(default_factory=PromptCaches)
    _repricer: Repricer = field(init=False)
    _resolved: dict[tuple[str, str], tuple[Target | None, Target | None]] = field(
        default_factory=dict
    )
    _ranks: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)

    @classmethod
    async def of(
        cls, store: Store, before: Settings, after: Settings, env: Mapping[str, str]
    ) -> "Backtest":
        """A back-test of a ledger: the configuration without the policy, and with it."""
        rows, overrides = await store.prices.rows(), await store.prices.overrides()
        answered, scores = await store.history.providers(), await store.quality.scores()

        def known(settings: Settings) -> Known:
            library = InProcess()
            return Known(
                catalog=with_keys(Catalog.load(settings.providers, env), answered),
                prices=PriceBook(
                    rows=rows, overrides=overrides, settings=settings, library=library
                ),
                settings=settings,
                scores=scores,
            )

        async def body(receipt_id: str) -> bytes | None:
            return (await store.bodies.get(receipt_id)).request

        return cls(
            ledger=known(before),
            policy=known(after),
            estimator=Estimator(await store.ratios.load()),
            body=body,
        )

    async def every(self, store: Store, where: Sequence[Filter]) -> AsyncIterator[Redecided]:
        """The receipts that any filter matches, a batch in memory at a time, as they are now."""
        _, last = await store.history.count(where)
        seq = 0
        while batch := await store.history.after(seq, where, until=last):
            for past in batch:
                yield await self.again(past)
            seq = batch[-1].seq

    def __post_init__(self) -> None:
        self._repricer = Repricer(self.ledger, self.policy)

    async def again(self, past: Past) -> Redecided:
        """The call under the policy. Never raises for what a receipt may say."""
        thread = self._caches.thread(past.tenant, past.session_id)
        was = carried(past)
        verdict = await self._verdict(past, was, thread)
        if verdict.ended == "not_decided" or was is None:
            return _as_it_was(past, was, verdict)
        target = verdict.target
        now = None if target is None else (target.provider.name, target.model)
        cost: int | None = 0
        exact = True
        if target is None:
            self._repricer.refused(past, thread, was)
        else:
            cost, exact = await self._repricer.cost(past, thread, was, target)
        return Redecided(
            receipt_id=past.receipt_id,
            ended=verdict.ended if now is None else "same" if now == was else "moved",
            before="/".join(was),
            after="/".join(now or ()),
            ledger_pico=past.cost_pico,
            policy_pico=cost,
            tier_before=past.tier,
            found=verdict.found or past.classification,
            why=verdict.why,
            step=self._step(past, was, now),
            output_tokens=past.output_tokens,
            calls_tools=_calls_tools(past, verdict),
            exact=exact,
        )

    # Whom it would go to.

    async def _verdict(self, past: Past, was: Where | None, thread: Thread) -> _Verdict:
        if past.damaged:
            return _Verdict(ended="not_decided", why=DAMAGED)
        if past.decision is None or was is None or past.dialect not in DIALECTS:
            return _Verdict(ended="not_decided", why=NEVER_ASKED)
        caller = caller_of(past)
        try:
            wish = options.wish_of(self.policy.settings, past.asked, caller)
            own = None if wish.any_model else self._own(past)
            if own is None and not wish.any_model:
                return _Verdict(ended="not_decided", why=NOBODY_ANSWERS)
            if own is not None and (wish.mode == "observe" or past.dialect not in CHAT_DIALECTS):
                return _Verdict(ended="same", target=own)
            if past.dialect not in CHAT_DIALECTS:
                return _Verdict(ended="not_decided", why=NOT_CLASSIFIED)
            profile = options.profile_of(self.policy.settings, wish, caller)
        except BadRequest as refused:
            return _Verdict(ended="refused", why=refused.message)
        return await self._planned(past, caller, wish, profile, own, thread)

    async def _planned(
        self,
        past: Past,
        caller: Caller,
        wish: Wish,
        profile: Profile,
        own: Target | None,
        thread: Thread,
    ) -> _Verdict:
        assert past.decision is not None
        inputs: Mapping[str, Any] = past.decision["inputs"] or {}
        planned = "input_tokens" in inputs
        weighed = self._weighed_as_before(past, caller, profile)
        read = None
        if past.body_kept and not (planned and past.classification and weighed):
            read = await self._read(past)
        found = past.classification
        if read is not None and not (found and weighed):
            found = classified(read.chat, read.view, profile)
        if found is None or found.tier not in routing.TIERS:
            return _Verdict(ended="not_decided", why=NOT_CLASSIFIED)
        question = Question(
            dialect=DIALECTS[past.dialect],
            model=past.asked,
            caller=caller,
            wish=wish,
            profile=profile,
            found=found,
            own=own,
            stay=self._stay(past, inputs, thread),
            now_ms=past.created_at_ms,
            dry=True,
            kept=self._kept(past, inputs, own, thread),
            shut=frozenset(inputs.get("circuit_open") or ()),
        )
        asked = self._asked(past, inputs, read, question)
        known = self.policy
        places = options.places(known.catalog, question, only_own=asked.pinned is not None)
        await options.fetch_prices(known.prices, places, question.now_ms)
        unsayable: Unsayable = inputs.get("unsayable") or {}
        if read is not None:
            errors = refusals_in(read.request, read.view, asked, places)
            unsayable = {dialect: lacking(error) for dialect, error in errors.items()}
            asked = replace(asked, needs=asked.needs | frozenset(unsayable.values()))
        plan = options.plan(known, question, asked, places, unsayable)
        if plan.chosen is None:
            return _Verdict(ended="refused", found=found, why=nobody(plan, question).message)
        if own is not None and wish.mode != "route":
            return _Verdict(ended="same", target=own, found=found, needs=asked.needs)
        chosen = (plan.chosen.provider, plan.chosen.model)
        return _Verdict(
            ended="moved",
            target=target_of(self.policy.catalog, chosen, past.dialect),
            found=found,
            needs=asked.needs,
        )

    def _asked(
        self, past: Past, inputs: Mapping[str, Any], read: _Read | None, question: Question
    ) -> Asked:
        if "input_tokens" in inputs:
            return _asked_as_told(question, inputs)
        if read is not None:
            return asked_in(question, read.view, read.chat, self.estimator)
        return _asked_as_shown(question, past)

    def _kept(
        self, past: Past, inputs: Mapping[str, Any], own: Target | None, thread: Thread
    ) -> Target | None:
        """Where the answer lies that a call goes on from: where the policy has led it."""
        told, slash, model = (inputs.get("kept") or "").partition("/")
        if not slash:
            return None
        where = thread.now.where if thread.elsewhere and thread.now else (told, model)
        if own is not None and own.provider.name == where[0]:
            return own
        return target_of(self.policy.catalog, where, past.dialect)

    def _own(self, past: Past) -> Target | None:
        """Who answers as asked: whoever did, unless the policy leads the name elsewhere."""
        key = past.dialect, past.asked
        if key not in self._resolved:
            found = [_chosen(each.catalog, *key) for each in (self.ledger, self.policy)]
            self._resolved[key] = (found[0], found[1])
        before, after = self._resolved[key]
        told = _own_as_told(past)
        if told is None or (after is not None and _named(after) != _named(before)):
            return after
        return target_of(self.policy.catalog, told, past.dialect)

    def _stay(self, past: Past, inputs: Mapping[str, Any], thread: Thread) -> Stay | None:
        """Where the conversation is: as it was told, until the policy has led it elsewhere."""
        if "stay" in inputs and not thread.elsewhere:
            told = inputs["stay"]
            return Stay(**told) if told else None
        return thread.stay(past.created_at_ms)

    def _weighed_as_before(self, past: Past, caller: Caller, profile: Profile) -> bool:
        """Whether the policy weighs the parts of a prompt as the configuration does without it."""
        try:
            wish = options.wish_of(self.ledger.settings, past.asked, caller)
            before = options.profile_of(self.ledger.settings, wish, caller)
        except BadRequest:
            return True
        return (before.system_weight, before.history_weight) == (
            profile.system_weight,
            profile.history_weight,
        )

    async def _read(self, past: Past) -> _Read | None:
        body = await self.body(past.receipt_id)
        chat = CHAT_DIALECTS[past.dialect]
        if body is None:
            return None
        try:
            view = chat.read(f"{past.path}?", body)
        except ModelspendError:
            return None
        request = Request(dialect=chat, path=past.path, query="", headers=[], body=body)
        return _Read(request=request, view=view, chat=chat)

    # How the new model compares.

    def _step(self, past: Past, was: Where, now: Where | None) -> int | None:
        if now is None or now == was:
            return None
        caller = caller_of(past)
        ranks = [self._rank(past, caller, where) for where in (was, now)]
        if ranks[0] is None or ranks[1] is None:
            return None
        return (ranks[1] > ranks[0]) - (ranks[1] < ranks[0])

    def _rank(self, past: Past, caller: Caller, where: Where) -> int | None:
        """The highest tier that a model is listed for: by the policy, else as things stand."""
        for known in (self.policy, self.ledger):
            try:
                wish = options.wish_of(known.settings, past.asked, caller)
                profile = options.profile_of(known.settings, wish, caller)
            except BadRequest:
                continue
            rank = self._listed(known, wish.profile, profile, past.dialect).get("/".join(where))
            if rank is not None:
                return rank
        return None

    def _listed(self, known: Known, name: str, profile: Profile, dialect: str) -> dict[str, int]:
        key = f"{known is self.policy}:{name}", dialect
        found = self._ranks.get(key)
        if found is None:
            found = self._ranks[key] = {}
            for rank, models in enumerate(profile.lists.values()):
                for model in models:
                    target = _chosen(known.catalog, dialect, model)
                    found["/".join(_named(target) or ("", model))] = rank
        return found


def carried(past: Past) -> Where | None:
    """Where a call went: the plan where it was applied, else as it was asked."""
    decision = past.decision
    if decision is None:
        return None
    if not decision["applied"] and (own := _own_as_told(past)) is not None:
        return own
    return (decision["provider"], decision["model_id"]) if decision["provider"] else None


def _own_as_told(past: Past) -> Where | None:
    """Who answers as asked, as far as the receipt tells."""
    decision = past.decision
    if decision is None:
        return None
    inputs = decision["inputs"] or {}
    if "own" in inputs:
        provider, slash, model = (inputs["own"] or "").partition("/")
        return (provider, model) if slash else None
    applied = decision["applied"] or past.asked == "auto" or past.asked.startswith("auto:")
    return None if applied else (decision["provider"], decision["model_id"])


def caller_of(past: Past) -> Caller:
    """Who called, with what their headers said of the decision."""
    inputs = (past.decision or {}).get("inputs") or {}
    said = inputs.get("caller") or {}
    return Caller(
        tenant=past.tenant,
        workflow=past.workflow,
        mode=said.get("mode"),
        profile=said.get("profile"),
    )


def _asked_as_told(question: Question, inputs: Mapping[str, Any]) -> Asked:
    """What the plan was made from at the time; caps count where the policy yields to them."""
    full = inputs.get("over_cap") if question.profile.near_cap == "degrade" else None
    return Asked(
        mode=question.wish.mode,
        any_model=question.wish.any_model,
        input_tokens=inputs["input_tokens"],
        output_limit=inputs.get("output_limit"),
        needs=frozenset(inputs.get("needs") or ()),
        pinned=inputs.get("pinned"),
        stay=question.stay,
        over_cap=frozenset(full or ()),
    )


def _asked_as_shown(question: Question, past: Past) -> Asked:
    """What the usage shows, where nothing was planned and no body is kept."""
    used = past.tries[-1].usage.quantities if past.tries else {}
    return Asked(
        mode=question.wish.mode,
        any_model=question.wish.any_model,
        input_tokens=routing.input_tokens(used),
        pinned=pins.named(question.model, question.own),
        stay=question.stay,
    )


def _as_it_was(past: Past, was: Where | None, verdict: _Verdict) -> Redecided:
    name = "/".join(was or ()) or "/".join(filter(None, (past.provider, past.model)))
    return Redecided(
        receipt_id=past.receipt_id,
        ended="not_decided",
        before=name,
        after=name,
        ledger_pico=past.cost_pico,
        policy_pico=past.cost_pico,
        tier_before=past.tier,
        why=verdict.why or NEVER_ASKED,
    )


def _calls_tools(past: Past, verdict: _Verdict) -> bool:
    if "tools" in verdict.needs:
        return True
    return any(
        one.finish_reason in _TOOL_ENDS or any(map(one.usage.quantities.get, _TOOL_BUCKETS))
        for one in past.tries
    )


def _chosen(catalog: Catalog, dialect: str, model: str) -> Target | None:
    try:
        return choose(catalog, DIALECTS[dialect], model, Caller())
    except (UnknownModel, Unsupported):
        return None


def _named(target: Target | None) -> Where | None:
    return None if target is None else (target.provider.name, target.model)
