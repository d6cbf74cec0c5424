"""Where the ledger is sent: one file for each sink, listed here by hand.

A row makes the sinks that the configuration and the environment ask for, and none without; `pump`
runs them. A sink never touches a request: it reads the ledger behind everybody's back.
"""

from collections.abc import Callable, Mapping, Sequence

from modelspend.exporters import email, otlp, pagerduty, siem, slack, webhooks
from modelspend.exporters.channels import Channel
from modelspend.exporters.pump import Pace, Pump, Sink
from modelspend.settings import Settings
from modelspend.store import Store

Make = Callable[[Settings, Mapping[str, str], Store], Sequence[Sink]]
"""The sinks of one kind that are asked for. Raises ConfigInvalid."""

EXPORTERS: tuple[tuple[str, Make], ...] = (
    ("webhooks", webhooks.sinks),
    ("otlp", otlp.sinks),
    ("siem", siem.sinks),
    ("slack", slack.sinks),
    ("pagerduty", pagerduty.sinks),
    ("email", email.sinks),
)

__all__ = ["EXPORTERS", "Channel", "Make", "Pace", "Pump", "Sink", "channels_of", "sinks_of"]


def sinks_of(settings: Settings, env: Mapping[str, str], store: Store) -> list[Sink]:
    """Every sink that is configured."""
    return [sink for _, make in EXPORTERS for sink in make(settings, env, store)]


def channels_of(settings: Settings, env: Mapping[str, str], ledger: str) -> list[Channel]:
    """Every channel of alerts that is configured, without the ledger behind it: to be tried."""
    makers = (slack.channels, pagerduty.channels, email.channels)
    return [channel for make in makers for channel in make(settings, env, ledger)]
