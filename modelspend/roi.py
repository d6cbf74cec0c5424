"""What modelspend pays back: savings against the hours it takes, every assumption with its source.

Nothing is claimed that was not measured or given: without a share that is saved there is no
payback, and where less is saved than running it costs there is none either. What a reader would not
guess: savings that were measured have an error, taken from how they differ from day to day and
widened where good days follow good ones; the range of each result is that of the error's 80 %.

Every result is worked out from figures that are shown, by the formula shown beside it. Dollars are
rounded to a pico-dollar; a month is 30 days, so that it can be measured.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import date, timedelta
from decimal import ROUND_CEILING, Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any, Literal

from modelspend import student
from modelspend.money import PICO_PER_USD, usd
from modelspend.record import record

MONTH_DAYS = 30
LEVEL = 80
LEAST_DAYS = 7
"""With fewer, how far off what was measured may be cannot be told."""

Source = Literal["flag", "ledger", "default"]

DEFAULTS: Mapping[str, Decimal] = {
    "people": Decimal(1),
    "setup_hours": Decimal(4),
    "hourly_usd": Decimal(100),
    "upkeep_hours": Decimal(1),
    "fees_usd": Decimal(0),
}
MEANINGS: Mapping[str, str] = {
    "monthly_spend_usd": "what 30 days of calls cost without what modelspend saves",
    "savings_pct": "how much of that is saved, in per cent",
    "measured_days": "whole days of the ledger that were added up",
    "measured_cost_usd": "what their calls cost",
    "measured_saved_usd": "what applied decisions saved on them, signed",
    "saving_error_usd": f"how far off that of 30 days may be, with {LEVEL} % probability",
    "savings_error_pct": f"how far off that share may be, with {LEVEL} % probability",
    "people": "who set it up",
    "setup_hours": "hours that each of them needs for it, once",
    "hourly_usd": "what an hour costs",
    "upkeep_hours": "hours of upkeep in 30 days, altogether",
    "fees_usd": "other costs of 30 days, as a machine; modelspend is free",
}
HOW: Mapping[str, str] = {
    "monthly_spend_usd": (
        f"(measured_cost_usd + measured_saved_usd) * {MONTH_DAYS} / measured_days"
    ),
    "savings_pct": "100 * measured_saved_usd / (measured_cost_usd + measured_saved_usd)",
    "setup_cost_usd": "people * setup_hours * hourly_usd",
    "monthly_cost_usd": "upkeep_hours * hourly_usd + fees_usd",
    "monthly_net_usd": "monthly_saving_usd - monthly_cost_usd",
    "payback_months": "setup_cost_usd / monthly_net_usd",
    "break_even_on": f"today + ceil({MONTH_DAYS} * setup_cost_usd / monthly_net_usd) days",
    "net_12_months_usd": "12 * monthly_net_usd - setup_cost_usd",
    "break_even_savings_pct": (
        "100 * (setup_cost_usd / 12 + monthly_cost_usd) / monthly_spend_usd"
    ),
}
"""The formula of each figure that is neither given nor measured, in the names of the others; that
of the saving depends on what is known."""

_OF_SHARE = "monthly_spend_usd * savings_pct / 100"
_MEASURED = f"measured_saved_usd * {MONTH_DAYS} / measured_days"

_PLACES = Decimal("0.000001")
_MOST_CORRELATED = 0.9


@record
class Measured:
    """Whole days of a ledger. `saved` is day by day, in pico-dollars and signed.

    Decisions were applied to `decided` of the receipts; what those saved is not known for
    `unknown`, and what they cost for `unpriced` ones.
    """

    cost_pico: int
    saved: Sequence[int]
    receipts: int = 0
    decided: int = 0
    unknown: int = 0
    unpriced: int = 0

    @property
    def saved_pico(self) -> int:
        return sum(self.saved)


@record
class Assumption:
    name: str
    value: Decimal
    source: Source


@record
class Case:
    """What comes of one saving a month. Null is never, or not known."""

    monthly_saving_pico: int
    monthly_net_pico: int
    payback_months: Decimal | None
    break_even_on: date | None
    net_12_months_pico: int


@record
class Roi:
    """`expected` is null while nobody knows what is saved, `low` and `high` without an error."""

    today: date
    assumptions: tuple[Assumption, ...]
    setup_pico: int
    monthly_cost_pico: int
    break_even_savings_pct: Decimal | None
    saving_by: str | None
    expected: Case | None = None
    low: Case | None = None
    high: Case | None = None
    notes: tuple[str, ...] = field(default=())


def work_out(given: Mapping[str, Decimal], measured: Measured | None, today: date) -> Roi:
    """The result of what was given by name; the ledger says the rest, else a default.

    `given` may have `monthly_spend_usd`, `savings_pct` and the names of `DEFAULTS`. Raises
    ValueError for what cannot be, and where neither says what a month costs.
    """
    _checked(given)
    known = {name: Assumption(name=name, value=v, source="flag") for name, v in given.items()}
    for name, value in DEFAULTS.items():
        known.setdefault(name, Assumption(name=name, value=value, source="default"))
    saving_by, error = _from_ledger(known, measured)
    if "monthly_spend_usd" not in known:
        raise ValueError("nothing says what a month costs")
    values = {name: each.value for name, each in known.items()}
    setup = _pico(values["people"] * values["setup_hours"] * values["hourly_usd"])
    monthly = _pico(values["upkeep_hours"] * values["hourly_usd"] + values["fees_usd"])
    saving = _saving(saving_by, values)
    cases: dict[str, Case] = {}
    if saving is not None:
        cases["expected"] = _case(saving, setup, monthly, today)
        if error is not None:
            cases["low"] = _case(saving - error, setup, monthly, today)
            cases["high"] = _case(saving + error, setup, monthly, today)
    spend = _pico(values["monthly_spend_usd"])
    least = Fraction(setup, 12) + monthly
    return Roi(
        today=today,
        assumptions=tuple(known[name] for name in MEANINGS if name in known),
        setup_pico=setup,
        monthly_cost_pico=monthly,
        break_even_savings_pct=_up(100 * least / spend) if spend else None,
        saving_by=saving_by,
        notes=tuple(_notes(given, measured, cases)),
        **cases,
    )


def _checked(given: Mapping[str, Decimal]) -> None:
    for name, value in given.items():
        if name not in ("monthly_spend_usd", "savings_pct", *DEFAULTS):
            raise ValueError(f"nothing is called {name}")
        least, most = (-1000, 100) if name == "savings_pct" else (0, 10**9)
        if not value.is_finite() or not least <= value <= most:
            raise ValueError(f"{name} must be {least} to {most}, not {value}")


def _from_ledger(
    known: dict[str, Assumption], measured: Measured | None
) -> tuple[str | None, int | None]:
    """Adds what the ledger says and nobody gave: (how the saving is worked out, its error)."""
    if measured is None or not measured.saved:
        return (_OF_SHARE if "savings_pct" in known else None), None

    def add(name: str, value: Decimal) -> None:
        known[name] = Assumption(name=name, value=value, source="ledger")

    days, saved = len(measured.saved), measured.saved_pico
    before = measured.cost_pico + saved
    tells = measured.decided > measured.unknown and "savings_pct" not in known
    own_spend = "monthly_spend_usd" not in known
    if own_spend or tells:
        add("measured_days", Decimal(days))
        add("measured_cost_usd", usd(measured.cost_pico))
        add("measured_saved_usd", usd(saved))
    if own_spend:
        add("monthly_spend_usd", usd(max(0, round(Fraction(before * MONTH_DAYS, days)))))
    if not tells:
        return (_OF_SHARE if "savings_pct" in known else None), None
    off = _error(measured.saved)
    if own_spend:
        error = None if off is None else round(off * MONTH_DAYS)
        if error is not None:
            add("saving_error_usd", usd(error))
        return _MEASURED, error
    if before <= 0:
        return None, None
    add("savings_pct", -_up(-Fraction(100 * saved, before)))
    if off is None:
        return _OF_SHARE, None
    add("savings_error_pct", _up(100 * Fraction(off) * days / before))
    share = known["savings_error_pct"].value / 100
    return _OF_SHARE, _pico(known["monthly_spend_usd"].value * share)


def _error(saved: Sequence[int]) -> float | None:
    """How far off the mean day may be: Student's t, with as many days as they are worth."""
    n = len(saved)
    if n < LEAST_DAYS:
        return None
    mean, spread = fmean(saved), stdev(saved)
    if not spread:
        return 0.0
    beside = sum((a - mean) * (b - mean) for a, b in pairwise(saved))
    alike = min(_MOST_CORRELATED, max(0.0, beside / ((n - 1) * spread * spread)))
    worth = max(2.0, n * (1 - alike) / (1 + alike))
    return student.quantile(0.5 + LEVEL / 200, worth - 1) * spread / math.sqrt(worth)


def _saving(saving_by: str | None, value: Mapping[str, Decimal]) -> int | None:
    if saving_by is None:
        return None
    if saving_by == _MEASURED:
        saved = Fraction(value["measured_saved_usd"]) * MONTH_DAYS / int(value["measured_days"])
        return round(saved * PICO_PER_USD)
    share = Fraction(value["savings_pct"]) / 100
    return round(Fraction(value["monthly_spend_usd"]) * share * PICO_PER_USD)


def _case(saving: int, setup: int, monthly: int, today: date) -> Case:
    net = saving - monthly
    payback = Fraction(setup, net) if net > 0 else None
    days = None if payback is None else math.ceil(payback * MONTH_DAYS)
    reachable = days is not None and days <= (date.max - today).days
    return Case(
        monthly_saving_pico=saving,
        monthly_net_pico=net,
        payback_months=None if payback is None else _up(payback),
        break_even_on=today + timedelta(days=days) if days is not None and reachable else None,
        net_12_months_pico=12 * net - setup,
    )


def _notes(
    given: Mapping[str, Decimal], measured: Measured | None, cases: Mapping[str, Case]
) -> list[str]:
    said = []
    expected, low = cases.get("expected"), cases.get("low")
    if expected is None:
        said.append(_WHY_UNKNOWN[measured is not None and bool(measured.decided)])
    elif expected.monthly_saving_pico < 0:
        said.append("It costs more than it saves: what applied decisions saved is negative.")
    elif expected.payback_months is None:
        said.append("It does not pay back: a month saves no more than running it costs.")
    elif low is not None and low.payback_months is None:
        said.append(
            f"It may never pay back: at the low end of the range ({LEVEL} %) a month saves no more"
            " than running it costs."
        )
    if measured is None:
        return said
    if "savings_pct" not in given and measured.unknown:
        said.append(
            f"What {measured.unknown} of {measured.decided} decisions saved is not known and counts"
            " as nothing."
        )
    if measured.unpriced and ("monthly_spend_usd" not in given or "savings_pct" not in given):
        said.append(f"The cost of {measured.unpriced} of {measured.receipts} receipts is not known"
                    " and counts as nothing.")  # fmt: skip
    if expected is not None and "savings_pct" not in given and low is None:
        said.append(
            f"How far off it may be cannot be told from {len(measured.saved)} days;"
            f" {LEAST_DAYS} are the least."
        )
    return said


_WHY_UNKNOWN = {
    False: "What is saved is not known: no decision was applied, so there is no payback to tell."
    " Give a share with --savings, or work one out: modelspend forecast --shift-deep 20.",
    True: "What is saved is not known: of no applied decision is it known what it saved, so there"
    " is no payback to tell. Give a share with --savings.",
}


def to_json(found: Roi) -> dict[str, Any]:
    """Every figure, each result beside the formula that makes it of the others."""
    cases = {"expected": found.expected, "low": found.low, "high": found.high}
    given = {each.name for each in found.assumptions if each.source != "ledger"}
    how = {name: said for name, said in HOW.items() if name not in given}
    if found.saving_by is not None:
        how["monthly_saving_usd"] = found.saving_by
    if found.saving_by == _MEASURED or "savings_pct" not in {a.name for a in found.assumptions}:
        how.pop("savings_pct", None)
    return {
        "today": found.today.isoformat(),
        "assumptions": [
            {"name": one.name, "value": one.value, "source": one.source,
             "meaning": MEANINGS[one.name]}
            for one in found.assumptions
        ],
        "setup_cost_usd": usd(found.setup_pico),
        "monthly_cost_usd": usd(found.monthly_cost_pico),
        "break_even_savings_pct": found.break_even_savings_pct,
        **case_json(found.expected),
        "range": None if found.low is None else {
            name: case_json(case) for name, case in cases.items() if name != "expected"
        },
        "how": how,
        "notes": list(found.notes),
    }  # fmt: skip


def case_json(case: Case | None) -> dict[str, Any]:
    """One saving and what comes of it; every figure null where nobody knows."""
    if case is None:
        return dict.fromkeys(CASE)
    return {
        "monthly_saving_usd": usd(case.monthly_saving_pico),
        "monthly_net_usd": usd(case.monthly_net_pico),
        "payback_months": case.payback_months,
        "break_even_on": case.break_even_on.isoformat() if case.break_even_on else None,
        "net_12_months_usd": usd(case.net_12_months_pico),
    }


CASE = (
    "monthly_saving_usd",
    "monthly_net_usd",
    "payback_months",
    "break_even_on",
    "net_12_months_usd",
)
"""The figures that depend on what is saved."""


def _pico(amount: Decimal) -> int:
    return round(Fraction(amount) * PICO_PER_USD)


def _up(value: Fraction) -> Decimal:
    """To six digits behind the point, upwards: nothing is said to be better than it is."""
    with localcontext(prec=60):
        exact = Decimal(value.numerator) / Decimal(value.denominator)
        return exact.quantize(_PLACES, ROUND_CEILING)
