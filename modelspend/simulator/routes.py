"""Which dialect a path belongs to, whatever stands before it.

Providers put the same endpoints under `/v1`, `/openai/v1`, `/api/v1`, `/v1beta` or nothing; so a
path is known by its end.
"""

import re
from typing import Literal

from modelspend.record import frozen

Kind = Literal["generate", "count", "embed", "models", "root"]


@frozen
class Route:
    """What a path asks for; `model` is the one that the path names."""

    dialect: str
    kind: Kind
    model: str | None = None


_PATHS: tuple[tuple[str, str, Kind], ...] = (
    (r"POST .*/chat/completions", "openai.chat", "generate"),
    (r"POST .*/responses", "openai.responses", "generate"),
    (r"POST .*/messages", "anthropic.messages", "generate"),
    (r"POST .*/messages/count_tokens", "anthropic.count_tokens", "count"),
    (r"POST .*/embeddings", "openai.embeddings", "embed"),
    (r"POST .*/models/([^:]+):(?:streamG|g)enerateContent", "gemini.generate", "generate"),
    (r"GET .*/models(?:/([^:]+))?", "openai.chat", "models"),
    (r"(?:HEAD|GET) /", "openai.chat", "root"),
)

_ROUTES = tuple((re.compile(path), dialect, kind) for path, dialect, kind in _PATHS)


def route_of(method: str, path: str) -> Route | None:
    for pattern, dialect, kind in _ROUTES:
        match = pattern.fullmatch(f"{method} {path.rstrip('/') or '/'}")
        if match:
            return Route(dialect, kind, match[1] if match.re.groups else None)
    return None
