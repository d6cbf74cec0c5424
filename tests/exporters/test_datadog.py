"""Datadog: bodies shaped as those of its own client, within its limits, and nothing without a key.

The long proof sends the same through Datadog's own client to a server on this machine:
`pip install datadog-api-client && pytest -m full tests/exporters/test_datadog.py` (100 MB).
"""

import asyncio
import gzip
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from modelspend.breaker import Moved, Phase
from modelspend.circuits import CircuitKey, Transition
from modelspend.errors import ConfigInvalid
from modelspend.events import Event
from modelspend.exporters import Pace, Pump, turned_off
from modelspend.exporters.datadog import (
    LOGS,
    METRICS,
    MOST_LOG_BYTES,
    Logs,
    Metrics,
    account,
    log_of,
    parts,
    shortened,
    sinks,
)
from modelspend.exporters.datadog_metrics import (
    MOST_MODELS,
    MOST_TENANTS,
    OTHER,
    Series,
)
from modelspend.server.keys import LIVE
from modelspend.settings import Datadog, Settings
from modelspend.sinks import Standing, Wants
from modelspend.store import Bodies, Store, Stored
from tests.exporters.alerting import told
from tests.exporters.emitting import now_ms, until
from tests.fakes.sidecar import sidecar_for
from tests.fakes.sink import Far, far_end, status
from tests.store.synthetic import Traffic

ENV = {"DD_API_KEY": "k3y" * 10}
HOUR_MS = 3_600_000
NO = ("false", "FALSE", "0", "no", "off")


def sink_of(
    far: Far, store: Store, kind: type[Logs] | type[Metrics] = Logs, **more: Any
) -> Logs | Metrics:
    section = Datadog(url=far.url, allow_private=True, timeout_s=0.5, **more)
    far.answer = status("202 Accepted")
    made = sinks(Settings(datadog=section), ENV, store)
    (one,) = (each for each in made if isinstance(each, kind))
    one.linger_s = 0.0
    return one


@asynccontextmanager
async def sending(store: Store, *several: Logs | Metrics) -> AsyncIterator[Pump]:
    pump = Pump(store, now_ms, lambda: 0.5, Pace(first_s=0.01, most_s=0.05, calm_s=0.0))
    await pump.start(several)
    try:
        yield pump
    finally:
        await pump.stop()


async def ended(pump: Pump, count: int) -> Standing:
    found: list[Standing] = []

    async def so_far() -> bool:
        found[:] = await pump.standings()
        return found[0].sent + found[0].dropped == count

    await until(so_far)
    return found[0]


async def happen(store: Store, traffic: Traffic, receipts: int, *events: Event) -> None:
    """Calls of just now, and events."""
    for _ in range(receipts):
        await store.calls.finish(replace(traffic.receipt(), created_at_ms=now_ms()))
    for event in events:
        store.events.tell(event)
    await store.circuits.obeyed([])


def unpacked(far: Far) -> list[Any]:
    return [json.loads(gzip.decompress(body)) for _, body in far.got]


LOG = {
    "ddsource": str, "ddtags": str, "hostname": str, "service": str, "message": str, "status": str,
    "timestamp": int, "modelspend": dict,
}  # fmt: skip
SERIES = {"metric", "type", "points", "tags", "resources"}
CLIENTS_HEADERS = {"content-type": "application/json", "content-encoding": "gzip"}


def hold_the_shape_of_logs(body: Any) -> None:
    assert 0 < len(body) <= 1000
    for log in body:
        assert {name: type(value) for name, value in log.items()} == LOG
        assert log["status"] in ("info", "warning", "critical")
        assert all(":" in tag for tag in log["ddtags"].split(","))


def hold_the_shape_of_series(body: Any) -> None:
    assert set(body) == {"series"}
    for one in body["series"]:
        assert SERIES <= set(one) <= SERIES | {"interval", "unit"}
        assert (one["type"], "interval" in one) in ((1, True), (3, False))
        ((timestamp, value),) = (tuple(point.values()) for point in one["points"])
        assert (type(timestamp), type(value)) == (int, float)
        assert one["resources"] == [{"name": one["resources"][0]["name"], "type": "host"}]
        assert one["metric"].startswith("modelspend.")
        assert all(":" in tag and "," not in tag for tag in one["tags"])


async def test_decisions_and_events_are_logs(store: Store, traffic: Traffic) -> None:
    async with far_end() as far, sending(store, sink_of(far, store, tags=("team:search",))) as pump:
        budget = Event(kind="budget.threshold", at_ms=now_ms(), level="warn", tenant="acme",
                       data={"percent": 80})  # fmt: skip
        await happen(store, traffic, 3, budget, told(level="critical"))
        standing = await ended(pump, 5)
    assert (standing.name, standing.sent) == (LOGS, 5)
    for head, _ in far.got:
        assert head[""] == "POST /api/v2/logs HTTP/1.1"
        assert head["dd-api-key"] == ENV["DD_API_KEY"]
        assert CLIENTS_HEADERS.items() <= head.items()
    body = [log for each in unpacked(far) for log in each]
    hold_the_shape_of_logs(body)
    decision, *_, threshold, alert = body
    receipt = (await store.receipts.after(0))[0].receipt
    assert decision["modelspend"]["receipt_id"] == receipt.receipt_id
    assert decision["modelspend"]["event"] == "routing.decision"
    assert f"tenant:{receipt.tenant}" in decision["ddtags"].split(",")
    assert {"team:search", "event:budget.threshold", "tenant:acme"} <= {
        *threshold["ddtags"].split(",")
    }
    assert (threshold["status"], threshold["modelspend"]["data"]) == ("warning", {"percent": 80})
    assert alert["status"] == "critical"
    assert alert["message"].startswith("alert.fired: 20 of 40 calls")


async def test_no_prompt_and_no_answer_is_in_a_log(store: Store, traffic: Traffic) -> None:
    async with far_end() as far, sending(store, sink_of(far, store)) as pump:
        made = replace(traffic.receipt(), created_at_ms=now_ms())
        await store.calls.finish(made, Bodies(b'{"prompt": "S3CRET"}', b'{"answer": "S3CRET"}'))
        await ended(pump, 1)
    assert "S3CRET" not in json.dumps(unpacked(far))


async def test_metrics_add_up_to_what_the_receipts_say(store: Store, traffic: Traffic) -> None:
    async with far_end() as far, sending(store, sink_of(far, store, Metrics)) as pump:
        failover = {"from_provider": "a", "to_provider": "b"}
        await happen(
            store, traffic, 120, *(Event(kind="failover", at_ms=now_ms(), data=failover),) * 3,
            told(), Event(kind="drill.started", at_ms=now_ms()),
        )  # fmt: skip
        standing = await ended(pump, 124)
    assert (standing.name, standing.sent) == (METRICS, 124)
    assert all(head[""] == "POST /api/v2/series HTTP/1.1" for head, _ in far.got)
    bodies = unpacked(far)
    for body in bodies:
        hold_the_shape_of_series(body)
    series = [one for body in bodies for one in body["series"]]
    receipts = [one.receipt for one in await store.receipts.after(0, limit=200)]

    def total(metric: str) -> float:
        return sum(one["points"][0]["value"] for one in series if one["metric"] == metric)

    costs = [one.execution.actual_cost_pico for one in receipts]
    assert total("modelspend.requests") == len(receipts) == 120
    assert total("modelspend.unpriced") == costs.count(None)
    assert total("modelspend.cost_usd") == pytest.approx(sum(c or 0 for c in costs) / 10**12)
    used = [one.usage.quantities for one in receipts]
    for bucket in ("input_tokens", "cache_read_tokens", "output_tokens"):
        tokens = [one for one in series if one["metric"] == "modelspend.tokens"]
        counted = [one["points"][0]["value"] for one in tokens if f"kind:{bucket}" in one["tags"]]
        assert sum(counted) == sum(each.get(bucket, 0) for each in used)
    assert (total("modelspend.failovers"), total("modelspend.alerts")) == (3, 1)
    slowest = max(one.execution.actual_latency_ms for one in receipts
                  if one.execution.status == "success")  # fmt: skip
    most = [one["points"][0]["value"] for one in series
            if one["metric"] == "modelspend.request.duration.max"]  # fmt: skip
    assert max(most) == pytest.approx(slowest)


async def test_no_two_batches_are_said_to_be_of_one_second(store: Store, traffic: Traffic) -> None:
    """Of two points of one second, with the same tags, only the later would count."""
    async with far_end() as far:
        one = sink_of(far, store, Metrics)
        one.most = 10
        async with sending(store, one) as pump:
            await happen(store, traffic, 60)
            await ended(pump, 60)
    stamps = [{each["points"][0]["timestamp"] for each in body["series"]} for body in unpacked(far)]
    assert all(len(each) == 1 for each in stamps)
    flat = [stamp for each in stamps for stamp in each]
    assert len(flat) == len(set(flat)) >= 6


async def test_how_circuits_and_sinks_stand_is_told(store: Store) -> None:
    await store.sinks.enrol("webhook:left-behind", Wants())
    moved = Moved(Phase.CLOSED, Phase.OPEN, "consecutive", None, 15.0, 1)
    store.circuits.moved(Transition(circuit=CircuitKey("openai", "gpt-4.1"), moved=moved), now_ms())
    await store.circuits.obeyed([])
    async with far_end() as far:
        one = sink_of(far, store, Metrics)
        assert isinstance(one, Metrics)
        async with sending(store, one):
            await one.tell_gauges()
    (body,) = unpacked(far)
    hold_the_shape_of_series(body)
    values = {each["metric"]: each["points"][0]["value"] for each in body["series"]}
    assert values == {"modelspend.circuit.state": 2.0, "modelspend.sink.dropped": 0.0}
    assert {"provider:openai", "model:gpt-4.1"} <= set(body["series"][0]["tags"])
    tags = [tag for each in body["series"] for tag in each["tags"] if tag.startswith("sink:")]
    assert tags == [f"sink:{METRICS}"]


async def test_tags_have_a_bound_over_all_that_is_ever_said(store: Store, traffic: Traffic) -> None:
    async with far_end() as far:
        one = sink_of(far, store, Metrics)
        for n in range(30):
            batch = []
            for m in range(10):
                made = traffic.receipt()
                last = replace(made.attempts[-1], model_id=f"model-{n}-{m}")
                made = replace(
                    made, tenant=f"tenant,{n}-{m}", attempts=(last,), created_at_ms=now_ms()
                )
                batch.append(Stored(made, seq=1, hash="", body_kept=False))
            assert (await one.send(batch)).sent == 10
        await one.close()
    seen = {tag for body in unpacked(far) for each in body["series"] for tag in each["tags"]}
    tenants = {tag for tag in seen if tag.startswith("tenant:")}
    models = {tag for tag in seen if tag.startswith("model:")}
    assert (len(tenants), len(models)) == (MOST_TENANTS + 1, MOST_MODELS + 1)
    assert {f"tenant:{OTHER}", f"model:{OTHER}"} <= seen
    assert not any("," in tag for tag in seen)


def test_what_goes_at_once_stays_within_the_limits_of_the_intake() -> None:
    items = [b"x" * size for size in (10, 400, 5, 600, 600, 1, 1, 1)]
    found = parts(items, most=3, most_bytes=1000)
    assert [item for part in found for item in part] == items
    assert all(len(part) <= 3 and sum(map(len, part)) + len(part) + 1 <= 1000 for part in found)
    to = account(Datadog(), ENV)
    assert to is not None
    log = log_of(told(said="x" * 2_000_000), to)
    short = json.loads(shortened(log))
    assert len(shortened(log)) <= MOST_LOG_BYTES
    assert short["modelspend"] == {"shortened": True}
    assert (short["ddtags"], short["timestamp"]) == (log["ddtags"], log["timestamp"])


async def test_metrics_that_are_too_much_even_packed_go_in_halves(store: Store) -> None:
    async with far_end() as far:
        one = sink_of(far, store, Metrics)
        assert isinstance(one, Metrics)
        one.most_packed = 20_000
        tags = [(f"t:{secrets.token_hex(90)}",) for _ in range(500)]
        many = [
            Series(metric="modelspend.x", kind="count", value=n, tags=tag)
            for n, tag in enumerate(tags)
        ]
        assert await one._put(many, 5) is None
        await one.close()
    assert len(far.got) > 1
    assert all(len(body) <= 20_000 for _, body in far.got)
    values = [each["points"][0]["value"] for body in unpacked(far) for each in body["series"]]
    assert values == [float(n) for n in range(500)]


@pytest.mark.parametrize("line", ["400 Bad", "401 No", "403 No", "413 Large"])
async def test_what_datadog_never_takes_is_dropped_and_told(
    store: Store, traffic: Traffic, line: str
) -> None:
    async with far_end() as far:
        one = sink_of(far, store)
        far.answer = status(line)
        async with sending(store, one) as pump:
            await happen(store, traffic, 4)
            standing = await ended(pump, 4)
    assert (standing.sent, standing.dropped) == (0, 4)
    assert standing.error is not None
    assert standing.error.startswith(f"HTTP {line[:3]}")
    assert ENV["DD_API_KEY"] not in standing.error


async def test_what_it_may_take_later_is_sent_again(store: Store, traffic: Traffic) -> None:
    async with far_end() as far:
        one = sink_of(far, store)
        answers = [status("408 Late"), status("429 Slow"), status("500 Oh"), status("503 No")]
        far.answer = lambda head, body: answers.pop(0) if answers else status("202 Accepted")
        async with sending(store, one) as pump:
            await happen(store, traffic, 1)
            standing = await ended(pump, 1)
    assert (standing.sent, standing.dropped, len(far.got)) == (1, 0, 5)
    assert len({body for _, body in far.got}) == 1


async def test_what_is_too_old_for_an_intake_is_dropped_and_counted(
    store: Store, traffic: Traffic
) -> None:
    for kind, hours in ((Logs, 18), (Metrics, 1)):
        async with far_end() as far, sending(store, sink_of(far, store, kind)) as pump:
            for age in (hours + 0.01, hours - 0.01):
                at = now_ms() - round(age * HOUR_MS)
                await store.calls.finish(replace(traffic.receipt(), created_at_ms=at))
            standing = await ended(pump, 2)
            assert (standing.sent, standing.dropped) == (1, 1)
            assert standing.error is not None
            assert standing.error.startswith("older than")


@pytest.mark.parametrize(
    ("env", "logs", "series"),
    [
        ({}, "https://http-intake.logs.datadoghq.com", "https://api.datadoghq.com"),
        ({"DD_SITE": "datadoghq.eu"}, "https://http-intake.logs.datadoghq.eu",
         "https://api.datadoghq.eu"),
        ({"DD_SITE": "us5.datadoghq.com"}, "https://http-intake.logs.us5.datadoghq.com",
         "https://api.us5.datadoghq.com"),
    ],
)  # fmt: skip
def test_it_goes_to_the_site_of_the_account(env: dict[str, str], logs: str, series: str) -> None:
    to = account(Datadog(), {**ENV, **env})
    assert to is not None
    assert (to.logs_url, to.series_url) == (f"{logs}/api/v2/logs", f"{series}/api/v2/series")
    assert ENV["DD_API_KEY"] not in repr(to)


def test_the_key_goes_to_no_other_place(store: Store) -> None:
    for site in ("example.com", "datadoghq.com.example.com", "datadoghq.com/../x", "EVIL"):
        with pytest.raises(ConfigInvalid, match="no site of Datadog"):
            sinks(Settings(), {**ENV, "DD_SITE": site}, store)
    with pytest.raises(ValidationError):
        Datadog(site="example.com")  # type: ignore[arg-type]


def test_the_variables_of_datadogs_own_agents_are_understood() -> None:
    env = {"DD_SERVICE": "spend", "DD_ENV": "prod", "DD_TAGS": "a:1, b:2 a:1", "DD_HOSTNAME": "h"}
    to = account(Datadog(tags=("team:x",)), {**ENV, **env})
    assert to is not None
    assert (to.service, to.host) == ("spend", "h")
    assert to.tags[0] == "team:x"
    assert [tag for tag in to.tags if not tag.startswith("version:")] == [
        "team:x", "env:prod", "a:1", "b:2"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("env", "section", "names"),
    [
        ({}, {}, []),
        ({"DD_API_KEY": " "}, {}, []),
        (ENV, {}, [LOGS, METRICS]),
        (ENV, {"logs": False}, [METRICS]),
        (ENV, {"metrics": False}, [LOGS]),
        (ENV, {"enabled": False}, []),
        *(
            ({**ENV, "DD_METRICS_ENABLED": no}, {}, [])
            for no in ("false", "FALSE", "0", "no", "off")
        ),
        ({**ENV, "DD_METRICS_ENABLED": "true"}, {}, [LOGS, METRICS]),
    ],
)
def test_without_a_key_or_with_the_switch_off_there_is_nothing(
    store: Store, env: dict[str, str], section: dict[str, Any], names: list[str]
) -> None:
    settings = Settings(datadog=Datadog(**section))
    assert [one.name for one in sinks(settings, env, store)] == names
    if env:
        off = {LOGS, METRICS} - set(names) if env.get("DD_API_KEY", " ").strip() else set()
        assert off <= set(turned_off(settings, env))


async def test_a_sidecar_without_a_key_has_no_task_and_the_switch_loses_what_happened(
    tmp_path: Path, simulator: Any
) -> None:
    ask = {"model": "sim/gpt-5-mini", "messages": [{"role": "user", "content": "hello"}]}

    async def run(env: Mapping[str, str], far: Far, calls: int) -> tuple[set[str], int]:
        section = {"datadog": {"url": far.url, "allow_private": True, "metrics": False}}
        async with sidecar_for(tmp_path, simulator.url, env=env, **section) as sidecar:
            for _ in range(calls):
                assert (await sidecar.post("/v1/chat/completions", ask))[0] == 200
            names = {task.get_name() for task in asyncio.all_tasks()}
            running = {name for name in names if name.startswith("sink datadog")}
            if running:

                async def all_sent() -> bool:
                    (one,) = await sidecar.app[LIVE].pump.standings()
                    return one.queued == 0

                await until(all_sent)
            return running, len(far.got)

    async with far_end() as far:
        far.answer = status("202 Accepted")
        assert await run({}, far, 2) == (set(), 0)
        running, _ = await run(ENV, far, 2)
        assert running == {f"sink {LOGS}"}
        sent = sum(map(len, unpacked(far)))
        assert (await run({**ENV, "DD_METRICS_ENABLED": "false"}, far, 3))[0] == set()
        assert sum(map(len, unpacked(far))) == sent
        await run(ENV, far, 1)
        decisions = [log for body in unpacked(far) for log in body
                     if log["modelspend"]["event"] == "routing.decision"]  # fmt: skip
        assert len(decisions) == 2 + 1


@pytest.mark.full
async def test_datadogs_own_client_says_it_in_the_same_shape(
    store: Store, traffic: Traffic
) -> None:
    """Each body of ours, put into the client's own models and sent by it to this machine, arrives
    with the same names, kinds and headers."""
    client = pytest.importorskip("datadog_api_client")
    async with (
        far_end() as far,
        sending(store, sink_of(far, store), sink_of(far, store, Metrics)) as p,
    ):
        await happen(store, traffic, 40, told(), told(level="critical"))

        async def both() -> bool:
            return all(one.sent == 42 for one in await p.standings())

        await until(both)
    ours = list(zip([head for head, _ in far.got], unpacked(far), strict=True))
    async with far_end() as far:
        head = "content-type: application/json\r\ncontent-length: 2\r\n\r\n"
        far.answer = f"HTTP/1.1 202 Accepted\r\n{head}{{}}".encode()
        for _, body in ours:
            await asyncio.to_thread(_by_the_client, client, far.url, body)
        theirs = list(zip([head for head, _ in far.got], unpacked(far), strict=True))
    for (head, body), (their_head, their_body) in zip(ours, theirs, strict=True):
        assert _shape(body) == _shape(their_body)
        for name in ("", "content-type", "content-encoding", "dd-api-key"):
            assert head[name] == their_head[name]
    assert {head[""].split()[1] for head, _ in ours} == {"/api/v2/logs", "/api/v2/series"}


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shape(one) for name, one in sorted(value.items())}
    if isinstance(value, list):
        return [_shape(one) for one in value]
    return type(value).__name__ if not isinstance(value, str) else value


def _by_the_client(client: Any, url: str, said: Any) -> None:
    from datadog_api_client.v2.api.logs_api import LogsApi
    from datadog_api_client.v2.api.metrics_api import MetricsApi
    from datadog_api_client.v2.model.content_encoding import ContentEncoding
    from datadog_api_client.v2.model.http_log import HTTPLog
    from datadog_api_client.v2.model.http_log_item import HTTPLogItem
    from datadog_api_client.v2.model.metric_content_encoding import MetricContentEncoding
    from datadog_api_client.v2.model.metric_intake_type import MetricIntakeType
    from datadog_api_client.v2.model.metric_payload import MetricPayload
    from datadog_api_client.v2.model.metric_point import MetricPoint
    from datadog_api_client.v2.model.metric_resource import MetricResource
    from datadog_api_client.v2.model.metric_series import MetricSeries

    configured = client.Configuration()
    configured.api_key["apiKeyAuth"] = ENV["DD_API_KEY"]
    with client.ApiClient(configured) as api:
        of_logs, of_metrics = LogsApi(api), MetricsApi(api)
        for endpoint in (of_logs._submit_log_endpoint, of_metrics._submit_metrics_endpoint):
            endpoint.settings["servers"] = [{"url": url, "variables": {}}]
        if isinstance(said, list):
            of_logs.submit_log(
                content_encoding=ContentEncoding.GZIP,
                body=HTTPLog([HTTPLogItem(**log) for log in said]),
            )
            return
        made = [
            MetricSeries(
                **{
                    **one,
                    "type": MetricIntakeType(one["type"]),
                    "points": [MetricPoint(**point) for point in one["points"]],
                    "resources": [MetricResource(**each) for each in one["resources"]],
                }
            )
            for one in said["series"]
        ]
        of_metrics.submit_metrics(
            content_encoding=MetricContentEncoding.GZIP, body=MetricPayload(series=made)
        )
