"""Which headers cross, both ways: by rule, not by list of friends.

Hop-by-hop headers, whatever `Connection` names, credentials and our own `x-modelspend-*` never
cross. Everything else survives, unknown ones included: `anthropic-beta` and its like carry
features that a proxy must not lose. The compression of the body is ours to settle on each side.
"""

from collections.abc import Iterable, Sequence

Pairs = Sequence[tuple[str, str]]

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

CREDENTIALS = frozenset({"authorization", "x-api-key", "x-goog-api-key", "api-key", "cookie"})

_NOT_UP = _HOP_BY_HOP | CREDENTIALS | {"host", "content-length", "accept-encoding", "expect"}
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


def upward(client: Pairs, credential: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The client's headers as the provider gets them, with the credential that is meant for it."""
    named = _named_by_connection(client)
    out = [
        (name, value)
        for name, value in client
        if (low := name.lower()) not in _NOT_UP
        and not low.startswith(OWN_PREFIX)
        and not low.startswith("sec-websocket")
        and low not in named
    ]
    out.append(("accept-encoding", "identity"))
    out.extend(credential)
    return out


def downward(provider: Pairs, *, encoding_kept: bool) -> list[tuple[str, str]]:
    """The provider's headers as the client gets them.

    `encoding_kept` is true when the body goes down as it was compressed: then, and only then,
    Content-Encoding goes with it.
    """
    named = _named_by_connection(provider)
    return [
        (name, value)
        for name, value in provider
        if ((low := name.lower()) not in _NOT_DOWN or (encoding_kept and low == "content-encoding"))
        and not low.startswith(OWN_PREFIX)
        and low not in named
    ]


def _named_by_connection(headers: Pairs) -> frozenset[str]:
    for name, value in headers:
        if name.lower() == "connection" and value.lower() not in ("keep-alive", "close"):
            return frozenset(
                token.strip().lower()
                for other, tokens in headers
                if other.lower() == "connection"
                for token in tokens.split(",")
            )
    return frozenset()


def strip_key(query: str) -> str:
    """A query string without `key=`: Google's clients may carry their credential there."""
    if "key=" not in query:
        return query
    return "&".join(part for part in query.split("&") if not part.startswith("key="))
