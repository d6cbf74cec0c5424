"""The one door to providers: this file alone knows the HTTP client.

It hides aiohttp's exceptions, its pool and its time-outs behind `Upstream.send` and `Reply.more`.
Two things that a reader would not guess: a connection that broke after the request was written is
`maybe_accepted` (the provider may bill it), and a reply that was not read to its end is closed,
never returned to the pool, since its unread bytes would spoil the next call.
"""

import asyncio
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Protocol, Self

import aiohttp
from yarl import URL

from modelspend.errors import UpstreamFailed
from modelspend.gateway.headers import text_of
from modelspend.receipt import Delivery, FailureClass

Headers = Sequence[tuple[str, str]]

_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
_MAX_HEADER_BYTES = 16 * 1024
_READ_BUFFER = 64 * 1024  # a client that reads slowly costs twice this and no more
_TICK_S = 0.25
_STEP = 1024 * 1024
_MAX_RATIO = 200  # text deflates to a tenth; only a bomb to a two-hundredth


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds for each phase; every phase has a failure class of its own."""

    connect_s: float
    first_byte_s: float
    idle_s: float
    total_s: float


class AttemptFailed(Exception):
    """A try at a provider that broke: `failure` says how, `delivery` how far it had got."""

    def __init__(self, failure: FailureClass, delivery: Delivery, provider: str) -> None:
        super().__init__(failure)
        self.failure = failure
        self.delivery = delivery
        self.provider = provider

    def told(self) -> UpstreamFailed:
        """The same in words for the caller."""
        words = _WORDS.get(self.failure, "broke off the exchange")
        return UpstreamFailed(
            f"Provider {self.provider} {words}.",
            "Try again, or see `modelspend receipts list --view on-call`.",
            failure_class=self.failure,
        )


_WORDS = {
    FailureClass.CONNECT: "could not be reached",
    FailureClass.CONNECT_TIMEOUT: "took too long to accept a connection",
    FailureClass.FIRST_BYTE_TIMEOUT: "sent nothing within the limit for a first byte",
    FailureClass.IDLE_TIMEOUT: "stopped sending in the middle of its answer",
    FailureClass.TOTAL_TIMEOUT: "did not finish within the limit for a whole answer",
    FailureClass.DISCONNECTED: "closed the connection before its answer was whole",
    FailureClass.PROTOCOL: "sent something that is not valid HTTP",
    FailureClass.SHUTDOWN: "was cut off because the sidecar is stopping",
}


class Upstream:
    """A pool of connections to every provider; open it once, close it last."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}
        self._watch = _Watch()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=_NO_TIMEOUT,
            read_bufsize=_READ_BUFFER,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(
        self,
        provider: str,
        url: str,
        *,
        headers: Headers,
        body: bytes,
        timeouts: Timeouts,
        method: str = "POST",
    ) -> "Reply":
        """Send `body` and wait for the head of the answer.

        Raises AttemptFailed. The reply must be closed by whoever got it.
        """
        assert self._session is not None, "Upstream is used before it is open"
        now = self._watch.now()
        waiting = _Waiting(now + timeouts.first_byte_s)
        self._watch.add(waiting)
        try:
            response = await self._session.request(
                method,
                self._url(url),
                data=body or None,
                headers=headers,
                allow_redirects=False,
                timeout=_connecting(timeouts.connect_s),
            )
        except asyncio.CancelledError:
            if waiting.gave_up():
                failure = FailureClass.FIRST_BYTE_TIMEOUT
                raise AttemptFailed(failure, Delivery.MAYBE_ACCEPTED, provider) from None
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _renamed(error, provider, waiting=True) from None
        finally:
            self._watch.discard(waiting)
        return Reply(provider, response, self._watch, timeouts.idle_s, now + timeouts.total_s)

    def _url(self, url: str) -> URL:
        parsed = self._urls.get(url)
        if parsed is None:
            if len(self._urls) > 4096:  # a client may ask for any model name in a path
                self._urls.clear()
            parsed = self._urls[url] = URL(url, encoded=True)
        return parsed


@cache
def _connecting(connect_s: float) -> aiohttp.ClientTimeout:
    """The only limit that is left to aiohttp: the phases after it have our own timers."""
    return aiohttp.ClientTimeout(total=None, sock_connect=connect_s)


class _Watched(Protocol):
    def look(self, now: float) -> None: ...


class _Watch:
    """Looks at all that is waited for, four times a second.

    A timer for each call would cost more than all else in this file; limits are in seconds, so a
    quarter of one more does not matter.
    """

    def __init__(self) -> None:
        self._watched: set[_Watched] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def now(self) -> float:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.time()

    def add(self, watched: _Watched) -> None:
        self._watched.add(watched)
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(_TICK_S, self._look)

    def discard(self, watched: _Watched) -> None:
        self._watched.discard(watched)

    def _look(self) -> None:
        self._timer = None
        now = self.now()
        for watched in tuple(self._watched):
            watched.look(now)
        if self._watched and self._loop is not None:
            self._timer = self._loop.call_later(_TICK_S, self._look)


class _Waiting:
    """The wait for the head of an answer; the task that waits is cancelled when it is too long."""

    __slots__ = ("_deadline", "_late", "_task")

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._late = False
        self._task = asyncio.current_task()

    def look(self, now: float) -> None:
        if now >= self._deadline and not self._late and self._task is not None:
            self._late = True
            self._task.cancel()

    def gave_up(self) -> bool:
        """Whether the cancellation was ours alone."""
        return self._late and self._task is not None and not self._task.uncancel()


class Reply:
    """The head of an answer, and its bytes as they come."""

    def __init__(
        self,
        provider: str,
        response: aiohttp.ClientResponse,
        watch: _Watch,
        idle_s: float,
        deadline: float,
    ) -> None:
        self.provider = provider
        self.status = response.status
        self.headers: Headers = [
            (text_of(name), text_of(value)) for name, value in response.raw_headers
        ]
        self.content_type = response.headers.get("Content-Type", "")
        self._response = response
        self._decode = _decoder(response.headers.get("Content-Encoding", ""))
        self.decoded = self._decode is not None
        self._put_back = b""
        self._idle_s = idle_s
        self._deadline = deadline
        self._watch = watch
        self._heard_at = watch.now()
        self._reading = True
        self._broken: FailureClass | None = None
        watch.add(self)
        self._connection_end = _end_of(response)
        if self._connection_end is not None:
            self._connection_end.add_done_callback(self._lost)

    def header(self, name: str) -> str | None:
        """The first value of a header; `name` in lower case."""
        return next((value for each, value in self.headers if each.lower() == name), None)

    async def more(self) -> bytes:
        """The next bytes, decoded; b"" at the end. Raises AttemptFailed."""
        if self._put_back:
            data, self._put_back = self._put_back, b""
            return data
        content = self._response.content
        self._heard_at = self._watch.now()
        self._reading = True
        while True:
            try:
                chunk = await content.readany()
            except (aiohttp.ClientError, OSError, ValueError) as error:
                if self._broken is not None:
                    raise AttemptFailed(self._broken, Delivery.RESPONDING, self.provider) from None
                raise _renamed(error, self.provider, waiting=False) from None
            if self._broken is not None:
                raise AttemptFailed(self._broken, Delivery.RESPONDING, self.provider)
            if not chunk:
                self._watch.discard(self)
                return b""
            plain = chunk if self._decode is None else self._decoded(chunk)
            if plain:
                self._reading = False
                return plain
            self._heard_at = self._watch.now()

    def _decoded(self, chunk: bytes) -> bytes:
        assert self._decode is not None
        try:
            return self._decode(chunk)
        except (zlib.error, ValueError):
            raise AttemptFailed(FailureClass.PROTOCOL, Delivery.RESPONDING, self.provider) from None

    def replay(self, data: bytes) -> None:
        """Put bytes back that were read to look at them; `more` gives them first."""
        self._put_back = data

    def close(self) -> None:
        """Let go of the answer: back to the pool if it was read to its end, else cut."""
        self._watch.discard(self)
        if self._connection_end is not None:
            self._connection_end.remove_done_callback(self._lost)
        self._response.close()

    def cut(self, failure: FailureClass) -> None:
        """Break the answer off from outside: a waiting `more` raises with this class."""
        self._broken = failure
        self._watch.discard(self)
        if self._response.connection is not None and self._response.connection.transport:
            self._response.connection.transport.abort()
        self._response.content.set_exception(aiohttp.ClientPayloadError("cut"))

    def _lost(self, end: "asyncio.Future[None]") -> None:
        """The connection has closed: an answer that is not whole by now will never be.

        aiohttp forgets to say so when it was the framing of a later chunk that could not be read.
        """
        end.exception()
        content = self._response.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("the connection was lost"))

    def look(self, now: float) -> None:
        """A client that reads slowly does not make the provider idle: only our waiting counts."""
        if now >= self._deadline:
            self.cut(FailureClass.TOTAL_TIMEOUT)
        elif self._reading and now >= self._heard_at + self._idle_s:
            self.cut(FailureClass.IDLE_TIMEOUT)


def _end_of(response: aiohttp.ClientResponse) -> "asyncio.Future[None] | None":
    """Done when the connection under an answer closes; None when the answer is whole already."""
    connection = response.connection
    return None if connection is None or connection.protocol is None else connection.protocol.closed


def _renamed(error: Exception, provider: str, *, waiting: bool) -> AttemptFailed:
    """aiohttp's error as ours; `waiting` is true until the head of the answer is there."""
    sent = Delivery.MAYBE_ACCEPTED if waiting else Delivery.RESPONDING
    match error:
        case aiohttp.ConnectionTimeoutError():
            return AttemptFailed(FailureClass.CONNECT_TIMEOUT, Delivery.NOT_SENT, provider)
        case aiohttp.ClientConnectorError() | aiohttp.InvalidURL():
            return AttemptFailed(FailureClass.CONNECT, Delivery.NOT_SENT, provider)
        case TimeoutError():
            return AttemptFailed(FailureClass.FIRST_BYTE_TIMEOUT, sent, provider)
        case aiohttp.ClientConnectionError() | aiohttp.ClientPayloadError() | OSError():
            return AttemptFailed(FailureClass.DISCONNECTED, sent, provider)
        case _:
            return AttemptFailed(FailureClass.PROTOCOL, sent, provider)


class _Decoder(Protocol):
    def __call__(self, chunk: bytes, /) -> bytes: ...


def _decoder(encoding: str) -> Callable[[bytes], bytes] | None:
    """A decoder for an answer that was compressed although we asked for identity.

    None for identity and for encodings that the standard library lacks: those pass as they are.
    """
    match encoding.strip().lower():
        case "gzip" | "x-gzip" | "deflate":
            return _Inflate()
        case _:
            return None


class _Inflate:
    """gzip or zlib, several members, in small steps and with a bound against bombs."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        self._out = 0
        self._in = 0

    def __call__(self, chunk: bytes) -> bytes:
        out = bytearray()
        self._in += len(chunk)
        while chunk:
            out += self._inner.decompress(chunk, _STEP)
            if self._out + len(out) > max(_STEP, _MAX_RATIO * self._in):
                raise ValueError("the answer inflates beyond the bound")
            chunk = self._inner.unconsumed_tail or self._inner.unused_data
            if self._inner.eof and chunk:
                self._inner = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        self._out += len(out)
        return bytes(out)
