"""Answers on their way between dialects, through the sidecar, however a provider frames them."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from modelspend import chat
from modelspend.dialects import CHAT_DIALECTS
from modelspend.simulator import Simulator
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.gateway import test_routed_traffic as traffic
from tests.gateway.test_routing import AT, ENV, PAIRS, SPEAKS, asked, tree

FRAMINGS = (
    "ok",
    "unicode",
    "line-ends",
    "crlf",
    "cr",
    "comments",
    "multiline",
    "unspaced",
    "numbered",
    "bom",
    "unfinished",
    "split-utf8",
    "split-1",
    "split-7",
    "gzip",
    "deflate",
    "chunked",
    "close-idle",
    "wrong-content-type",
    "evil-headers",
    "raw-early-hints",
    "reason-40",
    "tools-3",
    "finish-length",
    "finish-filter",
    "empty",
    "no-usage-option",
    "usage-missing",
    "usage-early",
    "usage-twice",
    "size-200k",
    "huge-event-300k",
)
USUAL = ("unicode", "crlf", "multiline", "bom", "split-7", "gzip", "tools-3", "no-usage-option")
TOOL = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: dict[str, list[Any]] = {
    "openai.chat": [{"type": "function", "function": {"name": "look", "parameters": TOOL}}],
    "openai.responses": [{"type": "function", "name": "look", "parameters": TOOL}],
    "anthropic.messages": [{"name": "look", "input_schema": TOOL}],
    "gemini.generate": [{"functionDeclarations": [{"name": "look", "parameters": TOOL}]}],
}
Said = tuple[str, list[tuple[str, Any]], str | None]


@pytest.fixture
async def front(tmp_path: Path, simulator: Simulator) -> AsyncIterator[Sidecar]:
    async with sidecar_for(tmp_path, simulator.url, env=ENV, **tree(simulator.url)) as running:
        yield running


def said(answer: chat.Answer) -> Said:
    text = "".join(part.text for part in answer.parts if isinstance(part, chat.Text))
    calls = [
        (part.name, json.loads(part.arguments))
        for part in answer.parts
        if isinstance(part, chat.ToolCall)
    ]
    return text, calls, answer.stop


async def heard(front: Sidecar, name: str, model: str, *, stream: bool) -> tuple[Said, Any]:
    """What a client of a dialect hears, and the receipt."""
    path, body = asked(name, model, stream=stream)
    status, headers, answer = await front.post(path, {**body, "tools": TOOLS[name]})
    receipt = await front.receipt_of(headers)
    assert status == 200, (answer, receipt.execution.error)
    assert receipt.execution.status == "success", receipt.execution.error
    dialect = CHAT_DIALECTS[name]
    if not stream:
        return said(dialect.decode_answer(answer)), receipt
    decoder = dialect.decoder()
    events = [*decoder.feed(answer), *decoder.close()]
    assert isinstance(events[-1], chat.Ended)
    return said(chat.fold(events)), receipt


@pytest.mark.parametrize(("name", "to"), PAIRS)
async def test_a_client_hears_what_was_said(front: Sidecar, name: str, to: str) -> None:
    await _heard_alike(front, name, to, USUAL)


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "to"), PAIRS)
async def test_a_client_hears_what_was_said_however_it_was_framed(
    front: Sidecar, name: str, to: str
) -> None:
    await _heard_alike(front, name, to, FRAMINGS)


async def _heard_alike(front: Sidecar, name: str, to: str, framings: Sequence[str]) -> None:
    for framing in framings:
        model = f"{AT[to]}/sim-{framing}"
        direct, own = await heard(front, to, model, stream=False)
        whole, one = await heard(front, name, model, stream=False)
        if framing == "raw-early-hints" and to == "gemini.generate":
            continue  # gives one JSON object for a stream, which Google does not: told as cut off
        streamed, two = await heard(front, name, model, stream=True)
        assert whole[:2] == streamed[:2] == direct[:2], framing
        if framing not in ("finish-filter",):
            assert whole[2] == streamed[2] == direct[2], framing
        if "usage" not in framing:
            used = [each.usage.quantities for each in (own, one, two)]
            assert used[0]["output_tokens"] == used[1]["output_tokens"], framing
            assert used[1]["output_tokens"] == used[2]["output_tokens"], framing
        assert {each.request.translated_to for each in (one, two)} == {to}
        if framing == "no-usage-option":
            assert len(two.attempts) == (2 if to == "openai.chat" else 1)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name in traffic.FILES if name != "embeddings"])
async def test_every_recorded_request_is_answered_in_every_dialect_or_refused_with_a_reason(
    name: str, front: Sidecar, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await _answered(name, front, recorded, 1, capsys)


@pytest.mark.parametrize("name", [name for name in traffic.FILES if name != "embeddings"])
async def test_recorded_requests_are_answered_in_every_dialect_or_refused_with_a_reason(
    name: str, front: Sidecar, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await _answered(name, front, recorded, 4 * traffic.SAMPLE, capsys)


REFUSALS = {"no_candidate", "bad_request", "unsupported", "previous_response_not_found"}


async def _answered(
    name: str, front: Sidecar, recorded: Path, every: int, capsys: pytest.CaptureFixture[str]
) -> None:
    counts: Counter[str] = Counter()
    failures = []
    for n, row in enumerate(traffic.rows(recorded, name, every)):
        for at, dialect in SPEAKS.items():
            path, body = traffic.asked(row, name, "auto")
            header = {
                "x-modelspend-profile": f"only_{at}",
                "content-type": "application/json",
            }
            status, headers, answer = await front.post(path, body, headers=header)
            receipt = await front.receipt_of(headers)
            why = (receipt.execution.error or "").partition(":")[0]
            good = status == 200 and receipt.execution.status == "success" and not why
            refused = status == 400 and why in REFUSALS and not receipt.attempts
            counts[f"{dialect}: {'answered' if good else why}"] += 1
            if not good and not refused:
                failures.append(f"{name} {n} as {dialect}: {status} {why} {answer[:200]!r}")
    with capsys.disabled():
        print(f"\n{name}: {dict(counts)}, {len(failures)} failures")
    assert not failures, "\n".join(failures[:20])
    assert counts
