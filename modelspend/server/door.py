"""The door, in plain values: who may speak to us at all, and how an error is told.

A page in a browser can reach any port of this machine, and after DNS rebinding its requests carry
no Origin: only the Host header gives it away, so every request is checked for it first. Errors on
the data plane are told in the caller's dialect, on the control plane as problem+json; this is the
only place in the server that turns an error into words.
"""

import logging
from pathlib import PurePath
from traceback import walk_tb

from modelspend.dialects import DIALECTS
from modelspend.dialects.dialect import Dialect
from modelspend.errors import BadRequest, Forbidden, ModelspendError, WrongHost
from modelspend.gateway.headers import Pairs
from modelspend.money import dumps
from modelspend.record import frozen
from modelspend.server.keys import Live

log = logging.getLogger("modelspend")

_SCHEME = len("http://")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


@frozen
class Told:
    """An error as the answer that this caller's client library understands."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def check(live: Live, target: str, headers: Pairs) -> None:
    """May this request come in? Raises BadRequest, WrongHost or Forbidden."""
    if not target.startswith("/") or target.startswith("//"):
        raise BadRequest(
            "The request target is not a path.", "Send origin-form requests: `POST /v1/…`."
        )
    hosts, origin, site = [], None, "none"
    for name, value in headers:
        match name.lower():
            case "host":
                hosts.append(value)
            case "origin":
                origin = value
            case "sec-fetch-site":
                site = value
    _check_host(live, hosts)
    _check_origin(live, origin, site)


def tell(live: Live, path: str, error: ModelspendError) -> Told:
    """Words for an error on this path; a rejection that leaves no receipt is counted."""
    headers = [("x-should-retry", "true" if error.retryable else "false")]
    if error.retry_after_s is not None:
        headers.append(("retry-after", str(max(1, round(error.retry_after_s)))))
    if error.receipt_id:
        headers.append(("x-modelspend-receipt", error.receipt_id))
    else:  # DESIGN.md section 9
        live.rejected[error.code] = live.rejected.get(error.code, 0) + 1
    dialect = _dialect_of(path)
    if dialect is not None:
        body, kind = dialect.error_body(error), "application/json"
    else:
        body, kind = _problem(error), "application/problem+json"
    return Told(error.status, [("content-type", kind), *headers], body)


def our_fault(error: Exception) -> ModelspendError:
    """Whatever we did not foresee, by its kind and place: its text may hold a key or a prompt."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    ours = [each for each in frames if "modelspend" in each.f_code.co_filename] or frames
    place = f"{PurePath(ours[-1].f_code.co_filename).name}:{ours[-1].f_lineno}"
    log.error("fault of modelspend itself: %s at %s", type(error).__name__, place)
    return ModelspendError(
        f"The sidecar itself failed: {type(error).__name__} at {place}.",
        "Please report it; what was sent upstream has its receipt at the latest after a restart.",
    )


def _dialect_of(path: str) -> Dialect | None:
    """The dialect of a data-plane path, also of one that we do not serve; None elsewhere."""
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


def _check_host(live: Live, hosts: list[str]) -> None:
    if len(hosts) == 1 and hosts[0] == live.url[_SCHEME:]:
        return  # the address that we print, spelled as we print it
    if len(hosts) != 1 or not _is_ours(hosts[0], live.url, live.settings.server.allowed_hosts):
        raise WrongHost(
            "The Host header names another server.",
            "Use http://127.0.0.1 or localhost with our port, or add the name to"
            " server.allowed_hosts.",
        )


def _check_origin(live: Live, origin: str | None, site: str) -> None:
    """No page of another origin; also not one whose browser hides its origin."""
    if origin is not None and not (
        origin.startswith("http://")
        and _is_ours(origin[_SCHEME:], live.url, live.settings.server.allowed_hosts)
    ):
        raise Forbidden("A page of another origin may not call this sidecar.", "Call it from code.")
    if site not in ("none", "same-origin"):
        raise Forbidden("A page of another site may not call this sidecar.", "Call it from code.")


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
