"""Which answers may be kept and given again: to the very same request of the same caller.

The key covers tenant, credential, model and everything that was said, in the body, the query and
the headers: a header that we have never heard of makes another key. What is left out is a closed
list of names that no provider answers differently for. Streams are kept as streams: `stream` is
part of what was said, so an answer is only ever replayed in the form in which it came.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

import orjson

from modelspend.errors import BadRequest
from modelspend.record import record

if TYPE_CHECKING:
    from modelspend.settings import Settings

Word = Literal["on", "off", "refresh", "tools"]

HEADER = "x-modelspend-cache"
WORDS: Mapping[Word, str] = {
    "on": "take a kept answer, and keep a new one",
    "off": "neither take nor keep",
    "refresh": "ask the provider anew, and keep what it answers",
    "tools": "as on, and keep an answer that calls tools too",
}
"""What a caller may say in the header, and what it does."""


@record
class Policy:
    """What may be done for one call. `tools` and `sampled`: such answers are kept too."""

    take: bool = False
    keep: bool = False
    tools: bool = False
    sampled: bool = False
    ttl_ms: int = 0


OFF = Policy()


@record
class Kept:
    """An answer as its client got it, and the receipt that it was paid on."""

    key: bytes
    tenant: str
    created_at_ms: int
    expires_at_ms: int
    dialect: str
    stream: bool
    seq: int
    receipt_id: str
    provider: str
    model: str
    cost_pico: int | None
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def word(said: str | None) -> Word | None:
    """The caller's word on caching. Raises BadRequest for any other."""
    if said is None or not said.strip():
        return None
    asked = said.strip().lower()
    for known in WORDS:
        if asked == known:
            return known
    raise BadRequest(
        f"Header {HEADER} is none of {', '.join(WORDS)}.",
        f"Send one of them, or leave it out: {HEADER}: on",
        field=HEADER,
    )


def policy(
    settings: "Settings",
    tenant: str,
    workflow: str | None,
    said: Word | None,
    *,
    bodies_kept: bool,
) -> Policy:
    """What holds for a call: what it says itself, then its workflow, its tenant, the whole.

    Nothing is kept for a tenant that has said no, or whose bodies are not kept.
    """
    general = settings.cache
    payer = settings.tenants.get(tenant)
    job = settings.workflows.get(workflow) if workflow else None
    if said == "off" or not bodies_kept or (payer is not None and payer.cache is False):
        return OFF
    sections = [section for section in (job, payer) if section is not None]
    enabled = next((s.cache for s in sections if s.cache is not None), general.enabled)
    if said is None and not enabled:
        return OFF
    ttl_s = next((s.cache_ttl_s for s in sections if s.cache_ttl_s is not None), general.ttl_s)
    return Policy(
        take=said != "refresh",
        keep=True,
        tools=said == "tools" or general.tools,
        sampled=said is not None or general.sampled,
        ttl_ms=round(ttl_s * 1000),
    )


def key(
    *,
    tenant: str,
    credential: str | None,
    dialect: str,
    operation: str,
    provider: str,
    model: str,
    query: str,
    headers: Iterable[tuple[str, str]],
    fields: Mapping[str, Any],
) -> bytes | None:
    """What a request and all that are the same have in common; None where none is the same.

    `credential` is a fingerprint of the key that came with the call, `provider` and `model` are who
    is asked, `query` has no key in it. The order of JSON members and the whitespace between them
    do not count, every value does. Calls that change a state at the provider have no key.
    """
    if dialect not in _DIALECTS or any(fields.get(name) for name in _STATEFUL):
        return None
    said = sorted((name.lower(), value) for name, value in headers if _counts(name.lower()))
    asked = [tenant, credential, dialect, operation, provider, model, query, said, fields]
    try:
        text = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        return None
    if _EXPONENT.search(text) and not _distinct(fields):
        return None
    return sha256(text).digest()


def _counts(name: str) -> bool:
    return name not in _SAYS_NOTHING and not name.startswith(_SAY_NOTHING)


def _distinct(value: Any) -> bool:
    """False where two numbers may have become one: whole ones of more than 64 bits are read as
    floats."""
    if isinstance(value, float):
        return abs(value) < 2**53
    if isinstance(value, Mapping):
        return all(map(_distinct, value.values()))
    return all(map(_distinct, value)) if isinstance(value, list) else True


_EXPONENT = re.compile(rb"\de\+\d")
_DIALECTS = frozenset(
    {
        "openai.chat",
        "openai.responses",
        "openai.embeddings",
        "anthropic.messages",
        "gemini.generate",
    }
)
_STATEFUL = ("conversation", "container", "background")
_SAY_NOTHING = ("x-modelspend-", "x-stainless-", "sec-", "cf-", "x-forwarded-")
_SAYS_NOTHING = frozenset(
    {
        "host",
        "connection",
        "keep-alive",
        "content-length",
        "content-type",
        "transfer-encoding",
        "accept-encoding",
        "accept-language",
        "user-agent",
        "date",
        "expect",
        "te",
        "trailer",
        "upgrade",
        "via",
        "cache-control",
        "pragma",
        "origin",
        "referer",
        "forwarded",
        "traceparent",
        "tracestate",
        "baggage",
        "x-request-id",
        "x-client-request-id",
        "x-correlation-id",
        "idempotency-key",
        # credentials: they count by their fingerprint
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "x-goog-api-key",
        "api-key",
        "ocp-apim-subscription-key",
        "x-auth-token",
        "cookie",
    }
)


def varies(fields: Mapping[str, Any]) -> bool:
    """Whether the request itself asks for an answer that is another one each time: a temperature
    above zero without a seed, or several answers at once."""
    config = fields.get("generationConfig") or fields.get("generation_config")
    asked = {**fields, **config} if isinstance(config, dict) else fields
    several = (asked.get(name) for name in ("n", "best_of", "candidateCount", "candidate_count"))
    if any(_above(count, 1) for count in several):
        return True
    return asked.get("seed") is None and _above(asked.get("temperature"), 0)


def _above(value: Any, bound: int) -> bool:
    return isinstance(value, int | float) and value > bound


def may_keep(
    asked: Policy,
    *,
    dialect: str,
    status: int,
    finish_reason: str | None,
    tool_calls: bool,
    error: bool,
    truncated: bool,
    content: bool,
    varies: bool,
) -> bool:
    """Whether an answer may be given again: whole, well, said to its end by the model itself.

    An answer cut at its limit of tokens, blocked or empty is not kept whatever was asked.
    """
    if not asked.keep or status != 200 or error or truncated:
        return False
    if dialect == "openai.embeddings":
        return True
    reason = (finish_reason or "").lower()
    calls = tool_calls or reason in _CALLED
    if calls:
        return asked.tools and reason in _CALLED | _ENDED and (asked.sampled or not varies)
    return content and reason in _ENDED and (asked.sampled or not varies)


_ENDED = frozenset({"stop", "end_turn", "stop_sequence", "completed", "complete", "eos", "end"})
_CALLED = frozenset({"tool_calls", "tool_use", "function_call", "tool_call"})


def calls_tools(body: bytes) -> bool:
    """Whether an answer in any dialect calls a tool, the provider's own ones included.

    It looks for names that stand in quotes of their own, so a text that speaks of them does not
    count; in doubt it says yes, and the answer is not kept.
    """
    return _CALLS.search(body) is not None


_CALLS = re.compile(
    rb'"(?:functionCall|function_call|executableCode|toolCall)"\s*:\s*\{'
    rb'|"tool_calls"\s*:\s*\[\s*\{'
    rb'|"type"\s*:\s*"(?:\w+_call|tool_use|\w+_tool_use)"'
)


def kept_headers(headers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """What is true of an answer whenever it is given; limits and ids of requests are not."""
    return tuple((name, value) for name, value in headers if name.lower() in _KEPT)


_KEPT = frozenset({"content-type", "content-encoding"})
