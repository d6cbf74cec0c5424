"""A real Prometheus reads `/metrics` as our own pages tell it to, and shows the ledger's numbers.

It needs the programs of Debian's package `prometheus`; run it with

    pytest -m full tests/server/test_prometheus.py
"""

import asyncio
import json
import shutil
import textwrap
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import tomli_w
from prometheus_client.parser import text_string_to_metric_families

from modelspend import places
from modelspend.cli.help import text_of
from modelspend.receipt import Receipt, Status
from modelspend.simulator import Simulator
from tests.fakes.foreign import free_port, server
from tests.fakes.sidecar import ALL_DIALECTS, PRICE
from tests.fakes.sink import far_end
from tests.server.test_serve import receipts, running

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

CHANGING = {"modelspend_sink_lag_seconds", "modelspend_sink_queued", "modelspend_sink_sent_total"}
"""What may move between one scrape and another while no call is made."""

TIMES = 3
"""How often each call is made, so that one scrape counts several of a kind."""

Series = frozenset[tuple[str, str]]
Shown = tuple[str, str, Series, float]
"""A family, its type, and one sample's labels and value."""


def example(heading: str) -> str:
    """What stands first below a heading of `help otel` to be copied: indented, or fenced."""
    below = text_of("otel").partition(f"## {heading}\n\n")[2].partition("\n## ")[0]
    if "```json" in below:
        return below.partition("```json\n")[2].partition("```")[0]
    return textwrap.dedent(below.partition("\n\n")[0])


def installed(program: str) -> str:
    found = shutil.which(program)
    assert found, f"{program} is not here: install Debian's package `prometheus`"
    return found


@dataclass(slots=True)
class Prometheus:
    """A running one, which scrapes us every second."""

    url: str
    client: aiohttp.ClientSession
    warned: list[str] = field(default_factory=list)

    async def ask(self, path: str, **asked: str) -> Any:
        async with self.client.get(f"{self.url}/api/v1/{path}", params=asked) as answer:
            told = await answer.json()
        assert told["status"] == "success", told
        self.warned += told.get("warnings", [])
        return told["data"]

    async def query(self, expression: str) -> dict[Series, float]:
        """Each series and its value now; no sample is there twice."""
        told = await self.ask("query", query=expression)
        assert told["resultType"] == "vector"
        return {frozenset(one["metric"].items()): float(one["value"][1]) for one in told["result"]}

    async def target(self) -> dict[str, Any]:
        (only,) = (await self.ask("targets"))["activeTargets"]
        return dict(only)

    async def scraped(self, times: int = 1) -> None:
        """Wait for so many more scrapes, each begun after this."""
        async with asyncio.timeout(30):
            for _ in range(times + 1):  # the first may have been on its way
                before = await self.target()
                while (now := await self.target())["lastScrape"] == before["lastScrape"]:
                    await asyncio.sleep(0.05)
                assert (now["health"], now["lastError"]) == ("up", "")


@asynccontextmanager
async def prometheus(folder: Path, sidecar: str, token: Path) -> AsyncIterator[Prometheus]:
    """One with the example of our own page; only the address and the place of the token are
    filled in, and it looks every second."""
    folder.mkdir()
    said = example("Prometheus")
    filled = said.replace("/path/to/the/token", str(token)).replace(
        "127.0.0.1:8787", sidecar.removeprefix("http://")
    )
    assert filled.count(str(token)) == 1
    file, url = folder / "prometheus.yml", f"http://127.0.0.1:{free_port()}"
    file.write_text(f"global:\n  scrape_interval: 1s\n{filled}\n")
    command = (
        installed("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
    )  # fmt: skip
    async with server(folder, *command, ready=f"{url}/-/ready", env={}) as client:
        theirs = Prometheus(url, client)
        async with asyncio.timeout(60):  # it is ready before it has read what it shall scrape
            while not (await theirs.ask("targets"))["activeTargets"]:
                await asyncio.sleep(0.1)
        yield theirs


def settings(folder: Path, simulator: str, sink: str) -> dict[str, Any]:
    """Two providers of which the first may fail, a cap, and two sinks: one that is well and one
    whose far end refuses for good."""
    provider = {"base_url": f"{simulator}/v1", "dialects": ALL_DIALECTS, "price": PRICE}
    chain = ("sim/sim-500", "other/sim-ok")
    tiers = {tier: chain for tier in ("simple", "standard", "deep_reasoning")}
    hook = {"types": ["*"], "allow_private": True}
    return {
        "server": {"port": 0},
        "store": {"path": str(folder / "ledger.db")},
        "providers": {"sim": provider, "other": {**provider, "price": {**PRICE, "output": 7}}},
        "profiles": {"hop": tiers},
        "retries": {"backoff_s": 0.01},
        "budgets": {"all": {"cap_usd": 1}},
        "webhooks": {
            "well": {"url": f"{sink}/well", **hook},
            "odd": {"url": f"{sink}/odd", "enabled": True, **hook},
        },
    }


def answer(head: dict[str, str], body: bytes) -> bytes:
    code = b"410 Gone" if "/odd" in head[""] else b"200 OK"
    return b"HTTP/1.1 %b\r\ncontent-length: 0\r\n\r\n" % code


async def call(client: aiohttp.ClientSession, url: str, model: str, tenant: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    head = {"x-modelspend-tenant": tenant}
    async with client.post(f"{url}/v1/chat/completions", json=body, headers=head) as told:
        await told.read()


async def traffic(client: aiohttp.ClientSession, url: str) -> None:
    for tenant, model in (
        ("acme", "sim/sim-ok"), ("acme", "sim/sim-tokens-1000-200"), ("beta", "auto:hop"),
        ('odd "name"\\', "sim/sim-ok"), ("beta", "sim/sim-400"),
    ):  # fmt: skip
        for _ in range(TIMES):
            await call(client, url, model, tenant)


def shown(text: str) -> Iterator[Shown]:
    """Each sample as Prometheus' client library reads it."""
    for one in text_string_to_metric_families(text):
        name = f"{one.name}_total" if one.type == "counter" else one.name
        for sample in one.samples:
            labels = {"__name__": sample.name, **sample.labels}
            yield name, one.type, frozenset(labels.items()), sample.value


async def ask(client: aiohttp.ClientSession, url: str, token: Path) -> list[Shown]:
    key = {"authorization": f"Bearer {token.read_text().strip()}"}
    async with client.get(f"{url}/metrics", headers=key) as told:
        return list(shown(await told.text()))


def steady(ours: list[Shown]) -> dict[Series, float]:
    """What stays as it is while no call is made."""
    return {
        _without_empty(labels): value for name, _, labels, value in ours if name not in CHANGING
    }


async def test_prometheus_scrapes_what_the_ledger_says_and_the_dashboard_has_data(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with far_end() as far:
        far.answer = answer
        file = tmp_path / "config.toml"
        file.write_text(tomli_w.dumps(settings(tmp_path, simulator.url, far.url)))
        async with running(file) as (_, url), aiohttp.ClientSession() as client:
            token = places.token(tmp_path / "ledger.db")
            async with prometheus(tmp_path / "prometheus", url, token) as theirs:
                await theirs.scraped()
                await traffic(client, url)
                await theirs.scraped(2)
                await traffic(client, url)
                ours, before = await ask(client, url, token), None
                while steady(ours) != before:  # a sink may still be on its way
                    before = steady(ours)
                    await theirs.scraped()
                    ours = await ask(client, url, token)
                await _same(theirs, ours)
                await _as_in_the_ledger(theirs, await receipts(tmp_path))
                await _dashboard(theirs)
                assert theirs.warned == []


async def _same(theirs: Prometheus, ours: list[Shown]) -> None:
    """Every family is there with its type, every sample with its labels and value, none besides."""
    told = await theirs.ask("metadata")
    types = {name: kind for name, kind, _, _ in ours}
    assert {name: [one["type"] for one in told[name]] for name in types} == {
        name: [kind] for name, kind in types.items()
    }
    got = await theirs.query('{job="modelspend",__name__=~"modelspend_.*"}')
    added = {("job", "modelspend"), ("instance", (await theirs.target())["labels"]["instance"])}
    stripped = {labels - added: value for labels, value in got.items()}
    assert stripped.keys() == {_without_empty(labels) for _, _, labels, _ in ours}
    wanted = steady(ours)
    assert {labels: stripped[labels] for labels in wanted} == wanted
    assert len(wanted) > 50
    (up,) = (await theirs.query("up")).values()
    assert up == 1


def _without_empty(labels: Series) -> Series:
    """To Prometheus an empty label is no label."""
    return frozenset((name, value) for name, value in labels if value)


async def _as_in_the_ledger(theirs: Prometheus, found: list[Receipt]) -> None:
    assert len(found) == 10 * TIMES
    by_status = Counter(one.execution.status.value for one in found)
    assert by_status[Status.SUCCESS] == 8 * TIMES
    assert await _by(theirs, "status", "modelspend_requests_total") == by_status
    by_tenant = Counter(one.tenant for one in found)
    assert await _by(theirs, "tenant", "modelspend_tenant_requests_total") == by_tenant
    costs: Counter[str] = Counter()
    for one in found:
        costs[one.tenant] += one.execution.actual_cost_pico or 0
    told = await _by(theirs, "tenant", "modelspend_tenant_cost_usd_total")
    assert told == {tenant: float(Decimal(cost) / 10**12) for tenant, cost in costs.items()}
    output = sum(one.usage.quantities.get("output_tokens", 0) for one in found)
    assert output > 0
    assert (await _by(theirs, "direction", "modelspend_tokens_total"))["output"] == output
    took = await theirs.query("sum(modelspend_request_duration_seconds_sum) * 1000")
    latencies = [one.execution.actual_latency_ms or 0 for one in found]
    assert took[frozenset()] == pytest.approx(sum(latencies), abs=len(found))  # each a whole ms
    hops = await theirs.query("sum(modelspend_failovers_total)")
    assert hops == {frozenset(): sum(len(one.attempts) - 1 for one in found if one.attempts)}


async def _by(theirs: Prometheus, label: str, metric: str) -> dict[str, float]:
    got = await theirs.query(f"sum by ({label}) ({metric})")
    return {dict(labels)[label]: value for labels, value in got.items()}


async def _dashboard(theirs: Prometheus) -> None:
    """Every panel of the dashboard has data, and what calls move is above zero."""
    panels = json.loads(example("Grafana"))["panels"]
    assert len(panels) >= 10
    values = {
        panel["title"]: list((await theirs.query(target["expr"])).values())
        for panel in panels
        for target in panel["targets"]
    }
    assert [title for title, found in values.items() if not found] == []
    still = {"Circuits: 0 closed, 2 open", "Sinks: age of what waits", "Sinks: lost"}
    assert [
        title for title, found in values.items() if title not in still and max(found) <= 0
    ] == []
