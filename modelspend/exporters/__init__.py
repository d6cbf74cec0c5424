"""Where the ledger is sent: one file for each sink, listed here by hand.

A row makes the sinks that the configuration and the environment ask for, and none without; `pump`
runs them. A sink never touches a request: it reads the ledger behind everybody's back.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from modelspend.exporters import datadog, email, otlp, pagerduty, siem, slack, webhooks
from modelspend.exporters.channels import Channel
from modelspend.exporters.pump import Pace, Pump, Sink
from modelspend.settings import Settings
from modelspend.sinks import BY_ENVIRONMENT, datadog_off, sections, without_section
from modelspend.store import Store

Make = Callable[[Settings, Mapping[str, str], Store], Sequence[Sink]]
"""The sinks of one kind that are asked for. Raises ConfigInvalid."""

EXPORTERS: tuple[tuple[str, Make], ...] = (
    ("webhooks", webhooks.sinks),
    ("otlp", otlp.sinks),
    ("datadog", datadog.sinks),
    ("siem", siem.sinks),
    ("slack", slack.sinks),
    ("pagerduty", pagerduty.sinks),
    ("email", email.sinks),
)

__all__ = [
    "EXPORTERS",
    "Channel",
    "Make",
    "Pace",
    "Pump",
    "Sink",
    "channels_of",
    "left_behind",
    "sinks_of",
    "turned_off",
]


def sinks_of(settings: Settings, env: Mapping[str, str], store: Store) -> list[Sink]:
    """Every sink that is configured."""
    return [sink for _, make in EXPORTERS for sink in make(settings, env, store)]


def channels_of(settings: Settings, env: Mapping[str, str], ledger: str) -> list[Channel]:
    """Every channel of alerts that is configured, without the ledger behind it: to be tried."""
    makers = (slack.channels, pagerduty.channels, email.channels)
    return [channel for make in makers for channel in make(settings, env, ledger)]


def turned_off(settings: Settings, env: Mapping[str, str]) -> list[str]:
    """The names of sinks that somebody has turned off: they lose what happens meanwhile, so that
    nothing of it is sent once they are on again."""
    off = [name for name, on in sections(settings).items() if not on]
    off = [name for name in off if not name.startswith("siem:")]  # what happens then waits for it
    if not settings.otlp.enabled:
        off.append(otlp.NAME)
    whole = not settings.datadog.enabled or datadog_off(env)
    parts = ((datadog.LOGS, settings.datadog.logs), (datadog.METRICS, settings.datadog.metrics))
    return [*off, *(name for name, on in parts if whole or not on)]


def left_behind(known: Iterable[str], made: Iterable[Sink], settings: Settings) -> list[str]:
    """Which of the sinks that the ledger knows nothing asks for any more: none of them was made
    here, and no section has that name. What is turned off the ledger does not know any more."""
    gone = set(known) - {one.name for one in made}
    return sorted({*without_section(gone, settings), *(gone & BY_ENVIRONMENT)})
