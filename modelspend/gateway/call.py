"""One call under way: what was asked, what was tried, what was seen so far.

This is the only mutable record on the request path. It turns into a `Receipt` once, in
`receipt()`, from what it holds at that moment; whoever ends the call first wins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from time import perf_counter
from typing import TYPE_CHECKING

from modelspend import answers
from modelspend.budgets import Hold
from modelspend.circuits import CircuitKey, Permit
from modelspend.conversations import Conversation
from modelspend.dialects.dialect import AnswerNote, RequestView
from modelspend.errors import ModelspendError
from modelspend.events import Event
from modelspend.failovers import Failover
from modelspend.gateway.caller import Caller
from modelspend.gateway.headers import Pairs, asking
from modelspend.gateway.line import Line
from modelspend.gateway.passage import Passage, Request
from modelspend.gateway.router import Ruling
from modelspend.gateway.target import Target
from modelspend.gateway.upstream import Reply
from modelspend.money import NO_COST, Cost
from modelspend.receipt import (
    NO_USAGE,
    Attempt,
    Delivery,
    Execution,
    FailureClass,
    Intent,
    Receipt,
    RequestInfo,
    Rewriting,
    Savings,
    Status,
    Usage,
    total_cost,
)

if TYPE_CHECKING:
    from modelspend.gateway.slices import Slices


@dataclass(slots=True, kw_only=True)
class Try:
    """One attempt while it runs. Times are `perf_counter` seconds, `started_at_ms` UTC.

    `wait_s` and `should_retry` are what the answer said of trying again, if anything. `holds` is
    what it holds of budgets, `hold_pico` the most it may cost by that. `sure` tells that its cost
    is what the provider will bill, so that this is charged and not what was held. `drill` is the
    fault that a drill has put before it, `faulty` what it talked to then.
    """

    n: int
    target: Target
    started_at_ms: int
    started: float
    note: AnswerNote = field(default_factory=AnswerNote)
    status: Status = Status.INTERRUPTED
    failure: FailureClass | None = None
    delivery: Delivery = Delivery.NOT_SENT
    http_status: int | None = None
    request_id: str | None = None
    region: str | None = None
    first_content: float | None = None
    ended: float | None = None
    usage: Usage = NO_USAGE
    cost: Cost = NO_COST
    charged_pico: int = 0
    streams: bool = False
    permit: Permit | None = None
    wait_s: float | None = None
    should_retry: bool | None = None
    sure: bool = False
    holds: Sequence[Hold] = ()
    hold_pico: int = 0
    drill: str | None = None
    faulty: Line | None = None

    def begins(self) -> None:
        """The first content has come."""
        if self.first_content is not None:
            return
        self.first_content = now = perf_counter()
        if self.permit is not None and self.permit.probe:
            self.permit.answering(now, now - self.started)

    def end(
        self, status: Status, failure: FailureClass | None = None, delivery: Delivery | None = None
    ) -> None:
        """Say how it ended. The first word stands: what comes later is a consequence."""
        if self.ended is not None:
            return
        self.ended = perf_counter()
        self.status, self.failure = status, failure
        if delivery is not None:
            self.delivery = delivery
        if self.faulty is not None and not self.faulty.sent:
            self.delivery = Delivery.NOT_SENT  # whatever answered, the provider was not asked
        if self.permit is not None:
            self._tell(self.permit, self.ended)

    def _tell(self, permit: Permit, now: float) -> None:
        """What the circuit learns from it."""
        error = self.note.error
        if self.wait_s is None and error is not None:
            self.wait_s = error.retry_after_s
        if self.status is Status.SUCCESS:
            first = self.first_content if self.streams else None
            permit.succeeded(now, None if first is None else first - self.started)
        elif self.failure is not None:
            permit.failed(self.failure, now, self.wait_s)
        else:
            permit.cancelled(now)

    @property
    def may_be_billed(self) -> bool:
        """A clean refusal is not billed; what broke off, or answered, may be."""
        if self.delivery is Delivery.NOT_SENT:
            return False
        note = self.note
        if note.error is not None and not note.content and note.usage is None:
            return False  # an error in place of an answer, whatever the status line says
        return self.http_status is None or 200 <= self.http_status < 300

    def attempt(self) -> Attempt:
        ended = self.ended if self.ended is not None else perf_counter()
        return Attempt(
            n=self.n,
            provider=self.target.provider.name,
            model_id=self.note.model or self.target.model,
            region=self.region,
            started_at_ms=self.started_at_ms,
            status=self.status,
            delivery=self.delivery,
            http_status=self.http_status,
            failure_class=self.failure,
            latency_ms=_ms(ended - self.started),
            ttft_ms=None if self.first_content is None else _ms(self.first_content - self.started),
            upstream_request_id=self.request_id or self.note.answer_id,
            service_tier=self.note.service_tier,
            finish_reason=self.note.finish_reason,
            usage=self.usage,
            cost=self.cost,
            charged_pico=self.charged_pico,
            drill=self.drill,
        )


class Room:
    """Memory for what is kept of all answers under way; who finds none left keeps nothing.

    Without it, clients that stall would each hold as much as a single answer may.
    """

    def __init__(self, size: int) -> None:
        self._free = size

    def take(self, size: int) -> bool:
        if size > self._free:
            return False
        self._free -= size
        return True

    def give_back(self, size: int) -> None:
        self._free += size


class Call:
    """One client call, from its bytes to its receipt."""

    def __init__(
        self,
        request: Request,
        caller: Caller,
        *,
        receipt_id: str,
        now_ms: int,
        span_id: str,
        room: Room,
    ) -> None:
        self.request = request
        self.caller = caller
        self.receipt_id = receipt_id
        self.created_at_ms = now_ms
        self.span_id = span_id
        self.started = perf_counter()
        self.waited = 0.0
        self.view: RequestView | None = None
        self.session_id = caller.session
        self.session_source = "header" if caller.session else None
        self._ruling: Ruling | None = None
        self._out: Passage | None = None
        self._said: tuple[Request, RequestView] | None = None
        self.cache = answers.OFF
        self.cache_key: bytes | None = None
        self.answer_headers: Pairs = ()
        self.so_far: Conversation | None = None  # what is known of its conversation
        self.savings: Savings | None = None
        self.slices: Slices | None = None
        self.events: list[Event] = []  # to be told with its receipt
        self.refused_for: ModelspendError | None = None
        self.kills: str | None = None  # a session or key that this call has run out of bounds
        self.seq: int | None = None  # the number of its receipt, once that is durable
        self.tries: list[Try] = []
        self.chain: Sequence[Target] | None = None  # who may answer, once that had to be asked
        self.hops: list[Failover] = []
        self._planned: Ruling | None = None  # the ruling as it was before the first hop
        self.refused_by: list[CircuitKey] = []
        self.retry_after_s: float | None = None  # when it may be worth asking again
        self.reply: Reply | None = None
        self.begun = False  # its intent is durable
        self.settled = False
        self.status: Status | None = None
        self.http_status: int | None = None
        self.error: str | None = None
        self.asked_sha256 = sha256(request.body).hexdigest()
        self.asked_headers = asking(request.headers, request.dialect.required_headers)
        self._answer_hash = sha256()
        self._answer_size = 0
        self._kept: list[bytes] | None = []
        self._kept_size = 0
        self._room = room

    def __del__(self) -> None:
        self._forget()

    def decided(self, ruling: Ruling) -> None:
        self._ruling = ruling

    def says(self, request: Request, view: RequestView, rewriting: Rewriting) -> None:
        """Send this instead of what the client sent: it means the same."""
        self._said = (request, view)
        plan = self.ruling.plan
        decision = replace(plan.decision, prompt_rewritten=True, rewriting=rewriting)
        self._ruling = replace(self.ruling, plan=replace(plan, decision=decision))

    def led(self, hop: Failover) -> None:
        """Somebody else is asked."""
        if not self.hops:
            self._planned = self.ruling
        self.hops.append(hop)
        self._tell_strategy()

    def not_led(self) -> None:
        """The newest hop was not made after all."""
        self.hops.pop()
        self._tell_strategy()

    def _tell_strategy(self) -> None:
        if not self.hops:
            self._ruling = self._planned
            return
        plan = self.ruling.plan
        strategy = "panic" if self.hops[-1].reason == "panic" else "fallback"
        decision = replace(plan.decision, strategy=strategy)
        self._ruling = replace(self.ruling, plan=replace(plan, decision=decision))

    def withdraw(self) -> None:
        """Take the newest attempt back: it was not sent, and will not be."""
        one = self.tries.pop()
        if one.permit is not None:
            one.permit.cancelled(perf_counter())

    @property
    def said(self) -> tuple[Request, RequestView]:
        """The request to send: the client's own, or the shorter one that says the same."""
        assert self.view is not None, "the request has not been read"
        return self._said or (self.request, self.view)

    @property
    def sent_view(self) -> RequestView | None:
        return self._said[1] if self._said else self.view

    @property
    def ruling(self) -> Ruling:
        """The decision about the call."""
        assert self._ruling is not None, "nobody has decided yet"
        return self._ruling

    @property
    def target(self) -> Target:
        """Who answers by that decision."""
        assert self.ruling.target is not None, "only a dry run may lead to nobody"
        return self.ruling.target

    @property
    def out(self) -> Passage:
        """How the request goes there."""
        assert self._out is not None, "the way is not known yet"
        return self._out

    @out.setter
    def out(self, way: Passage) -> None:
        self._out = way

    @property
    def last(self) -> Try:
        return self.tries[-1]

    def begin_try(self, target: Target, now_ms: int, permit: Permit | None = None) -> Try:
        one = Try(
            n=len(self.tries) + 1,
            target=target,
            started_at_ms=now_ms,
            started=perf_counter(),
            permit=permit,
        )
        self.tries.append(one)
        self.slices = None
        return one

    def answered(self, data: bytes, keep_up_to: int) -> None:
        """Note bytes of the answer: hashed always, kept while they are within the bound."""
        self._answer_hash.update(data)
        self._answer_size += len(data)
        if self._kept is None:
            return
        if self._kept_size + len(data) > keep_up_to or not self._room.take(len(data)):
            self._forget()
            return
        self._kept_size += len(data)
        self._kept.append(data)

    def _forget(self) -> None:
        self._room.give_back(self._kept_size)
        self._kept, self._kept_size = None, 0

    def kept_answer(self) -> bytes | None:
        """The answer as the client got it; None when there is none, or no room for it."""
        return b"".join(self._kept) if self._kept else None

    def kept_whole(self) -> bytes | None:
        """The answer as the client got it; None unless all of it was kept."""
        whole = self._kept_size == self._answer_size and self._answer_size > 0
        return self.kept_answer() if whole else None

    def overhead_ms(self, now: float | None = None) -> float:
        """Our own time so far: all but the waiting for the provider and for the client."""
        return _ms((now or perf_counter()) - self.started - self.waited)

    def request_info(self) -> RequestInfo:
        view, out = self.view, self._out
        lost = self.tries[-1].note.dropped if self.tries else {}
        return RequestInfo(
            dialect=self.request.dialect.name,
            path=self.request.path,
            model=view.model if view else "",
            stream=view.stream if view else False,
            sha256=self.asked_sha256,
            size=len(self.request.body),
            answer_sha256=self._answer_hash.hexdigest() if self._answer_size else None,
            answer_size=self._answer_size,
            splices=out.splices if out else (),
            translated_to=out.dialect.name if out and out.translated else None,
            dropped=tuple(dict.fromkeys((*out.dropped, *lost))) if out else (),
            added=out.added if out else (),
            headers=self.asked_headers,
        )

    def intent(self) -> Intent:
        """What must be durable before the first byte goes upstream."""
        caller, one = self.caller, self.last
        return Intent(
            receipt_id=self.receipt_id,
            created_at_ms=self.created_at_ms,
            tenant=caller.tenant,
            workflow=caller.workflow,
            session_id=self.session_id,
            session_source=self.session_source,
            key_id=caller.key_id,
            tags=caller.tags,
            trace_id=caller.trace_id,
            span_id=self.span_id,
            parent_span_id=caller.parent_span_id,
            replay_of=caller.replay_of,
            request=self.request_info(),
            decision=self._ruling.decision if self._ruling else None,
            provider=one.target.provider.name,
            model_id=one.target.model,
            hold_pico=one.hold_pico,
        )

    def receipt(self) -> Receipt:
        """The receipt of the call as it stands now."""
        caller, ruling = self.caller, self._ruling
        attempts = tuple(one.attempt() for one in self.tries)
        now = perf_counter()
        final = self.tries[-1] if self.tries else None
        status = self.status or (final.status if final else Status.ERROR)
        ttft = None
        if final is not None and final.first_content is not None:
            ttft = _ms(final.first_content - self.started)
        return Receipt(
            receipt_id=self.receipt_id,
            created_at_ms=self.created_at_ms,
            tenant=caller.tenant,
            workflow=caller.workflow,
            session_id=self.session_id,
            session_source=self.session_source,
            key_id=caller.key_id,
            tags=caller.tags,
            trace_id=caller.trace_id,
            span_id=self.span_id,
            parent_span_id=caller.parent_span_id,
            replay_of=caller.replay_of,
            request=self.request_info(),
            classification=ruling.found if ruling else None,
            candidates=ruling.plan.candidates if ruling else (),
            decision=ruling.decision if ruling else None,
            attempts=attempts,
            savings=self.savings,
            execution=Execution(
                status=status,
                actual_cost_pico=0 if status is Status.CACHED else total_cost(attempts).total_pico,
                charged_pico=sum(attempt.charged_pico for attempt in attempts),
                actual_latency_ms=_ms(now - self.started),
                ttft_ms=ttft,
                overhead_ms=self.overhead_ms(now),
                http_status=self.http_status,
                error=self.error,
            ),
        )


def _ms(seconds: float) -> float:
    return int(max(seconds, 0.0) * 1_000_000 + 0.5) / 1000
