"""Proof 4: whatever the far ends do, calls go on and nothing is lost from the count.

Small here; in full: `pytest -m full tests/chaos/test_sinks.py`.
"""

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from modelspend.simulator import Simulator
from tests.exporters.emitting import emitted
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.fakes.sink import far_end, status
from tests.server.test_control import ask, call

BAD: dict[str, Any] = {
    "stalls": "stall",
    "vanishes": "vanish",
    "endless": "endless",
    "fails": status("500 Oh"),
    "redirects": status("302 Found", "location: http://127.0.0.1:1/\r\n"),
}


async def carried(sidecar: Sidecar, calls: int) -> list[float]:
    """Seconds that each of so many calls took, four at a time."""
    took: list[float] = []

    async def several(count: int) -> None:
        for _ in range(count):
            began = time.perf_counter()
            await call(sidecar)
            took.append(time.perf_counter() - began)

    await asyncio.gather(*(several(calls // 4) for _ in range(4)))
    return took


async def counted(sidecar: Sidecar) -> dict[str, dict[str, Any]]:
    _, _, told = await ask(sidecar, "/v1/status")
    return {one["name"]: one for one in told["sinks"]}


async def under_attack(folder: Path, simulator: Simulator, calls: int) -> tuple[list[float], int]:
    """(durations, MiB grown) of calls while every kind of bad far end is fed; its counts hold."""
    import resource

    ends = {name: far_end() for name in BAD}
    fars = {name: await end.__aenter__() for name, end in ends.items()}
    try:
        for name, far in fars.items():
            far.answer = BAD[name]
        urls = {name: far.url for name, far in fars.items()} | {"refuses": "http://127.0.0.1:1"}
        hooks = {
            name: {"url": url, "types": ["*"], "allow_private": True, "timeout_s": 30.0}
            for name, url in urls.items()
        }
        otlp = {"endpoint": fars["stalls"].url, "allow_private": True}
        async with sidecar_for(folder, simulator.url, webhooks=hooks, otlp=otlp) as sidecar:
            await carried(sidecar, 8)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            took = await carried(sidecar, calls)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
            standings = await counted(sidecar)
            ledger = sidecar.store.path
            assert len(standings) == 7
            for name, one in standings.items():
                said = one["sent"] + one["dropped"] + one["queued"]
                assert said == emitted(ledger, kind="" if name == "otlp" else "%"), name
            for name in ("stalls", "vanishes", "fails", "redirects", "refuses"):
                assert standings[f"webhook:{name}"]["sent"] == 0, name
        return took, grown
    finally:
        for end in ends.values():
            await end.__aexit__(None, None, None)


async def test_bad_far_ends_lose_no_call_and_nothing_of_the_count(
    tmp_path: Path, simulator: Simulator
) -> None:
    took, grown = await under_attack(tmp_path, simulator, 80)
    assert len(took) == 80
    assert grown <= 32
    assert max(took) < 5.0


async def test_a_restart_keeps_the_count(tmp_path: Path, simulator: Simulator) -> None:
    hooks = {"gone": {"url": "http://127.0.0.1:1", "types": ["*"], "allow_private": True}}
    for round in range(1, 4):
        async with sidecar_for(tmp_path, simulator.url, webhooks=hooks) as sidecar:
            await carried(sidecar, 8)
            (one,) = (await counted(sidecar)).values()
            total = one["sent"] + one["dropped"] + one["queued"]
            assert total == emitted(sidecar.store.path)
            assert total >= 8 * round


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_the_slowest_calls_are_no_slower_than_without(
    tmp_path: Path, simulator: Simulator
) -> None:
    """p99 within 5 %, the best of three of each in turn, so that another's noise is not ours."""
    with_sinks, without, grown = [], [], []
    for n in range(3):
        async with sidecar_for(tmp_path / f"plain{n}", simulator.url) as sidecar:
            await carried(sidecar, 40)
            without.append(p99(await carried(sidecar, 2000)))
        took, more = await under_attack(tmp_path / f"sinks{n}", simulator, 2000)
        with_sinks.append(p99(took))
        grown.append(more)
    assert max(grown) <= 32
    assert min(with_sinks) <= min(without) * 1.05


def p99(took: list[float]) -> float:
    return statistics.quantiles(took, n=100)[98]
