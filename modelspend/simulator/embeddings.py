"""Simulated embeddings: unit vectors that depend on the text alone.

The official clients ask for base64 of little-endian floats and decode it themselves; a plain list
is given to those who do not ask.
"""

import base64
import struct
from collections.abc import Mapping
from hashlib import shake_256
from typing import Any

import orjson

from modelspend.simulator.meter import tokens

_DIMENSIONS = 256


def inputs(body: Mapping[str, Any]) -> list[str]:
    """The texts to embed; a list of token numbers stands for one text."""
    given = body.get("input")
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        return []
    if all(isinstance(item, int) for item in given):
        return [orjson.dumps(given).decode()]
    return [item if isinstance(item, str) else orjson.dumps(item).decode() for item in given]


def input_tokens(body: Mapping[str, Any]) -> int:
    return sum(max(1, tokens(len(text))) for text in inputs(body))


def document(body: Mapping[str, Any], model: str, usage: Mapping[str, int]) -> dict[str, Any]:
    """The answer to an embeddings request."""
    size = body.get("dimensions") or _DIMENSIONS
    packed = body.get("encoding_format") == "base64"
    total = usage.get("input_tokens", 0)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": i, "embedding": _embedding(text, size, packed)}
            for i, text in enumerate(inputs(body))
        ],
        "model": model,
        "usage": {"prompt_tokens": total, "total_tokens": total},
    }


def _embedding(text: str, size: int, packed: bool) -> str | list[float]:
    digest = shake_256(text.encode("utf-8", "replace")).digest(size * 2)
    raw = struct.unpack(f"<{size}h", digest)
    norm = sum(x * x for x in raw) ** 0.5 or 1.0
    vector = [x / norm for x in raw]
    if packed:
        return base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
    return vector
