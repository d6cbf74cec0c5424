"""The program as a shell meets it: pipes, terminals, signals, errors, help."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from modelspend import __version__
from modelspend.cli import COMMANDS
from modelspend.cli.context import Commands
from modelspend.cli.help import topics
from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "modelspend"]


def start(*words: str, **options: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*PROGRAM, *words],
        cwd=ROOT,
        text=True,
        stdout=options.pop("stdout", subprocess.PIPE),  # type: ignore[arg-type]
        stderr=options.pop("stderr", subprocess.PIPE),  # type: ignore[arg-type]
        env={**os.environ, **options.pop("env", {})},  # type: ignore[dict-item]
    )


def on_terminal(*words: str, width: int, **env: str) -> tuple[int, str]:
    """A command on a terminal of some width: its exit code and all that it drew."""
    ours, theirs = pty.openpty()
    running = start(
        *words, stdout=theirs, stderr=theirs, env={"COLUMNS": str(width), "TERM": "xterm", **env}
    )
    os.close(theirs)
    drawn = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not part:
            break
        drawn += part
    os.close(ours)
    return running.wait(), drawn.decode()


def test_no_command_at_all_is_the_help_and_no_error(cli: Cli) -> None:
    bare, asked, short = cli(), cli("--help"), cli("-h")
    assert (bare.exit_code, asked.exit_code) == (0, 0)
    assert bare.stdout == asked.stdout == short.stdout
    for name, _ in COMMANDS:
        assert f"\n  {name} " in bare.stdout


def test_the_version_is_told(cli: Cli) -> None:
    assert cli("--version").stdout == f"modelspend {__version__}\n"


@pytest.mark.parametrize(
    "words", [("recipts",), ("receipts", "lst"), ("status", "--jsn"), ("status", "x"), ("explain",)]
)
def test_a_command_typed_wrong_is_exit_2_with_nothing_on_stdout(
    cli: Cli, words: tuple[str, ...]
) -> None:
    done = cli(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Usage: modelspend" in done.stderr or "Usage:" in done.stderr
    assert "Error: " in done.stderr


def test_the_configuration_may_be_named_before_and_after_the_command(cli: Cli, home: Path) -> None:
    file = home / "c.toml"
    file.write_text("[server]\nport = 4711\n")
    for words in (
        ("--config", str(file), "config", "show"),
        ("config", "show", "--config", str(file)),
        (f"--config={file}", "config", "show"),
    ):
        assert f"server.port\t4711\t{file}:2" in cli(*words).stdout


def test_an_error_is_one_line_of_words_or_one_object_with_json(cli: Cli) -> None:
    words = cli("help", "recepts")
    assert (words.exit_code, words.stdout) == (3, "")
    assert words.stderr == "Error: There is no help topic 'recepts'. Did you mean receipts?\n"
    said = json.loads(cli("help", "recepts", "--json").stderr)
    assert said["error"]["code"] == "not_found"
    assert said["error"]["exit_code"] == 3


def test_a_fault_of_our_own_is_told_by_kind_and_place_and_never_by_its_text() -> None:
    root = typer.Typer(cls=Commands, pretty_exceptions_enable=False)

    @root.callback()
    def callback() -> None: ...

    @root.command()
    def broken() -> None:
        raise ValueError("sk-canary")

    done = CliRunner().invoke(root, ["broken"])
    assert done.exit_code == 1
    assert "This is a fault of modelspend itself: ValueError at context.py:" in done.stderr
    assert "canary" not in done.output


def test_a_reader_that_stops_early_is_no_error(ledger: Path) -> None:
    running = start("receipts", "list", "--json")
    assert running.stdout is not None
    running.stdout.close()
    _, errors = running.communicate()
    assert (running.returncode, errors) == (0, "")


def test_an_interrupt_ends_a_tail_quietly_with_130(ledger: Path) -> None:
    running = start("tail", "-n", "1")
    assert running.stdout is not None
    assert "rcpt_01KTEST07" in running.stdout.readline()
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate()
    assert (running.returncode, errors) == (130, "")


@pytest.mark.parametrize("width", [8, 40, 80, 200])
def test_a_list_fits_any_terminal(ledger: Path, width: int) -> None:
    code, drawn = on_terminal("receipts", "list", width=width, NO_COLOR="1")
    assert code == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", drawn)
    table = [line.rstrip() for line in plain.splitlines() if "receipts," not in line]
    assert max(map(len, table)) <= width
    if width >= 80:
        assert "rcpt_01KTEST070000000000000000A"[:20] in drawn


def test_a_wide_terminal_shows_tenant_and_time_and_a_narrow_one_the_cost(ledger: Path) -> None:
    assert "tenant" in on_terminal("receipts", "list", width=160, NO_COLOR="1")[1]
    narrow = on_terminal("receipts", "list", width=70, NO_COLOR="1")[1]
    assert "tenant" not in narrow
    assert "0.01408" in narrow


def test_colour_is_for_terminals_and_only_without_no_color(ledger: Path) -> None:
    assert "\x1b[32m" in on_terminal("receipts", "list", width=100)[1]
    assert "\x1b[3" not in on_terminal("receipts", "list", width=100, NO_COLOR="1")[1]
    assert "\x1b" not in start("receipts", "list").communicate()[0]


def test_every_topic_can_be_read(cli: Cli) -> None:
    listed = cli("help").stdout.splitlines()
    assert listed[0] == "topic\ttitle"
    assert [line.split("\t")[0] for line in listed[1:]] == list(topics())
    for name, title in topics().items():
        assert cli("help", name).stdout.startswith(f"# {title}\n")
        assert json.loads(cli("help", name, "--json").stdout)["topic"] == name
    assert on_terminal("help", "receipts", width=60)[0] == 0


def test_completions_are_printed_for_the_shells_there_are(cli: Cli) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "modelspend" in cli("completions", shell).stdout
    assert cli("completions", "tcsh").exit_code == 2
