"""The one door to providers: every byte that goes to one or comes from one passes here.

It hides the pool, the time-outs and the ways in which a network breaks behind `Upstream.send` and
`Reply.more`. Two things that a reader would not guess: a connection that broke after the request
was written is `maybe_accepted` (the provider may bill it), and a reply that was not read to its
end is cut, never returned to the pool, since its unread bytes would spoil the next call.
"""

import asyncio
import re
import socket
import ssl
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import NamedTuple, Protocol, Self
from urllib.parse import urlsplit

import aiohappyeyeballs

from modelspend.errors import UpstreamFailed
from modelspend.gateway.headers import text_of
from modelspend.gateway.http1 import Broken, Connection
from modelspend.gateway.line import Line, Through
from modelspend.receipt import Delivery, FailureClass
from modelspend.record import frozen

Headers = Sequence[tuple[str, str]]

_TICK_S = 0.25
_KEEP_IDLE_S = 15.0
_KEEP_ADDRESSES_S = 10.0
_NEXT_ADDRESS_S = 0.25  # RFC 8305: how long one address is tried before the next one is, too
_KNOWN_URLS = 4096
_LONGEST_KNOWN = 1024
_STEP = 1024 * 1024
_MAX_RATIO = 200  # text deflates to a tenth; only a bomb to a two-hundredth
_NOT_IN_TARGET = re.compile(rb"[\x00-\x20\x7f]")


@frozen(kw_only=True)
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
    FailureClass.STOPPED: "was cut off because its session or key has been stopped",
    FailureClass.SHUTDOWN: "was cut off because the sidecar is stopping",
}


class _Origin(NamedTuple):
    """Where connections go. `host` is as the Host header has it."""

    tls: bool
    name: str
    port: int
    host: str


class Upstream:
    """A pool of connections to every provider; open it once, close it last."""

    def __init__(self, keep_idle_s: float = _KEEP_IDLE_S) -> None:
        self._targets: dict[str, tuple[_Origin, bytes]] = {}
        self._pools: dict[_Origin, _Pool] = {}  # no more than are configured: see `Provider.url`
        self._watch = _Watch()
        self._cut: FailureClass | None = None
        self._connecting: set[asyncio.Timeout] = set()
        self._keep_idle_s = keep_idle_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pool in self._pools.values():
            await pool.close()

    async def send(
        self,
        provider: str,
        url: str,
        *,
        headers: Headers,
        body: bytes,
        timeouts: Timeouts,
        method: str = "POST",
        through: Through | None = None,
    ) -> "Reply":
        """Send `body` and wait for the head of the answer.

        Raises AttemptFailed. The reply must be closed by whoever got it.
        """
        now = self._watch.now()
        line: Line | None = None

        async def opening() -> Line:
            if self._cut is not None:
                raise Broken(self._cut)
            origin, target = self._place(url)
            head = _head(method, target, origin.host, headers, len(body))
            pool = self._pool(origin)
            connection = pool.free() or await self._connected(pool, timeouts.connect_s)
            return connection.send(head, body)

        try:
            line = await opening() if through is None else through(opening)
            reply = Reply(provider, line, self._watch, timeouts, now)
            try:
                await line.head()
            except BaseException:
                reply.close()
                raise
            reply.answered()
            return reply
        except Broken as broken:
            raise AttemptFailed(broken.failure, _delivery(line), provider) from None
        except TimeoutError:
            failure = self._cut or FailureClass.CONNECT_TIMEOUT
            raise AttemptFailed(failure, _delivery(line), provider) from None
        except (OSError, ValueError):
            raise AttemptFailed(FailureClass.CONNECT, _delivery(line), provider) from None

    def cut_all(self, failure: FailureClass) -> None:
        """Break off what is under way, and send nothing any more."""
        self._cut = failure
        for watched in self._watch.all():
            if isinstance(watched, Reply):
                watched.cut(failure)
        for patience in tuple(self._connecting):
            patience.reschedule(0)

    def _place(self, url: str) -> tuple[_Origin, bytes]:
        """Where a URL lies, and its request target. Raises ValueError."""
        place = self._targets.get(url)
        if place is None:
            if len(self._targets) >= _KNOWN_URLS:  # a client may ask for any model name in a path
                self._targets.clear()
            place = _split(url)
            if len(url) <= _LONGEST_KNOWN:
                self._targets[url] = place
        return place

    async def _connected(self, pool: "_Pool", limit_s: float) -> Connection:
        """A new connection. Raises OSError, ValueError or TimeoutError."""
        async with asyncio.timeout(limit_s) as patience:
            self._connecting.add(patience)
            try:
                return await pool.connect()
            finally:
                self._connecting.discard(patience)

    def _pool(self, origin: _Origin) -> "_Pool":
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = _Pool(origin, self._watch, self._keep_idle_s)
        return pool


def _delivery(line: Line | None) -> Delivery:
    """How far an attempt got that has no answer."""
    return Delivery.NOT_SENT if line is None or not line.sent else Delivery.MAYBE_ACCEPTED


def _split(url: str) -> tuple[_Origin, bytes]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an address of a provider")
    tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = path.encode()
    if _NOT_IN_TARGET.search(target):
        raise ValueError("not a request target")
    port = parts.port or (443 if tls else 80)
    return _Origin(tls, parts.hostname, port, parts.netloc.rpartition("@")[2]), target


def _head(method: str, target: bytes, host: str, headers: Headers, size: int) -> bytes:
    """The head of a request. Raises ValueError for a header that would end its line."""
    lines = [f"Host: {host}", *(f"{name}: {value}" for name, value in headers)]
    if size or method == "POST":
        lines.append(f"Content-Length: {size}")
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1 or "\0" in text:
        raise ValueError("a header holds the end of a line")
    return b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (method.encode(), target, text.encode())


class _Pool:
    """The connections to one origin: the one used last is used first, idle ones are closed."""

    def __init__(self, origin: _Origin, watch: "_Watch", keep_idle_s: float) -> None:
        self._origin = origin
        self._watch = watch
        self._keep_idle_s = keep_idle_s
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._closed = False
        self._all_gone: asyncio.Future[None] | None = None
        self._addresses: Sequence[aiohappyeyeballs.AddrInfoType] = ()
        self._addresses_until = 0.0
        self._context: ssl.SSLContext | None = None

    def free(self) -> Connection | None:
        """One that is open and idle."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                if connection.quiet:
                    return connection
                connection.abort()
        return None

    async def close(self) -> None:
        self._closed = True
        for connection in tuple(self._open):
            connection.abort()
        if self._open:
            self._all_gone = asyncio.get_running_loop().create_future()
            await self._all_gone

    def look(self, now: float) -> None:
        while self._idle and now - self._idle[0].idle_since >= self._keep_idle_s:
            self._idle.popleft().abort()
        if not self._idle:
            self._watch.discard(self)

    async def connect(self) -> Connection:
        """A new one. Raises OSError or ValueError."""
        loop = asyncio.get_running_loop()
        tls = await self._tls() if self._origin.tls else None
        now = loop.time()
        if now >= self._addresses_until:
            self._addresses = await loop.getaddrinfo(
                self._origin.name, self._origin.port, type=socket.SOCK_STREAM
            )
            self._addresses_until = now + _KEEP_ADDRESSES_S
        try:
            sock = await aiohappyeyeballs.start_connection(
                tuple(self._addresses), happy_eyeballs_delay=_NEXT_ADDRESS_S, loop=loop
            )
            _, connection = await loop.create_connection(
                partial(Connection, loop, self._released),
                sock=sock,
                ssl=tls,
                server_hostname=self._origin.name if tls else None,
            )
        except BaseException:
            self._addresses_until = 0.0  # they may have moved
            raise
        if not connection.usable:
            raise ConnectionResetError("it was lost as soon as it was there")
        self._open.add(connection)
        if self._closed:
            connection.abort()
            raise ConnectionAbortedError("the pool has closed meanwhile")
        return connection

    async def _tls(self) -> ssl.SSLContext:
        """What is trusted, read off the event loop: it is a quarter of a megabyte."""
        if self._context is None:
            self._context = await asyncio.to_thread(ssl.create_default_context)
        return self._context

    def _released(self, connection: Connection) -> None:
        if connection.usable:
            connection.idle_since = self._watch.now()
            self._idle.append(connection)
            self._watch.add(self)
        else:
            self._open.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            if self._all_gone is not None and not self._open and not self._all_gone.done():
                self._all_gone.set_result(None)


class _Watched(Protocol):
    def look(self, now: float) -> None: ...


class _Watch:
    """Looks at all that is waited for, four times a second.

    A timer for each call would cost more than all else in this file; limits are in seconds, so a
    quarter of one more does not matter. A look that comes late means that we were busy ourselves:
    what came in meanwhile was not read yet, so nobody is judged by it.
    """

    def __init__(self) -> None:
        self._due = 0.0
        self._watched: set[_Watched] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def now(self) -> float:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.time()

    def add(self, watched: _Watched) -> None:
        self._watched.add(watched)
        if self._timer is None:
            self._later(self.now())

    def discard(self, watched: _Watched) -> None:
        self._watched.discard(watched)

    def all(self) -> Sequence[_Watched]:
        return tuple(self._watched)

    def _look(self) -> None:
        self._timer = None
        now = self.now()
        if now - self._due < _TICK_S:
            for watched in tuple(self._watched):
                watched.look(now)
        if self._watched:
            self._later(now)

    def _later(self, now: float) -> None:
        assert self._loop is not None
        self._due = now + _TICK_S
        self._timer = self._loop.call_at(self._due, self._look)


class Reply:
    """The head of an answer, and its bytes as they come."""

    def __init__(
        self, provider: str, line: Line, watch: _Watch, timeouts: Timeouts, now: float
    ) -> None:
        self.provider = provider
        self.status = 0
        self.headers: Headers = ()
        self.content_type = ""
        self.decoded = False
        self._by_name: dict[str, str] = {}
        self._line = line
        self._decode: _Decoder | None = None
        self._put_back = b""
        self._idle_s = timeouts.idle_s
        self._head_by = now + timeouts.first_byte_s
        self._whole_by = now + timeouts.total_s
        self._heard_at = now
        self._watch = watch
        watch.add(self)

    def answered(self) -> None:
        """Take the head of the answer, which is there now."""
        self.status = self._line.status
        self.headers = [(text_of(name), text_of(value)) for name, value in self._line.headers]
        for name, value in self.headers:
            self._by_name.setdefault(name.lower(), value)
        self.content_type = self.header("content-type") or ""
        self._decode = _decoder(self.header("content-encoding") or "")
        self.decoded = self._decode is not None

    def header(self, name: str) -> str | None:
        """The first value of a header; `name` in lower case."""
        return self._by_name.get(name)

    async def more(self) -> bytes:
        """The next bytes, decoded; b"" at the end. Raises AttemptFailed; it is closed then."""
        if self._put_back:
            data, self._put_back = self._put_back, b""
            return data
        while True:
            self._heard_at = self._watch.now()
            try:
                chunk = await self._line.more()
            except Broken as broken:
                self.close()
                raise AttemptFailed(broken.failure, Delivery.RESPONDING, self.provider) from None
            if not chunk:
                self._watch.discard(self)
                return b""
            plain = chunk if self._decode is None else self._decoded(chunk)
            if plain:
                return plain

    def _decoded(self, chunk: bytes) -> bytes:
        assert self._decode is not None
        try:
            return self._decode(chunk)
        except (zlib.error, ValueError):
            self.close()
            raise AttemptFailed(FailureClass.PROTOCOL, Delivery.RESPONDING, self.provider) from None

    def replay(self, data: bytes) -> None:
        """Put bytes back that were read to look at them; `more` gives them first."""
        self._put_back = data

    def close(self) -> None:
        """Let go of the answer: a connection that was not read to its end is cut."""
        self._watch.discard(self)
        self._line.close()

    def cut(self, failure: FailureClass) -> None:
        """Break the answer off from outside: a waiting `more` raises with this class."""
        self._watch.discard(self)
        self._line.fail(failure)

    def look(self, now: float) -> None:
        """A client that reads slowly does not make the provider idle: only our waiting counts."""
        if now >= self._whole_by:
            self.cut(FailureClass.TOTAL_TIMEOUT)
        elif not self._line.status:
            if now >= self._head_by:
                self.cut(FailureClass.FIRST_BYTE_TIMEOUT)
        elif self._line.waiting and now >= self._heard_at + self._idle_s:
            self.cut(FailureClass.IDLE_TIMEOUT)


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
