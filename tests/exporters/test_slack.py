"""Slack: bodies that Slack's own classes take, and nothing in them that is its markup."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block, ContextBlock, SectionBlock

from modelspend.alarms import KINDS, RESOLVED
from modelspend.errors import ConfigInvalid
from modelspend.exporters.channels import Channel, trial
from modelspend.exporters.slack import channel, message, sinks
from modelspend.settings import Alerts, Settings, Slack
from modelspend.store import Store
from tests.exporters.alerting import ended, telling, told
from tests.exporters.emitting import until
from tests.fakes.sink import Far, far_end, status


def slack(far: Far, **changes: Any) -> Channel:
    section = Slack(url_env="HOOK", allow_private=True, timeout_s=0.5, **changes)
    return channel("ops", section, {"HOOK": f"{far.url}/services/T/B/s3cret"})


async def test_what_goes_off_together_is_one_message(store: Store) -> None:
    async with far_end() as far:
        for name in ("acme", "other", "third"):
            store.events.tell(told(name=name, level="critical"))
        await store.circuits.obeyed([])
        async with telling(store, slack(far)) as pump:
            for name in ("a", "b"):
                store.events.tell(told(name=name, level="critical"))
            standing = await ended(pump, 2)
    assert (standing.name, standing.sent) == ("slack:ops", 2)
    said = [json.loads(body) for _, body in far.got]
    assert sum(len(each["text"].splitlines()) for each in said) == 2  # nothing from before it began
    first = said[0]
    assert first["text"].startswith("[critical] fallback rate of tenant a")
    assert "*[critical] fallback rate of tenant a*" in first["blocks"][0]["text"]["text"]
    assert "20 of 40 calls" in first["blocks"][0]["text"]["text"]
    assert "modelspend failovers --tenant acme" in first["blocks"][1]["elements"][0]["text"]
    assert far.got[0][0][""] == "POST /services/T/B/s3cret HTTP/1.1"


TEXT = st.text(max_size=4000)


@given(st.lists(st.tuples(TEXT, TEXT, st.sampled_from(KINDS)), min_size=1, max_size=10))
def test_slacks_own_classes_take_whatever_is_said(cases: list[tuple[str, str, str]]) -> None:
    said = message([told(kind, name=name, said=text) for name, text, kind in cases])
    assert 0 < len(said["blocks"]) <= 50
    assert 0 < len(said["text"]) < 40_000
    for block in said["blocks"]:
        made = Block.parse(block)
        assert isinstance(made, SectionBlock | ContextBlock)
        made.validate_json()
        assert made.to_dict() == block
        for text in (block.get("text"), *block.get("elements", ())):
            if text:
                assert 0 < len(text["text"]) <= 3000


def test_no_name_can_call_the_channel_or_make_a_link() -> None:
    said = json.dumps(message([told(name="<!channel>", said="<https://x|y> & <@U1>")]))
    assert "<" not in said
    assert "&lt;!channel&gt;" in said
    assert "&amp;" in said


@pytest.mark.parametrize("extra", range(6))
def test_a_text_of_nothing_but_escapes_is_not_too_long_for_slack(extra: int) -> None:
    said = message([told(name="&" * 300, said="x" * extra + "&" * 2900)])
    text = said["blocks"][0]["text"]
    assert text["verbatim"] is True, "@everyone and https://… in a name stay what they are"
    assert 2000 < len(text["text"]) <= 3000
    assert text["text"].endswith("&amp;")


def test_the_end_looks_unlike_the_beginning() -> None:
    (over,) = (message([told(RESOLVED)]),)
    assert over["text"].startswith("[resolved] fallback rate of tenant acme")
    assert ":white_check_mark:" in over["blocks"][0]["text"]["text"]
    assert message([trial(0)])["text"] == "Trial of modelspend's alerts"


@pytest.mark.parametrize("line", ["400 invalid_payload", "403 no", "404 no_service", "410 gone"])
async def test_what_slack_will_never_take_is_dropped_and_told(store: Store, line: str) -> None:
    async with far_end() as far, telling(store, slack(far)) as pump:
        far.answer = status(line)
        store.events.tell(told())
        standing = await ended(pump, 1)
    assert (standing.sent, standing.dropped, len(far.got)) == (0, 1, 1)
    assert standing.error == f"HTTP {line[:3]}: not to be said again"


async def test_what_it_may_take_later_is_said_again(store: Store) -> None:
    async with far_end() as far, telling(store, slack(far)) as pump:
        answers = iter(
            (status("429 Slow", "retry-after: 0\r\n"), status("500 Oh"), status("200 ok"))
        )
        far.answer = lambda head, body: next(answers)
        store.events.tell(told())
        standing = await ended(pump, 1)
    assert (standing.sent, standing.dropped, len(far.got)) == (1, 0, 3)


async def test_the_address_is_a_secret_that_nothing_repeats(store: Store) -> None:
    async with far_end() as far:
        found = slack(far)
        url = f"{far.url}/services/T/B/s3cret"
    async with telling(store, found) as pump:  # nobody listens there any more
        store.events.tell(told())

        async def failed() -> bool:
            return (await pump.standings())[0].error is not None

        await until(failed)
        (standing,) = await pump.standings()
    assert standing.error is not None
    assert "s3cret" not in standing.error
    assert "s3cret" not in repr(found)
    with pytest.raises(ConfigInvalid, match="holds no address") as refused:
        channel("ops", Slack(url_env="HOOK"), {"HOOK": url.removeprefix("http://")})
    assert "s3cret" not in refused.value.text


async def test_without_a_section_there_is_no_sink_and_without_its_variable_no_start(
    store: Store,
) -> None:
    assert sinks(Settings(), {}, store) == []
    one = Settings(alerts=Alerts(slack={"ops": Slack(url_env="HOOK")}))
    with pytest.raises(ConfigInvalid, match=r"alerts\.slack\.ops\.url_env names HOOK"):
        sinks(one, {}, store)
    off = Settings(alerts=Alerts(slack={"ops": Slack(url_env="HOOK", enabled=False)}))
    assert sinks(off, {}, store) == []
