"""Runs that are killed before their n-th act on a folder, for every n, and a whole one after each.

`python -m tests.exporters.dies_at FOLDER roll`, or with the words of a command of modelspend in
which `OUT` stands for the folder that is written to: FOLDER/n/out for each n. A command has a copy
of the ledger, in which one more event happens after the death. It prints how many acts a whole run
takes. An audit hook does the killing, so what runs is the program itself.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import modelspend.cli.export_siem
import modelspend.cli.reading
import modelspend.exporters.siem  # noqa: F401 - all of it once, not again in every child
from modelspend.cli import app
from modelspend.events import Event
from modelspend.exporters.roll import Roll
from modelspend.store import Store

LEDGER = "MODELSPEND_STORE__PATH"
ACTS = {"open", "os.rename", "os.remove", "os.truncate"}
BATCHES, EACH = 6, 5


def die_at(n: int, folder: str) -> None:
    left = n

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if event in ACTS and args and str(args[0]).startswith(folder):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def roll(out: Path) -> None:
    """Append batches as the pump does, its number in a file of its own beside."""
    ledger = out.with_name("ledger")
    rolled = Roll(
        out / "siem.jsonl", most_bytes=BATCHES * EACH * 8 // 3, compress=True, keep_days=0
    )
    at = int(ledger.read_text()) if ledger.exists() else 0
    for batch in range(at, BATCHES):
        lines = [(f"id{n}", b"line %d" % n) for n in range(batch * EACH, (batch + 1) * EACH)]
        rolled.append(lines, now_ms=1_795_000_000_000 + batch * 1000)
        fresh = ledger.with_suffix(".new")
        fresh.write_text(str(batch + 1))
        fresh.replace(ledger)
    rolled.close()


def command(words: Sequence[str]) -> Callable[[Path], None]:
    def run(out: Path) -> None:
        app([str(out) if word == "OUT" else word for word in words], prog_name="modelspend")

    return run


async def one_more(ledger: Path) -> None:
    store = await Store.open(ledger)
    store.events.tell(Event(kind="one.more", at_ms=1_795_000_000_000))
    await store.close()


def forked(work: Callable[[], None]) -> int:
    """How a child ended that did some work: its exit code, or minus the signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path, words: Sequence[str]) -> None:
    run = roll if words == ["roll"] else command(words)
    ledger = Path(os.environ.get(LEDGER, ""))
    n = 0
    while True:
        n += 1
        out = folder / str(n) / "out"
        out.mkdir(parents=True)

        def dying(n: int = n, out: Path = out) -> None:
            die_at(n, str(out))
            run(out)

        if run is not roll:
            own = out.with_name("ledger")
            shutil.copytree(ledger.parent, own)
            os.environ[LEDGER] = str(own / ledger.name)
        died = forked(dying)
        if run is not roll:
            forked(lambda own=own: asyncio.run(one_more(own / ledger.name)))  # type: ignore[misc]
        assert forked(lambda out=out: run(out)) == 0  # type: ignore[misc]
        if died == 0:
            sys.stderr.write(f"{n - 1}\n")
            return
        assert died == -signal.SIGKILL


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
