"""Installing other people's clients at test time, and running them against the sidecar.

They pin each other's dependencies apart, so each set lives in a folder of its own: below
`SDK_CLIENTS` if that is set (kept for the next run), else in the test run's own folder.
"""

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

_INSTALL_S = 900
_RUN_S = 180


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Home:
    """A folder with clients, and an environment that knows nothing of ours."""

    folder: Path
    paths: tuple[str, ...] = field(default=())

    async def run(self, *command: str, cwd: Path, **variables: str) -> Ran:
        """Run a client to its end, without a terminal and without our own settings."""
        env = {
            "HOME": str(cwd),
            "PATH": os.pathsep.join((*self.paths, os.environ["PATH"])),
            "LANG": "C.UTF-8",
            **variables,
        }
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_RUN_S):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            out, err = await process.communicate()
        return Ran(process.returncode or 0, out.decode(), err.decode())


def python_home(folder: Path, *packages: str) -> Home:
    """A virtual environment with those packages."""
    scripts = folder / "bin"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(scripts / "pip"), "install", "-q", *packages]
        subprocess.run(install, check=True, timeout=_INSTALL_S)
        (folder / "ready").touch()
    return Home(folder, (str(scripts),))


def node_home(folder: Path, *packages: str) -> Home:
    """A folder of Node packages."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "ready").exists():
        install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", ".", *packages]
        subprocess.run(install, check=True, timeout=_INSTALL_S, cwd=folder)
        (folder / "ready").touch()
    return Home(folder, (str(folder / "node_modules/.bin"),))
