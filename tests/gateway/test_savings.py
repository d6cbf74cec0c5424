"""Savings on real calls: only what was applied saves, and the parts are on the receipt."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from modelspend.savings import MECHANISMS
from modelspend.simulator import Simulator
from tests.fakes.sidecar import ALL_DIALECTS, Sidecar, sidecar_for

ASKED = {
    "model": "dear",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
}
MODELS = ("dear", "cheap", "old")


def sections(simulator: Simulator, **more: Any) -> dict[str, Any]:
    tiers = ("simple", "standard", "deep_reasoning")
    provider = {
        "base_url": f"{simulator.url}/v1",
        "dialects": ALL_DIALECTS,
        "models": list(MODELS),
    }
    return {
        "providers": {"sim": provider},
        "profiles": {"default": {tier: ["cheap"] for tier in tiers}},
        "prices": {
            "sim/dear": {"input": 10, "output": 40},
            "sim/cheap": {"input": 1, "output": 4},
            "sim/old": {"input": 20, "output": 20},
        },
        **more,
    }


async def ask(sidecar: Sidecar, **headers: str) -> dict[str, Any]:
    status, told, body = await sidecar.post("/v1/chat/completions", ASKED, headers=headers)
    assert status == 200, body
    return dict(told)


async def test_a_route_is_compared_with_the_model_that_was_asked_for(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(tmp_path, simulator.url, **sections(simulator)) as sidecar:
        receipt = await sidecar.receipt_of(await ask(sidecar, **{"x-modelspend-mode": "route"}))
        assert receipt.decision is not None
        assert receipt.decision.applied
        assert receipt.attempts[-1].model_id == "cheap"
        saved, used = receipt.savings, receipt.usage.quantities
        assert saved is not None
        assert saved.baseline_model == "sim/dear"
        dear = used["input_tokens"] * 10_000_000 + used["output_tokens"] * 40_000_000
        assert saved.baseline_cost_pico == dear
        actual = receipt.execution.actual_cost_pico
        assert actual is not None
        assert saved.by_mechanism == {**dict.fromkeys(MECHANISMS, 0), "routing": dear - actual}
        rows = {row.price_id for row in await sidecar.store.prices.rows()}
        assert saved.baseline_price_id in rows
        (total,) = (await sidecar.store.days.sums(())).values()
        assert total.saved_pico["routing"] == dear - actual
        assert await sidecar.store.meta.check() == []


async def test_a_configured_baseline_is_what_routes_are_compared_with(
    tmp_path: Path, simulator: Simulator
) -> None:
    made = sections(simulator, savings={"baseline_model": "sim/old"})
    async with sidecar_for(tmp_path, simulator.url, **made) as sidecar:
        receipt = await sidecar.receipt_of(await ask(sidecar, **{"x-modelspend-mode": "route"}))
        used = receipt.usage.quantities
        assert receipt.savings is not None
        assert receipt.savings.baseline_cost_pico == 20_000_000 * (
            used["input_tokens"] + used["output_tokens"]
        )


@pytest.mark.parametrize("mode", ["observe", "shadow"])
async def test_what_was_not_applied_saves_nothing(
    tmp_path: Path, simulator: Simulator, mode: str
) -> None:
    async with sidecar_for(tmp_path, simulator.url, **sections(simulator)) as sidecar:
        receipt = await sidecar.receipt_of(await ask(sidecar, **{"x-modelspend-mode": mode}))
        assert receipt.attempts[-1].model_id == "dear"
        assert receipt.savings is None


async def test_any_model_without_a_baseline_is_said_to_be_unknown(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(tmp_path, simulator.url, **sections(simulator)) as sidecar:
        body = {**ASKED, "model": "auto"}
        _, told, _ = await sidecar.post("/v1/chat/completions", body)
        receipt = await sidecar.receipt_of(told)
        assert receipt.savings is not None
        assert receipt.savings.baseline_cost_pico is None
        assert receipt.savings.by_mechanism == {}
        (total,) = (await sidecar.store.days.sums(())).values()
        assert (total.decided, total.unknown) == (1, 1)


async def test_an_answer_given_again_saves_all_that_it_cost(
    tmp_path: Path, simulator: Simulator
) -> None:
    made = sections(simulator, cache={"enabled": True})
    async with sidecar_for(tmp_path, simulator.url, **made) as sidecar:
        first = await sidecar.receipt_of(await ask(sidecar))
        while any(task.get_name().startswith("keep ") for task in asyncio.all_tasks()):
            await asyncio.sleep(0)
        again = await sidecar.receipt_of(await ask(sidecar))
        assert again.execution.status == "cached"
        assert again.savings is not None
        assert again.savings.by_mechanism["caching"] == first.execution.actual_cost_pico
        assert again.execution.actual_cost_pico == 0
