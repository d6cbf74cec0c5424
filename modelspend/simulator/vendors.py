"""How each vendor dresses an answer: error bodies and events, headers, ids.

Shapes were read off recorded traffic; the sentences are ours. They are written apart from
`dialects` on purpose: the simulator judges the sidecar, so it must not borrow the sidecar's idea
of what a vendor's error looks like.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson

from modelspend.simulator.plan import Fault

_ID_PREFIX = {
    "openai.chat": "chatcmpl-",
    "openai.responses": "resp_",
    "openai.embeddings": "embd-",
    "anthropic.messages": "msg_",
    "gemini.generate": "",
}

_OPENAI_ERRORS: Mapping[int, tuple[str, str | None]] = {
    401: ("invalid_request_error", "invalid_api_key"),
    402: ("insufficient_quota", "insufficient_quota"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
    503: ("server_error", "server_overloaded"),
    529: ("server_error", "server_overloaded"),
}

_ANTHROPIC_ERRORS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

_GEMINI_ERRORS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}

_MESSAGES = {
    400: "The simulator was told to find this request invalid.",
    401: "The simulator was told to refuse this key.",
    402: "The simulator was told that this account has no credit left.",
    403: "The simulator was told that this key may not do this.",
    404: "The simulator was told that this does not exist.",
    408: "The simulator was told that the request took too long.",
    409: "The simulator was told of a conflict; try again.",
    413: "The simulator was told that this request is too large.",
    422: "The simulator was told that it cannot process this request.",
    429: "The simulator was told to limit the rate; slow down.",
    503: "The simulator was told to be overloaded; try again later.",
    504: "The simulator was told to run out of time.",
    529: "The simulator was told to be overloaded; try again later.",
}


def identity(seed: int, n: int, kind: str = "") -> str:
    """24 letters that depend on nothing but the seed, the request's number and what they name."""
    return sha256(f"{seed}/{n}/{kind}".encode()).hexdigest()[:24]


def answer_id(dialect: str, seed: int, n: int) -> str:
    return _ID_PREFIX.get(dialect, "") + identity(seed, n, "answer")


def request_id(seed: int, n: int) -> str:
    """The request id in the headers, and in the log: a receipt's upstream id joins the two."""
    return "req_" + identity(seed, n, "request")


def message(fault: Fault) -> str:
    if fault.message:
        return fault.message
    known = _MESSAGES.get(fault.status)
    text = known or f"The simulator was told to fail with status {fault.status}."
    if fault.retry_after_s is not None:
        text += f" Retry in {fault.retry_after_s} s."
    return text


def error_document(dialect: str, fault: Fault, request: str) -> dict[str, Any]:
    """The JSON error of the dialect's vendor for that status."""
    if dialect.startswith("anthropic"):
        kind = _anthropic_kind(fault)
        told = {"type": kind, "message": message(fault)}
        return {"type": "error", "error": told, "request_id": request}
    if dialect.startswith("gemini"):
        return {"error": _google_error(fault)}
    return {"error": _openai_error(fault)}


def error_event(dialect: str, fault: Fault, request: str) -> bytes:
    """The same error as an event in the middle of a stream."""
    if fault.failed_event and dialect == "openai.responses":
        return _failed_response(fault, request)
    document = error_document(dialect, fault, request)
    if dialect == "openai.responses":
        document = {"type": "error", "sequence_number": 0, **document}
    name = {"openai.responses": "error", "anthropic.messages": "error"}.get(dialect)
    return _event(name, document)


def headers(dialect: str, request: str, n: int) -> dict[str, str]:
    """What the vendor adds to every answer."""
    left = str(9_999 - n % 1_000)
    if dialect.startswith("anthropic"):
        return {
            "request-id": request,
            "anthropic-organization-id": "org-simulated",
            "anthropic-ratelimit-requests-limit": "10000",
            "anthropic-ratelimit-requests-remaining": left,
            "anthropic-ratelimit-requests-reset": "2030-01-01T00:00:00Z",
        }
    if dialect.startswith("gemini"):
        return {"server-timing": "gfet4t7; dur=1", "x-goog-request-id": request}
    return {
        "x-request-id": request,
        "openai-organization": "org-simulated",
        "openai-processing-ms": "1",
        "openai-version": "2020-10-01",
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-remaining-requests": left,
        "x-ratelimit-reset-requests": "6ms",
    }


def error_headers(dialect: str, fault: Fault) -> dict[str, str]:
    """What the vendor adds to an error; Google tells the wait in the body alone."""
    out: dict[str, str] = {}
    if fault.should_retry is not None:
        out["x-should-retry"] = "true" if fault.should_retry else "false"
    if fault.retry_after_s is not None and not dialect.startswith("gemini"):
        out["retry-after"] = str(fault.retry_after_s)
        if dialect.startswith("openai"):
            out["retry-after-ms"] = str(fault.retry_after_s * 1000)
    if fault.status == 429 and dialect.startswith("anthropic"):
        out["anthropic-ratelimit-requests-remaining"] = "0"
    elif fault.status == 429 and dialect.startswith("openai"):
        out["x-ratelimit-remaining-requests"] = "0"
    return out


def _anthropic_kind(fault: Fault) -> str:
    if fault.code:
        return fault.code
    usual = "invalid_request_error" if fault.status < 500 else "api_error"
    return _ANTHROPIC_ERRORS.get(fault.status, usual)


def _openai_error(fault: Fault) -> dict[str, Any]:
    usual = ("invalid_request_error" if fault.status < 500 else "server_error", None)
    kind, code = _OPENAI_ERRORS.get(fault.status, usual)
    if fault.code:
        kind, code = fault.code, fault.code
    return {"message": message(fault), "type": kind, "param": fault.param, "code": code}


def _google_error(fault: Fault) -> dict[str, Any]:
    usual = "INVALID_ARGUMENT" if fault.status < 500 else "INTERNAL"
    told: dict[str, Any] = {
        "code": fault.status,
        "message": message(fault),
        "status": _GEMINI_ERRORS.get(fault.status, usual),
    }
    if fault.retry_after_s is not None:
        told["details"] = [
            {
                "@type": "type.googleapis.com/google.rpc.RetryInfo",
                "retryDelay": f"{fault.retry_after_s}s",
            }
        ]
    return told


def _failed_response(fault: Fault, request: str) -> bytes:
    """A response whose status is `failed`."""
    told = {"code": "server_error", "message": message(fault)}
    response = {
        "id": request.replace("req_", "resp_"),
        "object": "response",
        "created_at": 0,
        "status": "failed",
        "error": told,
        "incomplete_details": None,
        "model": "simulated",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }
    document = {"type": "response.failed", "sequence_number": 0, "response": response}
    return _event("response.failed", document)


def _event(name: str | None, document: Mapping[str, Any]) -> bytes:
    head = b"event: " + name.encode() + b"\n" if name else b""
    return head + b"data: " + orjson.dumps(document) + b"\n\n"
