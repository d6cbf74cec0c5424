"""A ledger with something to tell, and ways to put it there."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from modelspend.store import Store
from tests.store.synthetic import Traffic


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "data" / "ledger.db", durability="normal")
    yield opened
    await opened.close()


@pytest.fixture
def traffic() -> Traffic:
    return Traffic(seed=5, tenants=3)
