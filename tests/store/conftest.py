"""A fresh ledger for each test, and the ways to look at it from outside."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from modelspend.store import Store
from tests.store.synthetic import Traffic


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Where the ledger of this test lies; its folder does not exist yet."""
    return tmp_path / "data" / "ledger.db"


@pytest.fixture
async def store(ledger: Path) -> AsyncIterator[Store]:
    """An open, empty store; durability `normal`, since only some tests are about power."""
    opened = await Store.open(ledger, durability="normal")
    yield opened
    await opened.close()


@pytest.fixture
def traffic() -> Traffic:
    return Traffic(seed=11, tenants=6)


@contextmanager
def outside(ledger: Path) -> Iterator[sqlite3.Connection]:
    """A plain connection of somebody else's, in autocommit."""
    with closing(sqlite3.connect(ledger, isolation_level=None)) as conn:
        yield conn
