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
    """The one target of a call. Raises UnknownModel, Unsupported or NoCredential."""
    own = caller.own_key
    provider, upstream_model = catalog.resolve_model(
        model, dialect.name, caller_key=own is not None
    )
    native = provider.name == dialect.native_provider
    if not provider.has_key and not (own and native):
        raise _no_key(provider, native)
    if own and native and caller.own_bearer:  # as it came: an OAuth token is no API key
        headers = {"authorization": f"Bearer {own}"}
    else:
        headers = provider.headers(dialect.name, own if native else None)
    return Target(provider=provider, model=upstream_model, credential=tuple(headers.items()))


def _no_key(provider: Provider, native: bool) -> NoCredential:
    return NoCredential(
        f"No key for provider {provider.name}.",
        f"Set {' or '.join(provider.keys)} in the environment of the sidecar"
        + (", or send your own key in the request." if native else "."),
    )
