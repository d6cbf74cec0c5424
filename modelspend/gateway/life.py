"""The life of one request, told in order. Read `Gateway.open` from top to bottom.

Two writes frame every call: the intent, durable before the first byte goes upstream, and the
receipt, final before the client sees the end. What a reader would not guess: the end of the
`open` block covers only abnormal ends; a call that went well was settled before its last bytes
were handed out.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter

from modelspend.answers import Kept
from modelspend.dialects import jsonbody
from modelspend.dialects.dialect import StreamReader
from modelspend.dialects.reader import as_name
from modelspend.errors import (
    Draining,
    LedgerUnavailable,
    ModelspendError,
    Overloaded,
    UpstreamFailed,
)
from modelspend.gateway.call import Call, Room
from modelspend.gateway.caller import Caller
from modelspend.gateway.conversations import session_of
from modelspend.gateway.ending import ClientStalled, Endings
from modelspend.gateway.headers import afresh, downward, strip_key, upward
from modelspend.gateway.passage import Passage, Request, asking_for_usage, passage
from modelspend.gateway.purse import Purse
from modelspend.gateway.relay import Relay
from modelspend.gateway.router import Router
from modelspend.gateway.settle import Settler
from modelspend.gateway.thrift import Thrift
from modelspend.gateway.upstream import AttemptFailed, Reply, Timeouts, Upstream
from modelspend.gateway.whole import METERED_BOUND, WHOLE_BOUND, WholeReader, read_whole
from modelspend.ids import Ids
from modelspend.money import dumps, usd_text
from modelspend.receipt import Delivery, FailureClass, Status
from modelspend.receipt_json import explanation
from modelspend.store import Store

_ROOM = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server passes on: `body` when it is whole already, else `relay` to iterate."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes | None = None
    relay: Relay | None = None


@dataclass(slots=True)
class Gateway:
    """Carries calls. One for each process; it holds no state of a call between calls."""

    router: Router
    store: Store
    upstream: Upstream
    settler: Settler
    thrift: Thrift
    purse: Purse
    ids: Ids
    now_ms: Callable[[], int]
    random: Callable[[int], bytes]
    fingerprint: Callable[[bytes, str], str]
    whole_timeouts: Timeouts
    stream_timeouts: Timeouts
    max_in_flight: int = 512
    draining: bool = False
    in_flight: int = 0
    _quiet: asyncio.Event = field(default_factory=asyncio.Event)
    _room: Room = field(default_factory=lambda: Room(_ROOM))
    _rejects: set[tuple[str, str]] = field(default_factory=set)
    _endings: Endings = field(init=False)

    def __post_init__(self) -> None:
        self._endings = Endings(self.settler)

    @asynccontextmanager
    async def open(self, request: Request, caller: Caller) -> AsyncIterator[Answer]:
        """Carry one call; the block's body copies the answer to the client.

        Raises ModelspendError when there is no answer to carry: its `receipt_id` names the
        receipt that tells of it.
        """
        self._admit()
        call = Call(
            request,
            caller,
            receipt_id=self.ids.receipt(),
            now_ms=self.now_ms(),
            span_id=self.random(8).hex(),
            room=self._room,
        )
        relay: Relay | None = None
        self.in_flight += 1
        try:
            # Reading what is asked for.
            self._read(call)
            await self._stop_runaways(call)

            # Deciding who answers: what the prompt asks for, then who could do it, and best.
            await self._decide(call)

            # Spending less: the very same answer once more, or a shorter prompt.
            if kept := await self._thrifty(call):
                yield await self._again(call, kept)
                return
            call.out = self._passage(call)

            # Writing the intent, and in the same transaction the hold of what it may cost.
            call.begin_try(call.target, self.now_ms())
            self.settler.prepare(call)
            holds = await self.purse.hold(call)
            await self.store.calls.begin(call.intent(), holds)
            call.begun = True

            # Sending it. (Failover goes round here, before the first content byte.)
            reply = await self._send(call)

            # Passing the answer on; its receipt is final before its last bytes are.
            if self._streams(call, reply):
                relay = self._relay(call, reply)
                yield self._answer(call, reply, relay=relay)
            else:
                answer = await self._whole(call, reply)
                relay = answer.relay
                yield answer
        except AttemptFailed as failed:
            raise await self._endings.failed(call, failed) from None
        except ClientStalled:
            call.last.end(Status.CLIENT_DISCONNECT, FailureClass.CLIENT_STALLED)
            raise
        except ModelspendError as error:
            raise await self._endings.refused(call, error) from None
        finally:
            # Only abnormal ends are still open here: a hang-up, a shutdown, a fault of ours.
            self.in_flight -= 1
            if self.draining and not self.in_flight:
                self._quiet.set()
            self._endings.left(call, relay, sys.exception())

    async def drained(self, limit_s: float) -> None:
        """Wait for the calls under way; at the limit, end the open streams with an error event."""
        self.draining = True
        if self.in_flight:
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._quiet.wait()
        self._endings.cut_all()

    def stop_now(self) -> None:
        """Cut the draining short."""
        self._quiet.set()

    def _admit(self) -> None:
        """The one admission of every billable route."""
        if self.draining:
            raise Draining("The sidecar is stopping.", "Try again in a moment.", retry_after_s=1)
        if self.in_flight >= self.max_in_flight:
            raise Overloaded(
                f"{self.in_flight} calls are under way already.",
                "Try again in a moment, or raise server.max_in_flight.",
                retry_after_s=1,
            )
        if not self.store.healthy:
            raise LedgerUnavailable(
                "The ledger cannot be written, so no call may be sent.",
                "See `modelspend doctor`; service resumes by itself.",
                retry_after_s=2,
            )

    def _read(self, call: Call) -> None:
        caller, request = call.caller, call.request
        if caller.fault is not None:
            raise caller.fault
        call.view = view = request.dialect.read(f"{request.path}?{request.query}", request.body)
        call.session_id, call.session_source = session_of(request, view, caller, self.fingerprint)

    async def _stop_runaways(self, call: Call) -> None:
        try:
            self.purse.check(call)
        finally:
            if call.kills is not None:
                await self.stop(call.kills, "a rule against runaways has stopped it")

    async def stop(self, name: str, reason: str) -> int:
        """Refuse the calls of a session or key, and cut its open streams; how many there were."""
        await self.purse.stop(name, reason, self.now_ms())
        return self._endings.stop(name)

    async def _decide(self, call: Call) -> None:
        """Who answers, and how the request is said there."""
        assert call.view is not None
        ruling = await self.router.decide(
            call.request,
            call.view,
            call.caller,
            session_id=call.session_id,
            now_ms=call.created_at_ms,
        )
        call.decided(ruling)

    async def _thrifty(self, call: Call) -> Kept | None:
        """The kept answer of the very same request; without one, the prompt is made shorter."""
        bodies_kept = bool(self.settler.keep_up_to(call.caller.tenant))
        if kept := await self.thrift.kept(call, bodies_kept=bodies_kept):
            return kept
        await self.thrift.recall(call)
        self.thrift.shorten(call)
        return None

    async def _again(self, call: Call, kept: Kept) -> Answer:
        """A kept answer, given once more; its receipt says what that saves."""
        self.thrift.take(call, kept)
        call.answered(kept.body, self.settler.keep_up_to(call.caller.tenant))
        await self._endings.settle(call)
        headers = [
            *kept.headers,
            ("x-modelspend-receipt", call.receipt_id),
            ("x-modelspend-model", kept.model),
            ("x-modelspend-provider", kept.provider),
            ("x-modelspend-tier", _tier(call)),
            ("x-modelspend-cache", f"hit; kept={kept.receipt_id}"),
            ("x-modelspend-overhead-ms", f"{call.overhead_ms():.3f}"),
            ("x-modelspend-cost-usd", "0"),
        ]
        return Answer(kept.status, headers, body=kept.body)

    def _passage(self, call: Call, *, ask_usage: bool = True) -> Passage:
        """The client's own bytes with at most the stated splices, or their translation."""
        provider, model = call.target.provider, call.target.model
        out = passage(*call.said, call.target)
        if ask_usage and provider.stream_usage and (provider.name, model) not in self._rejects:
            out = asking_for_usage(out)
        return out

    async def _send(self, call: Call) -> Reply:
        """One try; a provider that rejects the usage option gets a second one without it."""
        reply = await self._try(call)
        if reply.status != 400 or not call.out.asks_usage:
            return reply
        refusal = await read_whole(reply)
        if b"stream_options" not in refusal and b"include_usage" not in refusal:
            reply.replay(refusal)
            return reply
        reply.close()
        first = call.last
        first.http_status = reply.status
        first.end(Status.ERROR, FailureClass.CLIENT_ERROR, Delivery.DONE)
        call.out = self._passage(call, ask_usage=False)
        call.begin_try(first.target, self.now_ms())
        await self.purse.hop(call)
        reply = await self._try(call)
        if reply.status != 400:  # so it was the option, and not words of the client's own
            self._rejects.add((first.target.provider.name, first.target.model))
        return reply

    async def _try(self, call: Call) -> Reply:
        one, request, out = call.last, call.request, call.out
        provider = one.target.provider
        path = out.dialect.target(out.view, one.target.model)
        if not out.translated and (query := strip_key(request.query)):
            path = f"{path}?{query}"
        before = perf_counter()
        one.delivery = Delivery.MAYBE_ACCEPTED  # until we learn more, it may have been billed
        try:
            reply = await self.upstream.send(
                provider.name,
                provider.url(out.dialect.name, path, one.target.model),
                headers=self._headers(call),
                body=out.body,
                timeouts=self.stream_timeouts if out.view.stream else self.whole_timeouts,
            )
        finally:
            call.waited += perf_counter() - before
        call.reply = reply
        one.delivery = Delivery.RESPONDING
        one.http_status = reply.status
        named = (as_name(reply.header(name)) for name in provider.request_id_headers)
        one.request_id = next(filter(None, named), None)
        one.region = provider.region
        if provider.region_header:
            one.region = as_name(reply.header(provider.region_header)) or provider.region
        return reply

    def _headers(self, call: Call) -> list[tuple[str, str]]:
        credential = call.last.target.credential
        if call.out.translated:
            return afresh(call.request.headers, call.out.required_headers, credential)
        return upward(call.request.headers, credential)

    def _streams(self, call: Call, reply: Reply) -> bool:
        if reply.status != 200 or not call.out.view.stream:
            return False
        whole_json = reply.content_type.lower().startswith("application/json")
        return not whole_json or call.out.dialect.streams_json

    def _relay(self, call: Call, reply: Reply) -> Relay:
        return self._begin_relay(call, reply, call.out.reader())

    def _begin_relay(self, call: Call, reply: Reply, reader: StreamReader) -> Relay:
        keep_up_to = self.settler.keep_up_to(call.caller.tenant)
        relay = Relay(call, reply, reader, self._endings.settle, keep_up_to)
        self._endings.relays.add(relay)
        call.http_status = reply.status
        call.answer_headers = self._head(call, reply, good=True)
        return relay

    async def _whole(self, call: Call, reply: Reply) -> Answer:
        """An answer that is read to its end before the client sees its head, so it has a cost."""
        before = perf_counter()
        out = call.out
        reader = WholeReader(out.dialect, reply, METERED_BOUND if out.translated else WHOLE_BOUND)
        try:
            body = await reader.read()
        finally:
            call.waited += perf_counter() - before
        call.last.note = reader.note
        if body is None and out.translated:
            raise UpstreamFailed(
                f"Provider {reply.provider} answered with more than can be translated.",
                "Ask for it as a stream, or in the provider's own dialect.",
                failure_class=FailureClass.PROTOCOL,
            )
        if body is None:  # beyond the bound: it streams through with its last bytes held back
            relay = self._begin_relay(call, reply, reader)
            return self._answer(call, reply, relay=relay)
        reply.close()
        status, failure = reader.verdict(reply.status)
        if status is Status.SUCCESS:
            call.last.first_content = perf_counter()
        call.last.end(status, failure, Delivery.DONE)
        call.http_status = reply.status
        if failure is not None:
            said = reader.note.error.kind if reader.note.error else "not an answer of its dialect"
            call.error = f"{failure}: {said} (HTTP {reply.status})"
        if not 200 <= reply.status < 300 and reply.status < 400:
            raise UpstreamFailed(
                f"Provider {reply.provider} answered {reply.status}, which is never followed.",
                "Set its base_url to the address that it should answer from.",
                failure_class=FailureClass.PROTOCOL,
            )
        if failure is FailureClass.ERROR_IN_STREAM:
            call.http_status = reader.told_status()  # an error inside a 200: clients must raise
        if status is Status.SUCCESS:
            body, dropped = out.answer(body)
            reader.note.dropped = dict.fromkeys(dropped)
            if call.caller.explain:
                body = _explained(call, body)
        else:
            body = out.refusal(body, call.http_status, reader.note)
        call.answer_headers = self._head(call, reply, good=status is Status.SUCCESS)
        call.answered(body, self.settler.keep_up_to(call.caller.tenant))
        await self._endings.settle(call)
        return self._answer(call, reply, body=body)

    def _head(self, call: Call, reply: Reply, *, good: bool) -> list[tuple[str, str]]:
        """The provider's headers as the client gets them."""
        headers = downward(reply.headers, encoding_kept=not reply.decoded)
        if call.out.translated:
            headers = [pair for pair in headers if pair[0].lower() != "content-type"]
            headers.append(("content-type", call.out.content_type(good=good)))
            headers += call.out.advice(call.last.note, headers)
        return headers

    def _answer(
        self, call: Call, reply: Reply, *, body: bytes | None = None, relay: Relay | None = None
    ) -> Answer:
        one, ruling = call.last, call.ruling
        headers = [
            *call.answer_headers,
            ("x-modelspend-receipt", call.receipt_id),
            ("x-modelspend-model", one.note.model or one.target.model),
            ("x-modelspend-provider", one.target.provider.name),
            ("x-modelspend-tier", _tier(call)),
            ("x-modelspend-overhead-ms", f"{call.overhead_ms():.3f}"),
        ]
        if ruling.found is not None:
            headers.append(("x-modelspend-category", ruling.found.category))
        if ruling.decision.rationale:
            headers.append(("x-modelspend-rationale", "; ".join(ruling.decision.rationale)))
        if body is not None and one.cost.total_pico is not None:
            headers.append(("x-modelspend-cost-usd", usd_text(one.cost.total_pico)))
        return Answer(call.http_status or reply.status, headers, body=body, relay=relay)


def _tier(call: Call) -> str:
    return call.ruling.found.tier if call.ruling.found else "unclassified"


def _explained(call: Call, body: bytes) -> bytes:
    """The answer with why it came from there, for a client that asked: the one thing put in."""
    if not body.lstrip().startswith(b"{"):
        return body
    plan = call.ruling.plan
    told = explanation(call.receipt_id, call.ruling.found, plan.decision, plan.candidates)
    return jsonbody.prepend(body, b'"modelspend":' + dumps(told))
