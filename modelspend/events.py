"""What happened beside the receipts: rows with a growing number that sinks follow by cursor.

An event refers to a receipt instead of repeating it. Receipts and events draw their `seq` from one
counter of the writer, so one cursor follows both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`kind` is dotted (`ledger.recovered`, `circuit.open`); `data` small and free of secrets."""

    kind: str
    at_ms: int
    tenant: str | None = None
    receipt_id: str | None = None
    level: str = "info"
    data: Mapping[str, Any] = field(default_factory=dict)
    seq: int = 0
