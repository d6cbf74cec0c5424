"""`modelspend run` as a shell sees it: real processes, a real sidecar, a simulated provider."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from modelspend.cli.run_child import environment
from modelspend.errors import NotAuthorised
from modelspend.gateway.caller import Callers
from modelspend.gateway.runs import KEY_PREFIX, Runs
from modelspend.sections import Settings, Tenant

REAL = "sk-real-canary-51c0"
PROGRAM = (sys.executable, "-m", "modelspend")

ASK = """
import json, os, sys, urllib.request
for model in sys.argv[1:]:
    body = {"model": model, "messages": [{"role": "user", "content": "What does it cost?"}]}
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        json.dumps(body).encode(),
        {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], **HEADERS},
    )
    with urllib.request.urlopen(request) as answer:
        print(json.load(answer)["model"], flush=True)
"""


def asking(*models: str, headers: dict[str, str] | None = None) -> list[str]:
    """A program that makes one call for each model, as any app would."""
    return [sys.executable, "-c", ASK.replace("**HEADERS", f"**{headers or {}}"), *models]


def python(code: str, *more: str) -> list[str]:
    return [sys.executable, "-c", code, *more]


@dataclass
class Desk:
    """One user's place: a configuration, a ledger and a provider that writes down who called."""

    folder: Path
    config: Path
    log: Path

    @property
    def env(self) -> dict[str, str]:
        plain = {k: v for k, v in os.environ.items() if not k.startswith("MODELSPEND")}
        return {**plain, "OPENAI_API_KEY": REAL, "GROQ_API_KEY": REAL, "HOME": str(self.folder)}

    def words(self, command: Sequence[str], *options: str) -> list[str]:
        return [*PROGRAM, "run", "--config", str(self.config), *options, "--", *command]

    def run(
        self, command: Sequence[str], *options: str, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        words = self.words(command, *options)
        return subprocess.run(
            words, env=env or self.env, text=True, capture_output=True, check=False
        )

    def start(self, command: Sequence[str], *options: str) -> "subprocess.Popen[str]":
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        words = self.words(command, *options)
        return subprocess.Popen(words, env=self.env, text=True, **pipes)

    def ask(self, *words: str) -> Any:
        told = subprocess.run(
            [*PROGRAM, *words, "--json", "--config", str(self.config)],
            env=self.env,
            text=True,
            capture_output=True,
            check=False,
        )
        assert told.returncode == 0, told.stderr
        return json.loads(told.stdout, parse_float=Decimal)

    def receipts(self) -> list[dict[str, Any]]:
        return self.ask("receipts", "list", "--limit", "1000")

    def accepted(self) -> list[dict[str, Any]]:
        """What reached the provider."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in map(json.loads, lines) if line["event"] == "accepted"]


@contextmanager
def desk_in(folder: Path) -> Iterator[Desk]:
    """A place of one's own, with a provider that answers while the block lasts."""
    log = folder / "charged.jsonl"
    words = [*PROGRAM, "simulate", "--json", "--log", str(log)]
    with subprocess.Popen(words, text=True, stdout=subprocess.PIPE) as provider:
        assert provider.stdout is not None
        url = json.loads(provider.stdout.readline())["url"]
        config = folder / "config.toml"
        config.write_text(
            f'[store]\npath = "ledger.db"\n[providers.openai]\nbase_url = "{url}/v1"\n'
            'api_key_env = "OPENAI_API_KEY"\n'
        )
        yield Desk(folder, config, log)
        provider.send_signal(signal.SIGINT)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_in(tmp_path) as made:
        yield made


def test_a_program_is_carried_and_its_calls_are_summed_up_on_stderr(desk: Desk) -> None:
    written = desk.folder / "summary.json"
    told = desk.run(
        asking("gpt-4.1", "gpt-4.1-mini"), "--tag", "team=search", "--json", str(written)
    )
    assert (told.returncode, told.stdout) == (0, "gpt-4.1\ngpt-4.1-mini\n"), told.stderr
    receipts = desk.receipts()
    said = json.loads(written.read_text(), parse_float=Decimal)
    assert [each["tags"] for each in receipts] == [{"team": "search", "run": said["run_id"]}] * 2
    costs = [each["execution"]["actual_cost_usd"] for each in receipts]
    assert said["cost_usd"] == sum(costs)
    assert f"2 calls, ${sum(costs)} in" in told.stderr
    assert said["output_tokens"] == sum(each["usage"]["output_tokens"] for each in receipts)
    assert (said["calls"], said["exact"], said["exit_code"]) == (2, 2, 0)
    dearest = max(receipts, key=lambda each: each["execution"]["actual_cost_usd"])
    assert said["dearest"] == dearest["receipt_id"]
    assert dearest["receipt_id"] in told.stderr


def test_the_command_that_the_summary_names_finds_the_receipts_of_the_run(desk: Desk) -> None:
    first = desk.run(asking("gpt-4.1"))
    desk.run(asking("gpt-4.1-mini"))
    (typed,) = re.findall(r"modelspend (receipts search run=\w+ --config \S+)", first.stderr)
    found = subprocess.run(
        [*PROGRAM, *typed.split(), "--json"], env=desk.env, capture_output=True, check=True
    )
    assert [each["request"]["model"] for each in json.loads(found.stdout)] == ["gpt-4.1"]


def test_the_provider_gets_the_real_key_and_the_program_only_a_throw_away_one(desk: Desk) -> None:
    show = "import os, json; print(json.dumps(dict(os.environ)))"
    told = desk.run(python(show))
    env = json.loads(told.stdout)
    assert REAL not in told.stdout
    assert "GROQ_API_KEY" not in env
    assert env["OPENAI_API_KEY"].startswith(KEY_PREFIX)
    assert env["OPENAI_API_KEY"] == env["ANTHROPIC_API_KEY"] == env["GEMINI_API_KEY"]
    assert env["ANTHROPIC_BASE_URL"] + "/v1" == env["OPENAI_BASE_URL"] == env["OPENAI_API_BASE"]
    assert env["GOOGLE_GEMINI_BASE_URL"] == env["ANTHROPIC_BASE_URL"]
    desk.run(asking("gpt-4.1"))
    (call,) = desk.accepted()
    assert sha256(REAL.encode()).hexdigest().startswith(call["credential"].rpartition(":")[2])


def test_proxies_of_the_shell_are_kept_and_do_not_catch_the_sidecar() -> None:
    env = environment({"NO_PROXY": "example.com, ::1"}, Settings(), "http://127.0.0.1:1", "key")
    assert env["NO_PROXY"] == "example.com,::1,127.0.0.1,localhost"
    assert env["no_proxy"] == "127.0.0.1,localhost,::1"


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)])
def test_the_exit_code_is_the_programs_own(desk: Desk, command: str, code: int) -> None:
    assert desk.run(["sh", "-c", command]).returncode == code


def test_what_cannot_be_run_is_told_as_a_shell_would_and_starts_no_sidecar(desk: Desk) -> None:
    plain = desk.folder / "notes.txt"
    plain.write_text("not a program")
    for name, code, said in (
        ("no-such-program", 127, "There is no program 'no-such-program'"),
        (str(plain), 126, "is not a program that can be started"),
    ):
        told = desk.run([name])
        assert told.returncode == code
        assert said in told.stderr
    assert not (desk.folder / "ledger.db").exists()


def test_a_program_that_the_system_refuses_is_an_error_of_its_own(desk: Desk) -> None:
    broken = desk.folder / "broken"
    broken.write_text("no shebang, no format")
    broken.chmod(0o755)
    told = desk.run([str(broken)])
    assert told.returncode == 126
    assert "cannot be started: Exec format error" in told.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-usd", "nothing"], "nothing"),
        (["--max-usd", "-1"], "-1"),
        (["--tag", "novalue"], "is not NAME=VALUE"),
        (["--tag", "run=mine"], "the run's own id"),
    ],
)
def test_what_cannot_be_promised_is_refused_before_the_program_starts(
    desk: Desk, options: list[str], said: str
) -> None:
    mark = desk.folder / "mark"
    told = desk.run(["touch", str(mark)], *options)
    assert told.returncode == 2
    assert said in told.stderr
    assert not mark.exists()


def test_without_a_program_it_says_how_it_is_used(desk: Desk) -> None:
    told = desk.run([])
    assert told.returncode == 2
    assert "Usage: modelspend run" in told.stderr


def test_a_run_without_calls_says_so(desk: Desk) -> None:
    told = desk.run(["true"])
    assert "no call came through the sidecar" in told.stderr


def test_a_signal_is_passed_on_and_the_program_decides_how_it_ends(desk: Desk) -> None:
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    running = desk.start(python(code))
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    assert running.returncode == 42


def test_ctrl_c_on_a_terminal_reaches_the_program_once(desk: Desk) -> None:
    code = (
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "print('ready', flush=True)\n"
        "signal.sigwait([signal.SIGINT])\n"
        "again = signal.sigtimedwait([signal.SIGINT], 0.5)\n"
        "raise SystemExit(51 if again is None else 52)\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, desk.words(python(code)), desk.env)
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 1000)
    os.write(terminal, b"\x03")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 51


class Serving:
    """A daemon that was started by hand, perhaps without a key."""

    def __init__(self, desk: Desk, env: dict[str, str]) -> None:
        words = [*PROGRAM, "serve", "--port", "0", "--config", str(desk.config)]
        self.process = subprocess.Popen(words, env=env, text=True, stdout=subprocess.PIPE)

    def __enter__(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()[-1]

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)


def test_a_sidecar_that_runs_already_is_used_and_left_running(desk: Desk) -> None:
    with Serving(desk, desk.env) as url:
        told = desk.run(python("import os; print(os.environ['OPENAI_BASE_URL'])"))
        assert told.stdout == f"{url}/v1\n"
        assert desk.run(asking("gpt-4.1")).returncode == 0
        assert desk.ask("status")["url"] == url
    assert len(desk.receipts()) == 1


def test_a_key_that_the_running_sidecar_lacks_is_named_before_the_program_fails_for_it(
    desk: Desk,
) -> None:
    with Serving(desk, {k: v for k, v in desk.env.items() if k != "GROQ_API_KEY"}):
        told = desk.run(["true"])
        assert "GROQ_API_KEY is set here, but the sidecar that runs has no key" in told.stderr
        assert "OPENAI_API_KEY is set here" not in told.stderr
        assert REAL not in told.stderr


def test_the_key_of_a_run_that_is_over_opens_nothing_and_goes_nowhere(desk: Desk) -> None:
    with Serving(desk, desk.env) as url:
        told = desk.run(python("import os; print(os.environ['OPENAI_API_KEY'])"))
        request = urllib.request.Request(
            f"{url}/v1/chat/completions",
            b'{"model": "gpt-4.1", "messages": []}',
            {"authorization": f"Bearer {told.stdout.strip()}"},
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        assert refused.value.code == 401
        assert "a run that is over" in refused.value.read().decode()
    assert desk.accepted() == []


def test_a_second_run_uses_the_first_ones_sidecar_which_stays_until_it_has_ended(
    desk: Desk,
) -> None:
    wait = "import sys; print('ready', flush=True); sys.stdin.read()"
    first = desk.start(python(wait))
    assert first.stdin and first.stdout and first.stderr  # noqa: PT018
    assert first.stdout.readline() == "ready\n"
    second = desk.start(["sh", "-c", 'echo ready; read go; exec "$@"', "sh", *asking("gpt-4.1")])
    assert second.stdin and second.stdout  # noqa: PT018
    assert second.stdout.readline() == "ready\n"
    first.stdin.close()
    assert "no call" in first.stderr.readline()
    assert "another run uses this run's sidecar" in first.stderr.readline()
    out, err = second.communicate("go\n", timeout=30)
    assert (second.returncode, out) == (0, "gpt-4.1\n"), err
    assert first.wait(30) == 0
    first.stdout.close()
    first.stderr.close()
    assert [each["execution"]["status"] for each in desk.receipts()] == ["success"]


# Who a run's key makes of its program.


def callers(runs: Runs, **tenants: Tenant) -> Callers:
    return Callers(tenants, {"TEAM_KEY": "sk-team"}, b"secret", runs)


def test_a_runs_key_brings_its_tags_and_is_no_providers_key() -> None:
    runs = Runs()
    run, key = runs.open(1, None, "nightly", {"team": "search"})
    said = [
        ("Authorization", f"Bearer {key}"),
        ("x-modelspend-tags", "team=other,step=2,run=forged"),
        ("x-modelspend-tenant", "acme"),
    ]
    caller = callers(runs).identify(said, "")
    assert caller.tags == {"team": "search", "step": "2", "run": run.run_id}
    assert (caller.tenant, caller.workflow, caller.own_key) == ("acme", "nightly", None)
    plain = callers(runs).identify(said[:1], "")
    assert (plain.tenant, plain.tags) == ("default", {"team": "search", "run": run.run_id})


def test_a_runs_own_tenant_cannot_be_overridden_and_it_passes_where_callers_need_keys() -> None:
    runs = Runs()
    _, key = runs.open(1, "acme", None, {})
    keyed = callers(runs, team=Tenant(keys=("TEAM_KEY",)))
    caller = keyed.identify([("x-api-key", key), ("x-modelspend-tenant", "other")], "")
    assert (caller.tenant, caller.own_key) == ("acme", None)
    with pytest.raises(NotAuthorised):
        keyed.identify([("x-api-key", "sk-unknown")], "")


def test_a_closed_run_is_forgotten_and_an_unknown_runs_key_is_never_taken_for_a_providers() -> None:
    runs = Runs()
    run, key = runs.open(1, None, None, {})
    assert runs.close(run.run_id)
    assert not runs.close(run.run_id)
    for dead in (key, f"{KEY_PREFIX}made-up"):
        with pytest.raises(NotAuthorised, match="a run that is over"):
            callers(runs).identify([("Authorization", f"Bearer {dead}")], "")
    assert callers(runs).identify([("Authorization", "Bearer sk-own")], "").own_key == "sk-own"
