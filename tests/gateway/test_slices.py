"""What a stream that is held by the slice may cost at most, for every distance of its provider.

The provider bills a token for every byte of text, which is the dearest that any could, and writes
only so far ahead of what the client has got. While that is at most half a slice, what it bills is
within what is held, and so within the cap; beyond, it is above by at most twice what it was ahead
more.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from modelspend.money import from_usd
from modelspend.receipt import Status
from tests.fakes.sidecar import sidecar_for

IN, OUT = 1_000_000, 2_000_000
"""Pico-dollars a token of the price of `sim`."""

STEP = 1_000
"""Tokens of output that a slice of $0.002 pays for."""

EVENT = 50
"""Bytes of text in one event, and so tokens that it bills."""


@dataclass(slots=True)
class Ahead:
    """A provider that writes `ahead` events beyond those that the client has `got`."""

    ahead: int
    url: str = ""
    written: int = 0
    got: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        try:
            while not writer.is_closing() and not reader.at_eof():
                if self.written < self.got + self.ahead:
                    self.written += 1
                    choice = {"index": 0, "delta": {"content": "x" * EVENT}}
                    said = {"id": "c", "object": "chat.completion.chunk", "choices": [choice]}
                    writer.write(b"data: " + json.dumps(said).encode() + b"\n\n")
                    await writer.drain()
                else:
                    await asyncio.sleep(0)
        except ConnectionError:
            pass
        finally:
            writer.close()

    @property
    def billed_pico(self) -> int:
        return 10 * IN + self.written * EVENT * OUT


@asynccontextmanager
async def provider_ahead(events: int) -> AsyncIterator[Ahead]:
    one = Ahead(events)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield one
    finally:
        server.close()


@pytest.mark.parametrize("cap", ["0.01", "0.02", "0.0311"])
@pytest.mark.parametrize("ahead", [1, STEP // EVENT // 2, 3 * STEP // EVENT, 10 * STEP // EVENT])
async def test_a_cut_stream_bills_no_more_than_is_held_and_what_its_provider_was_ahead(
    tmp_path: Path, ahead: int, cap: str
) -> None:
    budget = {"cap_usd": Decimal(cap), "window": "day", "slice_usd": Decimal("0.002")}
    models = {"sim/m": {"lacks": ["reasoning"]}}
    body = {
        "model": "sim/m",
        "stream": True,
        "max_tokens": 60_000,
        "messages": [{"role": "user", "content": "hi"}],
    }
    async with (
        provider_ahead(ahead) as provider,
        sidecar_for(tmp_path, provider.url, budgets={"all": budget}, models=models) as sidecar,
    ):
        url = f"{sidecar.url}/v1/chat/completions"
        said = b""
        async with sidecar.client.post(url, json=body) as answer:
            assert answer.status == 200
            try:
                async for part in answer.content.iter_any():
                    said += part
                    provider.got = said.count(b"x" * EVENT)
            except Exception as cut:
                assert type(cut).__name__ == "ClientPayloadError"  # noqa: PT017
        receipt = await sidecar.receipt()
        (rule,) = sidecar.gateway.purse.rules.all
        (stands,) = await sidecar.store.budgets.usage([rule], sidecar.gateway.now_ms())
    assert receipt.execution.status is Status.BUDGET_STOPPED
    assert b"budget_exceeded" in said
    charged = receipt.execution.charged_pico
    assert (stands.spent_pico, stands.held_pico) == (charged, 0)
    assert charged <= from_usd(cap)
    beyond = max(0, 2 * ahead * EVENT - STEP)
    assert provider.billed_pico <= charged + beyond * OUT
    if not beyond:
        assert provider.billed_pico <= charged <= from_usd(cap)
    assert provider.got * EVENT * OUT > charged / 3  # nor is it cut long before it must be
