"""Who answers a call: what the process knows now, put before `routing.plan`.

The live path and every dry run ask the same `Router.decide`, so a dry run is the decision. It hides
how a request is read for that; `options` says who could answer it. In `observe` nothing of that is
looked up: the call goes as it was asked, and is only classified.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from modelspend import translation
from modelspend.catalog import Catalog
from modelspend.catalog.prices import PriceBook
from modelspend.dialects import CHAT_DIALECTS
from modelspend.dialects.dialect import ChatDialect, Dialect, RequestView
from modelspend.errors import BadRequest, NoCandidate, NoCredential, Uncarriable, UnknownModel
from modelspend.estimate import Estimator
from modelspend.gateway import options
from modelspend.gateway.caller import Caller
from modelspend.gateway.conversations import Conversations
from modelspend.gateway.options import (
    Known,
    Place,
    Question,
    Unsayable,
    Wish,
    inputs_of,
    pinned,
    profile_of,
    said_of,
    wish_of,
)
from modelspend.gateway.passage import Request, passage
from modelspend.gateway.target import Target, choose, spoken_with, target_at
from modelspend.quality import NO_SCORES, Scores
from modelspend.receipt import Classification, Decision
from modelspend.record import record
from modelspend.routing import Asked, Option, Plan
from modelspend.settings import Profile, Settings
from modelspend.signals import Weights, classify


@record
class Ruling:
    """A decision and whom it leads to. `target` is null only in a dry run that has no keys."""

    plan: Plan
    target: Target | None
    found: Classification | None = None
    asked: Asked | None = None

    @property
    def decision(self) -> Decision:
        return self.plan.decision


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

    @property
    def known(self) -> Known:
        """What decisions are made from at this moment."""
        return Known(
            catalog=self.catalog, prices=self.prices, settings=self.settings, scores=self.scores
        )

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
        wish = wish_of(self.settings, view.model, caller)
        chat = CHAT_DIALECTS.get(request.dialect.name)
        if chat is None:
            return self._only_as_asked(request.dialect, view, caller, wish)
        profile = profile_of(self.settings, wish, caller)
        found = self._classified(chat, view, profile, wish)
        own = None if wish.any_model else self._own(request.dialect, view, caller, dry)
        if wish.mode == "observe" and own is not None:
            return Ruling(plan=_carried(own, caller), target=own, found=found)
        assert found is not None
        return await self._planned(
            Question(
                dialect=request.dialect,
                model=view.model,
                caller=caller,
                wish=wish,
                profile=profile,
                found=found,
                own=own,
                stay=self.conversations.stay(caller.tenant, session_id, now_ms),
                now_ms=now_ms,
                dry=dry,
            ),
            request,
            view,
            chat,
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
            if owner is None or self.catalog.providers:
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
        found = options.places(self.catalog, question)
        await options.fetch_prices(self.prices, found, question.now_ms)
        unsayable = unsayable_in(request, view, found)
        asked = asked_in(question, view, chat, self.estimator, unsayable)
        plan = options.plan(self.known, question, asked, found, unsayable)
        return self._ruled(plan, asked, question, unsayable)

    def _ruled(self, plan: Plan, asked: Asked, question: Question, unsayable: Unsayable) -> Ruling:
        own = question.own
        if plan.chosen is None:
            raise nobody(plan, question)
        applied = asked.mode == "route"
        inputs = inputs_of(asked, question, unsayable)
        decision = replace(plan.decision, applied=applied, inputs=inputs)
        target = own if own is not None and not applied else self._target(plan.chosen, question)
        return Ruling(
            plan=replace(plan, decision=decision), target=target, found=question.found, asked=asked
        )

    def _target(self, chosen: Option, question: Question) -> Target | None:
        own = question.own
        if own is not None and (own.provider.name, own.model) == (chosen.provider, chosen.model):
            return own
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


def asked_in(
    question: Question,
    view: RequestView,
    chat: ChatDialect,
    estimator: Estimator,
    unsayable: Unsayable,
) -> Asked:
    """What the plan needs to know of a request."""
    needs = translation.needs(chat.neutral(view)) & _FILTERS
    return Asked(
        mode=question.wish.mode,
        any_model=question.wish.any_model,
        input_tokens=estimator.input_tokens(chat.input_chars(view)),
        output_limit=view.max_output,
        needs=needs | frozenset(unsayable.values()),
        pinned=pinned(question),
        stay=question.stay,
    )


_FILTERS = frozenset({"tools", "vision", "audio", "video", "json_schema"})
"""Capabilities that rule a model out; the others are asked for in other words, or dropped."""


def unsayable_in(request: Request, view: RequestView, found: Sequence[Place]) -> Unsayable:
    """Dialects that a request cannot be said in, and the capability that is missing there."""
    dialect = request.dialect
    spoken = {
        spoken_with(place.provider, dialect): place
        for place in found
        if place.provider is not None and place.usable
    }
    missing: dict[str, str] = {}
    for name, place in spoken.items():
        if name != dialect.name and place.provider is not None:
            target = Target(provider=place.provider, model=place.model, dialect=name, credential=())
            try:
                passage(request, view, target)
            except Uncarriable as error:
                missing[name] = error.capability
    return missing


def _carried(own: Target, caller: Caller) -> Plan:
    """A call that goes as it was asked."""
    return Plan(
        decision=Decision(
            model_id=own.model, provider=own.provider.name, inputs=said_of(caller) or None
        ),
        candidates=(),
        chosen=None,
    )


def nobody(plan: Plan, question: Question) -> NoCandidate:
    """The refusal of a call that no model of its profile may answer."""
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
