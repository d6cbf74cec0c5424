"""What is written beside an export: a signed manifest of the file, and a checkpoint in it.

An export is whole without it, so where none can be signed that is said and no error.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from modelspend.cli.context import note
from modelspend.cli.output import aside

if TYPE_CHECKING:
    from modelspend.chain import Checkpoint
    from modelspend.cli.context import Here
    from modelspend.exported import Numbers


def beside(file: Path) -> Path:
    """Where the manifest of an exported file lies."""
    return file.with_name(file.name + ".checkpoint.json")


def prove(at: "Here", file: Path, numbers: "Numbers | None", *, complete: bool) -> None:
    """Sign a manifest of an exported file and write it beside; `numbers` are its receipts'."""
    from hashlib import file_digest

    from modelspend.errors import ModelspendError
    from modelspend.exported import Manifest, sign_manifest
    from modelspend.places import checkpoint_key
    from modelspend.store.signed_checkpoints import make_key

    try:
        checkpoint = signed(at)
        key = make_key(checkpoint_key(at.ledger))
    except (ModelspendError, OSError) as error:
        said = error.message if isinstance(error, ModelspendError) else str(error)
        note(f"no checkpoint was written beside it. {said}")
        return
    with file.open("rb") as written:
        found = file_digest(written, "sha256").hexdigest()
    manifest = Manifest(
        file=file.name,
        sha256=found,
        complete=complete and numbers is not None,
        numbers=None if numbers is None else numbers.ranges,
        links_hash=None if numbers is None else numbers.links_hash,
        checkpoint=checkpoint,
    )
    write(beside(file), sign_manifest(manifest, key).to_json())
    typer.echo(f"Written: {beside(file)} (keep it elsewhere: modelspend help verify)", err=True)


def signed(at: "Here") -> "Checkpoint":
    """A checkpoint of the ledger as it is now, kept in it. Raises CheckFailed."""
    from modelspend.store import Store

    async def make() -> "Checkpoint":
        store = await Store.open_notes(at.ledger)
        try:
            return await store.checkpoints.make(at.now_ms())
        finally:
            await store.close()

    return asyncio.run(make())


def write(file: Path, said: object) -> None:
    """One JSON object as a file for this user alone, whole or not at all."""
    from modelspend.money import dumps

    with aside(file) as new:
        new.write(dumps(said, indent=True) + b"\n")
