"""One sidecar with two doors: the quick lane's, and one where aiohttp alone stands.

What a client may see must not depend on who serves it. aiohttp names itself in a `Server` header,
the lane does not: so an answer tells which of the two it came from.
"""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelspend.server.hearing import Hearing
from modelspend.server.keys import LIVE
from tests.fakes.provider import Provider, provider
from tests.fakes.sidecar import Sidecar, sidecar_for

_LINE_LIMIT = 16 * 1024
_VOLATILE = {"date", "server", "x-modelspend-receipt", "x-modelspend-overhead-ms"}
_QUIET_S = 0.2


@dataclass(frozen=True, slots=True)
class Said:
    """One answer. `lane` is true when the quick lane gave it."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    whole: bool = True
    lane: bool = field(default=False, compare=False)
    receipt: str = field(default="", compare=False)

    @property
    def as_sure(self) -> "Said":
        return self if self.whole else replace(self, body=b"")


@dataclass(slots=True)
class Doors:
    """`say` puts bytes through a door and takes what comes until it is quiet or closed."""

    sidecar: Sidecar
    provider: Provider
    plain: int
    other: int

    @property
    def host(self) -> bytes:
        return self.sidecar.url.removeprefix("http://").encode()

    async def say(self, port: int, *parts: bytes, wanted: int = 0) -> list[Said]:
        """Each part is read by itself; `HOST` in it stands for the sidecar's own name.

        With `wanted`, that many whole answers are waited for; else it ends when all is quiet.
        """
        loop = asyncio.get_running_loop()
        with socket.socket() as client:  # a bare one: it still gives what came before a reset
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(client, ("127.0.0.1", port))
            with suppress(ConnectionError):
                for part in parts:
                    await loop.sock_sendall(client, part.replace(b"HOST", self.host))
                    for _ in range(3 if len(parts) > 1 else 0):
                        await asyncio.sleep(0)
            came = bytearray()
            with suppress(ConnectionError):
                while part := await self._more(client, wait=wanted > 0):
                    came += part
                    if wanted and sum(one.whole for one in answers(bytes(came))) >= wanted:
                        break
        return answers(bytes(came))

    async def _more(self, client: socket.socket, *, wait: bool) -> bytes:
        """What comes next; b"" at the end, or when nothing comes and nothing is under way."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(10 if wait else _QUIET_S):
                    return await loop.sock_recv(client, 65536)
            except TimeoutError:
                if not self.sidecar.gateway.in_flight:
                    return b""

    async def both(self, *parts: bytes, wanted: int = 0) -> tuple[list[Said], list[Any]]:
        """What came through the lane's door, and what the provider got.

        Asserts that both are what they are when aiohttp stands there alone. How much comes of an
        answer that is cut depends on the network.
        """
        out = []
        for port in (self.plain, self.other):
            self.provider.requests.clear()
            said = await self.say(port, *parts, wanted=wanted)
            out.append((said, list(self.provider.requests)))
        lane, alone = ([one.as_sure for one in said] for said, _ in out)
        assert lane == alone, f"\n{lane}\n{alone}"
        assert out[0][1] == out[1][1]
        return out[0]


def answers(data: bytes) -> list[Said]:
    """The answers in what came over a connection; the last may be cut."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = [
            (name.lower(), value) for name, _, value in (x.partition(": ") for x in lines[1:])
        ]
        named = dict(headers)
        if status == 100:
            continue
        if named.get("transfer-encoding") == "chunked":
            body, whole, data = _dechunked(data)
        else:
            size = int(named.get("content-length", 0))
            body, data, whole = data[:size], data[size:], len(data) >= size
        kept = sorted(pair for pair in headers if pair[0] not in _VOLATILE)
        found.append(
            Said(
                status,
                tuple(kept),
                body,
                whole,
                lane="server" not in named,
                receipt=named.get("x-modelspend-receipt", ""),
            )
        )
    return found


def _dechunked(data: bytes) -> tuple[bytes, bool, bytes]:
    body = b""
    while found := re.match(rb"([0-9a-f]+)\r\n", data):
        size, at = int(found[1], 16), found.end()
        if size == 0:
            return body, True, data[at + 2 :]
        body += data[at : at + size]
        data = data[at + size + 2 :]
    return body, False, b""


@asynccontextmanager
async def doors(folder: Path, **sections: Any) -> AsyncIterator[Doors]:
    """A sidecar in front of a scripted provider, and the second door to it."""
    async with provider() as upstream, sidecar_for(folder, upstream.url, **sections) as sidecar:
        server = sidecar.app._make_handler(
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=75,
            max_line_size=_LINE_LIMIT,
            max_field_size=_LINE_LIMIT,
            auto_decompress=False,
        )
        hearing = Hearing(server, sidecar.app[LIVE].settings.server.header_timeout_s)
        hearing.start()
        listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        plain = int(sidecar.url.rpartition(":")[2])
        try:
            yield Doors(sidecar, upstream, plain, listening.sockets[0].getsockname()[1])
        finally:
            hearing.stop()
            listening.close()
            await server.shutdown(1)
