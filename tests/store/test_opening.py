"""Opening a ledger: one gateway at a time, any number of readers, damage told and survived."""

import asyncio
import os
import random
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from modelspend.alarms import Alarm, Silence, Step
from modelspend.errors import LedgerCorrupt, LedgerHeld, NotFound
from modelspend.money import Band, Price
from modelspend.receipt import Receipt, Savings, Status
from modelspend.store import Store, files, migrations, read_lock
from tests.store import older
from tests.store.conftest import outside
from tests.store.synthetic import Traffic, with_bodies
from tests.store.test_conversations import missing


async def _filled(ledger: Path, count: int, seed: int = 5) -> list[Receipt]:
    """A closed ledger with receipts and bodies."""
    store = await Store.open(ledger, durability="normal")
    both = [with_bodies(receipt) for receipt in Traffic(seed).receipts(count)]
    await asyncio.gather(*(store.calls.finish(*call) for call in both))
    await store.close()
    return [receipt for receipt, _ in both]


async def test_a_second_gateway_is_refused_and_told_who_holds_the_ledger(ledger: Path) -> None:
    store = await Store.open(ledger, clock=lambda: 1_790_000_000_000, boot_id="b1")
    store.lock.update(url="http://127.0.0.1:8787")
    with pytest.raises(LedgerHeld) as caught:
        await Store.open(ledger)
    assert f"process {os.getpid()} at http://127.0.0.1:8787" in caught.value.message
    assert "2026-09-21T14:13:20.000Z" in caught.value.message
    holder = read_lock(ledger)
    assert holder is not None
    assert (holder.pid, holder.url, holder.boot_id) == (
        os.getpid(),
        "http://127.0.0.1:8787",
        "b1",
    )
    await store.close()
    assert read_lock(ledger) is None
    await (await Store.open(ledger)).close()


async def test_looking_who_holds_the_ledger_does_not_keep_a_gateway_out(ledger: Path) -> None:
    await (await Store.open(ledger)).close()
    stop = False

    def look() -> None:
        while not stop:
            read_lock(ledger)

    looking = asyncio.get_running_loop().run_in_executor(None, look)
    for _ in range(20):
        await (await Store.open(ledger, durability="normal")).close()
    stop = True
    await looking


async def test_files_are_for_their_owner_alone_whatever_the_umask(
    ledger: Path, traffic: Traffic
) -> None:
    before = os.umask(0)
    try:
        store = await Store.open(ledger)
        await store.calls.finish(traffic.receipt())
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in ledger.parent.iterdir()}
        await store.close()
    finally:
        os.umask(before)
    assert {"ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db.lock"} <= set(modes)
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(ledger.parent.stat().st_mode) == 0o700


async def test_reading_needs_no_gateway_and_makes_no_ledger(ledger: Path) -> None:
    with pytest.raises(NotFound, match="no ledger"):
        await Store.open_read(ledger)
    assert not ledger.exists()
    await _filled(ledger, 3)
    reading = await Store.open_read(ledger)
    assert await reading.receipts.count() == 3
    await reading.close()


async def test_a_reader_sees_what_a_running_gateway_commits(
    store: Store, ledger: Path, traffic: Traffic
) -> None:
    reading = await Store.open_read(ledger)
    seen = await reading.meta.last_seq()
    await store.calls.finish(traffic.receipt())
    assert await reading.meta.last_seq() != seen
    assert await reading.receipts.count() == 1
    await reading.close()


async def test_reading_works_right_after_a_crash(ledger: Path, tmp_path: Path) -> None:
    """A log is there, and nobody to copy it into the ledger: the files as `kill -9` leaves them."""
    store = await Store.open(ledger)
    receipts = list(Traffic(3).receipts(5))
    for receipt in receipts:
        await store.calls.finish(receipt)
    crashed = tmp_path / "crashed" / "ledger.db"
    crashed.parent.mkdir()
    for file in files.family(ledger)[:2]:
        (crashed.parent / file.name).write_bytes(file.read_bytes())
    await store.close()
    reading = await Store.open_read(crashed)
    assert [s.receipt for s in await reading.receipts.list()] == receipts[::-1]
    await reading.close()


async def test_a_note_is_noticed_by_the_gateway_beside_which_it_was_written(
    store: Store, ledger: Path, traffic: Traffic
) -> None:
    price = Price(
        provider="local", model="m", source="override", bands=(Band(0, {"input_tokens": 7}),)
    )
    noticed = asyncio.Event()
    assert store._writer is not None
    store._writer.on_foreign_commit.append(noticed.set)
    await store.calls.finish(traffic.receipt())
    assert not await store.changed_outside(), "its own commits are no news"
    notes = await Store.open_notes(ledger)
    await notes.prices.set_override(price, at_ms=1)
    await notes.close()
    async with asyncio.timeout(10):
        await noticed.wait()
    assert await store.changed_outside()
    assert not await store.changed_outside()
    assert await store.prices.overrides() == [price]
    await store.calls.finish(traffic.receipt())
    assert await store.meta.check() == []


async def test_an_override_is_replaced_and_cleared(ledger: Path) -> None:
    def price(pico: int, since: int | None = None) -> Price:
        return Price(
            provider="local",
            model="m",
            source="override",
            valid_from_ms=since,
            bands=(Band(0, {"input_tokens": pico}), Band(200_000, {"input_tokens": 2 * pico})),
        )

    notes = await Store.open_notes(ledger)
    await notes.prices.set_override(price(1), at_ms=1)
    await notes.prices.set_override(price(2), at_ms=2)
    await notes.prices.set_override(price(3, since=500), at_ms=3)
    assert await notes.prices.overrides() == [price(2), price(3, since=500)]
    assert {row.price_id for row in await notes.prices.rows()} == {
        price(1).price_id,
        price(2).price_id,
        price(3, since=500).price_id,
    }
    assert await notes.prices.clear_override("local", "m") == 2
    assert await notes.prices.overrides() == []
    await notes.close()


async def test_a_secret_is_made_once_and_kept(ledger: Path) -> None:
    store = await Store.open(ledger)
    first = await store.secret("fingerprint")
    assert await store.secret("other") != first
    await store.close()
    again = await Store.open(ledger)
    assert await again.secret("fingerprint") == first
    assert len(first) == 32
    await again.close()


async def test_somebody_elses_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with outside(path) as conn:
        conn.execute("CREATE TABLE photos (id INTEGER)")
    before = path.read_bytes()
    with pytest.raises(LedgerCorrupt, match="something else"):
        await Store.open(path)
    text = tmp_path / "notes.txt"
    text.write_text("dear diary " * 1000)
    with pytest.raises(LedgerCorrupt):
        await Store.open(text)
    assert text.read_text() == "dear diary " * 1000
    assert path.read_bytes()[100:] == before[100:]
    assert read_lock(path) is None, "the lock is given back"


async def test_a_ledger_of_a_newer_program_is_refused(ledger: Path) -> None:
    await _filled(ledger, 1)
    with outside(ledger) as conn:
        conn.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerCorrupt, match="newer modelspend"):
        await Store.open(ledger)


async def test_a_migration_is_whole_or_absent(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipts = await _filled(ledger, 3)

    def m002_half(db: object) -> None:
        db.execute("CREATE TABLE half (x)")  # type: ignore[attr-defined]
        raise RuntimeError("power gone")

    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, m002_half))
    monkeypatch.setattr(files, "MIGRATIONS", migrations.MIGRATIONS)
    with pytest.raises(RuntimeError, match="power gone"):
        await Store.open(ledger)
    monkeypatch.undo()
    store = await Store.open(ledger)
    assert len(await store.receipts.list()) == len(receipts)
    await store.close()
    with outside(ledger) as conn:
        assert not conn.execute("SELECT 1 FROM sqlite_master WHERE name = 'half'").fetchall()


async def test_a_ledger_of_version_1_gets_what_later_ones_add_and_keeps_its_receipts(
    ledger: Path, traffic: Traffic
) -> None:
    receipts = await _filled(ledger, 20)
    with outside(ledger) as conn:
        older.back_to(conn, 1)
        assert conn.execute("PRAGMA user_version").fetchone() == (1,)
        tables = {row[0] for row in conn.execute("SELECT name FROM sqlite_master")}
        assert not tables & {"conversations", "cache_misses", "answer_cache"}
    reading = await Store.open_read(ledger)  # a command alone brings it up to date, too
    assert await reading.conversations.by_kind() == []
    assert (await reading.meta.info()).schema_version == len(migrations.MIGRATIONS)
    await reading.close()
    store = await Store.open(ledger, durability="normal")
    assert [s.receipt for s in await store.receipts.list(limit=50)] == sorted(
        receipts, key=lambda receipt: receipt.created_at_ms, reverse=True
    )
    await store.calls.finish(traffic.receipt(), advanced=missing(10))
    assert [one.miss.tokens for one in await store.conversations.misses()] == [10]
    assert await store.meta.check() == []
    await store.close()


async def test_what_reports_need_is_made_for_the_receipts_that_are_there_already(
    ledger: Path, traffic: Traffic
) -> None:
    store = await Store.open(ledger, durability="normal")
    receipts = []
    for n, made in enumerate(traffic.receipts(30)):
        region = None if n % 3 else f"region-{n % 2}"
        attempts = (*made.attempts[:-1], replace(made.attempts[-1], region=region))
        tags = {"team": f"t{n % 4}"} if n % 2 else {}
        receipts.append(replace(made, attempts=attempts, tags=tags))
        await store.calls.finish(receipts[-1])
    kept = Savings(baseline_model="m", baseline_cost_pico=7, by_mechanism={"caching": 7})
    cached = replace(
        traffic.receipt(),
        savings=kept,
        execution=replace(receipts[0].execution, status=Status.CACHED, actual_cost_pico=0),
    )
    await store.calls.finish(cached)
    before = await store.days.sums(("day", "region", "model"))
    tagged = await store.days.by_tag(None)
    await store.close()
    with outside(ledger) as conn:
        older.back_to(conn, older.before("reports"))
    again = await Store.open(ledger, durability="normal")
    assert await again.meta.check() == []
    assert await again.days.sums(("day", "region", "model")) == before
    assert len({region for _, region, _ in before}) == 3
    assert await again.days.by_tag(None) == tagged
    assert len(tagged) == 2
    await again.close()


async def test_the_misses_of_receipts_that_were_salvaged_are_kept(ledger: Path) -> None:
    """And what was told: a salvaged ledger pages nobody a second time."""
    store = await Store.open(ledger, durability="normal")
    alarm = Alarm(rule="velocity", scope="process", name="all", level="warn", said="x",
                  window_ms=1, since_ms=1, seen_ms=1, told="warn", is_open=True)  # fmt: skip
    silence = Silence(rule="p95_drift", at_ms=1, until_ms=2)
    await store.alarms.write([Step(alarm=alarm)])
    await store.alarms.silence(silence)
    receipts = list(Traffic(5).receipts(400))
    for receipt in receipts:
        await store.calls.finish(receipt, advanced=missing(10))
    await store.close()
    with outside(ledger) as conn:
        (page,) = conn.execute(
            "SELECT pageno FROM dbstat WHERE name = 'receipts' AND pagetype = 'leaf'"
            " ORDER BY pageno LIMIT 1 OFFSET 20"
        ).fetchone()
    with ledger.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))
    again = await Store.open(ledger)
    kept = await again.receipts.count()
    assert 300 < kept < 400
    assert len(await again.conversations.misses(limit=1000)) == kept
    assert await again.alarms.known() == [alarm]
    assert await again.alarms.silences() == [silence]
    await again.close()


async def test_a_damaged_ledger_is_put_aside_and_what_proves_itself_is_kept(ledger: Path) -> None:
    receipts = await _filled(ledger, 400)
    with outside(ledger) as conn:
        (page,) = conn.execute(
            "SELECT pageno FROM dbstat WHERE name = 'receipts' AND pagetype = 'leaf'"
            " ORDER BY pageno LIMIT 1 OFFSET 20"
        ).fetchone()
    with ledger.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))
    store = await Store.open(ledger)
    try:
        (gap,) = await store.events.after(0)
        assert gap.kind == "ledger.gap"
        assert gap.level == "critical"
        kept, lost = gap.data["receipts_kept"], gap.data["receipts_lost"]
        assert kept + lost == 400
        assert 0 < lost < 20
        assert (ledger.parent / gap.data["aside"]).exists(), "the damaged file is not deleted"
        by_id = {receipt.receipt_id: receipt for receipt in receipts}
        found = await store.receipts.list(limit=1000)
        assert len(found) == kept
        assert all(by_id[stored.receipt.receipt_id] == stored.receipt for stored in found)
        assert await store.calls.finish(Traffic(99).receipt()) > 400
        (broken,) = await store.meta.check()
        assert broken.startswith("the chain is not whole up to number 401: the file was damaged")
    finally:
        await store.close()


_OUTCOMES = ("sound", "found", "recovered", "refused")


async def _flip_and_open(ledger: Path, receipts: list[Receipt], rng: random.Random) -> str:
    """Flip bytes, open, and say how it ended; a figure that is wrong in silence is a failure."""
    whole = bytearray(ledger.read_bytes())
    for _ in range(rng.choice((1, 2, 8, 64))):
        whole[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
    ledger.write_bytes(whole)
    try:
        store = await Store.open(ledger, durability="normal")
    except LedgerCorrupt:
        return "refused"
    try:
        if await store.meta.check():
            return "found"
        recovered = any(e.kind == "ledger.gap" for e in await store.events.after(0))
        by_id = {receipt.receipt_id: receipt for receipt in receipts}
        found = await store.receipts.list(limit=10_000)
        assert all(by_id[stored.receipt.receipt_id] == stored.receipt for stored in found)
        totals = await store.receipts.totals()
        charged = sum(stored.receipt.execution.charged_pico for stored in found)
        assert totals.charged_pico == charged
        assert recovered or totals.receipts == len(receipts)
        return "recovered" if recovered else "sound"
    except files.Unreadable:
        return "refused"
    finally:
        await store.close()


async def _flips(tmp_path: Path, seeds: range) -> dict[str, int]:
    counts = dict.fromkeys(_OUTCOMES, 0)
    template = tmp_path / "template" / "ledger.db"
    receipts = await _filled(template, 60)
    for seed in seeds:
        ledger = tmp_path / f"flip-{seed}" / "ledger.db"
        ledger.parent.mkdir()
        ledger.write_bytes(template.read_bytes())
        ledger.with_name("ledger.db.lock").write_text("{}")
        counts[await _flip_and_open(ledger, receipts, random.Random(seed))] += 1
    print(f"flipped bytes: {counts}")
    return counts


async def test_flipped_bytes_never_change_a_total_in_silence(tmp_path: Path) -> None:
    counts = await _flips(tmp_path, range(25))
    assert counts["found"] + counts["recovered"] + counts["refused"] > 5, "the flips must matter"


@pytest.mark.full
@pytest.mark.timeout(1200)
async def test_flipped_bytes_never_change_a_total_in_silence_over_many_seeds(
    tmp_path: Path,
) -> None:
    await _flips(tmp_path, range(1000, 1400))
