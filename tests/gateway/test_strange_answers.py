"""Whatever a provider says, the client gets it and the call leaves its receipt."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from modelspend.receipt import Receipt, Status
from tests.fakes.provider import CHAT, Provider, provider, whole
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.gateway.asking import question

DEEP: Any = 1
for _ in range(400):
    DEEP = [DEEP]

LONE = json.dumps({**CHAT, "model": "\ud800", "id": "\udfff"}).encode()
VAST = json.dumps(CHAT).replace('"total_tokens": 12', '"total_tokens": 12, "z": 1' + "0" * 400)

STRANGE = {
    "a model with a line end": {**CHAT, "model": "m\r\nx-evil: 1"},
    "a model without end": {**CHAT, "model": "m" * 70_000},
    "half a letter": LONE,
    "a number beyond 64 bits": VAST.encode(),
    "usage nested without end": {**CHAT, "usage": {**CHAT["usage"], "more": DEEP}},
    "an id without end": {**CHAT, "id": "i" * 70_000, "service_tier": "t" * 70_000},
}
HEADERS = {
    "a control character": b"x-odd: a\x01b\r\n",
    "an id that is no text": b"x-request-id: \xff\xfe\r\n",
    "an id without end": b"x-request-id: %b\r\n" % (b"r" * 7_000),
    "a type in capitals": b"content-type: APPLICATION/JSON\r\n",
}


@pytest.fixture
async def scripted(tmp_path: Path) -> AsyncIterator[tuple[Sidecar, Provider]]:
    async with provider() as upstream, sidecar_for(tmp_path, upstream.url) as sidecar:
        yield sidecar, upstream


async def carried(sidecar: Sidecar, *, stream: bool = False) -> tuple[bytes, Receipt]:
    path, body = question("openai.chat", "m", stream=stream)
    status, headers, data = await sidecar.post(path, body)
    receipt = await sidecar.receipt_of(headers)
    assert status == 200
    assert await sidecar.store.calls.open_count() == 0
    return data, receipt


@pytest.mark.parametrize("what", STRANGE)
async def test_a_body_of_any_sort_passes_and_leaves_its_receipt(
    scripted: tuple[Sidecar, Provider], what: str
) -> None:
    sidecar, upstream = scripted
    upstream.answer = answer = whole(STRANGE[what])
    data, receipt = await carried(sidecar)
    assert answer.endswith(data)
    assert receipt.execution.status is Status.SUCCESS
    assert receipt.execution.actual_cost_pico == 5 * 10**6 + 7 * 2 * 10**6
    assert len(receipt.attempts[0].model_id) <= 256


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("what", HEADERS)
async def test_headers_of_any_sort_leave_the_answer_whole(
    scripted: tuple[Sidecar, Provider], what: str, stream: bool
) -> None:
    sidecar, upstream = scripted
    upstream.answer = answer = whole(CHAT, headers=HEADERS[what])
    data, receipt = await carried(sidecar, stream=stream)
    assert answer.endswith(data)
    assert receipt.execution.status is Status.SUCCESS
    assert len(receipt.attempts[0].upstream_request_id or "") <= 256


async def test_an_error_code_in_foreign_digits_is_an_error_like_any_other(
    scripted: tuple[Sidecar, Provider],
) -> None:
    sidecar, upstream = scripted
    upstream.answer = whole({"error": {"code": "²²²", "message": "no"}})
    status, headers, _ = await sidecar.post(*question("openai.chat", "m", stream=False))
    assert status == 502
    assert (await sidecar.receipt_of(headers)).execution.status is Status.ERROR


async def test_content_never_comes_after_the_end(scripted: tuple[Sidecar, Provider]) -> None:
    sidecar, _ = scripted
    for _ in range(20):
        _, receipt = await carried(sidecar)
        (attempt,) = receipt.attempts
        assert attempt.ttft_ms is not None
        assert attempt.ttft_ms <= attempt.latency_ms
        assert 0 <= receipt.execution.overhead_ms <= receipt.execution.actual_latency_ms


async def test_a_refusal_that_only_quotes_the_client_is_not_remembered_as_the_providers_own(
    scripted: tuple[Sidecar, Provider],
) -> None:
    sidecar, upstream = scripted
    path, body = question("openai.chat", "m", stream=True, text="what is stream_options?")
    upstream.answer = lambda asked: whole({"error": {"message": asked.decode()}}, status="400 Bad")
    status, _, _ = await sidecar.post(path, body)
    assert status == 400
    upstream.answer = whole(CHAT)
    await sidecar.post(path, body)
    assert [b"include_usage" in asked for _, asked in upstream.requests] == [True, False, True]
