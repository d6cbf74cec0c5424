"""Whatever a provider says of its usage: no call crashes, none is charged below nothing or below
what it truly cost, and none whose usage was odd passes for exact."""

from pathlib import Path

import pytest

from modelspend.receipt import Status
from modelspend.simulator import Simulator
from tests.fakes.sidecar import sidecar_for
from tests.gateway.asking import CHATS, question

IN, OUT = 1_000_000, 2_000_000
"""Pico-dollars a token of the price of `sim`."""

ODD = ("missing", "null", "negative", "huge", "nan", "string", "float")
TWICE = ("twice", "early")


@pytest.mark.parametrize("capped", [False, True], ids=["free", "capped"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_an_odd_usage_never_passes_for_exact_and_costs_no_less_than_it_did(
    tmp_path: Path, simulator: Simulator, dialect: str, stream: bool, capped: bool
) -> None:
    budgets = {"all": {"cap_usd": 1, "window": "day"}} if capped else {}
    async with sidecar_for(tmp_path, simulator.url, budgets=budgets) as sidecar:
        for odd in ODD:
            await sidecar.post(*question(dialect, f"sim-usage-{odd}", stream=stream))
        receipts = await sidecar.receipts()
    await simulator.quiet()
    charges = [line["charged"] for line in simulator.ended()]
    assert len(receipts) == len(charges) == len(ODD)
    for odd, receipt, true in zip(ODD, receipts, charges, strict=True):
        (one,) = receipt.attempts
        cost, charged = receipt.execution.actual_cost_pico, receipt.execution.charged_pico
        truly = true["input_tokens"] * IN + true["output_tokens"] * OUT
        assert cost is None or cost >= 0, odd
        assert charged >= max(cost or 0, 0), odd
        assert not one.cost.exact or (one.usage.source, cost) == ("provider", truly), odd
        if capped:
            assert charged >= truly, odd


@pytest.mark.parametrize("dialect", CHATS)
@pytest.mark.parametrize("told", TWICE)
async def test_a_usage_that_is_told_twice_or_early_counts_once(
    tmp_path: Path, simulator: Simulator, dialect: str, told: str
) -> None:
    async with sidecar_for(tmp_path, simulator.url) as sidecar:
        await sidecar.post(*question(dialect, f"sim-usage-{told}", stream=True))
        receipt = await sidecar.receipt()
    await simulator.quiet()
    (line,) = simulator.ended()
    true = line["charged"]
    assert receipt.execution.status is Status.SUCCESS
    assert receipt.usage.quantities == {name: n for name, n in true.items() if n}
    assert receipt.execution.actual_cost_pico == (
        true["input_tokens"] * IN + true["output_tokens"] * OUT
    )
