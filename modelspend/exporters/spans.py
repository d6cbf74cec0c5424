"""A receipt as spans: one for the call, one for each step of it, one for each attempt.

Names of `gen_ai.*` are those of the OpenTelemetry GenAI conventions (status: development; read
2026-11-22), each count under exactly one of them and only on the span of the attempt that it
belongs to, so that no backend adds it twice. Money is under our own names, for the conventions have
none. Ids are made from the receipt's, so that the same receipt is always the same spans.
"""

from collections.abc import Mapping
from hashlib import sha256

from modelspend.receipt import Attempt, Receipt, Status, total_cost
from modelspend.record import record

Value = str | bool | int | float | tuple[str, ...]

INTERNAL, SERVER, CLIENT = 1, 2, 3
UNSET, ERROR = 0, 2

_OPERATIONS = {
    "openai.embeddings": "embeddings",
    "gemini.generate": "generate_content",
    "anthropic.count_tokens": "count_tokens",
}
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
_INPUT = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "input_audio_tokens",
    "cached_audio_tokens",
    "input_image_tokens",
)
_OUTPUT = ("output_tokens", "output_audio_tokens", "output_image_tokens")
_WELL = (Status.SUCCESS, Status.CACHED)


@record
class Span:
    """`trace_id` and `span_id` are lower-case hex; times nanoseconds UTC."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status: int
    attrs: Mapping[str, Value]


def spans_of(receipt: Receipt, content: Mapping[str, str] | None = None) -> list[Span]:
    """The call first, then its steps in order. `content` is prompts and answers by the names of
    their attributes, for whoever has opted in."""
    trace_id = receipt.trace_id or sha256(receipt.receipt_id.encode()).hexdigest()[:32]
    root = receipt.span_id or _child_id(receipt, "call")
    start_ns = receipt.created_at_ms * 1_000_000
    end_ns = start_ns + round(receipt.execution.actual_latency_ms * 1_000_000)
    failed = receipt.execution.status not in _WELL
    call = Span(
        trace_id=trace_id,
        span_id=root,
        parent_id=receipt.parent_span_id,
        name=f"modelspend {operation_of(receipt)}",
        kind=SERVER,
        start_ns=start_ns,
        end_ns=end_ns,
        status=ERROR if failed else UNSET,
        attrs=_kept({**_of_call(receipt), **(content or {})}),
    )
    return [call, *_steps(receipt, trace_id, root, start_ns, end_ns)]


def operation_of(receipt: Receipt) -> str:
    """`gen_ai.operation.name` of its route."""
    return _OPERATIONS.get(receipt.request.dialect, "chat")


def _child_id(receipt: Receipt, step: str) -> str:
    return sha256(f"{receipt.receipt_id}\0{step}".encode()).hexdigest()[:16]


def _kept(attrs: Mapping[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in attrs.items() if value is not None}


def _of_call(receipt: Receipt) -> dict[str, Value | None]:
    done, decision, found = receipt.execution, receipt.decision, receipt.classification
    cost_pico, savings = done.actual_cost_pico, receipt.savings
    return {
        "modelspend.receipt_id": receipt.receipt_id,
        "modelspend.tenant": receipt.tenant,
        "modelspend.workflow": receipt.workflow,
        "modelspend.session_id": receipt.session_id,
        "modelspend.replay_of": receipt.replay_of,
        "modelspend.model_asked": receipt.request.model,
        "modelspend.status": str(done.status),
        "modelspend.attempts": len(receipt.attempts),
        "modelspend.cost.total_usd": None if cost_pico is None else cost_pico / 10**12,
        "modelspend.cost.total_pico_usd": cost_pico,
        "modelspend.cost.exact": total_cost(receipt.attempts).exact if receipt.attempts else None,
        "modelspend.savings.routing_pico_usd": (
            savings.by_mechanism.get("routing") if savings else None
        ),
        "modelspend.overhead_ms": done.overhead_ms,
        "modelspend.category": found.category if found else None,
        "modelspend.tier": found.tier if found else None,
        "modelspend.mode": decision.mode if decision else None,
        "error.type": None if done.status in _WELL else _why(receipt),
        **{f"modelspend.tag.{name}": value for name, value in receipt.tags.items()},
    }


def _why(receipt: Receipt) -> str:
    last = receipt.attempts[-1].failure_class if receipt.attempts else None
    return str(last or receipt.execution.status)


def _steps(receipt: Receipt, trace_id: str, root: str, start_ns: int, end_ns: int) -> list[Span]:
    """What is measured is told exactly; a step that is not lies in the time between what is."""
    attempts = receipt.attempts
    sent_ns = attempts[0].started_at_ms * 1_000_000 if attempts else end_ns
    last_ns = max((_end_ns(one) for one in attempts), default=end_ns)
    between = {"modelspend.step.bounds": "window"}

    def step(name: str, start: int, end: int, attrs: Mapping[str, Value | None]) -> Span:
        return Span(
            trace_id=trace_id,
            span_id=_child_id(receipt, name),
            parent_id=root,
            name=name,
            kind=INTERNAL,
            start_ns=start,
            end_ns=max(start, end),
            status=UNSET,
            attrs=_kept({**between, **attrs}),
        )

    steps = []
    if (found := receipt.classification) is not None:
        steps.append(step("classify", start_ns, sent_ns, {
            "modelspend.category": found.category,
            "modelspend.tier": found.tier,
            "modelspend.confidence": found.confidence,
            "modelspend.complexity": found.complexity,
        }))  # fmt: skip
    if (plan := receipt.decision) is not None:
        steps.append(step("route", start_ns, sent_ns, {
            "modelspend.decision.model": plan.model_id,
            "modelspend.decision.provider": plan.provider,
            "modelspend.decision.strategy": plan.strategy,
            "modelspend.decision.applied": plan.applied,
            "modelspend.decision.candidates": len(receipt.candidates),
        }))  # fmt: skip
    charged = {"modelspend.charged_pico_usd": receipt.execution.charged_pico}
    if attempts:
        steps.append(step("hold", start_ns, sent_ns, {}))
    steps += [_attempt(receipt, one, trace_id, root) for one in attempts]
    steps.append(step("settle", min(last_ns, end_ns), end_ns, charged))
    return steps


def _end_ns(one: Attempt) -> int:
    return one.started_at_ms * 1_000_000 + round(one.latency_ms * 1_000_000)


def _attempt(receipt: Receipt, one: Attempt, trace_id: str, root: str) -> Span:
    operation, failed = operation_of(receipt), one.status is not Status.SUCCESS
    cost_pico = one.cost.total_pico
    attrs: dict[str, Value | None] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": _PROVIDERS.get(one.provider, one.provider),
        "gen_ai.request.model": one.model_id,
        "gen_ai.response.model": None if failed else one.model_id,
        "gen_ai.request.stream": receipt.request.stream or None,
        "gen_ai.conversation.id": receipt.session_id,
        "gen_ai.response.finish_reasons": (one.finish_reason,) if one.finish_reason else None,
        "gen_ai.response.time_to_first_chunk": (
            None if one.ttft_ms is None else one.ttft_ms / 1000
        ),
        "error.type": str(one.failure_class or one.status) if failed else None,
        "http.response.status_code": one.http_status,
        "modelspend.attempt": one.n,
        "modelspend.provider": one.provider,
        "modelspend.region": one.region,
        "modelspend.upstream_request_id": one.upstream_request_id,
        "modelspend.cost.usd": None if cost_pico is None else cost_pico / 10**12,
        "modelspend.cost.pico_usd": cost_pico,
        **_usage(one),
    }
    return Span(
        trace_id=trace_id,
        span_id=_child_id(receipt, f"attempt {one.n}"),
        parent_id=root,
        name=f"{operation} {one.model_id}",
        kind=CLIENT,
        start_ns=one.started_at_ms * 1_000_000,
        end_ns=_end_ns(one),
        status=ERROR if failed else UNSET,
        attrs=_kept(attrs),
    )


def _usage(one: Attempt) -> dict[str, Value | None]:
    """Our buckets are disjoint; the conventions' `input_tokens` holds the cached ones, too."""
    if one.usage.source == "none":
        return {}
    used = one.usage.quantities
    written = used.get("cache_write_5m_tokens", 0) + used.get("cache_write_1h_tokens", 0)
    return {
        "gen_ai.usage.input_tokens": sum(used.get(bucket, 0) for bucket in _INPUT),
        "gen_ai.usage.output_tokens": sum(used.get(bucket, 0) for bucket in _OUTPUT),
        "gen_ai.usage.cache_read.input_tokens": used.get("cache_read_tokens") or None,
        "gen_ai.usage.cache_creation.input_tokens": written or None,
        "gen_ai.usage.reasoning.output_tokens": one.usage.reasoning_tokens or None,
    }
