"""A decision without a call: what the live path would decide about the same request.

`POST /v1/route` and `modelspend route` both come here. A prompt alone is asked as `auto`; a body is
asked as it stands, with the mode and the profile that it would meet. Nothing is sent and nothing is
written; where no provider is configured at all, the profile's models are weighed as if they were.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from modelspend.dialects import DIALECTS
from modelspend.errors import BadRequest
from modelspend.gateway.caller import supposed
from modelspend.gateway.conversations import session_of
from modelspend.gateway.passage import Request, passage
from modelspend.gateway.router import Router, Ruling
from modelspend.receipt_json import explanation

_PATHS = {
    "openai.chat": "/v1/chat/completions",
    "openai.responses": "/v1/responses",
    "openai.embeddings": "/v1/embeddings",
    "anthropic.messages": "/v1/messages",
    "anthropic.count_tokens": "/v1/messages/count_tokens",
    "gemini.generate": "/v1beta/models/{model}:generateContent",
}


async def decide(
    said: Mapping[str, Any],
    router: Router,
    fingerprint: Callable[[bytes, str], str],
    now_ms: int,
) -> dict[str, Any]:
    """The decision about `{"prompt"}` or `{"body", "dialect"?, "path"?, "headers"?}` as JSON.

    Raises BadRequest for what cannot be read, and whatever the live path would raise.
    """
    headers = _headers(said)
    request = _request(said, headers)
    view = request.dialect.read(f"{request.path}?{request.query}", request.body)
    keyed = any(tenant.keys for tenant in router.settings.tenants.values())
    caller = supposed(headers, request.query, keyed=keyed)
    session_id, _ = session_of(request, view, caller, fingerprint)
    ruling = await router.decide(
        request, view, caller, session_id=session_id, now_ms=now_ms, dry=True
    )
    if ruling.target is not None:
        passage(request, view, ruling.target)  # what cannot be said there is refused here, too
    return _told(ruling, view.model)


def _told(ruling: Ruling, asked: str) -> dict[str, Any]:
    found, decision = ruling.found, ruling.decision
    told = explanation("", found, decision, ruling.plan.candidates)
    return {
        "tier": found.tier if found else None,
        "selected_model": decision.model_id,
        "provider": decision.provider,
        "confidence": found.confidence if found else None,
        "complexity": found.complexity if found else None,
        "category": found.category if found else None,
        "risk_signals": dict(found.risk_signals) if found else {},
        "candidates": told["candidates"],
        "fallback_chain": list(decision.fallback_chain),
        "rationale": list(decision.rationale),
        "asked_model": asked,
        "mode": decision.mode,
        "profile": decision.profile,
        "strategy": decision.strategy,
        "applied": decision.applied,
        "inputs": decision.inputs,
    }


def _request(said: Mapping[str, Any], headers: list[tuple[str, str]]) -> Request:
    prompt, body = said.get("prompt"), said.get("body")
    if (prompt is None) == (body is None):
        raise BadRequest(
            "There must be either a prompt or a body.",
            'Send {"prompt": "…"}, or {"body": {…}} with the request as an app would send it.',
        )
    if prompt is not None:
        if not isinstance(prompt, str):
            raise BadRequest("`prompt` is not text.", 'Send {"prompt": "…"}.', field="prompt")
        model = said.get("model", "auto")
        body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
        dialect = "openai.chat"
    else:
        dialect = _dialect(said)
    path, query, named = _path(said, dialect)
    if isinstance(body, dict) and not named and "model" not in body:
        body = {"model": said.get("model", "auto"), **body}
    sent = body.encode() if isinstance(body, str) else orjson.dumps(body)
    return Request(dialect=DIALECTS[dialect], path=path, query=query, headers=headers, body=sent)


def _dialect(said: Mapping[str, Any]) -> str:
    """The dialect that is named, or that the path or the shape of the body tells."""
    named = said.get("dialect")
    if named is not None:
        if named not in DIALECTS:
            known = ", ".join(DIALECTS)
            raise BadRequest(f"{named!r} is no dialect.", f"Known: {known}.", field="dialect")
        return str(named)
    path = str(said.get("path") or "").partition("?")[0]
    bare = path.removeprefix("/v1")
    for name, form in _PATHS.items():
        if bare and bare == form.removeprefix("/v1"):
            return name
    body = said.get("body")
    if ":generateContent" in path or ":streamGenerateContent" in path:
        return "gemini.generate"
    if isinstance(body, dict):
        if "contents" in body:
            return "gemini.generate"
        if "input" in body:
            return "openai.responses"
    return "openai.chat"


def _path(said: Mapping[str, Any], dialect: str) -> tuple[str, str, bool]:
    """(path, query, whether the path itself names the model)."""
    given = said.get("path")
    if given is not None and not isinstance(given, str):
        raise BadRequest("`path` is not text.", "Send the path of the call.", field="path")
    in_path = dialect == "gemini.generate"
    form = given or _PATHS[dialect].replace("{model}", str(said.get("model") or "auto"))
    path, _, query = form.partition("?")
    return path, query, in_path


def _headers(said: Mapping[str, Any]) -> list[tuple[str, str]]:
    given = said.get("headers", {})
    if not isinstance(given, dict) or not all(isinstance(each, str) for each in given.values()):
        raise BadRequest(
            "`headers` is not an object of texts.",
            'Send {"headers": {"x-modelspend-tenant": "…"}}.',
            field="headers",
        )
    return list(given.items())
