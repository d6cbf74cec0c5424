"""A restore: the backup takes the ledger's place; what others have seen or spent is not undone.

The long proof is `pytest -m full tests/store/test_restore.py`: kill -9 at every single call to the
system that a restore makes to change a file.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modelspend import windows
from modelspend.budgets import Budget, Hold
from modelspend.errors import BudgetExceeded, CheckFailed, LedgerHeld, NotFound, Usage
from modelspend.events import Event
from modelspend.places import checkpoint_key
from modelspend.receipt import Receipt, Status
from modelspend.sinks import Wants
from modelspend.store import ALL, Stop, Store, backup, restore
from modelspend.store.days import roll
from modelspend.store.signed_checkpoints import read_key
from modelspend.store.verify import Verdict
from modelspend.store.writer import needed
from tests.store.conftest import outside
from tests.store.synthetic import START_MS, Traffic, intent_of, with_bodies
from tests.store.test_backup import filled, rows
from tests.store.test_kill import Promises, run_and_kill

ROOT = Path(__file__).parents[2]
NOW = START_MS + 10**9
EVENT = Event(kind="circuit.open", at_ms=NOW, level="warn", data={"provider": "openai"})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "copy.db"


@pytest.fixture
def traffic() -> Traffic:
    return Traffic(seed=21, start_ms=NOW)


async def written(store: Store, traffic: Traffic, count: int) -> list[Receipt]:
    made = []
    for _ in range(count):
        receipt, bodies = with_bodies(traffic.receipt())
        await store.calls.begin(intent_of(receipt))
        await store.calls.finish(receipt, bodies)
        made.append(receipt)
    return made


async def verdict(ledger: Path) -> Verdict:
    store = await Store.open_read(ledger)
    try:
        return await store.meta.verify(key=read_key(checkpoint_key(ledger)))
    finally:
        await store.close()


def files_of(ledger: Path, which: str = "*") -> set[str]:
    return {each.name for each in ledger.parent.glob(f"{ledger.name}{which}")}


async def test_the_ledger_is_as_it_was_and_the_old_file_is_kept_whole(
    ledger: Path, file: Path, traffic: Traffic
) -> None:
    filled(ledger)
    backup.make(ledger, file, NOW)
    store = await Store.open(ledger)
    await written(store, traffic, 5)
    await store.close()
    before, was = rows(ledger), rows(file)
    done = restore.restore(ledger, file, NOW)
    assert rows(ledger) == was
    assert done.aside is not None
    assert rows(done.aside) == before
    assert (done.lost, done.holding.receipts, done.numbers_known) == (5, 60, True)
    assert files_of(ledger, ".*") == {"ledger.db.lock", "ledger.db.gate", done.aside.name}


async def test_the_chain_says_that_it_was_broken_and_why_and_holds_from_there_on(
    ledger: Path, file: Path, traffic: Traffic
) -> None:
    filled(ledger)
    backup.make(ledger, file, NOW)
    store = await Store.open(ledger)
    await written(store, traffic, 5)
    await store.checkpoints.make(NOW)
    await store.close()
    key = checkpoint_key(ledger).read_bytes()
    restore.restore(ledger, file, NOW + 1)
    store = await Store.open(ledger)
    await written(store, traffic, 3)
    await store.checkpoints.make(NOW + 2)
    await store.close()
    found = await verdict(ledger)
    assert found.problems == ()
    (broken,) = found.breaks
    assert broken.reason.startswith("restored from a backup of 20")
    assert (broken.missing, broken.signed, found.receipts) == (5, True, 63)
    assert checkpoint_key(ledger).read_bytes() == key


async def test_a_change_from_before_the_break_is_still_found(ledger: Path, file: Path) -> None:
    filled(ledger)
    backup.make(ledger, file, NOW)
    restore.restore(ledger, file, NOW)
    with outside(ledger) as conn:
        conn.execute("DELETE FROM bodies WHERE seq = 30")
        for table in ("attempts", "tags", "savings", "v3_failover_decisions", "receipts"):
            conn.execute(f"DELETE FROM {table} WHERE seq = 30")
    assert (await verdict(ledger)).problems


@pytest.mark.parametrize("last", ["receipt", "event", "a number in doubt"])
async def test_no_number_is_given_twice(
    ledger: Path, file: Path, traffic: Traffic, last: str
) -> None:
    """Sinks, cursors and SSE clients have seen them; what they had seen stays the only one."""
    filled(ledger)
    backup.make(ledger, file, NOW)
    store = await Store.open(ledger)
    await written(store, traffic, 5)
    if last == "event":
        store.events.tell(EVENT)
        store.events.tell(EVENT)
    await store.close()
    highest = (await verdict(ledger)).last_seq
    if last == "a number in doubt":  # the counter knows of more than the rows
        with outside(ledger) as conn:
            conn.execute("UPDATE head SET seq = 90")
        highest = 90
    done = restore.restore(ledger, file, NOW)
    assert done.continues_at == highest + 1
    store = await Store.open(ledger)
    (told,) = await store.events.after(0)
    (new,) = await written(store, traffic, 1)
    found = await store.receipts.get(new.receipt_id)
    await store.close()
    assert (told.kind, told.seq) == ("ledger.restored", highest + 1)
    assert found is not None
    assert found.seq == highest + 2


async def test_calls_that_were_under_way_become_interrupted_once(
    ledger: Path, file: Path, traffic: Traffic
) -> None:
    store = await Store.open(ledger)
    await written(store, traffic, 2)
    opened = [with_bodies(traffic.receipt())[0] for _ in range(3)]
    for receipt in opened:
        await store.calls.begin(intent_of(receipt))
    assert backup.make(ledger, file, NOW).open_intents == 3
    for receipt in opened:
        await store.calls.finish(receipt)
    await store.close()
    restore.restore(ledger, file, NOW)
    for _ in range(2):
        store = await Store.open(ledger)
        await store.calls.recover(NOW)
        found = await store.receipts.after(0, ALL, limit=100)
        assert await store.calls.open_count() == 0
        await store.close()
    ends = {each.receipt.receipt_id: each.receipt.execution.status for each in found}
    assert len(found) == 5
    assert {ends[receipt.receipt_id] for receipt in opened} == {Status.INTERRUPTED}


CAP = Budget(scope="tenant", name="acme", window=windows.parse("month"), cap_pico=100)


def hold(amount: int) -> Hold:
    return Hold(budget=CAP, slot=windows.slot(CAP.window, NOW), amount_pico=amount)


async def spend(store: Store, traffic: Traffic, held: int, charged: int | None) -> None:
    """A call that holds so much and is charged so much; one that is not charged stays open."""
    made = traffic.receipt()
    run = replace(made.execution, charged_pico=charged or 0)
    receipt = replace(made, created_at_ms=NOW, tenant="acme", execution=run)
    await store.budgets.open([CAP], NOW)
    await store.calls.begin(replace(intent_of(receipt), hold_pico=held), [hold(held)])
    if charged is not None:
        await store.calls.finish(receipt, charges=[hold(charged)])


async def used(store: Store) -> tuple[int, int]:
    (usage,) = await store.budgets.usage([CAP], NOW)
    return usage.spent_pico, usage.held_pico


async def test_a_cap_holds_over_a_restore(ledger: Path, file: Path, traffic: Traffic) -> None:
    """Money that was spent after the backup was spent."""
    store = await Store.open(ledger)
    await spend(store, traffic, 20, 10)
    backup.make(ledger, file, NOW)
    await spend(store, traffic, 70, 70)
    assert await used(store) == (80, 0)
    await store.close()
    restore.restore(ledger, file, NOW)
    store = await Store.open(ledger)
    await store.calls.recover(NOW)
    assert await used(store) == (80, 0)
    with pytest.raises(BudgetExceeded):
        await spend(store, traffic, 21, 21)
    await spend(store, traffic, 20, 20)
    await store.close()


async def test_what_was_held_at_either_time_is_settled_and_never_forgotten(
    ledger: Path, file: Path, traffic: Traffic
) -> None:
    store = await Store.open(ledger)
    await spend(store, traffic, 30, None)  # open at the backup
    backup.make(ledger, file, NOW)
    await spend(store, traffic, 25, None)  # and one that the backup does not know
    assert await used(store) == (0, 55)
    await store.close()
    restore.restore(ledger, file, NOW)
    store = await Store.open(ledger)
    assert await used(store) == (25, 30)
    await store.calls.recover(NOW)
    assert await used(store) == (55, 0)
    assert await store.budgets.holds() == []
    await store.close()


async def test_orders_that_stand_are_those_of_now(
    ledger: Path, file: Path, traffic: Traffic
) -> None:
    store = await Store.open(ledger)
    told = Event(kind="budget.stopped", at_ms=NOW)
    await store.budgets.stop(Stop(name="conv-1", reason="then", at_ms=NOW), told)
    backup.make(ledger, file, NOW)
    await store.budgets.lift("conv-1", told)
    await store.budgets.stop(Stop(name="conv-2", reason="now", at_ms=NOW), told)
    await store.budgets.set_override(replace(CAP, cap_pico=7), NOW)
    await store.close()
    restore.restore(ledger, file, NOW)
    store = await Store.open(ledger)
    assert [one.name for one in await store.budgets.stops()] == ["conv-2"]
    assert [one.cap_pico for one in await store.budgets.overrides()] == [7]
    await store.close()


async def test_sinks_go_on_behind_what_they_sent_and_count_what_is_lost(
    ledger: Path, file: Path, traffic: Traffic
) -> None:
    """sent + dropped + queued is what was emitted, before and after; nothing is sent twice."""
    store = await Store.open(ledger)
    ahead, behind = Wants(kinds=()), Wants(kinds=())
    await store.sinks.enrol("ahead", ahead)
    await store.sinks.enrol("behind", behind)
    await written(store, traffic, 10)
    backup.make(ledger, file, NOW)
    await written(store, traffic, 6)
    await store.sinks.advance("ahead", 13, sent=13, dropped=0, filed=0, at_ms=NOW)
    await store.sinks.advance("behind", 4, sent=3, dropped=1, filed=0, at_ms=NOW)
    await store.close()
    done = restore.restore(ledger, file, NOW)
    store = await Store.open(ledger)
    (new,) = await written(store, traffic, 1)
    standings = {one.name: one for one in await store.sinks.standings(NOW)}
    first, second = standings["ahead"], standings["behind"]
    assert (first.sent, first.dropped, first.queued) == (13, 3, 1)
    assert first.cursor == done.continues_at - 1
    page = await store.sinks.page(first.cursor, 100, ahead)
    assert [one.receipt.receipt_id for one in page.emissions] == [new.receipt_id]  # type: ignore[union-attr]
    assert (second.sent, second.dropped, second.queued, second.cursor) == (3, 1 + 6, 6 + 1, 4)
    await store.close()


async def test_orders_to_circuits_of_then_are_not_obeyed_again(ledger: Path, file: Path) -> None:
    filled(ledger)
    with outside(ledger) as conn:
        conn.execute(
            "INSERT INTO circuit_orders (act, provider, ordered_at) VALUES ('trip', 'openai', 1)"
        )
    backup.make(ledger, file, NOW)
    restore.restore(ledger, file, NOW)
    with outside(ledger) as conn:
        assert conn.execute("SELECT count(*) FROM circuit_orders").fetchone() == (0,)


async def test_daily_sums_need_not_be_rolled_through_numbers_that_nobody_has(
    ledger: Path, file: Path
) -> None:
    filled(ledger)
    backup.make(ledger, file, NOW)
    ledger.unlink()
    ledger.write_bytes(b"\0" * 4096)  # nothing of it can be read
    done = restore.restore(ledger, file, NOW + 3_600_000)
    assert not done.numbers_known
    assert done.lost is None
    assert done.continues_at == 60 + 1_000_000 + 3600 * 100 + 1
    store = await Store.open(ledger)
    await written(store, Traffic(8, start_ms=NOW), 1)
    assert not await needed(store._writer).do(roll), "one step takes all that there is"
    await store.close()
    assert (await verdict(ledger)).problems == ()


async def test_the_old_file_has_its_log_in_it_after_a_crash(ledger: Path, file: Path) -> None:
    filled(ledger)
    backup.make(ledger, file, NOW)
    promises = Promises()
    run_and_kill(ledger, 3, promises, lines_to_hear=60)
    assert ledger.with_name("ledger.db-wal").stat().st_size
    done = restore.restore(ledger, file, NOW)
    assert done.aside is not None
    assert files_of(ledger, ".replaced-*") == {done.aside.name}
    assert len(rows(done.aside)) >= 60 + len(promises.done)


async def test_a_lost_ledger_is_restored_where_there_is_none(ledger: Path, file: Path) -> None:
    filled(ledger)
    backup.make(ledger, file, NOW)
    shutil.rmtree(ledger.parent)
    done = restore.restore(ledger, file, NOW + 60_000)
    assert done.aside is None
    assert (done.lost, done.numbers_known) == (None, False)
    assert done.continues_at == 60 + 1_000_000 + 60 * 100 + 1, "what it gave since is not known"
    assert rows(ledger) == rows(file)
    assert (await verdict(ledger)).problems == ()


async def test_another_ledgers_spending_is_added(
    ledger: Path, file: Path, tmp_path: Path, traffic: Traffic
) -> None:
    """A machine that was set up anew and served for a while before its backup was brought back."""
    store = await Store.open(ledger)
    await spend(store, traffic, 20, 10)
    await store.close()
    backup.make(ledger, file, NOW)
    other = tmp_path / "new" / "ledger.db"
    store = await Store.open(other)
    await spend(store, traffic, 20, 15)
    await store.close()
    done = restore.restore(other, file, NOW)
    assert (done.lost, done.numbers_known) == (None, False)
    assert done.continues_at > 1_000_000, "what the lost one gave since is not known"
    store = await Store.open(other)
    assert await used(store) == (25, 0)
    await store.close()


async def test_a_running_gateway_is_not_pulled_from_under(ledger: Path, file: Path) -> None:
    filled(ledger)
    backup.make(ledger, file, NOW)
    store = await Store.open(ledger)
    with pytest.raises(LedgerHeld):
        restore.restore(ledger, file, NOW)
    await store.close()
    assert files_of(ledger, ".*") == {"ledger.db.lock", "ledger.db.gate"}


@pytest.mark.parametrize("damage", ["edited", "torn", "no database"])
async def test_a_backup_that_is_not_sound_changes_nothing(
    ledger: Path, file: Path, damage: str
) -> None:
    filled(ledger, 300)
    backup.make(ledger, file, NOW)
    if damage == "edited":
        with outside(file) as conn:
            conn.execute("UPDATE receipts SET cost_pico = 1 WHERE seq = 9")
    elif damage == "torn":
        os.truncate(file, file.stat().st_size // 2)
    else:
        file.write_bytes(os.urandom(50_000))
    before = rows(ledger)
    with pytest.raises(CheckFailed, match="not sound"):
        restore.restore(ledger, file, NOW)
    assert rows(ledger) == before
    assert files_of(ledger, ".incoming*") == set()
    assert (await verdict(ledger)).breaks == ()


def test_what_is_no_backup_is_refused_by_its_name(ledger: Path, file: Path) -> None:
    filled(ledger)
    with pytest.raises(NotFound):
        restore.restore(ledger, file, NOW)
    with pytest.raises(Usage, match="the ledger itself"):
        restore.restore(ledger, ledger, NOW)


# A swap that was broken off.


def _nothing_moved(ledger: Path, aside: Path) -> None:
    """The new one is there, and no more was done."""


def _ledger_moved(ledger: Path, aside: Path) -> None:
    ledger.rename(aside)


def _all_moved(ledger: Path, aside: Path) -> None:
    for end in ("", "-wal", "-shm"):
        old = ledger.with_name(ledger.name + end)
        if old.exists():
            old.rename(aside.with_name(aside.name + end))


@pytest.mark.parametrize("how_far", [_nothing_moved, _ledger_moved, _all_moved])
@pytest.mark.parametrize("opener", ["gateway", "reader", "notes"])
async def test_whoever_opens_the_ledger_next_finishes_a_swap(
    ledger: Path, file: Path, how_far: Callable[[Path, Path], None], opener: str
) -> None:
    filled(ledger)
    backup.make(ledger, file, NOW)
    filled(ledger, 20, seed=6)
    for end in ("-wal", "-shm"):  # as a crash leaves them
        ledger.with_name(ledger.name + end).write_bytes(b"")
    made = restore._bring_in(ledger, file, NOW, backup.quiet)
    new = restore.incoming(ledger)
    how_far(ledger, restore.files.aside_name(ledger, new.stat().st_mtime_ns // 10**6, "replaced"))
    opens = {"gateway": Store.open, "reader": Store.open_read, "notes": Store.open_notes}
    store = await opens[opener](ledger)
    await store.close()
    assert rows(ledger) == rows(file)
    assert not new.exists()
    (aside,) = (name for name in files_of(ledger, ".replaced-*") if name.endswith("Z"))
    assert len(rows(ledger.with_name(aside))) == 80
    assert made.lost == 20


def test_a_file_that_was_kept_is_never_written_over(ledger: Path, file: Path) -> None:
    """Such as when an older version has made an empty ledger where the old one had just been."""
    filled(ledger)
    backup.make(ledger, file, NOW)
    restore._bring_in(ledger, file, NOW, backup.quiet)
    stamp = restore.incoming(ledger).stat().st_mtime_ns // 10**6
    aside = restore.files.aside_name(ledger, stamp, "replaced")
    ledger.rename(aside)
    ledger.write_bytes(b"")
    assert restore.finish(ledger) == aside
    assert len(rows(aside)) == 60
    assert rows(ledger) == rows(file)


_CHILD = (
    "import sys; from pathlib import Path; from modelspend.store import restore;"
    "restore.restore(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))"
)
CHANGING = ("rename", "unlink", "fsync", "fdatasync", "ftruncate", "pwrite64", "chmod", "close")


def killed_at(ledger: Path, file: Path, n: int, calls: str) -> bool:
    """A restore that dies at its n-th call of such a kind; whether it did not come so far."""
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={calls}", "-e",
         f"inject={calls}:signal=KILL:when={n}",
         sys.executable, "-c", _CHILD, str(ledger), str(file), str(NOW)],
        cwd=ROOT, capture_output=True,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), done.stderr.decode()
    return done.returncode == 0


async def killed_everywhere(tmp_path: Path, calls: str, step: int) -> tuple[int, int]:
    """(how many times, how often it counted already) over all n of one restore."""
    place = tmp_path / "start"
    ledger, file = place / "ledger.db", tmp_path / "copy.db"
    filled(ledger, 30)
    backup.make(ledger, file, NOW)
    filled(ledger, 10, seed=6)
    old, new = rows(ledger), rows(file)
    n, counted = 1, 0
    while True:
        one = tmp_path / f"killed-{n}"
        shutil.copytree(place, one)
        if killed_at(one / "ledger.db", file, n, calls):
            return n // step, counted
        store = await Store.open(one / "ledger.db")
        assert await store.calls.recover(NOW) == []
        await store.close()
        here, found = rows(one / "ledger.db"), await verdict(one / "ledger.db")
        assert here in (old, new), n
        assert found.problems == (), n
        assert len(found.breaks) == (here == new), n
        if here == new:
            counted += 1
            (aside,) = (x for x in files_of(one / "ledger.db", ".replaced-*") if x[-1] == "Z")
            assert rows(one / aside) == old
            assert found.last_seq == 41
        assert not restore.incoming(one / "ledger.db").exists()
        shutil.rmtree(one)
        n += step


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@needs_strace
async def test_kill_9_at_any_rename_leaves_the_old_ledger_or_the_new_one(tmp_path: Path) -> None:
    times, counted = await killed_everywhere(tmp_path, "rename", 1)
    assert 0 < counted < times


@needs_strace
@pytest.mark.full
@pytest.mark.timeout(1800)
async def test_kill_9_at_every_change_of_a_file(tmp_path: Path) -> None:
    """Each kind of call by itself, since each is counted by itself."""
    total = after = 0
    for calls in CHANGING:
        folder = tmp_path / calls
        folder.mkdir()
        times, counted = await killed_everywhere(folder, calls, 10 if calls == "close" else 1)
        print(f"kill -9 at each {calls}: {times} times; in {counted} the new ledger counted")
        total, after = total + times, after + counted
    assert 0 < after < total
