"""`backup FILE`: a checked copy of the ledger, made beside a running sidecar or without one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelspend.cli.context import here
from modelspend.cli.output import Json, Progress, draw, write_json

if TYPE_CHECKING:
    from modelspend.store.backup import Holding


def backup(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy is written.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Replace a file that is there already.")
    ] = False,
    json: Json = False,
) -> None:
    """Copy the ledger to a file while calls go on, and check every page and link of the copy.

    The key that signs checkpoints is not in it. See: modelspend help backup.
    """
    from modelspend.store.backup import make
    from modelspend.store.ledger import bring_up

    at = here(ctx)
    bring_up(at.ledger, make=False)
    with Progress("pages, then numbers") as progress:
        held = make(
            at.ledger,
            file.expanduser().absolute(),
            at.now_ms(),
            overwrite=yes,
            progress=progress.tell,
        )
    if json:
        write_json(shape(held))
    else:
        draw(("what", "value"), rows(held))


def shape(held: "Holding") -> dict[str, Any]:
    """What a backup holds, as JSON."""
    from modelspend.receipt_json import iso

    def when(at_ms: int | None) -> str | None:
        return None if at_ms is None else iso(at_ms)

    return {
        "file": str(held.path),
        "bytes": held.size,
        "made_at": iso(held.made_at_ms),
        "ledger_id": held.ledger_id,
        "receipts": held.receipts,
        "events": held.events,
        "bodies": held.bodies,
        "open_calls": held.open_intents,
        "last_seq": held.last_seq,
        "first_at": when(held.oldest_ms),
        "last_at": when(held.newest_ms),
        "breaks": held.breaks,
    }


def rows(held: "Holding") -> list[tuple[str, str]]:
    """The same for people."""
    told = shape(held)
    span = f"{told['first_at']} to {told['last_at']}" if held.receipts else "none yet"
    lines = [
        ("file", told["file"]),
        ("size", f"{held.size / 2**20:.1f} MiB"),
        ("made at", told["made_at"]),
        ("ledger", held.ledger_id),
        ("receipts", f"{held.receipts:,}, {span}"),
        ("events", f"{held.events:,}"),
        ("bodies", f"{held.bodies:,}"),
        ("last number", f"{held.last_seq:,}"),
    ]
    if held.open_intents:
        noun = "call was" if held.open_intents == 1 else "calls were"
        lines.append(("under way", f"{held.open_intents:,} {noun}; a restore closes each"))
    return [*lines, ("checked", "every page and every link of the chain")]
