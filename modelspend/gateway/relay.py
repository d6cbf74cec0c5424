"""A streamed answer on its way to the client.

Bytes pass as they come, read beside their way. From the first byte of the terminal event on they
are held until the receipt is final. A stream that ends in any other way is told as an error in
the client's own dialect, and `broken` asks the server to close without a proper end, so that no
client can take it for whole.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from time import perf_counter

from modelspend.dialects.dialect import StreamReader
from modelspend.errors import ModelspendError, Stopped, StreamTruncated
from modelspend.gateway.call import Call, Try
from modelspend.gateway.slices import Slices
from modelspend.gateway.upstream import AttemptFailed, Reply
from modelspend.receipt import Delivery, FailureClass, Status

Settle = Callable[[Call], Awaitable[None]]

_AFTER_END_S = 1.0
"""How long a provider may take to close after its terminal event before we stop listening."""


_MOST_EARLY = 64 * 1024
"""Bytes without content that are held back at most."""


class Relay:
    """Iterate it once; `close` it whatever happened."""

    def __init__(
        self, call: Call, reply: Reply, reader: StreamReader, settle: Settle, keep_up_to: int
    ) -> None:
        self.call = call
        self.broken = False
        self._try: Try = call.last
        self._try.note = reader.note
        self._try.streams = True
        self._reply = reply
        self._reader = reader
        self._settle = settle
        self._keep_up_to = keep_up_to
        self._trailing = call.out.dialect.usage_may_follow
        self._handed_on: float | None = None
        self._chunk = b""  # the newest
        self._early = b""
        self._held = b""
        self._closed = False
        self._broken: AttemptFailed | None = None

    async def begin(self, hold_s: float) -> None:
        """Read up to the first content, or for so long; what comes before it can still be thrown
        away. An attempt that fails by then has ended when this returns."""
        try:
            async with asyncio.timeout(hold_s):
                while not (self._reader.note.content or self._closed or self._over()):
                    self._early += await self._step()
                    if len(self._early) > _MOST_EARLY:
                        return
        except TimeoutError:
            return
        except AttemptFailed as failed:
            self._broken = failed
        note = self._reader.note
        if note.content:
            self._try.begins()
        elif self._broken is not None:
            stopped = self._broken.failure is FailureClass.STOPPED
            status = Status.BUDGET_STOPPED if stopped else Status.ERROR
            self._try.end(status, self._broken.failure, Delivery.RESPONDING)
        elif note.error is not None:
            self._try.end(Status.ERROR, FailureClass.ERROR_IN_STREAM, Delivery.RESPONDING)
        elif not note.ended:
            self._try.end(Status.TRUNCATED, FailureClass.TRUNCATED, Delivery.RESPONDING)

    async def _step(self) -> bytes:
        """Take in the next bytes; those that may go on to the client now."""
        self._chunk = await self._more()
        if self._chunk:
            now, later = self._reader.feed(self._chunk)
        else:
            self._closed = True
            now, later = self._reader.close()
        self._held += later
        return now

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes for the client, the terminal ones only after the receipt is final."""
        slices = self.call.slices
        if self._early:
            yield self._passing(self._early)
        try:
            if self._broken is not None:
                raise self._broken
            while not (self._closed or self._over()):
                if slices is not None and not await slices.go_on(self._chunk, self._reader.note):
                    now = await self._out_of_money(slices)
                    yield now
                    return
                if now := await self._step():
                    yield self._passing(now)
        except AttemptFailed as failed:
            now = await self._broke_off(failed)
            yield now
            return
        if not self._reader.note.ended and self._reader.note.error is None:
            now = await self._truncated()
            yield now
            return
        self._whole()
        self.call.answered(self._held, self._keep_up_to)
        await self._settle(self.call)
        if self._held:
            yield self._held
        async for rest in self._after_end():
            yield rest

    def stop(self, failure: FailureClass) -> None:
        """End it from outside: the client is told, the receipt says why."""
        self._reply.cut(failure)

    async def drain(self, limit_s: float) -> None:
        """Read on without a client, for the usage at the end; never longer than the limit."""
        try:
            async with asyncio.timeout(limit_s):
                while chunk := await self._more():
                    self._reader.feed(chunk)
                    if self._over():
                        return
                self._reader.close()
        except (TimeoutError, AttemptFailed):
            return

    def close(self) -> None:
        if self._handed_on is not None:  # the wait for a client that took no more was its own, too
            self.call.waited += perf_counter() - self._handed_on
            self._handed_on = None
        self._reply.close()

    def _over(self) -> bool:
        """All is said: an error, or the terminal event of a dialect in which it is the last."""
        note = self._reader.note
        return note.error is not None or (note.ended and not self._trailing)

    async def _more(self) -> bytes:
        """The next bytes of the provider; the waiting is its time or the client's, not ours."""
        before, self._handed_on = self._handed_on or perf_counter(), None
        try:
            return await self._reply.more()
        finally:
            self.call.waited += perf_counter() - before

    def _passing(self, data: bytes) -> bytes:
        if self._try.first_content is None and self._reader.note.content:
            self._try.begins()
        self.call.answered(data, self._keep_up_to)
        self._handed_on = perf_counter()
        return data

    def _whole(self) -> None:
        self._try.note = self._reader.note
        if self._reader.note.content:
            self._try.begins()
        if self._reader.note.error is None:
            self._try.end(Status.SUCCESS, delivery=Delivery.DONE)
        else:
            self.call.error = f"{self._reader.note.error.kind}: told inside the stream"
            self._try.end(Status.ERROR, FailureClass.ERROR_IN_STREAM, Delivery.RESPONDING)

    async def _truncated(self) -> bytes:
        self._try.end(Status.TRUNCATED, FailureClass.TRUNCATED, Delivery.RESPONDING)
        error = StreamTruncated(
            f"Provider {self._reply.provider} ended its stream without its terminal event.",
            "What came so far is incomplete; try again.",
            failure_class=FailureClass.TRUNCATED,
        )
        return await self._told(error)

    async def _out_of_money(self, slices: Slices) -> bytes:
        """The next slice does not fit: the provider is cut off before it writes on."""
        self._reply.close()
        self._try.end(Status.BUDGET_STOPPED, FailureClass.BUDGET, Delivery.RESPONDING)
        assert slices.refusal is not None
        return await self._told(slices.refusal)

    async def _broke_off(self, failed: AttemptFailed) -> bytes:
        if failed.failure is FailureClass.STOPPED:
            self._try.end(Status.BUDGET_STOPPED, failed.failure, Delivery.RESPONDING)
            return await self._told(
                Stopped("This stream was cut: its session or key has been stopped.")
            )
        status = Status.TRUNCATED if self._reader.note.content else Status.ERROR
        self._try.end(status, failed.failure, Delivery.RESPONDING)
        return await self._told(failed.told())

    async def _told(self, error: ModelspendError) -> bytes:
        """Our own error as the last event of the stream."""
        self.broken = True
        self.call.error = f"{error.code}: {error.message}"
        event = self._reader.error_event(error)
        self.call.answered(event, self._keep_up_to)
        await self._settle(self.call)
        return event

    async def _after_end(self) -> AsyncIterator[bytes]:
        """What a provider still says after its terminal event, and its closing."""
        try:
            async with asyncio.timeout(_AFTER_END_S):
                while chunk := await self._reply.more():
                    now, later = self._reader.feed(chunk)
                    if now or later:
                        yield now + later
        except (TimeoutError, AttemptFailed):
            return
