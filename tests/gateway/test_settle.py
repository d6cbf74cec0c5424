"""Settling: what is estimated, what is learnt, and that nothing can cost a receipt."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from modelspend.receipt import Status
from modelspend.simulator import Simulator
from modelspend.store import patience
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.gateway.asking import CHATS, question
from tests.store.conftest import outside


class Broken:
    """An estimator with a bug."""

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError(name)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_bug_in_our_pricing_costs_neither_the_answer_nor_the_receipt(
    sidecar: Sidecar, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    sidecar.gateway.settler._estimator = Broken()
    path, body = question("openai.chat", "sim-ok", stream=stream)
    status, _, answer = await sidecar.post(path, body)
    receipt = await sidecar.receipt()
    assert status == 200
    assert b"chat.completion" in answer
    assert receipt.execution.status is Status.SUCCESS
    assert receipt.execution.actual_cost_pico is None
    assert "ZeroDivisionError" in caplog.text


async def test_the_estimator_learns_from_told_usage_and_says_how_wrong_it_was(
    sidecar: Sidecar,
) -> None:
    path, body = question("openai.chat", "sim-echo", stream=False, text="learn from this " * 40)
    for _ in range(5):
        await sidecar.post(path, body)
    path, body = question(
        "openai.chat", "sim-echo+usage-missing", stream=False, text="learn from this " * 40
    )
    _, headers, _ = await sidecar.post(path, body)
    guessed = (await sidecar.receipt_of(headers)).usage
    assert guessed.source == "estimated"
    assert guessed.error_ratio is not None
    told = (await sidecar.receipts())[0].usage
    for bucket, n in told.quantities.items():
        assert abs(guessed.quantities[bucket] - n) <= max(3, n * 0.25), bucket


async def test_what_was_learnt_survives_a_restart(tmp_path: Path, simulator: Simulator) -> None:
    path, body = question("openai.chat", "sim-ok", stream=False, text="words " * 50)
    async with sidecar_for(tmp_path, simulator.url) as sidecar:
        await sidecar.post(path, body)
    async with sidecar_for(tmp_path, simulator.url) as sidecar:
        path, body = question("openai.chat", "sim-usage-missing", stream=False)
        _, headers, _ = await sidecar.post(path, body)
        assert (await sidecar.receipt_of(headers)).usage.error_ratio is not None


@pytest.mark.parametrize("dialect", CHATS)
async def test_bodies_are_kept_as_they_went_over_the_wire_and_can_be_switched_off(
    tmp_path: Path, simulator: Simulator, dialect: str
) -> None:
    tenants = {"discreet": {"keep_bodies": "none"}}
    async with sidecar_for(tmp_path, simulator.url, tenants=tenants) as sidecar:
        path, body = question(dialect, "sim-ok", stream=True)
        _, headers, answer = await sidecar.post(path, body)
        kept = await sidecar.store.bodies.get(headers["x-modelspend-receipt"])
        assert kept.answer == answer
        assert kept.request is not None
        _, headers, _ = await sidecar.post(path, body, headers={"x-modelspend-tenant": "discreet"})
        kept = await sidecar.store.bodies.get(headers["x-modelspend-receipt"])
        assert (kept.request, kept.answer) == (None, None)


async def test_a_ledger_that_another_process_locks_holds_up_an_answer_for_a_moment_only(
    sidecar: Sidecar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0.2)
    path, body = question("openai.chat", "sim-delay-300", stream=False)
    asking = asyncio.ensure_future(sidecar.post(path, body))  # noqa: TID251
    while not await sidecar.store.calls.open_count():
        await asyncio.sleep(0.01)
    with outside(tmp_path / "ledger.db") as conn:
        conn.execute("BEGIN EXCLUSIVE")
        async with asyncio.timeout(5):  # the writer itself waits for three times as long
            status, headers, answer = await asking
        assert status == 200
        assert b"chat.completion" in answer
        assert await sidecar.store.receipts.get(headers["x-modelspend-receipt"]) is None
        conn.execute("ROLLBACK")
    receipt = await sidecar.receipt()
    assert receipt.execution.status is Status.SUCCESS
    named = {line.price_id for line in receipt.attempts[0].cost.lines}
    assert named == {price.price_id for price in await sidecar.store.prices.rows()}
