"""Disks fill, files are locked: nothing acknowledged is lost, nothing starts unrecorded."""

import asyncio
import os
import sqlite3
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from modelspend.errors import LedgerUnavailable
from modelspend.receipt import Receipt
from modelspend.store import Bodies, Store, calls, writer
from modelspend.store.book import Book
from tests.store.conftest import outside
from tests.store.synthetic import Traffic, intent_of, with_bodies


async def _limit(store: Store, pages: int) -> None:
    """What a full disk does, on any file system: SQLITE_FULL when the file would grow."""
    assert store._writer is not None
    await store._writer.do(lambda book: book.execute(f"PRAGMA max_page_count = {pages}").fetchall())


async def _fill(store: Store, traffic: Traffic) -> None:
    """Begin calls until the ledger takes no more."""
    while store.healthy:
        with suppress(LedgerUnavailable):
            await store.calls.begin(intent_of(traffic.receipt()))


def _bulky(receipt: Receipt) -> Receipt:
    """One that needs more room than the end of its intent gives free."""
    return replace(receipt, request=replace(receipt.request, size=60_000))


def _give_room(store: Store) -> None:
    assert store._writer is not None
    lift = writer.Job(lambda b: b.execute("PRAGMA max_page_count = 1073741823").fetchall())
    store._writer._undo.append(lift)  # the writer's next try begins with these


async def _until_healthy(store: Store) -> None:
    async with asyncio.timeout(10):
        while not store.healthy:
            await asyncio.sleep(0.02)


async def test_a_full_disk_admits_no_call_and_says_why(store: Store, traffic: Traffic) -> None:
    await _limit(store, 1)
    await _fill(store, traffic)
    assert not store.healthy
    with pytest.raises(LedgerUnavailable, match="the disk is full") as caught:
        await store.calls.begin(intent_of(traffic.receipt()))
    assert caught.value.retry_after_s == 1
    assert (await store.meta.info()).trouble == "the disk is full"


async def test_receipts_that_end_while_the_disk_is_full_are_written_when_it_is_not(
    store: Store, ledger: Path, traffic: Traffic
) -> None:
    calls = [with_bodies(_bulky(receipt)) for receipt in traffic.receipts(30)]
    for receipt, _ in calls:
        await store.calls.begin(intent_of(receipt))
    await _limit(store, 1)
    told = await asyncio.gather(
        *(store.calls.finish(*call) for call in calls[:20]), return_exceptions=True
    )
    for call in calls[20:]:
        store.calls.finish_later(*call)
    assert not store.healthy
    assert {type(each) for each in told} == {LedgerUnavailable}, "nothing is acknowledged"
    assert await store.calls.open_count() > 0, "what could not be written keeps its intent"
    _give_room(store)
    await _until_healthy(store)
    assert await store.receipts.count() == 30
    assert await store.calls.open_count() == 0
    for receipt, bodies in calls:
        assert await store.bodies.get(receipt.receipt_id) == bodies
    await store.calls.begin(intent_of(traffic.receipt()))
    assert [e.kind for e in await store.events.after(0)] == ["ledger.resumed"]
    assert await store.meta.check() == []


async def test_one_receipt_too_large_for_the_disk_holds_up_no_other(
    store: Store, traffic: Traffic
) -> None:
    large, small = traffic.receipt(), [traffic.receipt() for _ in range(5)]
    info = await store.meta.info()
    await _limit(store, info.size // 4096 + 40)
    bulky = Bodies(request=os.urandom(100_000), answer=os.urandom(200_000))
    with pytest.raises(LedgerUnavailable, match="the disk is full"):
        await store.calls.finish(large, bulky)
    for receipt in small:
        store.calls.finish_later(receipt)
    async with asyncio.timeout(10):
        while await store.receipts.count() < len(small):
            await asyncio.sleep(0.01)
    assert not store.healthy
    assert await store.receipts.get(large.receipt_id) is None
    _give_room(store)
    await _until_healthy(store)
    assert await store.receipts.count() == 6


async def test_a_call_that_was_refused_leaves_no_intent_behind(
    store: Store, traffic: Traffic
) -> None:
    """Even when its commit reached the disk after all: here it did, and was not acknowledged."""
    assert store._writer is not None
    intent = intent_of(traffic.receipt())
    await store.calls.begin(intent)
    dropped = writer.Job(lambda book: calls._drop_intent(book, intent.receipt_id))
    refused = writer.Job(lambda book: None, undo=dropped.run)
    await store._writer.do(lambda book: store._writer._fail([refused], _full()))  # type: ignore[union-attr]
    await _until_healthy(store)
    assert await store.calls.open_count() == 0


def _full() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


async def test_a_foreign_lock_of_seconds_is_waited_out_without_an_error(
    store: Store, ledger: Path, traffic: Traffic
) -> None:
    receipts = list(traffic.receipts(40))
    with outside(ledger) as conn:
        conn.execute("BEGIN EXCLUSIVE")
        begun = [
            asyncio.ensure_future(store.calls.begin(intent_of(receipt)))  # noqa: TID251
            for receipt in receipts
        ]
        assert store._writer is not None
        while store._writer.lock_waits < 3:
            await asyncio.sleep(0.01)
        assert not any(task.done() for task in begun)
        assert store.healthy, "waiting is not trouble"
        conn.execute("ROLLBACK")
    async with asyncio.timeout(10):
        await asyncio.gather(*begun)
        await asyncio.gather(*(store.calls.finish(receipt) for receipt in receipts))
    assert await store.calls.open_count() == 0


async def test_a_foreign_lock_without_end_refuses_calls_and_keeps_receipts(
    store: Store, ledger: Path, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LOCK_PATIENCE_S", 0.0)
    receipt = traffic.receipt()
    await store.calls.begin(intent_of(receipt))
    with outside(ledger) as conn:
        conn.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerUnavailable, match="another process has locked it"):
            await store.calls.begin(intent_of(traffic.receipt()))
        store.calls.finish_later(receipt)
        conn.execute("ROLLBACK")
    await _until_healthy(store)
    assert await store.receipts.get(receipt.receipt_id) is not None
    assert await store.calls.open_count() == 0


async def test_the_ledger_goes_on_after_its_connection_failed(
    store: Store, traffic: Traffic
) -> None:
    """An I/O error makes the connection suspect: it is closed, opened and checked again."""
    assert store._writer is not None
    before = store._writer._book

    def fail(book: Book) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    with pytest.raises(LedgerUnavailable, match="failed to read or write"):
        await store._writer.do(fail)
    await _until_healthy(store)
    await store.calls.finish(traffic.receipt())
    assert store._writer._book is not before
    assert (await store.meta.info()).last_error == "OperationalError: disk I/O error"
