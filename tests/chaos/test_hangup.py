"""Clients that leave: the provider is let go at once, and the receipt is still written.

How soon is judged by the provider's own log: its clock says when the request broke off. The moment
of leaving is taken on the same machine's clock, just before the client's socket is closed.
"""

import asyncio
import random
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from calls import CHAT, STREAMING, Door
from sidecar import REPOSITORY, Sidecar, provider

from modelspend.simulator import Simulator

CLOSED_WITHIN_MS = 250


@dataclass(slots=True, kw_only=True)
class Leaver:
    """One client: what it asks, and when it goes. A body in chunks is what the quick lane hands
    over to aiohttp."""

    number: int
    in_chunks: bool
    door: Door
    model: str
    stream: bool
    after_bytes: int | None
    reset: bool
    left_at_ms: float = 0.0


def leavers(count: int, seed: int) -> list[Leaver]:
    """Clients of all dialects, streaming or not, that leave before or within their answer."""
    chance = random.Random(seed)
    out = []
    for number in range(count):
        stream = chance.random() < 0.7
        silent = not stream or chance.random() < 0.3
        out.append(
            Leaver(
                number=number,
                in_chunks=number % 2 == 1,
                door=chance.choice(STREAMING),
                model="sim-stall-headers" if silent else "sim-chunks-200+drip-5",
                stream=stream,
                after_bytes=None if silent else chance.randint(1, 6_000),
                reset=chance.random() < 0.3,
            )
        )
    return out


async def leave(one: Leaver, sidecar: Sidecar, sim: Simulator) -> None:
    """Ask, wait until the provider has the request (or some bytes came), and go."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    path, body = one.door.request(f"sim/{one.model}", stream=one.stream)
    framing = "Transfer-Encoding: chunked" if one.in_chunks else f"Content-Length: {len(body)}"
    if one.in_chunks:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {sidecar.host}\r\nContent-Type: application/json\r\n"
        f"x-client-request-id: {one.number}\r\n{framing}\r\n\r\n"
    )
    try:
        writer.write(head.encode() + body)
        if one.after_bytes is None:
            await _accepted(sim, one.number)
        else:
            await reader.readexactly(one.after_bytes)
        handle: socket.socket = writer.get_extra_info("socket")
        if one.reset:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.left_at_ms = time.time() * 1000
    finally:
        writer.transport.abort()


async def _accepted(sim: Simulator, number: int) -> None:
    async with asyncio.timeout(20):
        while not any(
            seen.headers.get("x-client-request-id") == str(number) for seen in sim.requests
        ):
            await asyncio.sleep(0.005)


async def let_them_leave(sidecar: Sidecar, sim: Simulator, crowd: list[Leaver]) -> list[float]:
    """All of them, sixteen at a time; milliseconds until the provider saw each go."""
    places = asyncio.Semaphore(16)

    async def one_by_one(one: Leaver) -> None:
        async with places:
            await leave(one, sidecar, sim)

    await asyncio.gather(*map(one_by_one, crowd))
    async with asyncio.timeout(20):
        await sim.quiet()
    number_of = {line["n"]: line["attempt"] for line in sim.log if line["event"] == "accepted"}
    ended = {number_of[line["n"]]: line for line in sim.ended()}
    closed = [(ended[str(one.number)], one.left_at_ms) for one in crowd]
    assert {line["outcome"] for line, _ in closed} == {"aborted_by_client"}
    return sorted(line["at"] - left_at for line, left_at in closed)


async def _settle_down(sidecar: Sidecar) -> int:
    """Descriptors once the count no longer changes (idle connections to providers included)."""
    async with aiohttp.ClientSession() as session:
        path, body = CHAT.request("sim/sim-ok")
        async with session.post(sidecar.url + path, data=body) as answer:
            assert answer.status == 200
    return sidecar.sockets_and_files()


async def hang_up(folder: Path, count: int, seed: int, package: Path = REPOSITORY) -> None:
    """So many clients leave; asserts what the provider saw and what the ledger says."""
    async with Simulator(seed=seed, keep=100_000) as sim:
        async with Sidecar(folder, provider("sim", sim.url), package=package) as sidecar:
            await _settle_down(sidecar)
            before = await _settle_down(sidecar)
            crowd = leavers(count, seed)
            took = await let_them_leave(sidecar, sim, crowd)
            await sidecar.until("SELECT count(*) FROM receipts", count + 2)
            await sidecar.until("SELECT count(*) FROM intents", 0)
            await _no_more_than(sidecar, before + 2)
            in_flight = await _status(sidecar, "in_flight")
            statuses = sidecar.ask("SELECT status, count(*) FROM receipts GROUP BY 1 ORDER BY 1")
            failures = sidecar.ask("SELECT DISTINCT failure_class FROM attempts ORDER BY 1")
            after = sidecar.sockets_and_files()
        log = sidecar.log_text()
    p99 = took[min(len(took) - 1, int(0.99 * len(took)))]
    print(
        f"\n{count} hang-ups: provider closed p50 {took[len(took) // 2]:.1f} ms,"
        f" p99 {p99:.1f} ms, worst {took[-1]:.1f} ms; receipts {dict(statuses)};"
        f" descriptors {before} -> {after}; in flight {in_flight}"
    )
    assert p99 <= CLOSED_WITHIN_MS
    assert dict(statuses) == {"client_disconnect": count, "success": 2}
    assert failures == [(None,), ("client_gone",)]
    assert in_flight == 0
    assert log == ""


async def _no_more_than(sidecar: Sidecar, descriptors: int) -> None:
    async with asyncio.timeout(10):
        while sidecar.sockets_and_files() > descriptors:
            await asyncio.sleep(0.02)


async def _status(sidecar: Sidecar, name: str) -> object:
    headers = {"Authorization": f"Bearer {sidecar.token()}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{sidecar.url}/v1/status") as answer,
    ):
        return (await answer.json())[name]


async def test_a_client_that_leaves_frees_its_provider_at_once_and_leaves_one_receipt(
    tmp_path: Path,
) -> None:
    await hang_up(tmp_path, 60, seed=2)


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_a_thousand_clients_that_leave_at_random_points_leak_nothing(tmp_path: Path) -> None:
    await hang_up(tmp_path, 1_000, seed=3)


async def test_a_client_that_leaves_after_the_terminal_event_has_a_success_on_its_receipt(
    tmp_path: Path,
) -> None:
    """The receipt was final before those bytes were sent, so going then changes nothing."""
    async with Simulator() as sim, Sidecar(tmp_path, provider("sim", sim.url)) as sidecar:
        for door in STREAMING:
            path, body = door.request("sim/sim-chunks-3", stream=True)
            reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
            head = f"POST {path} HTTP/1.1\r\nHost: {sidecar.host}\r\nContent-Length: {len(body)}"
            writer.write(f"{head}\r\n\r\n".encode() + body)
            await reader.readuntil(door.end)
            writer.transport.abort()
            rows = sidecar.ask("SELECT status FROM receipts ORDER BY seq DESC LIMIT 1")
            assert rows == [("success",)], door.dialect


async def test_a_provider_that_bills_the_whole_answer_is_drained_for_its_usage(
    tmp_path: Path,
) -> None:
    async with Simulator() as sim:
        config = provider("sim", sim.url, on_disconnect="drain", drain_s=10)
        async with Sidecar(tmp_path, config) as sidecar:
            one = Leaver(
                number=1,
                in_chunks=False,
                door=CHAT,
                model="sim-chunks-20+drip-5+tokens-700-90",
                stream=True,
                after_bytes=400,
                reset=False,
            )
            await leave(one, sidecar, sim)
            await sidecar.until("SELECT count(*) FROM receipts", 1)
            await sim.quiet()
            row = sidecar.ask(
                "SELECT status, input_tokens, output_tokens, usage_source FROM receipts"
            )
            outcome = sim.ended()[0]["outcome"]
    assert outcome == "complete"
    assert row == [("client_disconnect", 700, 90, "provider")]


async def test_a_drain_ends_at_its_limit(tmp_path: Path) -> None:
    async with Simulator() as sim:
        config = provider("sim", sim.url, on_disconnect="drain", drain_s=0.3)
        async with Sidecar(tmp_path, config) as sidecar:
            one = Leaver(
                number=1,
                in_chunks=True,
                door=CHAT,
                model="sim-stall-4",
                stream=True,
                after_bytes=400,
                reset=False,
            )
            await leave(one, sidecar, sim)
            async with asyncio.timeout(5):
                await sim.quiet()
            await sidecar.until("SELECT count(*) FROM receipts", 1)
            assert sidecar.ask("SELECT status FROM receipts") == [("client_disconnect",)]
        assert sim.ended()[0]["outcome"] == "aborted_by_client"
