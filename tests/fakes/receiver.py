"""A receiver of syslog that is well, or misbehaves as receivers do."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.exporters.hostile import read_frames


@dataclass(slots=True)
class Receiver:
    """`mode` is: take, stall (takes the connection and reads nothing), or vanish (resets it once
    something has come, and forgets that). `data` holds what each connection brought, `datagrams`
    what UDP did. Its kernel takes 128 KiB for it and no more."""

    port: int = 0
    mode: str = "take"
    connected: int = 0
    data: list[bytearray] = field(default_factory=list)
    datagrams: list[bytes] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def messages(self) -> list[bytes]:
        """Every whole message, those of a connection that was cut too."""
        return [one for data in self.data for one in read_frames(_whole(bytes(data)))]

    async def until(self, count: int) -> None:
        """Wait for so many messages."""
        async with asyncio.timeout(20):
            while len(self.messages) + len(self.datagrams) < count:
                await asyncio.sleep(0.01)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        self.writers.append(writer)
        data = bytearray()
        self.data.append(data)
        try:
            if self.mode == "stall":
                await asyncio.Event().wait()
            while part := await reader.read(65_536):
                if self.mode == "vanish":
                    break
                data += part
        except ConnectionError:
            pass
        finally:
            writer.transport.abort() if self.mode == "vanish" else writer.close()


def _whole(data: bytes) -> bytes:
    """The frames that came to their end."""
    at = 0
    while (space := data.find(b" ", at)) > 0 and (end := space + 1 + int(data[at:space])) <= len(
        data
    ):
        at = end
    return data[:at]


@asynccontextmanager
async def receiver(*, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Receiver]:
    """One that listens for TCP or TLS while the block runs."""
    far = Receiver()
    running: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(far.take(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    listening.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(connected, sock=listening, ssl=tls, limit=4096)
    far.port = server.sockets[0].getsockname()[1]
    try:
        yield far
    finally:
        server.close()
        for task in tuple(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@asynccontextmanager
async def datagrams() -> AsyncIterator[Receiver]:
    """One that listens for UDP."""
    far = Receiver()

    class Taking(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, address: object) -> None:
            far.datagrams.append(data)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        Taking, local_addr=("127.0.0.1", 0)
    )
    far.port = transport.get_extra_info("sockname")[1]
    try:
        yield far
    finally:
        transport.close()
