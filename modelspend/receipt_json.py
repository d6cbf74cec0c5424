"""A receipt's exact JSON: the documented shape, the canonical bytes that are hashed, and back.

Money is pico-dollars in the dataclasses and exact decimal dollars here. `body_kept` and `seq` are
added when a receipt is read: they are outside the hashed bytes.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson

from modelspend.money import (
    BUCKETS,
    NO_COST,
    Cost,
    CostLine,
    CostSource,
    dumps,
    from_usd,
    usd,
    usd_text,
)
from modelspend.receipt import (
    NO_USAGE,
    SCHEMA_VERSION,
    Attempt,
    Candidate,
    Classification,
    Decision,
    Delivery,
    Execution,
    FailureClass,
    Receipt,
    RequestInfo,
    Rewriting,
    Savings,
    Status,
    Usage,
    total_cost,
)


def to_json(receipt: Receipt) -> dict[str, Any]:
    """The documented JSON shape; money as `Decimal` dollars (write it with `money.dumps`)."""
    return _shape(receipt, _usd)


def _shape(receipt: Receipt, money: "Money") -> dict[str, Any]:
    attempts = [_attempt_json(attempt, money) for attempt in receipt.attempts]
    return {
        "receipt_id": receipt.receipt_id,
        "schema_version": SCHEMA_VERSION,
        "created_at": iso(receipt.created_at_ms),
        "tenant": receipt.tenant,
        "workflow": receipt.workflow,
        "session_id": receipt.session_id,
        "session_source": receipt.session_source,
        "key_id": receipt.key_id,
        "tags": dict(receipt.tags),
        "trace_id": receipt.trace_id,
        "span_id": receipt.span_id,
        "parent_span_id": receipt.parent_span_id,
        "replay_of": receipt.replay_of,
        "request": _request_json(receipt.request),
        "classification": _classification_json(receipt.classification),
        "candidates": [_candidate_json(candidate, money) for candidate in receipt.candidates],
        "decision": _decision_json(receipt.decision),
        "attempts": attempts,
        "usage": attempts[-1]["usage"] if attempts else _usage_json(NO_USAGE),
        "cost": _total_json(receipt.attempts, attempts, money),
        "savings": _savings_json(receipt.savings, money),
        "execution": {
            "actual_cost_usd": money(receipt.execution.actual_cost_pico),
            "charged_usd": money(receipt.execution.charged_pico),
            "actual_latency_ms": receipt.execution.actual_latency_ms,
            "ttft_ms": receipt.execution.ttft_ms,
            "overhead_ms": receipt.execution.overhead_ms,
            "status": receipt.execution.status,
            "http_status": receipt.execution.http_status,
            "error": receipt.execution.error,
        },
    }


def canonical(receipt: Receipt) -> bytes:
    """The bytes that are hashed and kept: the documented JSON without `usage` and `cost`, which
    repeat what the attempts say; keys sorted, without white space."""
    shape = _shape(receipt, _digits)
    del shape["usage"], shape["cost"]
    return dumps(shape, sort=True)


def explanation(
    receipt_id: str,
    found: Classification | None,
    decision: Decision,
    candidates: Iterable[Candidate],
) -> dict[str, Any]:
    """Why a call was answered from where it was, as clients may ask for it in the answer."""
    return {
        "receipt_id": receipt_id,
        "classification": _classification_json(found),
        "candidates": [_candidate_json(candidate, _usd) for candidate in candidates],
        "decision": _decision_json(decision),
    }


def iso(ms: int) -> str:
    """Milliseconds UTC as ISO 8601 with a `Z`."""
    second, part = divmod(ms, 1000)
    return f"{_iso_second(second)}.{part:03d}Z"


@lru_cache(maxsize=256)
def _iso_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def from_iso(text: str) -> int:
    """Milliseconds UTC of an ISO 8601 instant. Raises ValueError."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


Money = Callable[[int | None], Any]


def _usd(pico: int | None) -> Decimal | None:
    return None if pico is None else usd(pico)


def _digits(pico: int | None) -> orjson.Fragment | None:
    """What `dumps` makes of `_usd`, without the detour: every call's receipt is hashed once."""
    return None if pico is None else orjson.Fragment(usd_text(pico))


def _request_json(request: RequestInfo) -> dict[str, Any]:
    return {
        "dialect": request.dialect,
        "path": request.path,
        "model": request.model,
        "stream": request.stream,
        "sha256": request.sha256,
        "size": request.size,
        "answer_sha256": request.answer_sha256,
        "answer_size": request.answer_size,
        "splices": list(request.splices),
        "translated_to": request.translated_to,
        "dropped": list(request.dropped),
        "added": list(request.added),
        "headers": list(request.headers),
    }


def _classification_json(found: Classification | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "category": found.category,
        "confidence": found.confidence,
        "complexity": found.complexity,
        "tier": found.tier,
        "risk_signals": dict(found.risk_signals),
    }


def _candidate_json(candidate: Candidate, money: Money) -> dict[str, Any]:
    return {
        "model_id": candidate.model_id,
        "provider": candidate.provider,
        "score": candidate.score,
        "est_cost_usd": money(candidate.est_cost_pico),
        "reasons": list(candidate.reasons),
        "filtered_out_by": candidate.filtered_out_by,
    }


def _decision_json(decision: Decision | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    return {
        "model_id": decision.model_id,
        "provider": decision.provider,
        "mode": decision.mode,
        "profile": decision.profile,
        "strategy": decision.strategy,
        "applied": decision.applied,
        "fallback_chain": list(decision.fallback_chain),
        "prompt_rewritten": decision.prompt_rewritten,
        "rewriting": _rewriting_json(decision.rewriting),
        "rationale": list(decision.rationale),
        "inputs": decision.inputs,
    }


def _rewriting_json(done: Rewriting | None) -> dict[str, Any] | None:
    if done is None:
        return None
    return {
        "steps": list(done.steps),
        "tokens_before": done.tokens_before,
        "tokens_after": done.tokens_after,
    }


def _attempt_json(attempt: Attempt, money: Money) -> dict[str, Any]:
    return {
        "n": attempt.n,
        "provider": attempt.provider,
        "region": attempt.region,
        "model_id": attempt.model_id,
        "started_at": iso(attempt.started_at_ms),
        "status": attempt.status,
        "delivery": attempt.delivery,
        "http_status": attempt.http_status,
        "failure_class": attempt.failure_class,
        "latency_ms": attempt.latency_ms,
        "ttft_ms": attempt.ttft_ms,
        "upstream_request_id": attempt.upstream_request_id,
        "service_tier": attempt.service_tier,
        "finish_reason": attempt.finish_reason,
        "usage": _usage_json(attempt.usage),
        "raw_usage": attempt.usage.raw,
        "cost": cost_json(attempt.cost, money),
        "cost_usd": money(attempt.cost.total_pico),
        "charged_usd": money(attempt.charged_pico),
        **({} if attempt.drill is None else {"drill": attempt.drill}),
    }


def _usage_json(usage: Usage) -> dict[str, Any]:
    named = {
        "input_tokens": 0,
        "cache_read_tokens": 0,
        "cache_write_5m_tokens": 0,
        "cache_write_1h_tokens": 0,
        "output_tokens": 0,
    }
    used = {bucket: usage.quantities[bucket] for bucket in BUCKETS if usage.quantities.get(bucket)}
    return {
        **named,
        **used,
        "reasoning_tokens": usage.reasoning_tokens,
        "source": usage.source,
        "error_ratio": usage.error_ratio,
        "problems": list(usage.problems),
    }


def cost_json(cost: Cost, money: Money = _usd) -> dict[str, Any]:
    """`{"source", "price_id", "exact", "inexact", "reported_usd", "lines"}`."""
    return {
        "source": cost.source,
        "price_id": cost.price_id,
        "exact": cost.exact,
        "inexact": list(cost.inexact),
        "reported_usd": money(cost.reported_pico),
        "lines": [line_json(line, money) for line in cost.lines],
    }


def line_json(line: CostLine, money: Money = _usd) -> dict[str, Any]:
    return {
        "bucket": line.bucket,
        "quantity": line.quantity,
        "unit_price_usd": money(line.unit_pico),
        "cost_usd": money(line.cost_pico),
        "price_id": line.price_id,
    }


def _total_json(
    attempts: tuple[Attempt, ...], shapes: list[dict[str, Any]], money: Money
) -> dict[str, Any]:
    """The receipt's cost: the one attempt's own, or every attempt's lines one after the other."""
    if not attempts:
        return cost_json(NO_COST)
    if len(attempts) == 1:
        shared: dict[str, Any] = shapes[0]["cost"]
        return shared
    return cost_json(total_cost(attempts), money)


def _savings_json(savings: Savings | None, money: Money) -> dict[str, Any] | None:
    if savings is None:
        return None
    return {
        "baseline_model": savings.baseline_model,
        "baseline_cost_usd": money(savings.baseline_cost_pico),
        **({"baseline_price_id": savings.baseline_price_id} if savings.baseline_price_id else {}),
        **{f"{name}_usd": money(pico) for name, pico in savings.by_mechanism.items()},
    }


def from_json(shape: Mapping[str, Any]) -> Receipt:
    """The receipt that `to_json` wrote. Money must be `Decimal`, int or exact text.

    Raises KeyError or ValueError when the shape is not a receipt's.
    """
    request, run = shape["request"], shape["execution"]
    return Receipt(
        receipt_id=shape["receipt_id"],
        created_at_ms=from_iso(shape["created_at"]),
        tenant=shape["tenant"],
        workflow=shape["workflow"],
        session_id=shape["session_id"],
        session_source=shape["session_source"],
        key_id=shape["key_id"],
        tags=shape["tags"],
        trace_id=shape["trace_id"],
        span_id=shape["span_id"],
        parent_span_id=shape.get("parent_span_id"),
        replay_of=shape["replay_of"],
        request=RequestInfo(
            dialect=request["dialect"],
            path=request["path"],
            model=request["model"],
            stream=request["stream"],
            sha256=request["sha256"],
            size=request["size"],
            answer_sha256=request["answer_sha256"],
            answer_size=request["answer_size"],
            splices=tuple(request["splices"]),
            translated_to=request.get("translated_to"),
            dropped=tuple(request.get("dropped", ())),
            added=tuple(request.get("added", ())),
            headers=tuple(request.get("headers", ())),
        ),
        classification=_classification_from(shape["classification"]),
        candidates=tuple(_candidate_from(candidate) for candidate in shape["candidates"]),
        decision=_decision_from(shape["decision"]),
        attempts=tuple(_attempt_from(attempt) for attempt in shape["attempts"]),
        savings=_savings_from(shape["savings"]),
        execution=Execution(
            status=Status(run["status"]),
            actual_cost_pico=_pico(run["actual_cost_usd"]),
            charged_pico=from_usd(run["charged_usd"]),
            actual_latency_ms=float(run["actual_latency_ms"]),
            ttft_ms=_float(run["ttft_ms"]),
            overhead_ms=float(run["overhead_ms"]),
            http_status=run["http_status"],
            error=run["error"],
        ),
    )


def _pico(amount: Any) -> int | None:
    return None if amount is None else from_usd(amount)


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _classification_from(shape: Mapping[str, Any] | None) -> Classification | None:
    if shape is None:
        return None
    return Classification(
        category=shape["category"],
        confidence=float(shape["confidence"]),
        complexity=float(shape["complexity"]),
        tier=shape["tier"],
        risk_signals=shape["risk_signals"],
    )


def _candidate_from(shape: Mapping[str, Any]) -> Candidate:
    return Candidate(
        model_id=shape["model_id"],
        provider=shape["provider"],
        score=_float(shape["score"]),
        est_cost_pico=_pico(shape["est_cost_usd"]),
        reasons=tuple(shape["reasons"]),
        filtered_out_by=shape["filtered_out_by"],
    )


def _decision_from(shape: Mapping[str, Any] | None) -> Decision | None:
    if shape is None:
        return None
    return Decision(
        model_id=shape["model_id"],
        provider=shape["provider"],
        mode=shape["mode"],
        profile=shape["profile"],
        strategy=shape["strategy"],
        applied=shape["applied"],
        fallback_chain=tuple(shape["fallback_chain"]),
        prompt_rewritten=shape["prompt_rewritten"],
        rewriting=_rewriting_from(shape.get("rewriting")),
        rationale=tuple(shape["rationale"]),
        inputs=shape.get("inputs"),
    )


def _rewriting_from(shape: Mapping[str, Any] | None) -> Rewriting | None:
    if shape is None:
        return None
    return Rewriting(
        steps=tuple(shape["steps"]),
        tokens_before=shape["tokens_before"],
        tokens_after=shape["tokens_after"],
    )


def _attempt_from(shape: Mapping[str, Any]) -> Attempt:
    return Attempt(
        n=shape["n"],
        provider=shape["provider"],
        region=shape["region"],
        model_id=shape["model_id"],
        started_at_ms=from_iso(shape["started_at"]),
        status=Status(shape["status"]),
        delivery=Delivery(shape["delivery"]),
        http_status=shape["http_status"],
        failure_class=FailureClass(shape["failure_class"]) if shape["failure_class"] else None,
        latency_ms=float(shape["latency_ms"]),
        ttft_ms=_float(shape["ttft_ms"]),
        upstream_request_id=shape["upstream_request_id"],
        service_tier=shape["service_tier"],
        finish_reason=shape["finish_reason"],
        usage=_usage_from(shape["usage"], shape["raw_usage"]),
        cost=_cost_from(shape["cost"], shape["cost_usd"]),
        charged_pico=from_usd(shape["charged_usd"]),
        drill=shape.get("drill"),
    )


def _usage_from(shape: Mapping[str, Any], raw: Mapping[str, Any] | None) -> Usage:
    return Usage(
        quantities={bucket: shape[bucket] for bucket in BUCKETS if shape.get(bucket)},
        reasoning_tokens=shape["reasoning_tokens"],
        source=shape["source"],
        raw=raw,
        error_ratio=_float(shape["error_ratio"]),
        problems=tuple(shape["problems"]),
    )


def _cost_from(shape: Mapping[str, Any], total: Any) -> Cost:
    source: CostSource = shape["source"]
    return Cost(
        lines=tuple(
            CostLine(
                line["bucket"],
                line["quantity"],
                _pico(line["unit_price_usd"]),
                _pico(line["cost_usd"]),
                line["price_id"],
            )
            for line in shape["lines"]
        ),
        total_pico=_pico(total),
        source=source,
        price_id=shape["price_id"],
        inexact=tuple(shape["inexact"]),
        reported_pico=_pico(shape["reported_usd"]),
    )


def _savings_from(shape: Mapping[str, Any] | None) -> Savings | None:
    if shape is None:
        return None
    fixed = {"baseline_model", "baseline_cost_usd", "baseline_price_id"}
    return Savings(
        baseline_model=shape["baseline_model"],
        baseline_cost_pico=_pico(shape["baseline_cost_usd"]),
        baseline_price_id=shape.get("baseline_price_id"),
        by_mechanism={
            key.removesuffix("_usd"): _signed_pico(value)
            for key, value in shape.items()
            if key not in fixed
        },
    )


def _signed_pico(amount: Any) -> int:
    exact = Decimal(amount)
    return -from_usd(-exact) if exact < 0 else from_usd(exact)
