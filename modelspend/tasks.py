"""Background work that cannot vanish: a reference is kept and a failure is logged.

asyncio holds only weak references to tasks, so a bare `create_task` may be collected half-way.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger("modelspend")

_running: set[asyncio.Task[Any]] = set()


def spawn(work: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
    """Start `work` in the background; its failure is logged under `name`."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if task.cancelled():
        return
    error = task.exception()
    if error is not None:  # the class alone: the text of a foreign error may hold a key or a prompt
        log.error("background task %s failed: %s", task.get_name(), type(error).__name__)


def running() -> int:
    """How many background tasks are alive: the leak tests count them."""
    return len(_running)


async def finished() -> None:
    """Wait until every background task has ended: nothing that was promised is left half-done."""
    while _running:
        await asyncio.wait(tuple(_running))
