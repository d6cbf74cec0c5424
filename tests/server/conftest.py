"""Which tests of the server run on both event loops."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests.loops import loops_for


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return loops_for(item)
