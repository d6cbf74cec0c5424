"""The Node clients through the sidecar: openai, @anthropic-ai/sdk and the Vercel AI SDK.

Run with `pytest -m full tests/sdk`; they are installed from the package index at test time.
"""

import json
import os
import shutil
import textwrap
from decimal import Decimal
from pathlib import Path

import pytest

from modelspend.simulator import Simulator
from tests.fakes.sidecar import sidecar_for
from tests.sdk.clients import Home, node_home
from tests.sdk.conftest import Door

pytestmark = [pytest.mark.full, pytest.mark.timeout(1200)]

PACKAGES = ("openai", "@anthropic-ai/sdk", "ai")
ADAPTERS = ("@ai-sdk/openai", "@ai-sdk/anthropic", "@ai-sdk/google")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    kept = os.environ.get("SDK_CLIENTS")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("clients")
    return node_home(folder / "node", *PACKAGES, *ADAPTERS)


SCRIPTS = {
    "openai": """
        import OpenAI from 'openai'
        const client = new OpenAI({baseURL: URL_ + '/v1', apiKey: 'x', maxRetries: 0})
        const messages = [{role: 'user', content: 'Hello'}]
        const whole = await client.chat.completions.create({model: 'sim/gpt-4.1', messages})
        const stream = await client.chat.completions.create(
          {model: 'sim/gpt-4.1', messages, stream: true})
        let text = ''
        for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? ''
        if (text !== whole.choices[0].message.content) throw new Error(text)
        const answer = await client.responses.create({model: 'sim/gpt-4.1', input: 'Hello'})
        console.log(answer.output_text)
        const vectors = await client.embeddings.create({model: 'sim/e', input: 'Hello'})
        if (vectors.data[0].embedding.length !== 256) throw new Error('embedding')
    """,
    "anthropic": """
        import Anthropic from '@anthropic-ai/sdk'
        const client = new Anthropic({baseURL: URL_, apiKey: 'x', maxRetries: 0})
        const asked = {model: 'sim/claude-sonnet-4-6', max_tokens: 500,
                       messages: [{role: 'user', content: 'Hello'}]}
        const whole = await client.messages.create(asked)
        const final = await client.messages.stream(asked).finalMessage()
        if (final.content[0].text !== whole.content[0].text) throw new Error('differs')
        console.log(final.usage.output_tokens)
    """,
    "vercel": """
        import {generateText, streamText} from 'ai'
        import {createOpenAI} from '@ai-sdk/openai'
        import {createAnthropic} from '@ai-sdk/anthropic'
        import {createGoogleGenerativeAI} from '@ai-sdk/google'
        const openai = createOpenAI({baseURL: URL_ + '/v1', apiKey: 'x'})
        const anthropic = createAnthropic({baseURL: URL_ + '/v1', apiKey: 'x'})
        const google = createGoogleGenerativeAI({baseURL: URL_ + '/v1beta', apiKey: 'x'})
        const models = [openai('sim/gpt-4.1'), openai.chat('sim/gpt-4.1'),
                        anthropic('sim/claude-sonnet-4-6'), google('models/sim/gemini-2.5-flash')]
        for (const model of models) {
          const {text} = await generateText({model, prompt: 'Hello', maxRetries: 0})
          let streamed = ''
          for await (const piece of streamText({model, prompt: 'Hello', maxRetries: 0}).textStream)
            streamed += piece
          if (!text || text !== streamed) throw new Error(`${text} / ${streamed}`)
          console.log(text)
        }
    """,
}

COUNTS = {"openai": 4, "anthropic": 2, "vercel": 8}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_node_client_works_unchanged(
    inside: Door, home: Home, tmp_path: Path, name: str
) -> None:
    script = home.folder / f"{name}.mjs"  # beside its packages: imports look there
    script.write_text(f"const URL_ = {json.dumps(inside.url)}\n{textwrap.dedent(SCRIPTS[name])}")
    ran = await home.run("node", str(script), cwd=tmp_path)
    assert ran.code == 0, ran.err[-3000:]
    assert ran.out.strip()
    assert len(inside.simulator.ended()) == COUNTS[name]
    await inside.settled("success")


async def test_a_node_client_raises_on_a_stream_that_broke_off(
    inside: Door, home: Home, tmp_path: Path
) -> None:
    script = home.folder / "broken.mjs"
    script.write_text(
        f"const URL_ = {json.dumps(inside.url)}\n"
        + textwrap.dedent("""
        import OpenAI from 'openai'
        const client = new OpenAI({baseURL: URL_ + '/v1', apiKey: 'x', maxRetries: 0})
        const stream = await client.chat.completions.create(
          {model: 'sim/sim-cut-5', messages: [{role: 'user', content: 'Hi'}], stream: true})
        for await (const chunk of stream) console.log('chunk')
        """)
    )
    ran = await home.run("node", str(script), cwd=tmp_path)
    assert ran.code != 0
    assert ran.out.count("chunk") > 2
    await inside.settled("truncated")


REFUSED = {
    "openai": """
        import OpenAI from 'openai'
        const client = new OpenAI({baseURL: URL_ + '/v1', apiKey: 'x'})
        const messages = [{role: 'user', content: 'Hello'}]
        const model = 'sim/gpt-4.1'
        const asks = [() => client.chat.completions.create({model, messages}),
                      () => client.chat.completions.create({model, messages, stream: true}),
                      () => client.responses.create({model, input: 'Hello'})]
        const status = error => error.status
    """,
    "anthropic": """
        import Anthropic from '@anthropic-ai/sdk'
        const client = new Anthropic({baseURL: URL_, apiKey: 'x'})
        const asked = {model: 'sim/claude-sonnet-4-6', max_tokens: 500,
                       messages: [{role: 'user', content: 'Hello'}]}
        const asks = [() => client.messages.create(asked),
                      () => client.messages.stream(asked).finalMessage()]
        const status = error => error.status
    """,
    "vercel": """
        import {generateText} from 'ai'
        import {createOpenAI} from '@ai-sdk/openai'
        import {createAnthropic} from '@ai-sdk/anthropic'
        import {createGoogleGenerativeAI} from '@ai-sdk/google'
        const google = createGoogleGenerativeAI({baseURL: URL_ + '/v1beta', apiKey: 'x'})
        const models = [createOpenAI({baseURL: URL_ + '/v1', apiKey: 'x'}).chat('sim/gpt-4.1'),
                        createAnthropic({baseURL: URL_ + '/v1', apiKey: 'x'})('sim/claude'),
                        google('models/sim/gemini-2.5-flash')]
        const asks = models.map(model => () => generateText({model, prompt: 'Hello'}))
        const status = error => error.statusCode
    """,
}
TOLD = """
for (const ask of asks) {
  try { await ask(); console.log('answered') }
  catch (error) { console.log(status(error), error.message.includes('--max-usd')) }
}
"""


@pytest.mark.parametrize("name", REFUSED)
async def test_a_node_client_takes_a_refusal_over_money_for_final(
    home: Home, simulator: Simulator, tmp_path: Path, name: str
) -> None:
    """With the retries that it comes with: each call is refused once, and told what raises it."""
    budgets = {"all": {"cap_usd": Decimal("0.000001")}}
    async with sidecar_for(tmp_path, simulator.url, budgets=budgets) as sidecar:
        script = home.folder / f"{name}-refused.mjs"
        where = f"const URL_ = {json.dumps(sidecar.url)}\n"
        script.write_text(where + textwrap.dedent(REFUSED[name]) + TOLD)
        ran = await home.run("node", str(script), cwd=tmp_path)
        receipts = await sidecar.receipts()
    assert ran.code == 0, ran.err[-3000:]
    told = ran.out.split("\n")[:-1]
    assert told == ["402 true"] * (2 if name == "anthropic" else 3)
    assert [one.execution.status for one in receipts] == ["refused"] * len(told)
    assert not simulator.requests
