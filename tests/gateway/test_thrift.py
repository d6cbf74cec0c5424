"""Spending less on the same model: kept answers, shorter prompts, misses, in a whole sidecar."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from modelspend.receipt import Status
from modelspend.savings import MECHANISMS
from modelspend.simulator import Simulator
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.gateway.asking import CHATS, question

ON = {"x-modelspend-cache": "on"}


async def _kept() -> None:
    """Wait until answers on their way into the ledger are there."""
    while any(task.get_name().startswith("keep ") for task in asyncio.all_tasks()):
        await asyncio.sleep(0)


async def _twice(
    sidecar: Sidecar, dialect: str, *, stream: bool, **headers: str
) -> tuple[tuple[int, Any, bytes], tuple[int, Any, bytes]]:
    path, body = question(dialect, "sim-ok", stream=stream)
    first = await sidecar.post(path, body, headers=headers)
    await _kept()
    return first, await sidecar.post(path, body, headers=headers)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_the_very_same_request_gets_the_very_same_answer_for_nothing(
    sidecar: Sidecar, simulator: Simulator, dialect: str, stream: bool
) -> None:
    (_, _, first), (status, headers, again) = await _twice(sidecar, dialect, stream=stream, **ON)
    paid, free = await sidecar.receipts()
    assert (status, again) == (200, first)
    assert len(simulator.requests) == 1
    assert headers["x-modelspend-cost-usd"] == "0"
    assert headers["x-modelspend-cache"] == f"hit; kept={paid.receipt_id}"
    assert free.execution.status is Status.CACHED
    assert (free.execution.actual_cost_pico, free.execution.charged_pico) == (0, 0)
    assert free.decision is not None
    assert free.decision.strategy == "cached"
    assert free.savings is not None
    assert free.savings.baseline_cost_pico == paid.execution.actual_cost_pico
    nothing = dict.fromkeys(MECHANISMS, 0)
    assert free.savings.by_mechanism == {**nothing, "caching": paid.execution.actual_cost_pico}
    assert free.attempts == ()
    assert free.request.answer_sha256 == paid.request.answer_sha256


async def test_nothing_is_kept_for_whoever_did_not_ask(
    sidecar: Sidecar, simulator: Simulator
) -> None:
    path, body = question("openai.chat", "sim-ok", stream=False)
    for _ in range(2):
        await sidecar.post(path, body)
    assert len(simulator.requests) == 2
    assert [each.execution.status for each in await sidecar.receipts()] == [Status.SUCCESS] * 2


@pytest.mark.parametrize(
    "other",
    [
        {"x-modelspend-tenant": "somebody-else"},
        {"authorization": "Bearer sk-another-key"},
        {"anthropic-beta": "another-feature"},
    ],
    ids=["tenant", "key", "header"],
)
async def test_an_answer_is_given_to_nobody_else(
    sidecar: Sidecar, simulator: Simulator, other: dict[str, str]
) -> None:
    path, body = question("openai.chat", "sim-ok", stream=False)
    await sidecar.post(path, body, headers=ON)
    await _kept()
    await sidecar.post(path, body, headers={**ON, **other})
    assert len(simulator.requests) == 2


@pytest.mark.parametrize("behaviour", ["429", "500", "tools", "cut-after-3", "200-error-first"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_no_bad_or_calling_answer_is_given_again(
    sidecar: Sidecar, simulator: Simulator, behaviour: str, stream: bool
) -> None:
    path, body = question("openai.chat", f"sim-{behaviour}", stream=stream)
    body["tools"] = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    for _ in range(2):
        await sidecar.post(path, body, headers=ON)
        await _kept()
    assert len(simulator.requests) == 2
    assert Status.CACHED not in {each.execution.status for each in await sidecar.receipts()}


async def test_a_kept_answer_survives_a_restart(tmp_path: Path, simulator: Simulator) -> None:
    path, body = question("openai.chat", "sim-ok", stream=False)
    async with sidecar_for(tmp_path, simulator.url) as sidecar:
        _, _, first = await sidecar.post(path, body, headers=ON)
        await _kept()
    async with sidecar_for(tmp_path, simulator.url) as sidecar:
        _, headers, again = await sidecar.post(path, body, headers=ON)
    assert again == first
    assert headers["x-modelspend-cache"].startswith("hit")
    assert len(simulator.requests) == 1


async def test_an_unknown_word_on_caching_is_refused_with_those_that_are_known(
    sidecar: Sidecar,
) -> None:
    path, body = question("openai.chat", "sim-ok", stream=False)
    status, _, said = await sidecar.post(path, body, headers={"x-modelspend-cache": "maybe"})
    assert status == 400
    assert b"on, off, refresh, tools" in said


LOOSE = (
    "Please tell me all about the prices of bread.  \n\n\n\nThen be brief about it.  \n\n\n" * 20
)


async def test_a_prompt_is_made_shorter_only_for_whoever_asked(
    tmp_path: Path, simulator: Simulator
) -> None:
    path, body = question("openai.chat", "sim-echo", stream=False, text=LOOSE)
    async with sidecar_for(tmp_path, simulator.url, rewrite={"enabled": True}) as sidecar:
        await sidecar.post(path, body)
        receipt = await sidecar.receipt()
    sent = orjson.loads(simulator.requests[-1].body)["messages"][-1]["content"]
    assert len(sent) < len(LOOSE)
    assert sent.split() == LOOSE.split()
    assert receipt.decision is not None
    assert receipt.decision.prompt_rewritten
    done = receipt.decision.rewriting
    assert done is not None
    assert done.steps == ("whitespace",)
    assert done.tokens_after < done.tokens_before


async def test_a_prompt_stays_as_it_is_by_default(sidecar: Sidecar, simulator: Simulator) -> None:
    path, body = question("openai.chat", "sim-echo", stream=False, text=LOOSE)
    await sidecar.post(path, body)
    receipt = await sidecar.receipt()
    assert orjson.loads(simulator.requests[-1].body)["messages"][-1]["content"] == LOOSE
    assert receipt.decision is not None
    assert not receipt.decision.prompt_rewritten
    assert receipt.decision.rewriting is None


async def test_a_broken_cache_is_named_with_its_cause_and_its_dollars(
    sidecar: Sidecar,
) -> None:
    """The date in the system prompt changes from one turn to the next, and nothing is read."""
    history = [{"role": "user", "content": "Tell me about prices. " * 400}]
    for day in ("2026-11-24", "2026-11-25"):
        system = {"role": "system", "content": f"Today is {day}. " + "Be exact. " * 300}
        body = {"model": "sim/sim-echo", "messages": [system, *history]}
        status, _, answer = await sidecar.post(
            "/v1/chat/completions", body, headers={"x-modelspend-session": "conv-1"}
        )
        assert status == 200
        said = orjson.loads(answer)["choices"][0]["message"]["content"]
        history += [
            {"role": "assistant", "content": said},
            {"role": "user", "content": "And then?"},
        ]
    await sidecar.receipts()
    (missed,) = await sidecar.store.conversations.misses()
    assert missed.miss.kind == "system_timestamp"
    assert missed.session == "conv-1"
    assert missed.miss.tokens > 1_000
    assert (missed.miss.cost_pico or 0) == missed.miss.tokens * (10**6 - 10**5)
