"""Carrying out steps over one real socket.

aiohttp frames the honest answers; broken ones are written to the transport beneath it. A close
that the plan asks for raises `Broken` after the bytes written so far have been flushed, so what the
client has seen does not depend on timing.
"""

import asyncio
import socket
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, assert_never

from aiohttp import web

from modelspend.simulator.plan import Cut, Fill, Stall, Step, Wait

_BLOCK = 64 * 1024
_WINDOW_BITS = {"gzip": 31, "deflate": 15}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Broken(Exception):
    """The connection was closed by us: by plan, or because the simulator is closing."""


@dataclass(slots=True)
class Sent:
    """What has been handed to the socket as the answer's body."""

    size: int = 0
    _digest: Any = field(default_factory=sha256)

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self._digest.update(data)

    @property
    def sha256(self) -> str:
        return str(self._digest.hexdigest())


class Wire:
    """One exchange's socket. `closing` ends every wait."""

    def __init__(self, http: web.Request, closing: asyncio.Event) -> None:
        self.sent = Sent()
        self._http = http
        self._closing = closing

    async def pause(self, ms: float) -> None:
        """Wait so long; when the simulator closes meanwhile, break off."""
        if not ms:
            await asyncio.sleep(0)
            return
        try:
            await asyncio.wait_for(self._closing.wait(), ms / 1000)
        except TimeoutError:
            return
        self.close()

    async def stall(self) -> None:
        await self._closing.wait()
        self.close()

    def close(self, *, reset: bool = False) -> None:
        """Close the connection under the answer. Always raises Broken."""
        transport = self._http.transport
        if transport is not None and reset:
            _reset_on_close(transport)
        self.hang_up()
        raise Broken

    def hang_up(self) -> None:
        """Close the connection once everything written has gone out."""
        if self._http.transport is not None:
            self._http.transport.close()

    async def answer(
        self,
        status: int,
        headers: Iterable[tuple[str, str]],
        steps: Iterable[Step],
        *,
        length: int | None = None,
        encoding: str | None = None,
    ) -> web.StreamResponse:
        """An HTTP answer; without a `length` it is chunked."""
        response = web.StreamResponse(status=status)
        for name, value in headers:
            response.headers.add(name, value)
        if encoding is not None:
            response.headers["Content-Encoding"] = encoding
        elif length is not None:
            response.content_length = length
        await response.prepare(self._http)
        self._http.writer.send_headers()
        for data in self._encoded(steps, encoding):
            await self._step(data, response)
        return response

    async def raw(self, steps: Iterable[Step]) -> None:
        """Bytes that are an answer only in name, then the close of the connection."""
        for step in steps:
            await self._step(step, self._http.writer)
        self.hang_up()

    async def _step(self, step: Step, to: Any) -> None:
        match step:
            case bytes():
                if step:
                    self.sent.add(step)
                    await to.write(step)
            case Fill():
                for block in _blocks(step):
                    self.sent.add(block)
                    await to.write(block)
            case Wait():
                await self.pause(step.ms)
            case Stall():
                await self.stall()
            case Cut():
                self.close(reset=step.reset)
            case _:
                assert_never(step)

    def _encoded(self, steps: Iterable[Step], encoding: str | None) -> Iterator[Step]:
        if encoding is None:
            yield from steps
            return
        pack = zlib.compressobj(wbits=_WINDOW_BITS[encoding])
        for step in steps:
            if isinstance(step, bytes):
                yield pack.compress(step) + pack.flush(zlib.Z_SYNC_FLUSH)
            elif isinstance(step, Fill):
                yield from (pack.compress(block) for block in _blocks(step))
            else:
                yield step
        yield pack.flush()


def merged(*heads: Mapping[str, str] | Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers from several places, in order; a name may come twice."""
    return [pair for head in heads for pair in _pairs(head)]


def _pairs(head: Mapping[str, str] | Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    return head.items() if isinstance(head, Mapping) else head


def _blocks(fill: Fill) -> Iterator[bytes]:
    block = fill.letter * _BLOCK
    for _ in range(fill.size // _BLOCK):
        yield block
    if rest := fill.size % _BLOCK:
        yield fill.letter * rest


def _reset_on_close(transport: asyncio.BaseTransport) -> None:
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
