"""What the ledger costs: `python -m tests.bench.ledger [--receipts 1000000] [--keep FOLDER]`.

Prints, from one run on this machine: bytes a receipt by table, the time of every search by one and
by two filters on that ledger, the cost of a call alone and 32 at once with full durability, and
the disk's own sync time to judge them by. Nothing here passes or fails.
"""

import argparse
import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path

from modelspend.receipt import Receipt
from modelspend.store import ALL, Filter, Store
from tests.store.bulk import load
from tests.store.synthetic import START_MS, Traffic, intent_of, with_bodies

_DAYS = 180
_DAY_MS = 86_400_000


def _said(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def build(ledger: Path, count: int) -> None:
    traffic = Traffic(7, gap_ms=_DAYS * _DAY_MS / count, tenants=60)

    def calls() -> Iterator[tuple[Receipt, None]]:
        for n, receipt in enumerate(traffic.receipts(count), start=1):
            if n % 100_000 == 0:
                sys.stderr.write(f"\r{n:,} of {count:,} receipts")
            yield receipt, None
        sys.stderr.write("\n")

    began = time.perf_counter()
    load(ledger, calls())
    _said(f"built {count:,} receipts in {time.perf_counter() - began:.0f} s")


def sizes(ledger: Path, count: int) -> None:
    with closing(sqlite3.connect(ledger)) as conn:
        rows = conn.execute(
            "SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC LIMIT 9"
        ).fetchall()
    _said(f"size: {ledger.stat().st_size / count:.0f} bytes a receipt, tables and indexes")
    for name, size in rows:
        _said(f"  {name:32} {size / count:7.1f}")


def _filters() -> list[Filter]:
    end = START_MS + _DAYS * _DAY_MS
    fields: dict[str, tuple[object, ...]] = {
        "tenant": ("team-000", "team-055", "nobody"),
        "workflow": ("support-bot", "nothing"),
        "model": ("gpt-5-mini-2025-08-07", "no-such-model"),
        "provider": ("openai", "groq"),
        "category": ("code", "none"),
        "status": (("error",), ("success",), ("interrupted",)),
        "session": ("sess-0", "sess-000000000000"),
        "min_cost_pico": (1_000_000, 30_000_000_000, 10**15),
        "min_latency_ms": (1.0, 8_000.0, 1e9),
        "unpriced": (True, False),
        "since_ms": (end - _DAY_MS, START_MS, end + _DAY_MS),
        "until_ms": (START_MS + _DAY_MS, end - 30 * _DAY_MS, START_MS - 1),
    }
    single = [{name: value} for name, values in fields.items() for value in values]
    pairs = [a | b for a, b in combinations(single, 2) if not a.keys() & b.keys()]
    return [ALL, *(Filter(**each) for each in single + pairs)]  # type: ignore[arg-type]


async def searches(ledger: Path) -> None:
    store = await Store.open_read(ledger)
    try:
        newest = await store.receipts.list(limit=50)
        session = next(s.receipt.session_id for s in newest if s.receipt.session_id)
        await _timed("search", store.receipts.list, session)
        await _timed("totals", store.receipts.totals, session, every=9)
    finally:
        await store.close()


async def _timed(name: str, ask: Callable[[Filter], object], session: str, every: int = 1) -> None:
    spent: list[tuple[float, Filter]] = []
    for where in _filters()[::every]:
        asked = replace(where, session=session) if where.session == "sess-0" else where
        began = time.perf_counter()
        await ask(asked)  # type: ignore[misc]
        spent.append(((time.perf_counter() - began) * 1e3, asked))
    spent.sort(key=lambda pair: pair[0])
    times = [ms for ms, _ in spent]
    _said(
        f"{name}, {len(spent)} filters: p50 {statistics.median(times):.1f} ms,"
        f" p95 {times[int(len(times) * 0.95)]:.1f} ms, max {times[-1]:.1f} ms"
    )
    for ms, where in spent[-3:]:
        said = {name: value for name, value in asdict(where).items() if value not in (None, ())}
        _said(f"  slowest: {ms:6.1f} ms {said}")


def opening(ledger: Path) -> None:
    async def once() -> None:
        store = await Store.open_read(ledger)
        await store.receipts.list(limit=50)
        await store.close()

    began = time.perf_counter()
    asyncio.run(once())
    _said(f"open to read and list 50: {(time.perf_counter() - began) * 1e3:.0f} ms")


def sync_time(folder: Path) -> float:
    """Median milliseconds of a 4 KB write and its fdatasync."""
    times = []
    fd = os.open(folder / "sync", os.O_CREAT | os.O_RDWR)
    for n in range(200):
        began = time.perf_counter()
        os.pwrite(fd, b"x" * 4096, n % 64 * 4096)
        os.fdatasync(fd)
        times.append((time.perf_counter() - began) * 1e3)
    os.close(fd)
    return statistics.median(times)


async def calls(folder: Path, at_once: int, count: int, *, bodies: bool) -> None:
    store = await Store.open(folder / f"calls-{at_once}-{bodies}.db", durability="full")
    both = [with_bodies(receipt) for receipt in Traffic(3).receipts(count + 300)]
    waiting = iter(both)

    async def work(last: int) -> None:
        for receipt, kept in waiting:
            await store.calls.begin(intent_of(receipt))
            await store.calls.finish(receipt, kept if bodies else None)
            if receipt is both[last][0]:
                return

    await work(299)
    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(work(-1) for _ in range(at_once)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - began
    _said(
        f"{at_once:3} at once, bodies {'on ' if bodies else 'off'}:"
        f" {cpu / count * 1e6:4.0f} us of CPU, {wall / count * 1e6:5.0f} us a call (begin + finish)"
    )
    await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--receipts", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=3_000)
    parser.add_argument("--keep", type=Path, help="folder to keep the ledger in, for the next run")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here = asked.keep or Path(folder)
        ledger = here / f"ledger-{asked.receipts}.db"
        if not ledger.exists():
            build(ledger, asked.receipts)
        sizes(ledger, asked.receipts)
        opening(ledger)
        asyncio.run(searches(ledger))
        _said(f"sync of the disk: {sync_time(Path(folder)):.2f} ms median")
        for at_once in (1, 32):
            for bodies in (True, False):
                asyncio.run(calls(Path(folder), at_once, asked.calls, bodies=bodies))


if __name__ == "__main__":
    main()
