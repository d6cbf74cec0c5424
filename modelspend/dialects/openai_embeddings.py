"""OpenAI Embeddings: one request, one answer, input tokens only; never a stream.

An answer carries no id, so a receipt of an embedding has none either.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from modelspend import chat
from modelspend.dialects import jsonbody
from modelspend.dialects.dialect import AnswerNote, RequestView
from modelspend.dialects.openai_chat import ChatReader
from modelspend.dialects.openai_shape import error_body, input_total
from modelspend.dialects.reader import (
    as_list,
    as_name,
    as_object,
    as_usage,
    count_chars,
    parsed,
    provider_error,
)
from modelspend.dialects.sse import event
from modelspend.errors import ModelspendError

NAME = "openai.embeddings"


class OpenAIEmbeddings:
    """The `openai.embeddings` dialect."""

    name = NAME
    required_headers: tuple[tuple[str, str], ...] = ()
    native_provider = "openai"
    billable = True
    streams_json = False
    usage_may_follow = False

    def read(self, path: str, body: bytes) -> RequestView:
        fields = jsonbody.decode(body)
        return RequestView(model=jsonbody.asked_model(fields), stream=False, body=fields)

    def target(self, view: RequestView, model: str) -> str:
        return "/embeddings"

    def with_model(self, body: bytes, view: RequestView, model: str) -> bytes:
        return jsonbody.with_model(body, model)

    def with_usage(self, body: bytes, view: RequestView) -> bytes | None:
        return None

    def with_limit(self, body: bytes, view: RequestView, limit: int) -> None:
        return None  # a vector is no output that is paid for

    def reader(self, view: RequestView, *, hide_usage: bool) -> ChatReader:
        """Embeddings do not stream; a provider that streams anyway is read as chat."""
        return ChatReader(hide_usage=False)

    def note(self, body: bytes) -> AnswerNote:
        note = AnswerNote()
        value = parsed(body)
        fields = as_object(value)
        note.model = as_name(fields.get("model"))
        note.usage = as_usage(fields.get("usage"))
        if "data" in fields or "embeddings" in fields:
            note.ended = note.content = True
        else:
            note.error = provider_error(value)
        return note

    def input_chars(self, view: RequestView) -> int:
        """Characters of the input; a token id in an input of tokens counts as four."""
        asked = view.body.get("input")
        ids = sum(_ids(item) for item in [asked, *as_list(asked)])
        return count_chars(asked) + 4 * ids

    def prefix(self, view: RequestView) -> bytes:
        return b""  # an embedding belongs to no conversation

    def error_body(self, error: ModelspendError) -> bytes:
        return error_body(error)

    def error_event(self, error: ModelspendError) -> bytes:
        return event(error_body(error))

    def decode_request(self, path: str, body: bytes) -> chat.Request:
        view = self.read(path, body)
        asked = view.body.get("input")
        texts = [asked] if isinstance(asked, str) else as_list(asked)
        return chat.Request(
            model=view.model,
            origin=NAME,
            messages=tuple(
                chat.Message(role="user", parts=(chat.Text(text=text),))
                for text in texts
                if isinstance(text, str)
            ),
            extra={key: value for key, value in view.body.items() if key != "model"},
        )

    def encode_answer(self, answer: chat.Answer) -> bytes:
        vectors = answer.extra.get("vectors", [])
        return encode_embedding(answer.model, vectors, answer.usage)

    def encode_stream(
        self, events: Iterable[chat.StreamEvent], *, include_usage: bool = True
    ) -> Iterator[bytes]:
        raise TypeError("embeddings do not stream")


def encode_embedding(
    model: str, vectors: Sequence[Sequence[float] | str], usage: Mapping[str, int]
) -> bytes:
    """An embeddings answer; a vector is floats, or base64 text where that was asked."""
    total = input_total(usage)
    data: list[dict[str, Any]] = [
        {"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(vectors)
    ]
    told = {"prompt_tokens": total, "total_tokens": total}
    return orjson.dumps({"object": "list", "data": data, "model": model, "usage": told})


def _ids(item: object) -> int:
    """How many token ids stand directly in a list."""
    return sum(isinstance(one, int) for one in as_list(item))
