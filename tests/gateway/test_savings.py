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


# Failover and retry.


def tiers(*models: str) -> dict[str, list[str]]:
    return {tier: list(models) for tier in ("simple", "standard", "deep_reasoning")}


def priced(simulator: Simulator, input: float, output: float, **more: Any) -> dict[str, Any]:
    return {
        "base_url": f"{simulator.url}/v1",
        "dialects": ALL_DIALECTS,
        "price": {"input": input, "output": output},
        **more,
    }


async def hop(sidecar: Sidecar, model: str, **more: Any) -> Any:
    """The receipt of a streamed call that names a model in the Anthropic dialect."""
    body = {**ASKED, "model": model, "max_tokens": 64, "stream": True}
    status, told, data = await sidecar.post("/v1/messages", body, **more)
    assert status == 200, data
    return await sidecar.receipt_of(told)


def cost(receipt: Any, input: int, output: int) -> int:
    """What the answer's tokens cost at other rates, in USD per million."""
    used = receipt.usage.quantities
    return int(used["input_tokens"] * input + used["output_tokens"] * output) * 10**6


def assert_exact(receipt: Any) -> None:
    saved, actual = receipt.savings, receipt.execution.actual_cost_pico
    assert set(saved.by_mechanism) == set(MECHANISMS)
    assert saved.baseline_cost_pico - actual == sum(saved.by_mechanism.values())


async def test_a_failover_to_a_dearer_place_is_a_loss_and_so_is_what_the_first_one_billed(
    tmp_path: Path, simulator: Simulator
) -> None:
    sim = {"sim": priced(simulator, 1, 2), "other": priced(simulator, 5, 9)}
    profiles = {"p": tiers("sim/sim-error-after-1", "other/sim-echo")}
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers=sim,
        profiles=profiles,
        retries={"backoff_s": 0.01},
        savings={"baseline_model": "sim/sim-ok"},
    ) as sidecar:
        receipt = await hop(sidecar, "auto:p")
        assert [one.provider for one in receipt.attempts] == ["sim", "other"]
        billed = receipt.attempts[0].cost.total_pico
        assert billed > 0
        parts = receipt.savings.by_mechanism
        assert parts["failover"] == cost(receipt, 1, 2) - cost(receipt, 5, 9) - billed < 0
        assert parts["routing"] == parts["retry"] == 0
        assert_exact(receipt)
        (total,) = (await sidecar.store.days.sums(())).values()
        assert total.saved_pico == parts
        assert await sidecar.store.meta.check() == []


async def test_a_failover_to_a_cheaper_place_saves_and_a_plan_that_leaves_it_out_is_routing(
    tmp_path: Path, simulator: Simulator
) -> None:
    providers = {"sim": priced(simulator, 5, 9), "other": priced(simulator, 1, 2)}
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers=providers,
        profiles={"p": tiers("sim/sim-503", "other/sim-echo")},
        retries={"backoff_s": 0.01},
        circuits={"consecutive": 1},
        savings={"baseline_model": "sim/sim-ok"},
    ) as sidecar:
        for tried, part in ((["sim", "other"], "failover"), (["other"], "routing")):
            receipt = await hop(sidecar, "auto:p")  # then its circuit is open, and no plan has it
            assert [one.provider for one in receipt.attempts] == tried
            gain = cost(receipt, 5, 9) - cost(receipt, 1, 2)
            zero = dict.fromkeys(MECHANISMS, 0)
            assert receipt.savings.by_mechanism == {**zero, part: gain}
            assert gain > 0
            assert_exact(receipt)


async def test_a_call_that_goes_as_it_was_asked_has_no_routing_in_its_failover(
    tmp_path: Path, simulator: Simulator
) -> None:
    dead = priced(simulator, 1, 2, base_url="http://127.0.0.1:9/v1", models=["sim-echo"])
    alive = priced(simulator, 2, 4, models=["vendor/sim-echo"])
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers={"dead": dead, "alive": alive},
        retries={"backoff_s": 0.01},
        circuits={"consecutive": 1},
    ) as sidecar:
        for tried in (["dead", "alive"], ["alive"]):  # then it is led there without a try
            receipt = await hop(sidecar, "sim-echo")
            assert [one.provider for one in receipt.attempts] == tried
            assert receipt.decision is not None
            assert not receipt.decision.applied
            assert receipt.savings.baseline_model == "dead/sim-echo"
            zero = dict.fromkeys(MECHANISMS, 0)
            assert receipt.savings.by_mechanism == {**zero, "failover": -cost(receipt, 1, 2)}
            assert_exact(receipt)


async def test_what_was_billed_before_a_second_try_at_the_same_place_is_a_loss_of_retry(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers={"sim": priced(simulator, 1, 2)},
        retries={"backoff_s": 0.001, "max_attempts": 2},
    ) as sidecar:
        body = {**ASKED, "model": "sim/sim-error-after-1", "max_tokens": 64, "stream": True}
        _, told, _ = await sidecar.post("/v1/messages", body)
        receipt = await sidecar.receipt_of(told)
        assert len(receipt.attempts) == 2
        billed = receipt.attempts[0].cost.total_pico
        assert billed is not None
        assert billed > 0
        assert receipt.savings is not None
        zero = dict.fromkeys(MECHANISMS, 0)
        assert receipt.savings.by_mechanism == {**zero, "retry": -billed}
        assert_exact(receipt)


async def test_where_it_is_not_known_what_the_first_one_bills_nothing_is_claimed(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers={"sim": priced(simulator, 1, 2), "other": priced(simulator, 1, 2)},
        profiles={"p": tiers("sim/sim-stall-headers", "other/sim-echo")},
        retries={"backoff_s": 0.01},
        upstream={"first_byte_s": 0.3, "stream_first_byte_s": 0.3},
        savings={"baseline_model": "sim/sim-ok"},
    ) as sidecar:
        receipt = await hop(sidecar, "auto:p")
        assert receipt.execution.actual_cost_pico is None
        assert receipt.savings.by_mechanism == {}
        (total,) = (await sidecar.store.days.sums(())).values()
        assert (total.decided, total.unknown, total.unpriced) == (1, 1, 1)
