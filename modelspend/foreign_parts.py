"""What becomes of a part of a conversation in a dialect that did not write it.

Words, media, calls and results are carried; what stands beside them is dropped and named; what
only its own vendor can read is refused, unless it is a mere trace of what that vendor did.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

from modelspend import chat
from modelspend.delivery import kind_of, shown, whole_arguments, wrapped
from modelspend.errors import Uncarriable
from modelspend.tool_pairs import TURNS

SHARED_MEDIA = frozenset({"detail", "filename"})
"""Names in `Media.extra` that mean the same in every dialect."""

_OPENAI = frozenset({"openai.chat", "openai.responses"})
_NAMES = {
    "openai.chat": re.compile(r"[a-zA-Z0-9_-]{1,64}"),
    "openai.responses": re.compile(r"[a-zA-Z0-9_-]{1,128}"),
    "anthropic.messages": re.compile(r"[a-zA-Z0-9_-]{1,128}"),
    "gemini.generate": re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}"),
}

OWN = "Leave it out, or ask a model of the provider that has it."
_SILENT: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "candidateCount": (1,),
    "stream_options": (),
    "store": (False,),
    "background": (False,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "service_tier": ("auto", "default", "standard_only"),
    "truncation": ("disabled",),
    "modalities": (["text"],),
    "responseModalities": (["TEXT"], ["Text"], ["text"]),
}
"""Fields that say nothing when they have one of these values (any value where none is listed)."""

_HISTORY = frozenset(
    {
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "mcp_list_tools",
        "mcp_call",
        "mcp_approval_request",
        "mcp_approval_response",
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "mcp_tool_use",
        "mcp_tool_result",
        "executableCode",
        "executable_code",
        "codeExecutionResult",
        "code_execution_result",
        "reference",
    }
)
"""Traces of what a vendor ran by itself; the words that it led to stand beside them."""

_BOOKKEEPING = frozenset({"id", "status", "index", "type", "field", "role", "object"})
"""Keys beside a part that nobody misses."""


def says_nothing(name: str, value: object) -> bool:
    if value is None or value == [] or value == {} or value == "":
        return True
    return name in _SILENT and (not _SILENT[name] or value in _SILENT[name])


def refuse(capability: str, why: str, to: str, hint: str, place: str | None) -> NoReturn:
    raise Uncarriable(
        f"{why}, and the request would go out as {to}.", hint, capability=capability, field=place
    )


def check_name(name: str, to: str, place: str) -> None:
    allowed = _NAMES.get(to)
    if allowed is not None and not allowed.fullmatch(name):
        shown = name[:64] if name.isprintable() else "(not printable)"
        hint = "Name tools with at most 64 letters, digits, underscores and dashes."
        refuse("tool_name", f"The tool's name {shown!r} is not allowed there", to, hint, place)


def note_extra(extra: Mapping[str, Any], dropped: dict[str, None]) -> None:
    for name, value in extra.items():
        if name == "part" and isinstance(value, Mapping):
            note_extra(value, dropped)
            continue
        sealed = "signature" in name.lower() or "reasoning" in name.lower()
        if name not in _BOOKKEEPING and not says_nothing(name, value):
            dropped["thinking" if sealed else shown(name)] = None


def carried_part(
    part: chat.Part, to: str, place: str, dropped: dict[str, None]
) -> chat.Part | None:
    match part:
        case chat.Text():
            note_extra(part.extra, dropped)
            refusal = part.extra.get("type") == "refusal" and to in _OPENAI
            return replace(part, extra={"type": "refusal"} if refusal else {})
        case chat.Media():
            _check_media(part, to, place)
            shared = {k: v for k, v in part.extra.items() if k in SHARED_MEDIA and v is not None}
            note_extra({k: v for k, v in part.extra.items() if k not in SHARED_MEDIA}, dropped)
            return replace(part, extra=shared)
        case chat.ToolCall():
            note_extra(part.extra, dropped)
            check_name(part.name, to, place)
            return replace(part, arguments=_arguments(part, to, dropped), extra={})
        case chat.ToolResult():
            note_extra(part.extra, dropped)
            told = (carried_part(inner, to, place, dropped) for inner in part.parts)
            return replace(part, parts=tuple(p for p in told if p is not None), extra={})
        case chat.Reasoning():
            dropped["thinking"] = None
            return None
        case chat.Opaque():
            return _foreign(part, to, place, dropped)


def _check_media(part: chat.Media, to: str, place: str) -> None:
    if part.data:
        return
    url = (part.url or "").lower()
    kept = "//generativelanguage.googleapis.com/" in url  # a file of Google's own storage
    if kept or not url.startswith(("http://", "https://")):
        why = f"A {part.kind} is kept by another vendor"
        refuse("file_ids", why, to, "Send its bytes, or a link that anybody may open.", place)


def _is_history(part: chat.Opaque, kind: str) -> bool:
    if kind == "additional_tools":  # the functions among them are in the list of tools
        tools = part.value.get("tools")
        return isinstance(tools, list) and all(
            isinstance(tool, Mapping) and tool.get("type") == "function" for tool in tools
        )
    if kind == "tool_addition":  # it refers to one of the list
        added = part.value.get("tool")
        return isinstance(added, Mapping) and added.get("type") == "tool_reference"
    if kind in ("tool_search_call", "tool_search_output"):
        return part.value.get("execution") != "client"
    return kind in _HISTORY


def _foreign(part: chat.Opaque, to: str, place: str, dropped: dict[str, None]) -> chat.Part | None:
    kind = kind_of(part)
    if kind == "tool_reference" and isinstance(name := part.value.get("tool_name"), str):
        dropped[kind] = None
        return chat.Text(text=name)  # what a search among lazily loaded tools has found
    if _is_history(part, kind):
        dropped[kind] = None
        return None
    if _names_file(part.value):
        hint = "Send its bytes, or a link that anybody may open."
        refuse("file_ids", "A file is kept by another vendor", to, hint, place)
    capability = {
        "item_reference": "stored_conversation",
        "compaction": "stored_conversation",
        "custom_tool_call": "custom_tools",
        "custom_tool_call_output": "custom_tools",
        "custom": "custom_tools",
        "container_upload": "file_ids",
    }.get(kind, kind)
    refuse(capability, f"A part of kind {kind} is {part.origin}'s own", to, OWN, place)


def _names_file(value: object, depth: int = 3) -> bool:
    if not isinstance(value, Mapping) or not depth:
        return False
    return bool(value.get("file_id")) or any(
        _names_file(inner, depth - 1) for inner in value.values()
    )


def _arguments(call: chat.ToolCall, to: str, dropped: dict[str, None]) -> str:
    told = whole_arguments(call.arguments, to)
    if to in TURNS and told == wrapped(call.arguments):
        dropped["raw_arguments"] = None
    return told
