"""The chaos tests bite: each is run on a copy of the product with one promise broken, and fails.

A breakage is one replacement in one file. When the product's text changes so that it no longer
applies, this says so; then write down how to break that promise now.
"""

import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sidecar import REPOSITORY, Sidecar, provider
from test_canaries import search
from test_doors import Bench, _request, status_of
from test_hangup import hang_up
from test_kill9 import kill_rounds
from test_stalled_readers import stall
from test_unasked import ask_beside_what_nobody_asked

from modelspend.simulator import Simulator

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

Check = Callable[[Path, Path], Awaitable[None]]
"""Takes a folder and the package to run; raises when the promise does not hold."""


async def _kills(folder: Path, package: Path) -> None:
    async with Simulator(keep=100_000) as sim:
        tally = await kill_rounds(folder, sim, rounds=12, calls=40, seed=5, package=package)
    assert tally.holds, tally


async def _hang_ups(folder: Path, package: Path) -> None:
    await hang_up(folder, 40, 6, package)


async def _stalls(folder: Path, package: Path) -> None:
    await stall(folder, 3, "100m", package)


async def _foreign_host(folder: Path, package: Path) -> None:
    async with (
        Simulator() as sim,
        Sidecar(folder, provider("sim", sim.url), package=package) as sidecar,
    ):
        bench = Bench(sidecar, sim)
        host = [("Host", f"evil.test:{sidecar.port}")]
        said = await bench.say(_request(bench, "GET", "/v1/models", host))
    assert status_of(said) in (400, 421)


@dataclass(frozen=True, slots=True)
class Breakage:
    """One promise broken: replace `old` by `new` in `file`, and `check` must notice."""

    promise: str
    file: str
    old: str
    new: str
    check: Check


BREAKAGES = (
    Breakage(
        "the intent is durable before the first byte goes upstream",
        "gateway/life.py",
        "await self.store.calls.begin(call.intent(), holds)",
        "pass",
        _kills,
    ),
    Breakage(
        "the receipt is durable before the client sees the end",
        "gateway/settle.py",
        "            await write\n",
        "            write.close()\n",
        _kills,
    ),
    Breakage(
        "open intents become receipts at the next start",
        "server/app.py",
        "await store.calls.recover(",
        "(lambda now_ms: None)(",
        _kills,
    ),
    Breakage(
        "the lane notices a client that leaves",
        "server/lane.py",
        "            self._task.cancel()\n",
        "            pass\n",
        _hang_ups,
    ),
    Breakage(
        "aiohttp notices a client that leaves in a silent phase",
        "server/run.py",
        "handler_cancellation=True",
        "handler_cancellation=False",
        _hang_ups,
    ),
    Breakage(
        "the provider is let go when the client leaves",
        "gateway/ending.py",
        "        if not drains:\n            self._let_go(call, relay)\n",
        "",
        _hang_ups,
    ),
    Breakage(
        "a client that takes nothing is cut",
        "server/chat.py",
        "                transport.abort()\n",
        "                pass\n",
        _stalls,
    ),
    Breakage(
        "what stalled clients hold in memory is bounded",
        "gateway/http1.py",
        "_BUFFER = 64 * 1024",
        "_BUFFER = 64 * 1024 * 1024",
        _stalls,
    ),
    Breakage(
        "an answer that nobody asked for never becomes the next call's",
        "gateway/http1.py",
        "            self.abort()  # nobody asked",
        "            self.loop.call_later(0.001, self.data_received, data)  # nobody asked",
        ask_beside_what_nobody_asked,
    ),
    Breakage(
        "a foreign Host is refused",
        "server/door.py",
        "    _check_host(live, hosts)\n",
        "",
        _foreign_host,
    ),
    Breakage(
        "a caller's credential goes to no provider but its own",
        "gateway/headers.py",
        '        "authorization",\n        "x-api-key",\n',
        '        "x-api-key",\n',
        search,
    ),
    Breakage(
        "no key stands on a receipt",
        "gateway/caller.py",
        'self.fingerprint(key.encode(), "key")',
        "key",
        search,
    ),
)


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda one: one.promise.replace(" ", "-"))
async def test_a_broken_promise_is_noticed(tmp_path: Path, breakage: Breakage) -> None:
    package = tmp_path / "broken"
    shutil.copytree(
        REPOSITORY / "modelspend",
        package / "modelspend",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    file = package / "modelspend" / breakage.file
    text = file.read_text()
    assert text.count(breakage.old) == 1, f"{breakage.file} has changed: break it in another way"
    file.write_text(text.replace(breakage.old, breakage.new))
    folder = tmp_path / "run"
    with pytest.raises((AssertionError, TimeoutError, BaseExceptionGroup)) as noticed:
        await breakage.check(folder, package)
    assert "it did not start" not in repr(noticed.value), "it broke more than its promise"
