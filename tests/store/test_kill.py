"""`kill -9` at any instant: no promise is broken, nothing doubled, every call has its receipt."""

import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from modelspend.store import Store
from tests.store.conftest import outside


@dataclass
class Promises:
    """What the killed processes had said before they died."""

    begun: set[str] = field(default_factory=set)
    done: dict[str, int] = field(default_factory=dict)
    rounds: int = 0

    def hear(self, lines: list[str]) -> None:
        for line in lines:
            match line.split():
                case ["begun", receipt_id]:
                    self.begun.add(receipt_id)
                case ["done", receipt_id, seq]:
                    self.done[receipt_id] = int(seq)


def run_and_kill(
    ledger: Path,
    seed: int,
    promises: Promises,
    durability: str = "full",
    *,
    under: Sequence[str] = (),
    lines_to_hear: int | None = None,
) -> list[str]:
    """One life of the child: it is killed after a (random) number of its lines; the lines."""
    child_of = [sys.executable, "-m", "tests.store.child", str(ledger), str(seed), durability]
    command = [*under, *child_of]
    if lines_to_hear is None:
        lines_to_hear = random.Random(seed).randint(0, 400)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as child:
        assert child.stdout is not None
        heard = []
        for line in child.stdout:
            heard.append(line)
            if len(heard) > lines_to_hear:
                break
        child.kill()
        heard += child.stdout.readlines()  # what was in the pipe when it died counts too
    heard = [line for line in heard if line.endswith("\n")]
    promises.hear(heard)
    promises.rounds += 1
    return heard


async def broken_promises(ledger: Path, promises: Promises) -> list[str]:
    """Reopen after the last kill, close what is open, and compare."""
    store = await Store.open(ledger)
    try:
        await store.calls.recover(now_ms=2)
        broken = await store.meta.check()
        assert await store.calls.open_count() == 0
    finally:
        await store.close()
    with outside(ledger) as conn:
        rows = conn.execute("SELECT receipt_id, seq, status FROM receipts").fetchall()
        (events,) = conn.execute("SELECT count(*) FROM events").fetchone()
        (last,) = conn.execute("SELECT seq FROM head").fetchone()
    here = {receipt_id: (seq, status) for receipt_id, seq, status in rows}
    broken += [f"lost {r}" for r in promises.begun if r not in here]
    broken += [
        f"lost {r} after done" for r, seq in promises.done.items() if here.get(r, [0])[0] != seq
    ]
    broken += [f"undone {r}" for r in promises.done if here.get(r, "??")[1] == "interrupted"]
    if len(rows) + events != last:
        broken.append(f"{len(rows)} receipts and {events} events, but {last} numbers")
    print(
        f"kill -9 x {promises.rounds}: {len(promises.begun)} begun, {len(promises.done)} done,"
        f" {len(rows)} receipts, {len(broken)} broken promises"
    )
    return broken


async def _kill_rounds(ledger: Path, rounds: int) -> Promises:
    promises = Promises()
    for seed in range(1, rounds + 1):
        run_and_kill(ledger, seed, promises)
        with outside(ledger) as conn:
            assert conn.execute("PRAGMA quick_check").fetchone() == ("ok",)
    assert await broken_promises(ledger, promises) == []
    return promises


async def test_no_promise_is_broken_by_kill_9(ledger: Path) -> None:
    promises = await _kill_rounds(ledger, 6)
    assert len(promises.done) > 100


@pytest.mark.full
@pytest.mark.timeout(1200)
async def test_no_promise_is_broken_by_200_times_kill_9(ledger: Path) -> None:
    promises = await _kill_rounds(ledger, 200)
    assert len(promises.done) >= 10_000


async def test_the_comparison_bites_when_a_receipt_is_taken_away(ledger: Path) -> None:
    promises = Promises()
    run_and_kill(ledger, 3, promises)
    with outside(ledger) as conn:
        conn.execute("DELETE FROM receipts WHERE seq = (SELECT max(seq) FROM receipts)")
    assert await broken_promises(ledger, promises)
