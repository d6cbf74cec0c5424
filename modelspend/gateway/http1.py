"""HTTP/1.1 as it is spoken to a provider: one connection, one exchange on it at a time.

llhttp reads the answers; what is here is the socket around it. An exchange keeps its own bytes, so
a connection is free for the next call the moment the last byte of an answer has come in, whoever
is still reading it. Nothing is ever sent twice: what broke may have been billed.
"""

import asyncio
import select
import ssl
import sys
from collections.abc import Callable
from typing import cast

import httptools

from modelspend.receipt import FailureClass

_BUFFER = 64 * 1024  # a client that reads slowly costs about twice this and no more
_LONGEST_FIELD = 16 * 1024
_LONGEST_SILENCE = 64 * 1024
"""Bytes that a provider may send without a byte of body: heads, trailers, chunk extensions."""


class Broken(Exception):
    """The exchange broke off; `failure` says how."""

    def __init__(self, failure: FailureClass) -> None:
        super().__init__(failure)
        self.failure = failure


class Exchange:
    """One request and what comes back. `status` is 0 until the head of the answer is there."""

    sent = True
    __slots__ = (
        "_chunks",
        "_connection",
        "_ended",
        "_failure",
        "_framed",
        "_size",
        "_waiter",
        "headers",
        "status",
    )

    def __init__(self, connection: "Connection") -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._connection = connection
        self._chunks: list[bytes] = []
        self._size = 0
        self._framed = False
        self._ended = False
        self._failure: FailureClass | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> bool:
        """Somebody waits for the provider now."""
        return self._waiter is not None

    @property
    def ended(self) -> bool:
        """All has come in that will come in."""
        return self._ended or self._failure is not None

    async def head(self) -> None:
        """Wait for status and headers. Raises Broken, also when what follows broke off already:
        an answer that nobody has seen yet may still be told as an error."""
        while not self.status and self._failure is None:
            await self._wait()
        if self._failure is not None:
            raise Broken(self._failure)

    async def more(self) -> bytes:
        """The bytes that have come since; b"" at the end. Raises Broken, after all that came."""
        while not self._chunks:
            if self._failure is not None:
                raise Broken(self._failure)
            if self._ended:
                return b""
            await self._wait()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        if self._size > _BUFFER and not self.ended:
            self._connection.resume()
        self._size = 0
        return data

    def fail(self, failure: FailureClass) -> None:
        """Break it off, for whoever reads it too."""
        if not self.ended:
            self._chunks.clear()
            self.broke(failure)
            self._connection.abort()

    def close(self) -> None:
        """Let go of it: a connection whose answer was not read to its end is of no more use."""
        if not self.ended:
            self._failure = FailureClass.DISCONNECTED
            self._connection.abort()

    # What its connection tells it.

    def began(self, status: int) -> None:
        """Raises ValueError for a framing that we could only guess at."""
        for name, value in self.headers:
            match name.lower():
                case b"content-length":
                    self._framed = True
                case b"transfer-encoding":
                    if value.strip(b" \t").lower() != b"chunked":
                        raise ValueError("a transfer coding that nobody asked for")
                    self._framed = True
        self.status = status
        self._wake()

    def came(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._size > _BUFFER:
            self._connection.pause()
        self._wake()

    def finished(self) -> None:
        self._ended = True
        self._wake()

    def closed(self) -> None:
        """The provider has said its last; an answer without a length ends so, and only so."""
        if self.status and not self._framed:
            self.finished()
        else:
            self.broke(FailureClass.DISCONNECTED)

    def broke(self, failure: FailureClass) -> None:
        if not self.ended:
            self._failure = failure
            self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = self._connection.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class Connection(asyncio.Protocol):
    """A socket to a provider. `released` is told when it is free again, or gone."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, released: Callable[["Connection"], None]
    ) -> None:
        self.loop = loop
        self.idle_since = 0.0
        self._released = released
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._silence = 0
        self._paused = False
        self._done = False
        self._keep = False
        self._large = False

    @property
    def usable(self) -> bool:
        """It can carry another exchange."""
        return (
            self._exchange is None
            and self._transport is not None
            and not self._transport.is_closing()
        )

    @property
    def quiet(self) -> bool:
        """Nothing waits to be read: neither its end nor an answer that nobody asked for, which
        would become the next call's."""
        return self._transport is not None and not self._readable()

    def send(self, head: bytes, body: bytes) -> Exchange:
        """Write a whole request; the exchange tells what comes back."""
        assert self._transport is not None, "an exchange on a connection that is gone"
        exchange = self._exchange = Exchange(self)
        self._parser = parser = httptools.HttpResponseParser(self)
        parser.set_dangerous_leniencies(  # what real servers send; none changes where a body ends
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self._silence, self._done, self._large = 0, False, len(body) > _BUFFER
        if self._large:
            self._transport.write(head)
            self._transport.write(body)
        else:
            self._transport.write(head + body)
        return exchange

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    # What the event loop tells it.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._readable = _asking(self._transport)

    def data_received(self, data: bytes) -> None:
        exchange, parser = self._exchange, self._parser
        if exchange is None or parser is None:
            self.abort()  # nobody asked: what it says now must not become the next call's answer
            return
        self._silence += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            exchange.broke(FailureClass.PROTOCOL)  # an answer that was whole before it stays so
            self.abort()
            return
        if self._done:
            self._free(exchange)
        elif self._silence > _LONGEST_SILENCE:
            exchange.broke(FailureClass.PROTOCOL)
            self.abort()

    def eof_received(self) -> None:
        if self._exchange is not None and _said(self._transport):
            self._exchange.closed()
        self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if self._exchange is not None:
            self._exchange.broke(FailureClass.DISCONNECTED)
        self._exchange = self._parser = self._transport = None
        self._released(self)

    # What the parser tells it.

    def on_message_begin(self) -> None:
        if self._done:
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self._exchange
        if exchange is None or exchange.status:
            return  # trailers: nobody asks for them
        if len(name) + len(value) > _LONGEST_FIELD:
            raise ValueError("a header beyond the bound")
        exchange.headers.append((name.rstrip(), value))  # `Content-Length : 5` (RFC 9112, 5.1)

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        assert self._exchange is not None
        status = self._parser.get_status_code()
        if status >= 200:
            self._exchange.began(status)
        elif status < 100:
            raise ValueError("not a status")
        else:  # 100 Continue, 103 Early Hints: the answer is still to come
            self._exchange.headers.clear()

    def on_body(self, data: bytes) -> None:
        assert self._exchange is not None
        if not self._exchange.status:
            raise ValueError("a body before the answer")
        self._silence = 0
        self._exchange.came(data)

    def on_message_complete(self) -> None:
        assert self._parser is not None
        assert self._exchange is not None
        if self._exchange.status:
            self._done = True
            self._keep = self._parser.should_keep_alive()  # only here does llhttp still know it
            self._exchange.finished()

    def _free(self, exchange: Exchange) -> None:
        """The answer is whole. Bytes still to be written belong to a request that is over; over
        TLS nobody tells of them, but who refuses a large body may not have read it."""
        self._exchange = self._parser = None
        self.resume()
        transport = self._transport
        if transport is None:
            return
        unread = transport.get_write_buffer_size() or (self._large and exchange.status >= 400)
        if self._keep and not unread:
            self._released(self)
        else:
            transport.abort()


def _said(transport: asyncio.Transport | None) -> bool:
    """Whether an end was the provider's own: over TLS it says so, and whoever has cut the line in
    between cannot (RFC 9112, 9.8)."""
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    if tls is None:
        return True
    try:
        return not tls.read(1)
    except ssl.SSLError:  # nothing to read yet: it was not said
        return False


def _asking(transport: asyncio.Transport) -> Callable[[], bool]:
    """Asks the kernel whether something waits to be read there."""
    handle = transport.get_extra_info("socket").fileno()
    if sys.platform == "win32":
        return lambda: bool(select.select([handle], [], [], 0)[0])
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return lambda: bool(poll.poll(0))
