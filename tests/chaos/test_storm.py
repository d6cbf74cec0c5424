"""Every provider fails, or one of two: how often they are asked, and what clients see of it.

The simulated providers' own log counts the calls; the clients come at a steady rate, whatever
becomes of those before them. The full size, a minute at 200 calls a second each:
`pytest -m full -s tests/chaos/test_storm.py`
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import aiohttp
import pytest
from calls import STREAMING
from sidecar import REPOSITORY, Sidecar, provider

from modelspend.simulator import Simulator

RATE = 200
"""Calls a second."""

SHARE, FLOOR = 0.20, 3
"""Of all calls so many may be tried again where they were, and so many in any case."""

OPEN_WITHIN = 10

ROOM = "max_in_flight = 4096"
"""A machine that is busy otherwise makes calls wait, and that is not what is looked at here."""

TIERS = ("simple", "standard", "deep_reasoning")


@dataclass(slots=True)
class Seen:
    """What clients saw: how many of each status, and how long each call took, in the order in
    which they came."""

    statuses: Counter[int] = field(default_factory=Counter)
    took_ms: list[float] = field(default_factory=list)

    @property
    def calls(self) -> int:
        return self.statuses.total()

    def p99_ms(self) -> float:
        return sorted(self.took_ms)[int(0.99 * (len(self.took_ms) - 1))]


class Clients:
    """Calls for models in turn, in all dialects, streamed or not; no two of them ask the same."""

    def __init__(self, sidecar: Sidecar, session: aiohttp.ClientSession, *models: str) -> None:
        self.seen = {model: Seen() for model in models}
        self._sidecar, self._session = sidecar, session
        self._models = cycle(models)
        self._n = 0

    async def call(self) -> int:
        self._n += 1
        n, model = self._n // len(self.seen), next(self._models)
        path, body = STREAMING[n % 4].request(model, stream=n % 8 >= 4, prompt=f"{model} {self._n}")
        before = time.perf_counter()
        async with self._session.post(self._sidecar.url + path, data=body) as answer:
            await answer.read()
        self.seen[model].took_ms.append((time.perf_counter() - before) * 1000)
        self.seen[model].statuses[answer.status] += 1
        return answer.status

    async def storm(self, seconds: float) -> None:
        """One call after the other at the rate, none of which waits for those before it."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.TaskGroup() as calls:
            for n in range(round(RATE * seconds)):
                await asyncio.sleep(max(0.0, start + n / RATE - loop.time()))
                calls.create_task(self.call())


def config(first: str, *, circuits: bool = True, other: str = "") -> str:
    """Two providers, of which `first` is the profile's first choice and `other` its second."""
    chain = f'["one/{first}", "two/{other}"]' if other else f'["one/{first}"]'
    switch = "" if circuits else "[circuits]\nenabled = false\n"
    profiles = {"p": chain} | ({"well": f'["two/{other}"]'} if other else {})
    return f"{switch}[retries]\nbackoff_s = 0.05\n" + "".join(
        f"[profiles.{name}]\n" + "".join(f"{tier} = {models}\n" for tier in TIERS)
        for name, models in profiles.items()
    )


async def outage(
    folder: Path, seconds: float, *, circuits: bool, package: Path = REPOSITORY
) -> str:
    """All providers fail for so long; two with circuits, or a lone one with none before it."""
    async with Simulator(keep=1_000_000) as sim:
        providers = provider("one", sim.url) + provider("two", sim.url)
        other = "sim-500" if circuits else ""
        told = config("sim-503", circuits=circuits, other=other)
        async with (
            Sidecar(folder, providers + told, package=package) as sidecar,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        ):
            clients = Clients(sidecar, session, "auto:p")
            if circuits:
                await _opens(clients, sidecar, sim)
            await clients.storm(seconds)
            async with asyncio.timeout(10):
                await sim.quiet()
            receipts = sidecar.ask("SELECT count(*) FROM receipts")[0][0]
        asked = sum(line["event"] == "accepted" for line in sim.log)
    (seen,) = clients.seen.values()
    said = (
        f"{seen.calls} calls while all providers fail, circuits {'on' if circuits else 'off'}:"
        f" {asked} upstream ({asked / seen.calls:.3f} of them; at most {1 + SHARE} and {FLOOR}),"
        f" clients saw {dict(seen.statuses)}"
    )
    print(f"\n{said}")
    assert receipts == seen.calls
    assert not seen.statuses[200]
    assert asked <= (1 + SHARE) * seen.calls + FLOOR
    assert asked > seen.calls or circuits, "the budget was not even used: this proves nothing"
    return said


async def _opens(clients: Clients, sidecar: Sidecar, sim: Simulator) -> None:
    """Both circuits are open after so few calls, and by no more of them."""
    for _ in range(OPEN_WITHIN):
        await clients.call()
    asked = Counter(line["model"] for line in sim.log if line["event"] == "accepted")
    assert max(asked.values()) <= OPEN_WITHIN
    states = sidecar.ask("SELECT provider, state FROM v3_provider_circuit_breakers ORDER BY 1")
    assert states == [("one", "open"), ("two", "open")], f"after {OPEN_WITHIN} calls"


@dataclass(frozen=True, slots=True)
class Dead:
    """A way of being dead: the model to ask for, and an address where nobody listens."""

    model: str
    unreachable: bool = False


DEAD = {
    "503": Dead("sim-503"),
    "refuses connections": Dead("sim-ok", unreachable=True),
    "resets": Dead("sim-reset"),
    "an error inside a 200": Dead("sim-200-error-first"),
}


async def half_dead(folder: Path, seconds: float, way: Dead, package: Path = REPOSITORY) -> float:
    """One of two is dead: nobody notices. Milliseconds that the 99th percentile was longer."""
    async with Simulator(keep=1_000_000) as sim:
        url = "http://127.0.0.1:9" if way.unreachable else sim.url
        providers = provider("one", url) + provider("two", sim.url)
        told = config(way.model, other="sim-ok")
        async with (
            Sidecar(folder, providers + told, package=package, server=ROOM) as sidecar,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        ):
            first = Clients(sidecar, session, "auto:p")
            for _ in range(OPEN_WITHIN):
                await first.call()
            opened = sidecar.ask("SELECT provider, state FROM v3_provider_circuit_breakers")
            assert opened == [("one", "open")], f"after {OPEN_WITHIN} calls"
            both = Clients(sidecar, session, "auto:p", "auto:well")
            await both.storm(seconds)
    led, well = both.seen.values()
    assert [*first.seen["auto:p"].statuses] == [*led.statuses] == [*well.statuses] == [200]
    print(
        f"\none of two is dead ({way.model}): {led.calls + OPEN_WITHIN} calls, 0 errors; once open"
        f" p99 {led.p99_ms():.1f} ms, beside {well.p99_ms():.1f} ms of {well.calls} calls between"
        f" them whose first choice is well: {led.p99_ms() - well.p99_ms():+.1f} ms"
    )
    return led.p99_ms() - well.p99_ms()


async def test_all_providers_fail_and_are_asked_no_more_than_the_budget_allows(
    tmp_path: Path,
) -> None:
    await outage(tmp_path / "on", 2, circuits=True)
    await outage(tmp_path / "off", 2, circuits=False)


@pytest.mark.parametrize("way", DEAD)
async def test_one_of_two_providers_is_dead_and_no_client_notices(tmp_path: Path, way: str) -> None:
    await half_dead(tmp_path, 1, DEAD[way])


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("circuits", [True, False], ids=["circuits", "budget-alone"])
async def test_all_providers_fail_for_a_minute(tmp_path: Path, *, circuits: bool) -> None:
    await outage(tmp_path, 60, circuits=circuits)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", DEAD)
async def test_one_of_two_providers_is_dead_for_a_minute(tmp_path: Path, way: str) -> None:
    added = await half_dead(tmp_path, 60, DEAD[way])
    assert added <= 50
