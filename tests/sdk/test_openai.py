"""The official OpenAI client: chat, responses and embeddings, by changing only its base URL."""

import json

import openai
import pytest
from pydantic import BaseModel

from tests.sdk.conftest import Door, drained, leaves_a_connection

MODEL = "sim/gpt-4.1"
ASKED = [{"role": "user", "content": "Hello there"}]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
CHAT_TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]
TOOLS = [{"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": True}]


async def test_chat_answers(door: Door) -> None:
    async with door.openai() as client:
        answer = await client.chat.completions.create(model=MODEL, messages=ASKED)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    await door.settled("success")


@pytest.mark.parametrize("include_usage", [False, True])
async def test_chat_streams(door: Door, include_usage: bool) -> None:
    option = {"stream_options": {"include_usage": True}} if include_usage else {}
    async with door.openai() as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=ASKED, stream=True, **option
        )
        chunks = [chunk async for chunk in stream]
        whole = await client.chat.completions.create(model=MODEL, messages=ASKED)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert [bool(c.usage) for c in chunks if c.usage] == [True] * include_usage
    assert all(chunk.choices for chunk in chunks) is not include_usage
    await door.settled("success")


async def test_chat_calls_a_tool_and_takes_its_result(door: Door) -> None:
    messages: list = [{"role": "user", "content": "Please get_weather in Oslo"}]
    async with door.openai() as client:
        async with client.chat.completions.stream(
            model=MODEL, messages=messages, tools=CHAT_TOOLS
        ) as stream:
            final = await stream.get_final_completion()
        (call,) = final.choices[0].message.tool_calls
        assert json.loads(call.function.arguments) == {"city": "sample"}
        messages.append(final.choices[0].message.model_dump(exclude_none=True))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "rain"})
        answer = await client.chat.completions.create(
            model=MODEL, messages=messages, tools=CHAT_TOOLS
        )
    assert answer.choices[0].message.content
    await door.settled("success")


async def test_chat_parses_structured_output(door: Door) -> None:
    class Place(BaseModel):
        city: str
        people: int

    async with door.openai() as client:
        answer = await client.chat.completions.parse(
            model=MODEL, messages=ASKED, response_format=Place
        )
    assert answer.choices[0].message.parsed == Place(city="sample", people=7)
    await door.settled("success")


async def test_responses_answer(door: Door) -> None:
    async with door.openai() as client:
        answer = await client.responses.create(model="sim/o4-reason", input="Hello there")
    assert answer.output_text
    assert answer.usage
    assert answer.usage.output_tokens_details.reasoning_tokens == 64
    await door.settled("success")


async def test_responses_stream_with_a_tool(door: Door) -> None:
    async with door.openai() as client:
        async with client.responses.stream(model=MODEL, input="Hello there") as stream:
            text = "".join(
                [
                    event.delta
                    async for event in stream
                    if event.type == "response.output_text.delta"
                ]
            )
            assert text == (await stream.get_final_response()).output_text
        async with client.responses.stream(
            model="sim/sim-tools-2", input="Hello", tools=TOOLS
        ) as stream:
            final = await stream.get_final_response()
    calls = [item for item in final.output if item.type == "function_call"]
    assert [json.loads(call.arguments) for call in calls] == [{"city": "sample"}] * 2
    await door.settled("success")


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings(door: Door, encoding: str) -> None:
    async with door.openai() as client:
        answer = await client.embeddings.create(
            model="sim/text-embedding-3-small",
            input=["one", "two"],
            dimensions=64,
            encoding_format=encoding,
        )
        usual = await client.embeddings.create(model="sim/text-embedding-3-small", input="one")
    assert len(answer.data) == 2
    assert len(usual.data[0].embedding) == 256
    assert answer.usage.prompt_tokens == 2
    await door.settled("success")


async def test_models_are_listed(door: Door) -> None:
    async with door.openai() as client:
        names = [model.id async for model in client.models.list()]
    assert door.sidecar or "gpt-4.1" in names


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("sim-400", openai.BadRequestError),
        ("sim-401", openai.AuthenticationError),
        ("sim-403", openai.PermissionDeniedError),
        ("sim-404", openai.NotFoundError),
        ("sim-429-retry-1", openai.RateLimitError),
        ("sim-500", openai.InternalServerError),
        ("sim-529", openai.InternalServerError),
        ("sim-nonsense", openai.NotFoundError),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_errors_are_the_clients_own(
    door: Door, name: str, error: type[Exception], stream: bool
) -> None:
    async with door.openai() as client:
        with pytest.raises(error):
            await client.chat.completions.create(model=f"sim/{name}", messages=ASKED, stream=stream)
        with pytest.raises(error):
            await client.responses.create(model=f"sim/{name}", input="Hello", stream=stream)
    await door.settled("error")


BROKEN = {
    "sim-200-error-first": {"error"},
    "sim-error-after-5": {"error"},
    "sim-failed-after-5": {"error"},
    "sim-cut-0": {"error", "truncated"},
    "sim-cut-5": {"truncated"},
    "sim-reset-5": {"truncated"},
    "sim-cut-bytes-4000": {"truncated"},
    "sim-no-done": {"truncated"},
    "sim-hangup": {"error"},
    "sim-reset": {"error"},
}
"""Streams that break off, and what the receipt may call it."""


@leaves_a_connection
@pytest.mark.parametrize("name", BROKEN)
async def test_chat_raises_on_a_stream_that_broke_off(inside: Door, name: str) -> None:
    async with inside.openai() as client:
        call = client.chat.completions.create(model=f"sim/{name}", messages=ASKED, stream=True)
        with pytest.raises(openai.OpenAIError):
            await drained(await call)
    assert inside.sidecar
    assert (await inside.sidecar.receipt()).execution.status in BROKEN[name]


@leaves_a_connection
@pytest.mark.parametrize("name", BROKEN)
async def test_responses_raise_or_fail_on_a_stream_that_broke_off(inside: Door, name: str) -> None:
    async with inside.openai() as client:
        call = client.responses.create(model=f"sim/{name}", input="Hello", stream=True)
        if name == "sim-failed-after-5":  # which this client gives as an event, as OpenAI does
            assert (await drained(await call))[-1].type == "response.failed"
        else:
            with pytest.raises(openai.OpenAIError):
                await drained(await call)
    assert inside.sidecar
    assert (await inside.sidecar.receipt()).execution.status in BROKEN[name]
