"""Health by the minute: every attempt counted once, whatever stops in between."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from modelspend.health import MINUTE_MS, Sample
from modelspend.receipt import Receipt
from modelspend.store import Store
from modelspend.store import health as module
from tests.store.conftest import outside
from tests.store.synthetic import START_MS, Traffic

FAR = START_MS + 10**10


async def filled(store: Store, traffic: Traffic, count: int) -> list[Receipt]:
    receipts = list(traffic.receipts(count))
    await asyncio.gather(*(store.calls.finish(one) for one in receipts))
    return receipts


def counted(samples: list[Sample]) -> Counter[tuple[int, str, str]]:
    return Counter({(one.at_ms, one.provider, one.model_id): one.calls for one in samples})


def attempts(receipts: list[Receipt]) -> Counter[tuple[int, str, str]]:
    return Counter(
        (attempt.started_at_ms // MINUTE_MS * MINUTE_MS, attempt.provider, attempt.model_id)
        for one in receipts
        for attempt in one.attempts
    )


async def test_every_attempt_is_counted_once_before_and_after_it_was_sampled(
    store: Store, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 7)
    receipts = await filled(store, traffic, 60)
    expected = attempts(receipts)
    assert counted(await store.health.samples(0, FAR)) == expected
    sampled = 0
    while some := await store.health.sample(START_MS):
        sampled += some
    assert sampled == expected.total()
    assert counted(await store.health.samples(0, FAR)) == expected
    receipts += await filled(store, traffic, 20)
    assert counted(await store.health.samples(0, FAR)) == attempts(receipts)
    failed = sum(a.failure_class is not None for one in receipts for a in one.attempts)
    assert failed, "the traffic fails at times"
    samples = await store.health.samples(0, FAR)
    assert sum(sum(one.failures.values()) for one in samples) >= failed


@pytest.mark.parametrize("batch", [2, 3, 4, 5])
async def test_a_batch_never_ends_in_the_middle_of_a_receipt(
    store: Store, traffic: Traffic, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(module, "_BATCH", batch)
    receipts = []
    for one in traffic.receipts(12):
        first = one.attempts[0]
        receipts.append(replace(one, attempts=(replace(first, n=1), replace(first, n=2))))
        await store.calls.finish(receipts[-1])
    assert await store.health.sample(START_MS) == 24
    assert counted(await store.health.samples(0, FAR)) == attempts(receipts)


async def test_a_crash_between_two_batches_neither_loses_nor_doubles(
    ledger: Path, traffic: Traffic
) -> None:
    store = await Store.open(ledger, durability="normal")
    receipts = await filled(store, traffic, 30)
    cursor, last, found, _ = await store._readers.ask(lambda c: module._uncounted(c, 0, 10))
    add = module._adding(cursor, last, found)
    assert store._writer is not None
    await store._writer.do(add)
    await store._writer.do(add)  # a commit of unknown outcome is done again
    await store.close()
    store = await Store.open(ledger, durability="normal")
    await store.health.sample(START_MS)
    assert counted(await store.health.samples(0, FAR)) == attempts(receipts)
    await store.close()


async def test_a_time_and_a_name_narrow_it(store: Store, traffic: Traffic) -> None:
    receipts = await filled(store, traffic, 40)
    await store.health.sample(START_MS)
    every = attempts(receipts)
    (_, provider, model), _ = every.most_common(1)[0]
    named = await store.health.samples(0, FAR, provider=provider, model=model)
    assert {(one.provider, one.model_id) for one in named} == {(provider, model)}
    middle = sorted(every)[len(every) // 2][0]
    assert counted(await store.health.samples(middle + 5, FAR)) == Counter(
        {name: n for name, n in every.items() if name[0] >= middle}
    )
    assert counted(await store.health.samples(0, middle)) == Counter(
        {name: n for name, n in every.items() if name[0] < middle}
    )


async def test_it_is_kept_for_a_time_and_no_longer(
    store: Store, ledger: Path, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DELETED", 3)
    old = traffic.receipt()
    aged = replace(old, attempts=tuple(replace(a, started_at_ms=1000) for a in old.attempts))
    await store.calls.finish(aged)
    receipts = await filled(store, traffic, 30)
    await store.health.sample(START_MS)
    assert counted(await store.health.samples(0, FAR)) == attempts(receipts), "too old to count"
    last = max(name[0] for name in attempts(receipts))
    gone = await store.health.expire(last + module.KEPT_MS)
    left = counted(await store.health.samples(0, FAR))
    assert gone + len(left) == len(attempts(receipts))
    assert {name[0] for name in left} == {last}
    with outside(ledger) as conn:
        (rows,) = conn.execute("SELECT count(*) FROM health_samples").fetchone()
    assert rows == len(left)
