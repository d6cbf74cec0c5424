"""Processes of the benchmark: started on a core, measured from /proc, ended by the one who began.

Linux only. CPU time is the kernel's own count in ticks of 10 ms, so measure over seconds.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
_ADDRESS = re.compile(rb"http://127\.0\.0\.1:\d+")
_HERE = Path(__file__).parent


class Process:
    """One child on one core, and where it listens once it has said so."""

    def __init__(
        self, command: Sequence[str], core: int, log: Path, env: Mapping[str, str]
    ) -> None:
        self._log = log
        with log.open("wb") as talk:
            self.began = time.perf_counter()
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=talk,
                stderr=subprocess.STDOUT,
                env=dict(env),
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            )
        self.pid = self._child.pid
        self.url = self._address()

    def cpu_s(self) -> float:
        """User and system seconds so far, of this process and all that it has started."""
        return sum(_cpu_s(pid) for pid in tree(self.pid))

    def threads_cpu_s(self) -> dict[str, tuple[float, float]]:
        """(user, system) seconds so far of each thread, the one that began first first."""
        found = {}
        for number, task in enumerate(sorted(map(int, os.listdir(f"/proc/{self.pid}/task")))):
            fields = _stat(task, of=self.pid)
            name = Path(f"/proc/{self.pid}/task/{task}/comm").read_text().strip()
            if fields:
                found[f"{number} {name}"] = (int(fields[11]) / TICK, int(fields[12]) / TICK)
        return found

    def rss_mb(self) -> float:
        """Resident memory now, in MB of 1024 × 1024 bytes."""
        return sum(_rss_mb(pid) for pid in tree(self.pid))

    def stop(self) -> None:
        """Ask, then insist; waits until it is gone."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(10)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()

    def _address(self, limit_s: float = 60) -> str:
        """The first address that it prints."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            ended = self._child.poll() is not None
            if found := _ADDRESS.search(self._log.read_bytes()):
                return found[0].decode()
            if ended:
                break
            time.sleep(0.001)
        self.stop()
        raise SystemExit(f"It did not start; it said:\n{self._log.read_text(errors='replace')}")


@contextmanager
def alone(one: Process | None, several: Sequence[Process | None]) -> Iterator[None]:
    """The others stand still meanwhile; it has a moment to make up for what its timers missed."""
    others = [process.pid for process in several if process and process is not one]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(0.5)
    try:
        yield
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def script(name: str, *words: object) -> list[str]:
    """The command for one of the scripts beside this file."""
    return [sys.executable, str(_HERE / name), *map(str, words)]


def load(core: int, mode: str, url: str, amount: float, seconds: float, *rest: object) -> dict:
    """Run the load generator on a core and take its figures."""
    done = subprocess.run(
        script("loadgen.py", mode, url, amount, seconds, *rest),
        capture_output=True,
        text=True,
        timeout=seconds + 660,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    if done.returncode:
        raise SystemExit(f"The load generator failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := _stat(int(entry))):
            children.setdefault(int(stat[1]), []).append(int(entry))
    found, todo = [], [root]
    while todo:
        found.append(pid := todo.pop())
        todo += children.get(pid, [])
    return found


def machine_busy_s() -> float:
    """CPU seconds that the whole machine has used so far (stolen time is not ours to count)."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, soft, *_ = map(int, file.readline().split()[1:])
    return (user + nice + system + irq + soft) / TICK


def _stat(pid: int, of: int | None = None) -> list[str]:
    place = f"/proc/{pid}/stat" if of is None else f"/proc/{of}/task/{pid}/stat"
    try:
        return Path(place).read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_s(pid: int) -> float:
    return sum(map(int, _stat(pid)[11:15])) / TICK


def _rss_mb(pid: int) -> float:
    try:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def sync_ms(folder: Path, times: int = 60) -> list[float]:
    """How long a small durable write takes in a folder: the floor under every durable receipt."""
    path, taken = folder / "sync.probe", []
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(times):
            before = time.perf_counter()
            os.write(handle, bytes(4096))
            os.fdatasync(handle)
            taken.append((time.perf_counter() - before) * 1000)
    finally:
        os.close(handle)
        path.unlink()
    return taken
