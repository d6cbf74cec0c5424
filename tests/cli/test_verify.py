"""`verify` as a user meets it: the ledger, checkpoints kept elsewhere, exports without the ledger.

The long proof is `pytest -m full tests/cli/test_verify.py`: 500 tamperings of an export.
"""

import json
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from modelspend.cli import app
from modelspend.exported import check, manifest_from
from modelspend.store.bodies import Bodies
from tests.bench.reports import rich
from tests.store.bulk import load
from tests.store.synthetic import Traffic, with_bodies
from tests.store.tampering import rebuild, truncate

COUNT = 40

Cli = Callable[..., Result]


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = random.Random(2)
    path = tmp_path / "data" / "ledger.db"
    calls: list[tuple[object, Bodies | None]] = [
        with_bodies(rich(made, rng)) for made in Traffic(3, tenants=3).receipts(COUNT)
    ]
    load(path, calls)  # type: ignore[arg-type]
    monkeypatch.setenv("MODELSPEND_STORE__PATH", str(path))
    monkeypatch.delenv("MODELSPEND_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def cli(ledger: Path) -> Cli:
    return lambda *words: CliRunner().invoke(app, list(words))


def _change(ledger: Path, change: Callable[[sqlite3.Connection], object]) -> None:
    with closing(sqlite3.connect(ledger, isolation_level=None)) as conn:
        change(conn)


def test_a_sound_ledger_exits_zero_and_says_what_was_looked_at(cli: Cli) -> None:
    done = cli("verify")
    assert done.exit_code == 0, done.stderr
    assert f"chain\tok\t{COUNT} receipts up to number {COUNT}" in done.stdout
    said = json.loads(cli("verify", "--json").stdout)
    assert (said["ok"], said["receipts"], said["bodies"]) == (True, COUNT, COUNT)
    assert said["problems"] == said["breaks"] == []


def test_an_edit_exits_six_and_names_the_receipt(cli: Cli, ledger: Path) -> None:
    _change(ledger, lambda c: c.execute("UPDATE receipts SET cost_pico = 1 WHERE seq = 7"))
    done = cli("verify")
    assert done.exit_code == 6
    assert "7\t\trcpt_" in done.stdout
    assert "receipt 7: its columns differ from its content" in done.stderr
    assert "chain\tok" in done.stdout
    assert "columns\tfail" in done.stdout
    said = json.loads(cli("verify", "--json").stdout)
    assert (said["problems"][0]["seq"], said["problems"][0]["kind"]) == (7, "columns")


def test_a_checkpoint_kept_elsewhere_shows_a_cut_and_a_chain_hashed_anew(
    cli: Cli, ledger: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.json"
    made = cli("verify", "--export-checkpoint", str(kept))
    assert made.exit_code == 0, made.stderr
    assert kept.stat().st_mode & 0o777 == 0o600
    assert cli("verify", "--checkpoint", str(kept)).exit_code == 0
    whole = ledger.read_bytes()
    _change(ledger, lambda c: truncate(c, COUNT - 5))
    quiet = cli("verify")
    assert quiet.exit_code == 0, f"nothing in the ledger tells of it: {quiet.stderr}"
    cut = cli("verify", "--checkpoint", str(kept))
    assert cut.exit_code == 6
    assert f"receipts {COUNT - 4} to {COUNT}: they were here at the checkpoint" in cut.stderr
    ledger.write_bytes(whole)
    _change(ledger, lambda c: (rebuild(c, 9), c.execute("DELETE FROM checkpoints")))
    assert cli("verify").exit_code == 0, "nothing in the ledger tells of it"
    anew = cli("verify", "--checkpoint", str(kept))
    assert anew.exit_code == 6
    assert f"receipts 1 to {COUNT}: what the checkpoint {COUNT}" in anew.stderr


def test_a_checkpoint_is_not_made_of_a_ledger_that_fails(
    cli: Cli, ledger: Path, tmp_path: Path
) -> None:
    _change(ledger, lambda c: c.execute("DELETE FROM receipts WHERE seq = 12"))
    done = cli("verify", "--export-checkpoint", str(tmp_path / "kept.json"))
    assert done.exit_code == 6
    assert "receipt 12: it was removed" in done.stderr
    assert not (tmp_path / "kept.json").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as a checkpoint"),
        ("[]", "it is no object"),
        ('{"modelspend_checkpoint": 2}', "it is no checkpoint of modelspend"),
        ('{"modelspend_checkpoint": 1}', "its texts are missing"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(
    cli: Cli, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "odd.json").write_text(text)
    done = cli("verify", "--checkpoint", "odd.json")
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_checkpoint_of_another_ledger_is_told(cli: Cli, ledger: Path, tmp_path: Path) -> None:
    cli("verify", "--export-checkpoint", "kept.json")
    _change(ledger, lambda c: (c.execute("UPDATE meta SET value = 'lgr_x' WHERE key = 'ledger.id'"),
                               c.execute("DELETE FROM checkpoints")))  # fmt: skip
    done = cli("verify", "--checkpoint", "kept.json")
    assert done.exit_code == 6
    assert "is of another ledger" in done.stderr


# Exports.


def _exported(cli: Cli, *words: str) -> Path:
    done = cli("export", "ledger", "--format", "jsonl", "--out", "ledger.jsonl", *words)
    assert done.exit_code == 0, done.stderr
    assert "ledger.jsonl.checkpoint.json" in done.stderr
    return Path("ledger.jsonl")


def test_an_export_is_verified_without_the_ledger(
    cli: Cli, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _exported(cli)
    first = Path("ledger.jsonl").read_bytes(), Path("ledger.jsonl.checkpoint.json").read_bytes()
    _exported(cli)
    again = Path("ledger.jsonl").read_bytes(), Path("ledger.jsonl.checkpoint.json").read_bytes()
    assert again == first, "a second export writes the same bytes"
    done = cli("verify", "--export", "ledger.jsonl", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["signed"] is True
    monkeypatch.setenv("MODELSPEND_STORE__PATH", "elsewhere/ledger.db")
    alone = json.loads(cli("verify", "--export", "ledger.jsonl", "--json").stdout)
    assert (alone["ok"], alone["signed"], alone["receipts"]) == (True, None, COUNT)


def test_an_export_that_was_changed_is_told_with_its_receipt(cli: Cli) -> None:
    lines = _exported(cli).read_bytes().splitlines(keepends=True)
    lines[10] = lines[10].replace(b'"charged_usd":', b'"charged_usd":1', 1)
    Path("ledger.jsonl").write_bytes(b"".join(lines))
    done = cli("verify", "--export", "ledger.jsonl")
    assert done.exit_code == 6
    assert "receipt 11: line 11 is not what was hashed" in done.stderr


def test_a_csv_export_is_held_to_its_whole_hash(cli: Cli) -> None:
    cli("export", "ledger", "--out", "ledger.csv")
    assert cli("verify", "--export", "ledger.csv").exit_code == 0
    Path("ledger.csv").write_bytes(Path("ledger.csv").read_bytes().replace(b"0.0", b"0.1", 1))
    assert cli("verify", "--export", "ledger.csv").exit_code == 6


def test_a_filtered_export_is_whole_by_its_manifest(cli: Cli) -> None:
    lines = _exported(cli, "--tenant", "team-000").read_bytes().splitlines(keepends=True)
    assert cli("verify", "--export", "ledger.jsonl").exit_code == 0
    gone = json.loads(lines.pop(4))["seq"]
    Path("ledger.jsonl").write_bytes(b"".join(lines))
    done = cli("verify", "--export", "ledger.jsonl")
    assert done.exit_code == 6
    assert f"receipt {gone}: it was removed" in done.stderr


def _tamper(lines: list[bytes], rng: random.Random) -> tuple[str, set[int]]:
    """Change an export in place; what was done, and the numbers that it touches."""
    a, b = sorted(rng.sample(range(len(lines)), 2))
    seqs = [json.loads(line)["seq"] for line in lines]
    how = rng.choice(("edit", "edit", "delete", "swap", "copy", "cut", "place"))
    if how == "edit":
        at = rng.randrange(len(lines[a]) - 2)
        old = lines[a][at : at + 1]
        new = bytes([rng.choice([c for c in b"0123456789abcdef" if c != old[0]])])
        lines[a] = lines[a][:at] + new + lines[a][at + 1 :]
        return f"edit byte {at} of line {a + 1}", {seqs[a]}
    if how == "delete":
        del lines[a]
        return f"delete line {a + 1}", {seqs[a]}
    if how == "swap":
        lines[a], lines[b] = lines[b], lines[a]
        return f"swap lines {a + 1} and {b + 1}", {seqs[a], seqs[b]}
    if how == "copy":
        lines.insert(b, lines[a])
        return f"copy line {a + 1} before {b + 1}", {seqs[a]}
    if how == "cut":
        del lines[b:]
        return f"cut from line {b + 1}", set(seqs[b:])
    other = b',"seq":%d,' % seqs[b]
    lines[a] = lines[a].replace(b',"seq":%d,' % seqs[a], other)
    return f"number line {a + 1} as {b + 1}", {seqs[a], seqs[b]}


def _missed(cli: Cli, seeds: range) -> list[str]:
    whole = _exported(cli).read_bytes().splitlines()
    manifest = manifest_from(json.loads(Path("ledger.jsonl.checkpoint.json").read_bytes()))
    assert check(whole, manifest).problems == ()
    missed = []
    for seed in seeds:
        lines = list(whole)
        how, touched = _tamper(lines, random.Random(seed))
        if lines == whole:
            continue
        problems = check(lines, manifest).problems
        told = {
            number
            for one in problems
            if one.seq is not None
            for number in range(one.seq, (one.until or one.seq) + 1)
        }
        if not told & touched or told - touched:
            missed.append(f"{seed} {how}: {sorted(touched)}, told {sorted(told)}: {problems[:3]}")
    return missed


def test_a_hundred_tamperings_of_an_export_are_found_where_they_were_done(cli: Cli) -> None:
    missed = _missed(cli, range(100))
    assert not missed, "\n".join(missed)


@pytest.mark.full
def test_five_hundred_tamperings_of_an_export_are_found_where_they_were_done(cli: Cli) -> None:
    missed = _missed(cli, range(1_000, 1_500))
    print(f"tampering with an export: {500 - len(missed)} of 500 found and located")
    assert not missed, "\n".join(missed)


def test_an_export_hashed_anew_is_found_by_its_manifest(cli: Cli, ledger: Path) -> None:
    _exported(cli)
    kept = Path("ledger.jsonl.checkpoint.json").read_bytes()
    _change(ledger, lambda c: (rebuild(c, 9), c.execute("DELETE FROM checkpoints")))
    done = cli("export", "ledger", "--format", "jsonl", "--out", "ledger.jsonl")
    assert done.exit_code == 0
    Path("ledger.jsonl.checkpoint.json").write_bytes(kept)
    told = cli("verify", "--export", "ledger.jsonl")
    assert told.exit_code == 6
    assert "was signed for" in told.stderr
