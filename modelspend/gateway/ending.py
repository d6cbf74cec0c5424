"""How calls end: settled once, whoever comes first; and every way of ending badly.

A call that went well was settled before its last bytes; what is here beside `settle` tells the
abnormal ends apart and blames the right one: the provider, the client, or ourselves.
"""

import asyncio

from modelspend import tasks
from modelspend.errors import BudgetExceeded, LedgerUnavailable, ModelspendError, Stopped
from modelspend.gateway.call import Call
from modelspend.gateway.relay import Relay
from modelspend.gateway.settle import Settler
from modelspend.gateway.upstream import AttemptFailed
from modelspend.receipt import Delivery, FailureClass, Status


class ClientStalled(Exception):
    """The client took nothing of its answer for too long; the server says so."""


class Endings:
    """Ends calls. `relays` are the streams that are open now."""

    def __init__(self, settler: Settler) -> None:
        self.relays: set[Relay] = set()
        self._settler = settler
        self._cutting = False

    def cut_all(self) -> None:
        """End every open stream, and whatever is still under way, because we are stopping."""
        self._cutting = True
        for relay in tuple(self.relays):
            relay.stop(FailureClass.SHUTDOWN)

    def stop(self, name: str) -> int:
        """Cut the open streams of a session or key; how many there were."""
        cut = [r for r in self.relays if name in (r.call.session_id, r.call.caller.key_id)]
        for relay in cut:
            relay.stop(FailureClass.STOPPED)
        return len(cut)

    async def settle(self, call: Call) -> None:
        """Price the call and make its receipt durable; the first to settle wins."""
        if call.settled:
            return
        call.settled = True
        await self._settler.settle(call)

    async def failed(self, call: Call, failed: AttemptFailed) -> ModelspendError:
        call.last.end(Status.ERROR, failed.failure, failed.delivery)
        error = failed.told()
        error.retry_after_s = call.retry_after_s
        return await self.refused(call, error)

    async def refused(self, call: Call, error: ModelspendError) -> ModelspendError:
        """The receipt of a call that has no answer; the error goes on to the client."""
        if call.settled:
            return error
        refused = isinstance(error, BudgetExceeded | Stopped)
        unwritten = isinstance(error, LedgerUnavailable) and not call.begun
        if unwritten or (refused and not call.begun):
            while call.tries:  # nobody was asked, and nobody will be
                call.withdraw()
        if unwritten:
            call.settled = True  # without an intent nothing was sent, and nothing can be written
            return error
        if call.tries:
            ours = isinstance(error, LedgerUnavailable)
            ours = ours or call.last.delivery is Delivery.NOT_SENT
            call.last.end(Status.ERROR, FailureClass.INTERNAL if ours else FailureClass.PROTOCOL)
        call.status = Status.REFUSED if refused and not call.tries else Status.ERROR
        call.refused_for = error
        call.http_status = error.status
        call.error = f"{error.code}: {error.message}"
        error.receipt_id = call.receipt_id
        await self.settle(call)
        return error

    def left(self, call: Call, relay: Relay | None, cause: BaseException | None) -> None:
        """The block has ended. A call still open by now ended too early, by `cause`.

        The provider is cut off, or drained for the usage of its stream; the receipt comes after.
        """
        if call.settled:
            self._let_go(call, relay)
            return
        call.settled = True
        provider = call.last.target.provider if call.tries else None
        drains = relay is not None and provider is not None and provider.on_disconnect == "drain"
        if not drains:
            self._let_go(call, relay)
        end = _abnormal(cause, self._cutting)
        tasks.spawn(self._close(call, relay if drains else None, *end), f"settle {call.receipt_id}")

    async def _close(
        self, call: Call, draining: Relay | None, status: Status, failure: FailureClass, why: str
    ) -> None:
        if draining is not None:
            await draining.drain(call.last.target.provider.drain_s)
            self._let_go(call, draining)
        if call.tries:
            call.last.end(status, failure)
        call.status = status
        call.error = f"{failure}: {why}"
        await self._settler.settle(call)

    def _let_go(self, call: Call, relay: Relay | None) -> None:
        if relay is not None:
            relay.close()
            self.relays.discard(relay)
        elif call.reply is not None:
            call.reply.close()


def _abnormal(cause: BaseException | None, cutting: bool) -> tuple[Status, FailureClass, str]:
    """Who ended a call before its time, and how that is told: never to blame the wrong one."""
    match cause:
        case asyncio.CancelledError() | ConnectionError() if cutting:
            why = "the sidecar stopped before the end of its answer"
            return Status.ERROR, FailureClass.SHUTDOWN, why
        case None | asyncio.CancelledError() | ConnectionError() | ClientStalled():
            why = "the client left before the end of its answer"
            return Status.CLIENT_DISCONNECT, FailureClass.CLIENT_GONE, why
        case _:
            why = f"a fault of the sidecar itself ({type(cause).__name__})"
            return Status.ERROR, FailureClass.INTERNAL, why
