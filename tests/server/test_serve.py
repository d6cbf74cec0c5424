"""`modelspend serve` as a process: ready line, signals, and what they leave behind."""

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import tomli_w

from modelspend.receipt import FailureClass, Receipt, Status
from modelspend.simulator import Simulator
from modelspend.store import Filter, Store
from tests.fakes.sidecar import ALL_DIALECTS, CUT, PRICE
from tests.gateway.asking import CHATS, question

_PLAIN_BODY = b'{"model":"sim/sim-ok","messages":[{"role":"user","content":"hi"}]}'
PLAIN = b"POST /v1/chat/completions HTTP/1.1\r\nHost: HOST\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_PLAIN_BODY),
    _PLAIN_BODY,
)


@asynccontextmanager
async def served(
    folder: Path, upstream: str, **server: Any
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A served sidecar: the process and its address."""
    provider = {"base_url": f"{upstream}/v1", "dialects": ALL_DIALECTS, "price": PRICE}
    tree = {
        "server": {"port": 0, **server},
        "store": {"path": str(folder / "ledger.db")},
        "providers": {"sim": provider},
    }
    file = folder / "config.toml"
    file.write_text(tomli_w.dumps(tree))
    async with running(file) as served:
        yield served


@asynccontextmanager
async def running(config: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The same with a configuration file of the caller's."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "modelspend", "serve", "--config", str(config),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert "http://" in line, (await process.communicate())[1].decode()
        yield process, line.split()[-1]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def receipts(folder: Path) -> list[Receipt]:
    store = await Store.open_read(folder / "ledger.db")
    try:
        return [one.receipt for one in await store.receipts.after(0, Filter(), limit=1000)]
    finally:
        await store.close()


DOORS = ("the lane", "aiohttp")
through_both = pytest.mark.parametrize("door", DOORS)


async def read(
    client: aiohttp.ClientSession, url: str, path: str, body: Any, door: str = DOORS[0]
) -> bytes:
    """What came of an answer; CUT stands for its missing end.

    A body in chunks is handed over to aiohttp.
    """
    came = bytearray()
    said = {"json": body} if door == DOORS[0] else {"data": _in_chunks(body)}
    async with client.post(url + path, **said) as answer:
        try:
            async for part in answer.content.iter_any():
                came += part
        except aiohttp.ClientPayloadError:
            came += CUT
    return bytes(came)


async def _in_chunks(body: Any) -> AsyncIterator[bytes]:
    yield json.dumps(body).encode()


async def refused(url: str) -> None:
    """Wait until new connections are refused."""
    host, port = url.removeprefix("http://").split(":")
    with suppress(ConnectionError):  # refused, or reset while the listener closes
        while True:
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            await asyncio.sleep(0.02)


async def begun(simulator: Simulator, n: int) -> None:
    while len(simulator.requests) < n:
        await asyncio.sleep(0.01)


@through_both
async def test_sigterm_lets_open_streams_finish_and_exits_cleanly(
    tmp_path: Path, simulator: Simulator, door: str
) -> None:
    async with served(tmp_path, simulator.url) as (process, url), aiohttp.ClientSession() as client:
        path, body = question("openai.chat", "sim-drip-20+chunks-15", stream=True)
        reading = [asyncio.create_task(read(client, url, path, body, door)) for _ in range(5)]  # noqa: TID251
        await begun(simulator, 5)
        process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*reading)
        assert await process.wait() == 0
    assert all(answer.endswith(b"data: [DONE]\n\n") for answer in answers)
    assert [one.execution.status for one in await receipts(tmp_path)] == [Status.SUCCESS] * 5


@through_both
async def test_streams_beyond_the_drain_limit_end_with_an_error_event_in_their_dialect(
    tmp_path: Path, simulator: Simulator, door: str
) -> None:
    async with (
        served(tmp_path, simulator.url, drain_s=0.3) as (process, url),
        aiohttp.ClientSession() as client,
    ):
        asked = [question(dialect, "sim-stall-9+chunks-20", stream=True) for dialect in CHATS]
        reading = [asyncio.create_task(read(client, url, *one, door)) for one in asked]  # noqa: TID251
        await begun(simulator, len(asked))
        process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*reading)
        assert await process.wait() == 0
    for answer in answers:
        assert answer.endswith(CUT)
        assert b"error" in answer
        assert b"stopping" in answer
    left = await receipts(tmp_path)
    assert len(left) == len(CHATS)
    assert {one.attempts[0].failure_class for one in left} == {FailureClass.SHUTDOWN}


@through_both
async def test_a_whole_answer_that_is_cut_by_the_stop_does_not_blame_its_client(
    tmp_path: Path, simulator: Simulator, door: str
) -> None:
    async with (
        served(tmp_path, simulator.url, drain_s=0.1) as (process, url),
        aiohttp.ClientSession() as client,
    ):
        path, body = question("openai.chat", "sim-stall-headers", stream=False)
        reading = asyncio.create_task(read(client, url, path, body, door))  # noqa: TID251
        await begun(simulator, 1)
        process.send_signal(signal.SIGTERM)
        with suppress(aiohttp.ClientError):
            await reading
        assert await process.wait() == 0
    (receipt,) = await receipts(tmp_path)
    assert receipt.execution.status is Status.ERROR
    assert receipt.attempts[0].failure_class is FailureClass.SHUTDOWN


@through_both
async def test_a_second_sigterm_does_not_wait(
    tmp_path: Path, simulator: Simulator, door: str
) -> None:
    async with (
        served(tmp_path, simulator.url, drain_s=600) as (process, url),
        aiohttp.ClientSession() as client,
    ):
        path, body = question("openai.chat", "sim-stall-5+chunks-20", stream=True)
        reading = asyncio.create_task(read(client, url, path, body, door))  # noqa: TID251
        await begun(simulator, 1)
        process.send_signal(signal.SIGTERM)
        await refused(url)  # two signals at once would be one
        process.send_signal(signal.SIGTERM)
        assert (await reading).endswith(CUT)
        assert await process.wait() == 0
    assert len(await receipts(tmp_path)) == 1


async def test_an_idle_connection_ends_as_soon_as_the_sidecar_is_told_to_stop(
    tmp_path: Path, simulator: Simulator
) -> None:
    """A stream that is open goes on meanwhile."""
    async with (
        served(tmp_path, simulator.url, drain_s=600) as (process, url),
        aiohttp.ClientSession() as client,
    ):
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(PLAIN.replace(b"HOST", f"{host}:{port}".encode()))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        path, body = question("openai.chat", "sim-stall-5+chunks-20", stream=True)
        reading = asyncio.create_task(read(client, url, path, body))  # noqa: TID251
        await begun(simulator, 2)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            await reader.read()
        writer.close()
        assert not reading.done()
        process.send_signal(signal.SIGTERM)
        assert (await reading).endswith(CUT)
        assert await process.wait() == 0


async def test_a_second_gateway_is_refused_and_told_who_holds_the_ledger(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with served(tmp_path, simulator.url) as (process, url):
        second = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "modelspend", "serve", "--port", "0",
            "--config", str(tmp_path / "config.toml"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, told = await second.communicate()
        assert second.returncode == 1
        assert str(process.pid) in told.decode()
        assert url in told.decode()


async def test_sighup_reads_the_configuration_again(tmp_path: Path, simulator: Simulator) -> None:
    async with served(tmp_path, simulator.url) as (process, url), aiohttp.ClientSession() as client:
        file = tmp_path / "config.toml"
        file.write_text(file.read_text().replace("providers.sim", "providers.renamed"))
        process.send_signal(signal.SIGHUP)
        body = {"model": "renamed/sim-ok", "messages": [{"role": "user", "content": "hi"}]}
        async with asyncio.timeout(20):
            while b"chat.completion" not in await read(client, url, "/v1/chat/completions", body):
                await asyncio.sleep(0.02)


async def test_a_shell_that_gives_few_descriptors_does_not_bound_the_connections(
    tmp_path: Path, simulator: Simulator
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        async with served(tmp_path, simulator.url) as (process, _):
            limits = Path(f"/proc/{process.pid}/limits").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (line,) = (line for line in limits.splitlines() if line.startswith("Max open files"))
    assert int(line.split()[3]) >= min(hard, 4096)
