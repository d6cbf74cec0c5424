"""What an error says to do next can be typed as it stands: the configuration that was named is in
it, and names are quoted."""

import re
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from modelspend.cli.context import Here
from modelspend.store import backup
from tests.cli.conftest import Cli
from tests.store.test_backup import filled

COMMAND = re.compile(r"modelspend (?:--config '[^']+' )?[a-z].*?(?=$|\.?\n|; | \()")


@pytest.fixture
def config(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that no command finds by itself, at a place with a space in its name."""
    file = home / "my files" / "c.toml"
    file.parent.mkdir()
    file.write_text(f'[store]\npath = "{home / "data" / "ledger.db"}"\n')
    filled(home / "data" / "ledger.db", 5)
    monkeypatch.chdir(home)
    return file


def hint(cli: Cli, config: Path, *words: str, exit_code: int) -> str:
    """The command that it names."""
    done = cli(*words, "--config", str(config))
    assert done.exit_code == exit_code, done.stderr
    (found,) = COMMAND.findall(done.stderr.strip())
    return str(found)


def typed(cli: Cli, command: str) -> int:
    return cli(*shlex.split(command)[1:]).exit_code


def test_what_restore_says_can_be_typed(cli: Cli, config: Path, home: Path) -> None:
    copy = home / "my files" / "copy.db"
    command = hint(cli, config, "restore", str(copy), exit_code=3)
    assert command == f"modelspend --config '{config}' backup FILE"
    assert typed(cli, command.replace("FILE", shlex.quote(str(copy)))) == 0
    command = hint(cli, config, "restore", str(copy), exit_code=2)
    assert command == f"modelspend --config '{config}' restore '{copy}' --yes"
    assert typed(cli, command) == 0


def test_what_a_backup_says_of_a_ledger_that_is_not_sound_can_be_typed(
    cli: Cli, config: Path, home: Path
) -> None:
    with closing(sqlite3.connect(home / "data" / "ledger.db")) as conn:
        conn.execute("UPDATE receipts SET cost_pico = cost_pico + 1 WHERE seq = 2")
        conn.commit()
    command = hint(cli, config, "backup", "copy.db", exit_code=6)
    assert command == f"modelspend --config '{config}' verify"
    assert typed(cli, command) == 6


@pytest.mark.parametrize("kind", ["edited", "empty", "other", "random", "folder"])
def test_of_a_backup_that_is_not_sound_nobody_is_sent_to_look_at_the_ledger(
    cli: Cli, config: Path, home: Path, kind: str
) -> None:
    file = home / f"{kind}.db"
    if kind == "edited":
        backup.make(home / "data" / "ledger.db", file, 0)
    if kind == "random":
        file.write_bytes(b"\x07" * 9_000)
    elif kind == "folder":
        file.mkdir()
    else:
        change = {"edited": "UPDATE receipts SET cost_pico = 1", "other": "CREATE TABLE a (b)"}
        with closing(sqlite3.connect(file)) as conn:
            conn.execute(change.get(kind, "PRAGMA user_version"))
            conn.commit()
    if kind == "empty":
        file.touch()
    done = cli("restore", str(file), "--yes", "--config", str(config))
    expected = {"folder": 2, "other": 1}.get(kind, 6)
    assert done.exit_code == expected, done.stderr
    assert str(file) in done.stderr
    assert "Name a" in done.stderr
    assert "verify" not in done.stderr
    assert "internal" not in done.stderr + str(done.exception)
    assert cli("verify", "--config", str(config)).exit_code == 0


def test_a_command_that_is_named_gets_the_configuration_and_nothing_else_does() -> None:
    here = Here(config=Path("/etc/a b.toml"))
    with_it = "modelspend --config '/etc/a b.toml'"
    for text, wanted in (
        ("Start it: modelspend serve", f"Start it: {with_it} serve"),
        ("`modelspend reload`, or modelspend down", f"`{with_it} reload`, or {with_it} down"),
        ("See: modelspend help budgets", "See: modelspend help budgets"),
        ("pip install modelspend; again", "pip install modelspend; again"),
        ("This is modelspend itself", "This is modelspend itself"),
        ("modelspend cache-misses", f"{with_it} cache-misses"),
    ):
        assert here.typed(text) == wanted
        assert Here().typed(text) == text
