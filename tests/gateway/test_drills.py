"""Faults put in front of a provider on purpose: real to all that judges them, and never a lie.

Both providers lie at the same simulated one, which is well; what it was truly asked is compared
with what receipts say. The second one says the last message again, so its words can be told.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from modelspend.drills import Drill, Fault, Kind
from modelspend.receipt import Attempt, Delivery, FailureClass, Receipt, Status
from modelspend.simulator import Simulator
from tests.fakes.sidecar import CUT, Sidecar, sidecar_for
from tests.gateway.asking import CHATS
from tests.gateway.test_failover import _provider, asked, tiers

AT = 1_793_491_200_000


@pytest.fixture
async def pair(tmp_path: Path, simulator: Simulator) -> AsyncIterator[Sidecar]:
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers={"other": _provider(simulator)},
        profiles={
            "p": tiers("sim/sim-chunks-40", "other/sim-echo"),
            "slowly": tiers("sim/sim-drip-20+chunks-40", "other/sim-echo"),
        },
        retries={"backoff_s": 0.01},
        circuits={},
        upstream={"first_byte_s": 0.5, "stream_first_byte_s": 0.5, "idle_s": 0.4},
    ) as running:
        yield running
        running.gateway.attempts.faults.end_all("over")


def begin(sidecar: Sidecar, kind: Kind, *, for_s: float = 60, **fault: Any) -> Drill:
    drill = Drill(
        drill_id="drill_1",
        provider="sim",
        fault=Fault(kind=kind, **fault),
        started_at_ms=AT,
        until_ms=AT + round(for_s * 1000),
    )
    sidecar.gateway.attempts.faults.end_all("over")
    sidecar.gateway.attempts.faults.begin(drill)
    sidecar.gateway.failovers.circuits.reset("sim", None, 0.0)
    return drill


async def call(
    sidecar: Sidecar, dialect: str, *, stream: bool, model: str = "auto:p"
) -> tuple[int, bytes, Receipt]:
    path, body = asked(dialect, model, stream=stream)
    status, headers, data = await sidecar.post(path, body)
    return status, data, await sidecar.receipt_of(headers)


IN_ITS_PLACE: dict[tuple[Kind, int], FailureClass] = {
    ("outage", 0): FailureClass.CONNECT,
    ("rate-limit", 0): FailureClass.RATE_LIMIT,
    ("flapping", 0): FailureClass.OVERLOADED,
    ("error-in-200", 0): FailureClass.ERROR_IN_STREAM,
    ("cut", 0): FailureClass.DISCONNECTED,
    ("stall", 0): FailureClass.FIRST_BYTE_TIMEOUT,
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_a_fault_in_the_place_of_an_answer_is_led_round_and_nothing_was_sent_or_billed(
    pair: Sidecar, simulator: Simulator, dialect: str, *, stream: bool
) -> None:
    for (kind, at), failure in IN_ITS_PLACE.items():
        begin(pair, kind, at=at)
        before = len(simulator.requests)
        status, data, receipt = await call(pair, dialect, stream=stream)
        assert status == 200, kind
        assert b"pineapple" in data, kind
        assert b"drill" not in data, kind
        first, last = receipt.attempts
        assert (first.provider, first.failure_class, first.drill) == ("sim", failure, kind)
        assert first.delivery is Delivery.NOT_SENT, kind
        assert (first.cost.total_pico, first.charged_pico) == (0, 0), kind
        assert (last.provider, last.status, last.drill) == ("other", Status.SUCCESS, None)
        assert receipt.execution.actual_cost_pico == last.cost.total_pico
        assert len(simulator.requests) == before + 1, kind  # the second provider's


def _drilled(receipt: Receipt) -> Attempt:
    (only,) = receipt.attempts
    assert only.drill is not None
    return only


SPOILT: dict[Kind, FailureClass] = {
    "cut": FailureClass.DISCONNECTED,
    "error-in-200": FailureClass.ERROR_IN_STREAM,
    "stall": FailureClass.IDLE_TIMEOUT,
}


@pytest.mark.parametrize("dialect", CHATS)
async def test_a_stream_that_is_spoilt_after_some_tokens_is_told_and_paid_for(
    pair: Sidecar, simulator: Simulator, dialect: str
) -> None:
    for kind, failure in SPOILT.items():
        begin(pair, kind, at=12)
        status, data, receipt = await call(pair, dialect, stream=True, model="auto:slowly")
        assert status == 200, kind
        assert b"error" in data[-900:], kind
        assert b"pineapple" not in data, kind
        one = _drilled(receipt)
        assert (one.failure_class, one.delivery) == (failure, Delivery.RESPONDING), kind
        assert receipt.execution.status in (Status.TRUNCATED, Status.ERROR), kind
        assert one.cost.total_pico, kind  # the provider was asked, and will bill it
        assert one.usage.source != "none"
        told = one.usage.quantities["output_tokens"]
        assert 3 <= told <= 40, kind
        if kind != "error-in-200":
            assert data.endswith(CUT), kind
    await simulator.quiet()
    assert {line["outcome"] for line in simulator.ended()} == {"aborted_by_client"}


@pytest.mark.parametrize("kind", SPOILT)
async def test_a_whole_answer_that_is_spoilt_half_way_is_led_round(
    pair: Sidecar, simulator: Simulator, kind: Kind
) -> None:
    begin(pair, kind, at=12)
    status, data, receipt = await call(pair, "openai.chat", stream=False)
    assert (status, b"pineapple" in data) == (200, True)
    first = receipt.attempts[0]
    assert (first.failure_class, first.drill) == (SPOILT[kind], kind)
    in_its_place = kind == "error-in-200"
    assert first.delivery is (Delivery.NOT_SENT if in_its_place else Delivery.RESPONDING)
    assert len(simulator.requests) == (1 if in_its_place else 2)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_what_is_slow_comes_late_and_byte_by_byte_as_ever(
    pair: Sidecar, simulator: Simulator, dialect: str, *, stream: bool
) -> None:
    path, body = asked(dialect, "sim/sim-echo", stream=stream)
    begin(pair, "slow", delay_s=0.15)
    status, headers, late = await pair.post(path, body)
    receipt = await pair.receipt_of(headers)
    one = _drilled(receipt)
    assert (status, one.status, one.delivery) == (200, Status.SUCCESS, Delivery.DONE)
    assert one.latency_ms >= 150
    assert receipt.execution.overhead_ms < 100  # the wait is the provider's, not ours
    assert one.cost.total_pico
    assert one.cost.exact
    assert b"pineapple" in late


@pytest.mark.parametrize("at", [0, 12, 500])  # 500: more than there are, so it holds the end
async def test_what_a_fault_holds_up_goes_on_when_it_ends(
    pair: Sidecar, simulator: Simulator, at: int
) -> None:
    """In full, as if nothing had been there."""
    drill = begin(pair, "stall", at=at)
    path, body = asked("openai.chat", "sim/sim-chunks-40", stream=True)
    calling = asyncio.create_task(pair.post(path, body))  # noqa: TID251
    on = pair.gateway.attempts.faults.on("sim")
    while not on._holding:
        await asyncio.sleep(0.01)
    assert len(simulator.requests) == (1 if at else 0)
    assert pair.gateway.attempts.faults.end(drill.drill_id, "stopped")
    status, headers, data = await calling
    assert (status, data.endswith(b"data: [DONE]\n\n")) == (200, True)
    one = _drilled(await pair.receipt_of(headers))
    assert (one.status, one.drill) == (Status.SUCCESS, "stall")
    (charged,) = (line["usage"]["output_tokens"] for line in simulator.ended())
    assert one.usage.quantities["output_tokens"] == charged


async def test_a_client_that_leaves_a_held_call_was_charged_nothing(
    pair: Sidecar, simulator: Simulator
) -> None:
    begin(pair, "stall")
    path, body = asked("openai.chat", "sim/sim-ok", stream=True)
    calling = asyncio.create_task(pair.post(path, body))  # noqa: TID251
    on = pair.gateway.attempts.faults.on("sim")
    while not on._holding:
        await asyncio.sleep(0.01)
    calling.cancel()
    receipt = await pair.receipt()
    one = _drilled(receipt)
    assert receipt.execution.status is Status.CLIENT_DISCONNECT
    assert (one.delivery, one.cost.total_pico) == (Delivery.NOT_SENT, 0)
    assert not simulator.requests


async def test_a_drill_ends_by_itself_and_says_how_many_it_met(pair: Sidecar) -> None:
    ends: list[tuple[str, int]] = []
    over = asyncio.Event()
    faults = pair.gateway.attempts.faults

    def heard(drill: Drill, why: str, met: int) -> None:
        ends.append((why, met))
        over.set()

    begin(pair, "outage", for_s=0.3)
    faults.listeners.append(heard)
    _, _, receipt = await call(pair, "openai.chat", stream=False)
    assert [one.drill for one in receipt.attempts] == ["outage", None]
    async with asyncio.timeout(5):
        await over.wait()
    assert ends == [("over", 1)]
    assert list(faults) == []
    pair.gateway.failovers.circuits.reset("sim", None, 0.0)
    _, _, receipt = await call(pair, "openai.chat", stream=False)
    assert _drilled_or_none(receipt) is None
    assert not faults.end("drill_1", "stopped")


def _drilled_or_none(receipt: Receipt) -> str | None:
    (only,) = receipt.attempts
    return only.drill


async def test_what_flaps_is_well_and_unwell_by_turns(pair: Sidecar) -> None:
    begin(pair, "flapping", period_s=0.2)
    seen: list[bool] = []
    async with asyncio.timeout(10):
        while seen[-1:] != [True] or seen.count(False) == 0:
            pair.gateway.failovers.circuits.reset("sim", None, 0.0)
            _, _, receipt = await call(pair, "openai.chat", stream=False)
            well = receipt.attempts[0].status is Status.SUCCESS
            assert (receipt.attempts[0].drill is None) == well
            seen.append(well)
    assert seen[0] is False


async def test_circuits_open_and_recover_as_they_would(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers={"other": _provider(simulator)},
        profiles={"p": tiers("sim/sim-ok", "other/sim-echo")},
        retries={"backoff_s": 0.01},
        circuits={"consecutive": 3, "wait_s": 0.2},
    ) as sidecar:
        drill = begin(sidecar, "outage")
        receipts = [(await call(sidecar, "openai.chat", stream=False))[2] for _ in range(5)]
        assert [len(one.attempts) for one in receipts] == [2, 2, 2, 1, 1]
        assert all(one.execution.status is Status.SUCCESS for one in receipts)
        (incident,) = await sidecar.store.incidents.list()
        assert (incident.drill, incident.failure_class) == ("outage", FailureClass.CONNECT)
        sidecar.gateway.attempts.faults.end(drill.drill_id, "stopped")
        async with asyncio.timeout(10):
            while (await call(sidecar, "openai.chat", stream=False))[2].attempts[0].provider != (
                "sim"
            ):
                await asyncio.sleep(0.02)
        kinds = [one.kind for one in await sidecar.store.events.after(0, 1000)]
        assert [kind for kind in kinds if kind != "failover"] == [
            "circuit.open",
            "drill.ended",
            "circuit.half_open",
            "circuit.recovered",
        ]
        hops = [one for one in await sidecar.store.events.after(0, 1000) if one.kind == "failover"]
        assert all(hop.data["extra_cost_usd"] > 0 for hop in hops)  # it writes at a dearer price
        samples = await sidecar.store.health.samples(0, 1 << 50)
        assert {name for one in samples for name in one.failures} == set()


async def test_embeddings_and_counts_are_met_too(pair: Sidecar, simulator: Simulator) -> None:
    for path, body in (
        ("/v1/embeddings", {"model": "sim/sim-ok", "input": "hi"}),
        (
            "/v1/messages/count_tokens",
            {"model": "sim/sim-ok", "messages": [{"role": "user", "content": "hi"}]},
        ),
    ):
        for kind, status in (("rate-limit", 429), ("error-in-200", 502), ("outage", 502)):
            begin(pair, kind, retry_after_s=21)  # type: ignore[arg-type]
            told, headers, data = await pair.post(path, body)
            assert told == status, (path, kind, data)
            if kind == "rate-limit":
                assert headers["retry-after"] == "21"  # longer than anybody waits
                assert b"A drill (rate-limit) stands in front of sim" in data
    assert not simulator.requests


@pytest.mark.parametrize("dialect", CHATS)
async def test_a_translated_call_is_met_in_the_words_of_its_provider(
    tmp_path: Path, simulator: Simulator, dialect: str
) -> None:
    """The client is told in its own, whatever stands in the provider's place."""
    tongue = "anthropic.messages" if dialect != "anthropic.messages" else "openai.chat"
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers={"sim": {"base_url": f"{simulator.url}/v1", "dialects": [tongue]}},
    ) as sidecar:
        for kind, at, status in (
            ("rate-limit", 0, 429),
            ("flapping", 0, 503),
            ("error-in-200", 0, 200),
            ("error-in-200", 12, 200),
            ("cut", 12, 200),
        ):
            begin(sidecar, kind, at=at, retry_after_s=21)  # type: ignore[arg-type]
            path, body = asked(dialect, "sim/sim-chunks-40", stream=True)
            told, headers, data = await sidecar.post(path, body)
            receipt = await sidecar.receipt_of(headers)
            assert told == status, (kind, at)
            assert receipt.request.translated_to == tongue
            assert b"error" in data[-900:], (kind, at)
            one = _drilled(receipt)
            assert (one.delivery is Delivery.NOT_SENT) == (not at), (kind, at)
        assert len(simulator.requests) == 2
        sidecar.gateway.attempts.faults.end_all("over")


async def test_a_compressed_answer_is_spoilt_as_well(pair: Sidecar, simulator: Simulator) -> None:
    begin(pair, "cut", at=5)
    _, _, receipt = await call(pair, "openai.chat", stream=True, model="sim/sim-gzip")
    assert receipt.attempts[-1].failure_class is FailureClass.DISCONNECTED
    assert receipt.attempts[-1].drill == "cut"
