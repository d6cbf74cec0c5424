"""What a service manager hears of us, and the sockets that it opens: real processes and datagrams.

The manager is played by a socket in this process, and by systemd's own `systemd-socket-activate`.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
import tomli_w

from modelspend.errors import ConfigInvalid
from modelspend.server.supervisor import Supervisor, check_sockets
from modelspend.settings import Settings
from modelspend.simulator import Simulator
from tests.fakes.sidecar import ALL_DIALECTS, PRICE

ROOT = Path(__file__).parents[2]


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self._socket.setblocking(False)
        self.heard: list[str] = []

    async def hears(self, line: str, within_s: float = 30) -> str:
        """The next message that has a line beginning so."""
        async with asyncio.timeout(within_s):
            while True:
                said = (await asyncio.get_running_loop().sock_recv(self._socket, 4096)).decode()
                self.heard.append(said)
                if any(each.startswith(line) for each in said.splitlines()):
                    return said

    def beats(self) -> int:
        """How many signs of life have come since the last look."""
        count = 0
        while True:
            try:
                count += b"WATCHDOG=1" in self._socket.recv(4096)
            except BlockingIOError:
                return count

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["a path", "an abstract name"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    path = str(tmp_path / "notify") if request.param == "a path" else f"@modelspend-{os.getpid()}"
    made = Manager(path)
    yield made
    made.close()


@pytest.fixture
def config(tmp_path: Path, simulator: Simulator) -> Path:
    provider = {"base_url": f"{simulator.url}/v1", "dialects": ALL_DIALECTS, "price": PRICE}
    tree = {
        "server": {"port": 0, "drain_s": 20},
        "store": {"path": "ledger.db"},
        "providers": {"sim": provider},
    }
    file = tmp_path / "config.toml"
    file.write_text(tomli_w.dumps(tree))
    return file


@asynccontextmanager
async def serving(config: Path, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "modelspend", "serve", "--config", str(config),
        cwd=ROOT, env={**os.environ, **env},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ask(url: str, model: str = "sim/sim-ok") -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    async with (
        aiohttp.ClientSession() as client,
        client.post(f"{url}/v1/chat/completions", json=body) as answer,
    ):
        await answer.read()
        return answer.status


async def test_a_manager_hears_when_calls_are_taken_and_that_we_drain(
    config: Path, manager: Manager, simulator: Simulator
) -> None:
    async with serving(config, NOTIFY_SOCKET=manager.name) as process:
        ready = await manager.hears("READY=1")
        url = ready.partition("STATUS=Serving at ")[2].split()[0]
        assert await ask(url) == 200
        slow = asyncio.create_task(ask(url, "sim/sim-delay-500"))  # noqa: TID251
        while len(simulator.requests) < 2:
            await asyncio.sleep(0.01)
        process.terminate()
        stopping = (await manager.hears("STOPPING=1")).splitlines()
        assert "STATUS=Draining: 1 calls under way" in stopping
        assert "EXTEND_TIMEOUT_USEC=35000000" in stopping
        assert await slow == 200
        assert await process.wait() == 0
    assert not any("WATCHDOG" in said for said in manager.heard), "nobody asked for signs of life"


async def test_a_reload_is_told_when_it_begins_and_when_it_has_ended(
    config: Path, manager: Manager
) -> None:
    async with serving(config, NOTIFY_SOCKET=manager.name) as process:
        await manager.hears("READY=1")
        for text in (config.read_text(), "[nonsense]\n"):
            config.write_text(text)
            process.send_signal(signal.SIGHUP)
            began = await manager.hears("RELOADING=1")
            told_us = int(began.partition("MONOTONIC_USEC=")[2])
            assert abs(time.monotonic_ns() // 1000 - told_us) < 10_000_000
            await manager.hears("READY=1")


async def test_signs_of_life_come_in_time_and_stop_with_the_process(
    config: Path, manager: Manager
) -> None:
    env = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "900000"}
    async with serving(config, **env) as process:
        await manager.hears("READY=1")
        began = time.monotonic()
        for _ in range(6):
            await manager.hears("WATCHDOG=1", within_s=5)
        assert time.monotonic() - began < 6 * 0.9  # each before its time was over, on the whole
        os.kill(process.pid, signal.SIGSTOP)
        manager.beats()
        await asyncio.sleep(1.5)
        assert manager.beats() == 0
        os.kill(process.pid, signal.SIGCONT)
        await manager.hears("WATCHDOG=1", within_s=5)


async def test_a_loop_that_hangs_gives_no_sign_of_life(manager: Manager) -> None:
    watched = Supervisor(address=manager.name, watchdog_s=0.15)
    with watched.watched():
        for _ in range(3):
            await manager.hears("WATCHDOG=1", within_s=5)
        time.sleep(0.5)  # what must never happen, on purpose
        assert manager.beats() == 0
        await manager.hears("WATCHDOG=1", within_s=5)
    manager.beats()
    await asyncio.sleep(0.3)
    assert manager.beats() == 0


async def test_a_manager_that_is_gone_disturbs_nothing(config: Path, tmp_path: Path) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "100000"}
    async with serving(config, **env) as process:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().split()[-1]
        assert await ask(url) == 200
        process.terminate()
        assert await process.wait() == 0


def test_only_what_is_meant_for_this_process_is_taken_and_no_child_sees_it() -> None:
    env = {
        "NOTIFY_SOCKET": "/run/x",
        "WATCHDOG_USEC": "1000000",
        "WATCHDOG_PID": "1",
        "LISTEN_PID": "1",
        "LISTEN_FDS": "2",
        "LISTEN_FDNAMES": "a:b",
        "PATH": "p",
    }
    taken = Supervisor.take(env)
    assert taken == Supervisor(address="/run/x", watchdog_s=None, sockets=())
    assert env == {"PATH": "p"}
    assert Supervisor.take({}) == Supervisor()
    assert Supervisor.take({"WATCHDOG_USEC": "x"}).watchdog_s is None


def test_a_socket_that_others_can_reach_is_refused_as_a_host_would_be() -> None:
    with socket.socket() as near, socket.socket() as far:
        near.bind(("127.0.0.1", 0))
        far.bind(("0.0.0.0", 0))
        check_sockets([near], Settings())
        with pytest.raises(ConfigInvalid, match="several ports"):
            check_sockets([near, far], Settings())
        with pytest.raises(ConfigInvalid, match=r"0\.0\.0\.0, which is no loopback"):
            check_sockets([far], Settings())
        remote = {"server": {"allow_remote": True}}
        with pytest.raises(ConfigInvalid):
            check_sockets([far], Settings.model_validate(remote))
        keyed = {**remote, "tenants": {"acme": {"keys": ["SOME_KEY"]}}}
        check_sockets([far], Settings.model_validate(keyed))


needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None, reason="systemd is not installed"
)


def _has_ipv6() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET6) as free:
        free.bind(("::1", 0))
        return True
    return False


@needs_systemd
async def test_the_first_call_starts_a_socket_activated_sidecar(
    config: Path, tmp_path: Path
) -> None:
    """Started by systemd's own program, with the sockets of two addresses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    addresses = [f"127.0.0.1:{port}", *([f"[::1]:{port}"] if _has_ipv6() else [])]
    manager = Manager(str(tmp_path / "notify"))
    process = await asyncio.create_subprocess_exec(
        "systemd-socket-activate",
        *(f"--listen={address}" for address in addresses),
        f"--setenv=NOTIFY_SOCKET={manager.name}",
        *(f"--setenv={name}={os.environ[name]}" for name in ("PATH", "HOME") if name in os.environ),
        sys.executable, "-m", "modelspend", "serve", "--config", str(config), "--port", "1",
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        heard = b""
        while heard.count(b"Listening on") < len(addresses):
            heard += await process.stderr.readline()
        assert not (tmp_path / "ledger.db").exists()
        assert await ask(f"http://{addresses[0]}") == 200
        ready = await manager.hears("READY=1")
        assert f"STATUS=Serving at http://{addresses[0]}" in ready
        assert await ask(f"http://{addresses[-1]}") == 200
        process.terminate()
        await manager.hears("STOPPING=1")
        assert await process.wait() == 0
    finally:
        manager.close()
        if process.returncode is None:
            process.kill()
        await process.communicate()


@needs_systemd
async def test_a_socket_that_is_none_of_tcp_is_refused(config: Path, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        "systemd-socket-activate", f"--listen={tmp_path / 'unix'}",
        *(f"--setenv={name}={os.environ[name]}" for name in ("PATH", "HOME") if name in os.environ),
        sys.executable, "-m", "modelspend", "serve", "--config", str(config),
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    assert b"Listening" in await process.stderr.readline()
    _, writer = await asyncio.open_unix_connection(str(tmp_path / "unix"))
    _, err = await process.communicate()
    writer.close()
    assert process.returncode == 2
    assert b"none of TCP" in err
