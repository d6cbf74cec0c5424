"""Who answers, and with whose key.

A model's name decides (see `Catalog.resolve_model`). A key that the caller brought goes to the
native provider of the dialect it came in, and to nobody else; every other provider gets the key
that is configured for it, or the call is refused.
"""

from modelspend.catalog import Catalog, Provider
from modelspend.dialects.dialect import Dialect
from modelspend.errors import NoCredential
from modelspend.gateway.call import Target
from modelspend.gateway.caller import Caller


def choose(catalog: Catalog, dialect: Dialect, model: str, caller: Caller) -> Target:
    """The one target of a call. Raises UnknownModel or NoCredential."""
    own = caller.own_key
    provider, upstream_model = catalog.resolve_model(
        model, dialect.name, caller_key_for=dialect.native_provider if own else None
    )
    return Target(
        provider=provider,
        model=upstream_model,
        credential=_credential(provider, dialect, own),
    )


def _credential(provider: Provider, dialect: Dialect, own: str | None) -> list[tuple[str, str]]:
    if own is not None and provider.name == dialect.native_provider:
        return [provider.auth_header(own)]
    configured = provider.key()
    if configured:
        return [provider.auth_header(configured)]
    if not provider.needs_key:
        return []
    own_too = provider.name == dialect.native_provider
    raise NoCredential(
        f"No key for provider {provider.name}.",
        f"Set {' or '.join(provider.key_env)} in the environment of the sidecar"
        + (", or send your own key in the request." if own_too else "."),
    )
