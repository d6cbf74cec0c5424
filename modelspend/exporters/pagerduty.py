"""PagerDuty, Events API v2: an incident is opened when an alert goes off and resolved with it.

Hides what ties the two together: a `dedup_key` made of the ledger and the alert, so that what is
said twice is one incident, and two sidecars with one key are never taken for each other.
https://developer.pagerduty.com/docs/events-api-v2-overview (read 2026-11-22)
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from modelspend.alarms import RESOLVED, TEST
from modelspend.events import Event
from modelspend.exporters.channels import Channel, Said, facts, of_http, title
from modelspend.exporters.http import Door
from modelspend.exporters.surroundings import held, source
from modelspend.money import dumps
from modelspend.receipt_json import iso
from modelspend.settings import PagerDuty, Settings
from modelspend.store import Store

_URLS = {
    "us": "https://events.pagerduty.com/v2/enqueue",
    "eu": "https://events.eu.pagerduty.com/v2/enqueue",
}
_SEVERITIES = {"critical": "critical", "warn": "warning"}
_MOST_SUMMARY, _MOST_KEY = 1024, 255


def sinks(settings: Settings, env: Mapping[str, str], store: Store) -> list[Channel]:
    """One for each `[alerts.pagerduty.NAME]`. Raises ConfigInvalid when its key is not set."""
    return channels(settings, env, str(store.path))


def channels(settings: Settings, env: Mapping[str, str], ledger: str) -> list[Channel]:
    """The same, of the ledger at a path."""
    found = settings.alerts.pagerduty.items()
    return [channel(name, one, env, ledger) for name, one in found if one.enabled]


def channel(name: str, section: PagerDuty, env: Mapping[str, str], ledger: str) -> Channel:
    """One of them, with what the environment holds for it; `ledger` tells sidecars apart."""
    key = held(env, f"alerts.pagerduty.{name}.key_env", section.key_env)
    url = address(section)
    door = Door(allow_private=section.allow_private, timeout_s=section.timeout_s)
    here = sha256(f"{source()}\0{ledger}".encode()).hexdigest()[:12]

    async def say(events: Sequence[Event]) -> Said:
        said = Said(ok=True, text="nothing to say")
        for event in events:
            said = await _post(body(event, key, here))
            if said.ok and event.kind == TEST:  # the trial leaves nothing open
                said = await _post({**body(event, key, here), "event_action": "resolve"})
        return said

    async def _post(shape: Mapping[str, Any]) -> Said:
        headers = {"content-type": "application/json"}
        answer = await door.post(url, dumps(dict(shape)), headers)
        return of_http(answer, taken=answer.status == 202)

    return Channel("pagerduty", name, section, say, door.close, most=1, linger_s=0.0)


def address(section: PagerDuty) -> str:
    """Where it is posted."""
    return section.url or _URLS[section.region]


def body(event: Event, key: str, here: str) -> dict[str, Any]:
    """What is posted. A resolution needs no more than the key of what it resolves."""
    over = event.kind == RESOLVED
    shape: dict[str, Any] = {
        "routing_key": key,
        "event_action": "resolve" if over else "trigger",
        "dedup_key": dedup_key(str(event.data.get("alert", "")), here),
    }
    if over:
        return shape
    said = f"{title(event)}: {event.data.get('message', '')}"
    return {
        **shape,
        "payload": {
            "summary": said[:_MOST_SUMMARY],
            "severity": _SEVERITIES.get(str(event.data.get("level")), "info"),
            "source": source(),
            "timestamp": iso(event.at_ms),
            "component": "modelspend",
            "group": event.tenant or str(event.data.get("name", "")),
            "class": str(event.data.get("rule", "")),
            "custom_details": dict(facts(event)),
        },
        "client": "modelspend",
    }


def dedup_key(alert: str, here: str) -> str:
    """Of an alert, the same each time; a name that is too long counts by its hash."""
    key = f"modelspend:{here}:{alert}"
    if len(key) <= _MOST_KEY:
        return key
    return f"modelspend:{here}:{sha256(alert.encode()).hexdigest()}"
