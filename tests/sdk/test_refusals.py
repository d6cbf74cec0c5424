"""A refusal over money is the end of it: the official clients raise at once and do not try again.

Each client keeps the retries that it comes with; how often it asked is how many receipts there are.
"""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

from modelspend.simulator import Simulator
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.sdk.conftest import KEY, drained

pytestmark = pytest.mark.filterwarnings(  # Google's client, at every start
    "ignore:Inheritance class AiohttpClientSession:DeprecationWarning"
)

MODEL = "sim/sim-ok"
ASKED: Any = [{"role": "user", "content": "Hello there"}]
RAISES = "modelspend budgets set process --window day --zone Europe/Berlin --max-usd USD"

Asks = Callable[[str], Awaitable[Any]]


def _openai(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY)


async def chat(url: str) -> None:
    async with _openai(url) as client:
        await client.chat.completions.create(model=MODEL, messages=ASKED)


async def chat_stream(url: str) -> None:
    async with _openai(url) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        await drained(stream)


async def responses(url: str) -> None:
    async with _openai(url) as client:
        await client.responses.create(model=MODEL, input="Hello there")


async def responses_stream(url: str) -> None:
    async with _openai(url) as client, client.responses.stream(model=MODEL, input="Hi") as stream:
        await drained(stream)


async def embeddings(url: str) -> None:
    async with _openai(url) as client:
        await client.embeddings.create(model=MODEL, input="Hello there")


async def messages(url: str) -> None:
    async with anthropic.AsyncAnthropic(base_url=url, api_key=KEY) as client:
        await client.messages.create(model=MODEL, max_tokens=99, messages=ASKED)


async def messages_stream(url: str) -> None:
    async with (
        anthropic.AsyncAnthropic(base_url=url, api_key=KEY) as client,
        client.messages.stream(model=MODEL, max_tokens=99, messages=ASKED) as stream,
    ):
        await drained(stream)


def _google(url: str) -> genai.Client:
    """It tries nothing again by itself; here it is told to, as often as the others do."""
    retries = types.HttpRetryOptions(attempts=3, initial_delay=0.01, max_delay=0.02)
    return genai.Client(
        api_key=KEY, http_options=types.HttpOptions(base_url=url, retry_options=retries)
    )


async def generate(url: str) -> None:
    client = _google(url)
    async with client.aio as running:
        await running.models.generate_content(model=MODEL, contents="Hello there")


async def generate_stream(url: str) -> None:
    client = _google(url)
    async with client.aio as running:
        stream = await running.models.generate_content_stream(model=MODEL, contents="Hello there")
        await drained(stream)


ASKING: list[Asks] = [
    chat,
    chat_stream,
    responses,
    responses_stream,
    embeddings,
    messages,
    messages_stream,
    generate,
    generate_stream,
]
TOLD = (openai.APIStatusError, anthropic.APIStatusError, errors.APIError)


def _status(error: Any) -> int:
    return int(error.code if isinstance(error, errors.APIError) else error.status_code)


async def _refused(sidecar: Sidecar, ask: Asks, *words: str) -> None:
    before = len(await sidecar.receipts())
    with pytest.raises(TOLD) as told:
        await ask(sidecar.url)
    assert _status(told.value) == 402
    assert all(word in str(told.value) for word in words), str(told.value)
    after = (await sidecar.receipts())[before:]
    assert [receipt.execution.status for receipt in after] == ["refused"]


@pytest.mark.parametrize("ask", ASKING, ids=lambda ask: ask.__name__)
async def test_a_client_is_told_which_cap_how_much_and_what_raises_it_and_asks_no_more(
    tmp_path: Path, simulator: Simulator, ask: Asks
) -> None:
    budget = {"cap_usd": Decimal("0.0001"), "window": "day", "zone": "Europe/Berlin"}
    async with sidecar_for(tmp_path, simulator.url, budgets={"all": budget}) as sidecar:
        await _refused(
            sidecar,
            ask,
            "This sidecar has spent $0 and holds $0 of its daily cap of $0.0001",
            "It begins anew at 20",
            RAISES,
        )
    assert not simulator.requests


@pytest.mark.parametrize("ask", ASKING, ids=lambda ask: ask.__name__)
async def test_a_client_whose_key_was_killed_is_told_so_and_asks_no_more(
    tmp_path: Path, simulator: Simulator, ask: Asks
) -> None:
    async with sidecar_for(tmp_path, simulator.url) as sidecar:
        await ask(sidecar.url)
        (receipt,) = await sidecar.receipts()
        await sidecar.gateway.stop(receipt.key_id, "too many jokes")
        lift = f"modelspend kill {receipt.key_id} --lift"
        await _refused(sidecar, ask, "too many jokes", lift)
        answered = len(simulator.requests)
    assert answered == 1


async def test_the_clients_do_try_again_what_is_not_final(
    tmp_path: Path, simulator: Simulator
) -> None:
    """So the tests above can fail: a 503 is asked for three times."""
    async with sidecar_for(tmp_path, simulator.url) as sidecar, _openai(sidecar.url) as client:
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="sim/sim-503", messages=ASKED)
        assert len(await sidecar.receipts()) == 3
