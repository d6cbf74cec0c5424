"""When the budgets of a ledger will be gone: each with a cap, from what it was charged day by day.

A budget's days are those of the receipts that count against it, charged as it charges them, from
the first one on; so its history is its own, whatever the forecast beside it was asked to show. A
rule for each one is told by the names under it that have spent most.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from modelspend import budgets
from modelspend.budgets import EACH, Budget, one_of
from modelspend.days import Day
from modelspend.exhaustion import DAY_MS, Outlook, Unforeseen, outlook
from modelspend.reports.forecast import day_of
from modelspend.store import ALL, Filter, Store

_DEAREST = 10
_SCOPES = ("tenant", "workflow", "session", "model")

Exhaustions = list[Outlook | Unforeseen]


async def exhaustions(
    store: Store, file: Sequence[Budget], where: Sequence[Filter], now_ms: int
) -> Exhaustions:
    """Every budget in force with a cap that the filters speak of, the likeliest to be gone first.

    `file` are those of the configuration; what was set in the ledger wins over them.
    """
    named: list[Budget] = []
    for budget in budgets.in_force(file, await store.budgets.overrides()):
        if budget.cap_pico is None:
            continue
        if budget.name == EACH:
            found = await store.budgets.names(budget, now_ms, limit=_DEAREST)
            named += [one_of(budget, name) for name in found if name != EACH]
        else:
            named.append(budget)
    wanted = [budget for budget in named if _spoken_of(where, budget)]
    told: Exhaustions = []
    for usage in await store.budgets.usage(wanted, now_ms):
        charged = await store.budgets.days(usage.budget, now_ms // DAY_MS * DAY_MS)
        days = [Day(day_of(number), pico) for number, pico in charged]
        told.append(outlook(usage, days, now_ms))
    return sorted(told, key=_urgency)


def _spoken_of(where: Sequence[Filter], budget: Budget) -> bool:
    """Without a filter all are; of a name alone its own budgets; of anything else none."""
    asked = [replace(each, since_ms=None, until_ms=None) for each in where]
    if all(each == ALL for each in asked):
        return True
    if budget.scope not in _SCOPES:
        return False
    own: dict[str, Any] = {budget.scope: budget.name}
    return any(each == replace(ALL, **own) for each in asked)


def _urgency(found: Outlook | Unforeseen) -> tuple[float, str]:
    chance = found.probability if isinstance(found, Outlook) else -1.0
    return -chance, found.usage.budget.key
