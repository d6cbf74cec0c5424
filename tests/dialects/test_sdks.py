"""The vendors' own clients as judges of what is written: answers, streams, and errors in both."""

from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors as google_errors
from google.genai import types

from modelspend import chat
from modelspend.dialects import DIALECTS
from modelspend.dialects.gemini import Gemini
from modelspend.dialects.openai_embeddings import encode_embedding
from modelspend.errors import (
    BadRequest,
    LedgerUnavailable,
    ModelspendError,
    NotAuthorised,
    Overloaded,
    StreamTruncated,
    UnknownModel,
)
from tests.dialects.conftest import Answering
from tests.dialects.recorded import read_stream

# google-genai subclasses aiohttp's session, which aiohttp warns about; neither is ours.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession")

USAGE = {
    "input_tokens": 11,
    "cache_read_tokens": 30,
    "cache_write_5m_tokens": 5,
    "cache_write_1h_tokens": 2,
    "output_tokens": 25,
    "reasoning_tokens": 9,
}
TRUNCATED = StreamTruncated("Provider x broke off.", "Try again.", failure_class="truncated")
JSON, SSE = "application/json", "text/event-stream"


def answer(answer_id: str, stop: chat.StopReason = "tool_calls") -> chat.Answer:
    return chat.Answer(
        answer_id=answer_id,
        model="served-1",
        parts=(
            chat.Reasoning(text="Hm.", sealed="c2VhbA==", origin="x"),
            chat.Text(text="Hello … 🙂"),
            chat.ToolCall(call_id="call_1", name="lookup", arguments='{"city":"Köln"}'),
        ),
        stop=stop,
        usage=USAGE,
    )


def events(answer_id: str) -> list[chat.StreamEvent]:
    return [
        chat.Started(answer_id=answer_id, model="served-1", usage={"input_tokens": 11}),
        chat.ReasoningDelta(0, "Hm."),
        chat.ReasoningDelta(0, "", "c2VhbA=="),
        chat.PartEnded(0),
        chat.TextDelta(1, "Hello … "),
        chat.TextDelta(1, "🙂"),
        chat.PartEnded(1),
        chat.ToolCallStarted(2, "call_1", "lookup"),
        chat.ArgumentsDelta(2, '{"city":'),
        chat.ArgumentsDelta(2, '"Köln"}'),
        chat.PartEnded(2),
        chat.Stopped("tool_calls", USAGE),
        chat.Ended(),
    ]


def openai_client(url: str) -> openai.AsyncOpenAI:
    plain = openai.DefaultAsyncHttpxClient(verify=False)  # loading certificates takes longest
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0, http_client=plain)


def anthropic_client(url: str) -> anthropic.AsyncAnthropic:
    plain = anthropic.DefaultAsyncHttpxClient(verify=False)
    return anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0, http_client=plain)


def google_client(url: str) -> genai.client.AsyncClient:
    options = types.HttpOptions(base_url=url, retry_options=types.HttpRetryOptions(attempts=1))
    return genai.Client(api_key="k", http_options=options).aio


# Each asks for a stream and gives all of its chunks.


async def chat_chunks(url: str) -> list[Any]:
    async with openai_client(url) as client:
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        return [chunk async for chunk in stream]


async def response_events(url: str) -> list[Any]:
    async with openai_client(url) as client:
        stream = await client.responses.create(model="m", input="hi", stream=True)
        return [one async for one in stream]


async def message_events(url: str) -> list[Any]:
    async with anthropic_client(url) as client:
        stream = await client.messages.create(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}], stream=True
        )
        return [one async for one in stream]


async def google_chunks(url: str) -> list[Any]:
    client = google_client(url)
    try:
        stream = await client.models.generate_content_stream(model="m", contents="hi")
        return [chunk async for chunk in stream]
    finally:
        await client.aclose()


# Each asks for a whole answer.


async def chat_answer(url: str) -> Any:
    async with openai_client(url) as client:
        messages: Any = [{"role": "user", "content": "hi"}]
        return await client.chat.completions.create(model="m", messages=messages)


async def response_answer(url: str) -> Any:
    async with openai_client(url) as client:
        return await client.responses.create(model="m", input="hi")


async def embedding_answer(url: str) -> Any:
    async with openai_client(url) as client:
        return await client.embeddings.create(model="m", input="hi", encoding_format="float")


async def message_answer(url: str) -> Any:
    async with anthropic_client(url) as client:
        messages: Any = [{"role": "user", "content": "hi"}]
        return await client.messages.create(model="m", max_tokens=9, messages=messages)


async def google_answer(url: str) -> Any:
    client = google_client(url)
    try:
        return await client.models.generate_content(model="m", contents="hi")
    finally:
        await client.aclose()


async def test_openai_reads_a_written_chat_answer(answering: Answering) -> None:
    body = DIALECTS["openai.chat"].encode_answer(answer("chatcmpl-1"))
    got = await chat_answer(await answering(body, JSON))
    [choice] = got.choices
    assert (got.id, got.object, got.model) == ("chatcmpl-1", "chat.completion", "served-1")
    assert choice.message.content == "Hello … 🙂"
    assert choice.message.tool_calls[0].function.arguments == '{"city":"Köln"}'
    assert choice.finish_reason == "tool_calls"
    assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (48, 25)
    assert got.usage.total_tokens == 73
    assert got.usage.prompt_tokens_details.cached_tokens == 30
    assert got.usage.completion_tokens_details.reasoning_tokens == 9


async def test_openai_reads_a_written_chat_stream(answering: Answering) -> None:
    body = b"".join(DIALECTS["openai.chat"].encode_stream(events("chatcmpl-1")))
    chunks = await chat_chunks(await answering(body, SSE))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == "Hello … 🙂"
    calls = [call for delta in deltas for call in delta.tool_calls or []]
    assert "".join(call.function.arguments for call in calls) == '{"city":"Köln"}'
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "tool_calls"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 73
    assert {chunk.id for chunk in chunks} == {"chatcmpl-1"}


async def test_chat_stream_tells_no_usage_unasked() -> None:
    written = DIALECTS["openai.chat"].encode_stream(events("chatcmpl-1"), include_usage=False)
    assert b"usage" not in b"".join(written)


async def test_openai_reads_a_written_response(answering: Answering) -> None:
    body = DIALECTS["openai.responses"].encode_answer(answer("resp_1"))
    got = await response_answer(await answering(body, JSON))
    assert (got.status, got.output_text) == ("completed", "Hello … 🙂")
    assert [item.type for item in got.output] == ["reasoning", "message", "function_call"]
    assert got.output[2].arguments == '{"city":"Köln"}'
    assert (got.usage.input_tokens, got.usage.output_tokens) == (48, 25)
    assert got.usage.output_tokens_details.reasoning_tokens == 9


async def test_openai_reads_a_written_response_stream(answering: Answering) -> None:
    body = b"".join(DIALECTS["openai.responses"].encode_stream(events("resp_1")))
    got = await response_events(await answering(body, SSE))
    assert [one.sequence_number for one in got] == list(range(len(got)))
    kinds = [one.type.removeprefix("response.") for one in got]
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    whole = await response_answer(
        await answering(DIALECTS["openai.responses"].encode_answer(answer("resp_1")), JSON)
    )
    assert got[-1].response.to_dict() == whole.to_dict()


async def test_openai_accumulates_a_written_response_stream(answering: Answering) -> None:
    """The helper of the client that follows each event keeps state and refuses a wrong order."""
    body = b"".join(DIALECTS["openai.responses"].encode_stream(events("resp_1")))
    client = openai_client(await answering(body, SSE))
    async with client, client.responses.stream(model="m", input="hi") as stream:
        final = await stream.get_final_response()
    assert final.output_text == "Hello … 🙂"


async def test_answer_cut_at_its_limit_is_incomplete(answering: Answering) -> None:
    stream = [*events("resp_1")[:-2], chat.Stopped("length", USAGE), chat.Ended()]
    body = b"".join(DIALECTS["openai.responses"].encode_stream(stream))
    got = await response_events(await answering(body, SSE))
    assert got[-1].type == "response.incomplete"
    assert got[-1].response.incomplete_details.reason == "max_output_tokens"
    note = read_stream(DIALECTS["openai.responses"], body).note
    assert (note.ended, note.finish_reason) == (True, "max_output_tokens")


async def test_anthropic_reads_a_written_message(answering: Answering) -> None:
    body = DIALECTS["anthropic.messages"].encode_answer(answer("msg_1"))
    got = await message_answer(await answering(body, JSON))
    assert [block.type for block in got.content] == ["thinking", "text", "tool_use"]
    assert got.content[2].input == {"city": "Köln"}
    assert got.stop_reason == "tool_use"
    assert got.usage.input_tokens == 11
    assert got.usage.cache_read_input_tokens == 30
    assert got.usage.cache_creation_input_tokens == 7
    assert got.usage.cache_creation.ephemeral_1h_input_tokens == 2
    assert got.usage.output_tokens == 25


async def test_anthropic_accumulates_a_written_stream(answering: Answering) -> None:
    body = b"".join(DIALECTS["anthropic.messages"].encode_stream(events("msg_1")))
    async with anthropic_client(await answering(body, SSE)) as client:
        messages: Any = [{"role": "user", "content": "hi"}]
        async with client.messages.stream(model="m", max_tokens=9, messages=messages) as stream:
            final = await stream.get_final_message()
    assert final.content[0].signature == "c2VhbA=="
    assert final.content[1].text == "Hello … 🙂"
    assert final.content[2].input == {"city": "Köln"}
    assert final.stop_reason == "tool_use"
    assert (final.usage.input_tokens, final.usage.output_tokens) == (11, 25)
    assert final.usage.cache_read_input_tokens == 30


async def test_google_reads_a_written_answer(answering: Answering) -> None:
    body = DIALECTS["gemini.generate"].encode_answer(answer("r1"))
    got = await google_answer(await answering(body, JSON))
    parts = got.candidates[0].content.parts
    assert (parts[0].thought, parts[1].text) == (True, "Hello … 🙂")
    assert parts[2].function_call.args == {"city": "Köln"}
    usage = got.usage_metadata
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (48, 30)
    assert (usage.candidates_token_count, usage.thoughts_token_count) == (16, 9)
    assert usage.total_token_count == 73


async def test_google_reads_a_written_stream(answering: Answering) -> None:
    body = b"".join(DIALECTS["gemini.generate"].encode_stream(events("r1")))
    chunks = await google_chunks(await answering(body, SSE))
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
    assert "".join(p.text or "" for p in parts if not p.thought) == "Hello … 🙂"
    assert [p.function_call.args for p in parts if p.function_call] == [{"city": "Köln"}]
    assert chunks[-1].candidates[0].finish_reason == "STOP"
    assert chunks[-1].usage_metadata.total_token_count == 73


async def test_openai_reads_a_written_embedding(answering: Answering) -> None:
    body = encode_embedding("served-1", [[0.5, -1.0], [0.25, 2.0]], {"input_tokens": 4})
    got = await embedding_answer(await answering(body, JSON))
    assert [one.embedding for one in got.data] == [[0.5, -1.0], [0.25, 2.0]]
    assert (got.usage.prompt_tokens, got.usage.total_tokens) == (4, 4)


@pytest.mark.parametrize("name", ["openai.chat", "openai.responses", "anthropic.messages"])
def test_what_is_written_is_read_back(name: str) -> None:
    """Writing a stream and reading it is the same as writing a whole answer and reading it."""
    dialect = DIALECTS[name]
    whole = dialect.note(dialect.encode_answer(answer("resp_1")))
    read = read_stream(dialect, *dialect.encode_stream(events("resp_1")))
    assert read.note.ended
    assert whole.ended
    assert read.note.usage == whole.usage
    assert (read.note.model, read.note.answer_id) == (whole.model, whole.answer_id)
    assert read.note.finish_reason == whole.finish_reason


def test_written_gemini_array_is_read_back() -> None:
    written = b"".join(Gemini().encode_stream(events("r1"), as_array=True))
    for size in (1, 7, len(written)):
        chunks = [written[n : n + size] for n in range(0, len(written), size)]
        read = read_stream(Gemini(), *chunks)
        assert (read.all, read.held) == (written, b"]")
        assert read.note.ended
        assert read.note.usage["totalTokenCount"] == 73


Ask = Callable[[str], Awaitable[Any]]
WHOLE: dict[str, Ask] = {
    "openai.chat": chat_answer,
    "openai.responses": response_answer,
    "openai.embeddings": embedding_answer,
    "anthropic.messages": message_answer,
    "gemini.generate": google_answer,
}
STREAMED: dict[str, Ask] = {
    "openai.chat": chat_chunks,
    "openai.responses": response_events,
    "anthropic.messages": message_events,
    "gemini.generate": google_chunks,
}
CASES: list[tuple[ModelspendError, str]] = [
    (BadRequest("`model` is missing.", "Name one.", field="model"), "BadRequestError"),
    (NotAuthorised("No key."), "AuthenticationError"),
    (UnknownModel("No model x."), "NotFoundError"),
    (Overloaded("Full."), "RateLimitError"),
    (LedgerUnavailable("Disk full."), "InternalServerError"),
]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize(("error", "kind"), CASES, ids=[kind for _, kind in CASES])
async def test_clients_raise_their_own_type_on_our_errors(
    answering: Answering, name: str, error: ModelspendError, kind: str
) -> None:
    url = await answering(DIALECTS[name].error_body(error), JSON, error.status)
    with pytest.raises(
        (openai.APIStatusError, anthropic.APIStatusError, google_errors.APIError)
    ) as raised:
        await WHOLE[name](url)
    if name == "gemini.generate":
        family = google_errors.ClientError if error.status < 500 else google_errors.ServerError
        assert type(raised.value) is family
        assert raised.value.code == error.status
    else:
        vendor = anthropic if name.startswith("anthropic") else openai
        # Anthropic's client has types of its own for some statuses above 500.
        assert isinstance(raised.value, getattr(vendor, kind))
        assert raised.value.status_code == error.status
    assert error.message in str(raised.value)


RAISED: dict[str, type[Exception]] = {
    "openai.chat": openai.APIError,
    "openai.responses": openai.APIError,
    "anthropic.messages": anthropic.APIError,
    "gemini.generate": google_errors.ServerError,
}


@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize("after", [0, 1, 4, 99], ids=lambda n: f"after {n} events")
async def test_clients_raise_on_our_error_at_any_place_in_a_stream(
    answering: Answering, name: str, after: int
) -> None:
    dialect = DIALECTS[name]
    sent = list(dialect.encode_stream(events("resp_1")))
    body = b"".join(sent[: min(after, len(sent) - 1)]) + dialect.error_event(TRUNCATED)
    with pytest.raises(RAISED[name], match="broke off"):
        await STREAMED[name](await answering(body, SSE))
    read = read_stream(dialect, body)
    assert read.note.error
    assert not read.note.ended
    assert read.all == body
    assert read.held.startswith(dialect.error_event(TRUNCATED)[:20])


@pytest.mark.parametrize("name", STREAMED)
async def test_clients_raise_when_the_last_event_has_no_blank_line(
    answering: Answering, name: str
) -> None:
    """What the reader says after a whole event without its end must not be glued to it."""
    dialect = DIALECTS[name]
    sent = list(dialect.encode_stream(events("resp_1")))
    reader = dialect.reader(
        dialect.read("/v1/models/m:streamGenerateContent", b'{"model":"m"}'), hide_usage=False
    )
    body = b"".join(reader.feed(b"".join(sent[:5]).rstrip(b"\r\n"))) + b"".join(reader.close())
    assert body == b"".join(sent[:5]).rstrip(b"\r\n")
    body += reader.error_event(TRUNCATED)
    with pytest.raises(RAISED[name], match="broke off"):
        await STREAMED[name](await answering(body, SSE))


async def test_gemini_array_ends_as_an_error_that_is_valid_json() -> None:
    chunks = list(Gemini().encode_stream(events("r1"), as_array=True))
    for sent in range(len(chunks)):
        reader = Gemini().reader(Gemini().read("/m:generateContent", b"{}"), hide_usage=False)
        out = b"".join(b"".join(reader.feed(chunk)) for chunk in chunks[:sent])
        if not sent:
            out = b"".join(reader.feed(b"["))
        body = out + reader.error_event(TRUNCATED)
        note = Gemini().note(body)
        assert note.error
        assert note.error.kind == "INTERNAL"
        assert "broke off" in note.error.message
