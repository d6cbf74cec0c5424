"""What is measured side by side: the upstream itself, the yardstick, and the sidecar twice."""

import http.client
import os
import sqlite3
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import procs
from procs import Process
from traffic import MODEL, PATH, request_body

GATEWAY_CORE, LOAD_CORE = 0, 1

CONFIG = """\
[server]
port = 0
max_in_flight = 4096

[store]
path = "{ledger}"
durability = "full"
keep_bodies = "{bodies}"

[providers.mock]
base_url = "{upstream}/v1"
dialects = ["openai.chat"]
models = ["{model}"]
price = {{ input = 0.15, output = 0.60 }}
"""

SINKS = """
[webhooks.all]
url = "{url}"
types = ["*"]
allow_private = true

[otlp]
endpoint = "{url}"
allow_private = true

[datadog]
url = "{url}"
allow_private = true

[siem.http]
to = "{url}"
allow_private = true

[siem.syslog]
to = "tcp://127.0.0.1:{port}"
format = "cef"
allow_private = true

[siem.file]
to = "{folder}/siem.jsonl"
format = "ocsf"

[alerts.slack.all]
url_env = "BLACK_HOLE"
allow_private = true

[alerts.pagerduty.all]
url = "{url}"
key_env = "KEY"
allow_private = true

[alerts.email.all]
host = "127.0.0.1"
port = {port}
sender = "bench@example.com"
to = ["all@example.com"]
allow_private = true
"""
"""Every kind of sink, each told all that it can be told."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something that answers; `process` is None for the upstream itself, which is not measured."""

    name: str
    url: str
    process: Process | None = None
    ledger: Path | None = None

    def cpu_s(self) -> float:
        return self.process.cpu_s() if self.process else 0.0


class Bench:
    """The upstream, a folder, and what can be started against them."""

    def __init__(self, folder: Path, upstream: Process) -> None:
        self.folder = folder
        self.upstream = upstream
        self._started = 0

    def direct(self) -> Target:
        return Target("direct", self.upstream.url)

    @contextmanager
    def bare(self) -> Iterator[Target]:
        command = procs.script("passthrough.py", self.upstream.url)
        with self._running(command) as process:
            yield Target("bare aiohttp", process.url, process)

    @contextmanager
    def sidecar(self, bodies: str, black_hole: str | None = None) -> Iterator[Target]:
        """`modelspend serve` on a fresh ledger: full durability, receipts, bodies or none; with
        every sink on when there is somewhere to send it."""
        self._started += 1
        home = self.folder / f"sidecar-{self._started}"
        home.mkdir(mode=0o700)
        config, ledger = home / "config.toml", home / "ledger.db"
        config.write_text(
            CONFIG.format(ledger=ledger, bodies=bodies, upstream=self.upstream.url, model=MODEL)
            + (_sinks(black_hole, home) if black_hole else "")
        )
        command = [sys.executable, "-m", "modelspend", "serve", "--config", str(config)]
        key = "k" * 32
        env = {"BLACK_HOLE": black_hole, "KEY": key, "DD_API_KEY": key} if black_hole else {}
        with self._running(command, env) as process:
            name = "sidecar" if bodies == "full" else "sidecar, bodies off"
            name = f"{name}, every sink on" if black_hole else name
            yield Target(name, process.url, process, ledger)

    @contextmanager
    def _running(
        self, command: list[str], env: Mapping[str, str] | None = None
    ) -> Iterator[Process]:
        self._started += 1
        log = self.folder / f"log-{self._started}.txt"
        around = {**_environment(self.folder), **(env or {})}
        process = Process(command, GATEWAY_CORE, log, around)
        try:
            yield process
        finally:
            process.stop()

    @contextmanager
    def black_hole(self) -> Iterator[str]:
        """The address of a far end that takes everything."""
        command = [sys.executable, "-m", "tests.fakes.sink", "200 OK"]
        log = self.folder / "black-hole.txt"
        process = Process(command, LOAD_CORE, log, _environment(self.folder))
        try:
            yield process.url
        finally:
            process.stop()

    def pace(self, first_ms: int, gap_ms: int) -> None:
        """How the upstream paces its streams from now on."""
        address = f"{self.upstream.url}/_set?first_ms={first_ms}&gap_ms={gap_ms}"
        urllib.request.urlopen(address, timeout=5).close()


def _sinks(black_hole: str, folder: Path) -> str:
    return SINKS.format(url=black_hole, port=urlsplit(black_hole).port, folder=folder)


@contextmanager
def bench(folder: Path | None) -> Iterator[Bench]:
    """An upstream on the load's core and a folder on the disk that the ledger will lie on."""
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="modelspend-bench-", dir=folder)
        place = Path(stack.enter_context(made))
        command = procs.script("mock_upstream.py")
        upstream = Process(command, LOAD_CORE, place / "upstream.txt", _environment(place))
        stack.callback(upstream.stop)
        yield Bench(place, upstream)


def cold_start_s(start: AbstractContextManager[Target]) -> float:
    """Seconds from launching a target to its first answered call."""
    with start as target:
        assert target.process is not None
        client = http.client.HTTPConnection(urlsplit(target.url).netloc, timeout=10)
        head = {"Content-Type": "application/json", "Authorization": "Bearer sk-bench"}
        client.request("POST", PATH, request_body(stream=False), head)
        answer = client.getresponse()
        said = answer.read()
        taken = time.perf_counter() - target.process.began
        client.close()
        if answer.status != 200:
            raise SystemExit(f"{target.name} answered {answer.status}: {said[:500]!r}")
        return taken


def receipts(ledger: Path) -> int:
    with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as connection:
        return int(connection.execute("SELECT count(*) FROM receipts").fetchone()[0])


def _environment(home: Path) -> dict[str, str]:
    """Ours without any key, proxy or setting of the user; a home of its own."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LANG", "VIRTUAL_ENV") if name in os.environ
    }
    root = str(Path(__file__).resolve().parents[2])
    return {**kept, "HOME": str(home), "PYTHONPATH": root, "PYTHONUNBUFFERED": "1"}
