"""`kill -9` at any instant loses nothing that a client saw end, and nothing that a provider took.

Three witnesses are compared: what each client read to its end, the receipts, and the simulated
provider's own log of what it accepted. A call carries its number in two places: in `traceparent`,
which stands on the receipt, and in `x-client-request-id`, which the provider logs.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from calls import CHAT, GEMINI, MESSAGES, RESPONSES, Door
from sidecar import REPOSITORY, Sidecar, provider

from modelspend.simulator import Simulator

CLIENTS = 8
STREAMED_SHARE = 0.3
_MODELS = ("sim-ok", "sim-delay-3", "sim-chunks-6", "sim-size-4k", "sim-delay-12")
_STREAM_MODELS = ("sim-chunks-8", "sim-chunks-12+drip-1", "sim-size-8k")


@dataclass(slots=True)
class Witness:
    """What the clients know: which calls were sent, and which they saw end well."""

    sent: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    streams: int = 0


@dataclass(slots=True, kw_only=True)
class Tally:
    """The comparison of the three witnesses."""

    sent: int
    ended: int
    streams: int
    receipts: int
    interrupted: int
    attempts: int
    lost: list[int]
    not_success: list[int]
    without_receipt: list[int]
    twice: list[str]
    never_sent: list[str]
    open_intents: int

    def __str__(self) -> str:
        return (
            f"{self.sent} calls sent, {self.ended} seen to their end ({self.streams} streams),"
            f" {self.attempts} upstream attempts, {self.receipts} receipts"
            f" ({self.interrupted} interrupted); {len(self.lost)} lost after their end,"
            f" {len(self.without_receipt)} attempts without a receipt,"
            f" {len(self.twice)} twice, {self.open_intents} intents open"
        )

    @property
    def holds(self) -> bool:
        wrong = (self.lost, self.not_success, self.without_receipt, self.twice, self.never_sent)
        return not any(wrong) and not self.open_intents


def _trace(number: int) -> str:
    return f"{number + 1:032x}"


class Crowd:
    """Clients that call without a pause, and go on when the sidecar is back."""

    def __init__(self, sidecar: Sidecar, chance: random.Random) -> None:
        self.seen = Witness()
        self._sidecar = sidecar
        self._chance = chance
        self._number = 0
        self._enough = asyncio.Event()
        self._target = 0

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """Calls are made while the block runs; those under way at its end are waited for."""
        stop = asyncio.Event()
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._client(session, stop))
            try:
                yield
            finally:
                stop.set()

    async def more_ended(self, count: int) -> None:
        """Wait until that many more calls were seen to their end."""
        self._enough.clear()
        self._target = len(self.seen.ended) + count
        await asyncio.wait_for(self._enough.wait(), 60)

    async def _client(self, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
        while not stop.is_set():
            number, self._number = self._number, self._number + 1
            stream = self._chance.random() < STREAMED_SHARE
            door = self._chance.choice((CHAT, CHAT, MESSAGES, RESPONSES, GEMINI))
            model = self._chance.choice(_STREAM_MODELS if stream else _MODELS)
            self.seen.sent.add(number)
            try:
                await self._call(session, number, door, model, stream)
            except (aiohttp.ClientError, ConnectionError):
                return  # the sidecar was killed; the next round brings new clients

    async def _call(
        self, session: aiohttp.ClientSession, number: int, door: Door, model: str, stream: bool
    ) -> None:
        path, body = door.request(model, stream=stream, prompt=f"call {number}")
        headers = {
            "Content-Type": "application/json",
            "traceparent": f"00-{_trace(number)}-00000000000000ab-01",
            "x-client-request-id": str(number),
        }
        url = self._sidecar.url + path
        async with session.post(url, data=body, headers=headers) as answer:
            said = await answer.read()
        assert answer.status == 200, (answer.status, said[:500])
        assert not stream or door.end in said
        self.seen.ended.add(number)
        self.seen.streams += stream
        if len(self.seen.ended) >= self._target:
            self._enough.set()


def reconcile(sidecar: Sidecar, sim: Simulator, seen: Witness) -> Tally:
    """Compare what the clients saw, what the ledger holds and what the provider took."""
    rows = sidecar.ask("SELECT trace_id, status FROM receipts")
    status = dict(rows)
    count = Counter(trace for trace, _ in rows)
    taken = {int(line["attempt"]) for line in sim.log if line["event"] == "accepted"}
    known = {_trace(number) for number in seen.sent}
    return Tally(
        sent=len(seen.sent),
        ended=len(seen.ended),
        streams=seen.streams,
        receipts=len(rows),
        interrupted=sum(state == "interrupted" for _, state in rows),
        attempts=len(taken),
        lost=[n for n in sorted(seen.ended) if _trace(n) not in status],
        not_success=[
            n for n in sorted(seen.ended) if status.get(_trace(n), "success") != "success"
        ],
        without_receipt=[n for n in sorted(taken) if _trace(n) not in status],
        twice=[trace for trace, times in count.items() if times > 1],
        never_sent=[trace for trace in count if trace not in known],
        open_intents=sidecar.ask("SELECT count(*) FROM intents")[0][0],
    )


async def kill_rounds(
    folder: Path, sim: Simulator, *, rounds: int, calls: int, seed: int, package: Path = REPOSITORY
) -> Tally:
    """So many rounds of calls, each ended by a SIGKILL at a random instant, then the comparison."""
    chance = random.Random(seed)
    config = provider("sim", sim.url, models=[*_MODELS, *_STREAM_MODELS])
    sidecar = Sidecar(folder, config, package=package)
    crowd = Crowd(sidecar, chance)
    for number in range(rounds):
        if number % 4 == 3:
            await _killed_while_starting(sidecar, chance)
        await sidecar.start()
        assert sidecar.ask("PRAGMA integrity_check") == [("ok",)]
        async with crowd.calling():
            await crowd.more_ended(chance.randint(calls // 2, calls + calls // 2))
            await asyncio.sleep(
                chance.uniform(0, 0.004)
            )  # not at the end of a call: at any instant
            await sidecar.kill()
    await sidecar.start()
    assert sidecar.ask("PRAGMA integrity_check") == [("ok",)]
    assert await sidecar.stop() == 0
    await sim.quiet()
    return reconcile(sidecar, sim, crowd.seen)


async def _killed_while_starting(sidecar: Sidecar, chance: random.Random) -> None:
    """A kill at any moment of a start, the recovery of open calls among them."""
    process = await sidecar.launch()
    try:
        await asyncio.wait_for(process.wait(), chance.uniform(0.05, 0.7))
    except TimeoutError:
        await sidecar.kill()


async def test_a_kill_at_any_instant_loses_no_receipt_and_leaves_no_attempt_without_one(
    tmp_path: Path,
) -> None:
    async with Simulator(seed=9, keep=100_000) as sim:
        tally = await kill_rounds(tmp_path, sim, rounds=6, calls=40, seed=9)
    print(f"\nkill -9, 6 rounds: {tally}")
    assert tally.holds, tally
    assert tally.ended >= 120
    assert tally.streams


@pytest.mark.full
@pytest.mark.timeout(1800)
async def test_two_hundred_kills_and_ten_thousand_finished_calls_lose_nothing(
    tmp_path: Path,
) -> None:
    async with Simulator(seed=1, keep=1_000_000) as sim:
        tally = await kill_rounds(tmp_path, sim, rounds=200, calls=60, seed=1)
    print(f"\nkill -9, 200 rounds: {tally}")
    assert tally.holds, tally
    assert tally.ended >= 10_000
    assert tally.streams >= 0.25 * tally.ended


async def test_open_calls_become_one_interrupted_receipt_each_however_often_recovery_is_killed(
    tmp_path: Path,
) -> None:
    """Sixty calls wait for a silent provider when the sidecar dies; then its starts die too."""
    calls, chance = 60, random.Random(4)
    async with Simulator(keep=10_000) as sim:
        sidecar = Sidecar(tmp_path, provider("sim", sim.url))
        await sidecar.start()
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            for _ in range(calls):
                group.create_task(_wait_in_vain(session, sidecar))
            await sidecar.until("SELECT count(*) FROM intents", calls)
            await sidecar.kill()
        for _ in range(4):
            await _killed_while_starting(sidecar, chance)
        await sidecar.start()
        receipts = sidecar.ask("SELECT receipt_id, status FROM receipts")
        left = sidecar.ask("SELECT count(*) FROM intents")
        await sidecar.stop()
    assert len(receipts) == len(set(receipts)) == calls
    assert {status for _, status in receipts} == {"interrupted"}
    assert left == [(0,)]


async def _wait_in_vain(session: aiohttp.ClientSession, sidecar: Sidecar) -> None:
    path, body = CHAT.request("sim/sim-stall-headers")
    with pytest.raises(aiohttp.ClientError):
        await session.post(sidecar.url + path, data=body)
