"""Coding agents through the sidecar: Claude Code, Codex, opencode and aider.

Run with `pytest -m full tests/sdk`; about 1 GB is installed from the package index at test time.
Each is asked one thing with no terminal; what it prints must be what the simulator said.
"""

import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from modelspend.simulator import Simulator
from tests.fakes.sidecar import ALL_DIALECTS, PRICE, sidecar_for
from tests.sdk.clients import Home, node_home, python_home
from tests.sdk.conftest import Door

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]

PACKAGES = ("@anthropic-ai/claude-code", "@openai/codex", "opencode-ai")
MODELS = ["claude-sonnet-4-6", "claude-haiku-4-5", "gpt-5", "gpt-4o"]


def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("SDK_CLIENTS")
    return Path(kept) if kept else tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Home:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    return node_home(_folder(tmp_path_factory) / "agents", *PACKAGES)


@pytest.fixture(scope="module")
def aider(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return python_home(_folder(tmp_path_factory) / "aider", "aider-chat")


@pytest.fixture
async def bare(tmp_path: Path, simulator: Simulator) -> AsyncIterator[Door]:
    """A sidecar that knows the agents' models by their bare names."""
    sim = {
        "base_url": f"{simulator.url}/v1",
        "dialects": ALL_DIALECTS,
        "price": PRICE,
        "models": MODELS,
    }
    async with sidecar_for(tmp_path, simulator.url, providers={"sim": sim}) as running:
        yield Door(simulator, running)


async def _checked(door: Door, dialect: str) -> None:
    """The agent's calls were of that dialect, all of them answered, none without a receipt."""
    accepted = [line for line in door.simulator.log if line["event"] == "accepted"]
    assert {line["dialect"] for line in accepted} == {dialect}
    await door.settled("success")


async def test_claude_code(bare: Door, agents: Home, tmp_path: Path) -> None:
    ran = await agents.run(
        *("claude", "-p", "hi", "--output-format", "json", "--model", "claude-sonnet-4-6"),
        cwd=tmp_path,
        ANTHROPIC_BASE_URL=bare.url,
        ANTHROPIC_API_KEY="x",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        DISABLE_AUTOUPDATER="1",
    )
    assert ran.code == 0, ran.err[-2000:] + ran.out[-2000:]
    told = json.loads(ran.out)
    assert told["result"]
    assert not told["is_error"]
    await _checked(bare, "anthropic.messages")
    beta = [seen.headers.get("anthropic-beta") for seen in bare.simulator.requests]
    assert all(beta), "the client's own headers survive"


async def test_codex(bare: Door, agents: Home, tmp_path: Path) -> None:
    provider = (
        f'{{name="ms",base_url="{bare.url}/v1",env_key="OPENAI_API_KEY",wire_api="responses"}}'
    )
    ran = await agents.run(
        *("codex", "exec", "--skip-git-repo-check", "--json", "-m", "gpt-5"),
        *("-c", "model_provider=ms", "-c", f"model_providers.ms={provider}", "hi"),
        cwd=tmp_path,
        OPENAI_API_KEY="x",
    )
    assert ran.code == 0, ran.err[-2000:] + ran.out[-2000:]
    events = [json.loads(line) for line in ran.out.splitlines() if line.startswith("{")]
    assert "turn.completed" in [event["type"] for event in events]
    await _checked(bare, "openai.responses")


async def test_opencode(bare: Door, agents: Home, tmp_path: Path) -> None:
    options = {"baseURL": f"{bare.url}/v1", "apiKey": "x"}
    provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {"gpt-5": {}}}
    (tmp_path / "opencode.json").write_text(json.dumps({"provider": {"ms": provider}}))
    ran = await agents.run(
        *("opencode", "run", "-m", "ms/gpt-5", "hi"),
        cwd=tmp_path,
        OPENCODE_DISABLE_AUTOUPDATE="1",
        OPENCODE_DISABLE_MODELS_FETCH="1",
    )
    assert ran.code == 0, ran.err[-2000:] + ran.out[-2000:]
    assert ran.out.strip()
    await _checked(bare, "openai.chat")


async def test_aider(bare: Door, aider: Home, tmp_path: Path) -> None:
    ran = await aider.run(
        *("aider", "--model", "openai/gpt-4o", "--message", "hi", "--yes-always", "--no-git"),
        *("--no-check-update", "--analytics-disable", "--no-pretty"),
        cwd=tmp_path,
        OPENAI_API_BASE=f"{bare.url}/v1",
        OPENAI_API_KEY="x",
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )
    assert ran.code == 0, ran.err[-2000:] + ran.out[-2000:]
    await _checked(bare, "openai.chat")
