"""PagerDuty: bodies that are valid by its published description, and one incident for one alert."""

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from modelspend.alarms import ESCALATED, KINDS, RESOLVED
from modelspend.errors import ConfigInvalid
from modelspend.exporters.channels import Channel, trial
from modelspend.exporters.pagerduty import address, body, channel, dedup_key, sinks
from modelspend.settings import Alerts, PagerDuty, Settings
from modelspend.store import Store
from tests.exporters.alerting import ended, telling, told
from tests.fakes.sink import Far, far_end, status

KEY = "0123456789abcdef0123456789abcdef"

EVENT = {
    # The properties, kinds and required ones of PagerDuty's OpenAPI description of `enqueue`
    # (github.com/PagerDuty/api-schema, reference/events-v2, read 2026-11-25), closed to
    # others, with the limits of its documentation.
    "type": "object",
    "additionalProperties": False,
    "required": ["routing_key", "event_action"],
    "properties": {
        "routing_key": {"type": "string", "minLength": 32, "maxLength": 32},
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": {"type": "string", "minLength": 1, "maxLength": 255},
        "client": {"type": "string"},
        "client_url": {"type": "string"},
        "links": {"type": "array"},
        "images": {"type": "array"},
        "payload": {
            "type": "object",
            "additionalProperties": False,
            "required": ["summary", "severity", "source"],
            "properties": {
                "summary": {"type": "string", "minLength": 1, "maxLength": 1024},
                "timestamp": {"type": "string"},
                "severity": {"enum": ["critical", "warning", "error", "info"]},
                "source": {"type": "string", "minLength": 1},
                "component": {"type": "string"},
                "group": {"type": "string"},
                "class": {"type": "string"},
                "custom_details": {"type": "object"},
            },
        },
    },
    "allOf": [
        {
            "if": {"properties": {"event_action": {"const": "trigger"}}},
            "then": {"required": ["payload"]},
            "else": {"required": ["dedup_key"]},
        }
    ],
}
VALID = Draft202012Validator(EVENT)


def pagerduty(far: Far, **changes: Any) -> Channel:
    section = PagerDuty(key_env="KEY", url=far.url, allow_private=True, timeout_s=0.5, **changes)
    far.answer = status("202 Accepted")
    return channel("night", section, {"KEY": KEY}, "ledger")


TEXT = st.text(max_size=2000)


@given(
    TEXT, TEXT, st.sampled_from(KINDS), st.sampled_from(("warn", "critical")),
    st.sampled_from(("tenant", "process", "model")),
)  # fmt: skip
def test_whatever_goes_off_its_body_is_valid(
    name: str, text: str, kind: str, level: str, scope: str
) -> None:
    event = told(kind, name=name, said=text, level=level, scope=scope)
    shape = json.loads(json.dumps(body(event, KEY, "here")))
    VALID.validate(shape)
    assert len(json.dumps(shape)) < 512 * 1024
    if kind != RESOLVED:
        assert shape["payload"]["severity"] == {"warn": "warning"}.get(level, level)
        datetime.fromisoformat(shape["payload"]["timestamp"])
    assert ("payload" in shape) is (kind != RESOLVED)


def test_long_names_and_sentences_are_cut_to_what_pagerduty_takes() -> None:
    VALID.validate(body(told(name="n" * 600, said="s" * 2000), KEY, "here"))


def test_the_description_bites() -> None:
    good = body(told(), KEY, "here")
    assert VALID.is_valid(good)
    for broken in (
        {**good, "event_action": "fire"},
        {**good, "surprise": 1},
        {name: value for name, value in good.items() if name != "payload"},
        {**good, "payload": {**good["payload"], "severity": "warn"}},
        {**good, "dedup_key": "x" * 256},
    ):
        assert not VALID.is_valid(broken)


async def test_an_alert_opens_one_incident_and_its_end_resolves_that_one(store: Store) -> None:
    async with far_end() as far, telling(store, pagerduty(far)) as pump:
        store.events.tell(told())
        store.events.tell(told(ESCALATED, level="critical"))
        store.events.tell(told(RESOLVED, level="critical"))
        store.events.tell(told(name="other"))
        standing = await ended(pump, 4)
    assert (standing.name, standing.sent) == ("pagerduty:night", 4)
    said = [json.loads(body) for _, body in far.got]
    for each in said:
        VALID.validate(each)
    assert [each["event_action"] for each in said] == ["trigger", "trigger", "resolve", "trigger"]
    assert len({each["dedup_key"] for each in said[:3]}) == 1
    assert said[3]["dedup_key"] != said[0]["dedup_key"]
    assert said[0]["routing_key"] == KEY
    assert [each["payload"]["severity"] for each in said[:2]] == ["warning", "critical"]


def test_a_key_is_the_same_each_time_short_enough_and_of_one_sidecar_alone() -> None:
    assert dedup_key("velocity:process:all", "a") == "modelspend:a:velocity:process:all"
    assert dedup_key("velocity:process:all", "a") != dedup_key("velocity:process:all", "b")
    long = dedup_key("x" * 500, "a")
    assert len(long) <= 255
    assert long == dedup_key("x" * 500, "a") != dedup_key("x" * 501, "a")


async def test_only_what_may_be_taken_later_is_said_again(store: Store) -> None:
    async with far_end() as far, telling(store, pagerduty(far)) as pump:
        answers = iter((status("429 Slow"), status("503 Oh"), status("202 Accepted")))
        far.answer = lambda head, body: next(answers)
        store.events.tell(told())
        assert ((await ended(pump, 1)).sent, len(far.got)) == (1, 3)
        far.answer = status("400 Bad")
        store.events.tell(told())
        standing = await ended(pump, 2)
    assert (standing.sent, standing.dropped, len(far.got)) == (1, 1, 4)


async def test_a_trial_leaves_nothing_open() -> None:
    async with far_end() as far:
        one = pagerduty(far)
        assert (await one.say([trial(5)])).ok
        await one.close()
    said = [json.loads(body) for _, body in far.got]
    assert [each["event_action"] for each in said] == ["trigger", "resolve"]
    assert said[0]["dedup_key"] == said[1]["dedup_key"]
    for each in said:
        VALID.validate(each)


async def test_it_goes_to_the_region_of_the_account(store: Store) -> None:
    assert address(PagerDuty(key_env="KEY")) == "https://events.pagerduty.com/v2/enqueue"
    eu = PagerDuty(key_env="KEY", region="eu")
    assert address(eu) == "https://events.eu.pagerduty.com/v2/enqueue"
    assert sinks(Settings(), {}, store) == []
    settings = Settings(alerts=Alerts(pagerduty={"night": eu}))
    assert [one.name for one in sinks(settings, {"KEY": KEY}, store)] == ["pagerduty:night"]
    with pytest.raises(ConfigInvalid, match="names KEY, which is not set"):
        sinks(settings, {}, store)
