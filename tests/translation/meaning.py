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
                    told.said += _plain(message.role, part)
    for tool in asked.tools:
        assert isinstance(tool, chat.Tool)
        told.tools.append((tool.name, tool.description, _schema(tool.schema), bool(tool.strict)))
    told.settings = {
        "tool_choice": _choice(asked.tool_choice) if asked.tools else None,
        "parallel": asked.tool_choice.parallel if asked.tool_choice and asked.tools else None,
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


def _plain(role: str, part: chat.Part) -> Iterator[tuple[Any, ...]]:
    if isinstance(part, chat.Text) and part.text:
        yield (role, "text", part.text)
    elif isinstance(part, chat.Media):
        yield (role, *_medium(part))


def _medium(part: chat.Media) -> tuple[Any, ...]:
    return (part.kind, part.data or part.url)


def _told(parts: Collection[chat.Part]) -> tuple[list[str], list[Any]]:
    texts = [part.text for part in parts if isinstance(part, chat.Text)]
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
    told = dict(schema or {})
    return told if told.get("properties") or told.keys() - {"type", "properties"} else {}


def _choice(choice: chat.ToolChoice | None) -> Any:
    if choice is None or choice.mode == "auto":
        return None
    return (choice.mode, choice.name)


def _output(output: chat.OutputFormat | None) -> Any:
    if output is None or output.kind == "text":
        return None
    return (output.kind, _open(output.schema or {}))


def _open(schema: Any) -> Any:
    """A schema whose objects may hold more: some vendors want every one to be closed."""
    if isinstance(schema, list):
        return [_open(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = schema.get("additionalProperties") is False
    return {k: _open(v) for k, v in schema.items() if not (closed and k == "additionalProperties")}


def _forgive(told: Meaning, without: Collection[str]) -> None:
    if "system_role" in without:
        told.said = [("user", *item[1:]) if item[0] == "system" else item for item in told.said]
    if "opening_turn" in without and ("user", "text", ".") in told.said:
        told.said.remove(("user", "text", "."))
    if "tool_result_media" in without:
        told.said = [item for item in told.said if item[1] in ("text",) or item[0] == "call"]
        told.media_of_results = []
    for name in without:
        name = {"max_tokens": "max_output"}.get(name, name)
        told.settings.pop(name.partition(":")[0], None)
    if "strict" in without:
        told.tools = [(*tool[:3], UNSAID) for tool in told.tools]
    if any(name.startswith("json_schema:") for name in without):
        told.settings.pop("output", None)
    if any(name.startswith("tool_schema:") for name in without):
        told.tools = [(*tool[:2], UNSAID, tool[3]) for tool in told.tools]
