"""`alerts`: what would page someone now, how bad it is, and for how long it has been so.

The rules are in the root's `alerts.py`; here is gathered what they look at: the last 24 hours hour
by hour, the week before them, budgets, circuits and incidents. Every rule has a line, also when it
has nothing to say, so that an empty night can be told from a rule that does not look.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from shlex import quote
from typing import TYPE_CHECKING

from modelspend import alerts as rules
from modelspend.alerts import EVERYTHING, HOUR_MS, HOURS, Alert, Scope, Seen, Watched
from modelspend.errors import Usage
from modelspend.receipt_json import iso
from modelspend.reports.budgets import standing
from modelspend.reports.table import Asked, Column, Report, Row, Table, cut
from modelspend.store import Filter, Hour, Key, Store

if TYPE_CHECKING:
    from modelspend.sections import Alerts as Limits

_WEEK_HOURS = 7 * 24
_SCOPES: tuple[Scope, ...] = ("tenant", "category", "model", "provider")
_ASKABLE = ("tenant", "workflow", "model", "provider", "category", "region")

Name = tuple[Scope, str]


async def alerts(store: Store, asked: Asked) -> Report:
    """Every rule that goes off, the worst first, and a line for each that does not."""
    where, now = _where(asked), asked.now_ms
    limits = asked.limits or _usual_limits()
    incidents = await store.incidents.list(since_ms=now - HOURS * HOUR_MS, until_ms=now, limit=1000)
    found = [
        *rules.rates(await _watched(store, where, now), limits, now),
        *rules.of_budgets(await standing(store, asked), await store.alerts.told_at(), now),
        *rules.of_circuits(await store.circuits.saved(), incidents, limits, now),
    ]
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


def _usual_limits() -> "Limits":
    from modelspend.sections import Alerts

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


# What the rules on rates look at.


@dataclass(slots=True)
class _Tally:
    """What becomes a `Seen` once everything is added."""

    calls: int = 0
    led: int = 0
    unpriced: int = 0
    cost_pico: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    latency_ms: Counter[int] = field(default_factory=Counter)
    first_ms: int | None = None

    def seen(self) -> Seen:
        return Seen(
            calls=max(self.calls, self.led),
            led=self.led,
            unpriced=self.unpriced,
            cost_pico=self.cost_pico,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            latency_ms=+self.latency_ms,
            first_ms=self.first_ms,
        )


async def _watched(store: Store, where: Filter, now_ms: int) -> list[Watched]:
    """Everything that was called within `HOURS`, by each of its names, and all of it."""
    start = now_ms + 1 - HOURS * HOUR_MS
    recent = replace(where, since_ms=start, until_ms=now_ms + 1)
    hours: dict[Name, list[_Tally]] = defaultdict(lambda: [_Tally() for _ in range(HOURS)])
    for hour in await store.alerts.hours(recent):
        for name in _names_of(hour.tenant, hour.category, hour.model, hour.provider):
            _add_hour(hours[name][hour.hour], name[0], hour)
    for led in await store.alerts.led(recent):
        for name in _names_of(led.tenant, led.category, None, led.provider):
            hours[name][led.hour].led += led.calls
        # A call counts at the provider that it should have gone to, not where it ended up.
        hours["provider", led.provider][led.hour].calls += led.calls
        if led.answered_by:
            hours["provider", led.answered_by][led.hour].calls -= led.calls
    first = await store.alerts.first_ms()
    known = 0.0 if first is None else min(max(start - first, 0) / HOUR_MS, _WEEK_HOURS)
    week = replace(where, since_ms=start - _WEEK_HOURS * HOUR_MS, until_ms=start)
    before = await _week(store, week) if known else {}
    return [
        Watched(
            scope=name[0],
            name=name[1],
            hours=[tally.seen() for tally in tallies],
            before=before[name].seen() if name in before else Seen(),
            before_hours=known,
        )
        for name, tallies in hours.items()
    ]


def _names_of(
    tenant: str | None, category: str | None, model: str | None, provider: str | None
) -> list[Name]:
    pairs = zip(_SCOPES, (tenant, category, model, provider), strict=True)
    return [("process", EVERYTHING), *((scope, name) for scope, name in pairs if name)]


_TIMED = ("model", "provider")
"""The scopes in which durations are compared: in the others a change of the mix changes them."""


def _add_hour(tally: _Tally, scope: Scope, hour: Hour) -> None:
    tally.calls += hour.calls
    tally.unpriced += hour.unpriced
    tally.cost_pico += hour.cost_pico
    tally.prompt_tokens += hour.prompt_tokens
    tally.cached_tokens += hour.cached_tokens
    tally.first_ms = min(hour.first_ms, tally.first_ms or hour.first_ms)
    if scope in _TIMED:
        tally.latency_ms.update(hour.latency_ms)


async def _week(store: Store, where: Filter) -> dict[Name, _Tally]:
    found: dict[Name, _Tally] = defaultdict(_Tally)
    keys: tuple[Key, ...] = ("tenant", "category", "model", "provider")
    for names, one in (await store.days.costs(keys, where)).items():
        for name in _names_of(*names):
            found[name].cost_pico += one.cost_pico
    for names, used in (await store.days.tokens(keys, where)).items():
        for name in _names_of(*names):
            found[name].prompt_tokens += used.prompt
            found[name].cached_tokens += used.cached
    latencies = await store.latencies.by(("model", "provider"), where, ttft=False)
    for ((model, provider), part), took in latencies.items():
        if part != "failed":
            for name in _names_of(None, None, model, provider):
                if name[0] in _TIMED:
                    found[name].latency_ms.update(took.latency_ms)
    return found
