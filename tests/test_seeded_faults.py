"""Every invariant of the caps and of the resilience part has a broken variant that tests notice.

`pytest -m full -s tests/test_seeded_faults.py` breaks a copy of the product in each way of
`seeded_faults.FAULTS` and `seeded_cap_faults.CAP_FAULTS`, and prints which tests noticed.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.seeded_cap_faults import CAP_FAULTS
from tests.seeded_faults import FAULTS, Edit, Fault

ALL = (*FAULTS, *CAP_FAULTS)

ROOT = Path(__file__).parents[1]
_LIMIT_S = 300
_ALL_LIMIT_S = 1200  # for every test that is named anywhere, one after the other
_TESTS_FAILED = 1  # pytest's exit code: 2 and above is trouble of another kind


def copied(folder: Path) -> Path:
    """The product and its tests, in a place where they can be broken."""
    for name in ("modelspend", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def broken(folder: Path, edits: Iterable[Edit]) -> dict[Path, str]:
    """Break the copy; the texts of its files as they were."""
    before: dict[Path, str] = {}
    for edit in edits:
        file = folder / "modelspend" / edit.file
        text = file.read_text("utf-8")
        before.setdefault(file, text)
        file.write_text(text.replace(edit.old, edit.new), "utf-8")
    return before


def judged(
    folder: Path, *tests: str, limit_s: float = _LIMIT_S
) -> subprocess.CompletedProcess[str]:
    words = ["-m", "pytest", "-x", "-p", "no:cacheprovider", "--tb=line", *tests]
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


def who_noticed(said: str) -> str:
    failed = [line for line in said.splitlines() if line.startswith("FAILED ")]
    return failed[0].removeprefix("FAILED ").partition(" - ")[0] if failed else "nobody"


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.invariant.replace(" ", "-"))
def test_each_fault_can_still_be_seeded(one: Fault) -> None:
    for edit in one.edits:
        text = (ROOT / "modelspend" / edit.file).read_text("utf-8")
        assert text.count(edit.old) == 1, f"{edit.file} has changed: break it in another way"
    assert all((ROOT / tests.partition("::")[0]).exists() for tests in one.tests)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_every_seeded_fault_is_noticed_by_the_tests_of_its_invariant(tmp_path: Path) -> None:
    folder = copied(tmp_path / "copy")
    named = dict.fromkeys(tests for one in ALL for tests in one.tests)
    sound = judged(folder, *named, limit_s=_ALL_LIMIT_S)
    assert sound.returncode == 0, sound.stdout[-4000:]
    missed = []
    print()
    for n, one in enumerate(ALL, 1):
        before = broken(folder, one.edits)
        found = [judged(folder, tests) for tests in one.tests]
        for file, text in before.items():
            file.write_text(text, "utf-8")
        print(
            f"{n:3} {one.invariant}: {', '.join(who_noticed(done.stdout) for done in found)}",
            flush=True,
        )
        missed += [
            f"{one.invariant}: {done.stdout[-2000:]}{done.stderr[-500:]}"
            for done in found
            if done.returncode != _TESTS_FAILED or " error" in done.stdout.splitlines()[-1]
        ]
    print(f"{len(ALL)} seeded faults, {len(missed)} not noticed")
    assert missed == []
