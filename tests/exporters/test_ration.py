"""The ration of sinks: a small share of the loop while calls go on, all of it when none do."""

import asyncio
import time

import pytest

from modelspend import tasks
from modelspend.exporters.ration import MOST_SHARE, SHARE, Ration
from modelspend.store.right_of_way import RightOfWay


def work(seconds: float) -> float:
    """Keep the processor busy; how long it was."""
    began = time.thread_time()
    while (spent := time.thread_time() - began) < seconds:
        pass
    return spent


async def spent_in(
    ration: Ration, for_s: float, *, calls: bool, several: int = 5, busy_s: float = 0.0
) -> float:
    """The share of the time that so many greedy sinks got; `busy_s` is what calls need of each
    hundredth of a second."""
    spent = 0.0

    async def greedy() -> None:
        nonlocal spent
        while True:
            spent += work(0.0005)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        sinks = [group.create_task(ration.run(greedy)) for _ in range(several)]
        began = time.monotonic()
        while (passed := time.monotonic() - began) < for_s:
            if calls:
                ration.heard()
            work(busy_s)
            await asyncio.sleep(max(0.01 - busy_s, 0.001))
        for one in sinks:
            one.cancel()
    return spent / passed


async def test_while_calls_go_on_all_sinks_together_keep_within_their_share() -> None:
    assert 0 < await spent_in(Ration(), 1.0, calls=True) < SHARE * 1.5


async def test_what_a_thread_takes_for_a_sink_counts_as_well() -> None:
    ration, taken = Ration(), 0

    async def reading() -> None:
        nonlocal taken
        while True:
            await asyncio.sleep(0)
            taken += 1
            ration.beside(0.002)

    task = asyncio.create_task(ration.run(reading))  # noqa: TID251
    began = time.monotonic()
    while (passed := time.monotonic() - began) < 1.0:
        ration.heard()
        await asyncio.sleep(0.005)
    task.cancel()
    assert 0 < taken * 0.002 / passed < SHARE * 1.5


async def test_a_sink_that_is_far_behind_has_more_until_it_has_caught_up_or_takes_nothing() -> None:
    ration = Ration()
    ration.behind("slow", 3600.0)
    ration.behind("quick", 1.0)
    assert SHARE * 2 < await spent_in(ration, 1.0, calls=True) < MOST_SHARE * 1.5
    ration.behind("slow", 0.0)
    assert await spent_in(ration, 1.0, calls=True) < SHARE * 2


async def test_where_calls_need_the_whole_processor_a_sink_stays_behind() -> None:
    ration = Ration()
    ration.behind("slow", 3600.0)
    busy = await spent_in(ration, 2.0, calls=True, busy_s=0.02)
    free = await spent_in(ration, 1.0, calls=True)
    assert 0 < busy * 2 < free


async def test_what_is_counted_for_sinks_too_late_gives_them_no_more_than_the_most() -> None:
    ration = Ration()
    ration.heard()
    ration.behind("late", 1e6)
    ration.beside(10.0)  # taken before it was last looked how busy the process is
    await asyncio.sleep(0.3)
    ration.heard()

    turns = [ration.turn() for _ in range(101)]

    assert turns[-1] - turns[0] > 100 * 0.0001 / MOST_SHARE * 0.9


async def test_when_no_call_goes_on_nothing_is_held_back() -> None:
    assert await spent_in(Ration(), 0.5, calls=False) > SHARE * 2


@pytest.mark.parametrize(("calls", "waits"), [(0, False), (1, True), (3, True), (50, False)])
async def test_a_step_waits_for_a_gap_between_calls_where_there_soon_is_one(
    calls: int, waits: bool
) -> None:
    under_way, begun = [calls], asyncio.Event()
    way = RightOfWay()
    way.calls = lambda: under_way[0]

    async def step() -> None:
        begun.set()

    running = tasks.spawn(Ration(way=way).run(step), "step")
    await asyncio.sleep(0)
    assert begun.is_set() is not waits
    under_way[0] = 0
    await running


async def test_a_call_that_never_ends_holds_up_no_step_for_long() -> None:
    way, took = RightOfWay(), list[float]()
    way.calls = lambda: 1

    async def steps() -> None:
        for _ in range(10):
            began = time.monotonic()
            await asyncio.sleep(0)
            took.append(time.monotonic() - began)

    await Ration(way=way).run(steps)
    assert 0.005 < min(took) <= max(took) < 1


async def test_a_step_that_takes_long_is_made_up_for_but_not_for_ever() -> None:
    ration = Ration()
    ration.heard()
    ration.spent(30.0)
    assert SHARE * 10 < ration.turn() <= 1.0


async def test_what_is_waited_for_comes_back_or_is_raised() -> None:
    async def adds() -> int:
        loop = asyncio.get_running_loop()
        good, bad = loop.create_future(), loop.create_future()
        loop.call_soon(good.set_result, 40)
        loop.call_soon(bad.set_exception, LookupError("two"))
        found = int(await good)
        with pytest.raises(LookupError):
            await bad
        async with asyncio.timeout(5):
            await asyncio.sleep(0.001)
        return found + 2

    ration = Ration()
    ration.heard()
    assert await ration.run(adds) == 42


async def test_a_timeout_and_a_cancellation_reach_what_runs() -> None:
    ration, seen = Ration(), []

    async def waits() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        seen.append("timeout")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    ration.heard()
    task = asyncio.get_running_loop().create_task(ration.run(waits))
    while not seen:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["timeout", "cancelled"]


async def test_what_is_cancelled_before_its_turn_was_never_begun() -> None:
    begun = False

    async def never() -> None:
        nonlocal begun
        begun = True

    ration = Ration()
    ration.heard()
    ration.spent(10.0)
    task = asyncio.get_running_loop().create_task(ration.run(never))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not begun
