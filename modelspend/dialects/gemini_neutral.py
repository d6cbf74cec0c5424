"""Gemini in neutral words: requests read, answers written.

Google reads most fields in two spellings, so reading asks for both. Thoughts are counted outside
the candidates here, and inside the output everywhere else. A written tool call is never in
fragments: it goes out when its arguments are whole.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from modelspend import chat
from modelspend.dialects.dialect import RequestView
from modelspend.dialects.reader import as_list, as_object, as_text

NAME = "gemini.generate"
_STOPS: dict[chat.StopReason, str] = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
    "refusal": "PROHIBITED_CONTENT",
    "pause": "STOP",
    "other": "OTHER",
}


def either(fields: Mapping[str, Any], camel: str, snake: str) -> str:
    """Google reads both spellings of a field; the one that is there."""
    return snake if camel not in fields and snake in fields else camel


def request(view: RequestView) -> chat.Request:
    """A generateContent request in neutral words."""
    fields = view.body
    system_name = either(fields, "systemInstruction", "system_instruction")
    config_name = either(fields, "generationConfig", "generation_config")
    config = as_object(fields.get(config_name))
    system = _parts(as_object(fields.get(system_name)))
    known = {"contents", "tools", system_name}
    tools = [tool for value in as_list(fields.get("tools")) for tool in _tools(as_object(value))]
    first = (chat.Message(role="system", parts=system),) if system else ()
    return chat.Request(
        model=view.model,
        origin=NAME,
        stream=view.stream,
        messages=first
        + tuple(_message(as_object(value)) for value in as_list(fields.get("contents"))),
        tools=tuple(tools),
        tool_choice=_tool_choice(fields),
        output=_output(config),
        max_output=view.max_output,
        temperature=config.get("temperature"),
        top_p=config.get("topP"),
        stop=tuple(map(str, as_list(config.get("stopSequences")))),
        seed=config.get("seed"),
        extra={key: value for key, value in fields.items() if key not in known},
    )


def answer(said: chat.Answer) -> bytes:
    """A whole answer object."""
    parts = [_part_object(part) for part in said.parts]
    told = _chunk(said.answer_id, said.model, parts, said.usage, said.stop)
    return orjson.dumps(told)


def stream(events: Iterable[chat.StreamEvent], as_array: bool) -> Iterator[bytes]:
    """Each answer object as a server-sent event, or as one element of an array."""
    chunks = _ChunkWriter().write(events)
    if as_array:
        return _as_array(chunks)
    return (b"data: %b\r\n\r\n" % orjson.dumps(chunk) for chunk in chunks)


def _message(value: Mapping[str, Any]) -> chat.Message:
    role: chat.Role = "assistant" if value.get("role") == "model" else "user"
    extra = {key: kept for key, kept in value.items() if key not in ("role", "parts")}
    return chat.Message(role=role, parts=_parts(value), extra=extra)


def _parts(content: Mapping[str, Any]) -> tuple[chat.Part, ...]:
    return tuple(_part(as_object(part)) for part in as_list(content.get("parts")))


def _part(value: Mapping[str, Any]) -> chat.Part:
    sealed = as_text(value.get("thoughtSignature"))
    extra = {"thoughtSignature": sealed} if sealed else {}
    if isinstance(text := value.get("text"), str):
        if value.get("thought"):
            return chat.Reasoning(text=text, sealed=sealed, origin=NAME)
        return chat.Text(text=text, extra=extra)
    if inline := as_object(value.get("inlineData") or value.get("inline_data")):
        mime = str(inline.get("mimeType") or inline.get("mime_type") or "")
        return chat.Media(kind=_media_kind(mime), mime=mime or None, data=inline.get("data"))
    if linked := as_object(value.get("fileData") or value.get("file_data")):
        mime = str(linked.get("mimeType") or linked.get("mime_type") or "")
        url = linked.get("fileUri") or linked.get("file_uri")
        return chat.Media(kind=_media_kind(mime), mime=mime or None, url=url)
    if call := as_object(value.get("functionCall")):
        return chat.ToolCall(
            call_id=str(call.get("id") or ""),
            name=str(call.get("name") or ""),
            arguments=_json_text(call.get("args")),
            extra=extra,
        )
    if result := as_object(value.get("functionResponse")):
        told = chat.Text(text=_json_text(result.get("response")))
        call_id, name = str(result.get("id") or ""), str(result.get("name") or "")
        return chat.ToolResult(call_id=call_id, name=name, parts=(told,))
    return chat.Opaque(origin=NAME, value=value)


def _media_kind(mime: str) -> Any:
    kind = mime.partition("/")[0]
    return kind if kind in ("image", "audio", "video") else "file"


def _json_text(value: object) -> str:
    """A value as JSON text; one nested too deep to be written is left empty."""
    try:
        return orjson.dumps({} if value is None else value).decode()
    except orjson.JSONEncodeError:
        return "{}"


def _tools(value: Mapping[str, Any]) -> Iterator[chat.Tool | chat.Opaque]:
    """One entry may declare many functions, or be a tool that Google runs."""
    names = either(value, "functionDeclarations", "function_declarations")
    for declared in map(as_object, as_list(value.get(names))):
        json_schema = either(declared, "parametersJsonSchema", "parameters_json_schema")
        schema = declared.get("parameters") or declared.get(json_schema)
        yield chat.Tool(
            name=str(declared.get("name") or ""),
            description=str(declared.get("description") or ""),
            schema=as_object(schema),
        )
    if rest := {key: kept for key, kept in value.items() if key != names}:
        yield chat.Opaque(origin=NAME, value=rest)


def _tool_choice(fields: Mapping[str, Any]) -> chat.ToolChoice | None:
    config = as_object(fields.get(either(fields, "toolConfig", "tool_config")))
    calling = as_object(
        config.get(either(config, "functionCallingConfig", "function_calling_config"))
    )
    allowed = as_list(calling.get("allowedFunctionNames"))
    match calling.get("mode"):
        case "AUTO":
            return chat.ToolChoice("auto")
        case "NONE":
            return chat.ToolChoice("none")
        case "ANY" if len(allowed) == 1:
            return chat.ToolChoice("named", str(allowed[0]))
        case "ANY":
            return chat.ToolChoice("required")
    return None


def _output(config: Mapping[str, Any]) -> chat.OutputFormat | None:
    mime = config.get(either(config, "responseMimeType", "response_mime_type"))
    if mime != "application/json":
        return None
    schema = config.get("responseJsonSchema") or config.get(
        either(config, "responseSchema", "response_schema")
    )
    kind: Any = "json_schema" if schema else "json"
    return chat.OutputFormat(kind=kind, schema=schema)


def usage_object(usage: Mapping[str, int]) -> dict[str, Any]:
    """The usage object: cached inside the prompt, thoughts outside the candidates."""
    images = usage.get("input_image_tokens", 0)
    audio = usage.get("input_audio_tokens", 0) + usage.get("cached_audio_tokens", 0)
    cached = usage.get("cache_read_tokens", 0) + usage.get("cached_audio_tokens", 0)
    text = usage.get("input_tokens", 0) + usage.get("cache_read_tokens", 0)
    text += usage.get("cache_write_5m_tokens", 0) + usage.get("cache_write_1h_tokens", 0)
    thoughts = usage.get("reasoning_tokens", 0)
    spoken, drawn = usage.get("output_audio_tokens", 0), usage.get("output_image_tokens", 0)
    written = usage.get("output_tokens", 0) - thoughts
    prompt, given = text + audio + images, written + spoken + drawn
    told: dict[str, Any] = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": given,
        "totalTokenCount": prompt + given + thoughts,
        "promptTokensDetails": _modalities(TEXT=text, AUDIO=audio, IMAGE=images),
    }
    if thoughts:
        told["thoughtsTokenCount"] = thoughts
    if spoken or drawn:
        details = _modalities(TEXT=written, AUDIO=spoken, IMAGE=drawn)
        told["candidatesTokensDetails"] = details
    if cached:
        cached_audio = usage.get("cached_audio_tokens", 0)
        told["cachedContentTokenCount"] = cached
        details = _modalities(TEXT=cached - cached_audio, AUDIO=cached_audio)
        told["cacheTokensDetails"] = details
    return told


def _modalities(**counts: int) -> list[dict[str, Any]]:
    return [{"modality": name, "tokenCount": n} for name, n in counts.items() if n]


def _chunk(
    answer_id: str,
    model: str,
    parts: list[dict[str, Any]],
    usage: Mapping[str, int] | None,
    stop: chat.StopReason | None,
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
    if stop:
        candidate["finishReason"] = _STOPS[stop]
    told: dict[str, Any] = {"candidates": [candidate | {"index": 0}]}
    if usage is not None:
        told["usageMetadata"] = usage_object(usage)
    return told | {"modelVersion": model, "responseId": answer_id}


def _part_object(part: chat.Part) -> dict[str, Any]:
    match part:
        case chat.Text():
            return {"text": part.text}
        case chat.Reasoning():
            sealed = {"thoughtSignature": part.sealed} if part.sealed else {}
            return {"text": part.text, "thought": True, **sealed}
        case chat.ToolCall():
            args = orjson.loads(part.arguments or "{}")
            return {"functionCall": {"id": part.call_id, "name": part.name, "args": args}}
        case chat.Opaque():
            return dict(part.value)
    raise ValueError(f"a candidate cannot hold a part of type {type(part).__name__}")


class _ChunkWriter:
    """Turns stream events into answer objects; a tool call is written when it is whole."""

    def __init__(self) -> None:
        self._id = self._model = ""
        self._usage: Mapping[str, int] = {}
        self._calls: dict[int, list[str]] = {}  # part index → [call id, name, arguments so far]

    def write(self, events: Iterable[chat.StreamEvent]) -> Iterator[dict[str, Any]]:
        for item in events:
            match item:
                case chat.Started():
                    self._id, self._model, self._usage = item.answer_id, item.model, item.usage
                case chat.TextDelta():
                    yield self._say({"text": item.text})
                case chat.ReasoningDelta():
                    thought = chat.Reasoning(text=item.text, sealed=item.sealed)
                    yield self._say(_part_object(thought))
                case chat.ToolCallStarted():
                    self._calls[item.index] = [item.call_id, item.name, ""]
                case chat.ArgumentsDelta():
                    self._calls[item.index][2] += item.fragment
                case chat.PartEnded() if item.index in self._calls:
                    yield self._call(item.index)
                case chat.Stopped():
                    for index in list(self._calls):
                        yield self._call(index)
                    usage = {**self._usage, **item.usage}
                    last = [{"text": ""}]
                    yield _chunk(self._id, self._model, last, usage, item.reason)
                case chat.Failed():
                    told = {"code": 500, "message": item.message, "status": item.kind}
                    yield {"error": told}
                case _:
                    pass  # the stream has no terminal event of its own

    def _say(self, part: dict[str, Any]) -> dict[str, Any]:
        return _chunk(self._id, self._model, [part], self._usage or None, None)

    def _call(self, index: int) -> dict[str, Any]:
        call_id, name, arguments = self._calls.pop(index)
        call = chat.ToolCall(call_id=call_id, name=name, arguments=arguments)
        return self._say(_part_object(call))


def _as_array(chunks: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    lead = b"["
    for chunk in chunks:
        yield lead + orjson.dumps(chunk)
        lead = b",\r\n"
    yield b"]" if lead != b"[" else b"[]"
