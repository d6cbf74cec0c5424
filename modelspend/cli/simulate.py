"""`modelspend simulate`: a provider in a box, for trying things out without a key or a network."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelspend.cli.output import Json, draw, write_json
from modelspend.errors import Usage

if TYPE_CHECKING:
    from modelspend.money import Price
    from modelspend.simulator import Simulator


def simulate(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 0,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append what is accepted and charged.")
    ] = None,
    sync: Annotated[bool, typer.Option("--sync", help="Each log line is on disk at once.")] = False,
    latency: Annotated[float, typer.Option(min=0, metavar="MS", help="Wait before answers.")] = 0,
    seed: Annotated[int, typer.Option(help="Same seed, same requests: same answers.")] = 0,
    price: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL:input=3,output=15", help="USD per million; * is every model."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the behaviours and stop.")] = False,
    json: Json = False,
) -> None:
    """Simulate a provider: every dialect over HTTP, its behaviour chosen by the model's name.

    Ask for sim-ok, sim-429-retry-2, sim-crlf+cut-5, …, or any model that you like.
    """
    if list_:
        _list(json)
        return
    prices = _prices(price or [])

    import uvloop

    from modelspend.simulator import Simulator

    simulator = Simulator(
        seed=seed, port=port, latency_ms=latency, log=log, sync=sync, keep=0, prices=prices
    )
    uvloop.run(_until_stopped(simulator, json))


def _list(json: bool) -> None:
    from modelspend.simulator import BEHAVIOURS

    if json:
        rows = [{"name": f"sim-{row.pattern}", "says": row.says} for row in BEHAVIOURS]
        write_json(rows)
    else:
        draw(("model", "what it does"), [(f"sim-{row.pattern}", row.says) for row in BEHAVIOURS])


def _prices(texts: list[str]) -> "dict[str, Price]":
    from modelspend.simulator.prices import parse_price

    try:
        return dict(map(parse_price, texts))
    except ValueError as error:
        raise Usage(f"--price: {error}.", "Example: --price 'gpt-4.1:input=2,output=8'") from None


async def _until_stopped(simulator: "Simulator", json: bool) -> None:
    """Serve until SIGINT or SIGTERM, which is how it is meant to end."""
    import asyncio
    import signal

    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    async with simulator:
        if json:
            write_json({"url": simulator.url}, line=True)
        else:
            typer.echo(f"simulated provider at {simulator.url}")
        sys.stdout.flush()
        await stopped.wait()
