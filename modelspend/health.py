"""How providers have been: attempts counted by the minute, with a sketch of their latencies.

A sketch counts values in buckets that grow by two per cent, so a percentile of any number of merged
minutes is within one per cent of the exact one. Availability leaves out what says nothing of the
provider: the caller's own faults, ours, and rate limits (which are counted beside it).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil, log
from typing import Any, Literal

from modelspend.breaker import WEIGHTS, Weight
from modelspend.receipt import FailureClass
from modelspend.receipt_json import iso

MINUTE_MS = 60_000
PERCENTILES = (50, 95, 99)

_GROWTH = 1.02
_STEP = log(_GROWTH)

Sketch = dict[int, int]
"""Bucket → how many values; bucket n holds what is above 1.02^(n-1) and up to 1.02^n."""


def bucket(value: float) -> int:
    """Where a value (milliseconds) is counted; what is under one counts as one."""
    return ceil(log(value) / _STEP - 1e-9) if value > 1 else 0


def percentile(sketch: Mapping[int, int], percent: float) -> float | None:
    """The value that so many per cent do not exceed, within one per cent; None of nothing."""
    rank = ceil(sum(sketch.values()) * percent / 100)
    for number in sorted(sketch):
        rank -= sketch[number]
        if rank <= 0:
            return round(2 * _GROWTH**number / (_GROWTH + 1), 1) if number else 1.0
    return None


def merge(into: Sketch, more: Mapping[int, int]) -> None:
    for number, count in more.items():
        into[number] = into.get(number, 0) + count


@dataclass(slots=True)
class Sample:
    """Attempts at one model of one provider that began in one minute, or in a longer time.

    `latency` and `ttft` are of those that ended well; `failures` counts classes, all of them.
    """

    at_ms: int
    provider: str
    model_id: str
    calls: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    latency: Sketch = field(default_factory=dict)
    ttft: Sketch = field(default_factory=dict)

    def add(self, failure: str | None, latency_ms: float, ttft_ms: float | None) -> None:
        self.calls += 1
        if failure is not None:
            self.failures[failure] = self.failures.get(failure, 0) + 1
            return
        merge(self.latency, {bucket(latency_ms): 1})
        if ttft_ms is not None:
            merge(self.ttft, {bucket(ttft_ms): 1})

    def merge(self, other: "Sample") -> None:
        self.calls += other.calls
        for name, count in other.failures.items():
            self.failures[name] = self.failures.get(name, 0) + count
        merge(self.latency, other.latency)
        merge(self.ttft, other.ttft)

    @property
    def availability(self) -> float | None:
        """The share of attempts that ended well, of those that tell; None of none."""
        well = self.calls - sum(self.failures.values())
        failed = sum(count for name, count in self.failures.items() if _tells(name))
        return well / (well + failed) if well + failed else None

    def to_json(self) -> dict[str, Any]:
        share = self.availability
        return {
            "calls": self.calls,
            "failed": sum(count for name, count in self.failures.items() if _tells(name)),
            "rate_limited": self.failures.get(FailureClass.RATE_LIMIT, 0),
            "availability": None if share is None else round(share, 6),
            "latency_ms": _percentiles(self.latency),
            "ttft_ms": _percentiles(self.ttft),
            "failures": dict(sorted(self.failures.items())),
        }


Standing = Literal["ok", "degraded", "down"]

_TELLING = 10  # attempts under which a share says nothing
_OK_FROM, _DOWN_BELOW = 0.99, 0.5


def standing(one: Sample, before: Standing) -> Standing:
    """How a provider is, from its attempts of the last minutes; as before where they are few."""
    share = one.availability
    if share is None or one.calls < _TELLING:
        return before
    if share < _DOWN_BELOW:
        return "down"
    return "ok" if share >= _OK_FROM else "degraded"


def _tells(name: str) -> bool:
    """Whether a class of failure says something of the provider's health."""
    try:
        weight = WEIGHTS[FailureClass(name)]
    except ValueError:
        return True  # a class of a later version
    return weight in (Weight.FAILURE, Weight.OURS)


def _percentiles(sketch: Sketch) -> dict[str, float | None]:
    return {f"p{percent}": percentile(sketch, percent) for percent in PERCENTILES}


def history(samples: Iterable[Sample], window_ms: int) -> list[dict[str, Any]]:
    """What `GET /v1/sla/provider-history` lists: each model of each provider with its windows,
    oldest first; windows in which nothing was asked are left out."""
    found: dict[tuple[str, str], dict[int, Sample]] = {}
    for one in samples:
        start = one.at_ms // window_ms * window_ms
        windows = found.setdefault((one.provider, one.model_id), {})
        if start not in windows:
            windows[start] = Sample(start, one.provider, one.model_id)
        windows[start].merge(one)
    return [_model(*name, windows) for name, windows in sorted(found.items())]


def _model(provider: str, model_id: str, windows: Mapping[int, Sample]) -> dict[str, Any]:
    whole = Sample(0, provider, model_id)
    for one in windows.values():
        whole.merge(one)
    return {
        "provider": provider,
        "model_id": model_id,
        **whole.to_json(),
        "windows": [{"start": iso(at), **windows[at].to_json()} for at in sorted(windows)],
    }
