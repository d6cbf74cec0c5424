"""What OpenAI's three endpoints share: error bodies, usage totals, tools, media links.

Their usage objects include: cached and audio input is inside the prompt total, reasoning inside the
output total. The neutral buckets are disjoint, so writing one is adding up.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from modelspend import chat
from modelspend.dialects.reader import as_object
from modelspend.errors import ModelspendError
from modelspend.money import INPUT_BUCKETS

_OUTPUT_BUCKETS = ("output_tokens", "output_audio_tokens", "output_image_tokens")
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


def error_object(error: ModelspendError) -> dict[str, Any]:
    """Our own error as the object under `error`; its `code` is our stable one."""
    return {
        "message": error.text,
        "type": _TYPES.get(error.status, "server_error"),
        "param": error.field,
        "code": error.code,
    }


def error_body(error: ModelspendError) -> bytes:
    return orjson.dumps({"error": error_object(error)})


def input_total(usage: Mapping[str, int]) -> int:
    return sum(usage.get(bucket, 0) for bucket in INPUT_BUCKETS)


def output_total(usage: Mapping[str, int]) -> int:
    return sum(usage.get(bucket, 0) for bucket in _OUTPUT_BUCKETS)


def cached_total(usage: Mapping[str, int]) -> int:
    return usage.get("cache_read_tokens", 0) + usage.get("cached_audio_tokens", 0)


def written_total(usage: Mapping[str, int]) -> int:
    return usage.get("cache_write_5m_tokens", 0) + usage.get("cache_write_1h_tokens", 0)


def function_tool(value: Mapping[str, Any], inner: Mapping[str, Any]) -> chat.Tool:
    """A function tool; name and schema stand in `inner` (`value` itself, or one level down)."""
    known = {"type", "function", "name", "description", "parameters", "strict"}
    return chat.Tool(
        name=str(inner.get("name") or ""),
        description=str(inner.get("description") or ""),
        schema=inner.get("parameters") or {},
        strict=inner.get("strict"),
        extra={key: kept for key, kept in value.items() if key not in known},
    )


def output_format(value: Mapping[str, Any], inner: Mapping[str, Any]) -> chat.OutputFormat | None:
    """`response_format` or `text.format`, its schema in `inner`; None for an unknown kind."""
    match value.get("type"):
        case "text":
            return chat.OutputFormat(kind="text")
        case "json_object":
            return chat.OutputFormat(kind="json")
        case "json_schema":
            return chat.OutputFormat(
                kind="json_schema",
                name=str(inner.get("name") or ""),
                schema=inner.get("schema"),
                strict=inner.get("strict"),
            )
    return None


def media(kind: Any, link: str, extra: Mapping[str, Any]) -> chat.Media:
    """A `data:` link as inline data, any other as a link that is never fetched."""
    if link.startswith("data:") and ";base64," in link:
        mime, _, data = link[5:].partition(";base64,")
        return chat.Media(kind=kind, mime=mime or None, data=data, extra=extra)
    return chat.Media(kind=kind, url=link, extra=extra)


def tool_choice(fields: Mapping[str, Any], nested: str) -> chat.ToolChoice | None:
    """`tool_choice` and `parallel_tool_calls`; a named choice stands one level down in `nested`."""
    choice, parallel = fields.get("tool_choice"), fields.get("parallel_tool_calls")
    if isinstance(choice, dict):
        name = as_object(choice.get(nested) if nested else choice).get("name")
        return chat.ToolChoice("named", str(name or ""), parallel)
    if choice in ("none", "required", "auto"):
        return chat.ToolChoice(choice, None, parallel)
    return None if parallel is None else chat.ToolChoice("auto", None, parallel)
