"""`modelspend simulate` as a user runs it: a process, an address on stdout, a log, an end."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from modelspend.simulator import BEHAVIOURS

COMMAND = [sys.executable, "-m", "modelspend", "simulate"]


def test_list_names_every_behaviour() -> None:
    run = subprocess.run([*COMMAND, "--list", "--json"], capture_output=True, check=True)
    names = [row["name"] for row in json.loads(run.stdout)]
    assert names == [f"sim-{row.pattern}" for row in BEHAVIOURS]
    plain = subprocess.run([*COMMAND, "--list"], capture_output=True, check=True, text=True)
    assert len(plain.stdout.splitlines()) == len(BEHAVIOURS) + 1


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_stopped_and_logs_what_it_charged(
    tmp_path: Path, end: signal.Signals
) -> None:
    log = tmp_path / "log.jsonl"
    flags = ["--json", "--log", str(log), "--price", "*:input=3,output=15", "--seed", "4"]
    with subprocess.Popen([*COMMAND, *flags], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        url = json.loads(running.stdout.readline())["url"]
        asked = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "Hello"}]}
        request = urllib.request.Request(
            url + "/v1/chat/completions", json.dumps(asked).encode(), method="POST"
        )
        with urllib.request.urlopen(request) as answer:
            usage = json.load(answer)["usage"]
        running.send_signal(end)
        assert running.wait(20) == 0
    ended = json.loads(log.read_text().splitlines()[-1])
    pico = usage["prompt_tokens"] * 3_000_000 + usage["completion_tokens"] * 15_000_000
    assert ended["cost_pico"] == pico


def test_a_price_that_makes_no_sense_is_a_usage_error() -> None:
    run = subprocess.run([*COMMAND, "--price", "gpt"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert "'gpt'" in run.stderr
    assert "Example" in run.stderr
