"""One POST to a sink: bounded in time and size, no redirect, no proxy, no cookie, no strange place.

Hides aiohttp and every way in which a far end misbehaves: it refuses, stalls, never ends its
answer, or leads elsewhere. An answer counts from its status on; of its body we read so much, for
so long.
"""

import asyncio
import math
import socket
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from modelspend import __version__
from modelspend.exporters.addresses import Refused, checked, resolved
from modelspend.exporters.brief import BriefAnswers
from modelspend.record import frozen

MOST_BODY = 16 * 1024
_BODY_S = 2.0
_MOST_WAIT_S = 86_400.0


class NotNow(Exception):
    """It could not be sent and may be later; `text` is fit to be shown."""

    def __init__(
        self, text: str, *, after_s: float | None = None, http_status: int | None = None
    ) -> None:
        super().__init__(text)
        self.text, self.after_s, self.http_status = text, after_s, http_status


@frozen
class Answered:
    """`after_s` is what Retry-After asks for; `body` the beginning of it."""

    status: int
    body: bytes
    after_s: float | None = None

    @property
    def ok(self) -> bool:
        """2xx: anything else, a redirect too, is none."""
        return 200 <= self.status < 300

    @property
    def later(self) -> bool:
        """Not taken now, but perhaps later; a redirect is the fault of the moment, too."""
        return self.status in (408, 429) or self.status >= 500 or 300 <= self.status < 400


class Door:
    """The way to one sink. Nothing is opened before the first `post`."""

    def __init__(self, *, allow_private: bool, timeout_s: float) -> None:
        self.allow_private, self.timeout_s = allow_private, timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Door":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answered:
        """Raises NotNow when there is no answer."""
        if not self.allow_private and not url.lower().startswith("https://"):
            raise NotNow("plain http is only for sinks with allow_private = true; use https")
        try:
            host = urlsplit(url).hostname
        except ValueError:
            raise NotNow("its address cannot be read") from None
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._post(url, body, headers)
        except TimeoutError:
            raise NotNow(f"{host} gave no answer within {self.timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NotNow(_said(host, error)) from None

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answered:
        session = self._session = self._session or self._new()
        async with session.post(
            url,
            data=body,
            headers={"accept-encoding": "identity", **headers},
            allow_redirects=False,
        ) as answer:
            said = await _beginning(answer)
            if not answer.content.at_eof():
                answer.close()
            return Answered(answer.status, said, wait_s(answer.headers.get("Retry-After")))

    def _new(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=4,
            use_dns_cache=False,
            resolver=_Names(),
            socket_factory=checked(allow_private=self.allow_private),
        )
        # aiohttp has no public word for it; a test holds that it is heeded.
        brief: Any = partial(BriefAnswers, loop=asyncio.get_running_loop())
        connector._factory = brief
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"user-agent": f"modelspend/{__version__}"},
        )

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class _Names(AbstractResolver):
    """Names as `addresses.resolved` looks them up, in the shape that aiohttp asks for."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = []
        for kind, _, proto, _, place in await resolved(host, port, socket.SOCK_STREAM, family):
            found.append(
                ResolveResult(
                    hostname=host,
                    host=place[0],
                    port=place[1],
                    family=kind,
                    proto=proto,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        return found

    async def close(self) -> None: ...


async def _beginning(answer: aiohttp.ClientResponse) -> bytes:
    said = b""
    try:
        async with asyncio.timeout(_BODY_S):
            while len(said) < MOST_BODY and (part := await answer.content.readany()):
                said += part
    except (TimeoutError, aiohttp.ClientError):
        pass  # its status has been said: what is missing is only the comment on it
    return said[:MOST_BODY]


def _said(host: str | None, error: Exception) -> str:
    """An error without the URL, whose path and query may be a secret."""
    for cause in (error, error.__cause__, getattr(error, "os_error", None)):
        found = _refusal(cause)
        if found is not None:
            return f"{host}: {found}; if it is meant, set allow_private = true for this sink"
    return f"{host} cannot be reached ({type(error).__name__})"


def _refusal(error: BaseException | None) -> Refused | None:
    if isinstance(error, Refused):
        return error
    several = getattr(error, "exceptions", ())
    return next((found for one in several if (found := _refusal(one)) is not None), None)


def wait_s(text: str | None, now_s: float | None = None) -> float | None:
    """What a Retry-After means, in seconds: a number, or a date; None: it says nothing."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        import time

        try:
            then = parsedate_to_datetime(text).timestamp()
        except (ValueError, OverflowError):
            return None
        seconds = then - (time.time() if now_s is None else now_s)
    if not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), _MOST_WAIT_S)
