"""What OpenAI's three endpoints share: error bodies, usage totals, tool schemas, routes.

Their usage objects include: cached and audio input is inside the prompt total, reasoning inside the
output total. The neutral buckets are disjoint, so writing one is adding up.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from modelspend import chat
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
