"""`replay RECEIPT`: a call once more, of the same model or another, and what is different.

The running sidecar sends it; without one, a sidecar is started for as long as it takes. Many calls
at once (`--where`) are `replay_many.py`'s.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modelspend.cli.context import Here, here
from modelspend.cli.output import Json, write_json
from modelspend.errors import BudgetExceeded, ExitCode, Usage

if TYPE_CHECKING:
    from modelspend.cli.client import Daemon

PATIENCE_S = 1810.0  # the sidecar gives an answer up to upstream.total_s, 1800 by default


def replay(
    ctx: typer.Context,
    receipt: Annotated[
        str | None, typer.Argument(metavar="RECEIPT", help="A receipt's id, its start, or last.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Ask this model instead.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="Let this profile choose the model.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, max=100, help="Replay it so many times.")] = 1,
    system: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With this system prompt.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="With this value in its body."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent, keys masked; send nothing.")
    ] = False,
    max_usd: Annotated[
        str | None, typer.Option("--max-usd", metavar="USD", help="Spend no more than this.")
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache", help="A kept answer will do, where there is one.")
    ] = False,
    where: Annotated[
        str | None,
        typer.Option(metavar="CONDITIONS", help="Many: 'model=gpt-4.1 category=chat since=7d'."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With --where: only so many of them.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --where: keep results there, and go on from them."),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --where: write what `eval import` reads."),
    ] = None,
    agree: Annotated[
        Literal["exact", "contains"],
        typer.Option(help="With --where: when an answer agrees with the original."),
    ] = "exact",
    json: Json = False,
) -> None:
    """Send a call once more, as a new receipt, and show what is different.

    The same model is asked, or another, in its own protocol. Caps, circuits and routing hold as for
    any call. Exit code 3 when its request is no longer kept, 7 when a cap refused it.
    """
    from modelspend.cli.eval_purse import cap_of
    from modelspend.cli.reading import one, read
    from modelspend.cli.replay_show import told
    from modelspend.cli.run_sidecar import found_or_started

    if model and profile:
        raise Usage("--model and --profile exclude each other.", "Choose one of them.")
    at, cap = here(ctx), cap_of(max_usd)
    asked = wish(at, model, profile, system, set_ or [], cache=cache)
    if (receipt is None) == (where is None):
        raise Usage("Name one receipt, or --where for many.", "Such as: modelspend replay last")
    if where is not None:
        from modelspend.cli.replay_many import Plan, go

        if dry_run or n > 1:
            raise Usage("--dry-run and --n are for one receipt.", "Leave them out with --where.")
        plan = Plan(
            where=where,
            sample=sample,
            asked=asked,
            cap_pico=cap,
            agree=agree,
            out=out,
            scores=scores,
        )
        go(at, plan, json=json)
        return
    assert receipt is not None
    found = read(at.ledger, lambda store: one(store, receipt)).receipt.receipt_id
    with found_or_started(at) as daemon:
        if dry_run:
            _show_request(again(daemon, found, {**asked, "dry_run": True}), json=json)
            return
        replays = _times(daemon, found, asked, n, cap)
    first = replays[0]
    said = {**first, "replays": [each["replay"] for each in replays]} if n > 1 else first
    if n > 1:
        said["spread"] = _spread(replays)
    if json:
        write_json(said)
    else:
        told(said)
    if any(each["replay"]["execution"]["status"] not in ("success", "cached") for each in replays):
        raise typer.Exit(ExitCode.FAILED)


def wish(
    at: Here,
    model: str | None,
    profile: str | None,
    system: Path | None,
    changes: Sequence[str],
    *,
    cache: bool,
) -> dict[str, Any]:
    """What a replay is asked for, as the sidecar takes it. Raises Usage."""
    asked: dict[str, Any] = {"model": model, "profile": profile, "set": _changes(changes)}
    if system is not None:
        try:
            asked["system"] = system.read_text("utf-8")
        except UnicodeDecodeError:
            raise Usage(f"{system} is not UTF-8 text.", "Write the prompt as text.") from None
    return {**asked, "cache": "on" if cache else "off"}


def again(daemon: "Daemon", receipt_id: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """One replay. Raises what the sidecar refused it with."""
    path = f"/v1/receipts/{receipt_id}/replay"
    told: dict[str, Any] = daemon.post(path, asked, patience_s=PATIENCE_S)
    return told


def cost_pico(receipt: Mapping[str, Any]) -> int:
    """What a receipt counts in a cap: its cost, or its hold where that is not known."""
    from modelspend.money import from_usd

    return from_usd(receipt["execution"]["charged_usd"])


def _times(
    daemon: "Daemon", receipt_id: str, asked: Mapping[str, Any], n: int, cap: int | None
) -> list[dict[str, Any]]:
    from modelspend.money import usd_text

    replays: list[dict[str, Any]] = []
    for _ in range(n):
        capped = dict(asked)
        if cap is not None:
            spent = sum(cost_pico(each["replay"]) for each in replays)
            capped["max_usd"] = usd_text(max(cap - spent, 0))
        try:
            replays.append(again(daemon, receipt_id, capped))
        except BudgetExceeded as why:
            if not replays:
                raise
            done = f"{len(replays)} of {n} replays were made; the next was refused. "
            raise BudgetExceeded(done + why.message, why.hint) from None
    return replays


def _spread(replays: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    from modelspend.receipt_json import from_json
    from modelspend.replays import spread

    receipts = [from_json(each["replay"]) for each in replays]
    return spread(receipts, [each["diff"]["answer"] for each in replays])


def _changes(texts: Sequence[str]) -> dict[str, Any]:
    """`place=value`, the value as JSON where it is some, else as text."""
    import json

    changes: dict[str, Any] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        if not equals or not place:
            raise Usage(f"--set {text!r} is not PATH=VALUE.", "Such as: --set temperature=0")
        changes[place] = value
        with suppress(ValueError):
            changes[place] = json.loads(value)
    return changes


def _show_request(told: Mapping[str, Any], *, json: bool) -> None:
    request = told["request"]
    if json:
        write_json(request)
        return
    typer.echo(f"{request['method']} {request['url']}")
    for name, value in request["headers"]:
        typer.echo(f"{name}: {value}")
    typer.echo("")
    typer.echo(request.get("body", request.get("body_base64")))
