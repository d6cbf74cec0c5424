"""Whoever changes the ledger behind its back is found, and where: proof 6.

The long proof is `pytest -m full tests/store/test_tampering.py`: 500 tamperings of a ledger, drawn
from seeds, and 500 of its export.
"""

import random
import sqlite3
from pathlib import Path

import pytest

from modelspend.chain import Problem
from modelspend.events import Event
from modelspend.failovers import Failover, Trail
from modelspend.receipt import Receipt
from modelspend.store import Store, verify
from tests.bench.reports import rich
from tests.store.conftest import outside
from tests.store.synthetic import Traffic, with_bodies
from tests.store.tampering import rebuild, tamper, truncate

COUNT = 60


@pytest.fixture
async def filled(ledger: Path) -> Path:
    """A ledger with everything in it: events between receipts, hops, tags, savings, bodies."""
    rng = random.Random(4)
    store = await Store.open(ledger, durability="normal")
    for n, made in enumerate(Traffic(8, tenants=3).receipts(COUNT)):
        receipt, bodies = with_bodies(rich(made, rng))
        trail = Trail(failovers=(_hop(receipt),)) if len(receipt.attempts) > 1 else None
        told = Event(kind="budget.threshold", at_ms=receipt.created_at_ms, data={"spent_usd": n})
        await store.calls.finish(receipt, bodies, [told] * (n % 3 == 0), trail=trail)
        if n in (20, 40):
            await store.checkpoints.make(receipt.created_at_ms)
    await store.close()
    assert _verdict(ledger).wrong == 0
    return ledger


def _hop(receipt: Receipt) -> Failover:
    first, second = receipt.attempts[:2]
    return Failover(
        from_provider=first.provider,
        to_provider=second.provider,
        model_id=first.model_id,
        to_model_id=second.model_id,
        reason="attempt_failed",
        failure_class=first.failure_class,
        decided_at_ms=second.started_at_ms,
    )


def _verdict(ledger: Path) -> verify.Verdict:
    with outside(ledger) as conn:
        return verify.inspect(conn)


def _numbers(problems: tuple[Problem, ...]) -> set[int]:
    return {
        number
        for one in problems
        if one.seq is not None
        for number in range(one.seq, (one.until or one.seq) + 1)
    }


def _found(ledger: Path, whole: bytes, seed: int) -> str:
    """What is wrong with how one tampering was found; nothing if it was, and there alone."""
    ledger.write_bytes(whole)
    with outside(ledger) as conn:
        done = tamper(conn, random.Random(seed))
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    verdict = _verdict(ledger)
    told = _numbers(verdict.problems)
    if not verdict.wrong:
        return f"{seed} {done.how}: not found"
    if not told & done.touched or told - done.touched:
        said = "; ".join(map(str, verdict.problems[:4]))
        return f"{seed} {done.how}: touches {sorted(done.touched)}, told {sorted(told)}: {said}"
    return ""


def _missed(ledger: Path, seeds: range) -> list[str]:
    whole = ledger.read_bytes()
    return [what for seed in seeds if (what := _found(ledger, whole, seed))]


async def test_a_hundred_tamperings_are_found_where_they_were_done(filled: Path) -> None:
    missed = _missed(filled, range(100))
    assert not missed, "\n".join(missed)


@pytest.mark.full
@pytest.mark.timeout(900)
async def test_five_hundred_tamperings_are_found_where_they_were_done(filled: Path) -> None:
    missed = _missed(filled, range(1_000, 1_500))
    print(f"tampering with the ledger: {500 - len(missed)} of 500 found and located")
    assert not missed, "\n".join(missed)


@pytest.mark.parametrize("seq", [3, 30, 70])
async def test_a_chain_that_is_hashed_anew_is_found_by_the_checkpoints_after_it(
    filled: Path, seq: int
) -> None:
    kept = await _kept(filled)
    bound = next((each for each in kept if each.seq >= seq), None)
    with outside(filled) as conn:
        (seq,) = conn.execute("SELECT min(seq) FROM receipts WHERE seq >= ?", (seq,)).fetchone()
        rebuild(conn, seq)
    verdict = _verdict(filled)
    if bound is None:  # after the last checkpoint there is nothing to hold it against
        assert verdict.problems == ()
        return
    (one, *_) = verdict.problems
    assert one.kind == "checkpoint"
    assert one.seq is not None
    assert one.seq <= seq <= (one.until or 0) == bound.seq


async def _kept(ledger: Path) -> list:  # type: ignore[type-arg]
    store = await Store.open_read(ledger)
    try:
        return await store.checkpoints.all()
    finally:
        await store.close()


async def test_a_tail_cut_off_with_all_traces_shows_only_beside_an_exported_checkpoint(
    filled: Path,
) -> None:
    exported = (await _kept(filled))[-1]
    with outside(filled) as conn:
        truncate(conn, exported.seq - 7)
        assert verify.inspect(conn).problems == ()
        (one,) = verify.inspect(conn, given=[exported]).problems
    assert (one.kind, one.seq, one.until) == ("missing", exported.seq - 6, exported.seq)


async def test_a_checkpoint_is_signed_only_over_the_chain_that_it_knew(filled: Path) -> None:
    from modelspend.errors import CheckFailed

    with outside(filled) as conn:
        rebuild(conn, 3)
    store = await Store.open(filled, durability="normal")
    try:
        receipt = next(Traffic(99).receipts(1))
        await store.calls.finish(receipt)
        with pytest.raises(CheckFailed, match="does not lead to"):
            await store.checkpoints.make(receipt.created_at_ms)
    finally:
        await store.close()


async def test_a_checkpoint_that_was_changed_is_told_from_its_signature(filled: Path) -> None:
    from modelspend.places import checkpoint_key
    from modelspend.store.signed_checkpoints import read_key

    key = read_key(checkpoint_key(filled))
    with outside(filled) as conn:
        assert verify.inspect(conn, key).wrong == 0
        conn.execute("""UPDATE checkpoints SET said = replace(said, '"receipts":', '"receipts":1')
                        WHERE seq = (SELECT min(seq) FROM checkpoints)""")
        verdict = verify.inspect(conn, key)
        without = verify.inspect(conn)
    assert [one.kind for one in verdict.problems] == ["signature"]
    assert without.unsigned == 2
    assert [one.kind for one in without.problems] == ["checkpoint"]


async def test_the_key_is_for_this_user_alone_and_never_made_anew(filled: Path) -> None:
    from modelspend.places import checkpoint_key
    from modelspend.store.signed_checkpoints import make_key

    file = checkpoint_key(filled)
    assert file.stat().st_mode & 0o777 == 0o600
    assert make_key(file) == make_key(file)


async def test_bodies_may_be_erased_and_the_chain_holds(filled: Path) -> None:
    with outside(filled) as conn:
        conn.execute("DELETE FROM bodies WHERE seq % 2")
    verdict = _verdict(filled)
    assert verdict.wrong == 0
    assert 0 < verdict.bodies < verdict.receipts == COUNT


async def test_prices_facets_and_days_are_held_to_what_they_follow_from(filled: Path) -> None:
    for statement, kind in (
        ("UPDATE days SET cost_low = cost_low + 1", "columns"),
        ("UPDATE facets SET tenant = 'other' WHERE id = 1", "columns"),
        ("UPDATE head SET receipts = receipts - 1", "head"),
        ("UPDATE head SET hash = zeroblob(32)", "head"),
    ):
        with outside(filled) as conn:
            conn.execute("BEGIN")
            if "days" in statement:
                _roll(conn)
            conn.execute(statement)
            assert verify.inspect(conn).problems[0].kind == kind, statement
            conn.execute("ROLLBACK")


def _roll(conn: sqlite3.Connection) -> None:
    conn.execute("INSERT INTO days SELECT 1, id, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,"
                 " 0 FROM facets LIMIT 1")  # fmt: skip


async def test_a_price_says_what_its_id_is_a_hash_of(filled: Path) -> None:
    from tests.store.synthetic import _PRICES

    store = await Store.open_notes(filled)
    for price in _PRICES.values():
        await store.prices.set_override(price, 1)
    await store.close()
    assert _verdict(filled).wrong == 0
    with outside(filled) as conn:
        conn.execute("UPDATE prices SET bands = replace(bands, '000', '001') WHERE price_id ="
                     " (SELECT max(price_id) FROM prices)")  # fmt: skip
        (named,) = conn.execute("SELECT max(price_id) FROM prices").fetchone()
        (one,) = verify.inspect(conn).problems
    assert one.kind == "price"
    assert named in one.what


async def test_a_salvaged_ledger_shows_its_break_and_is_held_to_what_was_kept(
    filled: Path,
) -> None:
    with outside(filled) as conn:
        (page,) = conn.execute("PRAGMA page_size").fetchone()
        (root,) = conn.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'attempts'"
        ).fetchone()
        conn.execute("DELETE FROM receipts WHERE seq BETWEEN 30 AND 35")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with filled.open("r+b") as file:
        file.seek((root - 1) * page)
        file.write(b"\xff" * page)
    store = await Store.open(filled, durability="normal")
    verdict = await store.meta.verify()
    await store.calls.finish(next(Traffic(99).receipts(1)))
    await store.close()
    (broken,) = verdict.breaks
    assert (await _kept(filled))[-1].broken == broken.reason
    assert "salvaged" in broken.reason
    assert broken.missing >= 4
    assert verdict.problems == ()
    with outside(filled) as conn:
        conn.execute("DELETE FROM receipts WHERE seq = 40")
        after = verify.inspect(conn)
    assert after.wrong
    assert after.breaks == ()
