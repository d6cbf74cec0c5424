"""Incidents: the time in which a circuit was not closed, and what that did to calls.

One opens with its circuit and is resolved by the circuit's recovery; probes that fail in between
belong to it. `calls_affected` counts receipts: calls that failed at the circuit, were refused by
it, or were led elsewhere because of it.
"""

from typing import Any

from modelspend.circuits import ANY, CircuitKey
from modelspend.money import usd
from modelspend.receipt import FailureClass
from modelspend.receipt_json import iso
from modelspend.record import record


@record
class Incident:
    """`opens` is how often the circuit opened, `failures` what its window held when it first did.

    `extra_cost_pico` is signed; `unpriced` of the calls add nothing to it, as theirs is not known.
    `drill` is the fault that a drill had put before the provider when it opened.
    """

    incident_id: str
    circuit: CircuitKey
    opened_at_ms: int
    resolved_at_ms: int | None
    reason: str
    failure_class: FailureClass | None
    resolution: str | None
    opens: int
    failures: int
    calls_affected: int
    unpriced: int
    extra_cost_pico: int
    drill: str | None = None

    def to_json(self, now_ms: int) -> dict[str, Any]:
        """`duration_s` of one that is not resolved is what it has lasted so far."""
        provider, model, key = self.circuit
        end = now_ms if self.resolved_at_ms is None else self.resolved_at_ms
        known = self.unpriced < self.calls_affected or not self.calls_affected
        return {
            "incident_id": self.incident_id,
            "provider": provider,
            "model_id": None if model == ANY and key == ANY else model,
            "key_id": None if key in ("", ANY) else key,
            "status": "open" if self.resolved_at_ms is None else "resolved",
            "opened_at": iso(self.opened_at_ms),
            "resolved_at": None if self.resolved_at_ms is None else iso(self.resolved_at_ms),
            "duration_s": max(end - self.opened_at_ms, 0) / 1000,
            "reason": self.reason,
            "failure_class": self.failure_class,
            "resolution": self.resolution,
            "opens": self.opens,
            "failures": self.failures,
            "calls_affected": self.calls_affected,
            "unpriced": self.unpriced,
            "extra_cost_usd": usd(self.extra_cost_pico) if known else None,
            "drill": self.drill,
        }
