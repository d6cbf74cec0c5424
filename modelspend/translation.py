"""What happens to a conversation between the dialect it came in and the one it goes out in.

The same for all pairs of dialects: `prepare` makes a request sayable elsewhere before it is
written, as `delivery` does for the answer. Nothing is lost in silence: what the answer can do
without is dropped and named, what it cannot do without raises `Uncarriable`.

Names in `dropped` are fields of the caller's own dialect (`seed`, `logit_bias`, `cache_control`,
`name`), kinds of parts that another vendor made (`web_search_call`, `executableCode`), or one of
`NOTED`. Each stands once, in the order it was met. Nothing that a provider sealed is ever invented
or shown to another provider.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from modelspend import chat
from modelspend.delivery import kind_of, shown
from modelspend.foreign_parts import (
    OWN,
    carried_part,
    check_name,
    note_extra,
    refuse,
    says_nothing,
)
from modelspend.record import frozen
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

_MOST_DROPPED = 64
_STATE = "Send the whole conversation, or ask a model of the provider that keeps it."
_REFUSED = {
    "previous_response_id": ("stored_conversation", _STATE),
    "conversation": ("stored_conversation", _STATE),
    "cachedContent": ("stored_conversation", _STATE),
    "prompt": ("stored_prompt", _STATE),
    "web_search_options": ("server_tools", OWN),
    "mcp_servers": ("server_tools", OWN),
    "plugins": ("server_tools", OWN),
    "container": ("server_tools", OWN),
    "functions": ("functions", "Send `tools`: `functions` is the spelling of 2023."),
    "response_format": ("output_format", OWN),
    "tool_choice": ("tool_choice", OWN),
}
"""Fields of a request that change what the answer is: (capability, what to do about it)."""


@frozen
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
    """Without reasoning that the provider did not write, as far as that can be told.

    Anthropic signs all of its own, so what is unsigned there came from another vendor through us,
    and would be refused.
    """
    if same_provider and asked.origin != "anthropic.messages":
        return Prepared(asked)

    def stays(part: chat.Part) -> bool:
        return not isinstance(part, chat.Reasoning) or (same_provider and part.sealed is not None)

    def told(part: chat.Part) -> chat.Part:
        return part if same_provider else _without_seal(part)

    messages: list[chat.Message] = []
    for message in asked.messages:
        parts = tuple(map(told, filter(stays, message.parts)))
        extra = message.extra
        if not same_provider and "reasoning_details" in extra:  # OpenRouter's, with signatures
            extra = {name: kept for name, kept in extra.items() if name != "reasoning_details"}
        if parts or not message.parts:
            messages.append(replace(message, parts=parts, extra=extra))
    if tuple(messages) == asked.messages:
        return Prepared(asked)
    return Prepared(replace(asked, messages=tuple(messages)), ("thinking",))


def _without_seal(part: chat.Part) -> chat.Part:
    """Google signs calls and text as well, and its chat completions do so in `extra_content`."""
    if not isinstance(part, chat.Text | chat.ToolCall) or not part.extra.keys() & _SEALS:
        return part
    extra = {name: kept for name, kept in part.extra.items() if name not in _SEALS}
    return replace(part, extra=extra)


_SEALS = frozenset({"thoughtSignature", "extra_content"})


# Fields and tools.


def _carried_fields(
    asked: chat.Request, to: str, dropped: dict[str, None]
) -> Iterator[tuple[str, Any]]:
    for name, value in asked.extra.items():
        if says_nothing(name, value):
            continue
        if name in CARRIED:
            yield name, value
            continue
        _refuse_field(name, value, to)
        dropped[shown(name)] = None


def _refuse_field(name: str, value: object, to: str) -> None:
    if name in ("n", "candidateCount"):
        refuse("choices", f"`{name}` asks for several answers at once", to, OWN, name)
    if name in ("modalities", "responseModalities"):
        ways = {str(way).lower() for way in value} if isinstance(value, list) else set()
        kind = "audio_output" if "audio" in ways else "image_output"
        refuse(kind, f"`{name}` asks for more than text", to, OWN, name)
    if name in _REFUSED:
        capability, hint = _REFUSED[name]
        refuse(capability, f"`{name}` means nothing to another vendor's model", to, hint, name)
    if name == "text" and isinstance(value, Mapping) and value.get("format"):
        refuse("output_format", "`text.format` is of a kind of its own", to, OWN, "text.format")


def _check_tools(asked: chat.Request, to: str) -> None:
    for at, tool in enumerate(asked.tools):
        if isinstance(tool, chat.Opaque):
            if _loads_lazily(tool):
                continue
            kind = kind_of(tool)
            capability = "custom_tools" if kind == "custom" else "server_tools"
            refuse(capability, f"The tool {kind} is {tool.origin}'s own", to, OWN, f"tools[{at}]")
        check_name(tool.name, to, f"tools[{at}]")


def _loads_lazily(tool: chat.Opaque) -> bool:
    """A vendor's search among tools that are all defined here: elsewhere all are simply offered."""
    kind = kind_of(tool)
    return kind.startswith("tool_search") and tool.value.get("execution") != "client"


def _plain_tools(asked: chat.Request, dropped: dict[str, None]) -> Iterator[chat.Tool]:
    for tool in asked.tools:
        if isinstance(tool, chat.Opaque):
            dropped["tool_search"] = None
        else:
            note_extra(tool.extra, dropped)
            yield replace(tool, extra={})


# Parts, each with the message it came from.


def _pieces(asked: chat.Request, to: str, dropped: dict[str, None]) -> Iterator[Piece]:
    for at, message in enumerate(asked.messages):
        note_extra(message.extra, dropped)
        place = place_of(asked, at)
        carried = [
            part
            for said in message.parts
            if (part := carried_part(said, to, place, dropped)) is not None
        ]
        if message.role == "assistant" or to in TURNS or len(carried) > 1:
            carried = [part for part in carried if not _empty(part)]
        for part in carried:
            is_result = isinstance(part, chat.ToolResult)
            role: chat.Role = "tool" if is_result else message.role
            yield Piece("user" if role == "tool" and not is_result else role, part, at)


def _empty(part: chat.Part) -> bool:
    return isinstance(part, chat.Text) and not part.text


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
