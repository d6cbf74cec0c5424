"""Searches: each finds exactly what a plain look at every receipt finds, by way of an index."""

import asyncio
import sqlite3
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from modelspend.receipt import Receipt
from modelspend.store import Filter, Store, search
from modelspend.store.receipts import Totals
from tests.store.conftest import outside
from tests.store.synthetic import START_MS, Traffic

_FIELDS: dict[str, tuple[object, ...]] = {
    "tenant": ("team-000", "team-003", "nobody"),
    "workflow": ("support-bot", "code-review", "nothing"),
    "model": ("claude-sonnet-4-6", "deepseek-chat", "no-such-model"),
    "provider": ("openai", "groq", "nowhere"),
    "category": ("code", "chat", "none"),
    "status": (("error",), ("success", "error"), ("cached",)),
    "min_cost_pico": (0, 2_000_000_000, 10**15),
    "min_latency_ms": (0.0, 700.0, 1e9),
    "unpriced": (True, False),
    "since_ms": (START_MS + 2_000_000,),
    "until_ms": (START_MS + 2_000_000, START_MS),
}


@pytest.fixture
async def many(store: Store) -> tuple[Store, list[tuple[int, Receipt]]]:
    """A store with 800 receipts, some of the same millisecond, finished out of order."""
    made = list(Traffic(21, tenants=8).receipts(800))
    made = [replace(r, created_at_ms=r.created_at_ms // 20_000 * 20_000) for r in made]
    shuffled = sorted(made, key=lambda r: r.receipt_id[-3:])
    numbers = await asyncio.gather(*(store.calls.finish(receipt) for receipt in shuffled))
    return store, list(zip(numbers, shuffled, strict=True))


def _matches(where: Filter, r: Receipt) -> bool:
    last, run = r.attempts[-1], r.execution
    cost = run.actual_cost_pico
    category = r.classification.category if r.classification else None
    return (
        where.tenant in (None, r.tenant)
        and where.workflow in (None, r.workflow)
        and where.model in (None, last.model_id)
        and where.provider in (None, last.provider)
        and where.category in (None, category)
        and (not where.status or run.status in where.status)
        and where.session in (None, r.session_id)
        and (where.min_cost_pico is None or (cost is not None and cost >= where.min_cost_pico))
        and (where.min_latency_ms is None or round(run.actual_latency_ms) >= where.min_latency_ms)
        and (where.unpriced is None or where.unpriced == (cost is None))
        and (where.since_ms is None or r.created_at_ms >= where.since_ms)
        and (where.until_ms is None or r.created_at_ms < where.until_ms)
    )


def _filters() -> list[Filter]:
    single = [{name: value} for name, values in _FIELDS.items() for value in values]
    pairs = [a | b for a, b in combinations(single, 2) if not a.keys() & b.keys()]
    return [Filter(), *(Filter(**each) for each in single + pairs)]  # type: ignore[arg-type]


async def test_every_filter_and_pair_finds_what_a_plain_look_finds(
    many: tuple[Store, list[tuple[int, Receipt]]],
) -> None:
    store, made = many
    for where in _filters():
        right = sorted(
            ((r.created_at_ms, seq) for seq, r in made if _matches(where, r)), reverse=True
        )
        found = await store._readers.ask(lambda conn, w=where: search.newest(conn, w, 50, None))
        assert found == [seq for _, seq in right[:50]], where


async def test_totals_are_exact_for_every_filter(
    many: tuple[Store, list[tuple[int, Receipt]]],
) -> None:
    store, made = many
    for where in _filters()[::7]:
        runs = [r.execution for _, r in made if _matches(where, r)]
        costs = [run.actual_cost_pico for run in runs]
        assert await store.receipts.totals(where) == Totals(
            receipts=len(runs),
            unpriced=costs.count(None),
            cost_pico=sum(cost or 0 for cost in costs),
            charged_pico=sum(run.charged_pico for run in runs),
        ), where


async def test_pages_follow_one_another_without_a_gap_or_a_repeat(
    many: tuple[Store, list[tuple[int, Receipt]]],
) -> None:
    store, made = many
    for where in (Filter(), Filter(tenant="team-000"), Filter(status=("success",), unpriced=False)):
        seen: list[int] = []
        before = None
        while page := await store.receipts.list(where, limit=37, before=before):
            seen += [stored.seq for stored in page]
            before = page[-1].seq
        right = sorted(
            ((r.created_at_ms, seq) for seq, r in made if _matches(where, r)), reverse=True
        )
        assert seen == [seq for _, seq in right]


async def test_following_gives_what_came_after_in_the_order_of_writing(
    many: tuple[Store, list[tuple[int, Receipt]]],
) -> None:
    store, made = many
    where = Filter(provider="openai", min_cost_pico=1)
    right = sorted(seq for seq, r in made if _matches(where, r) and seq > 100)
    found = await store.receipts.after(100, where, limit=1000)
    assert [stored.seq for stored in found] == right
    sessions = {r.session_id for _, r in made if r.session_id}
    for session in list(sessions)[:5]:
        for rest in _filters()[:40:3]:
            here = replace(rest, session=session)
            listed = await store.receipts.list(here, limit=1000)
            assert {s.seq for s in listed} == {q for q, r in made if _matches(here, r)}, here


async def test_many_facets_are_walked_through_time_with_the_same_result(
    many: tuple[Store, list[tuple[int, Receipt]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = many
    few = [await store.receipts.list(where, limit=20) for where in _filters()[::5]]
    for name, number in (("_MANY_FACETS", 0), ("_FEW_FACETS", 0), ("_RECENT", 100)):
        monkeypatch.setattr(search, name, number)
        assert few == [await store.receipts.list(where, limit=20) for where in _filters()[::5]]
        if name == "_MANY_FACETS":
            monkeypatch.undo()


async def test_a_text_finds_ids_sessions_names_and_tags(store: Store, traffic: Traffic) -> None:
    base = traffic.receipt()
    made = [
        replace(base, receipt_id=f"rcpt_{n:026d}", created_at_ms=n, session_id=None, tags={})
        for n in range(6)
    ]
    made[0] = replace(made[0], tenant="Needle-corp")
    made[1] = replace(made[1], tags={"job": "find-the-needle", "x": "y"})
    made[2] = replace(made[2], session_id="needle-7")
    made[3] = replace(made[3], session_id="seven-needle")
    made[4] = replace(made[4], workflow="NEEDLES%_")
    for receipt in made:
        await store.calls.finish(receipt)

    async def found(text: str, where: Filter = search.ALL) -> list[int]:
        return [stored.receipt.created_at_ms for stored in await store.receipts.search(text, where)]

    assert await found("needle") == [4, 2, 1, 0]
    assert await found("NEEDLE", Filter(tenant="Needle-corp")) == [0]
    assert await found("%_") == [4]
    assert await found("job=find") == [1]
    assert await found("rcpt_" + "0" * 25) == [5, 4, 3, 2, 1, 0]
    assert await found("not there") == []
    starting = await store.receipts.starting("0" * 25 + "3")
    assert [s.receipt.created_at_ms for s in starting] == [3]


async def test_sums_above_64_bits_are_exact(store: Store, traffic: Traffic) -> None:
    huge = 4_000_000 * 10**12
    for receipt in traffic.receipts(5):
        run = replace(receipt.execution, charged_pico=huge, actual_cost_pico=huge)
        await store.calls.finish(replace(receipt, execution=run))
    totals = await store.receipts.totals()
    assert totals.charged_pico == totals.cost_pico == 5 * huge > 1 << 63


async def test_no_search_reads_the_table_or_sorts_it_whole(
    many: tuple[Store, list[tuple[int, Receipt]]],
) -> None:
    store, _ = many
    statements: list[str] = []

    def plans(conn: sqlite3.Connection) -> list[str]:
        conn.set_trace_callback(statements.append)
        for where in _filters():
            search.newest(conn, where, 50, None)
            search.newest(conn, replace(where, session="sess-x"), 50, 3)
        conn.set_trace_callback(None)
        return [
            f"{row[3]} in {statement}"
            for statement in dict.fromkeys(statements)
            if "FROM receipts" in statement
            for row in conn.execute(f"EXPLAIN QUERY PLAN {statement}")
        ]

    for step in await store._readers.ask(plans):
        assert not step.startswith("SCAN receipts") or "COVERING INDEX receipts_time" in step
        few = f"LIMIT {search._RECENT})" in step  # the one sort of a bounded number of rows
        assert few or not step.startswith("USE TEMP B-TREE FOR ORDER BY")


async def test_the_schema_is_the_recorded_one(ledger: Path, request: pytest.FixtureRequest) -> None:
    await (await Store.open(ledger)).close()
    with outside(ledger) as conn:
        schema = "\n\n".join(
            f"{row[0]};"
            for row in conn.execute(
                "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"
                " AND name NOT LIKE '\\_sqlite%' ESCAPE '\\' ORDER BY type DESC, name"
            )
        )
    recorded = Path(__file__).with_name("schema.sql")
    if request.config.getoption("--regen", default=False):
        recorded.write_text(schema + "\n")
    assert schema + "\n" == recorded.read_text(), "a released step is never edited: add another"
