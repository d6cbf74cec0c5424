"""Who keeps an answer: known at once, found again after a restart, forgotten in time."""

from dataclasses import replace

from modelspend.store import Store
from modelspend.store.stored_answers import KEPT_MS, StoredAnswer, StoredAnswers
from tests.store.synthetic import START_MS, Traffic


def answer(n: int, tenant: str = "acme") -> StoredAnswer:
    return StoredAnswer(
        tenant=tenant,
        answer_id=f"resp_{n}",
        provider="openai",
        model="gpt-5",
        at_ms=START_MS + n,
    )


def cold(store: Store, most: int = 10) -> StoredAnswers:
    """The same ledger to one who remembers nothing."""
    return StoredAnswers(store._readers, store._writer, most=most)


async def test_an_answer_is_written_with_its_receipt_and_found_within_its_tenant(
    store: Store,
) -> None:
    (receipt,) = Traffic(1).receipts(1)
    await store.calls.finish(receipt, stored=answer(1))
    found = await cold(store).find("acme", "resp_1")
    assert found == answer(1)
    assert await cold(store).find("other", "resp_1") is None
    assert await cold(store).find("acme", "resp_2") is None


async def test_a_receipt_that_was_there_already_writes_nothing_twice(store: Store) -> None:
    (receipt,) = Traffic(1).receipts(1)
    await store.calls.finish(receipt, stored=answer(1))
    await store.calls.finish(receipt, stored=replace(answer(1), provider="elsewhere"))
    assert await cold(store).find("acme", "resp_1") == answer(1)


async def test_the_later_of_two_answers_of_one_id_holds(store: Store) -> None:
    one, two = Traffic(1).receipts(2)
    await store.calls.finish(one, stored=answer(1))
    await store.calls.finish(two, stored=replace(answer(1), provider="azure"))
    found = await cold(store).find("acme", "resp_1")
    assert found is not None
    assert found.provider == "azure"


async def test_memory_is_bounded_and_the_ledger_remembers_the_rest(store: Store) -> None:
    known = cold(store, most=3)
    for n, receipt in enumerate(Traffic(1).receipts(8)):
        known.remember(answer(n))
        await store.calls.finish(receipt, stored=answer(n))
    assert list(known._known) == [("acme", f"resp_{n}") for n in (5, 6, 7)]
    assert await known.find("acme", "resp_0") == answer(0)
    assert len(known._known) == 3


async def test_what_its_provider_has_deleted_is_forgotten(store: Store) -> None:
    known = store.stored_answers
    for n, receipt in enumerate(Traffic(1).receipts(4)):
        known.remember(answer(n))
        await store.calls.finish(receipt, stored=answer(n))
    assert await known.expire(START_MS + KEPT_MS + 2) == 2
    assert [await known.find("acme", f"resp_{n}") is not None for n in range(4)] == [
        False,
        False,
        True,
        True,
    ]
    assert await known.expire(START_MS + KEPT_MS + 2) == 0
