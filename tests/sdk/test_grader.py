"""An independent grader of clients: `llmock`, a server of other people's, finds no fault with how
failed calls are tried again.

It fails calls and breaks streams at random, and judges what comes next by its own journal: whether
waits that it asked for were kept, what no retry can mend was left alone, nobody was stormed, and
whether a stream that it cut short was taken for whole. The clients here try again what the sidecar
tells them has failed, as a vendor's library does: a cut that the sidecar hid would be found.

Run with `pytest -m full -s tests/sdk/test_grader.py`; it is installed from the package index then.
"""

import asyncio
import os
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.sidecar import CUT, PRICE, Sidecar, sidecar_for
from tests.gateway.asking import CHATS, question
from tests.sdk.clients import Home, python_home

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

VERSION = "0.2.2"

ERRORS = {400: 0.02, 401: 0.01, 429: 0.04, 500: 0.03, 503: 0.03, 529: 0.02}
FAULTS = {"disconnect": 0.05, "truncate": 0.08, "stall": 0.03}
AT_RANDOM = [
    *(f"--error-rate={status}={rate}" for status, rate in ERRORS.items()),
    *(f"--stream-fault={kind}={rate}" for kind, rate in FAULTS.items()),
    "--stream-stall-seconds=5",
]
BY_THE_MINUTE = ["--rpm=90"]

AT = {
    "openai.chat": "/v1",
    "openai.responses": "/v1",
    "anthropic.messages": "/anthropic/v1",
    "gemini.generate": "/gemini/v1beta",
}

_NEVER_AGAIN = {400, 401, 402, 403, 404, 422}
_MOST_TRIES = 8
_START_S = 30


@pytest.fixture(scope="module")
def grader(tmp_path_factory: pytest.TempPathFactory) -> Home:
    kept = os.environ.get("SDK_CLIENTS")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("clients")
    return python_home(folder / "llmock", f"llmock=={VERSION}")


@asynccontextmanager
async def serving(home: Home, folder: Path, *options: str) -> AsyncIterator[str]:
    """The grader's address while the block runs."""
    port = _free_port()
    process = await asyncio.create_subprocess_exec(
        str(home.folder / "bin" / "llmock"),
        *("serve", f"--port={port}", "--log-level=error", *options),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(_START_S), aiohttp.ClientSession() as session:
            while not await _answers(session, url):
                await asyncio.sleep(0.1)
        yield url
    finally:
        process.terminate()
        await process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/_llmock/verdict") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


@dataclass(slots=True)
class Clients:
    """Ask until they are answered, or told that it is of no use."""

    sidecar: Sidecar
    chance: random.Random
    answered: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    tries: int = 0

    async def crowd(self, calls: int, at_once: int) -> None:
        numbers = iter(range(calls))

        async def client() -> None:
            for n in numbers:
                await self.call(n)

        async with asyncio.TaskGroup() as clients:
            for _ in range(at_once):
                clients.create_task(client())

    async def call(self, n: int) -> None:
        dialect, stream = CHATS[n % 4], n % 8 >= 4
        path, body = question(dialect, "MODEL", stream=stream, text=f"question {n}")
        model = f"{dialect.partition('.')[0]}/m"
        if "model" in body:
            body["model"] = model
        path = path.replace("sim/MODEL", model)
        for tried in range(_MOST_TRIES):
            self.tries += 1
            status, headers, said = await self.sidecar.post(path, body)
            if status == 200 and CUT not in said:  # it trusts what it is told, and looks no closer
                self.answered += 1
                return
            if status in _NEVER_AGAIN or headers.get("x-should-retry") == "false":
                break
            wait_s = float(headers.get("retry-after", 0))
            await asyncio.sleep(wait_s or (0.1 * 2**tried * (1 + self.chance.random())))
        self.refused[status] += 1


@asynccontextmanager
async def graded(home: Home, folder: Path, *options: str) -> AsyncIterator[tuple[Clients, str]]:
    """Clients of a sidecar whose providers are all the grader."""
    async with serving(home, folder, *options) as url:
        providers = {
            dialect.partition(".")[0]: {
                "base_url": url + path,
                "dialects": [each for each in CHATS if AT[each] == path],
                "price": PRICE,
            }
            for dialect, path in AT.items()
        }
        async with sidecar_for(
            folder / "sidecar",
            url,
            providers=providers,
            retries={},
            circuits={},
            upstream={"idle_s": 0.5},
        ) as sidecar:
            yield Clients(sidecar, random.Random(1)), url


async def verdict(url: str) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/_llmock/verdict") as answer,
    ):
        return dict(await answer.json())


def told(said: dict[str, Any], clients: Clients) -> str:
    findings = Counter(f"{one['severity']} {one['code']}" for one in said["findings"])
    return (
        f"llmock {VERSION}: {said['calls']} calls, {said['attempts']} attempts,"
        f" {said['faults_injected']} faults; {clients.answered} answered,"
        f" refused {dict(clients.refused)}; findings {dict(findings)}"
    )


async def test_an_independent_grader_finds_no_fault_with_what_is_tried_again(
    grader: Home, tmp_path: Path
) -> None:
    async with graded(grader, tmp_path, *AT_RANDOM) as (clients, url):
        await clients.crowd(400, at_once=8)
        said = await verdict(url)
    print(f"\n{told(said, clients)}")
    assert said["faults_injected"] > 40
    assert [one for one in said["findings"] if one["severity"] == "error"] == []
    assert clients.answered > 360


async def test_an_independent_grader_finds_its_waits_kept(grader: Home, tmp_path: Path) -> None:
    async with graded(grader, tmp_path, *BY_THE_MINUTE) as (clients, url):
        await clients.crowd(340, at_once=8)
        said = await verdict(url)
    print(f"\n{told(said, clients)}")
    assert said["faults_injected"] or said["attempts"] > clients.answered
    assert [one for one in said["findings"] if one["severity"] == "error"] == []
