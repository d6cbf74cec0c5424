"""`kill -9` over and over, before a sink that fails a third of the time: no event is lost.

In full, a hundred kills: `pytest -m full tests/chaos/test_kill_webhooks.py`.
"""

import asyncio
import random
from collections import Counter
from pathlib import Path

import aiohttp
import pytest
from calls import CHAT
from sidecar import Sidecar, provider

from modelspend.simulator import Simulator
from tests.fakes.sink import Far, Head, far_end, status

HOOK = """
[webhooks.ops]
url = "{url}"
types = ["*"]
allow_private = true
retry_s = [{pauses}]
"""
WAITING = "SELECT count(*) FROM webhook_deliveries WHERE due_at IS NOT NULL"


async def kill_often(folder: Path, simulator: Simulator, far: Far, kills: int) -> Sidecar:
    """Calls and deliveries go on while the process is killed; the sidecar of the end runs."""
    chance = random.Random(7)

    def answer(head: Head, body: bytes) -> bytes:
        return status("500 Oh" if chance.random() < 0.3 else "200 OK")

    far.answer = answer
    pauses = ", ".join(["0.02"] * 30)
    config = provider("sim", simulator.url) + HOOK.format(url=far.url, pauses=pauses)
    sidecar = Sidecar(folder, config)
    await sidecar.start()
    for _ in range(kills):
        async with aiohttp.ClientSession() as session:
            calls = [_call(session, sidecar.url) for _ in range(6)]
            going = asyncio.gather(*calls, return_exceptions=True)
            await asyncio.sleep(chance.uniform(0.02, 0.3))  # at any instant
            await sidecar.kill()
            await going
        await sidecar.start()
    return sidecar


async def _call(session: aiohttp.ClientSession, url: str) -> None:
    path, body = CHAT.request("sim/sim-ok")
    async with session.post(url + path, data=body) as answer:
        await answer.read()


async def nothing_is_lost(folder: Path, simulator: Simulator, kills: int) -> None:
    async with far_end() as far:
        sidecar = await kill_often(folder, simulator, far, kills)
        rows = "SELECT (SELECT count(*) FROM receipts) + (SELECT count(*) FROM events)"
        ((emitted,),) = sidecar.ask(rows)
        assert emitted > kills
        filed = "SELECT count(*) FROM webhook_deliveries"
        await sidecar.until(filed, emitted, limit_s=30)
        await sidecar.until(WAITING, 0, limit_s=60)
        ((sent, dropped, left),) = sidecar.ask("SELECT sent, dropped, filed FROM sinks")
        told = dict(sidecar.ask("SELECT delivery_id, status FROM webhook_deliveries"))
        dead = {one for (one,) in sidecar.ask("SELECT delivery_id FROM webhook_dead_letters")}
        await sidecar.stop()
        arrived = Counter(head["webhook-id"] for head, _ in far.got)
    delivered = {one for one, end in told.items() if end == "delivered"}
    assert (sent, dropped, left) == (len(delivered), len(dead), 0)
    assert delivered | dead == set(told)
    assert len(told) == emitted
    assert delivered <= set(arrived)  # at least once; a second time under the same id


@pytest.mark.timeout(180)
async def test_a_kill_loses_no_event(tmp_path: Path, simulator: Simulator) -> None:
    await nothing_is_lost(tmp_path, simulator, 4)


@pytest.mark.full
@pytest.mark.timeout(1800)
async def test_a_hundred_kills_lose_no_event(tmp_path: Path, simulator: Simulator) -> None:
    await nothing_is_lost(tmp_path, simulator, 100)
