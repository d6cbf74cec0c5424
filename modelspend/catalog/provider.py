"""One provider, resolved: its address, its key, its dialects, its rules. Data, not code.

What is the same everywhere is inherited: a provider without rules for a dialect reads usage as
the dialect's own vendor does. A key is never shown: not by `repr`, not in an error.
"""

import re
from collections.abc import Mapping
from dataclasses import field
from datetime import date
from fnmatch import translate
from typing import Any, Literal
from urllib.parse import quote

from modelspend.catalog.usage import TierRules, UsageRules
from modelspend.record import frozen

AuthStyle = Literal["bearer", "x-api-key", "x-goog-api-key", "api-key"]


@frozen
class Secret:
    """A key. Only `reveal` tells it."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__


class Names:
    """Patterns of model names (`gpt-*`), matched without regard to case."""

    __slots__ = ("_match", "patterns")

    def __init__(self, patterns: tuple[str, ...], but: tuple[str, ...] = ()) -> None:
        self.patterns = patterns
        yes = "|".join(translate(pattern.lower()) for pattern in patterns) or r"(?!)"
        no = "".join(f"(?!{translate(pattern.lower())})" for pattern in but)
        self._match = re.compile(f"{no}(?:{yes})").match

    def __contains__(self, model: str) -> bool:
        return self._match(model.lower()) is not None

    def __repr__(self) -> str:
        return f"Names{self.patterns}"


@frozen(kw_only=True)
class Correction:
    """What the price table lacks or cannot say about some models.

    `free` declares them free; `same` prices one bucket like another (unless it has a price of its
    own); `at_most` bounds a count; `peak_from` and `weekends_off_peak_from` bound time-of-day
    prices.
    """

    models: Names
    free: bool = False
    same: Mapping[str, str] = field(default_factory=dict)
    at_most: Mapping[str, int] = field(default_factory=dict)
    peak_from: date | None = None
    weekends_off_peak_from: date | None = None


@frozen(kw_only=True)
class Facts:
    """What is known of some models: sizes in tokens, and what they lack (`vision`, `tools`, …)."""

    models: Names
    context: int | None = None
    output: int | None = None
    lacks: frozenset[str] = frozenset()


NO_FACTS = Facts(models=Names(()))


@frozen(kw_only=True)
class Provider:
    """A provider as the catalog and the configuration say, with the key that was found."""

    name: str
    title: str
    base_url: str | None = None
    base_url_env: str | None = None
    dialects: tuple[str, ...] = ()
    auth: Mapping[str, AuthStyle] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    needs_key: bool = True
    secret: Secret | None = None
    owns: Names = field(default_factory=lambda: Names(()))
    models: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    library: str | None = None
    paths: Mapping[str, str] = field(default_factory=dict)
    models_path: str | None = "/models"
    api_version: str | None = None
    stream_usage: bool = True
    on_disconnect: Literal["cancel", "drain"] = "cancel"
    drain_s: float = 10.0
    region: str | None = None
    region_header: str | None = None
    request_id_headers: tuple[str, ...] = ("x-request-id", "request-id")
    usage: Mapping[str, UsageRules] = field(default_factory=dict, repr=False)
    tier: TierRules = field(default_factory=lambda: TierRules(rename={}))
    corrections: tuple[Correction, ...] = ()
    facts: tuple[Facts, ...] = ()
    trains: bool | None = None
    """Whether it may train on what is sent through its API; null when it does not say."""

    @property
    def has_key(self) -> bool:
        """Whether a call can be made without the caller's own key."""
        return self.secret is not None or not (self.keys and self.needs_key)

    def speaks(self, dialect: str) -> bool:
        """Whether it takes calls of a dialect; counting tokens comes with Anthropic's messages."""
        return dialect.replace("count_tokens", "messages") in self.dialects

    def url(self, dialect: str, target: str, model: str) -> str:
        """The address of a call, for the path that the dialect wants (`Dialect.target`)."""
        template = self.paths.get(dialect.replace("count_tokens", "messages"))
        if template is None:
            return f"{self.base_url}{target}"
        path = template.format(
            target=target, model=quote(model, safe=""), api_version=self.api_version or ""
        )
        if "?" in target and "?" in template:  # one query string, whoever began it
            head, _, rest = path.partition("?")
            path = f"{head}?{rest.replace('?', '&')}"
        return f"{self.base_url}{path}"

    def models_url(self) -> str | None:
        """Where it lists its models; null when it does not."""
        return f"{self.base_url}{self.models_path}" if self.models_path else None

    def headers(self, dialect: str, caller_key: str | None = None) -> dict[str, str]:
        """The header that carries the key: the caller's own when given, else ours, else none."""
        key = caller_key or (self.secret.reveal() if self.secret else None)
        if key is None:
            return {}
        style = self.auth.get(dialect.replace("count_tokens", "messages"), "bearer")
        return {"authorization": f"Bearer {key}"} if style == "bearer" else {style: key}

    def facts_of(self, model: str) -> Facts:
        """What is known of a model; nothing is assumed of one that no table names."""
        return next((each for each in self.facts if model in each.models), NO_FACTS)

    def declares_free(self, model: str) -> bool:
        return any(each.free and model in each.models for each in self.corrections)

    def at_most(self, model: str, quantities: Mapping[str, int]) -> dict[str, int]:
        """The quantities that are billed, where the provider bounds a count."""
        billed = dict(quantities)
        for correction in self.corrections:
            if correction.at_most and model in correction.models:
                for bucket, bound in correction.at_most.items():
                    if bucket in billed:
                        billed[bucket] = min(billed[bucket], bound)
        return billed


def corrections_from(tables: list[dict[str, Any]]) -> tuple[Correction, ...]:
    """The corrections of a provider's file. Raises ValueError or TypeError for an unknown key."""
    return tuple(
        Correction(
            models=Names(tuple(table["models"]), tuple(table.get("except", ()))),
            **{key: value for key, value in table.items() if key not in ("models", "except")},
        )
        for table in tables
    )


def facts_from(tables: list[dict[str, Any]]) -> tuple[Facts, ...]:
    """The facts of a provider's file. Raises TypeError for an unknown key."""
    return tuple(
        Facts(
            models=Names(tuple(table["models"]), tuple(table.get("except", ()))),
            lacks=frozenset(table.get("lacks", ())),
            **{key: table[key] for key in table.keys() - {"models", "except", "lacks"}},
        )
        for table in tables
    )
