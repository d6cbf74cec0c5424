"""The life of a call in the ledger: intent, hops, receipt; together, repeated, cut short."""

import asyncio
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from modelspend.errors import LedgerUnavailable
from modelspend.estimate import Ratio
from modelspend.events import Event
from modelspend.receipt import Delivery, Receipt, Status
from modelspend.store import Bodies, Filter, Store
from tests.store.conftest import outside
from tests.store.synthetic import Traffic, intent_of, with_bodies


async def test_a_receipt_comes_back_exactly_as_it_was_given(store: Store, traffic: Traffic) -> None:
    given = [replace(r, tags={"run": f"{n}"}) for n, r in enumerate(traffic.receipts(200))]
    for receipt in given:
        await store.calls.finish(receipt)
    for seq, receipt in enumerate(given, start=1):
        found = await store.receipts.get(receipt.receipt_id)
        assert found is not None
        assert found.receipt == receipt
        assert found.seq == seq
        assert not found.body_kept


async def test_floats_of_a_raw_usage_stay_floats_and_money_stays_exact(
    store: Store, traffic: Traffic
) -> None:
    receipt = traffic.receipt()
    last = receipt.attempts[-1]
    usage = replace(last.usage, raw={"cost": 1e-7, "tiny": 0.1, "big": 1e22, "n": [1.5, None]})
    receipt = replace(receipt, attempts=(*receipt.attempts[:-1], replace(last, usage=usage)))
    await store.calls.finish(receipt)
    found = await store.receipts.get(receipt.receipt_id)
    assert found is not None
    assert found.receipt == receipt
    raw = found.receipt.attempts[-1].usage.raw
    assert raw is not None
    assert type(raw["cost"]) is float


async def test_an_intent_is_seen_by_another_process_when_begin_returns(
    store: Store, ledger: Path, traffic: Traffic
) -> None:
    receipt = traffic.receipt()
    await store.calls.begin(intent_of(receipt))
    with outside(ledger) as conn:
        rows = conn.execute("SELECT receipt_id, tenant, hold_pico FROM intents").fetchall()
    assert rows == [(receipt.receipt_id, receipt.tenant, 12_000_000_000)]
    assert await store.calls.open_count() == 1


async def test_a_receipt_replaces_its_intent_and_hops_in_one_transaction(
    store: Store, ledger: Path, traffic: Traffic
) -> None:
    receipt = traffic.receipt()
    await store.calls.begin(intent_of(receipt))
    await store.calls.hop(receipt.receipt_id, 2, "groq", "llama", 5)
    await store.calls.finish(receipt)
    with outside(ledger) as conn:
        counts = [
            conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("intents", "intent_attempts", "receipts", "attempts")
        ]
    assert counts == [0, 0, 1, len(receipt.attempts)]


async def test_a_second_intent_with_the_same_id_is_refused_and_the_first_stays(
    store: Store, traffic: Traffic
) -> None:
    intent = intent_of(traffic.receipt())
    await store.calls.begin(intent)
    with pytest.raises(ValueError, match=intent.receipt_id):
        await store.calls.begin(intent)
    assert await store.calls.open_count() == 1


async def test_a_hop_without_an_open_intent_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="no open intent"):
        await store.calls.hop("rcpt_unknown", 2, "groq", "llama", 5)


async def test_a_receipt_that_is_finished_twice_is_there_once(
    store: Store, traffic: Traffic
) -> None:
    receipt = traffic.receipt()
    event = Event(kind="call.done", at_ms=1, receipt_id=receipt.receipt_id)
    first = await store.calls.finish(receipt, events=[event])
    assert await store.calls.finish(receipt, events=[event]) == first
    assert await store.receipts.count() == 1
    assert len(await store.events.after(0)) == 1
    assert await store.meta.check() == []


async def test_receipts_and_events_draw_numbers_from_one_counter(
    store: Store, traffic: Traffic
) -> None:
    one, two = traffic.receipts(2)
    told = Event(
        kind="circuit.open", at_ms=7, tenant="t", receipt_id="r", level="warn", data={"n": 1}
    )
    assert await store.calls.finish(one, events=[told, replace(told, kind="failover")]) == 1
    assert await store.calls.finish(two) == 4
    assert await store.events.after(0) == [
        replace(told, seq=2),
        replace(told, seq=3, kind="failover"),
    ]
    assert [e.seq for e in await store.events.after(2, 10)] == [3]


async def test_calls_that_end_together_share_a_commit(store: Store, traffic: Traffic) -> None:
    commits: list[int] = []
    store.on_commit(commits.append)
    await asyncio.gather(*(store.calls.finish(receipt) for receipt in traffic.receipts(100)))
    assert await store.receipts.count() == 100
    assert len(commits) < 20, "a hundred receipts at once must not take a hundred commits"
    assert commits == sorted(commits)
    assert commits[-1] == 100


async def test_a_bad_item_fails_alone_and_the_batch_around_it_is_kept(
    store: Store, traffic: Traffic
) -> None:
    good = list(traffic.receipts(40))
    bad = replace(
        traffic.receipt(),
        execution=replace(traffic.receipt().execution, charged_pico=1 << 70),
    )
    outcomes = await asyncio.gather(
        *(store.calls.finish(receipt) for receipt in [*good[:20], bad, *good[20:]]),
        return_exceptions=True,
    )
    assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Exception)] == [20]
    assert isinstance(outcomes[20], OverflowError)
    assert await store.receipts.count() == 40
    assert await store.meta.check() == []
    assert store.healthy


async def test_an_item_that_fails_half_way_leaves_nothing_of_itself(
    store: Store, ledger: Path, traffic: Traffic
) -> None:
    good = list(traffic.receipts(10))
    spoilt = traffic.receipt()
    event = Event(kind="bad", at_ms=1 << 80)  # fails after its receipt was inserted
    await store.calls.begin(intent_of(spoilt))
    outcomes = await asyncio.gather(
        *(store.calls.finish(receipt) for receipt in good[:5]),
        store.calls.finish(spoilt, events=[event]),
        *(store.calls.finish(receipt) for receipt in good[5:]),
        return_exceptions=True,
    )
    assert [type(o) for o in outcomes] == [int] * 5 + [OverflowError] + [int] * 5
    assert await store.receipts.get(spoilt.receipt_id) is None
    assert await store.calls.open_count() == 1, "its intent stays open"
    numbers = [o for o in outcomes if isinstance(o, int)]
    assert sorted(numbers) == list(range(1, 11)), "no number is lost with it"
    assert await store.meta.check() == []


async def test_a_write_goes_on_when_nobody_waits_for_it_any_more(
    store: Store, traffic: Traffic
) -> None:
    receipt, bodies = with_bodies(traffic.receipt())
    large = Bodies(request=bodies.request, answer=os.urandom(300_000))
    task = asyncio.ensure_future(store.calls.finish(receipt, large))  # noqa: TID251
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    other = traffic.receipt()
    store.calls.finish_later(other)
    path = store.path
    await store.close()
    reopened = await Store.open(path)
    try:
        assert await reopened.receipts.get(other.receipt_id) is not None
        assert await reopened.receipts.get(receipt.receipt_id) is not None
        assert await reopened.bodies.get(receipt.receipt_id) == large
    finally:
        await reopened.close()


async def test_what_a_dead_process_left_open_becomes_one_interrupted_receipt_each(
    ledger: Path, traffic: Traffic
) -> None:
    first = await Store.open(ledger, boot_id="first")
    begun = list(traffic.receipts(450))
    await asyncio.gather(*(first.calls.begin(intent_of(receipt)) for receipt in begun))
    await first.calls.hop(begun[7].receipt_id, 2, "groq", "llama-3.3", 99)
    await first.calls.finish(begun[0])
    await first.close()

    second = await Store.open(ledger, boot_id="second")
    try:
        closed = await second.calls.recover(now_ms=5)
        assert closed == [receipt.receipt_id for receipt in begun[1:]]
        assert await second.calls.recover(now_ms=6) == []
        assert await second.calls.open_count() == 0
        found = await second.receipts.get(begun[7].receipt_id)
        assert found is not None
        _is_interrupted(found.receipt, begun[7])
        assert found.receipt.attempts[1].provider == "groq"
        assert found.receipt.attempts[1].started_at_ms == 99
        assert (await second.receipts.totals(Filter(status=("interrupted",)))).receipts == 449
        assert [e.kind for e in await second.events.after(0)] == ["ledger.recovered"]
        assert await second.meta.check() == []
    finally:
        await second.close()


def _is_interrupted(closed: Receipt, begun: Receipt) -> None:
    assert closed.execution.status is Status.INTERRUPTED
    assert closed.execution.actual_cost_pico is None
    assert closed.execution.charged_pico == 12_000_000_000, "the hold is what budgets count"
    assert closed.attempts[0].delivery is Delivery.MAYBE_ACCEPTED
    assert (closed.tenant, closed.request, closed.decision) == (
        begun.tenant,
        begun.request,
        begun.decision,
    )


async def test_recovery_leaves_the_calls_of_this_boot_alone(store: Store, traffic: Traffic) -> None:
    await store.calls.begin(intent_of(traffic.receipt()))
    assert await store.calls.recover(now_ms=1) == []
    assert await store.calls.open_count() == 1


async def test_what_an_answer_taught_adds_up(store: Store, traffic: Traffic) -> None:
    lesson = Ratio("output openai/gpt", 1, 400, 100, 0.25)
    for receipt in traffic.receipts(3):
        await store.calls.finish(receipt, ratios=[lesson, Ratio("*", 1, 40, 10)])
    assert await store.ratios.load() == [
        Ratio("*", 3, 120, 30, 0.0),
        Ratio("output openai/gpt", 3, 1200, 300, 0.75),
    ]


async def test_a_closed_store_admits_no_call(ledger: Path, traffic: Traffic) -> None:
    store = await Store.open(ledger)
    await store.close()
    with pytest.raises(LedgerUnavailable):
        await store.calls.begin(intent_of(traffic.receipt()))


async def test_the_number_goes_on_after_a_restart(ledger: Path, traffic: Traffic) -> None:
    for start in (1, 4, 7):
        store = await Store.open(ledger)
        numbers = [await store.calls.finish(receipt) for receipt in traffic.receipts(3)]
        assert numbers == [start, start + 1, start + 2]
        assert await store.meta.check() == []
        await store.close()


async def test_sql_on_the_event_loop_is_caught_by_the_driver(store: Store) -> None:
    conns: list[sqlite3.Connection] = []
    await store._readers.ask(conns.append)
    with pytest.raises(sqlite3.ProgrammingError, match="thread"):
        conns[0].execute("SELECT 1")
