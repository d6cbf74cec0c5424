"""Recorded answers of every host: the buckets of each must sum to the provider's own total."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from modelspend.catalog import Catalog
from modelspend.catalog.usage import billed_apart, read
from modelspend.money import INPUT_BUCKETS
from modelspend.receipt import Usage

TOKENS = (*INPUT_BUCKETS, "output_tokens", "output_audio_tokens", "output_image_tokens")

FILES = {
    "openai_chat": "openai.chat",
    "openai_responses": "openai.responses",
    "anthropic": "anthropic.messages",
    "gemini": "gemini.generate",
    "bedrock": "bedrock.converse",
    "cohere": "cohere.chat",
    "embeddings": "openai.embeddings",
}
HOSTS = {
    "openai.com": "openai", "azure.com": "azure", "mistral.ai": "mistral", "groq.com": "groq",
    "cerebras.ai": "cerebras", "deepseek.com": "deepseek", "openrouter.ai": "openrouter",
    "together.xyz": "together", "together.ai": "together", "anthropic.com": "anthropic",
    "googleapis.com": "google", "amazonaws.com": "bedrock", "api.aws": "bedrock",
    "cohere.com": "cohere", "x.ai": "xai",
}  # fmt: skip


def answers(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The JSON values of an answer, streamed or not."""
    if isinstance(row["response"], str):
        for line in row["response"].splitlines():
            if line.startswith("data:") and line[5:].strip().startswith("{"):
                yield json.loads(line[5:])
    elif isinstance(row["response"], list):
        yield from row["response"]
    elif isinstance(row["response"], dict):
        yield row["response"]


def told(row: dict[str, Any]) -> dict[str, Any] | None:
    """The usage of an answer; a stream's parts merged, later ones over earlier ones."""
    merged: dict[str, Any] = {}
    for value in answers(row):
        for holder in (value, value.get("message"), value.get("response"), value.get("delta")):
            if isinstance(holder, dict):
                for key in ("usage", "usageMetadata", "meta"):
                    found = holder.get(key)
                    if isinstance(found, dict):
                        merged |= {k: v for k, v in found.items() if v is not None}
    return merged or None


def total(raw: dict[str, Any]) -> int | None:
    """The provider's own total; where it tells none, the sum of the counts that it documents."""
    for key in ("total_tokens", "totalTokenCount", "totalTokens"):
        if key in raw:
            return int(raw[key])
    if "input_tokens" in raw:
        parts = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        return sum(raw.get(part) or 0 for part in (*parts, "output_tokens"))
    return None


def reading(catalog: Catalog, file: str, row: dict[str, Any], raw: dict[str, Any]) -> Usage:
    provider = next((p for host, p in HOSTS.items() if row["host"].endswith(host)), "openai")
    dialect = FILES[file]
    if file == "bedrock" and ("prompt_tokens" in raw or "cache_read_input_tokens" in raw):
        dialect = "openai.chat" if "prompt_tokens" in raw else "anthropic.messages"
    return read(catalog.known[provider].usage[dialect], raw)


@pytest.mark.parametrize("file", FILES)
def test_buckets_sum_to_the_provider_s_own_total_on_every_recorded_answer(
    file: str, rows: Any, catalog: Catalog
) -> None:
    sums: Counter[str] = Counter()
    odd: list[tuple[str, tuple[str, ...], dict[str, Any]]] = []
    for row in rows(f"traffic/{file}.jsonl"):
        raw = told(row)
        if row["status"] != 200 or raw is None:
            continue
        usage = reading(catalog, file, row, raw)
        if usage.problems:
            odd.append((row["host"], usage.problems, raw))
        elif total(raw) is None:
            sums[f"{row['host']}: no total to compare"] += 1
        else:
            ours = sum(usage.quantities.get(bucket, 0) for bucket in TOKENS)
            assert ours == total(raw), (row["host"], raw, usage.quantities)
            sums[f"{row['host']}: equal"] += 1
        assert all(n > 0 for n in usage.quantities.values())
    print(f"\n{file}:", *sums.items(), *odd, sep="\n  ")
    assert sum(sums.values()) > 0
    for host, problems, raw in odd:
        assert known_to_be_odd(host, problems, raw), (host, problems, raw)


def known_to_be_odd(host: str, problems: tuple[str, ...], raw: dict[str, Any]) -> bool:
    """Usages that make no sense as they stand, each seen in the recordings."""
    if problems == ("usage has neither input nor output",):
        return "oken" not in json.dumps(raw)  # a guardrail's or a reranker's units
    if problems == ("cached audio is not told from other cached input",):
        return set(raw["prompt_tokens_details"]) >= {"cached_tokens", "audio_tokens"}
    if host == "openrouter.ai":  # it read and wrote the same tokens, or thought more than it wrote
        return len(problems) == 1 and problems[0].startswith(("cache_write_5m (", "reasoning ("))
    return False


def test_rounds_of_another_model_are_told_apart_and_the_others_sum_to_the_top(
    rows: Any, catalog: Catalog
) -> None:
    rules = catalog.known["anthropic"].usage["anthropic.messages"]
    seen: Counter[str] = Counter()
    for row in rows("traffic/anthropic.jsonl"):
        raw = told(row) or {}
        if raw.get("iterations"):
            usage = read(rules, raw)
            assert usage.problems == ()
            assert usage.quantities["input_tokens"] == raw["input_tokens"]
            assert usage.quantities["output_tokens"] == raw["output_tokens"]
            seen.update(model for model, _ in billed_apart(rules, raw))
            seen["answers"] += 1
    print(f"\n{dict(seen)}")
    assert seen["answers"] >= 4
    assert len(seen) >= 2
