"""Anthropic Messages, and its token counting.

The usage of a stream comes in two parts: `message_start` tells input and cache, `message_delta`
the running totals, which replace what was told before and are never added to it. `input_tokens`
leaves out what was read from or written to the cache. Claude Code puts its session into
`metadata.user_id`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from modelspend import chat
from modelspend.dialects import anthropic_answer, anthropic_neutral, anthropic_request, jsonbody
from modelspend.dialects.dialect import AnswerNote, Encoded, RequestView
from modelspend.dialects.prompt import only_words, prompt_of, words_of
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
from modelspend.dialects.sse import event
from modelspend.errors import ModelspendError

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_PLAIN = {"model", "messages", "max_tokens", "stream", "temperature", "system"}
_SPEAKERS = ("user", "assistant")


class AnthropicMessages:
    """The `anthropic.messages` dialect."""

    name = "anthropic.messages"
    native_provider = "anthropic"
    billable = True
    streams_json = False
    usage_may_follow = False
    required_headers: tuple[tuple[str, str], ...] = (("anthropic-version", "2023-06-01"),)

    def read(self, path: str, body: bytes) -> RequestView:
        fields = jsonbody.decode(body)
        model = jsonbody.asked_model(fields)
        metadata = jsonbody.optional_object(fields, "metadata")
        user_id = jsonbody.optional_text(metadata, "user_id", "metadata.")
        return RequestView(
            model=model,
            stream=jsonbody.flag(fields, "stream"),
            body=fields,
            max_output=jsonbody.limit(fields, "max_tokens"),
            session=_session(user_id) if user_id else None,
            session_source="metadata.user_id" if user_id else None,
        )

    def target(self, view: RequestView, model: str) -> str:
        return "/messages"

    def with_model(self, body: bytes, view: RequestView, model: str) -> bytes:
        return jsonbody.with_model(body, model)

    def with_usage(self, body: bytes, view: RequestView) -> bytes | None:
        return None

    def with_limit(self, body: bytes, view: RequestView, limit: int) -> tuple[bytes, str]:
        return jsonbody.with_limit(
            body, view.body, ("max_tokens",), "max_tokens", limit
        ), "max_tokens"

    def reader(self, view: RequestView, *, hide_usage: bool) -> "MessagesReader":
        return MessagesReader()

    def note(self, body: bytes) -> AnswerNote:
        reader = MessagesReader()
        reader.take_answer(body)
        return reader.note

    def input_chars(self, view: RequestView) -> int:
        return count_chars([view.body.get(key) for key in ("system", "messages", "tools")])

    def prefix(self, view: RequestView) -> bytes:
        texts: list[object] = [view.body.get("system")]
        for message in map(as_object, as_list(view.body.get("messages"))):
            texts.append(message.get("content"))
            if message.get("role") == "user":
                break
        return opening(*texts)

    def prompt(self, view: RequestView) -> chat.Prompt:
        system = words_of(view.body.get("system"))
        return prompt_of(as_list(view.body.get("messages")), system=system)

    def error_body(self, error: ModelspendError) -> bytes:
        return _error(error)

    def error_event(self, error: ModelspendError) -> bytes:
        return event(_error(error), "error")

    def decode_request(self, path: str, body: bytes) -> chat.Request:
        return anthropic_neutral.request(self.read(path, body))

    def encode_answer(self, answer: chat.Answer) -> bytes:
        return anthropic_neutral.answer(answer)

    def encode_stream(
        self, events: Iterable[chat.StreamEvent], *, include_usage: bool = True
    ) -> Iterator[bytes]:
        return anthropic_neutral.EventWriter().write(events)

    def only_words(self, view: RequestView) -> bool:
        fields = view.body
        return (
            fields.keys() <= _PLAIN
            and type(fields.get("temperature", 1)) in (float, int)
            and isinstance(fields.get("system", ""), str)
            and only_words(fields.get("messages"), _SPEAKERS)
        )

    def neutral(self, view: RequestView) -> chat.Request:
        return anthropic_neutral.request(view)

    def encode_request(self, asked: chat.Request, model: str) -> Encoded:
        return anthropic_request.encode(asked, model)

    def decode_answer(self, body: bytes) -> chat.Answer:
        return anthropic_answer.answer(body)

    def decoder(self) -> anthropic_answer.MessageDecoder:
        return anthropic_answer.MessageDecoder()

    def writer(self, asked: RequestView) -> anthropic_neutral.EventWriter:
        return anthropic_neutral.EventWriter()


class AnthropicCountTokens(AnthropicMessages):
    """The `anthropic.count_tokens` dialect: the same body, an answer of one number, no charge."""

    name = "anthropic.count_tokens"
    billable = False

    def read(self, path: str, body: bytes) -> RequestView:
        fields = jsonbody.decode(body)
        return RequestView(model=jsonbody.asked_model(fields), stream=False, body=fields)

    def target(self, view: RequestView, model: str) -> str:
        return "/messages/count_tokens"

    def note(self, body: bytes) -> AnswerNote:
        """Counting uses nothing, so the usage is told and empty."""
        note = AnswerNote()
        value = parsed(body)
        if "input_tokens" in as_object(value):
            note.usage, note.ended = {}, True
        else:
            note.error = provider_error(value)
        return note

    def encode_answer(self, answer: chat.Answer) -> bytes:
        return orjson.dumps({"input_tokens": answer.usage.get("input_tokens", 0)})


def _session(user_id: str) -> str:
    """The session inside Claude Code's user id, in both its spellings; else the id itself."""
    if user_id.startswith("{"):
        try:
            return as_text(as_object(orjson.loads(user_id)).get("session_id")) or user_id
        except orjson.JSONDecodeError:
            return user_id
    return user_id.rpartition("_session_")[2]


class MessagesReader(EventReader):
    """Reads a stream of named events from `message_start` to `message_stop`."""

    def take_answer(self, body: bytes) -> None:
        """Learn from a whole message, or from the body of an error."""
        value = parsed(body)
        fields = as_object(value)
        if fields.get("type") == "error" or "content" not in fields:
            self.note.error = provider_error(value)
            return
        self._identify(fields)
        self._stop(fields)
        for block in map(as_object, as_list(fields.get("content"))):
            self._block(block)
        self._end()

    def _failure(self, error: ModelspendError) -> bytes:
        return event(_error(error), "error")

    def _take(self, name: bytes, value: Mapping[str, Any], raw: bytes) -> bytes:
        match value.get("type") or name.decode("utf-8", "replace"):
            case "content_block_delta":
                self._delta(as_object(value.get("delta")))
            case "content_block_start":
                self._block(as_object(value.get("content_block")))
            case "message_start":
                self._identify(as_object(value.get("message")))
            case "message_delta":
                self._stop(as_object(value.get("delta")))
                self._merge(value.get("usage"))
            case "message_stop":
                self._end()
            case "error":
                self.note.error = error_of(value.get("error") or value)
        return raw

    def _identify(self, message: Mapping[str, Any]) -> None:
        self.note.answer_id = as_name(message.get("id"))
        self.note.model = as_name(message.get("model"))
        self._merge(message.get("usage"))

    def _merge(self, usage: object) -> None:
        """Later totals replace earlier ones; a null says nothing."""
        kept = as_usage(usage)
        if kept is None:
            return
        told = {key: value for key, value in kept.items() if value is not None}
        self.note.usage = merged = (self.note.usage or {}) | told
        fast = merged.get("speed") == "fast"
        self.note.service_tier = "fast" if fast else served_tier(merged.get("service_tier"))

    def _stop(self, said: Mapping[str, Any]) -> None:
        self.note.finish_reason = as_name(said.get("stop_reason")) or self.note.finish_reason

    def _delta(self, delta: Mapping[str, Any]) -> None:
        match delta.get("type"):
            case "text_delta":
                self._wrote(delta.get("text"))
            case "input_json_delta":
                self._wrote(delta.get("partial_json"))
            case "thinking_delta":
                self._wrote(delta.get("thinking"))
            case "signature_delta":
                self.note.content = True

    def _block(self, block: Mapping[str, Any]) -> None:
        match block.get("type"):
            case "text":
                self._wrote(block.get("text"))
            case "thinking":
                self._wrote(block.get("thinking"))
            case "tool_use" | "server_tool_use" | "mcp_tool_use":
                self._wrote(block.get("name"))
                if arguments := block.get("input"):
                    self.note.output_chars += count_chars(arguments)
            case _:
                self.note.content = True


def _error(error: ModelspendError) -> bytes:
    kind = _ERROR_TYPES.get(error.status, "api_error")
    told = {"type": kind, "message": error.text, "code": error.code}
    return orjson.dumps({"type": "error", "error": told, "request_id": None})
