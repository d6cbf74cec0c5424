"""Drills: a fault in front of a provider on purpose, for a while, to see what clients would see.

What can be put there, and what is known of one that is on. `gateway/faults.py` does it,
`drill_report.py` says afterwards how it went.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from modelspend.receipt_json import iso
from modelspend.record import record

Kind = Literal["outage", "rate-limit", "slow", "stall", "cut", "error-in-200", "flapping"]
KINDS: tuple[Kind, ...] = get_args(Kind)

FAULTS: Mapping[Kind, str] = {
    "outage": "it cannot be reached",
    "rate-limit": "every call gets a 429 with Retry-After",
    "slow": "every answer begins late",
    "stall": "answers never begin, or stop after so many tokens and stay silent",
    "cut": "the connection breaks after so many tokens",
    "error-in-200": "an error stands inside a 200, at once or after so many tokens",
    "flapping": "well and overloaded (503) by turns",
}
"""Each fault, as a sentence about its provider."""

LONGEST_S = 3600
CUT_AT = 8


@record
class Fault:
    """`at` is how many tokens come through first (0: none, and then nothing is sent to the
    provider). `delay_s` is of `slow`, `retry_after_s` of `rate-limit`, `period_s` of `flapping`."""

    kind: Kind
    at: int = 0
    delay_s: float = 0.0
    retry_after_s: int = 2
    period_s: float = 5.0


@record
class Drill:
    """One drill. It ends at `until_ms` whatever happens."""

    drill_id: str
    provider: str
    fault: Fault
    started_at_ms: int
    until_ms: int

    def to_json(self) -> dict[str, Any]:
        fault = self.fault
        return {
            "drill_id": self.drill_id,
            "fault": fault.kind,
            "provider": self.provider,
            "at": fault.at,
            "delay_s": fault.delay_s,
            "retry_after_s": fault.retry_after_s,
            "period_s": fault.period_s,
            "started_at": iso(self.started_at_ms),
            "ends_at": iso(self.until_ms),
        }
