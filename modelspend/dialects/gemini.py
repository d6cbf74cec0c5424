"""Gemini's generateContent: the model stands in the path, and the stream has no terminal event.

A stream ends with the event in which every candidate seen so far has its `finishReason` (or with
one that says the prompt was blocked). It comes as server-sent events when the client asked with
`alt=sse`, else as one JSON array written element by element; the first byte tells which. The
official client raises in a stream only on data that begins with an `error` member.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

import orjson

from modelspend import chat
from modelspend.dialects import jsonbody
from modelspend.dialects.dialect import AnswerNote, RequestView
from modelspend.dialects.jsonarray import JsonArraySplitter, element
from modelspend.dialects.reader import (
    EventReader,
    as_list,
    as_object,
    as_text,
    count_chars,
    error_of,
    opening,
    provider_error,
    served_tier,
)
from modelspend.dialects.sse import Piece, event
from modelspend.errors import BadRequest, ModelspendError, Unsupported

NAME = "gemini.generate"
_OPERATIONS = ("generateContent", "streamGenerateContent")
_PATH = re.compile(
    r"(?:/v\d+\w*)?/(?:projects/[^/]+/locations/[^/]+/(?:publishers/[^/]+/)?)?(.+):(\w+)"
)
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_STOPS: dict[chat.StopReason, str] = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
    "refusal": "PROHIBITED_CONTENT",
    "pause": "STOP",
    "other": "OTHER",
}
_UNFINISHED = (None, "", 0, "FINISH_REASON_UNSPECIFIED")
_FINISHED_TAIL = re.compile(rb'"finishReason"\s*:\s*"(?!FINISH_REASON_UNSPECIFIED)\w')


class Gemini:
    """The `gemini.generate` dialect."""

    name = NAME
    native_provider = "google"
    billable = True
    streams_json = True
    usage_may_follow = True
    billable = True
    streams_json = True
    usage_may_follow = True

    def read(self, path: str, body: bytes) -> RequestView:
        model, operation = _model_and_operation(path)
        fields = jsonbody.decode(body)
        config = _either(fields, "generationConfig", "generation_config")
        settings = jsonbody.optional_object(fields, config)
        return RequestView(
            model=model,
            stream=operation == "streamGenerateContent",
            body=fields,
            operation=operation,
            max_output=jsonbody.limit(
                settings, "maxOutputTokens", "max_output_tokens", within=f"{config}."
            ),
        )

    def target(self, view: RequestView, model: str) -> str:
        tuned = model.startswith("tunedModels/")
        return f"{'/' if tuned else '/models/'}{quote(model, safe='/')}:{view.operation}"

    def with_model(self, body: bytes, view: RequestView, model: str) -> bytes:
        return body

    def with_usage(self, body: bytes, view: RequestView) -> bytes | None:
        return None

    def reader(self, view: RequestView, *, hide_usage: bool) -> "GeminiReader":
        return GeminiReader()

    def note(self, body: bytes) -> AnswerNote:
        reader = GeminiReader()
        reader.take_answer(body)
        return reader.note

    def input_chars(self, view: RequestView) -> int:
        names = ("systemInstruction", "system_instruction", "contents", "tools")
        return count_chars([view.body.get(name) for name in names])

    def prefix(self, view: RequestView) -> bytes:
        system = view.body.get(_either(view.body, "systemInstruction", "system_instruction"))
        texts: list[object] = [as_object(system).get("parts")]
        for content in map(as_object, as_list(view.body.get("contents"))):
            texts.append(content.get("parts"))
            if content.get("role", "user") == "user":
                break
        return opening(*texts)

    def error_body(self, error: ModelspendError) -> bytes:
        return _error(error)

    def error_event(self, error: ModelspendError) -> bytes:
        return event(_error(error))

    def decode_request(self, path: str, body: bytes) -> chat.Request:
        view = self.read(path, body)
        return _request(view)

    def encode_answer(self, answer: chat.Answer) -> bytes:
        parts = [_part_object(part) for part in answer.parts]
        told = _chunk(answer.answer_id, answer.model, parts, answer.usage, answer.stop)
        return orjson.dumps(told)

    def encode_stream(
        self,
        events: Iterable[chat.StreamEvent],
        *,
        include_usage: bool = True,
        as_array: bool = False,
    ) -> Iterator[bytes]:
        """`as_array` writes what a client gets that did not ask for `alt=sse`."""
        chunks = _ChunkWriter().write(events)
        if not as_array:
            return (b"data: %b\r\n\r\n" % orjson.dumps(chunk) for chunk in chunks)
        return _as_array(chunks)


def _model_and_operation(path: str) -> tuple[str, str]:
    found = _PATH.fullmatch(path.partition("?")[0])
    if found is None:
        raise BadRequest(
            "The path names no model and operation.",
            "Use /v1beta/models/MODEL:generateContent or :streamGenerateContent.",
        )
    model, operation = unquote(found[1]).removeprefix("models/"), found[2]
    if operation not in _OPERATIONS:
        raise Unsupported(
            f"The operation {operation} cannot be metered.",
            f"Use one of {', '.join(_OPERATIONS)}.",
        )
    if not model.strip():
        raise BadRequest("The path names no model.", "Put it before the colon.", field="model")
    return model, operation


def _either(fields: Mapping[str, Any], camel: str, snake: str) -> str:
    """Google reads both spellings of a field; the one that is there."""
    return snake if camel not in fields and snake in fields else camel


class GeminiReader(EventReader):
    """Reads either framing; each event is a whole answer object with the next parts."""

    def __init__(self) -> None:
        super().__init__()
        self._framed = False
        self._array: JsonArraySplitter | None = None
        self._lead = b""
        self._unfinished: set[object] = set()
        self._finished: set[object] = set()
        self._searches: dict[object, int] = {}

    def feed(self, chunk: bytes) -> tuple[bytes, bytes]:
        if not self._framed:
            chunk = self._lead + chunk
            start = chunk.lstrip(b" \t\r\n")
            if not start:
                self._lead = chunk
                return b"", b""
            self._framed, self._lead = True, b""
            if start.startswith(b"["):
                self._splitter = self._array = JsonArraySplitter()
        return super().feed(chunk)

    def close(self) -> tuple[bytes, bytes]:
        if not self._framed:
            return self._lead, b""
        return super().close()

    def error_event(self, error: ModelspendError) -> bytes:
        if self._array is None:
            return super().error_event(error)
        return self._array.continuation() + _error(error) + b"]"

    def take_answer(self, body: bytes) -> None:
        """Learn from a whole answer, an array of its parts, or the body of an error."""
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            return
        for part in value if isinstance(value, list) else [value]:
            self._take(b"", as_object(part), b"")
        if self.note.error is None and self.note.usage is None and not self._finished:
            self.note.error = provider_error(value)
        if isinstance(value, dict) and not self._lacks_answer(value):
            self._end()

    @staticmethod
    def _lacks_answer(value: Mapping[str, Any]) -> bool:
        return not value.keys() & {"candidates", "promptFeedback", "usageMetadata"}

    def _failure(self, error: ModelspendError) -> bytes:
        return event(_error(error))

    def _data(self, raw: bytes) -> tuple[bytes, bytes | None]:
        return super()._data(raw) if self._array is None else (b"", element(raw))

    def _take(self, name: bytes, value: Mapping[str, Any], raw: bytes) -> bytes:
        note = self.note
        if told := value.get("error"):
            note.error = error_of(told)
        note.model = as_text(value.get("modelVersion")) or note.model
        note.answer_id = as_text(value.get("responseId")) or note.answer_id
        if isinstance(usage := value.get("usageMetadata"), dict):
            note.usage = usage
            note.service_tier = _tier(usage)
        for candidate in map(as_object, as_list(value.get("candidates"))):
            self._candidate(candidate)
        self._settle(as_object(value.get("promptFeedback")).get("blockReason"))
        return raw

    def _take_word(self, data: bytes) -> None:
        """Only the `]` of an array reaches us without being an object."""
        if data == b"]" and self._all_finished:
            self._end()

    def _take_unread(self, piece: Piece) -> None:
        super()._take_unread(piece)
        if _FINISHED_TAIL.search(piece.tail):
            self._finished.add(0)
            self._settle(None)

    @property
    def _all_finished(self) -> bool:
        return bool(self._finished) and not self._unfinished

    def _settle(self, blocked: object) -> None:
        """Whether the answer is whole now; an array is only so with its closing bracket."""
        if blocked and not self._unfinished:
            self.note.finish_reason = self.note.finish_reason or str(blocked)
            self._finished.add("prompt")
        if self._array is None:
            self.note.ended = self._all_finished and self.note.error is None

    def _candidate(self, candidate: Mapping[str, Any]) -> None:
        index = candidate.get("index") or 0
        reason = candidate.get("finishReason")
        if reason not in _UNFINISHED:
            self.note.finish_reason = str(reason)
            self._finished.add(index)
            self._unfinished.discard(index)
        elif index not in self._finished:
            self._unfinished.add(index)
        for part in map(as_object, as_list(as_object(candidate.get("content")).get("parts"))):
            self._part(part)
        if grounding := as_object(candidate.get("groundingMetadata")):
            queries = [q for q in as_list(grounding.get("webSearchQueries")) if q]
            self._searches[index] = max(len(queries), self._searches.get(index, 0))
            if searches := sum(self._searches.values()):
                self.note.counts["web_searches"] = searches

    def _part(self, part: Mapping[str, Any]) -> None:
        if "text" in part:
            self._wrote(part["text"])
            return
        self.note.content = self.note.content or bool(part.keys() - {"thoughtSignature"})
        for key in ("functionCall", "executableCode", "codeExecutionResult"):
            if held := part.get(key):
                self.note.output_chars += count_chars(held)


def _tier(usage: Mapping[str, Any]) -> str:
    """AI Studio names the tier, Vertex AI hides it in the kind of traffic."""
    if tier := usage.get("serviceTier"):
        return served_tier(tier)
    traffic = str(usage.get("trafficType") or "").lower()
    return served_tier(traffic.removeprefix("on_demand_"))


def _error(error: ModelspendError) -> bytes:
    status = _STATUSES.get(error.status, "INTERNAL")
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": error.code.upper(),
        "domain": "modelspend",
    }
    told = {"code": error.status, "message": error.text, "status": status, "details": [info]}
    return orjson.dumps({"error": told})


def _request(view: RequestView) -> chat.Request:
    fields = view.body
    system_name = _either(fields, "systemInstruction", "system_instruction")
    config_name = _either(fields, "generationConfig", "generation_config")
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
    names = _either(value, "functionDeclarations", "function_declarations")
    for declared in map(as_object, as_list(value.get(names))):
        schema = declared.get("parameters") or declared.get("parametersJsonSchema")
        yield chat.Tool(
            name=str(declared.get("name") or ""),
            description=str(declared.get("description") or ""),
            schema=as_object(schema),
        )
    if rest := {key: kept for key, kept in value.items() if key != names}:
        yield chat.Opaque(origin=NAME, value=rest)


def _tool_choice(fields: Mapping[str, Any]) -> chat.ToolChoice | None:
    config = as_object(fields.get(_either(fields, "toolConfig", "tool_config")))
    calling = as_object(
        config.get(_either(config, "functionCallingConfig", "function_calling_config"))
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
    mime = config.get(_either(config, "responseMimeType", "response_mime_type"))
    if mime != "application/json":
        return None
    schema = config.get("responseJsonSchema") or config.get(
        _either(config, "responseSchema", "response_schema")
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
