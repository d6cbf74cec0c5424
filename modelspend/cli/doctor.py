"""`doctor`: numbered checks with ids that never change, each with what was found and what to do.

A check that fails makes the exit code 6; a warning does not. The checks themselves are in
`checks.py`.
"""

from typing import Annotated

import typer

from modelspend.cli.context import here
from modelspend.cli.output import Json, draw, write_json


def doctor(
    ctx: typer.Context,
    full: Annotated[
        bool, typer.Option("--full", help="Read the whole ledger: every page, the hash chain.")
    ] = False,
    json: Json = False,
) -> None:
    """Check the configuration, the ledger, the sidecar and this shell; exit 6 if a check fails."""
    from dataclasses import replace

    from modelspend.cli.checks import Level, examine
    from modelspend.errors import CheckFailed

    at = here(ctx)
    found = [replace(one, next=at.typed(one.next or "") or None) for one in examine(at, full=full)]
    failed = [each for each in found if each.level is Level.FAIL]
    if json:
        write_json(
            {
                "ok": not failed,
                "checks": [
                    {
                        "id": c.id,
                        "name": c.name,
                        "status": c.level,
                        "found": c.found,
                        "next": c.next,
                    }
                    for c in found
                ],
            }
        )
    else:
        draw(
            ("id", "check", "status", "found", "next"),
            [(c.id, c.name, c.level, c.found, c.next or "") for c in found],
        )
    if failed:
        names = ", ".join(f"{each.id} {each.name}" for each in failed)
        raise CheckFailed(f"{len(failed)} of {len(found)} checks failed: {names}.")
