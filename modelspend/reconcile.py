"""Why a provider's bill is not what the receipts add up to: the gap, split into named causes.

A waterfall from our figures to theirs, cell by cell (a day and a model): each step changes one
thing, and what that changes in dollars is its cause. So the parts always add up to the gap, to the
pico-dollar. What a step cannot be sure of is left to the next, and in the end is `unknown`.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from modelspend.charges import DAY_MS, Charge, model_key
from modelspend.record import frozen, record
from modelspend.waterfall import (
    ALL,
    CAUSES,
    INPUT,
    Cause,
    Cell,
    Key,
    Left,
    Rates,
    Sheet,
    Side,
    explain,
)

_HALF_HOUR_MS = DAY_MS // 48
_FARTHEST = 28  # half hours that a day may begin off UTC


@record
class Tried:
    """One attempt of ours that may be billed. `lines` are (bucket, quantity, price apiece or null);
    `cost_pico` is null where it is not known."""

    at_ms: int
    model: str
    tier: str
    receipt_id: str
    cost_pico: int | None
    lines: tuple[tuple[str, int, int | None], ...] = ()
    call_id: str | None = None

    @property
    def known_pico(self) -> int:
        """What is known of its cost."""
        return sum(n * unit for _, n, unit in self.lines if unit is not None)


@frozen(kw_only=True)
class Reconciliation:
    """The whole of it. `zone_ms` is how far their days begin after UTC's, as far as that shows;
    `unvalued` counts tokens of theirs that nobody knows a price of."""

    since_ms: int
    until_ms: int
    cells: tuple[Cell, ...]
    zone_ms: int
    unvalued: int

    @property
    def theirs_pico(self) -> int:
        return sum(cell.theirs_pico for cell in self.cells)

    @property
    def ours_pico(self) -> int:
        return sum(cell.ours_pico for cell in self.cells)

    @property
    def gap_pico(self) -> int:
        return self.theirs_pico - self.ours_pico

    @property
    def causes(self) -> dict[Cause, int]:
        """Every cause with its part of the gap; they add up to it."""
        return {cause: sum(cell.causes.get(cause, 0) for cell in self.cells) for cause in CAUSES}

    @property
    def drift_pico(self) -> int:
        """What must be looked at: all causes without their signs, so that two that cancel out
        still show, but for rounding."""
        return sum(abs(part) for cause, part in self.causes.items() if cause != "rounding")


def period(charges: Sequence[Charge]) -> tuple[int, int]:
    """From the first to the end of the last; (0, 0) for none."""
    starts = [each.start_ms for each in charges]
    return min(starts, default=0), max((each.end_ms for each in charges), default=0)


def reconcile(
    charges: Sequence[Charge], tries: Iterable[Tried], rates: Rates = lambda *_: None
) -> Reconciliation:
    """Compare a provider's charges with our attempts there; `tries` may go beyond the period by a
    day on either side, which is what a day of another time zone needs."""
    slots = _Slots(charges)
    attempts = sorted(tries, key=lambda one: (one.at_ms, one.receipt_id))
    book = _Book(slots, rates)
    by_id = {each.call_id: each for each in charges if each.call_id}
    if by_id and any(one.call_id in by_id for one in attempts):
        book.match(charges, attempts, by_id)
    else:
        zone_ms = _zone(charges, attempts, slots)
        book.gather(charges, attempts, zone_ms)
    return Reconciliation(
        since_ms=slots.since_ms,
        until_ms=slots.until_ms,
        cells=book.settled(),
        zone_ms=book.zone_ms,
        unvalued=book.unvalued,
    )


class _Slots:
    """The intervals that a file charges for: days, as a rule. Between them lie days of UTC."""

    def __init__(self, charges: Sequence[Charge]) -> None:
        self.since_ms, self.until_ms = period(charges)
        self._spans = sorted({(each.start_ms, each.end_ms) for each in charges})
        self._starts = [start for start, _ in self._spans]

    def of(self, at_ms: int) -> int | None:
        """The start of the interval that holds an instant; None outside of the period."""
        if not self.since_ms <= at_ms < self.until_ms:
            return None
        place = bisect_right(self._starts, at_ms) - 1
        start, end = self._spans[place]
        return start if at_ms < end else at_ms - at_ms % DAY_MS


def _zone(charges: Sequence[Charge], tries: Sequence[Tried], slots: _Slots) -> int:
    """How far their days begin after those that they are named for; 0 unless that explains most.

    Compared is what a file says most of: tokens where it counts them, else dollars.
    """
    counted = any(each.quantity is not None for each in charges)
    theirs: dict[tuple[int, str], int] = {}
    for each in charges:
        amount = each.quantity if counted else each.cost_pico
        key = (each.start_ms, model_key(each.model))
        theirs[key] = theirs.get(key, 0) + (amount or 0)
    fine: dict[tuple[int, str], int] = {}
    for one in tries:
        amount = sum(n for _, n, _ in one.lines) if counted else one.known_pico
        at = (one.at_ms // _HALF_HOUR_MS, model_key(one.model))
        fine[at] = fine.get(at, 0) + amount
    best, least = 0, _apart(theirs, fine, slots, 0)
    enough = least // 4
    for steps in sorted(range(-_FARTHEST, _FARTHEST + 1), key=abs):
        apart = _apart(theirs, fine, slots, steps * _HALF_HOUR_MS)
        if apart < least and apart <= enough:
            best, least = steps * _HALF_HOUR_MS, apart
    return best


def _apart(
    theirs: Mapping[tuple[int, str], int],
    fine: Mapping[tuple[int, str], int],
    slots: _Slots,
    zone_ms: int,
) -> int:
    left = dict(theirs)
    for (step, model), amount in fine.items():
        slot = slots.of(step * _HALF_HOUR_MS - zone_ms)
        if slot is not None:
            left[slot, model] = left.get((slot, model), 0) - amount
    return sum(abs(amount) for amount in left.values())


class _Book:
    def __init__(self, slots: _Slots, rates: Rates) -> None:
        self._slots = slots
        self._rates = rates
        self._sheets: dict[tuple[int, str], Sheet] = {}
        self.zone_ms = 0
        self.unvalued = 0

    def settled(self) -> tuple[Cell, ...]:
        """Every cell with its causes, which add up to its gap."""
        self._day_edges()
        for sheet in self._sheets.values():
            for left in sheet.left:
                sheet.cell.blame(left.cause, left.pico)
            cell = sheet.cell
            cell.blame("unknown", cell.gap_pico - sum(cell.causes.values()))
            cell.causes = {cause: pico for cause, pico in cell.causes.items() if pico}
        sheets = (self._sheets[key] for key in sorted(self._sheets))
        return tuple(sheet.cell for sheet in sheets if _says_something(sheet.cell))

    def _sheet(self, start_ms: int, model: str) -> Sheet:
        key = (start_ms, model_key(model))
        if key not in self._sheets:
            self._sheets[key] = Sheet(Cell(start_ms=start_ms, model=model))
        return self._sheets[key]

    # A file of single calls.

    def match(
        self, charges: Sequence[Charge], tries: Sequence[Tried], by_id: Mapping[str, Charge]
    ) -> None:
        """Call by call, by the provider's own id of it."""
        ours = {one.call_id: one for one in tries if one.call_id in by_id}
        for charge in charges:
            sheet = self._sheet(charge.start_ms, charge.model)
            cost = charge.cost_pico or 0
            sheet.cell.theirs_pico += cost
            one = ours.get(charge.call_id)
            if one is None:
                sheet.cell.blame("missing_here", cost)
            else:
                self._matched(sheet, charge, one)
        for one in tries:
            slot = self._slots.of(one.at_ms)
            if one.call_id not in by_id and slot is not None:
                cell = self._sheet(slot, one.model).cell
                cell.ours_pico += one.known_pico
                cell.calls += 1
                cell.blame("missing_there", -one.known_pico)

    def _matched(self, sheet: Sheet, charge: Charge, one: Tried) -> None:
        cell, known = sheet.cell, one.known_pico
        slot = self._slots.of(one.at_ms)
        cell.calls += 1
        if slot is None or slot == charge.start_ms:
            cell.ours_pico += known if slot is not None else 0
            cell.blame("time_zone", 0 if slot is not None else known)
        else:
            there = self._sheet(slot, charge.model).cell
            there.ours_pico += known
            there.blame("time_zone", -known)
            cell.blame("time_zone", known)
        cell.unpriced += one.cost_pico is None
        cell.blame(_why(charge, one), (charge.cost_pico or 0) - known)

    # A file of sums.

    def gather(self, charges: Sequence[Charge], tries: Sequence[Tried], zone_ms: int) -> None:
        """Sums by day and model, first in our days, then in theirs."""
        self.zone_ms = zone_ms
        lumped = bool(charges) and not any(each.model for each in charges)
        counted: set[tuple[int, str, Key]] = set()
        for each in charges:
            if each.cost_pico is None:
                counted.add((each.start_ms, model_key(each.model), _key(each)))
        for each in charges:
            self._theirs(each, counted)
        strays = {each.bucket for each in charges if each.bucket and not each.model}
        for one in tries:
            self._ours(one, zone_ms, lumped, strays)
        for key in sorted(self._sheets):
            self.unvalued += explain(self._sheets[key], self._rates)

    def _theirs(self, each: Charge, counted: set[tuple[int, str, Key]]) -> None:
        sheet = self._sheet(each.start_ms, each.model)
        side = sheet.theirs.setdefault(_key(each), Side())
        of_usage = each.cost_pico is None
        if each.quantity is not None and (
            of_usage or (each.start_ms, model_key(each.model), _key(each)) not in counted
        ):
            side.quantity = (side.quantity or 0) + each.quantity
        if not of_usage:
            assert each.cost_pico is not None
            side.cost += each.cost_pico
            side.rows += 1
            sheet.cell.theirs_pico += each.cost_pico
            sheet.step = max(sheet.step, each.step_pico)
            if each.list_pico is not None:
                side.listed = (side.listed or 0) + each.list_pico
        if each.requests is not None:
            sheet.requests = (sheet.requests or 0) + each.requests
        for name, tokens in (("prompt", each.prompt), ("output", each.output)):
            if tokens is not None:
                sheet.tokens[name] = sheet.tokens.get(name, 0) + tokens

    def _ours(self, one: Tried, zone_ms: int, lumped: bool, strays: set[str]) -> None:
        here, there = self._slots.of(one.at_ms), self._slots.of(one.at_ms - zone_ms)
        for bucket, quantity, unit in one.lines:
            model = "" if lumped or bucket in strays else one.model
            cost = quantity * (unit or 0)
            if here is not None:
                cell = self._sheet(here, model).cell
                cell.ours_pico += cost
                if here != there:
                    cell.blame("time_zone", -cost)
            if there is None:
                continue
            sheet = self._sheet(there, model)
            if here != there:
                sheet.cell.blame("time_zone", cost)
            side = sheet.ours.setdefault((one.tier, bucket), Side(quantity=0))
            side.quantity = (side.quantity or 0) + quantity
            side.cost += cost
            if unit is None:
                side.unpriced += quantity
            else:
                side.units[unit] = side.units.get(unit, 0) + quantity
        if there is not None:
            sheet = self._sheet(there, "" if lumped else one.model)
            sheet.cell.calls += 1
            sheet.cell.unpriced += one.cost_pico is None
            sheet.calls += 1
            sheet.unknown_calls += one.cost_pico is None and not one.lines

    def _day_edges(self) -> None:
        """A call that began before midnight and ended after it is one day here, the next there."""
        for (start, model), sheet in sorted(self._sheets.items()):
            after = self._sheets.get((start + DAY_MS, model))
            for left in sheet.left:
                other = after and next((o for o in after.left if _cancel(left, o)), None)
                if other:
                    left.cause = other.cause = "time_zone"


def _key(each: Charge) -> Key:
    return each.tier, each.bucket or ALL


def _cancel(one: Left, other: Left) -> bool:
    if one.key != other.key or "time_zone" in (one.cause, other.cause):
        return False
    if one.quantity is not None and other.quantity is not None:
        return one.quantity == -other.quantity != 0
    return abs(one.pico + other.pico) <= one.slack + other.slack < abs(one.pico)


def _says_something(cell: Cell) -> bool:
    return bool(cell.theirs_pico or cell.ours_pico or cell.causes or cell.calls)


def _why(charge: Charge, one: Tried) -> Cause:
    """Why one call costs there what it does not cost here."""
    apart = (charge.cost_pico or 0) - one.known_pico
    if one.cost_pico is None or any(unit is None for _, _, unit in one.lines):
        return "unpriced"
    if abs(apart) <= Fraction(charge.step_pico, 2):
        return "rounding"
    here = {bucket: n for bucket, n, _ in one.lines}
    prompt, output = sum(here.get(name, 0) for name in INPUT), here.get("output_tokens", 0)
    if (charge.prompt, charge.output) not in ((prompt, output), (None, None)):
        return "unknown"
    cached = here.get("cache_read_tokens", 0)
    if charge.cached is not None and charge.cached != cached:
        return "cache_class"
    return "tier" if one.tier else "price_change"
