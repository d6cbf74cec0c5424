"""The trail of a call that was led elsewhere: what the ledger keeps of each of its hops.

A hop is one row for the operator's audit; a touched circuit is what its incident counts. Both go
into the transaction of the receipt (`calls.finish(…, trail=)`), so that there is never one without
the other.
"""

from collections.abc import Sequence
from typing import Any

from modelspend.circuits import CircuitKey
from modelspend.receipt import Attempt, FailureClass, total_cost
from modelspend.receipt_json import iso
from modelspend.record import record


@record
class Failover:
    """A decision to ask `to_provider` in place of `from_provider`, whose model was `model_id`.

    `failure_class` is how the attempt failed or, when nothing was sent, what opened the circuit.
    `reason`: `attempt_failed`, `circuit_open`, `cooling`, `panic`. `perhaps_twice`: what was
    asked before may be charged, too.
    """

    from_provider: str
    to_provider: str
    model_id: str
    to_model_id: str
    reason: str
    decided_at_ms: int
    failure_class: FailureClass | None = None
    perhaps_twice: bool = False

    def told(self) -> dict[str, Any]:
        """The same in an event."""
        return {
            "from_provider": self.from_provider,
            "to_provider": self.to_provider,
            "model_id": self.model_id,
            "to_model_id": self.to_model_id,
            "failure_class": self.failure_class,
            "reason": self.reason,
            "perhaps_twice": self.perhaps_twice,
        }


@record
class Audited:
    """A failover as the ledger has it: `seq` is the number of its receipt, `n` of its hop."""

    seq: int
    n: int
    tenant: str
    receipt_id: str
    failover: Failover

    def to_json(self) -> dict[str, Any]:
        return {
            **self.failover.told(),
            "decided_at": iso(self.failover.decided_at_ms),
            "tenant": self.tenant,
            "receipt_id": self.receipt_id,
            "seq": self.seq,
        }


@record
class Touched:
    """A circuit that this call failed at, or that refused it. `extra_cost_pico` is what the call
    cost more (or less) for it than at its first choice; null when that is not known."""

    circuit: CircuitKey
    extra_cost_pico: int | None = 0


@record
class Trail:
    """All of it, for the transaction of the receipt."""

    failovers: tuple[Failover, ...] = ()
    touched: tuple[Touched, ...] = ()


def extra_cost(attempts: Sequence[Attempt], at_first_choice: int | None) -> int | None:
    """What all attempts cost above what the answer would have cost at the first choice.

    Negative where the failover was cheaper; null when one of the costs is not known.
    """
    spent = total_cost(tuple(attempts)).total_pico
    return None if spent is None or at_first_choice is None else spent - at_first_choice
