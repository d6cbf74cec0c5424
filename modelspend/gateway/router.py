"""Who answers a call: what the process knows now, put before `routing.plan`.

The live path and every dry run ask the same `Router.decide`, so a dry run is the decision. It hides
how a request is read for that; `options` says who could answer it. In `observe` nothing of that is
looked up: the call goes as it was asked, and is only classified.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from modelspend import translation
from modelspend.catalog import Catalog, Provider
from modelspend.catalog.prices import MISSING, PriceBook
from modelspend.circuits import Circuits
from modelspend.dialects import CHAT_DIALECTS
from modelspend.dialects.dialect import ChatDialect, Dialect, RequestView
from modelspend.errors import (
    BadRequest,
    ModelspendError,
    NoCandidate,
    NoCredential,
    UnknownModel,
    Unsupported,
)
from modelspend.estimate import Estimator
from modelspend.gateway import options, pins, target
from modelspend.gateway.caller import Caller
from modelspend.gateway.conversations import Conversations
from modelspend.gateway.options import (
    Known,
    Place,
    Question,
    Unsayable,
    Wish,
    inputs_of,
    profile_of,
    said_of,
    wish_of,
)
from modelspend.gateway.passage import Request, lacking, unsayables
from modelspend.gateway.target import Target, choose, circuit_of, spoken_with, target_at
from modelspend.quality import NO_SCORES, Scores
from modelspend.receipt import Candidate, Classification, Decision
from modelspend.record import record
from modelspend.routing import Asked, Option, Plan
from modelspend.settings import BUILT_IN_PROFILE, Profile, Settings
from modelspend.signals import Weights, classify
from modelspend.store.stored_answers import StoredAnswers

if TYPE_CHECKING:
    from modelspend.gateway.purse import Purse


@record
class Ruling:
    """A decision and whom it leads to. `target` is null only in a dry run that has no keys.

    `question` is what was decided about, where more was decided than to carry it as asked.
    """

    plan: Plan
    target: Target | None
    found: Classification | None = None
    asked: Asked | None = None
    baseline: tuple[Provider, str] | None = None  # what an applied decision is compared with
    question: Question | None = None

    @property
    def decision(self) -> Decision:
        return self.plan.decision


class Deciding(Protocol):
    """A call, as far as the failover of its decision needs to know it."""

    @property
    def request(self) -> Request: ...
    @property
    def caller(self) -> Caller: ...
    @property
    def session_id(self) -> str | None: ...
    @property
    def created_at_ms(self) -> int: ...


@dataclass(slots=True)
class Router:
    """Makes decisions. `configure` swaps what a reload changes; new evidence comes as `scores`.

    `answers` knows where stored answers lie, `circuits` who takes no calls now; without them, none
    is known.
    """

    catalog: Catalog
    prices: PriceBook
    estimator: Estimator
    settings: Settings
    conversations: Conversations
    purse: "Purse | None" = None
    scores: Scores = NO_SCORES
    answers: StoredAnswers | None = None
    circuits: Circuits | None = None
    dropped: Counter[str] = field(default_factory=Counter)
    """Candidates that the rules of privacy have ruled out, by tenant, until somebody tells."""
    _known: Known | None = None

    def configure(self, catalog: Catalog, settings: Settings) -> None:
        self.catalog, self.settings = catalog, settings
        self._known = None

    @property
    def known(self) -> Known:
        """What decisions are made from at this moment."""
        known = self._known
        if known is None or known.scores is not self.scores:
            known = self._known = Known(
                catalog=self.catalog, prices=self.prices, settings=self.settings, scores=self.scores
            )
        return known

    async def learn_prices(self, now_ms: int) -> None:
        """Ask the price table for every model that a profile may route to, before anybody waits."""
        profiles = self.settings.profiles.values() or (BUILT_IN_PROFILE,)
        names = {name for each in profiles for models in each.lists.values() for name in models}
        for name in sorted(names):
            try:
                provider, model = self.catalog.resolve_model(
                    name, "openai.chat", also=tuple(CHAT_DIALECTS)
                )
            except (UnknownModel, Unsupported):
                continue
            if self.prices.find(provider, model, now_ms) is MISSING:
                await self.prices.fetch(provider, model, now_ms)
        baseline = self._baseline(None)
        if baseline is not None and self.prices.find(*baseline, now_ms) is MISSING:
            await self.prices.fetch(*baseline, now_ms)

    async def decide(
        self,
        request: Request,
        view: RequestView,
        caller: Caller,
        *,
        session_id: str | None,
        now_ms: int,
        dry: bool = False,
    ) -> Ruling:
        """The decision for a request. Raises BadRequest, UnknownModel, Unsupported, NoCredential,
        UnknownAnswer, or NoCandidate when the profile has nobody who may answer."""
        wish = wish_of(self.settings, view.model, caller)
        chat = CHAT_DIALECTS.get(request.dialect.name)
        if chat is None:
            return self._only_as_asked(request.dialect, view, caller, wish)
        profile = profile_of(self.settings, wish, caller)
        found = self._classified(chat, view, profile, wish)
        own = None if wish.any_model else self._own(request.dialect, view, caller, dry)
        if own is not None and caller.written_by not in (None, own.provider.name):
            own = replace(own, newcomer=True)
        if wish.mode == "observe" and own is not None:
            return Ruling(plan=_carried(own, caller), target=own, found=found)
        assert found is not None
        stay = self.conversations.stay(caller.tenant, session_id, now_ms)
        kept = await pins.keeper(
            self.catalog, self.answers, request.dialect, view, caller, stay, wish.any_model
        )
        if kept is not None and own is not None and kept.provider.name == own.provider.name:
            kept = own  # a model may follow another one there
        return await self._planned(
            Question(
                dialect=request.dialect,
                model=view.model,
                caller=caller,
                wish=wish,
                profile=profile,
                found=found,
                own=own,
                stay=stay,
                session_id=session_id,
                now_ms=now_ms,
                dry=dry,
                kept=kept,
                wrote=self._wrote(caller, session_id),
            ),
            request,
            view,
            chat,
        )

    async def others(self, call: Deciding, view: RequestView, ruling: Ruling) -> tuple[Target, ...]:
        """Who may answer in place of whom it was decided for, who is next first.

        Where the decision is applied, the rest of its chain; else the same model at other
        providers, unless the profile allows more or less. Nobody for what only one provider knows.
        """
        own = ruling.target
        pinned = ruling.decision.strategy == "pinned" or pins.reason(view, own, None)
        if own is None or pinned:
            return ()
        question = ruling.question or self._question(call, view, ruling, own)
        reach = question.profile.failover
        if reach == "off":
            return ()
        chain = ruling.plan.chain
        if not ruling.decision.applied:
            chain = await self._instead(question, view, own, reach)
        targets = (self._elsewhere(each, question) for each in chain)
        return tuple(each for each in targets if each is not None)

    def _wrote(self, caller: Caller, session_id: str | None) -> frozenset[str]:
        """The providers that have written in a conversation so far, as far as they are known."""
        if caller.written_by is not None:
            return frozenset({caller.written_by})
        return self.conversations.providers(caller.tenant, session_id)

    def _question(self, call: Deciding, view: RequestView, ruling: Ruling, own: Target) -> Question:
        """What the failover of a call that goes as it was asked is decided about."""
        wish = wish_of(self.settings, view.model, call.caller)
        return Question(
            dialect=call.request.dialect,
            model=view.model,
            caller=call.caller,
            wish=wish,
            profile=profile_of(self.settings, wish, call.caller),
            found=ruling.found or UNCLASSIFIED,
            own=own,
            stay=None,
            now_ms=call.created_at_ms,
            dry=False,
            wrote=self._wrote(call.caller, call.session_id),
        )

    async def _instead(
        self, question: Question, view: RequestView, own: Target, reach: str
    ) -> tuple[Option, ...]:
        found = options.same_model(self.catalog, question, own)
        chat = CHAT_DIALECTS.get(question.dialect.name)
        if reach == "chain" and chat is not None:
            found += [
                each
                for each in options.places(self.catalog, question, only_own=False)
                if each.usable and each.provider and not own.at(each.provider.name, each.model)
            ]
        await options.fetch_prices(self.prices, found, question.now_ms)
        question = replace(question, shut=self._shut(found, question.caller, question.dialect))
        asked = Asked(
            mode="route",
            any_model=True,
            input_tokens=self.estimator.input_tokens(question.dialect.input_chars(view)),
            output_limit=view.max_output,
            needs=_needs(chat, view),
        )
        return options.others(self.known, question, asked, found)

    def _elsewhere(self, option: Option, question: Question) -> Target | None:
        """Another target of the same call; null where there is no key for it."""
        try:
            target = self._target(option, question)
        except NoCredential:
            return None
        if target is not None and _newcomer(target, question):
            return replace(target, newcomer=True)
        return target

    def _shut(self, found: Iterable[Place], caller: Caller, dialect: Dialect) -> frozenset[str]:
        """Which of some places take no calls now, as `provider/model`."""
        if self.circuits is None:
            return frozenset()
        snapshot = self.circuits.snapshot(perf_counter())
        if not snapshot.refused:
            return frozenset()
        return frozenset(
            f"{place.provider.name}/{place.model}"
            for place in found
            if place.provider is not None
            and snapshot.refuses(*circuit_of(place.provider, place.model, dialect, caller))
        )

    def _classified(
        self, dialect: ChatDialect, view: RequestView, profile: Profile, wish: Wish
    ) -> Classification | None:
        if wish.mode == "observe" and not self.settings.routing.classify:
            return None
        return classified(dialect, view, profile)

    def _only_as_asked(
        self, dialect: Dialect, view: RequestView, caller: Caller, wish: Wish
    ) -> Ruling:
        if wish.any_model:
            raise BadRequest(
                f"{view.model} chooses among models for conversations; {dialect.name} has none.",
                "Name a model, or provider/model; `GET /v1/models` lists them.",
                field="model",
            )
        own = choose(self.catalog, dialect, view.model, caller)
        return Ruling(plan=_carried(own, caller), target=own)

    def _own(self, dialect: Dialect, view: RequestView, caller: Caller, dry: bool) -> Target:
        """Who would answer as asked."""
        try:
            return choose(self.catalog, dialect, view.model, caller)
        except (UnknownModel, NoCredential):
            owner = self.catalog.owner(view.model.rpartition("/")[2]) if dry else None
            if owner is None or self.catalog.providers or caller.own_key is not None:
                raise
            return Target(
                provider=owner,
                model=view.model.removeprefix(f"{owner.name}/"),
                dialect=spoken_with(owner, dialect),
                credential=(),
            )

    async def _planned(
        self, question: Question, request: Request, view: RequestView, chat: ChatDialect
    ) -> Ruling:
        asked = asked_in(question, view, chat, self.estimator)
        found = options.places(self.catalog, question, only_own=asked.pinned is not None)
        await options.fetch_prices(self.prices, found, question.now_ms)
        errors = refusals_in(request, view, asked, found)
        unsayable = {dialect: lacking(error) for dialect, error in errors.items()}
        if unsayable:
            asked = replace(asked, needs=asked.needs | frozenset(unsayable.values()))
        if over_cap := await self._over_cap(question, request, view, found):
            asked = replace(asked, over_cap=over_cap)
        shut = self._shut(found, question.caller, question.dialect)
        question = replace(question, shut=shut) if shut else question
        plan = options.plan(self.known, question, asked, found, unsayable)
        if not question.dry and (out := sum(map(_private, plan.candidates))):
            self.dropped[question.caller.tenant] += out
        if plan.chosen is None:
            raise nobody(plan, question, errors.values())
        return self._ruled(plan, plan.chosen, asked, question, unsayable)

    async def _over_cap(
        self, question: Question, request: Request, view: RequestView, found: Sequence[Place]
    ) -> frozenset[str]:
        """Who has no room under a hard cap, where the profile rather takes a cheaper model."""
        if question.profile.near_cap != "degrade" or self.purse is None:
            return frozenset()
        there = [(each.provider, each.model) for each in found if each.provider is not None]
        call = (request, view, question.caller, question.session_id)
        return await self.purse.over_cap(*call, there, question.now_ms)

    def _ruled(
        self, plan: Plan, chosen: Option, asked: Asked, question: Question, unsayable: Unsayable
    ) -> Ruling:
        own, applied = question.own, asked.mode == "route"
        inputs = inputs_of(asked, question, unsayable)
        decision = plan.decision.made_from(inputs, applied=applied)
        target = own if own is not None and not applied else self._target(chosen, question)
        if target is not None and applied and _newcomer(target, question):
            target = replace(target, newcomer=True)
        return Ruling(
            plan=Plan(
                decision=decision,
                candidates=plan.candidates,
                chosen=plan.chosen,
                chain=plan.chain,
            ),
            target=target,
            found=question.found,
            asked=asked,
            baseline=self._baseline(own) if applied else None,
            question=question,
        )

    def _baseline(self, own: Target | None) -> tuple[Provider, str] | None:
        """The configured baseline; else the model asked for, if any was."""
        named = self.settings.savings.baseline_model
        if named is not None:
            return target.owner_of(self.catalog, named)
        return None if own is None else (own.provider, own.model)

    def _target(self, chosen: Option, question: Question) -> Target | None:
        for there in (question.own, question.kept):
            if there is not None and there.at(chosen.provider, chosen.model):
                return there
        provider = self.catalog.known.get(chosen.provider)
        if provider is None:
            return None
        try:
            return target_at(provider, chosen.model, question.dialect, question.caller)
        except NoCredential:
            if question.dry:
                return None
            raise


def classified(dialect: ChatDialect, view: RequestView, profile: Profile) -> Classification:
    """What the prompt is, its parts weighed as the profile says."""
    prompt = dialect.prompt(view)
    weights = Weights(system=profile.system_weight, history=profile.history_weight)
    return classify(prompt.newest, system=prompt.system, history=prompt.history, weights=weights)


def _needs(chat: ChatDialect | None, view: RequestView) -> frozenset[str]:
    """What a request asks of a model; nothing is known of one that cannot be read."""
    try:
        return translation.needs(chat.neutral(view)) & _FILTERS if chat else frozenset()
    except BadRequest:
        return frozenset()


def asked_in(
    question: Question, view: RequestView, chat: ChatDialect, estimator: Estimator
) -> Asked:
    """What the plan needs to know of a request. Raises BadRequest when it cannot be read and there
    is nobody whom it names, who could say so itself."""
    pinned = pins.reason(view, question.own, question.kept)
    needs: frozenset[str] = frozenset()
    try:
        if not chat.only_words(view):
            needs = translation.needs(chat.neutral(view)) & _FILTERS
    except BadRequest:
        if question.own is None:
            raise
        pinned = pinned or "pinned: it cannot be read, so it goes as it is"
    return Asked(
        mode=question.wish.mode,
        any_model=question.wish.any_model,
        input_tokens=estimator.input_tokens(chat.input_chars(view)),
        output_limit=view.max_output,
        needs=needs,
        pinned=pinned,
        stay=question.stay,
    )


def _private(candidate: Candidate) -> bool:
    return candidate.filtered_out_by == "privacy"


UNCLASSIFIED = Classification(
    category="other", confidence=0.0, complexity=0.0, tier="standard", risk_signals={}
)
"""What a call counts as whose prompt nobody has looked at."""

_FILTERS = frozenset({"tools", "vision", "audio", "video", "json_schema"})
"""Capabilities that rule a model out; the others are asked for in other words, or dropped."""


def refusals_in(
    request: Request, view: RequestView, asked: Asked, found: Sequence[Place]
) -> Mapping[str, ModelspendError]:
    """The dialects among some places that a request cannot be said in, and why."""
    if asked.pinned:
        return {}
    there = [(each.provider, each.model) for each in found if each.provider and each.usable]
    return unsayables(request, view, there)


def _newcomer(target: Target, question: Question) -> bool:
    """Whether somebody else has written in the conversation, as far as we know of it."""
    own = question.own
    assumed = own.provider.name if own is not None else question.dialect.native_provider
    return bool((question.wrote or {assumed}) - {target.provider.name})


def _carried(own: Target, caller: Caller) -> Plan:
    """A call that goes as it was asked."""
    return Plan(
        decision=Decision(
            model_id=own.model, provider=own.provider.name, inputs=said_of(caller) or None
        ),
        candidates=(),
        chosen=None,
    )


def nobody(plan: Plan, question: Question, errors: Iterable[ModelspendError] = ()) -> NoCandidate:
    """The refusal of a call that no model of its profile may answer; `errors` say why it could not
    be said to some."""
    ruled_out = [
        f"{each.provider}/{each.model_id} ({each.filtered_out_by})" for each in plan.candidates
    ]
    told = ", ".join(ruled_out) or "it lists no model"
    why = "".join(f" {error.message}" for error in dict.fromkeys(errors))
    return NoCandidate(
        f"Profile {question.wish.profile} has no model that may answer"
        f" ({question.found.tier}): {told}.{why}",
        "Name a model, or change the profile: modelspend help routing",
        field="model",
    )
