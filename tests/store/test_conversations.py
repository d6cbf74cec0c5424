"""Conversations in the ledger: written with their receipt, read from memory, found again later."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelspend.conversations import Conversation, Miss, known_masks
from modelspend.money import MAX_PICO
from modelspend.receipt import Receipt
from modelspend.segments import cut
from modelspend.store import Advanced, Bodies, Filter, MissTotal, Store
from modelspend.store.bodies import LARGE
from modelspend.store.conversations import Conversations, pack, unpack
from tests.store.conftest import outside
from tests.store.synthetic import START_MS, Traffic, intent_of

RATES = {"input_tokens": 2_000_000, "cache_read_tokens": 500_000}
SYSTEM = {"role": "system", "content": "It is 08:15."}


def asked(*turns: str, system: dict[str, str] = SYSTEM) -> dict[str, Any]:
    said = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns)]
    return {"messages": [system, *said]}


def step(
    conversations: Conversations,
    fields: dict[str, Any],
    *,
    tenant: str = "acme",
    session: str = "s",
    at_ms: int = START_MS,
    rates: dict[str, int] | None = RATES,
    so_far: Conversation | None = None,
    **quantities: int,
) -> Advanced:
    return conversations.advance(
        tenant,
        session,
        dialect="openai.chat",
        fields=fields,
        segments=cut("openai.chat", fields),
        provider="openai",
        model="gpt-4.1",
        at_ms=at_ms,
        quantities=quantities or {"input_tokens": 5000},
        rates=rates,
        so_far=so_far,
    )


def missing(n: int, cost: int | None = 7, kind: Any = "system_changed", **more: str) -> Advanced:
    """A turn that missed n tokens."""
    one = step(Conversations(None, None), asked("a"), **more)  # type: ignore[arg-type]
    return replace(one, miss=Miss(kind=kind, place="system[0]", tokens=n, cost_pico=cost))


async def finished(store: Store, receipt: Receipt, advanced: Advanced) -> int:
    await store.calls.begin(intent_of(receipt))
    return await store.calls.finish(receipt, advanced=advanced)


async def test_a_turn_is_written_with_its_receipt_and_found_after_a_restart(
    store: Store, ledger: Path, traffic: Traffic
) -> None:
    assert await store.conversations.of("acme", "s") is None
    done = step(store.conversations, asked("a"))
    seq = await finished(store, traffic.receipt(), done)
    assert done.miss is None
    assert await store.conversations.of("acme", "s") == done.conversation
    with outside(ledger) as conn:
        row = conn.execute(
            "SELECT tenant, session, provider, model, turns, last_at, input_tokens, cached_tokens"
            " FROM conversations"
        ).fetchone()
        assert row == ("acme", "s", "openai", "gpt-4.1", 1, START_MS, 5000, 4992)
        assert conn.execute("SELECT count(*) FROM cache_misses").fetchone() == (0,)
    reading = await Store.open_read(ledger)
    assert await reading.conversations.of("acme", "s") == done.conversation
    assert await reading.conversations.of("beta", "s") is None, "another tenant's is another"
    await reading.close()
    assert seq == 1


async def test_the_cause_survives_a_restart(store: Store, ledger: Path, traffic: Traffic) -> None:
    await finished(store, traffic.receipt(), step(store.conversations, asked("a")))
    await store.close()
    again = await Store.open(ledger, durability="normal")
    try:
        so_far = await again.conversations.of("acme", "s")
        assert known_masks(so_far)
        fields = asked("a", "b", "c", system={"role": "system", "content": "It is 08:16."})
        done = step(again.conversations, fields)
        cost = 4992 * 1_500_000
        expected = Miss(kind="system_timestamp", place="system[0]", tokens=4992, cost_pico=cost)
        assert done.miss == expected
        receipt = traffic.receipt()
        seq = await finished(again, receipt, done)
        (found,) = await again.conversations.misses()
        assert (found.seq, found.receipt_id, found.session) == (seq, receipt.receipt_id, "s")
        assert found.miss == expected
        assert (found.created_at_ms, found.tenant) == (receipt.created_at_ms, receipt.tenant)
    finally:
        await again.close()


async def test_a_receipt_that_is_finished_twice_leaves_one_miss(
    store: Store, traffic: Traffic
) -> None:
    receipt = traffic.receipt()
    first = await store.calls.finish(receipt, advanced=missing(10))
    assert await store.calls.finish(receipt, advanced=missing(10)) == first
    assert len(await store.conversations.misses()) == 1
    assert await store.meta.check() == []


async def test_of_two_turns_that_overtook_each_other_the_later_stays(
    store: Store, ledger: Path, traffic: Traffic
) -> None:
    one = step(store.conversations, asked("a"), at_ms=START_MS)
    two = step(store.conversations, asked("a", "b", "c"), at_ms=START_MS + 1)
    await store.calls.finish(traffic.receipt(), advanced=two)
    await store.calls.finish(traffic.receipt(), Bodies(b"x" * 2 * LARGE), advanced=one)
    reading = await Store.open_read(ledger)
    assert await reading.conversations.of("acme", "s") == two.conversation
    await reading.close()


async def test_turns_at_the_same_time_lose_none(store: Store, traffic: Traffic) -> None:
    async def call(n: int) -> None:
        done = step(store.conversations, asked(f"thread {n % 3}"), at_ms=START_MS + n)
        await store.calls.finish(traffic.receipt(), advanced=done)

    await asyncio.gather(*(call(n) for n in range(30)))
    kept = await store.conversations.of("acme", "s")
    assert kept is not None
    assert (kept.turns, len(kept.threads)) == (30, 3)


async def test_a_session_in_memory_and_a_new_one_cost_no_sql(store: Store) -> None:
    asked_of: list[object] = []
    readers = store._readers

    class Counting:
        async def ask(self, question: Callable[..., Any]) -> Any:
            asked_of.append(question)
            return await readers.ask(question)

    conversations = Conversations(Counting(), store._writer)  # type: ignore[arg-type]
    assert await conversations.of("acme", "s") is None
    assert len(asked_of) == 1
    step(conversations, asked("a"))
    for n in range(20):
        assert await conversations.of("acme", "s") is not None
        assert await conversations.of("acme", f"new {n}") is None
    assert len(asked_of) == 1


async def test_memory_is_bounded_and_what_left_it_is_read_again(
    store: Store, traffic: Traffic
) -> None:
    conversations = Conversations(store._readers, store._writer, room=20_000)
    await conversations.of("acme", "s 0")
    all_: dict[str, Conversation] = {}
    for n in range(60):
        done = step(conversations, asked("a", "b", "c"), session=f"s {n}")
        all_[f"s {n}"] = done.conversation
        await store.calls.finish(traffic.receipt(), advanced=done)
        assert conversations._size <= 20_000
    assert len(conversations._known) < 30
    for session, conversation in all_.items():
        assert await conversations.of("acme", session) == conversation


async def test_what_was_pushed_out_during_a_call_goes_on_from_where_the_call_began(
    store: Store,
) -> None:
    first = step(store.conversations, asked("a"))
    store.conversations._forget(("acme", "s"))
    done = step(store.conversations, asked("a", "b", "c"), so_far=first.conversation)
    assert done.conversation.turns == 2
    assert done.miss is not None
    assert done.miss.kind == "provider_miss"


@pytest.mark.parametrize(
    "damage",
    ["zeroblob(40)", "substr(segments, 1, length(segments) - 3)", "'text'", "segments || x'00'",
     "x'5b5d0a'", "x'5b5b315d5d0a'", "x''"],
)  # fmt: skip
async def test_a_damaged_row_is_a_new_conversation_and_is_written_anew(
    store: Store, ledger: Path, traffic: Traffic, damage: str
) -> None:
    await store.calls.finish(traffic.receipt(), advanced=step(store.conversations, asked("a")))
    with outside(ledger) as conn:
        conn.execute(f"UPDATE conversations SET segments = {damage}")
    fresh = Conversations(store._readers, store._writer)
    assert await fresh.of("acme", "s") is None
    done = step(fresh, asked("a", "b", "c"), at_ms=START_MS + 5)
    assert done.conversation.turns == 1
    await store.calls.finish(traffic.receipt(), advanced=done)
    again = Conversations(store._readers, store._writer)
    assert await again.of("acme", "s") == done.conversation


def test_a_conversation_survives_its_packing_and_is_small() -> None:
    conversations = Conversations(None, None)  # type: ignore[arg-type]
    fields = asked(*(f"{n}" for n in range(1501)))
    fields["tools"] = [{"name": f"t{n}"} for n in range(5)]
    step(conversations, fields)
    done = step(conversations, asked("other thread", system={"role": "system", "content": "x"}))
    assert unpack(2, pack(done.conversation)) == done.conversation
    small = step(conversations, asked(*(f"{n}" for n in range(20))), session="t")
    assert len(pack(small.conversation)) < 450


async def test_misses_are_summed_by_kind_and_by_conversation_and_filtered(
    store: Store, traffic: Traffic
) -> None:
    planted = [
        ("acme", "bot", "s1", 10, 500, "system_changed"),
        ("acme", "bot", "s1", 20, MAX_PICO, "expired"),
        ("acme", "crawl", "s2", 30, None, "expired"),
        ("beta", "bot", "s1", 40, MAX_PICO, "expired"),
        ("beta", "bot", "s1", 50, MAX_PICO, "expired"),
    ]
    for n, (tenant, workflow, session, tokens, cost, kind) in enumerate(planted):
        receipt = replace(
            traffic.receipt(), tenant=tenant, workflow=workflow, created_at_ms=START_MS + n
        )
        advanced = missing(tokens, cost, kind, tenant=tenant, session=session)
        await store.calls.finish(receipt, advanced=advanced)
    await store.calls.finish(traffic.receipt())
    kept = store.conversations
    assert await kept.by_kind() == [
        MissTotal(kind="expired", misses=4, unpriced=1, tokens=140, cost_pico=3 * MAX_PICO),
        MissTotal(kind="system_changed", misses=1, unpriced=0, tokens=10, cost_pico=500),
    ]
    sessions = await kept.by_session()
    assert [(one.tenant, one.session, one.total.cost_pico) for one in sessions] == [
        ("beta", "s1", 2 * MAX_PICO),
        ("acme", "s1", MAX_PICO + 500),
        ("acme", "s2", 0),
    ]
    assert sessions[1].kinds == ("expired", "system_changed")
    assert sessions[1].last_ms == START_MS + 1
    assert sessions[2].total.unpriced == 1
    assert len(await kept.by_session(limit=2)) == 2

    async def tokens(*where: Filter, **more: Any) -> list[int]:
        return [one.miss.tokens for one in await kept.misses(*where, **more)]

    assert await tokens() == [50, 40, 20, 10, 30], "the dearest first, those without a price last"
    assert await tokens(limit=2) == [50, 40]
    assert await tokens(Filter(tenant="acme")) == [20, 10, 30]
    assert await tokens(Filter(tenant="acme", workflow="bot")) == [20, 10]
    assert await tokens(Filter(since_ms=START_MS + 3)) == [50, 40]
    assert await tokens(Filter(until_ms=START_MS + 1)) == [10]
    assert await tokens(kind="system_changed") == [10]
    both = (Filter(workflow="crawl"), Filter(tenant="beta"), Filter(tenant="beta", workflow="bot"))
    assert await tokens(*both) == [50, 40, 30], "what several filters match counts once"
    assert (await kept.by_kind(*both))[0].misses == 3
    assert await kept.by_kind(Filter(tenant="nobody")) == []


async def test_what_rests_for_long_is_forgotten_and_its_misses_stay(
    store: Store, ledger: Path, traffic: Traffic
) -> None:
    for n in range(500):
        done = step(store.conversations, asked("a"), session=f"s {n}", at_ms=START_MS + n)
        await store.calls.finish(traffic.receipt(), advanced=done)
    await store.calls.finish(traffic.receipt(), advanced=missing(10, session="s 0"))
    now = START_MS + 450 + 1000
    assert await store.conversations.expire(now, kept_ms=1000) == 450
    assert await store.conversations.expire(now, kept_ms=1000) == 0
    assert await store.conversations.of("acme", "s 449") is None
    assert await store.conversations.of("acme", "s 450") is not None
    with outside(ledger) as conn:
        assert conn.execute("SELECT count(*) FROM conversations").fetchone() == (50,)
    assert len(await store.conversations.misses()) == 1
