"""Where budgets stand, as far as reports tell of them: the file's with the ledger's over them.

A rule for each one is told by the names under it that are closest to their cap.
"""

from modelspend import budgets
from modelspend.budgets import EACH, Budget, Usage, one_of
from modelspend.reports.table import Asked
from modelspend.store import Filter, Store

_DEAREST = 20
_SCOPES = ("tenant", "workflow", "session", "model")


async def standing(store: Store, asked: Asked) -> list[Usage]:
    """Every budget with a cap that the filters speak of, the fullest first."""
    rules = budgets.in_force(asked.budgets, await store.budgets.overrides())
    own = {budget.key for budget in rules}
    named: list[Budget] = []
    for budget in rules:
        if budget.cap_pico is None or not _spoken_of(asked.wheres, budget.scope):
            continue
        if budget.name == EACH:
            found = await store.budgets.names(budget, asked.now_ms, limit=_DEAREST)
            under = [one_of(budget, name) for name in found if name != EACH]
            named += [one for one in under if one.key not in own]  # the rule gives way to it
        else:
            named.append(budget)
    wanted = [budget for budget in named if _named(asked.wheres, budget)]
    return sorted(await store.budgets.usage(wanted, asked.now_ms), key=_fullness, reverse=True)


def _fullness(usage: Usage) -> float:
    return usage.spent_pico / cap if (cap := usage.budget.cap_pico) else 1.0


def _spoken_of(wheres: tuple[Filter, ...], scope: str) -> bool:
    """Without any filter all are; with one, only budgets of what it names."""
    named = [s for s in _SCOPES if any(getattr(where, s) is not None for where in wheres)]
    return not named or scope in named


def _named(wheres: tuple[Filter, ...], budget: Budget) -> bool:
    if budget.scope not in _SCOPES:
        return True
    return any(getattr(where, budget.scope) in (None, budget.name) for where in wheres)
