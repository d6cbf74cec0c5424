"""Every command in the README works as it is typed there, in order, by someone with a shell.

What the test puts in place of a reader's machine: the set-up of a virtual environment (which the
checks in `.ci/run` do for real), free ports, a home folder, an app of two lines and a provider,
and for the drill a shorter outage and circuits that wait for a shorter time.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from modelspend.simulator import BEHAVE_HEADER

pytestmark = pytest.mark.timeout(300)  # every command in one go, on a machine that has more to do

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text("utf-8")
PROSE = TEXT.partition("## Commands")[0]

STAYS = ("demo", "serve", "tail")
"""Commands that go on until Ctrl-C: they are run until they have shown something."""

SETUP = re.compile(r"python3 -m venv \.venv && \.venv/bin/pip install -q \S+( \S+)? && ")
APP = """
import json, os, urllib.request
body = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "hi"}]}
urllib.request.urlopen(urllib.request.Request(
    os.environ["OPENAI_BASE_URL"] + "/chat/completions",
    json.dumps(body).encode(),
    {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"]},
)).read()
"""


def blocks(language: str) -> list[str]:
    """The fenced blocks of the prose in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PROSE, re.M | re.S)


def commands() -> list[str]:
    """Every command, one after the other; a line that ends in a backslash goes on."""
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip()]


def test_every_fence_is_of_a_known_language_so_that_no_command_escapes() -> None:
    fences = re.findall(r"^```(\S*)$", PROSE, re.M)
    assert set(fences) <= {"sh", "json", "text", ""}
    assert fences.count("sh") == len(blocks("sh"))
    assert not re.findall(r"^ {4}\S", re.sub(r"```.*?```", "", PROSE, flags=re.S), re.M)
    outside = re.sub(r"^```sh\n.*?^```$", "", PROSE, flags=re.M | re.S)
    assert not re.findall(r"^(?:\$ |modelspend |pip |curl )", outside, re.M)


class Machine:
    """A reader's machine: a folder with the checkout's virtual environment, a home, a shell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.staying: list[subprocess.Popen[str]] = []
        self.outputs: dict[str, str] = {}
        programs = folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        self._program(programs / "modelspend", f'exec "{sys.executable}" -m modelspend "$@"')
        self._program(programs / "pytest", f'cd "{ROOT}" && exec "{sys.executable}" -m pytest "$@"')
        (programs / "activate").write_text(f'export PATH="{programs}:$PATH"\n')
        (folder / "my_app.py").write_text(APP)
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("MODELSPEND", "XDG"))}
        self.env = {**plain, "HOME": str(folder), "PYTHONPATH": str(ROOT)}
        self.port = ""

    def _program(self, path: Path, script: str) -> None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def type(self, line: str) -> None:
        """Run one line as it stands, but for what the module's docstring names."""
        words = SETUP.sub("", line)
        words = re.sub(r"(?<=modelspend demo)$", " --port 0", words)
        words = re.sub(r"(?<=/pytest)$", " --collect-only -q tests/test_money.py", words)
        words = words.replace("--for 10s", "--for 2s")
        words = words.replace("127.0.0.1:8787", f"127.0.0.1:{self.port}")
        if any(re.search(rf"modelspend {name}\b", words) for name in STAYS):
            self._stay(line, words)
            return
        kept = self.folder / "env"
        told = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f'{words}\nenv -0 > "{kept}"'],
            cwd=self.folder,
            env=self.env,
            text=True,
            capture_output=True,
            check=False,
        )
        assert told.returncode == 0, f"{line}\n{told.stdout}\n{told.stderr}"
        self.outputs[line] = told.stdout
        pairs = (entry.partition("=") for entry in kept.read_text().split("\0") if entry)
        self.env = {name: value for name, _, value in pairs}

    def _stay(self, line: str, words: str) -> None:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {words}"],
            cwd=self.folder,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if "demo" in words else None,
        )
        self.staying.append(process)
        assert process.stdout is not None
        self.outputs[line] = process.stdout.readline()
        assert self.outputs[line].strip(), line
        if process.stderr is not None:
            told = next(text for text in process.stderr if text.startswith("serving at"))
            self.port = re.findall(r":(\d+)", told)[0]

    def leave(self) -> None:
        """Ctrl-C in every terminal."""
        for process in reversed(self.staying):
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        self.staying.clear()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which everything in the README has been typed."""
    if shutil.which("curl") is None:
        pytest.skip("the README asks with curl, which is not installed here")
    made = Machine(tmp_path_factory.mktemp("reader"))
    try:
        for line in commands():
            if line == "modelspend run -- python my_app.py":
                _own_configuration(made)
            made.type(line)
        yield made
    finally:
        made.leave()


def _own_configuration(machine: Machine) -> None:
    """From here on the reader has an app of their own: a key, and a provider that answers."""
    provider = subprocess.Popen(
        [sys.executable, "-m", "modelspend", "simulate", "--json"],
        env=machine.env,
        text=True,
        stdout=subprocess.PIPE,
    )
    machine.staying.append(provider)
    assert provider.stdout is not None
    url = json.loads(provider.stdout.readline())["url"]
    del machine.env["MODELSPEND_CONFIG"]
    providers = json.dumps({"openai": {"base_url": f"{url}/v1"}})
    machine.env |= {
        "OPENAI_API_KEY": "sk-mine",
        "MODELSPEND_PROVIDERS": providers,
        "MODELSPEND_SERVER__PORT": "0",
        "MODELSPEND_CIRCUITS__WAIT_S": "1",
    }


def test_every_command_is_run(machine: Machine) -> None:
    assert list(machine.outputs) == commands()
    assert len(machine.outputs) >= 14


def test_the_headers_shown_are_those_of_the_answer(machine: Machine) -> None:
    (typed,) = (line for line in machine.outputs if "first-call' " in line)
    assert BEHAVE_HEADER not in typed
    told = machine.outputs[typed]
    for line in blocks("text")[0].splitlines():
        name, _, value = line.partition(": ")
        (found,) = re.findall(rf"^{name}: (\S+)", told, re.M)
        assert found == value or name == "x-modelspend-receipt"


def test_auto_is_answered_by_a_model_of_the_profile(machine: Machine) -> None:
    (typed,) = (line for line in machine.outputs if '"model": "auto"' in line)
    assert json.loads(machine.outputs[typed])["choices"]


def test_the_receipt_shown_is_the_one_that_the_request_leaves(machine: Machine) -> None:
    shown = json.loads(blocks("json")[0], parse_float=Decimal)
    typed = "modelspend receipts search first-call --json"
    (found,) = json.loads(machine.outputs[typed], parse_float=Decimal)
    for moving in ("receipt_id", "created_at"):
        assert len(shown.pop(moving)) == len(found[moving])
    assert _part_of(shown, found) == shown
    assert sum(line["cost_usd"] for line in shown["cost"]["lines"]) == Decimal(
        shown["execution"]["actual_cost_usd"]
    )


def _part_of(shown: Any, found: Any) -> Any:
    """What `found` says about everything that `shown` mentions."""
    if isinstance(shown, dict):
        return {key: _part_of(value, found[key]) for key, value in shown.items()}
    if isinstance(shown, list):
        return [_part_of(a, b) for a, b in zip(shown, found, strict=True)]
    return found


def test_the_checks_run_the_very_test_command_of_the_readme() -> None:
    extract = re.search(r"test_command=\$\((.*)\)", (ROOT / ".ci" / "run").read_text())
    assert extract is not None
    told = subprocess.run(
        ["bash", "-c", extract[1]], cwd=ROOT, text=True, capture_output=True, check=True
    )
    assert told.stdout.strip() in commands()
    assert told.stdout.strip().endswith(".venv/bin/pytest")


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert links
    for link in links:
        assert link.startswith("http") or (ROOT / link).exists(), link


@pytest.mark.full
def test_the_set_up_of_the_first_command_works_from_nothing(tmp_path: Path) -> None:
    line = next(line for line in commands() if line.endswith("modelspend demo"))
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(checkout)], check=True)
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MODELSPEND", "PYTHON"))}
    told = subprocess.run(
        ["bash", "-c", f"{line} --once --port 0"],
        cwd=checkout,
        env={**plain, "HOME": str(tmp_path)},
        text=True,
        capture_output=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert "rcpt_" in told.stdout
