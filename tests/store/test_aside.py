"""What is written aside: many small things in one commit, and calls hardly notice it."""

import asyncio
import sqlite3
import time
from collections.abc import Callable

import pytest

from modelspend.store import Store
from modelspend.store.book import Book
from modelspend.store.writer import LATER_WAIT_S, Writer
from tests.store.synthetic import Traffic, intent_of


@pytest.fixture
def writer(store: Store) -> Writer:
    assert store._writer is not None
    return store._writer


def note(name: str) -> Callable[[Book], None]:
    def put(book: Book) -> None:
        book.execute("INSERT INTO meta (key, value) VALUES (?, x'01')", (name,))

    return put


async def test_what_comes_together_is_one_commit(writer: Writer) -> None:
    before = writer.commits
    await asyncio.gather(*(writer.aside(note(f"n{n}")) for n in range(50)))
    assert writer.commits - before <= 3  # one that was begun with the first, the rest, a seal


async def test_while_calls_go_on_it_costs_them_few_commits(
    store: Store, writer: Writer, traffic: Traffic
) -> None:
    notes, calls = [], 0
    before, began = writer.commits, time.monotonic()
    while time.monotonic() - began < 1.5:
        await store.calls.begin(intent_of(traffic.receipt()))
        calls += 1
        if calls % 20 == 0:
            notes.append(writer.aside(note(f"n{len(notes)}")))
    took_s = time.monotonic() - began
    extra = writer.commits - before - calls
    assert len(notes) > took_s * 10
    assert extra <= 3  # all else went with those of the calls
    await asyncio.gather(*notes)


async def test_while_calls_go_on_it_goes_with_the_commit_of_one(
    store: Store, writer: Writer, traffic: Traffic
) -> None:
    await store.calls.begin(intent_of(traffic.receipt()))
    before, calls = writer.commits, 0
    told = writer.aside(note("n"))
    while not told.done():
        await store.calls.begin(intent_of(traffic.receipt()))
        calls += 1
    assert writer.commits - before == calls


async def test_without_a_pause_of_calls_it_is_written_all_the_same(
    store: Store, writer: Writer, traffic: Traffic
) -> None:
    told = writer.aside(note("n"))
    began = time.monotonic()
    while not told.done():
        await store.calls.begin(intent_of(traffic.receipt()))
        assert time.monotonic() - began < LATER_WAIT_S * 5


async def test_what_is_wrong_with_one_is_told_to_it_alone(writer: Writer) -> None:
    def half(book: Book) -> None:
        note("half")(book)
        note("half")(book)

    first, bad, last = (writer.aside(one) for one in (note("a"), half, note("b")))
    await asyncio.gather(first, last)
    with pytest.raises(sqlite3.IntegrityError):
        await bad
    await writer.do(note("half"))  # nothing of it is left
    with pytest.raises(sqlite3.IntegrityError):
        await writer.do(note("a"))


async def test_what_was_asked_before_is_written_before(writer: Writer) -> None:
    seen: list[int] = []
    await asyncio.gather(*(writer.aside(lambda _, n=n: seen.append(n)) for n in range(300)))
    assert seen == list(range(300))
