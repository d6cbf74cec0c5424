"""What reports cost: `python -m tests.bench.reports [--receipts 1000000] [--days 180]`.

Prints the time of every report on one ledger (routed, cached, tagged, in regions), by everything
that may make a row, over all of it and over a month, and what rolling up costs a receipt. Each time
is that of the question alone, the best and the worst of three; a command adds its start to it.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from modelspend.forecast import HORIZONS
from modelspend.receipt import Receipt, Savings, Status
from modelspend.reports import REPORTS, Asked
from modelspend.reports.forecast import forecast
from modelspend.reports.latency import BY as LATENCY_BY
from modelspend.reports.mix import BY as MIX_BY
from modelspend.reports.savings import BY as SAVINGS_BY
from modelspend.reports.spend import BY as SPEND_BY
from modelspend.savings import MECHANISMS
from modelspend.store import DAY_MS, Filter, Store, files
from modelspend.store.book import Book
from modelspend.store.daily import Name
from modelspend.store.days import roll
from tests.store.bulk import load
from tests.store.synthetic import START_MS, Traffic

_DAYS = 180
_GROUPS: dict[str, tuple[str | None, ...]] = {
    "spend": (*SPEND_BY, "tag:team"),
    "savings": SAVINGS_BY,
    "mix": MIX_BY,
    "latency": LATENCY_BY,
    "tenants": ("tenant", "workflow"),
    "alerts": (None,),
}


def traffic(count: int, days: int) -> Iterator[Receipt]:
    """Receipts of some days: a third of them routed, some answered from the cache."""
    rng = random.Random(11)
    for made in Traffic(7, gap_ms=days * DAY_MS / count, tenants=60).receipts(count):
        yield rich(made, rng)


def rich(made: Receipt, rng: random.Random) -> Receipt:
    """The same receipt with a region, tags, and what a decision saved."""
    cost, luck = made.execution.actual_cost_pico, rng.random()
    saved: Savings | None = None
    execution = made.execution
    if luck < 0.05:
        saved = _saved(cost or 0, caching=cost or 0)
        execution = replace(execution, status=Status.CACHED, actual_cost_pico=0, charged_pico=0)
    elif luck < 0.35:
        saved = (
            Savings(baseline_model="openai/gpt-4.1", baseline_cost_pico=None)
            if cost is None
            else _saved(
                cost, routing=max(int(cost * rng.gauss(0.8, 0.9)), -cost // 2), retry=-(cost // 50)
            )
        )
    last = replace(made.attempts[-1], region=rng.choice(("eu-west-1", "us-east-1", None)))
    team = rng.choice(("search", "support", "growth", "platform"))
    return replace(
        made,
        attempts=(*made.attempts[:-1], last),
        tags={"team": team} if rng.random() < 0.7 else {},
        savings=saved,
        execution=execution,
    )


def _saved(cost: int, **parts: int) -> Savings:
    every = {name: parts.get(name, 0) for name in MECHANISMS}
    return Savings(
        baseline_model="openai/gpt-4.1",
        baseline_cost_pico=cost + sum(every.values()),
        by_mechanism=every,
    )


def _said(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def rolling(ledger: Path) -> None:
    """Forget all sums and make them again, as the background does, a little at a time."""
    conn = files.connect_writer(ledger, "normal")
    try:
        conn.execute("DELETE FROM days")
        conn.execute("UPDATE rolled SET seq = 0")
        book, steps, more = Book(conn), [], True
        while more:
            began = time.perf_counter()
            conn.execute("BEGIN IMMEDIATE")
            more = roll(book)
            conn.execute("COMMIT")
            steps.append(time.perf_counter() - began)
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        (count,) = conn.execute("SELECT count(*) FROM receipts").fetchone()
        sizes = conn.execute(
            "SELECT name, sum(pgsize) FROM dbstat"
            " WHERE name IN ('days', 'savings', 'attempts_hops') GROUP BY name"
        ).fetchall()
    finally:
        conn.close()
    steps.sort()
    _said(
        f"rolling up: {sum(steps) / count * 1e6:.1f} us a receipt,"
        f" {steps[len(steps) // 2] * 1e3:.0f} ms a step (max {steps[-1] * 1e3:.0f} ms)"
    )
    _said("bytes a receipt: " + ", ".join(f"{name} {size / count:.1f}" for name, size in sizes))


async def reports(ledger: Path, days: int) -> None:
    end = START_MS + days * DAY_MS
    store = await Store.open_read(ledger)
    worst = 0.0
    try:
        for name, ask in REPORTS:
            for by in _GROUPS[name]:
                for said, since in (("all", START_MS - 7), ("month", end - 30 * DAY_MS + 7)):
                    where = Filter(since_ms=since, until_ms=end - 11)
                    if by is None:
                        where, said = Filter(), "now"
                    asked = Asked(now_ms=end, wheres=(where,), by=by)
                    worst = max(worst, await _timed(name, by, said, partial(ask, store, asked)))
        for by in (None, *get_args(Name)):
            where = [Filter(since_ms=START_MS - 7)]
            projected = partial(forecast, store, where, end, HORIZONS, by)
            await _timed("forecast", by, "all", projected)
    finally:
        await store.close()
    _said(f"the slowest report: {worst:.3f} s")


async def _timed(name: str, by: str | None, said: str, ask: Callable[[], Awaitable[Any]]) -> float:
    """The best of three times; beside it the CPU that it took, which no other program changes."""
    times, used = [], []
    for _ in range(3):
        began, busy = time.perf_counter(), time.process_time()
        await ask()
        times.append(time.perf_counter() - began)
        used.append(time.process_time() - busy)
    _said(
        f"{name:8} by {by or '-':14} {said:6} {min(times):6.3f} s (max {max(times):.3f},"
        f" CPU {min(used):.3f})"
    )
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--receipts", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=_DAYS, help="so many days have them all")
    parser.add_argument("--keep", type=Path, help="folder to keep the ledger in, for the next run")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ledger = (asked.keep or Path(folder)) / f"reports-{asked.receipts}-{asked.days}.db"
        if not ledger.exists():
            load(ledger, ((receipt, None) for receipt in traffic(asked.receipts, asked.days)))
        rolling(ledger)
        asyncio.run(reports(ledger, asked.days))


if __name__ == "__main__":
    main()
