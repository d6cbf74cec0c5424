"""The yardstick: the least that a proxy made of aiohttp can do, tuned as well as we know how.

It reads the body, sends it on, and copies the answer back, whole or as it streams: no receipt, no
parsing, no checks. What the sidecar costs is told as a multiple of this. Prints its address.
"""

import asyncio
import gc
import sys

import uvloop
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web

_OURS = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "keep-alive"}
)
_PATIENCE = ClientTimeout(total=None, sock_connect=5)


class PassThrough:
    """Hands every request to one upstream."""

    def __init__(self, upstream: str, session: ClientSession) -> None:
        self._upstream = upstream
        self._session = session

    async def carry(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name: v for name, v in request.headers.items() if name.lower() not in _OURS}
        url = self._upstream + request.path_qs
        async with self._session.post(url, data=body, headers=headers) as answer:
            if answer.content_type != "text/event-stream":
                whole = await answer.read()
                return web.Response(
                    status=answer.status, body=whole, content_type=answer.content_type
                )
            head = {"content-type": "text/event-stream", "cache-control": "no-cache"}
            stream = web.StreamResponse(status=answer.status, headers=head)
            await stream.prepare(request)
            async for chunk in answer.content.iter_any():
                await stream.write(chunk)
            await stream.write_eof()
            return stream


async def main(upstream: str) -> None:
    session = ClientSession(
        connector=TCPConnector(limit=0, keepalive_timeout=60),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        timeout=_PATIENCE,
    )
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/chat/completions", PassThrough(upstream, session).carry)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    gc.freeze()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
