"""The door: who may speak to us at all, and how an error is told.

A page in a browser can reach any port of this machine, and after DNS rebinding its requests carry
no Origin: only the Host header gives it away, so every route checks it first. Errors on the data
plane are told in the caller's dialect, on the control plane as problem+json; this is the only
place in the server that turns an error into words.
"""

import hmac
import logging
from collections.abc import Awaitable, Callable
from pathlib import PurePath
from traceback import walk_tb

from aiohttp import web

from modelspend.dialects import DIALECTS
from modelspend.dialects.dialect import Dialect
from modelspend.errors import (
    BadRequest,
    BodyTooLarge,
    Forbidden,
    ModelspendError,
    NotAuthorised,
    UnknownRoute,
    Unsupported,
    WrongHost,
)
from modelspend.money import dumps
from modelspend.server.keys import LIVE

log = logging.getLogger("modelspend")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SCHEME = len("http://")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Check the door, run the handler, tell what went wrong."""
    try:
        _check_target(request)
        _check_host(request)
        _check_origin(request)
        return await handler(request)
    except ModelspendError as error:
        _count(request, error)
        return tell(request, error)
    except web.HTTPException as error:
        answer = tell(request, _routing_error(request, error))
        if isinstance(error, web.HTTPMethodNotAllowed):
            answer.headers["allow"] = ", ".join(sorted(error.allowed_methods))
        return answer
    except ConnectionError:
        raise  # the client is gone: there is nobody to tell
    except Exception as error:
        return tell(request, _our_fault(error))


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


def tell(request: web.Request, error: ModelspendError) -> web.Response:
    """An error as the answer that this caller's client library understands."""
    headers = {"x-should-retry": "true" if error.retryable else "false"}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    if error.receipt_id:
        headers["x-modelspend-receipt"] = error.receipt_id
    dialect = dialect_of(request)
    if dialect is not None:
        body, kind = dialect.error_body(error), "application/json"
    else:
        body, kind = _problem(error), "application/problem+json"
    return web.Response(status=error.status, body=body, content_type=kind, headers=headers)


def dialect_of(request: web.Request) -> Dialect | None:
    """The dialect of a data-plane path, also of one that we do not serve; None elsewhere."""
    path = request.path
    if ":" in path.rsplit("/", 1)[-1] or path.startswith("/v1beta"):
        return DIALECTS["gemini.generate"]
    bare = path.removeprefix("/v1")
    if bare.startswith("/messages"):
        return DIALECTS["anthropic.messages"]
    if bare.startswith("/responses"):
        return DIALECTS["openai.responses"]
    if bare.startswith("/embeddings"):
        return DIALECTS["openai.embeddings"]
    if bare.startswith(("/chat", "/completions", "/models")):
        return DIALECTS["openai.chat"]
    return None


def _problem(error: ModelspendError) -> bytes:
    return dumps(
        {
            "type": f"urn:modelspend:{error.code}",
            "title": error.code,
            "status": error.status,
            "detail": error.message,
            "hint": error.hint,
            "field": error.field,
            "receipt_id": error.receipt_id,
        }
    )


def _check_target(request: web.Request) -> None:
    if not request.raw_path.startswith("/") or request.raw_path.startswith("//"):
        raise BadRequest(
            "The request target is not a path.", "Send origin-form requests: `POST /v1/…`."
        )


def _check_host(request: web.Request) -> None:
    hosts = request.headers.getall("Host", [])
    live = request.app[LIVE]
    if len(hosts) == 1 and hosts[0] == live.url[_SCHEME:]:
        return  # the address that we print, spelled as we print it
    if len(hosts) != 1 or not _is_ours(hosts[0], live.url, live.settings.server.allowed_hosts):
        raise WrongHost(
            "The Host header names another server.",
            "Use http://127.0.0.1 or localhost with our port, or add the name to"
            " server.allowed_hosts.",
        )


def _is_ours(host: str, url: str, allowed: tuple[str, ...]) -> bool:
    name, port = split_host(host)
    own_name, own_port = split_host(url.removeprefix("http://"))
    if name in allowed:
        return True
    return (name in _LOOPBACK or name == own_name) and port == own_port


def split_host(host: str) -> tuple[str, str]:
    """(name, port) of a Host header, in lower case; the port is "80" when none is given."""
    name, colon, port = host.lower().rpartition(":")
    if not colon or port.endswith("]"):
        return host.lower(), "80"
    return name, port


def _check_origin(request: web.Request) -> None:
    """No page of another origin; also not one whose browser hides its origin."""
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "none")
    live = request.app[LIVE]
    if origin is not None and not (
        origin.startswith("http://")
        and _is_ours(origin.removeprefix("http://"), live.url, live.settings.server.allowed_hosts)
    ):
        raise Forbidden("A page of another origin may not call this sidecar.", "Call it from code.")
    if site not in ("none", "same-origin"):
        raise Forbidden("A page of another site may not call this sidecar.", "Call it from code.")


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
        return _too_large(request)
    return UnknownRoute(
        f"{request.method} {request.path} is not served: what cannot be metered is not carried.",
        "See `modelspend help http` for the routes.",
    )


def _too_large(request: web.Request) -> ModelspendError:
    limit = request.app[LIVE].settings.server.max_body_mib
    return BodyTooLarge(
        f"The body is larger than {limit} MiB.", "Raise server.max_body_mib if it is meant to be."
    )


def _our_fault(error: Exception) -> ModelspendError:
    """Whatever we did not foresee, by its kind and place: its text may hold a key or a prompt."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    ours = [each for each in frames if "modelspend" in each.f_code.co_filename] or frames
    place = f"{PurePath(ours[-1].f_code.co_filename).name}:{ours[-1].f_lineno}"
    log.error("fault of modelspend itself: %s at %s", type(error).__name__, place)
    return ModelspendError(
        f"The sidecar itself failed: {type(error).__name__} at {place}.",
        "Please report it; what was sent upstream has its receipt at the latest after a restart.",
    )


class NoWebSocket(Unsupported):
    """426 tells clients that try a WebSocket first to fall back to HTTP at once."""

    code, status = "no_websocket", 426


class WrongMethod(Unsupported):
    code, status = "wrong_method", 405


def _count(request: web.Request, error: ModelspendError) -> None:
    """Rejections that leave no receipt are counted (DESIGN.md section 9)."""
    rejected = request.app[LIVE].rejected
    if error.receipt_id is None:
        rejected[error.code] = rejected.get(error.code, 0) + 1
