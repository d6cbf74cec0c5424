"""Gemini's generateContent: the model stands in the path, and the stream has no terminal event.

A stream ends with the event in which every candidate seen so far has its `finishReason` (or with
one that says the prompt was blocked). It comes as server-sent events when the client asked with
`alt=sse`, else as one JSON array written element by element; the first byte tells which. The
official client raises in a stream only on data that begins with an `error` member.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal
from urllib.parse import quote, unquote

import orjson

from modelspend import chat
from modelspend.dialects import (
    gemini_answer,
    gemini_neutral,
    gemini_output,
    gemini_request,
    jsonbody,
)
from modelspend.dialects.dialect import AnswerNote, Encoded, RequestView, StreamWriter
from modelspend.dialects.gemini_neutral import either
from modelspend.dialects.jsonarray import JsonArraySplitter, element
from modelspend.dialects.prompt import prompt_of, words_of
from modelspend.dialects.reader import (
    EventReader,
    as_list,
    as_name,
    as_object,
    as_usage,
    count_chars,
    error_of,
    opening,
    parsed,
    provider_error,
    served_tier,
)
from modelspend.dialects.sse import Piece, event
from modelspend.errors import BadRequest, ModelspendError, Unsupported

LIMITS = ("maxOutputTokens", "max_output_tokens")
_OPERATIONS = ("generateContent", "streamGenerateContent")
_PATH = re.compile(
    r"(?:/v\d+\w*)?/(?:projects/[^/]+/locations/[^/]+/(?:publishers/[^/]+/)?)?(.+):(\w+)"
)
_COLON = re.compile("%3a", re.IGNORECASE)
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
_UNFINISHED = (None, "", 0, "FINISH_REASON_UNSPECIFIED")
_FINISHED_TAIL = re.compile(rb'"finishReason"\s*:\s*"(?!FINISH_REASON_UNSPECIFIED)\w')


class Gemini:
    """The `gemini.generate` dialect."""

    name = "gemini.generate"
    native_provider = "google"
    billable = True
    streams_json = True
    usage_may_follow = True
    required_headers: tuple[tuple[str, str], ...] = ()

    def read(self, path: str, body: bytes) -> RequestView:
        model, operation = _model_and_operation(path)
        fields = jsonbody.decode(body)
        config = either(fields, "generationConfig", "generation_config")
        settings = jsonbody.optional_object(fields, config)
        return RequestView(
            model=model,
            stream=operation == "streamGenerateContent",
            body=fields,
            operation=operation,
            framing=_framing(path, operation),
            max_output=jsonbody.limit(settings, *LIMITS, within=f"{config}."),
        )

    def target(self, view: RequestView, model: str) -> str:
        tuned = model.startswith("tunedModels/")
        return f"{'/' if tuned else '/models/'}{quote(model, safe='/')}:{view.operation}"

    def with_model(self, body: bytes, view: RequestView, model: str) -> bytes:
        return body

    def with_usage(self, body: bytes, view: RequestView) -> bytes | None:
        return None

    def with_limit(self, body: bytes, view: RequestView, limit: int) -> tuple[bytes, str]:
        config = either(view.body, "generationConfig", "generation_config")
        field = f"{config}.{LIMITS[0]}"
        settings = view.body.get(config)
        if isinstance(settings, dict):
            at = jsonbody.there(body, config).value
            return jsonbody.with_limit(body, settings, LIMITS, LIMITS[0], limit, at), field
        whole = b'{"%b":%d}' % (LIMITS[0].encode(), limit)
        if config in view.body:  # null
            return jsonbody.replace(body, jsonbody.there(body, config), whole), field
        return jsonbody.prepend(body, b'"generationConfig":' + whole), field

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
        system = view.body.get(either(view.body, "systemInstruction", "system_instruction"))
        texts: list[object] = [as_object(system).get("parts")]
        for content in map(as_object, as_list(view.body.get("contents"))):
            texts.append(content.get("parts"))
            if content.get("role", "user") == "user":
                break
        return opening(*texts)

    def prompt(self, view: RequestView) -> chat.Prompt:
        told = as_object(
            view.body.get(either(view.body, "systemInstruction", "system_instruction"))
        )
        contents = as_list(view.body.get("contents"))
        return prompt_of(contents, system=words_of(told.get("parts")), content="parts")

    def error_body(self, error: ModelspendError) -> bytes:
        return _error(error)

    def error_event(self, error: ModelspendError) -> bytes:
        return event(_error(error))

    def decode_request(self, path: str, body: bytes) -> chat.Request:
        return gemini_neutral.request(self.read(path, body))

    def encode_answer(self, answer: chat.Answer) -> bytes:
        return gemini_output.answer(answer)

    def encode_stream(
        self,
        events: Iterable[chat.StreamEvent],
        *,
        include_usage: bool = True,
        as_array: bool = False,
    ) -> Iterator[bytes]:
        """`as_array` writes what a client gets that did not ask for `alt=sse`."""
        return gemini_output.stream(events, as_array)

    def only_words(self, view: RequestView) -> bool:
        return False

    def neutral(self, view: RequestView) -> chat.Request:
        return gemini_neutral.request(view)

    def encode_request(self, asked: chat.Request, model: str) -> Encoded:
        return gemini_request.encode(asked, model)

    def decode_answer(self, body: bytes) -> chat.Answer:
        return gemini_answer.answer(body)

    def decoder(self) -> gemini_answer.AnswerDecoder:
        return gemini_answer.AnswerDecoder()

    def writer(self, asked: RequestView) -> StreamWriter:
        if asked.framing == "array":
            return gemini_output.ArrayWriter()
        return gemini_output.EventWriter()


def _model_and_operation(path: str) -> tuple[str, str]:
    found = _PATH.fullmatch(_COLON.sub(":", path.partition("?")[0]))
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
    if not {".", ".."}.isdisjoint(model.split("/")):
        raise BadRequest(
            "The model in the path leads to another path.", "Take the dots out.", field="model"
        )
    return jsonbody.proper_model(model), operation


def _framing(path: str, operation: str) -> Literal["events", "array"]:
    """An array, unless the query asks for events; a path whose query is not told says nothing."""
    _, told, query = path.partition("?")
    asked = "alt=sse" in query.split("&")
    return "array" if told and not asked and operation == "streamGenerateContent" else "events"


class GeminiReader(EventReader):
    """Reads either framing; each event is a whole answer object with the next parts."""

    def __init__(self) -> None:
        super().__init__()
        self._framed = False
        self._array: JsonArraySplitter | None = None
        self._lead = b""
        self._unfinished: set[str] = set()
        self._finished: set[str] = set()
        self._searches: dict[str, int] = {}

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
        value = parsed(body)
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
        note.model = as_name(value.get("modelVersion")) or note.model
        note.answer_id = as_name(value.get("responseId")) or note.answer_id
        if (usage := as_usage(value.get("usageMetadata"))) is not None:
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
            self._finished.add("0")
            self._settle(None)

    @property
    def _all_finished(self) -> bool:
        return bool(self._finished) and not self._unfinished

    def _settle(self, blocked: object) -> None:
        """Whether the answer is whole now; an array is only so with its closing bracket."""
        if blocked and not self._unfinished:
            self.note.finish_reason = self.note.finish_reason or as_name(str(blocked))
            self._finished.add("prompt")
        if self._array is None:
            self.note.ended = self._all_finished and self.note.error is None

    def _candidate(self, candidate: Mapping[str, Any]) -> None:
        index = str(candidate.get("index") or 0)
        reason = candidate.get("finishReason")
        if reason not in _UNFINISHED:
            self.note.finish_reason = as_name(str(reason))
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
