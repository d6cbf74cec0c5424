"""What calls add up to by each of their names: the rates that rules of alerts are about.

Hides who counts where: a call that was led elsewhere counts at the provider that should have had
it. What was added may be taken away again, so that a sum can move along with the clock.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from modelspend.alert_rates import Seen
from modelspend.alerts import EVERYTHING, Scope
from modelspend.record import record

Name = tuple[Scope, str]

_SCOPES: tuple[Scope, ...] = ("tenant", "category", "model", "provider")
TIMED = ("model", "provider")
"""The scopes in which durations are compared: in the others a change of the mix changes them."""


@record
class Hour:
    """The calls of one hour (0 is the one until now) that have these names in common.

    `calls` counts what was sent; `latency_ms` has a duration for each call that was answered, where
    durations were asked for, and `first_ms` is when the first of all began, where that was.
    """

    hour: int = 0
    first_ms: int | None = None
    tenant: str
    category: str | None
    model: str | None
    provider: str | None
    calls: int
    unpriced: int
    cost_pico: int
    prompt_tokens: int
    cached_tokens: int
    latency_ms: tuple[int, ...] = ()


@record
class Led:
    """Calls of one hour that were led elsewhere: from the provider that should have had them to the
    one that had them last."""

    hour: int = 0
    tenant: str
    category: str | None
    provider: str
    answered_by: str | None
    calls: int


@record
class Classified:
    """How many calls were looked at that have these names in common, and of how many the
    classifier was not sure."""

    tenant: str
    category: str | None
    calls: int
    unsure: int


@dataclass(slots=True)
class Tally:
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


def names_of(
    tenant: str | None, category: str | None, model: str | None, provider: str | None
) -> list[Name]:
    """All that a call is counted under."""
    pairs = zip(_SCOPES, (tenant, category, model, provider), strict=True)
    return [("process", EVERYTHING), *((scope, name) for scope, name in pairs if name)]


def add_hour(tally: Tally, scope: Scope, hour: Hour, sign: int = 1) -> None:
    """Add an hour's calls to what one of their names has; -1 takes them away."""
    tally.calls += sign * hour.calls
    tally.unpriced += sign * hour.unpriced
    tally.cost_pico += sign * hour.cost_pico
    tally.prompt_tokens += sign * hour.prompt_tokens
    tally.cached_tokens += sign * hour.cached_tokens
    if hour.first_ms is not None:
        tally.first_ms = min(hour.first_ms, tally.first_ms or hour.first_ms)
    if scope in TIMED:
        count = tally.latency_ms.update if sign > 0 else tally.latency_ms.subtract
        count(hour.latency_ms)


def add_led(tally: Callable[[Name], Tally], led: Led, sign: int = 1) -> None:
    """A call counts at the provider that it should have gone to, not where it ended up."""
    calls = sign * led.calls
    for name in names_of(led.tenant, led.category, None, led.provider):
        tally(name).led += calls
    tally(("provider", led.provider)).calls += calls
    if led.answered_by:
        tally(("provider", led.answered_by)).calls -= calls


def add_classified(tally: Tally, one: Classified) -> None:
    """Add what was looked at of how sure the classifier was."""
    tally.classified += one.calls
    tally.unsure += one.unsure
