"""A ledger under another policy, added up: what changes, what it costs, which changes are risky.

Each call comes as a `Redecided`; nothing of it is kept but sums and the riskiest few, so a million
of them need no more room than a thousand. Costs that are not known are counted and never added;
the difference is made of calls whose cost is known on both sides, so that a call without a price
is no saving.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from modelspend.money import usd_text
from modelspend.receipt import Classification
from modelspend.record import record
from modelspend.routing import EXPECTED_OUTPUT, TIERS

RISKIEST = 20
LONG_OUTPUT = EXPECTED_OUTPUT["deep_reasoning"]
COMPLEX = 0.6
UNSURE = 0.8
"""Calls that go to less of a model are risky from this much complexity on, below this confidence,
or when they were answered at such length."""

Ended = Literal["same", "moved", "refused", "not_decided"]
"""`same` model, `moved` to another, `refused` because nobody may answer, or left as it was because
the decision cannot be made again."""


@record
class Redecided:
    """One call, as it was and as the policy would have it.

    `before` and `after` are `provider/model`, "" for nobody. `step` is -1 when the new model stands
    in a lower tier of the profile than the old one, 1 for a higher one, null when one of them
    stands in none. `exact` is false where the new cost is known to lack something.
    """

    receipt_id: str
    ended: Ended
    before: str
    after: str
    ledger_pico: int | None
    policy_pico: int | None
    tier_before: str | None = None
    found: Classification | None = None
    why: str = ""
    step: int | None = None
    output_tokens: int = 0
    calls_tools: bool = False
    exact: bool = True


@dataclass(slots=True)
class Sums:
    """Calls and their known cost; `unpriced` of them add nothing to it."""

    calls: int = 0
    unpriced: int = 0
    pico: int = 0

    def add(self, pico: int | None) -> None:
        self.calls += 1
        if pico is None:
            self.unpriced += 1
        else:
            self.pico += pico


@dataclass(slots=True)
class Both:
    """The same calls in the ledger and under the policy; `moved` of them change their model."""

    ledger: Sums = field(default_factory=Sums)
    policy: Sums = field(default_factory=Sums)
    moved: int = 0


@record
class Risk:
    """A call that would go to less of a model, and why that may be felt.

    `score` is its complexity, what its confidence lacks of 1, and half a point for each reason.
    """

    score: float
    reasons: tuple[str, ...]
    call: Redecided


@dataclass(slots=True)
class Tally:
    """Everything a back-test tells."""

    total: Both = field(default_factory=Both)
    compared: Both = field(default_factory=Both)
    models: dict[str, Both] = field(default_factory=dict)
    tiers: dict[str, Both] = field(default_factory=dict)
    ended: dict[Ended, int] = field(default_factory=lambda: dict.fromkeys(_ENDED, 0))
    steps: dict[int | None, int] = field(default_factory=lambda: {-1: 0, 1: 0, 0: 0, None: 0})
    retiered: int = 0
    newly_unpriced: int = 0
    newly_unpriced_pico: int = 0
    inexact: int = 0
    risky: int = 0
    refused: dict[str, Sums] = field(default_factory=dict)
    not_decided: dict[str, Sums] = field(default_factory=dict)
    _risks: list[tuple[float, int, Risk]] = field(default_factory=list)

    @property
    def calls(self) -> int:
        return self.total.ledger.calls

    @property
    def difference_pico(self) -> int:
        """What the policy costs more, of calls whose cost is known on both sides."""
        return self.compared.policy.pico - self.compared.ledger.pico

    @property
    def riskiest(self) -> list[Risk]:
        """The riskiest first."""
        return [risk for _, _, risk in sorted(self._risks, key=lambda each: (-each[0], -each[1]))]

    def add(self, one: Redecided) -> None:
        self.ended[one.ended] += 1
        self._cost(one)
        if one.ended == "moved":
            self.steps[one.step] += 1
            self.inexact += not one.exact
        tier = one.found.tier if one.found else None
        self.retiered += None not in (tier, one.tier_before) and tier != one.tier_before
        if one.ended == "refused":
            self.refused.setdefault(one.why, Sums()).add(one.ledger_pico)
        if one.ended == "not_decided":
            self.not_decided.setdefault(one.why, Sums()).add(one.ledger_pico)
        if (risk := risk_of(one)) is not None:
            self.risky += 1
            self._keep(risk)

    def _cost(self, one: Redecided) -> None:
        ledger, policy = one.ledger_pico, one.policy_pico
        tier = one.found.tier if one.found else one.tier_before
        moved = one.before != one.after
        for both in (self.total, self.tiers.setdefault(tier or UNCLASSIFIED, Both())):
            both.ledger.add(ledger)
            both.policy.add(policy)
            both.moved += moved
        for name, side in ((one.before, "ledger"), (one.after, "policy")):
            sums: Sums = getattr(self.models.setdefault(name or NOBODY, Both()), side)
            sums.add(ledger if side == "ledger" else policy)
        if ledger is not None and policy is not None:
            self.compared.ledger.add(ledger)
            self.compared.policy.add(policy)
            self.compared.moved += moved
        elif ledger is not None:
            self.newly_unpriced += 1
            self.newly_unpriced_pico += ledger

    def _keep(self, risk: Risk) -> None:
        item = (risk.score, -self.calls, risk)  # of two that are as risky the earlier one stays
        if len(self._risks) < RISKIEST:
            heapq.heappush(self._risks, item)
        else:
            heapq.heappushpop(self._risks, item)


_ENDED: tuple[Ended, ...] = ("same", "moved", "refused", "not_decided")
NOBODY = "(nobody)"
UNCLASSIFIED = "(unclassified)"


def tiers_in_order(tally: Tally) -> list[tuple[str, Both]]:
    """The tiers that occur, the lowest first."""
    order: dict[str, int] = {tier: n for n, tier in enumerate(TIERS)}
    return sorted(tally.tiers.items(), key=lambda each: (order.get(each[0], 9), each[0]))


def models_in_order(tally: Tally) -> list[tuple[str, Both]]:
    """The models that occur, the dearest of either side first."""
    return sorted(
        tally.models.items(),
        key=lambda each: (-max(each[1].ledger.pico, each[1].policy.pico), each[0]),
    )


def risk_of(one: Redecided) -> Risk | None:
    """Why a call that goes to less of a model may suffer; null when nothing speaks for that."""
    if one.ended != "moved" or not _less(one) or one.found is None:
        return None
    found = one.found
    reasons = []
    if found.risk_signals.get("hasAdvancedReasoningSignals"):
        names = found.risk_signals.get("advancedReasoningDetails") or ()
        reasons.append("advanced: " + ", ".join(map(str, names)))
    if found.complexity >= COMPLEX:
        reasons.append(f"complexity {found.complexity:.2f}")
    if found.confidence < UNSURE:
        reasons.append(f"confidence {found.confidence:.2f}")
    if one.output_tokens >= LONG_OUTPUT:
        reasons.append(f"{one.output_tokens} tokens of output")
    if one.calls_tools:
        reasons.append("calls tools")
    if not reasons:
        return None
    score = found.complexity + (1 - found.confidence) + 0.5 * len(reasons)
    return Risk(score=round(score, 4), reasons=tuple(reasons), call=one)


def _less(one: Redecided) -> bool:
    """Whether the new model is less than the old one: by its tier, or else by what it takes."""
    if one.step is not None and one.step != 0:
        return one.step < 0
    ledger, policy = one.ledger_pico, one.policy_pico
    return ledger is not None and policy is not None and policy < ledger


def percent(part: int, whole: int) -> Decimal | None:
    """A share in per cent with two digits, half away from zero; null of nothing."""
    if not whole:
        return None
    hundredths, rest = divmod(abs(part) * 10_000, abs(whole))
    hundredths += 2 * rest >= abs(whole)
    sign = "-" if hundredths and (part < 0) != (whole < 0) else ""
    return Decimal(f"{sign}{hundredths // 100}.{hundredths % 100:02d}")


def signed(share: Decimal | None, *, plus: bool = True) -> str:
    """A share as it is told: `+5.00 %`."""
    if share is None:
        return "of nothing"
    return f"{'+' if plus and share > 0 else ''}{share} %"


def dollars(pico: int) -> str:
    """A difference in dollars with its sign."""
    return f"{'+' if pico > 0 else ''}{usd_text(pico)}"


def advice(tally: Tally) -> str | None:
    """One sentence that follows from the figures; null where none does."""
    moved, refused = tally.ended["moved"], tally.ended["refused"]
    if not tally.calls or refused or tally.newly_unpriced or not (moved or tally.difference_pico):
        return None
    difference = tally.difference_pico
    share = signed(percent(difference, tally.compared.ledger.pico))
    if difference > 0:
        return f"The policy costs {dollars(difference)} USD more ({share}) on these calls."
    if difference == 0:
        return None
    saved = f"The policy saves {usd_text(-difference)} USD ({share}) on these calls"
    if tally.risky:
        return f"{saved}; look at the {tally.risky} risky ones before you take it."
    return f"{saved}, and none of those that it moves is risky."


def to_json(tally: Tally) -> dict[str, Any]:
    """Every figure; money as exact decimals."""
    compared = tally.compared
    return {
        "calls": tally.calls,
        "ledger": _sums(tally.total.ledger),
        "policy": _sums(tally.total.policy),
        "compared": {
            "calls": compared.ledger.calls,
            "ledger_usd": _usd(compared.ledger.pico),
            "policy_usd": _usd(compared.policy.pico),
            "difference_usd": _usd(tally.difference_pico),
            "difference_pct": percent(tally.difference_pico, compared.ledger.pico),
        },
        "newly_unpriced": {
            "calls": tally.newly_unpriced,
            "ledger_usd": _usd(tally.newly_unpriced_pico),
        },
        "same": tally.ended["same"],
        "moved": {
            "calls": tally.ended["moved"],
            "pct": percent(tally.ended["moved"], tally.calls),
            "to_lower_tier": tally.steps[-1],
            "to_higher_tier": tally.steps[1],
            "within_tier": tally.steps[0],
            "tier_unknown": tally.steps[None],
            "inexact": tally.inexact,
        },
        "retiered": tally.retiered,
        "refused": _reasons(tally.refused),
        "not_decided": _reasons(tally.not_decided),
        "models": [
            {
                "model": name,
                "ledger": _sums(both.ledger),
                "policy": _sums(both.policy),
            }
            for name, both in models_in_order(tally)
        ],
        "tiers": [
            {
                "tier": name,
                "moved": both.moved,
                "ledger": _sums(both.ledger),
                "policy": _sums(both.policy),
            }
            for name, both in tiers_in_order(tally)
        ],
        "risky": tally.risky,
        "riskiest": [_risk(each) for each in tally.riskiest],
        "recommendation": advice(tally),
    }


def _usd(pico: int) -> Decimal:
    return Decimal(usd_text(pico))


def _sums(sums: Sums) -> dict[str, Any]:
    return {"calls": sums.calls, "unpriced": sums.unpriced, "cost_usd": _usd(sums.pico)}


def _reasons(found: Mapping[str, Sums]) -> list[dict[str, Any]]:
    return [
        {"reason": why, "calls": sums.calls, "unpriced": sums.unpriced,
         "ledger_usd": _usd(sums.pico)}
        for why, sums in sorted(found.items(), key=lambda each: (-each[1].calls, each[0]))
    ]  # fmt: skip


def _risk(risk: Risk) -> dict[str, Any]:
    call, found = risk.call, risk.call.found
    assert found is not None
    return {
        "receipt_id": call.receipt_id,
        "from": call.before,
        "to": call.after,
        "tier": found.tier,
        "complexity": found.complexity,
        "confidence": found.confidence,
        "output_tokens": call.output_tokens,
        "ledger_usd": None if call.ledger_pico is None else _usd(call.ledger_pico),
        "policy_usd": None if call.policy_pico is None else _usd(call.policy_pico),
        "score": risk.score,
        "reasons": list(risk.reasons),
    }
