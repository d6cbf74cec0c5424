"""What a neutral request means, stripped of how it is cut into messages and named by ids.

Two requests mean the same when these are equal. What the translation says it dropped or changed is
taken out of both sides, and nothing else.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelspend import chat

UNSAID = object()
_SETTINGS = {
    "max_tokens": "max_output",
    "parallel_tool_calls": "parallel",
    "disable_parallel_tool_use": "parallel",
}
# Budgets of tokens know fewer levels than words do, and none is the absence of one.
_EFFORTS = {"none": None, "minimal": "low", "xhigh": "high", "max": "high"}


@dataclass
class Meaning:
    """`said` is everything in order save tool results, which are kept by the call they answer."""

    said: list[tuple[Any, ...]] = field(default_factory=list)
    results: dict[int, list[Any]] = field(default_factory=dict)
    media_of_results: list[Any] = field(default_factory=list)
    tools: list[tuple[Any, ...]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


def meaning(asked: chat.Request, without: Collection[str] = ()) -> Meaning:
    told = Meaning()
    calls: dict[str, list[int]] = {}
    count = 0
    for message in asked.messages:
        for part in message.parts:
            match part:
                case chat.ToolCall():
                    # by id, and by name where Google gives no id
                    calls.setdefault(part.call_id or part.name, []).append(count)
                    told.said.append(("call", count, part.name, _arguments(part.arguments)))
                    count += 1
                case chat.ToolResult():
                    waiting = calls.get(part.call_id or part.name or "", [])
                    assert waiting, f"no call for the result {part.call_id}"
                    texts, media = _told(part.parts)
                    told.results[waiting.pop(0)] = _words(texts)
                    told.media_of_results += media
                case chat.Reasoning() | chat.Opaque():
                    assert isinstance(part, chat.Reasoning), "a foreign part went through"
                case _:
                    told.said += _spoken(message.role, part)
    for tool in asked.tools:
        assert isinstance(tool, chat.Tool)
        told.tools.append((tool.name, tool.description, _schema(tool.schema), bool(tool.strict)))
    told.settings = {
        "tool_choice": _choice(asked.tool_choice) if asked.tools else None,
        "parallel": not asked.tools or _parallel(asked.tool_choice),
        "output": _output(asked.output),
        "max_output": asked.max_output,
        "temperature": None if asked.temperature == 1 else asked.temperature,  # what holds anyway
        "top_p": None if asked.top_p == 1 else asked.top_p,
        "stop": asked.stop,
        "seed": asked.seed,
        "reasoning_effort": _EFFORTS.get(asked.reasoning_effort, asked.reasoning_effort),
        "stream": asked.stream,
    }
    _forgive(told, without)
    return told


def _spoken(role: str, part: chat.Part) -> Iterator[tuple[Any, ...]]:
    if isinstance(part, chat.Text) and part.text:
        yield (role, "text", part.text)
    elif isinstance(part, chat.Media):
        yield (role, *_medium(part))


def _medium(part: chat.Media) -> tuple[Any, ...]:
    """Without its kind: what one vendor calls a file is audio by its type to another."""
    return ("media", part.data or part.url)


def _told(parts: Collection[chat.Part]) -> tuple[list[str], list[Any]]:
    texts = [part.text for part in parts if isinstance(part, chat.Text)]
    # Anthropic's way to say which tool a search has found
    found = [part.value for part in parts if isinstance(part, chat.Opaque)]
    texts += [value["tool_name"] for value in found if value.get("type") == "tool_reference"]
    return texts, [_medium(part) for part in parts if isinstance(part, chat.Media)]


def _words(texts: list[str]) -> list[Any]:
    """A result's words; one that is JSON counts as its value, which Google's dialect takes."""
    if len(texts) == 1:
        value = _value(texts[0])
        if isinstance(value, dict) and len(value) == 1 and value.keys() & {"result", "output"}:
            value = next(iter(value.values()))
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value or [""]
        return [_value(value) if isinstance(value, str) else value]
    return [_value(text) for text in texts] or [""]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _arguments(said: str) -> Any:
    value = _value(said if said.strip() else "{}")
    if isinstance(value, dict) and value.keys() == {"raw_arguments"}:
        return _value(value["raw_arguments"])
    return value


def _schema(schema: Any) -> Any:
    """Absent and empty parameters mean the same as an object without any."""
    told = _plain(schema or {}, (schema or {}).get("$defs", {}))
    return told if told.get("properties") or told.keys() - {"type", "properties"} else {}


def _choice(choice: chat.ToolChoice | None) -> Any:
    if choice is None or choice.mode == "auto":
        return None
    return (choice.mode, choice.name)


def _parallel(choice: chat.ToolChoice | None) -> bool:
    """Whether several calls at once are welcome: they are unless it is said otherwise."""
    return choice is None or choice.mode == "none" or choice.parallel is not False


def _output(output: chat.OutputFormat | None) -> Any:
    if output is None or output.kind == "text":
        return None
    schema = output.schema or {}
    return (output.kind, _plain(schema, schema.get("$defs", {})))


def _plain(schema: Any, defs: Mapping[str, Any]) -> Any:
    """A schema with its definitions in place, open objects, and one word for a single value.

    Some vendors want every object to be closed, and some know neither references nor `const`.
    """
    if isinstance(schema, list):
        return [_plain(item, defs) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    told = {key: value for key, value in schema.items() if key != "$defs" and value != []}
    name = str(told.get("$ref", "")).rpartition("/")[2]
    if name in defs:  # and within itself it stays a reference
        del told["$ref"]
        told = {**defs[name], **told}
        defs = {key: value for key, value in defs.items() if key != name}
    if told.get("additionalProperties") is False:
        del told["additionalProperties"]
    if "const" in told:
        told["enum"] = [told.pop("const")]
    return {key: _plain(value, defs) for key, value in told.items()}


def _forgive(told: Meaning, without: Collection[str]) -> None:
    if "system_role" in without:
        told.said = [("user", *item[1:]) if item[0] == "system" else item for item in told.said]
    if "opening_turn" in without and ("user", "text", ".") in told.said:
        told.said.remove(("user", "text", "."))
    if "tool_result_media" in without:
        told.said = [item for item in told.said if item[1] in ("text",) or item[0] == "call"]
        told.media_of_results = []
    for name in without:
        name = _SETTINGS.get(name, name)
        told.settings.pop(name.partition(":")[0], None)
    if "strict" in without:
        told.tools = [(*tool[:3], UNSAID) for tool in told.tools]
    if any(name.startswith("schema:") for name in without):
        told.settings.pop("output", None)
        told.tools = [(*tool[:2], UNSAID, tool[3]) for tool in told.tools]
