"""Recorded traffic through routing: a dry run is the live decision, and shadow touches nothing.

Every recorded request is asked of one sidecar in each mode and as `auto`. Its models all lie with
a provider `home` that speaks every dialect and gives the recorded answers; the candidates of the
profile lie with four providers of one dialect each, so that most decisions need a translation.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from modelspend.money import dumps
from modelspend.receipt_json import to_json
from modelspend.simulator import Simulator
from modelspend.simulator.server import Recorded
from tests.fakes.sidecar import ALL_DIALECTS, Sidecar, sidecar_for

FILES = {
    "openai_chat": ("openai.chat", "/v1/chat/completions"),
    "openai_responses": ("openai.responses", "/v1/responses"),
    "anthropic": ("anthropic.messages", "/v1/messages"),
    "gemini": ("gemini.generate", ""),
    "embeddings": ("openai.embeddings", "/v1/embeddings"),
}
PROFILE = {
    "simple": ["chatty/small", "gem/small"],
    "standard": ["respond/middle", "claude/middle", "chatty/small"],
    "deep_reasoning": ["claude/large", "gem/large", "respond/large"],
}
SPEAKS = {
    "chatty": "openai.chat",
    "respond": "openai.responses",
    "claude": "anthropic.messages",
    "gem": "gemini.generate",
}
MODES = ("observe", "shadow", "route", "auto")
SAMPLE = 12
"""Of how many rows the default run takes one."""

Row = dict[str, Any]


def rows(folder: Path, name: str, every: int = 1) -> list[Row]:
    lines = (folder / "traffic" / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [row for row in map(json.loads, lines[::every]) if isinstance(row["request"], dict)]


def model_of(row: Row, name: str) -> str:
    if name == "gemini":
        return row["path"].rsplit("/models/", 1)[-1].rsplit(":", 1)[0]
    return str(row["request"].get("model"))


def asked(row: Row, name: str, mode: str) -> tuple[str, bytes]:
    """(path with its query, body) of a recorded request, as `auto` in that mode."""
    request = row["request"]
    if name != "gemini":
        model = {"model": "auto"} if mode == "auto" else {}
        return FILES[name][1], orjson.dumps({**request, **model})
    operation = row["path"].rsplit(":", 1)[-1]
    model = "auto" if mode == "auto" else model_of(row, name)
    query = "?alt=sse" if row["stream"] else ""
    return f"/v1beta/models/{model}:{operation}{query}", orjson.dumps(request)


def replayed(simulator: Simulator, row: Row, key: str, chunk: int) -> None:
    answer = row["response"]
    usual = "text/event-stream" if row["stream"] else "application/json"
    told = Recorded(
        key=key,
        status=row["status"],
        content_type=row["content_type"] or usual,
        body=answer.encode() if isinstance(answer, str) else orjson.dumps(answer),
    )
    simulator.replay([told], chunk=chunk if row["stream"] else None)


def _prices(scale: float) -> dict[str, float]:
    return {"input": scale, "output": 4 * scale, "cache_read": scale / 10}


@pytest.fixture
async def front(tmp_path: Path, recorded: Path) -> AsyncIterator[tuple[Sidecar, Simulator]]:
    names = sorted({model_of(row, name) for name in FILES for row in rows(recorded, name)})
    async with Simulator() as simulator:
        base = {"base_url": f"{simulator.url}/v1"}
        home = {"dialects": ALL_DIALECTS, "models": names, "price": _prices(2)}
        one = {
            name: base | {"dialects": [dialect], "price": _prices(1 + n)}
            for n, (name, dialect) in enumerate(SPEAKS.items())
        }
        async with sidecar_for(
            tmp_path,
            simulator.url,
            providers={"home": base | home, **one},
            profiles={"default": PROFILE},
            models={"gem/small": {"context": 900}, "claude/middle": {"lacks": ["json_schema"]}},
        ) as sidecar:
            yield sidecar, simulator


async def dry(sidecar: Sidecar, said: dict[str, Any]) -> tuple[int, Any]:
    token = {"authorization": f"Bearer {sidecar.token}"}
    status, _, body = await sidecar.post("/v1/route", said, headers=token)
    return status, json.loads(body, parse_float=Decimal)


def decided(receipt: Any) -> dict[str, Any]:
    """A receipt's decision in the shape of a dry run."""
    shape = json.loads(dumps(to_json(receipt)), parse_float=Decimal)
    found, decision = shape["classification"] or {}, shape["decision"]
    return {
        "tier": found.get("tier"),
        "selected_model": decision["model_id"],
        "provider": decision["provider"],
        "confidence": found.get("confidence"),
        "complexity": found.get("complexity"),
        "category": found.get("category"),
        "risk_signals": found.get("risk_signals", {}),
        "candidates": shape["candidates"],
        "fallback_chain": decision["fallback_chain"],
        "rationale": decision["rationale"],
        "mode": decision["mode"],
        "profile": decision["profile"],
        "strategy": decision["strategy"],
        "applied": decision["applied"],
        "inputs": decision["inputs"],
    }


async def the_same(
    sidecar: Sidecar, simulator: Simulator, row: Row, name: str, mode: str, key: str
) -> tuple[str, str]:
    """(how it went, what differs) between a dry run and the call after it."""
    path, sent = asked(row, name, mode)
    headers = {} if mode == "auto" else {"x-modelspend-mode": mode}
    told_status, told = await dry(
        sidecar,
        {"dialect": FILES[name][0], "path": path, "body": sent.decode(), "headers": headers},
    )
    replayed(simulator, row, key, 4096)
    status, answer_headers, body = await sidecar.post(
        path, sent, headers={**headers, "x-sim-replay": key, "content-type": "application/json"}
    )
    receipt = await sidecar.receipt_of(answer_headers)
    if told_status != 200:
        refused = not receipt.attempts and status == told_status
        same = (receipt.execution.error or "").startswith(told["title"])
        return f"refused: {told['title']}", "" if refused and same else f"{told} {body[:300]!r}"
    if not receipt.attempts:
        return "carried", f"live refused it: {receipt.execution.error}"
    right = decided(receipt)
    differs = [f"{k}: {told[k]} / {right[k]}" for k in right if told[k] != right[k]]
    return _kind(right), "; ".join(differs)


def _kind(told: dict[str, Any]) -> str:
    return f"{told['mode']}, {told['strategy']}, applied={told['applied']}"


@pytest.mark.parametrize("name", FILES)
async def test_a_dry_run_is_the_live_decision(
    name: str,
    front: tuple[Sidecar, Simulator],
    recorded: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await _dry_equals_live(front, recorded, name, SAMPLE, capsys)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FILES)
async def test_a_dry_run_is_the_live_decision_for_every_recorded_request(
    name: str,
    front: tuple[Sidecar, Simulator],
    recorded: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await _dry_equals_live(front, recorded, name, 1, capsys)


async def _dry_equals_live(
    front: tuple[Sidecar, Simulator],
    recorded: Path,
    name: str,
    every: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sidecar, simulator = front
    counts: Counter[str] = Counter()
    failures: list[str] = []
    for n, row in enumerate(rows(recorded, name, every)):
        for mode in MODES:
            how, differs = await the_same(sidecar, simulator, row, name, mode, f"{name}-{n}-{mode}")
            counts[f"{mode}: {how}"] += 1
            if differs:
                failures.append(f"{name} {n} {mode}: {differs}")
    with capsys.disabled():
        print(f"\n{name}: {len(failures)} of {counts.total()} differ; {dict(counts)}")
    assert not failures, "\n".join(failures[:20])
    assert counts.total() >= 4


@pytest.mark.parametrize("name", FILES)
async def test_shadow_is_observe_to_the_byte(
    name: str,
    front: tuple[Sidecar, Simulator],
    recorded: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await _shadow_equals_observe(front, recorded, name, SAMPLE, capsys)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FILES)
async def test_shadow_is_observe_to_the_byte_on_all_recorded_traffic(
    name: str,
    front: tuple[Sidecar, Simulator],
    recorded: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await _shadow_equals_observe(front, recorded, name, 1, capsys)


async def _shadow_equals_observe(
    front: tuple[Sidecar, Simulator],
    recorded: Path,
    name: str,
    every: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sidecar, simulator = front
    counts: Counter[str] = Counter()
    failures: list[str] = []
    for n, row in enumerate(rows(recorded, name, every)):
        where = f"{name} row {n}"
        seen = []
        for mode in ("observe", "shadow"):
            replayed(simulator, row, f"{where} {mode}", 1 + n % 700)
            before = len(simulator.requests)
            path, sent = asked(row, name, mode)
            status, headers, body = await sidecar.post(
                path,
                sent,
                headers={
                    "x-modelspend-mode": mode,
                    "x-sim-replay": f"{where} {mode}",
                    "content-type": "application/json",
                    "x-canary": "kept",
                },
            )
            receipt = await sidecar.receipt_of(headers)
            up = [
                (each.path, dict(each.query), _without(each.headers, "x-sim-replay"), each.body)
                for each in list(simulator.requests)[before:]
            ]
            seen.append((up, status, _without(headers, "date"), body))
        observed, shadowed = seen
        if observed != shadowed:
            parts = ("upstream", "status", "headers", "body")
            differ = [p for p, a, b in zip(parts, observed, shadowed, strict=True) if a != b]
            failures.append(f"{where}: {', '.join(differ)} differ: {receipt.execution.error}")
        decision = receipt.decision
        if not receipt.attempts:
            counts["refused in both"] += 1
            continue
        assert decision is not None
        assert decision.applied is False
        if name == "embeddings":
            counts["nothing to decide"] += 1
            continue
        if decision.mode != "shadow":
            failures.append(f"{where}: the receipt says {decision.mode}")
        chosen = [
            each
            for each in receipt.candidates
            if (each.provider, each.model_id) == (decision.provider, decision.model_id)
        ]
        counts[f"chosen: {decision.provider}/{decision.model_id}"[:40]] += 1
        priced = bool(chosen) and chosen[0].est_cost_pico is not None
        counts["estimated" if priced else "not estimated"] += 1
        if not priced and not decision.rationale:
            failures.append(f"{where}: nothing says what would have been, or why not")
    with capsys.disabled():
        print(f"\n{name}: {len(failures)} differ; {dict(counts)}")
    assert not failures, "\n".join(failures[:20])
    assert counts


def _without(headers: Any, *names: str) -> list[tuple[str, str]]:
    found = [(name.lower(), value) for name, value in headers.items()]
    return [
        (name, value)
        for name, value in found
        if name not in names and not name.startswith("x-modelspend-")
    ]
