"""Several sidecars measured in turn, each alone: the others stand still meanwhile.

Sidecars, provider and load are processes of their own, so that nobody's work is taken for that of
another. The provider and the load are those of the benchmark.
"""

import asyncio
import json
import os
import signal
import statistics
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from sidecar import REPOSITORY, Sidecar

_BENCH = REPOSITORY / "tests" / "bench"
_WAKING_S = 0.3  # what timers have missed while it stood still is made up for


@asynccontextmanager
async def provider_apart() -> AsyncIterator[str]:
    """Its address; it knows the model of the load."""
    process = await _started("mock_upstream.py")
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


async def in_turn(
    sidecars: Mapping[str, Sidecar], *, blocks: int, seconds: float, rate: float
) -> dict[str, list[list[float]]]:
    """How long calls took, in milliseconds, by name and block; who begins changes with each."""
    took: dict[str, list[list[float]]] = {name: [] for name in sidecars}
    names = list(sidecars)
    for one in sidecars.values():
        await _load(one.url, "closed", 8, 30, 400)
    try:
        for one in sidecars.values():
            os.kill(one.pid, signal.SIGSTOP)
        for n in range(blocks):
            for name in names[n % len(names) :] + names[: n % len(names)]:
                os.kill(sidecars[name].pid, signal.SIGCONT)
                await asyncio.sleep(_WAKING_S)
                took[name].append(await _load(sidecars[name].url, "open", rate, seconds))
                os.kill(sidecars[name].pid, signal.SIGSTOP)
    finally:
        for one in sidecars.values():
            os.kill(one.pid, signal.SIGCONT)
    return took


def p99(blocks: list[list[float]]) -> float:
    """The median over the blocks of the p99 of each: a burst of somebody else's work spoils a few
    blocks, not the figure."""
    return statistics.median(statistics.quantiles(one, n=100)[98] for one in blocks)


async def _load(url: str, mode: str, amount: float, seconds: float, *more: object) -> list[float]:
    process = await _started("loadgen.py", mode, url, amount, seconds, *more, "raw")
    said, _ = await process.communicate()
    told = json.loads(said)
    assert told["not_200"] + told["broken"] + told["incomplete"] == 0, told["sample"]
    return list(told["raw_ms"])


async def _started(script: str, *words: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(_BENCH / script), *map(str, words)),
        stdout=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
    )
