"""A cap is a cap: many calls at once get exactly what fits, and not one pico-dollar more.

The provider keeps every answer back until each call of a round is either with it or refused, so
nothing that one call gives back can let another in. A trigger in the ledger looks at every change
of every sum, inside the transaction that makes it. All of it, 1,000 calls at once, 20 rounds each:
`pytest -m full tests/gateway/test_caps.py -s`.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from modelspend import tasks
from modelspend.receipt import Receipt, Status
from tests.fakes.provider import CHAT
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.store.conftest import outside

IN, OUT = 1_000_000, 2_000_000
"""Pico-dollars a token at the price below."""
PRICE = {"input": 1, "output": 2}
CALLS = "/v1/chat/completions"
ASKED: dict[str, Any] = {"max_tokens": 100, "messages": [{"role": "user", "content": "hi there"}]}

WATCH = """
CREATE TABLE watched (cap INTEGER);
INSERT INTO watched VALUES (0);
CREATE TABLE passed (spent INTEGER, held INTEGER, cap INTEGER);
CREATE TRIGGER watch_new AFTER INSERT ON budget_sums
  WHEN new.spent_pico + new.held_pico > (SELECT cap FROM watched) OR new.held_pico < 0
  BEGIN INSERT INTO passed SELECT new.spent_pico, new.held_pico, cap FROM watched; END;
CREATE TRIGGER watch_old AFTER UPDATE ON budget_sums
  WHEN new.spent_pico + new.held_pico > (SELECT cap FROM watched) OR new.held_pico < 0
  BEGIN INSERT INTO passed SELECT new.spent_pico, new.held_pico, cap FROM watched; END;
"""


@dataclass(slots=True)
class Gated:
    """A provider that answers nobody before `gate` is set. Below `/bad` it is overloaded, below
    `/lost` it takes a call and hangs up; `charged` is what it truly bills, in pico-dollars."""

    url: str = ""
    waiting: int = 0
    charged: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    lost: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body = json.loads(await reader.readexactly(size))
                if b" /bad/" in head:
                    writer.write(_whole(b'{"error": {"message": "busy"}}', b"503 Busy"))
                    continue
                if b" /lost/" in head:
                    self.lost += 1
                    return
                await self._answer(body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        self.waiting += 1
        stream = body.get("stream", False)
        if stream:
            writer.write(_HEAD + _event({"delta": {"role": "assistant"}}))
        await self.gate.wait()
        self.charged += 5 * IN + 7 * OUT
        if not stream:
            writer.write(_whole(json.dumps(CHAT).encode()))
            return
        last = {**_CHUNK, "choices": [], "usage": CHAT["usage"]}
        said = _event({"delta": {"content": "hi"}}) + _event({"delta": {}, "finish_reason": "stop"})
        said += b"data: " + json.dumps(last).encode() + b"\n\ndata: [DONE]\n\n"
        writer.write(said)
        await writer.drain()
        raise ConnectionError("the stream is over, and so is its connection")


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
_SESSIONS = count()
_CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m"}


def _session() -> dict[str, str]:
    """A conversation of its own: one that has been led elsewhere would stay there."""
    return {"x-modelspend-session": f"s{next(_SESSIONS)}"}


def _event(choice: dict[str, Any]) -> bytes:
    said = {**_CHUNK, "choices": [{"index": 0, "finish_reason": None, **choice}]}
    return b"data: " + json.dumps(said).encode() + b"\n\n"


def _whole(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


@asynccontextmanager
async def gated() -> AsyncIterator[Gated]:
    one = Gated()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0, backlog=2048)
    one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield one
    finally:
        server.close()


@asynccontextmanager
async def capped(folder: Path, provider: Gated, cap_usd: str = "0") -> AsyncIterator[Sidecar]:
    """A sidecar with a cap on all, and a looser one that rolls; `auto:bad` fails over once."""
    places = {
        name: {
            "base_url": f"{provider.url}{path}/v1",
            "dialects": ["openai.chat"],
            "models": ["m"],
            "price": PRICE,
        }
        for name, path in (("good", ""), ("bad", "/bad"), ("lost", "/lost"))
    }
    profiles = {
        name: dict.fromkeys(("simple", "standard", "deep_reasoning"), (f"{name}/m", "good/m"))
        for name in ("bad", "lost")
    }
    budgets = {
        "all": {"scope": "process", "window": "total", "cap_usd": Decimal(cap_usd)},
        "each": {"scope": "tenant", "window": "24h", "cap_usd": Decimal(4_000_000)},
    }
    async with sidecar_for(
        folder,
        provider.url,
        providers=places,
        profiles=profiles,
        budgets=budgets,
        server={"max_in_flight": 4_000},
        retries={"backoff_s": 0.001},
    ) as sidecar:
        yield sidecar


async def stands(sidecar: Sidecar) -> tuple[int, int]:
    (all_,) = (one for one in sidecar.gateway.purse.rules.all if one.scope == "process")
    (usage,) = await sidecar.store.budgets.usage([all_], sidecar.gateway.now_ms())
    return usage.spent_pico, usage.held_pico


async def set_cap(sidecar: Sidecar, pico: int) -> None:
    (all_,) = (one for one in sidecar.gateway.purse.rules.all if one.scope == "process")
    now = sidecar.gateway.now_ms()
    await sidecar.store.budgets.set_override(replace(all_, cap_pico=pico), now)
    await sidecar.gateway.purse.refresh(sidecar.app_settings, now)


KINDS = {"plain": ("good/m", False), "stream": ("good/m", True), "failover": ("auto:bad", False)}


async def rounds(folder: Path, kind: str, *, calls: int, times: int, seed: int) -> str:
    """So many rounds of so many calls at once; each may admit a number that chance has chosen."""
    chance, model, stream = Random(seed), *KINDS[kind]
    body = json.dumps({"model": model, "stream": stream, **ASKED}).encode()
    took = 0
    async with gated() as provider, capped(folder, provider) as sidecar:
        with outside(folder / "ledger.db") as conn:
            conn.executescript(WATCH)
        await _watched(folder, sidecar, 10**12)
        hold = await _hold_of(sidecar, provider, body)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            for _ in range(times):
                provider.gate.clear()
                provider.waiting = 0
                spent, held = await stands(sidecar)
                assert held == 0
                fits = chance.randint(0, calls)
                await _watched(folder, sidecar, spent + fits * hold + chance.randrange(hold))
                statuses = await _at_once(sidecar, session, provider, body, calls)
                assert statuses == {200: fits, 402: calls - fits}
                took += fits
        spent, held = await stands(sidecar)
        with outside(folder / "ledger.db") as conn:
            over = conn.execute("SELECT spent, held, cap FROM passed").fetchall()
            (charged,) = conn.execute("SELECT sum(charged_pico) FROM receipts").fetchone()
            (attempts,) = conn.execute("SELECT count(*) FROM attempts").fetchone()
    assert over == []
    assert held == 0
    assert spent == charged == provider.charged
    assert attempts == (took + 1) * (2 if kind == "failover" else 1)
    return f"{kind}: {times} rounds of {calls} calls, {took} admitted, each round exactly; 0 over"


async def _hold_of(sidecar: Sidecar, provider: Gated, body: bytes) -> int:
    """What one such call holds, as the ledger says while it waits."""
    one = tasks.spawn(sidecar.post(CALLS, body, headers=_session()), "one call")
    while not provider.waiting:
        await asyncio.sleep(0.001)
    (held,) = {each.held_pico for each in await sidecar.store.budgets.holds()}
    provider.gate.set()
    assert (await one)[0] == 200
    return held


async def _watched(folder: Path, sidecar: Sidecar, cap: int) -> None:
    with outside(folder / "ledger.db") as conn:
        conn.execute("UPDATE watched SET cap = ?", (cap,))
        conn.commit()
    await set_cap(sidecar, cap)


async def _at_once(
    sidecar: Sidecar, session: aiohttp.ClientSession, provider: Gated, body: bytes, calls: int
) -> dict[int, int]:
    statuses: dict[int, int] = {200: 0, 402: 0}

    async def one() -> None:
        async with session.post(sidecar.url + CALLS, data=body, headers=_session()) as answer:
            await answer.read()
            statuses[answer.status] = statuses.get(answer.status, 0) + 1

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(calls):
            group.create_task(one())
        while provider.waiting + sum(statuses.values()) < calls:
            await asyncio.sleep(0.002)
        provider.gate.set()
    return statuses


@pytest.mark.parametrize("kind", KINDS)
async def test_a_hundred_calls_at_once_are_admitted_exactly_as_often_as_they_fit(
    tmp_path: Path, kind: str
) -> None:
    print("\n" + await rounds(tmp_path, kind, calls=100, times=2, seed=7))


@pytest.mark.full
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_thousand_calls_at_once_pass_no_cap_twenty_times_over(
    tmp_path: Path, kind: str
) -> None:
    print("\n" + await rounds(tmp_path, kind, calls=1_000, times=20, seed=1))


async def test_an_attempt_that_may_be_billed_keeps_its_hold_beside_the_next(
    tmp_path: Path,
) -> None:
    """A provider took the call and hung up: both may be billed, so both are held and both count."""
    body = json.dumps({"model": "auto:lost", **ASKED}).encode()
    good = json.dumps({"model": "good/m", **ASKED}).encode()
    async with gated() as provider, capped(tmp_path, provider, "1") as sidecar:
        hold = await _hold_of(sidecar, provider, good)
        provider.gate.clear()
        provider.waiting = 0
        before, _ = await stands(sidecar)
        one = tasks.spawn(sidecar.post(CALLS, body, headers=_session()), "one call")
        while not provider.waiting:
            await asyncio.sleep(0.001)
        assert await stands(sidecar) == (before, 2 * hold)
        provider.gate.set()
        status, headers, _ = await one
        receipt: Receipt = await sidecar.receipt_of(headers)
        assert status == 200
        assert [each.charged_pico for each in receipt.attempts] == [hold, 5 * IN + 7 * OUT]
        assert await stands(sidecar) == (before + hold + 5 * IN + 7 * OUT, 0)

        # and where there is no room for both, the second is not asked
        spent, _ = await stands(sidecar)
        await set_cap(sidecar, spent + 2 * hold - 1)
        provider.waiting = 0
        status, headers, _ = await sidecar.post(CALLS, body, headers=_session())
        receipt = await sidecar.receipt_of(headers)
        assert (status, provider.waiting, len(receipt.attempts)) == (502, 0, 1)
        assert receipt.execution.status is Status.ERROR
        assert await stands(sidecar) == (spent + hold, 0)
