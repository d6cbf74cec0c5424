"""Rules on rates: what the last hour or day was like, beside the week before it.

A reader would not guess that a rule says nothing where too little was seen: three calls, one of
them slow, are no trend. Who gathers what was seen is `reports/watched.py`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from modelspend.alerts import HOUR_MS, HOURS, Alert, Level, Scope, cents, graded, key_of
from modelspend.money import usd_text
from modelspend.record import record

if TYPE_CHECKING:
    from modelspend.alert_sections import Alerts as Limits


@record
class Seen:
    """Calls of some time. `led` of them were led elsewhere, `unpriced` have no known cost.

    `latency_ms` counts the durations of those that were answered, `first_ms` is when the first
    one began, where that is known. Of `classified` of them it was looked how sure the classifier
    was: of `unsure` it was not.
    """

    calls: int = 0
    led: int = 0
    unpriced: int = 0
    cost_pico: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    latency_ms: Counter[int] = field(default_factory=Counter)
    first_ms: int | None = None
    classified: int = 0
    unsure: int = 0

    def __add__(self, other: "Seen") -> "Seen":
        return Seen(
            calls=self.calls + other.calls,
            led=self.led + other.led,
            unpriced=self.unpriced + other.unpriced,
            cost_pico=self.cost_pico + other.cost_pico,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            latency_ms=self.latency_ms + other.latency_ms,
            classified=self.classified + other.classified,
            unsure=self.unsure + other.unsure,
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


def rates(
    watched: Iterable[Watched],
    limits: "Limits",
    now_ms: int,
    before: Mapping[str, Level] | None = None,
    only: Collection[str] | None = None,
) -> Iterator[Alert]:
    """The alerts of every rule on a rate (or of some `only`), for every name that was watched.
    `before` has the level of what has gone off already, by its key."""
    for one in watched:
        for rate in _RATES:
            if one.scope in rate.scopes and (only is None or rate.rule in only):
                yield from _judged(rate, one, limits, now_ms, before or {})


def _judged(
    rate: _Rate, one: Watched, limits: "Limits", now_ms: int, before: Mapping[str, Level]
) -> Iterator[Alert]:
    pair: tuple[float, float] = getattr(limits, rate.rule)
    seen = one.last(rate.hours)
    value = rate.value(seen, one, limits)
    was = before.get(key_of(rate.rule, one.scope, one.name), "ok")
    level = "ok" if value is None else graded(value, pair, before=was, info=rate.info)
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
        lasts_ms=rate.hours * HOUR_MS,
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


def _unsure(seen: Seen, one: Watched, limits: "Limits") -> float | None:
    return seen.unsure / seen.classified if seen.classified >= limits.min_calls else None


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


_RATES = (
    _Rate(
        rule="velocity",
        hours=1,
        scopes=frozenset({"process", "tenant", "category", "model", "provider"}),
        value=_velocity,
        said=lambda value, seen, one: (
            f"${cents(seen.cost_pico)} in an hour, {value:.1f} times an average hour of the"
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
        rule="low_confidence",
        hours=1,
        scopes=frozenset({"process", "tenant", "category"}),
        value=_unsure,
        said=lambda value, seen, one: (
            f"{seen.unsure} of {seen.classified} calls ({value:.0%}) of an hour were classified"
            " without being sure."
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

SELDOM = frozenset({"low_confidence"}.union(rate.rule for rate in _RATES if rate.hours > 1))
"""The rules that look back over a day, or take time to ask; `OFTEN` are the others."""

OFTEN = frozenset(rate.rule for rate in _RATES) - SELDOM
