"""`prices list|show|set|quote`: what models cost here, why, and what a usage would cost.

Quoting asks the price library in this process, which saves a child process and is as fast as a
file can be read; everything else about it is the daemon's own path.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from modelspend.cli.context import Here, here, note
from modelspend.cli.output import Json, draw, write_json
from modelspend.errors import NotFound, Usage

if TYPE_CHECKING:
    from modelspend.catalog import Provider
    from modelspend.money import Price
    from modelspend.store import Store

app = typer.Typer(help="Show, set and quote prices.")

R = TypeVar("R")

Model = Annotated[
    str, typer.Argument(help="provider/model, or a model's own name.", metavar="MODEL")
]
At = Annotated[str | None, typer.Option(metavar="WHEN", help="A day or an instant; else now.")]
Count = Annotated[int, typer.Option(min=0, metavar="N", help="A number of tokens.")]
Dollars = Annotated[str | None, typer.Option(metavar="USD", help="USD per million tokens.")]
PerThousand = Annotated[str | None, typer.Option(metavar="USD", help="USD per thousand.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    provider: Annotated[str | None, typer.Option(help="Only this provider.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    json: Json = False,
) -> None:
    """List the prices that you set and those that receipts were priced with."""
    from modelspend.catalog.quote import price_json

    desk = _Desk(ctx)
    rows = {row.price_id: row for row in (*desk.book.own(), *desk.kept)}
    wanted = desk.catalog.find(provider) if provider else None
    name = wanted.name if wanted else provider
    chosen = sorted(
        (r for r in rows.values() if name in (None, r.provider) and model in (None, r.model)),
        key=lambda row: (row.provider, row.model, row.tier, row.valid_from_ms or 0),
    )
    if json:
        write_json([price_json(row) for row in chosen])
    else:
        _draw(chosen)


@app.command()
def show(ctx: typer.Context, model: Model, at: At = None, json: Json = False) -> None:
    """Show the price that holds for a model: its source, how long it holds, and every band."""
    from modelspend.catalog.quote import price_json

    place = here(ctx)
    desk = _Desk(ctx)
    provider, name = desk.named(model)
    rows = desk.run(desk.book.held(provider, name, _instant(at, place)))
    if not rows:
        raise NotFound(
            f"There is no price for {provider.name}/{name}.",
            f"Set one: modelspend prices set {provider.name}/{name} --input USD --output USD",
        )
    if json:
        write_json([price_json(row) for row in rows])
    else:
        _draw(rows)


@app.command("set")
def set_(
    ctx: typer.Context,
    model: Model,
    input: Dollars = None,
    output: Dollars = None,
    cache_read: Dollars = None,
    cache_write_5m: Dollars = None,
    cache_write_1h: Dollars = None,
    input_audio: Dollars = None,
    output_audio: Dollars = None,
    cached_audio: Dollars = None,
    input_image: Dollars = None,
    output_image: Dollars = None,
    web_search_per_1k: PerThousand = None,
    tool_call_per_1k: PerThousand = None,
    request_per_1k: PerThousand = None,
    from_: Annotated[str | None, typer.Option("--from", metavar="DAY", help="First day.")] = None,
    until: Annotated[str | None, typer.Option(metavar="DAY", help="First day without it.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Return to the file's price.")] = False,
    json: Json = False,
) -> None:
    """Set a price of your own for a model in the ledger; it wins over the file and the library."""
    rates = {
        name: value
        for name, value in locals().copy().items()
        if name not in ("ctx", "model", "from_", "until", "clear", "json") and value is not None
    }
    place = here(ctx)
    provider, name = _Desk(ctx).named(model)
    if clear:
        _refuse_rates_with_clear(rates)
        gone = _write(place, lambda store: store.prices.clear_override(provider.name, name))
        if not gone:
            raise NotFound(
                f"No price is set for {provider.name}/{name}.", "See: modelspend prices list"
            )
        _say(json, {"cleared": gone}, f"Cleared for {provider.name}/{name}.")
        return
    price = _override(provider.name, name, rates, from_, until)
    _write(place, lambda store: store.prices.set_override(price, place.now_ms()))
    from modelspend.catalog.quote import price_json

    _say(json, price_json(price), f"Set for {provider.name}/{name}: {price.price_id}.")


@app.command()
def quote(
    ctx: typer.Context,
    file: Annotated[
        str | None, typer.Option(metavar="FILE", help="JSONL or CSV of usages; - is stdin.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="The provider of one usage.")] = None,
    model: Annotated[str | None, typer.Option(help="The model of one usage.")] = None,
    input: Count = 0,
    output: Count = 0,
    cache_read: Count = 0,
    cache_write_5m: Count = 0,
    cache_write_1h: Count = 0,
    tier: Annotated[str, typer.Option(help="The service tier: batch, flex, priority.")] = "",
    at: At = None,
    json: Json = False,
) -> None:
    """Price a usage, or every usage in a file: buckets, lines and the exact sum.

    A line of the file is {"id", "provider", "model", "dialect", "usage", "at"?} with the provider's
    own usage object. A line that cannot be priced gets an "error"; the others go on.
    """
    place = here(ctx)
    desk = _Desk(ctx)
    if file is not None:
        _quote_file(desk, file, place.now_ms(), json)
        return
    if not model:
        raise Usage("Nothing to quote.", "Name a --file, or a --model with --input and --output.")
    quantities = {
        "input_tokens": input,
        "output_tokens": output,
        "cache_read_tokens": cache_read,
        "cache_write_5m_tokens": cache_write_5m,
        "cache_write_1h_tokens": cache_write_1h,
    }
    said = desk.one(
        f"{provider}/{model}" if provider else model, quantities, tier, _instant(at, place)
    )
    if json:
        write_json(said)
    else:
        _draw_quote(said)


class _Desk:
    """What every question about prices needs: the catalog, the ledger's rows, and the book."""

    def __init__(self, ctx: typer.Context) -> None:
        import asyncio

        from modelspend.catalog import Catalog
        from modelspend.catalog.library import InProcess
        from modelspend.catalog.prices import PriceBook

        place = here(ctx)
        settings = place.load().settings
        self.kept, overrides = _kept(place.ledger)
        self.catalog = Catalog.load(settings.providers, place.env)
        self.book = PriceBook(
            rows=self.kept, overrides=overrides, settings=settings, library=InProcess()
        )
        self._runner = ctx.with_resource(asyncio.Runner())

    def run(self, work: Awaitable[R]) -> R:
        async def wait() -> R:
            return await work

        return self._runner.run(wait())

    def named(self, model: str) -> "tuple[Provider, str]":
        from modelspend.catalog.quote import named_model

        try:
            return named_model(model, self.catalog)
        except ValueError as why:
            raise Usage(f"{why}.") from None

    def one(self, model: str, quantities: dict[str, int], tier: str, at_ms: int) -> dict[str, Any]:
        from modelspend.catalog.cost import Bill
        from modelspend.catalog.quote import quoted
        from modelspend.receipt import Usage as Used

        provider, name = self.named(model)
        bill = Bill(
            provider=provider,
            dialect="openai.chat",
            usage=Used(quantities={b: n for b, n in quantities.items() if n}, source="provider"),
            asked=name,
            told=tier,
            at_ms=at_ms,
        )
        said = quoted(bill, self.run(self.book.settle(bill)))
        del said["dialect"]
        return said

    def row(self, row: "Mapping[str, Any] | ValueError", now_ms: int) -> dict[str, Any]:
        from modelspend.catalog.quote import quote as quote_row

        if isinstance(row, ValueError):
            return {"id": None, "error": str(row)}
        try:
            return self.run(quote_row(row, self.catalog, self.book, now_ms))
        except ValueError as why:
            return {"id": row.get("id"), "error": str(why)}


def _kept(ledger: Path) -> "tuple[list[Price], list[Price]]":
    """The rows and overrides of the ledger, if there is one."""
    from modelspend.cli.reading import read

    if not ledger.exists():
        return [], []

    async def ask(store: "Store") -> "tuple[list[Price], list[Price]]":
        return await store.prices.rows(), await store.prices.overrides()

    return read(ledger, ask)


def _write(place: Here, act: "Callable[[Store], Awaitable[R]]") -> R:
    import asyncio

    from modelspend.store import Store

    async def run() -> R:
        store = await Store.open_notes(place.ledger)
        try:
            return await act(store)
        finally:
            await store.close()

    return asyncio.run(run())


def _instant(at: str | None, place: Here) -> int:
    from modelspend.catalog.quote import instant_ms

    try:
        return instant_ms(at, place.now_ms())
    except ValueError:
        raise Usage(
            f"--at {at} is no date or instant.", "Write 2026-11-01 or an ISO instant."
        ) from None


def _override(
    provider: str, model: str, rates: Mapping[str, str], from_: str | None, until: str | None
) -> "Price":
    from modelspend.catalog.rows import override_price
    from modelspend.settings import PriceOverride

    if not rates:
        raise Usage("No price was given.", "Name one at least: --input USD, --output USD, …")
    amounts = {name: _dollars(name, value) for name, value in rates.items()}
    first, end = _day("--from", from_), _day("--until", until)
    if first and end and end <= first:
        raise Usage(f"--until {end} is not after --from {first}.")
    try:
        said = PriceOverride(**{**amounts, "from": first, "until": end})
        return override_price(provider, model, said, "override")
    except ValueError as why:
        raise Usage(f"That is no price: {_first_line(why)}.") from None


def _dollars(name: str, value: str) -> Decimal:
    try:
        amount = Decimal(value)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise Usage(f"--{name.replace('_', '-')} {value} is no amount in USD.")
    return amount


def _day(flag: str, value: str | None) -> date | None:
    try:
        return date.fromisoformat(value) if value else None
    except ValueError:
        raise Usage(f"{flag} {value} is no day.", "Write it as 2026-11-01.") from None


def _first_line(why: Exception) -> str:
    """The cause without pydantic's frame around it."""
    errors = getattr(why, "errors", None)
    if errors is None:
        return str(why)
    first = errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _refuse_rates_with_clear(rates: Mapping[str, str]) -> None:
    if rates:
        raise Usage("--clear takes no price.", "Either set one or clear it.")


def _say(json: bool, shape: Any, text: str) -> None:
    if json:
        write_json(shape)
    else:
        typer.echo(text)


def _draw(rows: "Iterable[Price]") -> None:
    """One line for each bucket of each band, so that prices stand under each other."""
    from modelspend.money import BUCKETS, usd_text
    from modelspend.receipt_json import iso

    def lines() -> Iterator[tuple[str, ...]]:
        for row in rows:
            name = (f"{row.provider}/{row.model}", row.tier or "standard")
            begin = "-" if row.valid_from_ms is None else iso(row.valid_from_ms)[:16]
            end = "-" if row.valid_until_ms is None else iso(row.valid_until_ms)[:16]
            about = (begin, end, row.source, row.price_id)
            if row.free:
                yield (*name, "0", "everything", "0", *about)
            for band in row.bands:
                for bucket in (b for b in BUCKETS if b in band.rates):
                    per = usd_text(band.rates[bucket] * (1_000_000 if "tokens" in bucket else 1000))
                    unit = "1M" if "tokens" in bucket else "1k"
                    yield (*name, str(band.above_input), bucket, f"{per} / {unit}", *about)

    columns = ("model", "tier", "input above", "bucket", "USD", "from", "until", "source", "price")
    draw(columns, lines(), right=("input above", "USD"))


def _draw_quote(said: Mapping[str, Any]) -> None:
    rows = [
        (
            line["bucket"],
            str(line["quantity"]),
            _money(line["unit_price_usd"]),
            _money(line["cost_usd"]),
        )
        for line in said["lines"]
    ]
    total = ("total", "", "", _money(said["cost_usd"]))
    draw(("bucket", "quantity", "unit price USD", "cost USD"), [*rows, total],
         right=("quantity", "unit price USD", "cost USD"))  # fmt: skip
    for reason in said["inexact"]:
        note(f"inexact: {reason}.")


def _money(amount: Decimal | None) -> str:
    return "unknown" if amount is None else format(amount, "f")


def _quote_file(desk: _Desk, file: str, now_ms: int, json: bool) -> None:
    from modelspend.cli.batch import rows, usage_row

    wrong = 0

    def quotes() -> Iterator[dict[str, Any]]:
        nonlocal wrong
        for row in rows(file, usage_row):
            said = desk.row(row, now_ms)
            wrong += "error" in said
            yield said

    if json:
        for said in quotes():
            write_json(said, line=True)
    else:
        draw(("id", "provider", "model", "cost USD", "exact", "remark"), map(_cells, quotes()))
    if wrong:
        note(f"{wrong} lines could not be priced; each says why.")


def _cells(said: Mapping[str, Any]) -> tuple[str, ...]:
    name = "" if said["id"] is None else str(said["id"])
    if "error" in said:
        return (name, "", "", "", "", said["error"])
    money, exact = _money(said["cost_usd"]), "yes" if said["exact"] else "no"
    return (name, said["provider"], said["model"], money, exact, "; ".join(said["inexact"]))
