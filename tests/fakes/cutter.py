"""A line to a provider that is cut after so many bytes, of the request or of its answer.

It stands between a sidecar and a provider, one exchange on a connection. An answer is taken whole
from the provider before its first byte goes on: however little of it arrives, it was all made.
"""

import asyncio
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, NamedTuple, Self

_LINGER_0 = struct.pack("ii", 1, 0)

Side = Literal["request", "answer"]
How = Literal["reset", "close", "stall"]


class Cut(NamedTuple):
    """After so many bytes on that side, in that way; a stall lasts until the sidecar goes."""

    side: Side
    after: int
    how: How


@dataclass(slots=True)
class Passed:
    """How many bytes of the last exchange there were on each side."""

    request: int = 0
    answer: int = 0


class Cutter:
    """`async with Cutter(url) as line:` listens at `line.url`; `cut` is for the next exchange."""

    def __init__(self, url: str) -> None:
        self.cut: Cut | None = None
        self.passed = Passed()
        self._place = url.removeprefix("http://").split(":")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._exchange, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upward = await asyncio.open_connection(*self._place)
            try:
                await self._carry((reader, writer), upward)
            finally:
                upward[1].close()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _carry(self, here: "Stream", there: "Stream") -> None:
        cut = self.cut
        if cut is not None and cut.side == "request":
            there[1].write(await here[0].readexactly(cut.after))
            await there[1].drain()
            await _break(cut.how, here, there)
            return
        request = await _whole_request(here[0])
        there[1].write(request)
        answer = await there[0].read()
        self.passed = Passed(len(request), len(answer))
        here[1].write(answer if cut is None else answer[: cut.after])
        await here[1].drain()
        if cut is not None:
            await _break(cut.how, here, there)


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _whole_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line[15:] for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"]
    return head + await reader.readexactly(int(lengths[0]))


async def _break(how: How, here: Stream, there: Stream) -> None:
    if how == "stall":
        await here[0].read()  # until the sidecar has had enough
        return
    for _, writer in (here, there):
        if how == "reset":
            sock: socket.socket = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
            writer.transport.abort()
        writer.close()
