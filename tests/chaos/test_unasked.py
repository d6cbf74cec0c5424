"""A provider that says more than it was asked: each caller gets its own answer, or an error.

What comes on a connection that nobody uses just then belongs to no call. The next one to use the
connection may be another tenant's.
"""

import asyncio
import json
from pathlib import Path

import aiohttp
from calls import CHAT
from sidecar import REPOSITORY, Sidecar, provider

from tests.fakes.peer import Peer, Wire
from tests.fakes.provider import CHAT as ANSWER
from tests.fakes.provider import whole

CALLS = 30


async def _says_too_much(wire: Wire) -> None:
    """The answer that was asked for, and when it has been read, one more."""
    while True:
        asked = json.loads((await wire.request()).partition(b"\r\n\r\n")[2])
        await wire.send(whole({**ANSWER, "id": asked["user"]}))
        await asyncio.sleep(0.02)
        await wire.send(whole({**ANSWER, "id": "nobody's"}))


async def ask_beside_what_nobody_asked(folder: Path, package: Path = REPOSITORY) -> None:
    """Call after call, each with its own mark; asserts that it comes back."""
    async with Peer(_says_too_much) as peer:
        config = provider("sim", f"http://127.0.0.1:{peer.port}")
        async with (
            Sidecar(folder, config, package=package) as sidecar,
            aiohttp.ClientSession() as session,
        ):
            for number in range(CALLS):
                path, body = CHAT.request("sim/m")
                marked = {**json.loads(body), "user": f"caller-{number}"}
                async with session.post(sidecar.url + path, json=marked) as answer:
                    said = await answer.json()
                    assert said["id"] == f"caller-{number}"
                await asyncio.sleep(0.04)
            assert sidecar.log_text() == ""


async def test_an_answer_that_nobody_asked_for_never_becomes_the_next_calls(tmp_path: Path) -> None:
    await ask_beside_what_nobody_asked(tmp_path)
