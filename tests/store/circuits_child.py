"""A process whose circuits move until it is killed: `python -m tests.store.circuits_child FILE N`.

Each line is a promise, written once the move is durable: `moved PROVIDER PHASE RETRY_AT_MS WALL_MS
MOVES`. With a phase as the last argument it stops there, and waits for its end.
"""

import asyncio
import os
import random
import sys
import time
from pathlib import Path

from modelspend.breaker import Phase
from modelspend.circuits import CircuitKey, Circuits, Permit, Transition
from modelspend.receipt import FailureClass
from modelspend.sections import Circuits as Rules
from modelspend.store import Store

BAD = FailureClass.CONNECT


class Life:
    """One process's circuits, under a clock that the child moves and the true wall clock."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.rng = random.Random(seed)
        self.now = time.monotonic()
        self.circuits = Circuits(Rules(jitter=0, wait_s=60, wait_max_s=240), self.rng.random)
        self.circuits.listeners.append(self.keep)
        self.last: Transition | None = None
        self.moves = 0
        self.retry_at_ms: int | None = None
        self.wall_ms = 0

    def keep(self, transition: Transition) -> None:
        self.last = transition
        self.moves += 1
        self.wall_ms = time.time_ns() // 1_000_000
        wait_s = transition.moved.wait_s
        is_open = transition.moved.new is Phase.OPEN
        self.retry_at_ms = self.wall_ms + round((wait_s or 0) * 1000) if is_open else None
        self.store.circuits.moved(transition, self.wall_ms)

    def fail(self, key: CircuitKey) -> None:
        for _ in range(5):
            permit = self.circuits.admit(key, self.now)
            if isinstance(permit, Permit):
                permit.failed(BAD, self.now)

    def half_open(self, key: CircuitKey) -> Permit | None:
        self.now += 300
        permit = self.circuits.admit(key, self.now)
        return permit if isinstance(permit, Permit) else None

    async def promise(self) -> None:
        await self.store.circuits.obeyed([])  # written behind the move, so the move is durable
        assert self.last is not None
        name, phase = self.last.circuit.provider, self.last.moved.new
        told = f"moved {name} {phase} {self.retry_at_ms} {self.wall_ms} {self.moves}\n"
        os.write(1, told.encode())


async def main(ledger: Path, seed: int, stop_at: str | None) -> None:
    store = await Store.open(ledger)
    life = Life(store, seed)
    key = CircuitKey("p0", "m")
    if stop_at is not None:
        life.fail(key)
        if stop_at in ("half_open", "closed"):
            probe = life.half_open(key)
            assert probe is not None
            if stop_at == "closed":
                probe.succeeded(life.now)
        elif stop_at == "tripped":
            life.circuits.trip("p0", None, life.now, None)
        await life.promise()
        await asyncio.sleep(60)
    while True:
        key = CircuitKey(f"p{life.rng.randrange(3)}", "m")
        before = life.moves
        if life.rng.random() < 0.5:
            life.fail(key)
        elif probe := life.half_open(key):
            probe.succeeded(life.now) if life.rng.random() < 0.5 else probe.failed(BAD, life.now)
        if life.moves > before:
            await life.promise()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), (sys.argv[3:] or [None])[0]))
