"""Syslog messages on their way: over TLS, TCP or UDP, to an address that was looked at.

Syslog has no answer. Over TCP and TLS messages count as taken when the far machine has acknowledged
every byte (Linux; elsewhere, when they have left this process), so what a connection that breaks
had not delivered is sent again on the next. Over UDP nobody can know.
"""

import asyncio
import ssl
import sys
from asyncio import BaseTransport, Transport
from collections.abc import Sequence
from pathlib import Path
from socket import SOCK_DGRAM, SOCK_STREAM, SocketKind
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import aiohappyeyeballs

from modelspend.exporters.addresses import Refused, checked, resolved
from modelspend.exporters.http import NotNow
from modelspend.exporters.syslog import octets
from modelspend.record import record

Way = Literal["tls", "tcp", "udp"]

PORTS = {"tls": 6514, "tcp": 601, "udp": 514}
MOST_DATAGRAM = 65_000
_LOOK_S = 0.005
_MOST_HEARD = 64 * 1024
_SIOCOUTQ = 0x5411  # asm-generic/ioctls.h: bytes that the far end has not acknowledged


@record
class Address:
    """Where a receiver listens."""

    way: Way
    host: str
    port: int


def address(url: str) -> Address:
    """Of `tls://host:port`; each way has its own port where none is written. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/"):
        raise ValueError(f"not a syslog receiver: {url}")
    way = cast("Way", parts.scheme)
    return Address(way=way, host=parts.hostname, port=parts.port or PORTS[way])


class Wire:
    """The way to one receiver. Nothing is opened before the first `send`."""

    def __init__(
        self, to: Address, *, allow_private: bool, timeout_s: float, ca_file: Path | None = None
    ) -> None:
        self.to, self.allow_private, self.timeout_s = to, allow_private, timeout_s
        self._ca_file = ca_file
        self._transport: Transport | None = None
        self._end = _End()

    async def send(self, messages: Sequence[bytes]) -> int:
        """All of them; how many were too long for a datagram, which none can be sent in.

        Raises NotNow when they are to be sent again.
        """
        if self.to.way != "tls" and not self.allow_private:
            raise NotNow("syslog without TLS is only for sinks with allow_private = true; use tls")
        try:
            async with asyncio.timeout(self.timeout_s):
                if self.to.way == "udp":
                    return await self._scatter(messages)
                await self._stream(messages)
                return 0
        except TimeoutError:
            await self.close()
            raise NotNow(f"{self.to.host} did not take it within {self.timeout_s:g} s") from None
        except (OSError, ValueError) as error:
            await self.close()
            raise NotNow(_said(self.to.host, error)) from None

    async def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    async def _stream(self, messages: Sequence[bytes]) -> None:
        if self._transport is None or self._end.lost:
            await self.close()
            self._transport = await self._connect()
        self._transport.write(b"".join(map(octets, messages)))
        await self._end.flowing.wait()
        await _acknowledged(self._transport)
        if self._end.lost:
            raise ConnectionResetError

    async def _connect(self) -> Transport:
        tls = self._context() if self.to.way == "tls" else None
        socket = await self._dial()
        self._end = _End()
        try:
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: self._end,
                sock=socket,
                ssl=tls,
                server_hostname=self.to.host if tls else None,
            )
        except BaseException:
            socket.close()
            raise
        transport.set_write_buffer_limits(high=1)  # 0 stops writing over TLS for ever
        return transport

    async def _dial(self) -> Any:
        """A socket that is connected to one of the addresses of the name; each is looked at."""
        check = checked(allow_private=self.allow_private)
        refused: list[Refused] = []

        def made(info: Any) -> Any:
            try:
                return check(info)
            except Refused as error:
                refused.append(error)
                raise

        places: Any = await self._places(SOCK_STREAM)
        try:
            return await aiohappyeyeballs.start_connection(
                places, happy_eyeballs_delay=0.25, socket_factory=made
            )
        except OSError:
            if refused:
                raise refused[0] from None
            raise

    async def _places(self, kind: SocketKind) -> list[Any]:
        return await resolved(self.to.host, self.to.port, kind)

    def _context(self) -> ssl.SSLContext:
        """RFC 5425: at least TLS 1.2, and the receiver's name is looked at."""
        return ssl.create_default_context(cafile=self._ca_file)

    async def _scatter(self, messages: Sequence[bytes]) -> int:
        loop = asyncio.get_running_loop()
        place, *_ = await self._places(SOCK_DGRAM)
        socket = checked(allow_private=self.allow_private)(place)
        too_long = 0
        try:
            await loop.sock_connect(socket, place[4])
            for said in messages:
                if len(said) > MOST_DATAGRAM:
                    too_long += 1
                    continue
                await loop.sock_sendall(socket, said)
        finally:
            socket.close()
        return too_long


class _End(asyncio.Protocol):
    """Our end of a connection: whether the far end is gone, and whether what was written is out.

    A receiver of syslog has nothing to say: one that does not stop is cut off, for what it says is
    read beside calls."""

    def __init__(self) -> None:
        self.lost = False
        self._heard = 0
        self._transport: BaseTransport | None = None
        self.flowing = asyncio.Event()
        self.flowing.set()

    def connection_made(self, transport: BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._heard += len(data)
        if self._heard > _MOST_HEARD and isinstance(self._transport, Transport):
            self._transport.abort()

    def pause_writing(self) -> None:
        self.flowing.clear()

    def resume_writing(self) -> None:
        self.flowing.set()

    def eof_received(self) -> bool:
        self.lost = True
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self.flowing.set()


async def _acknowledged(transport: Transport) -> None:
    """Until nothing is on its way, twice in a row: in between more may have been handed over."""
    if sys.platform != "linux":
        return
    quiet = 0
    while quiet < 2 and not transport.is_closing():
        quiet = quiet + 1 if _on_its_way(transport) == 0 else 0
        await asyncio.sleep(_LOOK_S)


def _on_its_way(transport: Transport) -> int:
    import fcntl
    import struct

    socket = transport.get_extra_info("socket")
    (waiting,) = struct.unpack("i", fcntl.ioctl(socket.fileno(), _SIOCOUTQ, b"\0" * 4))
    return int(waiting) + transport.get_write_buffer_size()


def _said(host: str, error: Exception) -> str:
    if isinstance(error, Refused):
        return f"{host}: {error}; if it is meant, set allow_private = true for this sink"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{host}: its certificate is not trusted ({error.verify_message})"
    return f"{host} cannot be reached ({type(error).__name__})"
