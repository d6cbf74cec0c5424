"""`alerts test`: say something harmless in each channel, from here, and show what came back."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelspend.cli.context import Here, here
from modelspend.cli.output import Json, draw, write_json
from modelspend.errors import CheckFailed, NotFound, Usage

if TYPE_CHECKING:
    from modelspend.exporters.channels import Channel

_COLUMNS = ("channel", "ok", "answer")


def try_(
    ctx: typer.Context,
    channel: Annotated[
        str | None,
        typer.Argument(metavar="[CHANNEL]", help="NAME or KIND:NAME; all without one."),
    ] = None,
    json: Json = False,
) -> None:
    """Send a trial to a channel, or to all of them; exit 6 unless it is taken."""
    import asyncio

    at = here(ctx)
    found = _chosen(_channels(at), channel)
    told = asyncio.run(_tried(found, at.now_ms()))
    if json:
        write_json(told)
    else:
        draw(_COLUMNS, [(one["channel"], "yes" if one["ok"] else "no", one["answer"])
                        for one in told])  # fmt: skip
    failed = [one["channel"] for one in told if not one["ok"]]
    if failed:
        are = "channel has" if len(failed) == 1 else "channels have"
        raise CheckFailed(
            f"{len(failed)} {are} not taken the trial: {', '.join(failed)}.",
            "See: modelspend help alerts",
        )


def _channels(at: Here) -> "list[Channel]":
    """Every channel that is configured. Raises ConfigInvalid, Usage when there is none."""
    from modelspend.exporters import channels_of

    found = channels_of(at.load().settings, at.env, str(at.ledger))
    if not found:
        raise Usage("No channel is configured.", "See: modelspend help alerts")
    return found


def _chosen(found: "list[Channel]", named: str | None) -> "list[Channel]":
    chosen = [one for one in found if named in (None, one.name, one.name.partition(":")[2])]
    if not chosen:
        names = ", ".join(one.name for one in found)
        raise NotFound(f"There is no channel {named}.", f"Configured: {names}.")
    return chosen


async def _tried(found: "list[Channel]", now_ms: int) -> list[dict[str, Any]]:
    import asyncio

    return list(await asyncio.gather(*(_try(one, now_ms) for one in found)))


async def _try(one: "Channel", now_ms: int) -> dict[str, Any]:
    from modelspend.exporters.channels import trial
    from modelspend.exporters.http import NotNow

    try:
        said = await one.say([trial(now_ms)])
        ok, answer = said.ok and said.warning is None, said.text
    except NotNow as error:
        ok, answer = False, error.text
    finally:
        await one.close()
    return {"channel": one.name, "ok": ok, "answer": answer}
