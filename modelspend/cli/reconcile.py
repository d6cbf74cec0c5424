"""`reconcile`: a provider's own export against the receipts, and why the two differ.

Nothing is asked of the provider: the files are read here. `--check` makes a difference above the
tolerance the exit code 6.
"""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modelspend.cli.context import here, note
from modelspend.cli.output import (
    Csv,
    Json,
    Progress,
    draw,
    on_terminal,
    one_form,
    write_csv,
    write_json,
)

if TYPE_CHECKING:
    from modelspend.charges import Charge
    from modelspend.cli.context import Here
    from modelspend.reconcile import Reconciliation
    from modelspend.waterfall import Cell

Whose = Literal["openai", "anthropic", "openrouter"]


def reconcile(
    ctx: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Cost or usage exports, CSV or the API's JSON."),
    ],
    provider: Annotated[Whose, typer.Option("--provider", help="Whose export it is.")],
    check: Annotated[
        bool, typer.Option("--check", help="Exit 6 if more than rounding is left.")
    ] = False,
    tolerance: Annotated[
        str,
        typer.Option(
            "--tolerance", metavar="USD", help="How far apart may pass --check: 0.50, or 1%."
        ),
    ] = "0",
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Compare a provider's cost or usage export with the receipts; split the gap by its causes.

    Rows are days and models; the causes add up to the gap. See: modelspend help reconcile.
    """
    one_form(json, csv)
    at = here(ctx)
    allowed = _tolerance(tolerance)
    found = _found(at, _charges(files, provider), provider)
    share, fixed = allowed
    limit = fixed + abs(found.theirs_pico) * share
    ok = found.drift_pico <= limit
    if json:
        write_json(_shape(found, provider, files, ok))
    elif csv:
        write_csv(_columns(), [_cells(cell) for cell in found.cells])
    else:
        _draw(found)
    _notes(found)
    if check and not ok:
        _fail(found)


def _tolerance(said: str) -> tuple[Decimal, Decimal]:
    """(share, pico-dollars). Raises Usage."""
    from modelspend.errors import Usage
    from modelspend.money import PICO_PER_USD

    text = said.strip().removeprefix("$")
    try:
        amount = Decimal(text.removesuffix("%"))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise Usage(f"--tolerance {said} is no amount.", "Write dollars, or a share: 0.50, 1%.")
    return (
        (amount / 100, Decimal(0))
        if text.endswith("%")
        else (
            Decimal(0),
            amount * PICO_PER_USD,
        )
    )


def _charges(files: Sequence[Path], provider: Whose) -> "list[Charge]":
    """The rows of all files. Raises NotFound, Usage."""
    from modelspend import bills
    from modelspend.charges import BadFile
    from modelspend.errors import NotFound, Usage

    found: list[Charge] = []
    for file in files:
        try:
            found += bills.read(file.read_text("utf-8"), provider)
        except FileNotFoundError:
            raise NotFound(
                f"There is no file {file}.", "Export one: modelspend help reconcile"
            ) from None
        except UnicodeDecodeError as why:
            raise Usage(
                f"{file} is no text in UTF-8 (byte {why.start}).", "Export it again as CSV or JSON."
            ) from None
        except BadFile as why:
            raise Usage(
                f"{file}, {why}.",
                "Mend the row or export the file again: modelspend help reconcile",
            ) from None
    if not found:
        names = ", ".join(map(str, files))
        raise Usage(f"There is no charge in {names}.", "Export a period with calls in it.")
    return found


def _found(at: "Here", charges: "list[Charge]", provider: Whose) -> "Reconciliation":
    from modelspend.charges import DAY_MS
    from modelspend.cli.reading import read
    from modelspend.reconcile import period, reconcile
    from modelspend.reports.tried import tried

    since, until = period(charges)
    with Progress("receipts") as progress:
        ours = read(
            at.ledger,
            lambda store: tried(
                store, provider, since - DAY_MS, until + DAY_MS, lambda done: progress.tell(done)
            ),
        )
    return reconcile(charges, ours, _rates(at, charges, provider))


def _rates(at: "Here", charges: "list[Charge]", provider: Whose) -> Any:
    """What is known of prices, for the models and days of a file that we have no calls of."""
    import asyncio

    from modelspend.catalog import Catalog
    from modelspend.catalog.library import InProcess
    from modelspend.catalog.prices import MISSING, PriceBook
    from modelspend.charges import model_key
    from modelspend.cli.reading import read
    from modelspend.store import Store

    settings = at.load().settings
    known = Catalog.load(settings.providers, at.env).find(provider)
    if known is None:
        return lambda *_: None

    async def rows(store: Store) -> tuple[Any, Any]:
        return await store.prices.rows(), await store.prices.overrides()

    kept, overrides = read(at.ledger, rows)
    book = PriceBook(rows=kept, overrides=overrides, settings=settings, library=InProcess())
    asked = {(model_key(each.model), each.start_ms) for each in charges if each.model}

    async def learn() -> None:
        for model, start in sorted(asked):
            if book.find(known, model, start) is MISSING:
                await book.fetch(known, model, start)

    asyncio.run(learn())

    def rate(start_ms: int, model: str, tier: str, bucket: str) -> int | None:
        found = book.find(known, model_key(model), start_ms, tier=tier)
        if found is MISSING or found.price is None:
            return None
        if found.price.free:
            return 0
        return found.price.rates_at(0).get(bucket)

    return rate


_SHOWN = {
    "missing_here": "charged there, and no receipt here",
    "missing_there": "receipts here, and no charge there",
    "unpriced": "receipts without a known cost",
    "cache_class": "prompt tokens that a cache read or wrote, counted otherwise",
    "tier": "served at another service tier",
    "price_change": "the same tokens at another price",
    "rounding": "finer than the file is written",
    "time_zone": "the same call on another day",
    "unknown": "none of these",
}


def _columns() -> tuple[str, ...]:
    return ("day", "model", "calls", "theirs_usd", "ours_usd", "gap_usd",
            *(f"{cause}_usd" for cause in _SHOWN))  # fmt: skip


def _cells(cell: "Cell") -> list[str]:
    from modelspend.money import usd_text

    parts: dict[str, int] = dict(cell.causes)  # type: ignore[arg-type]
    return [
        _day(cell.start_ms),
        cell.model or "(no model)",
        str(cell.calls),
        *map(usd_text, (cell.theirs_pico, cell.ours_pico, cell.gap_pico)),
        *(usd_text(parts.get(cause, 0)) for cause in _SHOWN),
    ]


def _day(start_ms: int) -> str:
    from modelspend.receipt_json import iso

    text = iso(start_ms)
    return text[:10] if text.endswith("T00:00:00.000Z") else text


def _draw(found: "Reconciliation") -> None:
    """On a terminal why, then where; in a pipe the rows alone, with every cause as a column."""
    from modelspend.money import usd_text

    if not on_terminal():
        draw(_columns(), [_cells(cell) for cell in found.cells])
        return
    causes: dict[str, int] = dict(found.causes)  # type: ignore[arg-type]
    rows = [
        (cause, usd_text(causes[cause]), text) for cause, text in _SHOWN.items() if causes[cause]
    ]
    rows += [
        ("gap", usd_text(found.gap_pico), "what they charge, less what we have"),
        ("theirs", usd_text(found.theirs_pico), "charged"),
        ("ours", usd_text(found.ours_pico), "in receipts"),
    ]
    draw(("cause", "usd", "meaning"), rows, right=("usd",))
    apart = [cell for cell in found.cells if cell.causes.keys() - {"rounding"}]
    if apart:
        draw(
            ("day", "model", "calls", "theirs_usd", "ours_usd", "gap_usd", "why"),
            [(*_cells(cell)[:6], _why(cell)) for cell in apart],
            right=("calls", "theirs_usd", "ours_usd", "gap_usd"),
            spare=("calls", "ours_usd"),
        )


def _why(cell: "Cell") -> str:
    from modelspend.money import usd_text

    return ", ".join(f"{cause} {usd_text(pico)}" for cause, pico in cell.causes.items())


def _notes(found: "Reconciliation") -> None:
    if found.zone_ms:
        hours = found.zone_ms / 3_600_000
        side = "after" if hours > 0 else "before"
        note(f"the file's days begin {abs(hours):g} hours {side} UTC's.")
    if found.unvalued:
        note(f"{found.unvalued:,} tokens of the file have no known price and are left out.")
    unpriced = sum(cell.unpriced for cell in found.cells)
    if unpriced:
        note(f"{unpriced:,} calls here have no known cost: modelspend help prices")


def _shape(
    found: "Reconciliation", provider: str, files: Sequence[Path], ok: bool
) -> dict[str, Any]:
    from modelspend.money import usd
    from modelspend.receipt_json import iso

    return {
        "ok": ok,
        "provider": provider,
        "files": [str(file) for file in files],
        "since": iso(found.since_ms),
        "until": iso(found.until_ms),
        "theirs_usd": usd(found.theirs_pico),
        "ours_usd": usd(found.ours_pico),
        "gap_usd": usd(found.gap_pico),
        "drift_usd": usd(found.drift_pico),
        "causes": {f"{cause}_usd": usd(pico) for cause, pico in found.causes.items()},
        "zone_hours": found.zone_ms / 3_600_000,
        "unvalued_tokens": found.unvalued,
        "cells": [
            {
                "day": _day(cell.start_ms),
                "model": cell.model or None,
                "calls": cell.calls,
                "unpriced": cell.unpriced,
                "theirs_usd": usd(cell.theirs_pico),
                "ours_usd": usd(cell.ours_pico),
                "gap_usd": usd(cell.gap_pico),
                "causes": {f"{cause}_usd": usd(pico) for cause, pico in cell.causes.items()},
            }
            for cell in found.cells
        ],
    }


def _fail(found: "Reconciliation") -> None:
    from modelspend.errors import CheckFailed
    from modelspend.money import usd_text

    parts = sorted(found.causes.items(), key=lambda part: -abs(part[1]))
    said = ", ".join(
        f"{cause} {usd_text(pico)}" for cause, pico in parts if pico and cause != "rounding"
    )
    raise CheckFailed(
        f"The bill is {usd_text(found.gap_pico)} USD apart from the receipts: {said}.",
        "What to do about each cause: modelspend help reconcile",
    )
