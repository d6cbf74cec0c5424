"""Traces for an OpenTelemetry collector."""

from collections.abc import Mapping, Sequence

from modelspend.exporters.pump import Sink
from modelspend.settings import Settings
from modelspend.store import Store


def sinks(settings: Settings, env: Mapping[str, str], store: Store) -> Sequence[Sink]:
    return []
