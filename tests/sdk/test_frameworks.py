"""Python frameworks through the sidecar: litellm, langchain-openai, pydantic-ai, llm.

Run with `pytest -m full tests/sdk`; they are installed from the package index at test time.
"""

import os
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from modelspend.simulator import Simulator
from tests.fakes.sidecar import ALL_DIALECTS, PRICE, sidecar_for
from tests.sdk.clients import Home, python_home
from tests.sdk.conftest import Door

pytestmark = [pytest.mark.full, pytest.mark.timeout(1200)]

MODELS = ["gpt-4.1", "gpt-5", "claude-sonnet-4-6", "gemini-2.5-flash"]


PACKAGES = {
    "litellm": ("litellm",),
    "langchain": ("langchain-openai",),
    "pydantic-ai": ("pydantic-ai-slim[openai,anthropic,google]",),
    "llm": ("llm",),
}
"""Each framework has an environment of its own: together their pins take an age to resolve."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("SDK_CLIENTS")
    return Path(kept) if kept else tmp_path_factory.mktemp("clients")


def _home(folder: Path, name: str) -> Home:
    return python_home(folder / name, *PACKAGES[name])


@pytest.fixture
async def bare(tmp_path: Path, simulator: Simulator) -> AsyncIterator[Door]:
    """A sidecar that knows the models by their bare names."""
    sim = {
        "base_url": f"{simulator.url}/v1",
        "dialects": ALL_DIALECTS,
        "price": PRICE,
        "models": MODELS,
    }
    async with sidecar_for(tmp_path, simulator.url, providers={"sim": sim}) as running:
        yield Door(simulator, running)


SCRIPTS = {
    "litellm chat": """
        import litellm
        ask = dict(messages=[{"role": "user", "content": "Hello"}], api_key="x")
        answer = litellm.completion(model="openai/gpt-4.1", api_base=URL + "/v1", **ask)
        print(answer.choices[0].message.content)
        for chunk in litellm.completion(
            model="openai/gpt-4.1", api_base=URL + "/v1", stream=True, **ask
        ):
            print(chunk.choices[0].delta.content or "", end="")
    """,
    "litellm anthropic": """
        import litellm
        ask = dict(messages=[{"role": "user", "content": "Hello"}], api_key="x")
        answer = litellm.completion(
            model="anthropic/claude-sonnet-4-6", api_base=URL, stream=True, **ask
        )
        for chunk in answer:
            print(chunk.choices[0].delta.content or "", end="")
    """,
    "langchain": """
        from langchain_openai import ChatOpenAI
        model = ChatOpenAI(model="gpt-4.1", base_url=URL + "/v1", api_key="x")
        print(model.invoke("Hello").content)
        for chunk in model.stream("Hello"):
            print(chunk.content, end="")
        def get_weather(city: str) -> str:
            "The weather of a city."
            return "rain"
        called = model.bind_tools([get_weather]).invoke("Please get_weather in Oslo")
        assert called.tool_calls[0]["args"] == {"city": "sample"}, called
    """,
    "pydantic-ai openai": """
        from pydantic_ai import Agent
        from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
        from pydantic_ai.providers.openai import OpenAIProvider
        provider = OpenAIProvider(base_url=URL + "/v1", api_key="x")
        for kind in (OpenAIChatModel, OpenAIResponsesModel):
            agent = Agent(kind("gpt-5", provider=provider))
            seen = []
            @agent.tool_plain
            def get_weather(city: str) -> str:
                seen.append(city)
                return "rain"
            print(agent.run_sync("Please get_weather in Oslo").output)
            assert seen == ["sample"], seen
    """,
    "pydantic-ai others": """
        from pydantic import BaseModel
        from pydantic_ai import Agent
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider
        from pydantic_ai.models.google import GoogleModel
        from pydantic_ai.providers.google import GoogleProvider
        class Place(BaseModel):
            city: str
        there = dict(base_url=URL, api_key="x")
        models = (
            AnthropicModel("claude-sonnet-4-6", provider=AnthropicProvider(**there)),
            GoogleModel("gemini-2.5-flash", provider=GoogleProvider(**there)),
        )
        for model in models:
            agent = Agent(model, output_type=Place)
            output = agent.run_sync("Hello").output
            assert output == Place(city="sample"), output
            print(output)
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_framework_works_unchanged(
    bare: Door, folder: Path, tmp_path: Path, name: str
) -> None:
    home = _home(folder, name.split()[0])
    script = tmp_path / "script.py"
    script.write_text(f"URL = {bare.url!r}\n{textwrap.dedent(SCRIPTS[name])}")
    told = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONWARNINGS": "ignore"}
    ran = await home.run("python", str(script), cwd=tmp_path, **told)
    assert ran.code == 0, ran.err[-3000:]
    assert ran.out.strip()
    assert bare.simulator.ended()
    await bare.settled("success")


@pytest.mark.parametrize("flags", [(), ("--no-stream",)], ids=["stream", "whole"])
async def test_llm_works_unchanged(
    bare: Door, folder: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: ms\n  model_name: gpt-4.1\n  api_base: {bare.url}/v1\n"
    )
    told = {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "x"}
    home = _home(folder, "llm")
    ran = await home.run("llm", "-m", "ms", *flags, "Hello", cwd=tmp_path, **told)
    assert (ran.code, bool(ran.out.strip())) == (0, True), ran.err[-3000:]
    assert len(bare.simulator.ended()) == 1
    await bare.settled("success")
