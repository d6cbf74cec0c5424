"""What the rules on rates look at: hours of the ledger by each name, and the week before them.

Hides that the week comes out of the sums by day, and that it may be kept for a while: it moves by
an hour in 168. How sure the classifier was is looked up for the last hour alone.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from modelspend.alert_rates import Seen, Watched
from modelspend.alerts import EVERYTHING, HOUR_MS, HOURS, Scope
from modelspend.store import Classified, Filter, Hour, Key, Store

_WEEK_HOURS = 7 * 24
_SCOPES: tuple[Scope, ...] = ("tenant", "category", "model", "provider")

Name = tuple[Scope, str]


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
    classified: int = 0
    unsure: int = 0

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
            classified=self.classified,
            unsure=self.unsure,
        )


@dataclass(frozen=True, slots=True)
class Baseline:
    """The week that ended `HOURS` ago, by name; `hours` of it are known."""

    hours: float
    seen: Mapping[Name, Seen]


async def baseline(store: Store, where: Filter, now_ms: int) -> Baseline:
    """What the last hours are compared with."""
    start = now_ms + 1 - HOURS * HOUR_MS
    first = await store.alerts.first_ms()
    known = 0.0 if first is None else min(max(start - first, 0) / HOUR_MS, _WEEK_HOURS)
    week = replace(where, since_ms=start - _WEEK_HOURS * HOUR_MS, until_ms=start)
    found = await _week(store, week) if known else {}
    return Baseline(known, {name: tally.seen() for name, tally in found.items()})


async def watched(
    store: Store,
    where: Filter,
    now_ms: int,
    before: Baseline,
    sure_from: float,
    hours: int = HOURS,
) -> list[Watched]:
    """Everything that was called within so many hours, by each of its names, and all of it."""
    recent = replace(where, since_ms=now_ms + 1 - hours * HOUR_MS, until_ms=now_ms + 1)
    by_hour: dict[Name, list[_Tally]] = defaultdict(lambda: [_Tally() for _ in range(hours)])
    for hour in await store.alerts.hours(recent):
        for name in _names_of(hour.tenant, hour.category, hour.model, hour.provider):
            _add_hour(by_hour[name][hour.hour], name[0], hour)
    for led in await store.alerts.led(recent):
        for name in _names_of(led.tenant, led.category, None, led.provider):
            by_hour[name][led.hour].led += led.calls
        # A call counts at the provider that it should have gone to, not where it ended up.
        by_hour["provider", led.provider][led.hour].calls += led.calls
        if led.answered_by:
            by_hour["provider", led.answered_by][led.hour].calls -= led.calls
    newest = replace(recent, since_ms=now_ms + 1 - HOUR_MS)
    for one in await store.alerts.classified(newest, sure_from):
        for name in _names_of(one.tenant, one.category, None, None):
            _add_classified(by_hour[name][0], one)
    return [
        Watched(
            scope=name[0],
            name=name[1],
            hours=[tally.seen() for tally in tallies],
            before=before.seen.get(name, Seen()),
            before_hours=before.hours,
        )
        for name, tallies in by_hour.items()
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


def _add_classified(tally: _Tally, one: Classified) -> None:
    tally.classified += one.calls
    tally.unsure += one.unsure


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
