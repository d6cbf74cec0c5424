"""The tests of the circuits and of the retries notice nine of ten small changes to them."""

import os
import re
import subprocess
import sys

import pytest

from tests.mutants import ROOT

JUDGED = {
    "modelspend/breaker.py": ["tests/test_breaker.py"],
    "modelspend/circuits.py": [
        "tests/test_circuits.py",
        "--deselect=tests/test_circuits.py::test_the_way_of_a_call_costs_some_microseconds",
        "--deselect=tests/test_circuits.py"
        "::test_of_500_at_once_one_is_the_probe_a_hundred_times_over",
    ],
    "modelspend/retries.py": ["tests/test_retries.py"],
}


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("path", JUDGED)
def test_nine_of_ten_mutants_are_noticed(path: str) -> None:
    judged = subprocess.run(
        [sys.executable, "-m", "tests.mutants", path, *JUDGED[path]],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "BREAKER_RUNS": "120"},
        check=True,
    )
    print(f"\n{judged.stdout}")
    told = re.search(r"(\d+) mutants, (\d+) killed", judged.stdout)
    assert told is not None, judged.stderr
    every, killed = map(int, told.groups())
    assert every > 100
    assert killed >= 0.9 * every
