"""What OpenAI's three endpoints share: error bodies, usage totals, tools, media links.

Their usage objects include: cached and audio input is inside the prompt total, reasoning inside the
output total. The neutral buckets are disjoint, so writing one is adding up.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from modelspend import chat
from modelspend.dialects.media_types import media_type
from modelspend.dialects.reader import as_object, as_text
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
        schema=as_object(inner.get("parameters")),
        strict=_flag(inner.get("strict")),
        extra={key: kept for key, kept in value.items() if key not in known},
    )


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


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
                schema=as_object(inner.get("schema")),
                strict=_flag(inner.get("strict")),
            )
    return None


def media(kind: Any, link: str, extra: Mapping[str, Any]) -> chat.Media:
    """A `data:` link as inline data, any other as a link that is never fetched."""
    if link.startswith("data:") and ";base64," in link:
        mime, _, data = link[5:].partition(";base64,")
        return chat.Media(kind=kind, mime=mime or None, data=data, extra=extra)
    return chat.Media(kind=kind, url=link, extra=extra)


def file_part(told: str, extra: Mapping[str, Any]) -> chat.Media:
    """A file from a `data:` link, a link, or bare base64, which some clients send."""
    if told.startswith(("data:", "http://", "https://")):
        return media("file", told, extra)
    return chat.Media(kind="file", data=told, extra=extra)


def argument_text(value: object) -> str:
    """A call's arguments as JSON text; some servers tell them as the object itself."""
    if isinstance(value, str):
        return value
    try:
        return "" if value is None else orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # nested too deep to be written
        return ""


def tool_choice(fields: Mapping[str, Any], nested: str) -> chat.ToolChoice | None:
    """`tool_choice` and `parallel_tool_calls`; a named choice stands one level down in `nested`.

    None too for a choice with no word here (`knows_choice`), such as one of a hosted tool.
    """
    choice, parallel = fields.get("tool_choice"), fields.get("parallel_tool_calls")
    if name := _chosen(choice, nested):
        return chat.ToolChoice("named", name, parallel)
    if choice in ("required", "any"):  # Mistral's word
        return chat.ToolChoice("required", None, parallel)
    if choice in ("none", "auto"):
        return chat.ToolChoice(choice, None, parallel)
    return None if parallel is None else chat.ToolChoice("auto", None, parallel)


def knows_choice(choice: object, nested: str) -> bool:
    words = ("none", "auto", "required", "any")
    return choice is None or choice in words or bool(_chosen(choice, nested))


def _chosen(choice: object, nested: str) -> str | None:
    if not isinstance(choice, dict) or choice.get("type", "function") != "function":
        return None
    return as_text(as_object(choice.get(nested) if nested else choice).get("name"))


def choice_fields(choice: chat.ToolChoice | None, nested: str) -> dict[str, Any]:
    """The fields that say a choice, as `tool_choice` reads them."""
    if choice is None:
        return {}
    told: dict[str, Any] = {}
    if choice.mode == "named":
        name = {"name": choice.name or ""}
        told["tool_choice"] = {"type": "function", **({nested: name} if nested else name)}
    elif choice.mode != "auto" or choice.parallel is None:
        told["tool_choice"] = choice.mode
    if choice.parallel is not None:
        told["parallel_tool_calls"] = choice.parallel
    return told


def schema_fields(output: chat.OutputFormat) -> dict[str, Any]:
    """Name, schema and strictness of a JSON schema; a name is demanded, so one is given."""
    told: dict[str, Any] = {"name": output.name or "answer", "schema": dict(output.schema or {})}
    return told if output.strict is None else told | {"strict": output.strict}


def data_link(part: chat.Media) -> str:
    """A medium as one link: its own, or its bytes in a `data:` one."""
    if part.data is None:
        return part.url or ""
    return f"data:{media_type(part)};base64,{part.data}"


def usage_buckets(told: object, given: str, made: str) -> dict[str, int]:
    """The disjoint buckets of a usage object, for showing; what is charged is the catalog's affair.

    `given` and `made` are the stems of the fields: `prompt` and `completion`, or `input` and
    `output`.
    """
    usage = as_object(told)
    taken = as_object(usage.get(f"{given}_tokens_details"))
    said = as_object(usage.get(f"{made}_tokens_details"))
    heard = _count(as_object(taken.get("cached_tokens_details")), "audio_tokens")
    cached = _count(taken, "cached_tokens") or _count(usage, "prompt_cache_hit_tokens")
    found = _filled(
        "input_tokens",
        _count(usage, f"{given}_tokens"),
        cached_audio_tokens=heard,
        cache_read_tokens=cached - heard,
        cache_write_5m_tokens=_count(taken, "cache_write_tokens"),
        input_audio_tokens=_count(taken, "audio_tokens") - heard,
        input_image_tokens=_count(taken, "image_tokens"),
    ) | _filled(
        "output_tokens",
        _count(usage, f"{made}_tokens"),
        output_audio_tokens=_count(said, "audio_tokens"),
        output_image_tokens=_count(said, "image_tokens"),
    )
    found["reasoning_tokens"] = min(_count(said, "reasoning_tokens"), found["output_tokens"])
    return {bucket: n for bucket, n in found.items() if n}


def _filled(bucket: str, whole: int, **inside: int) -> dict[str, int]:
    """The parts, cut down where they exceed the whole, and the rest of it as `bucket`."""
    parts: dict[str, int] = {}
    for name, n in inside.items():
        parts[name] = min(max(n, 0), whole - sum(parts.values()))
    return parts | {bucket: whole - sum(parts.values())}


def _count(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    return value if type(value) is int and 0 < value < 2**53 else 0
