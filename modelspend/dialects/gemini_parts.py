"""The parts of a Gemini request, written: what each holds, and how this dialect's own go back.

A part holds one thing, and some of what is said of it stands beside that thing and some within.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from modelspend import chat
from modelspend.delivery import is_object
from modelspend.dialects.writing import arguments_object


def own_parts(parts: Iterable[chat.Part]) -> list[Mapping[str, Any]]:
    return [_own_part(part) for part in parts]


def _own_part(part: chat.Part) -> Mapping[str, Any]:
    match part:
        case chat.Opaque():
            return part.value
        case chat.Reasoning():
            sealed = {"thoughtSignature": part.sealed} if part.sealed else {}
            if part.extra.get("type") == "bare":
                return sealed
            return {"text": part.text, "thought": True, **sealed, **part.extra}
        case chat.Text():
            return {"text": part.text, **part.extra}
        case chat.ToolCall():
            outer, inner = _split(part.extra)
            return {"functionCall": call_fields(part) | inner, **outer}
        case chat.ToolResult():
            outer, inner = _split(part.extra)
            return {"functionResponse": _own_result(part) | inner, **outer}
        case chat.Media():
            outer, inner = _split(part.extra)
            kind, told = media_fields(part, part.mime)
            return {kind: told | inner, **outer}


def _split(extra: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What stands beside the one thing that a part holds, and what stands within it."""
    outer = {name: value for name, value in extra.items() if name in _BESIDE}
    return outer, {name: value for name, value in extra.items() if name not in _BESIDE}


_BESIDE = frozenset(
    {"thoughtSignature", "videoMetadata", "mediaResolution", "mediaProcessing", "partMetadata"}
)


def _own_result(result: chat.ToolResult) -> dict[str, Any]:
    words = "".join(part.text for part in result.parts if isinstance(part, chat.Text))
    media = [part for part in result.parts if not isinstance(part, chat.Text)]
    response: Any = {"error": words} if result.is_error else {"output": words}
    if not result.is_error and is_object(words):
        response = orjson.Fragment(words)
    told = result_fields(result, result.name or "", response)
    return told | ({"parts": own_parts(media)} if media else {})


def own_tools(tools: Iterable[chat.Tool | chat.Opaque]) -> Iterator[dict[str, Any]]:
    """Functions that stand together are declared together."""
    together: list[Any] = []
    for tool in tools:
        if isinstance(tool, chat.Opaque):
            if together:
                yield {"functionDeclarations": together}
                together = []
            yield dict(tool.value)
        else:
            schema = {"parametersJsonSchema": tool.schema} if tool.schema else {}
            together.append({**named(tool), **schema, **tool.extra})
    if together:
        yield {"functionDeclarations": together}


def named(tool: chat.Tool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described}


def call_fields(call: chat.ToolCall) -> dict[str, Any]:
    told = {"name": call.name, "args": arguments_object(call.arguments)}
    return {"id": call.call_id, **told} if call.call_id else told


def result_fields(result: chat.ToolResult, name: str, response: Any) -> dict[str, Any]:
    told = {"name": name, "response": response}
    return {"id": result.call_id, **told} if result.call_id else told


def media_fields(part: chat.Media, mime: str | None) -> tuple[str, dict[str, Any]]:
    typed = {"mimeType": mime} if mime else {}
    if part.url is not None and part.data is None:
        return "fileData", {**typed, "fileUri": part.url}
    return "inlineData", {**typed, "data": part.data or ""}
