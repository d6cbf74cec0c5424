"""A real `modelspend serve` for the chaos tests: started, killed, drained, and looked into.

The process is the product as a user runs it; what the tests learn comes from its sockets, its log,
its files and /proc, never from inside.
"""

import asyncio
import os
import re
import signal
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

REPOSITORY = Path(__file__).resolve().parents[2]

DIALECTS = (
    "openai.chat",
    "openai.responses",
    "openai.embeddings",
    "anthropic.messages",
    "gemini.generate",
)

PRICE = "{ input = 0.15, output = 0.60 }"


def provider(name: str, url: str, **more: object) -> str:
    """A configured provider that speaks every dialect, and takes any model by `name/model`."""
    lines = [
        f"[providers.{name}]",
        f'base_url = "{url}/v1"',
        f"dialects = {list(DIALECTS)}".replace("'", '"'),
        f"price = {PRICE}",
        *(f"{key} = {_toml(value)}" for key, value in more.items()),
    ]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


class Sidecar:
    """`async with Sidecar(folder, config) as sidecar:` serves on a free port at `sidecar.url`.

    `package` is the folder that holds the `modelspend` to run: another one than the repository
    for a deliberately broken copy.
    """

    def __init__(
        self,
        folder: Path,
        config: str,
        *,
        env: Mapping[str, str] | None = None,
        log_level: str = "warning",
        package: Path = REPOSITORY,
        server: str = "",
        store: str = "",
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.ledger = folder / "data" / "ledger.db"
        self.ledger.parent.mkdir(mode=0o700, exist_ok=True)
        self.config = folder / "config.toml"
        self.config.write_text(
            f"[server]\nport = 0\n{server}\n[store]\npath = {_toml(str(self.ledger))}\n{store}\n"
            + config
        )
        self.url = ""
        self.pid = 0
        self._log_level = log_level
        self._package = package
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(package),
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.kill() if error else await self.stop()

    async def launch(self) -> asyncio.subprocess.Process:
        """Start the process and do not wait until it serves."""
        words = ["-m", "modelspend", "serve", "--config", str(self.config)]
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *words,
                "--log-level",
                self._log_level,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._env,
                cwd=self.folder,
            )
        self.pid = self._process.pid
        return self._process

    async def start(self) -> None:
        """Start and wait for the line that names its address."""
        process = await self.launch()
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        found = re.search(r"http://[^\s]+", line)
        if found is None:
            await self.kill()
            raise AssertionError(f"it did not start: {line!r}\n{self.log_text()[-4000:]}")
        self.url = found[0].rstrip("/.")

    async def kill(self) -> None:
        """As a power switch for the process: SIGKILL."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def stop(self, number: int = signal.SIGTERM, limit_s: float = 40) -> int:
        """Ask it to end; its exit code."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        async with asyncio.timeout(limit_s):
            return await self._process.wait()

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log_file(self) -> Path:
        return self.folder / "stderr.txt"

    def log_text(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def token(self) -> str:
        return self.ledger.with_name("token").read_text().strip()

    def sockets_and_files(self) -> int:
        """How many descriptors the process holds."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def rss_mb(self) -> float:
        return self._memory("VmRSS")

    def peak_rss_mb(self) -> float:
        return self._memory("VmHWM")

    def _memory(self, name: str) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+)", status)
        assert found is not None
        return int(found[1]) / 1024

    def ask(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the ledger, read by another connection, as a reading command does."""
        connection = sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=10)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    async def until(self, sql: str, wanted: object, limit_s: float = 15) -> None:
        """Wait until a query's only value is as wanted: work that outlives its request ends so."""
        seen: object = None
        try:
            async with asyncio.timeout(limit_s):
                while (seen := self.ask(sql)[0][0]) != wanted:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"{sql}: {seen!r} and not {wanted!r}") from None
