"""`GET /v1/events`: nothing missed, nothing twice, and nobody held up by whoever listens."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from modelspend.events import ALL, Event, Wanted
from modelspend.money import usd
from modelspend.server import events as feeds
from modelspend.simulator import Simulator
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.server.test_control import ask, call

AT = 1_793_491_200_000


async def tell(sidecar: Sidecar, kind: str, **changes: Any) -> None:
    """An event, durable when this returns."""
    sidecar.store.events.tell(Event(kind=kind, at_ms=AT, **changes))
    await sidecar.store.circuits.obeyed([])


@dataclass(slots=True)
class Listening:
    """A feed that is read: blocks of lines as they come."""

    answer: aiohttp.ClientResponse

    async def block(self) -> dict[str, str]:
        """The next block as its fields; a comment stands under "". Raises EOFError."""
        found: dict[str, str] = {}
        async with asyncio.timeout(10):
            while line := await self.answer.content.readline():
                text = line.decode().rstrip("\n")
                if not text:
                    return found
                name, _, value = text.partition(":")
                found[name] = value.strip()
        raise EOFError

    async def event(self) -> dict[str, Any]:
        """The next event; what its lines say of it holds."""
        block = await self.block()
        while "data" not in block:
            block = await self.block()
        told: dict[str, Any] = json.loads(block["data"])
        assert (block["id"], block["event"]) == (str(told["seq"]), told["type"])
        return told


@asynccontextmanager
async def listening(
    sidecar: Sidecar, query: str = "", headers: Mapping[str, str] | None = None
) -> AsyncIterator[Listening]:
    key = {"authorization": f"Bearer {sidecar.token}"}
    url = f"{sidecar.url}/v1/events{query}"
    async with sidecar.client.get(url, headers={**key, **(headers or {})}) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["content-type"].startswith("text/event-stream")
        heard = Listening(answer)
        assert await heard.block() == {"retry": "2000"}
        yield heard


async def test_an_event_is_told_as_it_happens(sidecar: Sidecar) -> None:
    await tell(sidecar, "circuit.open")
    async with listening(sidecar) as heard:  # from now on: the first one is not told
        await tell(sidecar, "failover", tenant="acme", data={"from_provider": "openai"})
        one = await heard.event()
        assert one == {
            "seq": 2,
            "created_at": "2026-11-01T00:00:00.000Z",
            "type": "failover",
            "level": "info",
            "tenant": "acme",
            "receipt_id": None,
            "data": {"from_provider": "openai"},
        }


async def test_a_client_that_comes_back_goes_on_where_it_was(sidecar: Sidecar) -> None:
    for n in range(250):
        sidecar.store.events.tell(Event(kind="circuit.open", at_ms=AT, data={"n": n}))
    await tell(sidecar, "last")
    seen: list[int] = []
    cursor = "0"
    while len(seen) < 251:  # leaves after each hundred
        again = {"Last-Event-ID": cursor} if seen else {}
        async with listening(sidecar, "?after=0", again) as heard:
            seen += [(await heard.event())["seq"] for _ in range(min(100, 251 - len(seen)))]
            cursor = str(seen[-1])
    assert seen == list(range(1, 252))


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("?after=0", [1, 2, 3, 4]),
        ("?after=2", [3, 4]),
        ("?since=2026-10-31", [1, 2, 3, 4]),
        ("?since=2026-11-01T00:00:00.001Z", [4]),
        ("?after=0&type=circuit.*", [1, 2]),
        ("?after=0&type=circuit.open,failover", [1, 3]),
        ("?after=0&tenant=acme", [3]),
        ("?after=0&provider=groq", [2, 3]),
        ("?after=999", []),
        ("", []),
    ],
)
async def test_each_filter_tells_what_it_says(
    sidecar: Sidecar, query: str, told: list[int]
) -> None:
    store = sidecar.store.events
    store.tell(Event(kind="circuit.open", at_ms=AT, data={"provider": "openai"}))
    store.tell(Event(kind="circuit.recovered", at_ms=AT, data={"provider": "groq"}))
    hop = {"from_provider": "openai", "to_provider": "groq"}
    store.tell(Event(kind="failover", at_ms=AT, tenant="acme", data=hop))
    store.tell(Event(kind="ledger.gap", at_ms=AT + 1))
    await sidecar.store.circuits.obeyed([])
    async with listening(sidecar, query) as heard:
        assert [(await heard.event())["seq"] for _ in told] == told
        # and nothing but the next that match
        data = {"provider": "groq"}
        await tell(sidecar, "circuit.open", tenant="acme", data=data)
        if "since" not in query:
            assert (await heard.event())["seq"] == 5


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("?after=0&type=receipt.created", [1, 3]),
        ("?after=0&type=routing.decision", [1, 3]),
        ("?after=1&type=receipt.*,circuit.*", [2, 3]),
        ("?after=0&type=*", [1, 2, 3]),
        ("?after=0", [2]),
        ("?after=0&type=*&provider=groq", [2]),
        ("?after=0&type=*&provider=sim", [1, 3]),
        ("?after=0&type=receipt.created&tenant=nobody", []),
        ("?type=receipt.created", []),
    ],
)
async def test_receipts_are_told_to_who_asks_for_their_type(
    sidecar: Sidecar, query: str, told: list[int]
) -> None:
    await call(sidecar)
    await tell(sidecar, "circuit.open", data={"provider": "groq"})
    await call(sidecar)
    async with listening(sidecar, query) as heard:
        assert [(await heard.event())["seq"] for _ in told] == told
        receipt_id = await call(sidecar)
        if "nobody" in query or "groq" in query or "type" not in query:
            await tell(sidecar, "circuit.open", tenant="nobody", data={"provider": "groq"})
            if "receipt" not in query:
                assert (await heard.event())["seq"] == 5
            return
        one = await heard.event()
    receipt = await sidecar.receipt_of({"x-modelspend-receipt": receipt_id})
    assert (one["seq"], one["type"], one["receipt_id"]) == (4, "receipt.created", receipt_id)
    assert one["data"] == {
        "status": "success",
        "provider": "sim",
        "model": "sim-ok",
        "category": receipt.classification.category if receipt.classification else None,
        "cost_usd": float(usd(receipt.execution.actual_cost_pico or 0)),
        "input_tokens": receipt.usage.quantities["input_tokens"] if receipt.usage else None,
        "output_tokens": receipt.usage.quantities["output_tokens"] if receipt.usage else None,
        "latency_ms": round(receipt.execution.actual_latency_ms),
    }


async def test_receipts_are_looked_through_a_part_at_a_time_and_none_is_missed(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelspend.store.events._SCAN", 3)
    for n in range(10):
        await call(sidecar, tenant="rare" if n in (1, 8) else "often")
    page = sidecar.store.events.page
    rare = await page(0, 100, Wanted(kinds=("receipt.created",), tenant="rare"))
    assert ([one.seq for one in rare.events], rare.cursor) == ([2, 9], 10)
    every, cursor = [], 0
    while some := await page(cursor, 4, Wanted(kinds=("*",))):
        every += [one.seq for one in some.events]
        cursor = some.cursor
        if len(some.events) < 4:
            break
    assert (every, cursor) == (list(range(1, 11)), 10)
    nobody = await page(0, 100, Wanted(kinds=("*",), tenant="nobody"))
    assert (nobody.events, nobody.cursor) == ([], 10)


async def test_who_hears_of_events_alone_is_not_woken_for_receipts(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = 0
    page = sidecar.store.events.page

    async def counted(*asked: Any) -> Any:
        nonlocal pages
        pages += 1
        return await page(*asked)

    monkeypatch.setattr(sidecar.store.events, "page", counted)
    async with listening(sidecar):
        for _ in range(5):
            await call(sidecar)
            await asyncio.sleep(feeds._LOOK_S)
        assert pages <= 2


@pytest.mark.parametrize(
    ("query", "says"),
    [("?typ=x", "Unknown parameter"), ("?type=a?", "write circuit.open"), ("?after=x", "whole")],
)
async def test_what_is_asked_wrong_is_refused_before_the_feed_begins(
    sidecar: Sidecar, query: str, says: str
) -> None:
    status, kind, told = await ask(sidecar, f"/v1/events{query}")
    assert (status, kind) == (400, "application/problem+json")
    assert says in f"{told['detail']} {told['hint']}"


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_the_feed_needs_the_local_token(sidecar: Sidecar, token: str | None) -> None:
    status, kind, _ = await ask(sidecar, "/v1/events", token=token)
    assert (status, kind) == (401, "application/problem+json")


async def test_a_quiet_feed_shows_that_it_is_there_and_where_it_is(sidecar: Sidecar) -> None:
    sidecar.app[feeds.FEED].beat_s = 0.05
    async with listening(sidecar, "?type=failover") as heard:
        assert await heard.block() == {"": "still here", "id": "0"}
        await tell(sidecar, "circuit.open")  # left out, and yet the place moves on
        block = await heard.block()
        while block["id"] == "0":
            block = await heard.block()
        assert block == {"": "still here", "id": "1"}


async def test_one_look_at_a_time_serves_all_whatever_is_committed(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls commit without events; clients that wait cost them nothing."""
    looks = 0
    last = sidecar.store.events.last

    async def counted(where: Wanted = ALL) -> int:
        nonlocal looks
        looks += 1
        return int(await last(where))

    monkeypatch.setattr(sidecar.store.events, "last", counted)
    async with listening(sidecar), listening(sidecar), listening(sidecar):
        looks = 0
        began = time.monotonic()
        for _ in range(60):
            await call(sidecar)
        took = time.monotonic() - began
        assert looks <= took / feeds._LOOK_S + 2


async def test_beyond_the_bound_a_client_is_refused_with_a_wait(
    sidecar: Sidecar,
) -> None:
    sidecar.app[feeds.FEED].most = 2
    async with listening(sidecar):
        async with listening(sidecar):
            status, _, told = await ask(sidecar, "/v1/events")
            assert (status, told["title"]) == (429, "overloaded")
        for _ in range(100):
            status, _, _ = await _peek(sidecar)
            if status == 200:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the place of a client that left stays taken")


async def _peek(sidecar: Sidecar) -> tuple[int, str, Any]:
    headers = {"authorization": f"Bearer {sidecar.token}"}
    async with sidecar.client.get(f"{sidecar.url}/v1/events", headers=headers) as answer:
        return answer.status, "", None


async def test_a_client_that_takes_nothing_is_let_go_and_slows_no_call(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(tmp_path, simulator.url, server={"client_stall_s": 0.3}) as sidecar:
        data = {"text": "x" * 4000}
        for _ in range(5000):
            sidecar.store.events.tell(Event(kind="big", at_ms=AT, data=data))
        await tell(sidecar, "last")
        host, port = sidecar.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.transport.pause_reading()
        said = f"GET /v1/events?after=0 HTTP/1.1\r\nHost: {host}:{port}\r\n"
        writer.write(f"{said}Authorization: Bearer {sidecar.token}\r\n\r\n".encode())
        feed = sidecar.app[feeds.FEED]
        async with asyncio.timeout(20):
            while not feed._writing:
                await asyncio.sleep(0.01)
            await call(sidecar)
            while feed._clients:
                await asyncio.sleep(0.01)
        writer.transport.abort()


async def test_a_feed_ends_when_the_sidecar_stops_and_has_told_all(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with aiohttp.ClientSession() as outer:
        async with sidecar_for(tmp_path, simulator.url, server={"drain_s": 30}) as sidecar:
            headers = {"authorization": f"Bearer {sidecar.token}"}
            answer = await outer.get(f"{sidecar.url}/v1/events?after=0", headers=headers)
            heard = Listening(answer)
            await heard.block()
            await tell(sidecar, "circuit.open")
            assert (await heard.event())["type"] == "circuit.open"
            began = time.monotonic()
        assert time.monotonic() - began < 3
        with pytest.raises(EOFError):  # a proper end: a client may come back
            await heard.block()
        answer.close()
