"""`help claims`: all that is named there exists, and nothing that is said to be missing does.

Where the two pages lie beside the checkout, each wording is theirs, and no bullet is left out.
"""

import importlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from modelspend import alerts, layers, rules
from modelspend.cli import app
from modelspend.cli.completions import Node, tree
from modelspend.cli.help import topics
from modelspend.cli.help_claims import pages, text
from modelspend.sections import Settings
from modelspend.server.app import ROUTES
from modelspend.simulator import Simulator
from modelspend.store.migrations import migrate
from tests.fakes.sidecar import sidecar_for

PACKAGE = Path(__file__).parents[2] / "modelspend"
CLAIMS = [claim for page in pages() for claim in page["claim"]]
TIERS = {tier: ["sim/sim-ok", "other/sim-ok"] for tier in ("simple", "standard", "deep_reasoning")}
PROMPT = "Write an acrostic poem whose first letters spell HELLO."

Shapes = dict[str, Any]


@pytest.fixture
async def shapes(tmp_path: Path, simulator: Simulator) -> Shapes:
    """A receipt of a call that was routed, and a decision, as they are served."""
    other = {"base_url": f"{simulator.url}/v1", "dialects": ["openai.chat"], "price": "free"}
    async with sidecar_for(
        tmp_path, simulator.url, profiles={"default": TIERS}, providers={"other": other}
    ) as sidecar:
        body = {"model": "auto", "messages": [{"role": "user", "content": PROMPT}]}
        status, headers, _ = await sidecar.post("/v1/chat/completions", body)
        assert status == 200
        token = {"authorization": f"Bearer {sidecar.token}"}
        path = f"/v1/receipts/{headers['x-modelspend-receipt']}"
        async with sidecar.client.get(sidecar.url + path, headers=token) as answer:
            receipt = json.loads(await answer.read())
        _, _, said = await sidecar.post("/v1/route", {"prompt": PROMPT}, headers=token)
        return {"field": receipt, "route-field": json.loads(said)}


def has(value: Any, path: str) -> bool:
    """Whether a shape has a path; of a list, whether its first item has."""
    for step in path.split("."):
        if isinstance(value, list):
            if not value:
                return False
            value = value[0]
        if not isinstance(value, dict) or step not in value:
            return False
        value = value[step]
    return True


@cache
def source() -> str:
    """All of the program's own text."""
    return "\n".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))


@cache
def tables() -> dict[str, set[str]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        migrate(conn)
        names = [row[0] for row in conn.execute("SELECT name FROM sqlite_master")]
        return {
            name: {row[1] for row in conn.execute(f"PRAGMA table_info({name})")} for name in names
        }


def constant(named: str) -> bool:
    path, _, wanted = named.partition(" = ")
    module, _, name = path.rpartition(".")
    value = getattr(importlib.import_module(module), name, None)
    return wanted == str(value if isinstance(value, int | float) else len(value or ()))


@cache
def commands() -> Node:
    return tree(app)


def command(named: str) -> bool:
    node = commands()
    for word in named.split():
        if word.startswith("--"):
            return any(word in flag.names for flag in node.flags)
        if word not in node.below:
            return False
        node = node.below[word]
    return True


def setting(named: str) -> bool:
    path = tuple(named.replace("*", "any").split("."))
    return layers.field_at(Settings, path) is not None or (
        layers.table_at(Settings, path) is not None
    )


def table(named: str) -> bool:
    name, _, column = named.partition(".")
    return name in tables() and (not column or column in tables()[name])


LOOKS: dict[str, Callable[[str], bool]] = {
    "constant": constant,
    "rule": lambda name: any(rule.name == name for rule in rules.RULES),
    "table": table,
    "command": command,
    "route": lambda named: tuple(named.split()) in {route[:2] for route in ROUTES},
    "setting": setting,
    "event": lambda kind: f'"{kind}"' in source(),
    "alert": lambda name: name in alerts.RULES,
    "header": lambda name: f'"{name}"' in source(),
    "variable": lambda name: f'"{name}"' in source(),
    "topic": lambda name: name in topics(),
}


def there(named: str, shapes: Shapes) -> bool:
    kind, _, what = named.partition(" ")
    if kind in shapes:
        return has(shapes[kind], what)
    return LOOKS[kind](what)


async def test_everything_that_makes_a_claim_true_exists(shapes: Shapes) -> None:
    missing = [
        f"{claim['says']}: {named}"
        for claim in CLAIMS
        for named in claim.get("by", ())
        if not there(named, shapes)
    ]
    assert missing == []


async def test_what_is_not_yet_there_is_not_there(shapes: Shapes) -> None:
    """Once it is built, its line moves from `waits_for` into `by`, and `later` goes."""
    built = [
        f"{claim['says']}: {named}"
        for claim in CLAIMS
        for named in claim.get("waits_for", ())
        if there(named, shapes)
    ]
    assert built == []


def test_every_claim_has_something_to_look_at_or_says_what_is_missing() -> None:
    for claim in CLAIMS:
        assert claim.keys() <= {"says", "by", "later", "waits_for"}
        assert claim.get("by") or claim.get("later")
        assert ("later" in claim) == ("waits_for" in claim)


def test_the_looking_up_bites(tmp_path: Path) -> None:
    nothing = {"field": {"decision": {}}, "route-field": {}}
    for wrong in (
        "constant modelspend.rules.RULES = 18",
        "constant modelspend.rules.NONE = 17",
        "rule nonesuch",
        "table nonesuch",
        "table receipts.nonesuch",
        "command nonesuch",
        "command replay --nonesuch",
        "route GET /nonesuch",
        "setting otlp.nonesuch",
        "setting nonesuch.*.url",
        "field decision.model_id",
        "route-field tier",
        "event nonesuch.event",
        "alert nonesuch",
        "header x-modelspend-nonesuch",
        "variable NONESUCH",
        "topic nonesuch",
    ):
        assert not there(wrong, nothing), wrong


def test_the_help_shows_every_claim_and_is_the_same_as_data() -> None:
    shown = CliRunner().invoke(app, ["help", "claims"])
    assert shown.exit_code == 0
    assert shown.stdout == text()
    flat = " ".join(shown.stdout.split())
    assert all(f"“{claim['says']}”" in flat for claim in CLAIMS)
    told = json.loads(CliRunner().invoke(app, ["help", "claims", "--json"]).stdout)
    assert told["pages"] == pages()


# The pages themselves.


def _plain(words: str) -> str:
    return " ".join(words.split()).lower()


@pytest.fixture(scope="module")
def seeds(recorded: Path) -> Path:
    folder = Path(os.environ.get("MODELSPEND_SEEDS", recorded.parent / "seeds"))
    if not folder.is_dir():
        pytest.skip(f"the pages are not at {folder}: set MODELSPEND_SEEDS")
    return folder


def bullets(page: str) -> Iterator[str]:
    for line in page.splitlines():
        if line.strip().startswith("•") and "%" not in line:  # shares of sample data are no claims
            yield _plain(line.strip().removeprefix("•"))


def test_each_wording_is_that_of_the_pages_and_no_bullet_is_left_out(seeds: Path) -> None:
    page = "\n".join(file.read_text("utf-8") for file in sorted(seeds.glob("*.txt")))
    whole, said = _plain(page), [_plain(claim["says"]) for claim in CLAIMS]
    assert [words for words in said if words not in whole] == []
    left_out = [one for one in bullets(page) if not any(one in words for words in said)]
    assert left_out == []
