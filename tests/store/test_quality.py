"""Evidence in the ledger: each row once, in any order, with its promotions or not at all."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelspend.quality import Evidence, Posterior, Result, identified
from modelspend.store import Store
from tests.store.conftest import outside
from tests.store.synthetic import Traffic, intent_of


def rows(*said: tuple[str, str, float, int], **more: Any) -> tuple[Evidence, ...]:
    return identified(
        Evidence(model=model, category=category, score=score, n=n, **more)
        for model, category, score, n in said
    )


async def promoted(store: Store) -> list[dict[str, Any]]:
    found = [event for event in await store.events.after(0) if event.kind == "model.promoted"]
    assert all(event.level == "info" for event in found)
    return [dict(event.data) for event in found]


async def test_evidence_adds_up_to_posteriors_and_counts_once(store: Store) -> None:
    some = rows(("m", "code", 0.9, 100), ("m", "code", 0.5, 20), ("m", "chat", 1.0, 1))
    first = await store.quality.add(some, 1)
    again = await store.quality.add(some, 2)
    assert (first.added, first.known, again.added, again.known) == (3, 0, 0, 3)
    assert await store.quality.posteriors() == {
        ("m", "code"): Posterior().plus(100, 120),
        ("m", "chat"): Posterior().plus(1, 1),
    }
    grown = rows(*[(r.model, r.category, r.score, r.n) for r in some], ("m", "chat", 1.0, 1))
    assert (await store.quality.add(grown, 3)).added == 1, "only what was appended is new"
    assert (await store.quality.scores()).bound("chat", "m") == Posterior().plus(2, 2).lower_bound()


async def test_posteriors_are_the_same_to_the_last_bit_in_any_order(tmp_path: Path) -> None:
    rng = random.Random(3)
    some = list(rows(*((rng.choice("ab"), "code", rng.random(), rng.randint(1, 999))
                       for _ in range(200))))  # fmt: skip
    found = []
    for n in range(3):
        rng.shuffle(some)
        store = await Store.open(tmp_path / f"{n}.db", durability="normal")
        for start in range(0, 200, 50):
            await store.quality.add(some[start : start + 50], n)
        found.append(await store.quality.posteriors())
        await store.close()
    assert found[0] == found[1] == found[2]


async def test_an_item_measured_again_takes_the_place_of_the_older_measurement(
    store: Store,
) -> None:
    def measured(score: float, at_ms: int, receipt: str) -> tuple[Evidence, ...]:
        return rows(
            ("m", "code", score, 1),
            source="run", suite="s", item="i", receipt_id=receipt, at_ms=at_ms,
        )  # fmt: skip

    await store.quality.add(measured(1.0, 1, "r1"), 1)
    await store.quality.add(measured(0.0, 2, "r2"), 2)
    assert await store.quality.posteriors() == {("m", "code"): Posterior().plus(0, 1)}
    await store.quality.add(measured(1.0, 3, "r3"), 3)
    await store.quality.add(measured(0.0, 2, "r2"), 4)
    assert await store.quality.posteriors() == {("m", "code"): Posterior().plus(1, 1)}


async def test_a_promotion_is_an_event_once(store: Store) -> None:
    await store.quality.add(rows(("old", "reasoning", 0.8, 100)), 1)
    assert await promoted(store) == []
    better = rows(("new", "reasoning", 0.95, 200), ("new", "chat", 0.9, 10))
    done = await store.quality.add(better, 2)
    await store.quality.add(better, 3)
    (told,) = await promoted(store)
    assert told == done.promotions[0].to_json()
    assert (told["model"], told["category"], told["over"]) == ("new", "reasoning", "old")
    assert told["text"].startswith("new promoted on reasoning after eval +")
    assert done.to_json()["promotions"] == [told]


async def test_evidence_and_its_promotion_are_one_transaction(store: Store, ledger: Path) -> None:
    await store.quality.add(rows(("old", "code", 0.8, 100)), 1)
    with outside(ledger) as conn:
        conn.execute(
            "CREATE TRIGGER no_events BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    before = await store.quality.posteriors()
    with pytest.raises(Exception, match="no"):
        await store.quality.add(rows(("new", "code", 0.95, 200)), 2)
    assert await store.quality.posteriors() == before


async def test_a_reader_sees_evidence_and_results_and_can_write_none(
    store: Store, ledger: Path
) -> None:
    await store.quality.add(rows(("m", "code", 0.5, 2), suite="s", task="humaneval"), 1)
    reader = await Store.open_read(ledger)
    (source,) = await reader.quality.sources()
    assert (source.suite, source.task, source.n, source.successes) == ("s", "humaneval", 2, 1.0)
    with pytest.raises(RuntimeError, match="opened to read"):
        await reader.quality.add((), 2)
    await reader.close()


def result(**changes: Any) -> Result:
    return replace(
        Result(item_key="k", model="m", suite="s", item="i", category="code", outcome="answered",
               score=0.5, cost_pico=7, latency_ms=1.5, at_ms=9),
        **changes,
    )  # fmt: skip


async def test_the_last_result_of_an_item_is_the_one_that_is_kept(store: Store) -> None:
    async def found(*keys: str) -> Sequence[Result]:
        return await store.quality.results(keys)

    await store.quality.keep(result(outcome="failed", score=None, why="overloaded"))
    await store.quality.keep(result())
    await store.quality.keep(result(model="n", judge_cost_pico=3, judge_receipt_id="rcpt_j"))
    assert list(await found("k", "unknown")) == [
        result(),
        result(model="n", judge_cost_pico=3, judge_receipt_id="rcpt_j"),
    ]
    assert await found("other") == []


async def test_a_damaged_ledger_keeps_its_evidence(ledger: Path, traffic: Traffic) -> None:
    store = await Store.open(ledger, durability="normal")
    for _ in range(200):
        receipt = traffic.receipt()
        await store.calls.begin(intent_of(receipt))
        await store.calls.finish(receipt)
    await store.quality.add(rows(("m", "code", 0.5, 2), suite="s"), 1)
    before = await store.quality.sources()
    await store.close()
    with outside(ledger) as conn:
        (page,) = conn.execute(
            "SELECT pageno FROM dbstat WHERE name = 'receipts' AND pagetype = 'leaf' LIMIT 1"
        ).fetchone()
    with ledger.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(random.Random(1).randbytes(4096))
    anew = await Store.open(ledger)
    assert [event.kind for event in await anew.events.after(0)] == ["ledger.gap"]
    assert await anew.quality.sources() == before
    await anew.close()
