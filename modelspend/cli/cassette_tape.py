"""The server that plays a cassette: it knows the file, and has no way to anywhere else.

It is the program's proxy, too, so that other addresses are refused by name. It is written on the
standard library's server, which cannot send a request: there is no client in this process.
"""

import secrets as random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import TYPE_CHECKING, Literal

from modelspend.cassettes import Cassette, Entry, Player, masked
from modelspend.errors import (
    BudgetExceeded,
    CassetteMiss,
    ModelspendError,
    NetworkRefused,
    Overloaded,
)

if TYPE_CHECKING:
    from modelspend.dialects.dialect import Dialect

FaultKind = Literal["outage", "rate-limit", "cut"]


@dataclass(slots=True, kw_only=True)
class Playing:
    """A cassette under way; `misses` are sentences about what it could not answer."""

    player: Player
    secrets: Sequence[bytes]
    cap_usd: Decimal | None = None
    fault: FaultKind | None = None
    every: int = 1
    url: str = ""
    key: str = field(default_factory=lambda: "sk-modelspend-tape-" + random.token_urlsafe(18))
    misses: list[str] = field(default_factory=list)
    over_cap: bool = False
    spent_usd: Decimal = Decimal(0)
    _failed: set[int] = field(default_factory=set)
    _turn: Lock = field(default_factory=Lock)

    @property
    def unplayed(self) -> int:
        return self.player.unplayed

    def answer(self, path: str, body: bytes) -> "tuple[int, Entry, FaultKind | None]":
        """(number, entry, the fault that comes first). Raises CassetteMiss or BudgetExceeded."""
        body = masked(body, (self.key.encode(), *self.secrets))
        with self._turn:
            found = self.player.peek(path, body)
            if found is None:
                raise self._missed(f"POST {path} (sha256 {sha256(body).hexdigest()[:12]})",
                                   self.player.missed(path, body))  # fmt: skip
            number, entry = found
            self._pay(entry)
            if self.fault and number % self.every == 0 and number not in self._failed:
                self._failed.add(number)
                return number, entry, self.fault
            self.spent_usd += entry.cost_usd or 0
            self.player.take(entry)
            return number, entry, None

    def refused(self, host: str) -> NetworkRefused:
        """Another address was asked for."""
        with self._turn:
            self.misses.append(f"{host} was asked for, and there is no network.")
        return NetworkRefused(
            f"There is no network while a cassette is played: {host} was asked for.",
            "Record the calls that go there, or leave them out.",
        )

    def unknown(self, request: str) -> CassetteMiss:
        with self._turn:
            return self._missed(request, "only POSTs of recorded calls can be answered")

    def _missed(self, request: str, nearest: str) -> CassetteMiss:
        told = f"{request} is not on the cassette: {nearest}."
        self.misses.append(told)
        return CassetteMiss(told, "Record it anew: modelspend cassette record FILE -- CMD")

    def _pay(self, entry: Entry) -> None:
        if self.cap_usd is None:
            return
        if entry.cost_usd is None or self.spent_usd + entry.cost_usd > self.cap_usd:
            self.over_cap = True
            cost = "an unknown sum" if entry.cost_usd is None else f"${entry.cost_usd:f}"
            raise BudgetExceeded(
                f"This call cost {cost} when it was recorded; ${self.spent_usd:f} of"
                f" ${self.cap_usd:f} are spent.",
                "Raise --max-usd.",
            )


@contextmanager
def playing(
    cassette: Cassette,
    secrets: Sequence[bytes],
    cap_usd: Decimal | None,
    fault: FaultKind | None,
    every: int,
) -> Iterator[Playing]:
    """Serve it on a free port of loopback while the block lasts."""
    now = Playing(
        player=Player(cassette), secrets=secrets, cap_usd=cap_usd, fault=fault, every=every
    )
    handler = type("_Bound", (_Handler,), {"playing": now})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        now.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.05,), name="cassette", daemon=True)
        thread.start()
        try:
            yield now
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    playing: Playing

    def do_POST(self) -> None:
        body = self._body()
        if body is None or self._is_elsewhere():
            return
        path = self.path.partition("?")[0]
        try:
            number, entry, fault = self.playing.answer(path, body)
        except ModelspendError as error:
            self._refuse(error)
            return
        if fault is None:
            self._send(entry.status, entry.content_type, entry.answer, number)
        elif fault == "rate-limit":
            self._refuse(Overloaded("The cassette's fault: too many calls.", retry_after_s=0))
        else:
            self._break(entry, whole=fault == "outage")

    def do_GET(self) -> None:
        if not self._is_elsewhere():
            self._refuse(self.playing.unknown(f"{self.command} {self.path.partition('?')[0]}"))

    do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET

    def do_CONNECT(self) -> None:
        self._refuse(self.playing.refused(self.path))

    def log_message(self, format: str, *words: object) -> None:
        """Nothing: a cassette is quiet."""

    def _is_elsewhere(self) -> bool:
        """Whether it came here as to a proxy; then it has been refused."""
        if self.path.startswith("/"):
            return False
        self._refuse(self.playing.refused(self.path.partition("://")[2].partition("/")[0]))
        return True

    def _body(self) -> bytes | None:
        """The body in the clear; None, and an answer, for one of an unknown length."""
        told = self.headers.get("content-length")
        if told is not None and told.isdecimal():
            return self.rfile.read(int(told))
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            return b"".join(self._chunks())
        return b""

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _refuse(self, error: ModelspendError) -> None:
        self.close_connection = True
        body = _dialect(self.path.partition("?")[0]).error_body(error)
        wait = "0" if error.retry_after_s is not None else None
        self._send(error.status, "application/json", body, wait=wait, again=error.retryable)

    def _send(
        self,
        status: int,
        kind: str,
        body: bytes,
        number: int | None = None,
        *,
        wait: str | None = None,
        again: bool | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if number is not None:
            self.send_header("x-modelspend-cassette", str(number))
        if wait is not None:
            self.send_header("retry-after", wait)
        if again is not None:
            self.send_header("x-should-retry", "true" if again else "false")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _break(self, entry: Entry, *, whole: bool) -> None:
        """The connection ends: at once, or in the middle of the answer."""
        self.close_connection = True
        if whole:
            return
        self.send_response(entry.status)
        self.send_header("content-type", entry.content_type)
        self.send_header("content-length", str(len(entry.answer)))
        self.end_headers()
        self.wfile.write(entry.answer[: len(entry.answer) // 2])


def _dialect(path: str) -> "Dialect":
    """Whose words an error on a path is told in."""
    from modelspend.dialects import DIALECTS

    last = path.rpartition("/")[2]
    if ":" in last and not path.startswith("http"):
        return DIALECTS["gemini.generate"]
    named = {
        "messages": "anthropic.messages",
        "count_tokens": "anthropic.messages",
        "responses": "openai.responses",
        "embeddings": "openai.embeddings",
    }
    return DIALECTS[named.get(last, "openai.chat")]
