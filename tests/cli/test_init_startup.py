"""`init --systemd` and `init --launchd`: files that the service managers themselves can read."""

import asyncio
import os
import plistlib
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
import tomli_w
from typer.testing import CliRunner, Result

from modelspend.cli import app
from modelspend.cli.init_systemd import quoted, serves
from modelspend.simulator import Simulator
from modelspend.store import read_lock

ROOT = Path(__file__).parents[2]

Init = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a blank, a percent sign and a dollar in its name."""
    folder = tmp_path / "a 100% $HOME"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith(("MODELSPEND_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def init(home: Path) -> Init:
    return lambda *words: CliRunner().invoke(app, ["init", *words])


def units_of(home: Path) -> Path:
    return home / ".config" / "systemd" / "user"


def settings_of(text: str) -> dict[str, str]:
    lines = (line.partition("=") for line in text.splitlines() if "=" in line and line[0] != "#")
    return {name: value for name, _, value in lines}


def configured(home: Path, text: str = "[server]\nport = 8899\ndrain_s = 40\n") -> Path:
    file = home / "config.toml"
    file.write_text(text + '[store]\npath = "my data/ledger.db"\n')
    return file


def test_the_units_name_this_interpreter_this_file_and_this_ledger(home: Path, init: Init) -> None:
    config = configured(home)
    done = init("--systemd", "--config", str(config))
    assert done.exit_code == 0, done.stderr
    service = units_of(home) / "modelspend.service"
    assert done.stdout.splitlines() == [str(service), str(service.with_suffix(".socket"))]
    said = settings_of(service.read_text())
    unescaped = said["ExecStart"].replace("%%", "%").replace("$$", "$")
    assert shlex.split(unescaped)[:6] == [
        sys.executable, "-m", "modelspend", "--config", str(config), "serve",
    ]  # fmt: skip
    assert (said["Type"], said["WatchdogSec"], said["TimeoutStopSec"]) == ("notify", "30", "55")
    folder = home / "my data"
    assert said["ReadWritePaths"].replace("%%", "%") == f'"{folder}"'
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    socket = settings_of(service.with_suffix(".socket").read_text())
    assert socket["ListenStream"] == "127.0.0.1:8899"
    assert stat.S_IMODE(service.stat().st_mode) == 0o600
    assert serves(folder / "ledger.db", os.environ) is False  # no manager runs for this home


def test_the_service_may_write_the_files_that_a_siem_follows(
    home: Path, init: Init, tmp_path: Path
) -> None:
    spool = tmp_path / "spool" / "a b"
    sinks = (("a", "~/siem/events.jsonl"), ("b", f"{spool}/x.log"), ("c", "tls://siem.test:6514"))
    text = "".join(f'[siem.{name}]\nto = "{to}"\n' for name, to in sinks)
    off = '[siem.off]\nto = "/srv/off/x.log"\nenabled = false\n'
    config = configured(home, "[server]\nport = 8899\n" + text + off)
    assert init("--systemd", "--config", str(config)).exit_code == 0
    said = settings_of((units_of(home) / "modelspend.service").read_text())
    written = shlex.split(said["ReadWritePaths"].replace("%%", "%"))
    folders = [home / "siem", spool]
    assert written == [str(home / "my data"), *sorted(f"-{one}" for one in folders)]
    assert all(stat.S_IMODE(one.stat().st_mode) == 0o700 for one in folders)


def test_keys_are_named_and_never_written(
    home: Path, init: Init, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789")
    for kind in ("--systemd", "--launchd"):
        done = init(kind)
        assert done.exit_code == 0, done.stderr
        assert "OPENAI_API_KEY" in done.stderr
        assert "canary" not in done.output
    assert not any(b"canary" in f.read_bytes() for f in home.rglob("*") if f.is_file())


def test_the_shells_own_ledger_comes_along(
    home: Path, init: Init, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSPEND_STORE__PATH", str(home / "else where" / "ledger.db"))
    assert init("--systemd").exit_code == 0
    said = settings_of((units_of(home) / "modelspend.service").read_text())
    kept = said["Environment"].replace("%%", "%")
    assert kept == f'"MODELSPEND_STORE__PATH={home}/else where/ledger.db"'
    assert "--config" not in said["ExecStart"]


def test_what_is_there_is_kept_unless_it_is_to_be_replaced(home: Path, init: Init) -> None:
    assert init("--systemd").exit_code == 0
    service = units_of(home) / "modelspend.service"
    service.write_text("mine")
    done = init("--systemd")
    assert done.exit_code == 2
    assert service.read_text() == "mine"
    assert init("--systemd", "--yes").exit_code == 0
    assert service.with_name("modelspend.service.old").read_text() == "mine"
    assert "ExecStart" in service.read_text()


def test_a_service_without_a_port_of_its_own_is_refused(home: Path, init: Init) -> None:
    done = init("--systemd", "--config", str(configured(home, "[server]\nport = 0\n")))
    assert done.exit_code == 2
    assert "server.port is 0" in done.stderr
    assert init("--systemd", "--launchd").exit_code == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]"])
def test_every_way_to_write_a_host_becomes_an_address(home: Path, init: Init, host: str) -> None:
    config = configured(home, f'[server]\nhost = "{host}"\n')
    assert init("--systemd", "--config", str(config)).exit_code == 0
    socket = settings_of((units_of(home) / "modelspend.socket").read_text())
    wanted = "[::1]:8787" if ":" in host else "127.0.0.1:8787"
    assert socket["ListenStream"] == wanted


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_units(home: Path, init: Init, tmp_path: Path) -> None:
    """Unknown keys, bad values and words that do not parse are told by `systemd-analyze verify`."""
    assert init("--systemd", "--config", str(configured(home))).exit_code == 0
    for bad in (False, True):
        service = units_of(home) / "modelspend.service"
        if bad:
            service.write_text(service.read_text().replace("WatchdogSec=30", "WatchdogSeconds=30"))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--user", str(service)],
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
            capture_output=True, text=True,
        )  # fmt: skip
        told = [line for line in done.stderr.splitlines() if "modelspend" in line]
        assert bool(told) is bad, done.stderr
        assert done.returncode == 0 or bad, done.stderr


def allowed_by(group: str) -> set[str]:
    """The calls of a group of systemd's, with those of the groups in it."""
    told = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True
    )
    names = [line.strip() for line in told.stdout.splitlines()[1:]]
    plain = {name for name in names if name and name[0] not in "#@"}
    return plain.union(*(allowed_by(name) for name in names if name.startswith("@")))


async def traced(config: Path, trace: Path, simulator: Simulator, notify: Path) -> None:
    """A sidecar under strace: it starts, tells its manager, carries calls, drains."""
    process = await asyncio.create_subprocess_exec(
        "strace", "-f", "-qq", "-o", str(trace),
        sys.executable, "-m", "modelspend", "serve", "--config", str(config),
        env={
            **os.environ,
            "NOTIFY_SOCKET": str(notify),
            "WATCHDOG_USEC": "300000",
            "PYTHONDONTWRITEBYTECODE": "1",  # where it could not, Python does without
        },
        cwd=ROOT, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().split()[-1]
    async with aiohttp.ClientSession() as client:
        for stream in (False, True) * 3:
            body = {"model": "sim/sim-ok", "stream": stream, "messages": [_QUESTION]}
            async with client.post(f"{url}/v1/chat/completions", json=body) as answer:
                assert answer.status == 200
                await answer.read()
    holder = read_lock(config.with_name("my data") / "ledger.db")
    assert holder is not None
    os.kill(holder.pid, signal.SIGTERM)
    assert await process.wait() == 0


_QUESTION = {"role": "user", "content": "hi"}


@pytest.mark.skipif(
    not shutil.which("systemd-analyze") or not shutil.which("strace"),
    reason="systemd or strace is not installed",
)
async def test_the_hardening_forbids_nothing_that_the_sidecar_does(
    home: Path, init: Init, simulator: Simulator, tmp_path: Path
) -> None:
    """Each call to the system is one of the allowed, no memory is written and run, no file outside
    the ledger's folder is written, and each kind of address is allowed."""
    config = configured(home)
    assert init("--systemd", "--config", str(config)).exit_code == 0
    said = settings_of((units_of(home) / "modelspend.service").read_text())
    provider = {"base_url": f"{simulator.url}/v1", "dialects": ["openai.chat"], "price": "free"}
    config.write_text(
        config.read_text().replace("port = 8899", "port = 0")
        + tomli_w.dumps({"providers": {"sim": provider}})
    )
    trace = tmp_path / "trace"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        await traced(config, trace, simulator, tmp_path / "notify")
    lines = [line.split(" ", 1)[1].lstrip() for line in trace.read_text().splitlines()]
    used = {line.partition("(")[0] for line in lines if re.match(r"\w+\(", line)}
    assert used <= allowed_by(said["SystemCallFilter"]) | allowed_by("@default")
    assert not used <= allowed_by("@basic-io") | allowed_by("@default"), "the comparison bites"
    mapped = [line for line in lines if line.startswith(("mmap(", "mprotect("))]
    assert not [line for line in mapped if "PROT_WRITE" in line and "PROT_EXEC" in line]
    families = {line[7:].partition(",")[0] for line in lines if line.startswith("socket(")}
    assert {"AF_INET", "AF_UNIX"} <= families <= set(said["RestrictAddressFamilies"].split())
    opened = [re.search(r'"(.*?)".*(?:O_WRONLY|O_RDWR|O_CREAT)', line) for line in lines]
    written = {found[1] for found in opened if found and found[1] != "/dev/null"}
    assert written
    assert [path for path in written if not path.startswith(f"{home}/my data/")] == []


def test_the_agent_is_a_property_list_that_restarts_what_fails(home: Path, init: Init) -> None:
    config = configured(home)
    done = init("--launchd", "--config", str(config))
    assert done.exit_code == 0, done.stderr
    file = home / "Library" / "LaunchAgents" / "com.modelspend.sidecar.plist"
    assert done.stdout.strip() == str(file)
    said = plistlib.loads(file.read_bytes())
    assert said["Label"] == file.stem
    assert said["ProgramArguments"][:6] == [
        sys.executable, "-m", "modelspend", "--config", str(config), "serve",
    ]  # fmt: skip
    assert (said["RunAtLoad"], said["KeepAlive"]) == (True, {"SuccessfulExit": False})
    assert (said["Umask"], said["ExitTimeOut"]) == (63, 55)
    assert said["StandardErrorPath"] == str(home / "my data" / "sidecar.log")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("plain/path", "plain/path"),
        ("a b", '"a b"'),
        ("100%", '"100%%"'),
        ('say "x"', '"say \\"x\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("$HOME", '"$$HOME"'),
    ],
)
def test_words_are_quoted_as_systemd_reads_them(word: str, says: str) -> None:
    assert quoted(word, command=True) == says
