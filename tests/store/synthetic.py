"""Realistic receipts that nobody sent: the same seed gives the same receipts.

Shapes follow recorded traffic: a few heavy tenants and a long tail, sessions that last some turns,
log-normal sizes and latencies, raw usage objects as the providers write them, a few per cent of
failures and failovers. Pure: no clock, no file.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256

from modelspend.ids import Ids
from modelspend.money import NO_COST, Band, Price, price_usage
from modelspend.receipt import (
    NO_USAGE,
    Attempt,
    Classification,
    Decision,
    Delivery,
    Execution,
    FailureClass,
    Intent,
    Receipt,
    RequestInfo,
    Status,
    Usage,
    total_cost,
)
from modelspend.store import Bodies

START_MS = 1_790_000_000_000


@dataclass(frozen=True)
class _Model:
    provider: str
    name: str
    dialect: str
    path: str
    input: int  # pico-dollars a token
    output: int

    @property
    def price(self) -> Price:
        rates = {
            "input_tokens": self.input,
            "cache_read_tokens": self.input // 10,
            "output_tokens": self.output,
        }
        return Price(
            provider=self.provider, model=self.name, source="test", bands=(Band(0, rates),)
        )


_CHAT, _RESPONSES = "/v1/chat/completions", "/v1/responses"
_MODELS = (
    _Model("openai", "gpt-4.1-2025-04-14", "openai.chat", _CHAT, 2_000_000, 8_000_000),
    _Model("openai", "gpt-4.1-mini-2025-04-14", "openai.chat", _CHAT, 400_000, 1_600_000),
    _Model("openai", "gpt-5-2025-08-07", "openai.responses", _RESPONSES, 1_250_000, 10_000_000),
    _Model("openai", "gpt-5-mini-2025-08-07", "openai.responses", _RESPONSES, 250_000, 2_000_000),
    _Model("openai", "gpt-5-nano-2025-08-07", "openai.chat", _CHAT, 50_000, 400_000),
    _Model(
        "anthropic",
        "claude-sonnet-4-6",
        "anthropic.messages",
        "/v1/messages",
        3_000_000,
        15_000_000,
    ),
    _Model(
        "anthropic",
        "claude-haiku-4-5-20251001",
        "anthropic.messages",
        "/v1/messages",
        1_000_000,
        5_000_000,
    ),
    _Model("groq", "llama-3.3-70b-versatile", "openai.chat", _CHAT, 590_000, 790_000),
    _Model("mistral", "mistral-small-latest", "openai.chat", _CHAT, 100_000, 300_000),
    _Model("deepseek", "deepseek-chat", "openai.chat", _CHAT, 270_000, 1_100_000),
)
_PRICES = {model.name: model.price for model in _MODELS}
_CATEGORIES = (
    "code",
    "reasoning",
    "analysis",
    "extraction",
    "summarization",
    "creative",
    "chat",
    "other",
)
_TIERS = ("simple", "standard", "deep_reasoning")
_JOBS = (
    "support-bot",
    "nightly-digest",
    "code-review",
    "search-rerank",
    "invoice-extract",
    "onboarding",
    "agent-loop",
)


@dataclass(frozen=True)
class _Workload:
    tenant: str
    workflow: str | None
    models: tuple[_Model, ...]
    categories: tuple[str, ...]
    input_scale: float


def _workloads(rng: random.Random, tenants: int) -> tuple[list[_Workload], list[float]]:
    loads: list[_Workload] = []
    weights: list[float] = []
    for t in range(tenants):
        for job in rng.sample(_JOBS, rng.randint(1, 4)):
            loads.append(
                _Workload(
                    f"team-{t:03d}",
                    None if rng.random() < 0.1 else job,
                    tuple(rng.sample(_MODELS, rng.randint(1, 3))),
                    tuple(rng.sample(_CATEGORIES, rng.randint(1, 3))),
                    rng.uniform(5.0, 8.0),
                )
            )
            weights.append(1 / (t + 1))
    return loads, weights


class Traffic:
    """A stream of receipts, `gap_ms` apart on average."""

    def __init__(
        self, seed: int = 1, *, start_ms: int = START_MS, gap_ms: float = 5_000, tenants: int = 40
    ) -> None:
        self._rng = random.Random(seed)
        self._now = float(start_ms)
        self._gap = gap_ms
        self._loads, weights = _workloads(self._rng, tenants)
        self._weights = [sum(weights[: i + 1]) for i in range(len(weights))]
        self._ids = Ids(lambda: int(self._now), self._rng.randbytes)
        self._sessions: dict[str, str] = {}

    def receipts(self, count: int) -> Iterator[Receipt]:
        for _ in range(count):
            yield self.receipt()

    def receipt(self) -> Receipt:
        rng = self._rng
        self._now += rng.expovariate(1 / self._gap)
        load = rng.choices(self._loads, cum_weights=self._weights)[0]
        model = rng.choice(load.models)
        attempts = self._attempts(load, model)
        last, total = attempts[-1], total_cost(attempts)
        session = self._session(load)
        traced = rng.random() < 0.4
        return Receipt(
            receipt_id=self._ids.receipt(),
            created_at_ms=int(self._now),
            tenant=load.tenant,
            workflow=load.workflow,
            session_id=session,
            session_source="header" if session else None,
            key_id="key_" + sha256(load.tenant.encode()).hexdigest()[:12],
            trace_id=rng.randbytes(16).hex() if traced else None,
            span_id=rng.randbytes(8).hex() if traced else None,
            request=self._request(model, rng.random() < 0.35),
            classification=self._classification(load),
            decision=Decision(
                model_id=model.name,
                provider=model.provider,
            ),
            attempts=attempts,
            execution=Execution(
                status=last.status,
                actual_cost_pico=total.total_pico,
                charged_pico=total.total_pico or 0,
                actual_latency_ms=round(sum(a.latency_ms for a in attempts) + 1.1, 3),
                ttft_ms=last.ttft_ms,
                overhead_ms=round(rng.uniform(0.4, 1.6), 3),
                http_status=last.http_status,
                error=None if last.status is Status.SUCCESS else "the provider answered 503",
            ),
        )

    def _request(self, model: _Model, stream: bool) -> RequestInfo:
        rng = self._rng
        return RequestInfo(
            dialect=model.dialect,
            path=model.path,
            model=model.name.removesuffix("-2025-04-14"),
            stream=stream,
            sha256=rng.randbytes(32).hex(),
            size=int(rng.lognormvariate(7.5, 1)),
            answer_sha256=rng.randbytes(32).hex(),
            answer_size=int(rng.lognormvariate(7, 0.8)),
        )

    def _classification(self, load: _Workload) -> Classification:
        rng = self._rng
        return Classification(
            category=rng.choice(load.categories),
            confidence=round(rng.uniform(0.5, 0.99), 2),
            complexity=round(rng.random(), 2),
            tier=rng.choice(_TIERS),
            risk_signals={
                "hasAdvancedReasoningSignals": False,
                "advancedReasoningDetails": [],
                "score": rng.randint(0, 5) // 2,
                "nearThreshold": False,
            },
        )

    def _session(self, load: _Workload) -> str | None:
        rng = self._rng
        if load.workflow not in ("support-bot", "agent-loop", "onboarding"):
            return None
        if load.tenant not in self._sessions or rng.random() < 0.12:
            self._sessions[load.tenant] = f"sess-{rng.randbytes(8).hex()}"
        return self._sessions[load.tenant]

    def _attempts(self, load: _Workload, model: _Model) -> tuple[Attempt, ...]:
        rng = self._rng
        luck = rng.random()
        if luck < 0.02:
            return (self._failed(1, model),)
        if luck < 0.05:
            return (self._failed(1, model), self._answered(2, rng.choice(load.models), load))
        return (self._answered(1, model, load),)

    def _failed(self, n: int, model: _Model) -> Attempt:
        return Attempt(
            n=n,
            provider=model.provider,
            model_id=model.name,
            started_at_ms=int(self._now),
            status=Status.ERROR,
            delivery=Delivery.NOT_SENT,
            http_status=503,
            failure_class=FailureClass.SERVER_ERROR,
            latency_ms=round(self._rng.lognormvariate(4, 0.6), 3),
            usage=NO_USAGE,
            cost=NO_COST,
        )

    def _answered(self, n: int, model: _Model, load: _Workload) -> Attempt:
        rng = self._rng
        fresh, out = (
            int(rng.lognormvariate(load.input_scale, 0.9)) + 5,
            int(rng.lognormvariate(5, 1)) + 1,
        )
        cached = rng.choice((0, 0, 0, 1_024, 2_048)) if fresh > 400 else 0
        known = rng.random() > 0.01
        quantities = {"input_tokens": fresh, "output_tokens": out}
        if cached:
            quantities["cache_read_tokens"] = cached
        cost = price_usage(quantities, _PRICES[model.name] if known else None)
        latency = round(rng.lognormvariate(6.5, 0.8), 3)
        return Attempt(
            n=n,
            provider=model.provider,
            model_id=model.name,
            started_at_ms=int(self._now) + n,
            status=Status.SUCCESS,
            delivery=Delivery.DONE,
            http_status=200,
            latency_ms=latency,
            ttft_ms=round(latency * rng.uniform(0.1, 0.6), 3),
            upstream_request_id="req_" + rng.randbytes(12).hex(),
            finish_reason="stop",
            usage=Usage(quantities=quantities, source="provider", raw=_raw(fresh, cached, out)),
            cost=cost,
            charged_pico=cost.total_pico or 0,
        )


def _raw(fresh: int, cached: int, out: int) -> dict[str, object]:
    return {
        "prompt_tokens": fresh + cached,
        "completion_tokens": out,
        "total_tokens": fresh + cached + out,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def intent_of(receipt: Receipt) -> Intent:
    """The intent that must have been durable before this receipt's first byte went out."""
    first = receipt.attempts[0]
    return Intent(
        receipt_id=receipt.receipt_id,
        created_at_ms=receipt.created_at_ms,
        tenant=receipt.tenant,
        workflow=receipt.workflow,
        session_id=receipt.session_id,
        session_source=receipt.session_source,
        key_id=receipt.key_id,
        tags=receipt.tags,
        trace_id=receipt.trace_id,
        span_id=receipt.span_id,
        request=receipt.request,
        decision=receipt.decision,
        provider=first.provider,
        model_id=first.model_id,
        hold_pico=12_000_000_000,
    )


_WORDS = (
    b"the of ledger receipt model token price answer request please write summary invoice "
    b"customer order delay refund shipment total because therefore function return value"
).split()


def with_bodies(receipt: Receipt) -> tuple[Receipt, Bodies]:
    """Bodies of about the sizes that the receipt tells, in words that compress so-so; and the
    receipt with their true sizes and hashes."""
    rng = random.Random(receipt.receipt_id)
    text = b" ".join(rng.choices(_WORDS, k=receipt.request.size // 6 + 1))
    said = b" ".join(rng.choices(_WORDS, k=receipt.request.answer_size // 6 + 1))
    model = receipt.request.model.encode()
    asked = b'{"model":"%s","messages":[{"role":"user","content":"%s"}]}' % (model, text)
    answer = b'{"object":"chat.completion","choices":[{"message":{"content":"%s"}}]}' % said
    request = replace(
        receipt.request,
        sha256=sha256(asked).hexdigest(),
        size=len(asked),
        answer_sha256=sha256(answer).hexdigest(),
        answer_size=len(answer),
    )
    return replace(receipt, request=request), Bodies(request=asked, answer=answer)
