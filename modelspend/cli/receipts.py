"""`receipts list|show|search|path`: find receipts and draw them.

A cost that is not known is an empty cell or null, never 0, and the line below a list says how many
there are of them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from modelspend.cli.context import here
from modelspend.cli.filters import After, Asked, Limit, filtered
from modelspend.cli.output import Csv, Json, draw, on_terminal, one_form, write_csv, write_json

if TYPE_CHECKING:
    from modelspend.receipt import Receipt
    from modelspend.store import Store, Stored

app = typer.Typer(help="List, show and search receipts.")

ReceiptId = Annotated[
    str, typer.Argument(help="A receipt's id, the start of one, or `last`.", metavar="RECEIPT")
]


@app.command("list")
@filtered
def list_(
    ctx: typer.Context,
    asked: Asked,
    limit: Limit = 50,
    after: After = None,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """List receipts, newest first; with --after, what was written since, oldest first."""
    from modelspend.cli.reading import listed, read

    one_form(json, csv)
    at = here(ctx)
    filters = asked.filters(at)
    found = read(at.ledger, lambda store: listed(store, filters, limit + 1, after))
    _draw(found, limit, json, csv)


@app.command()
@filtered
def search(
    ctx: typer.Context,
    asked: Asked,
    text: Annotated[str, typer.Argument(help="Part of an id, session, tag, model or tenant.")],
    limit: Limit = 50,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Search receipts by the start of an id or session, or by a part of a name or tag."""
    from modelspend.cli.reading import read

    one_form(json, csv)
    at = here(ctx)
    filters = asked.filters(at)

    async def ask(store: "Store") -> "list[Stored]":
        arms = [await store.receipts.search(text, where, limit=limit + 1) for where in filters]
        return list({stored.seq: stored for arm in arms for stored in arm}.values())

    _draw(read(at.ledger, ask), limit, json, csv)


@app.command()
def show(ctx: typer.Context, receipt: ReceiptId, json: Json = False) -> None:
    """Show one receipt whole."""
    from modelspend.cli.reading import one, read, shape

    found = read(here(ctx).ledger, lambda store: one(store, receipt))
    if json:
        write_json(shape(found))
        return
    from modelspend import layers

    rows = [(layers.dotted(path), _said(value)) for path, value in layers.leaves(shape(found))]
    draw(("field", "value"), rows)


@app.command()
def path(ctx: typer.Context, json: Json = False) -> None:
    """Print the path of the ledger, whether or not it exists."""
    ledger = here(ctx).ledger
    if json:
        write_json({"path": str(ledger), "exists": ledger.is_file()})
    else:
        typer.echo(str(ledger))


def _said(value: object) -> str:
    from decimal import Decimal

    from modelspend.money import dumps

    if isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return format(value, "f")
    return "-" if value is None else dumps(value).decode()


def _draw(found: "Sequence[Stored]", limit: int, json: bool, csv: bool) -> None:
    more, found = len(found) > limit, found[:limit]
    if json:
        from modelspend.cli.reading import shape

        write_json([shape(stored) for stored in found])
        return
    receipts = [stored.receipt for stored in found]
    if csv:
        write_csv(COLUMNS, [cells(receipt) for receipt in receipts])
    elif on_terminal():
        shown = [_short(receipt) for receipt in receipts]
        draw(_SHORT, shown, right=_NUMBERS, spare=_SPARE)
    else:
        draw(COLUMNS, [cells(receipt) for receipt in receipts])
    typer.echo(footer(receipts, more), err=True)


def footer(receipts: "Sequence[Receipt]", more: bool) -> str:
    """How many, what they cost together, and how many of them no price is known for."""
    from modelspend.money import usd_text

    costs = [receipt.execution.actual_cost_pico for receipt in receipts]
    known = [cost for cost in costs if cost is not None]
    text = f"{len(costs)} receipt{'s' * (len(costs) != 1)}, {usd_text(sum(known))} USD"
    if len(known) < len(costs):
        text += f", without {len(costs) - len(known)} whose cost is not known"
    return f"{text}. There are more: --limit, --since." if more else f"{text}."


COLUMNS = (
    "receipt_id",
    "created_at",
    "tenant",
    "workflow",
    "session_id",
    "provider",
    "model",
    "category",
    "status",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "cost_usd",
    "exact",
    "latency_ms",
    "ttft_ms",
)
"""The columns of a piped list and of CSV; scripts rely on their names and their order."""


def cells(receipt: "Receipt") -> tuple[str, ...]:
    """A receipt as one line of `COLUMNS`."""
    from modelspend.money import usd_text
    from modelspend.receipt import total_cost
    from modelspend.receipt_json import iso

    last = receipt.attempts[-1] if receipt.attempts else None
    used = receipt.usage.quantities
    run, found = receipt.execution, receipt.classification
    written = used.get("cache_write_5m_tokens", 0) + used.get("cache_write_1h_tokens", 0)
    return (
        receipt.receipt_id,
        iso(receipt.created_at_ms),
        receipt.tenant,
        receipt.workflow or "",
        receipt.session_id or "",
        last.provider if last else "",
        last.model_id if last else receipt.request.model,
        found.category if found else "",
        run.status,
        str(used.get("input_tokens", 0)),
        str(used.get("cache_read_tokens", 0)),
        str(written),
        str(used.get("output_tokens", 0)),
        "" if run.actual_cost_pico is None else usd_text(run.actual_cost_pico),
        "true" if total_cost(receipt.attempts).exact else "false",
        f"{run.actual_latency_ms:g}",
        "" if run.ttft_ms is None else f"{run.ttft_ms:g}",
    )


_SHORT = (
    "time (UTC)",
    "receipt",
    "tenant",
    "model",
    "status",
    "tokens in",
    "out",
    "cost USD",
    "ms",
)


_NUMBERS = ("tokens in", "out", "cost USD", "ms")
_SPARE = ("tokens in", "out", "tenant", "ms", "time (UTC)", "model")


def _short(receipt: "Receipt") -> tuple[str, ...]:
    """A receipt as a person wants to see it: all input as one number, unknown as a dash."""
    from modelspend.money import INPUT_BUCKETS

    said = dict(zip(COLUMNS, cells(receipt), strict=True))
    used = receipt.usage.quantities
    return (
        said["created_at"][5:19].replace("T", " "),
        said["receipt_id"],
        said["tenant"],
        said["model"],
        said["status"],
        str(sum(used.get(bucket, 0) for bucket in INPUT_BUCKETS)),
        said["output_tokens"],
        said["cost_usd"] or "-",
        f"{receipt.execution.actual_latency_ms:.0f}",
    )
