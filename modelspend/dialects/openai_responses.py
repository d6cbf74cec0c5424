"""OpenAI Responses: items instead of messages, and a stream whose last event repeats the answer.

`background: true` is refused: the answer would be fetched past us, and could not be metered. An
answer cut at its limit is `incomplete`, which is as final as `completed`. The official clients
raise in the stream only on data that has an `error` member, so our error event carries it both
ways.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from modelspend import chat
from modelspend.dialects import (
    jsonbody,
    openai_responses_answer,
    openai_responses_neutral,
    openai_responses_output,
    openai_responses_request,
)
from modelspend.dialects.dialect import AnswerNote, Encoded, ProviderError, RequestView
from modelspend.dialects.openai_checks import check_responses
from modelspend.dialects.openai_shape import error_body, error_object
from modelspend.dialects.prompt import prompt_of, words_of
from modelspend.dialects.reader import (
    EventReader,
    as_list,
    as_name,
    as_object,
    as_text,
    as_usage,
    count_chars,
    error_of,
    opening,
    parsed,
    provider_error,
    served_tier,
)
from modelspend.dialects.sse import Piece, event
from modelspend.errors import ModelspendError, Unsupported

_SERVER_TOOLS = frozenset(
    {"file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call"}
)


class OpenAIResponses:
    """The `openai.responses` dialect."""

    name = "openai.responses"
    native_provider = "openai"
    billable = True
    streams_json = False
    usage_may_follow = False
    required_headers: tuple[tuple[str, str], ...] = ()

    def read(self, path: str, body: bytes) -> RequestView:
        fields = jsonbody.decode(body)
        model = jsonbody.asked_model(fields)
        if jsonbody.flag(fields, "background"):
            raise Unsupported(
                "`background: true` cannot be metered: its answer is fetched past this sidecar.",
                "Leave `background` out; a long answer can be streamed instead.",
                field="background",
            )
        session, source = _session(fields)
        return RequestView(
            model=model,
            stream=jsonbody.flag(fields, "stream"),
            body=fields,
            max_output=jsonbody.limit(fields, "max_output_tokens"),
            session=session,
            session_source=source,
        )

    def target(self, view: RequestView, model: str) -> str:
        return "/responses"

    def with_model(self, body: bytes, view: RequestView, model: str) -> bytes:
        return jsonbody.with_model(body, model)

    def with_usage(self, body: bytes, view: RequestView) -> bytes | None:
        return None

    def with_limit(self, body: bytes, view: RequestView, limit: int) -> tuple[bytes, str]:
        field = "max_output_tokens"
        return jsonbody.with_limit(body, view.body, (field,), field, limit), field

    def reader(self, view: RequestView, *, hide_usage: bool) -> "ResponsesReader":
        return ResponsesReader()

    def note(self, body: bytes) -> AnswerNote:
        reader = ResponsesReader()
        reader.take_answer(body)
        return reader.note

    def input_chars(self, view: RequestView) -> int:
        return count_chars([view.body.get(key) for key in ("instructions", "input", "tools")])

    def prefix(self, view: RequestView) -> bytes:
        asked = view.body.get("input")
        texts: list[object] = [view.body.get("instructions")]
        if isinstance(asked, str):
            texts.append(asked)
        for item in map(as_object, as_list(asked)):
            texts.append(item.get("content"))
            if item.get("role") == "user":
                break
        return opening(*texts)

    def prompt(self, view: RequestView) -> chat.Prompt:
        asked = view.body.get("input")
        messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        return prompt_of(as_list(messages), system=words_of(view.body.get("instructions")))

    def error_body(self, error: ModelspendError) -> bytes:
        return error_body(error)

    def error_event(self, error: ModelspendError) -> bytes:
        return _error_event(error, 0)

    def decode_request(self, path: str, body: bytes) -> chat.Request:
        return openai_responses_neutral.request(self.read(path, body))

    def encode_answer(self, answer: chat.Answer) -> bytes:
        return openai_responses_output.answer(answer)

    def encode_stream(
        self, events: Iterable[chat.StreamEvent], *, include_usage: bool = True
    ) -> Iterator[bytes]:
        return openai_responses_output.EventWriter().write(events)

    def only_words(self, view: RequestView) -> bool:
        return False

    def neutral(self, view: RequestView) -> chat.Request:
        check_responses(view.body, tuple(openai_responses_neutral.ROLES))
        return openai_responses_neutral.request(view)

    def encode_request(self, asked: chat.Request, model: str) -> Encoded:
        return openai_responses_request.encode(asked, model)

    def decode_answer(self, body: bytes) -> chat.Answer:
        return openai_responses_answer.answer(body)

    def decoder(self) -> openai_responses_answer.EventDecoder:
        return openai_responses_answer.EventDecoder()

    def writer(self, asked: RequestView) -> openai_responses_output.EventWriter:
        return openai_responses_output.EventWriter()


def _session(fields: Mapping[str, Any]) -> tuple[str | None, str | None]:
    conversation = fields.get("conversation")
    if isinstance(conversation, dict):
        if found := jsonbody.optional_text(conversation, "id", "conversation."):
            return found, "conversation"
    elif found := jsonbody.optional_text(fields, "conversation"):
        return found, "conversation"
    if key := jsonbody.optional_text(fields, "prompt_cache_key"):
        return key, "prompt_cache_key"
    return None, None


class ResponsesReader(EventReader):
    """Reads a stream of typed events; the last one carries usage and every output item."""

    def __init__(self) -> None:
        super().__init__()
        self._sequence = 0

    def take_answer(self, body: bytes) -> None:
        """Learn from a whole answer, or from the body of an error."""
        value = parsed(body)
        fields = as_object(value)
        if "output" in fields or "usage" in fields:
            self._finish(fields)
            for item in map(as_object, as_list(fields.get("output"))):
                self._read_item(item)
        else:
            self.note.error = provider_error(value)

    def _failure(self, error: ModelspendError) -> bytes:
        return _error_event(error, self._sequence + 1)

    def _take(self, name: bytes, value: Mapping[str, Any], raw: bytes) -> bytes:
        kind = as_text(value.get("type")) or name.decode("utf-8", "replace")
        if isinstance(number := value.get("sequence_number"), int):
            self._sequence = number
        if kind.endswith(".delta"):
            self._delta(kind, value)
        elif kind in ("response.created", "response.in_progress", "response.queued"):
            self._identify(as_object(value.get("response")))
        elif kind == "response.output_item.added":
            self._started(as_object(value.get("item")))
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            self._finish(as_object(value.get("response")), kind.rpartition(".")[2])
        elif kind == "error" or value.get("error"):
            self.note.error = error_of(value.get("error") or value)
        return raw

    def _take_unread(self, piece: Piece) -> None:
        super()._take_unread(piece)
        name = piece.head.partition(b"\n")[0]
        if b"response.completed" in name or b"response.incomplete" in name:
            self._end()

    def _delta(self, kind: str, value: Mapping[str, Any]) -> None:
        if kind == "response.audio.delta":
            self.note.content = True
        else:
            self._wrote(value.get("delta"))

    def _started(self, item: Mapping[str, Any]) -> None:
        if str(item.get("type")).endswith("_call"):
            self.note.content = True
            self._wrote(item.get("name"))

    def _identify(self, response: Mapping[str, Any]) -> None:
        note = self.note
        note.answer_id = as_name(response.get("id")) or note.answer_id
        note.model = as_name(response.get("model")) or note.model

    def _finish(self, response: Mapping[str, Any], outcome: str = "") -> None:
        """The response object at its end says everything."""
        note = self.note
        self._identify(response)
        status = outcome or str(response.get("status") or "completed")
        if (usage := as_usage(response.get("usage"))) is not None:
            note.usage = usage
        note.service_tier = served_tier(response.get("service_tier"))
        note.counts = _server_calls(response.get("output"))
        reason = as_object(response.get("incomplete_details")).get("reason")
        note.finish_reason = as_name(reason) or as_name(status)
        if told := response.get("error"):
            note.error = error_of(told)
        elif status in ("failed", "cancelled"):
            note.error = ProviderError(
                status, f"The provider tells the status {status} and no reason."
            )
        elif status not in ("queued", "in_progress"):
            self._end()

    def _read_item(self, item: Mapping[str, Any]) -> None:
        for part in map(as_object, as_list(item.get("content"))):
            self._wrote(part.get("text") or part.get("refusal"))
        for part in map(as_object, as_list(item.get("summary"))):
            self._wrote(part.get("text"))
        for key in ("name", "arguments", "input", "code"):
            self._wrote(item.get(key))


def _server_calls(output: object) -> dict[str, int]:
    """What only the output items show: tools that the provider ran.

    Of web searches only the action `search` is billed; opening a found page is not
    (platform.openai.com/docs/guides/tools-web-search).
    """
    counts = {"web_searches": 0, "tool_calls": 0}
    for item in map(as_object, as_list(output)):
        kind = as_text(item.get("type"))
        if kind == "web_search_call":
            counts["web_searches"] += (
                as_object(item.get("action")).get("type", "search") == "search"
            )
        elif kind in _SERVER_TOOLS or (
            kind == "tool_search_call" and item.get("execution") == "server"
        ):
            counts["tool_calls"] += 1
    return {bucket: n for bucket, n in counts.items() if n}


def _error_event(error: ModelspendError, sequence: int) -> bytes:
    told = error_object(error)
    flat = {"type": "error", "code": told["code"], "message": told["message"]}
    numbered = {"param": told["param"], "sequence_number": sequence, "error": told}
    return event(orjson.dumps(flat | numbered), "error")
