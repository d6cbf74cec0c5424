"""A call once more, through a real sidecar: of the same model, of another, and of none at all."""

import json
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from modelspend.simulator import Simulator
from tests.dialects import recorded
from tests.dialects.recorded import FILES
from tests.fakes.provider import CHAT, provider, whole
from tests.fakes.sidecar import ALL_DIALECTS, Sidecar, sidecar_for

WORDS = "Explain, in two sentences, why the sky is blue."
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai.chat": (
        "/v1/chat/completions",
        {"model": "{m}", "messages": [{"role": "user", "content": WORDS}]},
    ),
    "openai.responses": ("/v1/responses", {"model": "{m}", "input": WORDS}),
    "anthropic.messages": (
        "/v1/messages",
        {"model": "{m}", "max_tokens": 200, "messages": [{"role": "user", "content": WORDS}]},
    ),
    "gemini.generate": (
        "/v1beta/models/{m}:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": WORDS}]}]},
    ),
}
PATHS = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "anthropic": "/v1/messages",
}
PRICE = {"input": 3, "output": 15}


def call_of(dialect: str, model: str, *, stream: bool) -> tuple[str, dict[str, Any]]:
    """(path, body) of a call in a dialect."""
    path, body = CALLS[dialect]
    if dialect == "gemini.generate":
        operation = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return f"/v1beta/models/{model}:{operation}", body
    return path, {**body, "model": model, **({"stream": True} if stream else {})}


async def again(sidecar: Sidecar, receipt_id: str, **asked: Any) -> tuple[int, dict[str, Any]]:
    """(status, JSON) of a replay."""
    status, _, said = await sidecar.post(
        f"/v1/receipts/{receipt_id}/replay",
        asked,
        headers={"authorization": f"Bearer {sidecar.token}"},
    )
    return status, json.loads(said, parse_float=Decimal)


async def once(sidecar: Sidecar, dialect: str, model: str, *, stream: bool = False) -> str:
    """The receipt of a call that went well."""
    path, body = call_of(dialect, model, stream=stream)
    status, headers, said = await sidecar.post(path, body)
    assert status == 200, said
    return str(headers["x-modelspend-receipt"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", CALLS)
async def test_a_replay_is_the_same_call_and_says_the_same_for_the_same_money(
    tmp_path: Path, dialect: str, stream: bool
) -> None:
    async with AsyncExitStack() as open_:
        async with Simulator(seed=7) as before:
            url = before.url
            sidecar = await open_.enter_async_context(sidecar_for(tmp_path, url))
            first = await once(sidecar, dialect, "sim/a", stream=stream)
        port = int(url.rpartition(":")[2])
        await open_.enter_async_context(Simulator(seed=7, port=port))  # its first call once more
        status, told = await again(sidecar, first)
        assert status == 200, told
        assert told["replay"]["replay_of"] == first
        assert told["original"]["receipt_id"] == first != told["replay"]["receipt_id"]
        assert told["replay"]["request"]["sha256"] == told["original"]["request"]["sha256"]
        assert told["replay"]["request"]["stream"] is stream
        assert told["diff"]["answer"]["same_bytes"], told["diff"]
        shas = [told[each]["request"]["answer_sha256"] for each in ("original", "replay")]
        assert shas[0] == shas[1] is not None
        cost = told["diff"]["cost_usd"]
        assert cost["original"] == cost["replay"] > 0
        kept = await sidecar.store.receipts.get(told["replay"]["receipt_id"])
        assert kept is not None
        assert kept.receipt.replay_of == first


def one_of_each(simulator: Simulator) -> dict[str, Any]:
    return {
        f"only-{dialect.partition('.')[0]}-{dialect.partition('.')[2]}": {
            "base_url": f"{simulator.url}/v1",
            "dialects": [dialect],
            "models": [f"there-{number}"],
            "price": PRICE,
        }
        for number, dialect in enumerate(CALLS)
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_every_dialect_is_replayed_at_a_provider_of_every_other(
    tmp_path: Path, simulator: Simulator, stream: bool
) -> None:
    async with sidecar_for(tmp_path, simulator.url, providers=one_of_each(simulator)) as sidecar:
        for dialect in CALLS:
            first = await once(sidecar, dialect, "sim/a", stream=stream)
            for number, there in enumerate(CALLS):
                status, told = await again(sidecar, first, model=f"there-{number}")
                assert status == 200, (dialect, there, told)
                replayed = told["replay"]
                assert replayed["execution"]["status"] == "success", (dialect, there)
                assert replayed["request"]["translated_to"] == (None if there == dialect else there)
                answer = told["diff"]["answer"]
                assert all((answer["original"], answer["replay"])), (dialect, there)
                assert told["diff"]["cost_usd"]["replay"] > 0


async def test_a_routed_call_is_replayed_at_the_model_that_had_been_chosen(
    tmp_path: Path, simulator: Simulator
) -> None:
    tiers = {tier: ["sim/cheap"] for tier in ("simple", "standard", "deep_reasoning")}
    dear = {tier: ["sim/dear"] for tier in ("simple", "standard", "deep_reasoning")}
    profiles = {"default": tiers, "other": dear}
    async with sidecar_for(tmp_path, simulator.url, profiles=profiles) as sidecar:
        first = await once(sidecar, "openai.chat", "auto")
        _, told = await again(sidecar, first)
        assert told["replay"]["request"]["model"] == "sim/cheap"
        assert told["diff"]["answer"]["equal"]
        _, told = await again(sidecar, first, profile="other")
        assert told["replay"]["decision"]["model_id"] == "dear"
        assert told["replay"]["decision"]["profile"] == "other"


async def test_the_upstream_gets_the_very_bytes_of_the_original(tmp_path: Path) -> None:
    body = (
        b'{ "messages":[{"role":"user","content":"h\\u00e9"}],"x":1.50,\n "model":"sim/m"'
        b',"stream":false}'
    )
    async with provider() as there, sidecar_for(tmp_path, there.url) as sidecar:
        there.answer = whole(CHAT)
        _, headers, _ = await sidecar.post("/v1/chat/completions", body)
        status, told = await again(sidecar, headers["x-modelspend-receipt"])
        assert status == 200, told
        (_, first), (_, second) = there.requests
        assert first == second


@pytest.mark.parametrize("file", FILES)
async def test_recorded_traffic_goes_upstream_as_the_same_bytes_again(
    tmp_path: Path, file: str
) -> None:
    if not recorded.DATA.exists():
        pytest.skip("no recorded traffic here")
    found = [row for row in recorded.rows(file) if isinstance(row.request, dict)]
    models = sorted({recorded_model(row) for row in found} - {""})
    config = {"dialects": ALL_DIALECTS, "models": models, "price": PRICE}
    async with provider() as there:
        sim = {"base_url": f"{there.url}/v1", **config}
        async with sidecar_for(tmp_path, there.url, providers={"sim": sim}) as sidecar:
            compared = 0
            for row in found:
                there.answer = answered(row)
                there.requests.clear()
                _, headers, _ = await sidecar.post(path_of(row), row.body)
                if not there.requests:
                    continue  # refused before it was sent
                status, told = await again(sidecar, headers["x-modelspend-receipt"])
                assert status == 200, (row, told)
                (head, first), (head_again, second) = there.requests
                assert first == second, row
                assert line_of(head) == line_of(head_again), row
                if row.status == 200:
                    assert told["diff"]["answer"]["same_bytes"], (row, told["diff"])
                compared += 1
            assert compared >= len(found) * 0.95, f"{compared} of {len(found)}"


def recorded_model(row: recorded.Row) -> str:
    in_path = row.path.partition("/models/")[2].rpartition(":")[0]
    return str(in_path or row.request.get("model", ""))


def path_of(row: recorded.Row) -> str:
    """Where it goes here: other vendors have the same protocol below other paths, and the query
    that asked Gemini for events was not recorded."""
    if row.file != "gemini":
        return {**PATHS, "embeddings": "/v1/embeddings"}[row.file]
    rest = row.path.partition("/models/")[2]
    return f"/v1beta/models/{rest}{'?alt=sse' if row.stream else ''}"


def answered(row: recorded.Row) -> bytes:
    kind = b"text/event-stream" if row.stream else b"application/json"
    head = b"HTTP/1.1 %d Told\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
    return head % (row.status, kind, len(row.answer)) + row.answer


def line_of(head: bytes) -> bytes:
    return head.partition(b"\r\n")[0]


async def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(tmp_path: Path) -> None:
    env = {"SIM_KEY": "sk-canary-77"}
    async with (
        provider() as there,
        sidecar_for(
            tmp_path,
            there.url,
            env=env,
            providers={
                "keyed": {
                    "base_url": f"{there.url}/v1",
                    "dialects": ["openai.chat", "anthropic.messages"],
                    "models": ["k"],
                    "api_key_env": "SIM_KEY",
                    "price": PRICE,
                }
            },
        ) as sidecar,
    ):
        _, headers, _ = await sidecar.post(
            "/v1/chat/completions", call_of("openai.chat", "k", stream=False)[1]
        )
        first = headers["x-modelspend-receipt"]
        status, told = await again(sidecar, first, dry_run=True, set={"temperature": 0.5})
        assert status == 200, told
        assert (len(there.requests), len(await sidecar.receipts())) == (1, 1)
        assert "sk-canary-77" not in json.dumps(told, default=str)
        await again(sidecar, first, set={"temperature": 0.5})
        head, sent = there.requests[1]
        assert b"sk-canary-77" in head
        assert told["request"]["body"].encode() == sent
        assert told["request"]["url"] == f"{there.url}/v1/chat/completions"
        said = {name.lower() for name, _ in told["request"]["headers"]}
        assert all(f"{name}:".encode() in head.lower() for name in said)


async def test_the_version_and_beta_features_that_were_asked_for_are_asked_for_again(
    tmp_path: Path,
) -> None:
    asked = {
        "anthropic-version": "2023-01-01",
        "Anthropic-Beta": "context-1m-2025-08-07,files-api-2025-04-14",
        "x-app": "cli",
        "x-api-key": "sk-canary-78",
    }
    async with provider() as there, sidecar_for(tmp_path, there.url) as sidecar:
        path, body = call_of("anthropic.messages", "sim/m", stream=False)
        async with sidecar.client.post(sidecar.url + path, json=body, headers=asked) as answer:
            first = answer.headers["x-modelspend-receipt"]
        status, told = await again(sidecar, first)
        assert status == 200, told
        receipts = await sidecar.receipts()
    assert {receipt.request.headers for receipt in receipts} == {
        (
            "anthropic-version: 2023-01-01",
            "anthropic-beta: context-1m-2025-08-07,files-api-2025-04-14",
        )
    }
    once, twice = (head for head, _ in there.requests)
    for line in (b"anthropic-version: 2023-01-01", b"context-1m-2025-08-07,files-api-2025-04-14"):
        assert line in once
        assert line in twice
    assert twice.lower().count(b"anthropic-version:") == 1


async def test_what_every_client_of_a_protocol_says_and_what_is_too_long_is_not_kept(
    tmp_path: Path,
) -> None:
    asked = {"Anthropic-Version": "2023-06-01", "Anthropic-Beta": "x" * 600}
    async with provider() as there, sidecar_for(tmp_path, there.url) as sidecar:
        path, body = call_of("anthropic.messages", "sim/m", stream=False)
        async with sidecar.client.post(sidecar.url + path, json=body, headers=asked) as answer:
            assert answer.status == 200
        assert (await sidecar.receipt()).request.headers == ()


async def test_a_prompt_and_any_value_can_be_changed(tmp_path: Path) -> None:
    async with provider() as there, sidecar_for(tmp_path, there.url) as sidecar:
        first = await once(sidecar, "openai.chat", "sim/m")
        changes = {"temperature": 0, "messages.1.content": "Say no."}
        status, told = await again(sidecar, first, system="Be brief.", set=changes)
        assert status == 200, told
        sent = json.loads(there.requests[1][1])
        assert sent["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Say no."},
        ]
        assert sent["temperature"] == 0
        status, told = await again(sidecar, first, set={"messages.7.content": "x"})
        assert (status, told["field"]) == (400, "messages.7.content")


async def test_a_body_that_is_not_kept_says_which_setting_keeps_it(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(tmp_path, simulator.url, store={"keep_bodies": "none"}) as sidecar:
        first = await once(sidecar, "openai.chat", "sim/a")
        status, told = await again(sidecar, first)
        assert (status, told["title"]) == (410, "body_not_kept")
        assert 'store.keep_bodies = "full"' in told["hint"]


async def test_a_body_that_has_gone_says_when(sidecar: Sidecar) -> None:
    first = await once(sidecar, "openai.chat", "sim/a")
    day_ms, gateway = 86_400_000, sidecar.gateway
    made = (await sidecar.receipt()).created_at_ms
    gateway.now_ms = lambda: made + 31 * day_ms
    assert await sidecar.store.bodies.expire(gateway.now_ms(), days=30, tenant_days={}) == 1
    status, told = await again(sidecar, first)
    assert status == 410
    assert "kept for 30 days" in told["detail"]
    assert "store.body_retention_days" in told["hint"]


async def test_a_replay_is_answered_anew_unless_a_kept_answer_is_asked_for(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(tmp_path, simulator.url, cache={"enabled": True}) as sidecar:
        path, body = call_of("openai.chat", "sim/a", stream=False)
        _, headers, _ = await sidecar.post(path, {**body, "temperature": 0})
        first = headers["x-modelspend-receipt"]
        _, told = await again(sidecar, first)
        assert told["replay"]["execution"]["status"] == "success"
        await again(sidecar, first, cache="refresh")
        _, told = await again(sidecar, first, cache="on", set={"seed": 7})
        assert told["replay"]["execution"]["status"] == "success"  # of another body
        _, told = await again(sidecar, first, cache="on")
        assert told["replay"]["execution"]["status"] == "cached"
        assert told["diff"]["cost_usd"]["replay"] == 0


async def test_a_replay_meets_the_caps_of_its_tenant_and_its_own(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(tmp_path, simulator.url) as sidecar:
        first = await once(sidecar, "openai.chat", "sim/a")
        status, told = await again(sidecar, first, max_usd="0.0000001")
        assert (status, told["title"]) == (402, "budget_exceeded")
        (_, refused) = await sidecar.receipts()
        assert refused.execution.status == "refused"
        assert refused.replay_of == first


async def test_a_provider_that_fails_is_a_replay_that_failed(tmp_path: Path) -> None:
    async with provider() as there, sidecar_for(tmp_path, there.url) as sidecar:
        first = await once(sidecar, "openai.chat", "sim/m")
        there.answer, there.ends = b"", True
        status, told = await again(sidecar, first)
        assert status == 200, told
        assert told["replay"]["execution"]["status"] == "error"
        assert told["diff"]["answer"]["replay"] is None


async def test_a_replay_needs_the_token_and_a_receipt(sidecar: Sidecar) -> None:
    status, _, _ = await sidecar.post("/v1/receipts/rcpt_none/replay", {})
    assert status == 401
    status, told = await again(sidecar, "rcpt_none")
    assert (status, told["title"]) == (404, "receipt_not_found")


async def test_sealed_reasoning_goes_back_to_its_provider_and_to_nobody_else(
    tmp_path: Path, simulator: Simulator
) -> None:
    thought = {"type": "thinking", "thinking": "so", "signature": "c2VhbGVk"}
    body = {
        "model": "sim/a",
        "max_tokens": 50,
        "messages": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": [thought, {"type": "text", "text": "two"}]},
            {"role": "user", "content": "three"},
        ],
    }
    async with sidecar_for(tmp_path, simulator.url, providers=one_of_each(simulator)) as sidecar:
        status, headers, said = await sidecar.post("/v1/messages", body)
        assert status == 200, said
        first = headers["x-modelspend-receipt"]
        _, same = await again(sidecar, first, dry_run=True)
        assert "c2VhbGVk" in same["request"]["body"]
        _, other = await again(sidecar, first, dry_run=True, model="there-2")
        assert other["request"]["dialect"] == "anthropic.messages"
        assert "c2VhbGVk" not in other["request"]["body"]
        assert other["request"]["splices"] == ["reasoning"]


async def test_a_dry_run_shows_the_limit_that_a_cap_asks_for(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(tmp_path, simulator.url) as sidecar:
        first = await once(sidecar, "openai.chat", "sim/a")
        _, told = await again(sidecar, first, dry_run=True, max_usd="5")
        limited = json.loads(told["request"]["body"])
        _, plain = await again(sidecar, first, dry_run=True)
        assert set(limited) - set(json.loads(plain["request"]["body"])) == set(
            told["request"]["splices"]
        ) - {"model"}
        assert "max_completion_tokens" in limited or "max_tokens" in limited
