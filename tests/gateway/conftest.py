"""Upstreams for the tests of the network's edge, and an eye on what they leave behind."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from modelspend.gateway.upstream import Upstream
from tests.loops import loops_for


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return loops_for(item)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """One that leaves nothing behind: no task, no socket, no exception that nobody took."""
    loop, faults = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: faults.append(context))
    async with Upstream(keep_idle_s=0.2) as running:
        yield running
    async with asyncio.timeout(2):
        while asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.sleep(0)
    gc.collect(1)  # a socket or a task that was forgotten complains now, and warnings are errors
    assert faults == []
