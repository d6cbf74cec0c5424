"""Metrics as Datadog counts them: what a batch adds to each, and how things stand.

Hides that tags have a bound: whoever calls could name a new tenant with each call, and Datadog
bills for each. The first ones have names, the rest is `_other`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, Literal

from modelspend.breaker import Phase
from modelspend.circuits import Saved
from modelspend.events import Event
from modelspend.record import record
from modelspend.sinks import Standing
from modelspend.store.sinks import Emission

OTHER = "_other"
MOST_TENANTS, MOST_MODELS = 50, 100
_INTERVAL_S = 10
_COUNT, _GAUGE = 1, 3
_STATES = {Phase.CLOSED: 0, Phase.HALF_OPEN: 1, Phase.OPEN: 2}

Tags = tuple[str, ...]


@record
class Series:
    """One metric with its tags, and its one point."""

    metric: str
    kind: Literal["count", "gauge"]
    value: float
    tags: Tags = ()
    unit: str | None = None

    def to_json(self, at_s: int, host: str, tags: Tags) -> dict[str, Any]:
        """As `/api/v2/series` takes it."""
        counts = self.kind == "count"
        return {
            "metric": self.metric,
            "type": _COUNT if counts else _GAUGE,
            "points": [{"timestamp": at_s, "value": float(self.value)}],
            "tags": [*tags, *self.tags],
            "resources": [{"name": host, "type": "host"}],
            **({"interval": _INTERVAL_S} if counts else {}),
            **({"unit": self.unit} if self.unit else {}),
        }


class Sums:
    """What the receipts and events of a batch add up to: one by one, since a batch may be large."""

    def __init__(self, names: "Names") -> None:
        self._names = names
        self._counts: Counter[tuple[str, Tags]] = Counter()
        self._took: dict[Tags, list[float]] = defaultdict(list)

    def add(self, one: Emission) -> None:
        counts, names = self._counts, self._names
        if isinstance(one, Event):
            _count_event(counts, one)
            return
        receipt, run = one.receipt, one.receipt.execution
        last = receipt.attempts[-1] if receipt.attempts else None
        provider = (f"provider:{last.provider if last else 'none'}",)
        place = (*provider, f"model:{names.model(last.model_id) if last else 'none'}")
        tenant = (f"tenant:{names.tenant(receipt.tenant)}",)
        counts["modelspend.requests", (*tenant, *place, f"status:{run.status}")] += 1
        if run.actual_cost_pico is None:
            counts["modelspend.unpriced", (*tenant, *place)] += 1
        else:
            counts["modelspend.cost_pico", (*tenant, *place)] += run.actual_cost_pico
        for bucket in ("input_tokens", "cache_read_tokens", "output_tokens"):
            if amount := receipt.usage.quantities.get(bucket, 0):
                counts["modelspend.tokens", (*place, f"kind:{bucket}")] += amount
        if run.status == "success":
            self._took[provider].append(run.actual_latency_ms)

    def series(self) -> list[Series]:
        return [
            *(_counted(name, tags, value) for (name, tags), value in self._counts.items()),
            *(each for tags, ms in self._took.items() for each in _durations(tags, ms)),
        ]


def _counted(name: str, tags: Tags, value: int) -> Series:
    if name == "modelspend.cost_pico":
        return Series(
            metric="modelspend.cost_usd", kind="count", value=value / 10**12, tags=tags,
            unit="dollar",
        )  # fmt: skip
    return Series(metric=name, kind="count", value=value, tags=tags)


def _count_event(counts: Counter[tuple[str, Tags]], event: Event) -> None:
    data = event.data
    if event.kind == "failover":
        ends = (f"from_provider:{data['from_provider']}", f"to_provider:{data['to_provider']}")
        counts["modelspend.failovers", ends] += 1
    elif event.kind.startswith("alert."):
        tags = (f"event:{event.kind}", f"rule:{data.get('rule')}")
        counts["modelspend.alerts", tags] += 1
    else:
        counts["modelspend.budget_events", (f"event:{event.kind}",)] += 1


def _durations(tags: Tags, ms: list[float]) -> Iterable[Series]:
    ordered = sorted(ms)
    p95 = ordered[-(-len(ordered) * 95 // 100) - 1]
    figures = (("avg", sum(ms) / len(ms)), ("p95", p95), ("max", ordered[-1]))
    for name, value in figures:
        yield Series(
            metric=f"modelspend.request.duration.{name}", kind="gauge", value=value, tags=tags,
            unit="millisecond",
        )  # fmt: skip


def gauges_of(
    circuits: Iterable[Saved], standings: Iterable[Standing], names: "Names"
) -> list[Series]:
    """How circuits (0 closed, 1 half open, 2 open) and sinks stand."""
    worst: dict[Tags, int] = {}
    for one in circuits:
        provider, model, _ = one.circuit
        tags = (f"provider:{provider}", f"model:{names.model(model)}")
        worst[tags] = max(worst.get(tags, 0), _STATES[one.phase])
    return [
        *(
            Series(metric="modelspend.circuit.state", kind="gauge", value=state, tags=tags)
            for tags, state in worst.items()
        ),
        *(
            Series(metric="modelspend.sink.dropped", kind="gauge", value=one.dropped,
                   tags=(f"sink:{one.name}",))
            for one in standings
        ),
    ]  # fmt: skip


class Names:
    """The names that a tag may have: the first ones that came, then `_other`. One for each sink,
    since the bound is on all that was ever said."""

    def __init__(self) -> None:
        self._tenants, self._models = set[str](), set[str]()

    def tenant(self, name: str) -> str:
        return _bounded(name, self._tenants, MOST_TENANTS)

    def model(self, name: str) -> str:
        return _bounded(name, self._models, MOST_MODELS)


def _bounded(name: str, known: set[str], most: int) -> str:
    if name not in known and len(known) < most:
        known.add(name)
    return name.replace(",", "_")[:150] if name in known else OTHER
