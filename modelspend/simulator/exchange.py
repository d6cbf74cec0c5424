"""One request and what became of it: what was asked, what it truly cost, how it ended.

The simulator's word on cost is not what it reports on the wire: a behaviour may lie in the
answer, and `charged` stays true. A refusal costs nothing. A whole answer is charged whole once it
is begun; a stream its input, and the output that had been generated when it broke off.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from multidict import CIMultiDictProxy

from modelspend.money import Price, price_usage
from modelspend.record import frozen
from modelspend.simulator.answers import Progress
from modelspend.simulator.log import Outcome, credential
from modelspend.simulator.wire import Wire

_ATTEMPT_HEADERS = ("x-modelspend-attempt", "idempotency-key", "x-client-request-id")


@frozen(kw_only=True)
class Seen:
    """A request as it arrived, byte for byte."""

    n: int
    method: str
    path: str
    query: Mapping[str, str]
    headers: CIMultiDictProxy[str]
    body: bytes
    dialect: str | None
    model: str | None

    def accepted(self, request_id: str) -> dict[str, Any]:
        """The log line of its acceptance."""
        return {
            "event": "accepted",
            "n": self.n,
            "at": now_ms(),
            "request_id": request_id,
            "method": self.method,
            "path": self.path,
            "dialect": self.dialect,
            "model": self.model,
            "headers": [name.lower() for name in self.headers],
            "credential": credential(self.headers, self.query),
            "attempt": next(filter(None, map(self.headers.get, _ATTEMPT_HEADERS)), None),
            "body_sha256": sha256(self.body).hexdigest(),
            "body_size": len(self.body),
        }


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request on its way to its end. `usage` is the truth in disjoint buckets."""

    seen: Seen
    request_id: str
    wire: Wire
    turn: int = 0
    status: int = 0
    usage: Mapping[str, int] = field(default_factory=dict)
    progress: Progress | None = None
    ends: Outcome = "complete"
    outcome: Outcome | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def dialect(self) -> str:
        return self.seen.dialect or "openai.chat"

    def charged(self) -> dict[str, int]:
        """What the provider bills for it."""
        if self.progress is None:
            return {}
        if self.outcome == "error" and not self.progress.done:
            return {}
        return self.progress.charged(self.usage)

    def ended(self, prices: Mapping[str, Price]) -> dict[str, Any]:
        """The log line of its end."""
        charged = self.charged()
        line: dict[str, Any] = {
            "event": "ended",
            "n": self.seen.n,
            "at": now_ms(),
            "request_id": self.request_id,
            "outcome": self.outcome,
            "status": self.status,
            "closed_after_ms": round((time.monotonic() - self.started) * 1000, 3),
            "usage": {k: v for k, v in self.usage.items() if v},
            "charged": charged,
            "bytes_sent": self.wire.sent.size,
            "sha256": self.wire.sent.sha256,
        }
        price = prices.get(self.seen.model or "") or prices.get("*")
        if price is not None:
            line["cost_pico"] = price_usage(charged, price).total_pico
        return line


def now_ms() -> float:
    return round(time.time() * 1000, 3)
