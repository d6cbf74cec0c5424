"""`backtest`: the ledger decided again under another policy, for nothing.

Reads the ledger and sends nothing, with a sidecar running or without one. As a gate it exits 6 when
a condition of `--fail-if` holds.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelspend.cli.context import Here, here, note
from modelspend.cli.filters import Asked, filtered
from modelspend.cli.output import Csv, Json, draw, one_form, write_csv, write_json
from modelspend.errors import CheckFailed, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelspend.backtest import Both, Sums, Tally
    from modelspend.gates import Gate, Judged
    from modelspend.settings import Settings
    from modelspend.store import Filter, Store


@filtered
def backtest(
    ctx: typer.Context,
    asked: Asked,
    policy: Annotated[
        Path, typer.Option("--policy", metavar="FILE", help="Configuration to decide by, TOML.")
    ],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if", metavar="EXPR", help="Exit 6 if it holds (cost>+5%, risky>0, …)."
        ),
    ] = None,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Decide past calls again under a policy: what changes, what it costs, which are risky."""
    from modelspend import gates as conditions
    from modelspend.backtest import to_json
    from modelspend.cli.reading import read

    one_form(json, csv)
    at = here(ctx)
    gates = _gates(fail_if or [])
    before, after = at.load().settings, at.load(policy=policy).settings
    filters = asked.filters(at)
    tally = read(at.ledger, lambda store: _run(store, filters, before, after, at))
    judged = [conditions.judge(each, tally) for each in gates]
    if json:
        told = [conditions.to_json(each) for each in judged]
        write_json({**to_json(tally), "gates": told})
    elif csv:
        write_csv(MODELS, list(_models(tally)))
    else:
        _draw(tally)
    _talk(tally, after, judged)
    failed = [each for each in judged if each.holds]
    if failed:
        said = "; ".join(f"{each.gate.text} holds: {each.figure}" for each in failed)
        raise CheckFailed(f"The policy fails: {said}.", "Each change: --json.")


def _gates(texts: "Sequence[str]") -> "list[Gate]":
    from modelspend.gates import gate

    try:
        return [gate(text) for text in texts]
    except ValueError as why:
        raise Usage(f"--fail-if: {why}.") from None


async def _run(
    store: "Store", filters: "Sequence[Filter]", before: "Settings", after: "Settings", at: Here
) -> "Tally":
    from modelspend.backtest import Tally
    from modelspend.gateway.backtest import Backtest

    again = await Backtest.of(store, before, after, at.env)
    progress, tally = _progress((await store.history.count(filters))[0]), Tally()
    async for one in again.every(store, filters):
        tally.add(one)
        progress(tally.calls)
    progress(None)
    return tally


def _progress(count: int) -> Callable[[int | None], None]:
    """Says on a terminal how far it has come; null clears the line."""
    if not sys.stderr.isatty():
        return lambda _: None

    def say(done: int | None) -> None:
        if done is not None and done % _EACH:
            return
        said = "" if done is None else f"{done:,} of {count:,} receipts decided again"
        sys.stderr.write(f"\r\x1b[K{said}")
        sys.stderr.flush()

    return say


_EACH = 500


def _draw(tally: "Tally") -> None:
    for n, (columns, rows, right) in enumerate(_tables(tally)):
        if n:
            typer.echo("")
        draw(columns, rows, right=right, spare=_SPARE)


def _tables(tally: "Tally") -> "Iterator[tuple[tuple[str, ...], list[tuple[str, ...]], Any]]":
    yield TOTALS, list(_totals(tally)), TOTALS[1:]
    yield CHANGES, list(_changes(tally)), CHANGES[1:2]
    yield MODELS, list(_models(tally)), MODELS[1:]
    yield TIERS, list(_tiers(tally)), TIERS[1:]
    if tally.risky:
        yield RISKIEST, list(_riskiest(tally)), RISKIEST[4:8]


TOTALS = ("calls", "number", "ledger_usd", "policy_usd", "difference_usd", "percent")
CHANGES = ("what becomes of them", "number", "why")
MODELS = ("model", "calls_before", "ledger_usd", "unpriced", "calls_after", "policy_usd",
          "unpriced_after")  # fmt: skip
TIERS = ("tier", "calls", "moved", "ledger_usd", "policy_usd", "unpriced", "unpriced_after")
RISKIEST = ("receipt_id", "from", "to", "tier", "complexity", "confidence", "ledger_usd",
            "policy_usd", "reasons")  # fmt: skip
"""The columns of a piped list and of CSV; scripts rely on their names and their order."""

_SPARE = ("unpriced_after", "unpriced", "policy_usd", "ledger_usd", "tier")


def _totals(tally: "Tally") -> "Iterator[tuple[str, ...]]":
    from modelspend.backtest import percent
    from modelspend.money import usd_text

    compared, lost = tally.compared, tally.newly_unpriced
    share = percent(tally.difference_pico, compared.ledger.pico)
    yield (
        "priced on both sides",
        str(compared.ledger.calls),
        usd_text(compared.ledger.pico),
        usd_text(compared.policy.pico),
        usd_text(tally.difference_pico),
        "" if share is None else str(share),
    )
    if lost:
        yield "no price under it", str(lost), usd_text(tally.newly_unpriced_pico), "", "", ""
    gained = tally.total.ledger.unpriced - (tally.total.policy.unpriced - lost)
    if gained:
        new = usd_text(tally.total.policy.pico - compared.policy.pico)
        yield "no known cost before", str(gained), "", new, "", ""
    neither = tally.total.policy.unpriced - lost
    if neither:
        yield "not known at all", str(neither), "", "", "", ""


def _changes(tally: "Tally") -> "Iterator[tuple[str, ...]]":
    yield "same model", str(tally.ended["same"]), ""
    steps = (
        (-1, "to a lower tier"),
        (1, "to a higher tier"),
        (0, "within a tier"),
        (None, "from or to a model that no tier lists"),
    )
    yield (
        "another model",
        str(tally.ended["moved"]),
        ", ".join(f"{tally.steps[step]} {said}" for step, said in steps if tally.steps[step]),
    )
    if tally.retiered:
        yield "another tier", str(tally.retiered), "the prompt is weighed otherwise"
    for said, found in (("refused", tally.refused), ("left as it was", tally.not_decided)):
        for why, sums in sorted(found.items(), key=lambda each: -each[1].calls):
            yield said, str(sums.calls), why


def _models(tally: "Tally") -> "Iterator[tuple[str, ...]]":
    from modelspend.backtest import models_in_order

    for name, both in models_in_order(tally):
        yield (
            name,
            str(both.ledger.calls),
            _cost(both.ledger),
            str(both.ledger.unpriced),
            str(both.policy.calls),
            _cost(both.policy),
            str(both.policy.unpriced),
        )


def _tiers(tally: "Tally") -> "Iterator[tuple[str, ...]]":
    from modelspend.backtest import tiers_in_order

    for name, both in tiers_in_order(tally):
        yield name, *_tier(both)


def _tier(both: "Both") -> tuple[str, ...]:
    return (
        str(both.ledger.calls),
        str(both.moved),
        _cost(both.ledger),
        _cost(both.policy),
        str(both.ledger.unpriced),
        str(both.policy.unpriced),
    )


def _riskiest(tally: "Tally") -> "Iterator[tuple[str, ...]]":
    from modelspend.money import usd_text

    for risk in tally.riskiest:
        call, found = risk.call, risk.call.found
        assert found is not None
        costs = (call.ledger_pico, call.policy_pico)
        yield (
            call.receipt_id,
            call.before,
            call.after,
            found.tier,
            f"{found.complexity:.2f}",
            f"{found.confidence:.2f}",
            *("" if pico is None else usd_text(pico) for pico in costs),
            "; ".join(risk.reasons),
        )


def _cost(sums: "Sums") -> str:
    """What is known; nothing where no cost is known at all."""
    from modelspend.money import usd_text

    return "" if sums.calls and sums.unpriced == sums.calls else usd_text(sums.pico)


def _talk(tally: "Tally", after: "Settings", judged: "Sequence[Judged]") -> None:
    """Notes, the recommendation and the gates, on stderr: stdout is the result."""
    from modelspend.backtest import RISKIEST as MOST
    from modelspend.backtest import advice

    mode = after.routing.mode
    if mode != "route" and tally.calls:
        note(
            f"routing.mode is {mode} under this policy, so only `auto` is routed; to see what"
            ' routing would do, write mode = "route" below [routing] in the policy.'
        )
    if tally.risky > MOST:
        note(f"{tally.risky} moved calls are risky; the {MOST} riskiest are shown.")
    if tally.inexact:
        note(f"The new cost of {tally.inexact} moved calls is not exact.")
    said = advice(tally)
    if said:
        typer.echo(said, err=True)
    for each in judged:
        if not each.holds:
            typer.echo(f"passed: not {each.gate.text} ({each.figure})", err=True)
