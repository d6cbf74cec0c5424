"""Bodies: exact, apart, and gone when their time is over, without holding up a call."""

import asyncio
import os
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from modelspend.store import Bodies, Store
from modelspend.store import bodies as module
from tests.store.conftest import outside
from tests.store.synthetic import START_MS, Traffic, intent_of, with_bodies

_DAY = 86_400_000


@pytest.mark.parametrize(
    "bodies",
    [
        Bodies(request=b"{}", answer=b""),
        Bodies(request=b"", answer=b"x"),
        Bodies(request=b"only a request"),
        Bodies(answer=b"only an answer"),
        Bodies(request=os.urandom(1000), answer=b"y" * 100_000),
        Bodies(request=os.urandom(3 * module.LARGE), answer=os.urandom(10)),
        Bodies(request=b"z" * 32 * 1024 * 1024, answer=None),
    ],
    ids=("empty-answer", "empty-request", "request", "answer", "small", "large", "32-MiB"),
)
async def test_bodies_come_back_byte_by_byte(
    store: Store, traffic: Traffic, bodies: Bodies
) -> None:
    receipt = traffic.receipt()
    await store.calls.finish(receipt, bodies)
    assert await store.bodies.get(receipt.receipt_id) == bodies
    found = await store.receipts.get(receipt.receipt_id)
    assert found is not None
    assert found.body_kept


def test_bodies_that_an_older_version_kept_are_read() -> None:
    for request in (b"{}", b"x" * 5000, os.urandom(5000)):
        packer = zlib.compressobj(1, zlib.DEFLATED, -15)
        data = packer.compress(request + b"answer") + packer.flush()
        assert module.unpack(module.Packed(len(request), 6, data)) == Bodies(request, b"answer")


@pytest.mark.parametrize("damage", [b"", b"\x28\xb5\x2f\xfd", b"\xff" * 40])
def test_damaged_bodies_are_told_so(damage: bytes) -> None:
    with pytest.raises(ValueError, match="the bodies cannot be unpacked"):
        module.unpack(module.Packed(5, 6, damage))


async def test_without_bodies_there_is_nothing_to_get(store: Store, traffic: Traffic) -> None:
    receipt = traffic.receipt()
    await store.calls.finish(receipt)
    assert await store.bodies.get(receipt.receipt_id) == Bodies()
    assert await store.bodies.get("rcpt_unknown") == Bodies()


async def _month(store: Store, traffic: Traffic, per_day: int) -> dict[str, list[tuple[int, str]]]:
    """Thirty days of two tenants: (day, id) by tenant."""
    made: dict[str, list[tuple[int, str]]] = {"keeps": [], "forgets": []}
    for day in range(30):
        for n in range(per_day):
            tenant = ("keeps", "forgets")[n % 2]
            receipt = replace(traffic.receipt(), tenant=tenant, created_at_ms=START_MS + day * _DAY)
            await store.calls.finish(*with_bodies(receipt))
            made[tenant].append((day, receipt.receipt_id))
    return made


async def test_bodies_expire_after_the_days_of_their_tenant_and_receipts_stay(
    store: Store, traffic: Traffic
) -> None:
    made = await _month(store, traffic, 4)
    now = START_MS + 30 * _DAY
    gone = await store.bodies.expire(now, days=10, tenant_days={"keeps": 0})
    assert gone == 40
    for day, receipt_id in made["forgets"]:
        found = await store.receipts.get(receipt_id)
        assert found is not None
        assert found.body_kept == (day >= 20)
    kept = [await store.receipts.get(receipt_id) for _, receipt_id in made["keeps"]]
    assert all(found is not None and found.body_kept for found in kept)
    assert await store.bodies.expire(now, days=10, tenant_days={"keeps": 0}) == 0
    assert await store.bodies.expire(now, days=10, tenant_days={"keeps": 29}) == 2
    assert await store.bodies.expire(now + _DAY, days=10, tenant_days={}) == 2 + 40
    assert await store.meta.check() == []


async def test_expired_bodies_give_their_room_back(
    store: Store, ledger: Path, traffic: Traffic
) -> None:
    for _ in range(300):
        await store.calls.finish(traffic.receipt(), Bodies(request=os.urandom(20_000)))
    await store.bodies.expire(START_MS + 400 * _DAY, days=1, tenant_days={})
    await store.close()
    assert ledger.stat().st_size < 1_000_000, "six megabytes of bodies were written"
    with outside(ledger) as conn:
        assert conn.execute("SELECT count(*) FROM bodies").fetchone() == (0,)


async def test_calls_begin_all_the_while_that_bodies_expire(store: Store, traffic: Traffic) -> None:
    receipts = [replace(r, tenant="t", workflow=None) for r in traffic.receipts(900)]
    await asyncio.gather(
        *(store.calls.finish(r, Bodies(request=os.urandom(200))) for r in receipts)
    )
    expiring = asyncio.ensure_future(  # noqa: TID251
        store.bodies.expire(START_MS + 400 * _DAY, days=1, tenant_days={})
    )
    calls = 0
    while not expiring.done():
        await store.calls.begin(intent_of(traffic.receipt()))
        calls += 1
    assert expiring.result() == 900
    assert calls >= 900 // module._BATCH_ROWS, "a call passes before each step"
