"""`cassette record|play|diff`: an app's own calls on a file, given back without a network.

A recording is drawn from the receipts of the run, so what is on it is what the app got. What a
reader would not guess: while a cassette is played no sidecar and no ledger is there at all, only a
server that knows the file.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modelspend.cli.context import here, note
from modelspend.cli.output import Json, draw, write_aside, write_json
from modelspend.errors import CheckFailed, ExitCode, NotFound, Usage

if TYPE_CHECKING:
    from modelspend.cassettes import Cassette, Entry, Sums
    from modelspend.receipt import Receipt
    from modelspend.store import Store

app = typer.Typer(help="Record an app's calls, play them back offline, compare two recordings.")

Tape = Annotated[Path, typer.Argument(metavar="FILE", help="The cassette.")]
Command = Annotated[list[str], typer.Argument(metavar="-- CMD…", help="The program.")]
_PAGE = 1_000


@app.command()
def record(
    ctx: typer.Context,
    file: Tape,
    command: Command,
    max_usd: Annotated[
        str | None, typer.Option("--max-usd", metavar="USD", help="Refuse calls past this.")
    ] = None,
) -> None:
    """Run a program under the sidecar and write its calls to a file; exit with its exit code.

    Keys are not on it. Tag a call test=NAME (x-modelspend-tags) to have it compared by test.
    """
    from modelspend import cassettes
    from modelspend.cli import run_child, run_sidecar
    from modelspend.cli.eval_purse import cap_of
    from modelspend.cli.reading import read
    from modelspend.cli.run import last_seq, settled
    from modelspend.money import usd_text
    from modelspend.receipt_json import iso

    at, cap = here(ctx), cap_of(max_usd)
    asked: dict[str, Any] = {"tags": {}, **({} if cap is None else {"max_usd": usd_text(cap)})}
    program = run_child.find(command[0], at.env)
    loaded = at.load()
    if loaded.settings.store.keep_bodies != "full":
        raise Usage(
            "A cassette is made of bodies, and store.keep_bodies is none.",
            'Set store.keep_bodies = "full".',
        )
    with ExitStack() as open_:
        daemon = open_.enter_context(run_sidecar.found_or_started(at))
        since = read(at.ledger, last_seq)
        with run_sidecar.opened(daemon, asked) as (run_id, key):
            env = run_child.environment(at.env, loaded.settings, daemon.url, key)
            code = run_child.carry([program, *command[1:]], env)
        settled(daemon)
        entries, missing = read(at.ledger, lambda store: _entries(store, since, run_id))
    secrets = [value.encode() for value in run_child.secret_values(at.env, loaded.settings)]
    tape = cassettes.Cassette(
        entries=tuple(entries), recorded_at=iso(at.now_ms()), secrets=[key.encode(), *secrets]
    )
    write_aside(file, b"".join(cassettes.written(tape)))
    note(f"{len(entries)} call{'s' * (len(entries) != 1)} recorded in {file}.")
    if not entries and not missing:
        note("None came with the run's key and base URL. See: modelspend help clients")
    if missing:
        note(f"{missing} calls had no whole answer that could be kept, and are not on it.")
    raise typer.Exit(code)


@app.command()
def play(
    ctx: typer.Context,
    file: Tape,
    command: Command,
    max_usd: Annotated[
        str | None,
        typer.Option("--max-usd", metavar="USD", help="Refuse calls that cost more, as recorded."),
    ] = None,
    fault: Annotated[
        Literal["outage", "rate-limit", "cut"] | None,
        typer.Option(help="Let calls fail this way once before their answer."),
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, help="With --fault: only each so-manieth call of the file.")
    ] = 1,
) -> None:
    """Run a program on recorded answers alone: byte for byte the same, and no network.

    A call that is not on the cassette is an error that names the nearest one; then the exit code is
    6 if the program says nothing worse, and 7 where a cap was met.
    """
    from modelspend.cli import run_child
    from modelspend.cli.cassette_tape import playing
    from modelspend.cli.eval_purse import cap_of
    from modelspend.money import usd

    at, cap = here(ctx), cap_of(max_usd)
    tape = _read(file)
    program = run_child.find(command[0], at.env)
    settings = at.load().settings
    secrets = [value.encode() for value in run_child.secret_values(at.env, settings)]
    with playing(tape, secrets, None if cap is None else usd(cap), fault, every) as player:
        env = run_child.environment(at.env, settings, player.url, player.key)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            env[name] = env[name.lower()] = player.url
        code = run_child.carry([program, *command[1:]], env)
    for miss in player.misses:
        note(miss)
    if player.unplayed:
        note(f"{player.unplayed} of {len(tape.entries)} recorded calls were not made.")
    if code and player.over_cap:
        raise typer.Exit(ExitCode.BUDGET)
    if not code and player.misses:
        raise typer.Exit(ExitCode.CHECK_FAILED)
    raise typer.Exit(code)


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="The cassette as it was.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The cassette as it is now.")],
    format: Annotated[
        Literal["table", "markdown", "json"], typer.Option(help="How it is written.")
    ] = "table",
    fail_if: Annotated[
        list[str] | None,
        typer.Option("--fail-if", metavar="COND", help="Fail (6) then: cost>+5%, calls>20."),
    ] = None,
    json: Json = False,
) -> None:
    """Compare two cassettes by test: calls, tokens, cost, answers from a cache."""
    from modelspend.cassettes import compared, gate

    try:
        gates = [gate(text) for text in fail_if or []]
    except ValueError as why:
        raise Usage(f"--fail-if: {why}.") from None
    rows = compared(_read(before), _read(after))
    *_, total = rows
    failed = [each.text for each in gates if each.holds(total[1], total[2])]
    if json or format == "json":
        write_json({"tests": [_shape(*row) for row in rows], "failed": failed})
    elif format == "markdown":
        _markdown(rows)
    else:
        draw(_HEAD, [_cells(*row) for row in rows], right=_HEAD[1:])
    if failed:
        raise CheckFailed(
            f"The cassettes differ by more than is allowed: {', '.join(failed)}.",
            "If that is meant to be, record the new one as the old one.",
        )


_HEAD = ("test", "calls", "tokens", "cost_usd", "cache hits", "cost")


def _read(file: Path) -> "Cassette":
    from modelspend import cassettes

    try:
        return cassettes.read(file.read_bytes())
    except FileNotFoundError:
        raise NotFound(
            f"There is no cassette {file}.", f"Record it: modelspend cassette record {file} -- CMD"
        ) from None
    except ValueError as why:
        raise Usage(f"{file} cannot be played: {why}.", "Record it anew.") from None


async def _entries(store: "Store", since: int, run_id: str) -> "tuple[list[Entry], int]":
    """The calls of a run in the order in which they were made, and how many are not whole."""
    from modelspend.gateway.runs import RUN_TAG

    receipts: list[Receipt] = []
    while found := await store.receipts.after(since, limit=_PAGE):
        receipts += [each.receipt for each in found if each.receipt.tags.get(RUN_TAG) == run_id]
        since = found[-1].seq
    receipts.sort(key=lambda receipt: receipt.receipt_id)
    entries, missing = [], 0
    for receipt in receipts:
        kept = await store.bodies.get(receipt.receipt_id)
        answer = kept.answer or b""
        if kept.request is None or not answer or len(answer) != receipt.request.answer_size:
            missing += 1
            continue
        entries.append(_entry(receipt, kept.request, answer))
    return entries, missing


def _entry(receipt: "Receipt", request: bytes, answer: bytes) -> "Entry":
    from modelspend.cassettes import TEST_TAG, Entry
    from modelspend.money import usd
    from modelspend.receipt import Status

    asked, run, used = receipt.request, receipt.execution, receipt.usage.quantities
    status = run.http_status or 200
    events = asked.stream and not answer.lstrip().startswith((b"{", b"["))
    last = receipt.attempts[-1] if receipt.attempts else None
    return Entry(
        path=asked.path,
        dialect=asked.dialect,
        model=asked.model,
        stream=asked.stream,
        request=request,
        status=status,
        content_type="text/event-stream" if events else "application/json",
        answer=answer,
        test=receipt.tags.get(TEST_TAG, ""),
        served_by=f"{last.provider}/{last.model_id}" if last else "",
        cost_usd=None if run.actual_cost_pico is None else usd(run.actual_cost_pico),
        tokens=sum(count for name, count in used.items() if name.endswith("_tokens")),
        cached=run.status is Status.CACHED or used.get("cache_read_tokens", 0) > 0,
        latency_ms=run.actual_latency_ms,
    )


def _shape(test: str, before: "Sums", after: "Sums") -> dict[str, Any]:
    pairs = {
        "calls": (before.calls, after.calls),
        "tokens": (before.tokens, after.tokens),
        "cost_usd": (before.cost_usd, after.cost_usd),
        "cache_hits": (before.cache_hits, after.cache_hits),
    }
    figures = {name: {"before": was, "after": now} for name, (was, now) in pairs.items()}
    return {"test": test, **figures}


def _cells(test: str, before: "Sums", after: "Sums") -> list[str]:
    return [
        test or "(no test)",
        _arrow(before.calls, after.calls),
        _arrow(before.tokens, after.tokens),
        _arrow(before.cost_usd, after.cost_usd),
        _arrow(before.cache_hits, after.cache_hits),
        _change(before.cost_usd, after.cost_usd),
    ]


def _arrow(was: Any, now: Any) -> str:
    one, other = ("?" if each is None else format(each, "f" * isinstance(each, Decimal))
                  for each in (was, now))  # fmt: skip
    return one if one == other else f"{one} → {other}"


def _change(was: Decimal | None, now: Decimal | None) -> str:
    if was is None or now is None:
        return "not known"
    if was == now:
        return "same"
    return f"{(now - was) / was * 100:+.1f} %" if was else "new"


def _markdown(rows: "Sequence[tuple[str, Sums, Sums]]") -> None:
    typer.echo(f"| {' | '.join(_HEAD)} |")
    typer.echo(f"| --- {'| ---: ' * (len(_HEAD) - 1)}|")
    for row in rows:
        cells = [cell.replace("|", "\\|").replace("\n", " ") for cell in _cells(*row)]
        if row is rows[-1]:
            cells = [f"**{cell}**" for cell in cells]
        typer.echo(f"| {' | '.join(cells)} |")
