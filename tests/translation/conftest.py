"""Fixtures of the translation tests: recorded rows, and a tally that is printed at the end."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.dialects.recorded import DATA, Row, rows


@pytest.fixture(scope="session")
def traffic() -> Callable[[str], tuple[Row, ...]]:
    """The rows of one file; skips where the recorded traffic is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no recorded traffic at {DATA}; set MODELSPEND_DATA")
    return rows


@pytest.fixture
def tally(capsys: pytest.CaptureFixture[str]) -> Iterator[Counter[str]]:
    """Counts by reason, printed when the test is over (`pytest -s` or on failure shows them)."""
    counts: Counter[str] = Counter()
    yield counts
    for reason, n in counts.most_common():
        print(f"{n:6} {reason}")
