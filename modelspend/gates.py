"""Conditions under which a policy fails a back-test, as `--fail-if` takes them: `cost>+5%`.

They are compared exactly, in whole pico-dollars and calls, whatever a figure is rounded to when it
is shown. What a reader would not guess: a cost that is not known passes no gate.
"""

import re
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

from modelspend.backtest import Tally, dollars, percent, signed
from modelspend.money import PICO_PER_USD, usd_text
from modelspend.record import record

Metric = Literal["cost", "moved", "risky", "refused", "unpriced", "undecided"]
Compare = Literal[">", ">=", "<", "<="]

_GATE = re.compile(
    r"\s*(cost|moved|risky|refused|unpriced|undecided)\s*(>=|<=|>|<)\s*([+-]?)\s*\$?"
    r"(\d{1,12}(?:\.\d{1,12})?)\s*(%?)\s*"
)


@record
class Gate:
    """A condition under which the policy fails.

    `limit` is per cent when `share`, else dollars for `cost` and calls for all others. `change`
    compares what differs from the ledger instead of what the policy costs.
    """

    text: str
    metric: Metric
    compare: Compare
    limit: Decimal
    share: bool
    change: bool


def gate(text: str) -> Gate:
    """A gate as it is typed: `cost>+5%`, `cost>100`, `cost>+10`, `moved>10%`, `risky>0`.

    Raises ValueError with what can be written instead.
    """
    found = _GATE.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text!r} is no condition: write cost, moved, risky, refused, unpriced or undecided,"
            " then > >= < or <=, then a number or a per cent, such as cost>+5% or risky>0"
        )
    metric, compare, sign, number, per_cent = found.groups()
    if sign and metric != "cost":
        raise ValueError(f"{text!r}: only cost changes; write {metric}{compare}{number}{per_cent}")
    limit = Decimal(number)
    return Gate(
        text=text.strip(),
        metric=metric,  # type: ignore[arg-type]  # the pattern names nothing else
        compare=compare,  # type: ignore[arg-type]
        limit=-limit if sign == "-" else limit,
        share=bool(per_cent),
        change=bool(sign or (per_cent and metric == "cost")),
    )


@record
class Judged:
    """A gate, the figure that it was held against, and whether it holds: then the policy fails."""

    gate: Gate
    figure: str
    holds: bool


def judge(gate: Gate, tally: Tally) -> Judged:
    """Whether a gate holds; on a cost, it does where the policy leaves a part without a price."""
    if gate.metric == "cost":
        return _judge_cost(gate, tally)
    count = {
        "moved": tally.ended["moved"],
        "risky": tally.risky,
        "refused": tally.ended["refused"],
        "unpriced": tally.newly_unpriced,
        "undecided": tally.ended["not_decided"],
    }[gate.metric]
    said = f"{gate.metric} {count} of {tally.calls} calls"
    if gate.share:
        said += f" ({signed(percent(count, tally.calls), plus=False)})"
        return Judged(gate=gate, figure=said, holds=_holds(gate, 100 * count, max(tally.calls, 1)))
    return Judged(gate=gate, figure=said, holds=_holds(gate, count, 1))


def _judge_cost(gate: Gate, tally: Tally) -> Judged:
    if tally.newly_unpriced:
        said = f"cost not known: {tally.newly_unpriced} calls have no price under the policy"
        return Judged(gate=gate, figure=said, holds=True)
    difference, ledger = tally.difference_pico, tally.compared.ledger.pico
    if gate.share:
        said = f"cost {signed(percent(difference, ledger))} ({dollars(difference)} USD)"
        return Judged(gate=gate, figure=said, holds=_holds(gate, 100 * difference, ledger))
    if gate.change:
        said, pico = f"cost {dollars(difference)} USD", difference
    else:
        pico = tally.total.policy.pico
        said = f"cost {usd_text(pico)} USD"
    return Judged(gate=gate, figure=said, holds=_holds(gate, pico, PICO_PER_USD))


def _holds(gate: Gate, figure: int, unit: int) -> bool:
    limit = Fraction(gate.limit) * unit
    match gate.compare:
        case ">":
            return figure > limit
        case ">=":
            return figure >= limit
        case "<":
            return figure < limit
        case "<=":
            return figure <= limit


def to_json(judged: Judged) -> dict[str, Any]:
    """`{"expression", "figure", "holds"}`."""
    return {
        "expression": judged.gate.text,
        "figure": judged.figure,
        "holds": judged.holds,
    }
