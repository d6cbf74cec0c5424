"""A ledger of days: one receipt a day and tenant, at noon in UTC, that cost what a test says."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from modelspend.receipt import Receipt
from tests.cli.conftest import receipt
from tests.store.bulk import load

DAY_MS = 86_400_000
NOON_MS = DAY_MS // 2


def spend(n: int, at_ms: int, pico: int | None, **changes: object) -> Receipt:
    """The n-th receipt, of that instant and cost; null is a cost that nobody knows."""
    plain = receipt(1)
    cost = replace(plain.attempts[0].cost, total_pico=pico)
    charged = pico or 0
    attempt = replace(plain.attempts[0], started_at_ms=at_ms, charged_pico=charged, cost=cost)
    made = replace(
        plain,
        receipt_id=f"rcpt_01KSPENT{n:018d}",
        created_at_ms=at_ms,
        session_id=None,
        session_source=None,
        attempts=(attempt,),
        execution=replace(plain.execution, actual_cost_pico=pico, charged_pico=charged),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def write_days(ledger: Path, now_ms: int, costs: Mapping[str, Sequence[int | None]]) -> None:
    """By tenant: what each day cost in pico-dollars, the last of them yesterday."""
    today = now_ms // DAY_MS
    days = [
        (today - len(own) + n, tenant, pico)
        for tenant, own in costs.items()
        for n, pico in enumerate(own)
    ]
    load(
        ledger,
        (
            (spend(n, day * DAY_MS + NOON_MS, pico, tenant=tenant), None)
            for n, (day, tenant, pico) in enumerate(sorted(days, key=lambda each: each[:2]))
        ),
    )
