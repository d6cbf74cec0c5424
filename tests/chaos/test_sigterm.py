"""SIGTERM with streams open: each ends with its terminal event or an error event, and in time.

Streams of all dialects, through both doors: some end within the drain limit, some would go on for
ever, some have said nothing yet, and some clients have stopped reading. Times are judged with the
machine's own lag taken out: how late this very process wakes up meanwhile.
"""

import asyncio
import json
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from calls import CHAT, STREAMING, Door
from sidecar import REPOSITORY, Sidecar, provider

from modelspend.simulator import Simulator

DRAIN_S = 2.0
LATER_S = 0.5
REFUSED_WITHIN_S = 0.25

ENDS, GOES_ON, STALLS, SILENT = (
    "sim-chunks-20+drip-40",
    "sim-chunks-900+drip-20",
    "sim-stall-5+chunks-20",
    "sim-stall-headers",
)
_MIX = (ENDS, GOES_ON, STALLS, ENDS, SILENT)


@dataclass(slots=True)
class Stream:
    """One client; `came` is what it has read."""

    number: int
    door: Door
    model: str
    in_chunks: bool
    status: int = 0
    came: bytes = b""
    whole: bool = False
    broken: str = ""

    @property
    def verdict(self) -> str:
        """How it ended for its client; anything but `whole` and `told` is a fault."""
        if self.whole and self.door.end in self.came:
            return "whole"
        told = b"error" in self.came[-700:] and b"stopping" in self.came[-700:]
        if told and (not self.whole or self.status >= 500):
            return "told"
        return f"{self.broken or 'ended'} after {self.came[-60:]!r}"

    async def read(self, sidecar: Sidecar, session: aiohttp.ClientSession) -> None:
        path, body = self.door.request(f"sim/{self.model}", stream=True)
        data = _in_chunks(body) if self.in_chunks else body
        headers = {"content-type": "application/json"}
        try:
            async with session.post(sidecar.url + path, data=data, headers=headers) as answer:
                self.status = answer.status
                async for part in answer.content.iter_any():
                    self.came += part
                self.whole = True
        except (aiohttp.ClientError, ConnectionError) as error:
            self.broken = type(error).__name__


async def _in_chunks(body: bytes) -> AsyncIterator[bytes]:
    """What the quick lane hands over to aiohttp."""
    yield body


async def deaf(sidecar: Sidecar) -> socket.socket:
    """A client that asks for much and reads nothing."""
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await loop.sock_connect(client, ("127.0.0.1", sidecar.port))
    path, body = CHAT.request("sim/sim-size-50m", stream=True)
    head = f"POST {path} HTTP/1.1\r\nHost: {sidecar.host}\r\nContent-Length: {len(body)}\r\n\r\n"
    await loop.sock_sendall(client, head.encode() + body)
    return client


class Lag:
    """How late the event loop wakes up at worst, while the block runs."""

    worst_s = 0.0

    async def __aenter__(self) -> "Lag":
        self._task = asyncio.create_task(self._measure())  # noqa: TID251
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _measure(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            self.worst_s = max(self.worst_s, time.monotonic() - before - 0.01)

    @property
    def allowed_s(self) -> float:
        """What a starved machine may add: the sidecar takes a dozen turns, each as late as ours."""
        return 12 * self.worst_s

    @property
    def starved(self) -> bool:
        """Then even streams that are short may not end within the drain limit."""
        return self.worst_s > 0.02


async def refused_after(port: int) -> float:
    """Seconds until a new connection is refused."""
    began = time.monotonic()
    with suppress(ConnectionError):
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.transport.abort()
            await asyncio.sleep(0.005)
    return time.monotonic() - began


async def stop(folder: Path, streams: int, package: Path = REPOSITORY) -> str:
    """One round; what it found. Raises AssertionError."""
    async with Simulator(keep=10_000) as sim:
        server = f"drain_s = {DRAIN_S}"
        sidecar = Sidecar(folder, provider("sim", sim.url), server=server, package=package)
        await sidecar.start()
        open_streams = [
            Stream(n, STREAMING[n % 4], _MIX[n // 4 % len(_MIX)], in_chunks=n % 8 >= 4)
            for n in range(streams)
        ]
        silent = [await deaf(sidecar) for _ in range(max(1, streams // 50))]
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            reading = [
                asyncio.create_task(stream.read(sidecar, session))  # noqa: TID251
                for stream in open_streams
            ]
            everyone = streams + len(silent)
            async with asyncio.timeout(30):
                await sim.until(lambda: len(sim.requests) == everyone)
            assert sidecar._process is not None
            async with Lag() as lag, asyncio.timeout(DRAIN_S + 20):
                began = time.monotonic()
                sidecar._process.send_signal(signal.SIGTERM)
                refused = await refused_after(sidecar.port)
                code = await sidecar._process.wait()
                took = time.monotonic() - began
            async with asyncio.timeout(5):
                await asyncio.gather(*reading)
        for client in silent:
            client.close()
        verdicts = Counter(stream.verdict for stream in open_streams)
        rows = dict(sidecar.ask("SELECT status, count(*) FROM receipts GROUP BY 1"))
        wrong = sidecar.ask(
            "SELECT failure_class, count(*) FROM attempts WHERE failure_class IS NOT NULL"
            " AND failure_class <> 'shutdown' GROUP BY 1"
        )
        (intents,) = sidecar.ask("SELECT count(*) FROM intents")[0]
    assert set(verdicts) <= {"whole", "told"}, verdicts
    assert lag.starved or verdicts["whole"] == sum(one.model == ENDS for one in open_streams)
    assert (sum(rows.values()), intents) == (everyone, 0), "a receipt was lost"
    assert rows["success"] == verdicts["whole"]
    assert wrong == [], "somebody else was blamed"
    assert code == 0
    allowed = lag.allowed_s
    assert refused <= REFUSED_WITHIN_S + allowed, f"connections were taken for {refused:.3f} s"
    assert took <= DRAIN_S + LATER_S + allowed, f"it ended {took - DRAIN_S:.3f} s after the limit"
    return (
        f"{verdicts['whole']} streams whole, {verdicts['told']} told, {len(silent)} deaf;"
        f" refused after {1000 * refused:.0f} ms, ended {took - DRAIN_S:+.3f} s after the limit,"
        f" worst lag here {1000 * lag.worst_s:.0f} ms;"
        f" {json.dumps(rows)}"
    )


async def test_every_stream_ends_well_or_is_told_and_the_end_comes_in_time(tmp_path: Path) -> None:
    print("\n" + await stop(tmp_path, 20))


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("round_", range(20))
async def test_two_hundred_streams_twenty_times(tmp_path: Path, round_: int) -> None:
    """`pytest -m full tests/chaos/test_sigterm.py -s`"""
    print(f"\nround {round_}: " + await stop(tmp_path, 200))
