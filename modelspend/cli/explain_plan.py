"""The part of `explain` that says why a call went where it went, from what its receipt holds."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelspend.receipt import Candidate, Classification, Decision, Receipt, RequestInfo


def carried(asked: "RequestInfo") -> Iterator[str]:
    """How the client's request went to the provider."""
    if asked.headers:
        yield f"Asked with {'; '.join(asked.headers)}"
    if asked.translated_to is None:
        done = ", ".join(asked.splices) or "nothing: the bytes are the client's own"
        yield f"Changed    {done}"
        return
    yield f"Translated from {asked.dialect} to {asked.translated_to}"
    if asked.dropped:
        yield f"             left out: {', '.join(asked.dropped)}"
    if asked.added:
        yield f"             put in: {', '.join(asked.added)}"


def planned(receipt: "Receipt") -> Iterator[str]:
    """What the prompt was taken for, the decision, and everybody who could have answered."""
    if receipt.classification is not None:
        yield from _sorted_into(receipt.classification)
    if receipt.decision is not None:
        yield from _decided(receipt.decision)
    yield from (_candidate(n, each) for n, each in enumerate(receipt.candidates, 1))


def _sorted_into(found: "Classification") -> Iterator[str]:
    yield (
        f"Taken for  {found.category}, {found.tier}; complexity {found.complexity:.2f},"
        f" confidence {found.confidence:.2f}"
    )
    signals = found.risk_signals.get("advancedReasoningDetails", ())
    if signals:
        yield f"             signals (score {found.risk_signals['score']}): {', '.join(signals)}"
    if found.risk_signals.get("nearThreshold"):
        yield "             close to the threshold: one word more or less could change it"


def _decided(plan: "Decision") -> Iterator[str]:
    applied = "applied" if plan.applied else "carried as asked"
    profile = f", profile {plan.profile}" if plan.profile else ""
    yield (
        f"Plan       {plan.provider}/{plan.model_id}, {plan.strategy}, {plan.mode}{profile}:"
        f" {applied}"
    )
    yield from (f"             {reason}" for reason in plan.rationale)
    if plan.rewriting is not None:
        done = plan.rewriting
        yield (
            f"             prompt made shorter ({', '.join(done.steps)}): about"
            f" {done.tokens_before} tokens to {done.tokens_after}"
        )


def _candidate(n: int, each: "Candidate") -> str:
    from modelspend.money import usd_text

    cost = (
        "price not known" if each.est_cost_pico is None else f"{usd_text(each.est_cost_pico)} USD"
    )
    if each.filtered_out_by:
        remark = f"ruled out: {each.filtered_out_by}"
    else:
        remark = f"score {each.score:.3f}" if each.score is not None else ""
    reasons = f" ({', '.join(each.reasons)})" if each.reasons else ""
    return f"  {n:>2}. {each.provider}/{each.model_id}: about {cost}, {remark}{reasons}"
