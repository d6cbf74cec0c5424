"""`GET /metrics`: exact text, bounded labels, and numbers that are those of the ledger."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from modelspend.receipt import Status
from modelspend.server.metrics import CONTENT_TYPE, MOST_TENANTS, OTHER, Meters, family
from modelspend.simulator import Simulator
from modelspend.store.metering import BOUNDS_MS, Stretch, Tally
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.fakes.sink import far_end
from tests.server.test_control import ask, call

Found = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scraped(sidecar: Sidecar) -> tuple[str, Found]:
    key = {"authorization": f"Bearer {sidecar.token}"}
    async with sidecar.client.get(f"{sidecar.url}/metrics", headers=key) as answer:
        assert answer.status == 200
        assert answer.headers["content-type"] == CONTENT_TYPE
        text = await answer.text()
    return text, read(text)


def read(text: str) -> Found:
    """As Prometheus' own client library reads it; no sample is there twice."""
    found: Found = {}
    for one in text_string_to_metric_families(text):
        for sample in one.samples:
            place = (sample.name, frozenset(sample.labels.items()))
            assert place not in found
            found[place] = sample.value
    return found


def at(found: Found, metric: str, /, **labels: str) -> float:
    return found[metric, frozenset(labels.items())]


async def test_the_numbers_are_those_of_the_ledger(sidecar: Sidecar) -> None:
    for tenant in ("acme", "acme", "beta"):
        await call(sidecar, tenant=tenant)
    await call(sidecar, model="sim/sim-http-500")
    receipts = await sidecar.receipts()
    well = [one for one in receipts if one.execution.status is Status.SUCCESS]
    model = {"provider": "sim", "model": well[0].attempts[0].model_id}
    _, found = await scraped(sidecar)
    assert at(found, "modelspend_requests_total", status="success", **model) == len(well) == 3
    cost = sum(one.execution.actual_cost_pico or 0 for one in well)
    assert cost > 0
    told = at(found, "modelspend_cost_usd_total", **model)
    assert Decimal(str(told)) == Decimal(cost) / 10**12
    output = sum(one.usage.quantities["output_tokens"] for one in well)
    assert at(found, "modelspend_tokens_total", direction="output", **model) == output
    assert at(found, "modelspend_tenant_requests_total", tenant="acme") == 2
    took = "modelspend_request_duration_seconds"
    assert at(found, f"{took}_count", provider="sim") == len(receipts)
    assert at(found, f"{took}_bucket", provider="sim", le="+Inf") == len(receipts)


async def test_each_call_counts_once_however_often_it_is_scraped(sidecar: Sidecar) -> None:
    await call(sidecar)
    await asyncio.gather(scraped(sidecar), scraped(sidecar))
    await call(sidecar)
    _, found = await scraped(sidecar)
    assert sum(v for (name, _), v in found.items() if name == "modelspend_requests_total") == 2


async def test_counters_begin_with_the_process(tmp_path: Path, simulator: Simulator) -> None:
    for calls in (3, 2):
        async with sidecar_for(tmp_path, simulator.url) as sidecar:
            for _ in range(calls):
                await call(sidecar)
            _, found = await scraped(sidecar)
            total = (v for (name, _), v in found.items() if name == "modelspend_requests_total")
            assert sum(total) == calls


async def test_buckets_of_a_histogram_never_fall(sidecar: Sidecar) -> None:
    await call(sidecar)
    _, found = await scraped(sidecar)
    bounds = [f"{bound / 1000:g}" for bound in BOUNDS_MS] + ["+Inf"]
    name = "modelspend_request_duration_seconds_bucket"
    counts = [at(found, name, provider="sim", le=bound) for bound in bounds]
    assert counts == sorted(counts)
    assert counts[-1] == 1


async def test_a_scrape_needs_the_local_token(sidecar: Sidecar) -> None:
    status, _, told = await ask(sidecar, "/metrics", token=None)
    assert status == 401
    assert "token" in told["hint"]


async def test_sinks_and_budgets_show_where_they_stand(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with far_end() as far:
        far.answer = "stall"
        hooks = {"ops": {"url": far.url, "types": ["receipt.created"], "allow_private": True}}
        budgets = {"all": {"cap_usd": 1}}
        async with sidecar_for(tmp_path, simulator.url, webhooks=hooks, budgets=budgets) as sidecar:
            await call(sidecar)
            await far.until(1)
            _, found = await scraped(sidecar)
            assert at(found, "modelspend_sink_queued", sink="webhook:ops") == 1
            assert at(found, "modelspend_sink_sent_total", sink="webhook:ops") == 0
            assert at(found, "modelspend_sink_lag_seconds", sink="webhook:ops") > 0
            ratio = at(
                found, "modelspend_budget_used_ratio", scope="process", name="all", window="month"
            )
            assert 0 < ratio < 1
            _, _, status = await ask(sidecar, "/v1/status")
            (one,) = status["sinks"]
            assert (one["name"], one["queued"], one["dropped"]) == ("webhook:ops", 1, 0)


async def test_a_circuit_is_shown_while_it_is_closed_and_when_it_is_not(
    tmp_path: Path, simulator: Simulator
) -> None:
    name = "modelspend_circuit_state"
    circuits = {"consecutive": 2}
    async with sidecar_for(tmp_path, simulator.url, circuits=circuits) as sidecar:
        await call(sidecar)
        await call(sidecar, model="sim/sim-404")  # nobody answers for it: it gets no series
        await call(sidecar, model="sim/sim-500")
        _, found = await scraped(sidecar)
        assert at(found, name, provider="sim", model="sim-ok") == 0
        shown = {dict(labels)["model"] for metric, labels in found if metric == name}
        assert shown == {"sim-ok"}
        await call(sidecar, model="sim/sim-500")
        _, found = await scraped(sidecar)
        assert at(found, name, provider="sim", model="sim-500") == 2


def test_what_is_open_is_shown_however_many_are_closed() -> None:
    from modelspend.breaker import Phase
    from modelspend.circuits import CircuitKey, View
    from modelspend.server.metrics import _circuits

    meters = Meters(0)
    names = [f"m{n}" for n in range(500)]
    meters._models.known.update(names)
    views = [View(circuit=CircuitKey("p", name, ""), phase=Phase.CLOSED) for name in names]
    tripped = View(circuit=CircuitKey("p", "zzz", ""), phase=Phase.OPEN)
    found = read("".join(f"{line}\n" for line in _circuits([*views, tripped], meters)))
    assert at(found, "modelspend_circuit_state", provider="p", model="zzz") == 2
    assert len(found) == 200


def tally(**changes: object) -> Tally:
    said: dict[str, object] = {
        "tenant": "t", "provider": "p", "model": "m", "status": "success", "calls": 1,
        "unpriced": 0, "cost_pico": 1, "input_tokens": 1, "cache_read_tokens": 0,
        "cache_write_tokens": 0, "output_tokens": 1, "took_ms": 1,
        "took": (1,) + (0,) * len(BOUNDS_MS), "began_ms": 0, "began": (0,) * (len(BOUNDS_MS) + 1),
    }  # fmt: skip
    return Tally(**{**said, **changes})  # type: ignore[arg-type]


def counted(*tallies: Tally) -> Found:
    meters = Meters(0)
    meters._add(Stretch(seq=1, last=1, tallies=tallies, failovers=(), events=()))
    return read("".join(f"{line}\n" for line in meters.lines()))


def test_the_sum_of_durations_is_exact_however_long_a_process_runs() -> None:
    """Six digits would make it stand still, and then leap: a year of calls, and one of 1 ms."""
    year = tally(took_ms=31_536_000_000)
    found = counted(year, tally())
    assert at(found, "modelspend_request_duration_seconds_sum", provider="p") == 31_536_000.001


def test_a_thousand_tenants_make_a_bounded_number_of_series() -> None:
    found = counted(*(tally(tenant=f"t{n}") for n in range(1000)))
    name = "modelspend_tenant_requests_total"
    tenants = {labels: value for (metric, labels), value in found.items() if metric == name}
    assert len(tenants) == MOST_TENANTS + 1
    assert sum(tenants.values()) == 1000
    assert at(found, name, tenant=OTHER) == 1000 - MOST_TENANTS


def test_a_model_that_nobody_has_answered_for_gets_no_series() -> None:
    found = counted(
        *(tally(model=f"made-up-{n}", status="error") for n in range(500)), tally(model="real")
    )
    models = {dict(labels)["model"] for (_, labels) in found if "model" in dict(labels)}
    assert models == {OTHER, "real"}


def test_labels_are_escaped() -> None:
    odd = 'a"b\\c\nd'
    assert read("\n".join(family("x", "gauge", "Odd.", [("", (("l", odd),), 1)])) + "\n") == {
        ("x", frozenset({("l", odd)})): 1.0
    }


@pytest.mark.full  # needs promtool, of Debian's package `prometheus`
async def test_promtool_finds_nothing_to_say(sidecar: Sidecar) -> None:
    await call(sidecar)
    text, _ = await scraped(sidecar)
    process = await asyncio.create_subprocess_exec(
        *("promtool", "check", "metrics"),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate(text.encode())
    assert (process.returncode, said) == (0, b"")
