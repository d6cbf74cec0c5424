"""What would page someone: rules over what was seen lately, each with its level and its age.

Values in, values out: who gathers what was seen is `reports/alerts.py`, and who is told is nobody's
business here. A reader would not guess that a rule that has gone off is quiet again only some way
below its limit (`graded(…, before=)`), so that a rate which hovers there does not page every time.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from modelspend.breaker import Phase
from modelspend.budgets import Usage, foreseen, marks_of
from modelspend.circuits import ANY, Saved
from modelspend.incidents import Incident
from modelspend.money import usd_text
from modelspend.record import record

if TYPE_CHECKING:
    from modelspend.sections import Alerts as Limits

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
    command that shows more, without its time.
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

    @property
    def key(self) -> str:
        """What is the same alert the next time somebody looks."""
        return f"{self.rule}:{self.scope}:{self.name}"


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
    "unpriced_share": "Every call of the last 24 hours has a known cost.",
}


# Rates: of the last hour or day, beside the week before.


@record
class Seen:
    """Calls of some time. `led` of them were led elsewhere, `unpriced` have no known cost.

    `latency_ms` counts the durations of those that were answered, `first_ms` is when the first
    one began, where that is known.
    """

    calls: int = 0
    led: int = 0
    unpriced: int = 0
    cost_pico: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    latency_ms: Counter[int] = field(default_factory=Counter)
    first_ms: int | None = None

    def __add__(self, other: "Seen") -> "Seen":
        return Seen(
            calls=self.calls + other.calls,
            led=self.led + other.led,
            unpriced=self.unpriced + other.unpriced,
            cost_pico=self.cost_pico + other.cost_pico,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            latency_ms=self.latency_ms + other.latency_ms,
        )


@record
class Watched:
    """One name's last `HOURS` hours, the newest first, and all of the week before them.

    `before_hours` is how much of that week the ledger knows: less where it is younger.
    """

    scope: Scope
    name: str
    hours: Sequence[Seen]
    before: Seen = Seen()
    before_hours: float = 0.0

    def last(self, hours: int) -> Seen:
        return sum(self.hours[:hours], Seen())


@record
class _Rate:
    """A rule on a rate: over how many hours, of which scopes; null where too little was seen."""

    rule: str
    hours: int
    scopes: frozenset[Scope]
    value: "Callable[[Seen, Watched, Limits], float | None]"
    said: Callable[[float, Seen, Watched], str]
    receipts: Mapping[str, str] | None
    see: str | None = None
    info: float | None = None


def rates(watched: Iterable[Watched], limits: "Limits", now_ms: int) -> Iterator[Alert]:
    """The alerts of every rule on a rate, for every name that was watched."""
    for one in watched:
        for rate in _RATES:
            if one.scope in rate.scopes:
                yield from _judged(rate, one, limits, now_ms)


def _judged(rate: _Rate, one: Watched, limits: "Limits", now_ms: int) -> Iterator[Alert]:
    pair: tuple[float, float] = getattr(limits, rate.rule)
    seen = one.last(rate.hours)
    value = rate.value(seen, one, limits)
    level = "ok" if value is None else graded(value, pair, info=rate.info)
    if value is None or level == "ok":
        return
    if seen.calls < limits.min_calls and rate.info is not None:
        level = "info"  # so few that a share of them says nothing
    named: dict[str, str] = {} if one.scope == "process" else {one.scope: one.name}
    start = now_ms - rate.hours * HOUR_MS
    yield Alert(
        rule=rate.rule,
        level=level,
        scope=one.scope,
        name=one.name,
        value=value,
        limit=pair[1] if level == "critical" else pair[0],
        said=rate.said(value, seen, one),
        since_ms=_since(_lasting(rate, one, limits, pair), one, now_ms),
        from_ms=start,
        receipts=None if rate.receipts is None else {**rate.receipts, **named},
        see=rate.see,
    )


def _since(lasting: int, one: Watched, now_ms: int) -> int:
    """The first call of the hour in which it began, or the beginning of that hour."""
    first = one.hours[lasting - 1].first_ms
    return now_ms - lasting * HOUR_MS if first is None else first


def _lasting(rate: _Rate, one: Watched, limits: "Limits", pair: tuple[float, float]) -> int:
    """For how many hours: back to the first in a row that goes off by itself. An hour that is too
    quiet to tell neither ends the row nor begins it."""
    lasting = 0
    for n, hour in enumerate(one.hours, start=1):
        value = rate.value(hour, one, limits)
        if value is None:
            continue
        if graded(value, pair, info=rate.info) == "ok":
            if lasting:
                break
            continue
        lasting = n
    return lasting or rate.hours


def _fallback(seen: Seen, one: Watched, limits: "Limits") -> float | None:
    return seen.led / seen.calls if seen.calls >= limits.min_calls else None


def _unpriced(seen: Seen, one: Watched, limits: "Limits") -> float | None:
    return seen.unpriced / seen.calls if seen.calls else None


_LEAST_TOKENS = 20_000
_LEAST_HITS = 0.02


def _cache_drop(seen: Seen, one: Watched, limits: "Limits") -> float | None:
    """Which share of the hits is gone; nothing where there were hardly any."""
    before = one.before
    if min(seen.prompt_tokens, before.prompt_tokens) < _LEAST_TOKENS:
        return None
    hits = before.cached_tokens / before.prompt_tokens
    if hits < _LEAST_HITS or seen.calls < limits.min_calls:
        return None
    return 1 - seen.cached_tokens / seen.prompt_tokens / hits


_LEAST_SLOWER_MS = 200


def _p95_drift(seen: Seen, one: Watched, limits: "Limits") -> float | None:
    least = limits.min_calls
    if min(seen.latency_ms.total(), one.before.latency_ms.total()) < least:
        return None
    now, then = p95(seen.latency_ms), p95(one.before.latency_ms)
    return now / max(then, 1) if now - then >= _LEAST_SLOWER_MS else 1.0


def p95(durations: Counter[int]) -> int:
    """The smallest duration that 95 per cent do not exceed; there must be one."""
    rank = -(-durations.total() * 95 // 100)
    for ms in sorted(durations):
        rank -= durations[ms]
        if rank <= 0:
            return ms
    raise ValueError("no durations")


_LEAST_HOURS = 24


def _velocity(seen: Seen, one: Watched, limits: "Limits") -> float | None:
    """How many average hours of the week before were spent in the last one."""
    if one.before_hours < _LEAST_HOURS or not one.before.cost_pico:
        return None
    if seen.cost_pico < limits.least_usd * 10**12:
        return 0.0
    return seen.cost_pico * one.before_hours / one.before.cost_pico


def _average(one: Watched) -> str:
    return usd_text(round(one.before.cost_pico / one.before_hours / 10**8) * 10**8)


def _cents(pico: int) -> str:
    return usd_text(round(pico / 10**8) * 10**8)


_RATES = (
    _Rate(
        rule="velocity",
        hours=1,
        scopes=frozenset({"process", "tenant", "category", "model", "provider"}),
        value=_velocity,
        said=lambda value, seen, one: (
            f"${_cents(seen.cost_pico)} in an hour, {value:.1f} times an average hour of the"
            f" week before (${_average(one)})."
        ),
        receipts={},
    ),
    _Rate(
        rule="fallback_rate",
        hours=1,
        scopes=frozenset({"process", "tenant", "category", "provider"}),
        value=_fallback,
        said=lambda value, seen, one: (
            f"{seen.led} of {seen.calls} calls ({value:.0%}) in an hour were led elsewhere."
        ),
        receipts=None,
        see="failovers",
    ),
    _Rate(
        rule="p95_drift",
        hours=1,
        scopes=frozenset({"model", "provider"}),
        value=_p95_drift,
        said=lambda value, seen, one: (
            f"95 % of an hour's calls took up to {p95(seen.latency_ms):,} ms, {value:.1f} times as"
            f" long as in the week before ({p95(one.before.latency_ms):,} ms)."
        ),
        receipts={"status": "success"},
    ),
    _Rate(
        rule="cache_drop",
        hours=HOURS,
        scopes=frozenset({"process", "tenant", "model"}),
        value=_cache_drop,
        said=lambda value, seen, one: (
            f"{seen.cached_tokens / seen.prompt_tokens:.1%} of the prompt tokens of a day came out"
            f" of a cache, {value:.0%} less than in the week before"
            f" ({one.before.cached_tokens / one.before.prompt_tokens:.1%})."
        ),
        receipts={},
    ),
    _Rate(
        rule="unpriced_share",
        hours=HOURS,
        scopes=frozenset({"process", "tenant", "model", "provider"}),
        value=_unpriced,
        said=lambda value, seen, one: (
            f"{seen.unpriced} of {seen.calls} calls ({value:.1%}) of a day have no known cost."
        ),
        receipts={"unpriced": ""},
        info=1e-9,
    ),
)


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
        level = _of_marks(passed, early)
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
        )


def _of_marks(passed: Sequence[int], early: Mapping[str, object]) -> Level:
    highest = max(passed, default=0)
    if highest >= 100:
        return "critical"
    return "warn" if highest >= 80 or early else "info"


def _budget_said(usage: Usage, early: Mapping[str, Mapping[str, object]]) -> str:
    budget, cap = usage.budget, usage.budget.cap_pico or 0
    kind = "hard" if budget.hard else "warning"
    said = (
        f"${_cents(usage.spent_pico)} of its {kind} cap of ${usd_text(cap)} per"
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
    """Circuits that are not closed, as old as their incident; and incidents that are over."""
    open_since = {one.circuit: one.opened_at_ms for one in incidents if one.resolved_at_ms is None}
    for one in saved:
        if one.phase is Phase.CLOSED:
            continue
        provider, model, _ = one.circuit
        since = min(one.changed_at_ms, open_since.get(one.circuit, one.changed_at_ms))
        name = provider if model == ANY else f"{provider}/{model}"
        waits = one.retry_at_ms is None or one.retry_at_ms > now_ms
        yield Alert(
            rule="circuit_open",
            level=_of_circuit(one, waits, now_ms - since, limits),
            scope="provider" if model == ANY else "model",
            name=name,
            said=_circuit_said(one, waits),
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
                " calls were affected."
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
