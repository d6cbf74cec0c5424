"""From receipts to whoever is paged: a series of calls goes through the rules and the ledger, and a
real sidecar tells real channels."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme

from modelspend.alarms import ESCALATED, FIRED, RESOLVED, Silence, state_of
from modelspend.budgets import Budget
from modelspend.errors import Overloaded
from modelspend.receipt import Receipt
from modelspend.server.alarms import Lookout
from modelspend.settings import Alerts, Settings
from modelspend.simulator import Simulator
from modelspend.store import DAY_MS, Store
from modelspend.windows import parse
from tests.exporters.emitting import until
from tests.fakes.mail import mail_server
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.fakes.sink import far_end, status
from tests.reports.test_alerts import answered, at, led_from, write
from tests.store.synthetic import START_MS

NOW = START_MS + 30 * DAY_MS
MINUTE = 60_000


@dataclass
class Watched:
    """A ledger that is looked at by a clock of ours; `reopen` is a restart."""

    path: Path
    store: Store
    limits: dict[str, Any]
    now_ms: int = NOW

    def __post_init__(self) -> None:
        self.lookout = self._lookout()

    def _lookout(self) -> Lookout:
        gateway = SimpleNamespace(now_ms=lambda: self.now_ms)
        settings = Settings(alerts=Alerts(**{"sure_from": 0, **self.limits}))
        live: Any = SimpleNamespace(gateway=gateway, settings=settings)
        return Lookout(live, self.store)

    async def look(self, minutes: float = 1.0) -> None:
        self.now_ms += round(minutes * MINUTE)
        await self.lookout.look()

    async def reopen(self) -> None:
        await self.store.close()
        self.store = await Store.open(self.path, durability="normal", boot_id="again")
        self.lookout = self._lookout()

    async def told(self, rule: str | None = None) -> list[tuple[str, str]]:
        """(kind, whom), in order."""
        found = await self.store.events.after(0, 10_000)
        return [
            (one.kind, f"{one.data['scope']}:{one.data['name']}")
            for one in found
            if one.kind.startswith("alert.") and rule in (None, one.data["rule"])
        ]


@pytest.fixture
async def watched(tmp_path: Path) -> Any:
    path = tmp_path / "ledger.db"
    one = Watched(path, await Store.open(path, durability="normal", boot_id="b"), {})
    yield one
    await one.store.close()


def minute(calls: Iterator[Receipt], ms: int, led: int, of: int = 10) -> list[Any]:
    """The calls of a minute, of which some were led elsewhere."""
    made = []
    for n in range(of):
        when = ms + n * 5000
        trail = led_from("openai", when) if n < led else None
        provider = "anthropic" if n < led else "openai"
        made.append((at(next(calls), when, provider), trail))
    return made


async def test_a_series_that_hovers_pages_once_and_its_end_is_told_once(watched: Watched) -> None:
    """Two hours around the limit of a tenth, then bad, then well again; with a restart in each."""
    calls = answered(21, 8000)
    shares = [
        *[1, 1, 2, 1, 0] * 24,  # about the limit, back and forth
        *[10] * 60,  # all of them
        *[0] * 130,
    ]
    for n, led in enumerate(shares):
        await write(watched.store, minute(calls, watched.now_ms, led))
        await watched.look()
        if n in (60, 125, 200):
            await watched.reopen()
    told = await watched.told("fallback_rate")
    for whom in ("process:all", "provider:openai", "tenant:acme"):
        mine = [kind for kind, name in told if name == whom]
        assert mine == [FIRED, ESCALATED, RESOLVED], whom
    alarms = {one.key: one for one in await watched.store.alarms.known()}
    assert state_of(alarms["fallback_rate:tenant:acme"]) == "resolved"


async def test_a_rate_is_quiet_only_a_tenth_below_its_limit(watched: Watched) -> None:
    calls, begin = answered(30, 300), NOW
    await write(watched.store, minute(calls, begin, 10, of=100))  # a tenth
    watched.now_ms += 10 * MINUTE
    await watched.look()
    assert (FIRED, "tenant:acme") in await watched.told("fallback_rate")
    await write(watched.store, minute(calls, begin, 0, of=6))  # 9.4 %
    for _ in range(15):
        await watched.look()
    assert RESOLVED not in [kind for kind, _ in await watched.told("fallback_rate")]
    await write(watched.store, minute(calls, begin, 0, of=6))  # 8.9 %
    for _ in range(7):
        await watched.look()
    assert (RESOLVED, "tenant:acme") in await watched.told("fallback_rate")
    await write(watched.store, minute(calls, begin, 1, of=5))  # 9.4 %: below it from below
    await watched.look()
    alarms = {one.key: one for one in await watched.store.alarms.known()}
    assert state_of(alarms["fallback_rate:tenant:acme"]) == "resolved"


async def test_a_restart_while_it_goes_on_tells_nobody_again(watched: Watched) -> None:
    await write(watched.store, minute(answered(22, 200), NOW, 30, of=40))
    for _ in range(10):
        await watched.look()
        await watched.reopen()
    told = await watched.told("fallback_rate")
    assert sorted(told) == sorted(set(told))
    assert (FIRED, "tenant:acme") in told
    assert all(kind == FIRED for kind, _ in told)


async def test_a_day_rule_holds_between_the_looks_that_ask_it(watched: Watched) -> None:
    calls = answered(23, 100)
    await write(watched.store, [(at(next(calls), NOW - n, cost=None), None) for n in range(30)])
    for _ in range(120):
        await watched.look()
    assert (FIRED, "process:all") in await watched.told("unpriced_share")
    assert len(await watched.told("unpriced_share")) == len(
        set(await watched.told("unpriced_share"))
    )
    assert RESOLVED not in [kind for kind, _ in await watched.told("unpriced_share")]


async def test_a_silence_that_a_command_has_left_is_noticed_at_the_next_look(
    watched: Watched,
) -> None:
    await write(watched.store, minute(answered(24, 200), NOW, 30, of=40))
    until_ms = NOW + 30 * MINUTE
    beside = await Store.open_notes(watched.path)
    await beside.alarms.silence(Silence(rule="fallback_rate", at_ms=NOW, until_ms=until_ms))
    await beside.close()
    while watched.now_ms < until_ms - MINUTE:
        await watched.look()
    assert await watched.told() == []
    assert await watched.store.alarms.known()
    await watched.look()
    assert (FIRED, "tenant:acme") in await watched.told()


async def test_a_drill_pages_nobody(watched: Watched) -> None:
    made = minute(answered(25, 200), NOW, 30, of=40)
    for n, (receipt, trail) in enumerate(made):
        last = replace(receipt.attempts[-1], drill="down", latency_ms=9_000.0)
        made[n] = replace(receipt, attempts=(last,)), trail
    await write(watched.store, made)
    for _ in range(5):
        await watched.look()
    assert await watched.told() == []
    assert await watched.store.alarms.known() == []


async def test_an_alarm_and_what_tells_of_it_are_written_together_or_not_at_all(
    watched: Watched,
) -> None:
    with closing(sqlite3.connect(watched.path)) as conn:
        conn.execute(
            "CREATE TRIGGER no BEFORE INSERT ON events BEGIN SELECT raise(ABORT, 'x'); END"
        )
        conn.commit()
    await write(watched.store, [(one, None) for one, _ in minute(answered(26, 90), NOW, 0, of=40)])
    calls = answered(27, 100)
    unpriced = [(at(next(calls), NOW - n, cost=None), None) for n in range(40)]
    await write(watched.store, unpriced)
    with pytest.raises(sqlite3.IntegrityError):
        await watched.look()
    assert await watched.store.alarms.known() == []
    with closing(sqlite3.connect(watched.path)) as conn:
        conn.execute("DROP TRIGGER no")
        conn.commit()
    await watched.look()
    alarms = await watched.store.alarms.known()
    assert len(await watched.told()) == len(alarms) > 0
    assert all(one.is_open and one.told == one.level for one in alarms)


async def test_what_a_ledger_says_too_late_is_neither_loud_nor_quiet(watched: Watched) -> None:
    """Nothing is resolved because it could not be asked, and the other rules are asked all the
    same."""

    class Slow:
        def __init__(self, store: Store) -> None:
            self.told_at = store.alerts.told_at

        def __getattr__(self, name: str) -> Callable[..., Any]:
            async def late(*given: Any, **named: Any) -> None:
                raise Overloaded("The question took longer than 5 s.", "Narrow it.")

            return late

    calls = answered(28, 300)
    await write(watched.store, minute(calls, NOW, 30, of=40))
    await write(watched.store, [(at(next(calls), NOW - n, cost=None), None) for n in range(40)])
    await watched.look()
    before = await watched.told()
    assert {(FIRED, "tenant:acme"), (FIRED, "process:all")} <= set(before)
    kept, watched.store.alerts = watched.store.alerts, Slow(watched.store)  # type: ignore[assignment]
    await watched.store.budgets.set_override(cap(1), NOW)
    for _ in range(30):
        await watched.look()
    now = await watched.told()
    assert now[: len(before)] == before
    burns = await watched.told("budget_burn")
    assert now[len(before) :] == burns == [(FIRED, "tenant:acme")]
    watched.store.alerts = kept
    for _ in range(15):
        await watched.look()
    assert RESOLVED not in [kind for kind, _ in await watched.told()]


# A whole sidecar.


ASK = {"model": "sim/gpt-5-mini", "messages": [{"role": "user", "content": "hello " * 50}]}


async def spend(sidecar: Sidecar) -> int:
    """One call of tenant acme; what it cost."""
    said = await sidecar.post("/v1/chat/completions", ASK, headers={"x-modelspend-tenant": "acme"})
    assert said[0] == 200
    cost = (await sidecar.receipts())[-1].execution.actual_cost_pico
    assert cost
    return cost


def cap(pico: int) -> Budget:
    return Budget(scope="tenant", name="acme", window=parse("month"), cap_pico=pico, hard=False)


async def test_a_budget_pages_by_slack_pagerduty_mail_and_webhook_through_its_whole_life(
    tmp_path: Path, simulator: Simulator
) -> None:
    authority = trustme.CA()
    pem = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(pem))
    async with (
        far_end() as slack,
        far_end() as pager,
        far_end() as hook,
        mail_server(authority, "starttls", ops="s3cret") as mail,
    ):
        pager.answer = status("202 Accepted")
        env = {"SLACK": slack.url, "KEY": "k" * 32, "USER_": "ops", "PASS_": "s3cret"}
        sections = {
            "alerts": {
                "every_s": 0.05,
                "resolve_after_s": 0,
                "slack": {"ops": {"url_env": "SLACK", "allow_private": True}},
                "pagerduty": {
                    "night": {
                        "key_env": "KEY",
                        "url": pager.url,
                        "allow_private": True,
                        "level": "critical",
                    }
                },
                "email": {
                    "team": {
                        "host": "localhost",
                        "port": mail.port,
                        "ca_file": str(pem),
                        "sender": "m@example.com",
                        "to": ["ops@example.com"],
                        "username_env": "USER_",
                        "password_env": "PASS_",
                        "allow_private": True,
                        "rules": ["budget_burn"],
                    }
                },
            },
            "webhooks": {"hook": {"url": hook.url, "types": ["alert.*"], "allow_private": True}},
        }

        async def heard(sidecar: Sidecar, *kinds: str) -> None:
            """Every channel has heard of each, once: of the warning all but PagerDuty."""

            async def all_did() -> bool:
                found = await sidecar.store.sinks.standings(0)
                return all(
                    one.sent == len(kinds) - (one.name.startswith("pagerduty") and bool(kinds))
                    for one in found
                )

            await until(all_did)
            text = b"".join(body for _, body in slack.got).decode()
            subjects = " ".join(str(letter["Subject"]) for letter, _, _ in mail.got)
            assert [json.loads(body)["type"] for _, body in hook.got] == list(kinds)
            assert len(mail.got) == len(kinds)
            assert all(_said(kind) in text and _said(kind) in subjects for kind in kinds)

        async with sidecar_for(tmp_path, simulator.url, env=env, **sections) as sidecar:
            cost = await spend(sidecar)
            await sidecar.store.budgets.set_override(cap(cost * 100 // 85), 0)
            await heard(sidecar, FIRED)
            assert pager.got == []
        async with sidecar_for(tmp_path, simulator.url, env=env, **sections) as sidecar:
            await spend(sidecar)
            await heard(sidecar, FIRED, ESCALATED)
            await sidecar.store.budgets.set_override(cap(cost * 1000), 0)
            await heard(sidecar, FIRED, ESCALATED, RESOLVED)
        said = [json.loads(body) for _, body in pager.got]
        assert [one["event_action"] for one in said] == ["trigger", "resolve"]
        assert said[0]["dedup_key"] == said[1]["dedup_key"]
        assert "budget burn of tenant acme" in said[0]["payload"]["summary"]


def _said(kind: str) -> str:
    level = {FIRED: "warn", ESCALATED: "critical", RESOLVED: "resolved"}[kind]
    return f"[{level}] budget burn of tenant acme"


async def test_without_channels_a_sidecar_has_no_task_for_them(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(tmp_path, simulator.url):
        names = {task.get_name() for task in asyncio.all_tasks()}
    assert not [name for name in names if name.startswith("sink")]
    assert "job look-at-alerts" in names
