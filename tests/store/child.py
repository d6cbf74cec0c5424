"""A process that writes until it is killed: `python -m tests.store.child LEDGER SEED DURABILITY`.

Each line on stdout is a promise that was made: `begun ID` or `done ID SEQ`, written only when the
store had acknowledged it. Some calls stay open, some hop, some carry bodies.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

from modelspend.errors import LedgerUnavailable
from modelspend.store import Store
from tests.store.synthetic import START_MS, Traffic, intent_of, with_bodies

WORKERS = 8


def _promise(text: str) -> None:
    os.write(1, f"{text}\n".encode())


async def _call(store: Store, traffic: Traffic, rng: random.Random) -> None:
    receipt, bodies = with_bodies(traffic.receipt())
    await store.calls.begin(intent_of(receipt))
    _promise(f"begun {receipt.receipt_id}")
    if rng.random() < 0.1:
        await store.calls.hop(receipt.receipt_id, 2, "groq", "llama", receipt.created_at_ms)
    if rng.random() < 0.1:
        return
    seq = await store.calls.finish(receipt, bodies if rng.random() < 0.7 else None)
    _promise(f"done {receipt.receipt_id} {seq}")


async def main(ledger: Path, seed: int, durability: str) -> None:
    store = await Store.open(ledger, durability="full" if durability == "full" else "normal")
    while True:
        try:
            await store.calls.recover(now_ms=1)
            break
        except LedgerUnavailable:
            await asyncio.sleep(0.05)
    _promise("ready")
    rng = random.Random(seed)
    traffic = Traffic(seed, start_ms=START_MS + seed * 10**9)

    async def work() -> None:
        while True:
            try:
                await _call(store, traffic, rng)
            except LedgerUnavailable:
                _promise("refused")
                await asyncio.sleep(0.05)

    await asyncio.gather(*(work() for _ in range(WORKERS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
