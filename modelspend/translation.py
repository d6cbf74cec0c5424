"""What happens to a conversation between the dialect it came in and the one it goes out in.

The same for all pairs of dialects: `prepare` makes a request sayable elsewhere before it is
written, as `delivery` does for the answer. Nothing is lost in silence: what the answer can do
without is dropped and named, what it cannot do without raises `Uncarriable`.

Names in `dropped` are fields of the caller's own dialect (`seed`, `logit_bias`, `cache_control`,
`name`), kinds of parts that another vendor made (`web_search_call`, `executableCode`), or one of
`NOTED`. Each stands once, in the order it was met. Nothing that a provider sealed is ever invented
or shown to another provider.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NoReturn

from modelspend import chat
from modelspend.delivery import whole_arguments, wrapped
from modelspend.errors import Uncarriable
from modelspend.tool_pairs import TURNS, Piece, paired, place_of

NOTED: Mapping[str, str] = {
    "thinking": "reasoning of another provider, or its signature",
    "is_error": "the mark of a failed tool; its words are kept",
    "system_role": "a system message inside the conversation is said by the user there",
    "opening_turn": "a user turn of one dot before a conversation that the assistant opens",
    "tool_choice": "a wish for a tool where no tools are offered",
    "tool_result_media": "pictures and files of a tool result follow it in a user message",
    "raw_arguments": "arguments that are no JSON object, wrapped in one",
}
"""What is changed rather than left out, beside the names of fields and parts."""

CARRIED = frozenset({"frequency_penalty", "presence_penalty", "top_k", "verbosity"})
"""Names in `Request.extra` that mean the same in every dialect; the others are its own affair."""

SHARED_MEDIA = frozenset({"detail", "filename"})
"""Names in `Media.extra` that mean the same in every dialect."""

_OPENAI = frozenset({"openai.chat", "openai.responses"})
_NAMES = {
    "openai.chat": re.compile(r"[a-zA-Z0-9_-]{1,64}"),
    "openai.responses": re.compile(r"[a-zA-Z0-9_-]{1,128}"),
    "anthropic.messages": re.compile(r"[a-zA-Z0-9_-]{1,128}"),
    "gemini.generate": re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}"),
}

_LONGEST_NAME = 64
_MOST_DROPPED = 64
_STATE = "Send the whole conversation, or ask a model of the provider that keeps it."
_OWN = "Leave it out, or ask a model of the provider that has it."
_REFUSED = {
    "previous_response_id": ("stored_conversation", _STATE),
    "conversation": ("stored_conversation", _STATE),
    "cachedContent": ("stored_conversation", _STATE),
    "prompt": ("stored_prompt", _STATE),
    "web_search_options": ("server_tools", _OWN),
    "mcp_servers": ("server_tools", _OWN),
    "plugins": ("server_tools", _OWN),
    "container": ("server_tools", _OWN),
    "functions": ("functions", "Send `tools`: `functions` is the spelling of 2023."),
    "response_format": ("output_format", _OWN),
    "tool_choice": ("tool_choice", _OWN),
}
"""Fields of a request that change what the answer is: (capability, what to do about it)."""

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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that the dialect `to` can be asked to write, and what it went without."""

    request: chat.Request
    dropped: tuple[str, ...] = ()


def prepare(asked: chat.Request, *, to: str, same_provider: bool = False) -> Prepared:
    """The request as another dialect can say it: no foreign parts, paired calls, fitting ids.

    In its own dialect a request stays as it is, save that reasoning leaves the provider that wrote
    it only when `same_provider`. Raises Uncarriable, or UnpairedToolCall for a tool result
    without its call and a call without its result.
    """
    if to == asked.origin:
        return _same_dialect(asked, same_provider)
    dropped: dict[str, None] = {}
    extra = dict(_carried_fields(asked, to, dropped))
    _check_tools(asked, to)
    tools = tuple(_plain_tools(asked, dropped))
    choice = asked.tool_choice
    if choice is not None and not tools:
        if choice.mode in ("required", "named"):
            dropped["tool_choice"] = None
        choice = None
    pieces = list(_pieces(asked, to, dropped))
    messages = tuple(_turns(paired(asked, pieces, to), to, dropped))
    request = replace(asked, messages=messages, tools=tools, tool_choice=choice, extra=extra)
    return Prepared(request, tuple(islice(dropped, _MOST_DROPPED)))


def needs(asked: chat.Request) -> frozenset[str]:
    """The capabilities of a model that the request needs, whatever the dialect.

    Among `tools`, `vision`, `audio`, `video`, `file`, `json_schema`, `json`, `reasoning`,
    `audio_output`.
    """
    found = {
        {"image": "vision"}.get(part.kind, part.kind)
        for message in asked.messages
        for part in _all_parts(message.parts)
        if isinstance(part, chat.Media)
    }
    if asked.tools:
        found.add("tools")
    if asked.output is not None and asked.output.kind != "text":
        found.add(asked.output.kind)
    if asked.reasoning_effort not in (None, "none"):
        found.add("reasoning")
    spoken = asked.extra.get("modalities") or asked.extra.get("responseModalities")
    if isinstance(spoken, list) and any(str(way).lower() == "audio" for way in spoken):
        found.add("audio_output")
    return frozenset(found)


def _same_dialect(asked: chat.Request, same_provider: bool) -> Prepared:
    if same_provider:
        return Prepared(asked)
    kept = tuple(
        replace(message, parts=tuple(p for p in message.parts if not isinstance(p, chat.Reasoning)))
        for message in asked.messages
    )
    if all(len(old.parts) == len(new.parts) for old, new in zip(asked.messages, kept, strict=True)):
        return Prepared(asked)
    left = tuple(
        new for old, new in zip(asked.messages, kept, strict=True) if new.parts or not old.parts
    )
    return Prepared(replace(asked, messages=left), ("thinking",))


# Fields and tools.


def _carried_fields(
    asked: chat.Request, to: str, dropped: dict[str, None]
) -> Iterator[tuple[str, Any]]:
    for name, value in asked.extra.items():
        if _says_nothing(name, value):
            continue
        if name in CARRIED:
            yield name, value
            continue
        _refuse_field(name, value, to)
        dropped[_shown(name)] = None


def _says_nothing(name: str, value: object) -> bool:
    if value is None or value == [] or value == {} or value == "":
        return True
    return name in _SILENT and (not _SILENT[name] or value in _SILENT[name])


def _refuse_field(name: str, value: object, to: str) -> None:
    if name in ("n", "candidateCount"):
        _refuse("choices", f"`{name}` asks for several answers at once", to, _OWN, name)
    if name in ("modalities", "responseModalities"):
        ways = {str(way).lower() for way in value} if isinstance(value, list) else set()
        kind = "audio_output" if "audio" in ways else "image_output"
        _refuse(kind, f"`{name}` asks for more than text", to, _OWN, name)
    if name in _REFUSED:
        capability, hint = _REFUSED[name]
        _refuse(capability, f"`{name}` means nothing to another vendor's model", to, hint, name)
    if name == "text" and isinstance(value, Mapping) and value.get("format"):
        _refuse("output_format", "`text.format` is of a kind of its own", to, _OWN, "text.format")


def _refuse(capability: str, why: str, to: str, hint: str, place: str | None) -> NoReturn:
    raise Uncarriable(
        f"{why}, and the request would go out as {to}.", hint, capability=capability, field=place
    )


def _check_tools(asked: chat.Request, to: str) -> None:
    for at, tool in enumerate(asked.tools):
        if isinstance(tool, chat.Opaque):
            if _loads_lazily(tool):
                continue
            kind = _kind(tool)
            capability = "custom_tools" if kind == "custom" else "server_tools"
            _refuse(capability, f"The tool {kind} is {tool.origin}'s own", to, _OWN, f"tools[{at}]")
        _check_name(tool.name, to, f"tools[{at}]")


def _check_name(name: str, to: str, place: str) -> None:
    allowed = _NAMES.get(to)
    if allowed is not None and not allowed.fullmatch(name):
        shown = name[:64] if name.isprintable() else "(not printable)"
        hint = "Name tools with at most 64 letters, digits, underscores and dashes."
        _refuse("tool_name", f"The tool's name {shown!r} is not allowed there", to, hint, place)


def _loads_lazily(tool: chat.Opaque) -> bool:
    """A vendor's search among tools that are all defined here: elsewhere all are simply offered."""
    kind = _kind(tool)
    return kind.startswith("tool_search") and tool.value.get("execution") != "client"


def _plain_tools(asked: chat.Request, dropped: dict[str, None]) -> Iterator[chat.Tool]:
    for tool in asked.tools:
        if isinstance(tool, chat.Opaque):
            dropped["tool_search"] = None
        else:
            _note_extra(tool.extra, dropped)
            yield replace(tool, extra={})


def _note_extra(extra: Mapping[str, Any], dropped: dict[str, None]) -> None:
    for name, value in extra.items():
        if name == "part" and isinstance(value, Mapping):
            _note_extra(value, dropped)
            continue
        sealed = "signature" in name.lower() or "reasoning" in name.lower()
        if name not in _BOOKKEEPING and not _says_nothing(name, value):
            dropped["thinking" if sealed else _shown(name)] = None


def _kind(part: chat.Opaque) -> str:
    kind = part.value.get("type")
    return _shown(kind if isinstance(kind, str) and kind else next(iter(part.value), "part"))


def _shown(name: str) -> str:
    """A stranger's name as it may stand in a message, a header and on a receipt."""
    return name if name.isprintable() and 0 < len(name) <= _LONGEST_NAME else "(a long or odd name)"


# Parts, each with the message it came from.


def _pieces(asked: chat.Request, to: str, dropped: dict[str, None]) -> Iterator[Piece]:
    for at, message in enumerate(asked.messages):
        _note_extra(message.extra, dropped)
        place = place_of(asked, at)
        carried = [
            part
            for said in message.parts
            if (part := _carried_part(said, to, place, dropped)) is not None
        ]
        if message.role == "assistant" or to in TURNS or len(carried) > 1:
            carried = [part for part in carried if not _empty(part)]
        for part in carried:
            is_result = isinstance(part, chat.ToolResult)
            role: chat.Role = "tool" if is_result else message.role
            yield Piece("user" if role == "tool" and not is_result else role, part, at)


def _empty(part: chat.Part) -> bool:
    return isinstance(part, chat.Text) and not part.text


def _carried_part(
    part: chat.Part, to: str, place: str, dropped: dict[str, None]
) -> chat.Part | None:
    match part:
        case chat.Text():
            _note_extra(part.extra, dropped)
            refusal = part.extra.get("type") == "refusal" and to in _OPENAI
            return replace(part, extra={"type": "refusal"} if refusal else {})
        case chat.Media():
            _check_media(part, to, place)
            shared = {k: v for k, v in part.extra.items() if k in SHARED_MEDIA and v is not None}
            _note_extra({k: v for k, v in part.extra.items() if k not in SHARED_MEDIA}, dropped)
            return replace(part, extra=shared)
        case chat.ToolCall():
            _note_extra(part.extra, dropped)
            _check_name(part.name, to, place)
            return replace(part, arguments=_arguments(part, to, dropped), extra={})
        case chat.ToolResult():
            _note_extra(part.extra, dropped)
            told = (_carried_part(inner, to, place, dropped) for inner in part.parts)
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
        _refuse("file_ids", why, to, "Send its bytes, or a link that anybody may open.", place)


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
    kind = _kind(part)
    if kind == "tool_reference" and isinstance(name := part.value.get("tool_name"), str):
        dropped[kind] = None
        return chat.Text(text=name)  # what a search among lazily loaded tools has found
    if _is_history(part, kind):
        dropped[kind] = None
        return None
    if _names_file(part.value):
        hint = "Send its bytes, or a link that anybody may open."
        _refuse("file_ids", "A file is kept by another vendor", to, hint, place)
    capability = {
        "item_reference": "stored_conversation",
        "compaction": "stored_conversation",
        "custom_tool_call": "custom_tools",
        "custom_tool_call_output": "custom_tools",
        "custom": "custom_tools",
        "container_upload": "file_ids",
    }.get(kind, kind)
    _refuse(capability, f"A part of kind {kind} is {part.origin}'s own", to, _OWN, place)


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


# Turns.


def _turns(pieces: Iterable[Piece], to: str, dropped: dict[str, None]) -> Iterator[chat.Message]:
    """Messages as the target wants them: one for each turn of the assistant and of the tools."""
    spread: list[Piece] = []
    for piece in pieces:
        spread.append(piece)
        spread += [Piece("tool", result, piece.at) for result in piece.results]
    if to in TURNS:
        _say_as_user(spread, dropped)
    groups: list[list[Piece]] = []
    for piece in spread:
        if groups and _together(groups[-1][-1], piece, to):
            groups[-1].append(piece)
        else:
            groups.append([piece])
    opener = next((n for n, group in enumerate(groups) if group[0].role != "system"), 0)
    if to in TURNS and groups and groups[opener][0].role == "assistant":
        dropped["opening_turn"] = None
        groups.insert(opener, [Piece("user", chat.Text(text="."), 0)])
    for group in groups:
        yield chat.Message(role=group[0].role, parts=tuple(piece.part for piece in group))


def _say_as_user(pieces: list[Piece], dropped: dict[str, None]) -> None:
    """System messages inside a conversation stay in their place, said by the user.

    Lifted to the top they would change the prompt's beginning, and with it the provider's cache,
    at every turn. A conversation of nothing but system messages has to be said by somebody too.
    """
    first = next((n for n, piece in enumerate(pieces) if piece.role != "system"), None)
    if first is None and pieces:
        first = next(n for n, piece in enumerate(pieces) if piece.at == pieces[-1].at)
    for piece in pieces[first:]:
        if piece.role == "system":
            piece.role = "user"
            dropped["system_role"] = None


def _together(last: Piece, piece: Piece, to: str) -> bool:
    if last.role != piece.role:
        return False
    if piece.role in ("assistant", "tool"):
        return True
    return last.at == piece.at or (piece.role == "user" and to in TURNS)


def _all_parts(parts: Iterable[chat.Part]) -> Iterator[chat.Part]:
    for part in parts:
        yield part
        if isinstance(part, chat.ToolResult):
            yield from _all_parts(part.parts)
