"""A server that somebody else wrote, run on this machine while a test talks to it."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp

READY_S = 180


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@asynccontextmanager
async def server(
    folder: Path, *command: str, ready: str, env: Mapping[str, str]
) -> AsyncIterator[aiohttp.ClientSession]:
    """A server of its own group of processes, from when `ready` answers until the block ends."""
    folder.mkdir(exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **env, "HOME": str(folder)},
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as client:
            async with asyncio.timeout(READY_S):
                while not await _answers(client, ready):
                    assert process.poll() is None, (folder / "log").read_text()[-2000:]
                    await asyncio.sleep(0.2)
            yield client
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def _answers(client: aiohttp.ClientSession, url: str) -> bool:
    with suppress(aiohttp.ClientError):
        async with client.get(url) as answer:
            return answer.status == 200
    return False
