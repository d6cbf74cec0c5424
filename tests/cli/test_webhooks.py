"""`webhooks` and `export traces` through the real command line, and what `doctor` says of sinks."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from opentelemetry.proto_json.collector.trace.v1.trace_service import ExportTraceServiceRequest

from modelspend.cli.help import topics
from modelspend.events import Event
from modelspend.exporters import Pace, Pump
from modelspend.exporters.webhooks import WebhookSink, endpoint
from modelspend.server import metrics
from modelspend.settings import Webhook
from modelspend.store import Store
from tests.cli.conftest import RECEIPTS, Cli
from tests.exporters.emitting import now_ms, until
from tests.fakes.sink import far_end, status


@pytest.fixture
def hooked(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with a webhook that nobody listens for."""
    file = home / "config.toml"
    file.write_text(
        '[webhooks.ops]\nurl = "http://127.0.0.1:1/secret-path"\nallow_private = true\n'
        'types = ["*"]\nretry_s = [0.01]\n'
    )
    monkeypatch.setenv("MODELSPEND_CONFIG", str(file))
    return file


async def make_dead(ledger: Path, count: int) -> None:
    store = await Store.open(ledger)
    section = Webhook(url="http://127.0.0.1:1/", types=("*",), allow_private=True, retry_s=(0.01,))
    pump = Pump(store, now_ms, lambda: 0.5, Pace(first_s=0.01, calm_s=0.0))
    await pump.start([WebhookSink(endpoint("ops", section, {}), store)])
    try:
        for _ in range(count):
            store.events.tell(Event(kind="failover", at_ms=now_ms()))

        async def all_dead() -> bool:
            return (await pump.standings())[0].dropped == count

        await until(all_dead)
    finally:
        await pump.stop()
        await store.close()


def test_dead_letters_are_listed_and_go_back_into_the_queue(
    cli: Cli, ledger: Path, hooked: Path
) -> None:
    asyncio.run(make_dead(ledger, 3))
    (row,) = json.loads(cli("webhooks", "list", "--json").stdout)
    assert (row["to"], row["dead"], row["queued"]) == ("127.0.0.1:1", 3, 0)
    dead = json.loads(cli("webhooks", "dead", "--json").stdout)
    assert [one["type"] for one in dead] == ["failover"] * 3
    assert cli("webhooks", "retry", dead[0]["delivery_id"]).exit_code == 0
    assert cli("webhooks", "retry", dead[0]["delivery_id"]).exit_code == 3
    assert json.loads(cli("webhooks", "retry", "--all", "--json").stdout) == {"retried": 2}
    pending = cli("webhooks", "deliveries", "ops", "--status", "pending", "--json")
    assert len(json.loads(pending.stdout)) == 3
    (row,) = json.loads(cli("webhooks", "list", "--json").stdout)
    assert (row["dead"], row["queued"]) == (0, 3)


def test_the_path_of_an_address_is_never_shown(cli: Cli, ledger: Path, hooked: Path) -> None:
    assert "secret-path" not in cli("webhooks", "list").stdout
    tried = cli("webhooks", "test", "ops")
    assert tried.exit_code == 6
    assert "secret-path" not in tried.stdout + tried.stderr


def test_retry_needs_to_know_which(cli: Cli, ledger: Path) -> None:
    assert cli("webhooks", "retry").exit_code == 2
    assert cli("webhooks", "deliveries", "--status", "lost").exit_code == 2
    assert cli("webhooks", "test", "nobody").exit_code == 3


async def test_a_test_event_is_sent_from_here(cli: Cli, home: Path) -> None:
    async with far_end() as far:
        far.answer = status("204 Fine")
        config = home / "config.toml"
        config.write_text(f'[webhooks.ops]\nurl = "{far.url}/x"\nallow_private = true\n')
        done = await asyncio.to_thread(cli, "--config", str(config), "webhooks", "test", "ops")
        assert (done.exit_code, len(far.got)) == (0, 1)
        assert json.loads(far.got[0][1])["type"] == "webhook.test"


def test_doctor_tells_of_what_could_not_be_sent(cli: Cli, ledger: Path, hooked: Path) -> None:
    asyncio.run(make_dead(ledger, 2))
    found = {one["id"]: one for one in json.loads(cli("doctor", "--json").stdout)["checks"]}
    assert found["D18"]["status"] == "warn"
    assert "could not be sent: webhook:ops (2)" in found["D18"]["found"]


def test_traces_of_the_ledger_are_lines_that_the_strict_decoder_reads(
    cli: Cli, ledger: Path
) -> None:
    done = cli("export", "traces")
    assert done.exit_code == 0
    names = []
    for line in done.stdout.splitlines():
        read = ExportTraceServiceRequest.from_dict(json.loads(line))
        for one in read.resource_spans[0].scope_spans[0].spans:
            names += [a.value.string_value for a in one.attributes
                      if a.key == "modelspend.receipt_id"]  # fmt: skip
    assert names == [one.receipt_id for one in RECEIPTS]


def test_traces_can_be_chosen_and_written_to_a_file(cli: Cli, ledger: Path, home: Path) -> None:
    file = home / "traces.jsonl"
    assert cli("export", "traces", "--tenant", "beta", "--out", str(file)).exit_code == 0
    text = file.read_text()
    assert text.count('"modelspend.receipt_id"') == 2


def test_the_dashboard_asks_only_for_metrics_that_exist() -> None:
    from importlib import resources

    assert "otel" in topics()
    text = resources.files("modelspend.cli").joinpath("topics/otel.md").read_text("utf-8")
    dashboard = json.loads(text.partition("```json\n")[2].partition("```")[0])
    source = Path(metrics.__file__).read_text("utf-8")
    asked = " ".join(one["expr"] for panel in dashboard["panels"] for one in panel["targets"])
    names = set(re.findall(r"modelspend_[a-z_]+", asked))
    assert len(names) >= 9
    for name in names:
        known = name.removesuffix("_bucket")
        assert known in source or known.removeprefix("modelspend_sink_") in source, name


def test_doctor_says_when_the_switch_of_datadog_is_off(cli: Cli, ledger: Path) -> None:
    def found(**env: str) -> str:
        checks = json.loads(cli("doctor", "--json", env=env).stdout)
        listed = checks["checks"] if isinstance(checks, dict) else checks
        (one,) = (each for each in listed if each["id"] == "D18")
        return str(one["found"])

    assert "Datadog" not in found()
    assert "Datadog is off (DD_METRICS_ENABLED)" in found(DD_METRICS_ENABLED="False")
