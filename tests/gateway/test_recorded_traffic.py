"""Every recorded exchange, carried again: the bytes are the client's own, both ways.

The simulated provider answers each request with the recorded answer, byte for byte; what must
hold then is known without us: same bytes up, same bytes down (save the stated splices), a receipt
with the right status, and buckets that sum to the provider's own total.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from modelspend.money import BUCKETS, INPUT_BUCKETS
from modelspend.receipt import Receipt, Status
from modelspend.simulator import Simulator
from modelspend.simulator.server import Recorded
from tests.fakes.sidecar import ALL_DIALECTS, CUT, Sidecar, sidecar_for

FILES = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "gemini": "",
    "embeddings": "/v1/embeddings",
}

HOSTS = {  # whose rules read the usage, by the host that was recorded
    "api.openai.com": "openai",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "openrouter.ai": "openrouter",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.deepseek.com": "deepseek",
    "api.cerebras.ai": "cerebras",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
}
"""Everyone else is a compatible provider without a file of its own: `other`."""


def rows(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    for line in (folder / "traffic" / f"{name}.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if isinstance(row["request"], dict):
            yield row


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[tuple[Sidecar, Simulator]]:
    """A sidecar whose providers, under their own names, all are one replaying simulator."""
    async with Simulator() as simulator:
        known = {*HOSTS.values(), "other"}
        providers = {
            name: {
                "base_url": f"{simulator.url}/{name}/v1",
                "dialects": ALL_DIALECTS,
                "api_key_env": "ANY_KEY",
            }
            for name in known
        }
        async with sidecar_for(
            tmp_path, simulator.url, env={"ANY_KEY": "sk-any"}, providers=providers
        ) as sidecar:
            yield sidecar, simulator


def asked(row: dict[str, Any], name: str, provider: str) -> tuple[str, bytes, bytes]:
    """(path, body to send, body the provider must get) of a recorded request."""
    request = row["request"]
    if name == "gemini":
        operation = row["path"].rsplit("/", 1)[-1]
        query = "?alt=sse" if row["stream"] else ""
        body = orjson.dumps(request)
        return f"/v1beta/models/{provider}/{operation}{query}", body, body
    model = request["model"]
    body = orjson.dumps({**request, "model": f"{provider}/{model}"})
    return FILES[name], body, orjson.dumps(request)


def answered(row: dict[str, Any]) -> bytes:
    answer = row["response"]
    return answer.encode() if isinstance(answer, str) else orjson.dumps(answer)


@pytest.mark.parametrize("name", FILES)
async def test_recorded_calls_keep_their_bytes_and_leave_a_right_receipt(
    name: str,
    front: tuple[Sidecar, Simulator],
    recorded: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sidecar, simulator = front
    counts: Counter[str] = Counter()
    failures: list[str] = []
    for n, row in enumerate(rows(recorded, name)):
        provider = HOSTS.get(row["host"], "other")
        path, sent, expected_up = asked(row, name, provider)
        answer = answered(row)
        key = f"{name}-{n}"
        simulator.replay(
            [
                Recorded(
                    key=key,
                    status=row["status"],
                    content_type=row["content_type"] or _content_type(row),
                    body=answer,
                )
            ],
            chunk=1 + n % 700 if row["stream"] else None,
        )
        status, headers, body = await sidecar.post(
            path, sent, headers={"x-sim-replay": key, "content-type": "application/json"}
        )
        receipt = await sidecar.receipt_of(headers)
        where = f"{name} row {n} ({row['host']})"
        counts["rows"] += 1
        counts[receipt.execution.status] += 1
        if row["request"].get("background"):
            counts["cannot be metered, so refused"] += 1
            if status != 400 or receipt.attempts:
                failures.append(f"{where}: a background call was carried")
            continue
        upstream = simulator.requests[-1].body
        failures += [
            f"{where}: {what}"
            for what, holds in _laws(row, receipt, status, body, answer, upstream, expected_up)
            if not holds
        ]
    with capsys.disabled():
        print(f"\n{name}: {dict(counts)}, {len(failures)} failures")
    assert not failures, "\n".join(failures[:20])
    assert counts["rows"]


def _content_type(row: dict[str, Any]) -> str:
    return "text/event-stream" if row["stream"] else "application/json"


def _laws(
    row: dict[str, Any],
    receipt: Receipt,
    status: int,
    body: bytes,
    answer: bytes,
    upstream: bytes,
    expected_up: bytes,
) -> list[tuple[str, bool]]:
    spliced = "stream_options.include_usage" in receipt.request.splices
    up = (
        upstream == expected_up
        if not spliced
        else _unspliced(upstream) == orjson.loads(expected_up)
    )
    down = body == answer if not spliced else body == _without_usage(answer)
    good = row["status"] == 200 and _is_an_answer(row["response"])
    expected = Status.SUCCESS if good else Status.ERROR
    return [
        ("status line", status == row["status"] or (status >= 400 and _tells_error(row))),
        ("bytes upstream", up),
        (f"bytes downstream ({body[-80:]!r})", down and not body.endswith(CUT)),
        (
            f"receipt says {receipt.execution.status}: {receipt.execution.error}",
            receipt.execution.status is expected,
        ),
        (f"buckets do not sum: {receipt.usage}", not good or _sums(row, receipt)),
    ]


def _unspliced(upstream: bytes) -> Any:
    body = orjson.loads(upstream)
    options = body.pop("stream_options")
    assert options == {"include_usage": True}
    return body


def _without_usage(stream: bytes) -> bytes:
    """What a client gets that did not ask for usage: worked out apart from the product."""
    out = []
    for event in stream.split(b"\n\n"):
        if event.startswith(b"data: {"):
            chunk = orjson.loads(event[6:])
            if chunk.get("usage") and chunk.get("choices") == []:
                continue
            if "usage" in chunk and chunk["usage"] is None:
                event = event.replace(b',"usage":null', b"").replace(b'"usage":null,', b"")
        out.append(event)
    return b"\n\n".join(out)


def _tells_error(row: dict[str, Any]) -> bool:
    """An error inside a 200: the client gets an error's status with the same body."""
    return isinstance(row["response"], dict) and bool(row["response"].get("error"))


def _is_an_answer(response: Any) -> bool:
    """A 200 is a success only with an answer of the dialect in it, and no error."""
    if isinstance(response, str):
        return (
            response.lstrip().startswith(("data:", "event:", ":")) and '"error":{' not in response
        )
    if isinstance(response, list):
        return True
    parts = {"choices", "output", "content", "candidates", "data", "promptFeedback"}
    return bool(parts & response.keys()) and not response.get("error")


def _sums(row: dict[str, Any], receipt: Receipt) -> bool:
    """The provider's own total, by the rules that were measured on all recorded traffic."""
    usage = receipt.usage
    if usage.raw is None or not usage.raw:
        return usage.source in ("estimated", "none")
    tokens = sum(usage.quantities.get(bucket, 0) for bucket in BUCKETS if "tokens" in bucket)
    given = sum(usage.quantities.get(bucket, 0) for bucket in INPUT_BUCKETS)
    raw = usage.raw
    if "input_tokens" in raw and "total_tokens" not in raw:  # Anthropic
        if raw.get("iterations"):
            return True  # several rounds: held by the tests of the usage rules
        cached = raw.get("cache_read_input_tokens") or 0
        written = raw.get("cache_creation_input_tokens") or 0
        return given == raw["input_tokens"] + cached + written
    total = raw.get("total_tokens", raw.get("totalTokenCount"))
    return total is None or tokens == total
