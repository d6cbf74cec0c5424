"""Neutral requests in Anthropic's words.

A request of this dialect gets back all that it said beside the neutral words. One of another
dialect is fitted to what the model named takes (`anthropic_models`): what must go is named, what
must be there is added and named too. Thinking of another provider never goes out, and no signature
is made up.
"""

import binascii
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from modelspend import chat
from modelspend.dialects.anthropic_models import Abilities, abilities
from modelspend.dialects.anthropic_neutral import NAME, implied_effort
from modelspend.dialects.dialect import Encoded, RequestView
from modelspend.dialects.effort import budget_of, nearest
from modelspend.dialects.json_schema import CLOSED, narrowed, plain_root
from modelspend.dialects.media_types import media_type
from modelspend.dialects.reader import as_object
from modelspend.dialects.writing import Notes, arguments_object, body_of, fields_of

DEFAULT_OUTPUT = 4096
"""Anthropic wants a limit (`max_tokens`); this one is put in where nobody asked for any."""

_LEAST_BUDGET = 1024
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_HINT = "Ask a model of a provider that takes it."


def encode(asked: chat.Request, model: str) -> Encoded:
    """A message request for a model's name upstream. Raises Uncarriable, or BadRequest."""
    notes = Notes(NAME)
    if asked.origin == NAME:
        told = _Own().fields(asked, model, notes)
    else:
        told = _Foreign(abilities(model), notes).fields(asked, model)
    body, limit = body_of(told), told["max_tokens"]
    view = RequestView(model=model, stream=asked.stream, body=fields_of(body), max_output=limit)
    return Encoded(view=view, body=body, dropped=tuple(notes.dropped), added=tuple(notes.added))


class _Own:
    """A request that was this dialect's own: nothing is judged, everything goes back."""

    def fields(self, asked: chat.Request, model: str, notes: Notes) -> dict[str, Any]:
        first, *rest = asked.messages or (chat.Message(role="user", parts=()),)
        system = first if first.role == "system" else None
        messages = rest if system else asked.messages
        extra = dict(asked.extra)
        thinking, config = extra.pop("thinking", None), dict(extra.pop("output_config", {}))
        effort = asked.reasoning_effort
        if thinking is None and effort == "none":
            thinking = {"type": "disabled"}
        elif effort and effort != implied_effort(as_object(thinking)):
            config.setdefault("effort", effort)
        if asked.output is not None:
            config["format"] = {"type": "json_schema", "schema": asked.output.schema or {}}
        if asked.max_output is None:
            notes.add("max_tokens")
        told = {
            "model": model,
            "max_tokens": DEFAULT_OUTPUT if asked.max_output is None else asked.max_output,
            "system": _own_content(system.parts) if system else None,
            "messages": [self._message(message) for message in messages],
            "tools": [self._tool(tool) for tool in asked.tools] or None,
            "tool_choice": _tool_choice(asked.tool_choice),
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "stop_sequences": list(asked.stop) or None,
            "thinking": thinking,
            "output_config": config or None,
            "stream": True if asked.stream else None,
        }
        return {key: value for key, value in told.items() if value is not None} | extra

    def _message(self, message: chat.Message) -> dict[str, Any]:
        role = "user" if message.role == "tool" else message.role
        return {"role": role, "content": _own_content(message.parts), **message.extra}

    def _tool(self, tool: chat.Tool | chat.Opaque) -> Mapping[str, Any]:
        if isinstance(tool, chat.Opaque):
            return tool.value
        told = _tool_fields(tool, tool.schema)
        return told | ({} if tool.strict is None else {"strict": tool.strict}) | dict(tool.extra)


def _own_content(parts: Iterable[chat.Part]) -> Any:
    """Blocks; a lone plain text as the string that it is short for."""
    match tuple(parts):
        case (chat.Text(text=said, extra=extra),) if not extra:
            return said
        case several:
            return [_own_block(part) for part in several]


def _own_block(part: chat.Part) -> Mapping[str, Any]:
    match part:
        case chat.Opaque():
            return part.value
        case chat.Reasoning(extra={"type": "redacted_thinking"}):
            return {"type": "redacted_thinking", "data": part.sealed or ""}
        case chat.Reasoning():
            told = {"type": "thinking", "thinking": part.text, "signature": part.sealed or ""}
            return told | dict(part.extra)
        case chat.ToolResult():
            result = _result_fields(part, _own_content(part.parts))
            return result | dict(part.extra)
        case chat.Text():
            return {"type": "text", "text": part.text, **part.extra}
        case chat.ToolCall():
            return _call_fields(part) | dict(part.extra)
        case chat.Media():
            return _media_fields(part, part.kind == "image") | dict(part.extra)


class _Foreign:
    """A request of another dialect, fitted to a model."""

    def __init__(self, able: Abilities, notes: Notes) -> None:
        self._able = able
        self._notes = notes

    def fields(self, asked: chat.Request, model: str) -> dict[str, Any]:
        system, messages = self._conversation(asked)
        limit = asked.max_output
        thinking, effort, room = self._thinking(asked, messages)
        if limit is None:
            self._notes.add("max_tokens")
            limit = DEFAULT_OUTPUT + room
        told = {
            "model": model,
            "max_tokens": limit,
            "system": system or None,
            "messages": messages,
            "tools": [self._tool(tool, at) for at, tool in enumerate(asked.tools)] or None,
            "tool_choice": _tool_choice(asked.tool_choice) if asked.tools else None,
            "stop_sequences": self._stops(asked.stop) or None,
            "thinking": thinking,
            "output_config": self._output_config(asked.output, effort) or None,
            "stream": True if asked.stream else None,
            **self._sampling(asked, thinking is not None),
        }
        if asked.seed is not None:
            self._notes.drop("seed")
        self._notes.leave(asked.extra, "top_k")
        return {key: value for key, value in told.items() if value is not None}

    # The conversation.

    def _conversation(self, asked: chat.Request) -> tuple[list[Any], list[dict[str, Any]]]:
        """System blocks from before the first turn, and the turns, one for each change of role."""
        system: list[Any] = []
        turns: list[dict[str, Any]] = []
        for at, message in enumerate(asked.messages):
            self._notes.leave(message.extra)
            place = f"messages[{at}]"
            role = "assistant" if message.role == "assistant" else "user"
            blocks = list(self._blocks(message.parts, role, place))
            if message.role == "system" and not turns:
                system += self._only_text(blocks)
            elif not blocks:
                continue
            elif turns and turns[-1]["role"] == role:
                turns[-1]["content"] += blocks
            else:
                turns.append({"role": role, "content": blocks})
        if not turns:
            self._notes.refuse_silence()
        if turns[0]["role"] == "assistant":  # what opened the conversation was white space
            turns.insert(0, {"role": "user", "content": [{"type": "text", "text": "."}]})
            self._notes.add("opening_turn")
        if turns[-1]["role"] == "assistant":
            self._open_answer(turns[-1]["content"], f"messages[{len(asked.messages) - 1}]")
        return system, turns

    def _only_text(self, blocks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """A system prompt is words alone."""
        for block in blocks:
            if block["type"] == "text":
                yield block
            else:
                self._notes.drop(block["type"])

    def _open_answer(self, blocks: list[Any], place: str) -> None:
        """The assistant's own words at the end are the opening of the answer."""
        if not self._able.prefill:
            why = "The conversation ends with the assistant, whose words the model cannot continue"
            self._notes.refuse("prefill", why, "End it with a user message.", place)
        if blocks[-1]["type"] == "text":  # an ending in white space is refused
            blocks[-1] = {**blocks[-1], "text": blocks[-1]["text"].rstrip()}

    def _blocks(
        self, parts: Iterable[chat.Part], role: str, place: str
    ) -> Iterator[dict[str, Any]]:
        for part in parts:
            match part:
                case chat.Text():
                    self._notes.leave(part.extra, "type")
                    if part.text.strip():  # Anthropic refuses text of nothing but white space
                        yield {"type": "text", "text": part.text}
                case chat.Media() if role == "assistant":
                    self._notes.drop(part.kind)
                case chat.Media():
                    yield self._media(part, place)
                case chat.ToolCall():
                    self._notes.leave(part.extra)
                    yield _call_fields(part)
                case chat.ToolResult():
                    self._notes.leave(part.extra)
                    inner = list(self._blocks(part.parts, "tool", place))
                    yield _result_fields(part, inner or "")
                case chat.Reasoning():
                    self._notes.drop("thinking")
                case chat.Opaque():
                    kind = str(part.value.get("type") or next(iter(part.value), "part"))
                    self._notes.refuse(kind, f"A part of kind {kind} has no words", _HINT, place)

    def _media(self, part: chat.Media, place: str) -> dict[str, Any]:
        told = media_type(part)
        if part.kind in ("audio", "video") or told.startswith(("audio/", "video/")):
            kind = told.partition("/")[0] if part.kind == "file" else part.kind
            self._notes.refuse(kind, f"No Claude model takes {kind}", _HINT, place)
        image = part.kind == "image" or told in _IMAGES
        if part.data and image and told not in _IMAGES:
            self._notes.refuse("vision", f"An image of type {told[:64]} is not taken", _HINT, place)
        if part.data and not image and told != "application/pdf" and not _is_text(told):
            self._notes.refuse("file", f"A file of type {told[:64]} is not taken", _HINT, place)
        title = part.extra.get("filename")
        self._notes.leave(
            {k: v for k, v in part.extra.items() if v not in (None, "auto")}, "filename"
        )
        named = {"title": title} if title and not image and isinstance(title, str) else {}
        return _media_fields(part, image) | named

    # Tools.

    def _tool(self, tool: chat.Tool | chat.Opaque, at: int) -> dict[str, Any]:
        place = f"tools[{at}]"
        if isinstance(tool, chat.Opaque):
            self._notes.refuse("server_tools", "A tool is its vendor's own", _HINT, place)
        self._notes.leave(tool.extra)
        schema = plain_root(tool.schema)
        if schema is None:
            why = "The parameters of a tool are a choice between objects"
            self._notes.refuse("tool_schema", why, "Describe one object.", place)
        told = _tool_fields(tool, schema)
        if tool.strict:
            if self._able.structured and narrowed(schema, CLOSED).same:
                return told | {"strict": True}
            self._notes.drop("strict")
        return told

    # Everything else.

    def _stops(self, stops: Iterable[str]) -> list[str]:
        kept = [stop for stop in stops if stop.strip()]  # white space alone is refused
        if len(kept) < len(tuple(stops)):
            self._notes.drop("stop")
        return kept

    def _sampling(self, asked: chat.Request, thinks: bool) -> dict[str, Any]:
        """Temperature from 0 to 1; one of two samplings at most since 4.1, none beside thinking
        and since 4.7. The value 1 is what holds anyway."""
        top_k = asked.extra.get("top_k")
        if top_k is not None and not isinstance(top_k, int):
            self._notes.drop("top_k")
            top_k = None
        wanted = {"temperature": asked.temperature, "top_p": asked.top_p, "top_k": top_k}
        told = {name: value for name, value in wanted.items() if value is not None}
        if not self._able.sampling or thinks:
            for name, value in told.items():
                if name == "top_k" or value != 1:
                    self._notes.drop(name)
            return {}
        if (heat := told.get("temperature")) is not None and not 0 <= heat <= 1:
            told["temperature"] = min(max(heat, 0), 1)
            self._notes.drop("temperature")
        both = "temperature" in told and "top_p" in told
        if both and not self._able.both_samplings and told.pop("top_p") != 1:
            self._notes.drop("top_p")
        return told

    def _thinking(
        self, asked: chat.Request, messages: list[dict[str, Any]]
    ) -> tuple[dict[str, Any] | None, str | None, int]:
        """(thinking, effort, tokens that it may take beside the answer) for the effort asked.

        With a tool forced there is no thinking. With a budget of tokens, a turn that goes on after
        tool results must have begun with thinking, and ours was dropped; adaptive thinking has no
        such rule.
        """
        effort = asked.reasoning_effort
        if effort is None:
            return None, None, 0
        forced = asked.tool_choice is not None and asked.tool_choice.mode in ("required", "named")
        if self._able.thinking == "adaptive":
            return self._adaptive(effort, forced)
        budget = budget_of(effort)
        if effort == "none" or budget is None or self._able.thinking == "none":
            if effort != "none":
                self._notes.drop("reasoning_effort")
            return None, None, 0
        room = budget if asked.max_output is None else min(budget, asked.max_output // 2)
        goes_on = messages[-1]["role"] == "assistant" or any(
            block["type"] == "tool_result" for block in messages[-1]["content"]
        )
        if forced or goes_on or room < _LEAST_BUDGET:
            self._notes.drop("reasoning_effort")
            return None, None, 0
        return {"type": "enabled", "budget_tokens": room}, None, room

    def _adaptive(self, effort: str, forced: bool) -> tuple[dict[str, Any] | None, str | None, int]:
        """Some models cannot stop thinking; the lowest effort is as near to none as they come."""
        if effort == "none":
            self._notes.drop("reasoning_effort:none")
            return None, self._able.efforts[0], 0
        level = nearest(effort, self._able.efforts)
        if level is None:
            self._notes.drop("reasoning_effort")
            return None, None, 0
        if level != effort:
            self._notes.drop(f"reasoning_effort:{effort}")
        return (None if forced else {"type": "adaptive"}), level, budget_of(level) or 0

    def _output_config(
        self, output: chat.OutputFormat | None, effort: str | None
    ) -> dict[str, Any]:
        config: dict[str, Any] = {} if effort is None else {"effort": effort}
        if output is None or output.kind == "text":
            return config
        if output.kind == "json" or output.schema is None:
            why = "Anthropic's models write JSON only to a schema"
            self._notes.refuse("json", why, "Send a JSON schema, or ask another model.")
        if not self._able.structured:
            self._notes.refuse("json_schema", "This Claude model takes no JSON schema", _HINT)
        fit = narrowed(output.schema, CLOSED)
        if fit.schema is None:
            why = f"The JSON schema {fit.fault}"
            self._notes.refuse("json_schema", why, "Simplify it, or ask another model.")
        self._notes.narrow(fit)
        return config | {"format": {"type": "json_schema", "schema": fit.schema}}


# The words of one part, the same for both.


def _tool_choice(choice: chat.ToolChoice | None) -> dict[str, Any] | None:
    if choice is None:
        return None
    told: dict[str, Any] = {
        "type": {"required": "any", "named": "tool"}.get(choice.mode, choice.mode)
    }
    if choice.mode == "named":
        told["name"] = choice.name or ""
    if choice.parallel is not None and choice.mode != "none":
        told["disable_parallel_tool_use"] = not choice.parallel
    return told


def _tool_fields(tool: chat.Tool, schema: Mapping[str, Any]) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "input_schema": schema}


def _call_fields(call: chat.ToolCall) -> dict[str, Any]:
    asked = arguments_object(call.arguments)
    return {"type": "tool_use", "id": call.call_id, "name": call.name, "input": asked}


def _result_fields(result: chat.ToolResult, content: Any) -> dict[str, Any]:
    failed = {"is_error": True} if result.is_error else {}
    told = {"content": content} if content else {}
    return {"type": "tool_result", "tool_use_id": result.call_id, **told, **failed}


def _media_fields(part: chat.Media, image: bool) -> dict[str, Any]:
    told = media_type(part)
    source: dict[str, Any]
    if not part.data:
        source = {"type": "url", "url": part.url or ""}
    elif not image and _is_text(told):
        source = {"type": "text", "media_type": "text/plain", "data": _decoded(part.data)}
    else:
        source = {"type": "base64", "media_type": told, "data": part.data}
    return {"type": "image" if image else "document", "source": source}


def _is_text(told: str) -> bool:
    return told.startswith("text/") or told in ("application/json", "application/xml")


def _decoded(data: str) -> str:
    try:
        return b64decode(data).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return data
