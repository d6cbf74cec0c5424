"""`demo --real`: a real model on this machine answers, in three dialects, streamed and not.

What the receipts show is the model's own count, its prompt cache included: each question is asked
twice. It costs nothing and the configuration says so; free is declared, never assumed.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from modelspend.cli.demo_model import INSTALL, MODEL, missing
from modelspend.cli.demo_traffic import Ask
from modelspend.cli.output import draw
from modelspend.errors import ModelspendError, Usage

if TYPE_CHECKING:
    from modelspend.cli.demo_show import Show
    from modelspend.receipt import Receipt

_SYSTEM = "You are a friendly till. You answer in one short sentence."
_QUESTION = "What is a receipt good for?"
_MOST_TOKENS = 40


def require() -> None:
    """Raises Usage, with what to install, unless a real model can be run."""
    if absent := missing():
        raise Usage(f"--real needs {' and '.join(absent)}.", f"Install: {INSTALL}")


async def play(show: "Show") -> None:
    """The model, a sidecar before it, six calls, the result; then it stays to be asked."""
    from modelspend.cli import demo_place
    from modelspend.cli.demo_apps import Apps
    from modelspend.cli.demo_board import Tally

    show.say(f"{MODEL} starts on this machine, and is called by HTTP")
    with _model() as url:
        provider = {
            "base_url": f"{url}/v1",
            "dialects": ["openai.chat", "openai.responses", "anthropic.messages"],
            "models": [MODEL],
            "price": "free",
        }
        async with demo_place.sidecar(show.place, {"local": provider}, show.here.now_ms) as side:
            apps = Apps(side.url)
            show.on_signal(apps.stop)
            tally = Tally(first_ms=show.began_ms)
            await show.watch(
                side,
                tally,
                asyncio.to_thread(apps.go_on, _asks(), 0),
                lambda: f"{MODEL} has answered {tally.calls} of {len(_CALLS) * 2} calls",
            )
            if not show.json:
                found = await side.store.receipts.list(limit=len(_CALLS) * 2)
                _draw([stored.receipt for stored in reversed(found)])
            show.result(side, tally)
            if not show.once:
                await show.serve_on(side, tally, asyncio.to_thread(apps.wait))


@contextmanager
def _model() -> Iterator[str]:
    """The model's process while the block runs; its address. Raises ModelspendError."""
    child = subprocess.Popen(
        [sys.executable, "-m", "modelspend.cli.demo_model"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us; it goes when its standard input ends
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            url = child.stdout.readline().decode().strip()
            if not url:
                raise ModelspendError(
                    f"The model did not start (exit code {child.wait()}).",
                    f"See why: {sys.executable} -m modelspend.cli.demo_model",
                )
            yield url
        finally:
            child.stdin.close()


def _asks() -> Iterator[Ask]:
    for path, body in _CALLS:
        for stream in (False, True):
            yield Ask(
                path=path,
                headers={"content-type": "application/json", "x-modelspend-workflow": "till"},
                body=json.dumps(
                    {"model": MODEL, "temperature": 0, "stream": stream, **body}
                ).encode(),
            )


_TURNS = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _QUESTION}]
_CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/chat/completions", {"messages": _TURNS, "max_tokens": _MOST_TOKENS}),
    (
        "/v1/responses",
        {"instructions": _SYSTEM, "input": _QUESTION, "max_output_tokens": _MOST_TOKENS},
    ),
    ("/v1/messages", {"system": _SYSTEM, "messages": _TURNS[1:], "max_tokens": _MOST_TOKENS}),
)


def _draw(receipts: "list[Receipt]") -> None:
    columns = ("dialect", "streamed", "input", "from cache", "output", "counted by", "ms", "USD")
    draw(columns, [_row(receipt) for receipt in receipts], right=columns[2:5] + columns[6:])


def _row(receipt: "Receipt") -> tuple[str, ...]:
    from modelspend.money import usd_text

    used, cost = receipt.usage.quantities, receipt.execution.actual_cost_pico
    return (
        receipt.request.dialect,
        "yes" if receipt.request.stream else "no",
        str(used.get("input_tokens", 0)),
        str(used.get("cache_read_tokens", 0)),
        str(used.get("output_tokens", 0)),
        receipt.usage.source,
        f"{receipt.execution.actual_latency_ms:.0f}",
        "not known" if cost is None else usd_text(cost),
    )
