"""A file that grows: each event in it once, whatever dies, and put aside by size, day and age."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from modelspend.exporters.roll import Held, Line, Roll
from tests.exporters.dies_at import BATCHES, EACH

ROOT = Path(__file__).parents[2]
DAY_MS = 86_400_000
NOW_MS = 1_795_000_000_000  # 2026-11-18


def lines(start: int, end: int) -> list[Line]:
    return [(f"id{n}", b"line %d" % n) for n in range(start, end)]


def rolled(file: Path, *, most: int = 10**6, compress: bool = False, keep_days: int = 0) -> Roll:
    return Roll(file, most_bytes=most, compress=compress, keep_days=keep_days)


def everything(file: Path) -> list[str]:
    """All lines of the file and of those that were put aside, in the order of their names."""
    found = []
    for one in [*sorted(file.parent.glob(f"{file.stem}-*")), file]:
        data = one.read_bytes()
        found += (gzip.decompress(data) if one.suffix == ".gz" else data).decode().splitlines()
    return found


def test_a_batch_that_is_told_again_after_a_crash_is_in_it_once(tmp_path: Path) -> None:
    file = tmp_path / "siem.jsonl"
    first = rolled(file)
    first.append(lines(0, 5), NOW_MS)
    first.close()
    again = rolled(file)
    again.append(lines(0, 7), NOW_MS)  # the ledger did not hear of the batch, and has more by now
    again.close()
    assert everything(file) == [f"line {n}" for n in range(7)]
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_a_process_that_died_had_not_finished_is_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "siem.jsonl"
    first = rolled(file)
    first.append(lines(0, 5), NOW_MS)
    first.close()
    with file.open("ab") as torn:
        torn.write(b"line 5\nline 6\nlin")
    again = rolled(file)
    again.append(lines(5, 6), NOW_MS)
    again.close()
    assert everything(file) == [f"line {n}" for n in range(6)]


@pytest.mark.parametrize("left", [b"line 5\nlin", b"line 5\nline 6\n"])
def test_what_a_process_that_died_had_not_finished_is_not_put_aside_either(
    tmp_path: Path, left: bytes
) -> None:
    file = tmp_path / "siem.jsonl"
    first = rolled(file)
    first.append(lines(0, 5), NOW_MS)
    first.close()
    with file.open("ab") as torn:
        torn.write(left)
    again = rolled(file)
    again.append(lines(5, 7), NOW_MS + DAY_MS)
    again.close()
    assert everything(file) == [f"line {n}" for n in range(7)]
    assert file.read_bytes() == b"line 5\nline 6\n"


@pytest.mark.parametrize("away", ["emptied", "moved"])
def test_somebody_else_may_empty_it_or_carry_it_away(tmp_path: Path, away: str) -> None:
    file = tmp_path / "siem.jsonl"
    growing = rolled(file)
    growing.append(lines(0, 5), NOW_MS)
    if away == "emptied":
        file.write_bytes(b"")
    else:
        file.rename(tmp_path / "elsewhere")
    growing.append(lines(5, 8), NOW_MS)
    growing.close()
    assert file.read_bytes() == b"line 5\nline 6\nline 7\n"


def test_it_is_put_aside_by_size_and_compressed(tmp_path: Path) -> None:
    file = tmp_path / "siem.jsonl"
    growing = rolled(file, most=80, compress=True)
    for n in range(0, 50, 5):
        growing.append(lines(n, n + 5), NOW_MS)
    growing.close()
    aside = sorted(one.name for one in tmp_path.glob("siem-*"))
    assert aside[:2] == ["siem-20261118-110640.1.jsonl.gz", "siem-20261118-110640.2.jsonl.gz"]
    assert all(name.endswith(".jsonl.gz") for name in aside)
    assert sorted(everything(file)) == sorted(f"line {n}" for n in range(50))
    assert all(len(gzip.decompress(one.read_bytes())) <= 80 for one in tmp_path.glob("siem-*.gz"))


def test_it_is_put_aside_by_day_and_deleted_by_age(tmp_path: Path) -> None:
    file = tmp_path / "siem.jsonl"
    others = [tmp_path / "siem-notes.jsonl", tmp_path / "siem-20200101-000000.txt"]
    for other in others:
        other.write_text("not ours")
    growing = rolled(file, keep_days=2)
    for day in range(6):
        growing.append(lines(day, day + 1), NOW_MS + day * DAY_MS)
    growing.close()
    aside = sorted(tmp_path.glob("siem-2026*"))
    assert [one.name[:13] for one in aside] == ["siem-20261121", "siem-20261122", "siem-20261123"]
    assert file.read_bytes() == b"line 5\n"
    assert all(other.exists() for other in others)


def test_two_processes_do_not_write_to_one_file(tmp_path: Path) -> None:
    file = tmp_path / "siem.jsonl"
    first, second = rolled(file), rolled(file)
    first.append(lines(0, 1), NOW_MS)
    with pytest.raises(Held, match="written to by another process"):
        second.append(lines(1, 2), NOW_MS)
    first.close()
    second.append(lines(1, 2), NOW_MS)
    second.close()
    assert everything(file) == ["line 0", "line 1"]


def test_what_the_disk_did_not_take_is_taken_later(tmp_path: Path) -> None:
    file = tmp_path / "siem.jsonl"
    growing = rolled(file)
    growing.append(lines(0, 5), NOW_MS)
    state = tmp_path / ".siem.jsonl.state.new"
    state.mkdir()  # the batch is written, and that it is cannot be
    with pytest.raises(OSError, match="directory"):
        growing.append(lines(5, 8), NOW_MS)
    state.rmdir()
    growing.append(lines(5, 8), NOW_MS)
    growing.close()
    assert everything(file) == [f"line {n}" for n in range(8)]


def test_killed_before_any_of_its_acts_it_has_each_event_once(tmp_path: Path) -> None:
    assert killed_before_each_act(tmp_path, "roll") > 20
    for folder in tmp_path.iterdir():
        found = everything(folder / "out" / "siem.jsonl")
        assert found == [f"line {n}" for n in range(BATCHES * EACH)], f"before act {folder.name}"
        assert not list((folder / "out").glob("siem-*.jsonl"))


def killed_before_each_act(folder: Path, *words: str) -> int:
    """Below the folder one for each act that was the last one of a run; how many those were."""
    command = [sys.executable, "-m", "tests.exporters.dies_at", str(folder), *words]
    done = subprocess.run(command, cwd=ROOT, timeout=100, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split()[-1])
