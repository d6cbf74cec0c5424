"""Where the public data lies: `MODELSPEND_DATA`, or `shared/data` beside the checkout."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelspend.catalog import Catalog

Rows = Callable[[str], Iterator[dict[str, Any]]]


@pytest.fixture(scope="session")
def rows() -> Rows:
    """The rows of a data file by its path; skips where the data is not there."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("MODELSPEND_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no public data at {folder}: set MODELSPEND_DATA to its folder")

    def read(name: str) -> Iterator[dict[str, Any]]:
        with (folder / name).open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)

    return read


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    """Every provider, none configured."""
    return Catalog.load({}, {})
