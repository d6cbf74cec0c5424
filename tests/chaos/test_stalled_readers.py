"""Clients that stop reading cost little memory while they stall, and are cut in the end."""

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from calls import CHAT
from sidecar import REPOSITORY, Sidecar, provider

from modelspend.simulator import Simulator

MORE_RSS_MB = 64


async def _stalled(sidecar: Sidecar, model: str) -> socket.socket:
    """A client with a small window that asks for a stream and never reads."""
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await loop.sock_connect(client, ("127.0.0.1", sidecar.port))
    path, body = CHAT.request(model, stream=True)
    head = f"POST {path} HTTP/1.1\r\nHost: {sidecar.host}\r\nContent-Length: {len(body)}\r\n\r\n"
    await loop.sock_sendall(client, head.encode() + body)
    return client


async def stall(folder: Path, readers: int, size: str, package: Path = REPOSITORY) -> None:
    """So many clients ask for so much and never read; asserts their cost and their end."""
    async with Simulator(keep=10_000) as sim:
        server = "client_stall_s = 2"
        config = provider("sim", sim.url)
        async with Sidecar(folder, config, server=server, package=package) as sidecar:
            warm = await _stalled(sidecar, "sim/sim-ok")
            await sidecar.until("SELECT count(*) FROM receipts", 1)
            warm.close()
            before = sidecar.rss_mb()
            model = f"sim/sim-size-{size}"
            async with AsyncExitStack() as open_sockets:
                for _ in range(readers):
                    open_sockets.callback((await _stalled(sidecar, model)).close)
                await sidecar.until("SELECT count(*) FROM receipts", readers + 1, limit_s=30)
            peak = sidecar.peak_rss_mb()
            rows = sidecar.ask("SELECT status, count(*) FROM receipts GROUP BY 1 ORDER BY 1")
            classes = sidecar.ask("SELECT failure_class, count(*) FROM attempts GROUP BY 1")
            waited = sidecar.ask("SELECT min(latency_ms) FROM receipts WHERE status <> 'success'")
            await sim.quiet()
            sent = sum(line["bytes_sent"] for line in sim.ended()) / readers / 1024**2
    print(
        f"\n{readers} stalled readers of {size}: RSS {before:.0f} -> at most {peak:.0f} MB;"
        f" {sent:.1f} MB taken from the provider for each; {dict(rows)}"
    )
    assert peak - before <= MORE_RSS_MB
    assert dict(rows) == {"client_disconnect": readers, "success": 1}
    assert dict(classes) == {None: 1, "client_stalled": readers}
    assert waited[0][0] >= 1_900, "a client was cut before its time"


async def test_readers_that_stall_are_cut_and_never_buffered(tmp_path: Path) -> None:
    await stall(tmp_path, 5, "100m")


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_a_hundred_stalled_readers_of_a_hundred_megabytes_cost_little_memory(
    tmp_path: Path,
) -> None:
    await stall(tmp_path, 100, "100m")


async def test_a_reader_that_is_slow_but_reads_is_not_cut(tmp_path: Path) -> None:
    """It takes longer than the limit in all, but never that long for one piece."""
    async with Simulator() as sim:
        server = "client_stall_s = 1"
        async with Sidecar(tmp_path, provider("sim", sim.url), server=server) as sidecar:
            client = await _stalled(sidecar, "sim/sim-size-4m")
            loop, total, said = asyncio.get_running_loop(), 0, b""
            began = loop.time()
            while loop.time() - began < 2.5:
                said = await asyncio.wait_for(loop.sock_recv(client, 4096), 5)
                total += len(said)
                await asyncio.sleep(0.05)  # the reader's own slowness
            while b"[DONE]" not in said[-4096:]:
                part = await asyncio.wait_for(loop.sock_recv(client, 1 << 20), 5)
                assert part, "the stream was cut"
                said = said[-64:] + part
            client.close()
            assert sidecar.ask("SELECT status FROM receipts") == [("success",)]
