"""Proof 4: whatever the far ends do, calls go on and nothing is lost from the count.

Small here; with the times of calls beside those without sinks:
`pytest -m full -s tests/chaos/test_sinks.py`
"""

import asyncio
import os
import resource
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import tomli_w
from side_by_side import in_turn, p99, provider_apart
from sidecar import Sidecar as Process
from sidecar import provider

from modelspend.simulator import Simulator
from tests.exporters.emitting import emitted
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.fakes.sink import far_end_apart
from tests.server.test_control import ask, call

BAD = {
    "stalls": "stall",
    "vanishes": "vanish",
    "endless": "endless",
    "fails": "500 Oh",
    "redirects": "302 Found",
}
MOST_MIB = 32


@asynccontextmanager
async def bad_ends() -> AsyncIterator[dict[str, str]]:
    """The address of a far end of each bad kind."""
    async with AsyncExitStack() as stack:
        urls = {
            name: await stack.enter_async_context(far_end_apart(answer))
            for name, answer in BAD.items()
        }
        yield urls | {"refuses": "http://127.0.0.1:1"}


def sections(urls: Mapping[str, str], folder: Path, *, look_s: float = 10.0) -> dict[str, Any]:
    """Webhooks to each of them, traces and logs to one that stalls, metrics to one that fails, and
    channels of alerts that stall, fail and refuse; for SIEMs, all of these and a file."""
    here = {"allow_private": True}
    hooks = {name: {"url": url, "types": ["*"], "timeout_s": 30.0, **here}
             for name, url in urls.items()}  # fmt: skip
    mail = {"host": "127.0.0.1", "port": int(urls["stalls"].rpartition(":")[2]),
            "sender": "a@b.c", "to": ["d@e.f"]}  # fmt: skip
    return {
        "webhooks": hooks,
        "otlp": {"endpoint": urls["stalls"], **here},
        "budgets": {"tiny": {"scope": "process", "cap_usd": 0.000001, "hard": False}},
        "siem": {
            **{name: {"to": url, "timeout_s": 30.0, **here} for name, url in urls.items()},
            "syslog": {"to": "tcp://127.0.0.1:1", **here},
            "file": {"to": str(folder / "siem.jsonl")},
        },
        "datadog": {"url": urls["stalls"], "timeout_s": 30, **here},
        "alerts": {
            "every_s": look_s,
            "slack": {"ops": {"url_env": "FAILS", **here}},
            "pagerduty": {"night": {"key_env": "KEY", "url": urls["refuses"], **here}},
            "email": {"team": {**mail, "timeout_s": 30, **here}},
        },
    }


def environment(urls: Mapping[str, str]) -> dict[str, str]:
    return {"FAILS": urls["fails"], "KEY": "k" * 32, "DD_API_KEY": "k" * 32}


async def carried(sidecar: Sidecar, calls: int, every_s: float) -> list[float]:
    """Seconds that each of so many calls took; they begin on time, whatever became of others."""

    async def one(after_s: float) -> float:
        await asyncio.sleep(after_s)
        began = time.perf_counter()
        await call(sidecar)
        return time.perf_counter() - began

    return await asyncio.gather(*(one(n * every_s) for n in range(calls)))


def holds(sinks: list[dict[str, Any]], ledger: Path) -> None:
    """Sent, dropped and queued of each sink are all that there is, counted by somebody else."""
    standings = {one["name"]: one for one in sinks}
    assert len(standings) == 20
    for name, one in standings.items():
        said = one["sent"] + one["dropped"] + one["queued"]
        assert said == _emitted(ledger, name), name
    for name in ("datadog:logs", "slack:ops", "pagerduty:night", "email:team"):
        assert standings[name]["sent"] == 0, name
        assert standings[name]["queued"] > 0, name
    for name in ("stalls", "vanishes", "fails", "redirects", "refuses"):
        assert standings[f"webhook:{name}"]["sent"] == 0, name
        assert standings[f"webhook:{name}"]["queued"] > 0, name
        assert standings[f"siem:{name}"]["sent"] == 0, name
        assert standings[f"siem:{name}"]["queued"] > 0, name


def _emitted(ledger: Path, sink: str) -> int:
    """What there is for a sink."""
    if sink == "otlp":
        return emitted(ledger, kind="")
    if sink.startswith(("slack", "pagerduty", "email")):
        return emitted(ledger, kind="alert.%", receipts=False)
    if sink == "datadog:metrics":
        kinds = ("failover", "budget.%", "alert.%")
        events = sum(emitted(ledger, kind=kind, receipts=False) for kind in kinds)
        return events + emitted(ledger, kind="")
    return emitted(ledger)


def resident_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


async def test_bad_far_ends_lose_no_call_and_nothing_of_the_count(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with (
        bad_ends() as urls,
        sidecar_for(
            tmp_path,
            simulator.url,
            env=environment(urls),
            **sections(urls, tmp_path, look_s=0.05),
        ) as sidecar,
    ):
        await carried(sidecar, 8, 0.0)
        before = resident_mib()
        took = await carried(sidecar, 80, 0.01)
        _, _, told = await ask(sidecar, "/v1/status")
        holds(told["sinks"], sidecar.store.path)
        assert resident_mib() - before <= MOST_MIB
        assert max(took) < 5.0


async def test_a_restart_keeps_the_count(tmp_path: Path, simulator: Simulator) -> None:
    hooks = {"gone": {"url": "http://127.0.0.1:1", "types": ["*"], "allow_private": True}}
    for round in range(1, 4):
        async with sidecar_for(tmp_path, simulator.url, webhooks=hooks) as sidecar:
            await carried(sidecar, 8, 0.0)
            _, _, told = await ask(sidecar, "/v1/status")
            (one,) = told["sinks"]
            total = one["sent"] + one["dropped"] + one["queued"]
            assert total == emitted(sidecar.store.path)
            assert total >= 8 * round


@pytest.mark.full
@pytest.mark.timeout(900)
async def test_the_slowest_calls_are_no_slower_than_without(tmp_path: Path) -> None:
    """p99 within 5 % of two sidecars without sinks, which say how far alike ones lie apart."""
    async with AsyncExitStack() as stack:
        upstream = provider("mock", await stack.enter_async_context(provider_apart()))
        upstream += 'models = ["bench-1"]\n'
        urls = await stack.enter_async_context(bad_ends())
        plain, env = ("without", "likewise"), environment(urls)
        each = [Process(tmp_path / name, upstream) for name in plain]
        told = upstream + tomli_w.dumps(sections(urls, tmp_path))
        each.append(Process(tmp_path / "with", told, env=env))
        for one in each:
            await stack.enter_async_context(one)
        sidecars = dict(zip((*plain, "with"), each, strict=True))
        took = await in_turn(sidecars, blocks=BLOCKS, seconds=4.0, rate=50)
        tail = {name: p99(blocks) for name, blocks in took.items()}
        peak = {name: one.peak_rss_mb() for name, one in sidecars.items()}
        load = os.getloadavg()[0]
        print(f"\np99 ms {tail}; peak MiB {peak}; load of the machine {load:.1f}")
        bad = sidecars["with"]
        async with (
            aiohttp.ClientSession(headers={"authorization": f"Bearer {bad.token()}"}) as client,
            client.get(f"{bad.url}/v1/status") as answer,
        ):
            holds((await answer.json())["sinks"], bad.ledger)
        calls = sum(map(len, took["with"]))
        assert bad.ask("SELECT count(*) FROM receipts")[0][0] >= calls
    assert peak["with"] - min(peak["without"], peak["likewise"]) <= MOST_MIB
    assert tail["with"] <= max(tail["without"], tail["likewise"]) * 1.05


BLOCKS = 16
