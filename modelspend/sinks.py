"""Sinks: who is told of what happens, how far each has come, and what it did not get.

What is emitted is the ledger's own rows, receipts and events in the order of their numbers. A sink
takes some of them; each of those is sent, dropped or still queued, and nothing is in between.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from modelspend.events import Wanted
from modelspend.receipt_json import iso
from modelspend.record import record

if TYPE_CHECKING:
    from modelspend.alert_sections import Channel
    from modelspend.settings import Settings
    from modelspend.sink_sections import Siem, Webhook


def datadog_off(env: Mapping[str, str]) -> bool:
    """Whether the switch in the environment stops all that goes to Datadog."""
    return env.get("DD_METRICS_ENABLED", "").strip().lower() in ("false", "0", "no", "off")


BY_ENVIRONMENT = frozenset({"otlp", "datadog:logs", "datadog:metrics"})
"""The names of sinks that a variable alone may ask for, without a section."""

_CHANNELS = ("slack", "pagerduty", "email")


def section_of(name: str) -> str:
    """What asks for a sink of that name: `[webhooks.ops]`."""
    kind, _, own = name.partition(":")
    if name == "otlp":
        return "OTLP_ENDPOINT, or endpoint in [otlp],"
    if kind == "datadog":
        return f"DD_API_KEY, and {own} in [datadog],"
    place = {"webhook": "webhooks", **{one: f"alerts.{one}" for one in _CHANNELS}}.get(kind, kind)
    return f'[{place}."{own}"]' if "." in own else f"[{place}.{own}]"


def sections(settings: "Settings") -> dict[str, bool]:
    """Every sink that a section names, and whether it is on there."""
    alerts = settings.alerts
    groups: tuple[tuple[str, Mapping[str, Webhook | Siem | Channel]], ...] = (
        ("webhook", settings.webhooks),
        ("siem", settings.siem),
        ("slack", alerts.slack),
        ("pagerduty", alerts.pagerduty),
        ("email", alerts.email),
    )
    return {f"{kind}:{own}": one.enabled for kind, named in groups for own, one in named.items()}


def without_section(known: Iterable[str], settings: "Settings") -> list[str]:
    """Those that no section names, on or off. Whether a variable asks for one of `BY_ENVIRONMENT`
    is not seen here: none of them is among these."""
    found = sections(settings)
    return [name for name in known if name not in found and name not in BY_ENVIRONMENT]


@record
class Wants:
    """What a sink takes: receipts, events of these kinds (as in `events.Wanted`; none: no event),
    and of one tenant alone when it is named. `levels` and `rules` are those of alerts; where any is
    named, an event must have one of them in its data."""

    receipts: bool = True
    kinds: tuple[str, ...] = ("*",)
    tenant: str | None = None
    levels: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    @property
    def events(self) -> Wanted:
        """The same as a filter of events."""
        return Wanted(kinds=self.kinds, tenant=self.tenant, levels=self.levels, rules=self.rules)


@record
class Standing:
    """How far a sink has come. `queued` is what waits, in the ledger or on its way; `lag_ms` is the
    age of the oldest of it, null when nothing waits. `retry_at_ms`: it has failed, and when it is
    tried again."""

    name: str
    cursor: int = 0
    sent: int = 0
    dropped: int = 0
    filed: int = 0
    queued: int = 0
    lag_ms: int | None = None
    sent_at_ms: int | None = None
    error: str | None = None
    error_at_ms: int | None = None
    retry_at_ms: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As `status`, `doctor` and the control plane tell it."""
        return {
            "name": self.name,
            "sent": self.sent,
            "dropped": self.dropped,
            "queued": self.queued,
            "lag_s": None if self.lag_ms is None else round(self.lag_ms / 1000, 3),
            "last_sent_at": None if self.sent_at_ms is None else iso(self.sent_at_ms),
            "last_error": self.error,
            "last_error_at": None if self.error_at_ms is None else iso(self.error_at_ms),
            "retry_at": None if self.retry_at_ms is None else iso(self.retry_at_ms),
            "cursor": self.cursor,
        }
