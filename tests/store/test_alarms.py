"""Alarms and silences outlive a restart as they were, and go when nobody can ask for them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelspend.alarms import FIRED, Alarm, Silence, Step, event_of
from modelspend.store import DAY_MS, Store

NOW = 1_795_305_600_000


def alarm(**more: Any) -> Alarm:
    said = {"rule": "velocity", "scope": "tenant", "name": "acme", "level": "warn", "said": "x",
            "window_ms": NOW, "since_ms": NOW, "seen_ms": NOW}  # fmt: skip
    return Alarm(**(said | more))


EVERY = (
    alarm(),
    alarm(
        name="all",
        level="critical",
        value=0.25,
        limit=0.1,
        see="failovers",
        window="month UTC",
        window_ends_ms=NOW + 5,
        quiet_ms=NOW + 1,
        resolved_ms=NOW + 2,
        told="critical",
        is_open=True,
    ),
)


async def test_an_alarm_comes_back_as_it_was_and_is_changed_in_place(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "ledger.db", durability="normal")
    await store.alarms.write([Step(alarm=one) for one in EVERY])
    changed = replace(EVERY[0], level="critical", told="critical", is_open=True, said="worse")
    await store.alarms.write([Step(alarm=changed, events=(event_of(FIRED, changed, NOW),))])
    await store.close()
    store = await Store.open(tmp_path / "ledger.db", durability="normal")
    assert await store.alarms.known() == [changed, EVERY[1]]
    (event,) = await store.events.after(0)
    assert (event.kind, event.tenant, event.data["level"]) == (FIRED, "acme", "critical")
    await store.close()


async def test_what_was_over_30_days_ago_is_forgotten(store: Store) -> None:
    old = NOW - 31 * DAY_MS
    await store.alarms.write(
        [
            Step(alarm=alarm(name="goes on", since_ms=old)),
            Step(alarm=alarm(name="over", resolved_ms=NOW - DAY_MS)),
            Step(alarm=alarm(name="long over", resolved_ms=old)),
        ]
    )
    for rule, until in (("velocity", old), ("p95_drift", NOW - DAY_MS)):
        await store.alarms.silence(Silence(rule=rule, at_ms=0, until_ms=until))
    await store.alarms.forget(NOW)
    assert {one.name for one in await store.alarms.known()} == {"goes on", "over"}
    assert [one.rule for one in await store.alarms.silences()] == ["p95_drift"]


async def test_a_silence_is_said_anew_and_lifted_by_what_it_names(store: Store) -> None:
    first = Silence(rule="velocity", scope="tenant", name="acme", at_ms=NOW, until_ms=NOW + 1)
    longer = replace(first, until_ms=NOW + 2)
    for one in (first, longer, Silence(at_ms=NOW, until_ms=NOW + 9)):
        await store.alarms.silence(one)
    assert [one.until_ms for one in await store.alarms.silences()] == [NOW + 2, NOW + 9]
    assert not await store.alarms.lift("velocity", "", "")
    assert await store.alarms.lift("velocity", "tenant", "acme")
    assert not await store.alarms.lift("velocity", "tenant", "acme")
    assert [one.rule for one in await store.alarms.silences()] == [""]


@pytest.mark.parametrize("beside", [True, False])
async def test_a_command_may_leave_a_silence_beside_a_sidecar(store: Store, beside: bool) -> None:
    one = Silence(at_ms=NOW, until_ms=NOW + 9)
    if beside:
        other = await Store.open_notes(store.path)
        await other.alarms.silence(one)
        await other.close()
    else:
        await store.alarms.silence(one)
    assert await store.alarms.silences() == [one]
