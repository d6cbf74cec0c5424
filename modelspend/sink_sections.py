"""The sections that say where the ledger is sent: who is told, how, and with which secret.

A secret never stands in the file: a key that ends in `_env` names the variable that holds it.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from modelspend.section import EnvName, EventType, FilePath, Name, Section, SiemPlace, SinkUrl, Wait


class Webhook(Section):
    """An HTTP server that is told of events; signed, retried, and kept when it cannot be told."""

    url: SinkUrl | None = Field(None, description="Where it is sent: https://…")
    url_env: EnvName | None = Field(
        None, description="The variable that holds its address, when that is a secret; wins."
    )
    types: tuple[EventType, ...] = Field(
        ("alert.*", "budget.*", "circuit.*", "failover"),
        min_length=1,
        description='Types of events: whole, or their beginning with *; "receipt.created" too.',
    )
    tenant: Name | None = Field(None, description="Only what concerns this tenant.")
    secrets: tuple[EnvName, ...] = Field(
        (), description="Variables that hold its secrets, the newest first: all of them sign."
    )
    retry_s: tuple[Wait, ...] = Field(
        (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400),
        description="Seconds before each further try; after the last it is a dead letter.",
    )
    timeout_s: float = Field(15, gt=0, le=120, description="How long a try may take.")
    allow_private: bool = Field(
        False, description="It lies on this machine or in a private network; also allows http."
    )
    enabled: bool = Field(True, description="false sends nothing, and loses what happens.")

    @model_validator(mode="after")
    def _one_place(self) -> "Webhook":
        if self.url is None and self.url_env is None:
            raise ValueError("write url, or url_env")
        return self


class Otlp(Section):
    """Traces for an OpenTelemetry collector: a span for each receipt and each of its steps."""

    endpoint: SinkUrl | None = Field(
        None, description="Where they are sent; the variable OTLP_ENDPOINT wins over it."
    )
    protocol: Literal["http/json", "http/protobuf"] | None = Field(
        None, description="How they are said; http/json unless OTEL_EXPORTER_OTLP_PROTOCOL is set."
    )
    token_env: EnvName = Field(
        "OTLP_TOKEN", description="The variable that holds the authorization header."
    )
    gzip: bool = Field(True, description="Compress what is sent.")
    timeout_s: float = Field(10, gt=0, le=120, description="How long one batch may take.")
    prompts: bool = Field(
        False, description="Also send prompts and answers, where bodies are kept."
    )
    keep_days: int = Field(30, ge=0, le=365, description="Days that otel_traces keeps spans.")
    allow_private: bool = Field(
        False, description="It lies on this machine or in a private network; also allows http."
    )
    enabled: bool = Field(True, description="false sends nothing, whatever variables say.")


class Siem(Section):
    """A SIEM that is told of receipts and events as they happen: by file, HTTP or syslog."""

    format: Literal["cef", "ecs", "ocsf"] = Field(
        "ecs", description="How it is said: CEF, or JSON lines of ECS or OCSF."
    )
    to: SiemPlace | None = Field(
        None,
        description="A file (/var/log/…), a collector (https://…), or syslog (tls://host:6514,"
        " tcp://host:601, udp://host:514).",
    )
    to_env: EnvName | None = Field(
        None, description="The variable that holds it, when that is a secret; wins."
    )
    types: tuple[EventType, ...] = Field(
        ("*",),
        min_length=1,
        description='Types of events: whole, or their beginning with *; "receipt.created" too.',
    )
    tenant: Name | None = Field(None, description="Only what concerns this tenant.")
    token_env: EnvName | None = Field(
        None, description="The variable that holds the token of an HTTP collector."
    )
    token_scheme: Literal["Bearer", "Splunk", "ApiKey"] = Field(
        "Bearer", description="What stands before the token in the authorization header."
    )
    ca_file: FilePath | None = Field(
        None, description="Certificates that syslog over TLS trusts, instead of the system's."
    )
    facility: int = Field(13, ge=0, le=23, description="Syslog's facility: 13 is audit.")
    hostname: Name | None = Field(None, description="This machine's name in syslog; its own.")
    rotate_mb: int = Field(100, ge=1, le=10_000, description="A file is put aside at this size.")
    keep_days: int = Field(
        90, ge=0, le=3650, description="Days that files are kept after that; 0: for ever."
    )
    gzip: bool = Field(True, description="Compress files that were put aside.")
    timeout_s: float = Field(15, gt=0, le=120, description="How long one batch may take.")
    allow_private: bool = Field(
        False,
        description="It lies on this machine or in a private network; also allows http, tcp, udp.",
    )
    enabled: bool = Field(True, description="false sends nothing; what happens then waits.")

    @model_validator(mode="after")
    def _some_place(self) -> "Siem":
        if self.to is None and self.to_env is None:
            raise ValueError("write to, or to_env")
        return self


DatadogSite = Literal[
    "datadoghq.com",
    "us3.datadoghq.com",
    "us5.datadoghq.com",
    "ap1.datadoghq.com",
    "ap2.datadoghq.com",
    "uk1.datadoghq.com",
    "datadoghq.eu",
    "ddog-gov.com",
    "us2.ddog-gov.com",
]
"""Where an API key may be sent: the sites that Datadog's own client knows (2.62, 2026-11-25)."""


class Datadog(Section):
    """Logs and metrics for Datadog; without DD_API_KEY there is nothing, and nothing is sent."""

    api_key_env: EnvName = Field("DD_API_KEY", description="The variable that holds the API key.")
    site: DatadogSite = Field(
        "datadoghq.com", description="Where the account lives; the variable DD_SITE wins over it."
    )
    logs: bool = Field(True, description="Send decisions and events to the logs intake.")
    metrics: bool = Field(True, description="Send metrics named modelspend.*.")
    service: str = Field(
        "modelspend", min_length=1, max_length=100, description="The service; DD_SERVICE wins."
    )
    tags: tuple[Annotated[str, StringConstraints(pattern=r"^[^\s,]{1,200}$")], ...] = Field(
        (), description='Further tags, such as "team:search"; DD_ENV and DD_TAGS are added.'
    )
    url: SinkUrl | None = Field(
        None, description="Send there instead of to Datadog, as to an agent or a relay of yours."
    )
    timeout_s: float = Field(10, gt=0, le=120, description="How long one batch may take.")
    allow_private: bool = Field(
        False, description="It lies on this machine or in a private network; also allows http."
    )
    enabled: bool = Field(
        True, description="false sends nothing, whatever variables say, and loses what happens."
    )
