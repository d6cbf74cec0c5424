"""Who should answer a call: candidates scored, filtered and put in order. Pure and deterministic.

`plan` takes values and returns a `Plan`; the gateway, `POST /v1/route`, `modelspend route` and the
back-test all come here, so a dry run is the live decision. Two things that a reader would not
guess: without evidence a profile's own order of models decides, whatever the weights say; and the
model that a conversation is on stays unless leaving it saves, over the turns that are likely to
come, more than the cached prompt that would be thrown away.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

from modelspend.constraints import Constraints
from modelspend.money import INPUT_BUCKETS, Price, usd_text
from modelspend.receipt import Candidate, Classification, Decision
from modelspend.record import record

Mode = Literal["observe", "shadow", "route"]
Tier = Literal["simple", "standard", "deep_reasoning"]

TIERS: tuple[Tier, ...] = ("simple", "standard", "deep_reasoning")

EXPECTED_OUTPUT: Mapping[str, int] = {"simple": 200, "standard": 600, "deep_reasoning": 1500}
"""Tokens of output that an estimate reckons with where the request sets no lower limit."""

LEAST_AHEAD, MOST_AHEAD = 4, 12
"""Turns that a conversation is expected to go on for: as many as it has had, within these. Without
such a look ahead a dear model keeps a conversation, each turn a little cheaper than a switch."""

_SCORE_DIGITS = 4


@record
class Option:
    """A model that may answer, as it stands now. Unknown facts are null and filter nothing.

    `context` is tokens of input and output together. `lacks` names what it cannot do: `tools`,
    `vision`, `audio`, `json_schema`, …, and what cannot be said in its dialect. `quality` is the
    lower bound of what evals showed in this category, in [0, 1]. `caches` is false where nothing of
    this request would be kept: the provider waits for marks that a translation leaves out.
    """

    provider: str
    model: str
    price: Price | None = None
    context: int | None = None
    lacks: frozenset[str] = frozenset()
    region: str | None = None
    trains: bool | None = None
    has_key: bool = True
    circuit_open: bool = False
    quality: float | None = None
    latency_ms: float | None = None
    caches: bool = True

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


@record
class Policy:
    """A profile as `plan` reads it: weights of the objective and what is allowed.

    `near` says what happens close to the threshold of a tier: `stay` with what the caller asked
    for, or `decide` as everywhere.
    """

    profile: str
    quality_weight: float = 1.0
    cost_weight: float = 0.3
    latency_weight: float = 0.0
    quality_floor: float = 0.0
    near: Literal["stay", "decide"] = "stay"
    constraints: Constraints = Constraints()


@record
class Stay:
    """The model that a conversation is on, and what of its prompt is probably cached there.

    `turns` is how many it has had; `elsewhere` what other models that it was on have probably
    cached, by `provider/model`.
    """

    provider: str
    model: str
    cached_tokens: int
    turns: int = 1
    elsewhere: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"

    def cached_at(self, name: str) -> int:
        return self.cached_tokens if name == self.name else self.elsewhere.get(name, 0)


@record
class Asked:
    """What a decision needs to know of a request; small enough to stand on the receipt.

    `pinned` is why the request may go nowhere else (an explicit provider, a stored conversation).
    `any_model` is true for `auto`, which always routes. `over_cap` names the candidates whose worst
    case has no room under a hard cap now.
    """

    mode: Mode
    any_model: bool
    input_tokens: int
    output_limit: int | None = None
    needs: frozenset[str] = frozenset()
    pinned: str | None = None
    stay: Stay | None = None
    over_cap: frozenset[str] = frozenset()


@record
class Plan:
    """The decision, every candidate with its score or what ruled it out, and who is next.

    `chosen` is null when nobody may answer. `chain` is who may answer after the chosen one, the
    cheapest first, and last those whose circuit is open now.
    """

    decision: Decision
    candidates: tuple[Candidate, ...]
    chosen: Option | None
    chain: tuple[Option, ...] = ()


@dataclass(slots=True)
class _Seen:
    """An option with what it would cost, now and with the turns to come, and how good it looks:
    that is set once all have been looked at."""

    option: Option
    name: str
    rank: int
    cost_pico: int | None
    ahead_pico: int | None
    out: str | None
    reasons: tuple[str, ...]
    score: float = 0.0


def plan(
    asked: Asked,
    found: Classification,
    options: Sequence[Option],
    policy: Policy,
    own: Option | None = None,
    incumbent: Option | None = None,
) -> Plan:
    """Decide. `options` are the profile's models for the tier in order of preference; `own` is
    what carrying the request as asked would use, null for `auto`; `incumbent` is the model that
    the conversation is on, when it is good enough for this tier.
    """
    if own is not None and asked.mode == "observe":
        return _as_asked(own)
    pinned = asked.pinned if own is not None else None
    everybody = merged((), own) if pinned else merged(options, incumbent, own)
    seen = [_look(asked, found, policy, n, each) for n, each in enumerate(everybody)]
    _score(seen, policy)
    accepted = [each for each in seen if each.out is None]
    why: tuple[str, ...]
    if pinned and not _forbidden(seen[0], policy):
        chosen, strategy, why = seen[0], "pinned", (pinned,)
    elif not accepted and (not _shut(seen) or _may(own, policy, seen)):
        return _nobody(asked, found, own, policy, seen)
    elif not accepted:
        chosen, strategy, why = _shut(seen)[0], "single", ("every circuit is open",)
    else:
        listed = {each.name for each in options}
        if incumbent is not None:
            listed.add(incumbent.name)
        chosen, strategy, why = _settle(asked, found, policy, own, seen, listed)
    others = [*sorted(accepted, key=_cheapest_first), *_shut(seen)]
    chain = [each for each in others if each is not chosen]
    return Plan(
        decision=Decision(
            model_id=chosen.option.model,
            provider=chosen.option.provider,
            mode=asked.mode,
            profile=policy.profile,
            strategy=strategy,
            fallback_chain=tuple(each.name for each in chain),
            rationale=(*_rationale(found), *why),
        ),
        candidates=_told(seen),
        chosen=chosen.option,
        chain=tuple(each.option for each in chain),
    )


def fitting(
    asked: Asked, found: Classification, options: Sequence[Option], policy: Policy
) -> tuple[Option, ...]:
    """Those who may answer, the cheapest first, and last those whose circuit is open now."""
    seen = [_look(asked, found, policy, n, each) for n, each in enumerate(options)]
    accepted = sorted((each for each in seen if each.out is None), key=_cheapest_first)
    return tuple(each.option for each in (*accepted, *_shut(seen)))


def _shut(seen: Sequence["_Seen"]) -> list["_Seen"]:
    """Those whom nothing but their circuit rules out."""
    return sorted((each for each in seen if each.out == "circuit_open"), key=_cheapest_first)


def merged(options: Sequence[Option], *more: Option | None) -> list[Option]:
    """The options in their order, each once, then those of `more` that are not among them."""
    found: dict[str, Option] = {}
    for each in (*options, *more):
        if each is not None:
            found.setdefault(each.name, each)
    return list(found.values())


def estimate_pico(option: Option, asked: Asked, tier: str, cached_tokens: int = 0) -> int | None:
    """What the request would cost there, in pico-dollars; null without a price.

    Input is the estimate of the whole prompt, of which `cached_tokens` are read from the
    provider's cache; output is what such prompts get, or the request's own limit if that is less.
    """
    price = option.price
    if price is None:
        return None
    if price.free:
        return 0
    cached = min(cached_tokens, asked.input_tokens)
    rates = price.rates_at(asked.input_tokens)
    fresh_rate, out_rate = rates.get("input_tokens"), rates.get("output_tokens", 0)
    if fresh_rate is None:
        return None
    output = EXPECTED_OUTPUT[tier]
    if asked.output_limit is not None:
        output = min(output, asked.output_limit)
    cached_rate = rates.get("cache_read_tokens", fresh_rate)
    return (asked.input_tokens - cached) * fresh_rate + cached * cached_rate + output * out_rate


def _as_asked(own: Option) -> Plan:
    return Plan(
        decision=Decision(model_id=own.model, provider=own.provider), candidates=(), chosen=own
    )


def _look(asked: Asked, found: Classification, policy: Policy, rank: int, option: Option) -> _Seen:
    name = option.name
    cached = asked.stay.cached_at(name) if asked.stay is not None else 0
    cost = estimate_pico(option, asked, found.tier, cached)
    out = _ruled_out(asked, policy, option, found.tier, cost)
    reasons = []
    if out is None and policy.constraints.max_pico is not None:
        reasons.append("in-budget")
    if cached:
        reasons.append("cached")
    if option.quality is not None:
        reasons.append(f"evals>={option.quality:.3f}")
    ahead = _ahead(asked, option, found.tier, cost, cached)
    return _Seen(option, name, rank, cost, ahead, out, tuple(reasons))


def _ahead(asked: Asked, option: Option, tier: str, cost: int | None, cached: int) -> int | None:
    """This turn and those that are likely to follow, as if they were all like this one.

    They read from the cache what is cached where the conversation is now: a switch costs once, and
    what it saves it saves each time.
    """
    stay = asked.stay
    if stay is None or cost is None:
        return cost
    warm = stay.cached_tokens if option.caches else 0
    later = estimate_pico(option, asked, tier, max(warm, cached))
    return None if later is None else cost + turns_ahead(stay) * later


def turns_ahead(stay: Stay) -> int:
    """Turns that a conversation is expected to have after this one."""
    return min(max(stay.turns, LEAST_AHEAD), MOST_AHEAD)


def _ruled_out(
    asked: Asked, policy: Policy, option: Option, tier: str, cost: int | None
) -> str | None:
    """The first thing that rules a candidate out, in the order in which it is told."""
    rules = policy.constraints
    if not option.has_key or (rules.providers and option.provider not in rules.providers):
        return "provider_denied"
    if rules.no_training and option.trains is not False:
        return "privacy"
    if rules.regions and option.region not in rules.regions:
        return "privacy"
    if asked.needs and (missing := sorted(asked.needs & option.lacks)):
        return f"capability:{missing[0]}"
    if option.context is not None and asked.input_tokens + _room(asked, tier) > option.context:
        return "context_window"
    if asked.over_cap and option.name in asked.over_cap:
        return "budget"
    if cost is None and (policy.cost_weight > 0 or rules.max_pico is not None):
        return "unpriced"
    if rules.max_pico is not None and cost is not None and cost > rules.max_pico:
        return "budget"
    if option.quality is not None and option.quality < policy.quality_floor:
        return "quality_floor"
    if option.circuit_open:  # last: who has only this against it is asked when nobody else is left
        return "circuit_open"
    return None


def _room(asked: Asked, tier: str) -> int:
    """Output that must fit beside the input: what is expected, or the caller's lower limit."""
    limit = asked.output_limit
    return EXPECTED_OUTPUT[tier] if limit is None else min(limit, EXPECTED_OUTPUT[tier])


def _score(seen: list[_Seen], policy: Policy) -> None:
    """Scores in [0, 1]: the weighted mean of quality, cheapness and quickness.

    Where evals say nothing, a model's place in the profile stands for its quality.
    """
    costs = [each.cost_pico for each in seen if each.out is None and each.cost_pico is not None]
    waits = [each.option.latency_ms for each in seen if each.option.latency_ms]
    cheapest, quickest = min(costs, default=0), min(waits, default=0.0)
    for each in seen:
        score = _score_of(each, len(seen), policy, cheapest, quickest)
        each.score = round(min(max(score, 0.0), 1.0), _SCORE_DIGITS)


def _score_of(seen: _Seen, many: int, policy: Policy, cheapest: int, quickest: float) -> float:
    option, cost = seen.option, seen.cost_pico
    quality = option.quality if option.quality is not None else 1 - seen.rank / (many + 1)
    terms = [(policy.quality_weight, quality)]
    if cost is not None:
        terms.append((policy.cost_weight, (cheapest + 1) / (cost + 1)))
    if option.latency_ms:
        terms.append((policy.latency_weight, quickest / option.latency_ms))
    weight = sum([weight for weight, _ in terms]) or 1.0
    return sum([weight * value for weight, value in terms]) / weight


def _best(accepted: Sequence[_Seen], policy: Policy) -> _Seen:
    """By score where there is evidence; else by the order that the profile declares."""
    if any(each.option.quality is not None for each in accepted):
        return min(accepted, key=lambda each: (-each.score, each.rank))
    return min(accepted, key=lambda each: each.rank)


def _settle(
    asked: Asked,
    found: Classification,
    policy: Policy,
    own: Option | None,
    seen: Sequence[_Seen],
    listed: Set[str],
) -> tuple[_Seen, str, tuple[str, ...]]:
    """(who answers, by which strategy, why): the best, unless staying is better.

    A conversation stays only on a model that is `listed` as good enough; a prompt that has become
    too hard for it moves on, whatever that costs.
    """
    accepted = [each for each in seen if each.out is None]
    best = _best(accepted, policy)
    why: tuple[str, ...] = ()
    mine = _named(seen, own.name) if own is not None else None
    may = mine is not None and mine.out in _UNPROVEN and not _forbidden(mine, policy)
    near = policy.near == "stay" and found.risk_signals.get("nearThreshold")
    if mine is not None and near and (mine.out is None or may):
        return mine, "single", ("near the threshold: stays with the model asked for",)
    if mine is not None and found.tier != "deep_reasoning":
        if mine.out == "unpriced" and may:
            return mine, "single", ("stays with the model asked for: its price is not known",)
        if mine.out is None and _dearer(best, mine):
            best, why = mine, ("stays with the model asked for: it costs less",)
    stay = asked.stay
    here = _named(accepted, stay.name) if stay is not None and stay.name in listed else None
    if here is best:
        return best, "sticky", why
    if stay is not None and here is not None and (reason := _worth_staying(stay, here, best)):
        return here, "sticky", (reason,)
    return best, "single", why


_UNPROVEN = frozenset({"unpriced", "quality_floor"})
"""What we do not know of a model. A caller who asked for it by name has decided that already."""


def _forbidden(seen: _Seen, policy: Policy) -> bool:
    """Whether a rule forbids it; all else that rules a candidate out is what we believe of it."""
    unproven = seen.out == "unpriced" and policy.constraints.max_pico is not None
    return unproven or seen.out in ("provider_denied", "privacy", "budget")


def _named(among: Sequence[_Seen], name: str) -> _Seen | None:
    return next((each for each in among if each.name == name), None)


def _dearer(one: _Seen, other: _Seen) -> bool:
    return (
        one.ahead_pico is not None
        and other.ahead_pico is not None
        and one.ahead_pico > other.ahead_pico
    )


def _worth_staying(stay: Stay, here: _Seen, best: _Seen) -> str | None:
    """Why a conversation stays where it is: leaving must save more than its cache is worth.

    The incumbent is priced with what it has cached, every other candidate with nothing cached, so
    the difference already holds what a switch throws away.
    """
    if here.ahead_pico is None or best.ahead_pico is None:
        return "stays: the saving of a switch is not known"
    if best.ahead_pico < here.ahead_pico:
        return None
    lost, turns = usd_text(best.ahead_pico - here.ahead_pico), 1 + turns_ahead(stay)
    return f"stays: a switch costs {lost} USD more in {turns} turns, with the cache it throws away"


def _nobody(
    asked: Asked, found: Classification, own: Option | None, policy: Policy, seen: list[_Seen]
) -> Plan:
    """Nobody may answer. A model that was asked for by name still may, where it is not forbidden;
    in `shadow` it does so in any case, for nothing is refused there."""
    may = _may(own, policy, seen)
    chosen = own if may or asked.mode == "shadow" else None
    full = [each for each in seen if each.out == "budget" and each.name in asked.over_cap]
    reasons = ", ".join(sorted({each.out or "" for each in seen}))
    why = [f"no candidate: {reasons}" if seen else "the profile is empty"]
    if chosen is not None:
        why.append("as asked" if may else "as asked: route would refuse it")
    elif full:  # what it holds will tell which cap is full, and what raises it
        chosen = min(full, key=_cheapest_first).option
    return Plan(
        decision=Decision(
            model_id=chosen.model if chosen else "",
            provider=chosen.provider if chosen else "",
            mode=asked.mode,
            profile=policy.profile,
            strategy="single" if asked.pinned is None else "pinned",
            rationale=(*_rationale(found), *why),
        ),
        candidates=_told(seen),
        chosen=chosen,
    )


def _may(own: Option | None, policy: Policy, seen: Sequence[_Seen]) -> bool:
    """Whether the model that was asked for by name may be used all the same."""
    mine = _named(seen, own.name) if own is not None else None
    return mine is not None and mine.out != "circuit_open" and not _forbidden(mine, policy)


def _rationale(found: Classification) -> tuple[str, ...]:
    return (found.tier, *found.risk_signals.get("advancedReasoningDetails", ()))


def _cheapest_first(each: _Seen) -> tuple[int, int]:
    return (each.cost_pico if each.cost_pico is not None else 1 << 62, each.rank)


def _told(seen: Sequence[_Seen]) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            model_id=each.option.model,
            provider=each.option.provider,
            score=each.score,
            est_cost_pico=each.cost_pico,
            reasons=each.reasons,
            filtered_out_by=each.out,
        )
        for each in seen
    )


def input_tokens(quantities: Mapping[str, int]) -> int:
    """All tokens of input in a usage, cached ones included."""
    return sum(quantities.get(bucket, 0) for bucket in INPUT_BUCKETS)
