"""The hash chain: whatever is edited, deleted, swapped or added behind our back is found."""

from pathlib import Path

import pytest

from modelspend.store import Store
from tests.store.conftest import outside
from tests.store.synthetic import Traffic, with_bodies

_COUNT = 40


async def _filled(ledger: Path) -> None:
    store = await Store.open(ledger, durability="normal")
    for receipt in Traffic(5, tenants=3).receipts(_COUNT):
        await store.calls.finish(*with_bodies(receipt))
    await store.close()


async def _problems(ledger: Path) -> list[str]:
    store = await Store.open_read(ledger)
    try:
        return await store.meta.check()
    finally:
        await store.close()


@pytest.fixture
async def filled(ledger: Path) -> Path:
    await _filled(ledger)
    assert await _problems(ledger) == []
    return ledger


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE receipts SET cost_pico = cost_pico + 1 WHERE seq = 7", "receipt 7"),
        ("UPDATE receipts SET tenant = 'other' WHERE seq = 8", "receipt 8"),
        ("UPDATE receipts SET created_at = created_at + 1 WHERE seq = 9", "receipt 9"),
        ("UPDATE receipts SET status = 'cached' WHERE seq = 9", "receipt 9"),
        ("UPDATE receipts SET charged_pico = 0 WHERE seq = 1", "receipt 1"),
        ("UPDATE receipts SET facet_id = facet_id % 3 + 1 WHERE seq IN (4, 5, 6, 7)", "receipt "),
        ("UPDATE receipts SET hash = zeroblob(32) WHERE seq = 12", "receipt 12"),
        ("UPDATE receipts SET prev_hash = zeroblob(32) WHERE seq = 12", "receipt 12"),
        ("UPDATE receipts SET detail = substr(detail, 1, 50) WHERE seq = 3", "receipt 3"),
        ("UPDATE attempts SET cost_pico = 0 WHERE seq = 20 AND n = 1", "receipt 20"),
        ("DELETE FROM attempts WHERE seq = 21", "receipt 21"),
        ("UPDATE bodies SET data = (SELECT data FROM bodies WHERE seq = 2) WHERE seq = 1", "1"),
        ("DELETE FROM receipts WHERE seq = 1", "receipt 1: it was removed"),
        ("DELETE FROM receipts WHERE seq = 17", "receipt 17: it was removed"),
        (f"DELETE FROM receipts WHERE seq = {_COUNT}", f"receipt {_COUNT}: it was removed"),
        (f"DELETE FROM receipts WHERE seq > {_COUNT - 5}", "receipts 36 to 40: they were removed"),
        ("DELETE FROM receipts", "receipts 1 to 40: they were removed"),
        ("UPDATE facets SET max_latency_ms = 1", "its columns differ"),
        ("UPDATE facets SET workflow = 'other' WHERE id = 1", "its columns differ"),
    ],
)
async def test_an_edit_behind_our_back_is_named(filled: Path, statement: str, found: str) -> None:
    with outside(filled) as conn:
        assert conn.execute(statement).rowcount
    problems = await _problems(filled)
    assert problems
    assert found in problems[0]


async def test_removing_kept_bodies_is_no_tampering(filled: Path) -> None:
    with outside(filled) as conn:
        conn.execute("DELETE FROM bodies")
    assert await _problems(filled) == []
