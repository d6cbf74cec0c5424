"""What a request costs in tokens: a stable count of characters, and a prompt cache.

A token is four characters, rounded up, in every language: not a tokenizer, but the same today and
next year. The cache keeps hashes of prefixes, so that a repeated prompt is charged as a cache read
by the rules of the vendor: by marks for Anthropic, by itself and in steps of 128 for the others.
"""

from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256

import orjson

from modelspend import chat
from modelspend.record import frozen

_CHARS_PER_TOKEN = 4
_MEDIA_CHARS = 258 * _CHARS_PER_TOKEN
_CACHEABLE_FROM = 1_024
_CACHE_STEP = 128
_REMEMBERED = 20_000


def tokens(chars: int) -> int:
    return -(-chars // _CHARS_PER_TOKEN)


def part_text(part: chat.Part) -> str:
    """What a part says, as the meter reads it."""
    match part:
        case chat.Text() | chat.Reasoning():
            return part.text
        case chat.ToolCall():
            return part.name + part.arguments
        case chat.ToolResult():
            return "".join(map(part_text, part.parts))
        case chat.Media():
            return "m" * _MEDIA_CHARS
        case chat.Opaque():
            return orjson.dumps(part.value).decode()


class Meter:
    """Counts input, and remembers prefixes between calls."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def input_usage(self, request: chat.Request) -> dict[str, int]:
        """The disjoint input buckets of a request, which is remembered from here on."""
        prefixes = _prefixes(request)
        total = max(1, tokens(prefixes[-1].chars))
        if request.origin.startswith("anthropic"):
            return self._marked(prefixes, total)
        return self._automatic(prefixes, total)

    def _automatic(self, prefixes: "list[_Prefix]", total: int) -> dict[str, int]:
        read = self._longest_seen(prefixes) // _CACHE_STEP * _CACHE_STEP
        self._remember(prefixes)
        return {"input_tokens": total - read, "cache_read_tokens": read}

    def _marked(self, prefixes: "list[_Prefix]", total: int) -> dict[str, int]:
        last = max((i for i, p in enumerate(prefixes) if p.ttl), default=-1)
        inside = prefixes[: last + 1]
        if not inside or tokens(inside[-1].chars) < _CACHEABLE_FROM:
            return {"input_tokens": total}
        read = self._longest_seen(inside)
        written = tokens(inside[-1].chars) - read
        self._remember(inside)
        bucket = "cache_write_1h_tokens" if inside[-1].ttl == "1h" else "cache_write_5m_tokens"
        return {
            "input_tokens": total - read - written,
            "cache_read_tokens": read,
            bucket: written,
        }

    def _longest_seen(self, prefixes: "list[_Prefix]") -> int:
        found = [tokens(p.chars) for p in prefixes if p.key in self._seen]
        longest = max(found, default=0)
        return longest if longest >= _CACHEABLE_FROM else 0

    def _remember(self, prefixes: "list[_Prefix]") -> None:
        for prefix in prefixes:
            self._seen[prefix.key] = None
            self._seen.move_to_end(prefix.key)
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)


@frozen
class _Prefix:
    """The conversation up to and with one message; `ttl` is the cache mark in that message."""

    key: bytes
    chars: int
    ttl: str


def _prefixes(request: chat.Request) -> list[_Prefix]:
    offered = b"".join(orjson.dumps(_tool(tool)) for tool in request.tools)
    key = sha256(request.model.encode() + b"\0" + offered).digest()
    chars = len(offered)
    marks = [_ttl(tool.extra) for tool in request.tools if isinstance(tool, chat.Tool)]
    out = [_Prefix(key, chars, next(filter(None, marks), ""))]
    for message in request.messages:
        text = "".join(map(part_text, message.parts))
        key = sha256(key + message.role.encode() + b"\0" + text.encode("utf-8", "replace")).digest()
        chars += len(text)
        out.append(_Prefix(key, chars, next(filter(None, map(_mark, message.parts)), "")))
    return out


def _tool(tool: chat.Tool | chat.Opaque) -> object:
    if isinstance(tool, chat.Opaque):
        return tool.value
    return [tool.name, tool.description, tool.schema]


def _mark(part: chat.Part) -> str:
    return _ttl(part.value if isinstance(part, chat.Opaque) else part.extra)


def _ttl(extra: Mapping[str, object]) -> str:
    mark = extra.get("cache_control")
    if not isinstance(mark, Mapping):
        return ""
    return "1h" if mark.get("ttl") == "1h" else "5m"
