"""When the budgets of a ledger will be gone: each with a cap, from what it was charged day by day.

A budget's days are those of the receipts that count against it, charged as it charges them, from
the first one on; so its history is its own, whatever the forecast beside it was asked to show.
"""

from modelspend.days import Day
from modelspend.exhaustion import DAY_MS, Outlook, Unforeseen, outlook
from modelspend.reports.budgets import standing
from modelspend.reports.forecast import day_of
from modelspend.reports.table import Asked
from modelspend.store import Store

Exhaustions = list[Outlook | Unforeseen]


async def exhaustions(store: Store, asked: Asked) -> Exhaustions:
    """Every budget with a cap that the filters speak of, the likeliest to be gone first."""
    told: Exhaustions = []
    for usage in await standing(store, asked):
        charged = await store.budgets.days(usage.budget, asked.now_ms // DAY_MS * DAY_MS)
        days = [Day(day_of(number), pico) for number, pico in charged]
        told.append(outlook(usage, days, asked.now_ms))
    return sorted(told, key=_urgency)


def _urgency(found: Outlook | Unforeseen) -> tuple[float, str]:
    chance = found.probability if isinstance(found, Outlook) else -1.0
    return -chance, found.usage.budget.key
