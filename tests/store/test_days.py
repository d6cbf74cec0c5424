"""Sums by day: always those of the receipts, to the last pico-dollar, whatever was rolled up."""

import asyncio
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelspend.money import MAX_PICO
from modelspend.receipt import Receipt, Savings, Status
from modelspend.savings import MECHANISMS
from modelspend.store import DAY_MS, Filter, Store, Sum
from modelspend.store.days import roll, sums_by, tokens_by
from tests.store.conftest import outside
from tests.store.synthetic import START_MS, Traffic

_RICH = MAX_PICO - 7  # three of these overflow 64 bits


def receipts(seed: int, count: int) -> Iterator[Receipt]:
    """Receipts of some days, some of them dear, tagged, in a region, unpriced, saved on."""
    rng = random.Random(seed)
    for made in Traffic(seed, gap_ms=DAY_MS / 9, tenants=3).receipts(count):
        attempts, run = made.attempts, made.execution
        if rng.random() < 0.3:
            region = rng.choice(("eu", "us"))
            attempts = (*attempts[:-1], replace(attempts[-1], region=region))
        if rng.random() < 0.1:
            run = replace(run, actual_cost_pico=_RICH, charged_pico=_RICH)
        tags = {n: rng.choice("abc") for n in ("team", "env") if rng.random() < 0.4}
        late = rng.choice((0, 0, 0, -2 * DAY_MS))  # written long after it began
        yield replace(
            made,
            attempts=attempts,
            execution=run,
            tags=tags,
            created_at_ms=made.created_at_ms + late,
            savings=_savings(rng),
        )


def _savings(rng: random.Random) -> Savings | None:
    luck = rng.random()
    if luck < 0.5:
        return None
    if luck < 0.6:
        return Savings(baseline_model="m", baseline_cost_pico=None)
    parts = {name: rng.randint(-_RICH, _RICH) for name in MECHANISMS}
    return Savings(baseline_model="m", baseline_cost_pico=5, by_mechanism=parts)


def value(receipt: Receipt, key: str) -> Any:
    last = receipt.attempts[-1]
    return {
        "day": receipt.created_at_ms // DAY_MS,
        "tenant": receipt.tenant,
        "workflow": receipt.workflow,
        "category": receipt.classification.category if receipt.classification else None,
        "model": last.model_id,
        "provider": last.provider,
        "status": receipt.execution.status,
        "region": last.region,
        "session": receipt.session_id,
    }[key]


def matches(receipt: Receipt, where: Filter) -> bool:
    at, run = receipt.created_at_ms, receipt.execution
    names = ("tenant", "workflow", "model", "provider", "category", "region", "session")
    for name in names:
        wanted = getattr(where, name)
        if wanted is not None and (value(receipt, name) or "") != wanted:
            return False
    if where.tag is not None:
        name, _, tag = where.tag.removeprefix("!").partition("=")
        if where.tag.startswith("!"):
            if name in receipt.tags:
                return False
        elif receipt.tags.get(name) != tag:
            return False
    if where.status and run.status not in where.status:
        return False
    if where.min_cost_pico is not None and (run.actual_cost_pico or -1) < where.min_cost_pico:
        return False
    unpriced = run.actual_cost_pico is None
    return (
        (where.unpriced is None or where.unpriced == unpriced)
        and (where.since_ms is None or at >= where.since_ms)
        and (where.until_ms is None or at < where.until_ms)
    )


def by_hand(written: Sequence[Receipt], keys: Sequence[str], where: Filter) -> dict[Any, Sum]:
    sums: dict[Any, Sum] = {}
    for receipt in written:
        key = tuple(value(receipt, each) for each in keys)
        if matches(receipt, where) and not ("session" in keys and receipt.session_id is None):
            sums[key] = sums.get(key, Sum()) + one(receipt)
    return sums


def one(receipt: Receipt) -> Sum:
    cost, saved = receipt.execution.actual_cost_pico, receipt.savings
    known = saved is not None and bool(saved.by_mechanism)
    return Sum(
        1,
        int(cost is None),
        cost or 0,
        int(saved is not None),
        int(saved is not None and not known),
        dict(saved.by_mechanism) if saved and known else dict.fromkeys(MECHANISMS, 0),
    )


KEYS = st.sampled_from(
    [(), ("day",), ("tenant", "day"), ("model", "category"), ("region", "status"), ("session",)]
)
END_MS = START_MS + 8 * DAY_MS
INSTANTS = st.one_of(
    st.none(),
    st.integers(START_MS // DAY_MS - 2, END_MS // DAY_MS).map(lambda day: day * DAY_MS),
    st.integers(START_MS - DAY_MS, END_MS),
)
FILTERS = st.builds(
    Filter,
    tenant=st.sampled_from([None, None, "team-000", "nobody"]),
    workflow=st.sampled_from([None, None, ""]),
    region=st.sampled_from([None, None, "eu", ""]),
    status=st.sampled_from([(), (), ("success",)]),
    unpriced=st.sampled_from([None, None, True, False]),
    tag=st.sampled_from([None, None, None, "team=a", "!team"]),
    min_cost_pico=st.sampled_from([None, None, None, 10**9]),
    since_ms=INSTANTS,
    until_ms=INSTANTS,
)


class _Ledger:
    """A ledger and what was written to it; some of it rolled up, some not."""

    def __init__(self, path: Path, written: list[Receipt]) -> None:
        self.path = path
        self.written = written


@pytest.fixture(scope="module")
def half_rolled(tmp_path_factory: pytest.TempPathFactory) -> _Ledger:
    path = tmp_path_factory.mktemp("days") / "ledger.db"
    written = list(receipts(3, 70))
    asyncio.run(_half_rolled(path, written))
    return _Ledger(path, written)


async def _half_rolled(path: Path, written: list[Receipt]) -> None:
    store = await Store.open(path, durability="normal")
    for receipt in written[:40]:
        await store.calls.finish(receipt)
    await store.days.roll()
    for receipt in written[40:]:
        await store.calls.finish(receipt)
    await store.close()


@given(keys=KEYS, where=FILTERS)
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_sum_is_that_of_the_receipts(
    half_rolled: _Ledger, keys: tuple[Any, ...], where: Filter
) -> None:
    hand = by_hand(half_rolled.written, keys, where)
    with outside(half_rolled.path) as conn:
        assert sums_by(conn, keys, (where,)) == hand
        costs = sums_by(conn, keys, (where,), saved=False)
        assert costs == {key: cost_of(one) for key, one in hand.items()}


@given(keys=KEYS.filter(lambda keys: "session" not in keys), where=FILTERS)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_sum_of_tokens_is_that_of_the_receipts(
    half_rolled: _Ledger, keys: tuple[Any, ...], where: Filter
) -> None:
    where = replace(where, tag=None, min_cost_pico=None)
    hand: dict[Any, tuple[int, int, int, int]] = {}
    for receipt in half_rolled.written:
        if matches(receipt, where):
            key = tuple(value(receipt, each) for each in keys)
            hand[key] = tuple(map(sum, zip(hand.get(key, (0,) * 4), tokens(receipt), strict=True)))  # type: ignore[assignment]
    with outside(half_rolled.path) as conn:
        found = tokens_by(conn, keys, where)
    assert {k: (t.receipts, t.prompt, t.cached, t.output) for k, t in found.items()} == hand


def tokens(receipt: Receipt) -> tuple[int, int, int, int]:
    used = receipt.usage.quantities
    prompt = sum(n for name, n in used.items() if name.startswith(("input_", "cache_")))
    return 1, prompt, used.get("cache_read_tokens", 0), used.get("output_tokens", 0)


def cost_of(one: Sum) -> Sum:
    return Sum(one.receipts, one.unpriced, one.cost_pico)


async def test_sums_stay_right_as_receipts_come_and_are_rolled_up(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelspend.store.days._CHUNK", 7)
    rng, written = random.Random(5), []
    store = await Store.open(ledger, durability="normal")
    for receipt in receipts(5, 120):
        await store.calls.finish(receipt)
        written.append(receipt)
        if rng.random() < 0.2:
            await store.days.roll()
        if rng.random() < 0.1:
            assert await store.days.sums(("tenant", "day")) == by_hand(
                written, ("tenant", "day"), Filter()
            )
    assert await store.meta.check() == []
    await store.close()


async def test_a_crash_between_two_steps_leaves_the_sums_right(ledger: Path) -> None:
    written = list(receipts(8, 60))
    store = await Store.open(ledger, durability="normal")
    for n, receipt in enumerate(written):
        await store.calls.finish(receipt)
        if n == 30:
            await store.days.roll()
    crashed = ledger.with_name("crashed.db")
    for suffix in ("", "-wal"):  # as a crash leaves it: nothing closed, the log not emptied
        shutil.copy(f"{ledger}{suffix}", f"{crashed}{suffix}")
    await store.close()
    again = await Store.open(crashed, durability="normal")
    assert await again.days.sums(("model", "day")) == by_hand(written, ("model", "day"), Filter())
    await again.days.roll()
    assert await again.days.sums(("model", "day")) == by_hand(written, ("model", "day"), Filter())
    assert await again.meta.check() == []
    await again.close()


async def test_a_roll_that_fails_half_way_leaves_nothing(ledger: Path) -> None:
    store = await Store.open(ledger, durability="normal")
    written = list(receipts(9, 20))
    for receipt in written:
        await store.calls.finish(receipt)

    def half(book: Any) -> None:
        roll(book)
        raise RuntimeError("power gone")

    assert store._writer is not None
    with pytest.raises(RuntimeError):
        await store._writer.later(half)
    with outside(ledger) as conn:
        assert conn.execute("SELECT count(*) FROM days").fetchone() == (0,)
        assert conn.execute("SELECT seq FROM rolled").fetchone() == (0,)
    assert await store.days.sums(("tenant",)) == by_hand(written, ("tenant",), Filter())
    await store.close()


async def test_what_was_salvaged_is_summed_anew(ledger: Path) -> None:
    store = await Store.open(ledger, durability="normal")
    for receipt in receipts(4, 300):
        await store.calls.finish(receipt)
    await store.days.roll()
    await store.close()
    with outside(ledger) as conn:
        (page,) = conn.execute(
            "SELECT pageno FROM dbstat WHERE name = 'receipts' AND pagetype = 'leaf'"
            " ORDER BY pageno LIMIT 1 OFFSET 10"
        ).fetchone()
    with ledger.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))
    again = await Store.open(ledger, durability="normal")
    kept = [stored.receipt for stored in await again.receipts.list(limit=400)]
    assert 200 < len(kept) < 300
    await again.days.roll()
    assert await again.days.sums(("day",)) == by_hand(kept, ("day",), Filter())
    await again.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE days SET cost_low = cost_low + 1 WHERE day = (SELECT min(day) FROM days)",
        "UPDATE days SET receipts = receipts + 1 WHERE day = (SELECT min(day) FROM days)",
        "DELETE FROM days WHERE day = (SELECT max(day) FROM days)",
        "UPDATE days SET routing_high = routing_high - 1 WHERE saved > unknown",
        "UPDATE savings SET routing_pico = routing_pico + 1 WHERE routing_pico NOTNULL",
        "UPDATE days SET cached_tokens = cached_tokens + 1",
        "UPDATE rolled SET seq = seq - 1",
    ],
)
async def test_a_sum_that_was_changed_is_found(ledger: Path, statement: str) -> None:
    store = await Store.open(ledger, durability="normal")
    for receipt in receipts(6, 40):
        await store.calls.finish(receipt)
    await store.days.roll()
    assert await store.meta.check() == []
    await store.close()
    with outside(ledger) as conn:
        assert conn.execute(statement).rowcount
    reading = await Store.open_read(ledger)
    assert await reading.meta.check() != []
    await reading.close()


async def test_the_sums_by_tag_name_every_receipt_once(store: Store) -> None:
    written = list(receipts(2, 80))
    for receipt in written:
        await store.calls.finish(receipt)
    where = Filter(since_ms=START_MS + DAY_MS, until_ms=START_MS + 5 * DAY_MS)
    chosen = [receipt for receipt in written if matches(receipt, where)]
    found = await store.days.by_tag("team", where)
    assert set(found) == {"team=a", "team=b", "team=c", None}
    for tag, total in found.items():
        mine = [r for r in chosen if r.tags.get("team") == (tag[5:] if tag else None)]
        assert total == cost_of(sum(map(one, mine), Sum()))
    every = await store.days.by_tag(None, where)
    counted = Counter(f"{n}={v}" for receipt in chosen for n, v in receipt.tags.items())
    assert {tag: total.receipts for tag, total in every.items()} == counted


async def test_the_first_day_of_a_model_is_that_of_its_first_receipt(store: Store) -> None:
    written = list(receipts(2, 60))
    for receipt in written:
        await store.calls.finish(receipt)
    firsts: dict[tuple[str, str], int] = {}
    for receipt in written:
        place = (receipt.attempts[-1].provider, receipt.attempts[-1].model_id)
        firsts[place] = min(firsts.get(place, receipt.created_at_ms), receipt.created_at_ms)
    assert await store.days.first_days() == firsts


async def test_durations_are_those_of_the_receipts_with_hops_apart(store: Store) -> None:
    written = list(receipts(12, 400))
    for receipt in written:
        await store.calls.finish(receipt)
    for where in (
        Filter(),
        Filter(tenant="team-000"),
        Filter(since_ms=START_MS + DAY_MS, until_ms=START_MS + 9 * DAY_MS),
        Filter(min_latency_ms=700),
    ):
        hand: dict[Any, Counter[int]] = {}
        for receipt in written:
            if not matches(receipt, where) or (where.min_latency_ms or 0) > round(
                receipt.execution.actual_latency_ms
            ):
                continue
            if len(receipt.attempts) == 1:
                ok = receipt.execution.status is Status.SUCCESS
                key = (receipt.attempts[0].model_id, "direct" if ok else "failed")
                took = round(receipt.execution.actual_latency_ms)
                hand.setdefault(key, Counter())[took] += 1
                continue
            for attempt in receipt.attempts:
                part = "failed" if attempt.status is not Status.SUCCESS else "hop"
                hand.setdefault((attempt.model_id, part), Counter())[round(attempt.latency_ms)] += 1
        found = await store.latencies.by(("model",), where)
        assert {(m, part): +took.latency_ms for ((m,), part), took in found.items()} == hand
        assert any(part == "hop" for _, part in hand)
        alone = await store.latencies.by(("model",), where, ttft=False)
        assert {key: took.latency_ms for key, took in alone.items()} == {
            key: took.latency_ms for key, took in found.items()
        }
        assert not any(took.ttft_ms for took in alone.values())
