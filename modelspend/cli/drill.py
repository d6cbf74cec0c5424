"""`drill FAULT`: a fault in front of a provider on purpose, and what that did to clients.

Beside a running sidecar the fault stands in front of a provider of its own, and its calls are the
ones that are looked at. Without one, two simulated providers, a sidecar and its apps are started
for the drill alone, on a ledger of their own, with this configuration's circuits and limits.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelspend import periods
from modelspend.cli.context import Here, here, note
from modelspend.cli.output import Json, draw, write_json
from modelspend.drills import FAULTS, LONGEST_S
from modelspend.errors import DaemonUnreachable, ExitCode, NotFound, Usage

if TYPE_CHECKING:
    from modelspend.cli.client import Daemon

_HOUR_MS = 3_600_000


def drill(
    ctx: typer.Context,
    fault: Annotated[
        str | None,
        typer.Argument(metavar="[FAULT]", help="The fault; without one, all are listed."),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            "--provider",
            metavar="NAME",
            help="In front of this provider; else of the one that was asked most.",
            show_default=False,
        ),
    ] = None,
    length: Annotated[
        str, typer.Option("--for", metavar="TIME", help="So long, such as 30s or 5m.")
    ] = "60s",
    at: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="TOKENS",
            help="For cut, stall, error-in-200: so many tokens come first.",
            show_default=False,
        ),
    ] = None,
    delay: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="For slow: so late; else past circuits.slow_s.", show_default=False
        ),
    ] = None,
    retry_after: Annotated[
        int, typer.Option(min=1, max=LONGEST_S, metavar="SECONDS", help="For rate-limit.")
    ] = 2,
    period: Annotated[
        str, typer.Option(metavar="TIME", help="For flapping: unwell so long, then well so long.")
    ] = "5s",
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Use a simulated pair although a sidecar runs.")
    ] = False,
    json: Json = False,
) -> None:
    """Put a fault in front of a provider for a while, and report what clients saw of it.

    With a sidecar running, its real calls are met; Ctrl-C ends the fault at once. Without one, a
    simulated pair of providers is used.
    """
    if fault is None:
        _list(json)
        return
    if fault not in FAULTS:
        raise Usage(f"There is no fault {fault!r}.", f"Faults: {', '.join(FAULTS)}.")
    place = here(ctx)
    asked = {
        "fault": fault,
        "for_s": _seconds("--for", length),
        "retry_after_s": retry_after,
        "period_s": _seconds("--period", period),
        **({} if at is None else {"at": at}),
        **({} if delay is None else {"delay_s": _seconds("--delay", delay)}),
    }
    told = _carry_out(place, provider, asked, simulated=simulated, json=json)
    if json:
        write_json(told)
    else:
        from modelspend.cli.drill_show import lines

        draw(("what", "value"), list(lines(told)))
    _advise(told)
    if told["interrupted"]:
        raise typer.Exit(ExitCode.INTERRUPTED)


def _carry_out(
    place: Here, provider: str | None, asked: Mapping[str, Any], *, simulated: bool, json: bool
) -> dict[str, Any]:
    from modelspend.cli.drill_pair import played
    from modelspend.cli.drill_run import run
    from modelspend.cli.drill_show import Progress

    daemon = None if simulated else _running(place)
    if daemon is None:
        with played(place, provider or "primary") as (pair, ledger):
            shown = Progress(asked, pair.provider, simulated=True, json=json)
            told = run(ledger, pair.daemon, {**asked, "provider": pair.provider}, shown, pair)
            return {"simulated": True, **told, "clients": pair.tally(told)}
    named = provider or _asked_most(place, daemon)
    shown = Progress(asked, named, simulated=False, json=json)
    return {
        "simulated": False,
        **run(place.ledger, daemon, {**asked, "provider": named}, shown, None),
    }


def _running(place: Here) -> "Daemon | None":
    from modelspend.cli.client import find

    try:
        return find(place.ledger)
    except DaemonUnreachable:
        return None


def _list(json: bool) -> None:
    if json:
        write_json([{"fault": name, "meaning": meaning} for name, meaning in FAULTS.items()])
    else:
        draw(("fault", "what is wrong with the provider"), list(FAULTS.items()))


def _seconds(option: str, text: str) -> int:
    try:
        found = periods.duration_s(text)
    except ValueError as error:
        raise Usage(f"{option}: {error}.") from None
    if found > LONGEST_S:
        raise Usage(f"{option}: at most an hour, not {text}.")
    return found


def _asked_most(place: Here, daemon: "Daemon") -> str:
    """The provider that most calls of the last hour went to; the only one, if there is but one."""
    from modelspend.cli.reading import read

    since = place.now_ms() - _HOUR_MS
    counts = read(place.ledger, lambda store: store.rates.providers(since))
    known = daemon.get("/v1/status")["providers"]
    asked = [name for name, _ in counts if name in known]
    if asked:
        note(f"{asked[0]} it is: most calls of the last hour went there (--provider chooses).")
        return asked[0]
    if len(known) == 1:
        return str(known[0])
    raise NotFound(
        "No call went to any provider in the last hour.",
        f"Choose with --provider: {', '.join(known) or 'none is configured'}.",
    )


def _advise(told: Mapping[str, Any]) -> None:
    if told["calls"]["total"] == 0:
        note("no call met the drill: send some while it is on, or use it without a sidecar.")
    elif not told["circuit"]["recovered"] and told["circuit"]["opened"]:
        note("the circuit has not recovered yet: modelspend circuits list")
    elif told["drill"]["fault"] in ("slow", "stall") and not told["attempts"]["failed"]:
        note(
            "no limit was reached, so nobody else was asked: upstream.stream_first_byte_s,"
            " upstream.idle_s and circuits.slow_s say what is too slow."
        )
