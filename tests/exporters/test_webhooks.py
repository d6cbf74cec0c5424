"""Webhooks: signed as `svix` verifies it, retried, and never lost."""

import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from svix.webhooks import Webhook as Verifier
from svix.webhooks import WebhookVerificationError

from modelspend.errors import ConfigInvalid
from modelspend.events import Event
from modelspend.exporters import Pace, Pump, webhooks
from modelspend.exporters.ration import Ration
from modelspend.exporters.webhooks import WebhookSink, endpoint, payload
from modelspend.settings import Webhook
from modelspend.sinks import Standing
from modelspend.store import Store
from modelspend.store.webhooks import Delivery
from tests.exporters.emitting import emit, now_ms, until
from tests.fakes.sink import OK, Far, Head, far_end, status
from tests.store.synthetic import Traffic

NEW = "whsec_" + base64.b64encode(b"n" * 32).decode()
OLD = "whsec_" + base64.b64encode(b"o" * 32).decode()
NEVER = "whsec_" + base64.b64encode(b"x" * 32).decode()
ENV = {"HOOK_NEW": NEW, "HOOK_OLD": OLD}


def section(far: Far, **changes: Any) -> Webhook:
    said = {
        "url": f"{far.url}/hook",
        "types": ("*",),
        "allow_private": True,
        "retry_s": (0.01, 0.01),
        "timeout_s": 0.5,
        "secrets": ("HOOK_NEW",),
    }
    return Webhook(**{**said, **changes})


@asynccontextmanager
async def pumping(store: Store, *sections: Webhook) -> AsyncIterator[Pump]:
    pump = Pump(store, now_ms, lambda: 0.5, Pace(first_s=0.01, most_s=0.05, calm_s=0.0))
    sinks = [WebhookSink(endpoint(f"hook{n}", one, ENV), store) for n, one in enumerate(sections)]
    await pump.start(sinks)
    try:
        yield pump
    finally:
        await pump.stop()


async def ended(pump: Pump, count: int) -> Standing:
    found: list[Standing] = []

    async def so_far() -> bool:
        found[:] = await pump.standings()
        return found[0].sent + found[0].dropped == count and not found[0].queued

    await until(so_far)
    return found[0]


def tell(store: Store, kind: str, **changes: Any) -> None:
    store.events.tell(Event(kind=kind, at_ms=now_ms(), **changes))


async def test_the_library_of_receivers_accepts_what_is_sent(store: Store) -> None:
    async with far_end() as far, pumping(store, section(far)) as pump:
        tell(store, "budget.threshold", tenant="acme", level="warn", data={"percent": 80})
        await ended(pump, 1)
        ((head, body),) = far.got
    Verifier(NEW).verify(body, head)
    said = json.loads(body)
    assert said["type"] == "budget.threshold"
    assert said["data"]["tenant"] == "acme"
    assert said["data"]["details"] == {"percent": 80}
    assert head[""] == "POST /hook HTTP/1.1"
    with pytest.raises(WebhookVerificationError):
        Verifier(NEW).verify(body.replace(b"80", b"81"), head)
    with pytest.raises(WebhookVerificationError):
        Verifier(OLD).verify(body, head)


async def test_while_secrets_rotate_a_receiver_may_know_either(store: Store) -> None:
    async with (
        far_end() as far,
        pumping(store, section(far, secrets=("HOOK_NEW", "HOOK_OLD"))) as p,
    ):
        tell(store, "failover")
        await ended(p, 1)
        ((head, body),) = far.got
    assert len(head["webhook-signature"].split()) == 2
    for secret in (NEW, OLD):
        Verifier(secret).verify(body, head)
    with pytest.raises(WebhookVerificationError):
        Verifier(NEVER).verify(body, head)


@pytest.mark.parametrize("types", ["*", "receipt.created", "receipt.*", "routing.decision"])
async def test_a_receipt_is_told_with_its_cost(store: Store, traffic: Traffic, types: str) -> None:
    async with far_end() as far, pumping(store, section(far, types=(types,))) as pump:
        receipt = traffic.receipt()
        await store.calls.finish(receipt)
        await ended(pump, 1)
        ((_, body),) = far.got
    said = json.loads(body)
    assert said["type"] == "receipt.created"
    assert said["data"]["receipt_id"] == receipt.receipt_id
    assert said["data"]["seq"] == 1


async def test_what_it_takes_to_read_deliveries_is_taken_of_the_ration(
    store: Store, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []
    monkeypatch.setattr(Ration, "beside", lambda _, seconds: taken.append(seconds))
    async with far_end() as far, pumping(store, section(far)) as pump:
        await emit(store, traffic, 6, 0)
        await ended(pump, 6)
    assert len(taken) >= 3
    assert all(0 < seconds < 1 for seconds in taken)


async def test_each_try_carries_the_same_id_and_bytes(store: Store) -> None:
    async with far_end() as far, pumping(store, section(far)) as pump:
        far.answer = in_turn(status("500 Oh"), status("429 Slow"), status("204 Fine"))
        tell(store, "failover")
        standing = await ended(pump, 1)
        assert (standing.sent, standing.dropped) == (1, 0)
        assert len({head["webhook-id"] for head, _ in far.got}) == 1
        assert len({body for _, body in far.got}) == 1
        assert len(far.got) == 3
        (one,) = await store.webhooks.list()
        assert (one.status, one.attempts, one.http_status) == ("delivered", 3, 204)


def in_turn(*answers: bytes) -> Any:
    left = list(answers)
    return lambda head, body: left.pop(0) if len(left) > 1 else left[0]


async def test_what_nobody_takes_becomes_a_dead_letter_and_can_be_sent_again(
    store: Store,
) -> None:
    async with far_end() as far, pumping(store, section(far)) as pump:
        far.answer = status("500 Oh")
        tell(store, "failover", data={"from_provider": "a"})
        standing = await ended(pump, 1)
        assert (standing.sent, standing.dropped, standing.error) == (0, 1, "HTTP 500")
        assert len(far.got) == 3  # at once, and after each of two pauses
        (dead,) = await store.webhooks.list(status="dead")
        assert await store.webhooks.letter(dead.delivery_id) == far.got[0][1]
        far.answer = status("200 OK")
        beside = await Store.open_notes(store.path)  # as the command does it
        assert await beside.webhooks.retry([dead.delivery_id], now_ms()) == 1
        await beside.close()
        standing = await ended(pump, 1)
        assert (standing.sent, standing.dropped) == (1, 0)
        assert far.got[-1][0]["webhook-id"] == dead.delivery_id
        assert await store.webhooks.letter(dead.delivery_id) is None


async def test_an_endpoint_that_is_gone_is_not_asked_again(store: Store) -> None:
    async with far_end() as far, pumping(store, section(far)) as pump:
        far.answer = status("410 Gone")
        tell(store, "failover")
        assert (await ended(pump, 1)).dropped == 1
        assert len(far.got) == 1


async def test_retry_after_puts_the_next_try_off(store: Store) -> None:
    async with far_end() as far, pumping(store, section(far)):
        far.answer = status("503 Busy", "retry-after: 3600\r\n")
        tell(store, "failover")
        await far.until(1)
        found: list[Delivery] = []

        async def put_off() -> bool:
            found[:] = await store.webhooks.list()
            return found[0].attempts == 1

        await until(put_off)
        assert found[0].due_at_ms is not None
        assert found[0].due_at_ms > now_ms() + 3_500_000


async def test_each_gets_its_own_types_and_tenant(store: Store, traffic: Traffic) -> None:
    async with far_end() as one, far_end() as two, far_end() as three:
        sections = (
            section(one, types=("circuit.*", "failover")),
            section(two, types=("*",), tenant="acme"),
            section(three, types=("receipt.created",)),
        )
        async with pumping(store, *sections) as pump:
            tell(store, "circuit.open")
            tell(store, "budget.threshold", tenant="acme")
            tell(store, "failover", tenant="other")
            await store.calls.finish(traffic.receipt())
            for far, count in ((one, 2), (two, 1), (three, 1)):
                await far.until(count)
            assert [standing.queued for standing in await _quiet(pump)] == [0, 0, 0]
        assert sorted(types(one.got)) == ["circuit.open", "failover"]
        assert types(two.got) == ["budget.threshold"]
        assert types(three.got) == ["receipt.created"]


async def _quiet(pump: Pump) -> list[Standing]:
    found: list[Standing] = []

    async def quiet() -> bool:
        found[:] = await pump.standings()
        return not any(one.queued for one in found)

    await until(quiet)
    return found


def types(got: Sequence[tuple[Head, bytes]]) -> list[str]:
    return [json.loads(body)["type"] for _, body in got]


async def test_a_restart_in_the_middle_loses_nothing(store: Store, traffic: Traffic) -> None:
    """A sink that fails a third of the time, stopped over and over: each is told in the end."""
    async with far_end() as far:
        turn = 0

        def answer(head: Head, body: bytes) -> bytes:
            nonlocal turn
            turn += 1
            return status("500 Oh" if turn % 3 == 0 else "200 OK")

        far.answer = answer
        patient = section(far, retry_s=(0.01,) * 20)
        for round in range(8):
            async with pumping(store, patient):
                await emit(store, traffic, 3, 4, kind="failover")
                await far.until(3 * round + 1)
        async with pumping(store, patient) as pump:
            standing = await ended(pump, 56)
        assert standing.dropped == 0
        delivered = await store.webhooks.list(status="delivered", limit=100)
        assert sorted(one.seq for one in delivered) == list(range(1, 57))
        assert {head["webhook-id"] for head, _ in far.got} == {o.delivery_id for o in delivered}


def test_an_oversized_receipt_is_told_shortened(traffic: Traffic) -> None:
    from dataclasses import replace

    from modelspend.store import Stored

    receipt = replace(traffic.receipt(), tags={f"k{n}": "v" * 250 for n in range(100)})
    body = payload(Stored(receipt, 1, "", False))
    assert len(body) < 20_000
    assert json.loads(body)["data"]["shortened"] is True


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_!!", "whsec_" + "QUFB", "hunter2"])
def test_a_secret_that_is_none_is_refused_by_the_name_of_its_variable(text: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        endpoint("hook", Webhook(url="https://example.com/", secrets=("BAD",)), {"BAD": text})
    assert "BAD" in refused.value.text
    assert not text or text not in refused.value.text or text == "whsec_"


def test_an_address_may_be_a_secret_of_its_own() -> None:
    said = Webhook(url_env="HOOK_URL")
    found = endpoint("hook", said, {"HOOK_URL": "https://example.com/T/B/X"})
    assert found.url == "https://example.com/T/B/X"
    assert "T/B/X" not in repr(found)


async def test_for_an_endpoint_that_takes_nothing_the_rest_waits_in_the_ledger(
    store: Store,
) -> None:
    async with far_end() as far:
        far.answer = status("500 Oh")
        async with pumping(store, section(far, retry_s=(3600.0,))) as pump:
            for _ in range(5):
                tell(store, "failover")
            await far.until(5)
            for _ in range(60):
                tell(store, "failover")
            (one,) = await pump.standings()
            while one.queued < 65:
                (one,) = await pump.standings()
            await far.until(7)  # one after the other, to see whether it is well again
            assert await filed(store) < 20
            far.answer = OK
            assert (await ended_but(pump, 65, waiting=20)).dropped == 0


async def filed(store: Store) -> int:
    return len(await store.webhooks.list(webhook="hook0", status="pending", limit=100))


async def ended_but(pump: Pump, count: int, *, waiting: int) -> Standing:
    """All but those that are to be tried again in an hour."""
    found: list[Standing] = []

    async def so_far() -> bool:
        found[:] = await pump.standings()
        return found[0].sent > count - waiting and found[0].sent + found[0].queued == count

    await until(so_far)
    return found[0]


async def test_no_more_is_filed_than_is_sent_in_a_while(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_MOST_FILED", 3)
    async with far_end() as far:
        far.answer = "stall"
        async with pumping(store, section(far, timeout_s=60.0)) as pump:
            for _ in range(20):
                tell(store, "failover")
            await far.until(1)
            assert await filed(store) == 3
            assert (await pump.standings())[0].queued == 20


async def test_what_is_put_off_holds_up_nothing_new(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_MOST_FILED", 3)
    async with far_end() as far:
        far.answer = status("500 Oh")
        async with pumping(store, section(far, retry_s=(3600.0,))) as pump:
            for _ in range(4):
                tell(store, "failover")
            await far.until(4)
            far.answer = OK
            for _ in range(6):
                tell(store, "failover")
            assert (await ended_but(pump, 10, waiting=5)).sent == 6
