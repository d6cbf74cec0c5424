"""The vendors' own clients through the sidecar, with models that lie behind another dialect.

Four simulated providers speak one dialect each. What a client does with its own vendor's models it
must be able to do with all others; a failure there must be its own kind of error here; and each
receipt says what was really used and what was lost on the way.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google.genai import errors as google_errors

from modelspend.receipt import Receipt
from modelspend.simulator import Simulator
from tests.fakes.sidecar import PRICE, sidecar_for
from tests.sdk.conftest import Door, _agree, drained, leaves_a_connection
from tests.translation.test_tool_conversations import CLIENTS

SPEAKS = {
    "chatty": "openai.chat",
    "respond": "openai.responses",
    "claude": "anthropic.messages",
    "gem": "gemini.generate",
}
PAIRS = [(name, at) for name in CLIENTS for at, to in SPEAKS.items() if name != to]
KEYS = {"CHATTY": "sk-chatty", "RESPOND": "sk-respond", "CLAUDE": "sk-claude", "GEM": "sk-gem"}
HELLO = [{"role": "user", "content": "Hello there"}]

pytestmark = pytest.mark.filterwarnings(  # the client's own, at every start
    "ignore:Inheritance class AiohttpClientSession:DeprecationWarning"
)


def providers(url: str) -> dict[str, Any]:
    return {
        name: {
            "base_url": f"{url}/v1",
            "dialects": [dialect],
            "price": PRICE,
            "api_key_env": name.upper(),
        }
        for name, dialect in SPEAKS.items()
    }


@pytest.fixture
async def across(tmp_path: Path, simulator: Simulator) -> AsyncIterator[Door]:
    limits = {"idle_s": 0.3, "first_byte_s": 5, "stream_first_byte_s": 5}
    async with sidecar_for(
        tmp_path,
        simulator.url,
        env=KEYS,
        providers=providers(simulator.url),
        upstream=limits,
    ) as running:
        yield Door(simulator, running)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("name", "at"), PAIRS)
async def test_a_vendors_client_uses_two_tools_with_every_other_vendors_model(
    across: Door, name: str, at: str, stream: bool
) -> None:
    model = f"{at}/sim-tools-2+reason"
    said = await CLIENTS[name](across.url, stream, model)
    assert said
    assert across.sidecar
    await across.simulator.quiet()
    receipts = await across.sidecar.receipts()
    charges = [line["charged"] for line in across.simulator.ended()]
    assert len(receipts) == len(charges) == 2
    for receipt, charged in zip(receipts, charges, strict=True):
        _told(receipt, name, at, stream)
        _agree(receipt, charged)
        assert receipt.usage.reasoning_tokens == charged.get("reasoning_tokens", 0)
        assert {attempt.cost.exact for attempt in receipt.attempts} == {True}
    first, second = (each.body for each in across.simulator.requests)
    assert b"sealed" not in second
    assert first != second


def _told(receipt: Receipt, name: str, at: str, stream: bool) -> None:
    assert receipt.execution.status == "success", receipt.execution.error
    assert (receipt.request.dialect, receipt.request.stream) == (name, stream)
    assert receipt.request.translated_to == SPEAKS[at]
    assert receipt.request.splices == ()
    (attempt,) = receipt.attempts
    assert (attempt.provider, attempt.model_id) == (at, "sim-tools-2+reason")
    assert attempt.usage.source == "provider"
    if stream:
        assert attempt.ttft_ms is not None
    if SPEAKS[at] == "anthropic.messages":
        limits = name in ("openai.responses",)
        assert ("max_tokens" in receipt.request.added) is limits
    if SPEAKS[at] != "openai.chat":  # which shows no reasoning
        assert "thinking" in receipt.request.dropped


# Failures.

OWN_ERRORS: dict[str, type[Exception]] = {
    "openai.chat": openai.OpenAIError,
    "openai.responses": openai.OpenAIError,
    "anthropic.messages": anthropic.AnthropicError,
    "gemini.generate": google_errors.APIError,
}
STATUSES: dict[str, dict[int, type[Exception]]] = {
    "openai.chat": {
        400: openai.BadRequestError,
        401: openai.AuthenticationError,
        404: openai.NotFoundError,
        429: openai.RateLimitError,
        500: openai.InternalServerError,
        529: openai.InternalServerError,
    },
    "anthropic.messages": {
        400: anthropic.BadRequestError,
        401: anthropic.AuthenticationError,
        404: anthropic.NotFoundError,
        429: anthropic.RateLimitError,
        500: anthropic.InternalServerError,
        529: anthropic.OverloadedError,
    },
    "gemini.generate": {
        400: google_errors.ClientError,
        401: google_errors.ClientError,
        404: google_errors.ClientError,
        429: google_errors.ClientError,
        500: google_errors.ServerError,
        529: google_errors.ServerError,
    },
}
STATUSES["openai.responses"] = STATUSES["openai.chat"]


async def ask(door: Door, name: str, model: str, stream: bool) -> Any:
    """What the vendor's client makes of an answer; a stream is read to its end."""
    if name == "gemini.generate":
        async with door.google() as client:
            if stream:
                call = client.models.generate_content_stream(model=model, contents="Hello")
                return await drained(await call)
            return await client.models.generate_content(model=model, contents="Hello")
    if name == "anthropic.messages":
        async with door.anthropic() as claude:
            asked: dict[str, Any] = {"model": model, "max_tokens": 500, "messages": HELLO}
            answer = await claude.messages.create(**asked, stream=stream)
            return await drained(answer) if stream else answer
    async with door.openai() as client:
        if name == "openai.chat":
            made: Any = client.chat.completions.create(model=model, messages=HELLO, stream=stream)
        else:
            made = client.responses.create(model=model, input="Hello", stream=stream)
        answer = await made
        return await drained(answer) if stream else answer


async def failed(door: Door, name: str, model: str, stream: bool) -> tuple[Exception, Receipt]:
    """The error that the vendor's client raises, and the receipt of that call."""
    assert door.sidecar
    before = len(await door.sidecar.receipts())
    with pytest.raises(OWN_ERRORS[name]) as caught:
        await ask(door, name, model, stream)
    *_, receipt = await door.sidecar.receipts()
    assert len(await door.sidecar.receipts()) == before + 1
    return caught.value, receipt


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("name", "at"), PAIRS)
async def test_a_refusal_is_told_as_the_clients_own(
    across: Door, name: str, at: str, stream: bool
) -> None:
    for status, kind in STATUSES[name].items():
        behaviour = f"{status}-retry-3" if status in (429, 529) else str(status)
        told, receipt = await failed(across, name, f"{at}/sim-{behaviour}", stream)
        assert type(told) is kind, status
        assert receipt.execution.status == "error"
        assert receipt.execution.http_status == status
        assert receipt.execution.actual_cost_pico == 0
        assert receipt.request.translated_to == SPEAKS[at]
        assert receipt.attempts[0].provider == at
        code = getattr(told, "status_code", None) or getattr(told, "code", None)
        assert code == status
        assert "simulat" in str(told).lower()
        if status in (429, 529):
            answer: Any = getattr(told, "response")  # noqa: B009  # each vendor's own type
            assert answer.headers["retry-after"] == "3"


BROKEN = {
    "sim-200-error-first": {"error"},
    "sim-error-after-5": {"error"},
    "sim-cut-5": {"truncated", "error"},
    "sim-cut-0": {"truncated", "error"},
    "sim-reset-5": {"truncated", "error"},
    "sim-no-done": {"truncated"},
    "sim-hangup": {"error"},
    "sim-stall-5": {"truncated", "error"},
}


@leaves_a_connection
@pytest.mark.parametrize(("name", "at"), PAIRS)
async def test_a_stream_that_broke_off_is_never_taken_for_whole(
    across: Door, name: str, at: str
) -> None:
    for behaviour, statuses in BROKEN.items():
        _, receipt = await failed(across, name, f"{at}/{behaviour}", True)
        assert receipt.execution.status in statuses, behaviour


@leaves_a_connection
@pytest.mark.parametrize(("name", "at"), PAIRS)
async def test_a_whole_answer_that_broke_off_is_an_error(across: Door, name: str, at: str) -> None:
    for behaviour in ("200-error-first", "cut-2", "hangup", "stall-2", "html-200"):
        _, receipt = await failed(across, name, f"{at}/sim-{behaviour}", False)
        assert receipt.execution.status == "error", behaviour
