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

from modelspend.answers import Kept
from modelspend.errors import (
    BudgetExceeded,
    Draining,
    LedgerUnavailable,
    ModelspendError,
    Overloaded,
    Stopped,
)
from modelspend.gateway.answering import Answer, Answering, tier_of
from modelspend.gateway.attempts import Attempts
from modelspend.gateway.brakes import Brakes
from modelspend.gateway.call import Call, Room
from modelspend.gateway.caller import Caller
from modelspend.gateway.conversations import session_of
from modelspend.gateway.ending import ClientStalled, Endings
from modelspend.gateway.failover import Failovers
from modelspend.gateway.passage import Request
from modelspend.gateway.purse import Purse
from modelspend.gateway.relay import Relay
from modelspend.gateway.router import Router
from modelspend.gateway.settle import Settler
from modelspend.gateway.thrift import Thrift
from modelspend.gateway.upstream import AttemptFailed
from modelspend.ids import Ids
from modelspend.receipt import FailureClass, Status
from modelspend.store import Store

_ROOM = 16 * 1024 * 1024


@dataclass(slots=True)
class Gateway:
    """Carries calls. One for each process; it holds no state of a call between calls."""

    router: Router
    store: Store
    settler: Settler
    thrift: Thrift
    purse: Purse
    brakes: Brakes
    failovers: Failovers
    attempts: Attempts
    answering: Answering
    endings: Endings
    ids: Ids
    now_ms: Callable[[], int]
    random: Callable[[int], bytes]
    fingerprint: Callable[[bytes, str], str]
    max_in_flight: int = 512
    draining: bool = False
    in_flight: int = 0
    _quiet: asyncio.Event = field(default_factory=asyncio.Event)
    _room: Room = field(default_factory=lambda: Room(_ROOM))

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

            # Finding who takes it: the first choice, unless it is being left alone.
            call.out = self.attempts.passage(call, call.target)
            await self.failovers.first(call)

            # Writing the intent, and in the same transaction the hold of what it may cost.
            self.settler.prepare(call)
            holds = await self.purse.hold(call)
            await self.store.calls.begin(call.intent(), holds)
            call.begun = True

            # Sending it, and passing the answer on; its receipt is final before its last bytes are.
            answer = await self._carried(call)
            relay = answer.relay
            yield answer
        except AttemptFailed as failed:
            raise await self.endings.failed(call, failed) from None
        except ClientStalled:
            call.last.end(Status.CLIENT_DISCONNECT, FailureClass.CLIENT_STALLED)
            raise
        except ModelspendError as error:
            raise await self.endings.refused(call, error) from None
        finally:
            # Only abnormal ends are still open here: a hang-up, a shutdown, a fault of ours.
            self.in_flight -= 1
            if self.draining and not self.in_flight:
                self._quiet.set()
            self.endings.left(call, relay, sys.exception())

    async def rehearse(self, request: Request, caller: Caller) -> Call:
        """The call as `open` would send it first, every splice done; nothing is sent or written.

        Raises what `open` would refuse it with, but for budgets and circuits: they may have changed
        by the time that it is sent.
        """
        now_ms, room = self.now_ms(), self._room
        call = Call(request, caller, receipt_id="", now_ms=now_ms, span_id="", room=room)
        self._read(call)
        await self._decide(call)
        await self.thrift.recall(call)
        self.thrift.shorten(call)
        call.out = self.attempts.passage(call, call.target)
        call.begin_try(call.target, now_ms)
        self.purse.limit(call)
        return call

    async def drained(self, limit_s: float, at_limit: Callable[[], None]) -> None:
        """Wait for the calls under way; at the limit, end streams with an error event, and whoever
        has no answer yet with an error. `at_limit` sees to those who do not read it."""
        self.draining = True
        if self.in_flight:
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._quiet.wait()
        self.endings.cut_all()
        self.attempts.upstream.cut_all(FailureClass.SHUTDOWN)
        self.failovers.stopping.set()
        at_limit()

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
            self.brakes.check(call)
        finally:
            if call.kills is not None:
                await self.stop(call.kills, "a rule against runaways has stopped it")

    async def stop(self, name: str, reason: str) -> int:
        """Refuse the calls of a session or key, and cut its open streams; how many there were."""
        await self.brakes.stop(name, reason, self.now_ms())
        return self.endings.stop(name)

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
        kept = await self.thrift.kept(call, bodies_kept=bodies_kept)
        if kept is not None and not self.purse.blocks(call):
            return kept
        await self.thrift.recall(call)
        self.thrift.shorten(call)
        return None

    async def _again(self, call: Call, kept: Kept) -> Answer:
        """A kept answer, given once more; its receipt says what that saves."""
        self.thrift.take(call, kept)
        call.answered(kept.body, self.settler.keep_up_to(call.caller.tenant))
        await self.endings.settle(call)
        headers = [
            *kept.headers,
            ("x-modelspend-receipt", call.receipt_id),
            ("x-modelspend-model", kept.model),
            ("x-modelspend-provider", kept.provider),
            ("x-modelspend-tier", tier_of(call)),
            ("x-modelspend-cache", f"hit; kept={kept.receipt_id}"),
            ("x-modelspend-overhead-ms", f"{call.overhead_ms():.3f}"),
            ("x-modelspend-cost-usd", "0"),
        ]
        return Answer(kept.status, headers, body=kept.body)

    async def _carried(self, call: Call) -> Answer:
        """The answer of the first who gives one. Before its first content a failure stays between
        a provider and us: whoever is next is asked. After it, never."""
        while True:
            opened, broken = None, None
            try:
                opened = await self.answering.open(call, await self.attempts.send(call))
            except AttemptFailed as failed:
                call.last.end(Status.ERROR, failed.failure, failed.delivery)
                broken = failed
            over = False
            try:
                over = call.last.failure is None or not await self._goes_on(call)
            finally:  # also of a call that ends in there: what was read is nobody's answer
                if opened is not None and not over:
                    self.answering.drop(opened)
            if not over:
                continue
            if broken is not None:
                raise broken
            assert opened is not None
            if opened.relay is not None and self.brakes.stopped(call):
                opened.relay.stop(FailureClass.STOPPED)  # it was stopped before there was a stream
            return await self.answering.answer(call, opened)

    async def _goes_on(self, call: Call) -> bool:
        """Begin one more attempt if there is to be one, and its hold has room as well."""
        out = call.out
        if not await self.failovers.after(call):
            return False
        try:
            await self.purse.hop(call)
        except (BudgetExceeded, Stopped):  # what the last one said stands
            self.failovers.withdraw(call)
            call.out = out
            return False
        return True
