"""What one run came to: sums over its receipts, in a few lines and as JSON."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from modelspend.cli.slip import KINDS, kind

if TYPE_CHECKING:
    from modelspend.receipt import Receipt


_OVER = "budget_exceeded:"


@dataclass(slots=True)
class Summary:
    """Tokens in are all input, cached or not. Unpriced calls add nothing to the cost."""

    run_id: str
    cap_pico: int | None = None
    over_budget: int = 0
    cost_pico: int = 0
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    overheads_ms: list[float] = field(default_factory=list)
    dearest: "Receipt | None" = None
    slowest: "Receipt | None" = None

    @property
    def calls(self) -> int:
        return self.statuses.total()

    def add(self, receipt: "Receipt") -> None:
        from modelspend.money import INPUT_BUCKETS

        run, used = receipt.execution, receipt.usage.quantities
        self.cost_pico += run.actual_cost_pico or 0
        self.tokens_in += sum(used.get(bucket, 0) for bucket in INPUT_BUCKETS)
        self.tokens_cached += used.get("cache_read_tokens", 0) + used.get("cached_audio_tokens", 0)
        self.tokens_out += used.get("output_tokens", 0) + used.get("output_audio_tokens", 0)
        self.kinds[kind(receipt)] += 1
        self.statuses[run.status] += 1
        self.over_budget += (run.error or "").startswith(_OVER)
        self.overheads_ms.append(run.overhead_ms)
        if self.dearest is None or _cost(receipt) > _cost(self.dearest):
            self.dearest = receipt
        if self.slowest is None or _latency(receipt) > _latency(self.slowest):
            self.slowest = receipt

    @property
    def cached_share(self) -> float | None:
        return round(self.tokens_cached / self.tokens_in, 4) if self.tokens_in else None

    @property
    def overhead_p50_ms(self) -> float | None:
        return round(median(self.overheads_ms), 3) if self.overheads_ms else None

    def to_json(self) -> dict[str, Any]:
        from modelspend.money import usd

        return {
            "run_id": self.run_id,
            "calls": self.calls,
            "cost_usd": usd(self.cost_pico),
            "max_usd": None if self.cap_pico is None else usd(self.cap_pico),
            "refused_by_budget": self.over_budget,
            **{name: self.kinds[name] for name in KINDS},
            "input_tokens": self.tokens_in,
            "cached_tokens": self.tokens_cached,
            "cached_share": self.cached_share,
            "output_tokens": self.tokens_out,
            "by_status": {str(status): count for status, count in self.statuses.items()},
            "overhead_p50_ms": self.overhead_p50_ms,
            "dearest": self.dearest.receipt_id if self.dearest else None,
            "slowest": self.slowest.receipt_id if self.slowest else None,
        }

    def told(self, took_s: float, config: str | None) -> Iterator[str]:
        """The lines for a person; `config` is what the next command has to be told."""
        if not self.calls:
            yield (
                f"modelspend: no call came through the sidecar in {took_s:.1f} s."
                " If there should have been some: modelspend help clients"
            )
            return
        from modelspend.money import usd_text

        plural = "s" * (self.calls != 1)
        yield (
            f"modelspend: {self.calls:,} call{plural}, ${usd_text(self.cost_pico)}"
            f"{self._caveats()} in {took_s:.1f} s"
        )
        cached = f" ({self.cached_share:.0%} cached)" if self.tokens_cached else ""
        yield (
            f"  tokens    {self.tokens_in:,} in{cached}, {self.tokens_out:,} out;"
            f" overhead p50 {self.overhead_p50_ms:.1f} ms"
        )
        yield from self._stopped()
        yield from self._extremes()
        more = f" --config {config}" if config else ""
        yield f"  receipts  modelspend receipts search run={self.run_id}{more}"

    def _caveats(self) -> str:
        wrong = self.calls - self.statuses["success"]
        said = [
            f"{self.kinds['estimated']} estimated" if self.kinds["estimated"] else "",
            f"{self.kinds['unpriced']} without a known price" if self.kinds["unpriced"] else "",
            f"{wrong} failed" if wrong else "",
        ]
        told = ", ".join(filter(None, said))
        return f" ({told})" if told else ""

    def _stopped(self) -> Iterator[str]:
        from modelspend.money import usd_text

        if self.over_budget:
            own = f" of ${usd_text(self.cap_pico)}" if self.cap_pico is not None else ""
            plural = "s" * (self.over_budget != 1)
            yield f"  stopped   {self.over_budget:,} call{plural} refused or cut by a budget{own}"

    def _extremes(self) -> Iterator[str]:
        from modelspend.money import usd_text

        assert self.dearest is not None
        assert self.slowest is not None
        if _cost(self.dearest):
            yield f"  dearest   {self.dearest.receipt_id}  ${usd_text(_cost(self.dearest))}"
        yield f"  slowest   {self.slowest.receipt_id}  {_latency(self.slowest):,.0f} ms"


def _cost(receipt: "Receipt") -> int:
    return receipt.execution.actual_cost_pico or 0


def _latency(receipt: "Receipt") -> float:
    return receipt.execution.actual_latency_ms
