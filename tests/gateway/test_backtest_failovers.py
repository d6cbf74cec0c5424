"""A back-test over calls that were led round failing providers, and over what that cost twice:
the policy that was in force reproduces each of them to the last digit."""

from pathlib import Path
from typing import Any

import pytest

from modelspend import settings
from modelspend.backtest import Redecided
from modelspend.gateway.backtest import Backtest
from modelspend.receipt import Receipt, Status
from modelspend.simulator import Simulator
from modelspend.store import ALL, Store
from tests.fakes.sidecar import ALL_DIALECTS, PRICE, sidecar_for
from tests.gateway.asking import CHATS, question
from tests.gateway.test_failover import tiers

FIRST = (
    "503", "hangup", "lost", "200-error-first", "429-retry-30", "stall-headers", "no-done",
    "cut-8+chunks-20", "error-after-8+chunks-20", "400", "cached-1500",
)  # fmt: skip
"""How the first choice of each profile behaves; the second one's caches are read as well."""

SECOND = "cached-900+reason-7"


def sections(url: str, mode: str) -> dict[str, Any]:
    other = {"base_url": f"{url}/v1", "dialects": ALL_DIALECTS, "price": {**PRICE, "output": 7}}
    same = {"models": ["twin"], **other}
    return {
        "routing": {"mode": mode, "profile": "from-503"},
        "providers": {
            "other": other,
            "dead": {**same, "base_url": "http://127.0.0.1:9/v1"},
            "twin": {**same, "models": ["vendor/twin"]},
        },
        "profiles": {
            f"from-{name.replace('+', '_')}": tiers(f"sim/sim-{name}", f"other/sim-{SECOND}")
            for name in FIRST
        },
        "retries": {"backoff_s": 0.001},
        "circuits": {"consecutive": 3, "panic_s": 0.001},
        "upstream": {"first_byte_s": 0.3, "stream_first_byte_s": 0.3, "idle_s": 0.3},
    }


async def left_behind(folder: Path, simulator: Simulator, mode: str) -> list[Receipt]:
    """The receipts of calls in every dialect, by every profile and by name, turn after turn."""
    async with sidecar_for(folder, simulator.url, **sections(simulator.url, mode)) as sidecar:
        names = [f"auto:from-{name.replace('+', '_')}" for name in FIRST]
        for turn, model in enumerate([*names, "twin", "sim/sim-503", "sim/sim-lost"] * 2):
            dialect = CHATS[turn % 4]
            path, body = question(dialect, "MODEL", stream=turn % 2 == 1, text=f"turn {turn}")
            if "model" in body:
                body["model"] = model
            headers = {"x-modelspend-session": f"s{turn % 3}"} if turn % 4 else {}
            await sidecar.post(path.replace("sim/MODEL", model), body, headers=headers)
        return await sidecar.receipts()


async def again(folder: Path) -> list[Redecided]:
    """All calls of a ledger under the configuration that they were made with."""
    loaded = settings.load(folder / "config.toml", {}).settings
    store = await Store.open_read(folder / "ledger.db")
    try:
        test = await Backtest.of(store, loaded, loaded, {})
        return [one async for one in test.every(store, [ALL])]
    finally:
        await store.close()


@pytest.mark.parametrize("mode", ["observe", "shadow", "route"])
async def test_the_policy_that_was_in_force_reproduces_calls_that_were_led_elsewhere(
    tmp_path: Path, simulator: Simulator, mode: str
) -> None:
    receipts = await left_behind(tmp_path, simulator, mode)
    calls = await again(tmp_path)
    assert [one.receipt_id for one in calls] == [one.receipt_id for one in receipts]
    wrong = [
        (now, was)
        for now, was in zip(calls, receipts, strict=True)
        if now.policy_pico != was.execution.actual_cost_pico or now.ended == "moved"
    ]
    assert wrong == []
    strategies = {one.decision.strategy for one in receipts if one.decision}
    assert "fallback" in strategies
    led = [one for one in receipts if len({each.provider for each in one.attempts}) > 1]
    paid_twice = [one for one in led if sum(bool(a.cost.total_pico) for a in one.attempts) > 1]
    unknown = [one for one in led if one.execution.actual_cost_pico is None]
    print(
        f"\n{mode}: {len(receipts)} calls, {len(led)} led to another provider, of which"
        f" {len(paid_twice)} paid twice and {len(unknown)} perhaps: all reproduced"
    )
    assert len(led) >= 8
    assert Status.SUCCESS in {one.execution.status for one in led}
