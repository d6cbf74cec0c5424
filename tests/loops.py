"""The event loops that the product runs on: the stock one, and uvloop where it is to be had.

They differ in when a write is sent, what a closed transport still answers, and how the end of a
connection is told; so what is built on bare transports is tested on both.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvloop

_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}

on_both_loops = pytest.mark.asyncio(loop_factories=list(_LOOPS))
on_one_loop = pytest.mark.asyncio(loop_factories=["asyncio"])
"""For what costs time and does not depend on the loop."""


def loops_for(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Both for a test that is marked so, else the stock one."""
    marks = [mark.kwargs for mark in item.iter_markers("asyncio")]
    if any("loop_factories" in said for said in marks):
        return _LOOPS
    return {"asyncio": asyncio.new_event_loop}


class Threads(ThreadPoolExecutor):
    """Those of an event loop, and how often one was asked for."""

    asked = 0

    def submit(self, *args: Any, **named: Any) -> Any:
        self.asked += 1
        return super().submit(*args, **named)
