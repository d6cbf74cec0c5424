"""Faults in front of providers, on purpose and for a while: what a drill puts there.

A fault stands between an attempt and its connection, so all that judges a real failure judges it:
time-outs, readers, circuits, failover. It answers in place of the provider, and then nothing is
sent or billed; or it lets the request pass and spoils the answer, which the provider bills as it
would have. What a reader would not guess: when a fault ends, what it held up goes on as if it had
never been there.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from time import perf_counter

from modelspend.dialects.dialect import StreamReader
from modelspend.drills import Drill
from modelspend.errors import ProviderSaid
from modelspend.gateway.call import Try
from modelspend.gateway.http1 import Broken
from modelspend.gateway.line import Line, Opening, Through
from modelspend.gateway.passage import Passage
from modelspend.receipt import FailureClass

_PIECE = 64
_CHARS = 4
"""Letters of a token, as a rule of thumb."""

Ended = Callable[[Drill, str, int], None]
"""Told of the end of a drill: why, and how many attempts it has met."""


class Faults:
    """The drills that are on, one for each provider at most."""

    def __init__(self) -> None:
        self.listeners: list[Ended] = []
        self._on: dict[str, _On] = {}

    def on(self, provider: str) -> "_On | None":
        """The drill in front of a provider; nearly always there is none."""
        return self._on.get(provider)

    def name(self, provider: str) -> str | None:
        """The fault that is in front of a provider."""
        on = self._on.get(provider)
        return None if on is None else on.drill.fault.kind

    def __iter__(self) -> Iterator[Drill]:
        return iter([on.drill for on in self._on.values()])

    def begin(self, drill: Drill) -> None:
        """Put it there; it ends by itself. Any that was there must have ended."""
        loop = asyncio.get_running_loop()
        on = self._on[drill.provider] = _On(drill, perf_counter())
        for_s = (drill.until_ms - drill.started_at_ms) / 1000
        on.timer = loop.call_later(for_s, self.end, drill.drill_id, "over")

    def end(self, drill_id: str, why: str) -> bool:
        """Take it away, and let go on what it holds up; false when it was not on."""
        for on in self._on.values():
            if on.drill.drill_id == drill_id:
                del self._on[on.drill.provider]
                on.end()
                for listener in self.listeners:
                    listener(on.drill, why, on.met)
                return True
        return False

    def end_all(self, why: str) -> None:
        for drill in self:
            self.end(drill.drill_id, why)


class _On:
    """A drill that is on. `met` counts the attempts that it met."""

    def __init__(self, drill: Drill, began: float) -> None:
        self.drill = drill
        self.met = 0
        self.timer: asyncio.TimerHandle | None = None
        self._began = began
        self._holding: set[asyncio.Future[None]] = set()

    def end(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        for held in tuple(self._holding):
            _done(held)

    def before(self, one: Try, out: Passage) -> Through | None:
        """How an attempt gets through; None when it does as if nothing were there."""
        fault = self.drill.fault
        if fault.kind == "flapping" and (perf_counter() - self._began) // fault.period_s % 2:
            return None
        self.met += 1
        one.drill = fault.kind

        def through(opening: Opening) -> Line:
            one.faulty = self._line(opening, out)
            return one.faulty

        return through

    def _line(self, opening: Opening, out: Passage) -> Line:
        """What the attempt talks to."""
        fault, stream = self.drill.fault, out.view.stream
        match fault.kind:
            case "outage":
                return _Refusing(FailureClass.CONNECT)
            case "rate-limit":
                wait = (b"retry-after", str(fault.retry_after_s).encode())
                return _Answering(429, self._error(out, 429), wait)
            case "flapping":
                return _Answering(503, self._error(out, 503))
            case "slow":
                return _Late(self, opening, fault.delay_s)
            case "stall" if not fault.at:
                return _Late(self, opening, None)
            case "cut" if not fault.at:
                return _Refusing(FailureClass.DISCONNECTED)
            case "error-in-200" if not stream:
                return _Answering(200, self._error(out, 503))
            case "error-in-200" if not fault.at:
                return _Answering(200, self.event(_reader(out)), kind=_kind(out))
            case _:
                return _Spoiling(self, opening, _reader(out) if stream else None)

    def _error(self, out: Passage, status: int) -> bytes:
        return out.dialect.error_body(self._said(status))

    def event(self, reader: StreamReader) -> bytes:
        """An error in the words of the provider's stream."""
        return reader.error_event(self._said(503))

    def _said(self, status: int) -> ProviderSaid:
        kind = "rate_limit_exceeded" if status == 429 else "overloaded"
        drill = self.drill
        return ProviderSaid(
            f"A drill ({drill.fault.kind}) stands in front of {drill.provider}.",
            status=status,
            kind=kind,
        )

    async def hold(self, held: "asyncio.Future[None]", limit_s: float | None) -> None:
        """Wait until the drill ends, for so long at most, or until `held` is broken off."""
        timer = None
        if limit_s is not None:
            timer = asyncio.get_running_loop().call_later(limit_s, _done, held)
        self._holding.add(held)
        try:
            await held
        finally:
            self._holding.discard(held)
            if timer is not None:
                timer.cancel()


class _Refusing:
    """Nobody is there."""

    sent = waiting = False
    status = 0

    def __init__(self, failure: FailureClass) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self._failure = failure

    async def head(self) -> None:
        raise Broken(self._failure)

    async def more(self) -> bytes:
        raise Broken(self._failure)

    def fail(self, failure: FailureClass) -> None:
        self._failure = failure

    def close(self) -> None:
        return


class _Answering:
    """A whole answer in place of the provider's."""

    sent = waiting = False

    def __init__(
        self,
        status: int,
        body: bytes,
        *more: tuple[bytes, bytes],
        kind: bytes = b"application/json",
    ) -> None:
        self.status = status
        self.headers = [(b"content-type", kind), *more]
        self._body = body

    async def head(self) -> None:
        return

    async def more(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def fail(self, failure: FailureClass) -> None:
        self._body = b""

    def close(self) -> None:
        self._body = b""


class _Held:
    """A request that may be held up, before it is sent or in the middle of its answer."""

    def __init__(self, on: _On, opening: Opening) -> None:
        self._on = on
        self._opening = opening
        self._line: Line | None = None
        self._held: asyncio.Future[None] | None = None

    @property
    def sent(self) -> bool:
        return self._line is not None

    @property
    def status(self) -> int:
        return 0 if self._line is None else self._line.status

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [] if self._line is None else self._line.headers

    @property
    def waiting(self) -> bool:
        return self._held is not None or (self._line is not None and self._line.waiting)

    async def hold(self, limit_s: float | None = None) -> None:
        """Raises Broken when it was broken off meanwhile."""
        self._held = asyncio.get_running_loop().create_future()
        try:
            await self._on.hold(self._held, limit_s)
        finally:
            self._held = None

    async def send(self) -> Line:
        """The request goes out; the head of its answer is there."""
        self._line = await self._opening()
        await self._line.head()
        return self._line

    def fail(self, failure: FailureClass) -> None:
        if self._line is not None:
            self._line.fail(failure)
        if self._held is not None and not self._held.done():
            self._held.set_exception(Broken(failure))

    def close(self) -> None:
        if self._line is not None:
            self._line.close()


class _Late(_Held):
    """It is sent later, if its limits allow, and then goes its way."""

    def __init__(self, on: _On, opening: Opening, limit_s: float | None) -> None:
        super().__init__(on, opening)
        self._limit_s = limit_s

    async def head(self) -> None:
        await self.hold(self._limit_s)
        await self.send()

    async def more(self) -> bytes:
        assert self._line is not None, "an answer without a request"
        return await self._line.more()


class _Spoiling(_Held):
    """It is sent, and its answer comes as far as it may. Without a reader that is half of the first
    piece: of an answer that is no stream, nobody sees a part anyway."""

    def __init__(self, on: _On, opening: Opening, reader: StreamReader | None) -> None:
        super().__init__(on, opening)
        self._fault = on.drill.fault
        self._reader = reader
        self._pieces: deque[bytes] = deque()
        self._last = b""  # what ends the answer, while it waits
        self._due = self._spoilt = self._ended = False

    async def head(self) -> None:
        line = await self.send()
        told = {name.lower(): value.lower() for name, value in line.headers}
        if told.get(b"content-encoding", b"identity") != b"identity":
            self._reader = None

    async def more(self) -> bytes:
        while True:
            if self._due and not self._spoilt:
                self._spoilt = True
                if out := await self._spoil():
                    return out
            if self._ended:
                return b""
            if out := await self._pass():
                return out

    async def _spoil(self) -> bytes:
        assert self._line is not None, "an answer without a request"
        match self._fault.kind:
            case "cut":
                self._line.close()
                raise Broken(FailureClass.DISCONNECTED)
            case "error-in-200" if self._reader is not None:
                self._line.close()
                self._ended = True
                return self._on.event(self._reader)
            case _:
                await self.hold()
                out, self._last = self._last, b""
                return out

    async def _pass(self) -> bytes:
        """The next whole events; nothing while one is not whole, or at the end."""
        assert self._line is not None, "an answer without a request"
        if not self._pieces:
            chunk = await self._line.more()
            if not chunk:
                self._ended = True
                return b"".join(self._reader.close()) if self._reader else b""
            size = _PIECE if self._reader else -(-len(chunk) // 2)
            self._pieces.extend(chunk[at : at + size] for at in range(0, len(chunk), size))
        piece = self._pieces.popleft()
        if self._reader is None:
            self._due = True
            return piece
        now, later = self._reader.feed(piece)
        written = self._reader.note.output_chars
        self._due = self._due or bool(later) or written >= self._fault.at * _CHARS
        if self._due and not self._spoilt:
            self._last, later = later, b""
        return now + later


def _reader(out: Passage) -> StreamReader:
    return out.dialect.reader(out.view, hide_usage=False)


def _kind(out: Passage) -> bytes:
    return b"application/json" if out.view.framing == "array" else b"text/event-stream"


def _done(held: "asyncio.Future[None]") -> None:
    if not held.done():
        held.set_result(None)
