"""`webhooks list|test|deliveries|dead|retry`: who is told, what became of it, and sending it again.

All of it is read from the file and the ledger, with a sidecar or without one. What `retry` gives
back to the queue goes out within seconds where a sidecar runs, else after the next start.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelspend.cli.context import Here, here
from modelspend.cli.filters import Limit
from modelspend.cli.output import Json, draw, write_json
from modelspend.errors import CheckFailed, NotFound, Usage

if TYPE_CHECKING:
    from modelspend.sink_sections import Webhook
    from modelspend.sinks import Standing
    from modelspend.store import Store
    from modelspend.store.webhooks import Delivery

app = typer.Typer(help="See who is told of events, try it, and send again what could not be sent.")

Only = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this webhook.")]


@app.command("list")
def list_(ctx: typer.Context, json: Json = False) -> None:
    """List the configured webhooks: what each is told, what was sent, what waits."""
    at = here(ctx)
    sections = at.load().settings.webhooks
    known = {one.name: one for one in _standings(at)}
    rows = [_row(name, one, known.get(f"webhook:{name}")) for name, one in sections.items()]
    if json:
        write_json(rows)
        return
    draw(LISTED, [["" if row[c] is None else str(row[c]) for c in LISTED] for row in rows],
         right=("sent", "dead", "queued"), spare=("signed", "tenant"))  # fmt: skip
    if not rows:
        typer.echo("No webhook is configured: modelspend help webhooks", err=True)


LISTED = ("name", "to", "types", "tenant", "signed", "sent", "dead", "queued", "last_error")


def _row(name: str, one: "Webhook", standing: "Standing | None") -> dict[str, Any]:
    """The host alone: the rest of an address may be a secret."""
    from urllib.parse import urlsplit

    return {
        "name": name,
        "to": f"${one.url_env}" if one.url_env else urlsplit(one.url or "").netloc,
        "types": ",".join(one.types),
        "tenant": one.tenant,
        "signed": "yes" if one.secrets else "no",
        "enabled": one.enabled,
        "sent": standing.sent if standing else 0,
        "dead": standing.dropped if standing else 0,
        "queued": standing.queued if standing else 0,
        "last_error": standing.error if standing else None,
    }


def _standings(at: Here) -> "list[Standing]":
    from modelspend.cli.reading import read

    if not at.ledger.exists():
        return []
    return read(at.ledger, lambda store: store.sinks.standings(at.now_ms()))


@app.command("test")
def try_(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The webhook to try.")],
    json: Json = False,
) -> None:
    """Send one `webhook.test` from here and show the answer; exit 6 unless it is taken."""
    import asyncio
    import secrets

    from modelspend.exporters.http import Door, NotNow
    from modelspend.exporters.webhooks import endpoint, post, trial_body

    at = here(ctx)
    section = _section(at, name)
    to = endpoint(name, section, at.env)

    async def send() -> tuple[int | None, str | None]:
        door = Door(allow_private=section.allow_private, timeout_s=section.timeout_s)
        async with door:
            try:
                message_id = f"msg_test_{secrets.token_hex(8)}"
                now_ms = at.now_ms()
                answer = await post(door, to, message_id, trial_body(now_ms), now_ms)
            except NotNow as error:
                return None, error.text
            return answer.status, None if answer.ok else f"HTTP {answer.status}"

    status, error = asyncio.run(send())
    if json:
        write_json({"webhook": name, "ok": error is None, "http_status": status, "error": error})
    else:
        draw(("webhook", "http_status", "error"), [(name, str(status or ""), error or "")])
    if error is not None:
        raise CheckFailed(
            f"{name} did not take the test: {error}.", "See: modelspend help webhooks"
        )


def _section(at: Here, name: str) -> "Webhook":
    sections = at.load().settings.webhooks
    if name not in sections:
        known = ", ".join(sections) or "none"
        raise NotFound(f"There is no webhook {name}.", f"Configured: {known}.")
    return sections[name]


@app.command()
def deliveries(
    ctx: typer.Context,
    name: Only = None,
    status: Annotated[
        str | None, typer.Option(help="pending, delivered or dead.", metavar="STATUS")
    ] = None,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """List deliveries, newest first: tries, the last answer, when the next try is due."""
    if status not in (None, "pending", "delivered", "dead"):
        raise Usage(f"--status: {status} is none.", "Write pending, delivered or dead.")
    _show(_deliveries(here(ctx), name, status, limit), json)


@app.command()
def dead(ctx: typer.Context, name: Only = None, limit: Limit = 50, json: Json = False) -> None:
    """List dead letters, newest first; they can be sent again: webhooks retry."""
    found = _deliveries(here(ctx), name, "dead", limit)
    _show(found, json)
    if found:
        again = here(ctx).typed("modelspend webhooks retry --all")
        typer.echo(f"Send them again: {again}", err=True)


def _deliveries(at: Here, name: str | None, status: str | None, limit: int) -> "list[Delivery]":
    from modelspend.cli.reading import read

    async def ask(store: "Store") -> "list[Delivery]":
        return await store.webhooks.list(webhook=name, status=status, limit=limit)

    return read(at.ledger, ask)


DELIVERED = ("delivery_id", "webhook", "seq", "type", "status", "attempts", "http_status", "due_at",
             "error", "created_at")  # fmt: skip


def _show(found: "list[Delivery]", json: bool) -> None:
    shapes = [one.to_json() for one in found]
    if json:
        write_json(shapes)
        return
    rows = [["" if one[c] is None else str(one[c]) for c in DELIVERED] for one in shapes]
    draw(DELIVERED, rows, right=("seq", "attempts"), spare=("created_at", "due_at"))
    typer.echo(f"{len(shapes)} deliveries.", err=True)


@app.command()
def retry(
    ctx: typer.Context,
    delivery_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Dead letters.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    webhook: Annotated[
        str | None, typer.Option("--webhook", metavar="NAME", help="With --all: of this one.")
    ] = None,
    json: Json = False,
) -> None:
    """Put dead letters back into the queue, due at once; under the same webhook-id as before."""
    import asyncio

    from modelspend.store import Store

    if bool(delivery_ids) == all_:
        raise Usage("Name dead letters, or write --all.", "See: modelspend webhooks dead")
    at = here(ctx)

    async def revive() -> int:
        store = await Store.open_notes(at.ledger)
        try:
            count, more = 0, list(delivery_ids or [])
            while True:
                if all_:
                    more = list(await store.webhooks.letters(webhook, _AT_ONCE))
                done = await store.webhooks.retry(more, at.now_ms()) if more else 0
                count += done
                if not (all_ and done):
                    return count
        finally:
            await store.close()

    count = asyncio.run(revive())
    if json:
        write_json({"retried": count})
    if delivery_ids and count < len(set(delivery_ids)):
        missing = len(set(delivery_ids)) - count
        raise NotFound(
            f"{missing} of these are no dead letters, or of a webhook that is off or gone.",
            "See: modelspend webhooks dead; modelspend sinks list",
        )
    typer.echo(f"{count} dead letters are in the queue again.", err=True)


_AT_ONCE = 500
