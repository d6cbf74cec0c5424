"""A real sidecar in this process, in front of a simulated provider that plays every vendor."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import tomli_w
from aiohttp import web

from modelspend import settings
from modelspend.receipt import Receipt
from modelspend.server.app import Started
from modelspend.server.keys import LIVE, STORE
from modelspend.server.run import serving
from modelspend.store import Filter, Stored

ALL_DIALECTS = [
    "openai.chat",
    "openai.responses",
    "openai.embeddings",
    "anthropic.messages",
    "gemini.generate",
]
CUT = b"\0cut off"
PRICE = {"input": 1, "output": 2, "cache_read": 0.1, "cache_write_5m": 1.25}


@dataclass(slots=True)
class Sidecar:
    """A running sidecar and a client session towards it."""

    app: web.Application
    client: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return self.app[LIVE].url

    @property
    def token(self) -> str:
        return self.app[LIVE].token

    @property
    def store(self) -> Any:
        return self.app[STORE]

    @property
    def gateway(self) -> Any:
        return self.app[LIVE].gateway

    @property
    def app_settings(self) -> settings.Settings:
        return self.app[LIVE].settings

    async def stored(self, limit: int = 1000) -> list[Stored]:
        """Every receipt so far, oldest first; waits for calls that are still settling."""
        while self.gateway.in_flight or await self.store.calls.open_count():
            await asyncio.sleep(0)
        return list(await self.store.receipts.after(0, Filter(), limit=limit))

    async def receipts(self) -> list[Receipt]:
        return [one.receipt for one in await self.stored()]

    async def receipt_of(self, headers: Mapping[str, str]) -> Receipt:
        """The receipt that an answer names in its headers."""
        found = await self.store.receipts.get(headers["x-modelspend-receipt"])
        assert found is not None, "the answer names a receipt that is not in the ledger"
        return found.receipt

    async def receipt(self) -> Receipt:
        """The one receipt there is."""
        (only,) = await self.receipts()
        return only

    async def post(
        self, path: str, body: Any, **options: Any
    ) -> tuple[int, Mapping[str, str], bytes]:
        """(status, headers, body) of a POST; `body` is JSON to be, or bytes as they are.

        An answer that is cut off gives what came of it, without its end.
        """
        data = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self.client.post(self.url + path, **data, **options) as answer:
            parts = []
            try:
                async for part in answer.content.iter_any():
                    parts.append(part)  # noqa: PERF401  # what came before a cut is kept
            except aiohttp.ClientPayloadError:
                parts.append(CUT)
            return answer.status, answer.headers, b"".join(parts)

    async def wire(self, head: bytes, body: bytes | None = None) -> tuple[bytes, bytes]:
        """(status line, all of the answer) of a request as bytes, for what no client would send.

        `HOST` stands for the sidecar's own; with a `body` its length is told.
        """
        place = self.url.removeprefix("http://")
        reader, writer = await asyncio.open_connection(*place.split(":"))
        length = b"" if body is None else b"content-length: %d\r\n" % len(body)
        chunked = b"\r\n\r\n" in head
        end = b"" if chunked else b"connection: close\r\n\r\n"
        writer.write(head.replace(b"HOST", place.encode()) + length + end + (body or b""))
        answer = await reader.read()
        writer.close()
        return answer.partition(b"\r\n")[0], answer


@asynccontextmanager
async def sidecar_for(
    folder: Path,
    provider: str,
    *,
    env: Mapping[str, str] | None = None,
    **sections: Any,
) -> AsyncIterator[Sidecar]:
    """A sidecar whose provider `sim` (and whatever `sections` add) lies at that address.

    It asks once and leaves nobody alone, unless `retries` and `circuits` say otherwise.
    """
    providers = {
        "sim": {
            "base_url": f"{provider}/v1",
            "dialects": ALL_DIALECTS,
            "price": PRICE,
        },
        **sections.pop("providers", {}),
    }
    tree = {
        "server": {"port": 0, **sections.pop("server", {})},
        "store": {"path": str(folder / "ledger.db"), **sections.pop("store", {})},
        "providers": providers,
        "retries": {"max_attempts": 1},
        "circuits": {"enabled": False},
        **sections,
    }
    folder.mkdir(exist_ok=True)
    file = folder / "config.toml"
    file.write_text(tomli_w.dumps(tree))
    loaded = settings.load(file, env or {})
    started = Started(
        loaded, loaded.ledger, env or {}, reload=lambda: settings.load(file, env or {})
    )
    async with serving(started) as app, aiohttp.ClientSession(auto_decompress=False) as client:
        yield Sidecar(app, client)
