"""`sinks list|forget` and what `doctor` says, through the real command line, no sidecar."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from modelspend.events import Event
from modelspend.sinks import Wants, section_of
from modelspend.store import Store
from tests.cli.conftest import Cli
from tests.cli.test_webhooks import make_dead
from tests.exporters.emitting import now_ms


async def enrol(ledger: Path, *names: str) -> None:
    """Sinks of those names, and after them an event that each of them wants."""
    store = await Store.open(ledger)
    try:
        for name in names:
            await store.sinks.enrol(name, Wants(receipts=False, kinds=("failover",)))
        store.events.tell(Event(kind="failover", at_ms=now_ms()))
        await store.circuits.obeyed([])
    finally:
        await store.close()


@pytest.fixture
def config(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One webhook, one SIEM that is off; both have their sections."""
    file = home / "config.toml"
    file.write_text(
        '[webhooks.ops]\nurl = "https://ops.example.com/"\n'
        '[siem.soc]\nto = "/var/log/x.jsonl"\nenabled = false\n'
    )
    monkeypatch.setenv("MODELSPEND_CONFIG", str(file))
    return file


def listed(cli: Cli) -> dict[str, Any]:
    done = cli("sinks", "list", "--json")
    assert done.exit_code == 0
    return {one["name"]: one for one in json.loads(done.stdout)}


def check(cli: Cli, id: str) -> dict[str, Any]:
    checks = json.loads(cli("doctor", "--json").stdout)["checks"]
    (one,) = (each for each in checks if each["id"] == id)
    return dict(one)


def test_the_list_says_who_is_on_who_is_off_and_who_was_left_behind(
    cli: Cli, ledger: Path, config: Path
) -> None:
    assert listed(cli) == {}
    names = ("webhook:ops", "webhook:old", "siem:soc", "otlp", "pagerduty:night.shift")
    asyncio.run(enrol(ledger, *names))
    found = listed(cli)
    assert {name: one["state"] for name, one in found.items()} == {
        "webhook:ops": "on",
        "webhook:old": "left behind",
        "siem:soc": "off",
        "otlp": "on",
        "pagerduty:night.shift": "left behind",
    }
    assert {one["queued"] for one in found.values()} == {1}
    said = cli("sinks", "list").stderr
    assert "put [webhooks.old] back" in said
    assert "modelspend sinks forget webhook:old --yes" in said
    assert '[alerts.pagerduty."night.shift"]' in said


def test_doctor_names_who_was_left_behind_and_does_not_count_it_among_the_sinks(
    cli: Cli, ledger: Path, config: Path
) -> None:
    assert check(cli, "D19")["status"] == "ok"
    asyncio.run(enrol(ledger, "webhook:ops", "webhook:old"))
    found = check(cli, "D19")
    assert (found["name"], found["status"]) == ("sinks left behind", "warn")
    assert found["found"] == "webhook:old: 1 wait"
    assert "[webhooks.old]" in found["next"]
    assert "webhook:old" not in check(cli, "D18")["found"]
    assert "webhook:ops: 0 sent, 1 wait" in check(cli, "D18")["found"]
    command = found["next"].rpartition("modelspend ")[2].split()
    assert cli(*command).exit_code == 0
    assert check(cli, "D19")["status"] == "ok"


def test_only_one_that_nothing_asks_for_is_forgotten_and_only_when_it_is_said_twice(
    cli: Cli, ledger: Path, config: Path
) -> None:
    asyncio.run(enrol(ledger, "webhook:ops", "webhook:old"))
    asked = cli("sinks", "forget", "webhook:old")
    assert asked.exit_code == 2
    assert "1 wait for webhook:old" in asked.stderr
    assert cli("sinks", "forget", "webhook:nobody", "--yes").exit_code == 3
    used = cli("sinks", "forget", "webhook:ops", "--yes", "--json")
    assert used.exit_code == 1
    assert json.loads(used.stderr)["error"]["code"] == "sink_in_use"
    assert set(listed(cli)) == {"webhook:ops", "webhook:old"}
    done = cli("sinks", "forget", "webhook:old", "--yes", "--json")
    assert (done.exit_code, json.loads(done.stdout)["queued"]) == (0, 1)
    assert set(listed(cli)) == {"webhook:ops"}
    events = json.loads(cli("events", "--type", "sink.*", "--json").stdout)
    assert [one["data"]["sink"] for one in events] == ["webhook:old"]


async def counts(ledger: Path) -> tuple[int, int, int]:
    store = await Store.open_read(ledger)
    try:
        (one,) = await store.sinks.standings(now_ms())
        return one.sent, one.dropped, one.queued
    finally:
        await store.close()


def test_dead_letters_of_one_that_was_forgotten_wait_until_it_is_asked_for_again(
    cli: Cli, ledger: Path, config: Path
) -> None:
    """Given back to nobody they would lie in the queue for ever, and count below zero later."""
    asyncio.run(make_dead(ledger, 3))
    config.write_text("")
    assert cli("sinks", "forget", "webhook:ops", "--yes").exit_code == 0
    (first, *_) = json.loads(cli("webhooks", "dead", "--json").stdout)
    assert cli("webhooks", "retry", first["delivery_id"]).exit_code == 3
    assert json.loads(cli("webhooks", "retry", "--all", "--json").stdout) == {"retried": 0}
    assert len(json.loads(cli("webhooks", "dead", "--json").stdout)) == 3
    asyncio.run(enrol(ledger, "webhook:ops"))
    assert asyncio.run(counts(ledger)) == (0, 3, 1)
    assert json.loads(cli("webhooks", "retry", "--all", "--json").stdout) == {"retried": 3}
    assert asyncio.run(counts(ledger)) == (0, 0, 4)


def test_every_exporter_names_what_asks_for_it() -> None:
    assert section_of("siem:soc") == "[siem.soc]"
    assert section_of("email:a") == "[alerts.email.a]"
    assert "OTLP_ENDPOINT" in section_of("otlp")
    assert section_of("datadog:logs") == "DD_API_KEY, and logs in [datadog],"
