"""The way from a command to the running daemon, on the standard library alone.

Hides how the daemon is found: the ledger's lock says who holds it and where, the token file beside
it opens the control plane. Only loopback is spoken to, and never through a proxy.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from modelspend import places
from modelspend.errors import (
    BadRequest,
    BodyNotKept,
    BudgetExceeded,
    DaemonUnreachable,
    LedgerHeld,
    ModelspendError,
    NoCandidate,
    NoCredential,
    NotAuthorised,
    NotFound,
    ReceiptNotFound,
    SinkInUse,
    Stopped,
    UnknownModel,
    UnpairedToolCall,
    Unsupported,
    Usage,
)
from modelspend.record import frozen

R = TypeVar("R")

_TIMEOUT_S = 10.0
_PATIENCE_S, _LOOK_S = 10.0, 0.05
_SILENCE_S = 60.0  # the feed says every 15 seconds that it is there
_TOLD = {
    each.code: each
    for each in (
        BadRequest,
        BodyNotKept,
        BudgetExceeded,
        NoCandidate,
        NoCredential,
        NotAuthorised,
        NotFound,
        ReceiptNotFound,
        SinkInUse,
        Stopped,
        UnknownModel,
        Unsupported,
        UnpairedToolCall,
        Usage,
    )
}


@frozen
class Daemon:
    """A running sidecar, as found."""

    url: str
    pid: int
    token: str = field(repr=False)

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def post(
        self, path: str, body: Mapping[str, Any] | None = None, *, patience_s: float = _TIMEOUT_S
    ) -> Any:
        return self.call("POST", path, body, patience_s=patience_s)

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        patience_s: float = _TIMEOUT_S,
    ) -> Any:
        """The JSON answer of a control-plane route; money in it is exact.

        Raises DaemonUnreachable, or the error that the daemon told.
        """
        from modelspend.money import dumps

        address = urlsplit(self.url)
        headers = {"Authorization": f"Bearer {self.token}"}
        sent = None if body is None else dumps(body)
        if sent is not None:
            headers["Content-Type"] = "application/json"
        connection = HTTPConnection(address.hostname or "", address.port, timeout=patience_s)
        try:
            connection.request(method, path, body=sent, headers=headers)
            answer = connection.getresponse()
            status, said = answer.status, answer.read()
        except (OSError, HTTPException) as error:
            raise DaemonUnreachable(
                f"The sidecar at {self.url} (process {self.pid}) does not answer"
                f" ({type(error).__name__}).",
                "Look at it: modelspend doctor",
            ) from None
        finally:
            connection.close()
        return _read(status, said, self.url)

    def feed(self, path: str) -> Iterator[dict[str, Any]]:
        """The events of a feed as they come, until the sidecar ends it.

        Raises DaemonUnreachable when it breaks off, or the error that the daemon told.
        """
        import json
        from decimal import Decimal

        address = urlsplit(self.url)
        connection = HTTPConnection(address.hostname or "", address.port, timeout=_SILENCE_S)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
            answer = connection.getresponse()
            if answer.status != 200:
                _read(answer.status, answer.read(), self.url)
            for line in answer:
                if line.startswith(b"data: "):
                    yield json.loads(line[len(b"data: ") :], parse_float=Decimal)
        except (OSError, HTTPException) as error:
            raise DaemonUnreachable(
                f"The sidecar at {self.url} (process {self.pid}) broke its feed off"
                f" ({type(error).__name__}).",
                "Look at it: modelspend doctor",
            ) from None
        finally:
            connection.close()


def through_its_holder(ledger: Path, ask: Callable[[Daemon], R], alone: Callable[[], R]) -> R:
    """What must be written by whoever holds the ledger: `ask`ed of the sidecar while one runs, else
    done here, with the ledger held meanwhile. Raises LedgerHeld when its holder serves nothing."""
    patience = time.monotonic() + _PATIENCE_S
    while True:
        with suppress(DaemonUnreachable):
            daemon = find(ledger)
            break
        try:
            return alone()
        except LedgerHeld:  # a sidecar is just starting, or stopping
            if time.monotonic() > patience:
                raise
            time.sleep(_LOOK_S)
    return ask(daemon)


def find(ledger: Path) -> Daemon:
    """The sidecar that holds a ledger. Raises DaemonUnreachable."""
    from modelspend.store import read_lock

    holder = read_lock(ledger)
    if holder is None:
        raise DaemonUnreachable(
            f"No sidecar is running on the ledger {ledger}.", "Start it: modelspend serve"
        )
    if not holder.url:
        raise DaemonUnreachable(
            f"The ledger {ledger} is held by process {holder.pid}, which serves nothing yet.",
            "Try again in a moment.",
        )
    return Daemon(holder.url, holder.pid, _token(places.token(ledger)))


def _token(file: Path) -> str:
    try:
        return file.read_text("ascii").strip()
    except OSError as error:
        raise NotAuthorised(
            f"The local token {file} cannot be read: {error.strerror}.",
            "Only the user who runs the sidecar may use its control plane.",
        ) from None


def _read(status: int, said: bytes, url: str) -> Any:
    import json
    from decimal import Decimal

    try:
        shape = json.loads(said, parse_float=Decimal) if said else None
    except ValueError:
        shape = None
    if status < 400 and shape is not None:
        return shape
    problem = shape if isinstance(shape, dict) else {}
    if "detail" not in problem:
        raise DaemonUnreachable(
            f"What answers at {url} is no modelspend (status {status}).",
            "Look at it: modelspend doctor",
        )
    kind = _TOLD.get(str(problem.get("title")), ModelspendError)
    raise kind(str(problem["detail"]), str(problem.get("hint") or ""))
