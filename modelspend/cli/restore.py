"""`restore FILE`: a backup takes the ledger's place; what was there is kept under another name.

A running sidecar is drained first, once the backup has been checked, and started again afterwards
where `up` or systemd had started it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelspend.cli.context import Here, here, note
from modelspend.cli.output import Json, Progress, draw, write_json

if TYPE_CHECKING:
    from modelspend.store.backup import Holding
    from modelspend.store.restore import Restored


def restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup of a ledger.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Replace the ledger; its file is kept under a new name.")
    ] = False,
    json: Json = False,
) -> None:
    """Go back to a backup: drain the sidecar, swap the files, say in the chain that it was done.

    Numbers, caps and what they have spent go on. See: modelspend help backup.
    """
    from shlex import quote

    from modelspend.cli.down import stopped
    from modelspend.errors import Usage
    from modelspend.store import restore as store

    at = here(ctx)
    file = file.expanduser().absolute()
    store.refuse_names(at.ledger, file)
    held = _checked(at, file)
    if not yes:
        raise Usage(
            f"This would replace {at.ledger} by a backup of {_when(held.made_at_ms)} with"
            f" {held.receipts:,} receipts, up to number {held.last_seq:,}.",
            f"Do it (the old file is kept): modelspend restore {quote(str(file))} --yes",
        )
    with stopped(at), Progress("pages, then numbers") as progress:
        done = store.restore(at.ledger, file, at.now_ms(), progress=progress.tell)
    if json:
        write_json(_shape(at, done))
    else:
        draw(("what", "value"), _rows(at, done))
    if not done.numbers_known:
        note(
            "the ledger of this backup is not there or cannot be read: what was spent after the"
            " backup is not in the caps."
        )


def _checked(at: Here, file: Path) -> "Holding":
    """What the backup holds, once it is known to be sound. Raises CheckFailed."""
    from modelspend.errors import LedgerCorrupt
    from modelspend.places import checkpoint_key
    from modelspend.store import backup
    from modelspend.store.restore import ANOTHER
    from modelspend.store.signed_checkpoints import read_key

    key = read_key(checkpoint_key(at.ledger))
    with Progress("numbers checked") as progress:
        try:
            backup.examine(file, str(file), hint=ANOTHER, key=key, progress=progress.tell)
        except LedgerCorrupt as error:  # of another program, or of a newer one of ours
            raise LedgerCorrupt(error.message, ANOTHER) from None
    return backup.holding(file)


def _when(at_ms: int) -> str:
    from modelspend.receipt_json import iso

    return iso(at_ms)


def _shape(at: Here, done: "Restored") -> dict[str, Any]:
    from modelspend.cli.backup import shape

    return {
        "ledger": str(at.ledger),
        "kept_as": None if done.aside is None else str(done.aside),
        "restored": shape(done.holding),
        "lost_receipts": done.lost,
        "continues_at": done.continues_at,
    }


def _rows(at: Here, done: "Restored") -> list[tuple[str, str]]:
    held, kept = done.holding, done.aside
    lost = "not known"
    if done.lost is not None:
        lost = f"{done.lost:,} receipts; they are in the old file"
    return [
        ("ledger", str(at.ledger)),
        ("restored from", f"{held.path}, made {_when(held.made_at_ms)}"),
        ("receipts", f"{held.receipts:,}, up to number {held.last_seq:,}"),
        ("after the backup", lost),
        ("old file", "none was there" if kept is None else str(kept)),
        ("goes on at number", f"{done.continues_at:,}"),
    ]
