"""The official Google client, by changing only its base URL."""

from typing import Any

import pytest
from google.genai import errors, types

from tests.sdk.conftest import Door, drained, leaves_a_connection
from tests.sdk.test_openai import BROKEN

MODEL = "sim/gemini-2.5-flash"
CITY = types.Schema(
    type=types.Type.OBJECT,
    properties={"city": types.Schema(type=types.Type.STRING)},
    required=["city"],
)
TOOL = types.Tool(
    function_declarations=[types.FunctionDeclaration(name="get_weather", parameters=CITY)]
)
WITH_TOOL = types.GenerateContentConfig(
    tools=[TOOL], automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True)
)

pytestmark = pytest.mark.filterwarnings(  # the client's own, at every start
    "ignore:Inheritance class AiohttpClientSession:DeprecationWarning"
)


async def _generate(client: Any, model: str, stream: bool) -> None:
    if stream:
        await drained(await client.models.generate_content_stream(model=model, contents="Hello"))
    else:
        await client.models.generate_content(model=model, contents="Hello")


async def test_generate_answers(door: Door) -> None:
    async with door.google() as client:
        answer = await client.models.generate_content(model=MODEL, contents="Hello there")
    assert answer.text
    usage = answer.usage_metadata
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count
    await door.settled("success")


async def test_generate_streams(door: Door) -> None:
    async with door.google() as client:
        whole = await client.models.generate_content(model=MODEL, contents="Hello there")
        stream = await client.models.generate_content_stream(model=MODEL, contents="Hello there")
        text = "".join([chunk.text or "" async for chunk in stream])
    assert text == whole.text
    await door.settled("success")


async def test_thoughts_are_counted_apart(door: Door) -> None:
    async with door.google() as client:
        answer = await client.models.generate_content(
            model="sim/gemini-2.5-pro-reason", contents="Hello there"
        )
    assert answer.usage_metadata.thoughts_token_count == 64
    await door.settled("success")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_tool_is_called(door: Door, stream: bool) -> None:
    asked = {"model": MODEL, "contents": "Please get_weather in Oslo", "config": WITH_TOOL}
    async with door.google() as client:
        if stream:
            chunks = [c async for c in await client.models.generate_content_stream(**asked)]
            calls = [call for chunk in chunks for call in chunk.function_calls or ()]
        else:
            calls = (await client.models.generate_content(**asked)).function_calls
    assert [(call.name, call.args) for call in calls] == [("get_weather", {"city": "sample"})]
    await door.settled("success")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("sim-400", errors.ClientError),
        ("sim-404", errors.ClientError),
        ("sim-429-retry-1", errors.ClientError),
        ("sim-500", errors.ServerError),
        ("sim-503", errors.ServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_errors_are_the_clients_own(
    door: Door, name: str, error: type[Exception], stream: bool
) -> None:
    async with door.google() as client:
        with pytest.raises(error) as caught:
            await _generate(client, f"sim/{name}", stream)
    assert str(caught.value.code) in name
    await door.settled("error")


@leaves_a_connection
@pytest.mark.parametrize("name", BROKEN)
async def test_generate_raises_on_a_stream_that_broke_off(inside: Door, name: str) -> None:
    async with inside.google() as client:
        with pytest.raises(errors.APIError):
            await _generate(client, f"sim/{name}", True)
    assert inside.sidecar
    assert (await inside.sidecar.receipt()).execution.status in BROKEN[name]
