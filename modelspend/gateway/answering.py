"""From a reply to the answer that the client gets.

`open` reads as far as it must to know whether the attempt failed: a whole answer to its end, a
stream to its first content. Until `answer`, nothing of it has reached the client, and all of it can
be thrown away. A whole answer is settled before the client sees its head, so it carries its cost.
"""

from dataclasses import dataclass
from time import perf_counter

from modelspend.dialects import jsonbody
from modelspend.dialects.dialect import StreamReader
from modelspend.errors import UpstreamFailed
from modelspend.gateway.call import Call
from modelspend.gateway.ending import Endings
from modelspend.gateway.headers import downward
from modelspend.gateway.relay import Relay
from modelspend.gateway.settle import Settler
from modelspend.gateway.upstream import Reply
from modelspend.gateway.whole import METERED_BOUND, WHOLE_BOUND, WholeReader
from modelspend.money import dumps, usd_text
from modelspend.receipt import Delivery, FailureClass, Status
from modelspend.receipt_json import explanation
from modelspend.record import frozen


@frozen
class Answer:
    """What the server passes on: `body` when it is whole already, else `relay` to iterate."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes | None = None
    relay: Relay | None = None


@frozen
class Opened:
    """A reply as far as it had to be read: a stream, or a whole body that was understood or not."""

    reply: Reply
    relay: Relay | None = None
    body: bytes = b""
    fault: UpstreamFailed | None = None


@dataclass(slots=True)
class Answering:
    """Makes answers. `hold_s` is how long the beginning of a stream is held back at most."""

    settler: Settler
    endings: Endings
    hold_s: float

    async def open(self, call: Call, reply: Reply) -> Opened:
        """Read until it is known whether the attempt failed, which has ended then. Raises
        AttemptFailed."""
        if _streams(call, reply):
            relay = self._relay(call, reply, call.out.reader())
            try:
                await relay.begin(self.hold_s)
            except BaseException:
                self.endings.relays.discard(relay)
                raise
            return Opened(reply, relay)
        return await self._whole(call, reply)

    def drop(self, opened: Opened) -> None:
        """Throw away what was read: somebody else is asked."""
        opened.reply.close()
        if opened.relay is not None:
            self.endings.relays.discard(opened.relay)

    async def answer(self, call: Call, opened: Opened) -> Answer:
        """What the client gets. Raises UpstreamFailed for what cannot be passed on."""
        reply = opened.reply
        if opened.relay is not None:
            call.http_status = reply.status
            call.answer_headers = _head(call, reply, good=True)
            return _answer(call, reply, relay=opened.relay)
        if opened.fault is not None:
            raise opened.fault
        one, body = call.last, opened.body
        if one.status is not Status.SUCCESS:
            body = call.out.refusal(body, call.http_status or reply.status, one.note)
        elif call.caller.explain:
            body = _explained(call, body)
        call.answer_headers = _head(call, reply, good=one.status is Status.SUCCESS)
        call.answered(body, self.settler.keep_up_to(call.caller.tenant))
        await self.endings.settle(call)
        return _answer(call, reply, body=body)

    def _relay(self, call: Call, reply: Reply, reader: StreamReader) -> Relay:
        keep_up_to = self.settler.keep_up_to(call.caller.tenant)
        relay = Relay(call, reply, reader, self.endings.settle, keep_up_to)
        self.endings.relays.add(relay)
        return relay

    async def _whole(self, call: Call, reply: Reply) -> Opened:
        before = perf_counter()
        out, one = call.out, call.last
        reader = WholeReader(out.dialect, reply, METERED_BOUND if out.translated else WHOLE_BOUND)
        try:
            body = await reader.read()
        finally:
            call.waited += perf_counter() - before
        one.note = reader.note
        if body is None and out.translated:
            reply.close()
            one.end(Status.ERROR, FailureClass.PROTOCOL)
            return Opened(reply, fault=_too_large(reply))
        if body is None:  # beyond the bound: it streams through with its last bytes held back
            return Opened(reply, self._relay(call, reply, reader))
        reply.close()
        status, failure = reader.verdict(reply.status)
        fault = None if 200 <= reply.status < 300 or reply.status >= 400 else _elsewhere(reply)
        if status is Status.SUCCESS:
            try:
                body, dropped = out.answer(body)
                reader.note.dropped = dict.fromkeys(dropped)
                one.first_content = perf_counter()
            except UpstreamFailed as unclear:
                status, failure, fault = Status.ERROR, FailureClass.PROTOCOL, unclear
        one.end(status, failure, Delivery.DONE)
        call.http_status, call.error = reply.status, None
        if failure is not None:
            said = reader.note.error.kind if reader.note.error else "not an answer of its dialect"
            call.error = f"{failure}: {said} (HTTP {reply.status})"
        if failure is FailureClass.ERROR_IN_STREAM:
            call.http_status = reader.told_status()  # an error inside a 200: clients must raise
        return Opened(reply, body=body, fault=fault)


def tier_of(call: Call) -> str:
    return call.ruling.found.tier if call.ruling.found else "unclassified"


def _streams(call: Call, reply: Reply) -> bool:
    if reply.status != 200 or not call.out.view.stream:
        return False
    whole_json = reply.content_type.lower().startswith("application/json")
    return not whole_json or call.out.dialect.streams_json


def _head(call: Call, reply: Reply, *, good: bool) -> list[tuple[str, str]]:
    """The provider's headers as the client gets them."""
    headers = downward(reply.headers, encoding_kept=not reply.decoded)
    if call.out.translated:
        headers = [pair for pair in headers if pair[0].lower() != "content-type"]
        headers.append(("content-type", call.out.content_type(good=good)))
        headers += call.out.advice(call.last.note, headers)
    return headers


def _answer(
    call: Call, reply: Reply, *, body: bytes | None = None, relay: Relay | None = None
) -> Answer:
    one, ruling = call.last, call.ruling
    headers = [
        *call.answer_headers,
        ("x-modelspend-receipt", call.receipt_id),
        ("x-modelspend-model", one.note.model or one.target.model),
        ("x-modelspend-provider", one.target.provider.name),
        ("x-modelspend-tier", tier_of(call)),
        ("x-modelspend-overhead-ms", f"{call.overhead_ms():.3f}"),
    ]
    if ruling.found is not None:
        headers.append(("x-modelspend-category", ruling.found.category))
    if ruling.decision.rationale:
        headers.append(("x-modelspend-rationale", "; ".join(ruling.decision.rationale)))
    if body is not None and one.cost.total_pico is not None:
        headers.append(("x-modelspend-cost-usd", usd_text(one.cost.total_pico)))
    return Answer(call.http_status or reply.status, headers, body=body, relay=relay)


def _explained(call: Call, body: bytes) -> bytes:
    """The answer with why it came from there, for a client that asked: the one thing put in."""
    if not body.lstrip().startswith(b"{"):
        return body
    plan = call.ruling.plan
    told = explanation(call.receipt_id, call.ruling.found, plan.decision, plan.candidates)
    return jsonbody.prepend(body, b'"modelspend":' + dumps(told))


def _too_large(reply: Reply) -> UpstreamFailed:
    return UpstreamFailed(
        f"Provider {reply.provider} answered with more than can be translated.",
        "Ask for it as a stream, or in the provider's own dialect.",
        failure_class=FailureClass.PROTOCOL,
    )


def _elsewhere(reply: Reply) -> UpstreamFailed:
    return UpstreamFailed(
        f"Provider {reply.provider} answered {reply.status}, which is never followed.",
        "Set its base_url to the address that it should answer from.",
        failure_class=FailureClass.PROTOCOL,
    )
