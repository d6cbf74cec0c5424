"""Fixtures of the dialect tests: the recorded rows, and a loopback server that answers bytes."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from tests.dialects.recorded import DATA, Row, rows


@pytest.fixture(scope="session")
def traffic() -> Callable[[str], tuple[Row, ...]]:
    """The rows of one file; skips where the recorded traffic is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no recorded traffic at {DATA}; set MODELSPEND_DATA")
    return rows


Answering = Callable[[bytes, str, int], Awaitable[str]]


@pytest.fixture
async def answering(aiohttp_server: Any) -> Answering:
    """Start a server that answers every request with these bytes; gives its URL."""

    async def start(body: bytes, content_type: str, status: int = 200) -> str:
        async def answer(request: web.Request) -> web.Response:
            await request.read()
            return web.Response(body=body, status=status, headers={"content-type": content_type})

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        server = await aiohttp_server(app)
        return str(server.make_url("")).rstrip("/")

    return start
