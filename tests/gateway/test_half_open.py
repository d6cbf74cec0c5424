"""Half open under a crowd: the provider itself counts that one call at a time comes through.

Whatever becomes of the probe, the next call that may pass does pass: no permit is lost, not even
when the client goes whose call it was.

The full size, 500 at once a hundred times over: `pytest -m full -s tests/gateway/test_half_open.py`
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp
import pytest

from modelspend.breaker import Closed
from modelspend.circuits import CircuitKey
from tests.fakes.gate import Gate, gate
from tests.fakes.sidecar import ALL_DIALECTS, PRICE, Sidecar, sidecar_for
from tests.gateway.asking import question
from tests.gateway.test_failover import tiers

AT_ONCE = {"consecutive": 1, "wait_s": 1e-6, "wait_max_s": 1e-6, "jitter": 0, "min_calls": 50}
"""One failure opens it, and its wait is over before anybody can ask."""

KEY = CircuitKey("sim", "m")

ENDS: dict[str, Callable[[Gate], None]] = {
    "recovers": lambda provider: provider.let_out(200),
    "fails": lambda provider: provider.let_out(500),
    "hangs up": Gate.hang_up,
    "blames the caller": lambda provider: provider.let_out(400),
    "asks for no wait": lambda provider: provider.let_out(429, {"Retry-After": "0"}),
    "its client leaves": lambda provider: None,
}
"""What becomes of a probe."""


class Rounds:
    """Crowds that meet an open circuit whose wait is over, one after the other."""

    def __init__(
        self, sidecar: Sidecar, session: aiohttp.ClientSession, provider: Gate, model: str
    ) -> None:
        self.answers: Counter[int] = Counter()
        self.probes = 0
        self._sidecar, self._session = sidecar, session
        self._provider = provider
        self._model = model
        self._n = 0

    async def one(self, callers: int, end: str) -> None:
        """So many call at once; all but the probe are answered before it is."""
        await self._break()
        provider, before = self._provider, self._provider.asked
        provider.shut()
        loop = asyncio.get_running_loop()
        crowd = [loop.create_task(self.ask()) for _ in range(callers)]
        for answered in islice(asyncio.as_completed(crowd), callers - 1):
            self.answers[await answered] += 1
        await provider.until(lambda: provider.inside > 0)  # it may still be on its way
        assert (provider.inside, provider.asked - before) == (1, 1)
        self.probes += 1
        (probe,) = (task for task in crowd if not task.done())
        ENDS[end](provider)
        if end == "its client leaves":
            probe.cancel()
            await provider.until(lambda: not provider.inside)
        await asyncio.gather(probe, return_exceptions=True)
        await self._passes()

    async def _break(self) -> None:
        self._provider.let_out(500)
        await self.ask()
        state = self._sidecar.gateway.failovers.circuits.state(KEY)
        assert not isinstance(state, Closed), "the circuit did not open"

    async def _passes(self) -> None:
        """The very next call reaches the provider again, and closes the circuit."""
        before = self._provider.asked
        self._provider.let_out(200)
        assert await self.ask() == 200
        assert self._provider.asked == before + 1, "a permit leaked: nobody is let through"
        circuits = self._sidecar.gateway.failovers.circuits
        assert isinstance(circuits.state(KEY), Closed)
        assert not any(view.probing for view in circuits.views(perf_counter()))

    async def ask(self) -> int:
        self._n += 1  # each a conversation of its own: none stays where it was led
        path, body = question("openai.chat", "m", stream=False, text=f"call {self._n}")
        body["model"] = self._model
        async with self._session.post(self._sidecar.url + path, json=body) as answer:
            await answer.read()
            return answer.status


async def crowds(folder: Path, *, rounds: int, callers: int, alone: bool) -> Rounds:
    """So many crowds before a provider that is alone, or has another one beside it."""
    async with gate() as provider, gate() as other:
        beside: dict[str, Any] = {
            "base_url": f"{other.url}/v1",
            "dialects": ALL_DIALECTS,
            "price": PRICE,
        }
        async with (
            sidecar_for(
                folder,
                provider.url,
                circuits=AT_ONCE,
                providers={"other": beside},
                profiles={"p": tiers("sim/m", "other/m")},
                server={"max_in_flight": 2 * callers},
            ) as sidecar,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        ):
            tried = Rounds(sidecar, session, provider, "sim/m" if alone else "auto:p")
            for n in range(rounds):
                await tried.one(callers, list(ENDS)[n % len(ENDS)])
            left = await sidecar.store.calls.open_count()
            assert (sidecar.gateway.in_flight, left) == (0, 0)
        assert provider.most == 1
        print(
            f"\n{rounds} crowds of {callers} before a provider {'alone' if alone else 'of two'}:"
            f" {tried.probes} probes, at most {provider.most} in flight, 0 permits leaked;"
            f" the others got {dict(tried.answers)}"
        )
        return tried


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "of-two"])
async def test_of_a_crowd_one_call_is_the_probe_whatever_becomes_of_it(
    tmp_path: Path, *, alone: bool
) -> None:
    tried = await crowds(tmp_path, rounds=len(ENDS), callers=40, alone=alone)
    assert dict(tried.answers) == {503 if alone else 200: len(ENDS) * 39}


async def test_where_all_are_open_a_crowd_sends_one_call_to_each_and_no_more(
    tmp_path: Path,
) -> None:
    """In panic, too, one call at a time: of the crowd one tries each of the two that are open."""
    rules = {"consecutive": 1, "wait_s": 60, "panic_s": 30}
    async with gate() as provider, gate() as other:
        beside = {"base_url": f"{other.url}/v1", "dialects": ALL_DIALECTS, "price": PRICE}
        async with (
            sidecar_for(
                tmp_path,
                provider.url,
                circuits=rules,
                retries={},
                providers={"other": beside},
                profiles={"p": tiers("sim/m", "other/m")},
            ) as sidecar,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        ):
            crowd = Rounds(sidecar, session, provider, "auto:p")
            provider.let_out(500)
            other.let_out(500)
            assert await crowd.ask() == 500
            assert (provider.asked, other.asked) == (1, 1)
            provider.shut()
            other.shut()
            loop = asyncio.get_running_loop()
            calls = [loop.create_task(crowd.ask()) for _ in range(60)]
            refused = [await each for each in islice(asyncio.as_completed(calls), 58)]
            await provider.until(lambda: provider.inside > 0)
            await other.until(lambda: other.inside > 0)
            assert (provider.asked, other.asked) == (2, 2)
            provider.let_out(200)
            other.let_out(200)
            answered = sorted(await asyncio.gather(*calls))
            strategies = Counter(
                one.decision.strategy for one in await sidecar.receipts() if one.decision
            )
    assert set(refused) == {503}
    assert answered[:2] == [200, 200]
    assert (provider.most, other.most) == (1, 1)
    assert strategies["panic"] == 2


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "of-two"])
async def test_of_500_at_once_one_is_the_probe_a_hundred_times_over(
    tmp_path: Path, *, alone: bool
) -> None:
    tried = await crowds(tmp_path, rounds=100, callers=500, alone=alone)
    assert dict(tried.answers) == {503 if alone else 200: 100 * 499}
