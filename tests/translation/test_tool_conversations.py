"""The vendors' own clients hold a conversation with two tools, each with every other dialect.

The client asks in its dialect; the request is translated and read by the scripted provider in its
own. It calls both tools at once; the client sends what they gave, and the provider answers with the
words that reached it.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import openai
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from google import genai
from google.genai import types

from modelspend import chat, translation
from modelspend.delivery import Delivery, deliver
from modelspend.dialects import CHAT_DIALECTS

pytestmark = [
    # google-genai subclasses aiohttp's session, which aiohttp warns about; neither is ours.
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession"),
]
MODELS = {
    "openai.chat": "gpt-5",
    "openai.responses": "gpt-5",
    "anthropic.messages": "claude-sonnet-4-5",
    "gemini.generate": "gemini-3-pro-preview",
}
CITIES = ("Köln", "Paris")
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "its name"}},
    "required": ["city"],
    "additionalProperties": False,
}
SAID = "Köln: 5 °C and rain | Paris: 7 °C and sun"


def weather(city: str) -> str:
    """Weather of a city."""
    return {"Köln": "5 °C and rain", "Paris": "7 °C and sun"}.get(city, "dry")


class Provider:
    """A model of one vendor, behind the translation from all others."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dialect = CHAT_DIALECTS[name]
        self.asked: list[chat.Request] = []

    def hear(self, prepared: chat.Request) -> chat.Answer:
        encoded = self.dialect.encode_request(prepared, MODELS[self.name])
        path = f"/v1{self.dialect.target(encoded.view, MODELS[self.name])}"
        asked = self.dialect.neutral(self.dialect.read(path, encoded.body))
        self.asked.append(asked)
        return self.answer(asked)

    def answer(self, asked: chat.Request) -> chat.Answer:
        parts = [part for message in asked.messages for part in message.parts]
        results = [part for part in parts if isinstance(part, chat.ToolResult)]
        calls = [part for part in parts if isinstance(part, chat.ToolCall)]
        if not results:
            ids = ("", "") if self.name == "gemini.generate" else ("call_a", "call_b")
            asks = [
                chat.ToolCall(call_id=i, name="weather", arguments=json.dumps({"city": city}))
                for i, city in zip(ids, CITIES, strict=True)
            ]
            opening = chat.Text(text="Let me look.")
            return self._told((opening, *asks), "tool_calls")
        cities = [json.loads(call.arguments)["city"] for call in calls]
        words = [
            part.text for told in results for part in told.parts if isinstance(part, chat.Text)
        ]
        pairs = zip(cities, words, strict=True)
        text = " | ".join(f"{city}: {plain(told)}" for city, told in pairs)
        return self._told((chat.Text(text=text),), "stop")

    def _told(self, parts: tuple[chat.Part, ...], stop: Any) -> chat.Answer:
        usage = {"input_tokens": 12, "output_tokens": 5}
        return chat.Answer(answer_id="resp_1", model="m", parts=parts, stop=stop, usage=usage)


def plain(told: str) -> str:
    """A result as words: Google's clients send an object with the result in it."""
    try:
        value = json.loads(told)
    except ValueError:
        return told
    return str(value["result"]) if isinstance(value, dict) else told


def events(answer: chat.Answer) -> Iterator[chat.StreamEvent]:
    """The answer in small pieces."""
    yield chat.Started(answer_id=answer.answer_id, model=answer.model)
    for index, part in enumerate(answer.parts):
        if isinstance(part, chat.Text):
            for at in range(0, len(part.text), 3):
                yield chat.TextDelta(index, part.text[at : at + 3])
        elif isinstance(part, chat.ToolCall):
            yield chat.ToolCallStarted(index, part.call_id, part.name)
            for at in range(0, len(part.arguments), 4):
                yield chat.ArgumentsDelta(index, part.arguments[at : at + 4])
        yield chat.PartEnded(index)
    assert answer.stop
    yield chat.Stopped(answer.stop, answer.usage)
    yield chat.Ended()


ROUTES = {
    "/v1/chat/completions": "openai.chat",
    "/v1/responses": "openai.responses",
    "/v1/messages": "anthropic.messages",
}


@asynccontextmanager
async def translating(provider: Provider) -> AsyncIterator[str]:
    """The URL of a server that takes every dialect and asks the provider in its own."""

    async def serve(request: web.Request) -> web.Response:
        name = ROUTES.get(request.path, "gemini.generate")
        client = CHAT_DIALECTS[name]
        view = client.read(f"{request.path}?{request.query_string}", await request.read())
        prepared = translation.prepare(client.neutral(view), to=provider.name)
        answer = provider.hear(prepared.request)
        if not view.stream:
            heard = provider.dialect.decode_answer(provider.dialect.encode_answer(answer))
            told, _ = deliver(heard, to=name)
            return web.Response(body=client.encode_answer(told), content_type="application/json")
        sent = b"".join(provider.dialect.encode_stream(events(answer)))
        decoder, delivery, writer = (
            provider.dialect.decoder(),
            Delivery(to=name),
            client.writer(view),
        )
        out = b""
        for at in range(0, len(sent), 7):
            out += b"".join(writer.write(delivery.feed(decoder.feed(sent[at : at + 7]))))
        out += b"".join(writer.write(delivery.feed(decoder.close())))
        return web.Response(body=out, content_type="text/event-stream")

    app = web.Application()
    app.router.add_post("/{path:.*}", serve)
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("")).rstrip("/")
    finally:
        await server.close()


# One conversation for each client: it gives the last words.

Talk = Callable[..., Awaitable[str]]


async def talk_chat(url: str, stream: bool, model: str = "m") -> str:
    plain_http = openai.DefaultAsyncHttpxClient(verify=False)
    async with openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key="k", max_retries=0, http_client=plain_http
    ) as client:
        function = {"name": "weather", "parameters": PARAMETERS, "strict": True}
        messages: list[Any] = [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "Weather in Köln and Paris?"},
        ]
        while True:
            asked: Any = {
                "model": model,
                "messages": messages,
                "tools": [{"type": "function", "function": function}],
                "max_completion_tokens": 500,
            }
            if stream:
                async with client.chat.completions.stream(**asked) as events_:
                    async for _ in events_:
                        pass
                    message = (await events_.get_final_completion()).choices[0].message
            else:
                message = (await client.chat.completions.create(**asked)).choices[0].message
            if not message.tool_calls:
                return message.content or ""
            kept = {"role": "assistant", "content": message.content}
            calls = [call.model_dump(include={"id", "type"}) for call in message.tool_calls]
            for told, call in zip(calls, message.tool_calls, strict=True):
                told["function"] = {
                    "name": call.function.name,
                    "arguments": call.function.arguments,
                }
            messages.append(kept | {"tool_calls": calls})
            for call in message.tool_calls:
                said = weather(**json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": said})


async def talk_responses(url: str, stream: bool, model: str = "m") -> str:
    plain_http = openai.DefaultAsyncHttpxClient(verify=False)
    async with openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key="k", max_retries=0, http_client=plain_http
    ) as client:
        said: list[Any] = [{"role": "user", "content": "Weather in Köln and Paris?"}]
        tool = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": False}
        while True:
            asked: Any = {
                "model": model,
                "input": said,
                "tools": [tool],
                "instructions": "Be brief.",
            }
            if stream:
                async with client.responses.stream(**asked) as events_:
                    async for _ in events_:
                        pass
                    answer: Any = await events_.get_final_response()
            else:
                answer = await client.responses.create(**asked)
            calls = [item for item in answer.output if item.type == "function_call"]
            if not calls:
                return answer.output_text
            said += [item.model_dump(exclude={"parsed_arguments"}) for item in answer.output]
            said += [
                {
                    "type": "function_call_output",
                    "call_id": call.call_id,
                    "output": weather(**json.loads(call.arguments)),
                }
                for call in calls
            ]


async def talk_messages(url: str, stream: bool, model: str = "m") -> str:
    plain_http = anthropic.DefaultAsyncHttpxClient(verify=False)
    async with anthropic.AsyncAnthropic(
        base_url=url, api_key="k", max_retries=0, http_client=plain_http
    ) as client:
        messages: list[Any] = [{"role": "user", "content": "Weather in Köln and Paris?"}]
        tool = {"name": "weather", "description": "Weather", "input_schema": PARAMETERS}
        while True:
            asked: Any = {
                "model": model,
                "max_tokens": 500,
                "system": [{"type": "text", "text": "Be brief.", "cache_control": EPHEMERAL}],
                "messages": messages,
                "tools": [tool],
            }
            if stream:
                async with client.messages.stream(**asked) as events_:
                    answer: Any = await events_.get_final_message()
            else:
                answer = await client.messages.create(**asked)
            if answer.stop_reason != "tool_use":
                return "".join(block.text for block in answer.content if block.type == "text")
            messages.append({"role": "assistant", "content": answer.content})
            results = [
                {"type": "tool_result", "tool_use_id": block.id, "content": weather(**block.input)}
                for block in answer.content
                if block.type == "tool_use"
            ]
            messages.append({"role": "user", "content": results})


EPHEMERAL = {"type": "ephemeral"}


async def talk_google(url: str, stream: bool, model: str = "m") -> str:
    """Google's client calls the Python function by itself, and keeps the conversation."""
    options = types.HttpOptions(base_url=url, retry_options=types.HttpRetryOptions(attempts=1))
    client = genai.Client(api_key="k", http_options=options).aio
    config = types.GenerateContentConfig(
        system_instruction="Be brief.", tools=[weather], max_output_tokens=500
    )
    talk = client.chats.create(model=model, config=config)
    try:
        if not stream:
            return (await talk.send_message("Weather in Köln and Paris?")).text or ""
        pieces = await talk.send_message_stream("Weather in Köln and Paris?")
        said = [piece.text or "" async for piece in pieces if not piece.function_calls]
        return "".join(said).removeprefix("Let me look.")
    finally:
        await client.aclose()


CLIENTS: dict[str, Talk] = {
    "openai.chat": talk_chat,
    "openai.responses": talk_responses,
    "anthropic.messages": talk_messages,
    "gemini.generate": talk_google,
}
PAIRS = [(name, to) for name in CLIENTS for to in CHAT_DIALECTS if name != to]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("name", "to"), PAIRS)
async def test_a_vendors_client_uses_tools_with_a_model_of_every_other_vendor(
    name: str, to: str, stream: bool
) -> None:
    provider = Provider(to)
    async with translating(provider) as url:
        assert await CLIENTS[name](url, stream) == SAID
    assert len(provider.asked) == 2
    for asked in provider.asked:
        texts = [
            (message.role, part.text)
            for message in asked.messages
            for part in message.parts
            if isinstance(part, chat.Text) and message.role in ("system", "user")
        ]
        assert texts == [("system", "Be brief."), ("user", "Weather in Köln and Paris?")]
        (tool,) = asked.tools
        assert isinstance(tool, chat.Tool)
        assert tool.schema["properties"]["city"]["type"] == "string"
        assert asked.stream is stream
