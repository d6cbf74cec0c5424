"""The vendors' own clients as judges: what each of them finds in an answer, whole or streamed.

One server answers every request with the bytes at hand; each vendor has one client for all rows.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
import openai
from aiohttp import web
from aiohttp.test_utils import TestServer
from google import genai
from google.genai import errors as google_errors
from google.genai import types

from modelspend import chat

Told = tuple[str, list[tuple[str, Any]], str]
"""(text, tool calls with their parsed arguments, kind of stop)."""

JSON, SSE = "application/json", "text/event-stream"
_CHAT_STOPS = {
    "stop": "done",
    "length": "length",
    "tool_calls": "tools",
    "content_filter": "filtered",
}
_MESSAGE_STOPS = {
    "end_turn": "done",
    "pause_turn": "done",
    "stop_sequence": "done",
    "max_tokens": "length",
    "tool_use": "tools",
    "refusal": "filtered",
}
_GOOGLE_STOPS = {
    "STOP": "done",
    "OTHER": "done",
    "MAX_TOKENS": "length",
    "SAFETY": "filtered",
    "PROHIBITED_CONTENT": "filtered",
}
STOPS: dict[chat.StopReason | None, str] = {
    "stop": "done",
    "pause": "done",
    "other": "done",
    "length": "length",
    "tool_calls": "tools",
    "content_filter": "filtered",
    "refusal": "filtered",
}


@dataclass
class Judges:
    """Asks the client of a dialect for an answer that is these bytes."""

    url: str
    answer: dict[str, Any]

    async def whole(self, dialect: str, body: bytes) -> Told:
        self.answer.update(body=body, content_type=JSON)
        return await _WHOLE[dialect](self)

    async def refused(self, dialect: str, body: bytes, status: int) -> tuple[int, str]:
        """(status, message) of the error that the client raises, which is one of its own."""
        self.answer.update(body=body, content_type=JSON, status=status)
        try:
            await _WHOLE[dialect](self)
        except (openai.APIStatusError, anthropic.APIStatusError) as raised:
            return raised.status_code, str(raised)
        except google_errors.APIError as raised:
            return raised.code, str(raised)
        finally:
            del self.answer["status"]
        raise AssertionError("the client took an error for an answer")

    async def streamed(self, dialect: str, body: bytes) -> Told:
        self.answer.update(body=body, content_type=SSE)
        return await _STREAMED[dialect](self)

    # One client for each vendor, made when it is first asked.

    openai_client: Any = None
    anthropic_client: Any = None
    google_client: Any = None

    @property
    def openai(self) -> openai.AsyncOpenAI:
        if self.openai_client is None:
            plain = openai.DefaultAsyncHttpxClient(verify=False)
            self.openai_client = openai.AsyncOpenAI(
                base_url=f"{self.url}/v1", api_key="k", max_retries=0, http_client=plain
            )
        return self.openai_client

    @property
    def anthropic(self) -> anthropic.AsyncAnthropic:
        if self.anthropic_client is None:
            plain = anthropic.DefaultAsyncHttpxClient(verify=False)
            self.anthropic_client = anthropic.AsyncAnthropic(
                base_url=self.url, api_key="k", max_retries=0, http_client=plain
            )
        return self.anthropic_client

    @property
    def google(self) -> genai.client.AsyncClient:
        if self.google_client is None:
            retry = types.HttpRetryOptions(attempts=1)
            options = types.HttpOptions(base_url=self.url, retry_options=retry)
            self.google_client = genai.Client(api_key="k", http_options=options).aio
        return self.google_client

    async def close(self) -> None:
        for client in (self.openai_client, self.anthropic_client):
            if client is not None:
                await client.close()
        if self.google_client is not None:
            await self.google_client.aclose()


@asynccontextmanager
async def judging() -> AsyncIterator[Judges]:
    answer: dict[str, Any] = {}

    async def told(request: web.Request) -> web.Response:
        await request.read()
        status = answer.get("status", 200)
        return web.Response(body=answer["body"], content_type=answer["content_type"], status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", told)
    server = TestServer(app)
    await server.start_server()
    judges = Judges(str(server.make_url("")).rstrip("/"), answer)
    try:
        yield judges
    finally:
        await judges.close()
        await server.close()


_TURN: Any = [{"role": "user", "content": "hi"}]


async def _chat(judges: Judges) -> Told:
    got = await judges.openai.chat.completions.create(model="m", messages=_TURN)
    [choice] = got.choices
    calls = [
        (call.function.name, json.loads(call.function.arguments))
        for call in choice.message.tool_calls or []
    ]
    text = (choice.message.content or "") + (choice.message.refusal or "")
    stop = "filtered" if choice.message.refusal else _CHAT_STOPS[choice.finish_reason]
    return text, calls, stop


async def _chat_stream(judges: Judges) -> Told:
    """As an app does it: arguments are put together by the call's number."""
    stream = await judges.openai.chat.completions.create(model="m", messages=_TURN, stream=True)
    text, stop = "", ""
    names: dict[int, str] = {}
    said: dict[int, str] = {}
    async for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            stop = choice.finish_reason or stop
            for call in choice.delta.tool_calls or []:
                if call.function.name:
                    assert call.id
                    names[call.index] = call.function.name
                said[call.index] = said.get(call.index, "") + (call.function.arguments or "")
    assert list(said) == list(range(len(said)))
    calls = [(names[number], json.loads(said[number])) for number in said]
    return text, calls, _CHAT_STOPS[stop]


def _response(got: Any) -> Told:
    text = got.output_text
    calls = []
    stop = "done"
    for item in got.output:
        if item.type == "function_call":
            calls.append((item.name, json.loads(item.arguments)))
            stop = "tools"
        for part in getattr(item, "content", None) or []:
            if part.type == "refusal":
                text, stop = text + part.refusal, "filtered"
    if got.status == "incomplete":
        reason = got.incomplete_details.reason
        stop = "length" if reason == "max_output_tokens" else "filtered"
    return text, calls, stop


async def _responses(judges: Judges) -> Told:
    return _response(await judges.openai.responses.create(model="m", input="hi"))


async def _responses_stream(judges: Judges) -> Told:
    """The client's own accumulator follows every event; what it kept must be what came last."""
    kept = ""
    async with judges.openai.responses.stream(model="m", input="hi") as stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                kept += event.delta
            if event.type in ("response.completed", "response.incomplete"):
                told = _response(event.response)
    assert kept == told[0]
    return told


def _message(got: Any) -> Told:
    text = "".join(block.text for block in got.content if block.type == "text")
    calls = [(block.name, block.input) for block in got.content if block.type == "tool_use"]
    return text, calls, _MESSAGE_STOPS[got.stop_reason]


async def _messages(judges: Judges) -> Told:
    made = judges.anthropic.messages.create
    return _message(await made(model="m", max_tokens=9, messages=_TURN))


async def _messages_stream(judges: Judges) -> Told:
    asked = judges.anthropic.messages.stream(model="m", max_tokens=9, messages=_TURN)
    open_block: int | None = None
    async with asked as stream:
        async for event in stream:
            if event.type == "content_block_start":
                assert open_block is None, "a block starts inside another"
                open_block = event.index
            elif event.type == "content_block_stop":
                assert open_block == event.index
                open_block = None
        return _message(await stream.get_final_message())


def _google_told(chunks: list[Any]) -> Told:
    text, stop = "", ""
    calls: list[tuple[str, Any]] = []
    for chunk in chunks:
        for candidate in chunk.candidates or []:
            for part in (candidate.content and candidate.content.parts) or []:
                if part.text and not part.thought:
                    text += part.text
                if part.function_call:
                    calls.append((part.function_call.name, part.function_call.args or {}))
            if candidate.finish_reason:
                stop = candidate.finish_reason.name
    told = _GOOGLE_STOPS[stop]
    return text, calls, "tools" if calls and told == "done" else told


async def _google(judges: Judges) -> Told:
    return _google_told([await judges.google.models.generate_content(model="m", contents="hi")])


async def _google_stream(judges: Judges) -> Told:
    stream = await judges.google.models.generate_content_stream(model="m", contents="hi")
    return _google_told([chunk async for chunk in stream])


Ask = Callable[[Judges], Awaitable[Told]]
_WHOLE: dict[str, Ask] = {
    "openai.chat": _chat,
    "openai.responses": _responses,
    "anthropic.messages": _messages,
    "gemini.generate": _google,
}
_STREAMED: dict[str, Ask] = {
    "openai.chat": _chat_stream,
    "openai.responses": _responses_stream,
    "anthropic.messages": _messages_stream,
    "gemini.generate": _google_stream,
}
JUDGED = tuple(_WHOLE)
