"""Who could answer a call, as `routing.plan` wants to know it: options, and the policy among them.

Built from values, so a call under way and a receipt of last month meet the same rules: the router
makes a `Question` of a request, the back-test makes one of a receipt. What a reader would not
guess: a model that a profile lists and nobody here has a key for is an option too, one that is
ruled out and told.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from functools import lru_cache
from typing import Any

from modelspend import routing
from modelspend.catalog import Catalog, Provider
from modelspend.catalog.prices import MISSING, PriceBook
from modelspend.constraints import Constraints
from modelspend.dialects import DIALECTS
from modelspend.dialects.dialect import Dialect
from modelspend.errors import BadRequest, NoCredential, UnknownModel, Unsupported
from modelspend.gateway.caller import Caller
from modelspend.gateway.target import Target, choose, spoken_with, translatable
from modelspend.money import from_usd
from modelspend.quality import NO_SCORES, Scores
from modelspend.receipt import Classification
from modelspend.record import record
from modelspend.routing import Asked, Mode, Option, Plan, Policy, Stay
from modelspend.settings import BUILT_IN_PROFILE, Profile, Settings
from modelspend.settings import Constraints as ConstraintsSection


@record
class Known:
    """What the process knows, whoever asks; and what follows from it alone, once somebody has."""

    catalog: Catalog
    prices: PriceBook
    settings: Settings
    scores: Scores = NO_SCORES
    policies: dict[tuple[str, str, str], Policy] = field(default_factory=dict)
    abilities: dict[tuple[str, str, str], "Ability"] = field(default_factory=dict)


@record
class Ability:
    """What a model can do for a call that came in some dialect; `spoken` is the one it is carried
    in. See `Option`."""

    spoken: str
    context: int | None
    lacks: frozenset[str]
    caches: bool


@record
class Wish:
    """What the caller wants of routing: a mode, a profile, any model or a certain one."""

    mode: Mode
    profile: str
    any_model: bool


@record
class Question:
    """A call that is being decided: `model` as it was asked for, `own` who answers as asked.

    `kept` is where a stored answer lies that it goes on from; `wrote` names every provider that has
    answered in its conversation. `shut` are the models, as `provider/model`, whose circuit lets
    no call pass now.
    """

    dialect: Dialect
    model: str
    caller: Caller
    wish: Wish
    profile: Profile
    found: Classification
    own: Target | None
    stay: Stay | None
    now_ms: int
    dry: bool
    session_id: str | None = None
    kept: Target | None = None
    wrote: frozenset[str] = frozenset()
    shut: frozenset[str] = frozenset()


@record
class Place:
    """A model of a profile and the provider where it lies; `usable` when we have a key there."""

    name: str
    provider: Provider | None
    model: str
    usable: bool


Unsayable = Mapping[str, str]
"""Dialects that a request cannot be said in, and the capability that is missing there."""

_OWN, _INCUMBENT = "\0own", "\0incumbent"


def wish_of(settings: Settings, model: str, caller: Caller) -> Wish:
    """What holds for a call: what it says itself, else its workflow, its tenant, the default."""
    any_model = model == "auto" or model.startswith("auto:")
    tenant = settings.tenants.get(caller.tenant)
    workflow = settings.workflows.get(caller.workflow or "")
    profile = (
        (any_model and model.partition(":")[2])
        or caller.profile
        or (workflow and workflow.profile)
        or (tenant and tenant.profile)
        or settings.routing.profile
    )
    mode = _mode(caller.mode, settings.routing.mode)
    return Wish(mode="route" if any_model else mode, profile=profile, any_model=any_model)


def profile_of(settings: Settings, wish: Wish, caller: Caller) -> Profile:
    """The profile that a call wants. Raises BadRequest when there is none of that name."""
    profile = settings.profiles.get(wish.profile)
    if profile is None and wish.profile == "default":
        return BUILT_IN_PROFILE
    if profile is None:
        field = "x-modelspend-profile" if wish.profile == caller.profile else "model"
        there = ", ".join(sorted({"default", *settings.profiles}))
        raise BadRequest(
            f"There is no profile {wish.profile!r} ({field}).",
            f"Ask for one of: {there}.",
            field=field,
        )
    return profile


def places(catalog: Catalog, question: Question, *, only_own: bool) -> list[Place]:
    """Where each model of the profile lies, then the one asked for and the one stayed with."""
    profile, tier = question.profile, question.found.tier
    own, mine = question.kept or question.own, []
    if own is not None:
        mine = [Place(name=_OWN, provider=own.provider, model=own.model, usable=True)]
    if only_own:
        return mine
    found = [_place(catalog, name, question) for name in profile.candidates[tier]] + mine
    stay = question.stay
    if stay is not None and _good_enough(profile, tier, stay):
        provider = catalog.providers.get(stay.provider)
        if provider is not None and any(map(provider.speaks, translatable(question.dialect))):
            usable = provider.has_key
            found.append(Place(name=_INCUMBENT, provider=provider, model=stay.model, usable=usable))
    return found


def _place(catalog: Catalog, name: str, question: Question) -> Place:
    caller = question.caller
    if question.dry or caller.own_key is not None:
        return _lying(catalog, question.dialect, name, caller, question.dry)
    return _configured(catalog, question.dialect.name, name)


@lru_cache(maxsize=1024)
def _configured(catalog: Catalog, dialect: str, name: str) -> Place:
    """Where a model lies for whoever brings no key: the same as long as the catalog is."""
    return _lying(catalog, DIALECTS[dialect], name, Caller(tenant=""), dry=False)


def _lying(catalog: Catalog, dialect: Dialect, name: str, caller: Caller, dry: bool) -> Place:
    try:
        target = choose(catalog, dialect, name, caller)
    except (UnknownModel, Unsupported, NoCredential):
        first, slash, rest = name.partition("/")
        owner = catalog.known.get(first) if slash else catalog.owner(name)
        told = rest if slash and owner is not None else name
        supposed = dry and not catalog.providers and caller.own_key is None
        usable = supposed and owner is not None
        return Place(name=name, provider=owner, model=told, usable=usable)
    return Place(name=name, provider=target.provider, model=target.model, usable=True)


async def fetch_prices(prices: PriceBook, found: Sequence[Place], at_ms: int) -> None:
    """Prices of all places, asked for at once where the library has not been asked yet."""
    wanting = [
        (place.provider, place.model)
        for place in found
        if place.provider is not None and prices.find(place.provider, place.model, at_ms) is MISSING
    ]
    if wanting:
        fetches: Iterable[Any] = (
            prices.fetch(provider, model, at_ms) for provider, model in wanting
        )
        await asyncio.gather(*fetches)


def plan(
    known: Known,
    question: Question,
    asked: Asked,
    found: Sequence[Place],
    unsayable: Unsayable,
) -> Plan:
    """The decision about a question, once the prices of its places are at hand."""
    options = _options(known, question, found, unsayable)
    tier = () if asked.pinned else question.profile.candidates[question.found.tier]
    return routing.plan(
        asked,
        question.found,
        [options[name] for name in tier],
        _policy(known, question),
        own=options.get(_OWN),
        incumbent=options.get(_INCUMBENT),
    )


def _options(
    known: Known, question: Question, found: Sequence[Place], unsayable: Unsayable
) -> dict[str, Option]:
    """The option of each place by its name; places where the same model lies share one."""
    options: dict[str, Option] = {}
    there: dict[tuple[str, str, bool], Option] = {}
    for place in found:
        provider = place.provider
        lies = (provider.name if provider else place.name, place.model, place.usable)
        option = there.get(lies)
        if option is None:
            option = there[lies] = _option(known, place, question, unsayable)
        options[place.name] = option
    return options


def others(
    known: Known,
    question: Question,
    asked: Asked,
    found: Sequence[Place],
) -> tuple[Option, ...]:
    """Who of some places may answer in another's stead, the cheapest first. What a place costs and
    how good it is puts them in order and rules nobody out; what may not be chosen still may not."""
    options = [_option(known, place, question, {}) for place in found]
    policy = replace(_policy(known, question), cost_weight=0.0, quality_floor=0.0)
    return routing.fitting(asked, question.found, options, policy)


def same_model(catalog: Catalog, question: Question, own: Target) -> list[Place]:
    """The other providers that have a model by the same name, and a key of ours."""
    wanted = own.model.rpartition("/")[2]
    spoken = translatable(question.dialect)
    found: list[Place] = []
    for provider in catalog.providers.values():
        if provider.name == own.provider.name or not any(map(provider.speaks, spoken)):
            continue
        name = _named_there(provider, wanted)
        if name is not None and provider.has_key:
            place = Place(
                name=f"{provider.name}/{name}", provider=provider, model=name, usable=True
            )
            found.append(place)
    return found


def _named_there(provider: Provider, wanted: str) -> str | None:
    """What a provider calls a model: a listed name, with or without its maker's before it."""
    listed = (name for name in provider.models if name.rpartition("/")[2] == wanted)
    return next(listed, wanted if wanted in provider.owns else None)


def _option(known: Known, place: Place, question: Question, unsayable: Unsayable) -> Option:
    provider, model = place.provider, place.model
    if provider is None:
        return Option(provider=place.name.partition("/")[0], model=model, has_key=False)
    can = _ability(known, provider, model, question.dialect)
    lacks = can.lacks
    if can.spoken in unsayable:
        lacks |= {unsayable[can.spoken]}
    found = known.prices.find(provider, model, question.now_ms)
    return Option(
        provider=provider.name,
        model=model,
        price=None if found is MISSING else found.price,
        context=can.context,
        lacks=lacks,
        region=provider.region,
        trains=provider.trains,
        has_key=place.usable,
        circuit_open=bool(question.shut) and f"{provider.name}/{model}" in question.shut,
        quality=known.scores.bound(question.found.category, model, provider.name),
        caches=can.caches,
    )


def _ability(known: Known, provider: Provider, model: str, dialect: Dialect) -> Ability:
    key = (provider.name, model, dialect.name)
    ability = known.abilities.get(key)
    if ability is None:
        if len(known.abilities) >= _MOST_KEPT:  # callers may make up as many names as they like
            known.abilities.clear()
        ability = known.abilities[key] = _found_ability(known, provider, model, dialect)
    return ability


_MOST_KEPT = 1024


def _found_ability(known: Known, provider: Provider, model: str, dialect: Dialect) -> Ability:
    facts, told = provider.facts_of(model), known.settings.models.get(f"{provider.name}/{model}")
    spoken = spoken_with(provider, dialect)
    rules = provider.usage.get(spoken)
    return Ability(
        spoken=spoken,
        context=told.context if told and told.context else facts.context,
        lacks=facts.lacks if told is None or told.lacks is None else frozenset(told.lacks),
        caches=spoken == dialect.name or (rules is not None and rules.cache == "inside"),
    )


def _policy(known: Known, question: Question) -> Policy:
    caller, settings = question.caller, known.settings
    tenant = caller.tenant if caller.tenant in settings.tenants else ""
    workflow = caller.workflow if caller.workflow in settings.workflows else None
    key = (question.wish.profile, tenant, workflow or "")
    policy = known.policies.get(key)
    if policy is None:
        policy = known.policies[key] = _made_policy(settings, question)
    return policy


def _made_policy(settings: Settings, question: Question) -> Policy:
    profile, caller = question.profile, question.caller
    tenant = settings.tenants.get(caller.tenant)
    workflow = settings.workflows.get(caller.workflow or "")
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


def _constraints(section: ConstraintsSection) -> Constraints:
    return Constraints(
        providers=section.providers,
        regions=section.regions,
        no_training=section.no_training,
        max_pico=None if section.max_usd is None else from_usd(section.max_usd),
    )


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


def _good_enough(profile: Profile, tier: str, stay: Stay) -> bool:
    """Whether the model that a conversation is on is listed for this tier or a higher one."""
    names = profile.sufficient[tier]
    return stay.model in names or stay.name in names


def inputs_of(asked: Asked, question: Question, unsayable: Unsayable) -> dict[str, Any]:
    """What a plan was made from, as it stands on the receipt: enough to make it again."""
    stay, own, kept = asked.stay, question.own, question.kept
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
            "turns": stay.turns,
            "elsewhere": dict(stay.elsewhere),
        },
        **({"pinned": asked.pinned} if asked.pinned else {}),
        **({"kept": f"{kept.provider.name}/{kept.model}"} if kept is not None else {}),
        **({"over_cap": sorted(asked.over_cap)} if asked.over_cap else {}),
        **({"unsayable": dict(unsayable)} if unsayable else {}),
        **({"circuit_open": sorted(question.shut)} if question.shut else {}),
        **said_of(question.caller),
    }


def said_of(caller: Caller) -> dict[str, Any]:
    """The mode and the profile that a caller's own headers asked for, where they did."""
    said = {"mode": caller.mode, "profile": caller.profile}
    given = {name: value for name, value in said.items() if value is not None}
    return {"caller": given} if given else {}
