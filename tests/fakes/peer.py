"""A server whose every byte is scripted, on a real socket: it says what no HTTP library would.

A script runs once for each connection; when it returns, the connection is closed. The server's
side uses bare sockets, so that a byte leaves when the script says so.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Self

_LINGER_0 = struct.pack("ii", 1, 0)
_ROUNDS = 3  # of the event loop: sent, readable, read


class Wire:
    """One accepted connection, as the server sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._came = b""

    async def request(self) -> bytes:
        """One whole request, framed by its Content-Length. Raises ConnectionError at the end."""
        while b"\r\n\r\n" not in self._came:
            await self._more()
        head, _, _ = self._came.partition(b"\r\n\r\n")
        lengths = [line[15:] for line in head.lower().split(b"\r\n") if line[:15] == _LENGTH]
        size = len(head) + 4 + int(lengths[0] if lengths else 0)
        while len(self._came) < size:
            await self._more()
        asked, self._came = self._came[:size], self._came[size:]
        return asked

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def send_apart(self, *parts: bytes) -> None:
        """Send so that each part is read by itself, by a client on this event loop."""
        for part in parts:
            await self.send(part)
            for _ in range(_ROUNDS):
                await asyncio.sleep(0)

    async def gone(self) -> None:
        """Wait until the client has closed the connection, whatever it still sends."""
        with suppress(ConnectionError):
            while True:
                self._came = b""
                await self._more()

    def reset(self) -> None:
        """Close so that the client sees a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        self.sock.close()

    async def _more(self) -> None:
        data = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
        if not data:
            raise ConnectionResetError("the client has closed")
        self._came += data


_LENGTH = b"content-length:"
Script = Callable[[Wire], Awaitable[None]]


class Peer:
    """`async with Peer(script) as peer:` listens at `peer.url`; `accepted` counts connections."""

    def __init__(
        self,
        script: Script,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        receive_buffer: int | None = None,
    ) -> None:
        self.script = script
        self.accepted = 0
        self._host, self._wanted = host, port
        self._receive_buffer = receive_buffer
        self._tasks: set[asyncio.Task[None]] = set()
        self._wires: set[Wire] = set()

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}/v1/chat/completions"

    @property
    def open(self) -> int:
        """Connections whose script still runs."""
        return len(self._wires)

    async def __aenter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._listening = socket.socket(family)
        if self._receive_buffer is not None:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listening.bind((self._host, self._wanted))
        self._listening.listen(128)
        self._listening.setblocking(False)
        self._start(self._accept())
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends all scripts; raises what one of them raised."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        self._listening.close()
        for fault in ended:
            if error is None and isinstance(fault, Exception):
                raise fault

    def _start(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(work))

    async def _accept(self) -> None:
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(self._listening)
            self.accepted += 1
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._start(self._play(Wire(sock)))

    async def _play(self, wire: Wire) -> None:
        self._wires.add(wire)
        try:
            with suppress(ConnectionError):
                await self.script(wire)
        finally:
            self._wires.discard(wire)
            wire.sock.close()


def answering(*answers: bytes) -> Script:
    """A script that answers each request on a connection, with the last answer over and over."""

    async def script(wire: Wire) -> None:
        for answer in answers:
            await wire.request()
            await wire.send(answer)
        while True:
            await wire.request()
            await wire.send(answers[-1])

    return script
