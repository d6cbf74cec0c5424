"""`alerts`: what would page someone now, how bad it is, and for how long it has been so.

The rules are in the root's `alerts.py`; here is gathered what they look at: the last 24 hours hour
by hour, the week before them, budgets, circuits and incidents. Every rule has a line, also when it
has nothing to say, so that an empty night can be told from a rule that does not look.
"""

from collections import Counter
from shlex import quote
from typing import TYPE_CHECKING

from modelspend import alerts as rules
from modelspend.alert_rates import rates
from modelspend.alerts import HOUR_MS, HOURS, Alert
from modelspend.errors import Usage
from modelspend.receipt_json import iso
from modelspend.reports.budgets import standing
from modelspend.reports.table import Asked, Column, Report, Row, Table, cut
from modelspend.reports.watched import baseline, watched
from modelspend.store import Filter, Store

if TYPE_CHECKING:
    from modelspend.alert_sections import Alerts as Limits

_ASKABLE = ("tenant", "workflow", "model", "provider", "category", "region")


async def alerts(store: Store, asked: Asked) -> Report:
    """Every rule that goes off, the worst first, and a line for each that does not."""
    where, now = _where(asked), asked.now_ms
    limits = asked.limits or _usual_limits()
    before = await baseline(store, where, now)
    seen = await watched(store, where, now, before, limits.sure_from)
    found = [*rates(seen, limits, now), *await beside_rates(store, asked)]
    told = rules.with_the_well([each for each in found if _spoken_of(each, where)])
    counts = Counter(each.level for each in told)
    said: list[str] = []
    rows = cut([_row(each, asked) for each in told], asked.limit, said)
    return Report(
        name="alerts",
        since_ms=now - HOURS * HOUR_MS,
        until_ms=now + 1,
        main=Table(
            columns=(
                Column("level", "level"),
                Column("rule", "name"),
                Column("scope", "name"),
                Column("name", "name"),
                Column("since", "time"),
                Column("age_s", "age"),
                Column("value", "number"),
                Column("limit", "number"),
                Column("message", "text"),
            ),
            rows=rows,
        ),
        figures={
            "level": max((each.level for each in told), key=rules.LEVELS.index),
            **{level: counts[level] for level in reversed(rules.LEVELS)},
        },
        notes=tuple(said),
    )


async def beside_rates(store: Store, asked: Asked) -> list[Alert]:
    """What goes off of budgets, circuits and incidents."""
    limits, now = asked.limits or _usual_limits(), asked.now_ms
    since = now - HOURS * HOUR_MS
    incidents = await store.incidents.list(since_ms=since, until_ms=now, limit=1000)
    return [
        *rules.of_budgets(await standing(store, asked), await store.alerts.told_at(), now),
        *rules.of_circuits(await store.circuits.saved(), incidents, limits, now),
    ]


def _usual_limits() -> "Limits":
    from modelspend.alert_sections import Alerts

    return Alerts()


def _where(asked: Asked) -> Filter:
    """The one filter, without a time. Raises Usage for what the sums by day cannot tell."""
    if asked.by is not None:
        raise Usage("Alerts have no --by: each has the scope that its rule looks at.")
    where = asked.wheres[0]
    names = {name: getattr(where, name) for name in _ASKABLE}
    if len(asked.wheres) > 1 or where != Filter(**names):
        raise Usage(
            "Alerts look at the last hour, the last day and the week before: they take no time.",
            f"Filter by: {', '.join(f'--{name}' for name in _ASKABLE)}.",
        )
    return where


def _spoken_of(alert: Alert, where: Filter) -> bool:
    """A circuit has no tenant; it is told wherever its provider and model are asked for."""
    if alert.rule not in ("circuit_open", "incident"):
        return True
    provider, _, model = alert.name.partition("/")
    return where.provider in (None, provider) and (not model or where.model in (None, model))


def _row(alert: Alert, asked: Asked) -> Row:
    receipts, since = None, alert.from_ms
    if alert.receipts is not None and since is not None:
        receipts = asked.leads_to(since, asked.now_ms + 1, **alert.receipts)
    return Row(
        (
            alert.level,
            alert.rule,
            alert.scope,
            alert.name,
            alert.since_ms,
            None if alert.since_ms is None else max(asked.now_ms - alert.since_ms, 0) // 1000,
            alert.value,
            alert.limit,
            alert.said,
        ),
        receipts,
        None if receipts is not None else _see(alert),
    )


def _see(alert: Alert) -> str | None:
    if alert.see is None:
        return None
    words = ["modelspend", *alert.see.split()]
    if words[1] == "failovers":
        if alert.rule == "fallback_rate" and alert.scope in ("tenant", "provider"):
            words += [f"--{alert.scope}", quote(alert.name)]
        if alert.from_ms is not None:
            words += ["--since", iso(alert.from_ms)]
    return " ".join(words)
