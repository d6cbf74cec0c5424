"""The same decision twice: thousands of prompts, decided by two processes, are the same bytes.

The processes differ in the seed of their hashes, which is what would tell a set's order from a
list's. Prompts repeat with variations, so that near twins are among them.
"""

import asyncio
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w

MODELS = ("small", "middle", "large")
VARIATIONS = (
    "{}",
    "{} Be brief.",
    "Please help me. {}",
    "{}\n\n{}",
    "Translate to French: {}",
    "{} Explain your reasoning step by step and prove each claim.",
)


def prompts(folder: Path, count: int) -> Iterator[str]:
    lines = (folder / "prompts" / "labelled_half.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    for n in range(count):
        text = texts[n % len(texts)]
        yield VARIATIONS[n // len(texts) % len(VARIATIONS)].replace("{}", text)


def settings(tmp_path: Path) -> Path:
    """Candidates of several providers, evenly matched, so that ties are among the decisions."""
    providers = {
        name: {
            "base_url": "http://127.0.0.1:9/v1",
            "dialects": [dialect],
            "models": [f"{name}-{model}" for model in MODELS],
            "price": {"input": 1, "output": 4},
        }
        for name, dialect in (
            ("one", "openai.chat"),
            ("two", "anthropic.messages"),
            ("three", "gemini.generate"),
        )
    }
    profile = {
        "simple": ["one-small", "two-small", "three-small"],
        "standard": ["two-middle", "three-middle", "one-middle"],
        "deep_reasoning": ["three-large", "one-large", "two-large"],
    }
    file = tmp_path / "config.toml"
    tree = {
        "store": {"path": str(tmp_path / "ledger.db")},
        "providers": providers,
        "profiles": {"default": profile},
    }
    file.write_text(tomli_w.dumps(tree))
    return file


async def decided(config: Path, asked: Path, seed: str) -> bytes:
    env = {**os.environ, "PYTHONHASHSEED": seed}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "modelspend", "--config", str(config)),
        *("route", "--file", str(asked), "--json"),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out


async def _twice(tmp_path: Path, folder: Path, count: int) -> Counter[str]:
    asked = tmp_path / "prompts.jsonl"
    rows = [
        json.dumps({"id": str(n), "prompt": text}) for n, text in enumerate(prompts(folder, count))
    ]
    asked.write_text("\n".join(rows) + "\n", "utf-8")
    config = settings(tmp_path)
    one = await decided(config, asked, "1")
    two = await decided(config, asked, "2")
    assert hashlib.sha256(one).hexdigest() == hashlib.sha256(two).hexdigest()
    told = [json.loads(line) for line in one.splitlines()]
    assert [each["id"] for each in told] == [str(n) for n in range(count)]
    assert not any("error" in each for each in told)
    return Counter(f"{each['tier']} → {each['selected_model']}" for each in told)


async def test_two_processes_decide_the_same_bytes(tmp_path: Path, recorded: Path) -> None:
    assert (await _twice(tmp_path, recorded, 300)).total() == 300


@pytest.mark.full
@pytest.mark.timeout(900)
async def test_two_processes_decide_ten_thousand_prompts_to_the_same_bytes(
    tmp_path: Path, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = await _twice(tmp_path, recorded, 10_000)
    with capsys.disabled():
        print(f"\n{counts.total()} prompts, twice: {dict(counts)}")
    assert len(counts) == 3
