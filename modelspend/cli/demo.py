"""`modelspend demo`: the whole product at work, without a key and without a network.

Simulated providers and a real sidecar, both in this process and on real sockets; sixty days of
traffic are sent through them by HTTP, with the sidecar's clock turned to each day. The ledger is
one of its own, made anew each time; the keys and settings of this shell are not even looked at.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelspend.cli.context import here
from modelspend.cli.output import Json

if TYPE_CHECKING:
    from modelspend.cli.demo_show import Show

_CALL_EVERY_S = 1.0


def demo(
    ctx: typer.Context,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port to serve on; else 8787, or a free one."),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="End after the show instead of serving on.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Serve the last demo's ledger again, as it is.")
    ] = False,
    real: Annotated[
        bool, typer.Option("--real", help="A small real model on this machine answers instead.")
    ] = False,
    json: Json = False,
) -> None:
    """Show it at work: simulated providers, real HTTP, sixty days of receipts; no key needed.

    Then it goes on serving, with a call every second, until interrupted. Its ledger lies apart from
    yours and is made anew each time. With --real it
    says what to install.
    """
    from modelspend.cli import demo_place, demo_real
    from modelspend.cli.demo_show import Show

    if real:
        demo_real.require()
    show = Show(here(ctx), demo_place.prepared(port, keep=keep), once, json)

    import uvloop

    uvloop.run(demo_real.play(show) if real else _play(show))


async def _play(show: "Show") -> None:
    """Providers, sidecar, sixty days, the result; then life goes on."""
    import asyncio

    from modelspend.cli import demo_board, demo_place, demo_traffic
    from modelspend.cli.demo_apps import Apps, Clock
    from modelspend.simulator import Simulator

    today = datetime.fromtimestamp(show.here.now_ms() / 1000, UTC).date()
    clock = Clock(show.here.now_ms)
    async with (
        Simulator(seed=1, keep=0) as simulator,
        demo_place.sidecar(show.place, _providers(simulator.url), clock) as side,
    ):
        apps = Apps(side.url)
        show.on_signal(apps.stop)
        tally = demo_board.Tally(first_ms=_first_ms(today, demo_traffic.DAYS))
        days = () if show.place.kept else demo_traffic.history(today)
        show.say(f"{demo_traffic.DAYS} days of calls to simulated providers, by HTTP")
        await show.watch(
            side,
            tally,
            asyncio.to_thread(apps.live_through, days, clock),
            lambda: demo_board.board(tally, apps.day, side.url),
        )
        clock.let_go()
        side.live.started_at_ms = clock()
        show.result(side, tally)
        if not show.once:
            asks = demo_traffic.live(today)
            await show.serve_on(side, tally, asyncio.to_thread(apps.go_on, asks, _CALL_EVERY_S))


def _first_ms(today: date, days: int) -> int:
    midnight = datetime.combine(today - timedelta(days), time(), UTC)
    return round(midnight.timestamp() * 1000)


def _providers(url: str) -> dict[str, Any]:
    """The vendors by their own names, all played by the simulator; and one without prices."""
    return {
        "openai": {"base_url": f"{url}/v1"},
        "anthropic": {"base_url": f"{url}/v1"},
        "google": {"base_url": f"{url}/v1beta"},
        "lab": {"base_url": f"{url}/v1", "dialects": ["openai.chat"], "models": ["tuned-7b"]},
    }
