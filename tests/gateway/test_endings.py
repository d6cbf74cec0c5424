"""Calls that end before their time: each leaves one receipt, and it blames nobody wrongly."""

from pathlib import Path
from typing import Any

from modelspend.errors import LedgerUnavailable
from modelspend.receipt import Delivery, FailureClass, Status
from modelspend.simulator import Simulator
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.gateway.asking import question


async def test_a_second_try_that_the_ledger_refuses_is_not_made_and_still_has_its_receipt(
    sidecar: Sidecar, simulator: Simulator
) -> None:
    class Refusing:
        """The calls of a ledger that takes an intent and a receipt, but no second attempt."""

        def __init__(self, calls: Any) -> None:
            self.begin, self.finish = calls.begin, calls.finish
            self.open_count, self.settle = calls.open_count, calls.settle

        async def hop(self, *_: object, **__: object) -> None:
            raise LedgerUnavailable("The disk is full.", retry_after_s=1)

    sidecar.store.calls = Refusing(sidecar.store.calls)
    path, body = question("openai.chat", "sim-no-usage-option", stream=True)
    status, headers, _ = await sidecar.post(path, body)
    receipt = await sidecar.receipt_of(headers)
    assert status == 503
    assert len(simulator.requests) == 1
    assert [one.delivery for one in receipt.attempts] == [Delivery.DONE, Delivery.NOT_SENT]
    assert receipt.execution.status is Status.ERROR
    assert receipt.execution.actual_cost_pico == 0


async def test_a_fault_of_ours_does_not_blame_the_client(
    sidecar: Sidecar, simulator: Simulator
) -> None:
    class Faulty:
        """A settler that fails where no call has been seen to fail yet."""

        def __init__(self, settler: Any) -> None:
            self.settle = settler.settle
            self.keep_up_to = settler.keep_up_to

        def prepare(self, _: object) -> None:
            raise KeyError("a prompt")

    sidecar.gateway.settler = Faulty(sidecar.gateway.settler)
    status, _, data = await sidecar.post(*question("openai.chat", "sim-ok", stream=False))
    while not (left := await sidecar.receipts()):  # no intent tells that it is on its way
        pass
    (receipt,) = left
    assert status == 500
    assert b"a prompt" not in data
    assert not simulator.requests
    assert receipt.execution.status is Status.ERROR
    assert receipt.execution.error == "internal: a fault of the sidecar itself (KeyError)"
    assert receipt.attempts[0].failure_class is FailureClass.INTERNAL
    assert receipt.execution.actual_cost_pico == 0


async def test_the_time_of_a_client_that_does_not_read_is_not_our_overhead(
    tmp_path: Path, simulator: Simulator
) -> None:
    limits = {"client_stall_s": 1.0}
    async with sidecar_for(tmp_path, simulator.url, server=limits) as sidecar:
        path, body = question("openai.chat", "sim-chunks-400+size-40m", stream=True)
        async with sidecar.client.post(sidecar.url + path, json=body) as answer:
            receipt = await sidecar.receipt()
            assert answer.status == 200
    assert receipt.attempts[0].failure_class is FailureClass.CLIENT_STALLED
    assert receipt.execution.overhead_ms < receipt.execution.actual_latency_ms / 2
