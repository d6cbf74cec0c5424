"""One attempt at one provider: the request as it goes there, and the head of what comes back.

What a reader would not guess: a provider that rejects the spliced option for the usage of a stream
gets a second attempt without it at once. That is our own doing, so it asks no circuit, spends no
budget of retries, and is remembered.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

from modelspend.dialects.reader import as_name
from modelspend.errors import BudgetExceeded, Stopped
from modelspend.gateway.call import Call
from modelspend.gateway.faults import Faults
from modelspend.gateway.headers import afresh, strip_key, upward
from modelspend.gateway.passage import Passage, asking_for_usage, passage
from modelspend.gateway.purse import Purse
from modelspend.gateway.target import Target
from modelspend.gateway.upstream import Reply, Timeouts, Upstream
from modelspend.gateway.whole import read_whole
from modelspend.receipt import Delivery, FailureClass, Status
from modelspend.retries import told_should_retry, told_wait_s


@dataclass(slots=True)
class Attempts:
    """Sends attempts. One for each process."""

    upstream: Upstream
    purse: Purse
    now_ms: Callable[[], int]
    whole_timeouts: Timeouts
    stream_timeouts: Timeouts
    faults: Faults = field(default_factory=Faults)
    _rejects: set[tuple[str, str]] = field(default_factory=set)

    def passage(self, call: Call, target: Target, *, ask_usage: bool = True) -> Passage:
        """The client's own bytes with at most the stated splices, or their translation.

        Raises Uncarriable, UnpairedToolCall or BadRequest when it cannot be said there.
        """
        provider, model = target.provider, target.model
        out = passage(*call.said, target)
        if ask_usage and provider.stream_usage and (provider.name, model) not in self._rejects:
            out = asking_for_usage(out)
        return out

    def limit_s(self, call: Call) -> float:
        """Seconds that the call may take in all."""
        return (self.stream_timeouts if call.out.view.stream else self.whole_timeouts).total_s

    async def send(self, call: Call) -> Reply:
        """The answer to the newest attempt. Raises AttemptFailed."""
        reply = await self._send(call)
        if reply.status != 400 or not call.out.asks_usage:
            return reply
        refusal = await read_whole(reply)
        if b"stream_options" not in refusal and b"include_usage" not in refusal:
            reply.replay(refusal)
            return reply
        reply.close()
        first = call.last
        first.http_status, permit = reply.status, first.permit
        first.permit = None
        first.end(Status.ERROR, FailureClass.CLIENT_ERROR, Delivery.DONE)
        call.out = self.passage(call, first.target, ask_usage=False)
        call.begin_try(first.target, self.now_ms(), permit)
        try:
            await self.purse.hop(call)
        except (BudgetExceeded, Stopped):
            call.withdraw()
            raise
        reply = await self._send(call)
        if reply.status != 400:  # so it was the option, and not words of the client's own
            self._rejects.add((first.target.provider.name, first.target.model))
        return reply

    async def _send(self, call: Call) -> Reply:
        one, out = call.last, call.out
        provider = one.target.provider
        drill = self.faults.on(provider.name)
        before = perf_counter()
        one.delivery = Delivery.MAYBE_ACCEPTED  # until we learn more, it may have been billed
        try:
            reply = await self.upstream.send(
                provider.name,
                url_of(call),
                headers=headers_of(call),
                body=out.body,
                timeouts=self.stream_timeouts if out.view.stream else self.whole_timeouts,
                through=None if drill is None else drill.before(one, out),
            )
        finally:
            call.waited += perf_counter() - before
        call.reply = reply
        one.delivery = Delivery.RESPONDING
        one.http_status = reply.status
        if reply.status >= 400:
            one.wait_s = told_wait_s(reply.header, self.now_ms())
            one.should_retry = told_should_retry(reply.header)
        named = (as_name(reply.header(name)) for name in provider.request_id_headers)
        one.request_id = next(filter(None, named), None)
        one.region = provider.region
        if provider.region_header:
            one.region = as_name(reply.header(provider.region_header)) or provider.region
        return reply


def url_of(call: Call) -> str:
    """Where the newest attempt goes."""
    target, out = call.last.target, call.out
    path = out.dialect.target(out.view, target.model)
    if not out.translated and (query := strip_key(call.request.query)):
        path = f"{path}?{query}"
    return target.provider.url(out.dialect.name, path, target.model)


def headers_of(call: Call) -> list[tuple[str, str]]:
    """The headers of the newest attempt, its credential among them."""
    credential = call.last.target.credential
    if call.out.translated:
        return afresh(call.request.headers, call.out.required_headers, credential)
    return upward(call.request.headers, credential)
