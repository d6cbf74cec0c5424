"""Which headers cross, both ways: by rule, not by list of friends.

Hop-by-hop headers, whatever `Connection` names, credentials and our own `x-modelspend-*` never
cross. Everything else survives, unknown ones included: `anthropic-beta` and its like carry
features that a proxy must not lose. The compression of the body is ours to settle on each side.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import unquote

Pairs = Sequence[tuple[str, str]]

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # a server may not write them again

OWN_PREFIX = "x-modelspend-"

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    }
)

CREDENTIALS = frozenset(
    {
        "authorization",
        "x-api-key",
        "x-goog-api-key",
        "api-key",
        "ocp-apim-subscription-key",
        "x-auth-token",
        "cookie",
    }
)
_IN_QUERY = frozenset({"key", "api-key", "api_key", "access_token", "subscription-key"})

_NOT_UP = (
    _HOP_BY_HOP
    | CREDENTIALS
    | {"host", "content-length", "content-encoding", "accept-encoding", "expect"}
)
_NOT_DOWN = _HOP_BY_HOP | {
    "content-length",
    "content-encoding",
    "set-cookie",
    "set-cookie2",
    "alt-svc",
    "strict-transport-security",
    "public-key-pins",
    "clear-site-data",
    "access-control-allow-origin",
    "access-control-allow-credentials",
}


class _Rule(NamedTuple):
    """What is known of a header by its name, as it is spelled."""

    low: str
    up: bool
    down: bool
    asks: bool


_MOST_NAMES = 4096
_rules: dict[str, _Rule] = {}


def _rule(name: str) -> _Rule:
    """The rule for a name; remembered, since clients and providers send the same ones for ever."""
    rule = _rules.get(name)
    if rule is None:
        low = name.lower()
        ours = low.startswith(OWN_PREFIX)
        up = not ours and low not in _NOT_UP and not low.startswith("sec-websocket")
        rule = _Rule(low, up, not ours and low not in _NOT_DOWN, low in _ASK)
        if len(_rules) < _MOST_NAMES:
            _rules[name] = rule
    return rule


def upward(client: Pairs, credential: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The client's headers as the provider gets them, with the credential that is meant for it."""
    out = [pair for pair in client if _rule(pair[0]).up]
    if named := _named_by_connection(client):
        out = [pair for pair in out if _rule(pair[0]).low not in named]
    out.append(("accept-encoding", "identity"))
    out.extend(credential)
    return out


_ASK = frozenset({"anthropic-beta", "anthropic-version", "openai-beta"})
_LONGEST_ASK = 512  # a receipt stays small, whatever a client sends


def asking(client: Pairs, required: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Those of the client's headers, as `name: value`, that ask for a version or a beta feature,
    beyond what its protocol requires of every request."""
    found = [
        (_rule(name).low, value)
        for name, value in client
        if _rule(name).asks and len(value) <= _LONGEST_ASK
    ]
    if not found:
        return ()
    usual = set(required)
    return tuple(f"{name}: {value}" for name, value in found if (name, value) not in usual)


_ABOUT_THE_CALL = frozenset({"traceparent", "tracestate", "user-agent"})


def afresh(
    client: Pairs, required: Iterable[tuple[str, str]], credential: Iterable[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Headers of a request that we wrote ourselves: what a client says to one vendor is nothing to
    another, so only what is about the call itself goes along."""
    out = [pair for pair in client if _rule(pair[0]).low in _ABOUT_THE_CALL]
    out += [("content-type", "application/json"), ("accept-encoding", "identity")]
    out.extend(required)
    out.extend(credential)
    return out


def downward(provider: Pairs, *, encoding_kept: bool) -> list[tuple[str, str]]:
    """The provider's headers as the client gets them.

    `encoding_kept` is true when the body goes down as it was compressed: then, and only then,
    Content-Encoding goes with it.
    """
    out = [
        pair
        for pair in provider
        if (_rule(pair[0]).down or (encoding_kept and _rule(pair[0]).low == "content-encoding"))
        and not _CONTROL.search(pair[1])
    ]
    if named := _named_by_connection(provider):
        out = [pair for pair in out if _rule(pair[0]).low not in named]
    return out


def text_of(raw: bytes) -> str:
    """A header as text: UTF-8, as it is written again, else the Latin-1 of old."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _named_by_connection(headers: Pairs) -> frozenset[str]:
    """Further headers that are for the next hop alone (RFC 9110, 7.6.1)."""
    told = [value for name, value in headers if _rule(name).low == "connection"]
    tokens = {token.strip().lower() for value in told for token in value.split(",")}
    return frozenset(tokens - {"keep-alive", "close"})


def strip_key(query: str) -> str:
    """A query string without credentials: Google's clients may carry theirs there as `key=`.

    What stays keeps its bytes; a name counts however it is escaped.
    """
    if not query:
        return ""
    kept = [part for part in query.split("&") if _name(part) not in _IN_QUERY]
    return "&".join(kept)


def key_in(query: str) -> str:
    """The value of `key=` in a query string, however it is escaped; "" without one."""
    values = (part.partition("=")[2] for part in query.split("&") if _name(part) == "key")
    return unquote(next(values, ""))


def _name(part: str) -> str:
    return unquote(part.partition("=")[0]).lower()
