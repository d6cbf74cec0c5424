"""`kill -9` with circuits in every state: the next start goes on where the last one was.

Each kill finds three circuits: one closed that has failed of late, one open, and one half open
whose probe is out. The provider counts who comes after the restart. The full size, fifty kills:
`pytest -m full -s tests/chaos/test_kill_circuits.py`
"""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from calls import CHAT
from sidecar import REPOSITORY, Sidecar, provider

from tests.fakes.gate import Gate, gate

FAILURES = 3
"""In a row, until a circuit opens."""

ASKED_S = 4
"""What the provider of the open circuit asks for: it is not over when the sidecar is back."""

CIRCUITS = f"""
[circuits]
consecutive = {FAILURES}
wait_s = 0.02
wait_max_s = 60
jitter = 0
[retries]
max_attempts = 1
"""

CALLS = 6
"""Clients that call each circuit's model after the restart, all at once."""


@dataclass(slots=True)
class Found:
    """What was seen over all kills; seconds that waits differed from what they were to be."""

    kills: int = 0
    extra_calls: int = 0
    told_off_s: list[float] = field(default_factory=list)
    waited_off_s: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        told, waited = max(self.told_off_s), max(self.waited_off_s)
        return (
            f"{self.kills} kills with a circuit in each state: all restored, waits told within"
            f" {told:.3f} s and kept within {waited:.3f} s of what they were,"
            f" {self.extra_calls} calls too many at the dead provider"
        )


class Kills:
    """Brings three circuits into their states, kills, starts again, and looks."""

    def __init__(self, sidecar: Sidecar, dead: Gate, chance: random.Random) -> None:
        self.found = Found()
        self._sidecar, self._dead = sidecar, dead
        self._chance = chance

    async def one(self, n: int) -> None:
        closed, opened, half = f"closed-{n}", f"open-{n}", f"half-{n}"
        async with aiohttp.ClientSession() as session:
            await self._fail(session, closed, FAILURES - 1)
            await self._fail(session, opened, FAILURES - 1)
            await self._fail(session, opened, 1, {"Retry-After": str(ASKED_S)})
            await self._fail(session, half, FAILURES)
            probe = await self._probe(session, half)
            before = await self._circuits(session)
            await asyncio.sleep(self._chance.uniform(0, 0.01))  # at any instant
            await self._sidecar.kill()
            await asyncio.gather(probe, return_exceptions=True)
        await self._sidecar.start()
        async with aiohttp.ClientSession() as session:
            after = await self._circuits(session)
            assert before[half]["state"] == "half_open"
            self._same(before[opened], after[opened])
            assert (after[half]["state"], after[half]["probing"]) == ("open", False)
            assert _seconds(after[half]["retry_at"]) <= time.time()
            assert closed not in after or after[closed]["state"] == "closed"
            await self._stays_open(session, opened)
            await self._one_probe(session, half)
            await self._passes(session, closed)
            await self._opens_at(session, opened, _seconds(before[opened]["retry_at"]))
        self.found.kills += 1

    async def _fail(
        self,
        session: aiohttp.ClientSession,
        model: str,
        times: int,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._dead.let_out(503, headers)
        before = self._dead.asked
        for _ in range(times):
            assert await self._ask(session, model) == 503
        assert self._dead.asked == before + times

    async def _probe(self, session: aiohttp.ClientSession, model: str) -> "asyncio.Task[int]":
        """A call that waits at the provider, as the probe of a circuit that is half open."""
        self._dead.shut()
        before = self._dead.asked
        while True:  # until the wait is over
            probe = asyncio.get_running_loop().create_task(self._ask(session, model))
            came = asyncio.get_running_loop().create_task(
                self._dead.until(lambda: self._dead.asked > before)
            )
            await asyncio.wait({probe, came}, return_when=asyncio.FIRST_COMPLETED)
            if not probe.done():
                return probe
            came.cancel()

    def _same(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        for name in ("state", "reason", "failure_class", "trips", "manual"):
            assert after[name] == before[name], name
        told = abs(_seconds(after["retry_at"]) - _seconds(before["retry_at"]))
        assert told <= 0.1  # the ledger knows the instant, however long the restart takes
        self.found.told_off_s.append(told)

    async def _stays_open(self, session: aiohttp.ClientSession, model: str) -> None:
        """Nobody comes through, and each is told how long it takes."""
        before = self._dead.asked_for[model]
        answers = await asyncio.gather(*(self._ask(session, model) for _ in range(CALLS)))
        assert answers == [503] * CALLS
        self.found.extra_calls += self._dead.asked_for[model] - before
        assert self._dead.asked_for[model] == before

    async def _one_probe(self, session: aiohttp.ClientSession, model: str) -> None:
        """What was half open is asked at once, by one call alone."""
        self._dead.shut()
        before = self._dead.asked_for[model]
        loop = asyncio.get_running_loop()
        crowd = [loop.create_task(self._ask(session, model)) for _ in range(CALLS)]
        done = asyncio.as_completed(crowd)
        refused = [await next(done) for _ in range(CALLS - 1)]
        assert refused == [503] * (CALLS - 1)
        await self._dead.until(lambda: self._dead.inside > 0)
        assert (self._dead.asked_for[model] - before, self._dead.inside) == (1, 1)
        self._dead.let_out(200)
        assert 200 in await asyncio.gather(*crowd)

    async def _passes(self, session: aiohttp.ClientSession, model: str) -> None:
        before = self._dead.asked_for[model]
        answers = await asyncio.gather(*(self._ask(session, model) for _ in range(CALLS)))
        assert answers == [200] * CALLS
        assert self._dead.asked_for[model] == before + CALLS

    async def _opens_at(self, session: aiohttp.ClientSession, model: str, at: float) -> None:
        """Its wait goes on where it was: it is asked again when it was to be, and not before."""
        while await self._ask(session, model) != 200:
            await asyncio.sleep(0.01)
        late = time.time() - at
        assert -0.05 <= late <= 1, late
        self.found.waited_off_s.append(abs(late))

    async def _circuits(self, session: aiohttp.ClientSession) -> dict[str, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self._sidecar.token()}"}
        url = f"{self._sidecar.url}/v1/circuits"
        async with session.get(url, headers=headers) as answer:
            assert answer.status == 200
            return {one["model_id"]: one for one in (await answer.json())["items"]}

    async def _ask(self, session: aiohttp.ClientSession, model: str) -> int:
        path, body = CHAT.request(f"dead/{model}")
        async with session.post(self._sidecar.url + path, data=body) as answer:
            await answer.read()
            return answer.status


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


async def kill(folder: Path, *, kills: int, seed: int, package: Path = REPOSITORY) -> Found:
    """So many kills; then the receipts of all calls are there, and nothing is open."""
    async with gate() as dead:
        sidecar = Sidecar(folder, provider("dead", dead.url) + CIRCUITS, package=package)
        await sidecar.start()
        tried = Kills(sidecar, dead, random.Random(seed))
        try:
            for n in range(kills):
                await tried.one(n)
            assert sidecar.ask("SELECT count(*) FROM intents") == [(0,)]
            (interrupted,) = sidecar.ask(
                "SELECT count(*) FROM receipts WHERE status = 'interrupted'"
            )
            assert interrupted == (kills,)
        finally:
            await sidecar.kill()
    print(f"\n{tried.found}")
    return tried.found


async def test_a_kill_in_each_state_of_a_circuit_changes_nothing_but_the_process(
    tmp_path: Path,
) -> None:
    found = await kill(tmp_path, kills=1, seed=4)
    assert found.extra_calls == 0


async def test_a_kill_during_a_second_attempt_leaves_both_on_one_receipt(tmp_path: Path) -> None:
    tiers = "\n".join(
        f'{tier} = ["dead/m", "slow/m"]' for tier in ("simple", "standard", "deep_reasoning")
    )
    async with gate() as dead, gate() as slow:
        dead.let_out(503)
        slow.shut()
        config = provider("dead", dead.url) + provider("slow", slow.url) + f"[profiles.p]\n{tiers}"
        sidecar = Sidecar(tmp_path, config)
        await sidecar.start()
        path, body = CHAT.request("auto:p")
        async with aiohttp.ClientSession() as session:
            asking = asyncio.get_running_loop().create_task(
                session.post(sidecar.url + path, data=body)
            )
            await slow.until(lambda: slow.inside > 0)
            await sidecar.kill()
            await asyncio.gather(asking, return_exceptions=True)
        await sidecar.start()
        receipts = sidecar.ask("SELECT status FROM receipts")
        attempts = sidecar.ask("SELECT n, provider, delivery FROM attempts ORDER BY n")
        await sidecar.stop()
    assert receipts == [("interrupted",)]
    assert [row[:2] for row in attempts] == [(1, "dead"), (2, "slow")]
    assert attempts[1][2] == "maybe_accepted"


@pytest.mark.full
@pytest.mark.timeout(1800)
async def test_fifty_kills_in_each_state_of_a_circuit_change_nothing_but_the_process(
    tmp_path: Path,
) -> None:
    found = await kill(tmp_path, kills=50, seed=5)
    assert found.extra_calls == 0
