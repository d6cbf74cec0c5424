"""The pump: each emission is sent, dropped or queued, whatever the far end does."""

import ast
import asyncio
import sqlite3
import tomllib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelspend import tasks
from modelspend.errors import LedgerUnavailable
from modelspend.events import Event
from modelspend.exporters import EXPORTERS, Pace, Pump, siem
from modelspend.exporters.http import Door, NotNow
from modelspend.exporters.pump import Taken
from modelspend.exporters.ration import SHARE, Ration
from modelspend.exporters.webhooks import WebhookSink, endpoint
from modelspend.settings import Settings, Webhook
from modelspend.sinks import Standing, Wants
from modelspend.store import Store
from modelspend.store.receipts import Stored, load
from modelspend.store.sinks import Also, Emission
from tests.exporters.emitting import emit, emitted, now_ms, until
from tests.fakes.sink import far_end, status
from tests.store.synthetic import Traffic

QUICK = Pace(first_s=0.01, most_s=0.05, calm_s=0.0)
RATIONED = Pace(first_s=0.01, most_s=0.05)  # as while calls go on


class Counting:
    """A sink that posts its numbers, or does what it is told."""

    def __init__(
        self,
        url: str = "",
        act: Callable[[Sequence[Emission]], Taken] | None = None,
        wants: Wants | None = None,
    ) -> None:
        self.name, self.most, self.linger_s = "counting", 7, 0.0
        self.wants = wants or Wants()
        self.seen: list[int] = []
        self._url, self._act = url, act
        self._door = Door(allow_private=True, timeout_s=0.3)

    async def send(self, batch: Sequence[Emission]) -> Taken:
        numbers = [one.seq for one in batch]
        if self._act:
            taken = self._act(batch)
            self.seen += numbers
            return taken
        answer = await self._door.post(self._url, str(numbers).encode(), {})
        if not answer.ok:
            raise NotNow(f"HTTP {answer.status}", after_s=answer.after_s)
        self.seen += numbers
        return Taken(sent=len(batch))

    async def close(self) -> None:
        await self._door.close()


def pump_of(store: Store, pace: Pace = QUICK) -> Pump:
    return Pump(store, now_ms, lambda: 0.5, pace)


async def standing(pump: Pump) -> Standing:
    (only,) = await pump.standings()
    return only


async def test_everything_is_sent_once_in_the_order_of_the_ledger(
    store: Store, traffic: Traffic
) -> None:
    pump, sink = pump_of(store, RATIONED), Counting(act=lambda batch: Taken(sent=len(batch)))
    await pump.start([sink])
    await emit(store, traffic, 20, 30)

    async def all_sent() -> bool:
        return (await standing(pump)).sent == 50

    await until(all_sent)
    assert sink.seen == sorted(set(sink.seen))
    assert len(sink.seen) == 50 == emitted(store.path)
    now = await standing(pump)
    assert (now.queued, now.dropped, now.lag_ms, now.error) == (0, 0, None, None)
    await pump.stop()


async def test_two_who_start_it_at_once_tell_nobody_twice(store: Store, traffic: Traffic) -> None:
    """Two reloads in a row: whoever comes second stops all that the first one has begun."""
    pump = pump_of(store)
    seen: list[int] = []

    def sink(name: str) -> Counting:
        def act(batch: Sequence[Emission]) -> Taken:
            seen.extend(one.seq for one in batch)
            return Taken(sent=len(batch))

        made = Counting(act=act)
        made.name = name
        return made

    await pump.start([sink("one"), sink("other")])
    await pump.stop()
    await emit(store, traffic, 2, 2)  # what waits for them as they begin
    before = tasks.running()
    await asyncio.gather(*(pump.start([sink("one"), sink("other")]) for _ in range(3)))

    async def all_sent() -> bool:
        return all(each.sent >= 4 for each in await pump.standings())

    await until(all_sent)
    assert sorted(seen) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert [each.sent for each in await pump.standings()] == [4, 4]
    await pump.end()
    await pump.start([sink("one")])  # of a reload that comes too late
    assert tasks.running() == before, "a sink runs that nobody can stop"


async def test_a_new_sink_begins_with_what_happens_from_now_on(
    store: Store, traffic: Traffic
) -> None:
    await emit(store, traffic, 3, 3)
    pump, sink = pump_of(store), Counting(act=lambda batch: Taken(sent=len(batch)))
    await pump.start([sink])
    await emit(store, traffic, 1, 0)

    async def one_sent() -> bool:
        return (await standing(pump)).sent == 1

    await until(one_sent)
    assert sink.seen == [7]
    await pump.stop()


async def test_a_sink_that_was_stopped_goes_on_where_it_was(store: Store, traffic: Traffic) -> None:
    first = Counting(act=lambda batch: Taken(sent=len(batch)))
    pump = pump_of(store)
    await pump.start([first])
    await emit(store, traffic, 2, 2)

    async def sent(count: int) -> bool:
        return (await standing(pump)).sent == count

    await until(lambda: sent(4))
    await pump.stop()
    await emit(store, traffic, 3, 3)
    second = Counting(act=lambda batch: Taken(sent=len(batch)))
    await pump.start([second])
    await until(lambda: sent(10))
    assert [*first.seen, *second.seen] == list(range(1, 11))
    await pump.stop()


async def test_only_what_is_wanted_counts(store: Store, traffic: Traffic) -> None:
    wants = Wants(receipts=False, kinds=("budget.*",))
    pump = pump_of(store)
    sink = Counting(act=lambda batch: Taken(sent=len(batch)), wants=wants)
    await pump.start([sink])
    await emit(store, traffic, 5, 15, kind="circuit.open")
    await emit(store, traffic, 0, 9, kind="budget.threshold")

    async def sent() -> bool:
        return (await standing(pump)).sent == 9

    await until(sent)
    assert (await standing(pump)).queued == 0
    assert emitted(store.path, kind="budget.%", receipts=False) == 9
    await pump.stop()


async def test_what_a_sink_cannot_take_is_dropped_and_counted(
    store: Store, traffic: Traffic
) -> None:
    def act(batch: Sequence[Emission]) -> Taken:
        if any(one.seq == 5 for one in batch):
            raise ValueError("a fault in the exporter")
        return Taken(sent=len(batch) - 1, dropped=1, error="one was refused")

    pump, sink = pump_of(store), Counting(act=act)
    await pump.start([sink])
    await emit(store, traffic, 20, 20)

    async def all_done() -> bool:
        return (await standing(pump)).queued == 0

    await until(all_done)
    now = await standing(pump)
    assert now.dropped > 1
    assert now.sent + now.dropped == 40 == emitted(store.path)
    assert now.error == "one was refused"
    await pump.stop()


@pytest.mark.parametrize(
    "answer",
    [
        status("500 Oh"),
        status("503 Busy", "retry-after: 1\r\n"),
        status("302 Found", "location: http://127.0.0.1:9/\r\n"),
        "stall",
        "vanish",
    ],
    ids=["500", "503", "redirect", "stalls", "vanishes"],
)
async def test_a_bad_far_end_keeps_what_it_does_not_take(
    store: Store, traffic: Traffic, answer: Any
) -> None:
    async with far_end() as far:
        far.answer = answer
        pump, sink = pump_of(store), Counting(far.url)
        await pump.start([sink])
        await emit(store, traffic, 10, 10)
        await far.until(2)
        now = await standing(pump)
        assert (now.sent, now.dropped, now.queued) == (0, 0, emitted(store.path))
        assert now.error is not None
        assert now.lag_ms is not None
        far.answer = status("200 OK")

        async def all_sent() -> bool:
            return (await standing(pump)).sent == 20

        await until(all_sent)
        assert sink.seen == list(range(1, 21))
        await pump.stop()
    assert tasks.running() == 0


async def test_an_answer_without_an_end_counts_by_its_status(
    store: Store, traffic: Traffic
) -> None:
    async with far_end() as far:
        far.answer = "endless"
        pump, sink = pump_of(store), Counting(far.url)
        await pump.start([sink])
        await emit(store, traffic, 3, 3)

        async def all_sent() -> bool:
            return (await standing(pump)).sent == 6

        await until(all_sent)
        await pump.stop()


async def test_nobody_there_costs_nothing_but_a_queue(store: Store, traffic: Traffic) -> None:
    pump, sink = pump_of(store), Counting("http://127.0.0.1:1/")
    await pump.start([sink])
    await emit(store, traffic, 4, 4)

    async def failed() -> bool:
        return (await standing(pump)).retry_at_ms is not None

    await until(failed)
    now = await standing(pump)
    assert (now.sent, now.dropped, now.queued) == (0, 0, 8)
    assert now.error == "127.0.0.1 cannot be reached (ClientConnectorError)"
    await pump.stop()


async def test_what_is_too_old_is_given_up(store: Store, traffic: Traffic) -> None:
    pump = pump_of(store, Pace(first_s=0.01, most_s=0.01, give_up_s=0.05, calm_s=0.0))
    await pump.start([Counting("http://127.0.0.1:1/")])
    await emit(store, traffic, 4, 4)

    async def given_up() -> bool:
        return (await standing(pump)).dropped == 8

    await until(given_up)
    now = await standing(pump)
    assert (now.sent, now.queued) == (0, 0)
    assert now.error is not None
    assert now.error.startswith("given up: ")
    await pump.stop()


async def test_the_counts_add_up_at_every_moment(store: Store, traffic: Traffic) -> None:
    turn = 0

    def act(batch: Sequence[Emission]) -> Taken:
        nonlocal turn
        turn += 1
        if turn % 3 == 0:
            raise NotNow("busy")
        return Taken(sent=len(batch) - turn % 2, dropped=turn % 2)

    pump = pump_of(store, Pace(first_s=0.001, most_s=0.001))
    await pump.start([Counting(act=act)])
    emitting = asyncio.get_running_loop().create_task(emit(store, traffic, 60, 60))
    while not emitting.done():
        before = emitted(store.path)
        now = await standing(pump)
        assert before <= now.sent + now.dropped + now.queued <= emitted(store.path)
        assert now.queued >= 0
    await emitting

    async def all_done() -> bool:
        return (await standing(pump)).queued == 0

    await until(all_done)
    now = await standing(pump)
    assert now.sent + now.dropped == 120 == emitted(store.path)
    await pump.stop()


def test_pauses_grow_with_jitter_and_obey_the_far_end() -> None:
    pace = Pace(first_s=1.0, most_s=300.0)
    assert [pace.pause_s(n, None, 1.0) for n in (1, 2, 3, 9, 10, 99)] == [1, 2, 4, 256, 300, 300]
    assert pace.pause_s(3, None, 0.0) == 2.0
    assert pace.pause_s(1, 90.0, 0.5) == 90.0
    assert pace.pause_s(99, 5.0, 1.0) == 300.0


async def test_a_sink_with_work_of_its_own_is_given_time_for_it_until_the_end(
    store: Store,
) -> None:
    class Working(Counting):
        ended = False

        async def work(self, news: asyncio.Event, ration: Ration) -> None:
            self.seen.append(0)
            try:
                await asyncio.Event().wait()
            finally:
                self.ended = True

    pump, sink = pump_of(store), Working(act=lambda batch: Taken(sent=len(batch)))
    await pump.start([sink])

    async def works() -> bool:
        return sink.seen == [0]

    await until(works)
    await pump.stop()
    assert sink.ended
    assert tasks.running() == 0


async def test_without_a_sink_there_is_no_task(store: Store) -> None:
    pump = pump_of(store)
    before = tasks.running()
    await pump.start([])
    assert tasks.running() == before
    assert await pump.standings() == []


def damage(ledger: Path, *changes: str) -> None:
    with closing(sqlite3.connect(ledger)) as conn:
        for change in changes:
            conn.execute(change)
        conn.commit()


async def test_what_it_takes_to_read_for_a_sink_is_taken_of_its_ration(
    store: Store, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []
    monkeypatch.setattr(Ration, "beside", lambda _, seconds: taken.append(seconds))
    pump, sink = pump_of(store), Counting(act=lambda batch: Taken(sent=len(batch)))
    await pump.start([sink])
    await emit(store, traffic, 20, 0)

    async def all_sent() -> bool:
        return (await standing(pump)).sent == 20

    await until(all_sent)
    await pump.stop()
    assert len(taken) >= 3
    assert all(0 < seconds < 1 for seconds in taken)


async def test_who_reads_for_a_sink_lets_calls_go_first_after_each_receipt(
    store: Store, traffic: Traffic
) -> None:
    await emit(store, traffic, 8, 4)
    asked = iter(range(100))
    store.right_of_way.calls = lambda: next(asked) * 0
    page = await store.sinks.page(0, 12, Wants())
    assert len(page.emissions) == 12
    assert next(asked) == 8


async def test_what_one_sink_has_read_no_other_reads_again(
    store: Store, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But of all that was ever read only a little is kept, and never what was deleted."""
    made: list[int] = []

    def counted(conn: sqlite3.Connection, seqs: list[int]) -> list[Stored]:
        made.extend(seqs)
        return load(conn, seqs)

    monkeypatch.setattr("modelspend.store.sinks.load", counted)
    monkeypatch.setattr("modelspend.store.sinks._LATELY", 64)
    await emit(store, traffic, 100, 5)
    pages = [await store.sinks.page(0, 200, Wants()) for _ in range(2)]
    assert pages[0].emissions == pages[1].emissions
    assert len(pages[0].emissions) == 105
    again = made[100:]
    assert len(made[:100]) == len(set(made[:100])) == 100
    assert 30 < len(again) < 60  # 64 of the 105 were kept
    assert max(again) < min(set(made) - set(again))  # the newest of them

    damage(store.path, "DELETE FROM receipts")
    assert [type(one) for one in (await store.sinks.page(0, 200, Wants())).emissions] == [Event] * 5


async def test_what_is_damaged_in_the_ledger_is_dropped_and_counted_and_stops_nobody(
    store: Store, traffic: Traffic
) -> None:
    hook = Webhook(url="http://127.0.0.1:1/", types=("*",), allow_private=True)
    async with far_end() as far:
        hook = hook.model_copy(update={"url": far.url})
        sink = Counting(act=lambda batch: Taken(sent=len(batch)))
        pump, both = pump_of(store), (sink, WebhookSink(endpoint("ops", hook, {}), store))
        await pump.start(both)
        await pump.stop()
        await emit(store, traffic, 10, 10)
        damage(
            store.path,
            "UPDATE receipts SET detail = x'00' WHERE seq IN (SELECT seq FROM receipts LIMIT 3)",
            "UPDATE events SET data = '{' WHERE seq IN (SELECT max(seq) FROM events)",
        )
        await pump.start(both)

        async def told() -> bool:
            return all(one.sent + one.dropped == 20 for one in await pump.standings())

        await until(told)
        first, second = await pump.standings()
        assert (first.sent, first.dropped, first.queued) == (16, 4, 0)
        assert (second.sent, second.dropped, second.queued) == (16, 4, 0)
        assert len(sink.seen) == len(far.got) == 16
        assert "modelspend verify" in str(first.error)
        assert "damaged" in str(second.error)
        await pump.stop()


async def test_a_fault_of_ours_in_a_sink_is_told_and_it_is_tried_again(
    store: Store, traffic: Traffic
) -> None:
    """Of one of its steps that is none of a batch, too: nobody would begin it anew."""
    left = {"page": 0, "work": 2}

    class Faulty(Counting):
        @property
        def wants(self) -> Wants:
            if left["page"]:
                left["page"] -= 1
                raise KeyError("secret")
            return Wants()

        @wants.setter
        def wants(self, _: Wants) -> None: ...

        async def work(self, news: asyncio.Event, ration: Ration) -> None:
            if left["work"]:
                left["work"] -= 1
                raise KeyError("secret")
            left["work"] = -1
            await asyncio.Event().wait()

    pump, sink = pump_of(store), Faulty(act=lambda batch: Taken(sent=len(batch)))
    await pump.start([sink])
    left["page"] = 3
    await emit(store, traffic, 20, 20)

    async def all_sent() -> bool:
        return len(sink.seen) == 40 and left == {"page": 0, "work": -1}

    await until(all_sent)
    (row,) = await store.sinks.rows()
    assert row.error == "a fault of ours: KeyError"
    await pump.stop()


async def test_a_ledger_that_fails_while_sinks_are_begun_leaves_none_of_them_out(
    store: Store, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-way through a reload: whoever comes after the fault would be told of nothing more."""
    failing, enrol = ["second", "second", "third"], store.sinks.enrol

    async def fails_at_times(name: str, wants: Wants) -> Standing:
        if name in failing:
            failing.remove(name)
            raise LedgerUnavailable("The disk is full.")
        return await enrol(name, wants)

    monkeypatch.setattr(store.sinks, "enrol", fails_at_times)
    pump, sinks = pump_of(store), list[Counting]()
    for name in ("first", "second", "third"):
        sinks.append(Counting(act=lambda batch: Taken(sent=len(batch))))
        sinks[-1].name = name
    await pump.start(sinks)
    await emit(store, traffic, 3, 3)

    async def all_sent() -> bool:
        return [len(sink.seen) for sink in sinks] == [6, 6, 6]

    await until(all_sent)
    assert not failing
    await pump.stop()


async def test_a_ledger_that_never_takes_a_sink_does_not_hold_up_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = asyncio.Event()

    async def fails(name: str, wants: Wants) -> Standing:
        tried.set()
        raise LedgerUnavailable("The disk is full.")

    monkeypatch.setattr(store.sinks, "enrol", fails)
    pump, sink = pump_of(store), Counting(act=lambda batch: Taken(sent=len(batch)))
    begun = tasks.spawn(pump.start([sink]), "start")
    await tried.wait()
    async with asyncio.timeout(5):
        await pump.end()
    with pytest.raises(LedgerUnavailable):
        await begun


async def test_a_sink_that_has_caught_up_or_is_gone_leaves_no_larger_share_behind(
    store: Store, traffic: Traffic
) -> None:
    """One that hears of little would hold it for days, and calls would pay for that."""
    pump = pump_of(store)
    sink = Counting(act=lambda batch: Taken(sent=len(batch)))
    sink.most = 100
    old = replace(traffic.receipt(), created_at_ms=now_ms() - 3_600_000)
    await pump.start([sink])
    await store.calls.finish(old)

    async def seen() -> bool:
        return bool(sink.seen)

    async def rests() -> bool:
        return pump._ration._share == SHARE

    await until(seen)
    await until(rests)
    pump._ration.behind("another", 3600.0)
    assert pump._ration._share > SHARE
    await pump.start([sink])
    assert await rests()
    await pump.stop()


async def test_a_sink_that_rests_after_a_fault_leaves_no_larger_share_behind(store: Store) -> None:
    shares: list[float] = []

    class Faulty:
        name, wants, most, linger_s = "faulty", Wants(), 1, 0.0

        def file(self, batch: object) -> Also:
            raise AssertionError(batch)

        async def room(self) -> int:
            return 1

        async def close(self) -> None: ...

        async def work(self, news: asyncio.Event, ration: Ration) -> None:
            shares.append(ration._share)
            if len(shares) == 1:
                ration.behind(self.name, 3600.0)
                raise KeyError
            await asyncio.Event().wait()

    pump = pump_of(store)
    await pump.start([Faulty()])

    async def begun_again() -> bool:
        return len(shares) == 2

    await until(begun_again)
    assert shares == [SHARE, SHARE]
    await pump.stop()


async def test_the_benchmark_of_sinks_turns_on_one_of_every_kind(
    store: Store, tmp_path: Path
) -> None:
    source = (Path(__file__).parents[1] / "bench" / "targets.py").read_text("utf-8")
    (text,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SINKS"
    )
    url, key = "http://127.0.0.1:9", "k" * 32
    tree = tomllib.loads(text.format(url=url, port=9, folder=tmp_path))
    env = {"BLACK_HOLE": url, "KEY": key, "DD_API_KEY": key}
    settings = Settings.model_validate(tree)
    made = {name: make(settings, env, store) for name, make in EXPORTERS}
    assert [name for name, sinks in made.items() if not sinks] == []
    ways = {type(one._way) for one in made["siem"] if isinstance(one, siem.SiemSink)}
    assert len(ways) == 3  # a file, HTTP, syslog
    for one in (each for sinks in made.values() for each in sinks):
        await one.close()
