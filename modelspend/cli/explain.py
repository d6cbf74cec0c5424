"""`explain RECEIPT`: every number of a receipt to its source, worked out again as it is shown.

The lines are multiplied and added here once more, so that "adds up" is a finding and not a promise.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import typer

from modelspend.cli.context import here
from modelspend.cli.explain_plan import carried, planned
from modelspend.cli.output import Json, clean, write_json
from modelspend.cli.receipts import ReceiptId

if TYPE_CHECKING:
    from modelspend.money import CostLine, Price
    from modelspend.receipt import Attempt, Receipt
    from modelspend.store import Store, Stored

Prices = Mapping[str, "Price"]


def explain(ctx: typer.Context, receipt: ReceiptId, json: Json = False) -> None:
    """Explain a receipt: each line of its cost, the price it came from, who pays, how it went."""
    from modelspend.cli.reading import one, read

    async def ask(store: "Store") -> "tuple[Stored, Prices]":
        found = await one(store, receipt)
        return found, {row.price_id: row for row in await store.prices.rows()}

    found, prices = read(here(ctx).ledger, ask)
    if json:
        write_json(worked_out(found, prices))
        return
    for line in told(found, prices):
        sys.stdout.write(clean(line).rstrip() + "\n")


def worked_out(stored: "Stored", prices: Prices) -> dict[str, Any]:
    """The receipt with each attempt's lines, their prices, and whether everything adds up."""
    from modelspend.cli.reading import shape
    from modelspend.money import usd
    from modelspend.receipt import total_cost
    from modelspend.receipt_json import line_json

    receipt = stored.receipt
    total = total_cost(receipt.attempts)
    return {
        "receipt": shape(stored),
        "attempts": [
            {
                "n": attempt.n,
                "lines": [line_json(line) for line in attempt.cost.lines],
                "sum_usd": usd(_sum(attempt.cost.lines)),
                "price": _price_json(prices.get(attempt.cost.price_id or "")),
            }
            for attempt in receipt.attempts
        ],
        "total_usd": None if total.total_pico is None else usd(total.total_pico),
        "adds_up": not _contradictions(receipt),
        "contradictions": _contradictions(receipt),
        "exact": total.exact,
        "inexact_because": list(total.inexact),
    }


def _sum(lines: "tuple[CostLine, ...]") -> int:
    return sum(line.cost_pico for line in lines if line.cost_pico is not None)


def _contradictions(receipt: "Receipt") -> list[str]:
    """Where a shown number is not what the shown numbers before it make; none is expected."""
    from modelspend.receipt import total_cost

    found = [
        f"attempt {attempt.n}: {line.bucket} is not quantity × unit price"
        for attempt in receipt.attempts
        for line in attempt.cost.lines
        if line.unit_pico is not None and line.cost_pico != line.quantity * line.unit_pico
    ]
    found += [
        f"attempt {attempt.n}: the lines do not add up to its cost"
        for attempt in receipt.attempts
        if attempt.cost.total_pico not in (None, _sum(attempt.cost.lines))
    ]
    if total_cost(receipt.attempts).total_pico != receipt.execution.actual_cost_pico:
        found.append("the attempts do not add up to the receipt's cost")
    return found


def _price_json(price: "Price | None") -> dict[str, Any] | None:
    from modelspend.money import usd
    from modelspend.receipt_json import iso

    if price is None:
        return None
    return {
        "price_id": price.price_id,
        "provider": price.provider,
        "model": price.model,
        "source": price.source,
        "tier": price.tier or "standard",
        "valid_from": None if price.valid_from_ms is None else iso(price.valid_from_ms),
        "valid_until": None if price.valid_until_ms is None else iso(price.valid_until_ms),
        "bands": [
            {
                "above_input_tokens": band.above_input,
                "unit_prices_usd": {bucket: usd(pico) for bucket, pico in band.rates.items()},
            }
            for band in price.bands
        ],
    }


def told(stored: "Stored", prices: Prices) -> Iterator[str]:
    """The explanation as lines for a person."""
    from modelspend.receipt_json import iso

    receipt = stored.receipt
    run = receipt.execution
    yield f"{receipt.receipt_id}   {iso(receipt.created_at_ms)}"
    yield f"{run.status}: {_money(run.actual_cost_pico)}, {_timing(receipt)}"
    if run.error:
        yield f"  {run.error}"
    yield ""
    yield from _who_and_what(stored)
    for attempt in receipt.attempts:
        yield ""
        yield from _attempt(attempt, prices)
    yield ""
    yield from _total(receipt)


def _money(pico: int | None) -> str:
    from modelspend.money import usd_text

    return "cost not known" if pico is None else f"{usd_text(pico)} USD"


def _timing(receipt: "Receipt") -> str:
    run = receipt.execution
    first = "" if run.ttft_ms is None else f", first content after {run.ttft_ms:g} ms"
    return f"{run.actual_latency_ms:g} ms{first}, of which ours {run.overhead_ms:g} ms"


def _who_and_what(stored: "Stored") -> Iterator[str]:
    receipt, asked = stored.receipt, stored.receipt.request
    session = f", session {receipt.session_id} ({receipt.session_source})"
    yield (
        f"Who pays   tenant {receipt.tenant}"
        + (f", workflow {receipt.workflow}" if receipt.workflow else "")
        + (session if receipt.session_id else "")
        + (f", key {receipt.key_id}" if receipt.key_id else "")
    )
    if receipt.tags:
        yield "Tags       " + ", ".join(f"{key}={value}" for key, value in receipt.tags.items())
    yield (
        f"Asked      model {asked.model} by {asked.dialect} on {asked.path},"
        f" {'streamed' if asked.stream else 'whole'}, {asked.size} bytes"
        f" (bodies {'kept' if stored.body_kept else 'not kept'})"
    )
    yield from carried(asked)
    yield from planned(receipt)


def _attempt(attempt: "Attempt", prices: Prices) -> Iterator[str]:
    facts = [
        f"{attempt.provider}/{attempt.model_id}",
        attempt.status,
        f"{attempt.latency_ms:g} ms",
        f"delivery {attempt.delivery}",
        f"http {attempt.http_status}" if attempt.http_status else "",
        f"failed: {attempt.failure_class}" if attempt.failure_class else "",
        f"finish {attempt.finish_reason}" if attempt.finish_reason else "",
        attempt.upstream_request_id or "",
        f"under a drill ({attempt.drill})" if attempt.drill else "",
    ]
    yield f"Attempt {attempt.n}  " + ", ".join(filter(None, facts))
    yield from _lines(attempt)
    yield from _usage(attempt)
    yield from _price(attempt, prices.get(attempt.cost.price_id or ""))
    if attempt.cost.reported_pico is not None:
        yield f"  The provider itself reported {_money(attempt.cost.reported_pico)}."


def _lines(attempt: "Attempt") -> Iterator[str]:
    from modelspend.money import usd_text

    if not attempt.cost.lines:
        yield "  Nothing was counted."
        return
    yield f"  {'bucket':<22} {'quantity':>10} × {'unit price':>14} = {'cost USD':>14}"
    for line in attempt.cost.lines:
        unit = "no price" if line.unit_pico is None else usd_text(line.unit_pico)
        cost = "-" if line.cost_pico is None else usd_text(line.cost_pico)
        yield f"  {line.bucket:<22} {line.quantity:>10} × {unit:>14} = {cost:>14}"
    total = attempt.cost.total_pico
    shown = "not known" if total is None else usd_text(total)
    yield f"  {'sum of the lines':<22} {'':>10}   {'':>14}   {shown:>14}"


def _usage(attempt: "Attempt") -> Iterator[str]:
    from modelspend.money import dumps

    usage = attempt.usage
    if usage.source == "provider":
        yield f"  The provider counted: {dumps(usage.raw).decode()}"
    elif usage.source == "estimated":
        ratio = usage.error_ratio
        wrong = "not known yet" if ratio is None else f"{ratio:.0%} on average so far"
        yield f"  Nobody counted: estimated from the characters; its error is {wrong}."
    if usage.reasoning_tokens:
        yield f"  {usage.reasoning_tokens} of the output tokens were reasoning."
    yield from (f"  Odd in the usage: {problem}" for problem in usage.problems)


def _price(attempt: "Attempt", price: "Price | None") -> Iterator[str]:
    from modelspend.receipt_json import iso

    if price is None:
        if attempt.cost.price_id:
            yield f"  The price row {attempt.cost.price_id} is not in this ledger."
        elif attempt.cost.lines:
            model = f"{attempt.provider}/{attempt.model_id}"
            yield f"  No price is known; set one: modelspend prices set {model}"
        return
    start = "the beginning" if price.valid_from_ms is None else iso(price.valid_from_ms)
    end = "further notice" if price.valid_until_ms is None else iso(price.valid_until_ms)
    tier = f", tier {price.tier}" if price.tier else ""
    yield (
        f"  Price {price.price_id}: {price.provider}/{price.model}{tier}, from {price.source},"
        f" in force from {start} until {end}."
    )


def _total(receipt: "Receipt") -> Iterator[str]:
    from modelspend.money import usd_text
    from modelspend.receipt import total_cost

    total, run = total_cost(receipt.attempts), receipt.execution
    if len(receipt.attempts) > 1:
        parts = " + ".join(_money(attempt.cost.total_pico) for attempt in receipt.attempts)
        yield f"Total      {parts}"
    exact = "exact" if total.exact else "not exact"
    yield f"Cost       {_money(run.actual_cost_pico)}, {exact}"
    yield from (f"             because: {reason}" for reason in total.inexact)
    yield f"Budgets    count {usd_text(run.charged_pico)} USD"
    wrong = _contradictions(receipt)
    yield "Check      " + ("; ".join(wrong) or "every line, sum and total adds up")
