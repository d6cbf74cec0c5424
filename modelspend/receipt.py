"""The receipt: the one record of one client call.

These are the shapes in memory, and nothing else; `receipt_json` says them as JSON. Money is
pico-dollars, times are milliseconds UTC, durations milliseconds.
"""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any, Literal

from modelspend.money import (
    NO_COST,
    Cost,
)
from modelspend.record import record

SCHEMA_VERSION = 1


class Status(StrEnum):
    """How a call ended, as the client saw it."""

    SUCCESS = "success"
    ERROR = "error"
    TRUNCATED = "truncated"
    CLIENT_DISCONNECT = "client_disconnect"
    REFUSED = "refused"
    BUDGET_STOPPED = "budget_stopped"
    INTERRUPTED = "interrupted"
    CACHED = "cached"


class FailureClass(StrEnum):
    """Why an attempt failed. `client_error` is the caller's own fault and no sign of ill health."""

    CLIENT_ERROR = "client_error"
    AUTH = "auth"
    RATE_LIMIT = "rate_limit"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    CONNECT = "connect"
    CONNECT_TIMEOUT = "connect_timeout"
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    DISCONNECTED = "disconnected"
    TRUNCATED = "truncated"
    ERROR_IN_STREAM = "error_in_stream"
    PROTOCOL = "protocol"
    CLIENT_GONE = "client_gone"
    CLIENT_STALLED = "client_stalled"
    BUDGET = "budget"
    STOPPED = "stopped"
    SHUTDOWN = "shutdown"
    PROCESS_DIED = "process_died"
    INTERNAL = "internal"


class Delivery(StrEnum):
    """How far an attempt got: only `not_sent` is surely unbilled."""

    NOT_SENT = "not_sent"
    MAYBE_ACCEPTED = "maybe_accepted"
    RESPONDING = "responding"
    DONE = "done"


UsageSource = Literal["provider", "estimated", "none"]


@record
class Usage:
    """Disjoint token buckets of one attempt, and the provider's own object as it came.

    `source` is `provider` when the provider reported it, `estimated` when it was counted from
    content (then `error_ratio` is the estimator's observed relative error, null before it has
    seen any), `none` when the call used nothing. `problems` names fields that made no sense.
    """

    quantities: Mapping[str, int] = field(default_factory=dict)
    reasoning_tokens: int = 0
    source: UsageSource = "none"
    raw: Mapping[str, Any] | None = None
    error_ratio: float | None = None
    problems: tuple[str, ...] = ()


NO_USAGE = Usage()


@record
class RequestInfo:
    """What the client asked for, and how it was said to the provider.

    `model` is the client's own spelling. `splices` names what was changed in its own bytes;
    `translated_to` the dialect that it was said in instead, `dropped` and `added` what that left
    out (of the answer, too) and put in. `headers` are those of the client's that ask for a version
    or a beta feature, as `name: value`.
    """

    dialect: str
    path: str
    model: str
    stream: bool
    sha256: str
    size: int
    answer_sha256: str | None = None
    answer_size: int = 0
    splices: tuple[str, ...] = ()
    translated_to: str | None = None
    dropped: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


@record
class Classification:
    category: str
    confidence: float
    complexity: float
    tier: str
    risk_signals: Mapping[str, Any]


@record
class Candidate:
    model_id: str
    provider: str
    score: float | None = None
    est_cost_pico: int | None = None
    reasons: tuple[str, ...] = ()
    filtered_out_by: str | None = None


@record
class Rewriting:
    """What was taken out of a prompt; tokens are estimates of the whole prompt."""

    steps: tuple[str, ...]
    tokens_before: int
    tokens_after: int


@record
class Decision:
    """The plan. `applied` is false in `observe` and `shadow`: `attempts` say what ran.

    `inputs` is what it was made from beside the classification, small enough to make it again
    after bodies are gone; where nothing was planned at most what the caller's headers said of it.
    """

    model_id: str
    provider: str
    mode: str = "observe"
    profile: str | None = None
    strategy: str = "single"
    applied: bool = False
    fallback_chain: tuple[str, ...] = ()
    prompt_rewritten: bool = False
    rewriting: Rewriting | None = None
    rationale: tuple[str, ...] = ()
    inputs: Mapping[str, Any] | None = None

    def made_from(self, inputs: Mapping[str, Any], *, applied: bool) -> "Decision":
        """The same plan with what it was made from, and whether it is what happens."""
        return Decision(
            model_id=self.model_id,
            provider=self.provider,
            mode=self.mode,
            profile=self.profile,
            strategy=self.strategy,
            applied=applied,
            fallback_chain=self.fallback_chain,
            rationale=self.rationale,
            inputs=inputs,
        )


@record
class Attempt:
    """One try at one provider. `model_id` is the model served when the answer names it; `drill` is
    the fault that a drill had put before it."""

    n: int
    provider: str
    model_id: str
    started_at_ms: int
    status: Status
    delivery: Delivery
    region: str | None = None
    http_status: int | None = None
    failure_class: FailureClass | None = None
    latency_ms: float = 0.0
    ttft_ms: float | None = None
    upstream_request_id: str | None = None
    service_tier: str = ""
    finish_reason: str | None = None
    usage: Usage = NO_USAGE
    cost: Cost = NO_COST
    charged_pico: int = 0
    drill: str | None = None


@record
class Savings:
    """What applied decisions saved, signed, by mechanism: the parts add up to baseline less cost.

    Without parts (and without a baseline cost) it is not known; `baseline_model` is "" when no
    model was asked for and none is configured.
    """

    baseline_model: str
    baseline_cost_pico: int | None
    baseline_price_id: str | None = None
    by_mechanism: Mapping[str, int] = field(default_factory=dict)


@record
class Execution:
    """How it went. `actual_cost_pico` is null when unknown; budgets count `charged_pico`."""

    status: Status
    actual_cost_pico: int | None
    charged_pico: int
    actual_latency_ms: float
    ttft_ms: float | None
    overhead_ms: float
    http_status: int | None = None
    error: str | None = None


@record
class Receipt:
    receipt_id: str
    created_at_ms: int
    tenant: str
    request: RequestInfo
    execution: Execution
    workflow: str | None = None
    session_id: str | None = None
    session_source: str | None = None
    key_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    replay_of: str | None = None
    classification: Classification | None = None
    candidates: tuple[Candidate, ...] = ()
    decision: Decision | None = None
    attempts: tuple[Attempt, ...] = ()
    savings: Savings | None = None

    @property
    def usage(self) -> Usage:
        """The usage of the attempt that answered, or of the last one tried."""
        return self.attempts[-1].usage if self.attempts else NO_USAGE


@record
class Intent:
    """What is durable before the first byte goes upstream; enough to write a receipt without us.

    `attempts` grows by one durable row for each later hop: (n, provider, model, started_at_ms,
    hold_pico). `hold_pico` is what the first one may cost at most.
    """

    receipt_id: str
    created_at_ms: int
    tenant: str
    request: RequestInfo
    provider: str
    model_id: str
    decision: Decision | None = None
    workflow: str | None = None
    session_id: str | None = None
    session_source: str | None = None
    key_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    replay_of: str | None = None
    hold_pico: int = 0
    attempts: tuple[tuple[int, str, str, int, int], ...] = ()


def interrupted(intent: Intent) -> Receipt:
    """The one receipt of a call whose process died: its cost is unknown, its hold is charged."""
    first = (1, intent.provider, intent.model_id, intent.created_at_ms, intent.hold_pico)
    attempts = tuple(
        Attempt(
            n=n,
            provider=provider,
            model_id=model,
            started_at_ms=started_at_ms,
            status=Status.INTERRUPTED,
            delivery=Delivery.MAYBE_ACCEPTED,
            failure_class=FailureClass.PROCESS_DIED,
            charged_pico=hold_pico,
        )
        for n, provider, model, started_at_ms, hold_pico in (first, *intent.attempts)
    )
    return Receipt(
        receipt_id=intent.receipt_id,
        created_at_ms=intent.created_at_ms,
        tenant=intent.tenant,
        workflow=intent.workflow,
        session_id=intent.session_id,
        session_source=intent.session_source,
        key_id=intent.key_id,
        tags=intent.tags,
        trace_id=intent.trace_id,
        span_id=intent.span_id,
        parent_span_id=intent.parent_span_id,
        replay_of=intent.replay_of,
        request=intent.request,
        decision=intent.decision,
        attempts=attempts,
        execution=Execution(
            status=Status.INTERRUPTED,
            actual_cost_pico=None,
            charged_pico=sum(attempt.charged_pico for attempt in attempts),
            actual_latency_ms=0.0,
            ttft_ms=None,
            overhead_ms=0.0,
            error="the process died while this call was under way",
        ),
    )


def total_cost(attempts: tuple[Attempt, ...]) -> Cost:
    """All attempts as one cost. Null as soon as one billable attempt's cost is unknown."""
    if len(attempts) == 1 and attempts[0].delivery is not Delivery.NOT_SENT:
        return attempts[0].cost
    billed = [a.cost for a in attempts if a.delivery is not Delivery.NOT_SENT]
    known = [cost.total_pico for cost in billed if cost.total_pico is not None]
    reported = [cost.reported_pico for cost in billed if cost.reported_pico is not None]
    last = attempts[-1].cost if attempts else NO_COST
    return Cost(
        lines=tuple(line for cost in billed for line in cost.lines),
        total_pico=sum(known) if len(known) == len(billed) else None,
        source=last.source,
        price_id=last.price_id,
        inexact=tuple(dict.fromkeys(reason for cost in billed for reason in cost.inexact)),
        reported_pico=sum(reported) if reported else None,
    )
