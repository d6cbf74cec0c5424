"""Kept answers: given again byte by byte, to nobody else, within bounds, never when damaged."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from modelspend.answers import Kept
from modelspend.store import Store
from modelspend.store import answers as module
from modelspend.store.answers import Answers
from tests.store.conftest import outside

ROOM = 64 * 1024 * 1024
NOW = 1_790_000_000_000


def kept(n: int = 0, *, tenant: str = "acme", body: bytes = b'{"a": 1}', at: int = NOW) -> Kept:
    return Kept(
        key=sha256(f"{tenant} {n}".encode()).digest(),
        tenant=tenant,
        created_at_ms=at,
        expires_at_ms=at + 60_000,
        dialect="openai.chat",
        stream=bool(n % 2),
        seq=n + 1,
        receipt_id=f"rcpt_{n}",
        provider="openai",
        model="gpt-4.1",
        cost_pico=12_096_000_000 if n % 3 else None,
        status=200,
        headers=(("content-type", "application/json"),),
        body=body,
    )


class Counting:
    """The store's readers, which count what they are asked."""

    def __init__(self, readers: Any) -> None:
        self._readers = readers
        self.asked = 0

    async def ask(self, question: Callable[..., Any]) -> Any:
        self.asked += 1
        return await self._readers.ask(question)


@pytest.fixture
def reopened(store: Store) -> Callable[..., tuple[Answers, Counting]]:
    """The answers of the same ledger with an empty memory, as after a restart."""

    def make(**bounds: int) -> tuple[Answers, Counting]:
        readers = Counting(store._readers)
        return Answers(readers, store._writer, **bounds), readers  # type: ignore[arg-type]

    return make


async def test_an_answer_comes_back_as_it_was_from_memory_and_from_the_ledger(
    store: Store, reopened: Callable[..., tuple[Answers, Counting]]
) -> None:
    bodies = [b"", b"data: x\n\n" * 9, os.urandom(3 * module.LARGE), "é漢".encode()]
    many = [kept(n, body=body) for n, body in enumerate(bodies)]
    for one in many:
        assert await store.answers.put(one, room=ROOM)
    fresh, _ = reopened()
    for one in many:
        assert await store.answers.get(one.key, tenant="acme", now_ms=NOW) == one
        assert await fresh.get(one.key, tenant="acme", now_ms=NOW) == one


async def test_a_hit_in_memory_and_every_miss_cost_no_sql(
    store: Store, reopened: Callable[..., tuple[Answers, Counting]]
) -> None:
    answers, readers = reopened()
    assert await answers.get(kept().key, tenant="acme", now_ms=NOW) is None
    first = readers.asked
    for n in range(50):
        assert await answers.get(kept(n).key, tenant="acme", now_ms=NOW) is None
    assert readers.asked == first, "the ledger is known to hold none of them"
    await answers.put(kept(), room=ROOM)
    for _ in range(50):
        assert await answers.get(kept().key, tenant="acme", now_ms=NOW) == kept()
    assert readers.asked == first
    again, readers = reopened()
    assert await again.get(kept().key, tenant="acme", now_ms=NOW) == kept()
    asked = readers.asked
    assert await again.get(kept().key, tenant="acme", now_ms=NOW) == kept()
    assert readers.asked == asked, "what was read once is in memory"


async def test_a_hit_never_crosses_to_another_tenant_even_with_its_key(
    store: Store, reopened: Callable[..., tuple[Answers, Counting]]
) -> None:
    await store.answers.put(kept(tenant="acme"), room=ROOM)
    fresh, _ = reopened()
    for answers in (store.answers, fresh):
        assert await answers.get(kept().key, tenant="beta", now_ms=NOW) is None
        assert await answers.get(kept().key, tenant="acme", now_ms=NOW) == kept()
        assert await answers.get(kept(tenant="beta").key, tenant="beta", now_ms=NOW) is None


async def test_an_answer_ends_with_its_time_and_is_deleted_later(
    store: Store, ledger: Path, reopened: Callable[..., tuple[Answers, Counting]]
) -> None:
    one, two = kept(0), kept(1, at=NOW + 30_000)
    await store.answers.put(one, room=ROOM)
    await store.answers.put(two, room=ROOM)
    fresh, _ = reopened()
    for answers in (store.answers, fresh):
        assert await answers.get(one.key, tenant="acme", now_ms=NOW + 59_999) == one
        assert await answers.get(one.key, tenant="acme", now_ms=NOW + 60_000) is None
    assert await store.answers.expire(NOW + 60_000) == 1
    assert await store.answers.expire(NOW + 60_000) == 0
    with outside(ledger) as conn:
        assert conn.execute("SELECT key FROM answer_cache").fetchall() == [(two.key,)]
    assert await store.answers.get(two.key, tenant="acme", now_ms=NOW + 60_000) == two
    assert await store.answers.expire(NOW + 90_000) == 1


async def test_a_newer_answer_takes_the_place_of_an_older_one(
    store: Store, reopened: Callable[..., tuple[Answers, Counting]]
) -> None:
    newer = replace(kept(body=b"newer"), seq=9, created_at_ms=NOW + 5)
    await store.answers.put(kept(), room=ROOM)
    await store.answers.put(newer, room=ROOM)
    fresh, _ = reopened()
    assert await fresh.get(newer.key, tenant="acme", now_ms=NOW) == newer
    assert store.answers._stored == (await _sizes(store))[1]


async def _sizes(store: Store) -> tuple[int, int]:
    """How many answers the ledger has, and their bytes."""
    return await store._readers.ask(
        lambda conn: conn.execute("SELECT count(*), sum(size) FROM answer_cache").fetchone()
    )


async def test_the_ledger_keeps_within_its_room_and_the_oldest_goes_first(store: Store) -> None:
    room = 200_000
    for n in range(60):
        body = os.urandom(10_000)
        assert await store.answers.put(kept(n, body=body, at=NOW + n), room=room)
        count, size = await _sizes(store)
        assert size <= room
        assert size == store.answers._stored
    assert count == room // (10_000 + 700) or count == room // (10_000 + 700) + 1
    for n in range(60):
        found = await store.answers.get(kept(n).key, tenant="acme", now_ms=NOW)
        assert (found is not None) == (n >= 60 - count), n


async def test_an_answer_that_is_too_large_for_the_room_is_not_kept(store: Store) -> None:
    assert not await store.answers.put(kept(body=bytes(20_000)), room=100_000)
    assert await store.answers.get(kept().key, tenant="acme", now_ms=NOW) is None
    assert await store.answers.put(kept(body=bytes(10_000)), room=100_000)


async def test_memory_is_bounded_and_what_left_it_comes_from_the_ledger(
    store: Store, reopened: Callable[..., tuple[Answers, Counting]]
) -> None:
    answers, readers = reopened(memory=50_000)
    for n in range(30):
        await answers.put(kept(n, body=os.urandom(5000)), room=ROOM)
        assert answers._used <= 50_000
        assert answers._used == sum(len(k.body) + 512 for k in answers._recent.values())
    asked = readers.asked
    found = await answers.get(kept(29).key, tenant="acme", now_ms=NOW)
    assert found is not None
    assert readers.asked == asked
    found = await answers.get(kept(0).key, tenant="acme", now_ms=NOW)
    assert found is not None
    assert readers.asked == asked + 1
    assert answers._used <= 50_000
    await answers.put(kept(31, body=os.urandom(60_000)), room=ROOM)
    assert answers._used <= 50_000, "one that is larger than memory is in the ledger alone"


async def test_the_number_of_answers_is_bounded_too(
    store: Store, reopened: Callable[..., tuple[Answers, Counting]]
) -> None:
    answers, _ = reopened(most=5)
    for n in range(9):
        await answers.put(kept(n, at=NOW + n), room=ROOM)
    assert (await _sizes(store))[0] == 5
    assert await answers.get(kept(3).key, tenant="acme", now_ms=NOW) is None
    assert await answers.get(kept(4).key, tenant="acme", now_ms=NOW) == kept(4, at=NOW + 4)


DAMAGE = {
    "a body that is no longer whole": "UPDATE answer_cache SET body = substr(body, 1, 9)",
    "another body": "UPDATE answer_cache SET body = (SELECT body FROM answer_cache WHERE seq = 2)",
    "another status": "UPDATE answer_cache SET status = 500 WHERE seq = 1",
    "another tenant": "UPDATE answer_cache SET tenant = 'acme ' WHERE seq = 1",
    "a longer life": "UPDATE answer_cache SET expires_at = expires_at + 1 WHERE seq = 1",
    "a head that is no JSON": "UPDATE answer_cache SET head = '[' WHERE seq = 1",
    "a body of another type": "UPDATE answer_cache SET body = 'text' WHERE seq = 1",
    "a head that is no text": "UPDATE answer_cache SET head = CAST(x'fffe' AS TEXT) WHERE seq = 1",
    "a tenant that is no text": "UPDATE answer_cache SET tenant = CAST(x'ff' AS TEXT)",
    "a digest that is null-like": "UPDATE answer_cache SET digest = zeroblob(16) WHERE seq = 1",
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_row_is_no_hit_and_is_deleted(
    store: Store,
    ledger: Path,
    reopened: Callable[..., tuple[Answers, Counting]],
    damage: str,
) -> None:
    await store.answers.put(kept(0), room=ROOM)
    await store.answers.put(kept(1, body=b"another body"), room=ROOM)
    with outside(ledger) as conn:
        conn.execute(DAMAGE[damage])
    fresh, _ = reopened()
    assert await fresh.get(kept(0).key, tenant="acme", now_ms=NOW) is None
    async with asyncio.timeout(10):
        while (kept(0).key,) in await store._readers.ask(
            lambda conn: conn.execute("SELECT key FROM answer_cache").fetchall()
        ):
            await asyncio.sleep(0)
    assert await fresh.put(kept(0), room=ROOM)
    assert await fresh.get(kept(0).key, tenant="acme", now_ms=NOW) == kept(0)


async def test_a_row_that_was_moved_under_another_key_is_no_hit(
    store: Store, ledger: Path, reopened: Callable[..., tuple[Answers, Counting]]
) -> None:
    await store.answers.put(kept(tenant="beta", body=b"beta's own"), room=ROOM)
    with outside(ledger) as conn:
        conn.execute("UPDATE answer_cache SET key = ?, tenant = 'acme'", (kept().key,))
    fresh, _ = reopened()
    assert await fresh.get(kept().key, tenant="acme", now_ms=NOW) is None


async def test_a_ledger_in_trouble_keeps_no_answer_and_raises_nothing(store: Store) -> None:
    assert store._writer is not None
    store._writer.trouble = "the disk is full"
    try:
        assert not await store.answers.put(kept(), room=ROOM)
    finally:
        store._writer.trouble = None
    assert await store.answers.put(kept(), room=ROOM)


async def test_keeping_answers_is_no_receipt_and_leaves_the_chain_alone(store: Store) -> None:
    await store.answers.put(kept(), room=ROOM)
    assert await store.receipts.count() == 0
    assert await store.meta.check() == []
