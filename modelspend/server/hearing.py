"""Connections that open and never say what they want are closed.

aiohttp has one limit for a first request that does not come and for an idle connection that is
kept; clients like to keep theirs for a minute, and strangers should not. So the first request of
a connection has a limit of its own here; later ones have the keep-alive limit.
"""

import asyncio
from typing import Any

from aiohttp import web

_LOOKS = 4


class Hearing:
    """Looks at the open connections of a server now and then; start it before any is accepted."""

    def __init__(self, server: web.Server, limit_s: float) -> None:
        self._server = server
        self._limit_s = limit_s
        self._make_request: Any = server.request_factory
        self._heard: set[object] = set()
        self._since: dict[object, float] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._server.request_factory = self._request
        self._later()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _request(self, message: Any, payload: Any, protocol: object, *rest: Any) -> web.BaseRequest:
        self._heard.add(protocol)
        made: web.BaseRequest = self._make_request(message, payload, protocol, *rest)
        return made

    def _later(self) -> None:
        self._timer = self._loop.call_later(self._limit_s / _LOOKS, self._look)

    def _look(self) -> None:
        now, there = self._loop.time(), self._server.connections
        self._heard.intersection_update(there)
        silent = [each for each in there if each not in self._heard]
        self._since = {each: self._since.get(each, now) for each in silent}
        for each in silent:
            if now - self._since[each] >= self._limit_s:
                each.force_close()
        self._later()
