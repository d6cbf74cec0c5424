"""`GET /metrics`: what a Prometheus server scrapes, in its text format 0.0.4.

Counters begin with the process and are counted when somebody looks, from the ledger's own rows. No
label comes from a request without a bound: tenants and models have so many names, and the rest is
`_other`; a model counts as one once a call of it went well.
https://prometheus.io/docs/instrumenting/exposition_formats/ (read 2026-11-22)
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from time import perf_counter

from aiohttp import web

from modelspend import __version__
from modelspend.breaker import Phase
from modelspend.circuits import View
from modelspend.money import usd_text
from modelspend.reports.budgets import standing
from modelspend.reports.table import Asked
from modelspend.server.guard import require_token
from modelspend.server.keys import LIVE, STORE
from modelspend.settings import budgets_of
from modelspend.sinks import Standing
from modelspend.store import Store
from modelspend.store.metering import BOUNDS_MS, Stretch, Tally

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "_other"
MOST_TENANTS = 50
MOST_MODELS = 100
_MOST_BUDGETS = 100
_SCOPES = frozenset({"process", "tenant", "workflow", "model"})
_STATES = {Phase.CLOSED: 0, Phase.HALF_OPEN: 1, Phase.OPEN: 2}

Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels, int | float | str]


@dataclass(slots=True)
class Names:
    """The names that a label may have: the first ones that came, then `_other`."""

    most: int
    known: set[str] = field(default_factory=set)

    def of(self, name: str | None, *, new: bool = True) -> str:
        if not name:
            return ""
        if name not in self.known and new and len(self.known) < self.most:
            self.known.add(name)
        return name if name in self.known else OTHER


class Meters:
    """What was counted since the process began. One for each process."""

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self._counting = asyncio.Lock()
        self._tenants, self._models = Names(MOST_TENANTS), Names(MOST_MODELS)
        self._providers = Names(MOST_MODELS)
        self._counts: dict[str, Counter[Labels]] = {name: Counter() for name in _COUNTERS}
        self._durations = {name: _Histogram() for name in _HISTOGRAMS}

    async def look(self, store: Store) -> None:
        """Count what has come since the last look."""
        async with self._counting:
            more = True
            while more:
                stretch = await store.metering.after(self.seq)
                self._add(stretch)
                self.seq, more = stretch.seq, stretch.seq < stretch.last

    def _add(self, stretch: Stretch) -> None:
        for tally in stretch.tallies:
            self._add_tally(tally)
        for before, after, why, count in stretch.failovers:
            names = (
                ("from_provider", self._providers.of(before)),
                ("to_provider", self._providers.of(after)),
                ("failure_class", why),
            )
            self._counts["modelspend_failovers_total"][names] += count
        for kind, count in stretch.events:
            self._counts["modelspend_events_total"][(("type", kind),)] += count

    def _add_tally(self, tally: Tally) -> None:
        well = tally.status in ("success", "cached", "budget_stopped")
        provider = ("provider", self._providers.of(tally.provider, new=well))
        model = (provider, ("model", self._models.of(tally.model, new=well)))
        counts = self._counts
        counts["modelspend_requests_total"][(*model, ("status", tally.status))] += tally.calls
        counts["modelspend_cost_pico"][model] += tally.cost_pico
        counts["modelspend_unpriced_total"][model] += tally.unpriced
        for direction, tokens in (
            ("input", tally.input_tokens),
            ("cache_read", tally.cache_read_tokens),
            ("cache_write", tally.cache_write_tokens),
            ("output", tally.output_tokens),
        ):
            counts["modelspend_tokens_total"][(*model, ("direction", direction))] += tokens
        tenant = (("tenant", self._tenants.of(tally.tenant)),)
        counts["modelspend_tenant_requests_total"][tenant] += tally.calls
        counts["modelspend_tenant_cost_pico"][tenant] += tally.cost_pico
        took, began = (self._durations[name] for name in _HISTOGRAMS)
        took.add((provider,), tally.took, tally.took_ms)
        began.add((provider,), tally.began, tally.began_ms)

    def knows(self, model: str) -> bool:
        """Whether a model has a name here; one that nobody answers for gets none."""
        return model in self._models.known

    def lines(self) -> Iterator[str]:
        """Counters and histograms as text."""
        for name, (said, told) in _COUNTERS.items():
            pico = name.endswith("_pico")
            samples: Iterable[Sample] = (
                ("", labels, usd_text(value) if pico else value)
                for labels, value in sorted(self._counts[name].items())
            )
            yield from family(told, "counter", said, samples)
        for name, said in _HISTOGRAMS.items():
            yield from family(name, "histogram", said, self._durations[name].samples())


_COUNTERS = {
    "modelspend_requests_total": ("Calls by how they ended.", "modelspend_requests_total"),
    "modelspend_cost_pico": ("Known cost in US dollars.", "modelspend_cost_usd_total"),
    "modelspend_unpriced_total": ("Calls without a known cost.", "modelspend_unpriced_total"),
    "modelspend_tokens_total": ("Tokens; no direction holds another.", "modelspend_tokens_total"),
    "modelspend_tenant_requests_total": ("Calls by tenant.", "modelspend_tenant_requests_total"),
    "modelspend_tenant_cost_pico": (
        "Known cost in US dollars by tenant.",
        "modelspend_tenant_cost_usd_total",
    ),
    "modelspend_failovers_total": ("Calls led elsewhere.", "modelspend_failovers_total"),
    "modelspend_events_total": ("Events by type.", "modelspend_events_total"),
}
_HISTOGRAMS = {
    "modelspend_request_duration_seconds": "How long calls took.",
    "modelspend_time_to_first_token_seconds": "Until the first content of an answer.",
}


class _Histogram:
    """Durations by their labels, in the buckets of `BOUNDS_MS`."""

    def __init__(self) -> None:
        self._counts: dict[Labels, list[int]] = {}
        self._sums: Counter[Labels] = Counter()

    def add(self, labels: Labels, counts: tuple[int, ...], sum_ms: int) -> None:
        kept = self._counts.setdefault(labels, [0] * len(counts))
        self._counts[labels] = [a + b for a, b in zip(kept, counts, strict=True)]
        self._sums[labels] += sum_ms

    def samples(self) -> Iterator[Sample]:
        for labels, counts in sorted(self._counts.items()):
            below = 0
            for bound, count in zip(BOUNDS_MS, counts, strict=False):
                below += count
                yield "_bucket", (*labels, ("le", f"{bound / 1000:g}")), below
            yield "_bucket", (*labels, ("le", "+Inf")), sum(counts)
            seconds, ms = divmod(self._sums[labels], 1000)
            yield "_sum", labels, f"{seconds}.{ms:03d}"
            yield "_count", labels, sum(counts)


def family(name: str, kind: str, said: str, samples: Iterable[Sample]) -> Iterator[str]:
    """One metric with all its samples: help, type, lines; nothing at all without any."""
    first = True
    for suffix, labels, value in samples:
        if first:
            yield f"# HELP {name} {said}"
            yield f"# TYPE {name} {kind}"
            first = False
        told = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
        yield f"{name}{suffix}{{{told}}} {value}" if told else f"{name}{suffix} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


METERS: web.AppKey[Meters] = web.AppKey("meters", Meters)


async def metrics(request: web.Request) -> web.StreamResponse:
    """Everything, as text; needs the local token (`authorization` in a scrape configuration)."""
    require_token(request)
    live, store, meters = request.app[LIVE], request.app[STORE], request.app[METERS]
    await meters.look(store)
    asked = Asked(now_ms=live.gateway.now_ms(), budgets=budgets_of(live.settings))
    lines = [
        *meters.lines(),
        *_process(live.gateway.in_flight, store.healthy, live.rejected),
        *_circuits(live.circuits.views(perf_counter()), meters),
        *await _budgets(store, asked),
        *_sinks(await live.pump.standings()),
    ]
    return web.Response(
        body="".join(f"{line}\n" for line in lines).encode(), headers={"content-type": CONTENT_TYPE}
    )


def _process(in_flight: int, healthy: bool, rejected: Mapping[str, int]) -> Iterator[str]:
    version: Labels = (("version", __version__),)
    yield from family("modelspend_build_info", "gauge", "This version.", [("", version, 1)])
    now = [("", (), in_flight)]
    yield from family("modelspend_in_flight", "gauge", "Calls under way.", now)
    well: list[Sample] = [("", (), int(healthy))]
    yield from family("modelspend_ledger_healthy", "gauge", "1: calls are taken.", well)
    turned: list[Sample] = [("", (("reason", name),), n) for name, n in sorted(rejected.items())]
    yield from family("modelspend_rejected_total", "counter", "Turned away at the door.", turned)


def _circuits(views: Iterable[View], meters: Meters) -> Iterator[str]:
    """Those that are not closed, whoever they are; a closed one once its model has answered."""
    worst: dict[Labels, int] = {}
    for one in views:
        provider, model, _ = one.circuit
        state = _STATES[one.phase]
        if state or meters.knows(model):
            labels = (("provider", provider), ("model", model))
            worst[labels] = max(worst.get(labels, 0), state)
    said = "0 closed, 1 half open, 2 open; the worst of its keys."
    first = sorted(worst.items(), key=lambda item: -item[1])[: 2 * MOST_MODELS]
    samples: list[Sample] = [("", labels, state) for labels, state in sorted(first)]
    yield from family("modelspend_circuit_state", "gauge", said, samples)


async def _budgets(store: Store, asked: Asked) -> list[str]:
    found = [one for one in await standing(store, asked) if one.budget.scope in _SCOPES]
    samples: list[Sample] = []
    for usage in found[:_MOST_BUDGETS]:
        budget, cap = usage.budget, usage.budget.cap_pico
        labels = (
            ("scope", budget.scope),
            ("name", budget.name),
            ("window", budget.window.name),
        )
        samples.append(("", labels, f"{usage.spent_pico / cap:.6g}" if cap else 1))
    said = "Share of a cap that is spent."
    return list(family("modelspend_budget_used_ratio", "gauge", said, samples))


def _sinks(standings: Iterable[Standing]) -> Iterator[str]:
    rows = list(standings)

    def each(name: str, kind: str, said: str, values: Mapping[str, int | float]) -> Iterator[str]:
        samples: list[Sample] = [("", (("sink", sink),), value) for sink, value in values.items()]
        return family(f"modelspend_sink_{name}", kind, said, samples)

    lags = {one.name: (one.lag_ms or 0) / 1000 for one in rows}
    failing = {one.name: int(one.retry_at_ms is not None) for one in rows}
    yield from each("sent_total", "counter", "Sent.", {one.name: one.sent for one in rows})
    yield from each(
        "dropped_total", "counter", "Given up.", {one.name: one.dropped for one in rows}
    )
    yield from each("queued", "gauge", "Waiting.", {one.name: one.queued for one in rows})
    yield from each("lag_seconds", "gauge", "Age of the oldest that waits.", lags)
    yield from each("failing", "gauge", "1: its last try has failed.", failing)
