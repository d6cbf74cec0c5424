"""`circuits list|history|trip|reset`: who is asked now, how that changed, and having it otherwise.

A trip or reset is an order in the ledger: a running sidecar obeys it within seconds, which is
waited for; without one it holds from the next start on.
"""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelspend.cli.context import Here, here, note
from modelspend.cli.filters import Limit, ProviderName, Since, Until, instant
from modelspend.cli.output import Json, draw, write_json
from modelspend.errors import DaemonUnreachable, NotFound, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelspend.circuits import Order
    from modelspend.events import Event
    from modelspend.sections import Circuits as Rules
    from modelspend.store import Store

app = typer.Typer(help="Look at the circuits of providers, open and close them by hand.")

Named = Annotated[
    str, typer.Argument(help="A provider, or provider/model.", metavar="PROVIDER[/MODEL]")
]

_PATIENCE_S = 5.0
_LOOK_S = 0.1


@app.command("list")
def list_(ctx: typer.Context, provider: ProviderName = None, json: Json = False) -> None:
    """List the circuits: of the running sidecar, else as the last one left them."""
    at = here(ctx)
    found = [one for one in _standing(at) if provider in (None, one["provider"])]
    if json:
        write_json(found)
        return
    draw(LISTED, [_cells(one, LISTED) for one in found], right=("trips", "failures", "calls"),
         spare=("since", "key_id", "trips", "reason", "drill"))  # fmt: skip
    closed = sum(one["state"] == "closed" for one in found)
    for name, fault in sorted({(one["provider"], one["drill"]) for one in found if one["drill"]}):
        note(f"a drill ({fault}) stands in front of {name}.")
    if found:
        typer.echo(f"{len(found)} circuits, {len(found) - closed} of them not closed.", err=True)
    else:
        typer.echo("No circuit yet: one is there once its model was asked.", err=True)


@app.command()
def history(
    ctx: typer.Context,
    provider: ProviderName = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """Show how circuits opened and recovered, newest first."""
    from modelspend.cli.reading import read

    at = here(ctx)
    times = instant("--since", since, at.now_ms()), instant("--until", until, at.now_ms())
    found = read(
        at.ledger,
        lambda store: store.circuits.history(
            provider=provider, since_ms=times[0], until_ms=times[1], limit=limit
        ),
    )
    shapes = [_shape(event) for event in found]
    if json:
        write_json(shapes)
        return
    draw(HISTORY, [_cells(one, HISTORY) for one in shapes], right=("trips", "wait_s"),
         spare=("incident_id", "key_id", "trips", "failure_class"))  # fmt: skip


@app.command()
def trip(
    ctx: typer.Context,
    name: Named,
    length: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="So long, such as 10m; else until it is reset."),
    ] = None,
    json: Json = False,
) -> None:
    """Open a circuit by hand: nothing is sent there, whatever is asked for."""
    from modelspend import periods
    from modelspend.circuits import Order

    at = here(ctx)
    provider, model = _known(name, at)
    now_ms = at.now_ms()
    try:
        until_ms = None if length is None else now_ms + periods.duration_s(length) * 1000
    except ValueError as error:
        raise Usage(f"--for: {error}.") from None
    order = Order(act="trip", provider=provider, model=model, at_ms=now_ms, until_ms=until_ms)
    _give(at, order, json, f"{name} is open" + (f" for {length}." if length else " until reset."))


@app.command()
def reset(ctx: typer.Context, name: Named, json: Json = False) -> None:
    """Close circuits by hand, and forget what they had seen: all of a provider, or one model's."""
    from modelspend.circuits import Order

    at = here(ctx)
    provider, model = _known(name, at)
    order = Order(act="reset", provider=provider, model=model, at_ms=at.now_ms())
    _give(at, order, json, f"{name} is closed.")


LISTED = (
    "provider", "model_id", "key_id", "state", "reason", "failure_class", "failures", "calls",
    "trips", "since", "retry_at", "drill",
)  # fmt: skip
HISTORY = (
    "created_at", "provider", "model_id", "key_id", "event", "reason", "failure_class", "trips",
    "wait_s", "incident_id",
)  # fmt: skip
"""The columns of piped lists; scripts rely on their names and their order."""


def _standing(at: Here) -> list[dict[str, Any]]:
    from modelspend.cli.client import find
    from modelspend.cli.reading import read

    try:
        items: list[dict[str, Any]] = find(at.ledger).get("/v1/circuits")["items"]
        return items
    except DaemonUnreachable:
        rules = at.load().settings.circuits
        return read(at.ledger, lambda store: as_left(store, rules, at.now_ms()))


async def as_left(store: "Store", rules: "Rules", now_ms: int) -> list[dict[str, Any]]:
    """As a sidecar that starts now would find them, its orders obeyed."""
    from modelspend.circuits import Circuits

    circuits, now = Circuits(rules), now_ms / 1000
    circuits.restore(await store.circuits.saved(), now, now_ms)
    for order in await store.circuits.orders():
        circuits.obey(order, now, now_ms)
    return [view.to_json(now_ms) | {"drill": None} for view in circuits.views(now)]


def _shape(event: "Event") -> dict[str, Any]:
    from modelspend.receipt_json import iso

    said = dict(event.data)
    everything = said.get("key_id") == "*"
    return {
        "seq": event.seq,
        "created_at": iso(event.at_ms),
        "event": event.kind,
        **said,
        "model_id": None if everything and said.get("model_id") == "*" else said.get("model_id"),
        "key_id": None if everything else said.get("key_id") or None,
    }


def _cells(one: "Mapping[str, Any]", columns: tuple[str, ...]) -> list[str]:
    return ["" if one.get(name) is None else str(one[name]) for name in columns]


def _known(name: str, at: Here) -> tuple[str, str | None]:
    """(provider, model) of a name. Raises NotFound for a provider that nobody knows."""
    from modelspend.catalog import Catalog

    provider, slash, model = name.partition("/")
    known = Catalog.load(at.load().settings.providers, at.env).known
    if provider not in known or (slash and not model):
        raise NotFound(
            f"There is no provider {provider!r}."
            if provider not in known
            else f"{name}: no model.",
            f"Providers: {', '.join(sorted(known))}.",
        )
    return provider, model or None


def _give(at: Here, order: "Order", json: bool, done: str) -> None:
    """Leave the order, and wait for a sidecar that runs to obey it."""
    import asyncio

    from modelspend.receipt_json import iso
    from modelspend.store import Store, read_lock

    async def give() -> bool:
        store = await Store.open_notes(at.ledger)
        try:
            number = await store.circuits.order(order)
            patience = time.monotonic() + (_PATIENCE_S if read_lock(at.ledger) else 0)
            while time.monotonic() < patience:
                if number not in {one.order_id for one in await store.circuits.orders()}:
                    return True
                await asyncio.sleep(_LOOK_S)
            return False
        finally:
            await store.close()

    in_force = asyncio.run(give())
    if json:
        until = None if order.until_ms is None else iso(order.until_ms)
        named = {"provider": order.provider, "model_id": order.model}
        write_json({"act": order.act, **named, "until": until, "in_force": in_force})
        return
    typer.echo(done if in_force else f"Noted: {done}")
    if not in_force:
        note("no sidecar has taken it yet; it holds from its next start on.")
