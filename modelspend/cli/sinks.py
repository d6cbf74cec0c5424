"""`sinks list|forget`: everyone whom the ledger is sent to, and letting go of one that is gone.

A sink whose section was taken out or renamed keeps its place and what waits for it until its
section is back or it is let go of here.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelspend.cli.context import Here, here
from modelspend.cli.output import Json, draw, write_json
from modelspend.errors import DaemonUnreachable, NotFound, SinkInUse, Usage
from modelspend.sinks import BY_ENVIRONMENT, section_of, sections, without_section

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modelspend.settings import Settings
    from modelspend.sinks import Standing

app = typer.Typer(help="See whom the ledger is sent to; let go of who is not configured any more.")

LISTED = ("name", "state", "sent", "dropped", "queued", "lag_s", "last_error")
"""The columns of a piped list; scripts rely on their names and their order."""


@app.command("list")
def list_(ctx: typer.Context, json: Json = False) -> None:
    """List every sink that the ledger knows: on, off or left behind, and what waits for it."""
    at = here(ctx)
    known = _standings(at)
    states = _states(at, [one.name for one in known])
    rows = [{**one.to_json(), "state": states(one.name)} for one in known]
    if json:
        write_json(rows)
        return
    draw(LISTED, [["" if row[c] is None else str(row[c]) for c in LISTED] for row in rows],
         right=("sent", "dropped", "queued", "lag_s"), fold="last_error")  # fmt: skip
    for row in rows:
        if row["state"] == LEFT:
            name = row["name"]
            let_go = at.typed(f"modelspend sinks forget {name} --yes")
            back = f"To have {name} go on, put {section_of(name)} back"
            typer.echo(f"{back}; to let it go: {let_go}", err=True)


ON, OFF, LEFT = "on", "off", "left behind"


def _states(at: Here, known: "Sequence[str]") -> "Callable[[str], str]":
    """What a sink is, by its name: as the sidecar has it, else by what the file says."""
    from modelspend.cli.client import find

    try:
        told = find(at.ledger).get("/v1/status")
        running = {one["name"] for one in told["sinks"]}
        left = set(told.get("sinks_left_behind", ()))
    except DaemonUnreachable:
        settings = at.load().settings
        left = set(without_section(known, settings))
        running = {name for name in known if _on(name, settings)}
    return lambda name: LEFT if name in left else ON if name in running else OFF


def _on(name: str, settings: "Settings") -> bool:
    """Whether the file lets it run; what the sidecar's variables say is not known here."""
    if name == "otlp":
        return settings.otlp.enabled
    if name in BY_ENVIRONMENT:
        own = {"datadog:logs": settings.datadog.logs, "datadog:metrics": settings.datadog.metrics}
        return settings.datadog.enabled and own[name]
    return sections(settings).get(name, False)


def _standings(at: Here) -> "list[Standing]":
    from modelspend.cli.reading import read

    if not at.ledger.exists():
        return []
    return read(at.ledger, lambda store: store.sinks.standings(at.now_ms()))


@app.command()
def forget(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A sink, as sinks list names it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Let go of what waits for it, too.")] = False,
    json: Json = False,
) -> None:
    """Let go of a sink that nothing asks for any more: its place, and what waits for it."""
    from urllib.parse import quote

    from modelspend.cli.client import through_its_holder

    at = here(ctx)
    known = {one.name: one for one in _standings(at)}
    if name not in known:
        raise NotFound(f"There is no sink {name}.", f"Known: {', '.join(known) or 'none'}.")
    if not yes:
        raise Usage(
            f"{known[name].queued} wait for {name}, which would never be told of them.",
            f"Do it: modelspend sinks forget {name} --yes",
        )
    told = through_its_holder(
        at.ledger,
        lambda daemon: daemon.call("DELETE", f"/v1/sinks?name={quote(name)}"),
        lambda: _alone(at, name),
    )
    if json:
        write_json(told)
    else:
        typer.echo(f"{name} is forgotten; {told['queued']} waited for it.")


def _alone(at: Here, name: str) -> dict[str, Any]:
    """While no sidecar runs. Raises SinkInUse for one that the next start would begin anew."""
    import asyncio

    from modelspend.store import Store

    if sections(at.load().settings).get(name):
        raise SinkInUse(f"{section_of(name)} asks for {name}.", "Take it out first.")

    async def let_go() -> "Standing | None":
        store = await Store.open(at.ledger)
        try:
            return await store.sinks.let_go(name, at.now_ms())
        finally:
            await store.close()

    gone = asyncio.run(let_go())
    if gone is None:
        raise NotFound(f"There is no sink {name}.", "See: modelspend sinks list")
    return gone.to_json()
