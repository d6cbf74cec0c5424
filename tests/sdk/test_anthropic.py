"""The official Anthropic client, by changing only its base URL."""

import anthropic
import pytest

from tests.sdk.conftest import Door, drained, leaves_a_connection
from tests.sdk.test_openai import BROKEN, WEATHER

MODEL = "sim/claude-sonnet-4-6"
ASKED = [{"role": "user", "content": "Hello there"}]
TOOLS = [{"name": "get_weather", "input_schema": WEATHER}]


async def test_messages_answer(door: Door) -> None:
    async with door.anthropic() as client:
        answer = await client.messages.create(model=MODEL, max_tokens=500, messages=ASKED)
    assert answer.content[0].text
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens > 0
    await door.settled("success")


async def test_messages_stream(door: Door) -> None:
    async with door.anthropic() as client:
        whole = await client.messages.create(model=MODEL, max_tokens=500, messages=ASKED)
        async with client.messages.stream(model=MODEL, max_tokens=500, messages=ASKED) as stream:
            text = "".join([piece async for piece in stream.text_stream])
            final = await stream.get_final_message()
    assert text == whole.content[0].text
    assert final.usage.output_tokens == whole.usage.output_tokens
    await door.settled("success")


async def test_messages_stream_thinking(door: Door) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    asked = {"max_tokens": 5000, "messages": ASKED, "thinking": thinking}
    async with (
        door.anthropic() as client,
        client.messages.stream(model="sim/claude-opus-reason", **asked) as stream,
    ):
        final = await stream.get_final_message()
    thought, text = final.content
    assert thought.signature
    assert thought.thinking
    assert text.text
    await door.settled("success")


async def test_messages_call_a_tool_and_take_its_result(door: Door) -> None:
    messages: list = [{"role": "user", "content": "Please get_weather in Oslo"}]
    async with door.anthropic() as client:
        async with client.messages.stream(
            model=MODEL, max_tokens=500, messages=messages, tools=TOOLS
        ) as stream:
            final = await stream.get_final_message()
        (call,) = (part for part in final.content if part.type == "tool_use")
        assert (call.input, final.stop_reason) == ({"city": "sample"}, "tool_use")
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
        messages.append({"role": "assistant", "content": [call.model_dump(exclude_none=True)]})
        messages.append({"role": "user", "content": [result]})
        answer = await client.messages.create(
            model=MODEL, max_tokens=500, messages=messages, tools=TOOLS
        )
    assert answer.content[0].text
    await door.settled("success")


async def test_the_prompt_cache_is_on_the_bill(door: Door) -> None:
    mark = {"type": "ephemeral"}
    system = [{"type": "text", "text": "All work and no play. " * 300, "cache_control": mark}]
    async with door.anthropic() as client:
        for _ in range(2):
            answer = await client.messages.create(
                model=MODEL, max_tokens=500, system=system, messages=ASKED
            )
    assert answer.usage.cache_read_input_tokens == 1650
    await door.settled("success")


async def test_tokens_are_counted(door: Door) -> None:
    async with door.anthropic() as client:
        counted = await client.messages.count_tokens(model=MODEL, messages=ASKED)
    assert counted.input_tokens == 3
    await door.settled("success")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("sim-400", anthropic.BadRequestError),
        ("sim-401", anthropic.AuthenticationError),
        ("sim-404", anthropic.NotFoundError),
        ("sim-413", anthropic.RequestTooLargeError),
        ("sim-429-retry-1", anthropic.RateLimitError),
        ("sim-500", anthropic.InternalServerError),
        ("sim-529", anthropic.OverloadedError),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_errors_are_the_clients_own(
    door: Door, name: str, error: type[Exception], stream: bool
) -> None:
    async with door.anthropic() as client:
        with pytest.raises(error):
            await client.messages.create(
                model=f"sim/{name}", max_tokens=500, messages=ASKED, stream=stream
            )
    await door.settled("error")


@leaves_a_connection
@pytest.mark.parametrize("name", BROKEN)
async def test_messages_raise_on_a_stream_that_broke_off(inside: Door, name: str) -> None:
    async with inside.anthropic() as client:
        call = client.messages.create(
            model=f"sim/{name}", max_tokens=500, messages=ASKED, stream=True
        )
        with pytest.raises(anthropic.AnthropicError):
            await drained(await call)
    assert inside.sidecar
    assert (await inside.sidecar.receipt()).execution.status in BROKEN[name]
