"""One receipt as a till would print it: what was used, at which price, and what it comes to.

Plain text, so that it looks the same on paper, in a pipe and in the README. An unknown price shows
as such, and then there is no sum.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelspend.money import CostLine
    from modelspend.receipt import Receipt

WIDTH = 60


def slip(receipt: "Receipt") -> list[str]:
    """The lines of the slip, none of them wider than `WIDTH` unless a name is."""
    from modelspend.receipt_json import iso

    asked, last = receipt.request, receipt.attempts[-1] if receipt.attempts else None
    served = f"{last.provider}/{last.model_id}" if last else asked.model
    payer = " · ".join(filter(None, (receipt.tenant, receipt.workflow)))
    when = iso(receipt.created_at_ms)[:19].replace("T", " ") + " UTC"
    how = f"{asked.dialect}, {'streamed' if asked.stream else 'whole'}"
    return [
        _apart(receipt.receipt_id, when),
        _apart(payer, receipt.execution.status),
        _apart(served, how),
        "─" * WIDTH,
        *(_line(line) for attempt in receipt.attempts for line in attempt.cost.lines),
        "─" * WIDTH,
        _apart(_timing(receipt), _total(receipt)),
    ]


KINDS = ("exact", "estimated", "unpriced")


def kind(receipt: "Receipt") -> str:
    """How well a receipt's cost is known: one of `KINDS`."""
    from modelspend.receipt import total_cost

    total = total_cost(receipt.attempts)
    if receipt.execution.actual_cost_pico is None:
        return "unpriced"
    return "exact" if total.exact and receipt.usage.source != "estimated" else "estimated"


def _apart(left: str, right: str) -> str:
    return f"{left}  {right:>{max(0, WIDTH - len(left) - 2)}}"


def _line(line: "CostLine") -> str:
    from modelspend.money import usd_text

    unit = "no price" if line.unit_pico is None else f"${usd_text(line.unit_pico)}"
    cost = "not known" if line.cost_pico is None else f"${usd_text(line.cost_pico)}"
    return f"{line.bucket:<22}{line.quantity:>8,} × {unit:>12} = {cost:>12}"


def _timing(receipt: "Receipt") -> str:
    return "  ".join(_times(receipt))


def _times(receipt: "Receipt") -> Iterator[str]:
    run = receipt.execution
    yield f"{run.actual_latency_ms:.1f} ms"
    yield f"ours {run.overhead_ms:.1f} ms"


def _total(receipt: "Receipt") -> str:
    from modelspend.money import usd_text

    cost = receipt.execution.actual_cost_pico
    return "cost not known" if cost is None else f"{kind(receipt)}  ${usd_text(cost)}"
