"""The providers: what the TOML files beside this module say, met with the user's configuration.

A provider counts as configured when it has a section or its key is in the environment; a file for
every provider we know is read at start (a few milliseconds), none of them is code. Keys are looked
up once, here, and kept as secrets.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelspend.catalog.provider import (
    AuthStyle,
    Correction,
    Names,
    Provider,
    Secret,
    corrections_from,
    facts_from,
)
from modelspend.catalog.usage import TierRules, UsageRules, rules_from
from modelspend.errors import ConfigInvalid, UnknownModel, Unsupported

if TYPE_CHECKING:
    from modelspend.settings import Provider as Section

__all__ = ["Catalog", "Correction", "Provider", "Secret", "known_providers", "stranger"]

NATIVE = {
    "openai.chat": "openai",
    "openai.responses": "openai",
    "openai.embeddings": "openai",
    "anthropic.messages": "anthropic",
    "anthropic.count_tokens": "anthropic",
    "gemini.generate": "google",
    "bedrock.converse": "bedrock",
    "cohere.chat": "cohere",
}
"""The vendor whose file holds the usage rules that others inherit."""


class Catalog:
    """All providers that can be called, and who answers for a model's name."""

    def __init__(self, known: Mapping[str, Provider], configured: Mapping[str, Provider]) -> None:
        self.known = {**known, **configured}
        self.providers = configured

    @classmethod
    def load(cls, sections: Mapping[str, "Section"], env: Mapping[str, str]) -> "Catalog":
        """The catalog of a configuration. Raises ConfigInvalid where a provider lacks something."""
        known = {name: _with_env(provider, env) for name, provider in known_providers().items()}
        configured = {name: _met(name, section, known, env) for name, section in sections.items()}
        for name, provider in known.items():
            if name not in configured and provider.secret and provider.base_url:
                configured[name] = provider
        return cls(known, configured)

    def find(self, name: str) -> Provider | None:
        """A provider by its name or by a name that others call it (`x-ai`, `google-vertex`)."""
        wanted = name.lower().strip()
        if wanted in self.known or name in self.known:
            return self.known.get(name) or self.known[wanted]
        return next((each for each in self.known.values() if wanted in each.aliases), None)

    def resolve_model(
        self,
        model: str,
        dialect: str,
        *,
        caller_key: bool = False,
        also: Sequence[str] = (),
    ) -> tuple[Provider, str]:
        """The provider that answers for a name, and the name to ask it for.

        The first segment, if a provider of that name is configured; then the `models` lists; then
        the native owner with a key. With `caller_key` the owner needs no key of its own; `also`
        are the dialects that the call can be translated into.
        Raises UnknownModel with the choices, or Unsupported when it does not speak the dialect.
        """
        first, slash, rest = model.partition("/")
        if slash and rest and first in self.providers:
            return self._speaking(self.providers[first], (dialect, *also), model), rest
        listed = [each for each in self.providers.values() if model in each.models]
        if listed:
            able = [each for each in listed if each.speaks(dialect)]
            return (able or [self._speaking(listed[0], (dialect, *also), model)])[0], model
        owner = self.owner(model)
        if owner and (caller_key or (owner.name in self.providers and owner.has_key)):
            return self._speaking(owner, (dialect, *also), model), model
        raise UnknownModel(*self._unknown(model, owner), field="model")

    def models(self) -> tuple[tuple[str, str], ...]:
        """(provider, model) of every model that the configuration names."""
        return tuple(
            (each.name, model) for each in self.providers.values() for model in each.models
        )

    def owner(self, model: str) -> Provider | None:
        """The configured provider that a name belongs to, or else the one that we know of."""
        every: Iterable[Provider] = [*self.providers.values(), *self.known.values()]
        return next((each for each in every if model in each.owns), None)

    def _speaking(self, provider: Provider, dialects: Sequence[str], model: str) -> Provider:
        if any(map(provider.speaks, dialects)):
            return provider
        spoken = ", ".join(provider.dialects) or "none"
        raise Unsupported(
            f"Model {model} is at provider {provider.name}, which does not speak {dialects[0]}.",
            f"It speaks: {spoken}.",
            field="model",
        )

    def _unknown(self, model: str, owner: Provider | None) -> tuple[str, str]:
        if owner is not None and owner.keys:
            names = " or ".join(owner.keys)
            return (
                f"Model {model} belongs to {owner.name}, which has no key here.",
                f"Set {names}, or ask another provider for it as provider/model.",
            )
        if not self.providers:
            return (
                f"Model {model} has no provider: none is configured.",
                "Set a provider's key (such as OPENAI_API_KEY) or add a [providers.NAME] section.",
            )
        listed = [f"{provider}/{name}" for provider, name in self.models()]
        choices = ", ".join([*(f"{name}/…" for name in self.providers), *listed][:20])
        return f"No provider answers for model {model}.", f"Ask as provider/model; here: {choices}."


@cache
def known_providers() -> Mapping[str, Provider]:
    """Every provider that has a file, without keys."""
    tables = {path.stem: tomllib.loads(path.read_text("utf-8")) for path in _files()}
    rules = {name: _own_rules(table) for name, table in tables.items()}
    return {name: _provider(name, table, rules) for name, table in tables.items()}


def _files() -> list[Path]:
    return sorted(Path(__file__).parent.glob("*.toml"))


def _own_rules(table: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {dialect: dict(rules) for dialect, rules in table.get("usage", {}).items()}


def _provider(
    name: str, table: dict[str, Any], rules: Mapping[str, dict[str, dict[str, Any]]]
) -> Provider:
    known = {each.name for each in fields(Provider)}
    if unknown := table.keys() - known:
        raise ValueError(f"{name}.toml: unknown key {', '.join(sorted(unknown))}")
    lists = {"dialects", "keys", "aliases", "request_id_headers"} & table.keys()
    plain = table.keys() - {"usage", "tier", "corrections", "facts", "owns", "auth"}
    said: dict[str, Any] = {k: tuple(table[k]) if k in lists else table[k] for k in plain}
    return Provider(
        name=name,
        usage=_usage(name, rules),
        tier=_tier(table.get("tier", {})),
        corrections=corrections_from(table.get("corrections", [])),
        facts=facts_from(table.get("facts", [])),
        owns=Names(tuple(table.get("owns", ()))),
        auth=_auth(table.get("auth", "bearer"), table.get("dialects", [])),
        **said,
    )


def _usage(name: str, rules: Mapping[str, dict[str, dict[str, Any]]]) -> dict[str, UsageRules]:
    """The rules for every dialect: a provider's own, over those it is `like`, or the vendor's."""
    found: dict[str, UsageRules] = {}
    for dialect, vendor in NATIVE.items():
        dialect = dialect.replace("count_tokens", "messages")
        own = dict(rules.get(name, {}).get(dialect, {}))
        like = own.pop("like", None)
        base = rules[like][dialect] if like else {} if own else rules[vendor][dialect]
        found[dialect] = rules_from({**base, **own})
    return found


def _tier(table: Mapping[str, Any]) -> TierRules:
    default = TierRules(rename={})
    return TierRules(
        fields=tuple(table.get("fields", default.fields)),
        standard=frozenset(table.get("standard", default.standard)),
        rename=table.get("rename", {}),
    )


def _auth(said: str | Mapping[str, str], dialects: list[str]) -> dict[str, AuthStyle]:
    each = {dialect: said for dialect in dialects} if isinstance(said, str) else said
    return dict(each)  # type: ignore[arg-type]  # checked by the test that reads every file


def _with_env(provider: Provider, env: Mapping[str, str]) -> Provider:
    base_url = provider.base_url
    if provider.base_url_env and env.get(provider.base_url_env):
        base_url = env[provider.base_url_env].rstrip("/")
    return replace(provider, base_url=base_url, secret=_secret(provider.keys, env))


def _secret(names: tuple[str, ...], env: Mapping[str, str]) -> Secret | None:
    return next((Secret(env[name].strip()) for name in names if env.get(name, "").strip()), None)


def _met(
    name: str, section: "Section", known: Mapping[str, Provider], env: Mapping[str, str]
) -> Provider:
    """A provider as its section says, over what its file says."""
    base = known.get(name) or stranger(name)
    keys = (section.api_key_env,) if section.api_key_env else base.keys
    provider = replace(
        base,
        base_url=(section.base_url or base.base_url or "").rstrip("/") or None,
        dialects=section.dialects or base.dialects,
        keys=keys,
        needs_key=bool(section.api_key_env) or section.base_url is None,
        secret=_secret(keys, env),
        models=section.models,
        region=section.region,
        trains=base.trains if section.trains is None else section.trains,
        on_disconnect=section.on_disconnect or base.on_disconnect,
        drain_s=section.drain_s,
        api_version=section.api_version or base.api_version,
    )
    _require(provider, known)
    return replace(provider, auth=_met_auth(provider))


def stranger(name: str, library: str | None = None) -> Provider:
    """A provider without a file: it reads usage as each dialect's vendor does."""
    vendors = known_providers()
    return Provider(
        name=name,
        title=name,
        library=library,
        usage={
            dialect: vendors[vendor].usage[dialect]
            for dialect, vendor in NATIVE.items()
            if dialect in vendors[vendor].usage
        },
    )


def _met_auth(provider: Provider) -> dict[str, AuthStyle]:
    """The file's styles; for a dialect that it does not name, what the vendor's clients send."""
    native: dict[str, AuthStyle] = {"gemini.generate": "x-goog-api-key"}
    if provider.library is None:
        native["anthropic.messages"] = "x-api-key"
    return {each: provider.auth.get(each, native.get(each, "bearer")) for each in provider.dialects}


def _require(provider: Provider, known: Mapping[str, Provider]) -> None:
    where = f"[providers.{provider.name}]"
    if not provider.base_url:
        env = provider.base_url_env
        say = f"Set {env}, or write" if env else "Write"
        known_names = ", ".join(sorted(name for name, each in known.items() if each.dialects))
        hint = f'{say} base_url = "https://…" there. Known without one: {known_names}.'
        raise ConfigInvalid(f"{where} has no base_url.", hint)
    if not provider.dialects:
        choices = ", ".join(f'"{dialect}"' for dialect in list(NATIVE)[:4])
        raise ConfigInvalid(
            f"{where} does not say which dialects it speaks.",
            f"Write dialects = […] there, of {choices} and others.",
        )
