"""Neutral requests in Gemini's words.

A request of this dialect gets back all that it said beside the neutral words. One of another
dialect is fitted to the generation of the model: the third wants a signature on each first function
call, and Google documents what to send for a call that no Gemini model made; it takes pictures
within a tool's result, and tools beside a JSON schema. Results name their function, which is looked
up by the call's id.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from modelspend import chat
from modelspend.delivery import is_object
from modelspend.dialects.dialect import Encoded, RequestView
from modelspend.dialects.effort import budget_of, nearest
from modelspend.dialects.gemini_neutral import ALIKE, FORM, NAME, SETTINGS
from modelspend.dialects.gemini_parts import (
    call_fields,
    media_fields,
    named,
    own_parts,
    own_tools,
    result_fields,
)
from modelspend.dialects.json_schema import OPEN, narrowed, plain_root
from modelspend.dialects.media_types import media_type
from modelspend.dialects.reader import as_object
from modelspend.dialects.writing import Notes, body_of, fields_of

FOREIGN_CALL = "skip_thought_signature_validator"
"""What stands for the signature of a function call that no Gemini model made.

ai.google.dev/gemini-api/docs/thought-signatures, "FAQs", and the page of the same name of Vertex AI
(as quoted in public, 2026-11-25): a documented word, not a signature made up.
"""

_MOST_STOPS = 5  # ai.google.dev/api/generate-content, `stopSequences`
_HOTTEST = 2.0
_HINT = "Ask a model of a provider that takes it."
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
_GENERATION = re.compile(r"gemini-(?:(\d{1,2})(?:\.(\d{1,2}))?)?")
_NEWEST = (99, 0)
_NOTHING: tuple[Any, ...] = (None, [], {})


def encode(asked: chat.Request, model: str) -> Encoded:
    """A request for a model's name upstream. Raises Uncarriable, or BadRequest."""
    notes = Notes(NAME)
    own = asked.origin == NAME
    told = _own_fields(asked) if own else _Foreign(model, asked, notes).fields()
    body = body_of({name: kept for name, kept in told.items() if kept not in _NOTHING})
    view = RequestView(
        model=model,
        stream=asked.stream,
        body=fields_of(body),
        operation="streamGenerateContent?alt=sse" if asked.stream else "generateContent",
        max_output=asked.max_output,
    )
    return Encoded(view=view, body=body, dropped=tuple(notes.dropped), added=tuple(notes.added))


def generation(model: str) -> tuple[int, int] | None:
    """Which Gemini a name is; the newest where it does not say, None for other models."""
    found = _GENERATION.search(model.lower())
    if found is None:
        return None
    return (int(found[1]), int(found[2] or 0)) if found[1] else _NEWEST


# A request of this dialect.


def _own_fields(asked: chat.Request) -> dict[str, Any]:
    first, *rest = asked.messages or (chat.Message(role="user", parts=()),)
    system = first if first.role == "system" else None
    extra = dict(asked.extra)
    config = {name: extra.pop(name) for name in SETTINGS | FORM if name in extra}
    config |= {name: extra.pop(common) for name, common in ALIKE.items() if common in extra}
    config |= as_object(extra.pop("generationConfig", None))
    if (effort := asked.reasoning_effort) and not _says_effort(config.get("thinkingConfig")):
        told = ("thinkingBudget", 0) if effort == "none" else ("thinkingLevel", effort)
        config["thinkingConfig"] = {**as_object(config.get("thinkingConfig")), told[0]: told[1]}
    tool_config = dict(as_object(extra.pop("toolConfig", None)))
    if asked.tool_choice is not None:
        tool_config.setdefault("functionCallingConfig", _calling(asked.tool_choice))
    return {
        "systemInstruction": {"parts": own_parts(system.parts)} if system else None,
        "contents": [_own_content(message) for message in (rest if system else asked.messages)],
        "tools": list(own_tools(asked.tools)),
        "toolConfig": tool_config,
        "generationConfig": _settings(asked) | _own_output(asked.output) | config,
        **extra,
    }


def _says_effort(thinking: object) -> bool:
    return not as_object(thinking).keys().isdisjoint({"thinkingBudget", "thinkingLevel"})


def _own_content(message: chat.Message) -> dict[str, Any]:
    role = "model" if message.role == "assistant" else "user"
    return {"role": role, "parts": own_parts(message.parts), **message.extra}


def _own_output(output: chat.OutputFormat | None) -> dict[str, Any]:
    if output is None:
        return {}
    told: dict[str, Any] = {"responseMimeType": "application/json"}
    return told | ({"responseJsonSchema": output.schema} if output.schema else {})


class _Foreign:
    """A request of another dialect, fitted to a model."""

    def __init__(self, model: str, asked: chat.Request, notes: Notes) -> None:
        self._asked = asked
        self._notes = notes
        self._generation = generation(model)
        self._newest_rules = self._generation is not None and self._generation >= (3, 0)
        self._model = model.lower()
        self._names: dict[str, str] = {}  # call id → function

    def fields(self) -> dict[str, Any]:
        asked = self._asked
        system, contents = self._conversation()
        calling = None
        if asked.tool_choice is not None and asked.tools:
            calling = {"functionCallingConfig": _calling(asked.tool_choice)}
            if asked.tool_choice.parallel is False:
                own = asked.origin == "anthropic.messages"
                self._notes.drop("disable_parallel_tool_use" if own else "parallel_tool_calls")
        told = {
            "systemInstruction": {"parts": system} if system else None,
            "contents": contents,
            "tools": self._tools(),
            "toolConfig": calling,
            "generationConfig": self._config(),
        }
        self._notes.leave(asked.extra, *ALIKE.values())
        return told

    # The conversation.

    def _conversation(self) -> tuple[list[Any], list[dict[str, Any]]]:
        """System parts from before the first turn, and the turns, one for each change of role."""
        system: list[Any] = []
        turns: list[dict[str, Any]] = []
        for at, message in enumerate(self._asked.messages):
            self._notes.leave(message.extra)
            role = "model" if message.role == "assistant" else "user"
            parts = list(self._parts(message.parts, f"messages[{at}]"))
            if message.role == "system" and not turns:
                system += self._only_text(parts)
            elif not parts:
                continue
            elif turns and turns[-1]["role"] == role:
                turns[-1]["parts"] += parts
            else:
                turns.append({"role": role, "parts": parts})
        if not turns:
            self._notes.refuse_silence()
        for turn in turns:
            self._sign(turn["parts"])
        return system, turns

    def _only_text(self, parts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """A system prompt is words alone."""
        for part in parts:
            if "text" in part:
                yield part
            else:
                self._notes.drop(next(iter(part)))

    def _sign(self, parts: list[dict[str, Any]]) -> None:
        """The first call of a turn carries the signature of all."""
        if self._newest_rules:
            first = next((part for part in parts if "functionCall" in part), None)
            if first is not None:
                first["thoughtSignature"] = FOREIGN_CALL
                self._notes.add("thoughtSignature")

    def _parts(self, parts: Iterable[chat.Part], place: str) -> Iterator[dict[str, Any]]:
        after: list[dict[str, Any]] = []
        for part in parts:
            match part:
                case chat.Text():
                    self._notes.leave(part.extra, "type")
                    if part.text:
                        yield {"text": part.text}
                case chat.Media():
                    yield self._media(part)
                case chat.ToolCall():
                    self._notes.leave(part.extra)
                    self._names[part.call_id] = part.name
                    yield {"functionCall": call_fields(part)}
                case chat.ToolResult():
                    self._notes.leave(part.extra)
                    yield {"functionResponse": self._result(part, after, place)}
                case chat.Reasoning():
                    self._notes.drop("thinking")
                case chat.Opaque():
                    kind = str(part.value.get("type") or next(iter(part.value), "part"))
                    self._notes.refuse(kind, f"A part of kind {kind} has no words", _HINT, place)
        yield from after

    def _media(self, part: chat.Media) -> dict[str, Any]:
        self._notes.leave({k: v for k, v in part.extra.items() if v not in (None, "auto")})
        kind, told = media_fields(part, media_type(part))
        return {kind: told}

    def _result(
        self, result: chat.ToolResult, after: list[dict[str, Any]], place: str
    ) -> dict[str, Any]:
        """A tool's result; its pictures within it where the model takes them, else after it.

        Links are taken there by Vertex AI alone (google-genai's `FunctionResponseFileData`).
        """
        name = result.name or self._names.get(result.call_id) or "tool"
        within: list[dict[str, Any]] = []
        media: list[dict[str, Any]] = []
        texts: list[str] = []
        for inner in result.parts:
            if isinstance(inner, chat.Text):
                self._notes.leave(inner.extra, "type")
                texts.append(inner.text)
            elif isinstance(inner, chat.Media):
                told = self._media(inner)
                (within if self._newest_rules and _fits_result(told) else media).append(told)
            else:
                media += self._parts([inner], place)
        told = result_fields(result, name, _response(texts, result.is_error))
        if media:
            self._notes.drop("tool_result_media")
            after += media
        return told | ({"parts": within} if within else {})

    # Tools.

    def _tools(self) -> list[dict[str, Any]] | None:
        declared = [self._tool(tool, f"tools[{at}]") for at, tool in enumerate(self._asked.tools)]
        return [{"functionDeclarations": declared}] if declared else None

    def _tool(self, tool: chat.Tool | chat.Opaque, place: str) -> dict[str, Any]:
        if isinstance(tool, chat.Opaque):
            self._notes.refuse("server_tools", "A tool is its vendor's own", _HINT, place)
        self._notes.leave(tool.extra)
        if tool.strict:
            self._notes.drop("strict")
        root = plain_root(tool.schema)
        if root is None:
            why = "The parameters of a tool are a choice between objects"
            self._notes.refuse("tool_schema", why, "Describe one object.", place)
        fit = narrowed(root, OPEN)
        if fit.schema is None:
            why = f"The schema of a tool {fit.fault}"
            self._notes.refuse("tool_schema", why, "Simplify it.", place)
        self._notes.narrow(fit)
        return {**named(tool), "parametersJsonSchema": fit.schema} if tool.schema else named(tool)

    # Settings.

    def _config(self) -> dict[str, Any]:
        asked = self._asked
        told = _settings(asked)
        if len(asked.stop) > _MOST_STOPS:
            told["stopSequences"] = list(asked.stop[:_MOST_STOPS])
            self._notes.drop("stop")
        if (heat := asked.temperature) is not None and not 0 <= heat <= _HOTTEST:
            told["temperature"] = min(max(heat, 0), _HOTTEST)
            self._notes.drop("temperature")
        if asked.seed is not None and not -(2**31) <= asked.seed < 2**31:
            del told["seed"]
            self._notes.drop("seed")
        for name, common in ALIKE.items():
            value = asked.extra.get(common)
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                self._notes.drop(common)
            elif value:  # 0 is what holds anyway
                told[name] = value
        return told | self._output(asked.output) | self._thinking(asked.reasoning_effort)

    def _output(self, output: chat.OutputFormat | None) -> dict[str, Any]:
        if output is None or output.kind == "text":
            return {}
        old = self._generation is not None and not self._newest_rules
        if old and self._asked.tools:
            why = "This Gemini model takes no JSON output beside tools"
            kind = "json_schema" if output.kind == "json_schema" else "json"
            self._notes.refuse(kind, why, "Ask a newer model, or leave the tools out.")
        told: dict[str, Any] = {"responseMimeType": "application/json"}
        if output.kind == "json" or not output.schema:
            return told
        fit = narrowed(output.schema, OPEN)
        if fit.schema is None:
            why = f"The JSON schema {fit.fault}"
            self._notes.refuse("json_schema", why, "Simplify it, or ask another model.")
        self._notes.narrow(fit)
        return told | {"responseJsonSchema": fit.schema}

    def _thinking(self, effort: str | None) -> dict[str, Any]:
        """Levels since the third generation, budgets in 2.5, nothing before and elsewhere."""
        if effort is None:
            return {}
        if self._newest_rules:
            return self._level(effort)
        budget = budget_of(effort)
        if budget is None or self._generation is None or self._generation < (2, 5):
            if effort != "none":
                self._notes.drop("reasoning_effort")
            return {}
        if budget == 0 and "pro" in self._model:
            budget = _LEAST_OF_PRO
            self._notes.drop("reasoning_effort:none")
        return {"thinkingConfig": {"thinkingBudget": budget}}

    def _level(self, effort: str) -> dict[str, Any]:
        """The nearest level that the model has; none of them is no thinking at all.

        docs.cloud.google.com/gemini-enterprise-agent-platform/models/thinking (read 2026-11-25):
        all have low and high, all but 3 Pro medium, Flash minimal too up to 3.6.
        """
        levels = ["low", "medium", "high"]
        if self._generation == (3, 0) and "pro" in self._model:
            levels.remove("medium")
        elif "flash" in self._model and self._generation is not None:
            levels[:0] = ["minimal"] if self._generation <= (3, 6) else []
        level = nearest("minimal" if effort == "none" else effort, levels)
        if level is None:
            self._notes.drop("reasoning_effort")
            return {}
        if effort == "medium" and level == "low":
            level = "high"  # so does Google's own endpoint for OpenAI's words
        if level != effort:
            self._notes.drop(f"reasoning_effort:{effort}")
        return {"thinkingConfig": {"thinkingLevel": level}}


_LEAST_OF_PRO = 128  # 2.5 Pro cannot stop thinking; the page on thinking names this least budget


def _settings(asked: chat.Request) -> dict[str, Any]:
    told = {
        "maxOutputTokens": asked.max_output,
        "temperature": asked.temperature,
        "topP": asked.top_p,
        "stopSequences": list(asked.stop) or None,
        "seed": asked.seed,
    }
    return {name: value for name, value in told.items() if value is not None}


def _calling(choice: chat.ToolChoice) -> dict[str, Any]:
    named = {"allowedFunctionNames": [choice.name or ""]} if choice.mode == "named" else {}
    return {"mode": _MODES[choice.mode], **named}


def _fits_result(told: Mapping[str, Any]) -> bool:
    """Whether a medium may stand within a tool's result: a picture, a PDF or a plain text."""
    mime = str(as_object(told.get("inlineData")).get("mimeType") or "")
    return mime.startswith("image/") or mime in ("application/pdf", "text/plain")


def _response(texts: list[str], failed: bool) -> Any:
    """Words as the object that a function must answer with.

    Google reads `output` and `error` as the output and the error, and any other object as the
    output whole; so an object of the tool's own goes as it is unless it has such a member.
    """
    words = texts[0] if len(texts) == 1 else texts
    if failed:
        return {"error": words if isinstance(words, str) else "\n".join(words)}
    whole = orjson.loads(words) if isinstance(words, str) and is_object(words) else {"output": ""}
    if whole.keys().isdisjoint({"output", "error"}):
        return orjson.Fragment(words)
    return {"output": words or ""}
