"""Which models can be asked for: what the configuration names, and what each provider lists.

A provider's own list is fetched when somebody asks, and kept for a while; one that does not answer
in time leaves its configured names, and is asked again next time. The caller's own key is never
used here: a list must not depend on who asked first.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from modelspend.catalog import Catalog, Provider
from modelspend.gateway.upstream import AttemptFailed, Timeouts, Upstream
from modelspend.gateway.whole import read_whole

_KEEP_S = 300.0
_LIMITS = Timeouts(connect_s=2.0, first_byte_s=4.0, idle_s=2.0, total_s=6.0)
_LONGEST_LIST = 4 * 1024 * 1024


@dataclass(slots=True)
class Models:
    """The union of all lists; one for each process."""

    upstream: Upstream
    _lists: dict[str, tuple[float, tuple[str, ...]]] = field(default_factory=dict)

    async def all(self, catalog: Catalog) -> list[tuple[str, str]]:
        """(provider, model) of every model, providers in the order of the configuration."""
        providers = list(catalog.providers.values())
        lists = await asyncio.gather(*(self._of(provider) for provider in providers))
        return [
            (provider.name, model)
            for provider, listed in zip(providers, lists, strict=True)
            for model in dict.fromkeys((*provider.models, *listed))
        ]

    async def _of(self, provider: Provider) -> tuple[str, ...]:
        now = asyncio.get_running_loop().time()
        kept = self._lists.get(provider.name)
        if kept is not None and now < kept[0]:
            return kept[1]
        url = provider.models_url()
        if url is None or not provider.has_key:
            return ()
        try:
            listed = await self._fetch(provider, url)
        except AttemptFailed:
            return kept[1] if kept else ()
        self._lists[provider.name] = (now + _KEEP_S, listed)
        return listed

    async def _fetch(self, provider: Provider, url: str) -> tuple[str, ...]:
        headers = [*provider.headers(provider.dialects[0]).items(), ("accept-encoding", "identity")]
        reply = await self.upstream.send(
            provider.name, url, method="GET", headers=headers, body=b"", timeouts=_LIMITS
        )
        try:
            body = await read_whole(reply, _LONGEST_LIST)
        finally:
            reply.close()
        return _names(body) if reply.status == 200 else ()


def _names(body: bytes) -> tuple[str, ...]:
    """The ids of a list in OpenAI's, Anthropic's or Google's shape; empty for any other."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ()
    rows = told if isinstance(told, list) else []
    if isinstance(told, Mapping):
        rows = told.get("data") or told.get("models") or []
    names = (row.get("id") or row.get("name") for row in rows if isinstance(row, Mapping))
    return tuple(name.removeprefix("models/") for name in names if isinstance(name, str))
