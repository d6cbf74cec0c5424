"""Where the sidecar's CPU goes: by thread from the kernel, by function by sampling from outside.

The threads come from a load without a sampler. The functions are those that hold the
interpreter's lock: what a thread does without it (SQLite, compression, waiting for the disk) shows
only in its CPU time.
"""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import procs
from targets import LOAD_CORE, Bench, Target

_SECONDS = 6
_SHOWN = 40


def profile(target: Target, bench: Bench) -> str:
    """Two profiles, of whole answers and of streams: CPU by thread, by package, by function."""
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if spy is None:
        raise SystemExit("py-spy is not installed: pip install py-spy")
    procs.load(LOAD_CORE, "closed", target.url, 8, 30, 500)
    said = []
    for kind in ("whole", "stream"):
        threads = _by_thread(target, kind)
        stacks = _sampled(spy, target, bench.folder / f"{kind}.txt", kind)
        said.append("\n".join([f"== {kind} ==", *threads, *_told(stacks)]))
    return "\n\n".join(said)


def _rest(kind: str) -> tuple[str, ...]:
    return ("stream",) if kind == "stream" else ()


def _by_thread(target: Target, kind: str) -> list[str]:
    assert target.process is not None
    before = target.process.threads_cpu_s()
    got = procs.load(LOAD_CORE, "closed", target.url, 32, 3, *_rest(kind))
    lines = [f"-- CPU ms per call by thread, of {got['ok']} calls: user, system"]
    for name, (user, system) in target.process.threads_cpu_s().items():
        user0, system0 = before.get(name, (0.0, 0.0))
        spent = [(user - user0) / got["ok"] * 1000, (system - system0) / got["ok"] * 1000]
        if sum(spent) >= 0.001:
            lines.append(f"  {spent[0]:.3f}  {spent[1]:.3f}  {name}")
    return lines


def _sampled(spy: str, target: Target, out: Path, kind: str) -> list[tuple[list[str], int]]:
    assert target.process is not None
    command = [spy, "record", "--pid", str(target.process.pid), "--duration", str(_SECONDS)]
    command += ["--rate", "400", "--gil", "--format", "raw", "--output", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as watcher:
        procs.load(LOAD_CORE, "closed", target.url, 32, _SECONDS + 1, *_rest(kind))
        _, told = watcher.communicate(timeout=60)
        if watcher.returncode:
            raise SystemExit(f"py-spy failed: {told.decode(errors='replace')[-500:]}")
    pairs = (line.rpartition(" ") for line in out.read_text().splitlines())
    return [(stack.split(";"), int(count)) for stack, _, count in pairs]


def _told(stacks: list[tuple[list[str], int]]) -> Iterator[str]:
    total = sum(count for _, count in stacks) or 1
    packages: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for stack, count in stacks:
        packages[_package(stack[-1])] += count
        alone[_function(stack[-1])] += count
        for function in {_function(frame) for frame in stack}:
            within[function] += count
    below = Counter({name: n for name, n in within.items() if n < 0.85 * total})
    for title, counter in [
        ("by package, itself", packages),
        ("by function, itself", alone),
        ("by function, with what it calls", below),
    ]:
        yield f"-- {title}, of {total} samples"
        yield from (f"{n / total:7.1%}  {name}" for name, n in counter.most_common(_SHOWN))


def _function(frame: str) -> str:
    """A frame without its line: `name (path:line)` → `name (path)`, the path shortened."""
    name, _, place = frame.rpartition(" (")
    path = place.rpartition(":")[0]
    for mark in ("site-packages/", "python3.11/"):
        path = path.rpartition(mark)[2]
    return f"{name}  {path}"


def _package(frame: str) -> str:
    path = _function(frame).rpartition("  ")[2].split("/")
    if path[0] == "modelspend" and len(path) > 2:
        return "/".join(path[:2])
    return path[0]
