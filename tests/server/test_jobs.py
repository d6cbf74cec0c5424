"""Periodic work outlives a ledger in trouble."""

import asyncio

from modelspend.errors import LedgerUnavailable
from modelspend.server.jobs import Job, _repeat


async def test_a_job_that_meets_a_ledger_in_trouble_runs_again() -> None:
    stop = asyncio.Event()
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            stop.set()
        raise LedgerUnavailable("The disk is full.", "Make room.")

    async with asyncio.timeout(10):
        await _repeat(Job("trying", 0.001, run), stop)
    assert runs == 3
