"""`up`, `down`, `reload`, `backup` and `restore` as a user meets them: real processes and calls."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import tomli_w

from modelspend.receipt import Status
from modelspend.simulator import Simulator
from modelspend.store import ALL, Store, read_lock
from tests.fakes.sidecar import ALL_DIALECTS, PRICE, Sidecar

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(180)

Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def config(tmp_path: Path, simulator: Simulator) -> Path:
    provider = {"base_url": f"{simulator.url}/v1", "dialects": ALL_DIALECTS, "price": PRICE}
    file = tmp_path / "config.toml"
    tree = {
        "server": {"port": 0},
        "store": {"path": "data/ledger.db"},
        "providers": {"sim": provider},
        "circuits": {"enabled": False},
    }
    file.write_text(tomli_w.dumps(tree))
    return file


@pytest.fixture
def ledger(config: Path) -> Path:
    return config.with_name("data") / "ledger.db"


@pytest.fixture
async def run(config: Path, ledger: Path) -> AsyncIterator[Run]:
    """A command in a process of its own; what it leaves running is ended with the test."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MODELSPEND_", "XDG_"))}

    async def command(*words: str, **env: str) -> tuple[int, str, str]:
        running = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "modelspend", *words, "--config", str(config),
            cwd=ROOT, env={**clean, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, err = await running.communicate()
        return running.returncode or 0, out.decode(), err.decode()

    yield command
    if (holder := read_lock(ledger)) is not None and holder.pid != os.getpid():
        os.kill(holder.pid, signal.SIGKILL)
        while read_lock(ledger) is not None:
            await asyncio.sleep(0.02)


async def url_of(run: Run) -> str:
    code, out, err = await run("up", "--json")
    assert code == 0, err
    return str(json.loads(out)["url"])


async def ask(client: aiohttp.ClientSession, url: str, model: str = "sim/sim-ok") -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    async with client.post(f"{url}/v1/chat/completions", json=body) as answer:
        await answer.read()
        return answer.status


async def begun(simulator: Simulator, count: int) -> None:
    """So many calls have reached the provider."""
    while len(simulator.requests) < count:
        await asyncio.sleep(0.01)


async def statuses(ledger: Path) -> list[Status]:
    store = await Store.open_read(ledger)
    try:
        found = await store.receipts.after(0, ALL, limit=1000)
        return [one.receipt.execution.status for one in found]
    finally:
        await store.close()


async def verified(run: Run) -> dict[str, Any]:
    code, out, err = await run("verify", "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


# up, down, reload


async def test_up_serves_in_the_background_and_down_drains(
    run: Run, ledger: Path, simulator: Simulator
) -> None:
    code, out, err = await run("up", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["started"] is True
    assert Path(told["log"]) == ledger.with_name("sidecar.log")
    assert stat.S_IMODE(Path(told["log"]).stat().st_mode) == 0o600
    async with aiohttp.ClientSession() as client:
        assert await ask(client, told["url"]) == 200
        slow = asyncio.create_task(ask(client, told["url"], "sim/sim-delay-2500"))  # noqa: TID251
        await begun(simulator, 2)
        code, out, err = await run("down", "--json")
        assert (code, json.loads(out)["pid"]) == (0, told["pid"]), err
        assert await slow == 200
    assert read_lock(ledger) is None
    assert await statuses(ledger) == [Status.SUCCESS] * 2


async def test_up_and_down_are_safe_to_run_twice(run: Run, ledger: Path) -> None:
    code, out, err = await run("down")
    assert (code, out) == (0, "")
    assert "no sidecar was running" in err
    first = json.loads((await run("up", "--json"))[1])
    code, out, _ = await run("up", "--json")
    again = json.loads(out)
    assert code == 0
    assert (again["url"], again["pid"], again["started"]) == (first["url"], first["pid"], False)
    assert (await run("down"))[0] == 0
    assert (await run("down"))[0] == 0


async def test_two_at_once_start_one(run: Run, ledger: Path) -> None:
    ends = await asyncio.gather(*(run("up", "--json") for _ in range(2)))
    assert [code for code, _, _ in ends] == [0, 0], ends
    told = [json.loads(out) for _, out, _ in ends]
    assert told[0]["pid"] == told[1]["pid"]
    assert [one["started"] for one in told].count(True) == 1
    assert serving(ledger.parents[1]) == [told[0]["pid"]], "nobody waits to take over"


def serving(folder: Path) -> list[int]:
    """The processes that serve a configuration of that folder, as the system lists them."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=True
    )
    lines = [line.split(None, 1) for line in listed.stdout.splitlines()]
    return [int(pid) for pid, args in lines if f"{folder}/config.toml serve" in args]


async def test_a_configuration_that_is_wrong_is_told_before_anything_starts(
    run: Run, config: Path, ledger: Path
) -> None:
    config.write_text(config.read_text().replace("port = 0", "port = 99999"))
    code, out, err = await run("up")
    assert (code, out) == (2, "")
    assert "server.port" in err
    assert not ledger.exists()


async def test_what_keeps_it_from_serving_is_told_from_its_log(
    run: Run, config: Path, ledger: Path
) -> None:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config.write_text(config.read_text().replace("port = 0", f"port = {port}"))
    code, out, err = await run("up")
    server.close()
    assert (code, out) == (5, "")
    assert f"Port {port} on 127.0.0.1 cannot be listened on" in err


async def test_down_cuts_what_is_open_when_it_is_told_to(
    run: Run, ledger: Path, simulator: Simulator
) -> None:
    url = await url_of(run)
    async with aiohttp.ClientSession() as client:
        slow = asyncio.create_task(ask(client, url, "sim/sim-stall-headers"))  # noqa: TID251
        await begun(simulator, 1)
        assert (await run("down", "--now"))[0] == 0
        await asyncio.gather(slow, return_exceptions=True)
    assert await statuses(ledger) == [Status.ERROR]


@pytest.mark.parametrize("command", ["up", "down"])
async def test_a_sidecar_that_belongs_to_a_command_is_left_alone(
    sidecar: Sidecar, tmp_path: Path, command: str
) -> None:
    """It ends with its command, so it is nothing that `up` could promise."""
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "modelspend", command, "--config", str(tmp_path / "config.toml"),
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    _, err = await running.communicate()
    assert running.returncode == 1
    assert f"in use by process {os.getpid()}" in err.decode()


async def test_reload_reads_the_configuration_again_or_leaves_the_old_one(
    run: Run, config: Path
) -> None:
    assert (await run("reload"))[0] == 5
    await url_of(run)
    config.write_text(config.read_text() + '[routing]\nmode = "shadow"\n')
    assert (await run("reload"))[0] == 0
    assert json.loads((await run("status", "--json"))[1])["mode"] == "shadow"
    config.write_text(config.read_text() + "[nonsense]\n")
    code, _, err = await run("reload")
    assert code != 0
    assert "nonsense" in err
    assert json.loads((await run("status", "--json"))[1])["mode"] == "shadow"


async def test_a_sink_is_forgotten_by_the_sidecar_once_nothing_asks_for_it(
    run: Run, config: Path
) -> None:
    plain = config.read_text()
    config.write_text(plain + '[siem.soc]\nto = "/var/none/x.jsonl"\n')
    await url_of(run)
    code, out, _ = await run("sinks", "list", "--json")
    assert [(one["name"], one["state"]) for one in json.loads(out)] == [("siem:soc", "on")]
    code, _, err = await run("sinks", "forget", "siem:soc", "--yes", "--json")
    assert (code, json.loads(err)["error"]["code"]) == (1, "sink_in_use")
    config.write_text(plain)
    assert (await run("reload"))[0] == 0
    code, out, _ = await run("sinks", "list", "--json")
    assert [(one["name"], one["state"]) for one in json.loads(out)] == [("siem:soc", "left behind")]
    code, out, err = await run("sinks", "forget", "siem:soc", "--yes")
    assert (code, out) == (0, "siem:soc is forgotten; 0 waited for it.\n"), err
    assert json.loads((await run("sinks", "list", "--json"))[1]) == []
    events = json.loads((await run("events", "--type", "sink.forgotten", "--json"))[1])
    assert [one["data"]["sink"] for one in events] == ["siem:soc"]
    assert json.loads((await run("status", "--json"))[1])["sinks_left_behind"] == []


async def test_a_log_line_is_one_json_object_when_that_is_asked_for(
    run: Run, config: Path, ledger: Path
) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "modelspend", "serve", "--config", str(config),
        "--log-format", "json", "--log-level", "info",
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None
    await server.stdout.readline()
    server.terminate()
    _, err = await server.communicate()
    lines = [json.loads(line) for line in err.decode().splitlines()]
    assert [line["message"].split()[0] for line in lines] == ["serving", "stopping:", "stopped"]
    assert all({"at", "level", "logger", "message"} == line.keys() for line in lines)


_SYSTEMCTL = """#!/bin/sh
# As much of systemd's manager as `up` and `down` speak to: it starts what the unit says.
cd {folder} && echo "$*" >> asked
case "$*" in
  *LoadState*) echo loaded ;;
  *MainPID*) cat pid ;;
  *" start "*) command=$(sed -n s/^ExecStart=//p systemd/user/modelspend.service)
    NOTIFY_SOCKET={folder}/notify setsid $command > /dev/null 2>&1 &
    echo $! > pid ;;
  *" stop "*) kill "$(cat pid)" ;;
esac
"""


async def test_up_down_and_restore_ask_systemd_where_its_unit_serves_this_ledger(
    run: Run, config: Path, ledger: Path, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config.write_text(config.read_text().replace("port = 0", f"port = {port}"))
    folder = tmp_path / "home"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "systemctl").write_text(_SYSTEMCTL.format(folder=folder))
    (folder / "bin" / "systemctl").chmod(0o755)
    env = {"XDG_CONFIG_HOME": str(folder), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    assert (await run("init", "--systemd", **env))[0] == 0
    code, out, err = await run("up", "--json", **env)
    assert code == 0, err
    told = json.loads(out)
    assert (told["by"], told["url"]) == ("systemd", f"http://127.0.0.1:{port}")
    assert (await run("backup", str(tmp_path / "copy.db"), **env))[0] == 0
    code, _, err = await run("restore", str(tmp_path / "copy.db"), "--yes", **env)
    assert code == 0, err
    again = json.loads((await run("up", "--json", **env))[1])
    assert (again["started"], again["pid"] != told["pid"]) == (False, True)
    assert (await run("down", **env))[0] == 0
    asked = (folder / "asked").read_text().splitlines()
    acts = [line.split()[1] for line in asked if "show" not in line]
    assert acts == ["start", "stop", "start", "stop"]
    assert read_lock(ledger) is None


# backup, restore


async def test_a_backup_under_load_is_sound_and_no_call_waits_for_it(
    run: Run, ledger: Path, tmp_path: Path
) -> None:
    url, file, stop, took = await url_of(run), tmp_path / "copy.db", asyncio.Event(), []

    async def caller(client: aiohttp.ClientSession) -> None:
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            began = loop.time()
            assert await ask(client, url) == 200
            took.append(loop.time() - began)

    async with aiohttp.ClientSession() as client:
        callers = [asyncio.create_task(caller(client)) for _ in range(4)]  # noqa: TID251
        while len(took) < 50:
            await asyncio.sleep(0.01)
        before = len(took)
        code, out, err = await run("backup", str(file), "--json")
        during = len(took) - before
        stop.set()
        await asyncio.gather(*callers)
    assert code == 0, err
    held = json.loads(out)
    print(f"{during} calls during the backup of {held['receipts']} receipts,"
          f" the slowest {max(took[before:]) * 1000:.0f} ms")  # fmt: skip
    assert during > 20
    assert 50 <= held["receipts"] <= len(took)
    assert max(took[before:]) < 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_restore_drains_the_sidecar_and_has_it_serve_again(
    run: Run, ledger: Path, tmp_path: Path, simulator: Simulator
) -> None:
    url, file = await url_of(run), tmp_path / "copy.db"
    async with aiohttp.ClientSession() as client:
        for _ in range(3):
            assert await ask(client, url) == 200
        assert (await run("backup", str(file)))[0] == 0
        for _ in range(2):
            assert await ask(client, url) == 200
        slow = asyncio.create_task(ask(client, url, "sim/sim-delay-2500"))  # noqa: TID251
        await begun(simulator, 6)
        code, out, err = await run("restore", str(file), "--yes", "--json")
        assert code == 0, err
        assert await slow == 200
        told = json.loads(out)
        assert (told["restored"]["receipts"], told["lost_receipts"]) == (3, 3)
        again = await url_of(run)
        assert f"serving again at {again}" in err
        assert await ask(client, again) == 200
    assert await statuses(ledger) == [Status.SUCCESS] * 4
    assert len(await statuses(Path(told["kept_as"]))) == 6
    found = await verified(run)
    assert (found["wrong"], [one["missing"] for one in found["breaks"]]) == (0, [3])
    assert found["breaks"][0]["signed"] is True


async def test_restore_says_what_it_would_do_until_it_is_told_to(
    run: Run, ledger: Path, tmp_path: Path
) -> None:
    file = tmp_path / "copy.db"
    url = await url_of(run)
    assert (await run("backup", str(file)))[0] == 0
    code, out, err = await run("restore", str(file))
    assert (code, out) == (2, "")
    assert f"restore {file} --yes" in err
    assert json.loads((await run("status", "--json"))[1])["url"] == url
    assert (await verified(run))["breaks"] == []


async def test_a_backup_that_is_not_sound_does_not_stop_the_sidecar(
    run: Run, ledger: Path, tmp_path: Path
) -> None:
    url = await url_of(run)
    file = tmp_path / "copy.db"
    file.write_bytes(os.urandom(9_000))
    code, _, err = await run("restore", str(file), "--yes")
    assert code == 6, err
    assert json.loads((await run("status", "--json"))[1])["url"] == url
    assert (await run("restore", str(tmp_path / "none.db"), "--yes"))[0] == 3
