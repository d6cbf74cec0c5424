"""Who answers, and with whose key.

A model's name decides (see `Catalog.resolve_model`). A key that the caller brought goes to the
native provider of the dialect it came in, and to nobody else; every other provider gets the key
that is configured for it, or the call is refused.
"""

from collections.abc import Sequence
from dataclasses import field

from modelspend.catalog import Catalog, Provider
from modelspend.circuits import CircuitKey
from modelspend.dialects import CHAT_DIALECTS
from modelspend.dialects.dialect import Dialect
from modelspend.errors import NoCredential
from modelspend.gateway.caller import Caller
from modelspend.record import record

NOWHERE = CircuitKey("", "")


@record
class Target:
    """Who answers: a provider, its name for the model, the dialect that is spoken with it, and
    the credential meant for it. `newcomer` where others have written in the conversation so far;
    `circuit` is what stands before it."""

    provider: Provider
    model: str
    dialect: str
    credential: Sequence[tuple[str, str]] = field(repr=False)
    newcomer: bool = False
    circuit: CircuitKey = NOWHERE

    def at(self, provider: str, model: str) -> bool:
        return (self.provider.name, self.model) == (provider, model)


def choose(catalog: Catalog, dialect: Dialect, model: str, caller: Caller) -> Target:
    """The target of a model's name. Raises UnknownModel, Unsupported or NoCredential."""
    provider, upstream_model = catalog.resolve_model(
        model, dialect.name, caller_key=caller.own_key is not None, also=translatable(dialect)
    )
    return target_at(provider, upstream_model, dialect, caller)


def target_at(provider: Provider, model: str, dialect: Dialect, caller: Caller) -> Target:
    """A model at a provider, with the credential that may be used there. Raises NoCredential."""
    own, native = caller.own_key, provider.name == dialect.native_provider
    if not provider.has_key and not (own and native):
        raise _no_key(provider, native)
    spoken = spoken_with(provider, dialect)
    if own and native and caller.own_bearer:  # as it came: an OAuth token is no API key
        headers = {"authorization": f"Bearer {own}"}
    else:
        headers = provider.headers(spoken, own if native else None)
    return Target(
        provider=provider,
        model=model,
        dialect=spoken,
        credential=tuple(headers.items()),
        circuit=circuit_of(provider, model, dialect, caller),
    )


def circuit_of(provider: Provider, model: str, dialect: Dialect, caller: Caller) -> CircuitKey:
    """The circuit before a model at a provider: a caller's own key has one of its own."""
    own = caller.own_key and provider.name == dialect.native_provider
    return CircuitKey(provider.name, model, (caller.key_id or "") if own else "")


def spoken_with(provider: Provider, dialect: Dialect) -> str:
    """The dialect that a call is carried in there: the client's own if it can be, else the first
    that it can be translated into."""
    own = dialect.name.replace("count_tokens", "messages")
    if provider.speaks(own) or dialect.name not in CHAT_DIALECTS:
        return own
    return next((each for each in provider.dialects if each in CHAT_DIALECTS), own)


def translatable(dialect: Dialect) -> tuple[str, ...]:
    """The dialects that a call in this one can be carried in."""
    return tuple(CHAT_DIALECTS) if dialect.name in CHAT_DIALECTS else (dialect.name,)


def _no_key(provider: Provider, native: bool) -> NoCredential:
    return NoCredential(
        f"No key for provider {provider.name}.",
        f"Set {' or '.join(provider.keys)} in the environment of the sidecar"
        + (", or send your own key in the request." if native else "."),
    )


def owner_of(catalog: Catalog, name: str) -> tuple[Provider, str] | None:
    """Where a model is priced, with or without a key: `provider/model`, or a known model's name."""
    first, slash, rest = name.partition("/")
    if slash and first in catalog.known:
        return catalog.known[first], rest
    listed = (each for each in catalog.providers.values() if name in each.models)
    provider = catalog.owner(name) or next(listed, None)
    return None if provider is None else (provider, name)
