"""Gemini requests in neutral words.

Google reads every field in two spellings, so all names are read as camel case first. What the
settings say that has no neutral word is kept by its own name, as if it stood beside them. A tool's
result is an object here: one that only says `output` or `error` is read as those words.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from modelspend import chat
from modelspend.dialects.checks import an_object, number, objects, role, texts, whole
from modelspend.dialects.dialect import RequestView
from modelspend.dialects.effort import effort_of
from modelspend.dialects.openapi_schema import camel, json_schema
from modelspend.dialects.reader import as_list, as_object, as_text

NAME = "gemini.generate"
ALIKE = {
    "topK": "top_k",
    "frequencyPenalty": "frequency_penalty",
    "presencePenalty": "presence_penalty",
}
"""Settings that mean the same in every dialect, and their common names."""

SETTINGS = frozenset(
    {
        "candidateCount",
        "responseLogprobs",
        "logprobs",
        "responseModalities",
        "speechConfig",
        "mediaResolution",
        "enableEnhancedCivicAnswers",
        "enableAffectiveDialog",
        "audioTimestamp",
        "imageConfig",
        "routingConfig",
        "modelSelectionConfig",
        "translationConfig",
        "thinkingConfig",
    }
)
"""Settings that are kept by their own names."""

FORM = frozenset(
    {"responseMimeType", "responseSchema", "responseJsonSchema", "_responseJsonSchema"}
)
"""Settings that say the form of the answer; kept by their own names where it is not JSON."""

_SAID = FORM | {"temperature", "topP", "stopSequences", "seed", "maxOutputTokens"}
_PLAIN = "text/plain"
_ROLES = ("user", "model", "function")


def either(fields: Mapping[str, Any], camel_case: str, snake_case: str) -> str:
    """Google reads both spellings of a field; the one that is there."""
    return snake_case if camel_case not in fields and snake_case in fields else camel_case


def spelled(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The same fields in the spelling of the documentation."""
    return {camel(name): value for name, value in fields.items()}


def request(view: RequestView) -> chat.Request:
    """A generateContent request in neutral words. Raises BadRequest."""
    fields = spelled(view.body)
    system = _parts(an_object(fields.pop("systemInstruction", None), "systemInstruction"), "")
    contents = objects(_listed(fields.pop("contents", None)), "contents")
    tools = objects(_listed(fields.pop("tools", None)), "tools")
    config = spelled(an_object(fields.pop("generationConfig", None), "generationConfig"))
    choice, tool_config = _tool_choice(an_object(fields.pop("toolConfig", None), "toolConfig"))
    first = (chat.Message(role="system", parts=system),) if system else ()
    within = "generationConfig."
    effort = _effort(config)
    stops = texts(config.get("stopSequences"), f"{within}stopSequences")
    return chat.Request(
        model=view.model,
        origin=NAME,
        stream=view.stream,
        messages=first
        + tuple(_message(value, f"contents[{at}]") for at, value in enumerate(contents)),
        tools=tuple(tool for value in tools for tool in _tools(spelled(value))),
        tool_choice=choice,
        output=_output(config),
        max_output=view.max_output,
        temperature=number(config, "temperature", within),
        top_p=number(config, "topP", within),
        stop=stops,
        seed=whole(config, "seed", within),
        reasoning_effort=effort,
        extra=fields | _settings(config, within) | tool_config,
    )


def _listed(value: object) -> object:
    """A lone object where a list belongs, which Google reads as a list of one."""
    return [value] if isinstance(value, dict) else value


def _settings(config: Mapping[str, Any], within: str) -> dict[str, Any]:
    """What the settings say beside the neutral words; unknown ones stay in their place."""
    told: dict[str, Any] = {name: config[name] for name in SETTINGS if name in config}
    if config.get("responseMimeType") != "application/json":
        told |= {name: config[name] for name in FORM if config.get(name) not in (None, _PLAIN)}
    for name, common in ALIKE.items():
        value = (whole if name == "topK" else number)(config, name, within)
        if value is not None:
            told[common] = value
    known = SETTINGS | _SAID | ALIKE.keys()
    if rest := {name: value for name, value in config.items() if name not in known}:
        told["generationConfig"] = rest
    return told


def _effort(config: dict[str, Any]) -> str | None:
    """The effort asked for; a level says it all, of a budget more than the word stays."""
    told = config.get("thinkingConfig")
    if not isinstance(told, dict):
        return None
    thinking = spelled(told)
    level = thinking.get("thinkingLevel")
    named = isinstance(level, str) and level.lower() in _LEVELS
    if named and "thinkingBudget" not in thinking:
        del thinking["thinkingLevel"]
    if thinking:
        config["thinkingConfig"] = thinking
    else:
        del config["thinkingConfig"]
    return str(level).lower() if named else effort_of(thinking.get("thinkingBudget"))


_LEVELS = frozenset({"minimal", "low", "medium", "high", "xhigh"})


def _output(config: Mapping[str, Any]) -> chat.OutputFormat | None:
    if config.get("responseMimeType") != "application/json":
        return None
    schema = config.get("responseJsonSchema") or config.get("_responseJsonSchema")
    if isinstance(schema, dict):
        return chat.OutputFormat(kind="json_schema", schema=schema)
    if told := as_object(config.get("responseSchema")):
        return chat.OutputFormat(kind="json_schema", schema=json_schema(told))
    return chat.OutputFormat(kind="json")


# The conversation.


def _message(value: Mapping[str, Any], place: str) -> chat.Message:
    told = role(value.get("role") or "user", _ROLES, f"{place}.role")
    extra = {key: kept for key, kept in value.items() if key not in ("role", "parts")}
    by: chat.Role = "assistant" if told == "model" else "user"
    return chat.Message(role=by, parts=_parts(value, f"{place}."), extra=extra)


def _parts(content: Mapping[str, Any], place: str) -> tuple[chat.Part, ...]:
    found = objects(_listed(content.get("parts")), f"{place}parts")
    return tuple(part(value) for value in found if value)


def part(value: Mapping[str, Any]) -> chat.Part:
    """One part of a content, of a request or an answer."""
    told = spelled(value)
    sealed = as_text(told.get("thoughtSignature"))
    if isinstance(text := told.get("text"), str):
        extra = {name: kept for name, kept in told.items() if name not in ("text", "thought")}
        if told.get("thought") is not True:
            return chat.Text(text=text, extra=extra)
        extra.pop("thoughtSignature", None)
        return chat.Reasoning(text=text, sealed=sealed, origin=NAME, extra=extra)
    for name, read in _KINDS.items():
        if isinstance(inner := told.get(name), dict):
            extra = {key: kept for key, kept in told.items() if key not in (name, "thought")}
            return read(spelled(inner), extra)
    if sealed and told.keys() <= {"thought", "thoughtSignature"}:
        return chat.Reasoning(text="", sealed=sealed, origin=NAME, extra=BARE)
    return chat.Opaque(origin=NAME, value=value)


BARE: Mapping[str, Any] = {"type": "bare"}
"""Beside reasoning that was nothing but a signature."""


def _inline(told: Mapping[str, Any], extra: dict[str, Any]) -> chat.Part:
    mime = as_text(told.get("mimeType"))
    beside = {key: kept for key, kept in told.items() if key not in ("mimeType", "data")}
    data = as_text(told.get("data"))
    return chat.Media(kind=_media_kind(mime), mime=mime, data=data, extra=extra | beside)


def _linked(told: Mapping[str, Any], extra: dict[str, Any]) -> chat.Part:
    mime = as_text(told.get("mimeType"))
    beside = {key: kept for key, kept in told.items() if key not in ("mimeType", "fileUri")}
    url = as_text(told.get("fileUri"))
    return chat.Media(kind=_media_kind(mime), mime=mime, url=url, extra=extra | beside)


def _media_kind(mime: str | None) -> Any:
    kind = (mime or "").partition("/")[0]
    return kind if kind in ("image", "audio", "video") else "file"


def _call(told: Mapping[str, Any], extra: dict[str, Any]) -> chat.Part:
    beside = {key: kept for key, kept in told.items() if key not in ("id", "name", "args")}
    return chat.ToolCall(
        call_id=str(told.get("id") or ""),
        name=str(told.get("name") or ""),
        arguments=_json_text(told.get("args")),
        extra=extra | beside,
    )


def _result(told: Mapping[str, Any], extra: dict[str, Any]) -> chat.Part:
    said = as_object(told.get("response"))
    words, failed = _words(said)
    media = [part(value) for value in as_list(told.get("parts")) if isinstance(value, dict)]
    known = ("id", "name", "response", "parts")
    beside = {key: kept for key, kept in told.items() if key not in known}
    return chat.ToolResult(
        call_id=str(told.get("id") or ""),
        name=str(told.get("name") or ""),
        parts=(chat.Text(text=words), *media),
        is_error=failed,
        extra=extra | beside,
    )


_KINDS = {
    "inlineData": _inline,
    "fileData": _linked,
    "functionCall": _call,
    "functionResponse": _result,
}


def _words(response: Mapping[str, Any]) -> tuple[str, bool]:
    """(the words of a tool's result, whether it failed); any other object as its JSON."""
    if len(response) == 1:
        name, value = next(iter(response.items()))
        if name == "error" and isinstance(value, str):
            return value, True
        if name == "output" and isinstance(value, str) and not value.startswith("{"):
            return value, False
    return _json_text(response), False


def _json_text(value: object) -> str:
    """A value as JSON text; one nested too deep to be written is left empty."""
    try:
        return orjson.dumps({} if value is None else value).decode()
    except orjson.JSONEncodeError:
        return "{}"


# Tools.


def _tools(value: dict[str, Any]) -> Iterator[chat.Tool | chat.Opaque]:
    """One entry may declare many functions, or be a tool that Google runs."""
    declared = objects(value.pop("functionDeclarations", None), "tools.functionDeclarations")
    for told in map(spelled, declared):
        schema = as_object(told.pop("parametersJsonSchema", None))
        openapi = as_object(told.pop("parameters", None))
        yield chat.Tool(
            name=str(told.pop("name", None) or ""),
            description=str(told.pop("description", None) or ""),
            schema=schema or json_schema(openapi),
            extra=told,
        )
    if value:
        yield chat.Opaque(origin=NAME, value=value)


def _tool_choice(told: Mapping[str, Any]) -> tuple[chat.ToolChoice | None, dict[str, Any]]:
    """The choice, and what of the field says more (several functions allowed, say)."""
    config = spelled(told)
    calling = spelled(as_object(config.pop("functionCallingConfig", None)))
    allowed = as_list(calling.get("allowedFunctionNames"))
    choice: chat.ToolChoice | None = None
    exact = True
    match str(calling.get("mode") or "").upper():
        case "AUTO":
            choice, exact = chat.ToolChoice("auto"), not allowed
        case "NONE":
            choice, exact = chat.ToolChoice("none"), not allowed
        case "ANY" if len(allowed) == 1:
            choice = chat.ToolChoice("named", str(allowed[0]))
        case "ANY":
            choice, exact = chat.ToolChoice("required"), not allowed
        case "VALIDATED":  # as auto, and arguments that fit their schema
            choice, exact = chat.ToolChoice("auto"), False
        case _:
            exact = not calling
    if not exact or calling.keys() - {"mode", "allowedFunctionNames"}:
        config["functionCallingConfig"] = calling
    return choice, {"toolConfig": config} if config else {}
