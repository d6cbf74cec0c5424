"""`export siem`: lines for whoever watches, and files for cron, each event in one of them."""

import asyncio
import contextlib
import gzip
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from modelspend.events import Event
from modelspend.exporters import cef
from modelspend.exporters.folder import Folder
from modelspend.exporters.notice import cut
from modelspend.receipt import Receipt
from modelspend.store import Store
from tests.cli.conftest import Cli
from tests.exporters.hostile import hostile_event, hostile_receipt, read_cef, texts
from tests.exporters.test_roll import killed_before_each_act
from tests.store.synthetic import Traffic

ROOT = Path(__file__).parents[2]
DAY_MS = 86_400_000
FORMATS = ("cef", "ecs", "ocsf")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def put(ledger: Path, receipts: list[Receipt], events: list[Event]) -> None:
    """Both in turn, so that their numbers mix; durable when this returns."""

    async def write() -> None:
        store = await Store.open(ledger, durability="normal")
        for n in range(max(len(receipts), len(events))):
            if n < len(events):
                store.events.tell(events[n])
            if n < len(receipts):
                await store.calls.finish(receipts[n])
        await store.circuits.obeyed([])
        await store.close()

    asyncio.run(write())


def happened(count: int, *, at_ms: int | None = None, tenant: str | None = None) -> list[Event]:
    at_ms = now_ms() if at_ms is None else at_ms
    return [
        Event(kind="budget.threshold", at_ms=at_ms, tenant=tenant, data={"n": n})
        for n in range(count)
    ]


@pytest.fixture
def path(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = home / "ledger" / "ledger.db"
    monkeypatch.setenv("MODELSPEND_STORE__PATH", str(found))
    return found


@pytest.fixture
def some(path: Path) -> Path:
    """20 receipts of long ago and 20 events of now, in turn: numbers 1 to 40."""
    put(path, list(Traffic(seed=5, tenants=3).receipts(20)), happened(20))
    return path


def told(text: str, format: str) -> list[tuple[int, str]]:
    """The number and the id of each line."""
    found = []
    for line in text.splitlines():
        if format == "cef":
            _, extension = read_cef(line)
            found.append((int(extension["flexNumber1"]), extension["externalId"]))
        else:
            one = json.loads(line)
            place, name = ("event", "id") if format == "ecs" else ("metadata", "uid")
            found.append((one[place]["sequence"], one[place][name]))
    return found


def numbers(text: str, format: str = "ecs") -> list[int]:
    return [seq for seq, _ in told(text, format)]


def in_files(folder: Path, format: str = "ecs") -> list[int]:
    """What is in the files of a folder, one after the other in the order of their names."""
    found: list[int] = []
    for one in sorted(folder.glob(f"modelspend-*-{format}-*")):
        data = one.read_bytes()
        found += numbers((gzip.decompress(data) if one.suffix == ".gz" else data).decode(), format)
    return found


# To stdout.


@pytest.mark.parametrize("format", FORMATS)
def test_everything_is_told_once_in_the_order_of_the_ledger(
    cli: Cli, some: Path, format: str
) -> None:
    done = cli("export", "siem", "--format", format)
    assert (done.exit_code, done.stderr) == (0, "")
    found = told(done.stdout, format)
    assert [seq for seq, _ in found] == list(range(1, 41))
    assert len({uid for _, uid in found}) == 40
    assert cli("export", "siem", "--format", format).stdout_bytes == done.stdout_bytes


def test_a_time_a_number_a_tenant_and_types_choose(cli: Cli, some: Path) -> None:
    put(some, [], happened(2, tenant="acme"))
    ours = [
        one["event"]["sequence"]
        for one in map(json.loads, cli("export", "siem").stdout.splitlines())
        if one.get("organization", {}).get("id") == "acme"
    ]
    assert ours == [41, 42]
    for words, found in (
        (("--since", "1d"), [*range(1, 41, 2), 41, 42]),
        (("--after", "38"), [39, 40, 41, 42]),
        (("--tenant", "acme"), [41, 42]),
        (("--type", "receipt.created"), list(range(2, 41, 2))),
        (("--type", "budget.*", "--tenant", "acme"), [41, 42]),
        (("--type", "circuit.*,nothing"), []),
    ):
        done = cli("export", "siem", *words)
        assert done.exit_code == 0
        assert numbers(done.stdout) == found, words


def test_hostile_texts_make_no_line_and_come_back(cli: Cli, path: Path) -> None:
    """Through the ledger and the command, as a caller's header or model name would."""
    said, traffic = texts(seed=11), Traffic(seed=5, tenants=3)
    receipts = [hostile_receipt(traffic.receipt(), said) for _ in range(40)]
    put(path, receipts, [hostile_event(said) for _ in range(40)])
    by_format = {
        format: cli("export", "siem", "--format", format).stdout_bytes.decode()
        for format in FORMATS
    }
    for format, text in by_format.items():
        assert len(text.splitlines()) == text.count("\n") == 80
        assert numbers(text, format) == list(range(1, 81))
    for receipt, line in zip(receipts, by_format["cef"].splitlines()[1::2], strict=True):
        assert cef.read_back(read_cef(line)[1]["cs1"]) == receipt.tenant
        assert cef.read_back(read_cef(line)[1]["request"]) == cut(receipt.request.path, 1023)
    for receipt, line in zip(receipts, by_format["ecs"].splitlines()[1::2], strict=True):
        assert json.loads(line)["gen_ai"]["request"]["model"] == receipt.request.model


@pytest.mark.parametrize(
    "words",
    [
        ("--format", "xml"),
        ("--since", "tomorrowish"),
        ("--type", "no such type"),
        ("--after", "3", "--out", "OUT"),
        ("--rotate-mb", "0", "--out", "OUT"),
    ],
)
def test_what_is_typed_wrong_is_refused_before_anything_is_written(
    cli: Cli, some: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    done = cli("export", "siem", *(str(out) if word == "OUT" else word for word in words))
    assert (done.exit_code, done.stdout) == (2, "")
    assert not out.exists()


# To a folder.


@pytest.mark.parametrize("format", FORMATS)
def test_each_run_writes_what_has_come_since_the_last_one(
    cli: Cli, some: Path, tmp_path: Path, format: str
) -> None:
    out = tmp_path / "out"
    words = ("export", "siem", "--format", format, "--out", str(out), "--json")
    (first,) = json.loads(cli(*words).stdout)
    assert (first["events"], first["cursor"]) == (40, 40)
    assert Path(first["file"]).stat().st_mode & 0o777 == 0o600
    assert Path(first["file"]).stat().st_size == first["bytes"]
    assert out.stat().st_mode & 0o777 == 0o700
    assert json.loads(cli(*words).stdout) == []
    put(some, list(Traffic(seed=6).receipts(3)), [])
    (second,) = json.loads(cli(*words).stdout)
    assert (second["events"], second["cursor"]) == (3, 43)
    assert in_files(out, format) == list(range(1, 44))
    assert not [one for one in out.iterdir() if one.name.endswith((".part", ".new"))]


def test_cron_hears_of_files_and_of_nothing_else(cli: Cli, some: Path, tmp_path: Path) -> None:
    words = ("export", "siem", "--out", str(tmp_path / "out"))
    done = cli(*words)
    header, row = (line.split("\t") for line in done.stdout.splitlines())
    assert header == ["file", "events", "bytes", "cursor"]
    assert row[1] == "40"
    done = cli(*words)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")


def test_the_first_run_begins_at_a_time_and_later_ones_where_the_last_one_ended(
    cli: Cli, some: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("export", "siem", "--since", "1d", "--out", str(out))
    assert cli(*words).exit_code == 0
    assert in_files(out) == list(range(1, 41, 2))
    put(some, [], happened(2))
    assert cli(*words).exit_code == 0
    assert in_files(out) == [*range(1, 41, 2), 41, 42]


def test_a_run_that_comes_late_leaves_nothing_out(cli: Cli, some: Path, tmp_path: Path) -> None:
    """Cron was off for two days, and its line says `--since 1d`."""
    out = tmp_path / "out"
    words = ("export", "siem", "--since", "1d", "--out", str(out))
    assert cli(*words).exit_code == 0
    put(some, [], happened(3, at_ms=now_ms() - 2 * DAY_MS))
    assert cli(*words).exit_code == 0
    assert in_files(out)[-3:] == [41, 42, 43]


def test_other_tenants_types_and_formats_have_files_of_their_own(
    cli: Cli, some: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    put(some, [], happened(2, tenant="../acme"))
    for words in (
        ("--format", "ecs"),
        ("--format", "cef"),
        ("--format", "ecs", "--tenant", "../acme"),
        ("--format", "ecs", "--type", "receipt.created"),
    ):
        done = cli("export", "siem", "--out", str(out), "--json", *words)
        assert len(json.loads(done.stdout)) == 1, done.stderr
    names = sorted(one.name.partition("-2")[0] for one in out.glob("modelspend-*"))
    assert names[:3] == ["modelspend-..%2Facme-ecs", "modelspend-all-cef", "modelspend-all-ecs"]
    assert names[3].startswith("modelspend-all-ecs-")
    assert sorted(one.name for one in tmp_path.iterdir() if "acme" in one.name) == []


def test_two_at_once_are_refused(cli: Cli, some: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("export", "siem", "--out", str(out))
    with Folder(out, "all-ecs", "jsonl", compress=False).locked():
        done = cli(*words)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith(f"Error: Another export is writing to {out}.")
        error = json.loads(cli(*words, "--json").stderr)["error"]
        assert (error["code"], error["exit_code"]) == ("export_held", 1)
        assert cli(*words, "--format", "cef").exit_code == 0  # another kind is not disturbed
    assert cli(*words).exit_code == 0
    assert in_files(out) == list(range(1, 41))


def test_many_at_once_write_each_event_once(some: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [sys.executable, "-m", "modelspend", "export", "siem", "--out", str(out)]
    running = [
        subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(4)
    ]
    codes = [one.wait(60) for one in running]
    assert set(codes) <= {0, 1}
    assert 0 in codes
    assert in_files(out, "ecs") == list(range(1, 41))


def test_killed_before_any_of_its_acts_a_run_has_each_event_once(
    some: Path, tmp_path: Path
) -> None:
    words = ("export", "siem", "--format", "cef", "--gzip", "--out", "OUT")
    assert killed_before_each_act(tmp_path / "all", *words) > 8
    for folder in (tmp_path / "all").iterdir():
        found = in_files(folder / "out", "cef")
        assert found == list(range(1, 42)), f"killed before act {folder.name}"


def test_a_file_that_was_carried_away_is_not_written_again(
    cli: Cli, some: Path, tmp_path: Path
) -> None:
    """Killed between the file's name and the mark; whoever fetches files was quicker than we."""
    out = tmp_path / "out"
    words = ("export", "siem", "--out", str(out))
    assert cli(*words).exit_code == 0
    state = out / ".modelspend-all-ecs.cursor"
    after = json.loads(state.read_text())
    (file,) = out.glob("modelspend-*")
    before = {"cursor": 0, "receipt": None, "next": {**after, "file": file.name}}
    file.unlink()
    state.write_text(json.dumps(before))
    put(some, [], happened(1))
    assert cli(*words).exit_code == 0
    assert in_files(out) == [41]


def test_files_are_no_larger_than_they_may_be(cli: Cli, path: Path, tmp_path: Path) -> None:
    put(path, list(Traffic(seed=5, tenants=3).receipts(2_000)), [])
    out = tmp_path / "out"
    done = cli("export", "siem", "--out", str(out), "--rotate-mb", "1", "--json")
    files = json.loads(done.stdout)
    assert len(files) == 3
    assert all(one["bytes"] <= 1_000_000 for one in files)
    assert all(one["bytes"] > 998_000 for one in files[:-1])
    assert in_files(out) == list(range(1, 2_001))


def test_old_files_of_ours_go_and_no_others(cli: Cli, some: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    old = "20260101-000000-000000000009"
    ours = [out / f"modelspend-all-ecs-{old}{end}" for end in (".jsonl", ".jsonl.gz")]
    others = [
        out / "modelspend-all-ecs-notes.jsonl",
        out / f"modelspend-all-cef-{old}.cef",
        out / f"modelspend-acme-ecs-{old}.jsonl",
        out / f"x-modelspend-all-ecs-{old}.jsonl",
    ]
    for one in (*ours, *others):
        one.write_text("")
    assert cli("export", "siem", "--out", str(out)).exit_code == 0
    assert all(one.exists() for one in ours)
    assert cli("export", "siem", "--out", str(out), "--keep-days", "30").exit_code == 0
    assert not any(one.exists() for one in ours)
    assert all(one.exists() for one in others)
    assert len(list(out.glob("modelspend-all-ecs-*"))) == 2


@pytest.mark.parametrize("other", ["shorter", "another"])
def test_another_ledger_is_not_taken_for_the_same(
    cli: Cli, some: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """Its numbers begin anew: what has the numbers that were told would never be told."""
    out = tmp_path / "out"
    assert cli("export", "siem", "--out", str(out)).exit_code == 0
    fresh = tmp_path / "fresh" / "ledger.db"
    put(fresh, list(Traffic(seed=77).receipts(3 if other == "shorter" else 60)), happened(1))
    monkeypatch.setenv("MODELSPEND_STORE__PATH", str(fresh))
    done = cli("export", "siem", "--out", str(out))
    assert done.exit_code == 6
    assert "of another ledger" in done.stderr
    assert in_files(out) == list(range(1, 41))


def test_a_folder_goes_on_with_its_ledger_after_a_restore(
    cli: Cli, some: Path, tmp_path: Path
) -> None:
    """What was told last is gone and its number is given to nobody again: cron need not stop."""
    out, kept = tmp_path / "out", tmp_path / "kept.db"
    assert cli("backup", str(kept)).exit_code == 0
    put(some, list(Traffic(seed=6).receipts(5)), happened(5))
    assert cli("export", "siem", "--out", str(out)).exit_code == 0
    assert cli("restore", str(kept), "--yes").exit_code == 0
    put(some, list(Traffic(seed=7).receipts(2)), [])
    for _ in range(2):
        done = cli("export", "siem", "--out", str(out))
        assert done.exit_code == 0, done.stderr
    found = in_files(out)
    assert found == [*range(1, 51), 51, 52, 53], "51 tells of the restore"
    assert json.loads((out / ".modelspend-all-ecs.cursor").read_text())["cursor"] == 53


def test_a_mark_that_cannot_be_read_is_no_beginning(cli: Cli, some: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli("export", "siem", "--out", str(out)).exit_code == 0
    (out / ".modelspend-all-ecs.cursor").write_text("{")
    done = cli("export", "siem", "--out", str(out))
    assert done.exit_code == 6
    assert "how far the files go is not known" in done.stderr


def test_a_full_disk_leaves_everything_for_the_next_run(
    cli: Cli, some: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    blocked = out / ".modelspend-all-ecs.part"
    blocked.mkdir()
    (blocked / "x").touch()
    assert cli("export", "siem", "--out", str(out)).exit_code == 1
    (blocked / "x").unlink()
    blocked.rmdir()
    assert cli("export", "siem", "--out", str(out)).exit_code == 0
    assert in_files(out) == list(range(1, 41))


# As it happens.


@contextlib.contextmanager
def following(*words: str) -> Any:
    command = [sys.executable, "-m", "modelspend", "export", "siem", "--follow", *words]
    running = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def test_following_tells_what_comes_and_ends_when_it_is_interrupted(some: Path) -> None:
    with following("--after", "39") as running:
        lines = [running.stdout.readline()]
        put(some, list(Traffic(seed=6).receipts(2)), happened(2))
        lines += [running.stdout.readline() for _ in range(4)]
        assert numbers("".join(lines)) == [40, 41, 42, 43, 44]
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 130


def test_following_into_a_folder_writes_files_and_holds_it(
    cli: Cli, some: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with following("--out", str(out), "--json") as running:
        first = json.loads(running.stdout.readline())
        assert (first["events"], first["cursor"]) == (40, 40)
        assert cli("export", "siem", "--out", str(out)).exit_code == 1
        running.kill()
        running.wait(20)
    put(some, [], happened(1))
    assert cli("export", "siem", "--out", str(out)).exit_code == 0
    assert in_files(out) == list(range(1, 42))
