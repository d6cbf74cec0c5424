"""Who answers a call: what the process knows now, put before `routing.plan`.

The live path and every dry run ask the same `Router.decide`, so a dry run is the decision. It hides
where the facts come from: the catalog, the price book, the ledger's evals, the conversation. In
`observe` nothing of that is looked up: the call goes as it was asked, and is only classified.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modelspend import routing, translation
from modelspend.catalog import Catalog, Provider
from modelspend.catalog.prices import MISSING, PriceBook
from modelspend.dialects import CHAT_DIALECTS
from modelspend.dialects.dialect import ChatDialect, Dialect, RequestView
from modelspend.errors import (
    BadRequest,
    NoCandidate,
    NoCredential,
    Uncarriable,
    UnknownModel,
    Unsupported,
)
from modelspend.estimate import Estimator
from modelspend.gateway import target
from modelspend.gateway.caller import Caller
from modelspend.gateway.conversations import Conversations
from modelspend.gateway.passage import Request, passage
from modelspend.gateway.target import Target, choose, spoken_with, target_at, translatable
from modelspend.money import from_usd
from modelspend.quality import NO_SCORES, Scores
from modelspend.receipt import Classification, Decision
from modelspend.record import record
from modelspend.routing import Asked, Constraints, Mode, Option, Plan, Policy, Stay
from modelspend.settings import BUILT_IN_PROFILE, Profile, Settings
from modelspend.settings import Constraints as ConstraintsSection
from modelspend.signals import Weights, classify


@record
class Ruling:
    """A decision and whom it leads to. `target` is null only in a dry run that has no keys."""

    plan: Plan
    target: Target | None
    found: Classification | None = None
    asked: Asked | None = None
    baseline: tuple[Provider, str] | None = None  # what an applied decision is compared with

    @property
    def decision(self) -> Decision:
        return self.plan.decision


@record
class _Wish:
    """What the caller wants of routing: a mode, a profile, any model or a certain one."""

    mode: Mode
    profile: str
    any_model: bool


@dataclass(slots=True)
class Router:
    """Makes decisions. `configure` swaps what a reload changes; new evidence comes as `scores`."""

    catalog: Catalog
    prices: PriceBook
    estimator: Estimator
    settings: Settings
    conversations: Conversations
    scores: Scores = NO_SCORES

    def configure(self, catalog: Catalog, settings: Settings) -> None:
        self.catalog, self.settings = catalog, settings

    async def learn_prices(self, now_ms: int) -> None:
        """Ask the price table for every model that a profile may route to, before anybody waits."""
        profiles = self.settings.profiles.values() or (BUILT_IN_PROFILE,)
        names = {
            name for each in profiles for tier in routing.TIERS for name in getattr(each, tier)
        }
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
        or NoCandidate when the profile has nobody who may answer."""
        wish = self._wish(view, caller)
        chat = CHAT_DIALECTS.get(request.dialect.name)
        if chat is None:
            return self._only_as_asked(request.dialect, view, caller, wish)
        field = "x-modelspend-profile" if wish.profile == caller.profile else "model"
        profile = self._profile(wish.profile, field)
        found = self._classified(chat, view, profile, wish)
        own = None if wish.any_model else self._own(request.dialect, view, caller, dry)
        if wish.mode == "observe" and own is not None:
            return Ruling(plan=_carried(own), target=own, found=found)
        assert found is not None
        return await self._planned(
            _Question(
                request=request,
                view=view,
                caller=caller,
                wish=wish,
                profile=profile,
                found=found,
                own=own,
                stay=self.conversations.stay(caller.tenant, session_id, now_ms),
                now_ms=now_ms,
                dry=dry,
            ),
            chat,
        )

    def _wish(self, view: RequestView, caller: Caller) -> _Wish:
        any_model = view.model == "auto" or view.model.startswith("auto:")
        tenant = self.settings.tenants.get(caller.tenant)
        workflow = self.settings.workflows.get(caller.workflow or "")
        profile = (
            (any_model and view.model.partition(":")[2])
            or caller.profile
            or (workflow and workflow.profile)
            or (tenant and tenant.profile)
            or self.settings.routing.profile
        )
        mode = _mode(caller.mode, self.settings.routing.mode)
        return _Wish(mode="route" if any_model else mode, profile=profile, any_model=any_model)

    def _profile(self, name: str, field: str) -> Profile:
        profile = self.settings.profiles.get(name)
        if profile is None and name == "default":
            return BUILT_IN_PROFILE
        if profile is None:
            there = ", ".join(sorted({"default", *self.settings.profiles}))
            raise BadRequest(
                f"There is no profile {name!r} ({field}).",
                f"Ask for one of: {there}.",
                field=field,
            )
        return profile

    def _classified(
        self, dialect: ChatDialect, view: RequestView, profile: Profile, wish: _Wish
    ) -> Classification | None:
        if wish.mode == "observe" and not self.settings.routing.classify:
            return None
        prompt = dialect.prompt(view)
        weights = Weights(system=profile.system_weight, history=profile.history_weight)
        return classify(
            prompt.newest, system=prompt.system, history=prompt.history, weights=weights
        )

    def _only_as_asked(
        self, dialect: Dialect, view: RequestView, caller: Caller, wish: _Wish
    ) -> Ruling:
        if wish.any_model:
            raise BadRequest(
                f"{view.model} chooses among models for conversations; {dialect.name} has none.",
                "Name a model, or provider/model; `GET /v1/models` lists them.",
                field="model",
            )
        own = choose(self.catalog, dialect, view.model, caller)
        return Ruling(plan=_carried(own), target=own)

    def _own(self, dialect: Dialect, view: RequestView, caller: Caller, dry: bool) -> Target:
        """Who would answer as asked."""
        try:
            return choose(self.catalog, dialect, view.model, caller)
        except (UnknownModel, NoCredential):
            owner = self.catalog.owner(view.model.rpartition("/")[2]) if dry else None
            if owner is None or self.catalog.providers:
                raise
            return Target(
                provider=owner,
                model=view.model.removeprefix(f"{owner.name}/"),
                dialect=spoken_with(owner, dialect),
                credential=(),
            )

    async def _planned(self, question: "_Question", chat: ChatDialect) -> Ruling:
        wanted = chat.neutral(question.view)
        asked = Asked(
            mode=question.wish.mode,
            any_model=question.wish.any_model,
            input_tokens=self._input_tokens(chat, question.view),
            output_limit=question.view.max_output,
            needs=translation.needs(wanted) & _FILTERS,
            pinned=self._pinned(question),
            stay=question.stay,
        )
        places = self._places(question)
        await self._priced(places, question)
        unsayable = _unsayable(question, places)
        asked = replace(asked, needs=asked.needs | frozenset(unsayable.values()))
        options = {place.name: self._option(place, question, unsayable) for place in places}
        tier = _models(question.profile, question.found.tier)
        plan = routing.plan(
            asked,
            question.found,
            [options[name] for name in tier],
            self._policy(question),
            own=options.get(_OWN),
            incumbent=options.get(_INCUMBENT),
        )
        return self._ruled(plan, asked, question)

    def _ruled(self, plan: Plan, asked: Asked, question: "_Question") -> Ruling:
        own = question.own
        if plan.chosen is None:
            raise _nobody(plan, question)
        applied = asked.mode == "route"
        decision = replace(plan.decision, applied=applied, inputs=_inputs(asked, own))
        target = own if own is not None and not applied else self._target(plan.chosen, question)
        return Ruling(
            plan=replace(plan, decision=decision),
            target=target,
            found=question.found,
            asked=asked,
            baseline=self._baseline(own) if applied else None,
        )

    def _baseline(self, own: Target | None) -> tuple[Provider, str] | None:
        """The configured baseline; else the model asked for, if any was."""
        named = self.settings.savings.baseline_model
        if named is not None:
            return target.owner_of(self.catalog, named)
        return None if own is None else (own.provider, own.model)

    def _target(self, chosen: Option, question: "_Question") -> Target | None:
        own = question.own
        if own is not None and (own.provider.name, own.model) == (chosen.provider, chosen.model):
            return own
        provider = self.catalog.known.get(chosen.provider)
        if provider is None:
            return None
        try:
            return target_at(provider, chosen.model, question.request.dialect, question.caller)
        except NoCredential:
            if question.dry:
                return None
            raise

    def _pinned(self, question: "_Question") -> str | None:
        """Why the request may go to nobody else; null when it may."""
        view, own = question.view, question.own
        first, slash, _ = view.model.partition("/")
        if own is not None and slash and first == own.provider.name and own.model != view.model:
            return f"pinned: {view.model} names its provider"
        return None

    def _input_tokens(self, dialect: ChatDialect, view: RequestView) -> int:
        return self.estimator.input_tokens(dialect.input_chars(view))

    # Who may answer, as options.

    def _places(self, question: "_Question") -> list["_Place"]:
        """Where each model of the profile lies, then the one asked for and the one stayed with."""
        profile, dialect = question.profile, question.request.dialect
        places = [
            self._place(name, name, question) for name in _models(profile, question.found.tier)
        ]
        if question.own is not None:
            own = question.own
            places.append(_Place(name=_OWN, provider=own.provider, model=own.model, usable=True))
        stay = question.stay
        if stay is not None and _good_enough(profile, question.found.tier, stay):
            provider = self.catalog.providers.get(stay.provider)
            if provider is not None and any(map(provider.speaks, translatable(dialect))):
                usable = provider.has_key
                places.append(
                    _Place(name=_INCUMBENT, provider=provider, model=stay.model, usable=usable)
                )
        return places

    def _place(self, name: str, model: str, question: "_Question") -> "_Place":
        dialect, caller = question.request.dialect, question.caller
        try:
            target = choose(self.catalog, dialect, model, caller)
        except (UnknownModel, Unsupported, NoCredential):
            first, slash, rest = model.partition("/")
            owner = self.catalog.known.get(first) if slash else self.catalog.owner(model)
            told = rest if slash and owner is not None else model
            nobody_has_keys = question.dry and not self.catalog.providers and owner is not None
            return _Place(name=name, provider=owner, model=told, usable=nobody_has_keys)
        return _Place(name=name, provider=target.provider, model=target.model, usable=True)

    async def _priced(self, places: Sequence["_Place"], question: "_Question") -> None:
        """Prices of all candidates, asked for at once where the library has not been asked yet."""
        wanting = [
            place
            for place in places
            if place.provider is not None
            and self.prices.find(place.provider, place.model, question.now_ms) is MISSING
        ]
        if wanting:
            fetches: Iterable[object] = (
                self.prices.fetch(place.provider, place.model, question.now_ms)
                for place in wanting
                if place.provider is not None
            )
            await asyncio.gather(*fetches)  # type: ignore[call-overload]

    def _option(self, place: "_Place", question: "_Question", unsayable: dict[str, str]) -> Option:
        provider, model = place.provider, place.model
        if provider is None:
            return Option(provider=place.name.partition("/")[0], model=model, has_key=False)
        facts, told = provider.facts_of(model), self.settings.models.get(f"{provider.name}/{model}")
        lacks = facts.lacks if told is None or told.lacks is None else frozenset(told.lacks)
        spoken = spoken_with(provider, question.request.dialect)
        if spoken in unsayable:
            lacks |= {unsayable[spoken]}
        found = self.prices.find(provider, model, question.now_ms)
        return Option(
            provider=provider.name,
            model=model,
            price=None if found is MISSING else found.price,
            context=(told.context if told and told.context else facts.context),
            lacks=lacks,
            region=provider.region,
            trains=provider.trains,
            has_key=place.usable,
            quality=self.scores.bound(question.found.category, model, provider.name),
        )

    def _policy(self, question: "_Question") -> Policy:
        profile, caller = question.profile, question.caller
        tenant = self.settings.tenants.get(caller.tenant)
        workflow = self.settings.workflows.get(caller.workflow or "")
        rules = _constraints(profile.constraints)
        for section in (tenant, workflow):
            if section is not None:
                rules = rules.within(_constraints(section.constraints))
        return Policy(
            profile=question.wish.profile,
            quality_weight=profile.objective.quality,
            cost_weight=profile.objective.cost,
            latency_weight=profile.objective.latency,
            quality_floor=profile.quality_floor,
            near=profile.near_threshold,
            constraints=rules,
        )


_OWN, _INCUMBENT = "\0own", "\0incumbent"
_FILTERS = frozenset({"tools", "vision", "audio", "video", "json_schema"})
"""Capabilities that rule a model out; the others are asked for in other words, or dropped."""


@record
class _Place:
    """A model of a profile and the provider where it lies; `usable` when we have a key there."""

    name: str
    provider: Provider | None
    model: str
    usable: bool


@record
class _Question:
    """A request that is being decided."""

    request: Request
    view: RequestView
    caller: Caller
    wish: _Wish
    profile: Profile
    found: Classification
    own: Target | None
    stay: Stay | None
    now_ms: int
    dry: bool


def _inputs(asked: Asked, own: Target | None) -> dict[str, Any]:
    """What a plan was made from, as it stands on the receipt."""
    stay = asked.stay
    return {
        "input_tokens": asked.input_tokens,
        "output_limit": asked.output_limit,
        "needs": sorted(asked.needs),
        "own": None if own is None else f"{own.provider.name}/{own.model}",
        "stay": None
        if stay is None
        else {
            "provider": stay.provider,
            "model": stay.model,
            "cached_tokens": stay.cached_tokens,
        },
    }


def _mode(asked: str | None, default: Mode) -> Mode:
    match asked:
        case None:
            return default
        case "observe" | "shadow" | "route":
            return asked
        case _:
            raise BadRequest(
                f"{asked!r} is no mode.",
                "Send x-modelspend-mode: observe, shadow or route, or leave it out.",
                field="x-modelspend-mode",
            )


def _carried(own: Target) -> Plan:
    """A call that goes as it was asked."""
    return Plan(
        decision=Decision(model_id=own.model, provider=own.provider.name),
        candidates=(),
        chosen=None,
    )


def _models(profile: Profile, tier: str) -> tuple[str, ...]:
    """The models for a tier: its own, else those of the next higher one that has any."""
    lists = {
        "simple": profile.simple,
        "standard": profile.standard,
        "deep_reasoning": profile.deep_reasoning,
    }
    at = routing.TIERS.index(tier)
    order = (*routing.TIERS[at:], *reversed(routing.TIERS[:at]))
    return next((lists[each] for each in order if lists[each]), ())


def _good_enough(profile: Profile, tier: str, stay: Stay) -> bool:
    """Whether the model that a conversation is on is listed for this tier or a higher one."""
    lists = (profile.simple, profile.standard, profile.deep_reasoning)
    at = routing.TIERS.index(tier)
    names = {name for models in lists[at:] for name in models}
    return not names.isdisjoint({stay.model, f"{stay.provider}/{stay.model}"})


def _unsayable(question: _Question, places: Sequence[_Place]) -> dict[str, str]:
    """Dialects that the request cannot be said in, and the capability that is missing there."""
    dialect = question.request.dialect
    spoken = {
        spoken_with(place.provider, dialect): place
        for place in places
        if place.provider is not None and place.usable
    }
    found: dict[str, str] = {}
    for name, place in spoken.items():
        if name != dialect.name and place.provider is not None:
            target = Target(provider=place.provider, model=place.model, dialect=name, credential=())
            try:
                passage(question.request, question.view, target)
            except Uncarriable as error:
                found[name] = error.capability
    return found


def _constraints(section: ConstraintsSection) -> Constraints:
    return Constraints(
        providers=section.providers,
        regions=section.regions,
        no_training=section.no_training,
        max_pico=None if section.max_usd is None else from_usd(section.max_usd),
    )


def _nobody(plan: Plan, question: _Question) -> NoCandidate:
    ruled_out = [
        f"{each.provider}/{each.model_id} ({each.filtered_out_by})" for each in plan.candidates
    ]
    told = ", ".join(ruled_out) or "it lists no model"
    return NoCandidate(
        f"Profile {question.wish.profile} has no model that may answer"
        f" ({question.found.tier}): {told}.",
        "Name a model, or change the profile: modelspend help routing",
        field="model",
    )
