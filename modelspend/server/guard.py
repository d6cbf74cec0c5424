"""The door of all that aiohttp serves: each request passes here, and each error is told here.

What may come in and how an error is worded is said once, in `door.py`; the quick lane asks there,
too. This file only knows how aiohttp spells a request and an answer.
"""

import hmac
from collections.abc import Awaitable, Callable

from aiohttp import web
from multidict import CIMultiDict

from modelspend.errors import (
    BodyTooLarge,
    ModelspendError,
    NotAuthorised,
    UnknownRoute,
    Unsupported,
)
from modelspend.gateway.headers import Pairs, text_of
from modelspend.server import door
from modelspend.server.keys import LIVE

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Check the door, run the handler, tell what went wrong."""
    try:
        door.check(request.app[LIVE], request.raw_path, headers_of(request))
        return await handler(request)
    except ModelspendError as error:
        return _tell(request, error)
    except web.HTTPException as error:
        answer = _tell(request, _routing_error(request, error))
        if isinstance(error, web.HTTPMethodNotAllowed):
            answer.headers["allow"] = ", ".join(sorted(error.allowed_methods))
        return answer
    except ConnectionError:
        raise  # the client is gone: there is nobody to tell
    except Exception as error:
        return _tell(request, door.our_fault(error))


def headers_of(request: web.Request) -> Pairs:
    """The headers as they came, in order."""
    return [(text_of(name), text_of(value)) for name, value in request.raw_headers]


def require_token(request: web.Request) -> None:
    """The control plane's local token. Raises NotAuthorised."""
    live = request.app[LIVE]
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(
        token.strip().encode("utf-8", "surrogateescape"), live.token.encode()
    ):
        raise NotAuthorised(
            "The control plane needs the local token.",
            f"Send `Authorization: Bearer` with the content of {live.token_file}.",
        )


def _tell(request: web.Request, error: ModelspendError) -> web.Response:
    told = door.tell(request.app[LIVE], request.path, error)
    return web.Response(status=told.status, body=told.body, headers=CIMultiDict(told.headers))


def _routing_error(request: web.Request, error: web.HTTPException) -> ModelspendError:
    if error.status == 405:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return NoWebSocket(
                "This sidecar does not speak WebSocket.", "POST the same path over HTTP."
            )
        return WrongMethod(
            f"{request.method} is not served on {request.path}.", "See `modelspend help http`."
        )
    if error.status == 413:
        limit = request.app[LIVE].settings.server.max_body_mib
        return BodyTooLarge(
            f"The body is larger than {limit} MiB.",
            "Raise server.max_body_mib if it is meant to be.",
        )
    return UnknownRoute(
        f"{request.method} {request.path} is not served: what cannot be metered is not carried.",
        "See `modelspend help http` for the routes.",
    )


class NoWebSocket(Unsupported):
    """426 tells clients that try a WebSocket first to fall back to HTTP at once."""

    code, status = "no_websocket", 426


class WrongMethod(Unsupported):
    code, status = "wrong_method", 405
