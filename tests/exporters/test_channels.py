"""Which alerts a channel is told of, and where it may lie; of all kinds of channels alike."""

import pytest

from modelspend.alarms import ESCALATED, FIRED, RESOLVED
from modelspend.exporters import turned_off
from modelspend.exporters.channels import Channel, trial
from modelspend.exporters.email import channel as email
from modelspend.exporters.http import NotNow
from modelspend.exporters.pagerduty import channel as pagerduty
from modelspend.exporters.slack import channel as slack
from modelspend.settings import Email, PagerDuty, Settings, Slack
from modelspend.store import Store
from tests.exporters.alerting import ended, telling, told
from tests.exporters.emitting import until
from tests.exporters.test_slack import slack as slack_at
from tests.fakes.sink import Far, far_end


@pytest.mark.parametrize(
    ("section", "heard"),
    [
        ({}, ["acme", "acme", "acme", "other", "all", "all"]),
        ({"level": "critical"}, ["other", "all", "all"]),
        ({"tenant": "acme"}, ["acme", "acme", "acme"]),
        ({"rules": ("velocity",)}, ["other", "all", "all"]),
        ({"rules": ("velocity", "fallback_rate"), "tenant": "other"}, ["other"]),
        ({"rules": ("p95_drift",)}, []),
    ],
)
async def test_a_channel_hears_of_the_level_the_rules_and_the_tenant_that_it_names(
    store: Store, section: dict[str, object], heard: list[str]
) -> None:
    async with far_end() as far:
        one = slack_at(far, **section)
        one.most = 1
        async with telling(store, one) as pump:
            store.events.tell(told(FIRED))
            store.events.tell(told(RESOLVED))
            store.events.tell(told(FIRED))
            store.events.tell(told(FIRED, name="other", rule="velocity", level="critical"))
            everything = {"scope": "process", "name": "all", "rule": "velocity"}
            store.events.tell(told(ESCALATED, level="critical", **everything))
            store.events.tell(told(RESOLVED, level="critical", **everything))
            await store.circuits.obeyed([])
            standing = await ended(pump, len(heard))
            assert await store.sinks.count(0, None, one.wants) == (len(heard), 6)
            again = await store.sinks.enrol(one.name, one.wants)
            standings = await store.sinks.standings(0)
    assert (standing.sent, standing.dropped, len(far.got)) == (len(heard), 0, len(heard))
    assert again.cursor == standing.cursor or not heard
    assert [each.queued for each in standings] == [0]
    for name, (_, body) in zip(heard, far.got, strict=True):
        assert (f"of tenant {name}".encode() in body) is (name != "all")


async def test_a_channel_that_was_taken_out_goes_on_and_one_that_was_off_begins_anew(
    store: Store,
) -> None:
    off = Settings.model_validate(
        {"alerts": {"slack": {"ops": {"url_env": "HOOK", "enabled": False}}}}
    )
    for settings, heard in ((Settings(), [b"meanwhile", b"afterwards"]), (off, [b"afterwards"])):
        async with far_end() as far:
            async with telling(store, slack_at(far)):
                pass
            async with telling(store) as pump:
                await pump.start([], turned_off(settings, {}))
                store.events.tell(told(name="meanwhile"))
                await store.circuits.obeyed([])
            one = slack_at(far)
            one.most = 1
            async with telling(store, one) as pump:
                store.events.tell(told(name="afterwards"))
                await until(lambda far=far, heard=heard: reached(far, len(heard)))  # type: ignore[misc]
                await ended(pump, 1)
        assert [word in body for word, (_, body) in zip(heard, far.got, strict=True)] == [
            True
        ] * len(heard)


async def reached(far: Far, count: int) -> bool:
    return len(far.got) >= count


def private() -> list[Channel]:
    """One of each kind, at a place of ours that it does not say is meant."""
    env = {"HOOK": "https://127.0.0.1:9/", "KEY": "k" * 32}
    return [
        slack("a", Slack(url_env="HOOK"), env),
        pagerduty("b", PagerDuty(key_env="KEY", url="https://127.0.0.1:9/"), env, "ledger"),
        email("c", Email(host="127.0.0.1", port=9, sender="a@b.c", to=("a@b.c",)), env),
    ]


async def test_no_kind_of_channel_dials_a_place_of_ours_unasked() -> None:
    for one in private():
        with pytest.raises(NotNow, match=r"127\.0\.0\.1 is a loopback address") as refused:
            await one.say([trial(0)])
        assert "allow_private = true" in refused.value.text
        await one.close()


async def test_nothing_is_opened_before_there_is_something_to_say(store: Store) -> None:
    async with telling(store, *private()) as pump:
        assert [one.error for one in await pump.standings()] == [None, None, None]
