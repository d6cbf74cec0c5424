"""The sections of the settings: every key, its type, its limits, its default and what it means.

`config.example.toml`, the errors about a bad file and `help config` are all made from what stands
here; `section` has the kinds of values, and says what is taken for one.
"""

from datetime import date
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from modelspend.alert_sections import Alerts
from modelspend.receipt import Status
from modelspend.section import (
    Cap,
    EnvName,
    Instant,
    ModelKey,
    Name,
    PerMillion,
    PerThousand,
    Section,
    Url,
    WindowText,
    Zone,
)
from modelspend.sink_sections import Datadog, Otlp, Siem, Webhook

DialectName = Literal[
    "openai.chat",
    "openai.responses",
    "openai.embeddings",
    "anthropic.messages",
    "gemini.generate",
]

RewriteStep = Literal["whitespace", "tool_json"]


class Server(Section):
    """Where the sidecar listens and how much it takes in."""

    host: str = Field(
        "127.0.0.1", description="Address to listen on; loopback unless remote use is allowed."
    )
    port: int = Field(8787, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    allow_remote: bool = Field(
        False, description="Allow an address that is not loopback (needs tenant keys)."
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Further names that a Host header may carry."
    )
    max_body_mib: int = Field(32, ge=1, le=1024, description="Largest request body, in MiB.")
    max_in_flight: int = Field(
        512, ge=1, le=100_000, description="Calls under way at once; beyond it 429."
    )
    header_timeout_s: float = Field(
        10, gt=0, description="Seconds a client may take to send its headers."
    )
    body_timeout_s: float = Field(15, gt=0, description="Seconds without a byte of a request body.")
    body_total_s: float = Field(120, gt=0, description="Seconds for a whole request body.")
    client_stall_s: float = Field(
        30, gt=0, description="Seconds a client may take no byte of its answer."
    )
    drain_s: float = Field(30, ge=0, description="Seconds that open streams get after SIGTERM.")


class Store(Section):
    """The ledger: one SQLite file."""

    path: Path | None = Field(
        None, description="The ledger; by default in the platform's data folder."
    )
    durability: Literal["full", "normal"] = Field(
        "full", description="full survives a power cut; normal survives a crash of the process."
    )
    keep_bodies: Literal["full", "none"] = Field(
        "full", description="Keep request and answer bodies, compressed, beside the receipts."
    )
    body_retention_days: int = Field(
        30, ge=0, le=36_500, description="Days that bodies are kept; 0 keeps them for ever."
    )


class Upstream(Section):
    """Limits of time towards providers, one for each phase."""

    connect_s: float = Field(5, gt=0, description="Seconds to open a connection.")
    first_byte_s: float = Field(600, gt=0, description="Seconds to the first byte of an answer.")
    stream_first_byte_s: float = Field(
        60, gt=0, description="Seconds to the first byte of a stream."
    )
    idle_s: float = Field(60, gt=0, description="Seconds between two bytes of an answer.")
    total_s: float = Field(1800, gt=0, description="Seconds for a whole answer.")


class Circuits(Section):
    """When a provider's model is left alone for a while because it fails or is too slow."""

    enabled: bool = Field(True, description="Leave alone what fails; else it is asked every time.")
    window: int = Field(50, ge=1, le=1000, description="How many of the last calls count.")
    window_s: float = Field(
        120, gt=0, description="Seconds without a call after which the earlier ones are forgotten."
    )
    min_calls: int = Field(
        10, ge=1, le=1000, description="Calls that must have been made before a rate counts."
    )
    failure_rate: float = Field(0.5, gt=0, le=1, description="Share of failures that opens it.")
    consecutive: int = Field(5, ge=1, description="Failures in a row that open it.")
    slow_s: float = Field(
        30, gt=0, description="Seconds to a stream's first byte from which a call is slow."
    )
    slow_rate: float = Field(0.8, gt=0, le=1, description="Share of slow calls that opens it.")
    wait_s: float = Field(
        15, gt=0, description="Seconds that it stays open at first; twice as long each time after."
    )
    wait_max_s: float = Field(300, gt=0, description="Longest time that it stays open.")
    jitter: float = Field(
        0.1, ge=0, le=1, description="Share of a wait that chance may take away from it."
    )
    probe_s: float = Field(
        60, gt=0, description="Seconds after which a probe without an answer is given up."
    )
    panic_s: float = Field(
        1, gt=0, description="Seconds between two tries of an open one when all are open."
    )
    cool_s: float = Field(
        1, gt=0, description="Seconds of rest after a 429 that names no time (Retry-After)."
    )
    cool_max_s: float = Field(60, gt=0, description="Longest rest that a provider may ask for.")
    forget_s: float = Field(
        3600, gt=0, description="Seconds after which an earlier opening no longer counts."
    )

    @model_validator(mode="after")
    def _can_be_reached(self) -> "Circuits":
        if self.min_calls > self.window:
            raise ValueError(f"min_calls ({self.min_calls}) must fit in window ({self.window})")
        return self


class Retries(Section):
    """How a call that failed is tried again, before its first content has reached the client."""

    max_attempts: int = Field(3, ge=1, le=10, description="Tries of one call, the first included.")
    share: float = Field(
        0.2, ge=0, le=1, description="Share of all calls that may be tried again where they were."
    )
    floor: int = Field(3, ge=0, description="Such tries that are allowed in any case.")
    per_s: float = Field(10, gt=0, description="Seconds over which that share is kept.")
    backoff_s: float = Field(
        0.25, gt=0, description="Longest wait before the second try; twice as long each time after."
    )
    backoff_max_s: float = Field(4, gt=0, description="Longest wait before a later one.")
    wait_max_s: float = Field(
        10, ge=0, description="Longest Retry-After that is waited for with the client on the line."
    )
    hold_s: float = Field(
        10,
        gt=0,
        description="Longest that a stream without content is held back, so that another provider"
        " can still be asked.",
    )


class Routing(Section):
    """Which policy applies when a request names none."""

    mode: Literal["observe", "shadow", "route"] = Field(
        "observe",
        description="observe carries as asked; shadow also decides; route applies the decision.",
    )
    profile: Name = Field("default", description="The profile that decisions follow.")
    classify: bool = Field(
        True, description="Tell each prompt's category and complexity, in observe too."
    )


class Objective(Section):
    """What a profile weighs when evals say how good its models are."""

    quality: float = Field(1.0, ge=0, le=100, description="Weight of quality.")
    cost: float = Field(0.3, ge=0, le=100, description="Weight of being cheap.")
    latency: float = Field(0.0, ge=0, le=100, description="Weight of being quick.")


class Constraints(Section):
    """What may be chosen at all; what is left out allows everything."""

    providers: tuple[str, ...] = Field((), description="Only these providers.")
    regions: tuple[str, ...] = Field((), description="Only providers in these regions.")
    no_training: bool = Field(
        False, description="Only providers that are known not to train on what is sent."
    )
    max_usd: Cap | None = Field(None, description="Most that a call may be expected to cost.")


class Profile(Section):
    """A routing policy: candidate models for each tier, in order of preference."""

    simple: tuple[str, ...] = Field((), description="Models for simple prompts.")
    standard: tuple[str, ...] = Field((), description="Models for ordinary prompts.")
    deep_reasoning: tuple[str, ...] = Field(
        (), description="Models for prompts that need deep reasoning."
    )
    objective: Objective = Field(
        Objective(), description="What counts where evals know the models."
    )
    quality_floor: float = Field(
        0.0, ge=0, le=1, description="Least quality that evals must have shown."
    )
    near_threshold: Literal["stay", "decide"] = Field(
        "stay",
        description="Close to a threshold: stay with the model asked for, or decide as ever.",
    )
    near_cap: Literal["refuse", "degrade"] = Field(
        "refuse",
        description="Where a hard cap has no room: refuse, or take a cheaper model that fits.",
    )
    system_weight: float = Field(
        0.25, ge=0, le=1, description="What the system prompt counts, beside 1 for the newest turn."
    )
    history_weight: float = Field(
        0.5, ge=0, le=1, description="What earlier turns count, beside 1 for the newest."
    )
    constraints: Constraints = Field(Constraints(), description="What may be chosen at all.")
    failover: Literal["same_model", "chain", "off"] = Field(
        "same_model",
        description="Who may stand in for a failing provider of a call that goes as it was asked:"
        " the same model elsewhere, this profile's models too, or nobody, whatever is decided.",
    )

    @cached_property
    def lists(self) -> dict[str, tuple[str, ...]]:
        """The models of each tier, the lowest tier first."""
        return {
            "simple": self.simple,
            "standard": self.standard,
            "deep_reasoning": self.deep_reasoning,
        }

    @cached_property
    def candidates(self) -> dict[str, tuple[str, ...]]:
        """The models for each tier: its own, else those of the next higher one that has any, else
        of the next lower."""
        lists = tuple(self.lists.values())
        orders = {tier: (*lists[at:], *reversed(lists[:at])) for at, tier in enumerate(self.lists)}
        return {tier: next(filter(None, order), ()) for tier, order in orders.items()}

    @cached_property
    def sufficient(self) -> dict[str, frozenset[str]]:
        """The models that are listed for each tier or a higher one."""
        lists = tuple(self.lists.values())
        return {tier: frozenset().union(*lists[at:]) for at, tier in enumerate(self.lists)}


BUILT_IN_PROFILE = Profile(
    simple=("gpt-5-nano", "gemini-2.5-flash-lite", "claude-haiku-4-5"),
    standard=("gpt-5-mini", "gemini-2.5-flash", "claude-haiku-4-5"),
    deep_reasoning=("claude-sonnet-4-6", "gpt-5", "gemini-2.5-pro"),
)
"""The profile `default` where no file writes one."""


class ModelFacts(Section):
    """What is known of a model that the catalog does not know, or knows wrongly."""

    context: int | None = Field(None, ge=1, description="Tokens of input and output together.")
    output: int | None = Field(None, ge=1, description="Most tokens of output.")
    lacks: tuple[str, ...] | None = Field(
        None,
        description="What it cannot do: tools, vision, audio, video, file, json_schema, reasoning.",
    )


class Cache(Section):
    """Answers kept and given again to the very same request of the same caller; off by default."""

    enabled: bool = Field(
        False, description="Keep answers for every caller; else who asks, or is named below."
    )
    ttl_s: float = Field(
        3600, gt=0, le=2_592_000, description="Seconds for which an answer may be given again."
    )
    max_mib: int = Field(256, ge=1, le=65_536, description="Room for kept answers, in MiB.")
    tools: bool = Field(False, description="Keep answers that call tools, too.")
    sampled: bool = Field(
        False,
        description="Keep answers to requests that ask for another one each time, too:"
        " a temperature above 0 without a seed, or several choices.",
    )


class Rewrite(Section):
    """Shorter prompts that say the same, where no provider's cache is broken; off by default."""

    enabled: bool = Field(False, description="Rewrite for every caller; else who is named below.")
    steps: tuple[RewriteStep, ...] = Field(
        ("whitespace", "tool_json"),
        description="whitespace: superfluous spaces and blank lines in prose; tool_json: the layout"
        " of tool results that are JSON.",
    )


class Savings(Section):
    """What savings are measured against."""

    baseline_model: str | None = Field(
        None,
        min_length=1,
        description="Model that routed calls are compared with, as a name or provider/model;"
        " without one, the model that each call asked for.",
    )


class Rates(Section):
    """Prices in USD per million tokens (searches and requests: USD per thousand)."""

    input: PerMillion | None = Field(None, description="Fresh input.")
    output: PerMillion | None = Field(None, description="Output, reasoning included.")
    cache_read: PerMillion | None = Field(None, description="Input read from the provider's cache.")
    cache_write_5m: PerMillion | None = Field(
        None, description="Input written to a 5-minute cache."
    )
    cache_write_1h: PerMillion | None = Field(None, description="Input written to a 1-hour cache.")
    input_audio: PerMillion | None = Field(None, description="Audio input.")
    output_audio: PerMillion | None = Field(None, description="Audio output.")
    cached_audio: PerMillion | None = Field(None, description="Audio input read from the cache.")
    input_image: PerMillion | None = Field(None, description="Image input tokens.")
    output_image: PerMillion | None = Field(None, description="Image output tokens.")
    web_search_per_1k: PerThousand | None = Field(None, description="Web searches, per thousand.")
    tool_call_per_1k: PerThousand | None = Field(
        None, description="Server-side tool calls, per thousand."
    )
    request_per_1k: PerThousand | None = Field(None, description="Requests, per thousand.")


class PriceOverride(Rates):
    """A dated price of one's own for one model, named `provider/model`."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    from_: date | None = Field(None, alias="from", description="First day (UTC) that it holds for.")
    until: date | None = Field(None, description="First day (UTC) that it no longer holds for.")

    @model_validator(mode="after")
    def _in_order(self) -> "PriceOverride":
        if self.from_ and self.until and self.from_ >= self.until:
            raise ValueError(f"from ({self.from_}) must be before until ({self.until})")
        return self


class Provider(Section):
    """A provider: an address, the dialects it speaks, and where its key is found."""

    base_url: Url | None = Field(None, description="Address below which the dialects' paths lie.")
    dialects: tuple[DialectName, ...] | None = Field(None, description="Dialects that it speaks.")
    api_key_env: EnvName | None = Field(
        None, description="Name of the environment variable with its key."
    )
    models: tuple[str, ...] = Field(
        (), description="Models that are asked of it by their bare name."
    )
    price: Literal["free"] | Rates | None = Field(
        None, description='"free", or USD per million tokens.'
    )
    region: str | None = Field(None, description="Region to note on attempts.")
    trains: bool | None = Field(
        None, description="Whether it may train on what is sent; unknown counts as yes."
    )
    on_disconnect: Literal["cancel", "drain"] | None = Field(
        None,
        description="When the client leaves: cancel the call, or drain a stream for its usage.",
    )
    drain_s: float = Field(10, gt=0, le=600, description="Longest time to drain for.")
    api_version: str | None = Field(None, description="Azure OpenAI's api-version.")


class Tenant(Section):
    """Who pays: its own keys, budget and keeping of bodies."""

    budget_usd: Cap | None = Field(
        None, description="Hard cap per calendar month (UTC); others go to [budgets.NAME]."
    )
    keys: tuple[EnvName, ...] = Field(
        (), description="Names of environment variables with its keys."
    )
    keep_bodies: Literal["full", "none"] | None = Field(
        None, description="Overrides store.keep_bodies."
    )
    body_retention_days: int | None = Field(
        None, ge=0, description="Overrides store.body_retention_days."
    )
    profile: Name | None = Field(None, description="The profile that its decisions follow.")
    constraints: Constraints = Field(Constraints(), description="What may be chosen for it.")
    cache: bool | None = Field(
        None, description="Overrides cache.enabled; false holds whatever a request asks for."
    )
    cache_ttl_s: float | None = Field(
        None, gt=0, le=2_592_000, description="Overrides cache.ttl_s."
    )
    rewrite: bool | None = Field(
        None, description="Overrides rewrite.enabled; false holds for every workflow."
    )


class Workflow(Section):
    """A job of the app, by the name that its calls give; it wins over its tenant."""

    cache: bool | None = Field(None, description="Overrides cache.enabled.")
    cache_ttl_s: float | None = Field(
        None, gt=0, le=2_592_000, description="Overrides cache.ttl_s."
    )
    rewrite: bool | None = Field(None, description="Overrides rewrite.enabled.")
    profile: Name | None = Field(None, description="The profile that its decisions follow.")
    constraints: Constraints = Field(Constraints(), description="What may be chosen for it.")


class Budget(Section):
    """A cap in dollars on whatever it names; what would pass it is refused before it is sent."""

    scope: Literal["process", "tenant", "workflow", "session", "key", "model"] = Field(
        "process", description="What it caps; process is every call of this sidecar."
    )
    name: str = Field(
        "*", min_length=1, max_length=256, description='The one that it caps; "*" is each one.'
    )
    cap_usd: Cap | None = Field(None, description="The cap; 0 blocks, left out only counts.")
    window: WindowText = Field(
        "month", description="day, week, month, total, or rolling: 24h, 7d, 60s."
    )
    zone: Zone = Field("UTC", description="Time zone of day, week and month.")
    hard: bool = Field(True, description="Refuse what may pass the cap; false only warns.")
    unpriced: Literal["block", "hold", "allow"] = Field(
        "block", description="What to do with a call whose worst case is not known."
    )
    unpriced_usd: Cap = Field(
        Decimal(1), description='What such a call holds where unpriced is "hold".'
    )
    output_limit: int = Field(
        16_384, ge=1, description="Tokens of output that a request gets which sets no limit."
    )
    slice_usd: Cap | None = Field(
        None, gt=0, description="Let streams hold their output in slices of so much."
    )
    alert_at: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = Field(
        (50, 80, 100), description="Percent of the cap at which an event tells of it."
    )


class Limit(Section):
    """A rule against runaways: too much money a minute, or the same request over and over."""

    scope: Literal["tenant", "session", "key"] = Field("session", description="What it watches.")
    name: str = Field(
        "*", min_length=1, max_length=256, description='The one that it watches; "*" is each one.'
    )
    usd_per_minute: Cap | None = Field(
        None, description="Most that may be spent within any 60 seconds."
    )
    repeats: int | None = Field(
        None, ge=2, le=10_000, description="So many times the same request is a loop."
    )
    within_s: float = Field(300, gt=0, le=86_400, description="Seconds that repeats count in.")
    then: Literal["refuse", "kill"] = Field(
        "refuse",
        description="refuse: until it has calmed down; kill: also cut its streams, until lifted.",
    )


class View(Section):
    """A saved view: a named filter for `receipts list --view NAME`."""

    tenant: str | None = Field(None, description="Only this tenant.")
    workflow: str | None = Field(None, description="Only this workflow.")
    model: str | None = Field(None, description="Only this model.")
    provider: str | None = Field(None, description="Only this provider.")
    category: str | None = Field(None, description="Only this category.")
    status: tuple[Status, ...] = Field((), description="Only these statuses.")
    session: str | None = Field(None, description="Only this session.")
    min_cost_usd: Cap | None = Field(None, description="At least this dear.")
    min_latency_ms: float | None = Field(None, ge=0, description="At least this slow.")
    unpriced: bool | None = Field(None, description="Only receipts without a known cost.")
    since: Instant | None = Field(None, description="From this time on: 7d, 2026-11-01, mtd.")


class Settings(Section):
    """The whole tree, frozen."""

    server: Server = Server()
    store: Store = Store()
    upstream: Upstream = Upstream()
    circuits: Circuits = Circuits()
    retries: Retries = Retries()
    routing: Routing = Routing()
    cache: Cache = Cache()
    rewrite: Rewrite = Rewrite()
    savings: Savings = Savings()
    profiles: dict[Name, Profile] = {}
    providers: dict[Name, Provider] = {}
    models: dict[ModelKey, ModelFacts] = {}
    prices: dict[ModelKey, PriceOverride | tuple[PriceOverride, ...]] = {}
    tenants: dict[Name, Tenant] = {}
    workflows: dict[Name, Workflow] = {}
    budgets: dict[Name, Budget] = {}
    limits: dict[Name, Limit] = {}
    alerts: Alerts = Alerts()
    webhooks: dict[Name, Webhook] = {}
    siem: dict[Name, Siem] = {}
    otlp: Otlp = Otlp()
    datadog: Datadog = Datadog()
    views: dict[Name, View] = {}
