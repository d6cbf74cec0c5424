"""`export ledger|traces|siem`: the ledger for those who pay bills, watch spans, or keep watch.

A period ends where the next one begins; what is written is the same bytes each time; a file takes
its name only when all of it is there. Nothing in a cell can become a spreadsheet's formula.
"""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modelspend.cli.context import Here, here
from modelspend.cli.filters import Asked, Since, TenantName, filtered, instant
from modelspend.cli.output import aside, csv_line, draw, write_json

if TYPE_CHECKING:
    from modelspend.cli.export_siem import SiemExport
    from modelspend.exported import Numbers
    from modelspend.store import Filter, Key, Store

app = typer.Typer(help="Write the ledger for other programs.")

Format = Literal["csv", "jsonl", "focus"]
SiemFormat = Literal["cef", "ecs", "ocsf"]
Said = AsyncIterator[bytes]


@app.callback()
def _group() -> None:
    """Write the ledger for other programs."""


@app.command()
@filtered
def ledger(
    ctx: typer.Context,
    asked: Asked,
    format: Annotated[
        Format, typer.Option("--format", help="csv or jsonl: receipts; focus: FOCUS 1.2 charges.")
    ] = "csv",
    period: Annotated[
        str | None,
        typer.Option("--period", metavar="MONTH", help="A month such as 2026-11, in UTC."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar="WHAT", help="Sums by these, with commas between: day,tenant,model."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write to this file, whole or not at all."),
    ] = None,
) -> None:
    """Export receipts or charges as CSV, JSON lines or FOCUS 1.2; the end of a period is excluded.

    With --by, csv and jsonl hold exact sums instead of receipts. JSON lines of receipts can be
    verified without the ledger: modelspend verify --export FILE. With --out a signed checkpoint of
    the ledger is written beside the file, as FILE.checkpoint.json. FOCUS has the columns of 1.2;
    the one published validator knows the rules of 1.0, and they hold. See: modelspend help export
    """
    from modelspend.cli.export_proof import prove
    from modelspend.cli.reading import read
    from modelspend.exported import Numbers
    from modelspend.store import Filter

    at = here(ctx)
    where = _where(asked, at.now_ms(), period, asked.filters(at))
    notes: list[str] = []
    numbers = Numbers() if format == "jsonl" and by is None else None

    def produce(store: "Store") -> Said:
        if format == "focus":
            if by is not None:
                raise _usage("--by does not go with --format focus.", "Its rows are fixed.")
            return _focus(store, where, notes)
        if by is not None:
            return _sums(store, where, _keys(by), format)
        return _csv(store, where) if numbers is None else _jsonl(store, where, numbers)

    async def run(store: "Store") -> None:
        if out is None:
            await _write(produce(store), sys.stdout.buffer.write)
            sys.stdout.buffer.flush()
            return
        with aside(out) as file:
            await _write(produce(store), file.write)

    read(at.ledger, run)
    for note in notes:
        typer.echo(note, err=True)
    if out is not None:
        typer.echo(f"Written: {out}", err=True)
        prove(at, out, numbers, complete=where == Filter())


@app.command()
@filtered
def traces(
    ctx: typer.Context,
    asked: Asked,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write to this file, whole or not at all."),
    ] = None,
) -> None:
    """Export receipts as OTLP traces: JSON lines, a request each, as collectors read from files.

    The spans are those that a sidecar with an endpoint sends as calls happen, under the same ids.
    Prompts are never in them. See: modelspend help otel
    """
    from modelspend.cli.export_traces import told
    from modelspend.cli.reading import read

    at = here(ctx)
    where = _where(asked, at.now_ms(), None, asked.filters(at))

    async def run(store: "Store") -> None:
        if out is None:
            await _write(told(store, where, at.env), sys.stdout.buffer.write)
            sys.stdout.buffer.flush()
            return
        with aside(out) as file:
            await _write(told(store, where, at.env), file.write)

    read(at.ledger, run)
    if out is not None:
        typer.echo(f"Written: {out}", err=True)


@app.command()
def siem(
    ctx: typer.Context,
    format: Annotated[
        SiemFormat, typer.Option("--format", help="cef, or JSON lines: ecs, ocsf.")
    ] = "ecs",
    since: Since = None,
    after: Annotated[
        int | None,
        typer.Option("--after", metavar="SEQ", min=0, help="Only what came after this number."),
    ] = None,
    tenant: TenantName = None,
    types: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="TYPES",
            help="Only these types, with commas between: receipt.created, budget.*, failover.",
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for new ones, until interrupted.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write files there; each run goes on."),
    ] = None,
    rotate_mb: Annotated[
        int, typer.Option("--rotate-mb", min=1, max=10_000, help="With --out: the largest file.")
    ] = 100,
    gzip: Annotated[bool, typer.Option("--gzip", help="With --out: compress the files.")] = False,
    keep_days: Annotated[
        int | None,
        typer.Option("--keep-days", min=1, max=3650, help="With --out: delete older ones."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="With --out: print the files as JSON.")
    ] = False,
) -> None:
    """Export receipts and events for a SIEM, as CEF or JSON lines of ECS or OCSF.

    With --out only what has come since the last run is written, so cron may run it as often as it
    likes: a run that is cut off loses nothing and repeats nothing, and two at once are refused
    (exit 1). A folder knows how far it is; --since counts for its first run. --json tells of the
    files. Prompts, answers and the words of errors are never in it. See: modelspend help siem
    """
    from modelspend.cli.export_siem import SiemExport, asked_types, to_stdout
    from modelspend.cli.reading import read
    from modelspend.exporters.siem import wants

    at = here(ctx)
    if out is not None and after is not None:
        raise _usage("--after does not go with --out.", "The folder knows how far it is.")
    asked = SiemExport(
        format=format,
        wants=wants(asked_types(types), tenant),
        since_ms=instant("--since", since, at.now_ms()),
        after=after,
        follow=follow,
        most_bytes=rotate_mb * 1_000_000,
        compress=gzip,
        keep_days=keep_days,
    )
    if out is None:
        read(at.ledger, lambda store: to_stdout(store, asked))
        return
    _files(at, asked, out, json)


def _files(at: Here, asked: "SiemExport", out: Path, json: bool) -> None:
    """The files that were written; of those of --follow each is told at once."""
    from modelspend.cli.export_siem import Written, to_folder
    from modelspend.cli.reading import read

    async def run(store: "Store") -> list[Written]:
        found = []
        async for one in to_folder(store, asked, out, at):
            if asked.follow and json:
                write_json(one, line=True)
                sys.stdout.flush()
            elif asked.follow:
                typer.echo(f"Written: {one['file']}", err=True)
            else:
                found.append(one)
        return found

    files = read(at.ledger, run)
    columns = ("file", "events", "bytes", "cursor")
    if json:
        write_json(files)
    elif files:
        draw(columns, [[str(one[name]) for name in columns] for one in files], right=columns[1:])


async def _write(said: Said, write: Callable[[bytes], Any]) -> None:
    """How far it has come is shown where that takes a while, and is wiped out at the end."""
    told, count, began = "", 0, monotonic()
    async for piece in said:
        write(piece)
        count += piece.count(b"\n")
        if sys.stderr.isatty() and monotonic() - began > _A_WHILE_S:
            told = f"\r{count:,} lines"
            typer.echo(told, err=True, nl=False)
    if told:
        typer.echo(f"\r{' ' * len(told)}\r", err=True, nl=False)


_A_WHILE_S = 1.0


def _usage(message: str, hint: str) -> Exception:
    from modelspend.errors import Usage

    return Usage(message, hint)


def _where(
    asked: Asked, now_ms: int, period: str | None, filters: "tuple[Filter, ...]"
) -> "Filter":
    """One filter with the period in it. Raises Usage."""
    from dataclasses import replace

    from modelspend import periods

    if len(filters) > 1:
        raise _usage(f"The view {asked.view} has several filters.", "Export with one of them.")
    where = filters[0]
    if period is None:
        return where
    if where.since_ms is not None or where.until_ms is not None:
        raise _usage("--period excludes --since and --until.", "Write one or the other.")
    try:
        since = periods.instant(period, now_ms)
        return replace(where, since_ms=since, until_ms=periods.instant(period, now_ms, end=True))
    except ValueError as error:
        raise _usage(f"--period: {error}.", "Write a month: --period 2026-11.") from None


_KEYS = ("day", "tenant", "workflow", "category", "model", "provider", "status", "region")


def _keys(by: str) -> "tuple[Key, ...]":
    keys = tuple(part.strip() for part in by.split(","))
    for key in keys:
        if key not in _KEYS or keys.count(key) > 1:
            raise _usage(f"There are no sums by {by!r}.", f"Write some of: {','.join(_KEYS)}.")
    return keys  # type: ignore[return-value]


async def _csv(store: "Store", where: "Filter") -> Said:
    from modelspend.money import usd_text
    from modelspend.receipt_json import iso
    from modelspend.store.walk import COLUMNS

    names = [name.replace("_pico", "_usd") for name in COLUMNS]
    yield csv_line(names)
    say: dict[str, Callable[[Any], str]] = {
        "created_at": iso,
        "cost_pico": usd_text,
        "charged_pico": usd_text,
        "exact": lambda exact: "true" if exact else "false",
    }
    tellers = [say.get(name, str) for name in COLUMNS]
    async for page in store.walk.columns(where):
        yield b"".join(
            csv_line(
                "" if cell is None else tell(cell) for tell, cell in zip(tellers, row, strict=True)
            )
            for row in page
        )


async def _jsonl(store: "Store", where: "Filter", numbers: "Numbers") -> Said:
    """The very bytes that were hashed, and in the same object their place in the chain."""
    from modelspend.exported import place

    async for page in store.walk.links(where):
        for link in page:
            numbers.add(link.seq, link.hash)
        yield b"".join(
            link.canonical[:-1] + place(link.seq, link.prev_hash, link.hash) + b"\n"
            for link in page
        )


async def _sums(store: "Store", where: "Filter", keys: "tuple[Key, ...]", format: Format) -> Said:
    from modelspend.money import dumps, usd, usd_text
    from modelspend.reports.table import day_text
    from modelspend.savings import MECHANISMS

    found = await store.days.sums(keys, where)
    money = ("cost_usd", *(f"saved_{name}_usd" for name in MECHANISMS))
    counts = ("receipts", "unpriced", "decided", "unknown")
    if format == "csv":
        yield csv_line((*keys, *counts, *money))
    for names, one in sorted(found.items(), key=lambda p: [str(each or "") for each in p[0]]):
        told = [
            day_text(name) if key == "day" else name for key, name in zip(keys, names, strict=True)
        ]
        numbers = (one.receipts, one.unpriced, one.decided, one.unknown)
        amounts = (one.cost_pico, *(one.saved_pico[name] for name in MECHANISMS))
        if format == "csv":
            cells = ("" if name is None else str(name) for name in told)
            yield csv_line((*cells, *map(str, numbers), *map(usd_text, amounts)))
        else:
            values = (*told, *numbers, *map(usd, amounts))
            yield dumps(dict(zip((*keys, *counts, *money), values, strict=True))) + b"\n"


async def _focus(store: "Store", where: "Filter", notes: list[str]) -> Said:
    from modelspend import focus
    from modelspend.catalog import known_providers
    from modelspend.reports.lines import lined
    from modelspend.store import DAY_MS

    uses, unpriced = focus.Uses(), 0
    async for page in store.walk.links(where):
        for link in page:
            receipt = lined(link)
            lines = receipt.lines
            unpriced += receipt.cost_pico is None or any(one.unit_pico is None for one in lines)
            for line in lines:
                if line.unit_pico is not None:
                    use = focus.Use(
                        receipt.created_at_ms // DAY_MS,
                        receipt.tenant,
                        receipt.workflow or "",
                        line.provider,
                        line.region or "",
                        line.model,
                        line.bucket,
                        line.price_id or "",
                        line.unit_pico,
                    )
                    uses.add(use, line.quantity)
    if unpriced:
        notes.append(f"{unpriced} receipts have a cost that is not known; it has no row.")
    titles = {name: provider.title for name, provider in known_providers().items()}
    yield csv_line(focus.COLUMNS)
    for row in focus.rows(uses, titles):
        yield csv_line(row)
