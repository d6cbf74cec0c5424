"""What would page someone: rules over what was seen lately, each with its level and its age.

Values in, values out: who gathers what was seen is `reports/alerts.py`, what is remembered of it
and told to whom `alarms.py`; the rules on rates are in `alert_rates.py`. A reader would not guess
that a rule that has gone off is quiet again only some way below its limit (`graded(…, before=)`),
so that a rate which hovers there does not page every time.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from modelspend.breaker import Phase
from modelspend.budgets import Usage, foreseen, marks_of
from modelspend.circuits import ANY, Saved
from modelspend.incidents import Incident
from modelspend.money import usd_text
from modelspend.record import record

if TYPE_CHECKING:
    from modelspend.alert_sections import Alerts as Limits

Level = Literal["ok", "info", "warn", "critical"]
Scope = Literal[
    "process", "tenant", "category", "model", "provider", "workflow", "session", "key", "run"
]

LEVELS: tuple[Level, ...] = ("ok", "info", "warn", "critical")
"""From what is well to what wakes somebody."""

RULES = (
    "budget_burn",
    "velocity",
    "circuit_open",
    "incident",
    "fallback_rate",
    "p95_drift",
    "cache_drop",
    "low_confidence",
    "unpriced_share",
)
"""The rules by name, in the order in which they are listed."""

HOUR_MS = 3_600_000
HOURS = 24
"""How far back a rule looks, hour by hour."""

EVERYTHING = "all"
"""The name of the scope `process`."""


@record
class Alert:
    """One rule, for one name. `value` and `limit` are shares or factors, as the rule says.

    `since_ms` is since when it holds, as far back as was looked. `receipts` is the filter that
    finds its receipts from `from_ms` on, null where none tells them apart; then `see` is the
    command that shows more, without its time. It is told once in a window: the one that begins at
    `window_ms` where the rule has windows of its own (`window` names one of several), else one that
    lasts `lasts_ms`.
    """

    rule: str
    level: Level
    said: str
    scope: Scope = "process"
    name: str = EVERYTHING
    value: float | None = None
    limit: float | None = None
    since_ms: int | None = None
    from_ms: int | None = None
    receipts: Mapping[str, str] | None = None
    see: str | None = None
    window: str = ""
    window_ms: int | None = None
    lasts_ms: int = HOUR_MS

    @property
    def key(self) -> str:
        """What is the same alert the next time somebody looks."""
        return key_of(self.rule, self.scope, self.name, self.window)


def key_of(rule: str, scope: str, name: str, window: str = "") -> str:
    """The key of an alert."""
    return ":".join((rule, scope, name, window)).removesuffix(":")


def graded(
    value: float, limits: tuple[float, float], *, before: Level = "ok", info: float | None = None
) -> Level:
    """The level of a value: `limits` are where it warns and where it is critical, `info` where it
    is told at all. A level that it had `before` is left only a tenth below its limit."""
    steps: list[tuple[Level, float]] = [("critical", limits[1]), ("warn", limits[0])]
    if info is not None:
        steps.append(("info", info))
    for level, limit in steps:
        kept = LEVELS.index(before) >= LEVELS.index(level)
        if value >= (limit * _LEFT_BELOW if kept else limit):
            return level
    return "ok"


_LEFT_BELOW = 0.9


def ordered(alerts: Iterable[Alert]) -> list[Alert]:
    """The worst first; of one level in the order of the rules, the longest first."""
    return sorted(
        alerts,
        key=lambda a: (
            -LEVELS.index(a.level), RULES.index(a.rule), a.since_ms or 0, a.scope, a.name
        ),
    )  # fmt: skip


def with_the_well(alerts: Sequence[Alert]) -> list[Alert]:
    """The alerts, and for each rule that has nothing to say a line that says so."""
    told = {alert.rule for alert in alerts}
    well = [Alert(rule=rule, level="ok", said=_WELL[rule]) for rule in RULES if rule not in told]
    return ordered([*alerts, *well])


_WELL = {
    "budget_burn": "No budget is half spent, or will be spent before its window ends.",
    "velocity": "Nobody spends much faster than in the week before.",
    "circuit_open": "Every circuit is closed.",
    "incident": "No incident within 24 hours.",
    "fallback_rate": "Few calls, or none, were led elsewhere.",
    "p95_drift": "Nothing is much slower than in the week before.",
    "cache_drop": "Prompt caches are hit as in the week before.",
    "low_confidence": "Few calls, or none, were classified without being sure.",
    "unpriced_share": "Every call of the last 24 hours has a known cost.",
}


# Budgets.

_BY_NAME = frozenset({"process", "tenant", "workflow", "session"})


def of_budgets(
    usages: Iterable[Usage], told_at: Mapping[tuple[str, int, str], int], now_ms: int
) -> Iterator[Alert]:
    """A budget past one of its marks, or on its way past its cap; `told_at` is when each mark was
    passed: (key of the budget, start of the window, rule) → UTC milliseconds."""
    for usage in usages:
        budget, cap = usage.budget, usage.budget.cap_pico
        if not cap:
            continue
        passed = [percent for percent, level in marks_of(budget) if usage.spent_pico >= level]
        early = dict(foreseen(usage, now_ms))
        if not passed and not early:
            continue
        rules = [f"{percent}%" for percent in passed[-1:]] or list(early)
        times = [told_at.get((budget.key, usage.starts_at_ms or 0, rule)) for rule in rules]
        known = [at for at in times if at is not None]
        level, rolling = _of_marks(passed, early), budget.window.kind == "rolling"
        named: dict[str, str] = {} if budget.scope == "process" else {budget.scope: budget.name}
        yield Alert(
            rule="budget_burn",
            level=level,
            scope=budget.scope,
            name=budget.name,
            value=usage.spent_pico / cap,
            limit=(passed[-1] if passed else 100) / 100,
            said=_budget_said(usage, early),
            since_ms=min(known, default=None),
            from_ms=usage.starts_at_ms,
            receipts=named if budget.scope in _BY_NAME else None,
            see="budgets list",
            window=budget.window.name,
            window_ms=None if rolling else usage.starts_at_ms or 0,
            lasts_ms=budget.window.length_ms if rolling else HOUR_MS,
        )


def _of_marks(passed: Sequence[int], early: Mapping[str, object]) -> Level:
    highest = max(passed, default=0)
    if highest >= 100:
        return "critical"
    return "warn" if highest >= 80 or early else "info"


def cents(pico: int) -> str:
    """Dollars to the hundredth of a cent."""
    return usd_text(round(pico / 10**8) * 10**8)


def _budget_said(usage: Usage, early: Mapping[str, Mapping[str, object]]) -> str:
    budget, cap = usage.budget, usage.budget.cap_pico or 0
    kind = "hard" if budget.hard else "warning"
    said = (
        f"${cents(usage.spent_pico)} of its {kind} cap of ${usd_text(cap)} per"
        f" {budget.window.name} {'are' if usage.spent_pico != 10**12 else 'is'} spent"
        f" ({usage.spent_pico / cap:.0%})"
    )
    if "projected" in early and usage.spent_pico < cap:
        said += f"; at this pace it is gone by {str(early['projected']['exhausted_at'])[:16]}Z"
    return f"{said}."


# Circuits and incidents.


def of_circuits(
    saved: Iterable[Saved], incidents: Sequence[Incident], limits: "Limits", now_ms: int
) -> Iterator[Alert]:
    """Circuits that are not closed, as old as their incident; and incidents that are over.

    What a drill has opened is told, and wakes nobody.
    """
    going_on = {one.circuit: one for one in incidents if one.resolved_at_ms is None}
    for one in saved:
        if one.phase is Phase.CLOSED:
            continue
        provider, model, _ = one.circuit
        incident = going_on.get(one.circuit)
        drill = None if incident is None else incident.drill
        since = (
            one.changed_at_ms if incident is None else min(one.changed_at_ms, incident.opened_at_ms)
        )
        name = provider if model == ANY else f"{provider}/{model}"
        waits = one.retry_at_ms is None or one.retry_at_ms > now_ms
        yield Alert(
            rule="circuit_open",
            level="info" if drill else _of_circuit(one, waits, now_ms - since, limits),
            scope="provider" if model == ANY else "model",
            name=name,
            said=_circuit_said(one, waits) + (f" A drill did it ({drill})." if drill else ""),
            since_ms=since,
            from_ms=since,
            see=f"failovers --provider {provider}",
        )
    for past in incidents:
        if past.resolved_at_ms is None or past.resolved_at_ms < now_ms - HOURS * HOUR_MS:
            continue
        provider, model, _ = past.circuit
        minutes = max(past.resolved_at_ms - past.opened_at_ms, 0) / 60_000
        yield Alert(
            rule="incident",
            level="info",
            scope="provider" if model == ANY else "model",
            name=provider if model == ANY else f"{provider}/{model}",
            said=(
                f"Over: it lasted {minutes:.1f} minutes ({past.reason}), {past.calls_affected}"
                " calls were affected." + (f" A drill did it ({past.drill})." if past.drill else "")
            ),
            since_ms=past.opened_at_ms,
            from_ms=past.opened_at_ms,
            see=f"failovers --provider {provider}",
        )


def _of_circuit(one: Saved, waits: bool, age_ms: int, limits: "Limits") -> Level:
    if one.manual or not waits:  # somebody knows of it; or nothing has been asked there since
        return "info"
    return "critical" if age_ms >= limits.circuit_critical_s * 1000 else "warn"


def _circuit_said(one: Saved, waits: bool) -> str:
    if one.manual:
        return "It was opened by hand and takes no calls."
    why = one.why if one.failure is None else f"{one.why}: {one.failure}"
    if one.phase is Phase.HALF_OPEN or not waits:
        return f"It opened ({why}); the next call there is a try."
    return f"It is open ({why}); calls go elsewhere or are refused."
