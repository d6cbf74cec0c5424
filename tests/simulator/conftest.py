"""A fresh simulator for each test."""

from collections.abc import AsyncIterator

import pytest

from modelspend.simulator import Simulator


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(seed=7) as running:
        yield running
