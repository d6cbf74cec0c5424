"""The sections about alerts: from where on a rule goes off, and who is told.

A secret never stands in the file: a key that ends in `_env` names the variable that holds it.
"""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from modelspend.section import Cap, EnvName, Levels, Name, Section, SinkUrl

Rule = Literal[
    "budget_burn",
    "velocity",
    "circuit_open",
    "fallback_rate",
    "p95_drift",
    "cache_drop",
    "low_confidence",
    "unpriced_share",
]
"""The rules that tell somebody; see `alerts.RULES`."""

Mailbox = Annotated[str, StringConstraints(pattern=r"^[^\s@<>,;:\"()\[\]\\]+@[^\s@<>,;:\"()\\]+$")]
Host = Annotated[str, StringConstraints(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)$")]


class Channel(Section):
    """What every channel has: which alerts it is told of."""

    level: Literal["warn", "critical"] = Field(
        "warn", description="Only alerts that are, or were, at least as bad."
    )
    rules: tuple[Rule, ...] = Field((), description="Only these rules; none named: all of them.")
    tenant: Name | None = Field(None, description="Only what concerns this tenant.")
    timeout_s: float = Field(15, gt=0, le=120, description="How long a try may take.")
    allow_private: bool = Field(
        False, description="It lies on this machine or in a private network; also without TLS."
    )
    enabled: bool = Field(True, description="false tells nothing, and loses what happens.")


class Slack(Channel):
    """A channel in Slack, told through an incoming webhook."""

    url_env: EnvName = Field(
        ..., description="The variable that holds the webhook's address, which is a secret."
    )


class PagerDuty(Channel):
    """A service of PagerDuty (Events API v2): incidents are opened and resolved."""

    key_env: EnvName = Field(..., description="The variable that holds the routing key.")
    region: Literal["us", "eu"] = Field("us", description="Where the account lives.")
    url: SinkUrl | None = Field(None, description="Send there instead of to PagerDuty.")


class Email(Channel):
    """Mail, sent through an SMTP server over TLS."""

    host: Host = Field(..., description="The SMTP server.")
    port: int | None = Field(
        None, ge=1, le=65535, description="Its port; 587, or 465 where tls is whole."
    )
    tls: Literal["starttls", "whole", "none"] = Field(
        "starttls",
        description="starttls, whole (TLS from the first byte), or none (allow_private only).",
    )
    ca_file: Path | None = Field(
        None, description="Certificates to trust instead of the system's, as a PEM file."
    )
    username_env: EnvName | None = Field(
        None, description="The variable that holds the user's name, where it wants one."
    )
    password_env: EnvName | None = Field(None, description="The variable that holds the password.")
    sender: Mailbox = Field(..., description="From whom it is.")
    to: tuple[Mailbox, ...] = Field(..., min_length=1, max_length=50, description="To whom.")

    @model_validator(mode="after")
    def _safe(self) -> "Email":
        if (self.username_env is None) != (self.password_env is None):
            raise ValueError("write both username_env and password_env, or neither")
        if self.tls == "none" and not self.allow_private:
            raise ValueError('tls = "none" is only for a server with allow_private = true')
        if self.tls == "none" and self.username_env is not None:
            raise ValueError("a password is sent over TLS alone")
        return self


class Alerts(Section):
    """From where on a rule warns, and from where on it is critical: two numbers each."""

    fallback_rate: Levels = Field(
        (0.1, 0.5), description="Share of an hour's calls that were led elsewhere."
    )
    p95_drift: Levels = Field(
        (2.0, 5.0), description="How many times as slow an hour is as the week before it."
    )
    cache_drop: Levels = Field(
        (0.5, 0.9), description="Share of the cache hits of the week before that a day has lost."
    )
    low_confidence: Levels = Field(
        (0.2, 0.5), description="Share of an hour's calls that were classified without being sure."
    )
    unpriced_share: Levels = Field(
        (0.05, 0.25), description="Share of a day's calls without a known cost; any is told."
    )
    velocity: Levels = Field(
        (5.0, 20.0), description="How many average hours of the week before an hour has spent."
    )
    least_usd: Cap = Field(
        Decimal(1), description="What an hour must have spent before velocity counts."
    )
    min_calls: int = Field(20, ge=1, description="Calls that a rate needs to count.")
    sure_from: float = Field(
        0.7, ge=0, le=1, description="The confidence from which on a classification is sure."
    )
    circuit_critical_s: float = Field(
        900, gt=0, description="Seconds after which an open circuit is critical."
    )
    every_s: float = Field(
        30, gt=0, le=3600, description="Seconds between two looks at the rules; read at start."
    )
    resolve_after_s: float = Field(
        300, ge=0, le=86_400, description="Seconds of quiet after which an alert is resolved."
    )
    slack: dict[Name, Slack] = Field({}, description="Channels in Slack, by name.")
    pagerduty: dict[Name, PagerDuty] = Field({}, description="Services of PagerDuty, by name.")
    email: dict[Name, Email] = Field({}, description="Mail, by name.")
