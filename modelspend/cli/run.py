"""`modelspend run`: one program under the sidecar, and what it cost.

The program gets base URLs and a throw-away key in place of the real ones, so whatever it does is
carried, tagged and counted, and it holds no secret that it could lose. A sidecar that runs already
is used; else one is started for as long as it is needed.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from modelspend.cli.context import here
from modelspend.errors import DaemonUnreachable, ExitCode, Usage

if TYPE_CHECKING:
    from modelspend.cli.client import Daemon
    from modelspend.cli.run_summary import Summary
    from modelspend.store import Store

_SETTLE_S = 2.0
_LOOK_S = 0.02
_PAGE = 1_000


def run(
    ctx: typer.Context,
    command: Annotated[
        list[str], typer.Argument(metavar="-- CMD…", help="The program and its own arguments.")
    ],
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="NAME=VALUE", help="A tag for every receipt of the run."),
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who pays, whatever the program says.")
    ] = None,
    workflow: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which job, unless the program says.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the summary there, too.")
    ] = None,
    max_usd: Annotated[
        str | None,
        typer.Option("--max-usd", metavar="USD", help="Refuse calls that could pass this."),
    ] = None,
) -> None:
    """Run a program under the sidecar; say on stderr what it cost; exit with its exit code.

    Base URLs and a throw-away key are set for the program alone. Its receipts carry the tags, and
    run=ID. When it fails after its cap has refused a call, the exit code is 7.
    """
    from modelspend.cli import run_child, run_sidecar
    from modelspend.cli.eval_purse import cap_of
    from modelspend.cli.reading import read
    from modelspend.money import usd_text

    cap = cap_of(max_usd)
    at = here(ctx)
    asked = {"tenant": tenant, "workflow": workflow, "tags": _tags(tag or [])}
    if cap is not None:
        asked["max_usd"] = usd_text(cap)
    program = run_child.find(command[0], at.env)
    loaded = at.load()
    with ExitStack() as open_:
        file = open_.enter_context(json.open("wb")) if json else None
        daemon = open_.enter_context(run_sidecar.found_or_started(at))
        since, began = read(at.ledger, last_seq), time.monotonic()
        with run_sidecar.opened(daemon, asked) as (run_id, key):
            env = run_child.environment(at.env, loaded.settings, daemon.url, key)
            code = run_child.carry([program, *command[1:]], env)
        took_s = round(time.monotonic() - began, 3)
        settled(daemon)
        summary = read(at.ledger, lambda store: _summary(store, since, run_id))
        summary.cap_pico = cap
        if code and summary.over_budget:
            code = int(ExitCode.BUDGET)
        for line in summary.told(took_s, str(at.config) if at.config else None):
            typer.echo(line, err=True)
        if file:
            _write(file, {"exit_code": code, "took_s": took_s, **summary.to_json()})
    raise typer.Exit(code)


def _tags(texts: Sequence[str]) -> dict[str, str]:
    tags = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise Usage(f"--tag {text!r} is not NAME=VALUE.", "Such as: --tag team=search")
        if name == "run":
            raise Usage("The tag run is the run's own id.", "Choose another name.")
        tags[name] = value
    return tags


def settled(daemon: "Daemon") -> None:
    """Wait a moment for calls that the program left behind, so that their receipts are counted."""
    patience = time.monotonic() + _SETTLE_S
    with suppress(DaemonUnreachable):
        while daemon.get("/v1/status")["in_flight"] and time.monotonic() < patience:
            time.sleep(_LOOK_S)


async def last_seq(store: "Store") -> int:
    """The number of the newest receipt."""
    return (await store.meta.info()).last_seq


async def _summary(store: "Store", since: int, run_id: str) -> "Summary":
    """The sums over the receipts of one run, all of them written after `since`."""
    from modelspend.cli.run_summary import Summary
    from modelspend.gateway.runs import RUN_TAG

    summary = Summary(run_id)
    while found := await store.receipts.after(since, limit=_PAGE):
        for stored in found:
            if stored.receipt.tags.get(RUN_TAG) == run_id:
                summary.add(stored.receipt)
        since = found[-1].seq
    return summary


def _write(file: IO[bytes], shape: Mapping[str, Any]) -> None:
    from modelspend.money import dumps

    file.write(dumps(shape, indent=True) + b"\n")
