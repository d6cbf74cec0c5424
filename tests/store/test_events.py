"""The cursor that every sink keeps: nothing twice, nothing missed, whatever is left out."""

import asyncio
from decimal import Decimal

from modelspend.circuits import Order
from modelspend.events import Event, Wanted
from modelspend.store import Store
from tests.store.synthetic import Traffic

AT = 1_793_491_200_000


async def told(store: Store, *events: Event) -> None:
    """Written, and durable."""
    for event in events:
        store.events.tell(event)
    await store.circuits.obeyed([])


def event(kind: str, at: int = AT, **changes: object) -> Event:
    return Event(kind=kind, at_ms=at, **changes)  # type: ignore[arg-type]


async def test_a_page_goes_on_behind_what_was_left_out(store: Store) -> None:
    await told(store, *(event("budget.refused") for _ in range(250)), event("circuit.open"))
    wanted = Wanted(kinds=("circuit.*",))
    page = await store.events.page(0, 10, wanted)
    assert [one.kind for one in page.events] == ["circuit.open"]
    assert page.cursor == 251
    assert await store.events.page(251, 10, wanted) == ([], 251)
    await told(store, event("budget.refused"))
    assert await store.events.page(251, 10, wanted) == ([], 252)


async def test_pages_of_any_size_tell_each_event_once_and_in_order(
    store: Store, traffic: Traffic
) -> None:
    for n in range(40):
        await told(store, event(("circuit.open", "failover")[n % 2], at=AT + n))
        if n % 7 == 0:
            await store.calls.finish(traffic.receipt())
    whole = await store.events.after(0, 1000)
    assert len(whole) == 40
    for wanted in (Wanted(), Wanted(kinds=("failover",))):
        expected = [one.seq for one in whole if not wanted.kinds or one.kind == "failover"]
        for size in (1, 3, 20, 100):
            found, cursor = [], 0
            while True:
                page = await store.events.page(cursor, size, wanted)
                found += [one.seq for one in page.events]
                if page.cursor == cursor:
                    break
                cursor = page.cursor
            assert found == expected


async def test_each_filter_holds(store: Store) -> None:
    await told(
        store,
        event("circuit.open", data={"provider": "openai"}),
        event("circuit.recovered", at=AT + 5000, data={"provider": "groq"}),
        event("failover", tenant="acme", data={"from_provider": "openai", "to_provider": "groq"}),
        event("circuits", tenant="beta"),
    )

    async def found(**wanted: object) -> list[int]:
        return [one.seq for one in await store.events.after(0, where=Wanted(**wanted))]  # type: ignore[arg-type]

    assert await found(kinds=("circuit.*",)) == [1, 2]
    assert await found(kinds=("circuit.open", "failover")) == [1, 3]
    assert await found(kinds=("circuit",)) == []
    assert await found(kinds=("*",)) == [1, 2, 3, 4]
    assert await found(tenant="acme") == [3]
    assert await found(provider="openai") == [1, 3]
    assert await found(provider="groq") == [2, 3]
    assert await found(since_ms=AT + 1) == [2]
    assert await found(kinds=("circuit.*",), provider="groq", since_ms=AT) == [2]
    newest = await store.events.newest(2, Wanted(provider="groq"))
    assert [one.seq for one in newest] == [3, 2]
    assert await store.events.last() == 4


async def test_money_in_an_event_is_exact_when_it_is_read(store: Store) -> None:
    cost = Decimal("0.000000000001000000000003")
    await told(store, event("x", data={"cost_usd": cost, "n": 1}))
    (one,) = await store.events.after(0)
    assert one.data == {"cost_usd": cost, "n": 1}


async def test_whoever_waits_is_told_of_our_commits_and_of_other_processes(store: Store) -> None:
    seen = asyncio.Event()
    store.on_change(seen.set)
    await told(store, event("x"))
    async with asyncio.timeout(5):
        await seen.wait()
    seen.clear()
    beside = await Store.open_notes(store.path)
    order = Order(act="trip", provider="openai", model=None, at_ms=AT)
    await beside.circuits.order(order)
    await beside.close()
    async with asyncio.timeout(10):
        await seen.wait()
