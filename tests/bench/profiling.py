"""Where the sidecar's CPU goes, by sampling from outside (py-spy), so that nothing is slowed.

Only samples that hold the interpreter's lock count: a thread that waits for the disk costs nothing.
"""

import collections
import os
import shutil
import subprocess
import sys
from pathlib import Path

import procs
from targets import LOAD_CORE, Bench, Target

_SECONDS = 6
_SHOWN = 25


def profile(target: Target, bench: Bench) -> str:
    """Two profiles, of whole answers and of streams: time by package, by function, by line."""
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if spy is None:
        raise SystemExit("py-spy is not installed: pip install py-spy")
    procs.load(LOAD_CORE, "closed", target.url, 8, 30, 500)
    said = []
    for kind in ("whole", "stream"):
        stacks = _sampled(spy, target, bench.folder / f"{kind}.txt", kind)
        said.append(_told(kind, stacks))
    return "\n\n".join(said)


def _sampled(spy: str, target: Target, out: Path, kind: str) -> list[tuple[list[str], int]]:
    assert target.process is not None
    command = [spy, "record", "--pid", str(target.process.pid), "--duration", str(_SECONDS)]
    command += ["--rate", "400", "--gil", "--format", "raw", "--output", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as watcher:
        rest = ("stream",) if kind == "stream" else ()
        procs.load(LOAD_CORE, "closed", target.url, 32, _SECONDS + 1, *rest)
        _, told = watcher.communicate(timeout=60)
        if watcher.returncode:
            raise SystemExit(f"py-spy failed: {told.decode(errors='replace')[-500:]}")
    pairs = (line.rpartition(" ") for line in out.read_text().splitlines())
    return [(stack.split(";"), int(count)) for stack, _, count in pairs]


def _told(kind: str, stacks: list[tuple[list[str], int]]) -> str:
    total = sum(count for _, count in stacks) or 1
    packages: collections.Counter[str] = collections.Counter()
    alone: collections.Counter[str] = collections.Counter()
    within: collections.Counter[str] = collections.Counter()
    for stack, count in stacks:
        packages[_package(stack[-1])] += count
        alone[_function(stack[-1])] += count
        for function in {_function(frame) for frame in stack}:
            within[function] += count
    lines = [f"== {kind}: {total} samples =="]
    for title, counter in [
        ("by package, itself", packages),
        ("by function, itself", alone),
        ("by function, with what it calls", within),
    ]:
        lines.append(f"-- {title}")
        lines += [f"{n / total:7.1%}  {name}" for name, n in counter.most_common(_SHOWN)]
    return "\n".join(lines)


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
