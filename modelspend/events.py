"""What happened beside the receipts: rows with a growing number that sinks follow by cursor.

An event refers to a receipt instead of repeating it. Receipts and events draw their `seq` from one
counter of the writer, so one cursor follows both.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from fnmatch import fnmatchcase
from typing import Any

from modelspend.receipt_json import iso
from modelspend.record import frozen

RECEIPT = "receipt.created"
"""The type under which a receipt itself is told."""

_DECISION = "routing.decision"  # is on the receipt, and told with it

_PATTERN = re.compile(r"[a-z0-9_.]+\*?|\*")


@frozen(kw_only=True)
class Event:
    """`kind` is dotted (`ledger.recovered`, `circuit.open`); `data` small and free of secrets."""

    kind: str
    at_ms: int
    tenant: str | None = None
    receipt_id: str | None = None
    level: str = "info"
    data: Mapping[str, Any] = field(default_factory=dict)
    seq: int = 0

    def to_json(self) -> dict[str, Any]:
        """As the live feed, the command and every exporter tell it."""
        return {
            "seq": self.seq,
            "created_at": iso(self.at_ms),
            "type": self.kind,
            "level": self.level,
            "tenant": self.tenant,
            "receipt_id": self.receipt_id,
            "data": dict(self.data),
        }


@frozen(kw_only=True)
class Wanted:
    """Which events: all that is set must hold. Any of `kinds` may match, each the whole of a kind
    or, with `*` at its end, the start of one. `provider` is named in the data, on either side of
    a failover; so are the `levels` and `rules` of alerts, of which any may match."""

    kinds: tuple[str, ...] = ()
    tenant: str | None = None
    provider: str | None = None
    since_ms: int | None = None
    levels: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    @property
    def receipts(self) -> bool:
        """Whether receipts are asked for, by their type: who asks for no type hears of events."""
        return asks_for_receipts(self.kinds)


ALL = Wanted()


def asks_for_receipts(patterns: Iterable[str]) -> bool:
    """Whether any of them means receipts, or the decisions that are on them."""
    return any(fnmatchcase(kind, each) for each in patterns for kind in (RECEIPT, _DECISION))


def kinds(text: str) -> tuple[str, ...]:
    """What is typed for them: `circuit.*`, or several with commas between. Raises ValueError."""
    found = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    for each in found:
        if not _PATTERN.fullmatch(each):
            raise ValueError(f"not a type of event: {each!r}; write circuit.open or circuit.*")
    return found
