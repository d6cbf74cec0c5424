"""OpenAI Chat Completions, the protocol that most providers speak in some accent.

A stream carries its usage only when asked (`stream_options.include_usage`), and then as one more
chunk with empty `choices` before `[DONE]`. Some providers tell it unasked on the last content
chunk; so when we asked and the client did not, only the extra chunk and the null members that the
question causes are taken out again.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from modelspend import chat
from modelspend.dialects import (
    jsonbody,
    openai_chat_answer,
    openai_chat_neutral,
    openai_chat_request,
)
from modelspend.dialects.dialect import AnswerNote, Encoded, RequestView
from modelspend.dialects.openai_checks import check_chat
from modelspend.dialects.openai_models import abilities
from modelspend.dialects.openai_shape import error_body
from modelspend.dialects.prompt import only_words, prompt_of
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
from modelspend.dialects.sse import event, parse_event
from modelspend.errors import ModelspendError

LIMITS = ("max_completion_tokens", "max_tokens")
_OPTION = b'"stream_options":{"include_usage":true}'
_ASKED = b'"include_usage":true'
_PLAIN = {"model", "messages", "stream", "stream_options", "temperature", *LIMITS}
_SPEAKERS = ("system", "developer", "user", "assistant")


class OpenAIChat:
    """The `openai.chat` dialect."""

    name = "openai.chat"
    native_provider = "openai"
    billable = True
    streams_json = False
    usage_may_follow = False
    required_headers: tuple[tuple[str, str], ...] = ()

    def read(self, path: str, body: bytes) -> RequestView:
        fields = jsonbody.decode(body)
        model = jsonbody.asked_model(fields)
        options = jsonbody.optional_object(fields, "stream_options")
        asked = jsonbody.flag(options, "include_usage", "stream_options.")
        stream = jsonbody.flag(fields, "stream")
        session = jsonbody.optional_text(fields, "prompt_cache_key")
        return RequestView(
            model=model,
            stream=stream,
            body=fields,
            max_output=jsonbody.limit(fields, *LIMITS),
            session=session or None,
            session_source="prompt_cache_key" if session else None,
            wants_usage=asked or not stream,
        )

    def target(self, view: RequestView, model: str) -> str:
        return "/chat/completions"

    def with_model(self, body: bytes, view: RequestView, model: str) -> bytes:
        return jsonbody.with_model(body, model)

    def with_usage(self, body: bytes, view: RequestView) -> bytes | None:
        if view.wants_usage:
            return None
        if "stream_options" not in view.body:
            return jsonbody.prepend(body, _OPTION)
        options = jsonbody.there(body, "stream_options")
        if not isinstance(view.body["stream_options"], dict):
            return jsonbody.replace(body, options, b"{" + _ASKED + b"}")
        asked = jsonbody.member(body, "include_usage", options.value)
        if asked is None:
            return jsonbody.prepend(body, _ASKED, options.value)
        return jsonbody.replace(body, asked, b"true")

    def with_limit(self, body: bytes, view: RequestView, limit: int) -> tuple[bytes, str]:
        field = abilities(view.model).limit
        return jsonbody.with_limit(body, view.body, LIMITS, field, limit), field

    def reader(self, view: RequestView, *, hide_usage: bool) -> "ChatReader":
        return ChatReader(hide_usage=hide_usage)

    def note(self, body: bytes) -> AnswerNote:
        reader = ChatReader(hide_usage=False)
        reader.take_answer(body)
        return reader.note

    def input_chars(self, view: RequestView) -> int:
        return count_chars([view.body.get("messages"), view.body.get("tools")])

    def prefix(self, view: RequestView) -> bytes:
        texts: list[object] = []
        for message in map(as_object, as_list(view.body.get("messages"))):
            texts.append(message.get("content"))
            if message.get("role") == "user":
                break
        return opening(*texts)

    def prompt(self, view: RequestView) -> chat.Prompt:
        return prompt_of(as_list(view.body.get("messages")))

    def error_body(self, error: ModelspendError) -> bytes:
        return error_body(error)

    def error_event(self, error: ModelspendError) -> bytes:
        return event(error_body(error))

    def decode_request(self, path: str, body: bytes) -> chat.Request:
        return openai_chat_neutral.request(self.read(path, body))

    def encode_answer(self, answer: chat.Answer) -> bytes:
        return openai_chat_neutral.answer(answer)

    def encode_stream(
        self, events: Iterable[chat.StreamEvent], *, include_usage: bool = True
    ) -> Iterator[bytes]:
        return openai_chat_neutral.ChunkWriter(include_usage).write(events)

    def only_words(self, view: RequestView) -> bool:
        fields = view.body
        return (
            fields.keys() <= _PLAIN
            and type(fields.get("temperature", 1)) in (float, int)
            and only_words(fields.get("messages"), _SPEAKERS)
        )

    def neutral(self, view: RequestView) -> chat.Request:
        check_chat(view.body, tuple(openai_chat_neutral.ROLES))
        return openai_chat_neutral.request(view)

    def encode_request(self, asked: chat.Request, model: str) -> Encoded:
        return openai_chat_request.encode(asked, model)

    def decode_answer(self, body: bytes) -> chat.Answer:
        return openai_chat_answer.answer(body)

    def decoder(self) -> openai_chat_answer.ChunkDecoder:
        return openai_chat_answer.ChunkDecoder()

    def writer(self, asked: RequestView) -> openai_chat_neutral.ChunkWriter:
        return openai_chat_neutral.ChunkWriter(asked.wants_usage)


class ChatReader(EventReader):
    """Reads a stream of chunks; with `hide_usage` it takes out what asking for usage caused."""

    def __init__(self, *, hide_usage: bool) -> None:
        super().__init__()
        self._hide = hide_usage

    def take_answer(self, body: bytes) -> None:
        """Learn from a whole answer, or from the body of an error."""
        value = parsed(body)
        fields = as_object(value)
        self._identify(fields)
        for choice in map(as_object, as_list(fields.get("choices"))):
            self._choice(choice, as_object(choice.get("message")))
        if "choices" in fields and not fields.get("error"):
            self._end()
        else:
            self.note.error = provider_error(value)

    def _failure(self, error: ModelspendError) -> bytes:
        return event(error_body(error))

    def _take(self, name: bytes, value: Mapping[str, Any], raw: bytes) -> bytes:
        if told := value.get("error"):
            self.note.error = error_of(told)
        self._identify(value)
        choices = value.get("choices")
        for choice in as_list(choices):
            if isinstance(choice, dict):
                self._choice(choice, as_object(choice.get("delta")))
        if self._hide and "usage" in value:
            return _without_usage(raw, value["usage"], choices)
        return raw

    def _take_word(self, data: bytes) -> None:
        if data.startswith(b"[DONE]"):
            self._end()

    def _identify(self, value: Mapping[str, Any]) -> None:
        note = self.note
        if note.model is None or note.answer_id is None:  # Azure's first chunk leaves both empty
            note.answer_id = as_name(value.get("id")) or note.answer_id
            note.model = as_name(value.get("model")) or note.model
        if tier := value.get("service_tier"):
            note.service_tier = served_tier(tier)
        usage = value.get("usage")
        if usage is None and "x_groq" in value:
            usage = as_object(value["x_groq"]).get("usage")
        if (kept := as_usage(usage)) is not None:
            note.usage = kept

    def _choice(self, choice: Mapping[str, Any], said: Mapping[str, Any]) -> None:
        if reason := as_name(choice.get("finish_reason")):
            self.note.finish_reason = reason
        if usage := as_usage(choice.get("usage")):  # Moonshot tells it here
            self.note.usage = self.note.usage or usage
        content = said.get("content")
        if content:
            if isinstance(content, str):
                self._wrote(content)
            else:
                self._parts(content)
        if len(said) > 1 or not content:
            self._wrote(said.get("reasoning_content") or said.get("reasoning"))
            self._wrote(said.get("refusal"))
            self._calls(said)

    def _calls(self, said: Mapping[str, Any]) -> None:
        self._function(said.get("function_call"))
        for call in as_list(said.get("tool_calls")):
            if isinstance(call, dict):
                self._function(call.get("function") or call.get("custom"))
        if audio := as_object(said.get("audio")):
            self.note.content = True
            self._wrote(audio.get("transcript"))

    def _function(self, function: object) -> None:
        if isinstance(function, dict):
            for key in ("name", "arguments", "input"):
                self._wrote(function.get(key))

    def _parts(self, parts: object) -> None:
        """Mistral's content parts: text, and thinking that holds texts of its own."""
        for part in map(as_object, as_list(parts)):
            self._wrote(part.get("text"))
            self._parts(part.get("thinking"))


def _without_usage(raw: bytes, usage: object, choices: object) -> bytes:
    """An event without what asking for usage caused; the extra chunk goes away whole."""
    if usage is not None:
        return b"" if choices == [] else raw
    data = parse_event(raw)[1] or b""
    place = jsonbody.member(data, "usage")
    start = raw.find(data)
    if place is None or start < 0:
        return raw  # data told in several lines: no provider does, and cutting there is no splice
    return raw[:start] + jsonbody.cut(data, place) + raw[start + len(data) :]
