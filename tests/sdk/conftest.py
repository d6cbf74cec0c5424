"""Two doors for the official clients: the simulator itself, and the sidecar in front of it.

What a client does at the first door it must do at the second; there, each call also leaves a
receipt that says what the simulator truly charged.
"""

import gc
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import anthropic
import openai
import pytest
from google import genai
from google.genai import types

from modelspend.money import from_usd_per_million
from modelspend.receipt import Receipt
from modelspend.simulator import Simulator
from tests.fakes.sidecar import PRICE, Sidecar, sidecar_for

KEY = "sk-canary-of-the-caller"


@dataclass(slots=True)
class Door:
    """Where clients knock; `sidecar` is None at the simulator's own door."""

    simulator: Simulator
    sidecar: Sidecar | None = None

    @property
    def url(self) -> str:
        return self.sidecar.url if self.sidecar else self.simulator.url

    def openai(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0)

    def anthropic(self) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(base_url=self.url, api_key=KEY, max_retries=0)

    @asynccontextmanager
    async def google(self) -> AsyncIterator[Any]:
        options = types.HttpOptions(base_url=self.url)
        client = genai.Client(api_key=KEY, http_options=options)
        async with client.aio as running:
            yield running
        client.close()

    async def settled(self, status: str) -> None:
        """Hold each receipt to what the simulator says it charged."""
        await self.simulator.quiet()
        if self.sidecar is None:
            return
        receipts = await self.sidecar.receipts()
        charges = [line["charged"] for line in self.simulator.ended()]
        assert [receipt.execution.status for receipt in receipts] == [status] * len(charges)
        for receipt, charged in zip(receipts, charges, strict=True):
            if status == "success":
                _agree(receipt, charged)
        assert not any(line.get("credential") for line in self.simulator.log)


async def drained(stream: AsyncIterator[Any]) -> list[Any]:
    """Everything that a stream gives before it ends or raises."""
    return [item async for item in stream]


def _agree(receipt: Receipt, charged: dict[str, int]) -> None:
    billed = {name: n for name, n in charged.items() if name != "reasoning_tokens"}
    assert {name: n for name, n in receipt.usage.quantities.items() if n} == billed
    rates = {f"{name}_tokens": from_usd_per_million(str(usd)) for name, usd in PRICE.items()}
    cost = sum(rates[name] * n for name, n in billed.items())
    assert receipt.execution.actual_cost_pico == cost


@pytest.fixture(params=["simulator", "sidecar"])
async def door(
    request: pytest.FixtureRequest, tmp_path: Path, simulator: Simulator
) -> AsyncIterator[Door]:
    if request.param == "simulator":
        yield Door(simulator)
        return
    async with sidecar_for(tmp_path, simulator.url) as running:
        yield Door(simulator, running)


@pytest.fixture
async def inside(tmp_path: Path, simulator: Simulator) -> AsyncIterator[Door]:
    """The sidecar's door alone: for what only the sidecar promises."""
    async with sidecar_for(tmp_path, simulator.url) as running:
        yield Door(simulator, running)


def leaves_a_connection(test: Callable[..., Any]) -> Callable[..., Any]:
    """For a test in which a client raises on a stream that broke off. Google's lets go of that
    connection without releasing it, and aiohttp complains whenever it is collected; those on
    httpx leave a generator, whose complaint comes up in whatever runs when it is collected."""
    marked: Any = pytest.mark.usefixtures("collected")(test)
    for ignored in (
        "ignore:Unclosed connection:ResourceWarning",
        "ignore:.*generator object Response.aiter_raw:pytest.PytestUnraisableExceptionWarning",
    ):
        marked = pytest.mark.filterwarnings(ignored)(marked)
    return cast(Callable[..., Any], marked)


@pytest.fixture
async def collected() -> AsyncIterator[None]:
    """What the client left is collected here, so that it complains in no other test."""
    yield
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unclosed connection", ResourceWarning)
        gc.collect()


@pytest.fixture(autouse=True)
def no_keys_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients read keys and addresses from the environment too."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("ANTHROPIC_AUTH_TOKEN", "GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
